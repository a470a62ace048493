"""The unit shelf."""
