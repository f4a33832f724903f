#!/usr/bin/env bash
# Clients at once against `glimmer serve` on a card, and the memory that is taken meanwhile.
#
#   tools/card/clients.sh GLIMMER MODEL CLIENTS PROMPT ANSWER
#
# Ends with 77 where there is no python3.
set -euo pipefail
glimmer=$1 model=$2 clients=$3 prompt=$4 answer=$5
here=$(cd "$(dirname "$0")" && pwd)
command -v python3 >/dev/null || { echo "not tried: python3 is not installed"; exit 77; }

log=$(mktemp)
server=
trap '[[ -z $server ]] || kill -KILL "$server" 2>/dev/null || true; cat "$log" >&2; rm -f "$log"' EXIT
"$glimmer" serve "$model" --device cuda --port 0 --parallel "$clients" --ctx $((prompt + answer + 64)) \
  --cache-tokens $((clients * (prompt + answer + 64))) 2>"$log" &
server=$!
url=
until url=$(sed -n 's/^note: serving .* at \(http:[^;]*\);.*/\1/p' "$log") && [[ -n $url ]]; do
  kill -0 "$server" 2>/dev/null || { echo "the server does not start"; server=; exit 1; }
  sleep 0.1
done
python3 "$here/../load.py" "$url" --clients "$clients" --requests 1 --prompt "$prompt" --answer "$answer" --ids 300
! command -v nvidia-smi >/dev/null || nvidia-smi --query-gpu=memory.used --format=csv,noheader
kill -TERM "$server"
wait "$server"
server=
