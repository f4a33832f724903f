#!/usr/bin/env bash
# zai-sdk 0.2.3 (Python) splits a stream of server-sent events with httpx's `iter_lines`, which ends a line wherever
# Python's `str.splitlines` does: also at U+0085, U+2028 and U+2029. The HTML standard ends lines of such a stream at CR
# and LF alone, and JSON may hold the three in strings as they are. So a chunk whose text has one of them is cut in two,
# and the stream ends in a JSONDecodeError; openai 3.57.0 reads the same bytes.
#
# Expected before: that both read it. A server for such clients must write these characters as \u0085, \u2028, \u2029.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet zai-sdk==0.2.3 openai==3.57.0 httpx==0.28.1
"$folder/venv/bin/python" - <<'P'
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from openai import OpenAI
from zai import ZaiClient

content = None


class Stream(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        choice = {"index": 0, "delta": {"role": "assistant", "content": content}, "finish_reason": None}
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.write(f"data: {json.dumps(chunk, ensure_ascii=False)}\n\ndata: [DONE]\n\n".encode())


server = HTTPServer(("127.0.0.1", 0), Stream)
threading.Thread(target=server.serve_forever, daemon=True).start()
where = {"api_key": "none", "base_url": f"http://127.0.0.1:{server.server_port}/v1"}
clients = {"zai-sdk": ZaiClient(**where), "openai": OpenAI(**where)}


def read(name):
    try:
        stream = clients[name].chat.completions.create(
            model="m", messages=[{"role": "user", "content": "?"}], stream=True)
        return "".join(chunk.choices[0].delta.content for chunk in stream)
    except json.JSONDecodeError:
        return "JSONDecodeError"


for character in ("\u00e9", "\u0085", "\u2028", "\u2029"):
    content = f"one{character}two"
    seen = {name: read(name) for name in clients}
    print(f"U+{ord(character):04X}", seen)
    assert seen["openai"] == content
    assert seen["zai-sdk"] == (content if character == "\u00e9" else "JSONDecodeError"), "it has changed"
P
