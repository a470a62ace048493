"""Datasets over HTTP: create, look at, change, delete, and what is refused how (WIRE 3.1, 3.2, 3.7)."""

from typing import Any

import pytest

from tests.contract.emulator_batch.plane import ACCOUNT, Plane, jsonl, open_plane, rows

pytestmark = pytest.mark.requirement("EMU-01")


async def test_a_new_dataset_is_as_it_was_observed(plane: Plane) -> None:
    given = {"datasetId": "in-001", "dataset": {"displayName": "demo", "userUploaded": {}, "exampleCount": "3"}}
    made = await plane.ok("POST", "datasets", json=given)
    created = made.pop("createTime")
    assert (len(created), made.pop("updateTime")) == (30, created)
    assert made == {
        "name": "accounts/acct/datasets/in-001",
        "displayName": "demo",
        "createdBy": "dev@example.com",
        "state": "UPLOADING",
        "status": {"code": "OK", "message": ""},
        "exampleCount": "3",
        "estimatedTokenCount": "0",
        "averageTurnCount": 0,
        "format": "FORMAT_UNSPECIFIED",
        "externalUrl": "",
        "sourceJobName": "",
        "encryptionState": "ENCRYPTION_STATE_PLAINTEXT",
        "userUploaded": {},
    }
    read = await plane.ok("GET", "datasets/in-001")
    assert read["createTime"] == created[:-4] + "Z"  # later reads have microseconds


@pytest.mark.parametrize(
    ("body", "status", "code", "says"),
    [
        ({"datasetId": "a", "dataset": {"userUploaded": {}}}, 400, 3, "example_count is required for uploaded"),
        ({"datasetId": "a", "dataset": {"exampleCount": "0"}}, 400, 3, "example_count is required for uploaded"),
        ({"datasetId": "a", "example_count": 3, "dataset": {}}, 400, 3, 'unknown field "example_count"'),
        ({"datasetId": "A_b", "dataset": {"exampleCount": 1}}, 400, 3, "invalid dataset_id"),
        ({"datasetId": "in-1", "dataset": {"exampleCount": 1}}, 409, 6, "already exists"),
        ({"datasetId": "a", "dataset": {"exampleCount": 1, "externalUrl": "gs://b"}}, 501, 12, "external_url"),
        ({"datasetId": "a", "dataset": {"exampleCount": 1}, "sourceDatasetId": "b"}, 501, 12, "source_dataset_id"),
    ],
)
async def test_what_cannot_be_made_is_refused(
    plane: Plane, body: dict[str, Any], status: int, code: int, says: str
) -> None:
    await plane.create("in-1", 3)
    answered, error = await plane.call("POST", "datasets", json=body)
    assert (answered, error["code"], error["details"]) == (status, code, [])
    assert says in error["message"]
    assert plane.running.stats.batch.datasets_created == 1


async def test_a_body_that_is_no_json_is_refused(plane: Plane) -> None:
    status, error = await plane.call("POST", "datasets", data=b"{")
    assert (status, error["code"]) == (400, 3)


async def test_both_prefixes_serve_the_same(plane: Plane) -> None:
    await plane.create("in-1", 3)
    url = f"{plane.running.url}/inference{ACCOUNT}/datasets/in-1"
    async with plane.http.get(url) as response:
        assert (response.status, (await response.json())["name"]) == (200, "accounts/acct/datasets/in-1")


async def test_accounts_do_not_see_each_other(plane: Plane) -> None:
    await plane.create("in-1", 3)
    other = f"{plane.running.api_url}/v1/accounts/other/datasets"
    async with plane.http.get(f"{other}/in-1") as response:
        assert response.status == 404
    async with plane.http.get(other) as response:
        assert (await response.json())["totalSize"] == 0


@pytest.mark.parametrize(("headers", "status"), [({}, 401), ({"Authorization": "Bearer nonsense"}, 403)])
async def test_a_key_is_refused_in_the_gateways_shape(plane: Plane, headers: dict[str, str], status: int) -> None:
    async with plane.bare.get(f"{plane.running.api_url}{ACCOUNT}/datasets", headers=headers) as response:
        assert response.status == status
        assert (await response.json())["error"]["code"] == "UNAUTHORIZED"


async def test_what_is_not_there_is_a_404_of_the_control_plane(plane: Plane) -> None:
    wanted = (404, {"code": 5, "message": "resource not found", "details": []})
    assert await plane.call("GET", "datasets/in-1") == wanted
    assert await plane.call("GET", "datasets/in-1:getDownloadEndpoint") == wanted
    assert await plane.call("DELETE", "datasets/in-1") == wanted
    assert await plane.call("POST", "datasets/in-1:splitDataset") == wanted
    assert await plane.call("GET", "deployments") == wanted


async def test_a_get_with_a_body_and_a_wrong_method_meet_the_front_end(plane: Plane) -> None:
    await plane.create("in-1", 1)
    status, page = await plane.call("GET", "datasets/in-1:getDownloadEndpoint", json={})
    assert (status, page.startswith("<html>")) == (400, True)
    status, page = await plane.call("POST", "datasets/in-1:getDownloadEndpoint", json={})
    assert (status, page.startswith("<html>")) == (405, True)


async def test_a_dataset_is_ready_after_its_upload(plane: Plane) -> None:
    await plane.create("in-1", 3)
    data = jsonl(rows(3))
    status, body = await plane.upload("in-1", data)
    assert (status, body | {"created_at": 0}) == (
        200,
        {
            "id": "accounts/acct/datasets/in-1",
            "object": "file",
            "bytes": len(data),
            "created_at": 0,
            "filename": "input.jsonl",
            "purpose": "dataset",
        },
    )
    ready = await plane.ok("GET", "datasets/in-1")
    assert (ready["state"], int(ready["estimatedTokenCount"]) > 0) == ("READY", True)


@pytest.mark.requirement("EMU-04")
async def test_ready_can_be_late() -> None:
    async with open_plane(ready_after_s=30) as plane:
        await plane.dataset("in-1", rows(1))
        assert (await plane.ok("GET", "datasets/in-1"))["state"] == "UPLOADING"
        body = {"model": "m", "inputDatasetId": "in-1"}
        status, error = await plane.call("POST", "batchInferenceJobs", json=body)
        assert (status, error["code"]) == (400, 9)
        plane.running.clock.advance(30)
        assert (await plane.ok("GET", "datasets/in-1"))["state"] == "READY"


async def test_some_fields_can_be_changed(plane: Plane) -> None:
    made = await plane.create("in-1", 3)
    plane.running.clock.advance(5)
    changed = await plane.ok("PATCH", "datasets/in-1", json=made | {"displayName": "new", "exampleCount": "9"})
    assert (changed["displayName"], changed["exampleCount"]) == ("new", "9")
    assert changed["updateTime"] > changed["createTime"]
    masked = {"displayName": "newer", "exampleCount": "1"}
    changed = await plane.ok("PATCH", "datasets/in-1?updateMask=display_name", json=masked)
    assert (changed["displayName"], changed["exampleCount"]) == ("newer", "9")


async def test_a_deleted_dataset_is_gone_and_its_name_free(plane: Plane) -> None:
    await plane.dataset("in-1", rows(1))
    assert await plane.ok("DELETE", "datasets/in-1") == {}
    assert (await plane.call("GET", "datasets/in-1"))[0] == 404
    await plane.create("in-1", 1)


async def test_pages_one_after_the_other_are_all_datasets(plane: Plane) -> None:
    for number in range(7):
        await plane.create(f"in-{number}", 1)
    names: list[str] = []
    token, calls = "", 0
    while token or not calls:
        query = {"pageSize": "3", "pageToken": token, "readMask": "name"}
        body = await plane.ok("GET", "datasets", params=query)
        assert body["totalSize"] == 7
        names += [each["name"].rpartition("/")[2] for each in body["datasets"]]
        token, calls = body["nextPageToken"], calls + 1
    assert (names, calls) == ([f"in-{number}" for number in range(7)], 3)


async def test_a_switch_says_how_datasets_are_encrypted() -> None:
    async with open_plane(encryption_state="ENCRYPTION_STATE_CUSTOMER_KEY") as plane:
        assert (await plane.create("in-1", 1))["encryptionState"] == "ENCRYPTION_STATE_CUSTOMER_KEY"
