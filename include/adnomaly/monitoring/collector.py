"""Collect the state of every stage. All servers are asked in parallel.

An unreachable server affects only its own stages.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import httpx

from adnomaly.clients.kafka.offsets import KafkaOffsets
from adnomaly.clients.postgres import one
from adnomaly.errors import AdnomalyError
from adnomaly.features import VOLUME
from adnomaly.generator_state import GeneratorFiles
from adnomaly.home import Home
from adnomaly.monitoring.reconciliation import CLICK_SINKS, ClickCounts, SinkCount
from adnomaly.monitoring.stages import ProcessState, Snapshot
from adnomaly.stores.windows import DISJOINT
from adnomaly.streams import CLICK_TABLE, GENERATOR, STAGES, VALIDATION
from adnomaly.topics import CLICKS_TOPIC, VALID_TOPIC
from adnomaly.validation import VerdictCounts

if TYPE_CHECKING:
    from adnomaly.clients.flink import Flink
    from adnomaly.clients.postgres import Postgres
    from adnomaly.clients.supervisord import Supervisor

CALL_SECONDS: Final = 3.0

_TOPICS: Final = tuple(dict.fromkeys(s.source for s in STAGES if s.source is not None))
_SINKS: Final = """
SELECT DISTINCT ON (sink, partition) sink, partition, next_offset, records FROM sink_offsets
WHERE sink = ANY(%s) ORDER BY sink, partition, updated_at DESC
"""
_UNSCORED: Final = """
SELECT count(*) FROM feature_aggregates f
WHERE window_end > now() - interval '30 minutes' AND window_end <= now() - interval '3 minutes'
AND NOT EXISTS (
    SELECT FROM anomaly_results r
    WHERE (r.geo, r.platform, r.window_end) = (f.geo, f.platform, f.window_end)
)
"""
_TOTALS: Final = "SELECT account, clicks, up_to FROM ledger"
_SINCE: Final = f"""
SELECT coalesce(sum({VOLUME}), 0), extract(epoch FROM max(window_end))::bigint
FROM feature_aggregates WHERE window_end > to_timestamp(%s) AND {DISJOINT}
"""
_OPEN: Final = 'SELECT count(*) FROM clickstream_events WHERE "timestamp" >= to_timestamp(%s)'


class _SinkProgress(NamedTuple):
    """Offsets by partition, and messages stored so far."""

    offsets: dict[int, int] = {}
    records: int = 0


class _KafkaProgress(NamedTuple):
    """Ends by topic and partition; offset and metadata by stage and partition of its source."""

    ends: dict[str, dict[int, int]] = {}
    groups: dict[str, dict[int, tuple[int, str]]] = {}


class _TableProgress(NamedTuple):
    """By stage, its sink and its newest window; recent windows without a score."""

    sinks: dict[str, _SinkProgress] = {}
    newest: dict[str, datetime] = {}
    unscored: int = 0


class StatusCollector:
    """Asks supervisord, Kafka, PostgreSQL, Flink and the scoring API. Thread-safe."""

    def __init__(
        self,
        bootstrap: str,
        postgres: "Postgres",
        supervisor: "Supervisor",
        flink: "Flink",
        serving_url: str,
        home: Home,
    ) -> None:
        self._offsets = KafkaOffsets(bootstrap)
        self._postgres, self._supervisor, self._flink = postgres, supervisor, flink
        self._serving_url, self._home = serving_url, home

    def collect(self) -> Snapshot:
        """The state of all stages, within a few seconds even when no server answers."""
        calls: dict[str, Callable[[], Any]] = {
            "supervisor": self._programs,
            "kafka": self._kafka,
            "postgres": self._stored,
            "flink": self._flink.window_job_state,
            "serving": self._serving,
        }
        with ThreadPoolExecutor(len(calls)) as pool:
            pending = {server: pool.submit(call) for server, call in calls.items()}
        answers: dict[str, Any] = {}
        unreachable: dict[str, str] = {}
        for server, future in pending.items():
            try:
                answers[server] = future.result()
            except (AdnomalyError, httpx.HTTPError, OSError) as error:
                unreachable[server] = str(error).splitlines()[0][:300]
        return self._snapshot(answers, unreachable)

    def count(self) -> ClickCounts:
        """The click counts to reconcile.

        Later stages are asked first, so a click that moves meanwhile is not counted twice.

        Raises:
            Unavailable: Kafka or PostgreSQL does not answer.
        """
        with self._postgres.connection() as connection:
            totals = {
                account: (clicks, up_to) for account, clicks, up_to in connection.execute(_TOTALS)
            }
            closed, up_to = totals.get("windowed", (0, 0))
            more, last = one(connection.execute(_SINCE, (up_to,)))
            [still_open] = one(connection.execute(_OPEN, (last or up_to,)))
        stored, kafka = self._stored(), self._kafka()
        received, valid = (sum(kafka.ends[t.name].values()) for t in (CLICKS_TOPIC, VALID_TOPIC))
        validated = kafka.groups[VALIDATION.stage]
        verdicts = _verdicts(validated)
        sinks = {}
        for stream in CLICK_SINKS:
            sink = stored.sinks.get(stream.stage, _SinkProgress())
            sinks[stream.stage] = SinkCount(
                sink.records, max(0, valid - sum(sink.offsets.values()))
            )
        return ClickCounts(
            received=received,
            valid=verdicts.valid,
            rejected=verdicts.rejected,
            duplicate=verdicts.duplicate,
            sinks=sinks,
            windowed=closed + int(more),
            late=sum(clicks for name, (clicks, _) in totals.items() if name.startswith("late ")),
            early=totals.get("early", (0, 0))[0],
            validation_lag=received - sum(offset for offset, _ in validated.values()),
            open=still_open + sinks[CLICK_TABLE.stage].lag,
        )

    def _snapshot(self, answers: Mapping[str, Any], unreachable: Mapping[str, str]) -> Snapshot:
        kafka: _KafkaProgress = answers.get("kafka") or _KafkaProgress()
        stored: _TableProgress = answers.get("postgres") or _TableProgress()
        totals, lags = _progress(kafka, stored)
        sent = GeneratorFiles(self._home).read_progress().next
        return Snapshot(
            at=datetime.now(UTC),
            programs=answers.get("supervisor"),
            given_up=self._supervisor.starts.given_up(),
            totals=totals,
            lags=lags,
            newest=stored.newest | ({GENERATOR.stage: sent} if sent else {}),
            flink=answers.get("flink"),
            serving=answers.get("serving") or "",
            unscored=stored.unscored,
            unreachable={
                stage: reason
                for server, reason in unreachable.items()
                for stage in [s.stage for s in STAGES if s.server == server] or [server]
            },
        )

    def _programs(self) -> dict[str, ProcessState]:
        programs = self._supervisor.programs()
        return {name: ProcessState(p.state, p.uptime_s) for name, p in programs.items()}

    def _kafka(self) -> _KafkaProgress:
        groups = {}
        for stream in STAGES:
            if stream.offsets == "group" and stream.source is not None:
                groups[stream.stage] = self._offsets.committed(stream.name, stream.source)
        return _KafkaProgress(self._offsets.watermarks(_TOPICS), groups)

    def _stored(self) -> _TableProgress:
        stages = {s.name: s.stage for s in STAGES if s.offsets == "sink"}
        tables = dict.fromkeys(s.newest for s in STAGES if s.newest)
        sinks: dict[str, _SinkProgress] = {}
        with self._postgres.connection() as connection:
            for name, partition, offset, records in connection.execute(_SINKS, (list(stages),)):
                before = sinks.get(stages[name], _SinkProgress())
                sinks[stages[name]] = _SinkProgress(
                    before.offsets | {partition: offset}, before.records + records
                )
            newest = {
                table: one(connection.execute(f"SELECT max(window_end) FROM {table}"))[0]
                for table in tables
            }
            [unscored] = one(connection.execute(_UNSCORED))
        moments = {s.stage: newest[s.newest] for s in STAGES if s.newest and newest[s.newest]}
        return _TableProgress(sinks, moments, unscored)

    def _serving(self) -> str:
        """The version that is served; empty when the service is not ready."""
        ready = httpx.get(f"{self._serving_url}/readyz", timeout=CALL_SECONDS, trust_env=False)
        if ready.status_code != httpx.codes.OK:
            return ""
        model = httpx.get(f"{self._serving_url}/v1/model", timeout=CALL_SECONDS, trust_env=False)
        return str(model.json().get("model_version", ""))


def _progress(
    kafka: _KafkaProgress, stored: _TableProgress
) -> tuple[dict[str, int], dict[str, int]]:
    """By stage, how much it has processed, and its consumer lag; unknown ones are absent."""
    totals: dict[str, int] = {}
    lags: dict[str, int] = {}
    for stream in STAGES:
        stage = stream.stage
        ends = kafka.ends.get(stream.source.name, {}) if stream.source else {}
        if stage in kafka.groups:
            committed = kafka.groups[stage]
            read = sum(offset for offset, _ in committed.values())
            totals[stage] = _verdicts(committed).valid if stream is VALIDATION else read
            lags[stage] = max(0, sum(ends.values()) - read)
        elif stage in stored.sinks:
            totals[stage] = stored.sinks[stage].records
            if ends:
                lags[stage] = max(0, sum(ends.values()) - sum(stored.sinks[stage].offsets.values()))
        elif stream.offsets == "none" and stream.writes and stream.writes[0] in kafka.ends:
            totals[stage] = sum(kafka.ends[stream.writes[0]].values())
            if stream.source:
                # Flink keeps its offsets in its checkpoints; its freshness shows when it is behind.
                lags[stage] = 0
    return totals, lags


def _verdicts(committed: Mapping[int, tuple[int, str]]) -> VerdictCounts:
    """Verdicts so far, from the metadata of the validation's offsets."""
    return VerdictCounts.total(VerdictCounts.of(text) for _, text in committed.values())
