"""A run's part in a conversation: it opens it, waits for others' turns, and says what the turn leaves behind. Pure.

The conversation is the run's from `chat.opened` to its end. Each life opens it again: SQL then knows the life before no
more, or says what the run came to, if that life got as far as the end. So nothing is decided before it is open: a run
that ended is not cancelled, nor late. What the turn leaves is in SQL in one with the run's result.

`context` owns what the model is shown, `turn` the way of the run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from api_contracts import conversations
from api_contracts.chat import ChatRequest
from api_contracts.conversations import Summaries, changed_settings
from api_contracts.failure import Failure
from api_contracts.runs import EventData
from workers.core.chat import acts, context, summary
from workers.core.chat.account import Meter
from workers.core.chat.assembler import Answer
from workers.core.chat.state import ChatState
from workers.core.chat.toolset import ToolSet, news
from workers.core.runs.frame import HOLD_S, Action, Park
from workers.core.runs.turns import Commit, ConversationKey, Holder, Opened

CONFLICT: Final = Failure(
    code="conversation_conflict",
    category="bad_request",
    message="the conversation is not at the version that the turn wants: read it again; nothing was changed",
    at_fault="caller",
)
MOVED: Final = Failure(
    code="conversation_moved",
    category="bad_request",
    message="the conversation went on while this run was away, or is gone; what the run did is in its result only",
    retryable=True,
    at_fault="caller",
)
BUSY: Final = Failure(
    code="conversation_busy",
    category="bad_request",
    message="another run has its turn, and the request says not to wait",
    retryable=True,
    at_fault="caller",
)
NO_MODEL: Final = Failure(
    code="no_model",
    category="bad_request",
    message="neither the request nor the conversation's settings name a model",
    at_fault="caller",
)
NO_MESSAGES: Final = Failure(
    code="no_messages",
    category="bad_request",
    message="neither the request nor the conversation has a message to answer",
    at_fault="caller",
)
NO_SUMMARY: Final = Failure(
    code="summary_empty",
    category="protocol",
    message="the model answered nothing where it was asked for a summary",
    retryable=True,
    at_fault="provider",
)
LATE_SUMMARY: Final = Failure(
    code="summary_timeout",
    category="timeout",
    message=f"the summary was not there after {summary.TIME_S:.0f} s",
    retryable=True,
    at_fault="provider",
)
_FIRST_LOOK_S: Final = 0.25
_LONGEST_LOOK_S: Final = 300.0
_WAITED_FOR_EACH: Final = 4.0
"""A run that has waited for so many seconds looks again after one: soon at first, seldom behind a long turn."""


class Talk:
    """The part in this life of the run. What it decides, it emits, or adds to `out`."""

    def __init__(
        self, run_id: str, request: ChatRequest, state: ChatState, emit: Callable[[EventData, float], None],
        out: list[Action], meter: Meter, tools: ToolSet,
    ) -> None:  # fmt: skip
        self._run_id = run_id
        self._request = request
        self._state = state
        self._emit = emit
        self._out = out
        self._meter = meter
        self._tools = tools
        self._given = request.conversation
        self._opened = Opened(0)
        self.is_open = self._given is None
        self.look_at: float | None = None
        """When to ask for it again, while it is another's."""
        self.summary_until: float | None = None
        """When to go on without the summary that is being written."""
        self._stretch = (0, 0)
        self._is_committing = False
        self._summary_tokens: int | None = None
        self._summariser = ""

    # -- opening ---------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Ask for the conversation; `opened`, `held` or the run's end follows."""
        self.look_at = None
        self._out.append(acts.OpenTurn(self._key, self._holder))

    @property
    def is_opening(self) -> bool:
        """Whether it is not known yet what became of the run's turn: nothing may be decided."""
        return not self.is_open and self.look_at is None and self.summary_until is None

    @property
    def alarms(self) -> tuple[float | None, ...]:
        """When to wake while it is not open."""
        return self.look_at, None if self._is_committing else self.summary_until

    def held(self, now: float) -> Failure | None:
        """Take it that another run has its turn; return why this one does not wait, or None."""
        if self._given is not None and not self._given.wait:
            return BUSY
        waited = max(0.0, now - self._state.counts_from)
        self.look_at = now + min(max(_FIRST_LOOK_S, waited / _WAITED_FOR_EACH), _LONGEST_LOOK_S)
        return None

    def rest(self, now: float, deadline: float | None) -> None:
        """Park until the next look, or the run's deadline, if that is far."""
        if self.look_at is not None and self.look_at - now > HOLD_S:
            look_at = min(self.look_at, deadline or self.look_at)
            self._out.append(Park(look_at, "waits for its turn in the conversation"))

    def opened(self, found: Opened, now: float) -> Failure | None:
        """Take the conversation; return why the run cannot go on in it, or None."""
        if self._state.version not in (None, found.version) and self._has_begun:
            return MOVED
        if self._state.version != found.version:
            wanted = self._given.version if self._given else None
            if wanted is not None and wanted != found.version - found.own:
                return CONFLICT
            self._emit(
                conversations.ChatOpened(
                    conversation=self._key.id, version=found.version, messages=len(found.messages),
                    settings_version=found.settings_version,
                ), now,
            )  # fmt: skip
        self._opened, self.is_open = found, True
        try:
            self._settled()
        except ValueError as exc:
            return bad_settings(str(exc))
        if self._request.answer and not self.messages:
            return NO_MESSAGES
        asks = self._request.answer or (self._given is not None and self._given.summarise)
        return NO_MODEL if asks and not self.model else None

    @property
    def _has_begun(self) -> bool:
        return bool(self._state.messages or self._state.calls)

    # -- summaries -------------------------------------------------------------------------------------------------

    def summarise(self, now: float) -> bool:
        """Begin a summary, if the conversation wants one before anything is asked of it."""
        given = self.settings.get("summaries")
        summaries = Summaries.model_validate(given) if given is not None else None
        asked_for = self._given is not None and self._given.summarise
        if self._given is None or self._given.replace or self._has_begun or self._opened.own:
            return False
        if not (asked_for or summary.is_due(self._opened, summaries)):
            return False
        summaries = summaries or Summaries()
        place = summary.stretch(self._opened.messages, summaries.keep)
        if place is None:
            return False
        self._stretch, self.is_open, self.summary_until = place, False, now + summary.TIME_S
        self._summariser = model = summaries.model or self.model
        body = summary.asked(self._opened.messages[slice(*place)], summaries, model)
        body = context.affinity(self._request) | body
        self._out.append(acts.AskModel(0, body, self._request.credential))
        return True

    def summarised(self, answer: Answer, now: float) -> Failure | None:
        """Take the summary; return why there is none, or None: the version that it makes is then on its way."""
        self._emit(self._meter.told_of_summary(self._summariser, answer.usage), now)
        self._summary_tokens = answer.usage.completion_tokens
        text = str(answer.message.get("content") or "").strip()
        if not text:
            return NO_SUMMARY
        messages = summary.with_summary(self._opened.messages, self._stretch, text)
        self._opened = replace(self._opened, messages=messages)
        version = Commit(self._key, self._holder, self._opened.version, "summary", messages, whole=True)
        self._is_committing = True
        self._out.append(acts.CommitVersion(replace(version, settings_version=self._opened.settings_version)))
        return None

    def without_summary(self, failure: Failure, now: float) -> Failure | None:
        """Go on as it is; return the failure where the request was for the summary."""
        asked_for = bool(self._given and self._given.summarise)
        found = self._opened
        self._tell_summary(found.version, len(found.messages), now, failure=failure)
        return failure if asked_for else None

    def committed(self, *, ok: bool, now: float) -> Failure | None:
        """Take it that the version with the summary is there; return why the run cannot go on, or None."""
        if not ok:
            self.is_open, self.summary_until = True, None
            return MOVED
        before = len(self._opened.messages) + self._stretch[1] - self._stretch[0] - 1
        self._opened = replace(self._opened, version=self._opened.version + 1)
        self._tell_summary(self._opened.version, before, now)
        return None

    def _tell_summary(self, version: int, before: int, now: float, failure: Failure | None = None) -> None:
        self.is_open, self.summary_until = True, None
        self._emit(
            conversations.ChatSummarised(
                version=version, messages=len(self._opened.messages), messages_before=before,
                tokens_before=self._opened.tokens, summary_tokens=self._summary_tokens,
                asked_for=bool(self._given and self._given.summarise), failure=failure,
            ), now,
        )  # fmt: skip

    # -- what the model is shown -----------------------------------------------------------------------------------

    @property
    def model(self) -> str:
        """The request's model, or that of the settings."""
        return self._request.model or str(self.settings.get("model") or "")

    @property
    def settings(self) -> Mapping[str, Any]:
        """All settings, as they hold for the next answer."""
        return self._settled()

    @property
    def settings_version(self) -> int:
        """The version of those: one more for each change."""
        return self._opened.settings_version + len(self._changes)

    @property
    def version_told(self) -> int | None:
        """That version where there are settings, else None."""
        return self.settings_version if self.has_settings else None

    @property
    def has_settings(self) -> bool:
        """Whether there are settings at all."""
        return self._given is not None or bool(self._changes)

    @property
    def messages(self) -> list[Mapping[str, Any]]:
        """What stands before the run's own: the conversation, then the request's messages."""
        return [*self._before, *context.kept(self._request.messages)]

    @property
    def _shown(self) -> list[Mapping[str, Any]]:
        return [*self._before, *self._state.preface, *context.kept(self._request.messages)]

    @property
    def _before(self) -> Sequence[Mapping[str, Any]]:
        return () if self._given and self._given.replace else self._opened.messages

    def shaped(self, body: Mapping[str, Any], model: str) -> dict[str, Any]:
        """Return the body of the request under the settings, after the conversation, for a model of the route."""
        settings = self.settings
        shaped: dict[str, Any] = (
            context.affinity(self._request) | dict(body) | context.parameters(self._request, settings)
        )
        messages = [*context.composed(settings, self._shown), *self._state.messages]
        return shaped | {"model": model, "messages": messages}

    # -- tools -----------------------------------------------------------------------------------------------------

    @property
    def tools(self) -> list[Mapping[str, Any]]:
        """The changes of the tools, in the order in which they were made."""
        return [each.get("tools") or {} for each in (self._opened.settings, *self._changes)]

    @property
    def given_tools(self) -> object:
        """Those that the request makes."""
        return self._given.settings.get("tools") if self._given else None

    @property
    def asks_for_several(self) -> bool:
        """Whether several answers are asked for at once: tools do not go with that."""
        return (self._request.n or 1) > 1

    def tools_changed(self) -> conversations.ChatToolsChanged | None:
        """Return what tells the model how its tools changed since it was asked last, None where they did not."""
        names = self._tools.names
        is_first = not self._state.attempt and self._state.offered is None
        before = self._offered_before if is_first else self._offered
        message = None if before is None else news(before, names)
        if message is None and (not is_first or {*names} == {*self._offered}):
            return None
        return conversations.ChatToolsChanged(tools=names, message=message, first=is_first or None)

    @property
    def _offered(self) -> Sequence[str]:
        """The tools that the model was offered last, or is offered first."""
        return self._tools.given if self._state.offered is None else self._state.offered

    @property
    def _offered_before(self) -> Sequence[str] | None:
        """Those of the last turn; None where there was none that the model is shown."""
        if not any(message["role"] == "assistant" for message in self._before):
            return None
        return self._opened.settings.get("offered") or ()

    def _settings_left(self) -> dict[str, Any] | None:
        """Return all settings that the turn leaves behind, None where it changes none."""
        is_new = self._request.answer and {*self._offered} != {*(self._opened.settings.get("offered") or ())}
        if not (self._changes or is_new):
            return None
        return self._settled() | ({"offered": [*self._offered]} if is_new else {})

    def change(self, changed: Mapping[str, Any]) -> str | None:
        """Return why a change cannot be taken, or None."""
        try:
            changed_settings(self.settings, changed)
        except ValueError as exc:
            return str(exc)
        return None

    @property
    def _changes(self) -> Sequence[Mapping[str, Any]]:
        first = [self._given.settings] if self._given and self._given.settings else []
        return [*first, *self._state.changes]

    def _settled(self) -> dict[str, Any]:
        settings = dict(self._opened.settings)
        for change in self._changes:
            settings = changed_settings(settings, change)
        return settings

    # -- what the turn leaves --------------------------------------------------------------------------------------

    def commit(self) -> Commit | None:
        """Return the next version, None outside conversations."""
        if self._given is None:
            return None
        said = [*self._state.messages, *self._state.news()] if self._request.answer else []
        return Commit(
            self._key, self._holder, self._opened.version, "turn" if self._request.answer else "edit",
            [*self._state.preface, *context.kept(self._request.messages), *said], self._given.replace,
            self._settings_left(), self.settings_version,
            self._state.counted if self._request.answer else None,
        )  # fmt: skip

    def told(self, *, left: bool) -> dict[str, Any]:
        """Return what the result says of settings and conversation. `left`: a version is left behind."""
        told = {"settings_version": self.settings_version} if self.has_settings else {}
        return told | ({"conversation_version": self._opened.version + 1} if left else {})

    @property
    def _key(self) -> ConversationKey:
        return ConversationKey(self._request.tenant, self._given.id if self._given else "")

    @property
    def _holder(self) -> Holder:
        return Holder(self._run_id, self._state.queued_at, self._state.lives)


def bad_settings(why: str) -> Failure:
    message = f"the change does not go with the conversation's settings: {why}"[:500]
    return Failure(code="bad_request", category="bad_request", message=message, at_fault="caller")
