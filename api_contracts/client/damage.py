"""What a stranger's hand in the keys of a run means to whoever reads or writes them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from redis.exceptions import ResponseError

from api_contracts.failure import RunDamaged

_WRONG_TYPE: Final = "WRONGTYPE"


def is_damage(exc: BaseException) -> bool:
    """Whether Redis says that a key is of another type than every writer of ours makes it."""
    return isinstance(exc, ResponseError) and _WRONG_TYPE in str(exc)


@contextmanager
def named() -> Iterator[None]:
    """Turn Redis' word for such a key into `RunDamaged`."""
    try:
        yield
    except ResponseError as exc:
        if is_damage(exc):
            raise RunDamaged from exc
        raise
