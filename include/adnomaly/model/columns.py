"""Windows as columns: the shape in which the model fits, calibrates and is judged."""

from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from adnomaly.features import CONTRACT, ENTITY

if TYPE_CHECKING:
    import pyarrow as pa


class Columns(NamedTuple):
    """Windows of many entities.

    Attributes:
        entities: `geo|platform` of each entity; the position is its number.
        entity: number of each window's entity, (n,) int64.
        end_s: window ends, Unix seconds, (n,) int64.
        raw: the contract's features in their own units and order, (n, F) float64.
    """

    entities: tuple[str, ...]
    entity: np.ndarray
    end_s: np.ndarray
    raw: np.ndarray

    @classmethod
    def of(cls, windows: "pa.Table") -> Self:
        """The columns of a window table; its row order is kept."""
        geos, platforms = (windows[name].combine_chunks().dictionary_encode() for name in ENTITY)
        names = [f"{geo}|{platform}" for geo in geos.dictionary.to_pylist() for platform in platforms.dictionary.to_pylist()]
        pair = geos.indices.to_numpy().astype(np.int64) * len(platforms.dictionary) + platforms.indices.to_numpy()
        seen, entity = np.unique(pair, return_inverse=True)
        ends = windows["window_end"].to_numpy().astype("datetime64[s]").astype(np.int64)
        raw = np.column_stack([windows[name].to_numpy().astype(np.float64) for name in CONTRACT])
        return cls(tuple(names[i] for i in seen), entity, ends, raw)

    def __len__(self) -> int:  # a table is as long as its rows, not as its fields
        return len(self.entity)

    @property
    def days(self) -> float:
        """From the first to the last window, in days."""
        return float(np.ptp(self.end_s)) / 86400 if len(self.end_s) else 0.0
