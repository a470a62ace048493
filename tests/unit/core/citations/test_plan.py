"""What the model is asked: the passages, the form in words, and the same form as a grammar."""

import re
from typing import Any

import pytest

from api_contracts.chat import ChatRequest
from api_contracts.citations import CiteRequest
from workers.core.citations.plan import Plan
from workers.core.citations.tokens import token_estimate
from workers.core.grammar import parse

SOURCES: list[dict[str, Any]] = [
    {"id": "a", "content": "Water boils at 100 °C.", "metadata": {"title": "On Water"}},
    {"id": "b", "content": "Ice melts at 0 °C. [12] is \"quoted\" & <b>bold</b>."},
    {"id": "c", "content": "Steam. " * 300},
]  # fmt: skip


def plan(**fields: Any) -> Plan:
    asked = {"model": "accounts/f/models/m", "question": "When does water boil?", "sources": SOURCES, **fields}
    return Plan(CiteRequest.model_validate(asked))


@pytest.mark.requirement("CITE-04")
@pytest.mark.parametrize("policy", ["required", "auto"])
@pytest.mark.parametrize("tight", [False, True])
def test_the_prompt_holds_every_passage_and_asks_for_the_form_that_is_forced(policy: str, tight: bool) -> None:
    made = plan(policy=policy)
    form = made.form(tight=tight)
    body = made.body(form)
    system, user = (message["content"] for message in body["messages"])
    for number, piece in enumerate(made.shown.pieces, 1):
        assert f'<passage number="{number}"' in user
        assert piece.text in user, "the very words that citations are checked against"
    assert len(made.shown.pieces) == user.count("<passage number=") == form.numbers > 3
    assert user.endswith("Question: When does water boil?")
    assert system == form.instruction
    assert body["response_format"] == {"type": "grammar", "grammar": form.grammar}
    grammar = parse(body["response_format"]["grammar"])
    examples = re.findall(r"^Example: (.*)$", system, re.MULTILINE)
    assert len(examples) > 1
    assert all(grammar.matches(example) for example in examples)
    assert grammar.rule("number").matches(str(form.numbers))
    assert not grammar.rule("number").matches(str(form.numbers + 1))


@pytest.mark.requirement("CITE-04", "CITE-05")
def test_the_second_try_is_told_what_the_tighter_grammar_wants() -> None:
    made = plan(max_sentences=8)
    system = made.body(made.form(tight=True))["messages"][0]["content"]
    assert "at most 4 complete sentences" in system
    assert "at most 40 words" in system


def test_what_the_caller_wants_of_the_tone_comes_after_our_form() -> None:
    system = plan(instructions=" Answer in French. ").body(plan().first)["messages"][0]["content"]
    assert system.startswith("Answer the question from the numbered passages")
    assert system.endswith("\n\nAnswer in French.")


@pytest.mark.requirement("CHAT-01")
def test_the_body_is_one_that_the_provider_takes() -> None:
    made = plan(temperature=0.2, seed=0, reasoning_effort="low", tenant="t", labels={"a": "b"}, extra={"min_p": 0.1})
    body = made.body(made.first)
    assert (body["temperature"], body["seed"], body["reasoning_effort"], body["min_p"]) == (0.2, 0, "low", 0.1)
    assert body["context_length_exceeded_behavior"] == "error"
    assert body["safe_tokenization"] is True
    ours = {"safe_tokenization"}  # the provider's too, and not typed in the chat's contract
    ChatRequest.model_validate({key: value for key, value in body.items() if key not in ours})
    assert plan(extra={"safe_tokenization": False}).body(made.first)["safe_tokenization"] is False


@pytest.mark.requirement("CITE-05")
def test_there_is_room_for_every_sentence_unless_the_caller_says_otherwise() -> None:
    assert plan(max_sentences=10).body(plan(max_sentences=10).first)["max_tokens"] == 864
    assert plan(max_tokens=100).body(plan().first)["max_tokens"] == 100
    tight = plan(max_sentences=10).form(tight=True)
    longest = " ".join(["internationalisation " * 39 + "end [999][999][999][999]."] * tight.sentences)
    assert token_estimate("word " * 39) + 20 < tight.max_tokens / tight.sentences
    assert tight.max_tokens < token_estimate(longest), "a bound on words is none on tokens: truncation stays a failure"


@pytest.mark.requirement("CITE-01")
def test_the_journal_says_what_the_numbers_mean() -> None:
    made = plan(passage_tokens=400)
    event = made.resolved()
    assert event.passages[:2] == [(1, 0, 22), (2, 0, len(SOURCES[1]["content"]))]
    for (place, start, end), piece in zip(event.passages, made.shown.pieces, strict=True):
        assert SOURCES[place - 1]["content"][start:end] == piece.text
    assert (event.left_out, event.grammar) == (0, made.first.digest)
    prompt = "".join(message["content"] for message in made.messages(made.first))
    assert event.prompt_tokens == pytest.approx(token_estimate(prompt), abs=2)
    assert event.grammar_bytes == len(made.first.grammar.encode())


def test_two_workers_ask_the_same() -> None:
    assert plan().body(plan().first) == plan().body(plan().first)
    assert plan().resolved() == plan().resolved()
