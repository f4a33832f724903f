"""Stored scores of sentence-transformers' CrossEncoder, for the tests of rerankers.

    pip install torch==2.15.0 sentence-transformers==6.2.0 transformers==5.24.0
    python tools/make_pair_scores.py                  # crates/glimmer/tests/data/pairs

A tiny random BertForSequenceClassification of one label, and others that differ from it in their files: what their activation
is and where it is said, how many tokens they read, what kind of weights. `head` has the files that all share, a model's own
directory what differs. `pairs.json` has the pairs, some of them longer than the models read; `scores.json`, of each model, its
most tokens, the scores of the pairs and their tokens as CrossEncoder cuts them.
"""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from sentence_transformers import CrossEncoder
from transformers import BertConfig, BertForSequenceClassification

from make_sentence_vectors import LETTERS, WORDS, write

PLACE = Path(__file__).resolve().parent.parent / "crates" / "glimmer" / "tests" / "data" / "pairs"
WIDTH, POSITIONS = 16, 48
LONG = "one two three four five six seven eight nine ten "
PAIRS = [
    ("the cat sees a red bird", "a bird"),
    ("a bird", "the cat sees a red bird"),
    ("The Cat Sees A Red Bird", "A BIRD"),
    ("北京 是 中国 的 首都。", "search for water, fire and the moon!"),
    ("Café [MASK] unknownword", "the [SEP] cat"),
    ("the cat", ""),
    ("", "the cat"),
    ("water", LONG * 6),
    (LONG * 6, "water and fire"),
    (LONG * 6, "moon " * 60),
    ("moon " * 23, LONG * 6),
    (LONG * 6, "moon " * 22),
    ("moon " * 6, LONG * 6),
    (LONG, "moon " * 5),
]


def head(directory):
    """What all share."""
    directory.mkdir(parents=True)
    torch.manual_seed(2024)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *LETTERS[1:], *("##" + c for c in LETTERS if c != "s")]
    (directory / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    write(directory / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    config = BertConfig(vocab_size=len(vocabulary), hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, num_labels=1,
                        intermediate_size=2 * WIDTH, max_position_embeddings=POSITIONS, initializer_range=0.4)
    BertForSequenceClassification(config).save_pretrained(directory)


def configured(path, **keys):
    file = path / "config.json"
    write(file, {**json.loads(file.read_text()), **keys})


def identity(path):
    """As models that sentence-transformers 4 and 5 saved."""
    configured(path, sentence_transformers={"version": "4.1.0.dev0", "activation_fn": "torch.nn.modules.linear.Identity"})


def old_identity(path):
    """As models of before."""
    configured(path, sbert_ce_default_activation_function="torch.nn.modules.linear.Identity")


def unknown(path):
    """An activation that is not PyTorch's is not trusted, and the default counts."""
    configured(path, sentence_transformers={"activation_fn": "elsewhere.Activation"})


def short(path):
    write(path / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 15})


def pickled(path):
    model = BertForSequenceClassification.from_pretrained(path)
    torch.save(model.state_dict(), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()


def saved(path):
    """As 6.2.0 saves it."""
    CrossEncoder(str(path), device="cpu", max_length=20, activation_fn=torch.nn.Tanh()).save(str(path), create_model_card=False)
    (path / "README.md").unlink(missing_ok=True)


MODELS = [None, identity, old_identity, unknown, short, pickled, saved]


def ids(model, pair):
    return model.preprocess([pair])["input_ids"][0].tolist()


def main():
    shutil.rmtree(PLACE, ignore_errors=True)
    head(PLACE / "head")
    write(PLACE / "pairs.json", PAIRS)
    expected = {}
    for make in MODELS:
        name = make.__name__ if make else "head"
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / name
            shutil.copytree(PLACE / "head", path)
            if make:
                make(path)
            model = CrossEncoder(str(path), device="cpu")
            scores = [float(f"{score:.9g}") for score in model.predict(PAIRS, batch_size=3).tolist()]
            raw = [float(f"{score:.9g}") for score in model.predict(PAIRS, batch_size=3, activation_fn=torch.nn.Identity()).tolist()]
            expected[name] = {"max_tokens": model.max_seq_length, "scores": scores, "raw": raw, "ids": [ids(model, pair) for pair in PAIRS]}
            print(name, model.max_seq_length, model.activation_fn, scores)
            for file in path.rglob("*"):
                shared = PLACE / "head" / file.relative_to(path)
                if file.is_file() and not (shared.is_file() and shared.read_bytes() == file.read_bytes()):
                    target = PLACE / name / file.relative_to(path)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, target)
    text = json.dumps(expected, separators=(",", ":")).replace('"scores"', '\n "scores"').replace('"raw"', '\n "raw"').replace('"ids"', '\n "ids"')
    (PLACE / "scores.json").write_text(text + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
