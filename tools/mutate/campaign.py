#!/usr/bin/env python3
"""Feeds `glimmer` thousands of broken inputs and reports every one that it does not refuse as it should.

    python3 tools/mutate/campaign.py GLIMMER [--seed N] [--inputs N] [--only KIND[/NUMBER]] [--keep DIR] [--jobs N]

GLIMMER is the binary. Python 3.11, nothing beside it. README.md says what is tried and what counts as a fault.
"""

import argparse
import collections
import hashlib
import json
import multiprocessing
import os
import pathlib
import random
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field

import checkpoints
import json_text
import judge
import large
import seeds as sound
import texts

CONFIG_KEYS = {
    "architectures", "model_type", "hidden_size", "num_layers", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "multi_query_group_num", "kv_channels", "head_dim", "ffn_hidden_size", "intermediate_size", "inner_hidden_size", "vocab_size",
    "padded_vocab_size", "seq_length", "max_sequence_length", "max_position_embeddings", "rope_ratio", "rope_theta", "rope_parameters",
    "rope_scaling", "partial_rotary_factor", "layernorm_epsilon", "rms_norm_eps", "layer_norm_eps", "eos_token_id", "bos_token_id",
    "gmask_token_id", "mask_token_id", "pad_token_id", "quantization_bit", "attention_bias", "add_qkv_bias", "add_bias_linear", "hidden_act",
    "tie_word_embeddings", "position_encoding_2d", "torch_dtype", "dtype", "pre_seq_len", "type_vocab_size", "post_layer_norm", "rmsnorm",
}
CONVERT_TYPES = [None, None, "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M", "Q6_K"]
TEXT = "Hello, \u4f60\u597d <|user|> 123"


@dataclass
class Case:
    """A folder to be written, and the commands that meet it."""

    files: dict
    commands: list
    # A path that something that is no ordinary file is put at, and the random choices for it.
    place: str = ""
    rng: object = None
    sound: bool = False


@dataclass
class Result:
    name: str
    digest: str
    runs: int = 0
    accepted: int = 0
    cpu: float = 0.0
    memory: int = 0
    faults: list = field(default_factory=list)


class Commands:
    """The commands for a model; `@` stands for the case's folder."""

    def __init__(self, rng, seed):
        self.rng, self.seed = rng, seed
        self.model = f"@/model/{seed.model}".rstrip("/")
        self.found = []

    def often(self, share):
        return self.rng.random() < share

    def add(self, *verbs):
        for verb in verbs:
            getattr(self, verb)()
        return self.found

    def inspect(self):
        self.found.append(["inspect", self.model, *(["--json"] if self.often(0.3) else [])])

    def run(self):
        prompt = ["hi"] if self.seed.text and self.often(0.8) else ["--ids", self.seed.ids]
        extra = ["--print-ids"] if not self.seed.text else self.rng.choice([[], ["--print-ids"], ["--json", "--logprobs", "2"], ["--ctx", "max"], ["--kv-type", "q8_0"], ["--compute", "f32"]])
        # Without --quiet a model's reasoning would be on standard error, where a random model says anything.
        self.found.append(["run", self.model, *prompt, "--quiet", "--threads", "1", "--max-tokens", "2", "--seed", "1", *extra])

    def tokenize(self):
        extra = self.rng.choice([[], ["--json"], ["--parse-special"], ["--add-special", "--json"]])
        self.found.append(["tokenize", self.model, TEXT, *extra])

    def template(self):
        self.found.append(["template", self.model, "@/conversation.json", *(["--json"] if self.often(0.7) else [])])

    def tools(self):
        self.found.append(["template", self.model, "@/plain.json", "--tools", "@/tools.json", "--json"])
        self.found.append(["run", self.model, "hi", "--tools", "@/tools.json", "--ctx", "2048", "--quiet", "--threads", "1", "--max-tokens", "2", "--seed", "1"])

    def convert(self):
        out = self.rng.choice(["@/out/model.gguf", "@/out/model.gguf", "@/out/folder"])
        kind = self.rng.choice(CONVERT_TYPES if out.endswith(".gguf") else CONVERT_TYPES[:5])
        self.found.append(["convert", self.model, out, "--threads", "1", *(["--type", kind] if kind else [])])
        self.found.append(["inspect", out])
        if self.seed.text and self.often(0.3):
            self.found.append(["tokenize", out, TEXT])

    def serve(self):
        self.found.append(["serve", self.model, "--port", "0", "--threads", "1"])

    def sometimes_serve(self):
        if self.often(0.25):
            self.serve()

    def serve_keys(self):
        self.found.append(["serve", self.model, "--port", "0", "--threads", "1", "--api-keys", "@/keys.txt"])

    def batch(self):
        self.found.append(["batch", "@/requests.jsonl", "--output", "@/answers.jsonl", "--model", self.model, "--any-model", "--ctx", "2048",
                           "--threads", "1"])

    def texts(self):
        self.found.append(["tokenize", self.model, "@/texts.jsonl", "--jsonl", *(["--parse-special"] if self.often(0.3) else [])])

    def embed(self):
        self.found.append(["batch", "@/embeddings.jsonl", "--output", "@/vectors.jsonl", "--model", "demo", "--embedding-model", self.model,
                           "--threads", "1"])

    def serve_encoder(self):
        if self.often(0.3):
            self.found.append(["serve", "demo", "--embedding-model", self.model, "--port", "0", "--threads", "1"])


# What stands beside every model, for the commands that read it.
BESIDE = {
    "conversation.json": json.dumps(sound.MESSAGES).encode(),
    "plain.json": json.dumps({"messages": sound.MESSAGES["messages"]}).encode(),
    "tools.json": json.dumps(sound.MESSAGES["tools"]).encode(),
    "requests.jsonl": sound.json_lines(sound.REQUESTS),
    "texts.jsonl": sound.json_lines(sound.TEXTS),
    "embeddings.jsonl": sound.json_lines([{"custom_id": "e", "method": "POST", "url": "/v1/embeddings",
                                           "body": {"model": "model", "input": ["a text", "\u6587\u672c"]}}]),
    "keys.txt": sound.KEYS,
}


def json_with(keys):
    return lambda rng, data: json_text.text(rng, data, keys)


@dataclass
class Kind:
    """`target` matches the file of a model, or of BESIDE, that is mutated; `share` is its part of all inputs."""

    target: object
    mutate: object
    verbs: tuple
    share: int
    wanted: object = lambda seed: True


def ends(*suffixes):
    return lambda name: name.endswith(suffixes) and not name.endswith("index.json")


TOKENIZING = ("inspect", "run", "tokenize", "template", "convert", "sometimes_serve")
KINDS = {
    "safetensors": Kind(ends(".safetensors"), checkpoints.safetensors, ("inspect", "run", "convert", "sometimes_serve"), 12,
                        lambda seed: not seed.encoder),
    "pickle": Kind(ends(".bin"), checkpoints.pickle, ("inspect", "run", "convert", "sometimes_serve"), 12, lambda seed: not seed.encoder),
    "gguf": Kind(ends(".gguf"), checkpoints.gguf, TOKENIZING, 14),
    "index": Kind(lambda name: name.endswith("index.json"), json_with(None), ("inspect", "run", "convert"), 4),
    "config": Kind(lambda name: name == "config.json", json_with(CONFIG_KEYS), ("inspect", "run", "convert", "sometimes_serve"), 14,
                   lambda seed: not seed.encoder),
    "generation-config": Kind(lambda name: name == "generation_config.json", json_with(None),
                              ("inspect", "run", "convert", "sometimes_serve"), 4),
    "tokenizer-config": Kind(lambda name: name in ("tokenizer_config.json", "special_tokens_map.json"), json_with(None), TOKENIZING, 5),
    "encoder": Kind(lambda name: name.endswith(".json"), json_with(None), ("inspect", "tokenize", "embed", "serve_encoder"), 5,
                    lambda seed: seed.encoder),
    "encoder-weights": Kind(ends(".bin"), checkpoints.pickle, ("inspect", "embed", "serve_encoder"), 3, lambda seed: seed.encoder),
    "tokenizer-json": Kind(lambda name: name == "tokenizer.json",
                           json_with({"normalizer", "pre_tokenizer", "post_processor", "decoder", "added_tokens", "truncation", "padding", "model"}),
                           TOKENIZING, 9),
    "sentencepiece": Kind(lambda name: name.endswith(".model"), texts.sentencepiece, TOKENIZING, 8, lambda seed: "chatglm" in seed.name),
    "tiktoken": Kind(lambda name: name == "tokenizer.model", texts.tiktoken, TOKENIZING, 5, lambda seed: "glm4" in seed.name),
    "wordpiece": Kind(lambda name: name == "vocab.txt", texts.wordpiece, ("tokenize", "embed", "serve_encoder"), 4),
    "chat-template": Kind(lambda name: name == "chat_template.jinja", texts.template, ("template", "run", "inspect", "sometimes_serve"), 10,
                          lambda seed: seed.text),
    "conversation": Kind(lambda name: name == "conversation.json", json_with(None), ("template",), 10, lambda seed: seed.tools),
    "tools": Kind(lambda name: name == "tools.json", json_with(None), ("tools",), 4, lambda seed: seed.tools),
    "texts": Kind(lambda name: name == "texts.jsonl", texts.json_lines, ("texts",), 4, lambda seed: seed.text or seed.encoder),
    "api-keys": Kind(lambda name: name == "keys.txt", texts.keys, ("serve_keys",), 4, lambda seed: seed.name == "lm-eval"),
    "batch": Kind(lambda name: name == "requests.jsonl", texts.json_lines, ("batch",), 8, lambda seed: seed.name == "lm-eval"),
    "no-file": Kind(None, None, (), 6),
    "large": Kind(None, None, (), 0),
}


class Campaign:
    def __init__(self, glimmer, seed, work, keep=None, scale=1.0, models=None):
        self.glimmer, self.seed, self.work, self.keep, self.scale = glimmer, seed, pathlib.Path(work), keep, scale
        if models is None:
            (self.work / "seeds").mkdir()
            models = sound.make(glimmer, self.work / "seeds")
        self.models, self.templates = models, sound.templates()

    def inputs(self, total):
        """(kind, number) of `total` inputs, each kind with its share, kinds mixed."""
        shares = sum(kind.share for kind in KINDS.values())
        every = [("large", number) for number in range(len(large.LARGE))]
        every += [(name, number) for name, kind in KINDS.items() for number in range(round(total * kind.share / shares))]
        random.Random(self.seed).shuffle(every)
        return every

    def case(self, name, number):
        """The input of this name: the same for the same seed of the campaign, whatever else is run."""
        rng = random.Random(f"{self.seed}/{name}/{number}")
        if name == "sound":
            model = self.models[number]
            verbs = ("tokenize", "embed", "serve_encoder") if model.encoder else ("inspect", "run", "convert")
            verbs += ("serve", "tokenize", "texts") if model.text else ()
            verbs += ("template", "tools", "batch") if model.tools else ()
            return Case(self.folder(model), Commands(rng, model).add(*verbs), sound=model.sound)
        if name == "large":
            model, change, verbs = large.LARGE[number]
            model = next(one for one in self.models if one.name == model)
            files = self.folder(model)
            change(files)
            return Case(files, Commands(rng, model).add(*verbs))
        if name == "no-file":
            return self.no_file(rng, number)
        kind = KINDS[name]
        fitting = [model for model in self.models if kind.wanted(model) and
                   (name == "chat-template" or self.targets(kind, self.folder(model)))]
        model = fitting[number % len(fitting)]
        files = self.folder(model)
        if name == "chat-template":
            self.put_template(rng, model, files)
        else:
            target = rng.choice(self.targets(kind, files))
            files[target] = kind.mutate(rng, files[target])
        if name == "batch" and rng.random() < 0.2:
            answer = {"id": "x", "custom_id": "a", "response": {"status_code": 200, "request_id": "y", "body": {}}, "error": None}
            files["answers.jsonl"] = texts.json_lines(rng, sound.json_lines([answer]))
        return Case(files, Commands(rng, model).add(*kind.verbs))

    def targets(self, kind, files):
        return [path for path in files if kind.target(path.removeprefix("model/"))]

    def folder(self, model):
        return {f"model/{name}": content for name, content in model.files.items()} | BESIDE

    def put_template(self, rng, model, files):
        """A mutated template, as a file of its own, in tokenizer_config.json or in a GGUF's keys."""
        source = texts.template(rng, rng.choice(self.templates))
        config = "model/tokenizer_config.json"
        if model.model:
            gguf = checkpoints.Gguf(model.files[model.model])
            first, end = gguf.keys[-1]
            key = checkpoints.string(b"tokenizer.chat_template") + (8).to_bytes(4, "little") + checkpoints.string(source)
            gguf.spans[end - 1] = ("added", gguf.spans[end - 1][1] + key)
            checkpoints.recount(gguf.spans, 3, 1)
            files[f"model/{model.model}"] = gguf.bytes()
        elif config in files and rng.random() < 0.4:
            tree = json.loads(files[config])
            text = source.decode("utf-8", "replace")
            tree["chat_template"] = rng.choice([text, [{"name": "default", "template": text}, {"name": "tool_use", "template": text}]])
            files[config] = json.dumps(tree).encode()
        else:
            files["model/chat_template.jinja"] = source

    def no_file(self, rng, number):
        """Something that is no file, or no such file, where one is expected."""
        model = self.models[number % len(self.models)]
        files = self.folder(model)
        beside = {"conversation.json": "template", "tools.json": "tools", "requests.jsonl": "batch", "texts.jsonl": "texts", "keys.txt": "serve_keys"}
        place = rng.choice(list(beside)) if rng.random() < 0.25 else rng.choice([name for name in files if name.startswith("model/")])
        extra = ["chat_template.jinja", "tokenizer.json", "tokenizer.model", "generation_config.json", "model.safetensors.index.json", "config.json"]
        if not model.model and rng.random() < 0.2:
            place = f"model/{rng.choice(extra)}"
        commands = Commands(rng, model)
        if place in beside:
            commands.add(beside[place])
        elif model.encoder:
            commands.add("inspect", "tokenize", "embed", "serve_encoder")
        else:
            commands.add(*TOKENIZING)
        return Case(files, commands.found, place, rng)

    def run(self, name, number):
        """Writes an input, has every command meet it and judges them."""
        case = self.case(name, number)
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-{number}-", dir=self.work))
        try:
            return self.run_in(folder, case, f"{name}/{number}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def run_in(self, folder, case, name):
        digest = hashlib.sha256()
        for path, content in case.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
            digest.update(path.encode() + b"\0" + hashlib.sha256(content).digest())
        (folder / "out").mkdir()
        if case.place:
            what = texts.put_file(case.rng, folder / case.place, case.files.get(case.place, b""))
            digest.update(f"{case.place} {what}".encode())
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        result = Result(name, digest.hexdigest())
        written = True
        for command in case.commands:
            arguments = [argument.replace("@", str(folder), 1) for argument in command]
            of_output = command[1].startswith("@/out/")
            if of_output and not written:
                continue
            until = {"serve": b" ready "}.get(command[0])
            outcome = judge.execute([self.glimmer, *arguments], folder=folder, scale=self.scale, until=until)
            ours = command[0] == "inspect" and "--json" not in command
            judge.judge(outcome, input_bytes=size, scale=self.scale, stdout_is_ours=ours)
            succeeded = outcome.status == 0 and not outcome.signal
            if command[0] == "convert":
                written = succeeded
                if not written and any((folder / "out").iterdir()):
                    outcome.faults.append("leftovers")
            if of_output and command[0] == "inspect" and not succeeded:
                outcome.faults.append("unreadable output")
            if case.sound and not succeeded:
                outcome.faults.append("refused")
            result.runs += 1
            result.accepted += succeeded
            result.cpu = max(result.cpu, outcome.cpu)
            result.memory = max(result.memory, outcome.memory - size)
            if outcome.faults:
                said = outcome.stderr.decode("utf-8", "replace").strip()
                result.faults.append((outcome.faults, command, outcome.status, outcome.signal, said, outcome.cpu, outcome.memory))
                self.keep_case(folder, name, command, said)
        return result

    def keep_case(self, folder, name, command, said):
        if not self.keep:
            return
        kept = pathlib.Path(self.keep) / name.replace("/", "-")
        if not kept.exists():
            shutil.copytree(folder, kept, symlinks=True, ignore=lambda at, names: [n for n in names if special(os.path.join(at, n))])
        with open(kept / "commands.txt", "a") as file:
            line = shlex.join(["glimmer", *(argument.replace("@", ".", 1) for argument in command)])
            file.write(f"$ {line}\n{said}\n")


def special(path):
    """Whether something is no file, folder or link, and too odd or too large to be copied."""
    return not (os.path.islink(path) or os.path.isdir(path) or os.path.isfile(path) and os.path.getsize(path) < 100 << 20)


CAMPAIGN = None


def work_on(item):
    return CAMPAIGN.run(*item)


def start_worker():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    judge.limit_this_process()


def perform(campaign, items, jobs, progress=True):
    """Results of all items, as they come."""
    global CAMPAIGN
    CAMPAIGN = campaign
    started, seen = time.monotonic(), 0
    with multiprocessing.get_context("fork").Pool(jobs, start_worker) as pool:
        for result in pool.imap_unordered(work_on, items):
            seen += 1
            if progress and (seen % 50 == 0 or seen == len(items)):
                print(f"{seen} of {len(items)} inputs, {time.monotonic() - started:.0f} s", file=sys.stderr)
            yield result


def tell(fault):
    faults, command, status, killed, said, cpu, memory = fault
    end = f"signal {killed}" if killed else f"status {status}"
    shown = ascii(said if len(said) < 700 else said[:500] + " ... " + said[-150:])
    return f"{', '.join(faults)} ({end}, {cpu:.2f} s, {memory >> 20} MiB): {shlex.join(['glimmer', *command])}\n    {shown}"


def table(results):
    """Lines of a summary by kind. An input counts once, however many commands met it and however often it was drawn."""
    kinds = collections.defaultdict(list)
    for result in results:
        kinds[result.name.split("/")[0]].append(result)
    lines = [f"{'kind':18} {'inputs':>6} {'runs':>6} {'taken':>6} {'most CPU':>9} {'most MiB':>9}  faults (inputs with them)"]
    totals, counted = collections.Counter(), set()
    for kind, of_kind in sorted(kinds.items()):
        distinct = {result.digest for result in of_kind}
        counted |= {(kind == "sound", digest) for digest in distinct}
        faults = collections.Counter(label for result in of_kind for label in {label for fault in result.faults for label in fault[0]})
        totals += faults
        runs = sum(result.runs for result in of_kind)
        taken = sum(result.accepted for result in of_kind)
        lines.append(f"{kind:18} {len(distinct):6} {runs:6} {taken / max(runs, 1):6.0%} {max(result.cpu for result in of_kind):7.2f} s "
                     f"{max(result.memory for result in of_kind) / 2**20:9.0f}  "
                     + (", ".join(f"{label}: {count}" for label, count in sorted(faults.items())) or "none"))
    inputs = sum(not is_sound for is_sound, _ in counted)
    lines.append(f"{inputs} different inputs in {sum(result.runs for result in results)} runs; faults: "
                 + (", ".join(f"{label}: {count}" for label, count in sorted(totals.items())) or "none"))
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("glimmer", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inputs", type=int, default=2600, help="how many, all kinds together")
    parser.add_argument("--only", help="one kind, or one input: KIND/NUMBER")
    parser.add_argument("--keep", help="a folder for the inputs with faults")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    args = parser.parse_args()
    scale = judge.calibrate()
    print(f"CPU limit {judge.CPU_SECONDS * scale:.1f} s (this machine takes {scale:.2f} times as long)", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="glimmer-mutate-") as work:
        campaign = Campaign(str(args.glimmer.resolve()), args.seed, work, args.keep, scale)
        kind, _, number = (args.only or "").partition("/")
        items = [("sound", place) for place in range(len(campaign.models))] + campaign.inputs(args.inputs)
        if number:
            items = [(kind, int(number))]
        elif kind:
            items = [item for item in items if item[0] == kind]
        results = []
        for result in perform(campaign, items, args.jobs):
            results.append(result)
            for fault in result.faults:
                print(f"FAULT {result.name}: {tell(fault)}", flush=True)
    print("\n".join(table(results)))
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"seed {args.seed}; memory is measured from {own} MiB up, which the campaign itself takes")
    sys.exit(any(result.faults for result in results))


if __name__ == "__main__":
    main()
