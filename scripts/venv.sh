# Sourced by the other scripts: makes .venv if it is not there, installs musicjax with the extras
# named in EXTRAS, and activates it. Installs again only when pyproject.toml has changed.
python="${PYTHON:-python3}"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "error: $("$python" --version 2>&1) found, Python 3.11 or later expected; set PYTHON" >&2
    exit 2
}
venv="${VENV:-.venv}"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
. "$venv/bin/activate"
stamp="$venv/installed-${EXTRAS:-none}"
if ! cmp -s pyproject.toml "$stamp"; then
    python -m pip install --quiet --disable-pip-version-check -e ".${EXTRAS:+[$EXTRAS]}"
    cp pyproject.toml "$stamp"
fi
