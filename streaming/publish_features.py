"""Topic `features` -> Feast's online store and `feature_aggregates`.

At least once from the topic, once in the stores: offsets are committed after both are written, and writing a window again
changes nothing. While Redis, PostgreSQL or Kafka is away it waits and repeats; no window is skipped. A window that was
computed anew (the same entity and window_end, other values, later) replaces the stored one in both. A message that is no
window, which only a foreign producer can have sent, is logged and left to `score_windows`, which keeps it in `features.dlq`.
"""

import argparse
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message

from adnomaly.errors import Unavailable
from adnomaly.failpoints import Failpoints
from adnomaly.features import FEATURES
from adnomaly.process import run_process
from adnomaly.settings import Settings
from adnomaly.stores.online_features import OnlineFeatures
from adnomaly.stores.windows import WindowStore
from adnomaly.topics import FEATURES_TOPIC
from adnomaly.windows import SIZE, SLIDE, TrafficWindow, decode_window
from adnomaly.wiring import connect

GROUP: Final = "publish_features"
BATCH: Final = 500
"""Windows per write: a window close of 30 entities fits many times, a catch-up is not slowed down."""
WAIT_SECONDS: Final = 0.5
MAX_PAUSE_SECONDS: Final = 10.0

NONE: Final = Failpoints("")

T = TypeVar("T")

log = logging.getLogger(GROUP)


def publish(
    messages: Sequence[Message],
    online: OnlineFeatures,
    store: WindowStore,
    failpoints: Failpoints = NONE,
) -> int:
    """Write the windows of these messages, in their order; returns how many corrected a stored one. Idempotent.

    Online first: what `feature_aggregates` has is known to be online too, so a repeat after a crash still sees a correction
    as one.
    """
    read = [(window, m) for m in messages if (window := _window(m)) is not None]
    windows = [window for window, _ in read]
    computed_at = [datetime.fromtimestamp(m.timestamp()[1] / 1000, UTC) for _, m in read]
    corrected = store.corrected(windows, computed_at)
    online.write(windows)
    online.correct(corrected)
    failpoints.reach("between_stores")
    store.save(windows, computed_at)
    return len(corrected)


def patiently(what: Callable[[], T], stopping: threading.Event) -> T | None:
    """The result of `what`, repeated while a server is away; None when asked to stop meanwhile."""
    pause = 0.2
    while not stopping.is_set():
        try:
            return what()
        except Unavailable as error:
            log.warning("%s; again in %.1f s", str(error).splitlines()[0], pause)
            stopping.wait(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)
    return None


def run(
    consumer: Consumer,
    online: OnlineFeatures,
    store: WindowStore,
    stopping: threading.Event,
    failpoints: Failpoints = NONE,
) -> None:
    """Publish until asked to stop. One write per poll, which holds whole window closes."""
    while not stopping.is_set():
        messages = [m for m in consumer.consume(BATCH, WAIT_SECONDS) if _is_message(m)]
        if not messages:
            continue
        corrected = patiently(
            lambda batch=messages: publish(batch, online, store, failpoints), stopping
        )
        if corrected is None:
            return
        failpoints.reach("before_commit")
        _commit(consumer)
        log.info("%d windows published, %d of them corrections", len(messages), corrected)


def _window(message: Message) -> TrafficWindow | None:
    """The window of a message; None, and a line in the log, when it is none."""
    try:
        window = decode_window(message.value() or b"")
        _check(window)
    except (ValueError, TypeError, AttributeError, RecursionError, msgspec.MsgspecError) as error:
        log.warning(
            "no window at %s/%d@%d: %s",
            message.topic(),
            message.partition(),
            message.offset(),
            str(error)[:200],
        )
        return None
    return window


def _check(window: TrafficWindow) -> None:
    """What the stores take for granted.

    Raises:
        ValueError: a text is none, a number is none or does not fit, or the times are not those of a window.
    """
    for text in (window.geo, window.platform):
        if (
            not isinstance(text, str)
            or not 0 < len(text) <= 16
            or not text.isascii()
            or not text.isprintable()
        ):
            raise ValueError(f"geo and platform must be short ASCII texts, got {text!r}")
    if (
        window.window_end - window.window_start != SIZE
        or window.window_end.timestamp() % SLIDE.total_seconds()
    ):
        raise ValueError(f"must be a window of {SIZE} that ends at a whole minute")
    for f in FEATURES:
        value = window.features.get(f.name, 0)
        if (
            type(value) not in ((int,) if f.dtype == "int64" else (int, float))
            or not abs(value) < 2**63
        ):
            raise ValueError(f"{f.name} must be a number of type {f.dtype}, got {value!r}")


def _is_message(message: Message) -> bool:
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
            log.warning(
                "offsets not committed (%s): these windows may come again", error.args[0].str()
            )


def open_consumer(
    bootstrap: str, *, topic: str = FEATURES_TOPIC.name, group: str = GROUP
) -> Consumer:
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
            "session.timeout.ms": 15_000,
        }
    )
    consumer.subscribe([topic])
    return consumer


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Windows into Feast and PostgreSQL.")
    parser.add_argument("--source", default=FEATURES_TOPIC.name)
    parser.add_argument("--group", default=GROUP)
    return parser.parse_args()


def start(settings: Settings, args: argparse.Namespace, stopping: threading.Event) -> None:
    """Bring both stores up to date, then publish."""
    backends = connect(settings)
    online, store = backends.online_features, backends.window_store
    patiently(online.apply, stopping)
    patiently(backends.postgres.apply_schema, stopping)
    consumer = open_consumer(settings.kafka_bootstrap, topic=args.source, group=args.group)
    log.info("publishing the topic %s", args.source)
    try:
        run(consumer, online, store, stopping, Failpoints(settings.failpoint))
    finally:
        consumer.close()


def main() -> int:
    args = _arguments()
    return run_process(lambda settings, stopping: start(settings, args, stopping))


if __name__ == "__main__":
    sys.exit(main())
