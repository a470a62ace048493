"""A dataset: what is stored of it, and its resource (WIRE 3.2). Knows no requests."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workers.emulator.batch.messages import DatasetBody
from workers.emulator.batch.stamps import fresh_stamp, stamp

_BYTES_PER_TOKEN = 4


@dataclass(frozen=True)
class StoredFile:
    """A file on disk, of which the first `size` bytes are the dataset's."""

    path: Path
    size: int


@dataclass
class Dataset:
    """A dataset. `expected` are the sizes that getUploadEndpoint was told; `ready_at` None until an upload is whole.

    `output_of` is the job that made it, "" if it was uploaded; `visible_from` is when it can first be found.
    """

    account: str
    id: str
    created: float
    created_by: str
    encryption_state: str
    display_name: str = ""
    format: str = "FORMAT_UNSPECIFIED"
    example_count: int = 0
    output_of: str = ""
    visible_from: float = 0.0
    updated: float = 0.0
    ready_at: float | None = None
    failure: str = ""
    expected: dict[str, int] = field(default_factory=dict)
    files: dict[str, StoredFile] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The full resource name."""
        return f"accounts/{self.account}/datasets/{self.id}"

    def state(self, now: float) -> str:
        """The state at a time."""
        return "READY" if self.ready_at is not None and now >= self.ready_at and not self.failure else "UPLOADING"

    def change(self, body: DatasetBody, given: frozenset[str], now: float) -> None:
        """Take over the fields that a caller may change."""
        for name in given & {"display_name", "example_count", "format"}:
            setattr(self, name, getattr(body, name))
        self.updated = now

    def resource(self, now: float, *, fresh: bool = False) -> dict[str, Any]:
        """The resource as JSON, defaults emitted; `fresh` is the answer to its creation."""
        ready = self.state(now) == "READY"
        status = (
            {"code": "INVALID_ARGUMENT", "message": self.failure} if self.failure else {"code": "OK", "message": ""}
        )
        spelled = fresh_stamp if fresh else stamp
        tokens = sum(file.size for file in self.files.values()) // _BYTES_PER_TOKEN if ready else 0
        resource: dict[str, Any] = {
            "name": self.name,
            "displayName": self.display_name,
            "createTime": spelled(self.created),
            "updateTime": spelled(self.updated or self.created),
            "createdBy": self.created_by,
            "state": self.state(now),
            "status": status,
            "exampleCount": str(self.example_count),
            "estimatedTokenCount": str(tokens),
            "averageTurnCount": 0,
            "format": self.format,
            "externalUrl": "",
            "sourceJobName": self.output_of,
            "encryptionState": self.encryption_state,
        }
        return resource if self.output_of else resource | {"userUploaded": {}}
