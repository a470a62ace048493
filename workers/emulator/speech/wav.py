"""Sound files into samples: WAV with 16-bit PCM, any rate and number of channels. Pure, standard library only."""

import io
import wave
from array import array

from workers.emulator.speech.engine import RATE
from workers.emulator.speech.tones import from_pcm, to_pcm


class BadAudio(ValueError):
    """Not a file that can be read here."""


def read_wav(data: bytes) -> bytes:
    """The sound as PCM16, 16 kHz, mono. Raises BadAudio."""
    try:
        with wave.open(io.BytesIO(data)) as file:
            rate, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
            pcm = file.readframes(file.getnframes())
    except (wave.Error, EOFError, ValueError) as error:
        raise BadAudio(f"the emulator reads WAV files: {error}") from None
    if width != 2 or rate <= 0 or channels <= 0:
        raise BadAudio(f"the emulator reads WAV files of 16 bits, not {8 * width}")
    samples = _mixed(from_pcm(pcm[: len(pcm) - len(pcm) % (2 * channels)]), channels)
    return to_pcm(samples if rate == RATE else _resampled(samples, rate))


def write_wav(pcm: bytes) -> bytes:
    """PCM16 of 16 kHz as a WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(pcm)
    return buffer.getvalue()


def _mixed(samples: "array[int]", channels: int) -> "array[int]":
    if channels == 1:
        return samples
    voices = [samples[channel::channels] for channel in range(channels)]
    return array("h", (sum(sounds) // channels for sounds in zip(*voices, strict=True)))


def _resampled(samples: "array[int]", rate: int) -> "array[int]":
    """Straight lines between the samples: good enough for what engines listen to, far below either rate's limit."""
    if not samples:
        return samples
    last = len(samples) - 1
    made = array("h")
    for place in range(len(samples) * RATE // rate):
        before, part = divmod(place * rate, RATE)
        low, high = samples[min(before, last)], samples[min(before + 1, last)]
        made.append(low + (high - low) * part // RATE)
    return made
