"""Example of a foreign click log and its map: `python -m adnomaly.replay.example FOLDER`.

Ten minutes of a click farm on German desktops: 25 addresses click 150 times a minute, and two rows
are broken. The columns are those of ad trackers (address, app, channel, OS, local time), not ours.
"""

import csv
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np

from adnomaly.files import replacing, write_atomic

MINUTES: Final = 10
PER_MINUTE: Final = 150
ADDRESSES: Final = 25
BEGIN: Final = datetime(2017, 11, 7, 9, 30)  # noqa: DTZ001 - local time, as trackers write it
SEED: Final = 42

LOG: Final = "clickfarm.csv"
MAP: Final = "clickfarm.toml"

MAP_TEXT: Final = """# How a row of clickfarm.csv gives each field of a click.
[timestamp]
column = "click_time"
format = "%d/%m/%Y %H:%M:%S"
zone = "Europe/Berlin"

[user_id_hash]
hash = ["ip", "os"]

[ad_id]
column = "app"

[campaign_id]
column = "channel"

[geo]
column = "country"
default = "DE"

[platform]
column = "os"
values = { "13" = "android", "19" = "ios", "607" = "web" }

[user_agent]
value = "unknown"

[CPC]
column = "price"

[CTR]
value = 0.008

[conversion]
column = "is_attributed"

[bounce_rate]
value = 0.7
"""


def write(folder: Path) -> tuple[Path, Path]:
    """Write the log and its map; the bytes are deterministic."""
    rng, rows = np.random.default_rng(SEED), MINUTES * PER_MINUTE
    seconds = np.sort(rng.integers(0, MINUTES * 60, rows))
    with replacing(folder / LOG) as draft, draft.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(
            ["ip", "app", "channel", "os", "country", "click_time", "price", "is_attributed"]
        )
        for second in seconds.tolist():
            moment = BEGIN + timedelta(seconds=second)
            row = [
                f"198.51.100.{rng.integers(ADDRESSES)}",
                rng.integers(3, 30),
                f"partner-{rng.integers(4)}",
                607,
                "DE",
                f"{moment:%d/%m/%Y %H:%M:%S}",
                0.3,
                0,
            ]
            out.writerow(row)
        out.writerow(["198.51.100.9", 3, "partner-1", 607, "DE", "yesterday", 0.3, 0])
        out.writerow(
            ["198.51.100.9", 3, "partner-1", 866, "DE", f"{moment:%d/%m/%Y %H:%M:%S}", 0.3, 0]
        )
    write_atomic(folder / MAP, MAP_TEXT.encode())
    return folder / LOG, folder / MAP


if __name__ == "__main__":
    for written in write(Path(sys.argv[1] if len(sys.argv) > 1 else ".")):
        print(written)
