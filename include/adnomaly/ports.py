"""What logic needs of the outside world, where a memory twin stands beside the real adapter."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Protocol

from adnomaly.windows import TrafficWindow

if TYPE_CHECKING:
    import pyarrow as pa


class HistoryLake(Protocol):
    """A lake that takes whole hours of generated clicks."""

    def write_history(self, hour: datetime, table: "pa.Table", source_id: str) -> object:
        """Store the clicks of one hour, in place of what the same source stored for that hour before."""
        ...


class WindowBatch(Protocol):
    """Whatever computes windows from the clicks of the lake."""

    def run_window_batch(self, start: datetime, end: datetime, *, output: str) -> object:
        """Leave the windows with start < window_end <= end as Parquet below the URL `output`; returns when they are complete."""
        ...

    def window_batch(self, start: datetime, end: datetime, *, output: str) -> object:
        """The same as a job that somebody else submits."""
        ...


class OfflineWindows(Protocol):
    """All windows, one file per UTC day."""

    def url(self, prefix: str) -> str: ...
    def collect(self, prefix: str) -> "pa.Table": ...
    def discard(self, prefix: str) -> None: ...
    def days(self) -> list[date]: ...
    def write_day(self, day: date, windows: "pa.Table") -> str: ...
    def sync(self) -> list[date]: ...
    def windows(self, start: datetime, end: datetime) -> list[TrafficWindow]: ...
    def newest(self, start: datetime, end: datetime) -> list[TrafficWindow]: ...


class OnlineWindows(Protocol):
    """The newest window of each entity."""

    def apply(self) -> None: ...
    def materialize(self, start: datetime, end: datetime) -> None: ...
    def correct(self, windows: Sequence[TrafficWindow]) -> list[TrafficWindow]: ...
    def read(self, entities: Sequence[tuple[str, str]]) -> list[TrafficWindow | None]: ...


class StreamedWindows(Protocol):
    """What the stream said: `feature_aggregates`."""

    def windows(self, start: datetime, end: datetime) -> list[TrafficWindow]: ...
    def span(self) -> tuple[datetime, datetime] | None: ...


class HistoryHours(Protocol):
    """Which hours of the lake hold generated history, which the stream has never seen."""

    def history_hours(self, start: datetime, end: datetime) -> set[datetime]: ...
