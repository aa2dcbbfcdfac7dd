"""Each script and notebook of examples/, at the smallest sizes."""

import json
import runpy

import numpy as np
import pytest
from conftest import ROOT

import musicjax

EXAMPLES = ROOT / "examples"


def main_of(name):
    return runpy.run_path(str(EXAMPLES / name))["main"]


def test_each_example_has_a_test():
    names = {path.name for path in EXAMPLES.iterdir() if path.name != "__pycache__"}
    tested = {"folder_to_piece.py", "song_arrays.py", "gru.py", "sweep.py", "notebook.ipynb"}
    assert names == tested


@pytest.mark.parametrize(
    ("name", "shape"), [("vocab:tiny", ()), ("nsm:tiny", (78, 2)), ("events:tiny", ())]
)
def test_arrays_of_encoded_songs(folder, tmp_path, capsys, name, shape):
    main_of("song_arrays.py")(str(folder), str(tmp_path / "arrays.npz"), name)
    arrays = np.load(tmp_path / "arrays.npz")
    assert len(arrays) == 30
    assert arrays["00.mid"].shape[1:] == shape
    notes = musicjax.read_song(folder / "00.mid").num_notes
    assert f"as a Song again: {notes} notes" in capsys.readouterr().out


@pytest.mark.slow
def test_a_folder_to_a_piece(folder, tmp_path):
    main_of("folder_to_piece.py")(str(folder), str(tmp_path), "vocab:tiny_causal")
    assert musicjax.read_song(tmp_path / "seed_0.mid").seconds > 25


@pytest.mark.slow
def test_a_gru_in_the_place_of_the_lstm(folder, tmp_path, capsys):
    main_of("gru.py")(str(folder), str(tmp_path / "run"), "vocab:tiny_causal")
    assert musicjax.load(tmp_path / "run").config.model.name == "gru"
    assert "Kneser-Ney" in capsys.readouterr().out
    assert (tmp_path / "run" / "samples" / "seed_0.mid").is_file()


@pytest.mark.slow
def test_a_sweep_gives_up_what_is_far_behind(folder, tmp_path, capsys):
    main_of("sweep.py")(str(folder), str(tmp_path), "vocab:tiny_causal", (3e-2, 1e-6))
    said = capsys.readouterr().out
    assert f"{tmp_path}/1e-06 is given up: epoch 1: " in said
    table = said[said.index("differs in") :].splitlines()
    assert table[1].split() == ["train.learning_rate", "0.03", "1e-06"]
    assert [len(musicjax.load(tmp_path / rate).metrics) for rate in ("0.03", "1e-06")] == [2, 1]


@pytest.mark.slow
def test_the_notebook_runs(folder, tmp_path, monkeypatch):
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text())
    assert notebook["nbformat"] == 4
    monkeypatch.setenv("MPLBACKEND", "agg")
    here = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            exec("".join(cell["source"]), here)
            if "parameters" in cell["metadata"].get("tags", ()):
                here |= {"folder": str(folder), "name": "vocab:tiny_causal"}
                here["workdir"] = str(tmp_path / "run")
    here["plt"].close("all")
    assert len(here["losses"]) == 2
    assert len(list((tmp_path / "run" / "samples").glob("*.mid"))) == 2
    assert here["longer"].prime.elements.size
