"""`client.chat`, `client.batch`, `client.cite`: the same verbs for each kind of run, in both faces.

run_id = client.batch.submit(model=..., rows=[{"custom_id": "a", "body": {"messages": [...]}}])
client.batch.result(run_id)                 # waits, an hour or a day
for row in client.batch.rows(run_id):       # from SQL, in the order of the input
    print(row.custom_id, row.state)
"""

from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from api_contracts.batch import BatchRequest, BatchResult
from api_contracts.batch_rows import RowResult, RowState
from api_contracts.chat import ChatRequest, ChatResult
from api_contracts.citations import CiteRequest, CiteResult
from api_contracts.client.submission import checked, expect
from api_contracts.names import Kind
from api_contracts.runs import Request, Result
from api_contracts.stt_files import SttFileRequest, SttFileResult

if TYPE_CHECKING:
    from api_contracts.client.aio import AsyncClient
    from api_contracts.client.sync import Client

Asked = TypeVar("Asked", bound=Request)
Came = TypeVar("Came", bound=Result)


class Facet(Generic[Asked, Came]):
    """One kind of run."""

    KIND: ClassVar[Kind]
    ASKED: type[Asked]
    CAME: type[Came]

    def __init__(self, client: "Client") -> None:
        self._client = client

    def submit(
        self,
        request: Asked | Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        link: Any = None,
        link_error: Any = None,
        **fields: Any,
    ) -> str:
        """Submit a run; return its id. Idempotent under the same `run_id` or `idempotency_key`.

        The request is an object, a mapping, fields, or a mix. Raises pydantic's ValidationError before anything is
        sent, RunConflict when the id has another request. `link` and `link_error` are Celery signatures.
        """
        asked = checked(self.ASKED, request, fields)
        return self._client._submit(self.KIND, asked, run_id, _options(link, link_error))  # noqa: SLF001 - one object

    def complete(
        self, request: Asked | Mapping[str, Any] | None = None, *, timeout_s: float | None = None, **fields: Any
    ) -> Came:
        """Submit a run and wait for its result."""
        return self.result(self.submit(request, **fields), timeout_s=timeout_s)

    def result(self, run_id: str, *, timeout_s: float | None = None) -> Came:
        """Like `Client.result`, for what is known to be of this kind."""
        return expect(self.CAME, self._client.result(run_id, timeout_s=timeout_s))


class Chat(Facet[ChatRequest, ChatResult]):
    """`client.chat`."""

    KIND, ASKED, CAME = "chat", ChatRequest, ChatResult


class Cite(Facet[CiteRequest, CiteResult]):
    """`client.cite`."""

    KIND, ASKED, CAME = "cite", CiteRequest, CiteResult


class SttFiles(Facet[SttFileRequest, SttFileResult]):
    """`client.stt.files`."""

    KIND, ASKED, CAME = "stt_file", SttFileRequest, SttFileResult


class Batch(Facet[BatchRequest, BatchResult]):
    """`client.batch`."""

    KIND, ASKED, CAME = "batch", BatchRequest, BatchResult

    def rows(self, run_id: str, *, after: int = 0, states: Collection[RowState] = ()) -> Iterator[RowResult]:
        """Yield the run's rows in the order of the input, those after number `after`; also while the run lives.

        `states` keeps those in one of them. Needs the client's `database_url`; raises ResultsUnavailable.
        """
        sql = self._client._rows()  # noqa: SLF001 - one object
        while page := sql.batch_rows(run_id, after, tuple(states)):
            yield from (RowResult.model_validate(row) for row in page)
            after = page[-1]["number"]


class AsyncFacet(Generic[Asked, Came]):
    """`Facet`, awaited."""

    KIND: ClassVar[Kind]
    ASKED: type[Asked]
    CAME: type[Came]

    def __init__(self, client: "AsyncClient") -> None:
        self._client = client

    async def submit(
        self,
        request: Asked | Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        link: Any = None,
        link_error: Any = None,
        **fields: Any,
    ) -> str:
        """See `Facet.submit`."""
        asked = checked(self.ASKED, request, fields)
        return await self._client._submit(self.KIND, asked, run_id, _options(link, link_error))  # noqa: SLF001

    async def complete(
        self, request: Asked | Mapping[str, Any] | None = None, *, timeout_s: float | None = None, **fields: Any
    ) -> Came:
        """See `Facet.complete`."""
        return await self.result(await self.submit(request, **fields), timeout_s=timeout_s)

    async def result(self, run_id: str, *, timeout_s: float | None = None) -> Came:
        """See `Facet.result`."""
        return expect(self.CAME, await self._client.result(run_id, timeout_s=timeout_s))


class AsyncChat(AsyncFacet[ChatRequest, ChatResult]):
    """`client.chat`, awaited."""

    KIND, ASKED, CAME = "chat", ChatRequest, ChatResult


class AsyncCite(AsyncFacet[CiteRequest, CiteResult]):
    """`client.cite`, awaited."""

    KIND, ASKED, CAME = "cite", CiteRequest, CiteResult


class AsyncSttFiles(AsyncFacet[SttFileRequest, SttFileResult]):
    """`client.stt.files`, awaited."""

    KIND, ASKED, CAME = "stt_file", SttFileRequest, SttFileResult


class AsyncBatch(AsyncFacet[BatchRequest, BatchResult]):
    """`client.batch`, awaited."""

    KIND, ASKED, CAME = "batch", BatchRequest, BatchResult

    async def rows(self, run_id: str, *, after: int = 0, states: Collection[RowState] = ()) -> AsyncIterator[RowResult]:
        """See `Batch.rows`."""
        sql = self._client._rows()  # noqa: SLF001 - one object
        while page := await sql.abatch_rows(run_id, after, tuple(states)):
            for row in page:
                yield RowResult.model_validate(row)
            after = page[-1]["number"]


def _options(link: Any, link_error: Any) -> dict[str, Any]:
    return {name: value for name, value in (("link", link), ("link_error", link_error)) if value is not None}
