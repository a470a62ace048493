"""`Breakers` in memory: the rules as they stand in the core, on a clock that is given."""

from workers.core.circuit import POLICIES, Circuit, Scope
from workers.ports import Clock, Pass

_Key = tuple[str | None, str | None]


class MemoryBreakers:
    """See the port. `circuits` is all that is known: of (account, None) and (account, model)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.circuits: dict[_Key, Circuit] = {}

    async def enter(self, account: str | None, model: str) -> Pass:
        """See the port."""
        now = self._clock.now()
        self.circuits = {key: circuit for key, circuit in self.circuits.items() if not circuit.is_over(now)}
        scopes: dict[Scope, Circuit | None] = {
            "account": self.circuits.get((account, None)), "model": self.circuits.get((account, model))
        }  # fmt: skip
        known = {scope: circuit for scope, circuit in scopes.items() if circuit is not None}
        for scope, circuit in known.items():
            if (until := circuit.shut_until(now)) is not None:
                return Pass(refused=scope, until=until, clean=False)
        probes = [circuit.enter(now) for circuit in known.values()]
        return Pass(probe=any(probes), clean=not known)

    async def worked(self, account: str | None, model: str) -> None:
        """See the port."""
        for key in ((account, None), (account, model)):
            self.circuits.pop(key, None)

    async def failed(self, account: str | None, model: str, scope: Scope) -> None:
        """See the port."""
        key, now = (account, None if scope == "account" else model), self._clock.now()
        circuit = self.circuits.get(key)
        if circuit is None or circuit.is_over(now):
            circuit = self.circuits[key] = Circuit()
        circuit.failed(POLICIES[scope], now)
