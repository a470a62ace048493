"""Measures of design 7: each program prints a ratio to a floor that it measured in the same run, with its spread."""
