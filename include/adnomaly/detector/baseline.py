"""What every baseline offers: the expected value and standard deviation of each feature."""

from typing import Any, Final, NamedTuple, Protocol, Self

import numpy as np

from adnomaly.arrays import Bools, Floats, Ints
from adnomaly.detector.grid import Grid
from adnomaly.detector.spec import Spec

MAX_Z: Final = 1000.0


class Comparison(NamedTuple):
    """Windows against their baseline, each (..., F), on the transformed scale.

    Attributes:
        value: the feature.
        expected: NaN for an unknown entity, or while a rolling baseline warms up.
        sd: expected standard deviation.
    """

    value: Floats
    expected: Floats
    sd: Floats

    @property
    def z(self) -> Floats:
        """Deviation from the expected value in robust standard deviations, within +-1000."""
        z: Floats = np.clip((self.value - self.expected) / self.sd, -MAX_Z, MAX_Z)
        return z

    def shifted(self, forecast: Floats, scale: Floats) -> "Comparison":
        """Add a forecast of z (..., F) to the expected value; scale (F,) is the sd that remains."""
        return self._replace(expected=self.expected + forecast * self.sd, sd=self.sd * scale)

    def take(self, index: slice | Bools) -> "Comparison":
        """The rows of a slice, or those where a mask holds."""
        return Comparison(self.value[index], self.expected[index], self.sd[index])


class Baseline(Protocol):
    """A fitted baseline.

    Attributes:
        kind: its name in preprocess.json.
        scores_rows: single windows can be compared; else each needs the windows before it, and
            `compare_rows` and `compare_pooled` raise NotImplementedError.
        has_forecast: its residuals repeat, so a residual forecast is fitted on them.
        knows_entities: at least one entity has an expected value at all times of the week, or
            will have one after its first windows.
        transforms: of each feature, see `transforms`.
    """

    @property
    def kind(self) -> str: ...

    @property
    def scores_rows(self) -> bool: ...

    @property
    def has_forecast(self) -> bool: ...

    @property
    def knows_entities(self) -> bool: ...

    @property
    def spec(self) -> Spec: ...

    @property
    def transforms(self) -> tuple[str, ...]: ...

    @classmethod
    def fit(cls, grid: Grid, spec: Spec) -> Self:
        """Fit on history."""
        ...

    def compare(self, grid: Grid) -> Comparison:
        """All windows, (T, E, F). The first entities of the grid are those of the fit."""
        ...

    def compare_rows(
        self, values: Floats, end_s: Ints, entity: Ints, size_s: int
    ) -> tuple[Comparison, Bools]:
        """Single windows (n, F), each against its entity's baseline, else the pooled one.

        Args:
            entity: position of each entity, (n,); -1 for an unknown one.

        Returns:
            Comparisons (n, F), and which rows were compared with their entity, (n,).
        """
        ...

    def compare_pooled(self, grid: Grid) -> Comparison:
        """All windows against the distribution over all entities, (T, E, F)."""
        ...

    def to_plain(self) -> dict[str, Any]:
        """As stored in preprocess.json."""
        ...

    @classmethod
    def from_plain(cls, raw: dict[str, Any], spec: Spec) -> Self:
        """The baseline that `to_plain` wrote.

        Raises:
            ValueError, KeyError: it did not write this.
        """
        ...
