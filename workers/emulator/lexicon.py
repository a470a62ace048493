"""Words for the sampler. Some are not ASCII on purpose: a client that cuts UTF-8 in half should meet them every day."""

from collections.abc import Iterator
from random import Random

LABELS = ("name", "title", "summary", "count", "status", "place", "score", "note", "kind", "size")


def _listed(text: str) -> tuple[str, ...]:
    return tuple(entry.strip() for entry in text.split(",") if entry.strip())


_SUBJECTS = _listed("""
    The harbour, A careful reader, This approach, The old café, Our neighbour, Every signal, The naïve plan,
    A small team, The next train, Ångström's table, The archive, A quiet room, The garden, One long answer
""")
_VERBS = _listed("keeps, explains, measures, carries, follows, gathers, repairs, suggests, holds, reveals, outlasts")
_OBJECTS = _listed("""
    a clear pattern, the first draft, more than it shows, the whole story, a piñata of ideas, its own rhythm,
    the missing piece, a better question, three small steps, the evening light, what others forget
""")
_TAILS = _listed("""
    before noon, without a word, in plain sight, for a while, after the rain, on most days, over time, at 20 °C,
    — or so they say, again and again, if you look closely
""")
_WORDS = _listed("""
    amber, basil, cedar, delta, ember, fjord, grove, haven, iris, jade, kelp, lumen, maple, north, opal, pearl, quartz,
    river, Zürich, smörgås, 東京, déjà vu
""")


def sentence(rng: Random) -> str:
    """One sentence that means nothing in particular."""
    return f"{rng.choice(_SUBJECTS)} {rng.choice(_VERBS)} {rng.choice(_OBJECTS)} {rng.choice(_TAILS)}."


def sentences(rng: Random) -> Iterator[str]:
    """Sentences without end, each after the first with a blank before it."""
    yield sentence(rng)
    while True:
        yield f" {sentence(rng)}"


def phrase(rng: Random) -> str:
    """One to three words."""
    return " ".join(rng.choice(_WORDS) for _ in range(rng.randint(1, 3)))
