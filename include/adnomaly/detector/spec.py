"""The entity columns and features of windows: Adnomaly's own, or those of a SPEC.toml."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

import msgspec

from adnomaly.errors import BadInput
from adnomaly.features import ENTITY, FEATURES

START: Final = "window_start"
END: Final = "window_end"


class Measure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One feature of a window.

    Attributes:
        kind: `count` (how many), `ratio` (a share or rate) or `level` (any other quantity).
        weight_by: the count behind a ratio: a ratio of few events is less certain.
        required: every row has it; optional features are used where a row has all of them.
        high: upper bound.
        label: display name; the name when None.
    """

    name: str
    kind: Literal["count", "ratio", "level"]
    weight_by: str | None = None
    required: bool = True
    high: float | None = None
    label: str | None = None


class Spec(msgspec.Struct, frozen=True):
    """The entity columns and the features, required ones first."""

    entity: tuple[str, ...]
    measures: tuple[Measure, ...]

    def __post_init__(self) -> None:
        names = self.names
        _check(
            bool(self.entity), "entity", list(self.entity), "name at least one column of the entity"
        )
        _check(bool(self.required), "feature", list(names), "at least one feature must be required")
        unique = len({*names, *self.entity}) == len(names) + len(self.entity)
        _check(unique, "name", [*names, *self.entity], "use every name once")
        for measure in self.measures:
            self._check_weight(measure)

    def _check_weight(self, measure: Measure) -> None:
        weight = next((m for m in self.measures if m.name == measure.weight_by), None)
        key, value = f"weight_by of {measure.name}", measure.weight_by
        valid = value is None or (
            measure.kind == "ratio" and weight is not None and weight.kind == "count"
        )
        _check(valid, key, value, "only a ratio has one, and it names a feature of kind count")
        available = weight is None or weight.required or not measure.required
        _check(available, key, value, "a required ratio needs a required count")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(m.name for m in self.measures)

    @property
    def required(self) -> tuple[int, ...]:
        """Positions of the features that every row has."""
        return tuple(i for i, m in enumerate(self.measures) if m.required)

    @property
    def volume(self) -> int | None:
        """Position of the count behind most ratios, the amount of traffic; None without one."""
        counts = [m.weight_by for m in self.measures if m.weight_by]
        return self.names.index(max(counts, key=counts.count)) if counts else None

    def weight(self, position: int) -> int | None:
        """Position of the count behind a feature, of a count its own; None without one."""
        measure = self.measures[position]
        if measure.kind == "count":
            return position
        return self.names.index(measure.weight_by) if measure.weight_by else None

    @classmethod
    def ours(cls) -> Self:
        """Adnomaly's own windows."""
        measures = tuple(
            Measure(f.name, f.kind, f.weight_by, f.required, f.high, f.label or None)
            for f in FEATURES
        )
        return cls(ENTITY, measures)

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read a TOML file: `entity = [...]`, and a `[[feature]]` with `name` and `kind` for each.

        Raises:
            BadInput: naming the key that is missing, unknown or malformed.
        """
        try:
            raw = tomllib.loads(file.read_text())
        except OSError as error:
            raise BadInput(f"{file}: {error.strerror}; give the path of a TOML file") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadInput(f"{file}: is not TOML: {error}") from None
        return cls._from_raw(file, raw)

    @classmethod
    def _from_raw(cls, file: Path, raw: Mapping[str, Any]) -> Self:
        unknown = sorted(set(raw) - {"entity", "feature"})
        if unknown:
            raise BadInput(
                f"{file}: unknown key {unknown[0]!r}; there are entity = [...] and [[feature]]"
            )
        try:
            entity = msgspec.convert(raw.get("entity", list(ENTITY)), tuple[str, ...])
            measures = msgspec.convert(raw.get("feature", []), tuple[Measure, ...])
        except msgspec.ValidationError as error:
            raise BadInput(
                f"{file}: {error}; a feature has name, kind (count, ratio or level), weight_by, "
                "required and high"
            ) from None
        try:
            return cls(entity, tuple(sorted(measures, key=lambda m: not m.required)))
        except ValueError as error:
            raise BadInput(f"{file}: {error}") from None


def _check(valid: bool, key: str, value: object, fix: str) -> None:
    if not valid:
        raise ValueError(f"{key} is {value!r}: {fix}")
