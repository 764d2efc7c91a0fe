"""Producing with counted delivery: an acknowledged message is in the topic exactly once."""

import time
from typing import Final

from confluent_kafka import KafkaError, Message, Producer

from adnomaly.clients.kafka.message import position
from adnomaly.delivery_log import DeliveryLog
from adnomaly.errors import Unavailable

DELIVERY_SECONDS: Final = 120.0
"""Time to acknowledge a message: longer than a broker restart."""


class TrackedProducer:
    """Counts sent and acknowledged messages. Idempotent: the client's retries never duplicate a
    message.
    """

    def __init__(self, bootstrap: str, topic: str, delivery_log: DeliveryLog | None = None) -> None:
        self._topic, self._delivery_log = topic, delivery_log
        self.sent = self.delivered = self.failed = 0
        self.reason = ""
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "client.id": "generate_clicks",
                "enable.idempotence": True,
                "acks": "all",
                # CRC32 of the key: the default entities spread evenly over three partitions.
                "partitioner": "consistent_random",
                "linger.ms": 50,
                "batch.size": 500_000,
                "compression.type": "lz4",
                "queue.buffering.max.messages": 200_000,
                "message.timeout.ms": int(DELIVERY_SECONDS * 1000),
            }
        )

    def send(self, key: bytes, value: bytes) -> None:
        """Queue one message; waits while the queue is full."""
        while True:
            try:
                self._producer.produce(self._topic, value, key, on_delivery=self._acknowledged)
            except BufferError:
                self._producer.poll(0.1)
            else:
                self.sent += 1
                return

    def poll(self) -> None:
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until all messages are acknowledged and the delivery log is on disk.

        Raises:
            Unavailable: a message was not acknowledged within DELIVERY_SECONDS.
        """
        deadline = time.monotonic() + DELIVERY_SECONDS
        while (
            (waiting := self._producer.flush(0.5))
            and not self.failed
            and time.monotonic() < deadline
        ):
            pass  # short waits let signal handlers run
        if self._delivery_log:
            self._delivery_log.sync()
        if waiting or self.failed:
            raise Unavailable(
                f"{self.failed} messages failed, {waiting} are unacknowledged: "
                f"{self.reason or 'the broker does not answer'}"
            )

    def _acknowledged(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.failed += 1
            self.reason = error.str()
            return
        self.delivered += 1
        if self._delivery_log:
            self._delivery_log.add(*position(message), message.value() or b"")
