"""The path of a click, stage by stage: what is well, what is not, why, and where to go then.

`watch_streams` and the page *Now* judge by this alone, so they never disagree.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

import msgspec

from adnomaly.streams import STREAMS

State = Literal["green", "amber", "red", "grey"]

RUNNING: Final = frozenset({"RUNNING", "STARTING"})
FALLEN: Final = frozenset({"EXITED", "FATAL", "UNKNOWN", "BACKOFF"})


class StageSpec(NamedTuple):
    """One stage of the path: which program it is, and what is due from it."""

    name: str
    title: str
    program: str
    unit: str
    windows: bool = False


STAGES: Final = (
    *(StageSpec(s.stage, s.title, s.name, s.unit, s.windows) for s in STREAMS),
    StageSpec("incidents", "Incidents", "", "alerts"),
)
"""In the order in which a click passes them; `incidents` is the DAG handle_alert."""


class Limits(NamedTuple):
    """From where on a stage is amber and red."""

    lag: int = 50_000
    age_s: float = 300.0

    @property
    def early_lag(self) -> int:
        return self.lag // 10

    @property
    def early_age_s(self) -> float:
        return self.age_s / 2


class ProcessState(NamedTuple):
    """A process as its supervisor knows it."""

    state: str
    uptime_s: int


class Snapshot(msgspec.Struct, kw_only=True):
    """What was looked at, at one moment. Keys are stages' names; what could not be asked is missing, and why is in `silent`.

    Attributes:
        programs: None when the supervisor does not answer.
        given_up: programs that were restarted too often, and why.
        totals: how much each stage has done, in its unit.
        lags: how much waits before it.
        newest: the newest moment it has reached, of event time.
        flink: state of the window job; None when there is none.
        serving: the version that answers, empty when the service is not ready.
        unscored: windows of the last half hour without a score.
    """

    at: datetime
    programs: dict[str, ProcessState] | None = None
    given_up: dict[str, str] = {}
    totals: dict[str, int] = {}
    lags: dict[str, int] = {}
    newest: dict[str, datetime] = {}
    flink: str | None = None
    serving: str = ""
    unscored: int = 0
    unreachable: dict[str, str] = {}


class Stage(msgspec.Struct, kw_only=True):
    """One stage as it is now. `rate` is per second, in `unit`; `link` is a page of the Airflow UI."""

    name: str
    title: str
    state: State
    reason: str
    todo: str = ""
    link: str = ""
    unit: str
    total: int | None = None
    rate: float | None = None
    lag: int | None = None
    freshness_s: float | None = None


class PreviousCounts(NamedTuple):
    """What a stage had done at an earlier moment."""

    at: datetime
    total: int


DEFAULT_LIMITS: Final = Limits()
RUN_STREAMS: Final = "/dags/run_streams"
HANDLE_ALERT: Final = "/dags/handle_alert"


def evaluate_stages(
    seen: Snapshot,
    before: Mapping[str, PreviousCounts] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> list[Stage]:
    """Every stage, in the order of the path."""
    return [_evaluate(spec, seen, (before or {}).get(spec.name), limits) for spec in STAGES]


def red_stages(stages: Sequence[Stage]) -> list[Stage]:
    """Those that somebody should look at now."""
    return [stage for stage in stages if stage.state == "red"]


def _evaluate(
    spec: StageSpec, seen: Snapshot, before: PreviousCounts | None, limits: Limits
) -> Stage:
    total = seen.totals.get(spec.name)
    age = seen.at - seen.newest[spec.name] if spec.name in seen.newest else None
    state, reason, todo, link = _health(spec, seen, limits, age)
    return Stage(
        name=spec.name,
        title=spec.title,
        state=state,
        reason=reason,
        todo=todo,
        link=link,
        unit=spec.unit,
        total=total,
        rate=_rate(total, before, seen.at),
        lag=seen.lags.get(spec.name),
        freshness_s=None if age is None else max(0.0, age.total_seconds()),
    )


def _rate(total: int | None, before: PreviousCounts | None, now: datetime) -> float | None:
    if total is None or before is None or now <= before.at:
        return None
    return max(0, total - before.total) / (now - before.at).total_seconds()


StageVerdict = tuple[State, str, str, str]


def _health(spec: StageSpec, seen: Snapshot, limits: Limits, age: timedelta | None) -> StageVerdict:
    """State, reason, what to do and where. The first thing that is wrong speaks."""
    if spec.program:
        found = _process(spec, seen)
        if found:
            return found
    if spec.name in seen.unreachable:
        return "red", seen.unreachable[spec.name], "is its server up? make status, then make up", ""
    return _own(spec, seen) or _backlog(spec, seen, limits, age) or ("green", "well", "", "")


def _process(spec: StageSpec, seen: Snapshot) -> StageVerdict | None:
    if seen.programs is None:
        return (
            "red",
            seen.unreachable.get("supervisor", "supervisord does not answer"),
            "make up starts it",
            "",
        )
    name, program = spec.program, seen.programs.get(spec.program)
    log = f"its log: make logs P={name}"
    if name in seen.given_up:
        return (
            "red",
            f"{name} was given up: {seen.given_up[name]}",
            f"{log}; repair the cause, then start again",
            RUN_STREAMS,
        )
    if program is None or program.state == "STOPPED":
        return "grey", f"{name} is stopped", "start it with run_streams", RUN_STREAMS
    if program.state in FALLEN:
        return (
            "red",
            f"{name} is {program.state}",
            f"watch_streams starts it again; {log}",
            "/dags/watch_streams",
        )
    if program.state not in RUNNING:
        return "amber", f"{name} is {program.state}", log, ""
    return None


def _own(spec: StageSpec, seen: Snapshot) -> StageVerdict | None:
    """What is asked of one stage alone."""
    uptime = (
        seen.programs[spec.program].uptime_s
        if seen.programs and spec.program in seen.programs
        else 0
    )
    starting: State = "amber" if uptime < 120 else "red"
    if spec.name == "windows" and seen.flink != "RUNNING":
        return (
            starting,
            f"the window job is {seen.flink or 'not submitted'}",
            "open Flink's exceptions (menu Browse)",
            RUN_STREAMS,
        )
    if spec.name == "serving" and not seen.serving:
        return (
            starting,
            "/readyz does not answer 200",
            "deploy a detector, or look at logs/ray.log",
            "/dags/deploy_detector",
        )
    if spec.name == "scorer" and seen.unscored > seen.lags.get("scorer", 0):
        return (
            "red",
            f"{seen.unscored:,} windows of the last half hour have no score",
            "its log: make logs P=score_windows",
            RUN_STREAMS,
        )
    return None


def _backlog(
    spec: StageSpec, seen: Snapshot, limits: Limits, age: timedelta | None
) -> StageVerdict | None:
    """Too far behind, or silent for too long. Only the generator says when something is due: other producers may fall silent."""
    lag = seen.lags.get(spec.name, 0)
    slow = (
        "is PostgreSQL, S3 or Kafka slow? make status" if spec.program else "look at its last run"
    )
    where = "" if spec.program else HANDLE_ALERT
    if lag > limits.early_lag:
        return "red" if lag > limits.lag else "amber", f"{lag:,} {spec.unit} wait", slow, where
    sending = (seen.programs or {}).get("generate_clicks")
    if not spec.windows or age is None or sending is None or sending.state not in RUNNING:
        return None
    # Streams that came up a moment ago are given the time to close their first window.
    settled = min(sending.uptime_s, (seen.programs or {})[spec.program].uptime_s) >= limits.age_s
    if age.total_seconds() > limits.early_age_s:
        late: State = "red" if settled and age.total_seconds() > limits.age_s else "amber"
        return (
            late,
            f"the newest window ended {age.total_seconds():.0f} s ago",
            "does the stage before it run?",
            RUN_STREAMS,
        )
    return None


def as_row(stage: Stage, at: datetime) -> dict[str, Any]:
    """A stage as a row of `stream_health`."""
    names = ("stage", "state", "reason", "total", "rate", "lag", "freshness_s")
    return {"at": at} | {
        name: getattr(stage, "name" if name == "stage" else name) for name in names
    }
