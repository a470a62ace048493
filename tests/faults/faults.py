"""The table of faults: what is done, to whom, and when it is undone."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.acceptance.cluster import Process
from tests.faults.verdict import Struck
from tests.faults.world import DRAIN_S, LEASE_S, World, redis_of
from tests.servers import kill
from tests.waiting import eventually, rest

EXIT_S = 30.0
"""What leaving may take after the drain: 11 s by the pool's own bounds, more on a busy machine."""

Strike = Callable[[World, random.Random, float], Struck]
"""Does it once, undoes it. The number is how long an outage lasts."""


@dataclass(frozen=True)
class Fault:
    """A line of the table. `pause_s`: between two strikes; `once`: an outage that is long at full size."""

    name: str
    strike: Strike
    pause_s: tuple[float, float] = (1.0, 3.0)
    once: bool = False
    drains: bool = False
    """Whether nothing may be left for the broker to give out again after its visibility timeout."""
    loses: bool = False
    """Whether a message may be lost on its way: what BRPOP has taken out of its list and did not bring home is nowhere.
    A run is rung for again; a tool's message or result is not, and the call ends by its deadline."""
    wipes: bool = False
    """Whether Redis forgets: a run may end as journal_lost, and speech that was lost is not heard."""


def _a_worker(world: World, chance: random.Random) -> Process:
    return chance.choice(eventually(lambda: len(found := world.workers()) > 1 and found, within=60))


def killed(world: World, chance: random.Random, _: float) -> Struck:
    """SIGKILL, and a new one as the supervisor starts it."""
    worker = _a_worker(world, chance)
    struck = Struck(world.servers.now(), worker.pid)
    world.kill(worker)
    world.one_more(worker.name)
    return struck


def frozen(world: World, chance: random.Random, _: float) -> Struck:
    """SIGSTOP beyond the lease: it comes back as a zombie."""
    worker = _a_worker(world, chance)
    struck = Struck(world.servers.now(), worker.pid)
    worker.pause()
    rest(chance.uniform(1.2, 3.0) * LEASE_S)
    worker.go_on()
    return struck


def drained(world: World, chance: random.Random, _: float) -> Struck:
    """A rolling restart: SIGTERM, and a new one once it is gone with exit code 0."""
    worker = _a_worker(world, chance)
    struck = Struck(world.servers.now(), worker.pid)
    code = worker.stop(within=DRAIN_S + EXIT_S)
    if code == 0:
        world.killed.add(worker.pid)
    world.one_more(worker.name)
    return struck


def journals_killed(world: World, chance: random.Random, lasts_s: float) -> Struck:
    """SIGKILL of Redis; started again over its append-only file."""
    struck = Struck(world.servers.now())
    kill(world.servers.journals)
    rest(chance.uniform(0.1, lasts_s))
    world.servers.journals.restart()
    return struck


def journals_down(world: World, chance: random.Random, lasts_s: float) -> Struck:
    """Redis is away for a while."""
    struck = Struck(world.servers.now())
    kill(world.servers.journals)
    rest(lasts_s)
    world.servers.journals.restart()
    return struck


def journals_wiped(world: World, chance: random.Random, _: float) -> Struck:
    """Redis forgets everything."""
    struck = Struck(world.servers.now())
    with redis_of(world.servers.journals.url) as redis:
        redis.flushall()
    return struck


def broker_down(world: World, chance: random.Random, lasts_s: float) -> Struck:
    """The broker is away for a while: killed where it is ours, else unreachable."""
    struck = Struck(world.servers.now())
    broker = world.servers.broker
    if broker is not None:
        kill(broker)
    else:
        world.servers.broker_proxy.refuse()
    rest(lasts_s)
    if broker is not None:
        broker.restart()
    world.servers.broker_proxy.heal()
    return struck


def broker_silent(world: World, chance: random.Random, lasts_s: float) -> Struck:
    """The broker can be reached and says nothing; then everything arrives late."""
    struck = Struck(world.servers.now())
    world.servers.broker_proxy.hold()
    rest(lasts_s)
    world.servers.broker_proxy.heal()
    return struck


def sql_down(world: World, chance: random.Random, lasts_s: float) -> Struck:
    """PostgreSQL is stopped for a while."""
    struck = Struck(world.servers.now())
    world.servers.postgres.stop()
    rest(lasts_s)
    world.servers.postgres.start()
    return struck


def network(what: str, lasts_s: tuple[float, float] = (0.0, 0.0)) -> Strike:
    """Make what happens to the lines to Redis, to the broker, or to both."""

    def strike(world: World, chance: random.Random, _: float) -> Struck:
        both = (world.servers.redis_proxy, world.servers.broker_proxy)
        struck = Struck(world.servers.now())
        for proxy in chance.choice([both[:1], both[1:], both]):
            proxy.delay(0.02, 0.3) if what == "delay" else getattr(proxy, what)()
        rest(chance.uniform(*lasts_s))
        for proxy in both:
            proxy.heal()
        return struck

    return strike


def clock_stepped(world: World, chance: random.Random, _: float) -> Struck:
    """One worker's wall clock is set an hour forward or back, or right again; the others' is right."""
    worker = _a_worker(world, chance)
    struck = Struck(world.servers.now(), worker.pid)
    (world.folder / f"clock-{worker.pid}").write_text(str(chance.choice([3600, -3600, 0])))
    return struck


PROCESSES = (
    Fault("worker killed", killed, pause_s=(2.0, 4.0), loses=True),
    Fault("worker frozen beyond its lease", frozen),
    Fault("workers drained one by one", drained, drains=True),
    Fault("redis killed, restarted with its file", journals_killed, pause_s=(2.0, 5.0)),
    Fault("redis down", journals_down, once=True),
    Fault("redis wiped", journals_wiped, pause_s=(2.0, 5.0), wipes=True),
    Fault("sql down", sql_down, once=True),
    Fault("broker down", broker_down, once=True, loses=True),
    Fault("clock stepped", clock_stepped, pause_s=(0.5, 2.0)),
)
NETWORK = (
    Fault("network: reset", network("reset"), loses=True),
    Fault("network: half-open", network("half_open"), pause_s=(2.0, 4.0), loses=True),
    Fault("network: black hole", network("hold", (0.5, 3.0)), pause_s=(2.0, 4.0), loses=True),
    Fault("network: delay", network("delay", (1.0, 3.0))),
    Fault("network: partial write", network("cut"), loses=True),
)
ON_RABBITMQ = (
    Fault("rabbitmq down", broker_down, once=True),
    Fault("rabbitmq silent", broker_silent, once=True),
    Fault("rabbitmq: worker killed", killed, pause_s=(2.0, 4.0)),
    Fault("rabbitmq: workers drained one by one", drained, drains=True),
    Fault("rabbitmq: reset", network("reset")),
    Fault("rabbitmq: partial write", network("cut")),
)
