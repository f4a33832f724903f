#!/usr/bin/env bash
# instructor 1.17.0: `Mode.TOOLS_STRICT` sends the very request of `Mode.TOOLS`, a function without `strict` whose object is
# open, and `Mode.JSON_SCHEMA` a schema without `strict`. (The first is deprecated in favour of `TOOLS`; the second is not.)
# openai's own helpers send `strict: true` and `additionalProperties: false` for the same type.
#
# Expected before: that the two modes ask for what they are named after. A server that takes a schema without `strict` for a
# hint promises them nothing; one that wants these clients' answers to be valid must hold calls and texts to every schema.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet instructor==1.17.0 openai==3.3.0 httpx==0.28.1
"$folder/venv/bin/python" -W ignore - <<'P'
import json

import httpx
import instructor
import openai
from pydantic import BaseModel


class City(BaseModel):
    name: str


sent = None


def respond(request):
    global sent
    sent = json.loads(request.content)
    del sent["model"], sent["messages"]
    text = '{"name": "Oslo"}'
    call = {"id": "1", "type": "function", "function": {"name": "City", "arguments": text}}
    message = {"content": text} if "response_format" in sent else {"content": None, "tool_calls": [call]}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}
    return httpx.Response(200, json={"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})


transport = httpx.MockTransport(respond)
client = openai.OpenAI(base_url="http://server/v1", api_key="none", http_client=httpx.Client(transport=transport))
asked = {"model": "m", "messages": [{"role": "user", "content": "?"}]}


def seen(mode):
    found = instructor.from_openai(client, mode=mode).chat.completions.create(response_model=City, **asked)
    assert found.name == "Oslo"
    print(mode, json.dumps(sent))
    return sent


tools = seen(instructor.Mode.TOOLS)
assert seen(instructor.Mode.TOOLS_STRICT) == tools, "it has changed"
function = tools["tools"][0]["function"]
assert "strict" not in function and "additionalProperties" not in function["parameters"], "it has changed"
schema = seen(instructor.Mode.JSON_SCHEMA)["response_format"]["json_schema"]
assert "strict" not in schema and "additionalProperties" not in schema["schema"], "it has changed"
client.chat.completions.parse(response_format=City, **asked)
print("openai's parse", json.dumps(sent))
schema = sent["response_format"]["json_schema"]
assert schema["strict"] and schema["schema"]["additionalProperties"] is False
P
