"""Messages: what the provider's closed form takes, in words and pictures, and what is refused before it is sent."""

import base64
from typing import Any

import pytest
from pydantic import ValidationError

from api_contracts.chat import ChatRequest
from api_contracts.messages import MOST_BASE64_BYTES, MOST_IMAGES, Message, image

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


def request(*content: Any, **fields: Any) -> ChatRequest:
    messages = [{"role": "user", "content": list(content)}]
    return ChatRequest.model_validate({"model": "m", "messages": messages} | fields)


def fault(*content: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        request(*content)
    return str(caught.value)


@pytest.mark.requirement("CHAT-08")
@pytest.mark.parametrize(
    "part",
    [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "image_url", "image_url": {"url": "HTTP://example.org/a?b", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/JPEG;base64,/9j/4A=="}},
        {"type": "video_url", "video_url": {"url": "https://example.org/a.mp4", "max_frames": 8, "sample_fps": 0.5}},
        {"type": "audio_url", "audio_url": {"url": "data:audio/wav;base64,UklGRg=="}},
    ],
)
def test_a_part_is_sent_as_it_was_given(part: dict[str, Any]) -> None:
    assert request(part).messages[0].to_wire()["content"] == [part]


@pytest.mark.requirement("CHAT-08")
@pytest.mark.parametrize(
    ("part", "says"),
    [
        ({"type": "image", "source": "x"}, "type"),
        ({"text": "x"}, "type"),
        ({"type": "text"}, "text.text: Field required"),
        ({"type": "text", "text": 5}, "text.text"),
        ({"type": "text", "text": "x", "cache_control": {}}, "cache_control: Extra inputs are not permitted"),
        ({"type": "image_url", "image_url": "https://example.org/a.png"}, "image_url"),
        ({"type": "image_url", "image_url": {"url": "ftp://example.org/a.png"}}, "give an http(s) URL"),
        ({"type": "image_url", "image_url": {"url": "https://"}}, "give an http(s) URL"),
        ({"type": "image_url", "image_url": {"url": "https://e.org/" + "x" * 8192}}, "at most 8192 characters"),
        ({"type": "image_url", "image_url": {"url": "data:image/webp;base64,AAAA"}}, "takes no image/webp"),
        ({"type": "image_url", "image_url": {"url": "data:image/png,AAAA"}}, "begins with 'data:image/<type>;base64,'"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,A?=="}}, "is no base64"),
        ({"type": "video_url", "video_url": {"url": "https://e.org/a", "max_frames": 0}}, "max_frames"),
    ],
)  # fmt: skip
def test_a_part_that_the_provider_would_refuse_is_refused_and_not_quoted(part: dict[str, Any], says: str) -> None:
    assert says in fault(part)


@pytest.mark.requirement("CHAT-08")
@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PNG, "png"),
        (b"\xff\xd8\xff\xe0", "jpeg"),
        (b"GIF89a..", "gif"),
        (b"BM....", "bmp"),
        (b"II*\x00", "tiff"),
        (b"MM\x00*", "tiff"),
        (b"P6 1 1 255", "ppm"),
    ],
)
def test_a_picture_is_made_from_its_bytes(data: bytes, kind: str) -> None:
    part = image(data, detail="high")
    assert part["image_url"] == {
        "url": f"data:image/{kind};base64,{base64.b64encode(data).decode()}",
        "detail": "high",
    }
    assert request(part).messages[0].content == [part]


@pytest.mark.requirement("CHAT-08")
def test_bytes_that_are_no_picture_are_refused_where_they_are_given() -> None:
    for wrong in (b"", b"RIFF....WEBP", b"%PDF-1.7"):
        with pytest.raises(ValueError, match="no picture that the provider takes"):
            image(wrong)
    assert image("https://example.org/a.png") == {
        "type": "image_url",
        "image_url": {"url": "https://example.org/a.png"},
    }


@pytest.mark.requirement("CHAT-08")
def test_no_request_holds_more_pictures_than_the_provider_takes() -> None:
    picture = image("https://example.org/a.png")
    assert request(*[picture] * MOST_IMAGES)
    assert f"hold {MOST_IMAGES + 1} pictures" in fault(*[picture] * (MOST_IMAGES + 1))


@pytest.mark.requirement("CHAT-08")
def test_pictures_sent_inside_a_request_are_bounded_together_and_urls_are_not_counted() -> None:
    half = image(PNG + b"\0" * (MOST_BASE64_BYTES * 3 // 8 - len(PNG)))
    assert request(half, image("https://example.org/a.png"))
    assert "give URLs" in fault(half, half)


@pytest.mark.requirement("CHAT-16")
def test_a_developer_speaks_to_the_provider_as_the_system() -> None:
    said = Message.model_validate({"role": "developer", "content": "be brief"})
    assert said.to_wire() == {"role": "system", "content": "be brief"}
    assert said.role == "developer"


@pytest.mark.requirement("CHAT-01")
def test_arguments_that_somebody_kept_as_an_object_are_sent_as_text() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": {"at": "Zürich"}}}
    said = Message.model_validate({"role": "assistant", "tool_calls": [call]})
    assert said.to_wire()["tool_calls"][0]["function"]["arguments"] == '{"at": "Zürich"}'
