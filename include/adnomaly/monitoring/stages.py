"""The stages of a click's path: the state of each, the reason, and the next step.

`watch_streams` and the page *Now* both use these rules, so they never disagree.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

import msgspec

from adnomaly.streams import GENERATOR, SCORER, SERVING, STAGES, WINDOW_JOB, Stream

State = Literal["green", "amber", "red", "grey"]

RUNNING: Final = frozenset({"RUNNING", "STARTING"})
ENDED: Final = frozenset({"EXITED", "FATAL", "UNKNOWN"})
"""States of a program that should run and that its supervisor does not restart. Not STOPPED."""
FAILED: Final = ENDED | {"BACKOFF"}
OK: Final = "OK"
"""The reason of a green stage."""
STARTUP_S: Final = 120
"""Seconds that a program may take until it is ready."""


class Limits(NamedTuple):
    """Lag and age beyond which a stage is red; amber from a tenth and a half of them."""

    lag: int = 50_000
    age_s: float = 300.0

    @property
    def early_lag(self) -> int:
        return self.lag // 10

    @property
    def early_age_s(self) -> float:
        return self.age_s / 2


class ProcessState(NamedTuple):
    """A process as supervisord reports it."""

    state: str
    uptime_s: int


class Snapshot(msgspec.Struct, kw_only=True):
    """The state of the whole path at one moment. Keys are stages; what is unknown is absent.

    Attributes:
        programs: None when supervisord does not answer.
        given_up: programs given up after repeated crashes, with the reason.
        totals: how much each stage has processed, in its unit.
        lags: consumer lag of each stage.
        newest: event time that each stage has reached.
        flink: state of the window job; None without a job.
        serving: version that is served; empty when the service is not ready.
        unscored: windows of the last half hour without a score.
        unreachable: why a stage is unknown.
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
    """One stage at one moment. `rate` is per second, in `unit`; `link` is a page of Airflow."""

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
    """The total of a stage at an earlier moment."""

    at: datetime
    total: int


DEFAULT_LIMITS: Final = Limits()
RUN_STREAMS: Final = "/dags/run_streams"
WATCH_STREAMS: Final = "/dags/watch_streams"


class StageVerdict(NamedTuple):
    """State and reason of a stage, the next step, and the page for it."""

    state: State
    reason: str
    todo: str = ""
    link: str = ""


def evaluate_stages(
    snapshot: Snapshot,
    before: Mapping[str, PreviousCounts] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> list[Stage]:
    """Every stage, in the order of the path."""
    return [_evaluate(s, snapshot, (before or {}).get(s.stage), limits) for s in STAGES]


def red_stages(stages: Sequence[Stage]) -> list[Stage]:
    """The stages that need attention now."""
    return [stage for stage in stages if stage.state == "red"]


def as_row(stage: Stage, at: datetime) -> dict[str, Any]:
    """A stage as a row of `stream_health`."""
    names = ("state", "reason", "total", "rate", "lag", "freshness_s")
    return {"at": at, "stage": stage.name} | {name: getattr(stage, name) for name in names}


def _evaluate(
    stream: Stream, snapshot: Snapshot, before: PreviousCounts | None, limits: Limits
) -> Stage:
    total = snapshot.totals.get(stream.stage)
    newest = snapshot.newest.get(stream.stage)
    age = snapshot.at - newest if newest else None
    verdict = _verdict(stream, snapshot, limits, age)
    return Stage(
        name=stream.stage,
        title=stream.title,
        state=verdict.state,
        reason=verdict.reason,
        todo=verdict.todo,
        link=verdict.link,
        unit=stream.unit,
        total=total,
        rate=_rate(total, before, snapshot.at),
        lag=snapshot.lags.get(stream.stage),
        freshness_s=None if age is None else max(0.0, age.total_seconds()),
    )


def _rate(total: int | None, before: PreviousCounts | None, now: datetime) -> float | None:
    if total is None or before is None or now <= before.at:
        return None
    return max(0, total - before.total) / (now - before.at).total_seconds()


def _verdict(
    stream: Stream, snapshot: Snapshot, limits: Limits, age: timedelta | None
) -> StageVerdict:
    """The first problem found, in the order in which one explains the next."""
    if stream.supervised and (verdict := _process(stream, snapshot)):
        return verdict
    if stream.stage in snapshot.unreachable:
        return StageVerdict(
            "red", snapshot.unreachable[stream.stage], "is its server up? make status, then make up"
        )
    return (
        _special(stream, snapshot)
        or _lag(stream, snapshot, limits)
        or _freshness(stream, snapshot, limits, age)
        or StageVerdict("green", OK)
    )


def _process(stream: Stream, snapshot: Snapshot) -> StageVerdict | None:
    name = stream.name
    if snapshot.programs is None:
        reason = snapshot.unreachable.get("supervisor", "supervisord does not answer")
        return StageVerdict("red", reason, "start it with make up")
    log = f"its log: make logs P={name}"
    if name in snapshot.given_up:
        reason = f"{name} was given up: {snapshot.given_up[name]}"
        return StageVerdict(
            "red", reason, f"{log}; fix the cause, then start it again", RUN_STREAMS
        )
    program = snapshot.programs.get(name)
    if program is None or program.state == "STOPPED":
        return StageVerdict("grey", f"{name} is stopped", "start it with run_streams", RUN_STREAMS)
    if program.state in FAILED:
        return StageVerdict(
            "red", f"{name} is {program.state}", f"watch_streams restarts it; {log}", WATCH_STREAMS
        )
    if program.state not in RUNNING:
        return StageVerdict("amber", f"{name} is {program.state}", log)
    return None


def _special(stream: Stream, snapshot: Snapshot) -> StageVerdict | None:
    """Checks of a single stage: window job, readiness of the API, windows without a score."""
    starting: State = "amber" if _uptime(snapshot, stream.name) < STARTUP_S else "red"
    if stream is WINDOW_JOB and snapshot.flink != "RUNNING":
        reason = f"the window job is {snapshot.flink or 'not submitted'}"
        return StageVerdict(starting, reason, "open Flink's exceptions (menu Browse)", RUN_STREAMS)
    if stream is SERVING and not snapshot.serving:
        todo = "deploy a detector, or read logs/ray.log"
        return StageVerdict(starting, "/readyz does not answer 200", todo, "/dags/deploy_detector")
    if stream is SCORER and snapshot.unscored > snapshot.lags.get(stream.stage, 0):
        reason = f"{snapshot.unscored:,} windows of the last half hour have no score"
        return StageVerdict("red", reason, f"its log: make logs P={stream.name}", RUN_STREAMS)
    return None


def _lag(stream: Stream, snapshot: Snapshot, limits: Limits) -> StageVerdict | None:
    lag = snapshot.lags.get(stream.stage, 0)
    if lag <= limits.early_lag:
        return None
    state: State = "red" if lag > limits.lag else "amber"
    reason = f"lag of {lag:,} {stream.unit}"
    if stream.supervised:
        return StageVerdict(state, reason, "is PostgreSQL, S3 or Kafka slow? make status")
    return StageVerdict(state, reason, "check its last run", f"/dags/{stream.name}")


def _freshness(
    stream: Stream, snapshot: Snapshot, limits: Limits, age: timedelta | None
) -> StageVerdict | None:
    """Windows are due only while the generator runs: other producers may pause."""
    programs = snapshot.programs or {}
    sending = programs.get(GENERATOR.name)
    if not stream.newest or age is None or sending is None or sending.state not in RUNNING:
        return None
    if age.total_seconds() <= limits.early_age_s:
        return None
    # A stream that has just started needs time to close its first window.
    settled = min(sending.uptime_s, _uptime(snapshot, stream.name)) >= limits.age_s
    late: State = "red" if settled and age.total_seconds() > limits.age_s else "amber"
    reason = f"the newest window ended {age.total_seconds():.0f} s ago"
    return StageVerdict(late, reason, "is the stage before it running?", RUN_STREAMS)


def _uptime(snapshot: Snapshot, name: str) -> float:
    program = (snapshot.programs or {}).get(name)
    return program.uptime_s if program else 0
