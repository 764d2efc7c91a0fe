"""Sending to Kafka with delivery counted: what is acknowledged is there exactly once."""

import time

from confluent_kafka import KafkaError, Message, Producer

from adnomaly.delivery_log import DeliveryLog
from adnomaly.errors import Unavailable

DELIVERY_SECONDS = 120.0
"""How long a message may wait for its acknowledgement: longer than a broker needs to come back."""


class TrackedProducer:
    """Hands messages to the broker and counts what it acknowledged. Idempotent: a retry never doubles a message."""

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
                "partitioner": "consistent_random",  # CRC32 of the key: the default entities spread evenly over three partitions
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
        """Wait until everything sent is acknowledged, and the ledger is on disk.

        Raises:
            Unavailable: some of it was not acknowledged in DELIVERY_SECONDS.
        """
        deadline = time.monotonic() + DELIVERY_SECONDS
        while (
            (waiting := self._producer.flush(0.5))
            and not self.failed
            and time.monotonic() < deadline
        ):
            pass  # short waits, so that a signal is handled between them
        if self._delivery_log:
            self._delivery_log.sync()
        if waiting or self.failed:
            raise Unavailable(
                f"{self.failed} clicks failed and {waiting} wait for an acknowledgement: {self.reason or 'the broker does not answer'}"
            )

    def _acknowledged(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.failed += 1
            self.reason = error.str()
            return
        self.delivered += 1
        if self._delivery_log:
            self._delivery_log.add(
                message.topic(), message.partition(), message.offset(), message.value()
            )
