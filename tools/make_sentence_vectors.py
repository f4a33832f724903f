"""Stored vectors of sentence-transformers, for the encoder's tests.

    pip install torch==2.15.0 sentence-transformers==6.2.0 transformers==5.24.0
    python tools/make_sentence_vectors.py kinds                  # crates/glimmer/tests/data/sentence
    python tools/make_sentence_vectors.py of MODEL_DIR FILE      # the vectors of a real model: tools/clients/minilm.jsonl

`kinds` makes a tiny random BERT and around it a model of every kind of modules, settings and prompts: some with the files that
sentence-transformers 2 wrote, some as 6.2.0 saves them. A model's directory holds what differs from `bert`, the files that all
share. `expected.safetensors` has, of each, the vectors of `texts.json`: `NAME`, and with a prompt `NAME.PROMPT`;
`limits.json` the most tokens that each reads.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from transformers import BertConfig, BertModel

PLACE = Path(__file__).resolve().parent.parent / "crates" / "glimmer" / "tests" / "data" / "sentence"
WIDTH, POSITIONS = 16, 48
TEXTS = [
    "the cat sees a red bird",
    "The Cat Sees A Red Bird",
    "a",
    "北京 是 中国 的 首都。",
    "search for water, fire and the moon!",
    "Café [MASK] unknownword",
    "one two three four five six seven eight nine ten " * 6,
]
WORDS = """the cat see ##s a red bird 北 京 是 中 国 的 首 都 。 search for water , fire and moon ! : cafe one two three four five
six seven eight nine ten passage about""".split()
LETTERS = "abcdefghijklmnopqrstuvwxyz"

OLD = "sentence_transformers.models."
FLAGS = ["weightedmean_tokens", "max_tokens", "mean_tokens", "lasttoken", "cls_token", "mean_sqrt_len_tokens"]


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def bert(directory):
    """What all share: a transformer without modules."""
    directory.mkdir(parents=True)
    torch.manual_seed(1902)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *LETTERS[1:], *("##" + c for c in LETTERS if c != "s")]
    assert len(set(vocabulary)) == len(vocabulary)
    (directory / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    write(directory / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    config = BertConfig(vocab_size=len(vocabulary), hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=2 * WIDTH, max_position_embeddings=POSITIONS, initializer_range=0.4)
    BertModel(config).save_pretrained(directory)


def old_pooling(path, *flags, **others):
    config = {"word_embedding_dimension": WIDTH, **{f"pooling_mode_{flag}": flag in flags for flag in FLAGS}, **others}
    write(path / "1_Pooling" / "config.json", config)


def old_modules(path, *kinds, transformer="", package=OLD):
    paths = [transformer, *(f"{place}_{kind}" for place, kind in enumerate(kinds, 1))]
    types = [package + kind for kind in ("Transformer", *kinds)]
    write(path / "modules.json", [{"idx": i, "name": str(i), "path": p, "type": t} for i, (p, t) in enumerate(zip(paths, types))])


def saved(path, *modules, **settings):
    """As 6.2.0 saves it."""
    limit = settings.pop("max_seq_length", None)
    model = SentenceTransformer(modules=[Transformer(str(path)), *modules], device="cpu", **settings)
    if limit:
        model.max_seq_length = limit
    model.save(str(path), create_model_card=False)


def old_cls(path):
    old_modules(path, "Pooling")
    old_pooling(path, "cls_token")


def old_sqrt(path):
    old_modules(path, "Pooling")
    old_pooling(path, "mean_sqrt_len_tokens")
    write(path / "sentence_bert_config.json", {"max_seq_length": 40, "do_lower_case": False})


def old_weighted(path):
    old_modules(path, "Pooling", "Normalize")
    old_pooling(path, "weightedmean_tokens")


def old_none(path):
    """No flag is set: the mean."""
    old_modules(path, "Pooling")
    old_pooling(path)


def old_several(path):
    old_modules(path, "Pooling")
    old_pooling(path, *FLAGS)


def old_lowercase(path):
    old_modules(path, "Pooling")
    old_pooling(path, "mean_tokens")
    write(path / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": False})
    write(path / "sentence_bert_config.json", {"max_seq_length": None, "do_lower_case": True})


def old_cased(path):
    old_lowercase(path)
    (path / "sentence_bert_config.json").unlink()


def old_short(path):
    old_modules(path, "Pooling")
    old_pooling(path, "mean_tokens")
    write(path / "sentence_bert_config.json", {"max_seq_length": 7})


def old_folder(path):
    """The transformer has a folder of its own, as in version 1."""
    old_modules(path, "Pooling", transformer="0_Transformer")
    old_pooling(path, "cls_token", "mean_tokens")
    (path / "0_Transformer").mkdir()
    for file in ("config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"):
        (path / file).rename(path / "0_Transformer" / file)
    write(path / "0_Transformer" / "sentence_bert_config.json", {"max_seq_length": 20})


def old_dense(path):
    """As LaBSE: CLS, a linear layer with tanh in a pickle, length 1."""
    old_modules(path, "Pooling", "Dense", "Normalize")
    old_pooling(path, "cls_token")
    dense = Dense(WIDTH, 12)
    config = {"in_features": WIDTH, "out_features": 12, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}
    write(path / "2_Dense" / "config.json", config)
    torch.save(dense.state_dict(), path / "2_Dense" / "pytorch_model.bin")


def old_prompt(path):
    """Its default prompt is not pooled, and it is one that no token ends with."""
    old_modules(path, "Pooling")
    old_pooling(path, "cls_token", "weightedmean_tokens", "mean_tokens", include_prompt=False)
    prompts = {"query": "search for: ", "passage": "A Passage about", "nothing": ""}
    write(path / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": "passage"})


def new_max(path):
    saved(path, Pooling(WIDTH, "max"))


def new_mean(path):
    saved(path, Pooling(WIDTH, "mean"), Normalize(), max_seq_length=10)


def new_last(path):
    saved(path, Pooling(WIDTH, "lasttoken"))


def new_several(path):
    saved(path, Pooling(WIDTH, ["mean", "lasttoken", "cls", "max"]), Normalize())


def new_dense(path):
    functions = [torch.nn.ReLU(), torch.nn.GELU(), torch.nn.SiLU(), torch.nn.Sigmoid()]
    layers = [Dense(WIDTH, WIDTH, activation_function=function, use_residual=True) for function in functions]
    last = Dense(WIDTH, 10, bias=False, activation_function=torch.nn.Identity(), use_residual=True)
    saved(path, Pooling(WIDTH, "mean"), *layers, last)


def new_prompt(path):
    prompts = {"query": "search for: ", "document": "a passage about "}
    saved(path, Pooling(WIDTH, "mean"), prompts=prompts, default_prompt_name=None)


KINDS = [old_cls, old_sqrt, old_weighted, old_none, old_several, old_lowercase, old_cased, old_short, old_folder, old_dense,
         old_prompt, new_max, new_mean, new_last, new_several, new_dense, new_prompt]


def vectors(model, texts, prompt=None):
    return torch.from_numpy(model.encode(texts, prompt_name=prompt, batch_size=3))


def kinds():
    shutil.rmtree(PLACE, ignore_errors=True)
    bert(PLACE / "bert")
    write(PLACE / "texts.json", TEXTS)
    expected, limits = {}, {}
    for make in [None, *KINDS]:
        name = make.__name__ if make else "bert"
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / name
            shutil.copytree(PLACE / "bert", path)
            if make:
                torch.manual_seed(1903)
                make(path)
            model = SentenceTransformer(str(path), device="cpu")
            expected[name] = vectors(model, TEXTS)
            for prompt, text in model.prompts.items():
                if text:
                    expected[f"{name}.{prompt}"] = vectors(model, TEXTS, prompt)
            limits[name] = model.max_seq_length
            print(name, tuple(expected[name].shape), [module.__class__.__name__ for module in model])
            shared = {file.name: file.read_bytes() for file in (PLACE / "bert").iterdir()}
            for file in path.rglob("*"):
                if file.is_file() and shared.get(file.name) != file.read_bytes():
                    target = PLACE / name / file.relative_to(path)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, target)
    write(PLACE / "limits.json", limits)
    save_file(expected, PLACE / "expected.safetensors")


def of(directory, file):
    """Vectors of a real model. The last text is longer than most encoders read, and is cut."""
    texts = ["This is an example sentence", "Each sentence is converted", "the quick brown fox jumps over the lazy dog", "x", "Café, naïve: 北京 — ok?",
             "How many people live in Berlin?", "Berlin has a population of 3,520,031 registered inhabitants.",
             " ".join(f"word {number}" for number in range(60)), " ".join(f"word {number}" for number in range(300))]
    model = SentenceTransformer(directory, device="cpu")
    lines = [json.dumps({"text": text, "vector": [float(f"{value:.9g}") for value in row]}, ensure_ascii=False)
             for text, row in zip(texts, vectors(model, texts).tolist(), strict=True)]
    Path(file).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"kinds": kinds, "of": of}[sys.argv[1]](*sys.argv[2:])
