"""The kinds of attacks: effect on traffic at strength 1, and source."""

from typing import Final, NamedTuple


class AttackKind(NamedTuple):
    """Effect of one kind of attack at strength 1.

    Attributes:
        label: one line for people.
        extra: clicks added, as a multiple of the entity's normal rate; times strength.
        lost: share of normal clicks removed; times strength, at most 0.95.
        ctr, bounce: mean of an added click, as a multiple of the entity's mean in that minute.
        users: number of attackers; 0 means the entity's regular users.
        campaigns: number of target campaigns; 0 means all, in their normal shares.
        conversion: probability that an added click converts; None is that of normal clicks.
        benign: no attack; must not be reported.
        length: multiple of 15 to 90 minutes.
        held_out: nothing may be tuned on this kind.
        source: publication that describes it.
    """

    label: str
    extra: float = 0.0
    lost: float = 0.0
    ctr: float = 1.0
    bounce: float = 1.0
    users: int = 0
    campaigns: int = 0
    conversion: float | None = 0.0
    benign: bool = False
    length: float = 1.0
    held_out: bool = False
    source: str = ""


KINDS: Final[dict[str, AttackKind]] = {
    "click_flood": AttackKind(
        "Many clicks from few users, without interest",
        extra=3.0,
        ctr=0.35,
        bounce=1.7,
        users=40,
        source="Metwally, Agrawal, El Abbadi: Detectives: detecting coalition "
        "hit inflation attacks, WWW 2007",
    ),
    "bot_farm": AttackKind(
        "A few devices click as much as all users together",
        extra=1.0,
        ctr=0.8,
        bounce=1.35,
        users=25,
        source="Stone-Gross et al.: Understanding fraudulent activities "
        "in online ad exchanges, IMC 2011",
    ),
    "ctr_inflation": AttackKind(
        "A few clicks that claim a far too high CTR",
        extra=0.10,
        ctr=5.0,
        users=60,
        source="Oentaryo et al.: Detecting click fraud in online advertising "
        "(FDMA 2012), JMLR 15, 2014",
    ),
    "bounce_masking": AttackKind(
        "Bots that stay on the page to look like readers",
        extra=0.30,
        bounce=0.25,
        users=80,
        source="White Ops: The Methbot operation, 2016",
    ),
    "low_and_slow": AttackKind(
        "A little more, for hours, from very few users",
        extra=0.35,
        ctr=0.6,
        bounce=1.25,
        users=15,
        length=4.0,
        source="Dave, Guha, Zhang: ViceROI: catching click-spam in search ad networks, CCS 2013",
    ),
    "campaign_drain": AttackKind(
        "A competitor burns the budget of one campaign",
        extra=0.8,
        ctr=1.6,
        bounce=1.3,
        users=50,
        campaigns=1,
        source="Daswani, Stoppelman: The anatomy of Clickbot.A, HotBots 2007",
    ),
    "click_injection": AttackKind(
        "Clicks that steal the credit for conversions",
        extra=0.5,
        users=120,
        conversion=0.3,
        source="AppsFlyer: The state of mobile fraud, 2018",
    ),
    "data_centre_burst": AttackKind(
        "A script on few machines, short and without restraint",
        extra=5.0,
        ctr=0.5,
        bounce=1.9,
        users=8,
        length=0.4,
        held_out=True,
        source="Media Rating Council: Invalid traffic detection and filtration guidelines, 2015",
    ),
    "conversion_fraud": AttackKind(
        "Paid people click and convert in three campaigns",
        extra=0.4,
        ctr=1.1,
        bounce=0.8,
        users=60,
        campaigns=3,
        conversion=0.6,
        held_out=True,
        source="Pearce et al.: Characterizing large-scale click fraud in ZeroAccess, CCS 2014",
    ),
    "click_hijack": AttackKind(
        "Clicks are redirected away and never arrive",
        lost=0.5,
        held_out=True,
        source="Alrwais et al.: Dissecting ghost clicks: ad fraud via misdirected "
        "human clicks, ACSAC 2012",
    ),
    "promotion": AttackKind(
        "A campaign that works: more of the same users", extra=0.6, conversion=None, benign=True
    ),
}
"""By name. The sizes at strength 1 are ours."""

ATTACKS: Final = tuple(name for name, kind in KINDS.items() if not kind.benign)
HELD_OUT: Final = tuple(name for name in ATTACKS if KINDS[name].held_out)
"""Kinds that nothing is tuned on."""
KNOWN: Final = tuple(name for name in ATTACKS if name not in HELD_OUT)
