"""The answer apart from the thought before it, however it is cut into pieces."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.core.citations.speech import Speech, heard


def said(pieces: list[str]) -> tuple[str, str]:
    speech = Speech()
    text, thought = "", ""
    for piece in pieces:
        new, idea = speech.hear(piece)
        text, thought = text + new, thought + idea
    return text + speech.end(), thought


@pytest.mark.parametrize(
    ("content", "text", "thought"),
    [
        ("Water boils [1].", "Water boils [1].", ""),
        ("\n Water boils [1]. \n", "Water boils [1].", ""),
        ("<think>Hm. [99]</think>\n\nWater boils [1].", "Water boils [1].", "Hm. [99]"),
        (" <think>a</thinkx></think>b", "b", "a</thinkx>"),
        ("<think>never ends", "", "never ends"),
        ("<thin", "<thin", ""),
        ("<thinking>", "<thinking>", ""),
        ("a <think>b</think>", "a <think>b</think>", ""),
        ("", "", ""),
        (" \n", "", ""),
    ],
)
def test_a_thought_at_the_beginning_is_no_part_of_the_text(content: str, text: str, thought: str) -> None:
    assert heard(content) == (text, thought)
    assert said(list(content)) == (text, thought)


PARTS = st.sampled_from(("<think>", "</think>", "<", "</", "think", ">", " ", "\n", "a", "[1]", "."))


@pytest.mark.requirement("CITE-10")
@given(st.lists(PARTS, max_size=12).map("".join), st.lists(st.integers(0, 60), max_size=5))
def test_the_pieces_joined_are_the_text_however_they_are_cut(content: str, places: list[int]) -> None:
    edges = [0, *sorted(min(place, len(content)) for place in places), len(content)]
    pieces = [content[a:b] for a, b in pairwise(edges)]
    assert said(pieces)[0] == said([content])[0] == heard(content)[0]
