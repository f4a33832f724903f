"""Trains the demo model that ships inside glimmer: a small bilingual GLM (GlmForCausalLM, GLM-4's chat format).

    python -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.23.0 tokenizers==0.23.3 safetensors==0.8.0
    venv/bin/python tools/demo/train.py OUT_DIR

Python 3.11, CPU only, two cores, no network. OUT_DIR gets the Hugging Face layout; run again to resume. See README.md.
"""

import os
import sys

# glibc gives large blocks back to the system at once, and a step takes the same ones again: keeping them, in large pages,
# saves a tenth of the time. It reads this when a process starts.
KEEP = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184:glibc.malloc.top_pad=268435456"
if __name__ == "__main__" and "GLIBC_TUNABLES" not in os.environ:
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "GLIBC_TUNABLES": KEEP})

import argparse
import json
import math
import random
import re
import resource
import shutil
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GlmConfig, GlmForCausalLM

import prompt
from evaluate import Transformers, acceptance
from text import Conversation, held_out

HERE = Path(__file__).parent
SEED = 20250
VOCABULARY = 3328
LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD, FEED_FORWARD = 4, 256, 4, 2, 64, 768
CONTEXT = 2048
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
POOL = 512  # conversations
BATCH = 3072  # tokens of a step, padding included
TOKENS, FALLING = 10e6, 0.65  # before it is first asked the acceptance conversations, and the share while the rate falls
ROUND, ROUND_RATE, ROUNDS = 0.4e6, 0.3, 9  # tokens of one more fall if it misses a turn, from which rate, how many at most
ENDS = 5  # of falls, the mean of whose weights is asked and written
COPYING, LONG = 1.2e6, 3e6  # until the one, much copying; from the other on, long conversations too


def make_tokenizer():
    """Byte-level BPE on our own text. Digits stay single, so that sums are done digit by digit."""
    rng = random.Random(SEED)
    texts = []
    for _ in range(6000):
        for text, _ in prompt.segments(Conversation(rng, rng.randint(1, 6)).messages):
            if text not in prompt.SPECIAL:
                texts.append(re.sub(r"\d", "\n", text))
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(prompt.SPECIAL), min_frequency=3, max_token_length=12, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in prompt.SPECIAL])
    prefix = [(name, tokenizer.token_to_id(name)) for name in ("[gMASK]", "<sop>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[gMASK] <sop> $A", pair="[gMASK] <sop> $A $B:1", special_tokens=prefix
    )
    return tokenizer


def write_layout(out, tokenizer, model=None):
    """The Hugging Face layout."""
    tokenizer.save(str(out / "tokenizer.json"))
    special = {name: tokenizer.token_to_id(name) for name in prompt.SPECIAL}
    added = {str(id): {"content": name, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True} for name, id in special.items()}
    settings = {
        "added_tokens_decoder": added, "additional_special_tokens": prompt.SPECIAL, "clean_up_tokenization_spaces": False,
        "do_lower_case": False, "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "model_max_length": CONTEXT,
        "padding_side": "left", "remove_space": False, "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
    shutil.copy(HERE / "chat_template.jinja", out / "chat_template.jinja")
    if model is not None:
        model.save_pretrained(out)


def make_model(tokenizer):
    id = tokenizer.token_to_id
    stops = [id("<|endoftext|>"), id("<|user|>"), id("<|observation|>")]
    config = GlmConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=HIDDEN, intermediate_size=FEED_FORWARD, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=HEAD, attention_bias=False, rms_norm_eps=1e-5,
        max_position_embeddings=CONTEXT, tie_word_embeddings=True, eos_token_id=stops, pad_token_id=stops[0], bos_token_id=None,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    )
    torch.manual_seed(SEED)
    model = GlmForCausalLM(config)
    model.generation_config.eos_token_id = stops
    model.generation_config.pad_token_id = stops[0]
    model.generation_config.do_sample = False
    return model


class Muon(torch.optim.Optimizer):
    """Momentum whose step is made orthogonal by five rounds of Newton-Schulz (Jordan and others, 2024, with Nesterov's
    look ahead). As torch.optim.Muon, but matrices of one shape together and in float32: half its time on a CPU."""

    def __init__(self, matrices, lr, momentum=0.95, weight_decay=0.05):
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = {}
            for p in group["params"]:
                shapes.setdefault(p.shape, []).append(p)
            for shape, matrices in shapes.items():
                updates = []
                for p in matrices:
                    momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    momentum.lerp_(p.grad, 1 - group["momentum"])
                    updates.append(p.grad.lerp(momentum, group["momentum"]))
                rate = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                for p, update in zip(matrices, orthogonal(torch.stack(updates))):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=rate)


def orthogonal(x):
    """About U V^T of the singular value decomposition U S V^T of each matrix of x [count, rows, columns].

    The rounds x <- p(x x^T) x multiply x by polynomials of its Gram matrix alone: they are gathered in that small matrix."""
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    gram, product = x @ x.mT, None
    for last in (False, False, False, False, True):
        step = 2.0315 * gram @ gram - 4.775 * gram
        step.diagonal(dim1=1, dim2=2).add_(3.4445)
        product = step if product is None else product @ step
        if not last:
            gram = step @ gram @ step
    x = product @ x
    return x.mT if tall else x


class Batches:
    """Endless fresh conversations, of which a pool is sorted by length and cut, so that little is padding."""

    def __init__(self, encoder, seed):
        self.encoder, self.rng, self.forbidden = encoder, random.Random(seed), held_out()
        self.pool, self.cut = [], []

    def draw(self, long_share, **kinds):
        """(ids [rows, length], marks of learnt tokens), both padded at the right."""
        if not self.cut:
            self.fill(long_share, kinds)
        rows = self.cut.pop()
        x = torch.zeros((len(rows), max(len(ids) for ids, _ in rows)), dtype=torch.long)
        marks = torch.zeros_like(x, dtype=torch.bool)
        for row, (ids, learnt) in enumerate(rows):
            x[row, : len(ids)] = torch.tensor(ids)
            marks[row, : len(ids)] = torch.tensor(learnt)
        return x, marks

    def fill(self, long_share, kinds):
        while len(self.pool) < POOL:
            turns = self.rng.randint(12, 55) if self.rng.random() < long_share else self.rng.choice((1, 2, 2, 3, 3, 4, 5, 6))
            ids, learnt = prompt.conversation(self.encoder, self.rng, turns, self.forbidden, **kinds)
            self.pool.append((ids[:CONTEXT], learnt[:CONTEXT]))
        self.pool.sort(key=lambda drawn: len(drawn[0]))
        # The longest first. What does not fill a batch waits for the next pool.
        while self.pool and (rows := BATCH // len(self.pool[-1][0])) <= len(self.pool):
            self.cut.append(self.pool[-rows:])
            del self.pool[-rows:]
        self.rng.shuffle(self.cut)


class Norm(torch.autograd.Function):
    """RMS norm of x [rows, length, hidden], the gradient written out: half the time of the recorded steps."""

    @staticmethod
    def forward(context, x, weight, eps):
        scale = x.pow(2).mean(-1, keepdim=True).add_(eps).rsqrt_()
        unit = x * scale
        context.save_for_backward(unit, scale, weight)
        return unit * weight

    @staticmethod
    def backward(context, grad):
        unit, scale, weight = context.saved_tensors
        along = grad * unit
        of_weight = along.sum(tuple(range(along.dim() - 1)))
        along = (along @ weight)[..., None] / len(weight)
        return (grad * weight).addcmul_(unit, along, value=-1).mul_(scale), of_weight, None


def norm(module, x):
    return Norm.apply(x, module.weight, module.variance_epsilon)


def rotation_of(model, length):
    """cos + i sin of every position and pair of a head, [length, 1, HEAD / 2]: 1 for the pairs that are not rotated."""
    rotated = model.model.rotary_emb.inv_freq
    angles = torch.outer(torch.arange(length), F.pad(rotated, (0, HEAD // 2 - len(rotated))))
    return torch.polar(torch.ones_like(angles), angles)[:, None]


def attention(block, x, rotation):
    """GlmAttention of x [rows, length, hidden]; GLM rotates neighbours, which are complex numbers as they lie."""
    rows, length, _ = x.shape
    heads = [project(x).view(rows, length, -1, HEAD) for project in (block.q_proj, block.k_proj, block.v_proj)]
    query, key = (torch.view_as_real(torch.view_as_complex(h.unflatten(-1, (-1, 2))) * rotation).flatten(-2) for h in heads[:2])
    query, key, value = (h.transpose(1, 2) for h in (query, key, heads[2]))
    mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    return block.o_proj(mixed.transpose(1, 2).flatten(2))


def loss_of(model, x, marks):
    """Mean cross-entropy over learnt tokens, which alone go on from the last attention. Padding lies at the right, where
    a causal model does not see it. GlmForCausalLM's own forward gives the same in a twentieth more time."""
    body, marks = model.model, marks[:, 1:]
    hidden = body.embed_tokens(x[:, :-1])
    rotation = rotation_of(model, hidden.shape[1])
    for layer in body.layers:
        hidden = hidden + attention(layer.self_attn, norm(layer.input_layernorm, hidden), rotation)
        if layer is body.layers[-1]:
            hidden = hidden[marks]
        hidden = hidden + layer.mlp(norm(layer.post_attention_layernorm, hidden))
    return F.cross_entropy(model.lm_head(norm(body.norm, hidden)), x[:, 1:][marks])


@torch.no_grad()
def exact_answers(model, encoder, count, seed):
    """Share of answers all of whose tokens are the likeliest: with them before, so it is what greedy decoding says."""
    rng, right, total = random.Random(seed), 0, 0
    for _ in range(count):
        ids, learnt = prompt.conversation(encoder, rng, rng.randint(1, 8), held_out())
        x = torch.tensor([ids[:CONTEXT]])
        hit = model(input_ids=x, use_cache=False).logits[0, :-1].argmax(-1) == x[0, 1:]
        good, inside = True, False
        for mark, ok in zip(learnt[1:CONTEXT], hit.tolist()):
            if mark:
                good, inside = good and ok, True
            elif inside:
                right, total, good, inside = right + good, total + 1, True, False
        if inside:
            right, total = right + good, total + 1
    return right / max(total, 1)


def rate_at(tokens, step, first):
    """A short rise, a plateau, then down to nothing after `first` tokens: in the fall sums and copied names, known roughly,
    become exact. Every round after that is one more, smaller fall, whose end is another good model to take the mean of."""
    if tokens < first:
        return min(1.0, (step + 1) / 60, (1 - tokens / first) / FALLING + 0.002)
    return ROUND_RATE * (1 - (tokens - first) % ROUND / ROUND) + 0.002


def missed(out):
    """Turns of the acceptance conversations that the model written to `out` does not answer as wanted."""
    model = Transformers(out)
    scores = [acceptance(model, HERE / name, verbose=False) for name in ("acceptance.jsonl", "acceptance_tools.jsonl")]
    return sum(total - right for right, total in scores)


def used_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokens", type=float, default=TOKENS, help="as many before the first check")
    parser.add_argument("--rate", type=float, default=0.02, help="peak learning rate of Muon")
    parser.add_argument("--adam-rate", type=float, default=3e-3, help="peak learning rate of AdamW")
    parser.add_argument("--optimizer", choices=("muon", "adamw"), default="muon")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    # What attention gives to a far token soon is too small for a normal number, and a processor is slow with such: without
    # this a long conversation takes three times as long. Threads inherit it, so it comes first.
    torch.set_flush_denormal(True)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path)) if path.exists() else make_tokenizer()
    model = make_model(tokenizer)
    write_layout(args.out, tokenizer)
    encoder = prompt.Encoder(tokenizer)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {tokenizer.get_vocab_size()} tokens", flush=True)

    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    if args.optimizer == "muon":
        # Muon for the matrices of the layers: it needs about half as many tokens as AdamW alone.
        optimizers = [Muon(matrices, lr=args.rate),
                      torch.optim.AdamW(others, lr=args.adam_rate, betas=(0.9, 0.95), weight_decay=0.0)]
    else:
        optimizers = [torch.optim.AdamW(matrices + others, lr=args.adam_rate, betas=(0.9, 0.95), weight_decay=0.05)]
    peaks = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    # Weights at the ends of the last falls: their mean answers more exactly than any of them.
    ends, average = [], make_model(tokenizer)
    step = tokens = learnt = rounds = 0
    spent, wall = 0.0, 0.0
    saved = args.out / "resume.pt"
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, kept in zip(optimizers, state["optimizers"]):
            optimizer.load_state_dict(kept)
        ends = state["ends"]
        step, tokens, learnt, rounds, spent, wall = state["at"]
        print(f"resumed at step {step}", flush=True)
    batches = Batches(encoder, SEED + 1 + step)
    start, start_wall, saved_at, shown, mean = used_seconds() - spent, time.time() - wall, time.time(), tokens, math.nan
    while True:
        if tokens >= args.tokens + rounds * ROUND:
            ends = [*ends, {name: weight.clone() for name, weight in model.state_dict().items()}][-ENDS:]
            average.load_state_dict({name: sum(end[name] for end in ends) / len(ends) for name in ends[0]})
            write_layout(args.out, tokenizer, average)
            turns = missed(args.out)
            print(f"  {turns} turns of acceptance missed after {tokens:,} tokens", flush=True)
            if turns == 0 or rounds == ROUNDS:
                break
            rounds += 1
        rate = rate_at(tokens, step, args.tokens)
        for group, peak in zip((g for o in optimizers for g in o.param_groups), peaks):
            group["lr"] = peak * rate
        x, marks = batches.draw(0.0 if tokens < LONG else 0.1, **({"echo": 100} if tokens < COPYING else {}))
        loss = loss_of(model, x, marks)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step, tokens, learnt = step + 1, tokens + x.numel(), learnt + int(marks.sum())
        mean = loss.item() if math.isnan(mean) else 0.96 * mean + 0.04 * loss.item()
        if step % 25 == 0:
            print(f"step {step} tokens {tokens / 1e6:.2f}M learnt {learnt / 1e6:.2f}M loss {mean:.4f} cpu {used_seconds() - start:.0f}s wall {time.time() - start_wall:.0f}s", flush=True)
        if tokens - shown > args.tokens / 5:
            shown = tokens
            print(f"  exact answers {exact_answers(model, encoder, 60, 7):.3f}", flush=True)
        if time.time() - saved_at > 240:
            state = {
                "model": model.state_dict(), "ends": ends, "optimizers": [o.state_dict() for o in optimizers],
                "at": (step, tokens, learnt, rounds, used_seconds() - start, time.time() - start_wall),
            }
            torch.save(state, saved.with_suffix(".new"))
            saved.with_suffix(".new").replace(saved)
            saved_at = time.time()
    print(f"done: loss {mean:.4f}, exact answers {exact_answers(average, encoder, 300, 8):.4f}, {tokens:,} tokens, {used_seconds() - start:.0f} CPU seconds, {time.time() - start_wall:.0f} seconds", flush=True)
    if turns:
        sys.exit(f"{turns} turns of acceptance are still missed: not a model to ship")


if __name__ == "__main__":
    main()
