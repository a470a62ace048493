"""Why a worker refuses a request before anything of it is begun. Nothing of what was in it is repeated."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from api_contracts.failure import Failure


def bad_request(exc: ValidationError) -> Failure:
    """Return the failure of a request that does not fit its contract: where and why, not what was in it."""
    return refused("; ".join(f"{'.'.join(map(str, e['loc'])) or 'request'}: {e['msg']}" for e in exc.errors()[:8]))


def refused(faults: str) -> Failure:
    """Return the failure of a request that cannot be done as it is."""
    return Failure(code="bad_request", category="bad_request", message=faults[:2000], at_fault="caller")


def unknown_tool(name: str) -> Failure:
    """Return the failure of a chat that names a tool which is nowhere."""
    return Failure(
        code="unknown_tool",
        category="bad_request",
        message=f"no tool {name!r} is registered in this worker (FW_TOOLS); a tool elsewhere needs 'task' and 'queue'",
        at_fault="caller",
    )


def unknown_credential(name: str) -> Failure:
    """Return the failure of a request whose credential has no key here."""
    return Failure(
        code="unknown_credential",
        category="authentication",
        message=f"no key is configured for credential {name!r} (FW_CREDENTIALS, FW_CREDENTIALS_DIR)"[:300],
        at_fault="caller",
    )


def credentials_in(request: Mapping[str, Any]) -> list[str]:
    """Return the credentials that a request names; it has not been checked yet."""
    route = request.get("route")
    entries = [request, *(each for each in (route if isinstance(route, list) else []) if isinstance(each, dict))]
    return [name for entry in entries if isinstance(name := entry.get("credential"), str)]
