"""Writes crates/train/tests/data/traces: a tiny GlmForCausalLM and what 30 steps of training make of adapters for it.

    pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2
    python tools/make_training_traces.py

LoRA, rsLoRA and DoRA are PEFT's own. The prefix is P-Tuning v2 as ChatGLM-6B's `modeling_chatglm.py` computes it
(`PrefixEncoder` with `prefix_projection`, `get_prompt`): keys and values of every layer, two after each other, of an embedding
that goes through two linear layers with a tanh between; positions of the tokens count from 0. Everything is computed in
float64 of the stored values, clipped to a norm of 1, and optimized by torch's AdamW.
"""

import json
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import DynamicCache, GlmConfig, GlmForCausalLM

OUT = Path(__file__).parent.parent / "crates/train/tests/data/traces"
STEPS, ROWS, TOKENS, SLOTS, MIDDLE = 30, 2, 12, 5, 24
CONFIG = dict(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8, intermediate_size=48,
    vocab_size=64, partial_rotary_factor=0.5, attention_bias=True, rms_norm_eps=1e-5, rope_theta=10000.0,
    tie_word_embeddings=False, pad_token_id=0, eos_token_id=[1], max_position_embeddings=128,
)
LORAS = {
    "lora": dict(lora_alpha=8, target_modules=["q_proj", "v_proj", "gate_up_proj", "down_proj"]),
    "rslora": dict(lora_alpha=4, use_rslora=True, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]),
    "dora": dict(lora_alpha=8, use_dora=True, target_modules=["q_proj", "v_proj", "o_proj", "gate_up_proj"]),
}


def base():
    """The model, with weights that bfloat16 holds exactly."""
    torch.manual_seed(26)
    model = GlmForCausalLM(GlmConfig(**CONFIG, attn_implementation="eager"))
    for name, parameter in model.named_parameters():
        spread = 0.3 if parameter.ndim > 1 else 0.1
        shift = 1.0 if "norm" in name else 0.0
        parameter.data = (torch.randn_like(parameter) * spread + shift).bfloat16().float()
    return model


def batches():
    """Ids and labels `[STEPS, ROWS, TOKENS]`: a few tokens at the beginning of each row are no labels."""
    torch.manual_seed(27)
    ids = torch.randint(2, CONFIG["vocab_size"], (STEPS, ROWS, TOKENS))
    labels = ids.clone()
    for step in range(STEPS):
        for row in range(ROWS):
            labels[step, row, : 2 + (step + 3 * row) % 5] = -100
    return ids, labels


def train(parameters, logits_of, ids, labels):
    """The loss and the gradient's norm of each step."""
    optimizer = torch.optim.AdamW([p for p in parameters.values()], lr=2e-3, weight_decay=0.01)
    losses, norms = [], []
    for step in range(STEPS):
        optimizer.zero_grad()
        logits = logits_of(ids[step])[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[step][:, 1:].flatten(), ignore_index=-100)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0).item())
        losses.append(loss.item())
        optimizer.step()
    return losses, norms


def store(name, parameters, logits_of, ids, labels):
    def named(kind):
        return {f"{kind}.{key}": value.detach().float().clone().contiguous() for key, value in parameters.items()}

    tensors = named("before")
    losses, norms = train(parameters, logits_of, ids, labels)
    tensors |= named("after") | {"losses": torch.tensor(losses), "norms": torch.tensor(norms)}
    save_file(tensors, OUT / f"{name}.safetensors")
    print(f"{name}: loss {losses[0]:.4f} -> {losses[-1]:.4f}")


def exact(parameter):
    """Values that are stored without loss."""
    parameter.data = parameter.data.float().double()


def lora(name, ids, labels):
    torch.manual_seed(28)
    model = get_peft_model(base().double(), LoraConfig(r=4, task_type="CAUSAL_LM", **LORAS[name]), autocast_adapter_dtype=False)
    parameters = {}
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            exact(parameter)
            key = key.replace(".default", "").replace("magnitude_vector.weight", "magnitude_vector")
            parameters[key] = parameter
    store(name, parameters, lambda batch: model(batch).logits, ids, labels)


def prefix(ids, labels):
    torch.manual_seed(29)
    model = base().double().requires_grad_(False)
    layers, heads, dim = (CONFIG[key] for key in ["num_hidden_layers", "num_key_value_heads", "head_dim"])
    width = layers * 2 * heads * dim
    embedding = torch.nn.Embedding(SLOTS, CONFIG["hidden_size"]).double()
    trans = torch.nn.Sequential(torch.nn.Linear(CONFIG["hidden_size"], MIDDLE), torch.nn.Tanh(), torch.nn.Linear(MIDDLE, width)).double()
    parameters = {"embedding.weight": embedding.weight} | {f"trans.{key}": value for key, value in trans.named_parameters()}
    for parameter in parameters.values():
        exact(parameter)

    def logits_of(batch):
        keys_values = trans(embedding(torch.arange(SLOTS))).view(SLOTS, layers * 2, heads, dim)
        keys_values = keys_values.permute(1, 2, 0, 3).unsqueeze(1).expand(-1, len(batch), -1, -1, -1)
        cache = DynamicCache(config=model.config)
        for layer in range(layers):
            cache.update(keys_values[2 * layer], keys_values[2 * layer + 1], layer)
        mask = torch.ones(len(batch), SLOTS + TOKENS, dtype=torch.long)
        positions = torch.arange(TOKENS).expand(len(batch), -1)
        return model(batch, past_key_values=cache, attention_mask=mask, position_ids=positions).logits

    parameters = {f"transformer.prefix_encoder.{key}": value for key, value in parameters.items()}
    store("prefix", parameters, logits_of, ids, labels)


def main():
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    model = base()
    (OUT / "config.json").write_text(json.dumps({"architectures": ["GlmForCausalLM"], "model_type": "glm", "hidden_act": "silu", "attention_dropout": 0.0, "torch_dtype": "bfloat16", **CONFIG}, indent=1) + "\n")
    save_file({key: value.bfloat16().contiguous() for key, value in model.state_dict().items()}, OUT / "model.safetensors", {"format": "pt"})
    ids, labels = batches()
    save_file({"input_ids": ids, "labels": labels}, OUT / "batches.safetensors")
    for name in LORAS:
        lora(name, ids, labels)
    prefix(ids, labels)


if __name__ == "__main__":
    main()
