"""litellm against a Glimmer server at GLIMMER_URL: tools and streams over the OpenAI API and Anthropic's, answers of a type."""

import asyncio
import json
import os
from importlib.metadata import version

# Its list of prices is read from the package, not from the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
from weather import MESSAGES, OBSERVED, TOOLS, URL, Weather, called, check_told

litellm.suppress_debug_info = True
asked = {"model": "openai/demo", "api_base": URL, "api_key": "none", "temperature": 0, "max_retries": 0}
bridged = asked | {"model": "anthropic/demo", "api_base": os.environ["GLIMMER_URL"]}


def whole(asked, messages):
    return litellm.completion(messages=messages, tools=TOOLS, **asked)


def streamed(asked, messages):
    usage = {"stream_options": {"include_usage": True}}
    chunks = list(litellm.completion(messages=messages, tools=TOOLS, stream=True, **usage, **asked))
    assert len(chunks) > 4
    return litellm.stream_chunk_builder(chunks, messages=messages)


for ask, where in ((ask, where) for ask in (whole, streamed) for where in (asked, bridged)):
    answer = ask(where, MESSAGES)
    message = answer.choices[0].message
    (call,) = message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls" and not message.content and call.function.name == "get_weather"
    called.append(json.loads(call.function.arguments)["city"])
    # Of the message it sends no content at all.
    answer = ask(where, [*MESSAGES, message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": OBSERVED}])
    assert answer.choices[0].finish_reason == "stop" and answer.usage.completion_tokens > 0
    check_told(answer.choices[0].message.content)
answer = litellm.completion(messages=MESSAGES, response_format=Weather, **asked)
form = Weather.model_validate_json(answer.choices[0].message.content)
pieces = litellm.completion(messages=MESSAGES, response_format=Weather, stream=True, **asked)
assert Weather.model_validate_json("".join(piece.choices[0].delta.content or "" for piece in pieces)) == form
# Its own form of Anthropic's API, whole: as a stream it needs packages that it does not bring along.
message = asyncio.run(litellm.anthropic.messages.acreate(messages=MESSAGES, max_tokens=20, **bridged))
assert message["content"][0]["text"] and message["usage"]["output_tokens"] > 0

# Over /v1/responses.
flat = [{"type": "function", **tool["function"]} for tool in TOOLS]
by_responses = {**asked, "tools": flat}
first = litellm.responses(input=MESSAGES, **by_responses)
(call,) = first.output
called.append(json.loads(call.arguments)["city"])
result = {"type": "function_call_output", "call_id": call.call_id, "output": OBSERVED}
second = litellm.responses(input=[*MESSAGES, call.model_dump(exclude_none=True), result], **by_responses)
check_told(second.output[0].content[0].text)
events = list(litellm.responses(input=MESSAGES, stream=True, **asked))
assert events[-1].type == "response.completed" and events[-1].response.output[0].content[0].text
print(f"litellm {version('litellm')} (openai {version('openai')}): good")
