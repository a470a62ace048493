"""Becomes another user, then a command that ends with its parent: `dropping.py PARENT USER COMMAND ...`.

A script of its own: PostgreSQL does not run as root, and a change of user takes back what `deathsig` had the kernel do.
"""

import ctypes
import os
import pwd
import signal
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main(parent: int, user: str, command: list[str]) -> None:
    """Run the command; SIGINT is PostgreSQL's fast shutdown, which leaves no shared memory behind."""
    if os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGINT), *[ctypes.c_ulong(0)] * 3)
    if os.getppid() == parent:  # it may have died before the line above
        os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
