"""The contract shelf."""
