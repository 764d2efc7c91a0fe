"""Incidents and what people decide about them: the rules, apart from where they are kept."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, get_args

import msgspec

from adnomaly.attack_kinds import ATTACKS
from adnomaly.errors import InvalidDecision

Action = Literal["acknowledge", "confirm", "false_alarm", "snooze", "comment", "reopen"]
Status = Literal["open", "acknowledged", "confirmed", "false_alarm", "snoozed", "resolved"]

ACTIONS: Final[tuple[str, ...]] = get_args(Action)
FRAUD_KINDS: Final = (*ATTACKS, "other")
"""What fraud can be confirmed as: the kinds of the attack library, or another one, told in the comment."""

OPERATIONS: Final = "operations"
"""Kind of an incident about our own processes."""

MAX_SNOOZE: Final = timedelta(days=7)
MAX_COMMENT: Final = 4000
SETTLED: Final = timedelta(minutes=35)
"""An incident whose last anomalous window ended longer ago is over: 30 minutes may lie between its windows, and one is on its way."""

MUCH_WORSE_SCORE: Final = 0.15
MUCH_WORSE_MONEY: Final = 3.0
SELF: Final = "adnomaly"
"""Author of what the system decides by itself."""

_AFTER: Final[dict[str, Status]] = {
    "acknowledge": "acknowledged",
    "confirm": "confirmed",
    "false_alarm": "false_alarm",
    "snooze": "snoozed",
    "reopen": "open",
}


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """One incident as it is kept; the columns of `incidents`, in their order."""

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
        """The status, with a snooze that has run out taken as open."""
        snoozed = (
            self.status == "snoozed" and self.snoozed_until is not None and self.snoozed_until > now
        )
        return "open" if self.status == "snoozed" and not snoozed else self.status

    def is_over(self, now: datetime) -> bool:
        return now - self.last_seen > SETTLED

    def is_much_worse(self) -> bool:
        """Whether it has grown far beyond what it was when somebody put it to sleep."""
        if self.status != "snoozed":
            return False
        score = (self.peak_score or 0) - (self.snoozed_score or 0)
        before = self.snoozed_money or 0
        return score >= MUCH_WORSE_SCORE or (
            before > 0 and self.money_at_risk >= MUCH_WORSE_MONEY * before
        )

    @property
    def who(self) -> str:
        """`DE web`, or what it is about when it is about no single entity."""
        return f"{self.geo} {self.platform}" if self.geo else self.kind


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody wants to be done with an incident.

    Attributes:
        revision: the incident's number of decisions that the person has seen; another one since refuses this one.
        fraud_kind: of `confirm`, one of FRAUD_KINDS.
        until: of `snooze`, within the next 7 days.
        comment: at most 4000 characters; shown as text, never as markup.
    """

    action: Action
    revision: int
    fraud_kind: str | None = None
    until: datetime | None = None
    comment: str = ""

    def validated(self, now: datetime) -> "Decision":
        """The same with its comment trimmed.

        Raises:
            InvalidDecision: naming the field, what it is and what it must be.
        """
        comment = self.comment.strip()
        if len(comment) > MAX_COMMENT:
            raise InvalidDecision(
                f"comment: has {len(comment):,} characters, at most {MAX_COMMENT:,} are kept"
            )
        if "\0" in comment:
            raise InvalidDecision("comment: has a NUL character, which text cannot hold")
        if self.action == "comment" and not comment:
            raise InvalidDecision("comment: is empty; say something, or choose another action")
        if (self.action == "confirm") != (self.fraud_kind is not None) or (
            self.fraud_kind and self.fraud_kind not in FRAUD_KINDS
        ):
            raise InvalidDecision(
                f"fraud_kind: is {self.fraud_kind!r}; confirm needs one of {', '.join(FRAUD_KINDS)}, nothing else has one"
            )
        if (self.action == "snooze") != (self.until is not None):
            raise InvalidDecision("until: snooze needs a moment, nothing else has one")
        if self.until is not None and (
            self.until.tzinfo is None or not now < self.until <= now + MAX_SNOOZE
        ):
            raise InvalidDecision(
                f"until: is {self.until.isoformat()}; it must lie within the next 7 days, with its time zone"
            )
        return msgspec.structs.replace(self, comment=comment)


def after(incident: Incident, decision: Decision) -> dict[str, Any]:
    """The columns of an incident that a decision changes."""
    changed: dict[str, Any] = {"revision": incident.revision + 1}
    if decision.action == "comment":
        return changed
    asleep = decision.action == "snooze"
    return changed | {
        "status": _AFTER[decision.action],
        "fraud_kind": decision.fraud_kind,
        "snoozed_until": decision.until and decision.until.astimezone(UTC),
        "snoozed_score": incident.peak_score if asleep else None,
        "snoozed_money": incident.money_at_risk if asleep else None,
    }


def worst_first(incidents: list[Incident], now: datetime) -> list[Incident]:
    """What waits for a decision first, then what is being looked at, then the rest; each by money at risk and score."""
    rank = {
        "open": 0,
        "acknowledged": 1,
        "snoozed": 2,
        "confirmed": 3,
        "false_alarm": 4,
        "resolved": 5,
    }

    def place(i: Incident) -> tuple[object, ...]:
        ours = i.kind == OPERATIONS
        return (
            rank[i.status_at(now)],
            not ours,
            -i.money_at_risk,
            -(i.peak_score or 0),
            -i.last_seen.timestamp(),
        )

    return sorted(incidents, key=place)
