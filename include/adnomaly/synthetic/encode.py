"""Encoding of clicks: UUIDv7 event ids, Arrow tables as stored, JSON messages."""

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from adnomaly.arrays import Ints
from adnomaly.arrow import CLICK_SCHEMA, TIME
from adnomaly.events import partition_key
from adnomaly.synthetic.click_source import ClickSource
from adnomaly.synthetic.clicks import Clicks
from adnomaly.synthetic.population import ADS_PER_CAMPAIGN

_HEX = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), "<u2")
_DASHES = (8, 13, 18, 23)
_UUID_LENGTH = 36
_DIGITS = np.setdiff1d(np.arange(_UUID_LENGTH), _DASHES)


def event_ids(clicks: Clicks) -> pa.Array:
    """UUIDv7 per click (RFC 9562, method 3).

    48 bits of milliseconds, 12 bits of the fraction of a millisecond, 62 random bits.
    """
    milliseconds, micros = np.divmod(clicks.time_us.astype(np.uint64), np.uint64(1000))
    fraction = micros * np.uint64(4096) // np.uint64(1000)
    high = (milliseconds << np.uint64(16)) | np.uint64(0x7000) | fraction
    low = np.uint64(1 << 63) | clicks.id_bits
    raw = np.stack([high, low], axis=1).astype(">u8").view(np.uint8)
    text = np.full((len(clicks), _UUID_LENGTH), ord("-"), np.uint8)
    text[:, _DIGITS] = _HEX[raw].view(np.uint8)
    return _texts(text)


def timestamps(clicks: Clicks) -> pa.Array:
    """`2026-11-22T00:05:00.123456Z` per click."""
    text = pa.array(clicks.time_us, pa.timestamp("us")).cast(pa.string())
    return pc.binary_join_element_wise(pc.replace_substring(text, " ", "T"), "Z", "")


def to_table(clicks: Clicks, source: ClickSource) -> pa.Table:
    """Clicks of `source` as a table of `CLICK_SCHEMA`."""
    columns = {
        "event_id": event_ids(clicks),
        "timestamp": pa.array(clicks.time_us, TIME),
        **{
            name: values.take(pa.array(number))
            for name, (values, number) in _text_columns(clicks, source).items()
        },
        "cpc": pa.array(clicks.cpc),
        "ctr": pa.array(clicks.ctr),
        "conversion": pa.array(clicks.conversion),
        "bounce_rate": pa.array(clicks.bounce),
    }
    return pa.table([columns[name] for name in CLICK_SCHEMA.names], schema=CLICK_SCHEMA)


class MessageEncoder:
    """Encode clicks of one source as messages, column by column: about 2 us per click, not 10."""

    def __init__(self, source: ClickSource) -> None:
        self._source = source
        self._keys = [partition_key(*entity).encode() for entity in source.traffic.entities]
        no_clicks = source.clicks(0, 1).take(slice(0, 0))
        self._texts = {
            name: _as_json(name, values)
            for name, (values, _) in _text_columns(no_clicks, source).items()
        }

    def encode(self, clicks: Clicks) -> tuple[list[bytes], list[bytes]]:
        """Keys and JSON values, in the order of `clicks`."""
        parts = ['{"event_id":"', event_ids(clicks), '","timestamp":"', timestamps(clicks), '"']
        parts += [
            self._texts[name].take(pa.array(number))
            for name, (_, number) in _text_columns(clicks, self._source).items()
        ]
        numbers = {
            "CPC": clicks.cpc,
            "CTR": clicks.ctr,
            "conversion": clicks.conversion,
            "bounce_rate": clicks.bounce,
        }
        for name, values in numbers.items():
            parts += [f',"{name}":', pa.array(values).cast(pa.string())]
        messages = pc.binary_join_element_wise(*parts, "}", "").cast(pa.binary())
        keys = self._keys
        return [keys[entity] for entity in clicks.entity.tolist()], messages.to_pylist()


def _as_json(name: str, values: pa.Array) -> pa.Array:
    """`,"name":"value"` per value, escaped for JSON."""
    return pa.array(
        [f',"{name}":{msgspec.json.encode(value).decode()}' for value in values.to_pylist()]
    )


def _text_columns(clicks: Clicks, source: ClickSource) -> dict[str, tuple[pa.Array, Ints]]:
    """Text columns as distinct values and the index of each click's value."""
    population, entities = source.population, source.traffic.entities
    return {
        "user_id_hash": (population.user_ids, clicks.user),
        "ad_id": (population.ad_names, clicks.ad),
        "campaign_id": (population.campaign_names, clicks.ad // ADS_PER_CAMPAIGN),
        "geo": (pa.array([geo for geo, _ in entities]), clicks.entity),
        "platform": (pa.array([platform for _, platform in entities]), clicks.entity),
        "user_agent": (population.agents, clicks.agent),
    }


def _texts(rows: npt.NDArray[np.uint8]) -> pa.Array:
    """Rows of ASCII codes (n, width) as n texts, without a Python object for each."""
    count, width = rows.shape
    offsets = np.arange(0, (count + 1) * width, width, dtype=np.int32)
    return pa.StringArray.from_buffers(
        count, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(rows))
    )
