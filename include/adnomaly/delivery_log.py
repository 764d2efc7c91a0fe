"""Delivery log: acknowledged clicks, read by checks for lost and duplicate clicks."""

import os
from hashlib import sha256
from pathlib import Path

import msgspec

HEADER = "event_id,topic,partition,offset,sha256,event_time\n"


class _Identity(msgspec.Struct):
    event_id: str
    timestamp: str


_decode = msgspec.json.Decoder(_Identity).decode


class DeliveryLog:
    """Appends one CSV line per acknowledged message; `sync` makes them durable."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._out = file.open("a", encoding="ascii")
        if file.stat().st_size == 0:
            self._out.write(HEADER)

    def add(self, topic: str, partition: int, offset: int, value: bytes) -> None:
        """Record one acknowledged click."""
        click = _decode(value)
        self._out.write(
            f"{click.event_id},{topic},{partition},{offset},{sha256(value).hexdigest()},{click.timestamp}\n"
        )

    def sync(self) -> None:
        """Flush to disk."""
        self._out.flush()
        os.fsync(self._out.fileno())
