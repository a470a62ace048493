"""Functions that a terminal lends to the model (`fireworks-workers chat --tool tests.acceptance.apps.terminal:...`)."""

from workers.adapters.tools import tool


def lookup(key: str) -> str:
    """Look something up."""
    return f"{key} was looked up here"


@tool(effect="pure")
async def raises(key: str) -> str:
    """Fail."""
    raise LookupError(f"no row {key} in table vaults")
