"""The stand-in's speech part: live transcription over a WebSocket, and whole files (WIRE 2).

    once = SpeechRule(faults=("drop_after=1500",), times=1)
    running = await serve(EmulatorConfig(speech=SpeechConfig(rules=(once,))))
    async with connect(f"{running.speech_url}/audio/transcriptions/streaming", ...) as socket:
        await socket.send(encode(["maple", "river"]))       # PCM16, 16 kHz, mono

How speech is heard, module by module:

    routes       the server's side: keys, faults, counting
    connection   a socket, and
    conversation   what is said on it, without one: frames in, acts out
    engines      choose who listens: `tone_decoder` decodes words that `tones` encoded into sound, `sphinx` and
                 `whisper` hear a voice, `listening` finds out which of them is needed
    transcript   segments, finality and second thoughts; `messages` are their JSON
    prerecorded  the same engines for a whole file; `form`, `wav` and `formats` are its edges

Everything said comes from the samples that arrive. A word that lost or repeated samples is `<damaged>`, never another
word; see `tone_decoder` for what is noticed. `faults.GUIDE` lists what can be made to go wrong.
"""

from workers.emulator.speech.config import SpeechConfig, SpeechRule, SpeechWhen
from workers.emulator.speech.routes import add_speech, is_speech
from workers.emulator.speech.state import SpeechStats, Uses
from workers.emulator.speech.tone_decoder import DAMAGED
from workers.emulator.speech.tones import NotInVocabulary, encode, silence
from workers.emulator.speech.vocabulary import VOCABULARY
from workers.emulator.speech.wav import read_wav, write_wav

__all__ = [
    "DAMAGED",
    "VOCABULARY",
    "NotInVocabulary",
    "SpeechConfig",
    "SpeechRule",
    "SpeechStats",
    "SpeechWhen",
    "Uses",
    "add_speech",
    "encode",
    "is_speech",
    "read_wav",
    "silence",
    "write_wav",
]
