"""The Flink jobs around the window SELECT, one of the stream and one of the batch.

A script is data: `streaming/window_program.py` runs it in Flink's client. Its fingerprint tells
whether a checkpoint fits, its digest whether a running job has the same options.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

import msgspec

from adnomaly.clients.flink_tables import (
    Topics,
    click_lake,
    click_topic,
    clicks_between,
    closed_window,
    feature_names,
    late_topic,
    literal,
    missed_windows,
    window_files,
    window_topic,
    without_options,
)
from adnomaly.features import ENTITY, FEATURES, Feature
from adnomaly.windows import SIZE, SLIDE, window_sql

_TIME_FORMAT: Final = "'yyyy-MM-dd''T''HH:mm:ss''Z'''"


class Script(msgspec.Struct, frozen=True):
    """One Flink job: tables and views in order, then its inserts.

    Attributes:
        fingerprint: of name, columns, topics and inserts. Streams with equal fingerprints can
            resume from each other's checkpoints; options such as an address may differ.
    """

    name: str
    streaming: bool
    tables: list[str]
    inserts: list[str]
    fingerprint: str = ""

    @property
    def digest(self) -> str:
        """Of the whole text, options included. Earlier versions used it as the fingerprint."""
        text = {name: getattr(self, name) for name in ("name", "streaming", "tables", "inserts")}
        return _sha256(text)

    def fits(self, fingerprint: str) -> bool:
        """Whether a checkpoint of a script with this fingerprint fits."""
        return fingerprint in (self.fingerprint, self.digest)


def _sha256(value: object) -> str:
    return sha256(msgspec.json.encode(value)).hexdigest()


def stream_script(
    name: str,
    topics: Topics,
    *,
    since: datetime | None = None,
    features: Sequence[Feature] = FEATURES,
) -> Script:
    """Windows of valid clicks into one topic; late clicks, with the number of windows they missed,
    into another.

    Args:
        name: of the job, and prefix of its Kafka transactions.
        since: read clicks written since then, and emit only windows that start at or after it,
            which are complete; None reads from the first click of the topic.
    """
    complete = f" WHERE window_start >= {literal(since)}" if since else ""
    windows = (
        f"INSERT INTO windows SELECT geo || '|' || platform, DATE_FORMAT(window_start, {_TIME_FORMAT}), DATE_FORMAT(window_end, {_TIME_FORMAT}), "
        f"{', '.join(ENTITY)}, {feature_names(features)} FROM (\n{window_sql('clicks', features)}\n){complete}"
    )
    late = (
        f"INSERT INTO late SELECT geo || '|' || platform, event_id, `timestamp`, {', '.join(ENTITY)}, {missed_windows()} FROM clicks "
        f"WHERE CURRENT_WATERMARK(event_time) IS NOT NULL AND {closed_window(1)}"
    )
    tables = [
        click_topic(name, topics, since),
        window_topic(name, topics, features),
        late_topic(name, topics),
    ]
    state = [
        name,
        windows,
        late,
        *map(without_options, tables),
        msgspec.structs.astuple(topics)[1:],
    ]
    return Script(name, True, tables, [windows, late], _sha256(state))


def batch_script(
    name: str,
    start: datetime,
    end: datetime,
    *,
    lake: str,
    outputs: Sequence[str],
    features: Sequence[Feature] = FEATURES,
) -> Script:
    """The windows with start < window_end <= end of the clicks below `lake`, as Parquet.

    The span is divided into one part per output, computed in parallel. Within a part clicks have
    the order of the lake, so the same objects give the same bits.
    """
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    minutes = (end - start) // SLIDE
    edges = [start + minutes * i // len(outputs) * SLIDE for i in range(len(outputs))] + [end]
    tables, inserts = [click_lake(lake)], []
    for number, output in enumerate(outputs):
        begin, stop = edges[number], edges[number + 1]
        tables += [
            clicks_between(f"clicks_{number}", begin - SIZE + SLIDE, stop),
            window_files(f"windows_{number}", output, features),
        ]
        inserts.append(
            f"INSERT INTO windows_{number} SELECT CAST(window_start AS TIMESTAMP(6)), CAST(window_end AS TIMESTAMP(6)), "
            f"{', '.join(ENTITY)}, {feature_names(features)} FROM (\n{window_sql(f'clicks_{number}', features)}\n) "
            f"WHERE window_end > {literal(begin)} AND window_end <= {literal(stop)}"
        )
    return Script(name, False, tables, inserts)
