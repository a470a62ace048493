"""The port `BatchService` over the provider's control plane (WIRE 3): create or adopt, upload, look, stop, download."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

from yarl import URL

from api_contracts.failure import Failure
from workers.adapters.fireworks.control_plane import DEFAULTS, BatchTimeouts, ControlPlane
from workers.adapters.fireworks.errors import without_secrets
from workers.adapters.fireworks.transfer import Chunks, Transfer
from workers.core.batch.acts import CreateJob
from workers.core.batch.jobs import JobView, gone, job_view, last_segment
from workers.ports import OutputFile, OutputUnavailable, ProviderFailed

_REFUSED: Final = (400, 409)
_CONFLICT: Final = 409
_NOT_FOUND: Final = 404
_PLAIN: Final = ("", "ENCRYPTION_STATE_UNSPECIFIED", "ENCRYPTION_STATE_PLAINTEXT")
_WELL: Final = ("", "OK", "CODE_UNSPECIFIED")
_IN_VAIN: Final = frozenset(
    {"INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
     "UNAUTHENTICATED", "UNIMPLEMENTED"}
)  # fmt: skip
"""Status codes of a dataset that does not get well by itself."""


class FireworksBatch:
    """`BatchService` of one account. `key_of` is as in `FireworksChat`."""

    def __init__(
        self,
        api_url: str,
        account_id: str,
        key_of: Callable[[str | None], str],
        *,
        timeouts: BatchTimeouts = DEFAULTS,
    ) -> None:
        self._plane = ControlPlane(api_url, account_id, key_of, timeouts=timeouts)
        self._transfer = Transfer(self._plane)

    # -- datasets --------------------------------------------------------------------------------------------------

    async def create_dataset(self, dataset: str, name: str, rows: int, *, credential: str | None) -> bool:
        """See the port. `exampleCount` is required, inside `dataset`, as a string (WIRE 3.2)."""
        body = {
            "datasetId": dataset,
            "dataset": {"displayName": name, "userUploaded": {}, "exampleCount": str(rows)},
        }
        made = await self._plane.call(
            "POST", self._plane.url("datasets"), body=body, credential=credential, expected=(_CONFLICT,)
        )  # fmt: skip
        if made.status != _CONFLICT:
            return _is_ready(_named(made.body, dataset))
        there = await self._dataset(dataset, credential)
        if there is None:
            raise ProviderFailed(_conflict(f"dataset {dataset} cannot be created and is not there"))
        return _is_ready(there)

    async def dataset_is_ready(self, dataset: str, *, credential: str | None) -> bool:
        """See the port. A dataset whose rows were refused (WIRE 3.3) is a failure: it would never be READY."""
        there = await self._dataset(dataset, credential)
        if there is None:
            raise ProviderFailed(_gone(dataset))
        if _is_ready(there):
            return True
        status = there.get("status")
        if isinstance(status, dict) and status.get("code", "") not in _WELL:
            raise ProviderFailed(_refused(dataset, status))
        return False

    async def upload(self, dataset: str, chunks: Chunks, size: int, *, signed: bool, credential: str | None) -> None:
        """See the port. What `chunks` raises is raised, and `ValueError` when it has not `size` bytes."""
        send = self._upload_signed if signed else self._upload_directly
        try:
            await send(dataset, chunks, size, credential)
        except ProviderFailed as error:
            failure = error.failure
        else:
            return
        if failure.provider_status == _NOT_FOUND:  # whoever tries again creates it again
            failure = failure.model_copy(update={"retryable": True})
        elif failure.provider_status in _REFUSED:
            # An upload of before, whose answer was lost, may have been enough meanwhile.
            there = await self._dataset(dataset, credential)
            if there is not None and _is_ready(there):
                return
        raise ProviderFailed(failure)

    async def _upload_directly(self, dataset: str, chunks: Chunks, size: int, credential: str | None) -> None:
        url = self._plane.url("datasets", dataset, "upload")
        await self._transfer.post_file(url, _file_of(dataset), chunks, size, credential=credential)

    async def _upload_signed(self, dataset: str, chunks: Chunks, size: int, credential: str | None) -> None:
        there = await self._dataset(dataset, credential)
        if there is None:
            raise ProviderFailed(_gone(dataset))
        if _is_ready(there):
            return
        if there.get("encryptionState", "") not in _PLAIN:
            raise ProviderFailed(_encrypted(dataset))
        name, wanted = _file_of(dataset), self._plane.url("datasets", dataset, "getUploadEndpoint")
        sizes = {"filenameToSize": {name: str(size)}}
        urls = _urls((await self._plane.call("POST", wanted, body=sizes, credential=credential)).body)
        if name not in urls:
            raise ProviderFailed(_unexpected("the provider gave no URL for the file to be uploaded"))
        await self._transfer.put_file(urls[name], chunks, size)
        validate, within_s = self._plane.url("datasets", dataset, "validateUpload"), self._plane.timeouts.answer_s
        await self._plane.call("POST", validate, body={}, credential=credential, within_s=within_s)

    # -- jobs ------------------------------------------------------------------------------------------------------

    async def create_job(self, wanted: CreateJob, *, credential: str | None) -> JobView:
        """See the port.

        When only the output's id is taken, by a creation that broke off in the middle or by a job that was deleted,
        the provider chooses another one: what is there may be paid for, and is not ours to delete.
        """
        body = self._body_of(wanted)
        url = self._plane.url("batchInferenceJobs", query={"batchInferenceJobId": wanted.job})
        made = await self._plane.call("POST", url, body=body, credential=credential, expected=(_CONFLICT,))
        if made.status == _CONFLICT:
            there = await self._job(wanted.job, credential)
            if there is not None:
                if last_segment(there.get("inputDatasetId")) != last_segment(wanted.dataset):
                    raise ProviderFailed(_taken(wanted.job))
                return job_view(there)
            if await self._dataset(wanted.output, credential) is not None:
                del body["outputDatasetId"]
                made = await self._plane.call("POST", url, body=body, credential=credential, expected=(_CONFLICT,))
        if made.status == _CONFLICT:
            raise ProviderFailed(_conflict(f"job {wanted.job} cannot be created and is not there"))
        return job_view(_named(made.body, wanted.job))

    async def job(self, job: str, *, credential: str | None) -> JobView:
        """See the port."""
        there = await self._job(job, credential)
        return gone(job) if there is None else job_view(there)

    async def stop(self, job: str, *, credential: str | None) -> None:
        """See the port. There is no `:cancel` (WIRE 3.1)."""
        url = self._plane.url("batchInferenceJobs", job)
        await self._plane.call("DELETE", url, credential=credential, expected=(_NOT_FOUND,))

    # -- files -----------------------------------------------------------------------------------------------------

    async def files(self, dataset: str, *, credential: str | None) -> AsyncGenerator[OutputFile, None]:
        """See the port. Keys carry a path (WIRE 3.8), of which the base name counts.

        `chunks` is closed when the next file is asked for. A dataset without any file is unavailable, too.
        """
        for key in sorted(await self._urls_of(dataset, credential), key=_by_base_name):

            async def url_of(key: str = key) -> str:
                urls = await self._urls_of(dataset, credential)
                if key not in urls:
                    raise OutputUnavailable(f"{dataset} has no file {key} any more")
                return urls[key]

            async with aclosing(self._transfer.download(url_of)) as chunks:
                yield OutputFile(last_segment(key) or key, chunks)

    async def close(self) -> None:
        """Close every connection; what is under way ends with `provider_connection_lost`."""
        await self._plane.close()

    # --------------------------------------------------------------------------------------------------------------

    def _body_of(self, wanted: CreateJob) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": wanted.model,
            "displayName": wanted.name,
            "inputDatasetId": self._plane.full("datasets", wanted.dataset),
            "outputDatasetId": self._plane.full("datasets", wanted.output),
        }
        if wanted.parameters:
            body["inferenceParameters"] = dict(wanted.parameters)
        if wanted.system_prompt is not None:
            body["systemPrompt"] = wanted.system_prompt
        return body

    async def _dataset(self, dataset: str, credential: str | None) -> Mapping[str, Any] | None:
        return await self._resource(self._plane.url("datasets", dataset), dataset, credential)

    async def _job(self, job: str, credential: str | None) -> Mapping[str, Any] | None:
        return await self._resource(self._plane.url("batchInferenceJobs", job), job, credential)

    async def _resource(self, url: URL, name: str, credential: str | None) -> Mapping[str, Any] | None:
        answer = await self._plane.call("GET", url, credential=credential, expected=(_NOT_FOUND,))
        return None if answer.status == _NOT_FOUND else _named(answer.body, name)

    async def _urls_of(self, dataset: str, credential: str | None) -> dict[str, str]:
        url = self._plane.url("datasets", dataset, "getDownloadEndpoint")
        answer = await self._plane.call("GET", url, credential=credential, expected=(_NOT_FOUND,))
        urls = {} if answer.status == _NOT_FOUND else _urls(answer.body)
        if not urls:
            raise OutputUnavailable(dataset)
        return urls


def _named(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the resource if it is the one that was asked for: an empty object says nothing of a job."""
    if last_segment(body.get("name")) != last_segment(name):
        raise ProviderFailed(_unexpected(f"the provider spoke of another resource than {name}"))
    return body


def _is_ready(resource: Mapping[str, Any]) -> bool:
    return bool(resource.get("state") == "READY")


def _file_of(dataset: str) -> str:
    return f"{last_segment(dataset)}.jsonl"


def _urls(body: Mapping[str, Any]) -> dict[str, str]:
    urls = body.get("filenameToSignedUrls")
    return {str(name): str(url) for name, url in urls.items()} if isinstance(urls, dict) else {}


# -- failures ----------------------------------------------------------------------------------------------------------


def _taken(job: str) -> Failure:
    return Failure(
        code="batch_id_taken", category="bad_request", at_fault="us",
        message=f"job {job} exists already, with another input"[:500],
    )  # fmt: skip


def _conflict(why: str) -> Failure:
    return Failure(
        code="provider_conflict", category="protocol", at_fault="provider", retryable=True, message=why[:500],
        provider_status=_CONFLICT,
    )  # fmt: skip


def _gone(dataset: str) -> Failure:
    return Failure(
        code="provider_not_found", category="not_found", at_fault="us", provider_status=_NOT_FOUND,
        message=f"dataset {dataset} is not there any more"[:500],
    )  # fmt: skip


def _refused(dataset: str, status: Mapping[str, Any]) -> Failure:
    code = str(status.get("code"))
    why = without_secrets(f"dataset {dataset} is {code}: {status.get('message', '')}"[:2000])
    return Failure(
        code="dataset_refused", category="bad_request", at_fault="caller", retryable=code not in _IN_VAIN,
        message=why[:500],
    )  # fmt: skip


def _encrypted(dataset: str) -> Failure:
    return Failure(
        code="dataset_encrypted", category="account", at_fault="us",
        message=f"dataset {dataset} is encrypted by the account's rules: it takes no plain file by a signed URL"[:500],
    )  # fmt: skip


def _unexpected(why: str) -> Failure:
    return Failure(
        code="provider_unexpected_answer", category="protocol", at_fault="provider", retryable=True, message=why[:500]
    )  # fmt: skip


def _by_base_name(key: str) -> tuple[str, str]:
    return last_segment(key), key
