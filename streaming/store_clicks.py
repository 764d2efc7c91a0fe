"""Valid clicks -> PostgreSQL, effectively once: rows and offsets commit together, a replaced writer
is fenced.

python -m streaming.store_clicks            start several to share the partitions
"""

import argparse
import sys
from contextlib import closing
from threading import Event

from confluent_kafka import KafkaException

from adnomaly.clients.kafka.admin import await_topic_id
from adnomaly.failpoints import Failpoints
from adnomaly.process import run_process
from adnomaly.settings import Settings
from adnomaly.sinks.base import Batch, Written, run_sink
from adnomaly.sinks.consumer import SinkConsumer
from adnomaly.sinks.offsets import SinkOffsets
from adnomaly.stores.clicks import TABLE, ClickStore
from adnomaly.topics import VALID_TOPIC
from adnomaly.wiring import connect


class TableSink:
    """Writes each batch in one transaction."""

    def __init__(self, store: ClickStore, failpoints: Failpoints) -> None:
        self._store, self._failpoints = store, failpoints

    def write(self, batch: Batch) -> Written:
        """Store rows and offsets.

        Raises:
            StoreFenced: a partition was taken over; nothing was stored.
            Unavailable: PostgreSQL does not answer.
        """
        if not any(batch.values()):
            return Written()
        self._failpoints.reach("before_commit")
        new_rows = self._store.write(batch)
        self._failpoints.reach("after_commit")
        return Written.all_of(batch, new_rows)


def run(settings: Settings, args: argparse.Namespace, stop: Event) -> None:
    """Store clicks until `stop` is set."""
    postgres, bootstrap = connect(settings).postgres, settings.kafka_bootstrap
    topic_id = await_topic_id(bootstrap, args.topic, stop)
    offsets = SinkOffsets(postgres, args.sink, args.topic, topic_id)
    consumer = SinkConsumer(bootstrap, args.topic, args.sink, offsets, stop)
    with closing(ClickStore(postgres, offsets, table=args.table)) as store:
        run_sink(consumer, TableSink(store, Failpoints(settings.failpoint)), stop, unit="new rows")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Store valid clicks in PostgreSQL.")
    parser.add_argument("--topic", default=VALID_TOPIC.name)
    parser.add_argument(
        "--sink", default="store_clicks", help="name of the consumer group and stored offsets"
    )
    parser.add_argument("--table", default=TABLE)
    return parser.parse_args()


def main() -> int:
    args = _arguments()
    return run_process(lambda settings, stop: run(settings, args, stop), ends_on=KafkaException)


if __name__ == "__main__":
    sys.exit(main())
