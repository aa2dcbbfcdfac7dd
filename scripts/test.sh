#!/usr/bin/env bash
# Makes a venv, installs musicjax with what its tests need, and runs the linters and all tests.
# Arguments go to pytest; --quick as the first leaves out what trains or compiles much. The test that opens a page in Chromium needs one: where none is found, it
# is installed by Debian's packages if this is CI and may do so, and else the test is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
EXTRAS=dev
. scripts/venv.sh
if [ -n "${CI:-}" ] && ! command -v chromium chromium-browser chrome >/dev/null &&
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    { apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium; } >/dev/null ||
        echo "chromium could not be installed; its test will be skipped" >&2
fi
if [ "${1:-}" = --quick ]; then
    set -- -m "not slow" "${@:2}"
fi
ruff check .
ruff format --check .
pyright
python -m pytest "$@"
