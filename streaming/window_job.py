"""Keeps the Flink job running that turns valid clicks into windows; submits it when none runs, from
the newest checkpoint.

A restarted JobManager does not know its jobs; the checkpoints remain, and no window is emitted
twice. Stopping this program cancels the job; its last checkpoint stays for the next start. Rules:
`adnomaly.clients.flink_job`.

    python -m streaming.window_job
"""

import argparse
import sys
from threading import Event

from adnomaly.clients.flink import WINDOW_JOB
from adnomaly.clients.flink_job import JobReconciler
from adnomaly.clients.flink_tables import Topics
from adnomaly.home import Home
from adnomaly.process import run_process, single_instance
from adnomaly.settings import Settings
from adnomaly.topics import FEATURES_TOPIC, LATE_TOPIC, VALID_TOPIC
from adnomaly.wiring import connect


def run(settings: Settings, args: argparse.Namespace, stop: Event) -> None:
    """Keep the job running until `stop` is set.

    Raises:
        JobFailed: another process of this home keeps it running.
    """
    folder = Home.of(settings).flink
    topics = Topics(settings.kafka_bootstrap, args.source, args.sink, args.late)
    with single_instance(folder / f"{args.name}.lock", f"keeps the job {args.name}"):
        file = folder / f"{args.name}.json"
        JobReconciler(connect(settings).flink, topics, args.name, file).run(stop)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Keep the window job running.")
    parser.add_argument("--name", default=WINDOW_JOB)
    parser.add_argument("--source", default=VALID_TOPIC.name)
    parser.add_argument("--sink", default=FEATURES_TOPIC.name)
    parser.add_argument("--late", default=LATE_TOPIC.name)
    return parser.parse_args()


def main() -> int:
    args = _arguments()
    return run_process(lambda settings, stop: run(settings, args, stop))


if __name__ == "__main__":
    sys.exit(main())
