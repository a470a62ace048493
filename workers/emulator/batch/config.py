"""The switches of the stand-in's batch part, and the rules that make single calls fail. Values only.

Where the wire is unknown the default is that of WIRE 8, or the plainest guess.
"""

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from workers.emulator.batch.faults import parse_batch_faults
from workers.emulator.batch.schedule import FINAL, read_plan

Operation: TypeAlias = Literal[
    "create_dataset",
    "get_dataset",
    "list_datasets",
    "update_dataset",
    "delete_dataset",
    "upload",
    "get_upload_endpoint",
    "validate_upload",
    "get_download_endpoint",
    "put_file",
    "get_file",
    "create_job",
    "get_job",
    "list_jobs",
    "delete_job",
    "cancel_job",
]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BatchWhen(_Value):
    """Conditions on a call; those not given hold always.

    `dataset` and `job` are globs of the id that the call is about: in its path, or that it makes. The dataset of
    `create_job` is its input. `file` is a glob of the name in a signed URL. `model` is the whole id or its last part.
    """

    operation: Operation | tuple[Operation, ...] | None = None
    account: str | None = None
    dataset: str | None = None
    job: str | None = None
    file: str | None = None
    model: str | None = None

    def holds(self, operation: str, facts: dict[str, str]) -> bool:
        """Whether every condition holds. `facts` are by the names of the conditions."""
        wanted = (self.operation,) if isinstance(self.operation, str) else self.operation
        model = facts.get("model", "")
        return (
            (wanted is None or operation in wanted)
            and self.account in (None, facts.get("account"))
            and self.model in (None, model, model.rpartition("/")[2])
            and all(_fits(getattr(self, name), facts.get(name)) for name in ("dataset", "job", "file"))
        )


def _fits(glob: str | None, value: str | None) -> bool:
    return glob is None or (value is not None and fnmatchcase(value, glob))


class BatchRule(_Value):
    """Faults for calls. The first rule that holds and is not used up counts; one without faults lets pass.

    `times`: how many calls it is for; None is all. See `faults.GUIDE` for the faults.
    """

    when: BatchWhen = BatchWhen()
    faults: tuple[str, ...] = ()
    times: Annotated[int, Field(ge=0)] | None = None

    @field_validator("faults")
    @classmethod
    def _exist(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if parse_batch_faults(value).times is not None:
            raise ValueError("times belongs beside the rule's faults, not among them")
        return value


class BatchConfig(_Value):
    """Settings of batches. Seconds are virtual unless said otherwise.

    speed               virtual seconds in a real one; 0 stands still, and only the clock's own switch moves it
    states              a job's life, see `schedule.read_plan`. The default is the live one of WIRE 3.6: 8 minutes
    expires_after_s     from creation to EXPIRED for jobs that do not say (WIRE 3.9)
    job_windows_h       the hours that maxJobDuration may be; None takes any
    cancel              whether `:cancel` exists; if not it is a 404 or a 501 (`cancel_missing`)
    cancelling_s        how long a cancelled job goes on answering rows
    cleanup_s           how long a deleted job is DELETING_CLEANING_UP; None is until one GET saw it
    usable_outputs      the final states whose output can be downloaded; DELETED stands for jobs that were deleted
    unknown_model       a model that is not served: the job stays PENDING until it expires, or is refused
    row_wins            of a parameter given by row and job; a system prompt never replaces a row's own
    needless_keys       `model` and `stream` in a row's body are ignored, or fail the row
    error_code          of rows in error-data: the error's name, or its status as a number
    line_numbers        in the message of a failed validation; they were seen to be wrong (WIRE 3.7)
    ready_after_s       from the upload to READY
    needs_ready         whether a job is refused (code 9) while its input is UPLOADING
    bare_ids            whether a job may name datasets by their last part
    ids_reusable        whether the id of a deleted job may be used again
    reupload            a second upload of a READY dataset replaces the first, or is refused
    max_upload_bytes    of `:upload`; beyond it `too_large_status`
    upload_url_s        seconds that a signed URL for PUT lives, and `download_url_s` for GET. They are real seconds, as
                        transfers are; `url_time` virtual makes them move with the clock
    strict_urls         whether signed URLs refuse an Authorization header
    expired_status      what the storage answers to an expired URL
    public_url          the start of signed URLs, if it is not what the request was sent to (a proxy that adds TLS)
    folder              where files are kept until the server closes; None is the system's place for them
    patience_s          real seconds that a call waits for rows that are due but not answered yet
    """

    speed: float = Field(default=60.0, ge=0, le=1e6)
    states: str = "VALIDATING:60/PENDING:180/CREATING:180/RUNNING:60/COMPLETED"
    expires_after_s: float = Field(default=86_400.0, ge=0)
    job_windows_h: frozenset[float] | None = None
    cancel: bool = False
    cancel_missing: Literal[404, 501] = 404
    cancelling_s: float = Field(default=60.0, ge=0)
    cleanup_s: Annotated[float, Field(ge=0)] | None = None
    usable_outputs: frozenset[str] = frozenset({"COMPLETED", "EXPIRED", "EARLY_STOPPED", "CANCELLED"})
    unknown_model: Literal["pending", "refused"] = "pending"
    row_wins: bool = True
    needless_keys: Literal["ignored", "refused"] = "ignored"
    error_code: Literal["name", "status"] = "name"
    line_numbers: Literal["wrong", "true"] = "wrong"
    ready_after_s: float = Field(default=0.0, ge=0)
    needs_ready: bool = True
    bare_ids: bool = True
    ids_reusable: bool = True
    reupload: Literal["replaces", "refused"] = "replaces"
    id_pattern: str = "[a-z0-9-]{1,63}"
    created_by: str = "dev@example.com"
    encryption_state: str = "ENCRYPTION_STATE_PLAINTEXT"
    max_upload_bytes: int = Field(default=150 * 1024 * 1024, ge=1)
    too_large_status: Literal[400, 413] = 400
    upload_url_s: float = Field(default=3600.0, ge=0)
    download_url_s: float = Field(default=599.0, ge=0)
    url_time: Literal["real", "virtual"] = "real"
    strict_urls: bool = True
    expired_status: Literal[400, 403] = 400
    public_url: str | None = None
    folder: Path | None = None
    patience_s: float = Field(default=2.0, ge=0)
    rules: tuple[BatchRule, ...] = ()

    @field_validator("states")
    @classmethod
    def _is_a_plan(cls, value: str) -> str:
        read_plan(value)
        return value

    @field_validator("id_pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value

    @field_validator("usable_outputs")
    @classmethod
    def _are_final(cls, value: frozenset[str]) -> frozenset[str]:
        if not value <= FINAL:
            raise ValueError(f"not final states: {sorted(value - FINAL)}")
        return value
