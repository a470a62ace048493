"""The floor of P5, in a process of its own: the same rows through the barest code that does the same work.

Read, parse and validate each row, insert it; send the file's bytes and fetch the answers' bytes over HTTP; parse each
answer, update its row. Prints the seconds of CPU that it took.
"""

import asyncio
import resource
import sqlite3
import sys
import tempfile
from pathlib import Path

import aiohttp
import orjson
from aiohttp import web

from api_contracts.batch_rows import RowBody

_TOGETHER = 500


def main() -> None:
    """Run with the input file and the file of answers."""
    rows, answers = Path(sys.argv[1]), Path(sys.argv[2])
    asyncio.run(work(rows, answers))


async def work(rows: Path, answers: Path) -> None:
    """Do the work; the server's own share is taken off by measuring it alone."""
    with tempfile.TemporaryDirectory() as folder:
        database = sqlite3.connect(Path(folder) / "rows.sqlite3")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, custom_id TEXT UNIQUE, body TEXT, said TEXT)")
        began = used()
        put_in(database, rows)
        in_s = used() - began
        transfer_s = await transfer(rows, answers)
        began = used()
        put_back(database, answers)
        print(in_s + transfer_s + used() - began)


def put_in(database: sqlite3.Connection, rows: Path) -> None:
    """Read, validate, insert."""
    held = []
    with rows.open("rb") as file:
        for number, line in enumerate(file, 1):
            row = orjson.loads(line)
            RowBody.model_validate(row["body"], strict=True)
            held.append((number, row["custom_id"], orjson.dumps(row["body"]).decode()))
            if len(held) == _TOGETHER:
                with database:
                    database.executemany("INSERT INTO rows VALUES (?, ?, ?, NULL)", held)
                held = []
    with database:
        database.executemany("INSERT INTO rows VALUES (?, ?, ?, NULL)", held)


async def transfer(rows: Path, answers: Path) -> float:
    """Send and fetch the bytes over loopback; half of the CPU is the server's, which the service does not pay."""

    async def take(request: web.Request) -> web.Response:
        async for _ in request.content.iter_any():
            pass
        return web.Response()

    async def give(request: web.Request) -> web.FileResponse:
        return web.FileResponse(answers)

    app = web.Application(client_max_size=1 << 40)
    app.add_routes([web.put("/", take), web.get("/", give)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    began = used()
    async with aiohttp.ClientSession() as session:
        with rows.open("rb") as file:
            async with session.put(url, data=file):
                pass
        async with session.get(url) as response:
            async for _ in response.content.iter_any():
                pass
    spent = used() - began
    await runner.cleanup()
    return spent / 2


def put_back(database: sqlite3.Connection, answers: Path) -> None:
    """Parse the answers, update the rows."""
    held = []
    with answers.open("rb") as file:
        for line in file:
            said = orjson.loads(line)
            held.append((orjson.dumps(said["response"]).decode(), said["custom_id"]))
            if len(held) == _TOGETHER:
                with database:
                    database.executemany("UPDATE rows SET said = ? WHERE custom_id = ?", held)
                held = []
    with database:
        database.executemany("UPDATE rows SET said = ? WHERE custom_id = ?", held)


def used() -> float:
    """Return the CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
