"""What the configs of all encodings say of the songs: where they come from, and which are trusted.

Each setting that leaves songs out is counted by its reason, given in brackets, in the corpus
folder's manifest.json, skipped.jsonl and report.
"""

from ml_collections import ConfigDict


def get_data() -> ConfigDict:
    data = ConfigDict()
    # A folder of MIDI files at any depth, of Lakh's or Slakh's layout or any other; Bach's
    # chorales; a set of piano rolls (.npz); or a corpus folder.
    data.source = "chorales"
    # all (every pitched track), vocals, drums, a program family of General MIDI such as piano,
    # bass, strings, "synth lead", or a pattern for track names [no_track]. default is all, and for
    # the chorales soprano and bass, since four voices make more types than they have music.
    data.track = "default"
    data.drums = False  # the percussion channel besides the part, if the encoding can tell them
    data.transpose = True  # songs to C major or A minor, by an estimate of their key
    data.align = False  # move songs that are between the points of a grid of sixteenths onto it
    data.longest_silence = 0  # bars; longer ones are cut to it; 0 keeps them

    # Artist, title and year: a TSV or CSV, as musicjax/sources/metadata.py describes; "": none.
    data.table = ""
    data.decade = 0  # such as 1970; 0: all [other_year, unknown_year]
    data.first_year = 0  # 0: no limit, as of the last
    data.last_year = 0  # itself included

    data.check_md5 = True  # files named by 32 hex digits have that MD5 [wrong_md5]
    data.dedupe_files = True  # of files of the same bytes keep one [copy]
    data.dedupe_notes = True  # of songs of the same notes, in whatever key, keep one [same_notes]
    data.versions = 1  # songs of one artist and title, if known; 0: all [version]
    data.least_notes = 8  # in the chosen part [few_notes]
    data.longest_minutes = 60.0  # of a song; 0: no limit [too_long]
    data.least_qpm = 20.0  # quarters a minute, of the tempo that holds longest [tempo]
    data.most_qpm = 400.0  # likewise
    data.most_megabytes = 4.0  # of a file [too_big]
    data.seconds_per_file = 30.0  # a file that takes longer is given up [too_slow]

    data.songs = 0  # use at most so many, chosen by a hash; 0: all [spare]
    # content: songs are held out by a hash of their music; index: as the folder's index.tsv says
    # [not_in_index]. The splits that a source itself names (Slakh, piano rolls) are kept in either
    # case.
    data.split_by = "content"
    data.validation_share = 0.1  # of the songs; where the source names none, of its train songs
    data.test_share = 0.1  # of the songs
    return data
