"""Windows of the lake: the Flink job that computes them, and the hold that keeps the lake unchanged
meanwhile.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Final

from adnomaly.clients.flink_sql import Script, batch_script

if TYPE_CHECKING:
    from adnomaly.clients.flink import Flink
    from adnomaly.stores.lake import Lake

BATCH_JOB: Final = "adnomaly-window-batch"
PARTS: Final = 2
"""Parts of a span computed in parallel, one Flink slot each."""


class LakeBatch:
    """The window SQL in batch over the clicks below `lake_url`."""

    def __init__(self, flink: "Flink", lake: "Lake", lake_url: str) -> None:
        self._flink, self._lake, self._lake_url = flink, lake, lake_url

    def script(
        self, start: datetime, end: datetime, *, output: str, name: str = BATCH_JOB
    ) -> Script:
        """The job that writes the windows with start < window_end <= end as Parquet below the URL
        `output`.

        The job reads whole hours, so only objects of the manifest may lie there while it runs:
        orphans of killed writers are removed now, and nothing is rewritten before
        `release(output)`, or for an hour.
        """
        self._lake.hold(output)
        self._lake.remove_orphans(start, end)
        outputs = [f"{output.rstrip('/')}/{part}" for part in range(PARTS)]
        return batch_script(
            name, start, end, lake=self._lake_url, outputs=outputs, features=self._flink.features
        )

    def run(self, start: datetime, end: datetime, *, output: str, name: str = BATCH_JOB) -> None:
        """Run that job; returns when the windows are complete.

        Raises:
            JobFailed: with the innermost cause.
        """
        try:
            self._flink.run_batch(self.script(start, end, output=output, name=name))
        finally:
            self.release(output)

    def release(self, output: str) -> None:
        """Allow the lake to be rewritten again."""
        self._lake.let_go(output)
