"""The provider's error bodies: six shapes that live side by side (WIRE 1.7), and the refusals that use them.

Refused            an answer other than 200, raised anywhere before the response starts
e1 ... e6          the shapes, each returning an `ErrorReply`
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

INVALID_REQUEST = "invalid_request_error"


@dataclass(frozen=True)
class ErrorReply:
    """An error response, ready to send."""

    status: int
    text: str
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """The request ends in this reply."""

    def __init__(self, reply: ErrorReply) -> None:
        super().__init__(reply.text)
        self.reply = reply


def _json(status: int, body: Mapping[str, Any]) -> ErrorReply:
    # Bodies may quote what the caller sent, and callers send values that JSON has no form for.
    return ErrorReply(status, json.dumps(body, ensure_ascii=False, default=str))


def e1(message: str, status: int = 400, code: str = INVALID_REQUEST, kind: str = INVALID_REQUEST) -> ErrorReply:
    """Request validation and most else."""
    return _json(status, {"error": {"object": "error", "type": kind, "code": code, "message": message}})


def e2(message: str, status: int, code: str, request_id: str, param: str | None = None) -> ErrorReply:
    """The gateway's checks: keys and sizes."""
    error = {"message": message, "param": param, "code": code, "type": "error"}
    return _json(status, {"error": error, "request_id": request_id})


def e3(detail: list[dict[str, Any]], status: int = 422) -> ErrorReply:
    """The published description's validation error."""
    return _json(status, {"detail": detail})


def e4(error: str, message: str, status: int) -> ErrorReply:
    """The audio hosts: `error` is a string."""
    return _json(status, {"error": error, "message": message})


def e5(message: str, status: int, code: int) -> ErrorReply:
    """The control plane: a numeric gRPC code."""
    return _json(status, {"code": code, "message": message, "details": []})


def e6(status: int, title: str) -> ErrorReply:
    """A front end or CDN: HTML, no JSON anywhere."""
    head = f"<head><title>{status} {title}</title></head>"
    return ErrorReply(status, f"<html>{head}<body><h1>{status} {title}</h1></body></html>\r\n", "text/html")


def bad_request(message: str) -> Refused:
    """A 400 in shape E1."""
    return Refused(e1(message))


def missing_key(request_id: str) -> Refused:
    """No credentials at all."""
    return Refused(e2("The API key is missing from the request.", 401, "UNAUTHORIZED", request_id))


def bad_key(request_id: str) -> Refused:
    """Rule R5: a bad key is a 403, whatever the documentation says."""
    return Refused(e2("The API key you provided is invalid.", 403, "UNAUTHORIZED", request_id))


def stream_required(limit: int, request_id: str) -> Refused:
    """Rule R1."""
    message = f"Requests with max_tokens > {limit} must have stream=true"
    return Refused(e2(message, 400, "BAD_REQUEST", request_id, param="max_tokens"))


def no_such_model() -> ErrorReply:
    """Rule R6."""
    return e1("Model not found, inaccessible, and/or not deployed", 404, code="NOT_FOUND")


def rate_limited() -> ErrorReply:
    """Rule R8."""
    return e1("rate limit exceeded, please try again later", 429)


def too_late_for_first_token() -> ErrorReply:
    """Rule R9."""
    return e1("Request didn't generate first token before the given deadline", 429)


def generation_failed() -> ErrorReply:
    """The model broke before a plain answer was complete."""
    return e1("Internal server error", 500, code="INTERNAL", kind="internal_server_error")
