#!/usr/bin/env bash
# Trains with two processes on this machine that share each batch, as several machines would. The
# arguments go to musicjax.train; without any, it trains the quickstart's model. Ctrl-C or SIGTERM
# stops both, which then save; if one fails, the other is killed. PYTHON names the python.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python}"
[ $# -gt 0 ] || set -- --config=configs/vocab.py:quick --config.train.devices=1 --workdir=runs/two_processes
port="$("$python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')"
pids=()
trap 'kill "${pids[@]}" 2>/dev/null; wait; exit 130' INT TERM
trap 'kill -KILL "${pids[@]}" 2>/dev/null || true' EXIT
for process in 0 1; do
    "$python" -m musicjax.train --coordinator="127.0.0.1:$port" --processes=2 --process="$process" "$@" &
    pids+=($!)
done
wait -n
wait -n
