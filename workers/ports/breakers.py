"""Circuit breakers that all workers share."""

from typing import NamedTuple, Protocol

from workers.core.circuit import Scope


class Pass(NamedTuple):
    """What an asker is told. `refused` names the circuit that is open, `until` (seconds since 1970) for how long.

    `clean`: both circuits are closed and remember no failure, so that a success need not be told.
    """

    refused: Scope | None = None
    until: float = 0.0
    probe: bool = False
    clean: bool = True


class Breakers(Protocol):
    """A circuit for each account, and one for each model of an account. `account` is the name of its credential.

    All methods raise `StoreUnavailable`.
    """

    async def enter(self, account: str | None, model: str) -> Pass:
        """Ask to be let through. Of all who ask a half-open circuit, one is the probe, the others are refused."""
        ...

    async def worked(self, account: str | None, model: str) -> None:
        """Close both circuits and forget their failures."""
        ...

    async def failed(self, account: str | None, model: str, scope: Scope) -> None:
        """Count a failure against the circuit that `scope` names. A failing probe opens it for twice as long."""
        ...
