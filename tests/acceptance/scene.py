"""What the emulator answers in the acceptance tests. The first word of the user's text chooses; the rest is free."""

from workers.core.chat.cancelling import CANCEL
from workers.emulator.batch import BatchConfig, BatchRule, BatchWhen
from workers.emulator.scenes import Reply, Rule, Scene, ScriptedCall, Span, When
from workers.emulator.speech import SpeechConfig, SpeechRule, SpeechWhen

WORKER_TOOLS = ("lookup", "wait_pure", "wait_once", "raises", "hog", "wipe")
DESK_TOOLS = ("desk_wait", "desk_sign")
SERVICE_TOOLS = ("read", "charge", "broken", "bare", "absent", "dropped")
_WORDS = "one two three four five six seven eight nine ten"

SHORT_PACE, LONG_PACE = 20, 10
"""Tokens per second: the story's 40 tokens are a stream of 2 s, or of 4 s."""
WISH_S = 8
"""So long a provider that is asked `later` wants to be left alone, once: longer than a run keeps its worker."""
STORY = " ".join([_WORDS] * 4)


def _call(tool: str, suffix: str = "") -> ScriptedCall:
    return ScriptedCall(name=tool, arguments=f'{{"key": "{{match:1}}{suffix}"}}')


def _pair(word: str, here: str, there: str) -> Rule:
    """`use WORD KEY`: two calls in one answer, with the keys KEY.here and KEY.there."""
    calls = (_call(here, ".here"), _call(there, ".there"))
    return Rule(when=When(user_regex=rf"^use {word} (\S+)", tool_results=0), reply=Reply(tool_calls=calls))


def _tool_rules() -> list[Rule]:
    """`use TOOL KEY`: the model calls the tool with the key, then says what it was told."""
    named = [
        Rule(when=When(user_regex=rf"^use {tool} (\S+)", tool_results=0), reply=Reply(tool_calls=(_call(tool),)))
        for tool in (*WORKER_TOOLS, *DESK_TOOLS, *SERVICE_TOOLS, "no_such_tool")
    ]
    return [
        *named,
        _pair("both", "lookup", "read"),
        _pair("late", "wait_pure", "charge"),
        Rule(
            when=When(user_regex=r"^use (both|late)", tool_results=Span(min=1)),
            reply=Reply(text="told: {tool_result:0} + {tool_result:1}"),
        ),
        Rule(when=When(user_regex=r"^use", tool_results=Span(min=1)), reply=Reply(text="told: {tool_result:0}")),
        Rule(when=When(user_regex=r"^News of call \S+ \(\w+\):\n(.*)"), reply=Reply(text="heard: {match:1}")),
    ]


def _faulty(word: str, *faults: str, times: int | None = None) -> Rule:
    return Rule(when=When(user_regex=rf"^{word}\b"), reply=Reply(text=STORY), faults=faults, times=times)


def _unwell(prompt: str, *faults: str, times: int | None = None) -> SpeechRule:
    return SpeechRule(when=SpeechWhen(prompt=prompt), faults=faults, times=times)


def _speech() -> SpeechConfig:
    """How connections fare whose prompt says so."""
    rules = (
        _unwell("dropped twice", "drop_after=3000", times=2),
        _unwell("closed", "close_after=2000", "code=1012", times=1),
        _unwell("refused", "403"),
        _unwell("busy", "503", times=2),
        _unwell("mute", "no_echo", "no_close"),
        _unwell("noisy", "malformed_after=500", "unknown_after=1000", "duplicate", "string_ids", times=1),
    )
    return SpeechConfig(engine="tones", rules=rules)


def _batches() -> BatchConfig:
    """A job takes three seconds, a minute of its time each; in jobs of rows `fail-N` three fail; a slow one
    lasts; of the model `emulated-small` the first is slow."""
    quick, slow = "VALIDATING:30/RUNNING:150/COMPLETED", "VALIDATING:30/RUNNING:36000/COMPLETED"
    return BatchConfig(
        speed=60,
        states=quick,
        rules=(
            BatchRule(when=BatchWhen(operation="create_job", model="emulated-new"), faults=(f"states={slow}",)),
            BatchRule(
                when=BatchWhen(operation="create_job", model="emulated-small"), faults=(f"states={slow}",), times=1
            ),
            BatchRule(when=BatchWhen(operation="create_job"), faults=("fail_rows=fail-[123]",)),
        ),
    )


_GOOD = 'It was "built in 1874" [1]. Its lamp burned oil until 1931 [2].'


def _cited() -> list[Rule]:
    bad = "It was built in 1874 [99]. Everybody knows that [1]."
    return [
        Rule(when=When(user_regex=r"cite well"), reply=Reply(text=_GOOD)),
        Rule(when=When(user_regex=r"cite badly"), reply=Reply(text=bad)),
        Rule(when=When(user_regex=r"cite slowly"), reply=Reply(text=_GOOD), pace=6),
        Rule(when=When(user_regex=r"cite forever"), reply=Reply(text=_GOOD), faults=("stall_after=3",)),
    ]


def _mended() -> list[Rule]:
    """`mend KEY`: a call, then a refusal by the provider, once; whoever asks again gets an answer."""
    told = When(user_regex=r"^mend", tool_results=Span(min=1))
    return [
        Rule(when=When(user_regex=r"^mend (\S+)", tool_results=0), reply=Reply(tool_calls=(_call("lookup"),))),
        Rule(when=told, reply=Reply(text="never"), faults=("403",), times=1),
        Rule(when=told, reply=Reply(text="told: {tool_result:0}")),
    ]


def _misread() -> list[Rule]:
    """`misread KEY`: a call with an argument of another name; told so, the right one."""
    wrong = ScriptedCall(name="read", arguments='{"kye": "{match:1}"}')
    return [
        Rule(when=When(user_regex=r"^misread (\S+)", tool_results=0), reply=Reply(tool_calls=(wrong,))),
        Rule(when=When(user_regex=r"^misread (\S+)", tool_results=1), reply=Reply(tool_calls=(_call("read"),))),
        Rule(when=When(user_regex=r"^misread", tool_results=2), reply=Reply(text="told: {tool_result:1}")),
    ]


def _given_up() -> list[Rule]:
    """`drop KEY`: a call in the background, and then another that cancels it."""
    cancel = ScriptedCall(name=CANCEL, arguments="{}")
    return [
        Rule(when=When(user_regex=r"^drop (\S+)", tool_results=0), reply=Reply(tool_calls=(_call("linger"),))),
        Rule(when=When(user_regex=r"^drop", tool_results=1, tools=(CANCEL,)), reply=Reply(tool_calls=(cancel,))),
    ]


def _own() -> list[Rule]:
    """`order KEY` submits a batch of two rows, `rows BATCH` reads them, `listen SESSION` reads a transcript."""
    used = {
        "order": ("fw_submit_batch", '{"prompts": ["echo {match:1}", "echo two"]}'),
        "rows": ("fw_read_batch", '{"batch": "{match:1}"}'),
        "listen": ("fw_read_transcript", '{"session": "{match:1}"}'),
    }
    asked = [
        Rule(
            when=When(user_regex=rf"^{word} (\S+)", tool_results=0),
            reply=Reply(tool_calls=(ScriptedCall(name=tool, arguments=arguments),)),
        )
        for word, (tool, arguments) in used.items()
    ]
    told = When(user_regex=r"^(order|rows|listen)", tool_results=1)
    return [*asked, Rule(when=told, reply=Reply(text="{tool_result:0}"))]


def scene() -> Scene:
    """Return the rules."""
    return Scene(
        name="acceptance",
        speech=_speech(),
        batch=_batches(),
        rules=(
            *_cited(),
            *_misread(),
            Rule(when=When(user_regex=r"^(?:fail|slow) (.*)"), reply=Reply(text="{match:1}")),
            Rule(when=When(user_regex=r"(?s)^echo (.*)"), reply=Reply(text="{match:1}")),
            Rule(when=When(user_regex=r"^short"), reply=Reply(text=STORY), pace=SHORT_PACE),
            Rule(when=When(user_regex=r"^long"), reply=Reply(text=STORY), pace=LONG_PACE),
            _faulty("stall", "stall_after=3"),
            _faulty("twice500", "500", times=2),
            _faulty("denied", "403"),
            _faulty("later", f"429={WISH_S}", times=1),
            _faulty("cut", "cut_after=5", times=1),
            _faulty("instream", "stream_error_after=5", times=1),
            _faulty("mended", "403", times=1),
            Rule(when=When(user_regex=r"^(twice500|cut|instream|later|mended)"), reply=Reply(text=STORY)),
            *_tool_rules(),
            *_mended(),
            *_given_up(),
            *_own(),
        ),
    )
