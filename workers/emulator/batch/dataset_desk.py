"""Datasets: create, upload in both ways, look at, download, delete (WIRE 3.1 to 3.3, 3.8)."""

import re
from collections.abc import AsyncIterator

from aiohttp import BodyPartReader
from aiohttp.http import HttpProcessingError

from workers.emulator.batch.books import Books
from workers.emulator.batch.calls import Call
from workers.emulator.batch.datasets import Dataset, StoredFile
from workers.emulator.batch.listing import Resource, masked, page, read_query
from workers.emulator.batch.messages import CreateDataset, DatasetBody, Nothing, UploadEndpoint, read_message, to_snake
from workers.emulator.batch.refusals import exists, invalid, not_built, not_found, not_ready, too_large
from workers.emulator.batch.state import BatchStats
from workers.emulator.batch.storage import PIECE, Spool, Storage, TooLarge

_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,200}\.jsonl")
_FORM_OVERHEAD = 64 * 1024  # a multipart body is larger than its file


class DatasetDesk:
    """Answers the calls about datasets. Each method returns the JSON of a 200, or raises Refused."""

    def __init__(self, books: Books, storage: Storage, stats: BatchStats) -> None:
        self._books = books
        self._config = books.config
        self._storage = storage
        self._stats = stats

    async def create_dataset(self, call: Call) -> Resource:
        """POST datasets. The examples must be declared, and are not counted (WIRE 3.2)."""
        asked = read_message(CreateDataset, call.body)
        given = asked.dataset
        if not re.fullmatch(self._config.id_pattern, asked.dataset_id):
            raise invalid(f"invalid dataset_id {asked.dataset_id!r:.100}")
        for name in (given.other_source, "source_dataset_id" * bool(asked.source_dataset_id)):
            if name:
                raise not_built(name)
        if given.example_count <= 0:
            raise invalid("example_count is required for uploaded datasets")
        dataset = Dataset(
            account=call.account,
            id=asked.dataset_id,
            created=call.now,
            created_by=self._config.created_by,
            encryption_state=self._config.encryption_state,
            display_name=given.display_name,
            format=given.format,
            example_count=given.example_count,
        )
        if self._books.taken(call.account, dataset.id):
            raise exists(dataset.name)
        self._books.datasets[call.account, dataset.id] = dataset
        self._stats.datasets_created += 1
        return dataset.resource(call.now, fresh=True)

    async def get_dataset(self, call: Call) -> Resource:
        """GET datasets/{id}."""
        dataset = await self._found(call)
        return masked(dataset.resource(call.now), call.query("readMask", "read_mask"))

    async def list_datasets(self, call: Call) -> Resource:
        """GET datasets."""
        query = read_query(call.request.query, order="name")
        await self._books.refresh(call.account)
        mine = [
            each
            for each in self._books.datasets.values()
            if each.account == call.account and each.visible_from <= call.now
        ]
        shown, token, total = page([each.resource(call.now) for each in mine], query)
        return {"datasets": shown, "nextPageToken": token, "totalSize": total}

    async def update_dataset(self, call: Call) -> Resource:
        """PATCH datasets/{id}: name, count and format; the rest of the resource may be sent back as it came."""
        dataset = await self._found(call)
        body = read_message(DatasetBody, call.body)
        mask = {to_snake(name.strip()) for name in call.query("updateMask", "update_mask").split(",") if name.strip()}
        given = body.model_fields_set & mask if mask else body.model_fields_set
        dataset.change(body, frozenset(given), call.now)
        return dataset.resource(call.now)

    async def delete_dataset(self, call: Call) -> Resource:
        """DELETE datasets/{id}. Jobs that read it go on."""
        self._books.drop_dataset(await self._found(call))
        return {}

    async def upload(self, call: Call) -> Resource:
        """POST datasets/{id}:upload, one multipart part named `file`, written to disk as it comes."""
        dataset = await self._uploadable(call)
        limit = self._config.max_upload_bytes
        if (call.request.content_length or 0) > limit + _FORM_OVERHEAD:
            raise too_large(limit, self._config.too_large_status)
        try:
            name, stored = await self._received(call, limit)
        except TooLarge:
            raise too_large(limit, self._config.too_large_status) from None
        except (ValueError, AssertionError, HttpProcessingError) as error:  # aiohttp asserts some of a form
            raise invalid(f"invalid multipart body: {error}") from None
        self._stats.bytes_uploaded += stored.size
        for old in dataset.files.values():
            old.path.unlink(missing_ok=True)
        dataset.files, dataset.expected = {name: stored}, {}
        self._complete(dataset, call)
        return {
            "id": dataset.name,
            "object": "file",
            "bytes": stored.size,
            "created_at": int(call.now),
            "filename": name,
            "purpose": "dataset",
        }

    async def get_upload_endpoint(self, call: Call) -> Resource:
        """POST datasets/{id}:getUploadEndpoint. Replaces the registered set; what came for it already stays."""
        dataset = await self._uploadable(call)
        sizes = read_message(UploadEndpoint, call.body).filename_to_size
        if not sizes:
            raise invalid("filename_to_size is required")
        for name, size in sizes.items():
            if not _FILE_NAME.fullmatch(name) or size < 1:
                raise invalid(f"invalid file {name!r:.100} of {size} bytes")
        for name in [name for name, file in dataset.files.items() if sizes.get(name) != file.size]:
            dataset.files.pop(name).path.unlink(missing_ok=True)
        dataset.expected, dataset.ready_at = dict(sizes), None
        lives = call.faults.url_expires
        urls = {
            name: self._storage.sign("PUT", dataset, name, size, call.origin, lives) for name, size in sizes.items()
        }
        return {"filenameToSignedUrls": urls}

    async def validate_upload(self, call: Call) -> Resource:
        """POST datasets/{id}:validateUpload, once every registered file has come."""
        dataset = await self._found(call)
        read_message(Nothing, call.body)
        missing = sorted(dataset.expected.keys() - dataset.files.keys())
        if missing or not dataset.files:
            raise not_ready(f"files are missing: {', '.join(missing) or 'none was registered'}")
        dataset.files = {name: dataset.files[name] for name in dataset.expected or dataset.files}
        if call.faults.has("bad_upload"):
            dataset.failure = "A fault was asked for"
        else:
            self._complete(dataset, call)
        return {}

    async def get_download_endpoint(self, call: Call) -> Resource:
        """GET datasets/{id}:getDownloadEndpoint: a signed URL for each file, under a name with a path (WIRE 3.8)."""
        dataset = await self._found(call)
        lineage = call.query("downloadLineage", "download_lineage").lower() == "true"
        urls, folder = {}, "error-data/" if call.faults.has("error_path") else ""
        for each in [dataset, *(self._lineage(dataset) if lineage else [])]:
            for name, file in each.files.items():
                url = self._storage.sign("GET", each, name, file.size, call.origin, call.faults.url_expires)
                urls[f"{folder}dataset/{each.id}/{name}"] = url
        return {"filenameToSignedUrls": urls}

    async def _found(self, call: Call) -> Dataset:
        await self._books.refresh(call.account)
        dataset = self._books.dataset(call.account, call.id)
        if dataset is None:
            raise not_found()
        return dataset

    async def _uploadable(self, call: Call) -> Dataset:
        dataset = await self._found(call)
        ready = dataset.state(call.now) == "READY"
        if dataset.output_of or (ready and self._config.reupload == "refused"):
            raise not_ready(f"{dataset.name} does not take uploads")
        return dataset

    def _complete(self, dataset: Dataset, call: Call) -> None:
        slow = call.faults.slow_ready
        dataset.ready_at = call.now + (self._config.ready_after_s if slow is None else slow)
        dataset.updated, dataset.failure = call.now, ""

    async def _received(self, call: Call, limit: int) -> tuple[str, StoredFile]:
        if call.request.content_type != "multipart/form-data":
            raise ValueError("the content type is not multipart/form-data")
        async for part in await call.request.multipart():
            if isinstance(part, BodyPartReader) and part.name == "file":
                spool = Spool(self._books.folder.new())
                try:
                    await spool.fill(_pieces(part), limit, call.faults.upload_cut)
                    return part.filename or "file", spool.keep()
                finally:
                    spool.close()
        raise ValueError("there is no part named file")

    def _lineage(self, dataset: Dataset) -> list[Dataset]:
        """The outputs of the jobs that the job of this output continued."""
        job = next((each for each in self._books.jobs.values() if each.name == dataset.output_of), None)
        found: list[Dataset] = []
        while job is not None and job.parent is not None:
            job = job.parent
            output = self._books.dataset(job.account, job.output_id)
            found += [output] if output else []
        return found


async def _pieces(part: BodyPartReader) -> AsyncIterator[bytes]:
    while piece := await part.read_chunk(PIECE):
        yield piece
