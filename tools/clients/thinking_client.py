"""Reasoning with published clients against a Glimmer server at GLIMMER_URL, whose model reasons in GLM-4.7's chat format."""

import os
from importlib.metadata import version

import openai
from zai import ZaiClient

URL = os.environ["GLIMMER_URL"] + "/v1"
asked = {"model": "demo", "messages": [{"role": "user", "content": "Hello!"}], "temperature": 0, "max_tokens": 12}


def check(create):
    """Reasoning is in `reasoning_content`, whole and in pieces, and where it is not wanted there is none."""
    answer = create(**asked, thinking={"type": "enabled"})
    message = answer.choices[0].message
    # The demo model was never taught to reason, so it does not find the end of it.
    assert message.reasoning_content and not message.content and answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens_details.reasoning_tokens == answer.usage.completion_tokens == 12
    deltas = [chunk.choices[0].delta for chunk in create(**asked, thinking={"type": "enabled"}, stream=True)]
    pieces = [getattr(delta, "reasoning_content", None) for delta in deltas]
    assert "" not in pieces and "".join(filter(None, pieces)) == message.reasoning_content
    answer = create(**asked, thinking={"type": "disabled"})
    message = answer.choices[0].message
    assert message.content and not getattr(message, "reasoning_content", None)
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0


check(ZaiClient(base_url=URL, api_key="none.none", max_retries=0).chat.completions.create)
client = openai.OpenAI(base_url=URL, api_key="none", max_retries=0)
check(lambda thinking, **more: client.chat.completions.create(**more, extra_body={"thinking": thinking}))
# The OpenAI API's own word for none.
answer = client.chat.completions.create(**asked, reasoning_effort="none")
assert answer.choices[0].message.content and not hasattr(answer.choices[0].message, "reasoning_content")
print(f"reasoning with zai-sdk {version('zai-sdk')} and openai {openai.__version__}: good")
