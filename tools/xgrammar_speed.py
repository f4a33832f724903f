"""xgrammar's times to compile schemas and to compute masks, on what glimmer-grammar's example `speed` has written.

    cargo run --release -p glimmer-grammar --example speed what.json
    pip install xgrammar==0.2.9 --no-deps && pip install apache-tvm-ffi numpy pydantic
    python3 tools/xgrammar_speed.py what.json

One thread, no cache, the vocabulary taken apart once beforehand. xgrammar imports torch; on the way to a mask in memory it
uses three of its names, for which numpy stands here, so that torch need not be installed.
"""

import base64
import importlib.metadata
import json
import sys
import time
import types

import numpy
import tvm_ffi  # noqa: F401  looks for torch when it is imported: before there is something of that name


class Standin(types.ModuleType):
    """A module that has every name."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


for name in ["torch", "torch.nn", "torch.nn.functional", "transformers"]:
    sys.modules[name] = Standin(name)
    sys.modules[name].__path__ = []
torch = sys.modules["torch"]
torch.int32, torch.tensor, torch.full = numpy.int32, numpy.array, numpy.full

import xgrammar  # noqa: E402


def show(what, times):
    times = sorted(time * 1e6 for time in times)
    at = lambda share: times[int((len(times) - 1) * share)]
    mean = sum(times) / len(times)
    print(f"{what}: {len(times)} of them, mean {mean:.0f} us, p50 {at(0.5):.0f}, p99 {at(0.99):.0f}, max {at(1.0):.0f}")


def timed(times, work):
    begin = time.perf_counter()
    result = work()
    times.append(time.perf_counter() - begin)
    return result


def main():
    measured = json.load(open(sys.argv[1]))
    tokens = [base64.b64decode(token) for token in measured["tokens"]]
    begin = time.perf_counter()
    info = xgrammar.TokenizerInfo(tokens, xgrammar.VocabType.RAW, stop_token_ids=[measured["end"]])
    print(f"xgrammar {importlib.metadata.version('xgrammar')}, table of {len(tokens)} tokens: {(time.perf_counter() - begin) * 1e3:.0f} ms")
    compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
    compiles, masks, takes = [], [], []
    for _ in range(measured["rounds"]):
        for answer in measured["answers"]:
            schema = json.dumps(answer["schema"])
            compiled = timed(compiles, lambda: compiler.compile_json_schema(schema, strict_mode=False))
            matcher = xgrammar.GrammarMatcher(compiled)
            mask = xgrammar.allocate_token_bitmask(1, info.vocab_size)
            for id in answer["ids"]:
                timed(masks, lambda: matcher.fill_next_token_bitmask(mask))
                if not timed(takes, lambda: matcher.accept_token(id)):
                    sys.exit(f"xgrammar does not take {tokens[id]!r} of an answer to {schema[:80]}")
    show("compiled", compiles)
    show("masks", masks)
    show("tokens taken", takes)


main()
