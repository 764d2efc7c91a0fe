"""The topic `alerts`, consumed from a stored offset that moves with the effect of the alerts."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec
import psycopg

from adnomaly.clients.kafka.admin import topic_id
from adnomaly.clients.kafka.message import position
from adnomaly.clients.kafka.reader import messages_from, watermarks
from adnomaly.sinks.offsets import SinkOffsets
from adnomaly.topics import ALERTS_TOPIC

if TYPE_CHECKING:
    from adnomaly.clients.postgres import Postgres

SINK: Final = "handle_alert"


class AlertTopic:
    """Each alert once: its effect and the offset behind it commit together."""

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
        """Apply `effect` to the alerts since the last call; returns their number.

        Raises:
            OffsetGap: the broker no longer has the next offset.
            StoreFenced: another run has consumed meanwhile; nothing was written.
            Unavailable: Kafka or PostgreSQL does not answer.
        """
        offsets = SinkOffsets(
            self._postgres, self._sink, self._topic, topic_id(self._bootstrap, self._topic)
        )
        consumed = 0
        for partition, (low, high) in watermarks(self._bootstrap, self._topic).items():
            lease = offsets.acquire(partition, low, high)
            messages = messages_from(self._bootstrap, self._topic, partition, lease.next_offset)
            if not messages:
                continue
            with self._postgres.connection() as connection:
                effect(connection, [msgspec.json.decode(m.value() or b"") for m in messages])
                first, following = position(messages[0]).offset, position(messages[-1]).offset + 1
                offsets.advance(
                    connection, lease, first=first, following=following, records=len(messages)
                )
            consumed += len(messages)
        return consumed
