"""The attack that the next demo plants."""

from datetime import datetime, timedelta
from typing import Final

from adnomaly.attacks import Attack, read_ground_truth
from adnomaly.generator_state import GeneratorFiles

TARGETS: Final = (
    ("click_flood", "DE", "web"),
    ("click_flood", "BR", "android"),
    ("click_flood", "IN", "ios"),
    ("click_flood", "US", "android"),
)
"""Attacks in turn, so that consecutive demos attack different entities."""

STRENGTH: Final = 2
MINUTE: Final = timedelta(minutes=1)


def next_attack(
    files: GeneratorFiles, history_end: datetime, now: datetime, *, sending: bool = False
) -> Attack:
    """An attack on the next entity in turn, in traffic that is still to be sent.

    40 to 20 minutes ago if that is unsent, else as soon as possible.
    """
    sent_until = max(
        files.read_progress().next or history_end, history_end, now if sending else history_end
    )
    soonest = (sent_until + 3 * MINUTE).replace(second=0, microsecond=0)
    start = max(soonest, (now - 40 * MINUTE).replace(second=0, microsecond=0))
    kind, geo, platform = TARGETS[len(read_ground_truth(files.truth)) % len(TARGETS)]
    length = 20 * MINUTE if start + 20 * MINUTE <= now else 10 * MINUTE
    return Attack(
        kind=kind, geo=geo, platform=platform, start=start, end=start + length, strength=STRENGTH
    )


def form_value(attack: Attack) -> str:
    """The attack as the form of `run_streams` takes it; `Attack.parse` reads it."""
    minutes = (attack.end - attack.start) // MINUTE
    target = f"{attack.kind}:{attack.geo}:{attack.platform}"
    return f"{target}:{attack.start:%Y-%m-%dT%H:%MZ}:{minutes}m:{attack.strength:g}"
