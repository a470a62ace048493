"""The acceptance shelf."""
