#!/usr/bin/env bash
# llguidance 1.9.1: a JSON schema says that property "a" is an integer, and the grammar made of it accepts
# {"\u0061": "text"}, which every JSON reader reads as {"a": "text"}. Names of further properties may be spelt with any
# \uXXXX; only the declared spelling itself is kept from them. As a value of a string the same escape is refused
# (there \u is for control characters alone), so the two halves of one grammar disagree on what a string is.
#
# Expected before: that what the grammar accepts is valid under the schema. Whoever relies on that must close the object
# (additionalProperties: false) or validate what came out.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet llguidance==1.9.1 jsonschema==4.26.0
"$folder/venv/bin/python" - <<'P'
import json

import jsonschema
import llguidance


class Bytes:
    """A token for each byte, and one that ends the text."""

    eos_token_id, bos_token_id, unk_token_id = 256, None, None
    tokens = [bytes([byte]) for byte in range(256)] + [b"<end>"]
    special_token_ids = [256]

    def __call__(self, text):
        return list(text.encode() if isinstance(text, str) else text)


tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Bytes()))


def accepts(schema, text):
    matcher = llguidance.LLMatcher(tokenizer, llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema)))
    assert not matcher.get_error(), matcher.get_error()
    ids = list(text.encode())
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


open_schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
closed = {**open_schema, "additionalProperties": False}
for schema, text, accepted in [
    (open_schema, '{"a": "text"}', False),
    (open_schema, '{"\\u0061": "text"}', True),
    (closed, '{"\\u0061": "text"}', False),
    ({"type": "string"}, '"\\u0061"', False),
]:
    valid = jsonschema.Draft202012Validator(schema).is_valid(json.loads(text))
    seen = accepts(schema, text)
    print(json.dumps(schema), text, "accepted" if seen else "refused", "valid" if valid else "invalid")
    assert seen == accepted, "it has changed"
    assert valid == (schema == {"type": "string"})
P
