"""The OpenAI client for Python with tools and with types, against a Glimmer server at GLIMMER_URL."""

import json

import openai
from weather import MESSAGES, OBSERVED, TOOLS, URL, GetWeather, Weather, called, check_told

client = openai.OpenAI(base_url=URL, api_key="none", max_retries=0)
asked = {"model": "demo", "temperature": 0}


def loop(ask):
    """Asks, answers the calls, and asks again until there are none; returns what was said."""
    messages = list(MESSAGES)
    while True:
        message, finish = ask(messages)
        messages.append(message)
        if not message.get("tool_calls"):
            assert finish == "stop"
            return message["content"]
        assert finish == "tool_calls" and not message.get("content")
        for call in message["tool_calls"]:
            assert call["function"]["name"] == "get_weather"
            called.append(json.loads(call["function"]["arguments"])["city"])
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": OBSERVED})


def whole(messages):
    choice = client.chat.completions.create(messages=messages, tools=TOOLS, **asked).choices[0]
    return choice.message.model_dump(exclude_none=True), choice.finish_reason


def streamed(messages):
    content, calls, finish = "", [], None
    for chunk in client.chat.completions.create(messages=messages, tools=TOOLS, stream=True, **asked):
        choice = chunk.choices[0]
        content += choice.delta.content or ""
        for part in choice.delta.tool_calls or []:
            if part.index == len(calls):
                calls.append({"id": part.id, "type": part.type, "function": {"name": part.function.name, "arguments": ""}})
            calls[part.index]["function"]["arguments"] += part.function.arguments
        finish = choice.finish_reason or finish
    message = {"role": "assistant", "content": content or None}
    return message | ({"tool_calls": calls} if calls else {}), finish


UNTYPED = {"parsed": True, "tool_calls": {"__all__": {"function": {"parsed_arguments"}}}}


def helped(messages):
    """The helper that puts a stream together, with a tool made of a type."""
    tools = [openai.pydantic_function_tool(GetWeather, name="get_weather")]
    pieces = 0
    with client.chat.completions.stream(messages=messages, tools=tools, **asked) as stream:
        for event in stream:
            if event.type == "tool_calls.function.arguments.delta":
                pieces += 1
                assert event.name == "get_weather"
        choice = stream.get_final_completion().choices[0]
    for call in choice.message.tool_calls or []:
        assert pieces > 1 and call.function.parsed_arguments == GetWeather(city="Oslo")
    return choice.message.model_dump(exclude_none=True, exclude=UNTYPED), choice.finish_reason


def parsed(messages):
    """The helper that reads a whole answer, with the same tool."""
    tools = [openai.pydantic_function_tool(GetWeather, name="get_weather")]
    choice = client.chat.completions.parse(messages=messages, tools=tools, **asked).choices[0]
    for call in choice.message.tool_calls or []:
        assert call.function.parsed_arguments == GetWeather(city="Oslo")
    return choice.message.model_dump(exclude_none=True, exclude=UNTYPED), choice.finish_reason


for ask in (whole, streamed, helped, parsed):
    check_told(loop(ask))
ask = client.chat.completions.create
none = ask(messages=MESSAGES, tools=TOOLS, tool_choice="none", **asked)
assert none.choices[0].message.content and not none.choices[0].message.tool_calls
one = ask(messages=MESSAGES, tools=TOOLS, parallel_tool_calls=False, **asked)
assert len(one.choices[0].message.tool_calls) == 1

# An answer of a type.
answer = client.chat.completions.parse(messages=MESSAGES, response_format=Weather, **asked)
form = answer.choices[0].message.parsed
assert isinstance(form, Weather) and Weather.model_validate_json(answer.choices[0].message.content) == form
assert answer.usage.completion_tokens > 0
usage = {"stream_options": {"include_usage": True}}
with client.chat.completions.stream(messages=MESSAGES, response_format=Weather, **asked, **usage) as stream:
    seen = [event for event in stream if event.type == "content.delta"]
    final = stream.get_final_completion()
assert final.choices[0].message.parsed == form and Weather.model_validate(seen[-1].parsed) == form
assert final.usage.completion_tokens == answer.usage.completion_tokens

# A tool and a type at once: a call, and where that is over an answer of the type.
both = asked | {"tools": [openai.pydantic_function_tool(GetWeather, name="get_weather")], "response_format": Weather}
message = client.chat.completions.parse(messages=MESSAGES, **both).choices[0].message
(call,) = message.tool_calls
assert call.function.parsed_arguments == GetWeather(city="Oslo") and not message.content
history = [*MESSAGES, message.model_dump(exclude=UNTYPED), {"role": "tool", "tool_call_id": call.id, "content": OBSERVED}]
final = client.chat.completions.parse(messages=history, tool_choice="none", **both)
assert isinstance(final.choices[0].message.parsed, Weather)
with client.chat.completions.stream(messages=history, tool_choice="none", **both) as stream:
    assert stream.get_final_completion().choices[0].message.parsed == final.choices[0].message.parsed
print(f"tools and types of openai {openai.__version__} for Python: good")
