#!/usr/bin/env bash
# From a fresh clone to music: makes a venv, installs, encodes Bach's chorales, trains a small model,
# evaluates it, generates four pieces, and writes a page to hear them. Needs python3 (3.11 or later)
# with venv, and PyPI.
set -euo pipefail
cd "$(dirname "$0")/.."
workdir="${1:-runs/quick}"
EXTRAS=audio
. scripts/venv.sh
python -m musicjax.train --config=configs/events.py:quick --workdir="$workdir"
python -m musicjax.evaluate --workdir="$workdir"
# As long as the page's pieces: they are the same, and compiled once.
python -m musicjax.generate --workdir="$workdir" --num=4 --seconds=30
python -m musicjax.listen --workdir="$workdir"
echo "The quickstart took $SECONDS seconds."
echo "The pieces are $workdir/samples/*.mid, a .png beside each; the curve is $workdir/loss.png."
echo "Hear them: open $workdir/page/index.html in a browser."
