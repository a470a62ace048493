"""Messages of a chat in the provider's closed form (WIRE 1.3): their parts, and the limits of pictures.

A part is a plain mapping, as the OpenAI libraries make it; `image` makes one from a picture's bytes or its URL. Parts
are checked here and kept as they are: what is sent is what was given.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

MOST_IMAGES: Final = 30
"""In one request (WIRE 1.3)."""
MOST_BASE64_BYTES: Final = 10 * 1024 * 1024
"""Of all pictures of one request that are sent inside it, as base64 text (WIRE 1.3)."""
IMAGE_TYPES: Final = ("png", "jpg", "jpeg", "gif", "bmp", "tiff", "ppm")
"""After `image/` in a data URL (WIRE 1.3)."""

_ALSO_CALLED: Final = {"x-portable-pixmap": "ppm", "x-ms-bmp": "bmp"}
_BEGINNINGS: Final = {
    b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF87a": "gif", b"GIF89a": "gif", b"BM": "bmp",
    b"II*\x00": "tiff", b"MM\x00*": "tiff", b"P3": "ppm", b"P6": "ppm",
}  # fmt: skip
_DATA_URL: Final = re.compile(r"data:image/([a-z0-9.+-]{1,40});base64,", re.IGNORECASE)
_HTTP_URL: Final = re.compile(r"https?://[^\s/?#]+", re.IGNORECASE)
_LONGEST_URL: Final = 8192

Role = Literal["system", "developer", "user", "assistant", "tool"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# -- parts -------------------------------------------------------------------------------------------------------------


def _picture(url: str) -> str:
    if found := _DATA_URL.match(url):
        kind = found[1].lower()
        if _ALSO_CALLED.get(kind, kind) not in IMAGE_TYPES:
            raise ValueError(f"the provider takes no image/{kind}: {', '.join(IMAGE_TYPES)} (WIRE 1.3)")
        try:
            base64.b64decode(url[found.end() :], validate=True)
        except binascii.Error as exc:
            raise ValueError(f"what follows 'base64,' is no base64: {exc}") from None
        return url
    if url[:5].lower() == "data:":
        raise ValueError("a picture's data URL begins with 'data:image/<type>;base64,'")
    return _reachable(url)


def _reachable(url: str) -> str:
    if not _HTTP_URL.match(url) or len(url) > _LONGEST_URL:
        raise ValueError(f"give an http(s) URL of at most {_LONGEST_URL} characters, or a data URL")
    return url


def _medium(url: str) -> str:
    return url if url[:5].lower() == "data:" else _reachable(url)


class _ImageUrl(_Value):
    url: Annotated[str, AfterValidator(_picture)]
    detail: str | None = None


class _VideoUrl(_Value):
    url: Annotated[str, AfterValidator(_medium)]
    detail: str | None = None
    max_frames: int | None = Field(default=None, ge=1)
    spatial_limit: int | None = Field(default=None, ge=1)
    sample_fps: float | None = Field(default=None, gt=0)


class _AudioUrl(_Value):
    url: Annotated[str, AfterValidator(_medium)]


class _Text(_Value):
    type: Literal["text"]
    text: str


class _Image(_Value):
    type: Literal["image_url"]
    image_url: _ImageUrl


class _Video(_Value):
    type: Literal["video_url"]
    video_url: _VideoUrl


class _Audio(_Value):
    type: Literal["audio_url"]
    audio_url: _AudioUrl


def checked_as(form: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what checks a plain mapping strictly for a form and returns it as it was given, or raises ValueError."""
    adapter: TypeAdapter[Any] = TypeAdapter(form)

    def check(given: dict[str, Any]) -> dict[str, Any]:
        try:
            adapter.validate_python(given, strict=True)
        except ValidationError as exc:
            raise ValueError(_first_fault(exc)) from None
        return given

    return check


def _first_fault(exc: ValidationError) -> str:
    """Return where the first fault is and what it is, quoting nothing of the value."""
    found = exc.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(map(str, found["loc"]))[:120]
    return f"{where}: {found['msg'].removeprefix('Value error, ')}" if where else str(found["msg"])


_part: Final = checked_as(Annotated[_Text | _Image | _Video | _Audio, Field(discriminator="type")])

Part = Annotated[dict[str, Any], AfterValidator(_part)]
"""`text`, `image_url`, `video_url` or `audio_url` (WIRE 1.3)."""


def image(source: str | bytes, detail: str | None = None) -> dict[str, Any]:
    """Return the part that shows a picture: its bytes, or its http(s) or data URL.

    What kind of picture bytes are is read from themselves. Raises ValueError for what the provider would not take.
    """
    url = source if isinstance(source, str) else _data_url(source)
    return _part({"type": "image_url", "image_url": {"url": url} | ({"detail": detail} if detail else {})})


def _data_url(data: bytes) -> str:
    for beginning, kind in _BEGINNINGS.items():
        if data.startswith(beginning):
            return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    raise ValueError(f"these bytes are no picture that the provider takes: {', '.join(IMAGE_TYPES)}")


# -- messages ----------------------------------------------------------------------------------------------------------


def _as_text(arguments: Any) -> Any:
    """Arguments may be given as an object; in a message they are JSON text (WIRE 1.3)."""
    return json.dumps(arguments, ensure_ascii=False) if isinstance(arguments, dict) else arguments


class FunctionCall(_Value):
    """The function of a tool call in a message; `arguments` is JSON text (WIRE 1.3), or an object that becomes it."""

    name: str
    arguments: Annotated[str, BeforeValidator(_as_text)] = "{}"


class ToolCall(_Value):
    """A tool call in an assistant message."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(_Value):
    """One message in the provider's closed form (WIRE 1.3): no `name`, no stray keys. `developer` goes as `system`."""

    role: Role
    content: str | list[Part] | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def _fits_its_role(self) -> "Message":
        if self.role == "tool" and self.tool_call_id is None:
            raise ValueError("a message with role 'tool' needs 'tool_call_id'")
        if self.role != "assistant" and self.tool_calls is not None:
            raise ValueError(f"'tool_calls' belong to role 'assistant', not {self.role!r}")
        if (self.content is None and not self.tool_calls) or self.content == []:
            raise ValueError(f"a message with role {self.role!r} needs 'content'")
        return self

    def to_wire(self) -> dict[str, Any]:
        """Return the message as the provider takes it."""
        plain = self.model_dump(mode="json", exclude_none=True)
        return plain | {"role": "system"} if self.role == "developer" else plain


def check_pictures(messages: list[Message]) -> list[Message]:
    """Return the messages of one request; raise ValueError when they hold more pictures than it may (WIRE 1.3)."""
    urls = [url for message in messages for url in _pictures(message.content)]
    if len(urls) > MOST_IMAGES:
        raise ValueError(f"the messages hold {len(urls)} pictures, the provider takes {MOST_IMAGES} (WIRE 1.3)")
    size = sum(len(url) for url in urls if url[:5].lower() == "data:")
    if size >= MOST_BASE64_BYTES:
        raise ValueError(
            f"the pictures are {size} bytes of base64 together, the provider takes less than {MOST_BASE64_BYTES}: "
            "give URLs (WIRE 1.3)"
        )
    return messages


def _pictures(content: str | list[dict[str, Any]] | None) -> list[str]:
    parts: Iterable[Mapping[str, Any]] = content if isinstance(content, list) else ()
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


ToolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
