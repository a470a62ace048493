"""Errors of the service itself. Failures of runs are values (`api_contracts.failure`), not exceptions.

FireworksWorkersError
+-- Misconfigured     the operator must change a setting; raised at start only
"""

from api_contracts.failure import Failure


class FireworksWorkersError(Exception):
    """Root of what this package raises on its own account."""


class Misconfigured(FireworksWorkersError):
    """One line that says which setting is wrong, how, and what to do."""


def internal(exc: BaseException) -> Failure:
    """Return the failure for a defect of ours: its kind only, since its text may carry content."""
    return Failure(
        code="internal",
        category="internal",
        message=f"a defect of the service ({type(exc).__name__}); its log has the details under this run id",
        at_fault="us",
    )
