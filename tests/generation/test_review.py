import numpy as np
import pytest
from conftest import make_song, make_track

from musicjax.encodings.events import EventEncoding
from musicjax.encodings.note_states import NoteStateEncoding
from musicjax.evaluation.metrics import Passage, measure
from musicjax.generation.piece import Piece
from musicjax.generation.primes import Prime
from musicjax.generation.review import inner
from musicjax.music.song import Meter

EVENTS = EventEncoding(resolution=4, velocities=0, instruments=False, tempos=0, ends=True, meter="")
STATES = NoteStateEncoding(lowest=40, highest=80, articulate=True)
# In twelfths of a quarter: the rest of a chord on the second beat, whole bars, and a last chord.
CHORDS = [(12, 12, 50), (24, 24, 50), (24, 24, 60), (48, 48, 50), (48, 24, 60), (72, 30, 62)]


def piece_of(notes, encoding, *, ended=False, meters=()):
    song = make_song(make_track(notes), ticks_per_quarter=12, meters=meters)
    elements = encoding.all_elements(encoding.encode(song).elements)
    scale = encoding.units_per_quarter / 12
    rows = [(int(a * scale), int(b * scale), pitch) for a, b, pitch in notes]
    meters = tuple(meter._replace(tick=int(meter.tick * scale)) for meter in meters)
    song = make_song(make_track(rows), ticks_per_quarter=encoding.units_per_quarter, meters=meters)
    passage = Passage(song, song.end_ticks, elements, encoding.element)
    prime = Prime(elements[:0], elements[:0], {}, 0, 120.0, 0, None, 80, "a prime")
    return Piece(song, 0, prime, passage, measure(passage), "", ended=ended)


@pytest.mark.parametrize("encoding", [EVENTS, STATES], ids=["events", "note states"])
def test_of_a_piece_whole_bars_are_measured(encoding):
    piece = piece_of(CHORDS, encoding)
    quarter = encoding.units_per_quarter
    assert measure(piece.passage)["polyphony"] < 2  # the prime's notes of the first are missing
    whole = inner(piece, encoding)
    assert whole.ticks == 2 * quarter  # up to 72: whether more begins there nobody knows
    assert whole.notes[:, :3].tolist() == [
        [0, 2 * quarter, 50],
        [0, 2 * quarter, 60],
    ]
    assert measure(whole)["polyphony"] == 2
    made = encoding.encode(make_song(make_track([(0, 48, 50), (0, 24, 60)]), ticks_per_quarter=12))
    if encoding is EVENTS:
        assert encoding.text(whole.elements) == encoding.text(made.elements[:-1])
    else:
        assert len(whole.elements) == 8


def test_a_piece_that_ends_by_itself_is_measured_to_its_end():
    whole = inner(piece_of(CHORDS, EVENTS, ended=True), EVENTS)
    assert whole.ticks == 72 + 30 - 48
    assert len(whole.notes) == 3
    assert EVENTS.is_end(whole.elements)[-1]


def test_the_meter_that_holds_goes_on():
    meters = (Meter(0, 1, 4), Meter(12, 3, 4), Meter(48, 2, 4))
    notes = [(0, 12, 60), *((12 * i, 12, 62) for i in range(1, 9))]
    whole = inner(piece_of(notes, EVENTS, meters=meters), EVENTS)
    assert whole.song.meters == (Meter(0, 3, 4), Meter(36, 2, 4))
    assert len(whole.notes) == 7


@pytest.mark.parametrize("notes", [[(0, 12, 60)], [(0, 12, 60), (36, 12, 62)], [(12, 36, 60)]])
def test_a_piece_of_one_bar_stays_as_it_is(notes):
    piece = piece_of(notes, EVENTS)
    assert inner(piece, EVENTS) is piece.passage


def test_a_silent_piece_stays_as_it_is():
    song = make_song(make_track(np.zeros((0, 3), int)), ticks_per_quarter=12)
    passage = Passage(song, 96, np.zeros(0, np.int32), "event")
    piece = piece_of([(0, 12, 60)], EVENTS)._replace(passage=passage)
    assert inner(piece, EVENTS) is passage
