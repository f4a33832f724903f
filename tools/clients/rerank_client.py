"""The published `cohere` and `xinference-client`, unchanged, against a tiny cross-encoder served at GLIMMER_URL: documents in the
order and with the scores of sentence-transformers' CrossEncoder (../make_pair_scores.py).

Usage: rerank_client.py DIRECTORY    (pairs.json, scores.json)
"""

import json
import os
import sys
from pathlib import Path

import cohere
from xinference_client import RESTfulClient

place = Path(sys.argv[1])
pairs = json.loads((place / "pairs.json").read_text(encoding="utf-8"))
stored = json.loads((place / "scores.json").read_text(encoding="utf-8"))["head"]["scores"]
url = os.environ["GLIMMER_URL"]
# The query that has the most documents of its own.
query = max((pair[0] for pair in pairs), key=[pair[0] for pair in pairs].count)
documents = [pair[1] for pair in pairs if pair[0] == query]
expected = [score for pair, score in zip(pairs, stored) if pair[0] == query]
order = sorted(range(len(documents)), key=lambda at: -expected[at])
assert len(documents) > 2


def check(results, many=None):
    """Results as pairs of places and scores."""
    assert [index for index, _ in results] == order[:many], (results, order)
    assert all(abs(score - expected[index]) <= 1e-5 for index, score in results), (results, expected)


def refused(call, kind, *words):
    try:
        call()
    except kind as error:
        assert all(word in str(error) for word in words), error
    else:
        raise AssertionError("that is not refused")


client = cohere.ClientV2(api_key="none", base_url=url)
ranked = client.rerank(model="head", query=query, documents=documents)
check([(one.index, one.relevance_score) for one in ranked.results])
assert ranked.id and ranked.meta.tokens.input_tokens > 0
few = client.rerank(model="head", query=query, documents=documents, top_n=2, max_tokens_per_doc=4096)
check([(one.index, one.relevance_score) for one in few.results], 2)
refused(lambda: client.rerank(model="demo", query=query, documents=documents), cohere.BadRequestError, "demo", "no head")
spans = cohere.RerankRelevantSpans(mode="enabled")
refused(lambda: client.rerank(model="head", query=query, documents=documents, relevant_spans=spans), cohere.BadRequestError, "spans")

# Its first API, with documents that are objects.
old = cohere.Client(api_key="none", base_url=url)
objects = [{"text": document} for document in documents]
ranked = old.rerank(model="head", query=query, documents=objects, return_documents=True, rank_fields=["text"])
check([(one.index, one.relevance_score) for one in ranked.results])
assert [one.document.text for one in ranked.results] == [documents[at] for at in order]
bare = old.rerank(model="head", query=query, documents=documents, return_documents=False)
assert all(one.document is None for one in bare.results)

model = RESTfulClient(url).get_model("head")
ranked = model.rerank(documents, query, top_n=3, return_documents=True, return_len=True)
check([(one["index"], one["relevance_score"]) for one in ranked["results"]], 3)
assert [one["document"]["text"] for one in ranked["results"]] == [documents[at] for at in order[:3]]
assert ranked["meta"]["tokens"]["input_tokens"] > 0
check([(one["index"], one["relevance_score"]) for one in model.rerank(documents, query, max_tokens_per_query=4096)["results"]])
refused(lambda: model.rerank(documents, query, max_chunks_per_doc=10), RuntimeError, "max_chunks_per_doc")
refused(lambda: model.rerank(documents, query, instruction="rank"), RuntimeError, "instruction")
print(f"cohere {cohere.__version__}, xinference-client: {len(documents)} documents ranked as CrossEncoder does")
