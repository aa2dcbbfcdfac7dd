#!/usr/bin/env bash
# From a fresh clone to music: makes a venv, installs, encodes Bach's chorales, trains a small model,
# evaluates it and generates four pieces. Needs python3 (3.11 or later) with venv, and PyPI.
set -euo pipefail
cd "$(dirname "$0")/.."
workdir="${1:-runs/quick}"
. scripts/venv.sh
python -m musicjax.train --config=configs/events.py:quick --workdir="$workdir"
python -m musicjax.evaluate --workdir="$workdir"
python -m musicjax.generate --workdir="$workdir" --num=4
echo "The quickstart took $SECONDS seconds."
echo "Listen to $workdir/samples/*.mid and look at the .png beside each; the curve is $workdir/loss.png."
