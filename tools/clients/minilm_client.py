"""The published `openai` client and all-MiniLM-L6-v2's real weights, served at GLIMMER_URL: vectors equal sentence-transformers'.

`minilm.jsonl` is what sentence-transformers 6.2.0 makes of them (../make_sentence_vectors.py): averaged without padding, of
length 1, texts cut at 256 tokens. The last text is longer: the OpenAI API refuses it, the GLM API cuts it.
"""

import json
import os
from pathlib import Path

import numpy as np
import openai

stored = [json.loads(line) for line in (Path(__file__).resolve().parent / "minilm.jsonl").read_text(encoding="utf-8").splitlines()]
*texts, long = [entry["text"] for entry in stored]
expected = np.array([entry["vector"] for entry in stored])

url = os.environ["GLIMMER_URL"]
client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
model = next(model for model in client.models.list() if model.meta["n_embd"] == 384)
assert model.max_model_len == 256, model

vectors = np.array([entry.embedding for entry in client.embeddings.create(model=model.id, input=texts).data])
worst = np.abs(vectors - expected[:-1]).max()
assert vectors.shape == (len(texts), 384) and worst <= 1e-5, worst
assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() <= 1e-5
alone = [client.embeddings.create(model=model.id, input=text).data[0].embedding for text in texts]
assert np.array_equal(alone, vectors)

try:
    client.embeddings.create(model=model.id, input=long)
except openai.BadRequestError as error:
    assert error.code == "context_length_exceeded", error
else:
    raise AssertionError("a text of more than 256 tokens is not refused")
cut = client.with_options(base_url=url).post("/embedding", body={"prompt": [long]}, cast_to=object)["data"][0]
assert np.abs(np.array(cut) - expected[-1]).max() <= 1e-5
print(f"openai {openai.__version__}, all-MiniLM-L6-v2: good; vectors within {worst:.1e} of sentence-transformers'")
