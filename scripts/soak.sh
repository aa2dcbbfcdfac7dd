#!/usr/bin/env bash
# The long form of the tests of damage: SOAK times as many damaged files, kills and interrupts as
# scripts/test.sh tries (default 25: 20,000 MIDI files), and a run that is long (scripts/long_run.py);
# about half an hour on two cores. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
EXTRAS=dev
. scripts/venv.sh
SOAK="${SOAK:-25}" python -m pytest tests/test_fuzz.py tests/test_faults.py "$@"
python scripts/long_run.py
