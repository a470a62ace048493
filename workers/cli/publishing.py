"""`contracts export`: the contracts as files for other languages."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from api_contracts.publishing import asyncapi, json_schemas
from workers.errors import Misconfigured


def export(folder: Path) -> int:
    """Write `asyncapi.json` and a JSON Schema for each value; remove schemas of values that are no more."""
    documents = documents_of(version("fireworks-workers"))
    try:
        (folder / "schemas").mkdir(parents=True, exist_ok=True)
        for old in {*(folder / "schemas").glob("*.json")} - {folder / name for name in documents}:
            old.unlink()
        for name, text in documents.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as exc:
        raise Misconfigured(f"cannot write {exc.filename}: {exc.strerror}") from exc
    Console(stderr=True).print(f"{len(documents)} files in {folder}", highlight=False)
    return 0


def documents_of(release: str) -> dict[str, str]:
    """Return the text of each file by its name below the folder."""
    schemas = {f"schemas/{name}.json": _text(schema) for name, schema in json_schemas().items()}
    return {"asyncapi.json": _text(asyncapi(release)), **schemas}


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
