#!/usr/bin/env bash
# xinference-client 4.1.0: what `rerank` is given beyond its own parameters (which it takes as `**kwargs`) is sent twice: as
# fields of the request, and once more in a field `kwargs` that is a text, the JSON of the same, there even where nothing was
# given ("{}"). `create_embedding` of the same client sends its own as fields alone.
#
# Expected before: that further parameters arrive as fields, once. A server that refuses what it does not know by name refuses
# every `rerank` of this client, until it takes `kwargs` for the echo that it is.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet xinference-client==4.1.0
"$folder/venv/bin/python" -W ignore - <<'P'
import http.server
import json
import threading

from xinference_client.client.restful.restful_client import RESTfulEmbeddingModelHandle, RESTfulRerankModelHandle

sent = None


class Server(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        global sent
        sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
        body = b'{"results": [], "data": []}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"

rerank = RESTfulRerankModelHandle("m", url, {})
rerank.rerank(["a"], "q")
print("rerank:", json.dumps(sent))
assert sent["kwargs"] == "{}", "it has changed"
rerank.rerank(["a"], "q", normalize=True)
print("rerank with normalize:", json.dumps(sent))
assert sent["normalize"] is True and json.loads(sent["kwargs"]) == {"normalize": True}, "it has changed"
RESTfulEmbeddingModelHandle("m", url, {}).create_embedding("a", normalize=True)
print("create_embedding with normalize:", json.dumps(sent))
assert sent["normalize"] is True and "kwargs" not in sent, "it has changed"
P
