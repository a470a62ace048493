"""The control plane's request messages in proto3 JSON (WIRE 3): closed, in both spellings, int64 as text or number.

Output-only fields are known and without effect, as in any resource that is sent back. A null is a field not given.
Knows nothing of what a message means; `read_message` turns what is wrong with one into the refusal.
"""

import json
import re
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from workers.emulator.batch.refusals import invalid
from workers.emulator.batch.stamps import read_duration

FORMATS = ("FORMAT_UNSPECIFIED", "CHAT", "COMPLETION", "RL")
PRECISIONS = (
    *("PRECISION_UNSPECIFIED", "FP16", "FP8", "FP8_MM", "FP8_AR", "FP8_MM_KV_ATTN", "FP8_KV", "FP8_MM_V2", "FP8_V2"),
    *("FP8_MM_KV_ATTN_V2", "NF4", "FP4", "BF16", "FP4_BLOCKSCALED_MM", "FP4_MX_MOE"),
)


def _whole(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,19}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("not a whole number")
    return value


def _real(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("not a number")
    return float(value)


def _seconds(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError("not a duration")
    return read_duration(value)


def _one_of(names: tuple[str, ...]) -> BeforeValidator:
    def check(value: object) -> str:
        """A name, or its number, which proto3 JSON takes as well."""
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
            return names[value]
        if value not in names:
            raise ValueError("no such value")
        return str(value)

    return BeforeValidator(check)


Int64 = Annotated[int, BeforeValidator(_whole), Field(ge=-(2**63), lt=2**63)]
Int32 = Annotated[int, BeforeValidator(_whole), Field(ge=-(2**31), lt=2**31)]
Float = Annotated[float, BeforeValidator(_real), Field(allow_inf_nan=False)]
Format = Annotated[str, _one_of(FORMATS)]
Precision = Annotated[str, _one_of(PRECISIONS)]
Duration = Annotated[float, BeforeValidator(_seconds)]


class Message(BaseModel):
    """A proto3 message."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: object) -> object:
        return {key: each for key, each in value.items() if each is not None} if isinstance(value, dict) else value


class DatasetBody(Message):
    """A dataset as a caller writes it. The last block is the server's."""

    display_name: str = ""
    example_count: Int64 = 0
    format: Format = "FORMAT_UNSPECIFIED"
    user_uploaded: dict[str, Any] | None = None
    external_url: str = ""
    evaluation_result: dict[str, Any] | None = None
    transformed: dict[str, Any] | None = None
    splitted: dict[str, Any] | None = None
    eval_protocol: dict[str, Any] | None = None

    name: Any = None
    create_time: Any = None
    update_time: Any = None
    created_by: Any = None
    state: Any = None
    status: Any = None
    estimated_token_count: Any = None
    average_turn_count: Any = None
    source_job_name: Any = None
    encryption_state: Any = None

    @property
    def other_source(self) -> str | None:
        """The source that is not an upload, None if it is one."""
        names = ("external_url", "evaluation_result", "transformed", "splitted", "eval_protocol")
        return next((name for name in names if getattr(self, name) not in (None, "")), None)


class CreateDataset(Message):
    """POST datasets."""

    dataset_id: str
    dataset: DatasetBody
    source_dataset_id: str = ""
    filter: str = ""


class UploadEndpoint(Message):
    """POST datasets/{id}:getUploadEndpoint."""

    filename_to_size: dict[str, Int64] = {}
    read_mask: str = ""


class Nothing(Message):
    """A message without fields."""


class InferenceParameters(Message):
    """Parameters for all rows of a job."""

    max_tokens: Int32 | None = None
    temperature: Float | None = None
    top_p: Float | None = None
    n: Int32 | None = None
    top_k: Int32 | None = None
    extra_body: str = "{}"

    @property
    def extra(self) -> dict[str, Any]:
        """What `extraBody` holds. Raises Refused."""
        try:
            read = json.loads(self.extra_body or "{}")
        except (ValueError, RecursionError):
            read = None
        if not isinstance(read, dict):
            raise invalid("extra_body must be a JSON object in a string")
        return read

    @property
    def given(self) -> dict[str, Any]:
        """The parameters by their names in a chat request, `extraBody` last."""
        return self.model_dump(exclude={"extra_body"}, exclude_none=True) | self.extra


class JobBody(Message):
    """A batch inference job as a caller writes it. The last block is the server's."""

    model: str = ""
    input_dataset_id: str = ""
    output_dataset_id: str = ""
    display_name: str = ""
    inference_parameters: InferenceParameters | None = None
    system_prompt: str = ""
    precision: Precision = "PRECISION_UNSPECIFIED"
    continued_from_job_name: str = ""
    max_job_duration: Duration | None = None

    name: Any = None
    create_time: Any = None
    created_by: Any = None
    update_time: Any = None
    expire_time: Any = None
    state: Any = None
    status: Any = None
    job_progress: Any = None
    lifecycle: Any = None
    placement: Any = None
    waiting_on_capacity: Any = None


M = TypeVar("M", bound=Message)


def read_message(kind: type[M], raw: object) -> M:
    """A message. Raises Refused, 400 with code 3."""
    _check_spelled_once(kind, raw)
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]  # the readers of proto3 JSON stop at the first problem
        raise invalid(_say(first["type"], first["loc"], first["input"])) from None


def _say(kind: str, loc: tuple[int | str, ...], given: object) -> str:
    field = to_snake(str(loc[-1])) if loc else "the body"
    if kind == "extra_forbidden":
        return f'unknown field "{loc[-1]}"'
    if kind == "missing":
        return f"{field} is required"
    return f"invalid value for {field}: {given!r:.100}"


def to_snake(name: str) -> str:
    """A field's name in the messages' own spelling."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def _check_spelled_once(kind: type[Message], raw: object) -> None:
    if isinstance(raw, dict):
        for name in kind.model_fields:
            if to_camel(name) != name and name in raw and to_camel(name) in raw:
                raise invalid(f'duplicate field "{name}"')


def dump_parameters(parameters: InferenceParameters | None) -> dict[str, Any] | None:
    """Parameters as a job's resource has them: those given, and `extraBody` always (WIRE 3.5)."""
    if parameters is None:
        return None
    given = parameters.model_dump(by_alias=True, exclude_none=True)
    return {"extraBody": given.pop("extraBody")} | given
