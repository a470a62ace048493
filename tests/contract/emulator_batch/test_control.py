"""What a test or a user has in hand: the clock, the counts, a reset, a scene, an end without traces."""

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.contract.emulator_batch.plane import KEY, MODEL, Plane, open_plane, rows
from tests.waiting import eventually_async
from workers.emulator import EmulatorConfig, Reply, Rule, Scene, load_scene, serve
from workers.emulator.batch import BatchConfig, BatchRule, BatchWhen

pytestmark = pytest.mark.requirement("EMU-06")


async def _clock(plane: Plane, **change: Any) -> tuple[int, Any]:
    async with plane.bare.post(f"{plane.running.url}/_emulator/clock", json=change) as response:
        return response.status, await response.json()


async def test_the_clock_is_moved_over_http(plane: Plane) -> None:
    await plane.dataset("in-1", rows(3))
    await plane.job("job-1")
    before = plane.running.clock.now()
    status, told = await _clock(plane, advance_s=480)
    assert (status, told) == (200, {"now": before + 480, "speed": 0})
    assert (await plane.ok("GET", "batchInferenceJobs/job-1"))["state"] == "JOB_STATE_COMPLETED"
    async with plane.bare.get(f"{plane.running.url}/_emulator/clock") as response:
        assert await response.json() == told


async def test_the_clock_runs_at_a_speed(plane: Plane) -> None:
    await plane.dataset("in-1", rows(3))
    await plane.job("job-1")
    assert (await _clock(plane, speed=5000))[1]["speed"] == 5000

    async def completed() -> bool:
        job = await plane.ok("GET", "batchInferenceJobs/job-1")
        return bool(job["state"] == "JOB_STATE_COMPLETED")

    assert await eventually_async(completed)


@pytest.mark.parametrize(
    "change", [{"speed": -1}, {"advance_s": "x"}, {"advance_s": -5}, {"colour": 1}, {"speed": None}]
)
async def test_a_clock_that_makes_no_sense_is_refused(plane: Plane, change: dict[str, Any]) -> None:
    before = plane.running.clock.now()
    assert (await _clock(plane, **change))[0] == 400
    assert (plane.running.clock.now(), plane.running.clock.speed) == (before, 0)


async def test_calls_are_counted_by_operation(plane: Plane) -> None:
    job = await plane.finished("job-1", rows(4))
    await plane.lines(job)
    await plane.call("GET", "datasets/none")
    async with plane.bare.get(f"{plane.running.url}/_emulator/stats") as response:
        told = (await response.json())["batch"]
    assert told["calls"] == {
        "create_dataset": 1,
        "create_job": 1,
        "get_dataset": 1,
        "get_download_endpoint": 1,
        "get_file": 1,
        "get_job": 1,
        "upload": 1,
    }
    assert (told["datasets_created"], told["jobs_created"], told["rows"], told["struck"]) == (1, 1, 4, 0)
    assert told["bytes_uploaded"] > 0 < told["bytes_downloaded"]


async def test_a_reset_forgets_everything_but_the_time() -> None:
    rule = BatchRule(when=BatchWhen(operation="list_jobs"), faults=("503",), times=1)
    async with open_plane(rules=(rule,)) as plane:
        await plane.finished("job-1", rows(4))
        url = (await plane.urls("job-1-in"))["input.jsonl"]
        assert (await plane.call("GET", "batchInferenceJobs"))[0] == 503
        now = plane.running.clock.now()
        plane.running.reset()
        assert (await plane.call("GET", "batchInferenceJobs"))[0] == 503
        assert await plane.ok("GET", "batchInferenceJobs") == {
            "batchInferenceJobs": [],
            "nextPageToken": "",
            "totalSize": 0,
        }
        assert (await plane.ok("GET", "datasets"))["totalSize"] == 0
        assert (await plane.fetch(url))[0] == 403
        assert plane.running.stats.batch.jobs_created == 0
        assert plane.running.clock.now() == now
        await plane.finished("job-1", rows(4))


def _inside(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_nothing_is_on_disk_before_it_is_needed_nor_after_the_end(tmp_path: Path) -> None:
    async with open_plane(folder=tmp_path) as plane:
        assert _inside(tmp_path) == []
        await plane.dataset("in-1", rows(50))
        await plane.job("job-1")
        assert len(_inside(tmp_path)) == 1
    assert _inside(tmp_path) == []


async def test_what_is_deleted_leaves_no_file(tmp_path: Path) -> None:
    async with open_plane(folder=tmp_path) as plane:
        job = await plane.finished("job-1", rows(5))
        await plane.upload("job-1-in", b"another file instead")
        await plane.ok("DELETE", "batchInferenceJobs/job-1")
        await plane.after(0, "job-1")
        await plane.call("GET", "datasets")
        for name in ("job-1-in", job["outputDatasetId"].rpartition("/")[2]):
            await plane.ok("DELETE", f"datasets/{name}")
        assert [path for [folder] in [_inside(tmp_path)] for path in _files(folder)] == []


async def test_a_scene_answers_rows_and_says_how_batches_behave(tmp_path: Path) -> None:
    scene = Scene(
        rules=(Rule(reply=Reply(text="It is {user}")),), batch=BatchConfig(speed=0, states="RUNNING:9/COMPLETED")
    )
    path = tmp_path / "scene.json"
    path.write_text(scene.model_dump_json())
    running = await serve(EmulatorConfig(scene=load_scene(path)))
    async with aiohttp.ClientSession(headers=KEY) as http, aiohttp.ClientSession() as bare:
        plane = Plane(running, http, bare)
        await plane.dataset("in-1", rows(2))
        job = await plane.job("job-1")
        assert job["model"] == MODEL
        done = await plane.after(9, "job-1")
        said = [line["response"]["choices"][0]["message"]["content"] for line in await plane.lines(done)]
    await running.close()
    assert sorted(said) == ["It is 0 plus two?", "It is 1 plus two?"]
    assert json.loads(path.read_text())["batch"]["states"] == "RUNNING:9/COMPLETED"


async def test_chat_and_batches_are_served_side_by_side(plane: Plane) -> None:
    await plane.dataset("in-1", rows(3000))
    await plane.job("job-1")
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
    while not plane.running.stats.batch.rows:
        async with plane.http.post(f"{plane.running.inference_url}/chat/completions", json=body) as response:
            assert response.status == 200
    assert plane.running.stats.batch.rows < 3000  # rows are being answered, and do not stand in the way
