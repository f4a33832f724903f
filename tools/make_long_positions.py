#!/usr/bin/env python3
"""Makes the long-position references in crates/models/tests/data/long_positions.

    pip install torch==2.15.0 transformers==5.23.0 safetensors==0.8.0 numpy==2.4.6
    python tools/make_long_positions.py [NAME...]

For each case in CASES: a checkpoint of random weights in the hub's layout, `expected.safetensors` with what transformers
computes on it, and `manifest.json`. Without names, `rope_tables.safetensors` is written too. What the keys mean is in
tools/README.md.

Two traps of transformers are avoided here. Position ids that jump are taken for several packed sequences, which then
cannot see each other, unless an attention mask is given. And `model.double()` leaves cos and sin in float32, which is
wanted: the float64 run then measures the noise of everything but the rope angles, whose rounding is part of the contract.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Glm4Config, GlmConfig
from transformers.models.glm.modeling_glm import GlmRotaryEmbedding

OUT = Path(__file__).resolve().parent.parent / "crates/models/tests/data/long_positions"

VOCAB = 128
POSITIONS = [0, 1, 2, 7, 100, 1000, 4095, 8190, 8191, 8192, 20000, 32766, 32767, 32768, 65535, 100000, 131070, 131071]
MILLION = [524288, 1048574, 1048575]

GLM = {"model_type": "glm", "architectures": ["GlmForCausalLM"], "rms_norm_eps": 1.5625e-07, "attention_bias": True,
       "partial_rotary_factor": 0.5, "max_position_embeddings": 131072, "tie_word_embeddings": False}
GLM4 = GLM | {"model_type": "glm4", "architectures": ["Glm4ForCausalLM"], "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
              "max_position_embeddings": 32768}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}

# Head widths and rotary widths of `glm-chat`, `glm-edge` and `glm4-0414` are those of the published models, so their
# rope tables are the real ones. `dense` lists prompt lengths and the rows whose logits are kept.
CASES = {
    "glm-chat": GLM | {"rope_theta": 5e6, "heads": (2, 1, 128), "dense": [8200]},
    "glm-chat-1m": GLM | {"rope_theta": 1e8, "heads": (8, 4, 64), "hidden": 32, "max_position_embeddings": 1048576,
                          "far": MILLION, "dense": [8200]},
    # The context is stretched beyond Edge's 8192 so that far positions are legal.
    "glm-edge": GLM | {"rope_theta": 10000.0, "heads": (2, 1, 128), "partial_rotary_factor": 1.0, "rms_norm_eps": 1e-05,
                       "attention_bias": False, "tie_word_embeddings": True, "dense": [8200]},
    "glm4-0414": GLM4 | {"heads": (2, 1, 128), "dense": [8200]},
    "glm4-0414-yarn": GLM4 | {"rope_scaling": YARN, "heads": (2, 1, 64), "dense": [8200, 32800]},
}

# (rope theta, rotated widths, scaling) of published models.
TABLES = {
    "chatglm3-6b": (1e4, 64, None),
    "chatglm3-6b-32k": (5e5, 64, None),
    "glm-4-9b-chat": (5e6, 64, None),
    "glm-4-9b-chat-1m": (1e8, 64, None),
    "glm-edge": (1e4, 128, None),
    "glm-4-0414": (1e4, 64, None),
    "glm-4-0414-yarn": (1e4, 64, YARN),
    # Not a power of two: the exponent 2i/dim is itself rounded to float32.
    "rotated-10": (1e4, 10, None),
}


def hub_config(case):
    heads, kv_heads, head_dim = case["heads"]
    keys = {k: v for k, v in case.items() if k not in ("heads", "hidden", "far", "dense")}
    return keys | {
        "vocab_size": VOCAB, "hidden_size": case.get("hidden", 48), "intermediate_size": 80, "num_hidden_layers": 2,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_dim, "hidden_act": "silu",
        "attention_dropout": 0.0, "pad_token_id": 0, "eos_token_id": [VOCAB - 1], "torch_dtype": "bfloat16",
        "use_cache": True,
    }


def random_weights(config, seed):
    """bfloat16 weights. Queries and keys are large enough for attention to be sharp: scores have a deviation near 2.5,
    so that a wrong angle changes which keys are seen and not merely an average."""
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)

    def draw(shape, deviation, mean=0.0):
        return mean + deviation * torch.randn(shape, generator=generator)

    hidden = config.hidden_size
    weights = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if "norm" in name:
            value = draw(tensor.shape, 0.15, 1.0)
        elif name.endswith("bias"):
            value = draw(tensor.shape, 0.3)
        elif "q_proj" in name or "k_proj" in name:
            value = draw(tensor.shape, (2.5 / hidden) ** 0.5)
        elif "embed_tokens" in name:
            value = draw(tensor.shape, 1.0)
        else:
            value = draw(tensor.shape, tensor.shape[-1] ** -0.5)
        weights[name] = value.to(torch.bfloat16).contiguous()
    return weights


def load(folder, dtype):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").to(dtype).eval()


def forward(model, ids, positions=None):
    ids = ids.long()[None]
    positions = None if positions is None else positions[None]
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), position_ids=positions, use_cache=False).logits[0]


def states_after_layers(model, ids, positions):
    """The residual stream before the first and after each layer. `output_hidden_states` would give the last of them
    behind the final norm, so they are taken by hooks."""
    states = []
    hooks = [model.model.layers[0].register_forward_pre_hook(lambda _, args: states.append(args[0][0]))]
    for layer in model.model.layers:
        hooks.append(layer.register_forward_hook(lambda *call: states.append(call[-1][0])))
    logits = forward(model, ids, positions)
    for hook in hooks:
        hook.remove()
    return logits, states


def cos_sin(rotary, positions):
    cos, sin = rotary(torch.zeros(1), positions[None])
    half = cos.shape[-1] // 2
    return torch.stack([cos[0, :, :half], sin[0, :, :half]], dim=-1).contiguous()


def with_angles_in_float64(model):
    """Replaces the rope of a float64 model by one whose angles are float64 from end to end."""
    rotary = model.model.rotary_emb
    config = model.config
    base, partial = config.rope_parameters["rope_theta"], config.rope_parameters["partial_rotary_factor"]
    dim = int(config.head_dim * partial)
    inv_freq = base ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    if rotary.rope_type == "yarn":
        # The ramp is a small rational number and exact enough; only base frequencies are made precise.
        plain = 1.0 / (base ** (torch.arange(0, dim, 2, dtype=torch.float) / dim))
        inv_freq = inv_freq * (rotary.inv_freq / plain).double()

    def angles(x, position_ids):
        freqs = position_ids[..., None].double() * inv_freq
        freqs = torch.cat((freqs, freqs), dim=-1)
        return freqs.cos() * rotary.attention_scaling, freqs.sin() * rotary.attention_scaling

    rotary.forward = angles
    return model


def with_wrong_rope(model):
    """What a known bug would compute: YaRN ignored, or a base of 10000 where the model has another, or (for the plain
    base) frequencies rounded to bfloat16."""
    rotary = model.model.rotary_emb
    n = rotary.inv_freq.shape[0]
    plain = 1.0 / (10000.0 ** (torch.arange(0, 2 * n, 2, dtype=torch.float) / (2 * n)))
    if rotary.rope_type == "default" and torch.equal(plain, rotary.inv_freq):
        plain = plain.bfloat16().float()
    rotary.inv_freq.copy_(plain)
    rotary.attention_scaling = 1.0
    return model


def distance(a, b):
    return {"max_abs": (a.double() - b.double()).abs().max().item(), "scale": b.abs().max().item()}


def make(name, case):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    seed = 7001 + list(CASES).index(name)
    (folder / "config.json").write_text(json.dumps(hub_config(case), indent=2) + "\n")
    config = (GlmConfig if case["model_type"] == "glm" else Glm4Config).from_pretrained(folder)
    save_file(random_weights(config, seed), folder / "model.safetensors", metadata={"format": "pt"})

    single, double = load(folder, torch.float32), load(folder, torch.float64)
    generator = torch.Generator().manual_seed(seed + 100)
    expected, noise = {}, {}

    positions = torch.tensor(POSITIONS + case.get("far", []))
    ids = torch.randint(1, VOCAB - 1, positions.shape, generator=generator)
    expected["far.input_ids"], expected["far.position_ids"] = ids, positions
    expected["far.cos_sin"] = cos_sin(single.model.rotary_emb, positions)
    expected["far.logits"], states = states_after_layers(single, ids, positions)
    precise, precise_states = states_after_layers(double, ids, positions)
    noise["far.logits"] = distance(expected["far.logits"], precise)
    for i, (state, exact) in enumerate(zip(states, precise_states, strict=True)):
        expected[f"far.hidden.{i}"] = state
        noise[f"far.hidden.{i}"] = distance(state, exact)

    for length in case["dense"]:
        key = "dense" if length == 8200 else f"dense{length}"
        ids = torch.randint(1, VOCAB - 1, (length,), generator=generator).to(torch.uint8)
        rows = torch.tensor(([4096] if length == 8200 else []) + list(range(length - (8 if length == 8200 else 4), length)))
        expected[f"{key}.input_ids"], expected[f"{key}.rows"] = ids, rows
        expected[f"{key}.logits"] = forward(single, ids)[rows]
        noise[f"{key}.logits"] = distance(expected[f"{key}.logits"], forward(double, ids)[rows])

    ids, far = expected["far.input_ids"], expected["far.logits"]
    angle = forward(with_angles_in_float64(double), ids, positions)
    wrong = forward(with_wrong_rope(single), ids, positions)
    save_file({k: v.contiguous() for k, v in expected.items()}, folder / "expected.safetensors")
    manifest = {
        "case": name,
        "reference": f"transformers {transformers.__version__} {config.architectures[0]}, torch {torch.__version__.split('+')[0]}, CPU, float32, sdpa",
        "seed": seed,
        "weight_dtype": "bfloat16",
        "compute_dtype": "float32",
        "float32_vs_float64": noise,
        "far_logits_if_angles_were_float64": distance(angle, far)["max_abs"],
        "far_logits_if_rope_were_wrong": distance(wrong, far)["max_abs"],
        "tensors": {k: {"dtype": str(v.dtype).removeprefix("torch."), "shape": list(v.shape)} for k, v in sorted(expected.items())},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    print(name, {k: f"{v['max_abs']:.1e} of {v['scale']:.1f}" for k, v in noise.items()},
          f"float64 angles {manifest['far_logits_if_angles_were_float64']:.1e}, wrong rope {manifest['far_logits_if_rope_were_wrong']:.1e}")


def tables():
    positions = torch.tensor(POSITIONS + MILLION)
    out = {"positions": positions}
    for name, (theta, rotated, scaling) in TABLES.items():
        config = Glm4Config(head_dim=rotated, partial_rotary_factor=1.0, max_position_embeddings=32768,
                            rope_parameters={"rope_theta": theta} | ({"rope_type": "default"} if scaling is None else
                                             {"rope_type": "yarn"} | {k: v for k, v in scaling.items() if k != "type"}))
        rotary = GlmRotaryEmbedding(config)
        assert rotary.inv_freq.shape[0] == rotated // 2
        out[f"{name}.inv_freq"] = rotary.inv_freq.clone()
        out[f"{name}.cos_sin"] = cos_sin(rotary, positions)
    save_file(out, OUT / "rope_tables.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    OUT.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or CASES:
        make(name, CASES[name])
    if not sys.argv[1:]:
        tables()
