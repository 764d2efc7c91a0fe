"""Decisions as a table, for training and for credit claims."""

from typing import TYPE_CHECKING, Final

import pyarrow as pa

if TYPE_CHECKING:
    from adnomaly.clients.postgres import Postgres

_TIME: Final = pa.timestamp("us", tz="UTC")

HISTORY: Final = pa.schema(
    [
        ("incident_id", pa.string()),
        ("revision", pa.int32()),
        ("action", pa.string()),
        ("fraud_kind", pa.string()),
        ("until", _TIME),
        ("comment", pa.string()),
        ("author", pa.string()),
        ("decided_at", _TIME),
        ("incident_kind", pa.string()),
        ("geo", pa.string()),
        ("platform", pa.string()),
        ("start", _TIME),
        ("end", _TIME),
        ("status", pa.string()),
        ("peak_score", pa.float64()),
        ("model_version", pa.string()),
        ("summary", pa.string()),
        ("clicks", pa.int64()),
        ("suspect_clicks", pa.float64()),
        ("money_at_risk", pa.float64()),
        ("evidence", pa.string()),
    ]
)
"""Every decision with its incident; `status` is what stands now, `evidence` JSON."""

LABELS: Final = pa.schema(
    [
        ("start", _TIME),
        ("end", _TIME),
        ("geo", pa.string()),
        ("platform", pa.string()),
        ("kind", pa.string()),
        ("benign", pa.bool_()),
    ]
)
"""One event per incident that was confirmed or called a false alarm, in the form of `adnomaly eval --labels`."""

_HISTORY: Final = """
SELECT incident_id, d.revision, action, d.fraud_kind, until, comment, author, decided_at, kind, geo, platform, began, last_seen,
    status, peak_score, model_version, summary, clicks, suspect_clicks, money_at_risk, evidence::text
FROM decisions d JOIN incidents i USING (incident_id) ORDER BY decided_at, incident_id, d.revision
"""
_LABELS: Final = """
SELECT began, last_seen, geo, platform, coalesce(fraud_kind, 'false alarm'), status = 'false_alarm' FROM incidents
WHERE kind = 'anomaly' AND status IN ('confirmed', 'false_alarm') ORDER BY began, incident_id
"""


def decision_table(postgres: "Postgres", *, labels: bool = False) -> pa.Table:
    """Every decision with what it is about (HISTORY), or the verdicts that stand as events (LABELS).

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    schema = LABELS if labels else HISTORY
    with postgres.connection() as connection:
        rows = connection.execute(_LABELS if labels else _HISTORY).fetchall()
    columns = zip(*rows, strict=True) if rows else [[] for _ in schema]
    return pa.table(
        [pa.array(list(values), field.type) for values, field in zip(columns, schema, strict=True)],
        schema=schema,
    )
