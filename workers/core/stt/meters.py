"""The three meters of a session (STT-14), over all its connections and workers. Pure; counts in samples."""

from api_contracts.stt import SAMPLE_RATE, AudioMeters
from workers.core.stt.connection import Connection
from workers.core.stt.frames import SAMPLE_BYTES
from workers.core.stt.state import SttState, samples


class Meters:
    """Goes on from the journal's last word. What a killed worker sent after that is not known to anyone."""

    def __init__(self, known: AudioMeters) -> None:
        self._sent = samples(known.sent_s)
        self._billable = samples(known.billable_s)
        self._acked = samples(known.acked_s)

    def close(self, conn: Connection) -> None:
        """Count a connection that is over."""
        self._sent += conn.sent // SAMPLE_BYTES
        self._billable += conn.heard

    def read(self, conn: Connection | None, state: SttState, settled: int) -> AudioMeters:
        """Return the meters, the present connection counted in. What is settled was heard, but for the gaps."""
        sent, billable, acked_upto = self._sent, self._billable, settled
        if conn is not None:
            sent, billable = sent + conn.sent // SAMPLE_BYTES, billable + conn.heard
            acked_upto = max(acked_upto, conn.course.place(conn.heard))
        missing = sum(max(0, min(gap.end, acked_upto) - gap.start) for gap in state.gaps)
        self._acked = max(self._acked, acked_upto - missing)
        return AudioMeters(
            sent_s=sent / SAMPLE_RATE, acked_s=self._acked / SAMPLE_RATE, billable_s=billable / SAMPLE_RATE
        )
