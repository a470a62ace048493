"""Masks secrets in text: those that the settings know, and what looks like one wherever it comes from."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from pydantic import SecretStr
from pydantic_settings import BaseSettings

MASK: Final = "***"

_SHORTEST: Final = 6
"""A shorter value is part of ordinary words. As a password in a URL it is masked all the same."""

_IN_URL: Final = re.compile(r"(://[^\s:/@\"']*):[^\s/@\"']+@")
_IN_HEADER: Final = re.compile(
    r"(?i)(authorization\\?[\"']?\s*[:=]\s*\\?[\"']?(?:(?:bearer|basic|token)\s+)?|\bbearer\s+)[^\s\"',}\\]+"
)


class Secrets:
    """Masks these values, in every form in which they get into a line of JSON or a URL."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        forms = {form for value in values if len(value) >= _SHORTEST for form in _forms(value)}
        # The longest first: one may begin with another.
        joined = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
        self._known = re.compile(joined) if joined else None

    def mask(self, text: str) -> str:
        """Return the text without secrets."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        if "://" in text:
            text = _IN_URL.sub(rf"\1:{MASK}@", text)
        if "earer" in text or "uthoriz" in text.lower():
            text = _IN_HEADER.sub(rf"\1{MASK}", text)
        return text


def known_secrets(settings: BaseSettings) -> Secrets:
    """Return what masks every secret of these settings: secret fields, parts of lists, and passwords in URLs."""
    return Secrets(found for name in type(settings).model_fields for found in _secrets_of(getattr(settings, name)))


def _secrets_of(value: object) -> Iterator[str]:
    match value:
        case SecretStr():
            whole = value.get_secret_value()
            yield whole
            for part in whole.split(","):  # keys, or users with passwords
                yield part.strip()
                yield part.partition(":")[2].strip()
        case dict():
            for one in value.values():
                yield from _secrets_of(one)
        case str() if "://" in value:
            password = _password_of(value)
            yield password
            yield unquote(password)


def _password_of(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:  # no URL after all; whoever needs one says so
        return ""


def _forms(value: str) -> Iterator[str]:
    yield value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield quote(value, safe="")
