"""Uploads in both ways (WIRE 3.3)."""

from typing import Any

import aiohttp
import pytest

from tests.contract.emulator_batch.plane import Plane, jsonl, open_plane, rows

pytestmark = pytest.mark.requirement("EMU-01")
DATA = jsonl(rows(5))
SIGNED = {
    "Content-Type": "application/octet-stream",
    "X-Goog-Content-Length-Range": f"{len(DATA)},{len(DATA)}",
}


async def _endpoint(plane: Plane, **sizes: Any) -> dict[str, str]:
    given = {"filenameToSize": {f"{name}.jsonl": size for name, size in sizes.items()}}
    body = await plane.ok("POST", "datasets/in-1:getUploadEndpoint", json=given)
    urls: dict[str, str] = body["filenameToSignedUrls"]
    return urls


async def _put(plane: Plane, url: str, data: bytes = DATA, headers: dict[str, str] | None = None) -> tuple[int, str]:
    async with plane.bare.put(url, data=data, headers=SIGNED if headers is None else headers) as response:
        return response.status, await response.text()


async def test_shards_go_up_by_signed_urls(plane: Plane) -> None:
    await plane.create("in-1", 10)
    urls = await _endpoint(plane, a=str(len(DATA)), b=len(DATA))
    assert sorted(urls) == ["a.jsonl", "b.jsonl"]
    assert all(url.startswith(plane.running.url) and "X-Goog-Expires=3600" in url for url in urls.values())
    assert (await _put(plane, urls["a.jsonl"]))[0] == 200
    status, error = await plane.call("POST", "datasets/in-1:validateUpload", json={})
    assert (status, error["code"], "b.jsonl" in error["message"]) == (400, 9, True)
    assert (await plane.ok("GET", "datasets/in-1"))["state"] == "UPLOADING"
    second = jsonl([row | {"custom_id": f"second-{number}"} for number, row in enumerate(rows(5))])
    urls = await _endpoint(plane, a=len(DATA), b=len(second))  # the set is replaced; what came already stays
    size = f"{len(second)},{len(second)}"
    assert (await _put(plane, urls["b.jsonl"], second, SIGNED | {"X-Goog-Content-Length-Range": size}))[0] == 200
    assert await plane.ok("POST", "datasets/in-1:validateUpload", json={}) == {}
    assert (await plane.ok("GET", "datasets/in-1"))["state"] == "READY"
    job = await plane.job("job-1")
    await _endpoint(plane, c=5)  # begins another upload, and the job has its rows
    assert (await plane.ok("GET", "datasets/in-1"))["state"] == "UPLOADING"
    assert (await plane.after(1000, "job-1"))["jobProgress"]["successfullyProcessedRequests"] == 10
    assert len(await plane.lines(job)) == 10


@pytest.mark.parametrize(
    ("headers", "data", "status", "code"),
    [
        ({}, DATA, 403, "SignatureDoesNotMatch"),
        ({"Content-Type": "application/octet-stream"}, DATA, 403, "SignatureDoesNotMatch"),
        (SIGNED | {"Content-Type": "application/json"}, DATA, 403, "SignatureDoesNotMatch"),
        (SIGNED | {"X-Goog-Content-Length-Range": "0,9"}, DATA, 403, "SignatureDoesNotMatch"),
        (SIGNED | {"Authorization": "Bearer fw_x"}, DATA, 400, "InvalidArgument"),
        (SIGNED, DATA + b"\n", 400, "EntityTooLarge"),
        (SIGNED, DATA[:-1], 400, "EntityTooSmall"),
    ],
)
async def test_a_put_that_does_not_fit_its_signature_is_refused(
    plane: Plane, headers: dict[str, str], data: bytes, status: int, code: str
) -> None:
    await plane.create("in-1", 5)
    url = (await _endpoint(plane, a=len(DATA)))["a.jsonl"]
    answered, text = await _put(plane, url, data, headers)
    assert (answered, f"<Code>{code}</Code>" in text) == (status, True)
    assert (await plane.call("POST", "datasets/in-1:validateUpload", json={}))[0] == 400


async def test_a_put_of_a_file_that_is_not_expected_any_more_is_refused(plane: Plane) -> None:
    await plane.create("in-1", 5)
    url = (await _endpoint(plane, a=len(DATA)))["a.jsonl"]
    await _endpoint(plane, b=len(DATA))
    assert (await _put(plane, url))[0] == 403


async def test_an_upload_url_lives_for_an_hour() -> None:
    async with open_plane(url_time="virtual") as plane:
        await plane.create("in-1", 5)
        url = (await _endpoint(plane, a=len(DATA)))["a.jsonl"]
        plane.running.clock.advance(3599)
        assert (await _put(plane, url))[0] == 200
        assert (await plane.fetch(url))[0] == 403  # what is signed for PUT cannot be read
        plane.running.clock.advance(1)
        assert (await _put(plane, url))[0] == 400


@pytest.mark.parametrize(
    "sizes", [{}, {"a": "5"}, {"A.jsonl": "5"}, {"b/a.jsonl": "5"}, {"a.jsonl": "0"}, {"a.jsonl": "x"}]
)
async def test_a_set_of_files_must_be_flat_and_hold_something(plane: Plane, sizes: dict[str, str]) -> None:
    await plane.create("in-1", 5)
    status, error = await plane.call("POST", "datasets/in-1:getUploadEndpoint", json={"filenameToSize": sizes})
    assert (status, error["code"]) == (400, 3)


@pytest.mark.parametrize(("switch", "status", "code"), [(400, 400, 3), (413, 413, 8)])
async def test_a_direct_upload_has_a_limit(switch: int, status: int, code: int) -> None:
    async with open_plane(max_upload_bytes=len(DATA), too_large_status=switch) as plane:
        await plane.create("in-1", 5)
        answered, error = await plane.upload("in-1", DATA + b"\n")
        assert (answered, error["code"]) == (status, code)
        answered, error = await plane.upload("in-1", DATA * 200)
        assert (answered, error["code"]) == (status, code)
        assert (await plane.upload("in-1", DATA))[0] == 200


async def test_a_direct_upload_is_a_form_with_a_file(plane: Plane) -> None:
    await plane.create("in-1", 5)
    form = aiohttp.FormData(default_to_multipart=True)
    form.add_field("data", DATA, filename="input.jsonl")
    attempts: list[dict[str, Any]] = [
        {"data": form},
        {"data": DATA},
        {"data": b"--x\r\nnonsense", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"data": b"", "headers": {"Content-Type": "multipart/form-data"}},
    ]
    for attempt in attempts:
        status, error = await plane.call("POST", "datasets/in-1:upload", **attempt)
        assert (status, error["code"]) == (400, 3)
    assert (await plane.call("POST", "datasets/no:upload", data=DATA))[0] == 404


@pytest.mark.parametrize(("switch", "status"), [("replaces", 200), ("refused", 400)])
async def test_a_second_upload_replaces_the_first_or_is_refused(switch: str, status: int) -> None:
    async with open_plane(reupload=switch) as plane:
        await plane.dataset("in-1", rows(2))
        assert (await plane.upload("in-1", DATA))[0] == status


async def test_nothing_is_validated_before_it_came(plane: Plane) -> None:
    await plane.create("in-1", 5)
    status, error = await plane.call("POST", "datasets/in-1:validateUpload", json={})
    assert (status, error["code"]) == (400, 9)


@pytest.mark.requirement("EMU-04")
async def test_a_validation_can_end_in_an_error_status(plane: Plane) -> None:
    await plane.create("in-1", 5)
    url = (await _endpoint(plane, a=len(DATA)))["a.jsonl"]
    await _put(plane, url)
    fault = {"x-emulator-fault": "bad_upload"}
    await plane.ok("POST", "datasets/in-1:validateUpload", json={}, headers=fault)
    dataset = await plane.ok("GET", "datasets/in-1")
    assert (dataset["state"], dataset["status"]["code"]) == ("UPLOADING", "INVALID_ARGUMENT")


async def test_signed_urls_can_begin_elsewhere() -> None:
    async with open_plane(public_url="https://storage.example.com") as plane:
        await plane.create("in-1", 5)
        url = (await _endpoint(plane, a=len(DATA)))["a.jsonl"]
        assert url.startswith("https://storage.example.com/_storage/acct/dataset/in-1/a.jsonl?")
