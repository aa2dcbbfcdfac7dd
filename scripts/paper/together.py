"""The experiments that are of both networks: one against the other, their references, sound."""

from pathlib import Path
from typing import Any

import numpy as np

import musicjax
from musicjax.generation import listening
from musicjax.generation.options import Options
from musicjax.music.song import Song
from musicjax.rendering import audio
from musicjax.rendering.audio import AudioSettings
from musicjax.rendering.page import PageSettings
from musicjax.system import files
from paper.lab import Experiment, File, Finding, Lab, Table, standing_of
from paper.note_states import nsm_run
from paper.vocabulary import v_run

DRY = AudioSettings(compression_ratio=1.0, saturation=0.0)  # brought to the same loudness, no more
SILENCE_BARS = 2
PIECES = 2
_OWN = ("model", "unweighted")  # of what evaluate measures


def against(lab: Lab, folder: Path) -> Finding:
    """Which of the two generalises better."""
    runs = {"note states": nsm_run(lab), "vocabulary": v_run(lab)}
    measured = {"note states": "sse", "vocabulary": "nll"}
    rows, facts = [], {}
    for name, run in runs.items():
        tested, metric = run.evaluate(), measured[name]
        own = tested.get("unweighted", tested["model"])[metric]
        counted = {each: of[metric] for each, of in tested.items() if each not in _OWN}
        knowing_nothing = max(counted["all silent" if metric == "sse" else "unigram"], 1e-9)
        baseline = min(counted, key=counted.__getitem__)
        last = run.metrics[-1]
        held_out = last.get("validation_loss", last.get("test_loss"))
        rows.append([name, metric, own, knowing_nothing, counted[baseline], baseline,
                     held_out / last["train_loss"]])  # fmt: skip
        facts[name] = {
            "share_of_nothing": own / knowing_nothing,
            "share_of_baseline": own / counted[baseline],
            "gap": held_out / last["train_loss"],
        }
    settings = PageSettings(real=2, blind_seconds=5.0)
    page = listening.write_page(
        [run.workdir for run in runs.values()], folder / "page", Options(num=2), settings
    )
    columns = [
        "network", "measured in", "test songs", "knowing nothing", "best baseline", "which",
        "held-out loss / training loss at last",
    ]  # fmt: skip
    heard = page.blind or page.path
    return Finding(
        facts,
        [Table("Each in its own measure", columns, rows)],
        notes=[
            "Squared errors and perplexities have no common currency; what each takes off its "
            f"baseline compares. Hear both blind: {heard.relative_to(lab.folder)}."
        ],
    )


def references(lab: Lab, folder: Path) -> Finding:
    """The networks of references [1] and [3] on the same songs."""
    scale, rows, facts = lab.scale, [], {}
    common = {"data.source": lab.source, "train.epochs": scale.reference_epochs}
    rolls = {
        "data.songs": scale.reference_songs,
        "model.window": scale.nsm_window,
        "model.time_sizes": (200 // scale.reference_divisor,) * 2,
        "model.note_sizes": (100 // scale.reference_divisor,) * 2,
    }
    tokens = {"data.songs": scale.v_songs, "data.track": "piano", "train.stride": scale.v_stride}
    networks: dict[str, tuple[str, dict[str, Any], str]] = {
        "[3] Kotecha and Young": (
            "nsm:kotecha",
            rolls,
            "6.27 nats a step, on 124 pieces of piano after 500,000 windows",
        ),
        "[1] Anushree et al.": (
            "vocab:anushree",
            tokens | scale.network(512, 512, 0) | {"model.window": scale.reference_window},
            "no figure of held-out songs; 182 windows a second on a GPU",
        ),
    }
    for name, (config, changes, theirs) in networks.items():
        run = lab.train(f"reference_{name[1]}", config, common | changes)
        standing = standing_of(run)
        lines = run.metrics
        rate = float(np.median([line["examples_per_second"] for line in lines]))
        windows = int(sum(line["examples_per_second"] * line["seconds"] for line in lines))
        rows.append([name, windows, rate, standing.model, standing.baseline, standing.name, theirs])
        facts[name] = {"nll": standing.model, "baseline": standing.baseline}
    columns = [
        "network", "windows read", "a second", "nats an element", "best baseline", "which",
        "in its paper",
    ]  # fmt: skip
    return Finding(facts, [Table("Validation songs, the best of the epochs here", columns, rows)])


def sound(lab: Lab, folder: Path) -> Finding:
    """The same pieces before and after mastering, and with silences cut."""
    snapshot = musicjax.load(v_run(lab).workdir, str(lab.scale.v_snapshot))
    pieces = snapshot.generate(
        num=PIECES, length=lab.scale.piece_length, temperature=1.0, include_prime=False
    )
    suffix = audio.usual_format()
    ways = {
        "dry": DRY,
        "compressed, saturated, limited": AudioSettings(),
        "silences cut": AudioSettings(longest_silence=SILENCE_BARS),
    }
    rows, sounds = [], []
    for number, piece in enumerate(pieces, 1):
        for way, settings in ways.items():
            if not piece.song.num_notes:
                continue
            name = f"piece_{number}_{way.split(',')[0].replace(' ', '_')}.{suffix}"
            rows.append([f"piece {number}", way, *_heard(piece.song, settings, folder / name)])
            sounds.append(File(name, f"piece {number}, {way}"))
    crest = {way: [row[3] for row in rows if row[1] == way] for way in ways}
    facts = {f"crest of {way}": float(np.mean(of)) for way, of in crest.items() if of}
    columns = ["", "mastering", "seconds", "peak above mean level, dB", "loudness, LUFS"]
    return Finding(
        facts,
        [Table("Sound", columns, rows)],
        sounds=sounds,
        notes=[f"{audio.synthesiser()}. The paper used Logic Pro and gives no numbers."],
    )


def _heard(song: Song, settings: AudioSettings, path: Path) -> tuple[float, float, float]:
    """Writes a sound; its seconds, peak above mean level in dB, and loudness."""
    made = audio.render(song, settings)
    with files.new_file(path) as file:
        file.write(audio.encoded(made, path.suffix.removeprefix(".")))
    level = 10 * np.log10(np.mean(np.square(made)))
    peak = 20 * np.log10(np.abs(made).max())
    return len(made) / audio.RATE, float(peak - level), audio.loudness(made, audio.RATE)


EXPERIMENTS = (
    Experiment(
        "against",
        "Note states against the vocabulary",
        "Section 3.2.1: 'we believe the V model at epoch 50 does a better job at generalizing to "
        "music it hasn't been trained on than the NSM model'. The abstract: 'it's easier to train "
        "a generalized model using the vocabulary approach'.",
        against,
    ),
    Experiment(
        "sound",
        "Sound",
        "Section 3: 'we mastered the audio for clarity with the following signal chain: "
        "Compression, Saturation, Limiting. We also truncated long silences for some of the "
        "samples.'",
        sound,
    ),
    Experiment(
        "references",
        "References [1] and [3]",
        "Section 2 takes its networks from Anushree et al. [1] and from Kotecha and Young [3], "
        "whose validation loss 'jumped around quite a lot and never really decreased "
        "substantially'.",
        references,
    ),
)
