"""Tools come and go between turns (TOOL-19): by settings and by a conversation's requests; the model is told so."""

from dataclasses import replace
from typing import Any

import pytest

from api_contracts import conversations
from api_contracts.chat import ChatRequest
from tests.unit.core.turns import T0, Life, check, kinds, local, request, says, wants
from workers.core.chat import acts
from workers.core.chat.acts import AskModel, TurnOpened
from workers.core.chat.cards import CATCH_ALL, ToolCard
from workers.core.chat.turn import ChatTurn
from workers.core.runs.frame import SignalArrived
from workers.core.runs.turns import Opened

pytestmark = pytest.mark.requirement("TOOL-19")

LOOK, CHARGE = local("look"), local("charge", "keyed")
REGISTERED = {"note": local("note")}
SHIP = {"name": "ship", "task": "svc.ship", "queue": "svc", "effect": "keyed", "description": "ships"}
SAID = [{"role": "user", "content": "first"}, {"role": "assistant", "content": "yes"}]


class Shop(Life):
    """A life in a worker that has tools registered."""

    def __post_init__(self) -> None:
        cards: dict[str, ToolCard] = {card.name: card for card in self.cards}
        self.machine = ChatTurn("run-1", self.request, cards, T0, "secret", find=REGISTERED.get)
        for event, at in self.journal:
            self.machine.fold(event, at)


def begun(*cards: ToolCard, **fields: Any) -> Shop:
    life = Shop(request(tools=[card.name for card in cards], **fields), cards)
    life.begin()
    return life


def change(life: Life, inbox: str = "1-0", /, **tools: Any) -> list[str]:
    return kinds(life.feed(SignalArrived(inbox, "update_settings", {"settings": {"tools": tools}})))


def offered(life: Life) -> list[str]:
    return [tool["function"]["name"] for tool in life.last(AskModel).body.get("tools", [])]


def asked(life: Life) -> list[str]:
    return [str(m["content"]) for m in life.last(AskModel).body["messages"]]


def talk(found: Opened, *cards: ToolCard, **fields: Any) -> Shop:
    fields = {"conversation": "c-1", "tools": [card.name for card in cards]} | fields
    life = Shop(
        ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "hi"}]} | fields), cards
    )
    life.begin(TurnOpened(found))
    return life


# -- while a run goes on -----------------------------------------------------------------------------------------------


def test_a_change_while_it_runs_holds_from_the_next_answer_on_and_the_model_is_told() -> None:
    life = begun(LOOK, CHARGE)
    assert change(life, ship=SHIP, note=True, charge=False) == ["chat.settings"]
    assert offered(life) == ["look", "charge"], "what it was asked with"
    life.answered(wants("look"))
    life.settled("1.0", "seen")
    assert offered(life) == ["look", "ship", "note"]
    assert asked(life)[-2:] == [
        "seen", "News of the tools: from here on there is note, ship. charge is not available any more.",
    ]  # fmt: skip
    told = life.last(conversations.ChatToolsChanged)
    assert (told.tools, told.first) == (["look", "ship", "note"], None)
    assert life.types.index("chat.tools") < len(life.types) - 1 - life.types[::-1].index("chat.requested")
    life.answered(wants("ship", "note"))
    assert life.ledger() == {"1.0": "succeeded", "2.0": "reserved", "2.1": "running"}
    assert life.last(acts.SendCall).task == "svc.ship"
    check(life)


def test_the_model_is_told_once_of_each_change_and_not_of_one_that_was_taken_back() -> None:
    life = begun(LOOK, CHARGE)
    change(life, charge=False)
    change(life, "2-0", charge=None)
    for turn in range(3):
        life.answered(wants(("look", f'{{"n": {turn}}}')))
        life.settled(f"{turn + 1}.0")
        if turn == 0:
            assert "chat.tools" not in life.types
            change(life, "3-0", charge=False)
    assert life.types.count("chat.tools") == 1
    assert offered(life) == ["look"]
    change(life, "4-0", charge=True)
    life.answered(wants(("look", '{"n": 4}')))
    life.settled("4.0")
    assert asked(life)[-1] == "News of the tools: from here on there is charge."


def test_before_it_was_asked_anything_there_is_nothing_to_tell() -> None:
    life = Shop(request(tools=["look"]), [LOOK])
    life.begin(SignalArrived("1-0", "update_settings", {"settings": {"tools": {"note": True}}}))
    life.answered(says())
    assert life.result["status"] == "completed"
    early = Shop(
        request(tools=["look"]), [LOOK], [(conversations.ChatSettingsChanged(changed={"tools": {"note": True}}), T0)]
    )
    early.begin()
    assert offered(early) == ["look", "note"]
    assert asked(early) == ["hi"]
    early.answered(wants("note"))
    early.settled("1.0")
    assert not [text for text in asked(early) if text.startswith("News")]
    check(early)


@pytest.mark.requirement("TOOL-02")
@pytest.mark.parametrize("catch_all", [False, True])
def test_a_call_to_a_tool_that_was_taken_away_is_answered_as_not_available(catch_all: bool) -> None:
    others = [ToolCard(CATCH_ALL, "", {"type": "object"}, "pure")] if catch_all else []
    life = Shop(request(tools=["look", "charge"]), [LOOK, CHARGE, *others])
    life.begin()
    change(life, charge=False)
    life.answered(wants("charge", "look"))
    life.settled("1.1", "seen")
    assert life.told() == ["The tool charge is not available.", "seen"]
    assert [event.call_id for event in life.events if event.TYPE == "tool.call_started"] == ["1.1"]
    check(life)


def test_a_call_that_is_under_way_stays_a_call_of_its_tool() -> None:
    slow = replace(CHARGE, timeout_s=5.0)
    life = Shop(request(tools=["look", "charge"]), [LOOK, slow])
    life.begin()
    life.answered(wants("charge"))
    change(life, charge=False)
    again = Shop(life.request, life.cards, list(life.journal), T0 + 1)
    again.begin()
    assert [each.name for each in again.trace if isinstance(each, acts.RunTool)] == ["charge"]
    again.settled("1.0", "paid")
    assert again.told() == ["paid"]
    check(again)


def test_a_successor_knows_the_tools_that_a_letter_brought() -> None:
    life = begun(LOOK)
    change(life, ship=SHIP)
    life.answered(wants("look"))
    life.settled("1.0")
    life.answered(wants("ship"))
    after = Shop(life.request, life.cards, list(life.journal), T0 + 1)
    after.begin()
    assert after.last(acts.SendCall).task == "svc.ship", "it may not have been sent"
    asking = [n for n, (event, _) in enumerate(life.journal) if event.TYPE == "chat.requested"][-1]
    again = Shop(life.request, life.cards, life.journal[: asking + 1], T0 + 1)
    again.begin()
    assert (offered(again), asked(again)) == (offered(life), asked(life)), "a replay gives the same"
    assert again.types.count("chat.tools") == 1
    check(after)


@pytest.mark.parametrize(
    ("tools", "why"),
    [
        ({"nope": True}, "no tool 'nope' is registered"),
        ({"ship": SHIP | {"name": "shop"}}, "another name"),
        ({"ship": SHIP | {"parameters": {"type": "object", "properties": 3}}}, "the parameters of tool 'ship'"),
        ({"a b": True}, "tools"),
        ([], "JSON object"),
    ],
)
def test_a_change_that_cannot_be_taken_changes_nothing(tools: Any, why: str) -> None:
    life = begun(LOOK)
    assert kinds(life.feed(SignalArrived("1-0", "update_settings", {"settings": {"tools": tools}}))) == ["run.ignored"]
    assert why in life.last(type(life.events[-1])).model_dump_json()
    life.answered(wants("look"))
    life.settled("1.0")
    assert offered(life) == ["look"]


def test_tools_do_not_come_to_a_run_that_asks_for_several_answers() -> None:
    life = Shop(request(n=2))
    life.begin()
    assert change(life, note=True) == ["run.ignored"]


# -- from turn to turn of a conversation -------------------------------------------------------------------------------


def test_what_a_conversation_keeps_of_tools_holds_in_its_next_turn_and_is_told_before_the_question() -> None:
    first = talk(Opened(0), LOOK, CHARGE)
    first.answered(says("yes"))
    assert first.end is not None
    assert first.end.turn is not None
    assert first.end.turn.settings == {"offered": ["look", "charge"]}
    assert "chat.tools" not in first.types
    kept = Opened(1, SAID, first.end.turn.settings)
    second = talk(kept, LOOK, conversation={"id": "c-1", "settings": {"tools": {"ship": SHIP}}})
    assert offered(second) == ["look", "ship"]
    assert asked(second) == [
        "first", "yes", "News of the tools: from here on there is ship. charge is not available any more.", "hi",
    ]  # fmt: skip
    second.answered(says("done"))
    assert second.end is not None
    assert second.end.turn is not None
    assert [each["role"] for each in second.end.turn.messages] == ["user", "user", "assistant"]
    settings = second.end.turn.settings
    assert settings is not None
    assert settings["offered"] == ["look", "ship"]
    third = talk(Opened(2, SAID, settings, 2), LOOK)
    assert offered(third) == ["look", "ship"]
    assert asked(third) == ["first", "yes", "hi"]
    third.answered(says())
    assert third.end is not None
    assert third.end.turn is not None
    assert third.end.turn.settings is None
    check(second)


def test_a_successor_in_the_conversation_says_the_same() -> None:
    kept = Opened(1, SAID, {"offered": ["look", "charge"]})
    life = talk(kept, LOOK)
    again = Shop(life.request, life.cards, list(life.journal), T0 + 1)
    again.begin(TurnOpened(kept))
    assert asked(again) == asked(life)
    assert again.types.count("chat.tools") == 1
    check(again)


def test_tools_that_come_to_a_conversation_without_any_are_told_of() -> None:
    assert asked(talk(Opened(1, SAID), LOOK))[2] == "News of the tools: from here on there is look."
    new = talk(Opened(1, SAID[:1]), LOOK)
    assert asked(new) == ["first", "hi"], "nothing was asked of it yet"
    replaced = talk(Opened(1, SAID), LOOK, conversation={"id": "c-1", "replace": True})
    assert asked(replaced) == ["hi"], "the model is shown nothing of what was before"


def test_a_turn_that_brings_a_tool_that_nobody_has_is_refused() -> None:
    life = talk(Opened(0), conversation={"id": "c-1", "settings": {"tools": {"nope": True}}})
    assert life.end is not None
    assert life.end.failure is not None
    assert "nope" in life.end.failure.message


def test_a_tool_of_the_settings_that_this_worker_has_no_more_is_taken_away() -> None:
    life = talk(Opened(1, SAID, {"offered": ["look", "gone"], "tools": {"gone": True}}), LOOK)
    assert offered(life) == ["look"]
    assert "gone is not available any more" in asked(life)[2]


def test_a_tool_that_is_forced_but_was_taken_away_is_not_asked_for() -> None:
    choice = {"type": "function", "function": {"name": "charge"}}
    settings = {"offered": ["look"], "tools": {"charge": False}}
    life = talk(Opened(1, SAID, settings), LOOK, CHARGE, tool_choice=choice)
    assert offered(life) == ["look"]
    assert life.last(AskModel).body["tool_choice"] == "auto"
