"""The ledger of clicks: what went in, what came out, and what is on its way. Nothing is lost while nothing is left over.

received = valid + rejected + duplicate            (the gate)
valid    = stored                                  (PostgreSQL)
valid    = archived                                (the lake)
valid    = windowed + late + before the first window
"""

from typing import NamedTuple

import msgspec


class ClickCounts(NamedTuple):
    """Clicks so far, each as its own keeper counts them.

    Attributes:
        received: messages of the topic `clickstream`.
        valid, rejected, duplicate: verdicts of the gate.
        stored, archived: by the two sinks.
        windowed: in windows whose ends are whole multiples of their length: every click is in one of those.
        late: came after such a window was closed.
        early: came before the first such window began.
        gate_lag, table_lag, lake_lag: messages that wait before each; markers of transactions count.
        open: clicks of windows that are still open.
    """

    received: int
    valid: int
    rejected: int
    duplicate: int
    stored: int
    archived: int
    windowed: int
    late: int
    early: int
    gate_lag: int
    table_lag: int
    lake_lag: int
    open: int


class Equation(msgspec.Struct, frozen=True):
    """One equation: `left` should be the sum of `parts`, apart from what is on its way.

    Attributes:
        difference: left - parts; below 0 something was counted twice, above `on_its_way` something is missing.
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
    """The four equations."""
    return [
        Equation(
            "received",
            c.received,
            {"valid": c.valid, "rejected": c.rejected, "duplicate": c.duplicate},
            c.gate_lag,
        ),
        Equation("valid", c.valid, {"stored": c.stored}, c.table_lag),
        Equation("valid", c.valid, {"archived": c.archived}, c.lake_lag),
        Equation(
            "valid",
            c.valid,
            {"windowed": c.windowed, "late": c.late, "before the first window": c.early},
            c.open + c.table_lag,
        ),
    ]
