"""The loops: feed the core what happens, do through ports what it decides."""
