"""Renders and compiles every set of tools of bfcl-eval, in every form in which the generations write calls.

    cargo build --release --example tool_sets -p glimmer
    python tools/bfcl/tool_sets.py target/release/examples/tool_sets

bfcl-eval 2026.3.23; README.md tells how to install what this needs of it. The sets are those that its OpenAI-compatible handler
sends: its own conversion to JSON schema. Prints, by category, how many sets are rendered, compiled, and held to all of their
schemas, and what is refused and why; exits with 1 where one is refused. Further arguments are the forms that are wanted.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bfcl_eval.constants.category_mapping import ALL_SCORING_CATEGORIES
from bfcl_eval.constants.enums import ModelStyle
from bfcl_eval.constants.type_mappings import GORILLA_TO_OPENAPI
from bfcl_eval.model_handler.utils import convert_to_tool
from bfcl_eval.utils import load_dataset_entry

ROOT = Path(__file__).resolve().parents[2]
TOKENIZERS = ROOT / "crates/tokenizer/tests/data"
# Generations, one for each form of calls, and what their tokenizers are made of: a line and Python (whose tokenizer differs from
# its predecessor's by a name), a line and JSON, the same after reasoning, tags on lines, tags.
FORMS = {
    "chatglm3": [TOKENIZERS / "chatglm2-6b/tokenizer.model", ROOT / "fixtures/chatglm3-6b/config.json"],
    "glm-4": [TOKENIZERS / "glm4-hf/tokenizer.json"],
    "glm-z1": [TOKENIZERS / "glm4-hf/tokenizer.json"],
    "glm-4.5": [TOKENIZERS / "glm45/tokenizer.json"],
    "glm-4.7": [TOKENIZERS / "glm45/tokenizer.json"],
}


def sets():
    """The sets of tools by category, each once."""
    for category in ALL_SCORING_CATEGORIES:
        seen = {}
        for entry in load_dataset_entry(category):
            functions = entry["function"]
            for more in entry.get("missed_function", {}).values():
                functions = functions + more
            tools = convert_to_tool(functions, GORILLA_TO_OPENAPI, ModelStyle.OPENAI_COMPLETIONS)
            seen.setdefault(json.dumps(tools), entry["id"])
        yield category, seen


def check(program, form, all_sets):
    """What the program says of each set."""
    lines = [f'{{"id": {json.dumps(name)}, "tools": {tools}}}' for _, seen in all_sets for tools, name in seen.items()]
    with tempfile.TemporaryDirectory() as model:
        for file in FORMS[form]:
            shutil.copy(file, model)
        done = subprocess.run([program, model, form], input="\n".join(lines), stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def main():
    program, all_sets = sys.argv[1], list(sets())
    reasons = {}
    print(f"{'form':10} {'category':24} {'sets':>5} {'rendered':>8} {'compiled':>8} {'held':>5}")
    for form in sys.argv[2:] or FORMS:
        answers = iter(check(program, form, all_sets))
        for category, seen in all_sets:
            own = [next(answers) for _ in seen]
            rendered = sum("tokens" in answer for answer in own)
            compiled = sum("unmasked" in answer for answer in own)
            held = sum(answer.get("unmasked") == [] for answer in own)
            print(f"{form:10} {category:24} {len(own):5} {rendered:8} {compiled:8} {held:5}")
            for name, answer in zip(seen.values(), own):
                for why in [answer["error"]] if "error" in answer else answer["unmasked"]:
                    # The same of other tools counts together; the first stands for all.
                    reason = re.sub(r'"[^"]*"|/.*', "...", why)
                    kind = "refused" if "error" in answer else "not held"
                    reasons.setdefault((form, kind, reason), []).append((name, why))
    print()
    for (form, kind, _), all_of_it in reasons.items():
        print(f"{form:10} {kind:8} {len(all_of_it):4} sets, such as {all_of_it[0][0]}: {all_of_it[0][1]}")
    sys.exit(any(kind == "refused" for _, kind, _ in reasons))


main()
