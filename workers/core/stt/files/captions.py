"""Subtitles: what was said when, as SubRip (`srt`) and WebVTT (`vtt`). Pure."""

from collections.abc import Iterable, Sequence
from typing import Final

from api_contracts.stt_files import FileSegment

_ARROW: Final = " --> "


def srt_of(segments: Sequence[FileSegment]) -> str:
    """Return the segments as SubRip, a cue each; times are hours:minutes:seconds,milliseconds."""
    cues = (f"{number}\n{_span(each, ',')}\n{_line(each.text)}\n" for number, each in enumerate(_said(segments), 1))
    return "\n".join(cues)


def vtt_of(segments: Sequence[FileSegment]) -> str:
    """Return the segments as WebVTT, a cue each."""
    return "\n".join(("WEBVTT\n", *(f"{_span(each, '.')}\n{_escaped(each.text)}\n" for each in _said(segments))))


def text_of(subtitles: str) -> str:
    """Return the words of SubRip or WebVTT on one line: what follows the line of times in each block."""
    blocks = "\n".join(subtitles.splitlines()).split("\n\n")
    said = (block.partition(_ARROW)[2].partition("\n")[2] for block in blocks if _ARROW in block)
    text = " ".join(" ".join(said).split())
    if subtitles.lstrip("\ufeff").startswith("WEBVTT"):
        text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return text


def _said(segments: Iterable[FileSegment]) -> Iterable[FileSegment]:
    return (each for each in segments if each.text.strip())


def _span(segment: FileSegment, mark: str) -> str:
    return f"{_clock(segment.start, mark)}{_ARROW}{_clock(max(segment.start, segment.end), mark)}"


def _clock(seconds: float, mark: str) -> str:
    whole, ms = divmod(round(max(0.0, seconds) * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{mark}{ms:03}"


def _line(text: str) -> str:
    """An empty line would end the cue, and an arrow would be a span."""
    return " ".join(text.replace("-->", "->").split())


def _escaped(text: str) -> str:
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())
