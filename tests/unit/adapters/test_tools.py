"""Tools that run in the worker: marked functions, found, shown to the model and run."""

import asyncio
import functools
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from workers.adapters.tools import CallContext, Registry, tool
from workers.errors import Misconfigured
from workers.ports import ToolOutcome


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
        assert not outcome.ok
        assert "Call the tool again with arguments that fit its schema." in outcome.content
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
