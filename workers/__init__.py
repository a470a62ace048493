"""Fireworks Workers: every run is an actor on a stream.

                signals, audio (anyone appends)                 events (only the lease holder appends)
    producer ---------------> INBOX --> worker --> core: (state, fact, now) -> actions --> EVENTS --> followers
        |                                 |  ^                                  |            |
        +-- Celery message: "run X" ------+  +------ adapters do the actions <--+            +--> SQL: the final record

A run is one piece of work, named by its Celery task id. Its event stream is the journal: what a follower sees, what a
successor resumes from and what is archived are the same events. The Celery message is only a doorbell.

How to read this in ten minutes, in the order in which data flows:

    api_contracts/chat.py     what comes in and goes out; every event
    tasks/chat.py             the doorbell
    runners/reception.py      from a message to an outcome: record, lease, drive
    runners/drive.py          the loop: facts in, actions out, each effect after the events that announce it
    core/chat/turn.py         the rules, pure: what to do next, and what a crash means
    adapters/redis/*.lua      the lease, the fence, the park: small scripts
    runtime.py, pool/         one process: a thread per task for Celery, one loop for everything else

Another kind of work is the same slice again: `git ls-files | grep stt`, or batch, or cit. Its machine and what performs
its effects are all that is its own; recovery, leases, parking and results are shared:

    core/stt/session.py           runners/stt.py      live audio in, words out
    core/batch/submission.py      runners/batch.py    rows in, jobs of the provider, rows out; parked in between
    core/citations/answering.py   runners/chat.py     a chat under a grammar, checked

The arrow rule: a shelf may import the shelves to its right, never to its left (`make check` enforces it).

    cli > emulator > tasks > runtime > app : bootstrap > monitor : preflight > beat : control : pool : transport
        > adapters > runners > ports : telemetry > core > settings : reading : errors > api_contracts
"""
