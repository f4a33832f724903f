#!/usr/bin/env python3
"""Makes crates/models/tests/data/rotary.json: configurations and the rotary frequencies that transformers computes for them.

    pip install transformers==5.24.0 numpy==2.4.6
    python tools/make_rotary_tables.py

transformers' own configuration classes and functions run here, in float32, on numpy arrays in place of tensors: PyTorch is
not needed. Only the plain frequencies are written down below, from `compute_default_rope_parameters` of modeling_glm.py,
which cannot be imported without PyTorch. A configuration that transformers refuses is stored without frequencies.
"""

import json
import types
from pathlib import Path

import numpy as np
from transformers import Glm4Config, GlmConfig, modeling_rope_utils

OUT = Path(__file__).resolve().parent.parent / "crates/models/tests/data/rotary.json"


class Tensor(np.ndarray):
    """An array with the one method of a tensor that the functions call."""

    def to(self, dtype=None, **_):
        return self if dtype is None else self.astype(dtype)


def arange(*bounds, dtype=np.int64):
    return np.arange(*bounds).astype(dtype).view(Tensor)


modeling_rope_utils.torch = types.SimpleNamespace(
    arange=arange, clamp=np.clip, int64=np.int64, float=np.float32, float32=np.float32
)

COMMON = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
          "intermediate_size": 32, "vocab_size": 128, "max_position_embeddings": 4096, "attention_bias": False}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
NEW = {"rope_type": "default", "rope_theta": 20000.0, "partial_rotary_factor": 0.75}

CASES = {
    "nothing": {},
    "theta": {"rope_theta": 5e6},
    "all of a head": {"partial_rotary_factor": 1.0},
    "three quarters": {"partial_rotary_factor": 0.75},
    "thirteen of sixteen": {"partial_rotary_factor": 0.8125},
    "seven of twenty": {"head_dim": 20, "partial_rotary_factor": 0.35},
    "a product just below a whole number": {"head_dim": 100, "partial_rotary_factor": 0.29},
    "a factor of null": {"partial_rotary_factor": None},
    "the new block": {"rope_parameters": NEW},
    "the new block without a base": {"rope_parameters": {"rope_type": "default"}, "rope_theta": 30000.0},
    "the new block with a base, and one beside it": {"rope_parameters": NEW, "rope_theta": 30000.0},
    "an empty old block": {"rope_parameters": NEW, "rope_scaling": {}},
    "an old block of null": {"rope_parameters": NEW, "rope_scaling": None},
    "YaRN": {"rope_scaling": YARN},
    "YaRN by its old key": {"rope_scaling": YARN | {"type": "yarn", "rope_type": "yarn"}},
    "YaRN by its oldest key": {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}},
    "two kinds": {"rope_scaling": YARN | {"type": "linear"}},
    "YaRN in both styles": {"rope_scaling": YARN, "rope_parameters": YARN | {"rope_theta": 20000.0}},
    "YaRN added to a file in the new style": {"rope_scaling": YARN, "rope_parameters": NEW},
    "the same with a base outside": {"rope_scaling": YARN, "rope_parameters": NEW, "rope_theta": 30000.0},
    "the same with a base inside": {"rope_scaling": YARN | {"rope_theta": 40000.0}, "rope_parameters": NEW, "rope_theta": 3e4},
    "the same with a share inside": {"rope_scaling": YARN | {"partial_rotary_factor": 0.25}, "rope_parameters": NEW},
    "the same with a share outside": {"rope_scaling": YARN, "rope_parameters": NEW, "partial_rotary_factor": 1.0},
    "linear added to a file with YaRN": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}, "rope_parameters": YARN},
    "YaRN in the new block": {"rope_parameters": YARN | {"rope_theta": 20000.0, "partial_rotary_factor": 0.75}},
    "refused: YaRN of thirteen": {"rope_scaling": YARN, "partial_rotary_factor": 0.8125},
    "YaRN without a context": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
    "YaRN with a context beside": {"rope_scaling": YARN, "original_max_position_embeddings": 512},
    "YaRN with a factor of null": {"rope_scaling": YARN | {"factor": None}},
    "YaRN with a factor of one": {"rope_scaling": YARN | {"factor": 1.0}},
    "YaRN with an odd factor": {"rope_scaling": YARN | {"factor": 2.7}},
    "YaRN with other rotations": {"rope_scaling": YARN | {"beta_fast": 16.0, "beta_slow": 2.0}},
    "YaRN with rotations of zero": {"rope_scaling": YARN | {"beta_fast": 0, "beta_slow": None}},
    "YaRN with its own strength": {"rope_scaling": YARN | {"attention_factor": 1.25}},
    "YaRN with a strength of null": {"rope_scaling": YARN | {"attention_factor": None}},
    "YaRN not truncated": {"rope_scaling": YARN | {"truncate": False}},
    "mscale of one": {"rope_scaling": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}},
    "mscale": {"rope_scaling": YARN | {"factor": 40.0, "mscale": 1.0, "mscale_all_dim": 0.707}},
    "mscale the other way": {"rope_scaling": YARN | {"mscale": 0.5, "mscale_all_dim": 1.5}},
    "mscale and a strength": {"rope_scaling": YARN | {"mscale": 0.5, "mscale_all_dim": 1.5, "attention_factor": 1.1}},
    "mscale alone": {"rope_scaling": YARN | {"mscale": 2.0}},
    "mscale_all_dim alone": {"rope_scaling": YARN | {"mscale_all_dim": 2.0}},
    "mscale of zero": {"rope_scaling": YARN | {"mscale": 0, "mscale_all_dim": 2.0}},
    "linear": {"rope_scaling": {"rope_type": "linear", "factor": 3.0}, "rope_theta": 5e6},
    "refused: linear without a factor": {"rope_scaling": {"rope_type": "linear"}},
    "refused: linear with a factor of null": {"rope_scaling": {"rope_type": "linear", "factor": None}},
    "refused: YaRN without a factor": {"rope_scaling": {"rope_type": "yarn", "original_max_position_embeddings": 1024}},
    "refused: scaling is a text": {"rope_scaling": "yarn"},
    "refused: scaling is a list": {"rope_scaling": [YARN]},
    "refused: scaling is a number": {"rope_scaling": 4.0},
    "refused: a factor that is a text": {"rope_scaling": YARN | {"factor": "4"}},
    "refused: a base that is a text": {"rope_theta": "10000"},
    "refused: a negative share": {"partial_rotary_factor": -1},
    "refused: a share of infinity": {"partial_rotary_factor": 1e308},
    "refused: an activation that is a number": {"hidden_act": 7},
}


def plain(config):
    dim = int(config.head_dim * config.rope_parameters.get("partial_rotary_factor", 1.0))
    base = config.rope_parameters["rope_theta"]
    return 1.0 / (base ** (arange(0, dim, 2, dtype=np.float32) / dim)), 1.0


def frequencies(config):
    kind = config.rope_parameters["rope_type"]
    function = plain if kind == "default" else modeling_rope_utils.ROPE_INIT_FUNCTIONS[kind]
    inv_freq, attention_factor = function(config)
    assert inv_freq.dtype == np.float32 and inv_freq.size > 0
    return inv_freq, attention_factor


def main():
    cases = []
    for number, (name, changes) in enumerate(CASES.items()):
        config_class = [GlmConfig, Glm4Config][number % 2]
        stated = COMMON | {"model_type": config_class.model_type} | changes
        case = {"name": name, "config": stated}
        try:
            inv_freq, attention_factor = frequencies(config_class(**json.loads(json.dumps(stated))))
            case |= {"inv_freq": [float(str(f)) for f in inv_freq], "attention_factor": float(attention_factor)}
        except Exception as error:  # noqa: BLE001 (whatever it says no with)
            print(f"{name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:160])
        assert name.startswith("refused: ") == ("inv_freq" not in case), name
        cases.append(case)
    OUT.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main()
