"""Prints the part of requirements.lock that an image needs: the given extras, or the build backend, and what they need.

    python scripts/worker_lock.py worker emulator mcp > worker.lock   # `build` stands for the build backend

requirements.lock stays the only lock: its `# via` lines say who wants a package, so that the part is cut out of it and
nothing is resolved anew. Versions and hashes are copied as they are. What is cut too short fails at once, because
`pip install --require-hashes` refuses a package that is not in its file. Standard library only.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = "build"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VIA = re.compile(r"^    #(?: via)? +(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)$", re.MULTILINE)


class CutError(ValueError):
    """The part cannot be cut out of the lock; the text says why."""


def main() -> int:
    """Return the exit code."""
    try:
        cut = cut_out(
            (ROOT / "requirements.lock").read_text(encoding="utf-8"),
            asked_for(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")), set(sys.argv[1:])),
        )
    except CutError as exc:
        sys.stderr.write(f"worker_lock: {exc}\n")
        return 1
    sys.stdout.write(cut)
    return 0


def asked_for(pyproject: dict, extras: set[str]) -> set[str]:
    """Return the names that the project itself asks for under these extras. Raise CutError for an unknown one."""
    if extras == {BUILD}:
        return {_canonical(each) for each in pyproject["build-system"]["requires"]}
    project = pyproject["project"]
    asked = [*project["dependencies"]]
    pending, seen = set(extras), set()
    while pending:
        extra = pending.pop()
        if extra not in project["optional-dependencies"]:
            raise CutError(
                f"no extra {extra!r}; there are {', '.join(project['optional-dependencies'])}, and {BUILD!r}"
            )
        seen.add(extra)
        for each in project["optional-dependencies"][extra]:
            if _canonical(each) == project["name"]:  # our own extras, by name
                pending |= set(each.partition("[")[2].partition("]")[0].split(",")) - seen
            else:
                asked.append(each)
    return {_canonical(each) for each in asked}


def cut_out(lock: str, asked: set[str]) -> str:
    """Return the blocks of what is asked for and of whatever these want, in the order of the lock. Raise CutError."""
    blocks = {_canonical(each): each for each in re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]}
    if missing := asked - blocks.keys():
        raise CutError(f"requirements.lock lacks {', '.join(sorted(missing))}: run `make lock`")
    wanted_by = {name: {_canonical(each) for each in _VIA.findall(block)} for name, block in blocks.items()}
    kept, grown = set(), set(asked)
    while grown != kept:
        kept = grown
        grown = kept | {name for name, parents in wanted_by.items() if parents & kept}
    return "".join(block for name, block in blocks.items() if name in kept)


def _canonical(requirement: str) -> str:
    """Return the package's name as the lock spells it."""
    found = _NAME.match(requirement.strip())
    if not found:
        raise CutError(f"cannot read {requirement!r}")
    return re.sub(r"[-_.]+", "-", found[0]).lower()


if __name__ == "__main__":
    sys.exit(main())
