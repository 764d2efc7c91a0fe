"""Topic `features` -> Feast's online store and `feature_aggregates`.

At least once from the topic, once in the stores: offsets are committed after both are written, and writing a window again
changes nothing. While Redis, PostgreSQL or Kafka is away it waits and repeats; no window is skipped. A window that was
computed anew (the same entity and window_end, other values, later) replaces the stored one in both.
"""

import logging
import signal
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, Message

from adnomaly.adapters.feature_store import OnlineFeatures
from adnomaly.adapters.window_store import WindowStore
from adnomaly.errors import Unavailable
from adnomaly.settings import load_settings
from adnomaly.windows import decode_window
from adnomaly.wiring import connect

TOPIC: Final = "features"
GROUP: Final = "publish_features"
BATCH: Final = 500
"""Windows per write: a window close of 30 entities fits many times, a catch-up is not slowed down."""
WAIT_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 10.0

T = TypeVar("T")

log = logging.getLogger(GROUP)


def publish(messages: Sequence[Message], online: OnlineFeatures, store: WindowStore) -> int:
    """Write the windows of these messages, in their order; returns how many corrected a stored one. Idempotent.

    Online first: what `feature_aggregates` has is known to be online too, so a repeat after a crash still sees a correction
    as one.

    Raises:
        ValueError: a message is no window; only Flink writes the topic, so a person must look.
    """
    windows = [decode_window(m.value()) for m in messages]
    computed_at = [datetime.fromtimestamp(m.timestamp()[1] / 1000, UTC) for m in messages]
    corrected = store.corrected(windows, computed_at)
    online.write(windows)
    online.correct(corrected)
    store.save(windows, computed_at)
    return len(corrected)


def patiently(what: Callable[[], T], stopping: threading.Event) -> T | None:
    """The result of `what`, repeated while a server is away; None when asked to stop meanwhile."""
    pause = 0.2
    while not stopping.is_set():
        try:
            return what()
        except (Unavailable, psycopg.OperationalError) as error:
            log.warning("%s; again in %.1f s", str(error).splitlines()[0], pause)
            stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
    return None


def run(consumer: Consumer, online: OnlineFeatures, store: WindowStore, stopping: threading.Event) -> None:
    """Publish until asked to stop. One write per poll, which holds whole window closes."""
    while not stopping.is_set():
        messages = [m for m in consumer.consume(BATCH, WAIT_SECONDS) if _is_window(m)]
        if not messages:
            continue
        corrected = patiently(lambda batch=messages: publish(batch, online, store), stopping)
        if corrected is None:
            return
        _commit(consumer)
        log.info("%d windows published, %d of them corrections", len(messages), corrected)


def _is_window(message: Message) -> bool:
    error = message.error()
    if error is None:
        return True
    if error.fatal():
        raise KafkaException(error)
    log.warning("Kafka: %s", error.str())
    return False


def _commit(consumer: Consumer) -> None:
    """Store the position; when that fails the same windows come again, which changes nothing."""
    try:
        consumer.commit(asynchronous=False)
    except KafkaException as error:
        if error.args[0].code() != KafkaError._NO_OFFSET:
            log.warning("offsets not committed (%s): these windows may come again", error.args[0].str())


def open_consumer(bootstrap: str, *, topic: str = TOPIC, group: str = GROUP) -> Consumer:
    """A member of the group, reading what is committed, from the beginning when the group is new."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "client.id": GROUP,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "partition.assignment.strategy": "cooperative-sticky",
        }
    )
    consumer.subscribe([topic])
    return consumer


def main() -> None:
    settings = load_settings()
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    backends = connect(settings)
    online, store = backends.online_features, backends.window_store
    patiently(online.apply, stopping)
    patiently(store.add_columns, stopping)
    consumer = open_consumer(settings.kafka_bootstrap)
    log.info("publishing the topic %s", TOPIC)
    try:
        run(consumer, online, store, stopping)
    finally:
        consumer.close()


if __name__ == "__main__":
    main()
