"""CPU time and memory of another process, and figures with their spread."""

import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_CPUCLOCK_SCHED: Final = 2
"""Linux: a process's CPU clock is its inverted pid, and these bits below (clock_getcpuclockid(3))."""


def cpu_s(pid: int) -> float:
    """Return user and system seconds of a process, all its threads, on Linux."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def exact_cpu_s(pid: int) -> float:
    """Return the same to the nanosecond, with the threads that ended: `/proc` counts in ticks of 10 ms."""
    return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)


def rss_mb(pid: int) -> float:
    """Return a process's resident memory in MB (1e6 bytes), on Linux."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def busy_s() -> float:
    """Return the seconds that all cores of this machine were busy, whoever had them."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def spread(values: Sequence[float], unit: str = "", scale: float = 1.0) -> str:
    """Return median and range."""
    scaled = [value * scale for value in values]
    return f"{statistics.median(scaled):.2f}{unit} ({min(scaled):.2f} to {max(scaled):.2f})"
