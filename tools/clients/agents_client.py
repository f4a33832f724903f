"""Agents with tools and answers of a type against a Glimmer server at GLIMMER_URL: pydantic-ai and OpenAI's agents.

Where a tool and a type come at once the tool is there until it was called: the demo model would go on with it.
"""

import asyncio
from importlib.metadata import version

import agents
import openai
import pydantic_ai
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from weather import QUESTION, URL, Weather, called, check_called, check_told, get_weather


async def with_pydantic_ai():
    model = OpenAIChatModel("demo", provider=OpenAIProvider(base_url=URL, api_key="none"))
    agent = pydantic_ai.Agent(model, model_settings={"temperature": 0})
    agent.tool_plain(get_weather)
    result = await agent.run(QUESTION)
    check_told(result.output)
    assert result.usage.tool_calls == 1 and result.usage.output_tokens > 0
    async with agent.run_stream(QUESTION) as stream:
        pieces = [piece async for piece in stream.stream_text(delta=True, debounce_by=None)]
    assert len(pieces) > 1 and stream.usage.tool_calls == 1 and stream.usage.output_tokens == result.usage.output_tokens
    check_told("".join(pieces))
    # By a tool of its own, which is required; by one that is strict; by the form of an answer.
    for output in (Weather, pydantic_ai.ToolOutput(Weather, strict=True), pydantic_ai.NativeOutput(Weather)):
        typed = pydantic_ai.Agent(model, output_type=output, model_settings={"temperature": 0}, retries=0)
        assert isinstance((await typed.run(QUESTION)).output, Weather)
        async with typed.run_stream(QUESTION) as stream:
            assert isinstance(await stream.get_output(), Weather)

    async def until_called(_, definition):
        return None if called else definition

    tool = pydantic_ai.Tool(get_weather, prepare=until_called)
    native = pydantic_ai.NativeOutput(Weather)
    typed = pydantic_ai.Agent(model, output_type=native, tools=[tool], model_settings={"temperature": 0})
    assert isinstance((await typed.run(QUESTION)).output, Weather)
    check_called()


async def with_openai_agents():
    agents.set_tracing_disabled(True)
    client = openai.AsyncOpenAI(base_url=URL, api_key="none", max_retries=0)
    settings = agents.ModelSettings(temperature=0, include_usage=True)
    common = {"name": "demo", "model": agents.OpenAIChatCompletionsModel("demo", client), "model_settings": settings}
    agent = agents.Agent(tools=[agents.function_tool(get_weather)], **common)
    result = await agents.Runner.run(agent, QUESTION)
    check_told(result.final_output)
    usage = result.context_wrapper.usage
    assert usage.requests == 2 and usage.output_tokens > 0
    stream = agents.Runner.run_streamed(agent, QUESTION)
    kinds = [event.name async for event in stream.stream_events() if event.type == "run_item_stream_event"]
    assert kinds == ["tool_called", "tool_output", "message_output_created"], kinds
    assert stream.context_wrapper.usage.output_tokens == usage.output_tokens
    check_told(stream.final_output)
    typed = agents.Agent(output_type=Weather, **common)
    assert isinstance((await agents.Runner.run(typed, QUESTION)).final_output, Weather)
    tool = agents.function_tool(get_weather, is_enabled=lambda *_: not called)
    typed = agents.Agent(output_type=Weather, tools=[tool], **common)
    assert isinstance((await agents.Runner.run(typed, QUESTION)).final_output, Weather)
    check_called()


async def with_openai_agents_as_they_come():
    """Over /v1/responses: tools, a stream, another agent that is handed the conversation, a session that the server keeps."""
    client = openai.AsyncOpenAI(base_url=URL, api_key="none", max_retries=0)
    agents.set_default_openai_client(client, use_for_tracing=False)
    common = {"model": "demo", "model_settings": agents.ModelSettings(temperature=0)}
    forecaster = agents.Agent(name="forecaster", tools=[agents.function_tool(get_weather)], **common)
    result = await agents.Runner.run(forecaster, QUESTION)
    check_told(result.final_output)
    usage = result.context_wrapper.usage
    assert usage.requests == 2 and usage.output_tokens > 0
    stream = agents.Runner.run_streamed(forecaster, QUESTION)
    kinds = [event.name async for event in stream.stream_events() if event.type == "run_item_stream_event"]
    assert kinds == ["tool_called", "tool_output", "message_output_created"], kinds
    assert stream.context_wrapper.usage.output_tokens == usage.output_tokens
    check_told(stream.final_output)
    by_id = await agents.Runner.run(forecaster, QUESTION, auto_previous_response_id=True)
    check_told(by_id.final_output)
    assert (await agents.Runner.run(forecaster, "Hello!", previous_response_id=by_id.last_response_id)).final_output
    typed = agents.Agent(name="typed", output_type=Weather, **common)
    assert isinstance((await agents.Runner.run(typed, QUESTION)).final_output, Weather)
    # It must hand the conversation on, and hears of it no more.
    must = agents.ModelSettings(temperature=0, tool_choice="required")
    receptionist = agents.Agent(name="receptionist", model="demo", model_settings=must, handoffs=[forecaster])
    handed = await agents.Runner.run(receptionist, QUESTION)
    assert handed.last_agent is forecaster and handed.final_output
    stream = agents.Runner.run_streamed(receptionist, QUESTION)
    kinds = [event.name async for event in stream.stream_events() if event.type == "run_item_stream_event"]
    assert kinds[:2] == ["handoff_requested", "handoff_occured"] and stream.last_agent is forecaster, kinds
    assert stream.final_output == handed.final_output


asyncio.run(with_pydantic_ai())
asyncio.run(with_openai_agents())
asyncio.run(with_openai_agents_as_they_come())
print(f"pydantic-ai {version('pydantic-ai-slim')} and openai-agents {version('openai-agents')}: good")
