"""Texts that a grammar accepts, made by walking through it blindly: whatever it allows comes up."""

from random import Random

from workers.core.grammar import Grammar, Matcher

_PIECES = """
    Foo foo bar A 7 12 3.14 a.com/x?y=1 Dr. dr. e.g. (e.g. etc. al. U.S. J. No. p.m. Jan. 5. 12. C. . . ! ? ... ?!
    " " ' ) ( “ ” « » , ; : - 。 」 「 । ] { } ^1 (1) {2} \u30101\u3011
    [1] [1] [1] [2] [3][1] [9] [10] [37] [99] [01] [0] [
"""
PIECES = _PIECES.split()
SPACES = (" ", " ", " ", " ", "", "", "\n", "\n\n", "  ", "\t", "\u00a0")


def walk(grammar: Grammar, random: Random, length: int) -> str:
    """Return an accepted text of about `length` characters, or a little more."""
    matcher = Matcher(grammar)
    text = ""
    while len(text) < length:
        piece = _piece(matcher, random)
        if not piece or not matcher.feed(piece):
            break
        text += piece
    while not matcher.complete:
        text += matcher.way_out()[0][0]
        assert matcher.feed(text[-1])
    return text


def _piece(matcher: Matcher, random: Random) -> str:
    """Return something that may come next: words as people write them, or any character."""
    for _ in range(20):
        piece = random.choice(SPACES) + random.choice(PIECES)
        if matcher.copy().feed(piece):
            return piece
    ranges = matcher.choices()
    if not ranges:
        return ""
    low, high = random.choice(ranges)
    return chr(random.randint(ord(low), min(ord(high), ord(low) + 200)))
