"""Journals, leases and inboxes in Redis. Scripts decide; this package only carries arguments and replies."""
