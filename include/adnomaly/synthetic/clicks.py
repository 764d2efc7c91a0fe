"""Clicks as columns of numbers, and the random numbers behind them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt

from adnomaly.arrays import Bools, Floats, Ints

MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class Clicks:
    """n clicks ordered by time, each field (n,).

    Numbers index the arrays of `Population` and `Traffic.entities`.

    Attributes:
        time_us: microseconds since 1970 UTC.
        id_bits: 62 random bits of the event id.
    """

    time_us: Ints
    id_bits: npt.NDArray[np.uint64]
    entity: Ints
    user: Ints
    agent: Ints
    ad: Ints
    cpc: Floats
    ctr: Floats
    conversion: npt.NDArray[np.int8]
    bounce: Floats

    def __len__(self) -> int:
        return len(self.time_us)

    def take(self, index: Ints | Bools | slice) -> Self:
        """The clicks at `index` (positions, a mask or a slice), in its order."""
        return type(self)(*(getattr(self, f.name)[index] for f in fields(self)))

    @classmethod
    def merge(cls, parts: Sequence[Self]) -> Self:
        """All clicks of `parts`, ordered by time."""
        joined = cls(
            *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls))
        )
        return joined.take(np.argsort(joined.time_us, kind="stable"))


@dataclass(frozen=True, slots=True)
class Draws:
    """Raw random numbers of n clicks; attributes are computed for many minutes at once."""

    minute: Ints
    offset_us: Ints
    id_bits: npt.NDArray[np.uint64]
    uniform: Floats
    normal: Floats

    @classmethod
    def of(cls, rng: np.random.Generator, minute: int, count: int) -> Self:
        offset_us = np.sort((rng.random(count) * MINUTE_US).astype(np.int64))
        id_bits = rng.integers(0, 2**62, count, dtype=np.uint64)
        return cls(
            np.full(count, minute),
            offset_us,
            id_bits,
            rng.random((4, count)),
            rng.standard_normal((3, count)),
        )

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        return cls(
            *(
                np.concatenate([getattr(part, f.name) for part in parts], axis=-1)
                for f in fields(cls)
            )
        )
