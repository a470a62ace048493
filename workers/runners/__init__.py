"""The loops: feed the core what happens, do through ports what it decides.

`reception` takes a message, `drive` runs it to its end, `chat` does a chat's effects; `leases` and `sweep` belong to
the process. They know ports, never Redis, SQL or Celery.
"""
