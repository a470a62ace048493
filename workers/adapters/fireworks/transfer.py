"""Files to and from the provider, as streams: nothing here holds more than a few pieces (WIRE 3.3, 3.8).

An upload's rows are read by the task that asked for it, and sent by another, a piece at a time. So what breaks while
they are read is plainly ours, and their iterator is closed when the call returns. The last bytes are held back until
all rows were read: a file that is not as it was announced never arrives as a whole.

A download remembers how far it came. Whatever a storage answers when it is asked for the rest, what is handed out is
the file or a failure, never something else.
"""

import asyncio
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

import aiohttp
from yarl import URL

from api_contracts.failure import Failure
from workers.adapters.fireworks.control_plane import READ_BYTES, TRANSPORT_ERRORS, Answer, ControlPlane, authorized
from workers.adapters.fireworks.deadlines import timed_out
from workers.adapters.fireworks.errors import failure_of
from workers.ports import ProviderFailed

ATTEMPTS: Final = 6
"""Tries in a row, without a byte in between, after which a download is given up; its step is tried again later."""
LONGEST_PAUSE_S: Final = 30.0
"""A storage that wants a longer pause is left alone: the step's own pauses are longer."""

_PIECE: Final = READ_BYTES
_SPAN: Final = re.compile(r"bytes (?:([0-9]{1,18})-[0-9]+|\*)/([0-9]{1,18}|\*)")
_STORAGE_CODE: Final = re.compile(rb"<Code>([A-Za-z]{1,64})</Code>")

Chunks = Callable[[], AsyncIterator[bytes]]
Hear = Callable[[aiohttp.ClientResponse], Awaitable[Answer | Failure]]
Queue = asyncio.Queue[bytes | None]


class Transfer:
    """Uploads and downloads over the control plane's session."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._times = plane.timeouts

    # -- up --------------------------------------------------------------------------------------------------------

    async def post_file(self, url: URL, name: str, chunks: Chunks, size: int, *, credential: str | None) -> None:
        """Send a file as the one part of a multipart body of known length. What `chunks` raises is raised."""
        key, border = self._plane.key(credential), secrets.token_hex(16)
        head = (
            f'--{border}\r\nContent-Disposition: form-data; name="file"; filename="{quote(name, safe="")}"\r\n'
            "Content-Type: application/jsonl\r\n\r\n"
        ).encode()
        tail = f"\r\n--{border}--\r\n".encode()
        headers = authorized(key) | {
            "Content-Type": f"multipart/form-data; boundary={border}",
            "Content-Length": str(len(head) + size + len(tail)),
        }
        pieces = _pieces(chunks, size, head, tail)
        await self._send("POST", url, headers, pieces, lambda response: self._plane.heard(response, key))

    async def put_file(self, url: str, chunks: Chunks, size: int) -> None:
        """Send a file to a signed URL, without our key; both headers are part of the signature."""
        headers = {
            "Content-Type": "application/octet-stream",
            "X-Goog-Content-Length-Range": f"{size},{size}",
            "Content-Length": str(size),
        }
        await self._send("PUT", self._checked(url), headers, _pieces(chunks, size), self._stored)

    async def _send(
        self, method: str, url: URL, headers: Mapping[str, str], pieces: AsyncGenerator[bytes, None], hear: Hear
    ) -> None:
        queue: Queue = asyncio.Queue(1)
        sending = asyncio.create_task(self._request(method, url, headers, queue, hear))
        sending.add_done_callback(lambda _: queue.empty() or queue.get_nowait())  # wakes whoever waits to give
        try:
            if await self._give_all(pieces, queue, sending):
                await self._give(None, queue, sending)
            failure = await self._outcome(sending)
        finally:
            sending.cancel()
            await asyncio.wait({sending})
        if failure is not None:
            raise ProviderFailed(failure)

    async def _give_all(self, pieces: AsyncGenerator[bytes, None], queue: Queue, sending: "asyncio.Task[Any]") -> bool:
        """Return whether the answer did not come before all was given."""
        async with aclosing(pieces):
            async for piece in pieces:
                if not await self._give(piece, queue, sending):
                    return False
        return True

    async def _give(self, piece: bytes | None, queue: Queue, sending: "asyncio.Task[Any]") -> bool:
        try:
            async with asyncio.timeout(self._times.gap_s):
                await queue.put(piece)
        except TimeoutError:
            failure = timed_out("gap", self._times.gap_s)
        else:
            return not sending.done()
        raise ProviderFailed(failure)

    async def _outcome(self, sending: "asyncio.Task[Answer | Failure]") -> Failure | None:
        try:
            async with asyncio.timeout(self._times.answer_s):
                outcome = await sending
        except TimeoutError:
            return timed_out("answer", self._times.answer_s)
        return outcome if isinstance(outcome, Failure) else None

    async def _request(
        self, method: str, url: URL, headers: Mapping[str, str], queue: Queue, hear: Hear
    ) -> Answer | Failure:
        """Send what comes through the queue; return what was answered, or what broke."""
        body = _Body(queue, int(headers["Content-Length"]))
        try:
            response = await self._plane.open(method, url, headers, body)
            try:
                heard = await hear(response)
            finally:
                self._plane.drop(response)
            return _TOO_EARLY if isinstance(heard, Answer) and body.left else heard
        except ProviderFailed as error:
            return error.failure
        except TRANSPORT_ERRORS as error:
            return self._plane.lost(error, "answer", self._times.answer_s)

    async def _stored(self, response: aiohttp.ClientResponse) -> Answer | Failure:
        return Answer(response.status, {}) if response.status // 100 == 2 else await self._refused(response)

    # -- down ------------------------------------------------------------------------------------------------------

    async def download(self, url_of: Callable[[], Awaitable[str]]) -> AsyncGenerator[bytes, None]:
        """Yield a file's bytes. `url_of` returns a fresh signed URL: each try asks for one, since they expire."""
        file, tries = _File(), 0
        while not file.is_whole:
            before, failure = file.at, None
            try:
                async with aclosing(self._rest(self._checked(await url_of()), file)) as rest:
                    async for chunk in rest:
                        yield chunk
            except ProviderFailed as error:
                failure = error.failure
            if file.at > before:
                tries = 0
            if failure is not None:
                tries += 1
                await self._pause(failure, tries)

    async def _pause(self, failure: Failure, tries: int) -> None:
        """Wait after so many tries in a row, or raise the failure."""
        asked = failure.retry_after_s or 0.0
        if not failure.retryable or tries >= ATTEMPTS or self._plane.closed or asked > LONGEST_PAUSE_S:
            raise ProviderFailed(failure)
        await asyncio.sleep(max(asked, 0.0 if tries == 1 else self._times.pause_s * 2.0 ** (tries - 2)))

    async def _rest(self, url: URL, file: "_File") -> AsyncGenerator[bytes, None]:
        """Yield what is missing of a file, as far as this answer has it."""
        response = await self._opened(url, file)
        try:
            if response.status == 416:
                file.ends_here(response.headers)
                return
            if response.status not in (200, 206):
                raise ProviderFailed(await self._refused(response))
            skip, before = file.begin(response.status, response.headers), file.at
            while data := await self._read(response):
                fresh = data[skip:] if skip else data
                skip -= len(data) - len(fresh)
                if fresh:
                    file.at += len(fresh)
                    yield fresh
            file.end(response.status, response.headers, missing=skip, is_news=file.at > before)
        finally:
            self._plane.drop(response)

    async def _opened(self, url: URL, file: "_File") -> aiohttp.ClientResponse:
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={file.at}-"} if file.asks_for_range else {})
        try:
            async with asyncio.timeout(self._times.gap_s):
                return await self._plane.open("GET", url, headers)
        except TRANSPORT_ERRORS as error:
            failure = self._plane.lost(error, "gap", self._times.gap_s)
        raise ProviderFailed(failure)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        # aiohttp's own deadline ends with the connection, and leaves the reader asleep when the framing broke.
        try:
            async with asyncio.timeout(self._times.gap_s):
                return await response.content.read(_PIECE)
        except TRANSPORT_ERRORS as error:
            failure = self._plane.lost(error, "gap", self._times.gap_s)
        raise ProviderFailed(failure)

    # --------------------------------------------------------------------------------------------------------------

    def _checked(self, url: str) -> URL:
        """Return the URL, to be sent as it is, if it is as safe as the control plane's own."""
        allowed = {"https"} if self._plane.is_secure else {"https", "http"}
        try:
            parts = urlsplit(url)
            is_plain = url.isascii() and url.isprintable() and " " not in url and "@" not in parts.netloc
            if is_plain and parts.hostname and parts.port != 0 and parts.scheme in allowed:
                return URL(url, encoded=True)  # another spelling of it may not be what was signed
        except ValueError:
            pass  # refused below
        raise ProviderFailed(_NO_SAFE_URL)

    async def _refused(self, response: aiohttp.ClientResponse) -> Failure:
        """Return a storage's refusal. A fresh URL may help, so it is worth another try.

        Of its XML only the code is quoted: the rest may repeat what was signed.
        """
        code = _STORAGE_CODE.search(await self._plane.words(response))
        failure = failure_of(response.status, response.headers, b"", now=self._plane.clock())
        why = f" ({code[1].decode()})" if code else ""
        return failure.model_copy(
            update={
                "code": "provider_file_refused", "retryable": True, "at_fault": "provider",
                "category": failure.category if failure.retryable else "protocol",
                "message": f"the storage answered {response.status}{why}",
            }
        )  # fmt: skip


# -- up ----------------------------------------------------------------------------------------------------------------


async def _pieces(chunks: Chunks, size: int, head: bytes = b"", tail: bytes = b"") -> AsyncGenerator[bytes, None]:
    """Yield the body in pieces of one size, whatever the rows come in. It is as long as was announced, or breaks."""
    held, got, rows = bytearray(head), 0, chunks()
    try:
        async for chunk in rows:
            got += len(chunk)
            if got > size:
                raise ValueError(f"the rows are {got} bytes or more, {size} were announced")
            held += chunk
            while len(held) > _PIECE:
                yield bytes(memoryview(held)[:_PIECE])
                del held[:_PIECE]
    finally:
        if isinstance(rows, AsyncGenerator):
            await rows.aclose()
    if got != size:
        raise ValueError(f"the rows are {got} bytes, {size} were announced")
    yield bytes(held + tail)


class _Body:
    """The body of a request: what comes through the queue, until None. `left` bytes of it did not come yet."""

    def __init__(self, queue: Queue, length: int) -> None:
        self.left = length
        self._queue = queue

    def __aiter__(self) -> "_Body":
        return self

    async def __anext__(self) -> bytes:
        piece = await self._queue.get()
        if piece is None:
            raise StopAsyncIteration
        self.left -= len(piece)
        return piece


# -- down --------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _File:
    """A download between its tries: `at` bytes were handed out."""

    at: int = 0
    is_whole: bool = False
    size: int | None = None
    etag: str | None = None
    has_ranges: bool = True
    """False for a file that is packed for the way: ranges count packed bytes, we count unpacked ones."""

    @property
    def asks_for_range(self) -> bool:
        return self.at > 0 and self.has_ranges

    def begin(self, status: int, headers: Mapping[str, str]) -> int:
        """Return how many bytes of this answer are here already. Raise `ProviderFailed` when it does not fit."""
        if headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            self.has_ranges = False
        start, size = 0, None if status == 206 or not self.has_ranges else _number(headers.get("Content-Length"))
        if status == 206:
            span = _SPAN.fullmatch(headers.get("Content-Range", "").strip())
            if span is None or span[1] is None or int(span[1]) > self.at or not self.has_ranges:
                raise ProviderFailed(_OTHER_RANGE)
            start, size = int(span[1]), _number(span[2])
        self._compare(size, headers.get("ETag"))
        return self.at - start

    def ends_here(self, headers: Mapping[str, str]) -> None:
        """Take a 416, nothing behind this byte. Raise `ProviderFailed` when the file should be longer, or is not."""
        span = _SPAN.fullmatch(headers.get("Content-Range", "").strip())
        self._compare(_number(span[2]) if span else None, None)
        if self.size != self.at:
            raise ProviderFailed(_CHANGED)
        self.is_whole = True

    def end(self, status: int, headers: Mapping[str, str], *, missing: int, is_news: bool) -> None:
        """Take the end of an answer. Raise `ProviderFailed` when there should be more of it.

        `missing`: so many of the bytes that were here already did not come again; `is_news`: others came.
        """
        if missing or (self.size is not None and self.at > self.size):
            raise ProviderFailed(_CHANGED)
        if self.size is not None:
            self.is_whole = self.at == self.size
        elif status == 200:
            # Where the connection's end is the answer's, it may have been cut: only an end that comes twice is one.
            self.is_whole = not is_news or "Content-Length" in headers or "Transfer-Encoding" in headers
        if not self.is_whole and not is_news:
            raise ProviderFailed(_CUT_SHORT)

    def _compare(self, size: int | None, etag: str | None) -> None:
        """Take what an answer says of the whole file. Raise `ProviderFailed` when it is another one than before."""
        for known, told in ((self.size, size), (self.etag, etag)):
            if None not in (known, told) and known != told:
                raise ProviderFailed(_CHANGED)
        self.size = size if self.size is None else self.size
        self.etag = etag if self.etag is None else self.etag


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 19 else None


def _unexpected(message: str, *, retryable: bool = True) -> Failure:
    return Failure(
        code="provider_unexpected_answer", category="protocol", at_fault="provider", retryable=retryable,
        message=message,
    )  # fmt: skip


_TOO_EARLY: Final = _unexpected("the provider said that it has the file before all of it was sent")
_NO_SAFE_URL: Final = _unexpected("the provider named no URL for a file that may be used", retryable=False)
_OTHER_RANGE: Final = _unexpected("the storage sent another part of the file than it was asked for")
_CUT_SHORT: Final = _unexpected("the storage sent nothing of what is missing of the file")
_CHANGED: Final = _unexpected("the file is not what it was when the download began")
