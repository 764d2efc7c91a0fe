"""Sends clicks to the topic `clickstream`: those of the past as fast as asked, then each when its moment comes.

    python -m streaming.generate_clicks                                    go on where the last run stopped (or now)
    python -m streaming.generate_clicks --from -2h --attack click_flood:DE:ios:-60m:20m
    python -m streaming.generate_clicks --history --days 21 --end -2h      fill the lake instead of the topic

At least once: progress is written after the broker has acknowledged, so a killed run sends its last seconds again, with
the same event ids, which the gate drops. Exit code 1 when a click could not be delivered; the next run sends it again.
"""

import argparse
import logging
import re
import signal
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from adnomaly.attacks import Attack, moment
from adnomaly.clients.kafka.producer import TrackedProducer
from adnomaly.delivery_log import DeliveryLog
from adnomaly.errors import AdnomalyError
from adnomaly.generator_state import GeneratorFiles, Plan, first_moment, microseconds, moment_at
from adnomaly.home import Home
from adnomaly.pipelines import generate_history
from adnomaly.process import single_instance
from adnomaly.settings import Settings, load_settings
from adnomaly.synthetic.clicks import Clicks, ClickSource
from adnomaly.synthetic.encode import MessageEncoder
from adnomaly.synthetic.traffic import Traffic, minute_of
from adnomaly.wiring import connect

TOPIC = "clickstream"
MINUTE = timedelta(minutes=1)
CATCH_UP_BLOCK = 5 * MINUTE
"""Clicks generated at once while behind: large enough for speed, small enough for memory."""

MAX_CATCH_UP = timedelta(hours=6)
"""After a longer pause the older part is left out (a history run fills it), unless a start was asked for."""

CHUNK = 2000
COMMIT_SECONDS = 2.0
"""How much a killed run sends again."""

RATE_SECONDS = 5.0
TICK_SECONDS = 0.05

log = logging.getLogger("generate_clicks")


class Generator:
    """Generates block after block, sends what is due, and remembers what was acknowledged."""

    def __init__(
        self,
        source: ClickSource,
        producer: TrackedProducer,
        files: GeneratorFiles,
        stop: threading.Event,
        *,
        start: datetime,
        max_rate: float | None = None,
        fixed_eps: float | None = None,
    ) -> None:
        """`fixed_eps` is a rate that no plan changes; the plan's goes before that of `source`."""
        self._source, self._encoder, self._producer, self._files, self._stop = (
            source,
            MessageEncoder(source),
            producer,
            files,
            stop,
        )
        self._max_rate, self._fixed_eps, self._usual_eps = (
            max_rate,
            fixed_eps,
            source.traffic.base_eps,
        )
        self._attacks: tuple[Attack, ...] = ()
        self._sent_until = self._committed_until = start
        self._commit_at = self._rate_at = self._began = time.monotonic()
        self._sent_before = 0

    def run(self, until: datetime | None, attacks: tuple[Attack, ...], *, live: bool) -> None:
        """Send to before `until`; without `live`, stop at the present. Returns early when asked to stop."""
        present = datetime.now(UTC)
        goals = [goal for goal in (until, None if live else present) if goal is not None]
        while not self._stop.is_set() and not (goals and self._sent_until >= min(goals)):
            now = datetime.now(UTC)
            if self._sent_until > now:
                self._stop.wait((self._sent_until - now).total_seconds())
                continue
            self._take_plan(self._files.read_plan(), attacks)
            self._send(self._sent_until, min([_block_end(self._sent_until, now), *goals]))
        self.commit()

    def commit(self) -> None:
        """Wait for acknowledgements, then write down how far we are."""
        self._producer.flush()
        if self._sent_until > self._committed_until:
            self._files.write_progress(
                self._files.read_progress().extended(self._committed_until, self._sent_until)
            )
            self._committed_until = self._sent_until
        self._commit_at = time.monotonic()

    def totals(self) -> str:
        out, seconds, at = (
            self._producer,
            time.monotonic() - self._began,
            _text(self._committed_until),
        )
        return f"sent {out.sent:,}, delivered {out.delivered:,}, failed {out.failed:,} in {seconds:.0f} s; next {at}"

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
        """Between two chunks: acknowledgements, progress, the rate line, and the pace."""
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
            _text(self._sent_until),
            max(behind, 0),
        )
        self._sent_before, self._rate_at = out.sent, now

    def _take_plan(self, plan: Plan, attacks: tuple[Attack, ...]) -> None:
        """Attacks and rate from the next click on."""
        base_eps = self._fixed_eps or plan.base_eps or self._usual_eps
        if base_eps != self._source.traffic.base_eps:
            log.info("from here on %g clicks per second", base_eps)
            self._source = ClickSource(replace(self._source.traffic, base_eps=base_eps))
            self._encoder = MessageEncoder(self._source)
        self._attacks = (*plan.attacks, *attacks)
        for attack in self._files.plant(self._attacks, after=self._sent_until):
            log.info("planted attack: %s", attack)


def _block_end(start: datetime, now: datetime) -> datetime:
    """The end of the running minute, or of several when they all lie in the past."""
    minute = start.replace(second=0, microsecond=0)
    return minute + CATCH_UP_BLOCK if minute + CATCH_UP_BLOCK <= now else minute + MINUTE


def _text(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _start(files: GeneratorFiles, wanted: datetime | None, now: datetime) -> datetime:
    progress = files.read_progress()
    start = first_moment(
        wanted or files.read_plan().begin, progress, files.read_history_end(), now=now
    )
    if start == progress.next and now - start > MAX_CATCH_UP:
        log.warning(
            "paused since %s: going on from %s; a history run fills what is between",
            _text(start),
            _text(now - MAX_CATCH_UP),
        )
        return now - MAX_CATCH_UP
    return start


def send(settings: Settings, args: argparse.Namespace, now: datetime) -> None:
    """Send clicks until the end that was asked for, or SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    files = GeneratorFiles(Home.of(settings))
    traffic = Traffic.from_settings(settings)
    attacks = tuple(Attack.parse(text, now=now) for text in args.attack)
    for attack in (*attacks, *files.read_plan().attacks):
        traffic.entity(attack.geo, attack.platform)
    start = _start(files, moment(args.begin, now=now) if args.begin else None, now)
    producer = TrackedProducer(
        settings.kafka_bootstrap, args.topic, DeliveryLog(args.ledger) if args.ledger else None
    )
    generator = Generator(
        ClickSource(traffic),
        producer,
        files,
        stop,
        start=start,
        max_rate=args.max_rate,
        fixed_eps=args.base_eps,
    )
    log.info("sending from %s to %s", _text(start), args.topic)
    try:
        generator.run(
            moment(args.until, now=now) if args.until else None, attacks, live=args.pace == "live"
        )
    finally:
        log.info("%s", generator.totals())


def _joined(words: list[str]) -> list[str]:
    """`--from -2h` as `--from=-2h`: argparse would take -2h for an option."""
    joined: list[str] = []
    for word in words:
        if (
            re.fullmatch(r"-\d+[smhd]", word)
            and joined
            and joined[-1] in ("--from", "--until", "--end")
        ):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Sends synthetic clicks, or writes weeks of them into the lake."
    )
    parser.add_argument(
        "--from",
        dest="begin",
        help="ISO 8601 or -2h; default: the plan's, or where the last run stopped, or now. Never before what was sent",
    )
    parser.add_argument("--until", help="ISO 8601 or +10m; default: never ends")
    parser.add_argument(
        "--attack",
        action="append",
        default=[],
        help="kind:GEO:platform:start:duration[:strength], such as click_flood:DE:ios:-60m:20m; repeatable",
    )
    parser.add_argument(
        "--pace", choices=("live", "catch-up"), default="live", help="catch-up stops at the present"
    )
    parser.add_argument(
        "--max-rate", type=float, help="clicks per second at most while catching up"
    )
    parser.add_argument("--base-eps", type=float, help="instead of the plan's, and of BASE_EPS")
    parser.add_argument("--topic", default=TOPIC)
    parser.add_argument(
        "--ledger", type=Path, help="CSV of every acknowledged click, for a checker"
    )
    parser.add_argument(
        "--history", action="store_true", help="write into the lake: --days before --end"
    )
    parser.add_argument("--days", type=float, default=21, help="length of the history")
    parser.add_argument(
        "--end", help="end of the history, cut to the hour; default: the last midnight UTC"
    )
    return parser.parse_args(_joined(words))


def main() -> int:
    args, settings, now = _arguments(sys.argv[1:]), load_settings(), datetime.now(UTC)
    logging.basicConfig(
        level=settings.log_level,
        stream=sys.stdout,
        format="%(asctime)s %(name)s %(message)s",
        datefmt="%H:%M:%S",
    )
    try:
        if args.history:
            generate_history.run(
                connect(settings).lake,
                settings,
                days=args.days,
                end=args.end,
                base_eps=args.base_eps,
                attacks=args.attack,
                now=now,
            )
        else:
            with single_instance(Home.of(settings).lock("generator"), "sends clicks"):
                send(settings, args, now)
    except (AdnomalyError, ValueError) as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
