"""The query of a connection (WIRE 2.3). Pure; the key is not here: a URL ends up in logs."""

import json
from typing import Any

from api_contracts.stt import SttOptions


def query_of(options: SttOptions) -> list[tuple[str, str]]:
    """Return the pairs in order; what is unset is absent.

    Times of words and segments are always asked for, as a repeated key: words are told apart by their times. The
    text timeout is always given: the provider's own default is not documented, and has moved (WIRE 7.24).
    """
    vad = options.vad
    pairs: dict[str, Any] = {
        "response_format": "verbose_json",
        "language": options.language,
        "prompt": options.prompt,
        "temperature": options.temperature,
        "model": options.model,
        "skip_vad": vad.skip if vad else None,
        "vad_kwargs": _vad_kwargs(options),
        "text_timeout_seconds": options.text_timeout_s,
        "max_retries": options.max_retries,
    }
    query = [(name, _text(value)) for name, value in pairs.items() if value is not None]
    return [*query, ("timestamp_granularities", "word"), ("timestamp_granularities", "segment")]


def _vad_kwargs(options: SttOptions) -> dict[str, Any] | None:
    if options.vad is None:
        return None
    threshold = {} if options.vad.threshold is None else {"threshold": options.vad.threshold}
    return options.vad.extra | threshold or None


def _text(value: Any) -> str:
    """Booleans in lower case, objects as JSON, numbers as they are."""
    if isinstance(value, bool | dict):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return str(value)
