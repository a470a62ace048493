"""What both faces of the client do between the caller and the wire. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

from api_contracts import keys
from api_contracts.client.scripts import ScriptCall, digest_of, spill, submit_call
from api_contracts.client.settings import ClientSettings
from api_contracts.names import TASK_OF, Kind, queue_of
from api_contracts.runs import Event, Request, Result, RunQueued
from api_contracts.vocabulary import typed_result

Asked = TypeVar("Asked", bound=Request)
Came = TypeVar("Came", bound=Result)


@dataclass(frozen=True, slots=True)
class Submission:
    """A checked request on its way: the script that records it, the message that rings for it."""

    run_id: str
    script: ScriptCall
    task: str
    queue: str
    digest: str


def checked(cls: type[Asked], given: Asked | Mapping[str, Any] | None, fields: Mapping[str, Any]) -> Asked:
    """Return the checked request from an object, a mapping or fields; raise pydantic's ValidationError."""
    if isinstance(given, Request):
        return cls.model_validate({**given.model_dump(exclude_unset=True), **fields}) if fields else given
    return cls.model_validate({**(given or {}), **fields})


def expect(cls: type[Came], result: Result) -> Came:
    """Return the result as what this kind of run comes to; raise TypeError when the run is of another kind."""
    if isinstance(result, cls):
        return result
    raise TypeError(f"run {result.run_id} is a run of kind {result.kind!r}")


def submission(kind: Kind, request: Request, run_id: str | None, settings: ClientSettings) -> Submission:
    """Build a submission. Raises BadRunId; a given `run_id` and an idempotency key exclude each other."""
    if run_id is not None and request.idempotency_key is not None:
        raise ValueError("give a run_id or an idempotency_key, not both: the key makes the id")
    tenant = request.tenant if "tenant" in request.model_fields_set else settings.tenant
    if run_id is None:
        key = request.idempotency_key
        run_id = keys.derived_run_id(tenant, key) if key is not None else keys.new_run_id()
    keys.check_run_id(run_id)
    # What the caller left out stays out, so that a newer default does not make an old request a different one.
    plain = request.model_dump(mode="json", exclude_unset=True, exclude_none=True) | {"tenant": tenant}
    queued, blob = spill(
        RunQueued(
            kind=kind, digest=digest_of(plain), writer=_writer(), tenant=tenant, labels=request.labels,
            lane=request.lane, idempotency_key=request.idempotency_key, deadline_s=request.deadline_s,
            conversation=request.conversation_id(), request=plain,
        )
    )  # fmt: skip
    script = submit_call(run_id, queued, blob, first_look_s=settings.lost_message_s, ttl_s=settings.live_ttl_s)
    return Submission(run_id, script, TASK_OF[kind], queue_of(kind, request.lane), queued.digest)


class Cursor:
    """Where a follower stands in a journal. Feed it replies of XREAD; it gives each event once, in order.

    What strangers wrote there is passed over. `stuck`: the last reply had nothing else, and so will the next one until
    the run's owner has cleared it away.
    """

    def __init__(self, run_id: str, after: int) -> None:
        self.key = keys.events(keys.check_run_id(run_id))
        self.seq = after
        self.ended = False
        self.stuck = False
        self._at = f"{after}-0"

    @property
    def position(self) -> dict[Any, Any]:
        """Return XREAD's streams argument."""
        return {self.key: self._at}

    def take(self, reply: Any) -> list[Event]:
        """Return the new events of a reply."""
        entries = [entry for _, page in reply or () for entry in page]
        fresh = [event for event in ours_in(entries) if event.seq > self.seq]
        before = self._at
        if fresh:
            self.seq, self.ended, self._at = fresh[-1].seq, fresh[-1].terminal, f"{fresh[-1].seq}-0"
        # Past a stranger's entry only as long as the next event comes after it.
        for entry_id in (_text(entry_id) for entry_id, _ in entries):
            if entry_id.startswith(f"{self.seq}-"):
                self._at = entry_id
        self.stuck = bool(entries) and self._at == before
        return fresh


def ours_in(entries: Iterable[tuple[Any, Mapping[Any, Any] | None]]) -> list[Event]:
    """Return the events among the entries of a journal, in order."""
    return [event for entry_id, fields in entries if (event := Event.from_entry(entry_id, fields)) is not None]


def result_in(event: Event) -> tuple[Result | None, int | None]:
    """Return the result that a terminal event carries, or the number of the blob that holds it."""
    if (number := event.data.get("result_blob")) is not None:
        return None, int(number)
    return typed_result(event.data["result"]), None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@cache
def _writer() -> str:
    """Return who submits. It is looked up in the folders of what is installed: most of a submission's time."""
    try:
        return f"client {version('fireworks-workers')}"
    except PackageNotFoundError:
        return "client"
