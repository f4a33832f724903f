#!/usr/bin/env bash
# peft 0.21.2 (transformers 5.23.0): add_weighted_adapter over adapters of a GLM that are rsLoRA or DoRA makes another thing than
# their sum, and says nothing. The new adapter keeps the first one's settings while its numbers are made for plain LoRA:
# - rsLoRA: alpha is set to the rank, which plain LoRA divides to 1, and use_rslora stays, so the sum is scaled by the rank's root;
# - DoRA: low-rank pairs are combined and magnitudes left out; its magnitude is that of the base weights.
# So two adapters with the weights 1 and 0 do not give the first one, by `linear`, `cat` and `svd` alike: their logits are as far
# off as the base model's are, or farther. Without either flag the same call gives the first adapter.
#
# Expected before: the first adapter, or an error. Whoever combines such adapters must merge them into weights one by one.
# Downloads PyTorch as PyPI has it (some GB).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-cache-dir peft==0.21.2 transformers==5.23.0
"$folder/venv/bin/python" - <<'P'
import math

import torch
from peft import LoraConfig, get_peft_model
from transformers import GlmConfig, GlmForCausalLM

config = GlmConfig(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=1, head_dim=16, pad_token_id=0, bos_token_id=2, eos_token_id=1,
)
ids = torch.arange(3, 20)[None]
for flag in [None, "use_rslora", "use_dora"]:
    torch.manual_seed(1)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], **({flag: True} if flag else {}))
    model = get_peft_model(GlmForCausalLM(config).eval(), lora, adapter_name="first")
    model.add_adapter("second", lora)
    for name, value in model.named_parameters():
        if "lora_" in name:
            value.data += 0.3 * torch.randn_like(value)
    with torch.no_grad():
        model.set_adapter("first")
        first = model(ids).logits
        with model.disable_adapter():
            base = (model(ids).logits - first).abs().max().item()
        for kind in ["linear", "cat", "svd"]:
            model.add_weighted_adapter(["first", "second"], [1.0, 0.0], kind, combination_type=kind)
            model.set_adapter(kind)
            off = (model(ids).logits - first).abs().max().item()
            layer = model.base_model.model.model.layers[0].self_attn.q_proj
            print(f"{flag}, {kind}: {off:.6f} from the first, as the base model is by {base:.6f}; scaling {layer.scaling[kind]:.3f}")
            if flag is None:
                assert off < 1e-5 and layer.scaling[kind] == 1.0, "it has changed"
                continue
            assert off > base / 2, "it has changed"
            if flag == "use_rslora":
                assert math.isclose(layer.scaling[kind], math.sqrt(layer.r[kind])), "it has changed"
            else:
                magnitude = layer.lora_magnitude_vector[kind].weight
                assert torch.allclose(magnitude, layer.base_layer.weight.norm(dim=1), rtol=1e-3), "it has changed"
P
