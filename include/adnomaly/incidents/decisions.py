"""Rules of incidents and decisions, without I/O."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from adnomaly.attack_kinds import ATTACKS
from adnomaly.errors import InvalidDecision

Action = Literal["acknowledge", "confirm", "false_alarm", "snooze", "comment", "reopen"]
Status = Literal["open", "acknowledged", "confirmed", "false_alarm", "snoozed", "resolved"]

FRAUD_KINDS: Final = (*ATTACKS, "other")
"""Kinds of confirmed fraud: those of the attack library, or `other`."""

OPERATIONS: Final = "operations"
"""Kind of an incident about a process of the system."""

MAX_SNOOZE: Final = timedelta(days=7)
MAX_COMMENT: Final = 4000
SETTLED: Final = timedelta(minutes=35)
"""An incident is over this long after its last anomalous window.

30 minutes may lie between its windows, and the newest one may be on its way.
"""

MUCH_WORSE_SCORE: Final = 0.15
MUCH_WORSE_MONEY: Final = 3.0
SELF: Final = "adnomaly"
"""Author of automatic decisions."""

_AFTER: Final[dict[str, Status]] = {
    "acknowledge": "acknowledged",
    "confirm": "confirmed",
    "false_alarm": "false_alarm",
    "snooze": "snoozed",
    "reopen": "open",
}


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `incidents`, columns in order."""

    incident_id: str
    kind: str
    geo: str | None
    platform: str | None
    began: datetime
    last_seen: datetime
    windows: int
    peak_score: float | None
    model_version: str | None
    summary: str
    clicks: int
    suspect_clicks: float
    money_at_risk: float
    status: Status
    fraud_kind: str | None
    snoozed_until: datetime | None
    snoozed_score: float | None
    snoozed_money: float | None
    revision: int

    def status_at(self, now: datetime) -> Status:
        """The status; an expired snooze counts as open."""
        snoozed = (
            self.status == "snoozed" and self.snoozed_until is not None and self.snoozed_until > now
        )
        return "open" if self.status == "snoozed" and not snoozed else self.status

    def is_over(self, now: datetime) -> bool:
        return now - self.last_seen > SETTLED

    def is_much_worse(self) -> bool:
        """Whether its score or money at risk grew far beyond the values at the snooze."""
        if self.status != "snoozed":
            return False
        score = (self.peak_score or 0) - (self.snoozed_score or 0)
        before = self.snoozed_money or 0
        return score >= MUCH_WORSE_SCORE or (
            before > 0 and self.money_at_risk >= MUCH_WORSE_MONEY * before
        )

    @property
    def who(self) -> str:
        """`DE web`; the kind when it is about no single entity."""
        return f"{self.geo} {self.platform}" if self.geo else self.kind


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A decision about an incident.

    Attributes:
        revision: number of decisions that the author has seen; a newer one refuses this decision.
        fraud_kind: one of FRAUD_KINDS, with `confirm` only.
        until: end of a snooze within the next 7 days, with `snooze` only.
        comment: at most 4000 characters, shown as plain text.
    """

    action: Action
    revision: int
    fraud_kind: str | None = None
    until: datetime | None = None
    comment: str = ""

    def validated(self, now: datetime) -> "Decision":
        """The decision with its comment trimmed.

        Raises:
            InvalidDecision: the message names the field, its value and the rule.
        """
        comment = self.comment.strip()
        if len(comment) > MAX_COMMENT:
            raise InvalidDecision(
                f"comment: has {len(comment):,} characters; shorten it to {MAX_COMMENT:,}"
            )
        if "\0" in comment:
            raise InvalidDecision("comment: contains a NUL character; remove it")
        if self.action == "comment" and not comment:
            raise InvalidDecision("comment: is empty; write one, or choose another action")
        if (self.action == "confirm") != (self.fraud_kind is not None) or (
            self.fraud_kind and self.fraud_kind not in FRAUD_KINDS
        ):
            raise InvalidDecision(
                f"fraud_kind: is {self.fraud_kind!r}; confirm needs one of"
                f" {', '.join(FRAUD_KINDS)}, other actions need none"
            )
        if (self.action == "snooze") != (self.until is not None):
            raise InvalidDecision(
                f"until: is {self.until}; snooze needs a time, other actions need none"
            )
        if self.until is not None and (
            self.until.tzinfo is None or not now < self.until <= now + MAX_SNOOZE
        ):
            raise InvalidDecision(
                f"until: is {self.until.isoformat()};"
                " must be within the next 7 days, with a time zone"
            )
        return msgspec.structs.replace(self, comment=comment)


def after(incident: Incident, decision: Decision) -> dict[str, Any]:
    """The columns of an incident that a decision changes, with their new values."""
    changed: dict[str, Any] = {"revision": incident.revision + 1}
    if decision.action == "comment":
        return changed
    snoozed = decision.action == "snooze"
    return changed | {
        "status": _AFTER[decision.action],
        "fraud_kind": decision.fraud_kind,
        "snoozed_until": decision.until and decision.until.astimezone(UTC),
        "snoozed_score": incident.peak_score if snoozed else None,
        "snoozed_money": incident.money_at_risk if snoozed else None,
    }


def worsened_comment(incident: Incident) -> str:
    """Why a snoozed incident was reopened."""
    return (
        "much worse than at the snooze:"
        f" score {incident.peak_score or 0:.2f} (was {incident.snoozed_score or 0:.2f}),"
        f" money at risk {incident.money_at_risk:.2f} (was {incident.snoozed_money or 0:.2f})"
    )


def worst_first(incidents: list[Incident], now: datetime) -> list[Incident]:
    """Sort by status (open, acknowledged, others), then money at risk, then peak score."""
    rank = {
        "open": 0,
        "acknowledged": 1,
        "snoozed": 2,
        "confirmed": 3,
        "false_alarm": 4,
        "resolved": 5,
    }

    def key(i: Incident) -> tuple[object, ...]:
        return (
            rank[i.status_at(now)],
            i.kind != OPERATIONS,
            -i.money_at_risk,
            -(i.peak_score or 0),
            -i.last_seen.timestamp(),
        )

    return sorted(incidents, key=key)
