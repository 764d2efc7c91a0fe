"""Sends synthetic clicks to `clickstream`: past ones at a given rate, then each when it is due.

Resume after the last run, or start now; send the last two hours with an attack; fill the lake
instead of the topic:

    python -m streaming.generate_clicks
    python -m streaming.generate_clicks --from -2h --attack click_flood:DE:ios:-60m:20m
    python -m streaming.generate_clicks --history --days 21 --end -2h

At least once: progress is written after the broker's acknowledgement, so a killed run sends its
last seconds again with the same event ids, which validation drops. Exit code 1 when a click could
not be delivered; the next run sends it again.
"""

import argparse
import logging
import re
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Final

from adnomaly.attacks import Attack, moment
from adnomaly.clients.kafka.producer import TrackedProducer
from adnomaly.delivery_log import DeliveryLog
from adnomaly.errors import AdnomalyError
from adnomaly.generator_state import GeneratorFiles, first_moment
from adnomaly.home import Home
from adnomaly.pipelines import generate_history
from adnomaly.process import single_instance
from adnomaly.settings import Settings, load_settings
from adnomaly.synthetic.click_source import ClickSource
from adnomaly.synthetic.traffic import Traffic
from adnomaly.topics import CLICKS_TOPIC
from adnomaly.wiring import connect
from streaming.click_generator import Generator, iso

MAX_CATCH_UP: Final = timedelta(hours=6)
"""After a longer pause the older part is skipped, unless a start was given; a history run can fill
it.
"""

log = logging.getLogger("generate_clicks")


def _start(files: GeneratorFiles, wanted: datetime | None, now: datetime) -> datetime:
    progress = files.read_progress()
    start = first_moment(
        wanted or files.read_plan().begin, progress, files.read_history().end, now=now
    )
    if start == progress.next and now - start > MAX_CATCH_UP:
        log.warning(
            "paused since %s: resuming from %s; a history run can fill the gap",
            iso(start),
            iso(now - MAX_CATCH_UP),
        )
        return now - MAX_CATCH_UP
    return start


def send(settings: Settings, args: argparse.Namespace, now: datetime) -> None:
    """Send clicks until the given end, or SIGTERM."""
    stop = Event()
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
    log.info("sending from %s to %s", iso(start), args.topic)
    try:
        generator.run(
            moment(args.until, now=now) if args.until else None, attacks, live=args.pace == "live"
        )
    finally:
        log.info("%s", generator.totals())


def _joined(words: list[str]) -> list[str]:
    """`--from -2h` as `--from=-2h`: argparse would parse -2h as an option."""
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
        description="Send synthetic clicks, or write weeks of them into the lake."
    )
    parser.add_argument(
        "--from",
        dest="begin",
        help="ISO 8601 or -2h; default: the plan's start, else the end of the last run, else now; never before clicks already sent",
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
        "--max-rate", type=float, help="limit in clicks per second while catching up"
    )
    parser.add_argument("--base-eps", type=float, help="mean rate, overrides the plan and BASE_EPS")
    parser.add_argument("--topic", default=CLICKS_TOPIC.name)
    parser.add_argument(
        "--ledger", type=Path, help="CSV file of acknowledged clicks, for delivery checks"
    )
    parser.add_argument(
        "--history", action="store_true", help="write into the lake: --days before --end"
    )
    parser.add_argument("--days", type=float, default=21, help="days of history")
    parser.add_argument(
        "--end", help="end of the history, rounded down to the hour; default: the last midnight UTC"
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
