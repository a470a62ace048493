"""One call of the control plane, as its desk sees it."""

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from workers.emulator.batch.config import Operation
from workers.emulator.batch.faults import BatchFaults


@dataclass(frozen=True)
class Call:
    """A call that has been admitted. `id` is that of the dataset or job in its path, `body` its JSON, {} if empty."""

    request: web.Request
    operation: Operation
    account: str
    id: str
    body: Any
    faults: BatchFaults
    now: float

    @property
    def origin(self) -> str:
        """Scheme, host and port that the client used."""
        return str(self.request.url.origin())

    def query(self, name: str, spelled: str) -> str:
        """A parameter of the query, in camel case or in the other spelling."""
        return self.request.query.get(name) or self.request.query.get(spelled) or ""
