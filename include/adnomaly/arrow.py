"""Arrow types of stored clicks and windows, derived from `adnomaly.events.COLUMNS`."""

from typing import Final

import pyarrow as pa

from adnomaly.events import COLUMNS

TIME: Final = pa.timestamp("us", tz="UTC")
"""Microseconds: DuckDB, which reads the files for Feast, refuses nanoseconds."""

_TYPES: Final = {
    "string": pa.string(),
    "timestamp[us, UTC]": TIME,
    "double": pa.float64(),
    "int8": pa.int8(),
}

CLICK_SCHEMA: Final = pa.schema(
    [
        pa.field(c.name, _TYPES[c.arrow], nullable=False, metadata={"comment": c.comment})
        for c in COLUMNS
    ]
)
"""A click as the lake stores it, columns in order."""
