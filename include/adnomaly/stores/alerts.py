"""The topic `alerts`, read from a watermark of its own that moves with what was made of it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec
import psycopg

from adnomaly.clients.kafka.admin import topic_id
from adnomaly.clients.kafka.reader import messages_from, watermarks
from adnomaly.sinks.offsets import SinkOffsets
from adnomaly.topics import ALERTS_TOPIC

if TYPE_CHECKING:
    from adnomaly.clients.postgres import Postgres

SINK: Final = "handle_alert"


class AlertTopic:
    """Every alert once: the watermark and the effect of the alerts before it commit together."""

    def __init__(
        self,
        bootstrap: str,
        postgres: "Postgres",
        *,
        topic: str = ALERTS_TOPIC.name,
        sink: str = SINK,
    ) -> None:
        self._bootstrap, self._postgres, self._topic, self._sink = bootstrap, postgres, topic, sink

    def consume(self, effect: Callable[[psycopg.Connection, list[dict[str, Any]]], object]) -> int:
        """Let `effect` write what the alerts since the last time mean; returns how many there were.

        Raises:
            OffsetGap: the broker no longer has what comes next.
            StoreFenced: another run has read on meanwhile; nothing was written.
            Unavailable: Kafka or PostgreSQL does not answer.
        """
        offsets = SinkOffsets(
            self._postgres, self._sink, self._topic, topic_id(self._bootstrap, self._topic)
        )
        taken = 0
        for partition, (low, high) in watermarks(self._bootstrap, self._topic).items():
            lease = offsets.acquire(partition, low, high)
            messages = messages_from(self._bootstrap, self._topic, partition, lease.next_offset)
            if messages:
                with self._postgres.connection() as connection:
                    effect(
                        connection, [msgspec.json.decode(message.value()) for message in messages]
                    )
                    first, following = messages[0].offset(), messages[-1].offset() + 1
                    offsets.advance(
                        connection, lease, first=first, following=following, records=len(messages)
                    )
                taken += len(messages)
        return taken
