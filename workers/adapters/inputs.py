"""Files of JSONL that a batch names: a path on this machine, or a URL. Bytes as they come, never a whole file."""

import asyncio
import ipaddress
import os
import socket
import stat
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO, Final

import aiohttp

from api_contracts.failure import Failure
from workers.ports import ProviderFailed

_CHUNK: Final = 256 * 1024
_CONNECT_S: Final = 10.0
_GAP_S: Final = 60.0

_NO_FOLDER: Final = (
    "FW_BATCH_FOLDER is not set in the worker: name the folder there whose files batches may read, or send rows or a "
    "URL instead"
)
_PRIVATE: Final = (
    "the URL leads to a private address: use a public one, or set FW_PRIVATE_URLS=true in the worker if callers may "
    "reach its network"
)
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


class _PrivateAddress(OSError):
    """The address is not for callers; the connector tries the name's next one."""


class InputFiles:
    """Port `Inputs`. Paths are read below `folder` only, links resolved, and none without a folder; URLs without
    redirects, and at public addresses unless `private_urls`.

    `gap_s` is the longest silence of a URL's server.
    """

    def __init__(self, folder: Path | None, *, private_urls: bool = False, gap_s: float = _GAP_S) -> None:
        self._folder = folder.resolve() if folder else None
        self._make_socket = _any_socket if private_urls else _public_socket
        self._timeout = aiohttp.ClientTimeout(total=None, connect=_CONNECT_S, sock_read=gap_s)

    async def read(self, source: str) -> AsyncGenerator[bytes, None]:
        """See the port."""
        async with aclosing(self._path(source) if source.startswith("/") else self._url(source)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _path(self, source: str) -> AsyncGenerator[bytes, None]:
        opening = asyncio.ensure_future(asyncio.to_thread(self._open, source))
        try:
            file = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unread)  # the thread opens it all the same
            raise
        try:
            while chunk := await asyncio.to_thread(_read, file):
                yield chunk
        finally:
            await asyncio.to_thread(file.close)

    def _open(self, source: str) -> BinaryIO:
        """Open a regular file; what is none may never end, and a pipe without a writer would never open."""
        if self._folder is None:
            raise ProviderFailed(_unreadable(_NO_FOLDER))
        try:
            path = Path(source).resolve()
            if not path.is_relative_to(self._folder):
                raise ProviderFailed(_unreadable(f"files are read below {self._folder} only (FW_BATCH_FOLDER)"))
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return os.fdopen(descriptor, "rb")
            os.close(descriptor)
        except (OSError, RuntimeError, ValueError) as exc:  # RuntimeError: links that lead in a circle, up to 3.12
            why = exc.strerror if isinstance(exc, OSError) else "no such path"
            raise ProviderFailed(_unreadable(f"the file cannot be read: {why}")) from None
        raise ProviderFailed(_unreadable("the file cannot be read: it is no regular file"))

    async def _url(self, source: str) -> AsyncGenerator[bytes, None]:
        # Looked at where the socket is made: whatever name, notation or answer of a name server led to the address.
        connector = aiohttp.TCPConnector(socket_factory=self._make_socket, use_dns_cache=False)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector, timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar()
                ) as session,
                session.get(source, allow_redirects=False, headers={"Accept-Encoding": "identity"}) as response,
            ):
                if response.status != 200:
                    again = response.status >= 500 or response.status in (408, 429)
                    raise ProviderFailed(_unreadable(f"its server answers {response.status}", retryable=again))
                async for chunk in response.content.iter_chunked(_CHUNK):
                    yield chunk
                return
        except aiohttp.InvalidURL:
            failure = _unreadable("the URL cannot be used")
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            failure = _failure_of(exc)
        raise ProviderFailed(failure)


def _read(file: BinaryIO) -> bytes:
    try:
        return file.read(_CHUNK)
    except OSError as exc:
        raise ProviderFailed(_unreadable(f"the file cannot be read: {exc.strerror}")) from None


def _close_unread(opening: "asyncio.Future[BinaryIO]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _failure_of(exc: Exception) -> Failure:
    if isinstance(exc, aiohttp.ClientConnectorError) and isinstance(exc.os_error, _PrivateAddress):
        return _unreadable(_PRIVATE)
    # Only the kind of error: its text may quote the URL, which may be signed.
    return _unreadable(f"the URL cannot be read: {type(exc).__name__}", retryable=True)


def _unreadable(why: str, *, retryable: bool = False) -> Failure:
    return Failure(
        code="input_unreadable", category="bad_request", at_fault="caller", message=why[:500], retryable=retryable
    )


def is_public(host: str) -> bool:
    """Whether an address is one of the open internet, also when it is written inside of another."""
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(str(inner))
    return address.is_global and not address.is_multicast


def _public_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    if not is_public(str(info[4][0])):
        raise _PrivateAddress
    return _any_socket(info)


def _any_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = info
    return socket.socket(family, kind, protocol)
