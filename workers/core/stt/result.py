"""The result of a session, and the account of its audio, from what its journal says."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from api_contracts.failure import Failure
from api_contracts.runs import Status
from api_contracts.stt import (
    SAMPLE_RATE,
    Coverage,
    EndReason,
    Gap,
    SttRequest,
    SttResult,
    SttSegment,
)
from workers.core.stt.state import SttState

_Json = Mapping[str, Any]


def coverage_of(state: SttState, received: int) -> Coverage:
    """Return what became of `received` samples: everything but words and gaps is silence."""
    audio = max(received, state.settled)
    gaps = sum(gap.end - gap.start for gap in state.gaps)
    words = max(0, min(state.word_samples, audio - gaps))
    in_order = sorted(state.gaps, key=lambda gap: gap.start)
    return Coverage(
        audio_s=audio / SAMPLE_RATE,
        words_s=words / SAMPLE_RATE,
        silence_s=(audio - gaps - words) / SAMPLE_RATE,
        gaps_s=gaps / SAMPLE_RATE,
        share=(audio - gaps) / audio if audio else 1.0,
        gaps=[Gap(start=gap.start / SAMPLE_RATE, end=gap.end / SAMPLE_RATE, cause=gap.cause) for gap in in_order],
    )


def uncovered(state: SttState, received: int) -> list[tuple[int, int]]:
    """Return the stretches up to `received` of which nobody can say what was said in them."""
    found, at = [], state.settled
    for gap in sorted(state.gaps, key=lambda gap: gap.start):
        if gap.end > at:
            found.append((at, gap.start))
            at = gap.end
    found.append((at, received))
    return [(start, end) for start, end in found if end > start]


def result_of(
    run_id: str,
    request: SttRequest,
    state: SttState,
    status: Status,
    ended_by: EndReason,
    failure: Failure | None,
    now: float,
) -> dict[str, Any]:
    """Return the result as JSON. A session that did not complete keeps what is final.

    Four hours have 36 000 words: they go from the journal into the result as they are.
    """
    finals = state.transcript.finals()
    words = [word for final in finals for word in final["words"]]
    result = SttResult(
        run_id=run_id,
        status=status,
        failure=failure,
        text=_text(finals),
        segments=_segments(finals) if "segment" in request.timestamps else [],
        language=_language(words),
        connections=state.connections,
        source=request.source,
        repeated_s=state.repeated / SAMPLE_RATE,
        ended_by=ended_by,
        timings=_timings(state, now),
    )
    if state.closed is not None:
        result = result.model_copy(update={"audio": state.closed.audio, "coverage": state.closed.coverage})
    return result.model_dump(mode="json", exclude_none=True) | {"words": words if "word" in request.timestamps else []}


def _text(finals: Iterable[_Json]) -> str:
    return "".join(final["text"] if final.get("glued") else f" {final['text']}" for final in finals).strip()


def _segments(finals: Iterable[_Json]) -> list[SttSegment]:
    """Put the finals together that are of one segment of one connection."""
    segments: list[SttSegment] = []
    for _, group in groupby(finals, key=lambda final: (final["conn"], final["segments"])):
        parts = list(group)
        segments.append(
            SttSegment(
                id=len(segments),
                text=_text(parts),
                start=parts[0]["start"],
                end=parts[-1]["end"],
                language=_language([word for part in parts for word in part["words"]]),
            )
        )
    return segments


def _language(words: Iterable[_Json]) -> str | None:
    counted = Counter(word["language"] for word in words if word.get("language"))
    return counted.most_common(1)[0][0] if counted else None


def _timings(state: SttState, now: float) -> dict[str, float]:
    times = {
        "queued_s": state.started_at,
        "connected_s": state.connected_at,
        "first_text_s": state.first_text_at,
        "first_final_s": state.first_final_at,
        "total_s": now,
    }
    return {name: round(max(0.0, at - state.queued_at), 4) for name, at in times.items() if at is not None}
