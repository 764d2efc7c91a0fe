"""Cost of features over groups: CPU of Flink's TaskManager per click, in batch and as a stream.

Compares the query with these features to the plain query. Requires a running stack without other
jobs under load. The clicks are of a day long past, in separate lake objects, topics and jobs, which
are removed at the end. A cost is the slope between few and many clicks, so it excludes the start of
a job. Both queries are measured in the same run, after a warm-up of each.

    python tests/bench/bench_windows.py [--clicks 1700000] [--stream-clicks 600000]
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple
from uuid import uuid4

import numpy as np
import psutil
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from adnomaly.clients.flink import Flink
from adnomaly.clients.flink_sql import Script, stream_script
from adnomaly.clients.flink_tables import Topics
from adnomaly.clients.kafka.admin import create_topics
from adnomaly.clients.kafka.reader import last_values
from adnomaly.features import FEATURES, Feature
from adnomaly.generator_state import SentSpans
from adnomaly.pipelines.backfill_features import Span, compute_windows, write_days
from adnomaly.pipelines.generate_history import hour_of_clicks
from adnomaly.settings import Settings, load_settings
from adnomaly.stores.lake_batch import LakeBatch
from adnomaly.stores.offline_features import OfflineFeatures
from adnomaly.synthetic.click_source import ClickSource
from adnomaly.synthetic.clicks import Clicks
from adnomaly.synthetic.encode import MessageEncoder
from adnomaly.synthetic.traffic import Traffic, minute_of
from adnomaly.topics import VALID_TOPIC, Topic
from adnomaly.windows import OUT_OF_ORDERNESS, decode_window
from adnomaly.wiring import Backends, connect

DAY: Final = datetime(2003, 3, 12, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
SHORT_HOURS: Final = 4
CHUNK: Final = 100_000
PATIENCE_S: Final = 600.0
QUERIES: Final[dict[str, Sequence[Feature]]] = {
    "plain": [f for f in FEATURES if f.over is None],
    "with groups": FEATURES,
}


class Cost(NamedTuple):
    """Cost of some clicks: elapsed seconds, and CPU seconds of the TaskManager."""

    seconds: float
    cpu_s: float
    clicks: int


class Bench:
    """The stack under measurement, with unique names for all that the bench creates."""

    def __init__(self, settings: Settings, backends: Backends) -> None:
        self.settings, self.backends, self.name = (
            settings,
            backends,
            f"bench-windows-{uuid4().hex[:8]}",
        )

    def flink(self, features: Sequence[Feature]) -> Flink:
        """The same Flink, with another list of features."""
        ours = self.backends.flink
        folders = {"flink_home": ours._home, "checkpoints": ours.checkpoints}
        return Flink(self.settings.flink_url, **folders, features=features)

    def lake_batch(self, features: Sequence[Feature]) -> LakeBatch:
        """The batch over the lake, with another list of features."""
        lake_url = f"s3://{self.backends.objects.bucket}/clicks"
        return LakeBatch(self.flink(features), self.backends.lake, lake_url)

    @contextmanager
    def measured(self, clicks: int) -> Iterator[list[Cost]]:
        """Appends the cost of the block."""
        found: list[Cost] = []
        began, used = time.monotonic(), self._cpu_s()
        yield found
        found.append(Cost(time.monotonic() - began, self._cpu_s() - used, clicks))

    def _cpu_s(self) -> float:
        """CPU seconds of the TaskManager so far, user and system."""
        times = psutil.Process(self.backends.supervisor.programs()["taskmanager"].pid).cpu_times()
        return times.user + times.system


def batch(bench: Bench, source: ClickSource) -> dict[str, list[Cost]]:
    """Cost of the first hours of a day, and of the whole day, per query."""
    objects, found = [], {}
    try:
        for number in range(24):
            table = hour_of_clicks(source, DAY + number * HOUR, (), SentSpans())
            objects.append(
                bench.backends.lake.write_history(DAY + number * HOUR, table, bench.name)
            )
        print(
            f"batch: {sum(o.row_count for o in objects):,} clicks of a day in the lake", flush=True
        )
        for warm in (True, False):
            for query, features in QUERIES.items():
                spans = [SHORT_HOURS] if warm else [SHORT_HOURS, 24]
                found[query] = [
                    _backfill(bench, features, hours, sum(o.row_count for o in objects[:hours]))
                    for hours in spans
                ]
    finally:
        with bench.backends.postgres.connection() as connection:
            connection.execute("DELETE FROM lake_objects WHERE topic_id = %s", (bench.name,))
        for item in objects:
            bench.backends.objects.delete(item.object_key)
    return found


def _backfill(bench: Bench, features: Sequence[Feature], hours: int, clicks: int) -> Cost:
    """Windows of the first hours of the day, computed and written as the daily backfill does it."""
    span = Span(DAY, DAY + hours * HOUR)
    with tempfile.TemporaryDirectory() as mirror:
        offline = OfflineFeatures(
            bench.backends.objects, Path(mirror), prefix=f"{bench.name}/", features=features
        )
        try:
            with bench.measured(clicks) as found:
                write_days(
                    offline, span, compute_windows(bench.lake_batch(features), offline, span)
                )
        finally:
            offline.discard(span.prefix)
            offline.discard(f"{bench.name}/")
    print(
        f"  {hours:2} hours, {clicks:9,} clicks: {found[0].seconds:5.1f} s, CPU {found[0].cpu_s:5.1f} s",
        flush=True,
    )
    return found[0]


def stream(bench: Bench, source: ClickSource, clicks: int) -> dict[str, Cost]:
    """Cost of clicks sent as fast as they are read, per query.

    The job has warmed up on a third as many clicks.
    """
    found = {}
    print(f"stream: {clicks:,} clicks", flush=True)
    for query, features in QUERIES.items():
        name = f"{bench.name}-{query.replace(' ', '-')}"
        topics = Topics(
            bench.settings.kafka_bootstrap,
            *(f"{name}.{end}" for end in ("valid", "features", "late")),
        )
        create_topics(
            topics.bootstrap,
            [
                Topic(topics.clicks, VALID_TOPIC.partitions),
                Topic(topics.windows, 1),
                Topic(topics.late, 1),
            ],
        )
        try:
            found[query] = _stream(
                bench, source, clicks, stream_script(name, topics, features=features), topics
            )
        finally:
            _clear(bench, name, topics)
        print(
            f"  {query}: {found[query].seconds:5.1f} s, CPU {found[query].cpu_s:5.1f} s", flush=True
        )
    return found


def _stream(bench: Bench, source: ClickSource, clicks: int, script: Script, topics: Topics) -> Cost:
    flink, job_id = bench.backends.flink, uuid4().hex
    flink.submit(script, job_id, checkpoint=None)
    first, sent = minute_of(DAY), 0
    hours = (source.clicks(first + 60 * n, 60) for n in count())
    sender = Sender(source, topics)
    for hour in hours:
        sent += sender.send(hour)
        if sent >= clicks // 3:
            break
    sender.await_windows()
    with bench.measured(clicks) as found:
        sent = 0
        for hour in hours:
            sent += sender.send(hour.take(slice(0, clicks - sent)))
            if sent >= clicks:
                break
        sender.await_windows()
    return found[0]


class Sender:
    """Sends valid clicks to a topic, and knows which windows they close."""

    def __init__(self, source: ClickSource, topics: Topics) -> None:
        self._encoder, self._topics = MessageEncoder(source), topics
        self._producer = Producer(
            {
                "bootstrap.servers": topics.bootstrap,
                "linger.ms": 20,
                "queue.buffering.max.messages": 2 * CHUNK,
            }
        )
        self._newest_us = [0] * VALID_TOPIC.partitions

    def send(self, clicks: Clicks) -> int:
        """Send clicks, each to the partition of its entity; returns how many."""
        partitions = (clicks.entity % VALID_TOPIC.partitions).tolist()
        for partition, key, value in zip(partitions, *self._encoder.encode(clicks), strict=True):
            self._producer.produce(self._topics.clicks, value, key, partition)
        assert self._producer.flush(60) == 0
        for partition, moment_us in zip(partitions, clicks.time_us.tolist(), strict=True):
            self._newest_us[partition] = moment_us
        return len(clicks)

    def await_windows(self) -> None:
        """Wait for the last window that the clicks sent so far close."""
        watermark = datetime.fromtimestamp(min(self._newest_us) / 1e6, UTC) - OUT_OF_ORDERNESS
        end = watermark.replace(second=0, microsecond=0)
        deadline = time.monotonic() + PATIENCE_S
        while not any(
            decode_window(value).window_end >= end
            for value in last_values(self._topics.bootstrap, self._topics.windows, 200)
        ):
            assert time.monotonic() < deadline, (
                f"no window that ends at {end} after {PATIENCE_S:.0f} s"
            )
            time.sleep(0.5)


def _clear(bench: Bench, name: str, topics: Topics) -> None:
    """Remove the job of the stream, its checkpoints and its topics."""
    flink = bench.backends.flink
    for job in flink.jobs(name):
        if job.alive:
            flink.cancel(job.id)
        flink.discard_checkpoints([job.id])
    admin = AdminClient({"bootstrap.servers": topics.bootstrap})
    for future in admin.delete_topics([topics.clicks, topics.windows, topics.late]).values():
        future.result()


def _slope_us(costs: Sequence[Cost]) -> float:
    few, many = costs
    return (many.cpu_s - few.cpu_s) / (many.clicks - few.clicks) * 1e6


def _report(batches: dict[str, list[Cost]], streams: dict[str, Cost]) -> str:
    rows = {
        "batch, us of CPU per click": [_slope_us(batches[query]) for query in QUERIES],
        "stream, us of CPU per click": [
            streams[query].cpu_s / streams[query].clicks * 1e6 for query in QUERIES
        ],
        f"backfill of {batches['plain'][1].clicks:,} clicks, s": [
            batches[query][1].seconds for query in QUERIES
        ],
    }
    lines = [f"{'':36}{''.join(f'{query:>14}' for query in QUERIES)}{'ratio':>8}"]
    lines += [
        f"{what:36}{plain:14.1f}{grouped:14.1f}{grouped / plain:8.1f}"
        for what, (plain, grouped) in rows.items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="What the features over groups cost.")
    parser.add_argument("--clicks", type=int, default=1_700_000, help="clicks of the day, in batch")
    parser.add_argument("--stream-clicks", type=int, default=600_000)
    args = parser.parse_args()
    settings = load_settings()
    bench = Bench(settings, connect(settings))
    bench.backends.postgres.migrate()
    traffic = Traffic.from_settings(settings, base_eps=1.0).plain()
    eps = args.clicks / float(
        traffic.volume(np.arange(minute_of(DAY), minute_of(DAY + 24 * HOUR))).sum()
    )
    source = ClickSource(replace(traffic, base_eps=eps))
    streams = stream(bench, source, args.stream_clicks)
    print(_report(batch(bench, source), streams))


if __name__ == "__main__":
    main()
