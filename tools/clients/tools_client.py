"""Loops over tools with published clients against a Glimmer server at GLIMMER_URL: openai, LangChain, pydantic-ai."""

import json
import os
from importlib.metadata import version
from typing import Annotated

import openai
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

URL = os.environ["GLIMMER_URL"] + "/v1"
QUESTION = "And what's the weather like in Oslo today?"
OBSERVED = '{"temperature": -4, "condition": "snow"}'
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the current weather in a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "The name of the city"}},
                "required": ["city"],
            },
        },
    }
]

client = openai.OpenAI(base_url=URL, api_key="none", max_retries=0)


def loop(ask):
    """Asks, answers the calls, and asks again until there are none; returns what was called and what was said."""
    messages, called = [{"role": "user", "content": QUESTION}], []
    while True:
        message, finish = ask(messages)
        messages.append(message)
        if not message.get("tool_calls"):
            assert finish == "stop"
            return called, message["content"]
        assert finish == "tool_calls"
        for call in message["tool_calls"]:
            called.append((call["function"]["name"], json.loads(call["function"]["arguments"])))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": OBSERVED})


def whole(messages):
    choice = client.chat.completions.create(model="demo", messages=messages, tools=TOOLS, temperature=0).choices[0]
    return choice.message.model_dump(exclude_none=True), choice.finish_reason


def streamed(messages):
    content, calls, finish = "", [], None
    for chunk in client.chat.completions.create(model="demo", messages=messages, tools=TOOLS, temperature=0, stream=True):
        choice = chunk.choices[0]
        content += choice.delta.content or ""
        for part in choice.delta.tool_calls or []:
            if part.index == len(calls):
                calls.append({"id": part.id, "type": part.type, "function": {"name": part.function.name, "arguments": ""}})
            calls[part.index]["function"]["arguments"] += part.function.arguments
        finish = choice.finish_reason or finish
    message = {"role": "assistant", "content": content or None}
    return message | ({"tool_calls": calls} if calls else {}), finish


class GetWeather(BaseModel):
    """Get the current weather in a city"""

    city: Annotated[str, Field(description="The name of the city")]


def helped(messages):
    """The helper that puts a stream together, with a tool made of a type."""
    tools = [openai.pydantic_function_tool(GetWeather, name="get_weather")]
    pieces = 0
    with client.chat.completions.stream(model="demo", messages=messages, tools=tools, temperature=0) as stream:
        for event in stream:
            if event.type == "tool_calls.function.arguments.delta":
                pieces += 1
                assert event.name == "get_weather"
        choice = stream.get_final_completion().choices[0]
    for call in choice.message.tool_calls or []:
        assert pieces > 1 and call.function.parsed_arguments == GetWeather(city="Oslo")
    return choice.message.model_dump(exclude_none=True, exclude={"parsed": True, "tool_calls": {"__all__": {"function": {"parsed_arguments"}}}}), choice.finish_reason


for ask in (whole, streamed, helped):
    called, said = loop(ask)
    assert called == [("get_weather", {"city": "Oslo"})], called
    assert "-4" in said and "snow" in said, said
none = client.chat.completions.create(
    model="demo", messages=[{"role": "user", "content": QUESTION}], tools=TOOLS, tool_choice="none", temperature=0
)
assert none.choices[0].message.content and not none.choices[0].message.tool_calls
one = client.chat.completions.create(
    model="demo", messages=[{"role": "user", "content": QUESTION}], tools=TOOLS, parallel_tool_calls=False, temperature=0
)
assert len(one.choices[0].message.tool_calls) == 1


@tool
def get_weather(city: Annotated[str, "The name of the city"]) -> str:
    """Get the current weather in a city"""
    assert city == "Oslo"
    return OBSERVED


chat = ChatOpenAI(model="demo", base_url=URL, api_key="none", temperature=0, max_retries=0).bind_tools([get_weather])
history = [HumanMessage(QUESTION)]
answer = chat.invoke(history)
gathered = None
for chunk in chat.stream(history):
    gathered = chunk if gathered is None else gathered + chunk
assert [(call["name"], call["args"]) for call in gathered.tool_calls] == [("get_weather", {"city": "Oslo"})]
assert answer.response_metadata["finish_reason"] == "tool_calls" and not answer.invalid_tool_calls
history += [answer] + [get_weather.invoke(call) for call in answer.tool_calls]
assert isinstance(history[-1], ToolMessage)
said = chat.invoke(history).content
assert "-4" in said and "snow" in said, said

model = OpenAIChatModel("demo", provider=OpenAIProvider(base_url=URL, api_key="none"))
agent = Agent(model, model_settings={"temperature": 0})
agent.tool_plain(get_weather.func)
result = agent.run_sync(QUESTION)
assert "-4" in result.output and "snow" in result.output, result.output
assert result.usage.tool_calls == 1
print(
    f"tools of openai {openai.__version__}, langchain-openai {version('langchain-openai')}, "
    f"pydantic-ai {version('pydantic-ai-slim')}: good"
)
