from musicjax.music import midi
from musicjax.music.song import Meter


def test_there_are_350(chorales):
    assert len(chorales) == 350  # 371 numbers in Riemenschneider's edition, 21 of them twice


def test_they_have_four_voices_in_time(chorales):
    song = midi.read_song(chorales["bwv269.mid"])  # "Aus meines Herzens Grunde", G major, 3/4
    assert [track.name for track in song.tracks] == ["Soprano", "Alto", "Tenor", "Bass"]
    assert song.meters == (Meter(0, 1, 4), Meter(480, 3, 4))  # after a pick-up
    assert song.keys[0].fifths == 1
    soprano = song.tracks[0]
    assert soprano.pitch[:4].tolist() == [67, 67, 74, 71]
    assert (soprano.onset_ticks[:4] // 480).tolist() == [0, 1, 3, 4]


def test_the_choir_alone_is_kept(chorales):
    tracks = {name: midi.read_song(path).tracks for name, path in chorales.items()}
    # BWV 190.7 has three trumpets, timpani, oboes, strings and continuo besides; 27.6 two sopranos.
    names = [track.name for track in tracks["bwv190.7.mid"]]
    assert names == ["Soprano", "Alto", "Tenor", "Bass"]
    assert {name: len(voices) for name, voices in tracks.items() if len(voices) != 4} == {
        "bwv27.6.mid": 5
    }
