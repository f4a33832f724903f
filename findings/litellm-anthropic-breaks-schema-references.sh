#!/usr/bin/env bash
# litellm 1.110.2: over `anthropic/` a `response_format` of JSON schema becomes a tool whose `input_schema` has every local
# reference without its `#`: `{"$ref": "#/$defs/City"}` is sent as `{"$ref": "/$defs/City"}`, which refers to nothing in the
# schema. The same call over `openai/` sends it as it was given.
#
# Expected before: that a schema arrives as it was given. A server that holds calls to their schemas cannot hold this one to
# the part that the reference was to, and must say so rather than take the reference for an absent one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet litellm==1.110.2
LITELLM_LOCAL_MODEL_COST_MAP=True "$folder/venv/bin/python" -W ignore - <<'P'
import http.server
import json
import threading

import litellm

sent = None


class Server(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        global sent
        sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
        body = b'{"type": "error", "error": {"type": "invalid_request_error", "message": "seen"}}'
        self.send_response(400)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
schema = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/City"}},
    "required": ["city"],
    "$defs": {"City": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
}
form = {"type": "json_schema", "json_schema": {"name": "Answer", "schema": schema}}
litellm.suppress_debug_info = True


def seen(model, base):
    try:
        litellm.completion(
            model=model, api_base=base, api_key="none", messages=[{"role": "user", "content": "?"}], response_format=form,
            max_tokens=10, num_retries=0,
        )
    except litellm.exceptions.BadRequestError:
        pass
    references = []

    def walk(value):
        if isinstance(value, dict):
            references.extend([value["$ref"]] if "$ref" in value else [])
            value = list(value.values())
        if isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(sent)
    print(model, references)
    return references


assert seen("openai/m", url + "/v1") == ["#/$defs/City"], "it has changed"
assert seen("anthropic/m", url) == ["/$defs/City"], "it has changed"
P
