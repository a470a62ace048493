"""What goes wrong in one simulated run of the world, and when. A plan is one line, and the line is the plan again.

Steps are the calls of ports, counted through the whole world from 1. Under one seed and plan the world does the same
again, up to the last call.
"""

import random
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

Kind = Literal["kill-before", "kill-after", "pause", "no-reply", "refused", "drain", "sql-away", "redis-away", "forget"]
"""kill: the process dies, the call was not or was carried out. pause: the process stands still beyond its leases.
no-reply: the call was carried out, and raises. refused: it was not, and raises. drain: the process is told to stop, by
SIGTERM. sql-away, redis-away: half a minute in which every such call of anyone raises. forget: Redis is wiped."""

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Plan:
    """`seed` decides latencies, who gets a message, and what the broker loses or doubles; `faults` come at steps."""

    seed: int = 1
    faults: dict[int, Kind] = field(default_factory=dict)
    lossy: bool = False
    """Whether the broker loses and doubles messages, and the provider breaks off."""

    def __str__(self) -> str:
        faults = ",".join(f"{step}:{kind}" for step, kind in sorted(self.faults.items()))
        return f"seed={self.seed} lossy={int(self.lossy)} faults={faults or '-'}"

    @classmethod
    def read(cls, line: str) -> "Plan":
        """Return the plan of a line; ValueError for what is none."""
        given = dict(word.split("=", 1) for word in line.split())
        faults: dict[int, Kind] = {}
        for each in given["faults"].split(",") if given["faults"] != "-" else []:
            step, kind = each.split(":")
            faults[int(step)] = next(known for known in KINDS if known == kind)
        return cls(int(given["seed"]), faults, bool(int(given["lossy"])))

    @classmethod
    def sampled(cls, seed: int, steps: int, most: int = 3) -> "Plan":
        """Return a plan with one to `most` faults among so many steps; a wiped Redis is among few of them."""
        chance = random.Random(seed)
        kinds = [kind for kind in KINDS if kind != "forget" or chance.random() < 0.2]
        count = chance.randint(1, most)
        return cls(seed, {chance.randint(1, steps): chance.choice(kinds) for _ in range(count)}, chance.random() < 0.5)
