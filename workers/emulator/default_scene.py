"""The scene that plays when no other is given: small talk and the weather, so that a first try looks sensible.

It only scripts answers in words; calling a tool that the user speaks of is the sampler's habit and needs no script.
"""

from workers.emulator.scenes import Reply, Rule, Scene, Span, When

DEFAULT_SCENE = Scene(
    name="default",
    rules=(
        Rule(
            when=When(
                user_regex=r"(?i)\bweather\b.*?\bin\s+([\w -]+\w)",
                tool_results=Span(min=1),
                free_form=True,
            ),
            reply=Reply(text="Here is the weather in {match:1}: {tool_result:0}"),
        ),
        Rule(
            when=When(user_regex=r"(?i)^\s*(hi|hello|hey|good (morning|day|evening))\b[\s!.]*$", free_form=True),
            reply=Reply(text="Hello! I am the emulator, a stand-in for the real model. What shall we try?"),
        ),
    ),
)
