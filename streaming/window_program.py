"""Runs a script of SQL statements as one Flink job; `adnomaly.clients.flink` submits it through
Flink's client.

    flink run -d -py streaming/window_program.py <script.json> <id of the job>

No Python runs per click: the statements become JVM operators.
"""

import sys
from pathlib import Path
from typing import Final

import msgspec
from pyflink.table import EnvironmentSettings, TableEnvironment

from adnomaly.clients.flink_sql import Script

BATCH_RESTARTS: Final = 6
"""A stream restarts forever. A batch that keeps failing must fail, to be submitted again."""


def main() -> None:
    script = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Script)
    mode = (
        EnvironmentSettings.in_streaming_mode()
        if script.streaming
        else EnvironmentSettings.in_batch_mode()
    )
    environment = TableEnvironment.create(mode)
    config = environment.get_config()
    config.set("pipeline.name", script.name)
    # One subtask: CURRENT_WATERMARK covers all partitions, and a batch sums in one order.
    config.set("parallelism.default", "1")
    if not script.streaming:
        # An object that cannot be read fails the job; lost TaskManagers are survived.
        config.set("restart-strategy.fixed-delay.attempts", str(BATCH_RESTARTS))
    config.set("pipeline.auto-watermark-interval", "1 s")
    # Operator ids that do not depend on the plan.
    config.set("table.exec.uid.generation", "ALWAYS")
    config.set("$internal.pipeline.job-id", sys.argv[2])
    for statement in script.tables:
        environment.execute_sql(statement)
    statements = environment.create_statement_set()
    for statement in script.inserts:
        statements.add_insert_sql(statement)
    statements.execute()


if __name__ == "__main__":
    main()
