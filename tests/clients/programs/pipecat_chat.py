"""Pipecat's FireworksLLMService in a pipeline, unchanged but for its base URL: `pipecat_chat.py URL`."""

import asyncio
import sys
from typing import Any

from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import LLMContextFrame, LLMFullResponseEndFrame, LLMTextFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.services.fireworks.llm import FireworksLLMService
from pipecat.tests.utils import run_test
from saying import CITY, MODEL, QUESTION, WEATHER, passed


def service() -> FireworksLLMService:
    return FireworksLLMService(
        api_key="fw_anything",
        base_url=f"{sys.argv[1]}/inference/v1",
        settings=FireworksLLMService.Settings(model=MODEL),
    )


async def inference() -> None:
    assert await service().run_inference(LLMContext(list(QUESTION)))


async def pipeline() -> None:
    whole = await service().run_inference(LLMContext(list(QUESTION)))
    frame = LLMContextFrame(LLMContext(list(QUESTION)))
    down, _ = await run_test(service(), frames_to_send=[frame], start_timeout=10.0)
    said = [each.text for each in down if isinstance(each, LLMTextFrame)]
    assert len(said) > 1
    assert "".join(said) == whole
    assert any(isinstance(each, LLMFullResponseEndFrame) for each in down)


async def function() -> None:
    called = []

    async def weather(params: Any) -> None:
        called.append(dict(params.arguments))
        await params.result_callback({"sky": "clear"})

    llm, offered = service(), FunctionSchema("get_weather", "The weather now", CITY["properties"], CITY["required"])
    llm.register_function("get_weather", weather)
    context = LLMContext(list(WEATHER), ToolsSchema(standard_tools=[offered]))
    chain = Pipeline([llm, LLMContextAggregatorPair(context).assistant()])
    await run_test(chain, frames_to_send=[LLMContextFrame(context)], start_timeout=10.0)
    roles = [message["role"] for message in context.get_messages()]
    assert called, "the emulator calls the tool that fits the question"
    assert roles[:3] == ["user", "assistant", "tool"]


async def main() -> None:
    for check in (inference, pipeline, function):
        await check()
    passed("pipecat-ai", "inference", "pipeline", "function")


asyncio.run(main())
