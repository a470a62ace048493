"""The provider's stand-in: an HTTP server on loopback that speaks the provider's wire, for demos, tests and users' CI.

It shares no code with the adapters that talk to the provider. The wire is written down here a second time,
so that a misreading of it cannot cancel out.

    running = await serve(EmulatorConfig(seed=7, pace=60))      # port 0 is any free port
    client = AsyncOpenAI(base_url=running.inference_url, api_key="fw_anything")

`Running` is a server that is up: `inference_url`, `speech_url` and `api_url` (the control plane, what FIREWORKS_API_URL
holds) are for clients; `stats` counts, `clock` is the virtual time of batches, `reset` forgets, `close` ends it. For
other processes the same is on HTTP: GET `/_emulator/stats` and `/_emulator/clock`, POST `/_emulator/clock` and
`/_emulator/reset`. Speech and batches are packages of their own, `speech` and `batch`, each with its switches, its
rules and its guide to faults.

How a chat request is answered, module by module:

    server     routes, request ids, authentication
    validation `schema` says what a body may hold; here are the refusals that a schema cannot express
    direction  decides the answer:
    scenes       the first rule that matches scripts the answer, its faults and its pace
    sampler      without a script: seeded prose, tool calls, JSON under a schema, text under a grammar
    completion   token limit, stop sequences, usage
    chat       plays it:
    sse          the stream in wire order, with what else was asked to be `told`; `disturbance` breaks it;
                 `streaming` writes it at its pace

Honoured: `n`, `stop`, `max_tokens`, `ignore_eos`, `prompt_truncate_len`, `context_length_exceeded_behavior`, tool
choice, JSON mode, JSON schema (a fixed subset), grammars, `reasoning_effort`, `thinking`, `perf_metrics_in_response`,
`logprobs` in both forms, `echo`, `raw_output`, `return_token_ids`, `service_tier`, `speculation` and `prediction`,
prompt caching, `stream_options.include_usage` and `.buffer_tokens`. Refused with a 400 that names the field, never
ignored: what would change the shape of the answer and is not built (`validation.NOT_BUILT`). Accepted without
visible effect: temperature, penalties and their kin, since nothing here has probabilities.

Everything sampled is a function of (seed, request). Ids also count how often the same request was seen, so they are
unique within a server and the same again after a restart or a reset.
"""

from workers.emulator.config import EmulatorConfig
from workers.emulator.scenes import Reply, Rule, Scene, ScriptedCall, When, load_scene
from workers.emulator.server import Running, build_app, run, serve

__all__ = [
    "EmulatorConfig",
    "Reply",
    "Rule",
    "Running",
    "Scene",
    "ScriptedCall",
    "When",
    "build_app",
    "load_scene",
    "run",
    "serve",
]
