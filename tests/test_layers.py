"""A package imports only from packages above it; what runs before jax is imported is free of it."""

import ast
import subprocess
import sys

import pytest
from conftest import ROOT

# From the top down. What stands in one tuple may import from one another.
ORDER = [
    ("errors",),
    ("config", "registry"),
    ("config_file",),
    ("system",),
    ("readymade",),
    ("cli",),
    ("music",),
    ("sources",),
    ("encodings",),
    ("corpus",),
    ("models",),
    ("training",),
    ("evaluation",),
    ("rendering",),
    ("generation",),
    ("api",),
    ("encode", "train", "evaluate", "generate", "compare", "listen", "export", "cache"),
    ("__main__",),
]
# Inside a package, where the order matters.
INSIDE = {
    "music": ["song", "key", "track_selection", "midi", "notation"],
    "sources": ["base", "folder", "lakh"],
    "encodings": ["bars", "base", "vocabulary", "tokens"],
    "corpus": ["store", "preprocess", "shards", "splits", "build", "report"],
    "models": ["base", "weights", "categorical", "lstm", "attention", "token_lstm"],
    "training": [
        "settings",
        "devices",
        "dataset",
        "checkpoint",
        "workdir",
        "exported",
        "trainer",
        "pretrained",
        "run",
    ],
    "evaluation": ["metrics", "distance", "ngram", "cell_map", "baselines", "scores", "comparison"],
    "rendering": ["audio", "piano_roll", "template", "page", "live"],
    "generation": [
        "options",
        "sampling",
        "loop",
        "primes",
        "particles",
        "infill",
        "piece",
        "review",
        "listening",
        "live",
    ],
}
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
WITHOUT_JAX = [name for name in LEVEL if LEVEL[name] <= LEVEL["corpus"]]
HEAVY = ("jax", "flax", "optax", "orbax", "grain", "tensorboardX")


def imports(path):
    """All modules that a file imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules():
    """Each module's path below musicjax, such as ["music", "song"], and its file."""
    for path in sorted((ROOT / "musicjax").rglob("*.py")):
        parts = path.relative_to(ROOT / "musicjax").with_suffix("").parts
        if parts != ("__init__",):
            yield [part for part in parts if part != "__init__"], path


def test_every_module_is_in_a_package_that_has_its_place():
    assert {parts[0] for parts, _ in modules()} == set(LEVEL)


def test_no_package_imports_from_one_below():
    for parts, path in modules():
        for name in imports(path):
            target = name.split(".")
            if target[0] == "musicjax" and len(target) > 1 and target[1] in LEVEL:
                assert LEVEL[target[1]] <= LEVEL[parts[0]], f"{path}: {name}"


@pytest.mark.parametrize("package", INSIDE)
def test_no_module_imports_from_one_below_in_its_package(package):
    order = INSIDE[package]
    for parts, path in modules():
        if parts[0] == package and len(parts) > 1 and parts[1] in order:
            for name in imports(path):
                target = name.split(".")
                if target[:2] == ["musicjax", package] and len(target) > 2 and target[2] in order:
                    assert order.index(target[2]) < order.index(parts[1]), f"{path}: {name}"


def test_songs_to_corpus_never_import_jax():
    for parts, path in modules():
        if parts[0] in WITHOUT_JAX:
            for name in imports(path):
                assert name.split(".")[0] not in HEAVY, f"{path}: {name}"


def test_commands_import_jax_late():
    commands = ", ".join(f"musicjax.{name}" for name in ORDER[-2])
    code = f"import sys, {commands}; print([m for m in {HEAVY} if m in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize("word", ["encoding", "model"])
def test_no_branch_on_a_name_of_an_encoding_or_a_model(word):
    """A comparison of data.encoding or model.name with anything, outside the registries."""
    for _, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare | ast.Match):
                text = ast.unparse(node).splitlines()[0]
                named = {"encoding": ("data.encoding", '["encoding"]'), "model": ("model.name",)}
                assert not any(name in text for name in named[word]), f"{path}: {text}"
