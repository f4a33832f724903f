"""sentence-transformers over vectors from the Glimmer server at GLIMMER_URL, which has --embedding-model fixtures/text2vec-bert.

sentence-transformers 6.2.0 has no client for a server of embeddings. What it has is the place for one: an InputModule, here
one that asks /v1/embeddings through the published `openai` client. Everything above it is the package's own: batches by length,
normalizing, semantic search, and two evaluators. All of it must agree with the same package computing the fixture itself.
It needs PyTorch; without it nothing is tried, and that is said.
"""

import json
import os
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

if not find_spec("sentence_transformers"):
    print("NOT TRIED: sentence-transformers, which is not installed (it needs PyTorch)")
    sys.exit()

import numpy as np
import openai
import torch
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator, InformationRetrievalEvaluator
from sentence_transformers.sentence_transformer.modules import InputModule, Pooling, Transformer
from sentence_transformers.util import semantic_search

FIXTURE = Path(__file__).resolve().parent.parent.parent / "fixtures" / "text2vec-bert"


class Served(InputModule):
    """A module whose vectors come from a server."""

    def __init__(self, url):
        super().__init__()
        self.client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)

    def preprocess(self, inputs, prompt=None, **kwargs):
        return {"texts": [(prompt or "") + text for text in inputs]}

    def forward(self, features, **kwargs):
        answer = self.client.embeddings.create(model="text2vec-bert", input=features["texts"])
        features["sentence_embedding"] = torch.tensor([entry.embedding for entry in answer.data])
        return features

    def save(self, output_path, *args, **kwargs):
        raise NotImplementedError("a server's model is not saved from here")


def main():
    served = SentenceTransformer(modules=[Served(os.environ["GLIMMER_URL"])], device="cpu")
    transformer = Transformer(str(FIXTURE))
    own = SentenceTransformer(modules=[transformer, Pooling(transformer.get_embedding_dimension(), "mean")], device="cpu")

    # The last text is longer than the encoder takes.
    texts = json.loads((FIXTURE / "texts.json").read_text())[:-1]
    stored = load_file(FIXTURE / "expected.safetensors")
    worst = 0.0
    for normalize, name in ((False, "batch.embeddings"), (True, "batch.embeddings_normalized")):
        for batch_size in (1, 3, 32):
            vectors = served.encode(texts, normalize_embeddings=normalize, batch_size=batch_size)
            for expected in (stored[name][: len(texts)], own.encode(texts, normalize_embeddings=normalize)):
                worst = max(worst, np.abs(vectors - expected).max())
    assert worst <= 1e-5, worst
    assert np.abs(served.similarity(served.encode(texts), served.encode(texts)).numpy() - stored["batch.cosine"][: len(texts), : len(texts)]).max() <= 1e-5

    queries, corpus = texts[:3], texts[3:]
    found = [semantic_search(model.encode(queries), model.encode(corpus)) for model in (served, own)]
    for hits in zip(*found, strict=True):
        for one, other in zip(*hits, strict=True):
            assert one["corpus_id"] == other["corpus_id"] and abs(one["score"] - other["score"]) <= 1e-5

    pairs = [(a, b) for a in texts for b in texts if a < b]
    evaluators = [
        EmbeddingSimilarityEvaluator([a for a, _ in pairs], [b for _, b in pairs], [len(set(a) & set(b)) for a, b in pairs],
                                     similarity_fn_names=["cosine", "dot", "euclidean", "manhattan"], write_csv=False),
        InformationRetrievalEvaluator({str(i): text for i, text in enumerate(queries)}, {str(i): text for i, text in enumerate(texts)},
                                      {"0": {"1"}, "1": {"0"}, "2": {"5", "6"}}, write_csv=False),
    ]
    for evaluator in evaluators:
        scores, wanted = evaluator(served), evaluator(own)
        assert scores.keys() == wanted.keys() and all(abs(scores[name] - wanted[name]) <= 1e-5 for name in wanted), (scores, wanted)
        print(f"  {type(evaluator).__name__}: {evaluator.primary_metric} {scores[evaluator.primary_metric]:.4f}")
    print(f"sentence-transformers {version('sentence-transformers')}: good; embeddings within {worst:.1e}")


if __name__ == "__main__":
    main()
