"""Reconciliation of click counts: every click that came in is stored somewhere or on its way.

received = valid + rejected + duplicate            (validation)
valid    = stored, valid = archived, ...           (each sink of valid clicks)
valid    = windowed + late + before the first window
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from adnomaly.streams import STREAMS, Stream
from adnomaly.topics import VALID_TOPIC

CLICK_SINKS: Final = tuple(
    s for s in STREAMS if s.offsets == "sink" and s.source == VALID_TOPIC and s.unit == "clicks"
)
"""Streams that store valid clicks; each has an equation."""


class SinkCount(NamedTuple):
    """Clicks that a sink has stored, and its consumer lag. Transaction markers count as lag."""

    clicks: int
    lag: int


class ClickCounts(NamedTuple):
    """Clicks so far, each as counted by the process that handles them.

    Attributes:
        received: messages of the topic `clickstream`.
        valid, rejected, duplicate: verdicts of the validation.
        sinks: by stage, the sinks of valid clicks.
        windowed: clicks in windows that end at multiples of their length; each click is in one.
        late: clicks that came after their window was closed.
        early: clicks before the first window.
        validation_lag: messages before the validation; transaction markers count.
        open: clicks of windows that are not closed yet, including those not in the table yet.
    """

    received: int
    valid: int
    rejected: int
    duplicate: int
    sinks: Mapping[str, SinkCount]
    windowed: int
    late: int
    early: int
    validation_lag: int
    open: int


class Equation(msgspec.Struct, frozen=True):
    """`left` equals the sum of `parts`, except for what is on its way.

    Attributes:
        difference: left - parts. Below 0: counted twice. Above `on_its_way`: missing.
    """

    name: str
    left: int
    parts: dict[str, int]
    on_its_way: int

    @property
    def difference(self) -> int:
        return self.left - sum(self.parts.values())

    @property
    def balanced(self) -> bool:
        return 0 <= self.difference <= self.on_its_way


def equations(c: ClickCounts) -> list[Equation]:
    """The validation's equation, one per sink of valid clicks, and that of the windows."""
    return [
        Equation(
            "received",
            c.received,
            {"valid": c.valid, "rejected": c.rejected, "duplicate": c.duplicate},
            c.validation_lag,
        ),
        *(_sink_equation(c, sink) for sink in CLICK_SINKS),
        Equation(
            "valid",
            c.valid,
            {"windowed": c.windowed, "late": c.late, "before the first window": c.early},
            c.open,
        ),
    ]


def _sink_equation(c: ClickCounts, sink: Stream) -> Equation:
    count = c.sinks[sink.stage]
    return Equation("valid", c.valid, {sink.counted or f"in {sink.title}": count.clicks}, count.lag)
