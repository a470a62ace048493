"""The proofs: unit (nothing but Python), contract (one real part each), acceptance (whole processes)."""
