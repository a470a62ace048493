"""Journals as each release left them (RUN-24). `python -m tests.golden.record` writes those of the present release."""
