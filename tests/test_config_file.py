"""Config files: found, loaded, explained. The configs' own values are tested in test_config.py."""

import sys

import pytest
from conftest import ROOT

from musicjax import config_file
from musicjax.config import flat_fields
from musicjax.config_file import find, get_config
from musicjax.errors import InputError

VOCAB = ROOT / "configs" / "vocab.py"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("vocab", (VOCAB, "")),
        ("vocab:quick", (VOCAB, "quick")),
        ("configs/vocab.py:quick", (VOCAB, "quick")),
        (f"{VOCAB}:tiny", (VOCAB, "tiny")),
    ],
)
def test_a_config_is_found_from_any_folder(name, found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find(name) == found


def test_a_file_of_ones_own_comes_first(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    own = tmp_path / "configs" / "vocab.py"
    own.write_text("get_config = None")
    monkeypatch.chdir(tmp_path)
    assert find("configs/vocab.py") == (own, "")
    assert find("vocab") == (VOCAB, "")


@pytest.mark.parametrize("name", ["nothing", "none/vocab.py", "my/vocab", "collection:quick:x", ""])
def test_no_such_config_names_those_that_there_are(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name.startswith("collection"):  # a file that configs import
        assert "collection" not in config_file.names()
        return
    with pytest.raises(InputError, match=r"no such config file; expected one of events, nsm, "):
        find(name)


def test_a_config_of_ones_own_imports_ours_and_its_neighbours(tmp_path):
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "shared.py").write_text("EPOCHS = 77\n")
    (folder / "mine.py").write_text(
        "from configs import vocab\n"
        "from configs.shared import EPOCHS\n"
        "def get_config():\n"
        "    config = vocab.get_config('quick')\n"
        "    config.train.epochs = EPOCHS\n"
        "    return config\n"
    )
    before = {name: module for name, module in sys.modules.items() if name.startswith("configs")}
    config = get_config(str(folder / "mine.py"))
    assert config.train.epochs == 77
    assert config.model.name == "causal_lstm"
    after = {name: module for name, module in sys.modules.items() if name.startswith("configs")}
    assert after == before


def test_changes_are_made_by_dotted_names(tmp_path):
    config = get_config("vocab:quick", **{"train.epochs": 2, "data.source": tmp_path})
    assert (config.train.epochs, config.data.source) == (2, str(tmp_path))
    changed = {"train.epochs", "data.source"}
    was, now = flat_fields(get_config("vocab:quick")), flat_fields(config)
    assert {name for name in was if was[name] != now[name]} == changed
    with pytest.raises(AttributeError, match="epoch"):
        config.train.epoch = 2


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("vocab:none", {}, r"config is 'vocab:none': no variant 'none'; there are best, "),
        ("vocab", {"train.epoch": 2}, r"field 'train\.epoch'; did you mean train\.epochs\?"),
        ("vocab", {"window": 3}, r"field 'window'; did you mean model\.window\?"),
        ("vocab", {"train.window": 3}, r"did you mean model\.window\?"),  # of another group
        ("vocab", {"qqqq": 3}, r"unknown config field 'qqqq'; fields are data\."),
        ("vocab", {"train.epochs": "two"}, r"train\.epochs is 'two': .*type"),
    ],
)
def test_what_cannot_be_is_one_clear_line(name, changes, message):
    with pytest.raises(InputError, match=message):
        get_config(name, **changes)


# --- help ------------------------------------------------------------------------------------


def test_the_configs_are_listed_with_their_first_lines():
    said = config_file.describe()
    assert "\n  nsm         The bi-axial LSTM on note state matrices.\n" in said
    assert len(said.splitlines()) == 4 + len(config_file.names())


def test_fields_are_explained_by_the_comments_of_the_files(tmp_path):
    (tmp_path / "mine.py").write_text(
        '"""Mine."""\n'
        "from ml_collections import ConfigDict\n"
        "from configs.training import get_train\n"
        "def get_config():\n"
        "    config = ConfigDict()\n"
        "    config.seed = 3  # of chance\n"
        "    config.model = model = ConfigDict()\n"
        "    # How wide,\n"
        "    # in units.\n"
        "    model.width = 4  # 0: none\n"
        "    model.bare = 'x'\n"
        "    config.train = train = get_train()\n"
        "    train.stride = 5  # steps of mine\n"
        "    return config\n"
    )
    lines = config_file.explain(str(tmp_path / "mine.py")).splitlines()
    assert lines[0] == "Mine."
    for field, comment in {
        "seed = 3": "of chance",
        "model.width = 4": "How wide, in units. 0: none",
        "train.stride = 5": "steps of mine",
        "train.shuffle = True": "another order of examples each epoch",
    }.items():
        assert lines[lines.index(field) + 1] == " " * 8 + comment
    assert lines[lines.index("model.bare = 'x'") + 1] == "model.width = 4"


@pytest.mark.parametrize("name", ["vocab", "vocab:quick", "nsm:best", "events:band", "polyphonic"])
def test_every_field_is_explained(name):
    lines = config_file.explain(name).splitlines()
    fields = [f"{field} = {value!r}" for field, value in flat_fields(get_config(name)).items()]
    bare = [field for field in fields if not lines[lines.index(field) + 1].startswith(" " * 8)]
    assert bare == []
