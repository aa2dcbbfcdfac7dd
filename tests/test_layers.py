"""A room imports only from rooms above it: what runs before jax is imported stays free of it."""

import ast
import subprocess
import sys

from conftest import ROOT

ORDER = [
    "errors",
    "config",
    "cli",
    "allocator",
    "song",
    "midi",
    "key",
    "part",
    "vocabulary",
    "note_state",
    "workers",
    "corpora",
    "corpora.folder",
    "corpora.chorales",
    "corpora.piano_rolls",
    "corpora.lakh",
    "corpora.slakh",
    "corpora.table",
    "corpus",
    "cleaning",
    "encoders",
    "shards",
    "report",
    "encode",
    "dataset",
    "models.lstm",
    "models.vocab",
    "models.note_features",
    "models.biaxial",
    "models",
    "compilation",
    "devices",
    "checkpoint",
    "loop",
    "train",
    "piano_roll",
    "sampler",
    "piece",
    "token_pieces",
    "state_pieces",
    "generate",
    "evaluate",
]
WITHOUT_JAX = ORDER[: ORDER.index("dataset")]
HEAVY = ("jax", "flax", "optax", "orbax", "grain", "tensorboardX")


def imports(path):
    """All modules that a file imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms():
    for path in sorted((ROOT / "musicjax").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT / "musicjax").with_suffix("").parts)
        if name != "__init__":
            yield name.removesuffix(".__init__"), path


def test_every_room_has_its_place():
    assert {name for name, _ in rooms()} == set(ORDER)


def test_no_import_upward():
    for room, path in rooms():
        for module in imports(path):
            below = module.removeprefix("musicjax.")
            if module.startswith("musicjax.") and below in ORDER and below != room:
                inside = below.startswith(f"{room}.")  # a package may name its own modules
                assert inside or ORDER.index(below) < ORDER.index(room), f"{room} -> {module}"


def test_songs_to_corpus_never_import_jax():
    for room, path in rooms():
        if room in WITHOUT_JAX:
            for module in imports(path):
                assert module.split(".")[0] not in HEAVY, f"{room} -> {module}"


def test_command_lines_import_jax_late():
    commands = ", ".join(f"musicjax.{name}" for name in ("train", "generate", "encode", "evaluate"))
    code = f"import sys, {commands}; print([m for m in {HEAVY} if m in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert loaded.stdout.strip() == "[]"
