"""What PEFT computes with adapters on fixtures/glm-4-9b-chat-hf: writes crates/models/tests/data/peft.

Run with torch 2.15.0, transformers 5.24.0, peft 0.21.2, safetensors 0.8.0.

    python tools/make_peft_references.py                 # writes the adapters and their logits
    python tools/make_peft_references.py check ADAPTER LOGITS
                                                         # PEFT with an adapter that Glimmer wrote, beside logits stored as NAME

`cargo run -p glimmer-models --example rewrite_adapter -- MODEL ADAPTER OUT` reads an adapter and writes it again.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

ROOT = Path(__file__).resolve().parent.parent
BASE = ROOT / "fixtures" / "glm-4-9b-chat-hf"
OUT = ROOT / "crates" / "models" / "tests" / "data" / "peft"
IDS = torch.tensor([[17, 5, 201, 44, 99, 3]])

CONFIGS = {
    "split": dict(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]),
    "second": dict(r=4, lora_alpha=2, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]),
    "fused": dict(r=2, lora_alpha=4, target_modules=["gate_up_proj", "down_proj"]),
    "rslora": dict(
        r=4,
        lora_alpha=3,
        use_rslora=True,
        target_modules=["q_proj", "v_proj", "gate_up_proj"],
        rank_pattern={r"layers\.1\.self_attn\.q_proj": 2},
        alpha_pattern={"v_proj": 5},
    ),
    "dora": dict(r=3, lora_alpha=6, use_dora=True, target_modules=["q_proj", "k_proj", "gate_up_proj"]),
}


PREFIX = dict(num_virtual_tokens=5)
NEW = 8  # tokens that are written behind a prefix


def base():
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32, attn_implementation="eager").eval()


def logits(model):
    with torch.no_grad():
        return model(IDS).logits[0].float().contiguous()


def fill(model, seed):
    """Weights that matter: PEFT begins with B at zero and magnitudes as they are."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_magnitude" in name:
            parameter.data *= 1 + 0.2 * torch.rand_like(parameter)
        elif "lora_" in name:
            parameter.data = torch.randn_like(parameter) * 0.2


def prefix():
    """Keys and values before every sequence, as PEFT hands them to the model: positions count from behind them."""
    model = get_peft_model(base(), PrefixTuningConfig(task_type="CAUSAL_LM", **PREFIX)).eval()
    torch.manual_seed(len(CONFIGS))
    weight = model.prompt_encoder["default"].embedding.weight
    weight.data = torch.randn_like(weight)
    model.save_pretrained(OUT / "prefix")
    ids = IDS
    while ids.shape[1] < IDS.shape[1] + NEW:
        with torch.no_grad():
            ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
    return {"prefix": logits(model), "prefix.new_ids": ids[0, IDS.shape[1]:].contiguous()}


def tidy(folder):
    """Nothing of the machine that it was made on."""
    (folder / "README.md").unlink(missing_ok=True)
    config = folder / "adapter_config.json"
    settings = json.loads(config.read_text()) | {"base_model_name_or_path": "glm-4-9b-chat-hf"}
    config.write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n")


def make():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    stored = {"ids": IDS[0], "base": logits(base())}
    for seed, (name, settings) in enumerate(CONFIGS.items()):
        model = get_peft_model(base(), LoraConfig(task_type="CAUSAL_LM", **settings))
        fill(model, seed)
        stored[name] = logits(model.eval())
        model.save_pretrained(OUT / name)
        tidy(OUT / name)
    stored |= prefix()
    tidy(OUT / "prefix")
    for how in ("linear", "cat"):
        model = PeftModel.from_pretrained(base(), OUT / "split", adapter_name="split")
        model.load_adapter(OUT / "second", adapter_name="second")
        model.add_weighted_adapter(["split", "second"], [0.7, -0.4], "both", combination_type=how)
        model.set_adapter("both")
        stored[how] = logits(model.eval())
    model = PeftModel.from_pretrained(base(), OUT / "dora").eval().merge_and_unload()
    print("merged and not:", float((logits(model) - stored["dora"]).abs().max()))
    save_file(stored, OUT / "expected.safetensors")
    print({name: tuple(tensor.shape) for name, tensor in stored.items()})


def check(adapter, name):
    expected = load_file(OUT / "expected.safetensors")[name]
    model = PeftModel.from_pretrained(base(), adapter).eval()
    difference = float((logits(model) - expected).abs().max())
    print(f"{adapter}: {difference:.1e} from {name}")
    sys.exit(difference > 1e-4)


if __name__ == "__main__":
    check(*sys.argv[2:]) if sys.argv[1:2] == ["check"] else make()
