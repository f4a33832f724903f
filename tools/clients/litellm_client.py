"""litellm against a Glimmer server at GLIMMER_URL: tools, streams, answers of a type."""

import json
import os
from importlib.metadata import version

# Its list of prices is read from the package, not from the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
from weather import MESSAGES, OBSERVED, TOOLS, URL, Weather, called, check_told

litellm.suppress_debug_info = True
asked = {"model": "openai/demo", "api_base": URL, "api_key": "none", "temperature": 0, "max_retries": 0}


def whole(messages):
    return litellm.completion(messages=messages, tools=TOOLS, **asked)


def streamed(messages):
    usage = {"stream_options": {"include_usage": True}}
    chunks = list(litellm.completion(messages=messages, tools=TOOLS, stream=True, **usage, **asked))
    assert len(chunks) > 4
    return litellm.stream_chunk_builder(chunks, messages=messages)


for ask in (whole, streamed):
    answer = ask(MESSAGES)
    message = answer.choices[0].message
    (call,) = message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls" and not message.content and call.function.name == "get_weather"
    called.append(json.loads(call.function.arguments)["city"])
    # Of the message it sends no content at all.
    answer = ask([*MESSAGES, message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": OBSERVED}])
    assert answer.choices[0].finish_reason == "stop" and answer.usage.completion_tokens > 0
    check_told(answer.choices[0].message.content)
answer = litellm.completion(messages=MESSAGES, response_format=Weather, **asked)
form = Weather.model_validate_json(answer.choices[0].message.content)
pieces = litellm.completion(messages=MESSAGES, response_format=Weather, stream=True, **asked)
assert Weather.model_validate_json("".join(piece.choices[0].delta.content or "" for piece in pieces)) == form
print(f"litellm {version('litellm')} (openai {version('openai')}): good")
