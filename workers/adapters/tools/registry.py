"""`ToolBox` over the functions that `@tool` marked in the modules of `FW_TOOLS`."""

import asyncio
import importlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import structlog
from docstring_parser import parse
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from workers.adapters.tools.marks import MARK, CallContext, DidNotHappen, Happened, Mark, Reply
from workers.core.chat.cards import CATCH_ALL, RESERVED, ToolCard
from workers.errors import Misconfigured
from workers.ports import Reconciled, ToolOutcome

_log = structlog.get_logger(__name__)

_RAISED = "The tool failed."
_MOST_BYTES = 64 * 1024
"""A larger result is refused: the model's context is no place for it."""


@dataclass(frozen=True, slots=True)
class _Tool:
    card: ToolCard
    function: Callable[..., Any]
    arguments: type[BaseModel]
    context: str | None
    reconcile: Callable[..., Any] | None = None


class Registry:
    """The tools of this worker by name."""

    def __init__(self, functions: Iterable[Callable[..., Any]] = ()) -> None:
        self._tools: dict[str, _Tool] = {}
        for function in functions:
            self._add(function)

    @classmethod
    def load(cls, modules: str) -> "Registry":
        """Import the comma-separated modules and take what is marked there; raise `Misconfigured`."""
        found: list[Callable[..., Any]] = []
        for name in filter(None, (part.strip() for part in modules.split(","))):
            try:
                module = importlib.import_module(name)
            except Exception as exc:
                raise Misconfigured(f"FW_TOOLS: cannot import {name!r}: {exc}") from exc
            found += _marked(module)
        try:
            return cls(found)
        except ValueError as exc:
            raise Misconfigured(f"FW_TOOLS: {exc}") from exc

    @property
    def names(self) -> list[str]:
        """Return the names, sorted."""
        return sorted(self._tools.keys() - {CATCH_ALL})

    def card(self, name: str) -> ToolCard | None:
        """See the port."""
        found = self._tools.get(name)
        return found.card if found else None

    async def run(self, name: str, arguments: Mapping[str, Any], *, key: str) -> ToolOutcome:
        """See the port. A sync function runs in a thread: it cannot be stopped, only no longer waited for."""
        found = self._tools[name]
        try:
            given = _given(found, arguments, key)
            return _replied(name, await _called(found.function, given))
        except _Unfit as exc:
            return ToolOutcome(ok=False, content=str(exc), code="invalid_arguments")
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return _raised(name, exc)  # its own doing: nobody asked it to stop
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - a tool may raise anything; the run goes on
            return _raised(name, exc)

    async def reconcile(self, name: str, arguments: Mapping[str, Any], *, key: str) -> Reconciled:
        """See the port. A hook that raises, or takes longer than a call may, knows nothing."""
        found = self._tools[name]
        if found.reconcile is None:
            return Reconciled(None)
        try:
            async with asyncio.timeout(found.card.timeout_s):
                said = await _called(found.reconcile, _given(found, arguments, key))
        except Exception as exc:  # noqa: BLE001 - a hook may raise anything; the run goes on
            _log.warning("tool.reconcile_failed", tool=name, error=type(exc).__name__)
            return Reconciled(None)
        if isinstance(said, DidNotHappen):
            return Reconciled(happened=False)
        result = _outcome(said.value) if isinstance(said, Happened) else None
        return Reconciled(happened=True, content=result.content) if result and result.ok else Reconciled(None)

    def _add(self, function: Callable[..., Any]) -> None:
        mark: Mark = getattr(function, MARK)
        if mark.name.startswith(RESERVED):
            raise ValueError(f"tool name {mark.name!r} is refused: {RESERVED}* are tools of the service itself")
        if mark.name in self._tools:
            raise ValueError(f"two tools are named {mark.name!r}")
        try:
            doc = parse(inspect.getdoc(function) or "")
            arguments, context = _arguments_of(function)
            schema = arguments.model_json_schema()
        except Exception as exc:  # pydantic's, and whatever evaluating an annotation raises
            raise ValueError(f"tool {mark.name!r}: {exc}") from exc
        schema.pop("title", None)
        if mark.name == CATCH_ALL:
            if set(arguments.model_fields) != {"name", "arguments"}:
                raise ValueError("a handler of unknown tools has the parameters 'name' and 'arguments'")
            schema = {"type": "object"}
        card = ToolCard(
            mark.name, (doc.description or "").strip(), schema, mark.effect, mark.timeout_s,
            on_interrupt=mark.on_interrupt, show=mark.show, wait=mark.wait, approval_s=mark.approval_s,
            reconciles=mark.reconcile is not None, cancel=mark.cancellable,
        )  # fmt: skip
        self._tools[mark.name] = _Tool(card, function, arguments, context, mark.reconcile)


def _marked(module: ModuleType) -> list[Callable[..., Any]]:
    return [value for value in vars(module).values() if hasattr(value, MARK) and value.__module__ == module.__name__]


def _arguments_of(function: Callable[..., Any]) -> tuple[type[BaseModel], str | None]:
    """Return a model of the function's parameters, and the name of the one that takes the context."""
    described = {p.arg_name: p.description for p in parse(inspect.getdoc(function) or "").params}
    fields: dict[str, Any] = {}
    context = None
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        if parameter.annotation is CallContext:
            context = name
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ValueError(f"parameter {name!r} must have a name of its own")
        if parameter.annotation is parameter.empty:
            raise ValueError(f"parameter {name!r} has no type")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (parameter.annotation, Field(default, description=described.get(name)))
    return create_model("Arguments", __config__=ConfigDict(extra="forbid"), **fields), context


class _Unfit(Exception):
    """The arguments do not fit; the text says why, for the model."""


def _given(found: _Tool, arguments: Mapping[str, Any], key: str) -> dict[str, Any]:
    try:
        checked = found.arguments.model_validate(dict(arguments))
    except ValidationError as exc:
        raise _Unfit(_refusal(exc)) from exc
    given = {field: getattr(checked, field) for field in found.arguments.model_fields}
    return given | {found.context: CallContext(key)} if found.context else given


async def _called(function: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    def in_thread() -> Any:
        try:
            return function(**given)
        except StopIteration as exc:  # no future can carry it: who waits would wait for ever
            raise RuntimeError("StopIteration") from exc

    if inspect.iscoroutinefunction(function):
        return await function(**given)
    value = await asyncio.to_thread(in_thread)
    return await value if inspect.isawaitable(value) else value  # an async function under a plain decorator


def _raised(name: str, exc: BaseException) -> ToolOutcome:
    _log.warning("tool.raised", tool=name, error=type(exc).__name__)
    return ToolOutcome(ok=False, content=_RAISED, detail=f"{type(exc).__name__}: {exc}"[:2000])


def _replied(name: str, said: Any) -> ToolOutcome:
    if not isinstance(said, Reply):
        return _outcome(said)
    outcome, after = _outcome(said.value), said.after
    if not outcome.ok or after is None:
        return replace(outcome, run_llm=said.run_llm if outcome.ok else None)

    async def follow_up() -> None:
        try:
            await _called(after, {})
        except Exception as exc:  # noqa: BLE001 - it may raise anything; the run goes on
            _log.warning("tool.after_failed", tool=name, error=type(exc).__name__)

    return replace(outcome, run_llm=said.run_llm, follow_up=follow_up)


def _outcome(value: Any) -> ToolOutcome:
    try:
        content = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as exc:
        return ToolOutcome(ok=False, content=_RAISED, detail=f"its result is not JSON: {exc}"[:2000])
    size = len(content.encode("utf-8", "surrogatepass"))
    if size > _MOST_BYTES:
        return ToolOutcome(ok=False, content="The tool's result is too large.", detail=f"{size} bytes")
    return ToolOutcome(ok=True, content=content)


def _refusal(exc: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in exc.errors()[:8])
