"""Tools that run in the worker: marked functions, found, shown to the model and run."""

import asyncio
import functools
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from api_contracts.chat import ToolSpec
from workers.adapters.tools import CallContext, DidNotHappen, Happened, Registry, Reply, catch_all, tool
from workers.core.chat.cards import CATCH_ALL
from workers.errors import Misconfigured
from workers.ports import PROGRESS, Reconciled, ToolOutcome


async def ran(function: Callable[..., Any], /, **arguments: Any) -> ToolOutcome:
    return await Registry([function]).run(function.__name__, arguments, key="k")


def card(function: Callable[..., Any]) -> Any:
    return Registry([function]).card(function.__name__)


# -- what the model is shown -------------------------------------------------------------------------------------------


@pytest.mark.requirement("TOOL-01")
def test_the_schema_comes_from_the_signature_and_the_docstring() -> None:
    @tool(effect="idempotent", timeout_s=5)
    async def weather(city: str, days: Annotated[int, Field(ge=1)] = 3, unit: Literal["c", "f"] = "c") -> str:
        """Tell the weather.

        Args:
            city: Where.
            days: How far ahead.
        """
        return f"{city} {days} {unit}"

    found = card(weather)
    assert (found.name, found.description, found.effect, found.timeout_s) == (
        "weather", "Tell the weather.", "idempotent", 5,
    )  # fmt: skip
    assert (found.task, found.queue) == (None, None)
    assert found.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Where.", "title": "City"},
            "days": {"type": "integer", "minimum": 1, "default": 3, "description": "How far ahead.", "title": "Days"},
            "unit": {"type": "string", "enum": ["c", "f"], "default": "c", "title": "Unit"},
        },
        "required": ["city"],
        "additionalProperties": False,
    }


@pytest.mark.requirement("TOOL-01")
def test_a_function_without_docstring_and_arguments_is_a_tool_too() -> None:
    @tool(effect="pure", name="now-1")
    def clock() -> int:
        return 1

    found = Registry([clock]).card("now-1")
    assert found is not None
    assert (found.description, found.parameters["properties"]) == ("", {})
    assert Registry([clock]).names == ["now-1"]
    assert clock() == 1, "marking changes nothing about the function"


@pytest.mark.requirement("TOOL-01")
@pytest.mark.parametrize("name", ["with space", "ümlaut", "a.b", "x" * 65])
def test_a_name_that_the_provider_refuses_is_refused_at_once(name: str) -> None:
    with pytest.raises(ValueError, match="is refused"):
        tool(effect="pure", name=name)(lambda: None)


def test_a_tool_needs_an_end() -> None:
    with pytest.raises(ValueError, match="never unbounded"):
        tool(effect="pure", timeout_s=0)


def test_an_unknown_tool_has_no_card() -> None:
    assert Registry().card("fly") is None


# -- finding them ------------------------------------------------------------------------------------------------------


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    made = ModuleType("acme_tools")
    monkeypatch.setitem(sys.modules, "acme_tools", made)
    return made


def given(module: ModuleType, function: Callable[..., Any], name: str = "") -> None:
    function.__module__ = module.__name__
    setattr(module, name or function.__name__, function)


@pytest.mark.requirement("TOOL-01")
def test_the_marked_functions_of_a_module_are_its_tools(module: ModuleType) -> None:
    @tool(effect="pure")
    def mine() -> None: ...

    def unmarked() -> None: ...

    @tool(effect="pure")
    def imported() -> None: ...

    given(module, mine)
    given(module, unmarked)
    setattr(module, "imported", imported)  # noqa: B010 - it belongs to another module
    assert Registry.load("acme_tools").names == ["mine"]
    assert Registry.load(" acme_tools , ").names == ["mine"]
    assert Registry.load("").names == []


@pytest.mark.requirement("TOOL-10")
def test_each_policy_of_a_tool_is_on_its_card(module: ModuleType) -> None:
    @tool(effect="keyed", on_interrupt="cancel", show="state", wait=False)
    def mine() -> None: ...

    @tool(effect="keyed")
    def plain() -> None: ...

    given(module, mine)
    given(module, plain)
    found = Registry.load("acme_tools")
    cards = [card for name in ("mine", "plain") if (card := found.card(name))]
    assert [(card.on_interrupt, card.show, card.wait) for card in cards] == [
        ("cancel", "state", False), (None, "result", True),
    ]  # fmt: skip


def _star(*args: int) -> None: ...
def _stars(**kwargs: int) -> None: ...
def _position(a: int, /) -> None: ...
def _untyped(a) -> None: ...  # type: ignore[no-untyped-def]  # the fault that is looked for
def _strange(a: threading.Lock) -> None: ...
def _forward(a: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821
def _hidden(_a: int) -> None: ...


@pytest.mark.requirement("TOOL-01", "OPS-17")
@pytest.mark.parametrize("function", [_star, _stars, _position, _untyped, _strange, _forward, _hidden])
def test_a_function_that_cannot_be_a_tool_stops_the_process_with_one_line(
    module: ModuleType, function: Callable[..., Any]
) -> None:
    @functools.wraps(function)
    def fresh(*args: Any, **kwargs: Any) -> None: ...

    given(module, tool(effect="pure", name="odd")(fresh))
    with pytest.raises(Misconfigured, match="FW_TOOLS: tool 'odd': "):
        Registry.load("acme_tools")


@pytest.mark.requirement("OPS-17")
def test_two_tools_of_one_name_stop_the_process(module: ModuleType) -> None:
    for attribute in ("one", "other"):

        @tool(effect="pure", name="same")
        def same() -> None: ...

        given(module, same, attribute)
    with pytest.raises(Misconfigured, match="two tools are named 'same'"):
        Registry.load("acme_tools")


@pytest.mark.requirement("OPS-17")
def test_a_module_that_cannot_be_imported_stops_the_process() -> None:
    with pytest.raises(Misconfigured, match="cannot import 'no_such_module_of_ours'"):
        Registry.load("no_such_module_of_ours")


# -- running them ------------------------------------------------------------------------------------------------------


async def test_async_and_sync_functions_are_run_alike() -> None:
    loop_thread = threading.get_ident()

    @tool(effect="pure")
    async def there(a: int) -> list[Any]:
        return [a, threading.get_ident() == loop_thread]

    @tool(effect="pure")
    def here(a: int) -> list[Any]:
        return [a, threading.get_ident() == loop_thread]

    assert await ran(there, a=1) == ToolOutcome(ok=True, content="[1, true]")
    assert await ran(here, a=1) == ToolOutcome(ok=True, content="[1, false]"), "a sync function blocks a thread only"


@pytest.mark.requirement("TOOL-11")
async def test_a_tool_that_asks_for_it_gets_the_calls_key() -> None:
    @tool(effect="keyed")
    async def pay(context: CallContext, eur: int) -> str:
        return f"{eur} under {context.key}"

    assert list(card(pay).parameters["properties"]) == ["eur"]
    assert (await Registry([pay]).run("pay", {"eur": 5}, key="key-1")).content == "5 under key-1"


@pytest.mark.requirement("TOOL-09")
@pytest.mark.parametrize(
    ("value", "content"),
    [(0, "0"), (False, "false"), ([], "[]"), ({}, "{}"), ("", ""), (None, "null"), ("te\nxt", "te\nxt"), ("ü", "ü")],
)
async def test_falsy_values_are_results_like_any_other(value: Any, content: str) -> None:
    @tool(effect="pure")
    async def give() -> Any:
        return value

    assert await ran(give) == ToolOutcome(ok=True, content=content)


class Point(BaseModel):
    x: int


@pytest.mark.requirement("TOOL-04")
async def test_arguments_are_checked_against_the_schema_before_the_tool_runs() -> None:
    began = []

    @tool(effect="at_most_once")
    async def act(count: int, point: Point) -> str:
        began.append(count)
        return f"{count} {point.x}"

    assert (await ran(act, count="3", point={"x": 1})).content == "3 1"
    for wrong in ({}, {"count": "many", "point": {"x": 1}}, {"count": 1, "point": {"x": 1}, "more": 1}):
        outcome = await ran(act, **wrong)
        assert (outcome.ok, outcome.code) == (False, "invalid_arguments")
    assert began == [3]
    assert "point.x: " in (await ran(act, count=1, point={})).content, "the model is told where"


@pytest.mark.requirement("TOOL-08")
@pytest.mark.parametrize("error", [ValueError("secret"), SystemExit(3), StopIteration("secret"), KeyError()])
@pytest.mark.parametrize("sync", [True, False])
async def test_whatever_a_tool_raises_the_model_reads_a_neutral_text(error: BaseException, sync: bool) -> None:
    def act() -> None:
        raise error

    async def act_async() -> None:
        raise error

    function = tool(effect="pure")(act if sync else act_async)
    outcome = await asyncio.wait_for(ran(function), timeout=5)
    assert (outcome.ok, outcome.content) == (False, "The tool failed.")
    assert type(error).__name__ in outcome.detail or "StopIteration" in outcome.detail


@pytest.mark.requirement("TOOL-08")
async def test_a_tool_whose_own_work_was_cancelled_failed_and_was_not_stopped() -> None:
    @tool(effect="pure")
    async def act() -> None:
        raise asyncio.CancelledError

    outcome = await ran(act)
    assert (outcome.ok, outcome.detail) == (False, "CancelledError: ")


async def test_a_tool_that_is_stopped_is_stopped() -> None:
    began = asyncio.Event()

    @tool(effect="pure")
    async def act() -> None:
        began.set()
        await asyncio.get_running_loop().create_future()

    running = asyncio.create_task(ran(act))
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_an_async_function_under_a_plain_decorator_is_awaited() -> None:
    async def inner() -> str:
        return "awaited"

    @tool(effect="pure")
    def outer() -> Any:
        return inner()

    assert await ran(outer) == ToolOutcome(ok=True, content="awaited")


@pytest.mark.requirement("TOOL-09")
@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", Point(x=1)])
async def test_a_result_that_is_not_json_is_an_explicit_error(value: Any) -> None:
    @tool(effect="pure")
    async def give() -> Any:
        return value

    outcome = await ran(give)
    assert (outcome.ok, outcome.content) == (False, "The tool failed.")
    assert "its result is not JSON" in outcome.detail


@pytest.mark.requirement("TOOL-09")
async def test_a_result_that_contains_itself_is_an_explicit_error() -> None:
    @tool(effect="pure")
    async def give() -> Any:
        value: list[Any] = []
        value.append(value)
        return value

    assert not (await ran(give)).ok


@pytest.mark.requirement("TOOL-09")
@pytest.mark.parametrize(("text", "ok"), [("ü" * 32 * 1024, True), ("ü" * 32 * 1024 + ".", False)])
async def test_a_result_over_64_kb_is_an_explicit_error(text: str, ok: bool) -> None:
    @tool(effect="pure")
    async def give() -> str:
        return text

    outcome = await ran(give)
    assert outcome.ok == ok
    if not ok:
        assert outcome == ToolOutcome(ok=False, content="The tool's result is too large.", detail="65537 bytes")


@pytest.mark.requirement("TOOL-02")
async def test_a_handler_of_unknown_tools_gets_their_name_and_arguments() -> None:
    @catch_all(effect="idempotent", timeout_s=5)
    async def other(name: str, arguments: dict[str, Any], context: CallContext) -> str:
        return f"{name} {arguments} {context.key}"

    registry = Registry([other])
    card = registry.card(CATCH_ALL)
    assert card is not None
    assert (card.effect, card.timeout_s, card.parameters) == ("idempotent", 5, {"type": "object"})
    assert registry.names == [], "nobody can ask for it by name"
    outcome = await registry.run(CATCH_ALL, {"name": "fly", "arguments": {"to": "Oslo"}}, key="k")
    assert outcome == ToolOutcome(ok=True, content="fly {'to': 'Oslo'} k")


@pytest.mark.requirement("TOOL-02")
def test_a_handler_of_unknown_tools_with_other_parameters_is_refused() -> None:
    @catch_all(effect="pure")
    async def other(name: str) -> None: ...

    with pytest.raises(ValueError, match="has the parameters 'name' and 'arguments'"):
        Registry([other])


@pytest.mark.requirement("TOOL-07")
@pytest.mark.parametrize("timeout_s", [0, -1, 86401, float("inf"), float("nan")])
@pytest.mark.parametrize("decorator", [tool, catch_all])
def test_no_call_is_without_an_end(decorator: Any, timeout_s: float) -> None:
    with pytest.raises(ValueError, match="at most a day"):
        decorator(effect="pure", timeout_s=timeout_s)


@pytest.mark.requirement("TOOL-07")
def test_a_call_has_a_minute_unless_its_tool_says_otherwise() -> None:
    @tool(effect="pure")
    def act() -> None: ...

    card = Registry([act]).card("act")
    assert card is not None
    assert card.timeout_s == 60
    assert ToolSpec.model_validate({"name": "a", "task": "t", "queue": "q"}).timeout_s == 60
    for wrong in (0, 86401, float("inf")):
        with pytest.raises(ValidationError):
            ToolSpec.model_validate({"name": "a", "task": "t", "queue": "q", "timeout_s": wrong})


def _raises() -> None:
    raise ConnectionError


@pytest.mark.requirement("TOOL-11")
@pytest.mark.parametrize(
    ("said", "found"),
    [
        (lambda: Happened({"n": 0}), Reconciled(happened=True, content='{"n": 0}')),
        (lambda: Happened(None), Reconciled(happened=True, content="null")),
        (lambda: DidNotHappen(), Reconciled(happened=False)),
        (lambda: None, Reconciled(None)),
        (lambda: Happened(object()), Reconciled(None)),
        (lambda: "nonsense", Reconciled(None)),
        (_raises, Reconciled(None)),
    ],
)
@pytest.mark.parametrize("sync", [True, False])
async def test_a_tool_is_asked_with_the_arguments_and_the_key_of_the_lost_call(
    said: Callable[[], Any], found: Reconciled, sync: bool
) -> None:
    asked = []

    def hook(what: str, context: CallContext) -> Any:
        asked.append((what, context.key))
        return said()

    async def slow(what: str, context: CallContext) -> Any:
        return hook(what, context)

    @tool(effect="at_most_once", reconcile=hook if sync else slow)
    async def act(what: str, context: CallContext) -> None: ...

    registry = Registry([act])
    card = registry.card("act")
    assert card is not None
    assert card.reconciles
    assert await registry.reconcile("act", {"what": "x"}, key="k") == found
    assert asked == [("x", "k")]


@pytest.mark.requirement("TOOL-11")
async def test_a_hook_that_takes_too_long_or_is_none_knows_nothing() -> None:
    async def hook() -> None:
        await asyncio.Event().wait()

    @tool(effect="at_most_once", timeout_s=0.01, reconcile=hook)
    async def stuck() -> None: ...

    @tool(effect="at_most_once")
    async def bare() -> None: ...

    registry = Registry([stuck, bare])
    for name in ("stuck", "bare"):
        assert await registry.reconcile(name, {}, key="k") == Reconciled(None)
    card = registry.card("bare")
    assert card is not None
    assert not card.reconciles


@pytest.mark.requirement("TOOL-17")
@pytest.mark.parametrize("sync", [True, False])
async def test_a_tool_tells_how_far_it_is(sync: bool) -> None:
    told: list[object] = []

    def work(context: CallContext) -> None:
        context.progress({"done": 1})

    async def later(context: CallContext) -> None:
        work(context)

    act = tool(effect="pure", name="act")(work if sync else later)
    assert (await Registry([act]).run("act", {}, key="k")).ok, "where nobody listens nothing is told"
    PROGRESS.set(told.append)
    await Registry([act]).run("act", {}, key="k")
    assert told == [{"done": 1}]


@pytest.mark.requirement("TOOL-14", "TOOL-09")
@pytest.mark.parametrize("run_llm", [True, False, None])
@pytest.mark.parametrize(
    ("value", "content"), [(0, "0"), (False, "false"), ([], "[]"), ({}, "{}"), ("", ""), (None, "null")]
)
async def test_a_tool_says_whether_its_result_wants_an_answer_however_falsy(
    run_llm: bool | None, value: Any, content: str
) -> None:
    @tool(effect="pure")
    async def give() -> Reply:
        return Reply(value, run_llm=run_llm)

    assert await ran(give) == ToolOutcome(ok=True, content=content, run_llm=run_llm)


@pytest.mark.requirement("TOOL-14")
@pytest.mark.parametrize("fails", [True, False])
async def test_what_is_to_follow_is_handed_on_and_not_done_yet(fails: bool) -> None:
    done = []

    def after() -> None:
        done.append(1)
        if fails:
            raise ConnectionError

    @tool(effect="pure")
    async def give() -> Reply:
        return Reply(0, after=after)

    outcome = await ran(give)
    assert (outcome.ok, outcome.content, done) == (True, "0", [])
    assert outcome.follow_up is not None
    await outcome.follow_up()
    assert done == [1], "and what it raises is its own business"


@pytest.mark.requirement("TOOL-14")
async def test_nothing_follows_from_a_result_that_cannot_be_kept() -> None:
    @tool(effect="pure")
    async def give() -> Reply:
        return Reply(object(), run_llm=False, after=pytest.fail)

    outcome = await ran(give)
    assert (outcome.ok, outcome.run_llm, outcome.follow_up) == (False, None, None)
