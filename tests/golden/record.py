"""`python -m tests.golden.record`: writes the journals and the contracts of the present release, which has none yet.

What a release wrote is history: what is there is never written again. Run it when a release is made, and when
a story is new; `STORY...` records only those, and refuses the ones that are there.
"""

import asyncio
import json
import sys
from importlib.metadata import version

import structlog

from api_contracts.publishing import json_schemas
from tests.golden.files import contracts_of, path_of, written
from tests.golden.stories import STORIES, played


def main(words: list[str]) -> int:
    """Record; return the exit code."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    release = version("fireworks-workers")
    wanted = [story for story in STORIES if not words or story.name in words]
    if there := [story.name for story in wanted if path_of(release, story.name).exists()]:
        print(f"release {release} has journals of {', '.join(there)}: what a release wrote is never written again")
        return 1
    _keep_contracts(release)
    for story in wanted:
        path = path_of(release, story.name)
        path.parent.mkdir(exist_ok=True)
        golden = asyncio.run(played(story))
        path.write_text(written(golden))
        types = [event.type for event in golden.journal]
        print(f"{path.name}: {len(types)} events, {len(golden.letters)} letters, {types[-1]}")
    return 0


def _keep_contracts(release: str) -> None:
    """Write the schemas of a release, one a line. `contracts export` does not reach them, so that what it overwrites
    is not all that a change is compared with."""
    path = contracts_of(release)
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        return
    lines = (f"{json.dumps(name)}: {json.dumps(schema)}" for name, schema in sorted(json_schemas().items()))
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{path.name}: the contracts of {release}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
