"""The Anthropic client for Python against a Glimmer server at GLIMMER_URL: tools, streams, types, counts, errors. With the argument
`thinking` the model reasons in GLM-4.7's chat format."""

import os
import sys

import anthropic
from anthropic import beta_tool
from weather import MESSAGES, OBSERVED, TOOLS, Weather, called, check_told
from weather import get_weather as observe

client = anthropic.Anthropic(base_url=os.environ["GLIMMER_URL"], api_key="none", max_retries=0)
asked = {"model": "demo", "max_tokens": 200, "extra_body": {"temperature": 0}}
function = TOOLS[0]["function"]
tools = [{"name": function["name"], "description": function["description"], "input_schema": function["parameters"]}]


def loop(ask):
    """Asks, answers the calls, and asks again until there are none; returns what was said."""
    messages = list(MESSAGES)
    while True:
        message = ask(messages)
        assert message.usage.output_tokens > 0
        counted = client.messages.count_tokens(model="demo", messages=messages, tools=tools).input_tokens
        assert counted == message.usage.input_tokens + message.usage.cache_read_input_tokens
        messages.append({"role": "assistant", "content": message.content})
        calls = [block for block in message.content if block.type == "tool_use"]
        if not calls:
            assert message.stop_reason == "end_turn"
            return message.content[0].text
        assert message.stop_reason == "tool_use" and [call.name for call in calls] == ["get_weather"]
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": observe(**call.input)} for call in calls]
        messages.append({"role": "user", "content": results})


def whole(messages):
    return client.messages.create(messages=messages, tools=tools, **asked)


def helped(messages):
    """The helper that puts a stream together."""
    seen, text = set(), ""
    with client.messages.stream(messages=messages, tools=tools, **asked) as stream:
        for event in stream:
            seen.add(event.type)
            text += event.text if event.type == "text" else ""
        message = stream.get_final_message()
    assert {"message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"} <= seen
    if message.stop_reason == "tool_use":
        assert "input_json" in seen
    else:
        assert text == message.content[0].text
    return message


def demo():
    for ask in (whole, helped):
        check_told(loop(ask))
    # The client's own loop.
    runner = client.beta.messages.tool_runner(messages=MESSAGES, tools=[beta_tool(observe)], **asked)
    check_told(runner.until_done().content[0].text)
    none = client.messages.create(messages=MESSAGES, tools=tools, tool_choice={"type": "none"}, **asked)
    assert none.content[0].type == "text"

    # An answer of a type.
    answer = client.messages.parse(messages=MESSAGES, output_format=Weather, **asked)
    assert isinstance(answer.parsed_output, Weather)
    with client.messages.stream(messages=MESSAGES, output_format=Weather, **asked) as stream:
        assert stream.get_final_message().parsed_output == answer.parsed_output

    messages = [{"role": "user", "content": "Hello!"}]
    answer = client.messages.create(messages=messages, system="Be brief.", stop_sequences=["e"], **asked)
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "e") and answer._request_id
    names = [model.id for model in client.models.list()]
    assert "demo" in names and client.models.retrieve("demo").display_name == "demo"
    for kind, more in (
        (anthropic.NotFoundError, {"model": "claude"}),
        (anthropic.BadRequestError, {"messages": [*messages, {"role": "assistant", "content": "("}]}),
        (anthropic.BadRequestError, {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
    ):
        try:
            client.messages.create(**{"messages": messages, **asked, **more})
            raise AssertionError(more)
        except kind as error:
            assert error.body["type"] == "error" and error.request_id, error.body


def thinking():
    """Thoughts are a block of their own, whole and in pieces, and come back unseen."""
    asked["max_tokens"] = 12
    messages = [{"role": "user", "content": "Hello!"}]
    for display in ("summarized", "omitted"):
        more = {"messages": messages, "thinking": {"type": "enabled", "budget_tokens": 1024, "display": display}}
        message = client.messages.create(**more, **asked)
        # The demo model was never taught to reason, so it does not find the end of it.
        (block,) = message.content
        assert message.stop_reason == "max_tokens" and block.signature
        assert bool(block.thinking) == (display == "summarized")
        assert message.usage.output_tokens_details.thinking_tokens == 12
        with client.messages.stream(**more, **asked) as stream:
            thoughts = "".join(event.thinking for event in stream if event.type == "thinking")
            (again,) = stream.get_final_message().content
        assert thoughts == again.thinking == block.thinking and again.signature
        history = [*messages, {"role": "assistant", "content": message.content}, *messages]
        client.messages.create(messages=history, thinking={"type": "adaptive"}, **asked)
    message = client.messages.create(messages=messages, thinking={"type": "disabled"}, **asked)
    assert message.content[0].type == "text" and message.usage.output_tokens_details.thinking_tokens == 0


thinking() if "thinking" in sys.argv else demo()
assert not called and OBSERVED
print(f"anthropic {anthropic.__version__} for Python: good")
