"""Users with hashed ids and a heavy-tailed activity, Zipf campaigns and ads, user agents."""

import hashlib
from typing import Final

import numpy as np
import pyarrow as pa

from adnomaly.arrays import Floats, Ints
from adnomaly.synthetic.traffic import Traffic, random_numbers

CAMPAIGNS: Final = 60
ADS_PER_CAMPAIGN: Final = 8
ADS: Final = CAMPAIGNS * ADS_PER_CAMPAIGN
BOTS: Final = 1024
"""Identities of attackers, disjoint from every entity's users."""

USERS_PER_EPS: Final = 2500
MAX_USERS: Final = 400_000

_CAMPAIGN_EXPONENT: Final = 1.1
_AD_EXPONENT: Final = 0.8
_CONVERSION: Final = {"web": 0.034, "ios": 0.027, "android": 0.021}
_PEOPLE: Final = 3
"""Stream number of the population's random numbers."""

_BLINK: Final = "AppleWebKit/537.36 (KHTML, like Gecko)"
_WEBKIT: Final = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
_WINDOWS: Final = "Mozilla/5.0 (Windows NT 10.0; Win64; x64"

AGENTS: Final[dict[str, tuple[str, ...]]] = {
    "web": (
        f"{_WINDOWS}) {_BLINK} Chrome/142.0.0.0 Safari/537.36",
        f"{_WINDOWS}) {_BLINK} Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0",
        f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_WEBKIT} Version/18.6 Safari/605.1.15",
        f"{_WINDOWS}; rv:145.0) Gecko/20100101 Firefox/145.0",
        f"Mozilla/5.0 (X11; Linux x86_64) {_BLINK} Chrome/140.0.0.0 Safari/537.36",
        "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
    ),
    "android": (
        f"Mozilla/5.0 (Linux; Android 15; Pixel 9) {_BLINK} Chrome/142.0.0.0 Mobile Safari/537.36",
        f"Mozilla/5.0 (Linux; Android 14; SM-S921B) {_BLINK} Chrome/141.0.0.0 Mobile Safari/537.36",
        f"Mozilla/5.0 (Linux; Android 13; Redmi Note 12) {_BLINK} Chrome/139.0.0.0 Mobile Safari/537.36",
        f"Mozilla/5.0 (Linux; Android 14; SM-A546B) {_BLINK} SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36",
    ),
    "ios": (
        f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) {_WEBKIT} Version/18.6 Mobile/15E148 Safari/604.1",
        f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_7 like Mac OS X) {_WEBKIT} Version/17.7 Mobile/15E148 Safari/604.1",
        f"Mozilla/5.0 (iPad; CPU OS 18_6 like Mac OS X) {_WEBKIT} Version/18.6 Mobile/15E148 Safari/604.1",
    ),
}


class Population:
    """Users, ads and devices of one `Traffic`.

    Numbers index the text arrays `user_ids`, `agents`, `ad_names` and `campaign_names`.

    Attributes:
        user_ids: 32 lower hex digits per user, keyed with HASH_SALT; the last `BOTS` are attackers.
        first_user, users: first user and number of users per entity, (E,).
        agent_of: user agent number per user, constant.
        ad_cdf: cumulated share of each ad rank, (ADS,); rank 0 is the most clicked ad.
        ad_of: ad number per entity and rank, (E, ADS); large campaigns differ between geos.
        cpc: mean cost per click of each campaign.
        conversion: probability per entity that a click converts.
    """

    def __init__(self, traffic: Traffic) -> None:
        rng = random_numbers(traffic.seed, 0, _PEOPLE)
        total = min(MAX_USERS, int(traffic.base_eps * USERS_PER_EPS))
        self.users: Ints = np.maximum(20, np.round(traffic.shares * total)).astype(np.int64)
        self.first_user: Ints = np.concatenate([[0], np.cumsum(self.users)[:-1]])
        self.first_bot = int(self.users.sum())
        self.user_ids = pa.array(_hashed(self.first_bot + BOTS, traffic))
        self.agents = pa.array([agent for agents in AGENTS.values() for agent in agents])
        self.agent_of = self._devices(traffic, rng)
        self.campaign_names = pa.array([f"camp_{i:04d}" for i in range(CAMPAIGNS)])
        self.ad_names = pa.array([f"ad_{i:05d}" for i in range(ADS)])
        self.ad_cdf = np.cumsum(
            np.outer(
                _zipf(CAMPAIGNS, _CAMPAIGN_EXPONENT), _zipf(ADS_PER_CAMPAIGN, _AD_EXPONENT)
            ).ravel()
        )
        self.ad_of = self._ads(traffic, rng)
        self.cpc = np.exp(rng.normal(np.log(0.45), 0.5, CAMPAIGNS))
        self.conversion = np.array([_CONVERSION[platform] for _, platform in traffic.entities])

    def _devices(self, traffic: Traffic, rng: np.random.Generator) -> Ints:
        """A device per user, earlier ones of the list more common; attackers share very few."""
        first = dict(zip(AGENTS, np.cumsum([0, *map(len, AGENTS.values())]), strict=False))
        agent_of = np.empty(self.first_bot + BOTS, np.int64)
        for (_, platform), begin, count in zip(
            traffic.entities, self.first_user, self.users, strict=True
        ):
            agent_of[begin : begin + count] = first[platform] + rng.choice(
                len(AGENTS[platform]), count, p=_zipf(len(AGENTS[platform]), 1.0)
            )
        agent_of[self.first_bot :] = np.arange(BOTS) % 3 % len(self.agents)
        return agent_of

    def _ads(self, traffic: Traffic, rng: np.random.Generator) -> Ints:
        ranking = {geo: rng.permutation(CAMPAIGNS) for geo in traffic.geos}
        ads = {
            geo: (order[:, None] * ADS_PER_CAMPAIGN + np.arange(ADS_PER_CAMPAIGN)).ravel()
            for geo, order in ranking.items()
        }
        return np.stack([ads[geo] for geo, _ in traffic.entities])


def _zipf(count: int, exponent: float) -> Floats:
    """Shares of ranks 1..count, summing to 1."""
    weights = np.arange(1, count + 1) ** -exponent
    shares: Floats = weights / weights.sum()
    return shares


def _hashed(count: int, traffic: Traffic) -> list[str]:
    # BLAKE2 keys have at most 64 bytes, salts any length.
    key = hashlib.blake2b(traffic.hash_salt).digest()
    return [
        hashlib.blake2b(b"%d|%d" % (traffic.seed, i), digest_size=16, key=key).hexdigest()
        for i in range(count)
    ]
