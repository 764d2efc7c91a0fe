"""What logic needs of the outside world, where a memory twin stands beside the real adapter."""

from datetime import datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa


class HistoryLake(Protocol):
    """A lake that takes whole hours of generated clicks."""

    def write_history(self, hour: datetime, table: "pa.Table", source_id: str) -> object:
        """Store the clicks of one hour, in place of what the same source stored for that hour before."""
        ...
