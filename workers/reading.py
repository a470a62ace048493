"""Reads a settings object from the environment: all faults at once, one line each, never a secret.

A line says which variable, what is wrong with its value, and what it may be. It must not know what a setting is for.
"""

import difflib
import json
import os
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar, get_args
from urllib.parse import urlsplit

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, BeforeValidator, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode

from workers.errors import Misconfigured

Made = TypeVar("Made", bound=BaseSettings)

PREFIX: Final = "FW_"

_FOREIGN: Final = re.compile(
    r"FW_TEST_\w+"
    # Kubernetes and Docker tell a process of every service beside it: of one named fw-redis as FW_REDIS_PORT_6379_TCP.
    r"|\w+_SERVICE_(HOST|PORT)(_\w+)?|\w+_PORT_\d+_(TCP|UDP)(_\w+)?"
)
_LINK: Final = re.compile(r"(tcp|udp)://.*")
_HINTS: Final = {int: "a whole number", float: "a number", Path: "a path"}
_SHOWN: Final = 20
"""Longest value that is repeated: a key that was put into the wrong variable is longer."""


def url(*schemes: str, path: str = "", no_path: tuple[str, ...] = (), also: tuple[str, ...] = ()) -> AfterValidator:
    """Return a check of a URL's form; empty is left to the default. What it says never repeats the URL.

    `path` is an example for a URL that needs a path; `no_path` are endings that the service adds by itself; `also` are
    schemes that are taken and not recommended.
    """
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)

    def check(value: str) -> str:
        for each in value.split(";") if value else ():  # the broker may be a list for failover
            _check_url(each, (*schemes, *also), wanted)
            ending = urlsplit(each).path.rstrip("/")
            if path and not ending:
                raise ValueError(f"has no path: it must end like {path}")
            if extra := next((wrong for wrong in no_path if ending.endswith(wrong)), None):
                raise ValueError(f"must end before {extra}, which is added here")
        return value

    return AfterValidator(check)


def json_object(example: str) -> tuple[Any, Any]:
    """Return the marks of a field that is given as JSON: pydantic-settings itself would raise, and hide the others.

    `example` shows what to write.
    """

    def read_object(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            found = json.loads(value)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ValueError(f"is no JSON object: write {example}")
        return found

    return NoDecode, BeforeValidator(read_object)


JSON_OBJECT: Final = json_object('{"name": "key"}')


def _check_url(value: str, schemes: Collection[str], wanted: str) -> None:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError("is no URL: is its port a number, and is what is special in the password %-encoded?") from None
    if parts.scheme not in schemes:
        raise ValueError(f"must begin with {wanted}")
    if parts.fragment:
        raise ValueError("has a '#': write %23 where it is part of the password")
    if parts.scheme != "sqlite" and not (parts.hostname or "host=" in parts.query):
        raise ValueError(f"names no host: write {parts.scheme}://host")
    if port == 0:
        raise ValueError("has port 0")


def read(
    cls: type[Made], known: Callable[[], Collection[str]] | None = None, **given: Any
) -> tuple[Made | None, list[str]]:
    """Return the object, or None, and the faults. `known` are the variables that may be set: another is a fault."""
    faults = list(unknown_variables(known())) if known else []
    stand_ins: dict[str, Any] = {}
    while True:
        try:
            made = cls(**{**given, **stand_ins})
        except ValidationError as exc:
            faults += [_line(cls, error) for error in exc.errors()]
            wrong_ones = _fields_of(cls, exc)
            if not wrong_ones - stand_ins.keys():
                return None, faults
            # With the defaults in their place, whatever else is wrong is found, too.
            stand_ins |= {name: _stand_in(cls.model_fields[name]) for name in wrong_ones}
        else:
            return (None if faults else made), faults


def must_read(cls: type[Made], known: Callable[[], Collection[str]] | None = None, **given: Any) -> Made:
    """Return the object; raise Misconfigured with one line per fault."""
    made, faults = read(cls, known, **given)
    if made is None:
        raise Misconfigured("\n".join(faults))
    return made


def variable_of(cls: type[BaseSettings], name: str) -> str:
    """Return the environment variable of a field."""
    alias: Any = cls.model_fields[name].validation_alias
    choices = getattr(alias, "choices", [alias] if isinstance(alias, str) else [])
    names = [str(each) for each in choices if str(each).isupper()]
    return names[0] if names else (f"{PREFIX}{name.upper()}")


def allowed(field: FieldInfo) -> str:
    """Return what a field takes: "a number from 0.5 to 300". Empty where there is nothing to say."""
    kind = next((each for each in get_args(field.annotation) or (field.annotation,) if each in _HINTS), None)
    words = [_HINTS[kind]] if kind else []
    for bound in field.metadata:
        match bound:
            case Ge(ge=least):
                words.append(f"from {least:g}")
            case Gt(gt=least):
                words.append(f"above {least:g}")
            case Le(le=most):
                words.append(
                    f"to {most:g}" if any(isinstance(each, Ge) for each in field.metadata) else f"up to {most:g}"
                )
    return " ".join(words)


def unknown_variables(known: Collection[str]) -> Iterator[str]:
    """Yield a fault for each variable with our prefix that nothing reads: a typo would be a setting without effect."""
    for name, value in sorted(os.environ.items()):
        if not name.upper().startswith(PREFIX) or name.upper() in known:
            continue
        if _FOREIGN.fullmatch(name) or (name.endswith("_PORT") and _LINK.fullmatch(value)):
            continue
        near = difflib.get_close_matches(name.upper(), sorted(known), n=1)
        yield f"{name}: unknown setting" + (f"; did you mean {near[0]}?" if near else ": unset it")


def _fields_of(cls: type[BaseSettings], exc: ValidationError) -> set[str]:
    names = {variable_of(cls, name): name for name in cls.model_fields} | {name: name for name in cls.model_fields}
    return {names[str(error["loc"][0])] for error in exc.errors() if error["loc"]}


def _stand_in(field: FieldInfo) -> Any:
    if field.is_required():
        return "redis://stand-in"
    return field.get_default(call_default_factory=True)


def _line(cls: type[BaseSettings], error: Any) -> str:
    said: str = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        return said
    names = {variable_of(cls, name): name for name in cls.model_fields} | {name: name for name in cls.model_fields}
    name = names[str(error["loc"][0])]
    variable, field = variable_of(cls, name), cls.model_fields[name]
    inside = "".join(f"[{part!r}]" for part in error["loc"][1:])
    if error["type"] == "missing":
        return f"{variable}: is not set; {said_of(cls, name)}"
    if error["type"] == "value_error":
        return f"{variable}{inside}: {said}"
    may = allowed(field)
    shown = "" if _secret(field, error["input"]) else f"{error['input']!r}: "
    return f"{variable}{inside}: {shown}" + (f"must be {may}" if may else said)


def said_of(cls: type[BaseSettings], name: str) -> str:
    """Return the first sentence of a field's docstring, for someone who has not set it."""
    said: list[str] = re.split(r"(?<=[.;])\s", cls.model_fields[name].description or "it is needed", maxsplit=1)
    return " ".join(said[0].rstrip(".;").split())


def _secret(field: FieldInfo, value: Any) -> bool:
    """Whether the value may not be shown: only what should have been a number or a word may, if it is short."""
    plain = allowed(field) or field.metadata
    return SecretStr.__name__ in str(field.annotation) or not plain or "://" in str(value) or len(str(value)) > _SHOWN
