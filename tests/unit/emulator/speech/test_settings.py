"""What connections and files may ask for, how faults and rules are written, and what is refused by name."""

import pytest
from pydantic import ValidationError

from workers.emulator.faults import FaultSyntax
from workers.emulator.scenes import Scene
from workers.emulator.speech import SpeechConfig, SpeechRule, SpeechWhen
from workers.emulator.speech.faults import GUIDE, SpeechFaults, parse_speech_faults
from workers.emulator.speech.form import Order, read_order
from workers.emulator.speech.parameters import BadParameter, Parameters, read_parameters
from workers.emulator.speech.state import Uses

pytestmark = pytest.mark.requirement("EMU-01")


def test_every_parameter_of_the_wire_is_read() -> None:
    query = [
        *(("response_format", "verbose_json"), ("language", "zh-Hant"), ("prompt", "names"), ("temperature", "0.2")),
        *(("timestamp_granularities", "word"), ("timestamp_granularities", "segment"), ("model", "fireworks-asr-v2")),
        *(("skip_vad", "True"), ("vad_kwargs", '{"threshold":0.15}'), ("text_timeout_seconds", "1.5")),
        *(("max_retries", "3"), ("n_prefix_words", "5"), ("Authorization", "fw_x")),
    ]
    assert read_parameters(query) == Parameters(
        language="zh-hant",
        prompt="names",
        temperature=0.2,
        granularities=frozenset({"word", "segment"}),
        model="fireworks-asr-v2",
        skip_vad=True,
        vad={"threshold": 0.15},
        text_timeout_s=1.5,
        max_retries=3,
    )
    assert read_parameters([("timestamp_granularities", "word,segment")]).granularities == {"word", "segment"}
    assert read_parameters([]) == Parameters()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("response_format", "srt"), ("language", "klingon"), ("temperature", "hot"), ("temperature", "nan")),
        *(("timestamp_granularities", "word,letter"), ("skip_vad", "maybe"), ("vad_kwargs", "threshold")),
        *(("vad_kwargs", "[]"), ("text_timeout_seconds", "30"), ("max_retries", "11"), ("max_retries", "1.5")),
    ],
)
def test_a_bad_parameter_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(BadParameter, match=name):
        read_parameters([(name, value)])


def test_a_form_is_read() -> None:
    fields = [
        *(("model", "whisper-v3-turbo"), ("response_format", "verbose_json"), ("language", "de")),
        *(("timestamp_granularities[]", "word"), ("temperature", "[0.4, 0.8]"), ("diarize", "true"), ("other", "x")),
    ]
    assert read_order("transcribe", fields) == Order(
        "transcribe", "verbose_json", "de", temperature=0.4, words=True, segments=False, diarize=True
    )
    assert read_order("translate", []) == Order("translate")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("model", "whisper-1"), ("vad_model", "x"), ("alignment_model", "x"), ("preprocessing", "x")),
        *(("response_format", "xml"), ("temperature", "x"), ("temperature", "2"), ("min_speakers", "0")),
        *(("language", "klingon"), ("diarize", "true"), ("diarize", "perhaps")),
    ],
)
def test_a_bad_field_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(BadParameter, match=name):
        read_order("transcribe", [(name, value)])


def test_a_translation_takes_no_language() -> None:
    with pytest.raises(BadParameter, match="language"):
        read_order("translate", [("language", "de")])


@pytest.mark.requirement("EMU-04")
class TestFaults:
    """How faults are written."""

    def test_every_fault_of_the_guide_is_understood(self) -> None:
        numbers = {"code": "=1012", "times": "=2", "slow_echo": "=100"}
        for name in GUIDE:
            argument = "=5" if name.endswith("_after") else numbers.get(name, "")
            assert parse_speech_faults([f"{name}{argument}"]) != SpeechFaults()

    def test_blows_fall_in_the_order_of_their_time(self) -> None:
        faults = parse_speech_faults(["drop_after=900", "id_jump_after=100", "code=1001"])
        assert faults.blows == ((100, "id_jump"), (900, "drop"))
        assert faults.code == 1001

    def test_a_status_refuses_in_the_shape_of_the_audio_hosts(self) -> None:
        reply = parse_speech_faults(["429=7"]).reply()
        assert reply is not None
        assert (reply.status, reply.headers) == (429, {"retry-after": "7"})
        assert '"error": "Too Many Requests"' in reply.text
        assert parse_speech_faults(["drop_after=1"]).reply() is None

    @pytest.mark.parametrize("spec", ["explode", "drop_after", "drop_after=-1", "no_echo=1", "code=1006", "times=x"])
    def test_a_misspelt_fault_is_refused_by_name(self, spec: str) -> None:
        with pytest.raises(FaultSyntax, match=spec.partition("=")[0]):
            parse_speech_faults([spec])

    def test_a_rule_checks_its_faults_when_it_is_written(self) -> None:
        for faults in (("explode",), ("drop_after=1", "times=1")):
            with pytest.raises(ValidationError):
                SpeechRule(faults=faults)

    def test_a_rule_may_depend_on_the_query(self) -> None:
        when = SpeechWhen(prompt="fail", language="de")
        assert when.holds(Parameters(prompt="please fail now", language="de"))
        assert not when.holds(Parameters(prompt="please fail now"))
        assert not when.holds(Parameters(language="de"))

    def test_a_fault_can_be_used_up(self) -> None:
        uses = Uses()
        assert [uses.take("a", 2) for _ in range(3)] == [True, True, False]
        assert uses.take("b", None)
        uses.clear()
        assert uses.take("a", 2)

    def test_a_scene_can_hold_the_settings_of_speech(self) -> None:
        scene = Scene.model_validate_json('{"speech": {"rules": [{"faults": ["drop_after=500"], "times": 1}]}}')
        assert scene.speech == SpeechConfig(rules=(SpeechRule(faults=("drop_after=500",), times=1),))
