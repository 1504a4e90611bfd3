"""Names for containers that were given none: an adjective and a noun that are easy to say and to type."""

from __future__ import annotations

import random
from collections.abc import Container

_ADJECTIVES = (
    "able amber bold brave brief bright brisk calm clean clear clever cool crisp deep early eager even fair fine firm "
    "fleet fresh gentle glad grand green keen kind large light lively long lucky mellow merry mild neat nimble noble "
    "open plain prime proud quick quiet rapid ready sharp short silver smart smooth snug solid steady still sunny "
    "swift tidy tall true warm wide wise young"
)
_NOUNS = (
    "anchor barge bay beacon berth boat bow bridge brig buoy cabin canal cape channel cliff coast cove crane crew "
    "current deck delta dock dune ferry fjord fleet foam gale galley gull harbour haven helm hull inlet island jetty "
    "keel lagoon ledge lock mast mole oar otter pier pilot port prow quay raft reef rigging river rudder sail seal "
    "shoal shore skiff sloop sound spar stern strait surf tern tide tiller wave wharf wind yawl"
)


def pick(taken: Container[str]) -> str:
    """A name that is not in ``taken``; a number is added once chance fails to find one."""
    adjectives, nouns = _ADJECTIVES.split(), _NOUNS.split()
    for attempt in range(1000):
        name = f"{random.choice(adjectives)}-{random.choice(nouns)}"  # noqa: S311  # a name, not a secret
        if attempt >= 20:
            name += f"-{attempt}"
        if name not in taken:
            return name
    raise AssertionError("a thousand names are taken")
