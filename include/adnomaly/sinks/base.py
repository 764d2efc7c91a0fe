"""Sinks: consume a topic, write each batch to a store, commit. A sink is one method."""

import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from threading import Event
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol, Self

from confluent_kafka import Message

from adnomaly.clients.kafka.message import position
from adnomaly.process import announce_ready
from adnomaly.retry import Stopped, retry
from adnomaly.sinks.consumer import GroupConsumer
from adnomaly.sinks.offsets import Lease

MAX_BATCH: Final = 5000
REPORT_SECONDS: Final = 10.0

log = logging.getLogger("sink")

Batch = Mapping[Lease, Sequence[Message]]
"""Every lease held now, with its new messages in order; none for a partition without news."""


class Written(NamedTuple):
    """What a call of `Sink.write` has committed.

    Attributes:
        messages: consumed messages that are stored.
        effects: what they became, such as new rows or objects.
        next_offsets: by partition, the offset after the last stored message.
    """

    messages: int = 0
    effects: int = 0
    next_offsets: Mapping[int, int] = MappingProxyType({})

    @classmethod
    def all_of(cls, batch: Batch, effects: int) -> Self:
        """The whole batch is stored."""
        return cls(
            sum(map(len, batch.values())),
            effects,
            {lease.partition: position(m[-1]).offset + 1 for lease, m in batch.items() if m},
        )

    def __add__(self, other: "Written") -> "Written":  # type: ignore[override]  # a sum
        return Written(
            self.messages + other.messages,
            self.effects + other.effects,
            {**self.next_offsets, **other.next_offsets},
        )


class Sink(Protocol):
    """Where messages go."""

    def write(self, batch: Batch) -> Written:
        """Store the batch, or collect it and store what is due; called after every read, also an
        empty one.

        Must be idempotent: the same batch comes again after `Unavailable`, without the leases lost
        meanwhile.

        Raises:
            Unavailable: a server cannot be reached; the call is retried.
        """
        ...


def run_sink(
    consumer: GroupConsumer, sink: Sink, stop: Event, *, unit: str, max_batch: int = MAX_BATCH
) -> None:
    """Read, write, commit, until `stop` is set. What is not committed then is read again by the
    next run.

    Args:
        unit: what `Written.effects` counts, for the log.
    """
    total, reported = Written(), time.monotonic()
    consumer.open()
    try:
        while not stop.is_set():
            batch = consumer.read(max_batch)
            if consumer.leases:
                announce_ready()
            written = retry(partial(_write, sink, consumer, batch), wait=consumer.wait)
            consumer.commit(written.next_offsets)
            total += written
            if time.monotonic() - reported >= REPORT_SECONDS:
                log.info(
                    "stored %s messages, %s %s", f"{total.messages:,}", f"{total.effects:,}", unit
                )
                reported = time.monotonic()
    except Stopped:
        log.info("stopped while a server was unavailable; uncommitted messages are read again")
    finally:
        consumer.close()


def _write(sink: Sink, consumer: GroupConsumer, batch: Batch) -> Written:
    return sink.write(consumer.held(batch))
