"""Processes that bind queues to Celery's own exchanges, as workers, Flowers and `inspect` do, and are killed.

`python -m tests.contract.celery.apps.leaving URL COUNT`: prints how many are dead.
"""

import os
import signal
import sys

from celery import Celery

from workers import transport


def bind(url: str, number: int) -> None:
    """Be a worker, a Flower and an asker, who all die before they can take anything back."""
    app = Celery("leaving", broker=url, set_as_current=False)
    connection = app.connection_for_read()
    channel = connection.channel()
    node = app.control.mailbox.Node(f"worker-{number}@nowhere", channel=channel)
    node.listen()
    app.events.Receiver(channel, handlers={}).queue(channel).declare()
    app.control.mailbox.get_reply_queue()(channel).declare()
    os.kill(os.getpid(), signal.SIGKILL)


def main(url: str, count: int) -> None:
    """Fork, bind, die; one after the other."""
    transport.install()
    dead = 0
    for number in range(count):
        pid = os.fork()
        if not pid:
            bind(url, number)
        _, status = os.waitpid(pid, 0)
        dead += os.WTERMSIG(status) == signal.SIGKILL
    sys.stdout.write(str(dead))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
