"""A recording of a human voice, what was said in it, and how much of it an engine got wrong."""

from collections.abc import Sequence
from pathlib import Path

import workers.cli.demo
from workers.emulator.speech import read_wav, silence

_HERE = Path(__file__).parent
_DEMO = Path(workers.cli.demo.__file__).parent / "voice" / "sense-and-sensibility.wav"
_FIRST = """and mister john dashwood had then leisure to consider how much there might be prudently in his power
to do for them"""
_SAID = (
    ("0870", _FIRST),
    ("0880", "he was not an ill disposed young man"),
    ("0890", "unless to be rather cold hearted and rather selfish is to be ill disposed"),
    ("0920", "had he married a more amiable woman he might have been made still more respectable than he was"),
    ("0930", "he might even have been made amiable himself"),
)
_BREATH_S = 0.5


def recording() -> tuple[bytes, list[str]]:
    """Return 27 seconds of a voice as PCM, and its 70 words."""
    files = {name: _DEMO if name == "0920" else _HERE / f"sense-and-sensibility-{name}.wav" for name, _ in _SAID}
    pcm = b"".join(read_wav(file.read_bytes()) + silence(_BREATH_S) for file in files.values())
    return pcm, [word for _, sentence in _SAID for word in sentence.split()]


def error_rate(said: Sequence[str], heard: Sequence[str]) -> float:
    """Return the word error rate in percent: words put in, left out and mistaken, for each hundred that were said."""
    heard = " ".join(heard).replace("-", " ").split()
    row = list(range(len(heard) + 1))
    for count, word in enumerate(said, 1):
        above, row = row, [count]
        for at, other in enumerate(heard, 1):
            row.append(min(row[-1] + 1, above[at] + 1, above[at - 1] + (plain(word) != plain(other))))
    return 100 * row[-1] / len(said)


def plain(word: str) -> str:
    """Return the word without capitals and signs, and one spelling where a reader cannot hear which it is."""
    bare = "".join(each for each in word.casefold() if each.isalnum())
    return {"mister": "mr"}.get(bare, bare)
