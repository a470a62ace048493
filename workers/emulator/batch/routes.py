"""Batches on the server: routes, which faults a call gets, how they strike, counting, the clock's switch."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from aiohttp import web

from workers.emulator import errors
from workers.emulator.batch.answers import Answers
from workers.emulator.batch.books import Books
from workers.emulator.batch.calls import Call
from workers.emulator.batch.config import BatchConfig, Operation
from workers.emulator.batch.dataset_desk import DatasetDesk
from workers.emulator.batch.faults import BatchFaults, parse_batch_faults
from workers.emulator.batch.job_desk import JobDesk
from workers.emulator.batch.listing import Resource
from workers.emulator.batch.refusals import get_with_body, invalid, not_found_reply
from workers.emulator.batch.stamps import last_segment
from workers.emulator.batch.storage import PATH, CutOff, Storage
from workers.emulator.config import EmulatorConfig
from workers.emulator.errors import ErrorReply, Refused
from workers.emulator.faults import split_header
from workers.emulator.state import EmulatorState

_FAULT = "x-emulator-fault"
_DATASETS, _JOBS = "datasets", "batchInferenceJobs"
_STREAMED: frozenset[Operation] = frozenset({"upload", "put_file", "get_file"})

Answer: TypeAlias = Callable[[Call], Awaitable[Resource]]
Serve: TypeAlias = Callable[[Call], Awaitable[web.StreamResponse]]


def is_batch(request: web.Request) -> bool:
    """Whether this is a call of the control plane; it looks at keys and faults itself."""
    return "/v1/accounts/" in request.path


def no_such_path() -> ErrorReply:
    """What the control plane says to a path that it does not know."""
    return not_found_reply()


def add_batch(
    app: web.Application,
    prefixes: tuple[str, ...],
    config: EmulatorConfig,
    state: EmulatorState,
    check_key: Callable[[web.Request], None],
    request_id: Callable[[web.Request], str],
) -> None:
    """Serve the control plane under the prefixes, signed URLs, and the clock. `check_key` raises Refused."""
    batch = config.scene.batch or config.batch
    state.clock.run_at(batch.speed)
    books = Books(batch, state.clock)
    storage = Storage(books, state.stats.batch)
    datasets = DatasetDesk(books, storage, state.stats.batch)
    jobs = JobDesk(books, config, Answers(config, state), state.stats.batch)
    gate = _Gate(batch, state, check_key, request_id)
    for method, path, operation, answer in _calls(datasets, jobs):
        for prefix in prefixes:
            app.router.add_route(method, f"{prefix}/accounts/{{account}}/{path}", gate.plane(operation, answer))
    file = f"{PATH}/{{account}}/dataset/{{dataset}}/{{file}}"
    app.router.add_put(file, gate.storage("put_file", storage.put))
    app.router.add_get(file, gate.storage("get_file", storage.get))
    app.router.add_get("/_emulator/clock", gate.clock)
    app.router.add_post("/_emulator/clock", gate.clock)

    async def close(_app: web.Application) -> None:
        await books.close()

    app.on_cleanup.append(close)
    state.on_reset += [books.forget, storage.forget]


def _calls(datasets: DatasetDesk, jobs: JobDesk) -> list[tuple[str, str, Operation, Answer]]:
    """The endpoint table of WIRE 3.1. An id has no colon, so that an unknown verb is an unknown path."""
    dataset, job = f"{_DATASETS}/{{dataset:[^/:]+}}", f"{_JOBS}/{{job:[^/:]+}}"
    return [
        ("POST", _DATASETS, "create_dataset", datasets.create_dataset),
        ("GET", _DATASETS, "list_datasets", datasets.list_datasets),
        ("GET", dataset, "get_dataset", datasets.get_dataset),
        ("PATCH", dataset, "update_dataset", datasets.update_dataset),
        ("DELETE", dataset, "delete_dataset", datasets.delete_dataset),
        ("POST", f"{dataset}:upload", "upload", datasets.upload),
        ("POST", f"{dataset}:getUploadEndpoint", "get_upload_endpoint", datasets.get_upload_endpoint),
        ("POST", f"{dataset}:validateUpload", "validate_upload", datasets.validate_upload),
        ("GET", f"{dataset}:getDownloadEndpoint", "get_download_endpoint", datasets.get_download_endpoint),
        ("POST", _JOBS, "create_job", jobs.create_job),
        ("GET", _JOBS, "list_jobs", jobs.list_jobs),
        ("GET", job, "get_job", jobs.get_job),
        ("DELETE", job, "delete_job", jobs.delete_job),
        ("POST", f"{job}:cancel", "cancel_job", jobs.cancel_job),
    ]


class _Gate:
    """Stands before every call: counts it, checks the key, finds its faults and lets them strike."""

    def __init__(
        self,
        config: BatchConfig,
        state: EmulatorState,
        check_key: Callable[[web.Request], None],
        request_id: Callable[[web.Request], str],
    ) -> None:
        self._config = config
        self._state = state
        self._stats = state.stats.batch
        self._check_key = check_key
        self._request_id = request_id

    def plane(self, operation: Operation, answer: Answer) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """A handler of the control plane."""

        async def served(call: Call) -> web.StreamResponse:
            return web.json_response(await answer(call))

        async def handle(request: web.Request) -> web.StreamResponse:
            self._stats.calls[operation] += 1
            self._check_key(request)
            if request.method == "GET" and request.can_read_body:
                raise get_with_body()
            body = {} if operation in _STREAMED else await _read_json(request)
            return await self._answer(self._call(request, operation, body), served, storage=False)

        return handle

    def storage(
        self, operation: Operation, serve: Callable[[web.Request, BatchFaults], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """A handler of signed URLs."""

        async def served(call: Call) -> web.StreamResponse:
            return await serve(call.request, call.faults)

        async def handle(request: web.Request) -> web.StreamResponse:
            self._stats.calls[operation] += 1
            return await self._answer(self._call(request, operation, {}), served, storage=True)

        return handle

    async def clock(self, request: web.Request) -> web.StreamResponse:
        """GET tells the virtual time; POST `{"speed": 60, "advance_s": 3600}` changes it, each field if given."""
        clock = self._state.clock
        try:
            given = json.loads(await request.read() or b"{}")
            if not isinstance(given, dict) or not given.keys() <= {"speed", "advance_s"}:
                raise ValueError("the fields are speed and advance_s")
            if "advance_s" in given:
                clock.advance(float(given["advance_s"]))
            if "speed" in given:
                clock.run_at(float(given["speed"]))
        except (ValueError, TypeError) as error:
            raise errors.bad_request(f"The clock was not changed: {error}") from None
        return web.json_response({"now": clock.now(), "speed": clock.speed})

    def _call(self, request: web.Request, operation: Operation, body: Any) -> Call:
        match = request.match_info
        subject = match.get("dataset", "") or match.get("job", "")
        faults = self._asked(request) or self._ruled(operation, _facts(request, operation, body)) or BatchFaults()
        return Call(request, operation, match["account"], subject, body, faults, self._state.clock.now())

    async def _answer(self, call: Call, serve: Serve, *, storage: bool) -> web.StreamResponse:
        try:
            return await self._strike(call, serve, storage=storage)
        except CutOff:
            if call.request.transport is not None:
                call.request.transport.close()  # what was written still arrives
            await asyncio.Event().wait()  # the lost connection cancels this
            raise

    async def _strike(self, call: Call, serve: Serve, *, storage: bool) -> web.StreamResponse:
        """The answer, or what the faults make of it, before or after the call is carried out."""
        faults = call.faults
        if faults.slow:
            await asyncio.sleep(faults.slow)
        late = faults.has("late") and call.operation != "get_file"  # a file that was sent cannot be taken back
        response = await serve(call) if late else None
        reply = faults.reply(self._request_id(call.request), storage=storage)
        if reply is not None or faults.has("drop") or faults.has("stall"):
            self._stats.struck += 1
        if faults.has("stall"):
            await asyncio.Event().wait()
        if faults.has("drop"):
            raise CutOff
        if reply is not None:
            raise Refused(reply)
        return await serve(call) if response is None else response

    def _asked(self, request: web.Request) -> BatchFaults | None:
        """What the request itself asks for, unless that is used up."""
        specs = tuple(spec for value in request.headers.getall(_FAULT, []) for spec in split_header(value))
        faults = parse_batch_faults(specs)
        return faults if specs and self._state.batch_uses.take(specs, faults.times) else None

    def _ruled(self, operation: Operation, facts: dict[str, str]) -> BatchFaults | None:
        """What the first rule that holds says."""
        for place, rule in enumerate(self._config.rules):
            if rule.when.holds(operation, facts) and self._state.batch_uses.take(place, rule.times):
                return parse_batch_faults(rule.faults)
        return None


async def _read_json(request: web.Request) -> Any:
    try:
        return json.loads(await request.read() or b"{}")
    except (ValueError, RecursionError) as error:
        raise invalid(f"invalid JSON: {error}") from None


def _facts(request: web.Request, operation: Operation, body: Any) -> dict[str, str]:
    """What rules may ask about: from the path, the query and the body, in either spelling."""
    given = body if isinstance(body, dict) else {}
    query = request.query

    def first(*names: str) -> str:
        return next((str(source[name]) for source in (query, given) for name in names if name in source), "")

    facts = dict(request.match_info)
    if operation == "create_dataset":
        facts["dataset"] = first("datasetId", "dataset_id")
    if operation == "create_job":
        facts["job"] = first("batchInferenceJobId", "batch_inference_job_id")
        facts["dataset"] = last_segment(first("inputDatasetId", "input_dataset_id"))
        facts["model"] = first("model")
    return facts
