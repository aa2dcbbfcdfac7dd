import dataclasses

import pytest
import runs
from conftest import make_song, make_track

from musicjax.errors import InputError
from musicjax.generation import listening
from musicjax.generation.options import Options
from musicjax.music import midi
from musicjax.music.song import Tempo
from musicjax.rendering.audio import AudioSettings
from musicjax.rendering.page import PageSettings, is_page
from musicjax.training import exported
from musicjax.training.settings import ExportSettings

QUICK = PageSettings(real=1, audio="wav", blind_seconds=3)


@pytest.fixture(scope="module")
def workdir(folder, tmp_path_factory):
    return runs.trained(folder, tmp_path_factory)


def test_models_stand_side_by_side_beside_real_songs(workdir, tmp_path):
    settings = dataclasses.replace(QUICK, checkpoints="best,last")
    options = Options(num=1, seed=1, seconds=4)
    output = tmp_path / "page"
    written = listening.write_page([workdir], output, options, settings, AudioSettings())
    assert written.problems == []
    assert written.path == output / "index.html"
    text = written.path.read_text()
    assert text.count("<article") == 2 + 1
    for part in ("vocab_tiny, best", "vocab_tiny, last", "<h2>Seed 1", "<h2>Real songs"):
        assert part in text
    assert text.count("Upper line: ") == 3  # the novelty of each
    assert text.count("measures outside of the songs") == 3
    assert (output / "picture" / "section-1.png").exists()
    # The prime and what was made, as generate writes them.
    tracks = midi.read_song(output / "midi" / "piece-1.mid").tracks
    assert [track.name for track in tracks] == ["prime", "generated"]
    assert written.blind
    assert len(list((output / "blind" / "audio").iterdir())) == 2 * 2  # as many real ones
    # Again, into the same folder; the same command gives the same music. No piece is so long.
    best = (output / "midi" / "piece-1.mid").read_bytes()
    without = dataclasses.replace(QUICK, blind_seconds=60)
    again = listening.write_page([workdir], output, options, without)
    assert again.blind is None
    assert not (output / "blind").exists()
    assert len(list((output / "midi").iterdir())) == 2
    assert (output / "midi" / "piece-1.mid").read_bytes() == best
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


def test_what_is_no_page_is_not_overwritten(workdir, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("<html>my page")
    with pytest.raises(InputError, match="holds something else"):
        listening.write_page([workdir], tmp_path / "mine", Options(num=1), QUICK)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="which is a file"):
        listening.write_page([workdir], tmp_path / "file", Options(num=1), QUICK)
    with pytest.raises(InputError, match="no folder"):
        listening.write_page([tmp_path / "nothing"], tmp_path / "page", Options(num=1), QUICK)
    assert not is_page(tmp_path / "page")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine"]


def test_clips_begin_at_a_bar_and_are_as_long():
    song = make_song(
        make_track([(i * 480, 700, 40 + i) for i in range(41)]),
        tempos=(Tempo(0, 30.0), Tempo(1920, 120.0), Tempo(9600, 60.0)),
    )
    found = {listening._from_a_bar(song, 4.0, share).notes()[0, 2] for share in (0, 0.3, 0.6, 1)}
    assert len(found) > 2
    clip = song.stretch(3840, 3840 + 1920)
    assert clip.notes()[:, 0].tolist() == [0, 480, 960, 1440]
    assert clip.end_ticks == 1920  # the last is cut off
    assert clip.tempos == (Tempo(0, 120.0), Tempo(5760, 60.0))
    assert listening._from_a_bar(make_song(), 4.0, 0.5).num_notes == 0
    short = listening._from_a_bar(make_song(make_track([(0, 480, 60)])), 4.0, 0.5)
    assert short.num_notes == 1


def test_a_model_without_its_training_songs_is_judged_by_its_test_songs(workdir, tmp_path):
    settings = ExportSettings(songs=1000, programs=False)
    shared = exported.export(workdir, tmp_path / "shared", settings)
    [shown] = listening._runs([shared], ["best"], Options(num=1, seed=1, seconds=4))
    judges = {shown.fingerprint: listening._Judge(shown.corpus, 32)}
    sections = listening._sections([shown], judges, real=1)
    exhibits = [exhibit for section in sections for exhibit in section.exhibits]
    assert [exhibit.novelty for exhibit in exhibits] == ["", ""]
    assert all(exhibit.measures for exhibit in exhibits)
    [table] = listening._tables([shown], judges)
    count = len(shown.corpus.split("test"))
    assert table.columns == ["measure", f"test songs ({count})", "shared (1)"]
    assert "overlaps that of the test songs" in table.text
