"""Sends synthetic clicks, each when it is due; reloads the plan between blocks of minutes."""

import logging
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Final

import numpy as np

from adnomaly.attacks import Attack
from adnomaly.clients.kafka.producer import TrackedProducer
from adnomaly.generator_state import GeneratorFiles, Plan, microseconds, moment_at
from adnomaly.process import announce_ready
from adnomaly.synthetic.click_source import ClickSource
from adnomaly.synthetic.clicks import Clicks
from adnomaly.synthetic.encode import MessageEncoder
from adnomaly.synthetic.traffic import minute_of

MINUTE: Final = timedelta(minutes=1)
CATCH_UP_BLOCK: Final = 5 * MINUTE
"""Clicks generated at once while behind: large enough for speed, small enough for memory."""
CHUNK: Final = 2000
COMMIT_SECONDS: Final = 2.0
"""Interval of progress writes: the part that a killed run sends again."""
RATE_SECONDS: Final = 5.0
TICK_SECONDS: Final = 0.05

log = logging.getLogger("generate_clicks")


class Generator:
    """Generates and sends clicks, and records the time up to which they are acknowledged."""

    def __init__(
        self,
        source: ClickSource,
        producer: TrackedProducer,
        files: GeneratorFiles,
        stop: Event,
        *,
        start: datetime,
        max_rate: float | None = None,
        fixed_eps: float | None = None,
    ) -> None:
        """Prepare to send from `start` on.

        Args:
            max_rate: limit in clicks per second while catching up.
            fixed_eps: mean rate that overrides the plan's, which overrides that of `source`.
        """
        self._source, self._encoder = source, MessageEncoder(source)
        self._producer, self._files, self._stop = producer, files, stop
        self._max_rate, self._fixed_eps = max_rate, fixed_eps
        self._default_eps = source.traffic.base_eps
        self._attacks: tuple[Attack, ...] = ()
        self._sent_until = self._committed_until = start
        self._commit_at = self._rate_at = self._began = time.monotonic()
        self._sent_before = 0

    def run(self, until: datetime | None, attacks: tuple[Attack, ...], *, live: bool) -> None:
        """Send clicks before `until`; without `live`, end at the present. `stop` ends it early."""
        present = datetime.now(UTC)
        goals = [goal for goal in (until, None if live else present) if goal is not None]
        while not self._stop.is_set() and not (goals and self._sent_until >= min(goals)):
            now = datetime.now(UTC)
            if self._sent_until > now:
                self._stop.wait((self._sent_until - now).total_seconds())
                continue
            self._apply_plan(self._files.read_plan(), attacks)
            self._send(self._sent_until, min([_block_end(self._sent_until, now), *goals]))
        self.commit()

    def commit(self) -> None:
        """Wait for acknowledgements, then write the progress."""
        self._producer.flush()
        if self._sent_until > self._committed_until:
            self._files.write_progress(
                self._files.read_progress().extended(self._committed_until, self._sent_until)
            )
            self._committed_until = self._sent_until
            announce_ready()
        self._commit_at = time.monotonic()

    def totals(self) -> str:
        """Counts so far, for the log."""
        out, seconds = self._producer, time.monotonic() - self._began
        return (
            f"sent {out.sent:,}, delivered {out.delivered:,}, failed {out.failed:,} "
            f"in {seconds:.0f} s; next {iso(self._committed_until)}"
        )

    def _send(self, start: datetime, end: datetime) -> None:
        clicks = self._clicks(start, end)
        keys, values = self._encoder.encode(clicks)
        done = 0
        while done < len(clicks) and not self._stop.is_set():
            due = int(
                np.searchsorted(clicks.time_us, microseconds(datetime.now(UTC)), side="right")
            )
            chunk = slice(done, min(due, done + CHUNK))
            for key, value in zip(keys[chunk], values[chunk], strict=True):
                self._producer.send(key, value)
            done = max(done, chunk.stop)
            self._sent_until = end if done == len(clicks) else moment_at(clicks.time_us[done])
            self._pause(chunk.stop - chunk.start, waiting=done == due)
        if not len(clicks):
            self._sent_until = end

    def _clicks(self, start: datetime, end: datetime) -> Clicks:
        first = minute_of(start)
        clicks = self._source.clicks(
            first, minute_of(end - timedelta(microseconds=1)) - first + 1, self._attacks
        )
        return clicks.take(
            (clicks.time_us >= microseconds(start)) & (clicks.time_us < microseconds(end))
        )

    def _pause(self, count: int, *, waiting: bool) -> None:
        """Between two chunks: serve acknowledgements, commit, report, and keep the pace."""
        self._producer.poll()
        now = time.monotonic()
        if now - self._commit_at >= COMMIT_SECONDS:
            self.commit()
        if now - self._rate_at >= RATE_SECONDS:
            self._report(now)
        self._stop.wait(
            max(TICK_SECONDS if waiting else 0.0, count / self._max_rate if self._max_rate else 0.0)
        )

    def _report(self, now: float) -> None:
        rate = (self._producer.sent - self._sent_before) / (now - self._rate_at)
        behind = (datetime.now(UTC) - self._sent_until).total_seconds()
        out = self._producer
        log.info(
            "sent %s (%.0f/s), delivered %s, failed %d, at %s, %.1f s behind",
            f"{out.sent:,}",
            rate,
            f"{out.delivered:,}",
            out.failed,
            iso(self._sent_until),
            max(behind, 0),
        )
        self._sent_before, self._rate_at = out.sent, now

    def _apply_plan(self, plan: Plan, attacks: tuple[Attack, ...]) -> None:
        """Use the plan's attacks and rate from the next click on."""
        base_eps = self._fixed_eps or plan.rate(self._default_eps)
        if base_eps != self._source.traffic.base_eps:
            log.info("mean rate is now %g clicks per second", base_eps)
            self._source = ClickSource(replace(self._source.traffic, base_eps=base_eps))
            self._encoder = MessageEncoder(self._source)
        self._attacks = (*plan.attacks, *attacks)
        for attack in self._files.plant(self._attacks, after=self._sent_until):
            log.info("planted attack: %s", attack)


def _block_end(start: datetime, now: datetime) -> datetime:
    """The end of the current minute, or of CATCH_UP_BLOCK when that is in the past."""
    minute = start.replace(second=0, microsecond=0)
    return minute + CATCH_UP_BLOCK if minute + CATCH_UP_BLOCK <= now else minute + MINUTE


def iso(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
