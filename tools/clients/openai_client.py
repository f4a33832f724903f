"""The OpenAI client for Python against a Glimmer server at GLIMMER_URL."""

import json
import os
from pathlib import Path

import numpy as np
import openai
from safetensors.numpy import load_file

client = openai.OpenAI(base_url=os.environ["GLIMMER_URL"] + "/v1", api_key="none", max_retries=0)
hello = [{"role": "user", "content": "Hello!"}]

models = client.models.list()
assert [model.id for model in models] == ["demo", "text2vec-bert"]
assert client.models.retrieve("demo").owned_by == "glimmer"

# Whole.
answer = client.chat.completions.create(model="demo", messages=hello, temperature=0)
text = answer.choices[0].message.content
assert text and answer.choices[0].finish_reason == "stop"
assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
assert answer.usage.prompt_tokens_details.cached_tokens >= 0

# As a stream, with usage.
parts, usage, finish = [], None, None
stream = client.chat.completions.create(
    model="demo", messages=hello, temperature=0, stream=True, stream_options={"include_usage": True}
)
for chunk in stream:
    if chunk.usage:
        usage = chunk.usage
    for choice in chunk.choices:
        parts.append(choice.delta.content or "")
        finish = choice.finish_reason or finish
assert "".join(parts) == text and finish == "stop"
assert usage.completion_tokens == answer.usage.completion_tokens

# The helper that puts a stream together.
with client.chat.completions.stream(model="demo", messages=hello, temperature=0) as stream:
    for _ in stream:
        pass
    assert stream.get_final_completion().choices[0].message.content == text

# Left in the middle.
stream = client.chat.completions.create(model="demo", messages=hello, stream=True)
next(iter(stream))
stream.close()

# Parameters.
several = client.chat.completions.create(
    model="demo", messages=hello, n=3, seed=5, temperature=1.2, top_p=0.9, max_completion_tokens=8, stop=["zzz"],
    presence_penalty=0.5, frequency_penalty=0.5, logit_bias={"5": -100}, user="me", logprobs=True, top_logprobs=4,
    extra_body={"top_k": 40, "min_p": 0.01, "repetition_penalty": 1.1, "chat_template_kwargs": {"enable_thinking": False}},
)
assert len(several.choices) == 3
for choice in several.choices:
    assert len(choice.logprobs.content) <= 8 and len(choice.logprobs.content[0].top_logprobs) == 4
again = client.chat.completions.create(model="demo", messages=hello, seed=5, temperature=1.2, max_tokens=8)
twice = client.chat.completions.create(model="demo", messages=hello, seed=5, temperature=1.2, max_tokens=8)
assert again.choices[0].message.content == twice.choices[0].message.content

# Continuations.
plain = client.completions.create(model="demo", prompt="Once upon", max_tokens=6, temperature=0, echo=True)
assert plain.choices[0].text.startswith("Once upon")
# How probable a given text is: what lm-evaluation-harness asks for.
scored = client.completions.create(model="demo", prompt="Once upon a time", max_tokens=1, temperature=0, echo=True, logprobs=1)
told = scored.choices[0].logprobs
assert told.token_logprobs[0] is None and all(one <= 0 for one in told.token_logprobs[1:])
assert len(told.tokens) == len(told.token_logprobs) == len(told.top_logprobs) == len(told.text_offset)
batch = client.completions.create(model="demo", prompt=["a", "b"], max_tokens=4, n=2, logprobs=2)
assert [choice.index for choice in batch.choices] == [0, 1, 2, 3]
assert len(batch.choices[0].logprobs.tokens) == len(batch.choices[0].logprobs.token_logprobs)
ids = client.completions.create(model="demo", prompt=[[5, 6, 7], [8, 9]], max_tokens=4)
assert len(ids.choices) == 2
assert "".join(
    chunk.choices[0].text
    for chunk in client.completions.create(model="demo", prompt="Once upon", max_tokens=6, temperature=0, stream=True)
) == plain.choices[0].text.removeprefix("Once upon")

# Vectors are transformers' (the last text is longer than the encoder takes). The client asks for base64 unless told otherwise.
encoder = Path(__file__).resolve().parent.parent.parent / "fixtures" / "text2vec-bert"
texts = json.loads((encoder / "texts.json").read_text())[:-1]
expected = load_file(encoder / "expected.safetensors")["batch.embeddings"][: len(texts)]
vectors = [entry.embedding for entry in client.embeddings.create(model="text2vec-bert", input=texts).data]
distance = np.abs(np.array(vectors) - expected).max()
assert np.shape(vectors) == expected.shape and distance <= 1e-5, distance
plain = client.embeddings.create(model="text2vec-bert", input=texts, encoding_format="float")
assert [entry.embedding for entry in plain.data] == vectors


def refused(kind, call, **parameters):
    try:
        call(**parameters)
    except kind as error:
        return error
    raise AssertionError(f"{parameters} were accepted")


ask = client.chat.completions.create
assert refused(openai.NotFoundError, ask, model="gpt-4o", messages=hello).code == "model_not_found"
error = refused(openai.BadRequestError, ask, model="demo", messages=[{"role": "user", "content": "word " * 20000}])
assert error.code == "context_length_exceeded"
assert refused(openai.BadRequestError, ask, model="demo", messages=hello, temperature=-1).param == "temperature"
tools = [{"type": "web_search"}]
assert refused(openai.BadRequestError, ask, model="demo", messages=hello, tools=tools).param == "tools"
refused(openai.BadRequestError, client.embeddings.create, model="demo", input="x")
print(f"openai {openai.__version__} for Python: good; embeddings within {distance:.1e} of transformers'")
