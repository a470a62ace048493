"""The storage behind signed URLs (WIRE 3.3, 3.8): PUT of registered files, GET with ranges. It has no keys.

A URL lives for its time, is good for one file and one verb, and refuses what does not belong to its signature.
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal
from urllib.parse import quote, urlencode

from aiohttp import web

from workers.emulator.batch.books import Books
from workers.emulator.batch.datasets import Dataset, StoredFile
from workers.emulator.batch.faults import BatchFaults
from workers.emulator.batch.refusals import storage_error, storage_refused
from workers.emulator.batch.state import BatchStats
from workers.emulator.errors import Refused

PATH = "/_storage"
PIECE = 256 * 1024
_MOST_GRANTS = 20_000


class CutOff(Exception):
    """A fault wants the connection closed here."""


class TooLarge(ValueError):
    """More bytes came than a file may have."""


class Spool:
    """A file that is being received: on disk from the first byte, and gone unless it is kept."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO = path.open("wb")
        self._size = 0
        self._kept = False

    async def fill(self, pieces: AsyncIterator[bytes], most: int, cut_after: int | None) -> None:
        """Receive the pieces. Raises TooLarge or CutOff."""
        async for piece in pieces:
            self._size += len(piece)
            if cut_after is not None and self._size >= cut_after:
                raise CutOff
            if self._size > most:
                raise TooLarge
            self._file.write(piece)

    def keep(self) -> StoredFile:
        """The file, complete."""
        self._file.close()
        self._kept = True
        return StoredFile(self._path, self._size)

    def close(self) -> None:
        """Remove the file unless it was kept."""
        self._file.close()
        if not self._kept:
            self._path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Grant:
    """What a signed URL permits. `expires` is on the clock that the configuration names."""

    verb: Literal["PUT", "GET"]
    dataset: Dataset
    filename: str
    size: int
    expires: float


class Storage:
    """Signs URLs and serves them."""

    def __init__(self, books: Books, stats: BatchStats) -> None:
        self._books = books
        self._config = books.config
        self._stats = stats
        self._grants: OrderedDict[str, Grant] = OrderedDict()

    def sign(
        self, verb: Literal["PUT", "GET"], dataset: Dataset, filename: str, size: int, origin: str, lives: float | None
    ) -> str:
        """A URL for one file; `lives` None is as long as the configuration says."""
        usual = self._config.upload_url_s if verb == "PUT" else self._config.download_url_s
        seconds = usual if lives is None else lives
        token = secrets.token_hex(32)
        self._grants[token] = Grant(verb, dataset, filename, size, self._now() + seconds)
        if len(self._grants) > _MOST_GRANTS:
            self._grants.popitem(last=False)
        query = {
            "X-Goog-Algorithm": "GOOG4-RSA-SHA256",
            "X-Goog-Date": datetime.fromtimestamp(self._now(), UTC).strftime("%Y%m%dT%H%M%SZ"),
            "X-Goog-Expires": f"{seconds:.0f}",
            "X-Goog-SignedHeaders": "content-type;host;x-goog-content-length-range" if verb == "PUT" else "host",
            "X-Goog-Signature": token,
        }
        return f"{self._config.public_url or origin}{quote(_path(dataset, filename))}?{urlencode(query)}"

    def forget(self) -> None:
        """No URL is good any more."""
        self._grants.clear()

    async def put(self, request: web.Request, faults: BatchFaults) -> web.StreamResponse:
        """Store a registered file. Raises Refused."""
        grant = self._admit(request, "PUT", faults)
        size = grant.size
        if grant.dataset.expected.get(grant.filename) != size:
            raise storage_refused(403, "AccessDenied", "The file is no longer expected.")
        signed = {"content-type": "application/octet-stream", "x-goog-content-length-range": f"{size},{size}"}
        if any(request.headers.get(name) != value for name, value in signed.items()):
            raise storage_refused(403, "SignatureDoesNotMatch", "The signed headers do not match those sent.")
        spool = Spool(self._books.folder.new())
        try:
            await spool.fill(request.content.iter_chunked(PIECE), size, faults.upload_cut)
            stored = spool.keep()
        except TooLarge:
            raise storage_refused(400, "EntityTooLarge", f"The upload is larger than {size} bytes.") from None
        finally:
            spool.close()
        if stored.size < size:
            stored.path.unlink()
            raise storage_refused(400, "EntityTooSmall", f"The upload is smaller than {size} bytes.")
        self._stats.bytes_uploaded += stored.size
        _replace(grant.dataset, grant.filename, stored)
        return web.Response(headers={"etag": _etag(stored)})

    async def get(self, request: web.Request, faults: BatchFaults) -> web.StreamResponse:
        """Send a file, or the range of it that was asked for. Raises Refused."""
        grant = self._admit(request, "GET", faults)
        stored = grant.dataset.files.get(grant.filename)
        if stored is None or not stored.path.exists():
            raise storage_refused(404, "NoSuchKey", "The specified key does not exist.")
        span = _asked_span(request, stored) if not faults.has("no_range") else None
        start, end = span or (0, stored.size)
        headers = {"content-type": "application/octet-stream", "etag": _etag(stored), "accept-ranges": "bytes"}
        if span is not None:
            headers["content-range"] = f"bytes {start}-{end - 1}/{stored.size}"
        response = web.StreamResponse(status=200 if span is None else 206, headers=headers)
        response.content_length = end - start
        await response.prepare(request)
        if request.method != "HEAD":
            await self._send(response, stored.path, start, end, faults.download_cut)
        await response.write_eof()
        return response

    async def _send(
        self, response: web.StreamResponse, path: Path, start: int, end: int, cut_after: int | None
    ) -> None:
        last = end if cut_after is None else min(end, start + cut_after)
        for piece in _pieces(path, start, last):
            await response.write(piece)
            self._stats.bytes_downloaded += len(piece)
        if last < end:
            raise CutOff

    def _admit(self, request: web.Request, verb: str, faults: BatchFaults) -> Grant:
        if "authorization" in request.headers:
            self._stats.keys_leaked += 1
            if self._config.strict_urls:
                raise storage_refused(400, "InvalidArgument", "A signed URL takes no Authorization header.")
        grant = self._grants.get(request.query.get("X-Goog-Signature", ""))
        wanted = _path(grant.dataset, grant.filename) if grant else ""
        if grant is None or request.path != wanted or verb != grant.verb:
            raise storage_refused(403, "SignatureDoesNotMatch", "The signature does not match the request.")
        if faults.has("expired") or self._now() >= grant.expires:
            raise storage_refused(self._config.expired_status, "ExpiredToken", "The provided token has expired.")
        return grant

    def _now(self) -> float:
        return self._books.clock.now() if self._config.url_time == "virtual" else time.time()


def _path(dataset: Dataset, filename: str) -> str:
    return f"{PATH}/{dataset.account}/dataset/{dataset.id}/{filename}"


def _replace(dataset: Dataset, filename: str, stored: StoredFile) -> None:
    if filename in dataset.files:
        dataset.files[filename].path.unlink(missing_ok=True)
    dataset.files[filename] = stored


def _etag(stored: StoredFile) -> str:
    return f'"{stored.path.parent.name}-{stored.path.name}-{stored.size}"'


def _asked_span(request: web.Request, stored: StoredFile) -> tuple[int, int] | None:
    """The range asked for as (start, end), None for the whole file. Raises Refused if there is nothing in it."""
    if request.headers.get("if-range", _etag(stored)) != _etag(stored):
        return None
    try:
        asked = request.http_range
    except ValueError:
        return None  # a range in another form is ignored (RFC 9110, 14.2)
    if asked.start is None and asked.stop is None:
        return None
    start, end, _ = asked.indices(stored.size)
    if start >= end:
        reply = storage_error(416, "InvalidRange", "The requested range cannot be satisfied.")
        raise Refused(replace(reply, headers={"content-range": f"bytes */{stored.size}"}))
    return start, end


def _pieces(path: Path, start: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while start < end and (piece := file.read(min(PIECE, end - start))):
            start += len(piece)
            yield piece
