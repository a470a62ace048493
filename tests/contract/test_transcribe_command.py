"""`fireworks-workers transcribe` as a person runs it: a real process on a real Valkey. The test is the worker."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from api_contracts import keys
from api_contracts.failure import Failure
from api_contracts.runs import EventData, RunCancelled, RunCompleted, RunFailedEvent, RunQueued, RunStarted, Status
from api_contracts.stt import Coverage, SttFinal, SttInterim, SttLost, SttResult, SttWord
from tests.servers import kill
from tests.unit.cli.test_transcribing import wav
from tests.waiting import eventually_async
from workers.adapters.clock import SystemClock
from workers.adapters.redis.connection import connect
from workers.adapters.redis.store import RedisRuns
from workers.cli.embedded import EmbeddedValkey
from workers.ports import Granted
from workers.settings import Timing

ROOT = Path(__file__).parents[2]
PCM = bytes(n % 251 for n in range(3 * 3_200 + 40))
END = b'{"type":"end"}'
LOST = Failure(code="stt_lost", category="transport", message="no lasting connection", at_fault="provider")


def final(text: str) -> SttFinal:
    words = [
        SttWord(word=word, start=n, end=n + 0.5, segment=0, probability=0.9) for n, word in enumerate(text.split())
    ]
    return SttFinal(
        conn=1, text=text, start=0, end=1, segments=[0], words=words, anchor_entry="0", anchor_at=0
    )  # fmt: skip


class Room:
    """A person at a terminal that is none, and the worker at the other side of Redis."""

    def __init__(self, server: EmbeddedValkey, folder: Path) -> None:
        self._url = server.url
        self._folder = folder
        self.redis: Any = connect(server.url)
        self.store = RedisRuns(self.redis, SystemClock(), Timing(lease_s=60, live_ttl_s=900, retention_s=900))
        self.store.start()
        self.talk = folder / "talk.wav"
        self.talk.write_bytes(wav(PCM))
        self.run_id = ""
        self._epoch = self._seq = 0

    # -- the person ------------------------------------------------------------------------------------------------

    def types(self, *arguments: str, stdin: Any = subprocess.DEVNULL, stdout: Any = None) -> "subprocess.Popen[bytes]":
        """Run the command."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("FW_", "FIREWORKS_"))}
        # The broker is none of this test's business.
        environment |= {"FW_REDIS_URL": self._url, "FW_BROKER_URL": "", "FW_STATE_DIR": str(self._folder)}
        with self._path("out").open("wb") as out, self._path("err").open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers.cli", "transcribe", *arguments],
                cwd=ROOT, env=environment, stdin=stdin, stdout=stdout or out, stderr=err,
            )  # fmt: skip
        return self.process

    @property
    def out(self) -> str:
        return self._path("out").read_text()

    @property
    def err(self) -> str:
        return self._path("err").read_text()

    async def ends(self) -> int:
        """Return the exit code; there is no stack trace whatever it is."""

        async def ended() -> bool:
            return self.process.poll() is not None

        await eventually_async(ended, within=30)
        assert "Traceback" not in self.err
        return int(self.process.returncode)

    async def reads(self, text: str) -> None:
        """Return once the person can read this on standard error."""

        async def read() -> bool:
            assert self.process.poll() is None, self.err
            return text in self.err

        await eventually_async(read)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.txt"

    # -- the worker ------------------------------------------------------------------------------------------------

    async def takes(self) -> RunQueued:
        """Take the run once it is there; return what was asked for."""

        async def found() -> str:
            assert self.process.poll() is None, self.err
            leases = [key.decode() async for key in self.redis.scan_iter(match="fw:*:lease")]
            return leases[0].split(":", 2)[2].removesuffix(":lease") if leases else ""

        self.run_id = await eventually_async(found, within=30)
        granted = await self.store.acquire(self.run_id, "ann", "")
        assert isinstance(granted, Granted)
        self._lease, self._seq = granted.lease, granted.seq
        await self.tells(RunStarted(owner="ann"))
        return RunQueued.model_validate((await self.store.read(self.run_id))[0].data)

    async def tells(self, *events: EventData, terminal: Status | None = None) -> None:
        self._seq = await self.store.append(self._lease, self._seq, events, terminal=terminal)

    async def ends_it(self, status: Status, **fields: Any) -> None:
        result = SttResult(run_id=self.run_id, status=status, **fields).model_dump(mode="json", exclude_none=True)
        ended: dict[Status, EventData] = {
            "completed": RunCompleted(result=result),
            "failed": RunFailedEvent(result=result, failure=LOST),
            "cancelled": RunCancelled(result=result),
        }
        await self.tells(ended[status], terminal=status)
        await self.store.announced(self.run_id)

    async def heard(self, *, entries: int = 0, ended: bool = False) -> list[Mapping[bytes, bytes]]:
        """Return what is in the audio stream once there is so much of it, or its end."""

        async def enough() -> list[Mapping[bytes, bytes]]:
            found = [fields for _, fields in await self.redis.xrange(keys.audio(self.run_id))]
            is_over = any(fields.get(b"c") == END for fields in found)
            return found if (is_over if ended else len(found) >= entries) else []

        return await eventually_async(enough)

    async def cancelled(self) -> str:
        """Return the reason of a cancel, once it is there."""

        async def letter() -> list[Any]:
            return list(await self.redis.xrange(keys.inbox(self.run_id)))

        ((_, fields),) = await eventually_async(letter)
        assert fields[b"type"] == b"cancel"
        return str(json.loads(fields[b"data"])["reason"])


@pytest.fixture
async def room(own_valkey: EmbeddedValkey, tmp_path: Path) -> AsyncIterator[Room]:
    made = Room(own_valkey, tmp_path)
    yield made
    if made.process.poll() is None:
        made.process.kill()
    made.process.wait()
    for pipe in (made.process.stdin, made.process.stdout):
        if pipe:
            pipe.close()
    await made.store.close()
    await made.redis.aclose()


@pytest.mark.requirement("STT-22")
async def test_a_file_is_spoken_to_its_end_and_its_finals_are_printed_as_they_come(room: Room) -> None:
    room.types(str(room.talk), "--speed", "100", "--language", "en", "--prompt", "Oslo", "--words")
    queued = await room.takes()
    assert queued.request == {"language": "en", "prompt": "Oslo", "tenant": "default"}
    entries = await room.heard(ended=True)
    assert [len(entry[b"a"]) for entry in entries[:-1]] == [3_200, 3_200, 3_200, 40]
    assert b"".join(entry[b"a"] for entry in entries[:-1]) == PCM
    assert entries[-1] == {b"c": END}
    interim = SttInterim(conn=1, text="so", start=0, end=1, segments=[0])
    await room.tells(interim, final("so be"), SttLost(conn=1, code=1011, reason="gone"))
    await room.reads("the connection was lost: 1011 gone\n")
    assert room.out == "so be\n"
    words = [*final("so be").words, *final("it").words]
    await room.tells(final("it"))
    await room.ends_it("completed", words=words, coverage=Coverage(audio_s=0.3), connections=2)
    assert await room.ends() == 0
    said, _, table = room.out.partition("start")
    assert said == "so be\nit\n"
    assert [line.split()[-1] for line in table.splitlines()[1:]] == ["so", "be", "it"]
    assert room.err == (
        "the connection was lost: 1011 gone\n"
        f"run {room.run_id}: completed, 0.3 s of audio, coverage 100.0%, 2 connections\n"
    )


async def test_every_event_is_a_line_of_json_when_asked_for(room: Room) -> None:
    room.types(str(room.talk), "--speed", "100", "--json")
    await room.takes()
    await room.tells(final("so"))
    await room.ends_it("completed")
    assert await room.ends() == 0
    assert [json.loads(line) for line in room.out.splitlines()] == [
        event.model_dump() for event in await room.store.read(room.run_id)
    ]
    assert room.err == ""


@pytest.mark.requirement("STT-22")
async def test_a_run_that_fails_says_why_and_exits_with_1(room: Room) -> None:
    room.types(str(room.talk), "--speed", "100")
    await room.takes()
    await room.ends_it("failed", failure=LOST, ended_by="failed")
    assert await room.ends() == 1
    assert room.err.splitlines()[0] == "failed: stt_lost: no lasting connection"


@pytest.mark.requirement("STT-22")
async def test_a_pipe_is_spoken_as_it_comes_and_its_end_hangs_up(room: Room) -> None:
    pipe = room.types("-", "--speed", "100", stdin=subprocess.PIPE).stdin
    assert pipe is not None
    pipe.write(PCM[:3_200])
    pipe.flush()
    await room.takes()
    assert await room.heard(entries=1) == [{b"a": PCM[:3_200]}]
    for at in range(3_200, 6_400, 800):
        pipe.write(PCM[at : at + 800])
        pipe.flush()
    assert await room.heard(entries=2) == [{b"a": PCM[:3_200]}, {b"a": PCM[3_200:6_400]}]
    pipe.write(PCM[6_400:6_403])
    pipe.close()
    assert (await room.heard(ended=True))[2:] == [{b"a": PCM[6_400:6_403]}, {b"c": END}]
    await room.ends_it("completed")
    assert await room.ends() == 0


@pytest.mark.requirement("STT-22")
async def test_ctrl_c_hangs_up_and_waits_for_the_rest_though_the_pipe_goes_on(room: Room) -> None:
    pipe = room.types("-", "--speed", "100", stdin=subprocess.PIPE).stdin
    assert pipe is not None
    pipe.write(PCM[:3_200])
    pipe.flush()
    await room.takes()
    await room.heard(entries=1)
    room.process.send_signal(signal.SIGINT)
    await room.reads("hanging up; Ctrl-C again cancels")
    assert (await room.heard(ended=True))[-1] == {b"c": END}
    await room.tells(final("the rest"))
    await room.ends_it("completed")
    assert await room.ends() == 0
    assert room.out == "the rest\n"


@pytest.mark.requirement("STT-22")
async def test_ctrl_c_twice_cancels(room: Room) -> None:
    room.types(str(room.talk), "--speed", "0.1")
    await room.takes()
    await room.heard(entries=1)
    room.process.send_signal(signal.SIGINT)
    await room.reads("hanging up")
    room.process.send_signal(signal.SIGINT)
    assert await room.cancelled() == "Ctrl-C"
    await room.ends_it("cancelled", ended_by="cancelled")
    assert await room.ends() == 130
    assert "cancelled" in room.err.splitlines()[-1]


async def test_ctrl_c_for_the_third_time_leaves_at_once(room: Room) -> None:
    room.types(str(room.talk), "--speed", "0.1")
    await room.takes()
    await room.heard(entries=1)
    for said in ("hanging up", "cancelling"):
        room.process.send_signal(signal.SIGINT)
        await room.reads(said)
    room.process.send_signal(signal.SIGINT)
    assert await room.ends() == 130
    assert room.err.splitlines()[-1] == f"left; the journal: fireworks-workers runs events {room.run_id}"


async def test_a_session_whose_words_nobody_reads_any_more_is_cancelled(room: Room) -> None:
    out = room.types(str(room.talk), "--speed", "0.1", stdout=subprocess.PIPE).stdout
    assert out is not None
    await room.takes()
    await room.tells(final("one"))
    out.close()
    await room.tells(final("two"))
    assert await room.cancelled() == "nobody reads the transcript"
    assert await room.ends() == 130


@pytest.mark.requirement("RUN-21")
async def test_a_redis_that_is_away_for_a_while_costs_no_sound(room: Room, own_valkey: EmbeddedValkey) -> None:
    await room.redis.config_set("appendfsync", "always")
    pipe = room.types("-", "--speed", "100", stdin=subprocess.PIPE).stdin
    assert pipe is not None
    pipe.write(PCM[:3_200])
    pipe.flush()
    await room.takes()
    await room.heard(entries=1)
    kill(own_valkey)
    pipe.write(PCM[3_200:6_400])
    pipe.flush()
    own_valkey.restart()
    await room.redis.connection_pool.disconnect()
    pipe.close()
    entries = await room.heard(ended=True)
    assert [entry.get(b"a") for entry in entries] == [PCM[:3_200], PCM[3_200:6_400], None]
    await room.ends_it("completed")
    assert await room.ends() == 0


async def test_sound_that_cannot_be_sent_is_refused_before_anything_is_enqueued(room: Room) -> None:
    room.talk.write_bytes(wav(PCM, rate=44_100))
    room.types(str(room.talk))
    assert await room.ends() == 1
    (line,) = room.err.splitlines()
    assert line.startswith(f"{room.talk} is 44100 Hz, mono, 16 bit PCM; ")
    assert "ffmpeg" in line
    assert [key async for key in room.redis.scan_iter(match="fw:*")] == []


async def test_an_option_that_is_wrong_is_refused_before_anything_is_enqueued(room: Room) -> None:
    room.types(str(room.talk), "--language", "no such")
    assert await room.ends() == 1
    (line,) = room.err.splitlines()
    assert line.startswith("--language: ")
    assert [key async for key in room.redis.scan_iter(match="fw:*")] == []
