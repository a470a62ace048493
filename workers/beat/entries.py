"""The operator's own entries: a TOML file (`FW_BEAT_FILE`), checked whole before beat ticks for the first time.

    [[entry]]
    name = "morning-report"
    cron = "0 7 * * mon-fri"            # or: every_s = 3600
    timezone = "Europe/Oslo"            # of cron; UTC without it
    kind = "chat"                       # a run: chat, batch or cite, with its request
    request = { model = "...", messages = [{ role = "user", content = "..." }] }

    [[entry]]
    name = "tidy-up"
    every_s = 600
    task = "shop.tidy_up"               # a task of another app, on its queue
    queue = "shop"
    kwargs = { days = 30 }
    expires_s = 600                     # a message that nobody took by then is void

It must not know Redis, nor when a tick is due.
"""

import difflib
import tomllib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo

from celery.schedules import crontab, schedule
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from api_contracts.batch import BatchRequest
from api_contracts.chat import ChatRequest
from api_contracts.citations import CiteRequest
from api_contracts.names import TASK_OF, queue_of
from api_contracts.runs import Request
from workers.errors import Misconfigured

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=256)]

_REQUESTS: Final[dict[str, type[Request]]] = {"chat": ChatRequest, "batch": BatchRequest, "cite": CiteRequest}
_TABLE: Final = "entry"
_LABEL: Final = "beat"


class Entry(BaseModel):
    """One `[[entry]]`: when, and a run or a task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    every_s: float | None = Field(default=None, ge=1, le=366 * 86_400)
    cron: Text | None = None
    timezone: Text | None = None
    kind: Literal["chat", "batch", "cite"] | None = None
    request: dict[str, Any] | None = None
    task: Text | None = None
    queue: Text | None = None
    kwargs: dict[str, Any] | None = None
    expires_s: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.every_s is None) == (self.cron is None):
            raise ValueError("needs every_s or cron, one of the two")
        if self.timezone is not None and self.cron is None:
            raise ValueError("timezone is for cron only")
        if (self.kind is None) == (self.task is None):
            raise ValueError("needs kind (a run) or task (of another app), one of the two")
        self._suits()
        if self.kind and self.request is None:
            raise ValueError("kind needs a request")
        if self.task and self.queue is None:
            raise ValueError("task needs a queue")
        if self.task and self.task.startswith("fireworks."):
            raise ValueError(f"task {self.task} is ours: give kind and request instead")
        return self

    def _suits(self) -> None:
        """Refuse fields of a task for a run, and the other way round."""
        what, unfit = ("a run", ("queue", "kwargs", "expires_s")) if self.kind else ("a task", ("request",))
        given = [field for field in unfit if getattr(self, field) is not None]
        if given:
            instead = "; a run's request takes deadline_s" if "expires_s" in given else ""
            raise ValueError(f"{', '.join(given)} is not for {what}{instead}")

    @cached_property
    def timing(self) -> Any:
        """Return Celery's schedule; raise ValueError."""
        if self.cron is None:
            return schedule(self.every_s)
        made = crontab.from_string(" ".join(self.cron.split()))
        if self.timezone:
            made.tz = ZoneInfo(self.timezone)
        return made

    def asked(self) -> Request | None:
        """Return the request of a run, with a label that names this entry; raise pydantic's ValidationError."""
        if self.kind is None:
            return None
        given = dict(self.request or {})
        labels = given.get("labels", {})
        if isinstance(labels, dict):
            given["labels"] = {_LABEL: self.name} | labels
        return _REQUESTS[self.kind].model_validate(given)


@dataclass(frozen=True, slots=True)
class Plan:
    """What beat does for an entry. A run has a request; a task's message is in `celery`."""

    timing: Any
    celery: Mapping[str, Any]
    kind: str = ""
    request: Request | None = None


def read_plans(path: Path | None, taken: Collection[str]) -> dict[str, Plan]:
    """Return the file's entries by name; none without a file. Raise Misconfigured with one line per fault.

    `taken` are the names of our own entries.
    """
    if path is None:
        return {}
    tables = _tables(path)
    faults: list[str] = []
    plans: dict[str, Plan] = {}
    names = Counter(str(table.get("name")) for table in tables)
    for number, table in enumerate(tables, 1):
        where = f"FW_BEAT_FILE: {path}: entry {table.get('name') or number!r}"
        wrong = list(_faults(table, names, taken))
        faults += [f"{where}: {fault}" for fault in wrong]
        if not wrong:
            entry = Entry.model_validate(table)
            plans[entry.name] = _plan(entry)
    if faults:
        raise Misconfigured("\n".join(faults))
    return plans


def _tables(path: Path) -> list[dict[str, Any]]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise Misconfigured(f"FW_BEAT_FILE: cannot read {path}: {exc.strerror}") from None
    except ValueError as exc:  # no TOML, or no UTF-8
        raise Misconfigured(f"FW_BEAT_FILE: {path} is no TOML: {exc}") from None
    if strange := sorted(set(found) - {_TABLE}):
        raise Misconfigured(f"FW_BEAT_FILE: {path}: unknown {', '.join(map(repr, strange))}: entries are [[{_TABLE}]]")
    tables = found.get(_TABLE, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise Misconfigured(f"FW_BEAT_FILE: {path}: write each entry as [[{_TABLE}]], with two brackets")
    return tables


def _faults(table: Mapping[str, Any], names: Counter[str], taken: Collection[str]) -> Iterator[str]:
    try:
        entry = Entry.model_validate(table)
    except ValidationError as exc:
        yield from (_said(error) for error in exc.errors())
        return
    if entry.name in taken or entry.name.startswith(("fireworks.", "celery.")):
        yield f"the name {entry.name!r} is ours: choose another"
    if names[entry.name] > 1:
        yield f"{names[entry.name]} entries have this name: each needs its own"
    try:
        _ = entry.timing
    except (ValueError, KeyError, OSError) as exc:  # ZoneInfo says KeyError, and OSError for a folder's name
        yield _untimely(entry, exc)
    try:
        asked = entry.asked()
    except ValidationError as exc:
        yield from (_said(error, "request.") for error in exc.errors())
        return
    if asked is not None and asked.idempotency_key is not None:
        yield "request.idempotency_key: leave it out, each tick is a run of its own"


def _untimely(entry: Entry, exc: Exception) -> str:
    if entry.cron is not None and isinstance(exc, ValueError) and len(entry.cron.split()) != 5:
        return f"cron: {entry.cron!r} must have five fields: minute, hour, day of month, month, day of week"
    try:
        _ = entry.model_copy(update={"timezone": None}).timing
    except ValueError:
        return f"cron: {entry.cron!r}: {exc}"
    return f"timezone: {entry.timezone!r} is unknown: give a name such as Europe/Oslo"


def _said(error: Any, before: str = "") -> str:
    loc = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden" and not before:
        near = difflib.get_close_matches(loc, Entry.model_fields, n=1)
        return f"{loc}: unknown field" + (f"; did you mean {near[0]}?" if near else "")
    said = error["msg"].removeprefix("Value error, ")
    return f"{before}{loc}: {said}" if loc else said


def _plan(entry: Entry) -> Plan:
    if entry.kind is None:
        options = {"queue": entry.queue} | ({"expires": entry.expires_s} if entry.expires_s else {})
        celery = {"task": entry.task, "schedule": entry.timing, "kwargs": entry.kwargs or {}, "options": options}
        return Plan(entry.timing, celery)
    # The request stays here: what Redis keeps for ever, and what the broker carries, has no content.
    asked = entry.asked()
    options = {"queue": queue_of(entry.kind, asked.lane if asked else "interactive")}
    celery = {"task": TASK_OF[entry.kind], "schedule": entry.timing, "options": options}
    return Plan(entry.timing, celery, entry.kind, asked)
