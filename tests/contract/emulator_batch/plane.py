"""A bare client of the control plane, on an emulator whose clock only the test moves."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

import aiohttp

from workers.emulator import EmulatorConfig, Running, Scene, serve
from workers.emulator.batch import BatchConfig
from workers.emulator.default_scene import DEFAULT_SCENE

KEY = {"Authorization": "Bearer fw_x"}
MODEL = "accounts/fireworks/models/emulated-classic"
ACCOUNT = "/v1/accounts/acct"


def rows(count: int, role: str = "user") -> list[dict[str, Any]]:
    """Rows with ids row-0, row-1 ..."""
    said = [{"messages": [{"role": role, "content": f"{number} plus two?"}]} for number in range(count)]
    return [{"custom_id": f"row-{number}", "body": body} for number, body in enumerate(said)]


def jsonl(lines: list[dict[str, Any]]) -> bytes:
    """Rows as a file, without a newline at its end."""
    return b"\n".join(json.dumps(line).encode() for line in lines)


class Plane:
    """Calls of one account, with a key; `bare` is a session without."""

    def __init__(self, running: Running, http: aiohttp.ClientSession, bare: aiohttp.ClientSession) -> None:
        self.running = running
        self.http = http
        self.bare = bare

    async def call(self, method: str, path: str, **kwargs: Any) -> tuple[int, Any]:
        """Status and body; JSON if it is some."""
        url = f"{self.running.api_url}{ACCOUNT}/{path}"
        async with self.http.request(method, url, **kwargs) as response:
            text = await response.text()
        try:
            return response.status, json.loads(text)
        except ValueError:
            return response.status, text

    async def ok(self, method: str, path: str, **kwargs: Any) -> Any:
        """The body of a 200."""
        status, body = await self.call(method, path, **kwargs)
        assert status == 200, body
        return body

    async def create(self, dataset: str, count: int) -> Any:
        """A dataset without a file."""
        given = {"datasetId": dataset, "dataset": {"userUploaded": {}, "exampleCount": str(count)}}
        return await self.ok("POST", "datasets", json=given)

    async def upload(self, dataset: str, data: bytes, **kwargs: Any) -> tuple[int, Any]:
        """`:upload` of a file."""
        form = aiohttp.FormData()
        form.add_field("file", BytesIO(data), filename="input.jsonl", content_type="application/jsonl")
        return await self.call("POST", f"datasets/{dataset}:upload", data=form, **kwargs)

    async def dataset(self, dataset: str, lines: list[dict[str, Any]]) -> None:
        """A dataset with its file."""
        await self.create(dataset, len(lines))
        status, body = await self.upload(dataset, jsonl(lines))
        assert status == 200, body

    async def job(self, job: str, dataset: str = "in-1", faults: str = "", **fields: Any) -> Any:
        """A job over a dataset."""
        given = {"model": MODEL, "inputDatasetId": f"accounts/acct/datasets/{dataset}"} | fields
        headers = {"x-emulator-fault": faults} if faults else {}
        return await self.ok("POST", f"batchInferenceJobs?batchInferenceJobId={job}", json=given, headers=headers)

    async def finished(self, job: str, lines: list[dict[str, Any]], faults: str = "", **fields: Any) -> Any:
        """A job over these rows, at its end."""
        await self.dataset(f"{job}-in", lines)
        await self.job(job, f"{job}-in", faults, **fields)
        return await self.after(1000, job)

    async def after(self, seconds: float, job: str) -> Any:
        """The job so many virtual seconds later."""
        self.running.clock.advance(seconds)
        return await self.ok("GET", f"batchInferenceJobs/{job}")

    async def urls(self, dataset: str) -> dict[str, str]:
        """The signed URLs of a dataset by the base names of its files."""
        body = await self.ok("GET", f"datasets/{dataset.rpartition('/')[2]}:getDownloadEndpoint")
        return {name.rpartition("/")[2]: url for name, url in body["filenameToSignedUrls"].items()}

    async def fetch(self, url: str, **headers: str) -> tuple[int, bytes]:
        """A GET of a signed URL."""
        async with self.bare.get(url, headers=headers) as response:
            return response.status, await response.read()

    async def lines(self, job: dict[str, Any], name: str = "BIJOutputSet.jsonl") -> list[Any]:
        """The lines of a file of a job's output."""
        status, data = await self.fetch((await self.urls(job["outputDatasetId"]))[name])
        assert status == 200
        return [json.loads(line) for line in data.splitlines()]


@asynccontextmanager
async def open_plane(scene: Scene | None = None, **switches: Any) -> AsyncIterator[Plane]:
    """A server with these switches of BatchConfig, and a client. Time stands still unless `speed` says otherwise."""
    batch = BatchConfig(**{"speed": 0, "patience_s": 30, **switches})
    running = await serve(EmulatorConfig(batch=batch, scene=scene or DEFAULT_SCENE))
    try:
        limit = aiohttp.ClientTimeout(total=60)
        async with (
            aiohttp.ClientSession(headers=KEY, timeout=limit) as http,
            aiohttp.ClientSession(timeout=limit) as bare,
        ):
            yield Plane(running, http, bare)
    finally:
        await running.close()
