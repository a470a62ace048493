"""The result of a transcription."""

from typing import Any

from api_contracts.failure import Failure
from api_contracts.runs import Status
from api_contracts.stt_files import SttFileResult
from workers.core.stt.files.answer import Transcript
from workers.core.stt.files.state import FileState


def result_of(
    run_id: str, state: FileState, status: Status, now: float, transcript: Transcript | None = None,
    failure: Failure | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return what the run came to, as JSON."""
    times = {"queued_s": state.started_at, "total_s": now}
    heard = transcript or Transcript("")
    result = SttFileResult(
        run_id=run_id, status=status, failure=failure, text=heard.text, language=heard.language,
        duration_s=heard.duration_s, segments=heard.segments, words=heard.words, srt=heard.srt, vtt=heard.vtt,
        attempts=state.attempt,
        timings={name: round(max(0.0, at - state.queued_at), 4) for name, at in times.items() if at is not None},
    )  # fmt: skip
    return result.model_dump(mode="json", exclude_none=True)
