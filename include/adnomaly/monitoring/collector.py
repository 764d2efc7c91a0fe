"""Looking at the path of a click: every server is asked at once, and one that does not answer silences its own stages alone."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import httpx

from adnomaly.clients.kafka.offsets import KafkaOffsets
from adnomaly.errors import AdnomalyError
from adnomaly.generator_state import GeneratorFiles
from adnomaly.home import Home
from adnomaly.monitoring.reconciliation import ClickCounts
from adnomaly.monitoring.stages import ProcessState, Snapshot
from adnomaly.topics import ALERTS_TOPIC, CLICKS_TOPIC, FEATURES_TOPIC, VALID_TOPIC
from adnomaly.validation import VerdictCounts

if TYPE_CHECKING:
    from adnomaly.clients.flink import Flink
    from adnomaly.clients.postgres import Postgres
    from adnomaly.clients.supervisord import Supervisor

CALL_SECONDS: Final = 3.0

_SINKS: Final = """
SELECT DISTINCT ON (sink, partition) sink, partition, next_offset, records, updated_at FROM sink_offsets
WHERE sink IN ('store_clicks', 'archive_clicks', 'handle_alert') ORDER BY sink, partition, updated_at DESC
"""
_NEWEST: Final = """
SELECT (SELECT max(window_end) FROM feature_aggregates), (SELECT max(window_end) FROM anomaly_results), (
    SELECT count(*) FROM feature_aggregates f WHERE window_end > now() - interval '30 minutes' AND window_end <= now() - interval '3 minutes'
    AND NOT EXISTS (SELECT FROM anomaly_results r WHERE (r.geo, r.platform, r.window_end) = (f.geo, f.platform, f.window_end))
)
"""
_LEDGER: Final = "SELECT account, clicks, up_to FROM ledger"
_SINCE: Final = """
SELECT coalesce(sum(event_count), 0), extract(epoch FROM max(window_end))::bigint FROM feature_aggregates
WHERE window_end > to_timestamp(%s) AND date_bin('5 minutes', window_end, 'epoch') = window_end
"""
_OPEN: Final = 'SELECT count(*) FROM clickstream_events WHERE "timestamp" >= to_timestamp(%s)'


class StatusCollector:
    """Asks supervisord, Kafka, PostgreSQL, Flink and the scoring API. Threads may share it."""

    def __init__(
        self,
        bootstrap: str,
        postgres: "Postgres",
        supervisor: "Supervisor",
        flink: "Flink",
        serving_url: str,
        home: Home,
    ) -> None:
        self._offsets, self._postgres, self._supervisor, self._flink = (
            KafkaOffsets(bootstrap),
            postgres,
            supervisor,
            flink,
        )
        self._serving_url, self._home = serving_url, home

    def collect(self) -> Snapshot:
        """Everything about the stages, within a few seconds even when nothing answers."""
        questions: dict[str, Callable[[], Any]] = {
            "supervisor": self._programs,
            "kafka": self._kafka,
            "postgres": self._stored,
            "flink": self._flink.window_job_state,
            "serving": self._serving,
        }
        with ThreadPoolExecutor(len(questions)) as pool:
            asked = {name: pool.submit(question) for name, question in questions.items()}
        answers, unreachable = {}, {}
        for name, future in asked.items():
            try:
                answers[name] = future.result()
            except (AdnomalyError, httpx.HTTPError, OSError) as error:
                unreachable[name] = str(error).splitlines()[0][:300]
        return self._seen(answers, unreachable)

    def _seen(self, answers: Mapping[str, Any], unreachable: dict[str, str]) -> Snapshot:
        ends, gate, groups = answers.get("kafka") or ({}, {}, {})
        sinks, newest, unscored = answers.get("postgres") or ({}, {}, 0)
        totals = {name: records for name, (_, records) in sinks.items()} | {
            name: records for name, (records, _) in groups.items()
        }
        lags = {name: lag for name, (_, lag) in groups.items()}
        valid, alerts = ends.get(VALID_TOPIC.name, {}), ends.get(ALERTS_TOPIC.name, {})
        for name, topic in (("table", valid), ("lake", valid), ("incidents", alerts)):
            if name in sinks and topic:
                lags[name] = max(0, sum(topic.values()) - sum(sinks[name][0].values()))
        if CLICKS_TOPIC.name in ends:
            totals["generator"] = sum(ends[CLICKS_TOPIC.name].values())
            lags["gate"] = max(0, totals["generator"] - sum(offset for offset, _ in gate.values()))
            totals["gate"] = VerdictCounts.total(
                VerdictCounts.of(text) for _, text in gate.values()
            ).valid
        sent = GeneratorFiles(self._home).read_progress().next
        stages = {
            "kafka": ("generator", "gate", "features"),
            "postgres": ("table", "lake", "incidents", "scorer"),
            "flink": ("windows",),
        }
        quiet = {
            stage: why
            for server, why in unreachable.items()
            for stage in stages.get(server, (server,))
        }
        return Snapshot(
            at=datetime.now(UTC),
            programs=answers.get("supervisor"),
            given_up=self._supervisor.starts.given_up(),
            totals=totals,
            lags=lags,
            newest=newest | ({"generator": sent} if sent else {}),
            flink=answers.get("flink"),
            serving=answers.get("serving") or "",
            unscored=unscored,
            unreachable=quiet,
        )

    def count(self) -> ClickCounts:
        """The clicks of the ledger. Who is later on the path is asked first, so that nothing seems to be counted twice.

        Raises:
            Unavailable: Kafka or PostgreSQL does not answer.
        """
        with self._postgres.connection() as connection:
            accounts = {
                account: (clicks, up_to) for account, clicks, up_to in connection.execute(_LEDGER)
            }
            settled, up_to = accounts.get("windowed", (0, 0))
            more, last = connection.execute(_SINCE, (up_to,)).fetchone()
            [still_open] = connection.execute(_OPEN, (last or up_to,)).fetchone()
        sinks, _, _ = self._stored()
        ends, gate, _ = self._kafka()
        tally = VerdictCounts.total(VerdictCounts.of(text) for _, text in gate.values())
        received, valid = (
            sum(ends[CLICKS_TOPIC.name].values()),
            sum(ends[VALID_TOPIC.name].values()),
        )
        lag = {name: max(0, valid - sum(offsets.values())) for name, (offsets, _) in sinks.items()}
        return ClickCounts(
            received=received,
            valid=tally.valid,
            rejected=tally.rejected,
            duplicate=tally.duplicate,
            stored=sinks.get("table", ({}, 0))[1],
            archived=sinks.get("lake", ({}, 0))[1],
            windowed=settled + int(more),
            late=sum(
                clicks for account, (clicks, _) in accounts.items() if account.startswith("late ")
            ),
            early=accounts.get("early", (0, 0))[0],
            gate_lag=received - sum(offset for offset, _ in gate.values()),
            table_lag=lag.get("table", valid),
            lake_lag=lag.get("lake", valid),
            open=still_open,
        )

    def _programs(self) -> dict[str, ProcessState]:
        return {
            name: ProcessState(p.state, p.uptime_s)
            for name, p in self._supervisor.programs().items()
        }

    def _kafka(
        self,
    ) -> tuple[dict[str, dict[int, int]], dict[int, tuple[int, str]], dict[str, tuple[int, int]]]:
        """Ends of the topics; the gate's offsets with its tallies; (done, waiting) of the readers of windows."""
        gate = {
            n: at
            for (topic, n), at in self._offsets.committed("validate_clicks").items()
            if topic == CLICKS_TOPIC.name
        }
        readers = {
            stage: sum(
                offset
                for (topic, _), (offset, _) in self._offsets.committed(group).items()
                if topic == FEATURES_TOPIC.name
            )
            for stage, group in (("features", "publish_features"), ("scorer", "score_windows"))
        }
        ends = self._offsets.watermarks((CLICKS_TOPIC, VALID_TOPIC, FEATURES_TOPIC, ALERTS_TOPIC))
        windows = sum(ends[FEATURES_TOPIC.name].values())
        done = {stage: (offset, max(0, windows - offset)) for stage, offset in readers.items()}
        return ends, gate, done | {"windows": (windows, 0)}

    def _stored(self) -> tuple[dict[str, tuple[dict[int, int], int]], dict[str, datetime], int]:
        """Of each sink its offsets by partition and its messages so far; the newest windows; recent windows without a score."""
        names = {"store_clicks": "table", "archive_clicks": "lake", "handle_alert": "incidents"}
        sinks: dict[str, tuple[dict[int, int], int]] = {}
        with self._postgres.connection() as connection:
            for sink, partition, offset, records, _ in connection.execute(_SINKS):
                offsets, count = sinks.get(names[sink], ({}, 0))
                sinks[names[sink]] = (offsets | {partition: offset}, count + records)
            computed, scored, unscored = connection.execute(_NEWEST).fetchone()
        found = {"windows": computed, "features": computed, "scorer": scored}
        return sinks, {name: at for name, at in found.items() if at}, unscored

    def _serving(self) -> str:
        if (
            httpx.get(
                f"{self._serving_url}/readyz", timeout=CALL_SECONDS, trust_env=False
            ).status_code
            != httpx.codes.OK
        ):
            return ""
        return str(
            httpx.get(f"{self._serving_url}/v1/model", timeout=CALL_SECONDS, trust_env=False)
            .json()
            .get("model_version", "")
        )
