#!/usr/bin/env bash
# anthropic 2.14.0: `client.beta.messages.tool_runner` sends a field to any server that is no parameter of the call: `thread:
# {"type": "create"}`. A 400 ends the run, unless its error has `details.error_code` "thread_unsupported_request": then the
# runner asks again without the field, and goes on.
#
# Expected before: that the runner sends what `messages.create` sends, so that a server that refuses unknown fields by name
# serves it as it serves `create`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet anthropic==2.14.0
"$folder/venv/bin/python" -W ignore - <<'P'
import json

import anthropic
import httpx2

asked = []
code = None


def respond(request):
    body = json.loads(request.content)
    asked.append(body.get("thread"))
    if "thread" in body:
        error = {"type": "invalid_request_error", "message": "unknown field: thread", "details": {"error_code": code}}
        return httpx2.Response(400, json={"type": "error", "error": error})
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn", "stop_sequence": None,
        "content": [{"type": "text", "text": "Done."}], "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    return httpx2.Response(200, json=message)


@anthropic.beta_tool
def get_time(city: str) -> str:
    """The time in a city."""
    return "12:30"


transport = httpx2.Client(transport=httpx2.MockTransport(respond))
client = anthropic.Anthropic(base_url="http://server", api_key="none", http_client=transport, max_retries=0)


def run():
    asked.clear()
    question = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "?"}]}
    try:
        said = client.beta.messages.tool_runner(tools=[get_time], **question).until_done().content[0].text
    except anthropic.BadRequestError:
        said = "it ended with the 400"
    print(code, asked, said)
    return said


assert run() == "it ended with the 400" and asked == [{"type": "create"}], "it has changed"
code = "thread_unsupported_request"
assert run() == "Done." and asked == [{"type": "create"}, None], "it has changed"
P
