"""How long things of a run may take or last, in seconds."""

from dataclasses import dataclass

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Leases, sweeps and retention. Defaults are the design's (design 2); a demo shortens them openly."""

    lease_s: float = 10.0
    """A lease is good for this long after its last renewal."""
    renew_s: float = 3.0
    """Each process renews all its leases this often."""
    sweep_s: float = 5.0
    """Each process looks for due runs this often, with jitter."""
    lost_message_s: float = 30.0
    """A queued run that nobody took is sent again after this long, then after twice as long, and so on."""
    longest_look_s: float = 600.0
    """The longest pause between two such repeats."""
    live_ttl_s: float = 30 * DAY_S
    """Keys of a run that has not ended live this long after the last sign of life."""
    retention_s: float = 1 * DAY_S
    """Keys of a finished and announced run live this long; SQL keeps the result longer."""
