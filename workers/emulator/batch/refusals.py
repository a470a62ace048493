"""The control plane's refusals: shape E5 with a gRPC code (WIRE 3.7), the front end's pages, and the storage's XML.

The texts are unknown but for those that WIRE quotes.
"""

from workers.emulator import errors
from workers.emulator.errors import ErrorReply, Refused

INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS = 3, 5, 6
RESOURCE_EXHAUSTED, FAILED_PRECONDITION, UNIMPLEMENTED = 8, 9, 12


def invalid(message: str) -> Refused:
    """400, INVALID_ARGUMENT."""
    return Refused(errors.e5(message, 400, INVALID_ARGUMENT))


def not_ready(message: str) -> Refused:
    """400, FAILED_PRECONDITION."""
    return Refused(errors.e5(message, 400, FAILED_PRECONDITION))


def not_found_reply() -> ErrorReply:
    """404, in the words of WIRE 3.7."""
    return errors.e5("resource not found", 404, NOT_FOUND)


def not_found() -> Refused:
    """404, NOT_FOUND."""
    return Refused(not_found_reply())


def exists(name: str) -> Refused:
    """409, ALREADY_EXISTS."""
    return Refused(errors.e5(f"{name} already exists", 409, ALREADY_EXISTS))


def not_built(what: str) -> Refused:
    """501: what the stand-in does not do is refused, never ignored."""
    return Refused(errors.e5(f"{what} is not supported by the emulator", 501, UNIMPLEMENTED))


def no_such_method() -> Refused:
    """501, UNIMPLEMENTED."""
    return Refused(errors.e5("method not implemented", 501, UNIMPLEMENTED))


def too_large(limit: int, status: int) -> Refused:
    """An upload over the limit: the real answer is unknown (WIRE 3.3)."""
    message = f"the file is larger than {limit} bytes, use getUploadEndpoint"
    return Refused(errors.e5(message, status, INVALID_ARGUMENT if status == 400 else RESOURCE_EXHAUSTED))


def get_with_body() -> Refused:
    """Google's front end refuses a GET that has a body (WIRE 3.8)."""
    return Refused(errors.e6(400, "Bad Request"))


def storage_error(status: int, code: str, message: str) -> ErrorReply:
    """A refusal of a signed URL, in the storage's XML."""
    text = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return ErrorReply(status, text, "application/xml")


def storage_refused(status: int, code: str, message: str) -> Refused:
    """The same, raised."""
    return Refused(storage_error(status, code, message))
