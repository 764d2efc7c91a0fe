"""Decisions as an Arrow table, for training and for credit claims."""

from typing import TYPE_CHECKING, Final

import pyarrow as pa

from adnomaly.arrow import TIME

if TYPE_CHECKING:
    from adnomaly.clients.postgres import Postgres

HISTORY: Final = pa.schema(
    [
        ("incident_id", pa.string()),
        ("revision", pa.int32()),
        ("action", pa.string()),
        ("fraud_kind", pa.string()),
        ("until", TIME),
        ("comment", pa.string()),
        ("author", pa.string()),
        ("decided_at", TIME),
        ("incident_kind", pa.string()),
        ("geo", pa.string()),
        ("platform", pa.string()),
        ("start", TIME),
        ("end", TIME),
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
"""Every decision with its incident; `status` is the current one, `evidence` is JSON."""

LABELS: Final = pa.schema(
    [
        ("start", TIME),
        ("end", TIME),
        ("geo", pa.string()),
        ("platform", pa.string()),
        ("kind", pa.string()),
        ("benign", pa.bool_()),
    ]
)
"""One event per confirmed incident or false alarm, as `adnomaly eval --labels` reads it."""

_HISTORY: Final = """
SELECT incident_id, d.revision, action, d.fraud_kind, until, comment, author, decided_at,
    kind, geo, platform, began, last_seen, status, peak_score, model_version, summary, clicks,
    suspect_clicks, money_at_risk, evidence::text
FROM decisions d JOIN incidents i USING (incident_id) ORDER BY decided_at, incident_id, d.revision
"""
_LABELS: Final = """
SELECT began, last_seen, geo, platform, coalesce(fraud_kind, 'false alarm'),
    status = 'false_alarm'
FROM incidents
WHERE kind = 'anomaly' AND status IN ('confirmed', 'false_alarm') ORDER BY began, incident_id
"""


def decision_table(postgres: "Postgres", *, labels: bool = False) -> pa.Table:
    """All decisions with their incidents (HISTORY), or the current verdicts as events (LABELS).

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    schema = LABELS if labels else HISTORY
    with postgres.connection() as connection:
        rows = connection.execute(_LABELS if labels else _HISTORY).fetchall()
    columns = [pa.array([row[i] for row in rows], field.type) for i, field in enumerate(schema)]
    return pa.table(columns, schema=schema)
