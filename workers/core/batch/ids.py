"""How datasets, jobs and rows are named: the same run and shard, the same content, the same name. Always.

That is what makes each step create-or-adopt: a step that is repeated meets its own work (WIRE 3.1: 409).
"""

import hashlib
from typing import Final

import orjson

_PREFIX: Final = "fw"


def dataset_id(run_id: str, shard: int) -> str:
    """Return the id of a shard's input: letters, digits and hyphens, 63 at most (WIRE 3.2)."""
    return f"{_stem(run_id, shard)}-in"


def output_id(run_id: str, shard: int) -> str:
    """Return the id of the dataset that takes a shard's results."""
    return f"{_stem(run_id, shard)}-out"


def job_id(run_id: str, shard: int) -> str:
    """Return the id of a shard's job."""
    return f"{_stem(run_id, shard)}-job"


def display_name(run_id: str, shard: int) -> str:
    """Return what people see in the provider's console."""
    return f"{run_id} shard {shard}"


def made_custom_id(body: bytes) -> str:
    """Return the custom id of a row that has none, from its body as JSON: the order of keys does not matter."""
    canonical = orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)
    return f"{_PREFIX}-{hashlib.sha256(canonical).hexdigest()[:32]}"


def made_again(custom_id: str, number: int) -> str:
    """Return the made custom id of a row whose body another row before it has too."""
    return f"{custom_id}-{number}"


def _stem(run_id: str, shard: int) -> str:
    # Run ids have characters that are not taken, and are too long: 96 bits of a hash stand for them.
    return f"{_PREFIX}-{hashlib.sha256(run_id.encode()).hexdigest()[:24]}-s{shard:04d}"
