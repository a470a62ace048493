"""Downloads by signed URL: names, ranges, expiry (WIRE 3.8)."""

import pytest

from tests.contract.emulator_batch.plane import Plane, jsonl, open_plane, rows

pytestmark = pytest.mark.requirement("EMU-01")


async def test_names_have_a_path_and_urls_live_ten_minutes(plane: Plane) -> None:
    job = await plane.finished("job-error", rows(3), outputDatasetId="out-error")
    body = await plane.ok("GET", "datasets/out-error:getDownloadEndpoint")
    urls = body["filenameToSignedUrls"]
    assert sorted(urls) == ["dataset/out-error/BIJOutputSet.jsonl", "dataset/out-error/error-data"]
    assert all("X-Goog-Expires=599" in url for url in urls.values())
    assert job["outputDatasetId"] == "accounts/acct/datasets/out-error"
    assert await plane.lines(job, "error-data") == []


async def test_an_input_can_be_downloaded_too(plane: Plane) -> None:
    await plane.dataset("in-1", rows(3))
    urls = await plane.urls("in-1")
    assert await plane.fetch(urls["input.jsonl"]) == (200, jsonl(rows(3)))


async def test_a_download_can_be_resumed(plane: Plane) -> None:
    await plane.dataset("in-1", rows(3))
    url, whole = (await plane.urls("in-1"))["input.jsonl"], jsonl(rows(3))
    async with plane.bare.get(url, headers={"Range": "bytes=10-"}) as response:
        assert (response.status, await response.read()) == (206, whole[10:])
        assert response.headers["content-range"] == f"bytes 10-{len(whole) - 1}/{len(whole)}"
        etag = response.headers["etag"]
    assert await plane.fetch(url, Range="bytes=0-4") == (206, whole[:5])
    assert await plane.fetch(url, Range="bytes=-5") == (206, whole[-5:])
    assert await plane.fetch(url, Range="lines=1-2") == (200, whole)
    assert await plane.fetch(url, Range="bytes=5-", **{"If-Range": etag}) == (206, whole[5:])
    assert await plane.fetch(url, Range="bytes=5-", **{"If-Range": '"another"'}) == (200, whole)


async def test_a_range_behind_the_end_is_a_416(plane: Plane) -> None:
    await plane.dataset("in-1", rows(1))
    url = (await plane.urls("in-1"))["input.jsonl"]
    async with plane.bare.get(url, headers={"Range": "bytes=100000-"}) as response:
        assert (response.status, response.headers["content-range"]) == (416, f"bytes */{len(jsonl(rows(1)))}")


async def test_a_head_tells_the_size(plane: Plane) -> None:
    await plane.dataset("in-1", rows(2))
    async with plane.bare.head((await plane.urls("in-1"))["input.jsonl"]) as response:
        assert (response.status, response.content_length) == (200, len(jsonl(rows(2))))


@pytest.mark.requirement("EMU-04")
@pytest.mark.parametrize("status", [400, 403])
async def test_a_url_expires_and_a_fresh_one_is_good(status: int) -> None:
    async with open_plane(url_time="virtual", expired_status=status) as plane:
        await plane.dataset("in-1", rows(2))
        url = (await plane.urls("in-1"))["input.jsonl"]
        plane.running.clock.advance(598)
        assert (await plane.fetch(url))[0] == 200
        plane.running.clock.advance(1)
        answered, text = await plane.fetch(url)
        assert (answered, b"<Code>ExpiredToken</Code>" in text) == (status, True)
        assert (await plane.fetch((await plane.urls("in-1"))["input.jsonl"]))[0] == 200


async def test_real_time_is_what_usually_counts(plane: Plane) -> None:
    await plane.dataset("in-1", rows(2))
    url = (await plane.urls("in-1"))["input.jsonl"]
    plane.running.clock.advance(1e6)
    assert (await plane.fetch(url))[0] == 200


async def test_a_key_does_not_belong_to_a_signed_url(plane: Plane) -> None:
    await plane.dataset("in-1", rows(2))
    url = (await plane.urls("in-1"))["input.jsonl"]
    assert (await plane.fetch(url, Authorization="Bearer fw_x"))[0] == 400
    assert plane.running.stats.batch.keys_leaked == 1


async def test_a_key_can_be_let_pass() -> None:
    async with open_plane(strict_urls=False) as plane:
        await plane.dataset("in-1", rows(2))
        url = (await plane.urls("in-1"))["input.jsonl"]
        assert (await plane.fetch(url, Authorization="Bearer fw_x"))[0] == 200


async def test_a_url_is_good_for_its_file_and_verb_only(plane: Plane) -> None:
    await plane.finished("job-1", rows(2), "fail_rows=1")
    urls = await plane.urls((await plane.ok("GET", "batchInferenceJobs/job-1"))["outputDatasetId"])
    assert (await plane.fetch(urls["error-data"].replace("error-data", "BIJOutputSet.jsonl")))[0] == 403
    assert (await plane.fetch(urls["error-data"][:-1]))[0] == 403
    async with plane.bare.put(urls["error-data"], data=b"x") as response:
        assert response.status == 403


async def test_what_was_deleted_cannot_be_downloaded(plane: Plane) -> None:
    await plane.dataset("in-1", rows(2))
    url = (await plane.urls("in-1"))["input.jsonl"]
    await plane.ok("DELETE", "datasets/in-1")
    status, text = await plane.fetch(url)
    assert (status, b"NoSuchKey" in text) == (404, True)


async def test_bytes_are_counted(plane: Plane) -> None:
    await plane.dataset("in-1", rows(2))
    await plane.fetch((await plane.urls("in-1"))["input.jsonl"])
    stats = plane.running.stats.batch
    assert stats.bytes_uploaded == stats.bytes_downloaded == len(jsonl(rows(2)))
