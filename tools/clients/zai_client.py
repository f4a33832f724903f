"""Z.ai's client for Python against a Glimmer server at GLIMMER_URL: tools, streams, JSON."""

import json
from importlib.metadata import version

from weather import MESSAGES, OBSERVED, TOOLS, URL, called, check_told
from zai import ZaiClient

client = ZaiClient(base_url=URL, api_key="none.none", max_retries=0)
asked = {"model": "demo", "temperature": 0, "tools": TOOLS}


def whole(messages):
    answer = client.chat.completions.create(messages=messages, tool_choice="auto", **asked)
    assert answer.usage.completion_tokens > 0
    return answer.choices[0].message, answer.choices[0].finish_reason


def streamed(messages):
    """A stream, whose first piece of a call the rest is added to: the package has no helper for it."""
    message, finish = None, None
    usage = {"stream_options": {"include_usage": True}}
    for chunk in client.chat.completions.create(messages=messages, stream=True, tool_stream=True, extra_body=usage, **asked):
        if not chunk.choices:
            assert chunk.usage.completion_tokens > 0
            continue
        delta, finish = chunk.choices[0].delta, chunk.choices[0].finish_reason or finish
        if message is None:
            message = delta
            continue
        message.content = (message.content or "") + (delta.content or "") or None
        for part in delta.tool_calls or []:
            if message.tool_calls is None:
                message.tool_calls = [part]
            else:
                message.tool_calls[part.index].function.arguments += part.function.arguments
    return message, finish


for ask in (whole, streamed):
    message, finish = ask(MESSAGES)
    (call,) = message.tool_calls
    assert finish == "tool_calls" and not message.content and call.function.name == "get_weather"
    called.append(json.loads(call.function.arguments)["city"])
    # The message goes back as the package prints it, with fields that say nothing.
    history = [*MESSAGES, message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": OBSERVED}]
    message, finish = ask(history)
    assert finish == "stop"
    check_told(message.content)
print(f"zai-sdk {version('zai-sdk')}: good")
