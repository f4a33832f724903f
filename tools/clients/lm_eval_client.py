"""lm-evaluation-harness (`local-completions`) against a Glimmer server at GLIMMER_URL that serves fixtures/lm-eval.

Its scores, and every log-likelihood and answer, are those that the same harness got from transformers:
lm_eval_tasks/scores.json, made by tools/make_lm_eval_scores.py.
"""

import json
import logging
import os
from importlib.metadata import version
from pathlib import Path

import lm_eval
from lm_eval.tasks import TaskManager

HERE = Path(__file__).resolve().parent
SCORES = HERE / "lm_eval_tasks" / "scores.json"
CHECKPOINT = HERE.parent.parent / "fixtures" / "lm-eval"
TASKS = ["glimmer_choice", "glimmer_texts", "glimmer_answers"]


def examine(model, model_args, batch_size=1):
    """What the harness finds: its scores, and what the model said to each item: [log-likelihood, whether greedy] of every
    choice, the log-likelihood of every text, every answer."""
    logging.getLogger("lm_eval").setLevel(logging.WARNING)
    os.chdir(HERE / "lm_eval_tasks")  # the tasks' files are named from here
    found = lm_eval.simple_evaluate(
        model=model, model_args=model_args, tasks=TASKS, batch_size=batch_size, bootstrap_iters=0,
        task_manager=TaskManager(include_path=".", include_defaults=False),
    )
    scores = {
        task: {name.split(",")[0]: value for name, value in metrics.items() if isinstance(value, float) and "stderr" not in name}
        for task, metrics in found["results"].items()
    }
    items = {}
    for task, samples in found["samples"].items():
        said = [[response[0] for response in sample["resps"]] for sample in sorted(samples, key=lambda sample: sample["doc_id"])]
        items[task] = said if task == "glimmer_choice" else [one for one, in said]
    return {"scores": scores, "items": items}


def compare(found, stored):
    """The largest difference between two log-likelihoods. Everything else must be equal."""
    for task, scores in stored["scores"].items():
        assert found["scores"][task].keys() == scores.keys()
        for name, score in scores.items():
            # Choices and answers are counted; perplexities are held to four digits.
            allowed = 5e-5 * score if task == "glimmer_texts" else 0
            assert abs(found["scores"][task][name] - score) <= allowed, f"{task} {name}: {found['scores'][task][name]}, not {score}"
    found, stored = found["items"], stored["items"]
    assert found["glimmer_answers"] == stored["glimmer_answers"], (found["glimmer_answers"], stored["glimmer_answers"])
    pairs = list(zip(found["glimmer_texts"], stored["glimmer_texts"], strict=True))
    for choices in zip(found["glimmer_choice"], stored["glimmer_choice"], strict=True):
        for (one, is_greedy), (other, was_greedy) in zip(*choices, strict=True):
            assert is_greedy == was_greedy, choices
            pairs.append((one, other))
    worst = max(abs(one - other) for one, other in pairs)
    assert worst <= 1e-3, f"log-likelihoods differ by {worst}"
    return worst


def main():
    stored = json.loads(SCORES.read_text())
    settings = {
        "model": "lm-eval", "tokenizer": str(CHECKPOINT), "base_url": os.environ["GLIMMER_URL"] + "/v1/completions",
        "max_length": stored["max_length"] + 2, "add_bos_token": True,
    }
    # One request after the other, several prompts in a request, several requests at once.
    for batch_size, at_once in ((1, 1), (8, 1), (3, 4)):
        worst = compare(examine("local-completions", settings | {"num_concurrent": at_once}, batch_size), stored)
    told = ", ".join(f"{name} {score:.4g}" for scores in stored["scores"].values() for name, score in scores.items())
    print(f"lm_eval {version('lm_eval')}: good; {told}; log-likelihoods within {worst:.1e} of transformers'")


if __name__ == "__main__":
    main()
