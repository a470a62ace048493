"""How many tokens a text has, at most: without the model's tokenizer, so rather too many than too few."""

import string
from typing import Final

_WORDS: Final = (string.ascii_letters + " ").encode()
_HIGH: Final = bytes(range(128, 256))

_LETTERS_PER_TOKEN, _HIGH_BYTES_PER_TOKEN = 3, 2
"""English has 4 to 5 letters a token. Of scripts beyond ASCII, two bytes of UTF-8 are taken for one token: a Cyrillic
letter, two thirds of a Chinese sign, half an emoji."""


def token_estimate(text: str) -> int:
    """Return a count of tokens that real tokenizers seldom pass: digits and punctuation count one each."""
    data = text.encode(errors="replace")
    others = data.translate(None, _WORDS)
    signs = others.translate(None, _HIGH)
    words, high = len(data) - len(others), len(others) - len(signs)
    return -(-words // _LETTERS_PER_TOKEN) + len(signs) - (-high // _HIGH_BYTES_PER_TOKEN)
