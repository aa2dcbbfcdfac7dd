#!/usr/bin/env bash
# Makes a venv, installs musicjax with what its tests need, and runs the linters and all tests.
# Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
EXTRAS=dev
. scripts/venv.sh
ruff check .
ruff format --check .
pyright
python -m pytest "$@"
