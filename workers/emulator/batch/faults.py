"""What can be made to go wrong with batches, by header (`x-emulator-fault: name[=arg],...`) or by a rule.

Faults belong to one call. A status (`429`, `503` ..., with `retry_after=SECONDS`, or `error_shape=E1..E6`) answers it
with an error; the others are in `GUIDE`. Those of a job or a dataset come with the call that makes it: `create_job`,
`upload`, `validate_upload`. Seconds are virtual but for `slow`. Parses and describes; others act.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from workers.emulator import errors
from workers.emulator.batch.refusals import not_found_reply, storage_error
from workers.emulator.batch.schedule import ALL, Amount, read_plan
from workers.emulator.errors import ErrorReply
from workers.emulator.faults import FaultSyntax, parse_faults

GUIDE: Mapping[str, str] = {
    "late": "the call is carried out first: its error, hang-up or silence hides a success",
    "drop": "the connection is closed instead of an answer",
    "stall": "no answer comes, and the connection stays open",
    "slow": "real seconds before the answer",
    "upload_cut": "the connection is closed after N bytes of the file have come; nothing is stored",
    "download_cut": "the connection is closed after N bytes of the file have gone",
    "no_range": "a Range header is ignored",
    "expired": "a signed URL is answered as an expired one",
    "url_expires": "the signed URLs of this answer live so many seconds",
    "slow_ready": "seconds from the upload to READY",
    "bad_upload": "validateUpload answers well, but the dataset gets an error status and is never READY",
    "states": "the job's life: VALIDATING:60/PENDING:30/RUNNING:120/COMPLETED; the last lasts, GONE is a 404",
    "stuck": "the job never leaves this state, but for its expiry",
    "fail_job": "the job is FAILED after its validation, with this status code",
    "expire_after": "seconds from the job's creation to EXPIRED",
    "rows_done": "how many rows are answered by the end of RUNNING: N or N%",
    "fail_rows": "rows that end in error-data: N, N% or a glob of custom ids",
    "fail_code": "the code of their errors",
    "miss_rows": "rows that end in neither file",
    "corrupt_rows": "rows whose output line is cut in half",
    "double_rows": "rows whose output line comes twice",
    "both_rows": "rows in the output and in error-data",
    "null_error": "output rows have an error key that is null",
    "waiting_on_capacity": "the job says so while it is RUNNING",
    "error_path": "the names of this answer's files have a path before them that says error",
    "output_after": "seconds from the job's end until its output dataset can be found",
    "times": "only the first N calls that ask for exactly this",
}

_FLAGS = frozenset({
    "late", "drop", "stall", "no_range", "expired", "bad_upload", "null_error", "error_path", "waiting_on_capacity",
})  # fmt: skip
_ROWS = ("fail_rows", "miss_rows", "corrupt_rows", "double_rows", "both_rows")
_COUNTS = frozenset({"upload_cut", "download_cut", "times"})
_SECONDS = frozenset({"slow", "url_expires", "slow_ready", "expire_after", "output_after"})
_TEXTS = frozenset({"stuck", "fail_job", "fail_code", "states", "retry_after"})


Rows: TypeAlias = Amount | str  # a text is a glob of custom ids


@dataclass(frozen=True)
class BatchFaults:
    """The faults of one call. `rows` are (what befalls them, which rows), in the order in which they choose."""

    status: str | None = None
    error_shape: str | None = None
    retry_after: str | None = None
    slow: float = 0.0
    upload_cut: int | None = None
    download_cut: int | None = None
    url_expires: float | None = None
    slow_ready: float | None = None
    states: str | None = None
    stuck: str | None = None
    fail_job: str | None = None
    expire_after: float | None = None
    rows_done: Amount = ALL
    rows: tuple[tuple[str, Rows], ...] = ()
    fail_code: str = "INTERNAL"
    output_after: float = 0.0
    times: int | None = None
    flags: frozenset[str] = frozenset()

    def has(self, flag: str) -> bool:
        """Whether a fault without argument is on."""
        return flag in self.flags

    def reply(self, request_id: str, *, storage: bool = False) -> ErrorReply | None:
        """The error that answers, if there is one; `storage` is for signed URLs."""
        reply = self._reply(request_id, storage)
        if reply is None or self.retry_after is None:
            return reply
        return replace(reply, headers={"retry-after": self.retry_after})

    def _reply(self, request_id: str, storage: bool) -> ErrorReply | None:
        if self.error_shape is not None:
            status = [self.status] if self.status and self.status not in _ONLY_HERE else []
            return parse_faults([*status, f"error_shape={self.error_shape}"]).reply(request_id)
        if self.status is None:
            return None
        return _in_storage(self.status) if storage else _REPLIES[self.status](request_id)


def _grpc(status: int, code: int, message: str) -> Callable[[str], ErrorReply]:
    return lambda _request_id: errors.e5(message, status, code)


def _page(status: int, title: str) -> Callable[[str], ErrorReply]:
    return lambda _request_id: errors.e6(status, title)


def _gateway(status: int, code: str, message: str) -> Callable[[str], ErrorReply]:
    return lambda request_id: errors.e2(message, status, code, request_id)


# Codes are those of WIRE 3.7; a bad key is E2 (WIRE 3). The texts are made up but for 404 and 403.
_REPLIES: Mapping[str, Callable[[str], ErrorReply]] = {
    "400": _grpc(400, 3, "the request is invalid"),
    "401": _gateway(401, "UNAUTHORIZED", "The API key is missing from the request."),
    "402": _gateway(402, "PAYMENT_REQUIRED", "The account has no paid plan or is over its usage limit."),
    "403": _gateway(403, "UNAUTHORIZED", "The API key you provided is invalid."),
    "404": lambda _request_id: not_found_reply(),
    "408": _page(408, "Request Timeout"),
    "409": _grpc(409, 6, "the resource already exists"),
    "412": _grpc(412, 9, "the account is suspended"),
    "413": _page(413, "Request Entity Too Large"),
    "429": _grpc(429, 8, "quota exceeded"),
    "500": _grpc(500, 13, "internal error"),
    "501": _grpc(501, 12, "method not implemented"),
    "502": _page(502, "Bad Gateway"),
    "503": _grpc(503, 14, "the service is unavailable"),
    "504": _grpc(504, 4, "deadline exceeded"),
    "520": _page(520, "Web server is returning an unknown error"),
}
_ONLY_HERE = frozenset({"409", "501"})  # chat has no such fault to put into another shape


def _in_storage(status: str) -> ErrorReply:
    return storage_error(int(status), "SlowDown" if status == "429" else "Fault", "A fault was asked for.")


def parse_batch_faults(specs: Iterable[str]) -> BatchFaults:
    """Faults from `name` or `name=arg` texts; a later one wins over an earlier one of its name. Raises FaultSyntax."""
    faults = BatchFaults()
    for spec in specs:
        name, _, argument = (part.strip() for part in spec.partition("="))
        if name:
            faults = _with(faults, name.lower(), argument)
    _check_plan(faults)
    return faults


def _with(faults: BatchFaults, name: str, argument: str) -> BatchFaults:
    if name in _REPLIES:
        return replace(faults, status=name, retry_after=argument or faults.retry_after)
    if name == "error_shape":
        parse_faults([f"error_shape={argument}"])
        return replace(faults, error_shape=argument)
    if name in _FLAGS and not argument:
        return replace(faults, flags=faults.flags | {name})
    if name in _ROWS and argument:
        others = tuple(each for each in faults.rows if each[0] != name)
        return replace(faults, rows=(*others, (name, _rows(argument))))
    value = _argument(name, argument)
    if value is None:
        raise FaultSyntax(f"unknown emulator fault for batches: {name}{f'={argument}' if argument else ''}")
    changes: dict[str, Any] = {name: value}
    return replace(faults, **changes)


def _argument(name: str, argument: str) -> int | float | str | Amount | None:
    """The argument in the type of its field; None if there is no such fault, or nothing is given."""
    if name in _COUNTS:
        return int(_number(name, argument, whole=True))
    if name in _SECONDS:
        return _number(name, argument, whole=False)
    if name == "rows_done":
        amount = _rows(argument)
        if isinstance(amount, str):
            raise FaultSyntax(f"emulator fault {name} needs a number or a percentage, not {argument!r}")
        return amount
    return (argument or None) if name in _TEXTS else None


def _number(name: str, argument: str, *, whole: bool) -> float:
    try:
        value = float(int(argument)) if whole else float(argument)
    except ValueError:
        raise FaultSyntax(f"emulator fault {name} needs a number, not {argument!r}") from None
    if not 0 <= value < 1e12:  # also refuses nan
        raise FaultSyntax(f"emulator fault {name} needs a number from 0, not {argument!r}")
    return value


def _rows(argument: str) -> Rows:
    if argument.isascii() and argument.isdigit():
        return Amount(int(argument))
    share = argument.removesuffix("%")
    if share != argument:
        try:
            percent = float(share)
        except ValueError:
            return argument  # a glob that happens to end in a percent sign
        if not 0 <= percent <= 100:  # also refuses nan
            raise FaultSyntax(f"emulator fault needs a percentage from 0 to 100, not {argument!r}")
        return Amount(percent, percent=True)
    return argument


def chosen(rows: Rows, custom_id: str, rank: int, ranks_taken: int, total: int) -> bool:
    """Whether a row is among these. Its rank is its place in a shuffle of all rows, of which some are taken."""
    if isinstance(rows, str):
        return fnmatchcase(custom_id, rows)
    return ranks_taken <= rank < ranks_taken + rows.of(total)


def _check_plan(faults: BatchFaults) -> None:
    if faults.states is not None:
        try:
            read_plan(faults.states, stuck=faults.stuck)
        except ValueError as error:
            raise FaultSyntax(f"emulator fault states: {error}") from None
