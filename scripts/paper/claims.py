"""What the paper says, judged by what the experiments found."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from paper.lab import Result

AGREE, DISAGREE, CANNOT_TELL = "agree", "disagree", "cannot tell"
ALIKE = 0.02  # nats, or a share: no nearer than this can two figures of one seed be told apart
Judged = tuple[str, str]  # the verdict, and the evidence in words


class Claim(NamedTuple):
    """A claim of the paper.

    Attributes:
        section: where it is made.
        text: what it says.
        experiment: by whose facts it is judged.
        judge: facts -> verdict and evidence.
    """

    section: str
    text: str
    experiment: str
    judge: Callable[[Mapping[str, Any]], Judged]


def judged(claim: Claim, results: Mapping[str, Result]) -> Judged:
    """The verdict on a claim, and the evidence."""
    result = results.get(claim.experiment)
    if result is None:
        return CANNOT_TELL, "not run yet"
    if result.status != "done":
        reason = result.reason.strip().splitlines()[-1]
        return CANNOT_TELL, f"the experiment is {result.status}: {reason}"
    return claim.judge(result.finding.facts)


def _verdict(holds: bool) -> str:
    return AGREE if holds else DISAGREE


def _share(value: float) -> str:
    return f"{value:.0%}"


# --- note states ----------------------------------------------------------------------------------


def _barely_a_trend(facts: Mapping[str, Any]) -> Judged:
    evidence = (
        f"the mean loss of an epoch falls by {_share(facts['fall'])} from first to last; steps of "
        f"one epoch scatter by {_share(facts['wobble'])}: they fluctuate, over a plain trend"
    )
    return _verdict(facts["fall"] < 0.1), evidence


def _small_gain(facts: Mapping[str, Any]) -> Judged:
    gain = 1 - facts["last"] / facts["first"]
    evidence = (
        f"{facts['first']:.0f} at epoch {facts['first_epoch']}, {facts['last']:.0f} at epoch "
        f"{facts['last_epoch']}: {_share(gain)} less; the paper's is 2 % less"
    )
    return _verdict(gain < 0.05), evidence


def _too_slow(facts: Mapping[str, Any]) -> Judged:
    minutes = 10 * facts["minutes_an_epoch"]
    return _verdict(minutes > 30), f"10 epochs of {facts['songs']} songs in {minutes:.1f} minutes"


def _test_no_better(facts: Mapping[str, Any]) -> Judged:
    evidence = f"{facts['last']:.0f} on test songs, {facts['train']:.0f} on training songs"
    return _verdict(facts["last"] >= facts["train"]), evidence


def _learned_rests(facts: Mapping[str, Any]) -> Judged:
    made, real = facts["sounding"], facts["sounding_of_songs"]
    evidence = f"{made:.2f} notes at once in its outputs, {real:.2f} in the songs"
    return _verdict(made < real / 2), evidence


def _learned_little(facts: Mapping[str, Any]) -> Judged:
    own, levels, f1 = facts["last"], facts["baselines"], facts["f1"]
    evidence = (
        f"squared error {own:.0f}; all silent {levels['all silent']:.0f}, repeating the last step "
        f"{levels['repeat last step']:.0f}, a linear map of the last two steps "
        f"{levels['cell map']:.0f}. Sounding cells, with the threshold: F1 {f1['model']:.2f}, by "
        f"repeating {f1['repeat last step']:.2f}"
    )
    return _verdict(own > levels["cell map"] or f1["model"] < f1["repeat last step"]), evidence


def _all_alike(facts: Mapping[str, Any]) -> Judged:
    evidence = (
        f"two outputs share {_share(facts['shared'])} of their sounding cells, the two songs "
        f"{_share(facts['shared_by_songs'])}"
    )
    return _verdict(facts["shared"] > 0.5), evidence


def _different_matrices(facts: Mapping[str, Any]) -> Judged:
    return _verdict(facts["same"] == 0), f"{facts['same']} outputs equal another one"


def _weights_help(facts: Mapping[str, Any]) -> Judged:
    base, weighted = "the paper's", "cells that sound weigh 4"
    f1, sse = facts["play_f1"], facts["sse"]
    evidence = (
        f"in {facts['epochs']} epochs play F1 {f1[base]:.3f} becomes {f1[weighted]:.3f}, and the "
        f"squared error {sse[base]:.0f} becomes {sse[weighted]:.0f}"
    )
    apart = abs(f1[weighted] - f1[base]) > ALIKE
    return (_verdict(f1[weighted] > f1[base]) if apart else CANNOT_TELL), evidence


def _beginnings_generalise(facts: Mapping[str, Any]) -> Judged:
    sse = facts["sse"]
    names = ("batches in sequence", "the paper's", "from any bar")
    evidence = "squared error " + ", ".join(f"{sse[name]:.0f} ({name})" for name in names)
    return _verdict(sse[names[0]] < min(sse[name] for name in names[1:])), evidence


# --- vocabulary -----------------------------------------------------------------------------------


def _only_rests(part: str, least: float) -> Callable[[Mapping[str, Any]], Judged]:
    def judge(facts: Mapping[str, Any]) -> Judged:
        predicted, real = facts[f"{part}_plain"], facts[f"{part}_real"]
        evidence = f"{_share(predicted)} of predictions are rests; of the tokens {_share(real)} are"
        return _verdict(predicted >= least), evidence

    return judge


def _class_weights(facts: Mapping[str, Any]) -> Judged:
    pairs = [(facts[f"{part}_plain"], facts[f"{part}_weighted"]) for part in ("piano", "vocals")]
    if max(plain for plain, _ in pairs) < 0.01:
        return CANNOT_TELL, "without weights it does not predict rests either"
    evidence = "; ".join(
        f"{part}: {_share(plain)} rests without, {_share(weighted)} with"
        for part, (plain, weighted) in zip(("piano", "vocals"), pairs, strict=True)
    )
    return _verdict(all(weighted <= plain for plain, weighted in pairs)), evidence


def _piano_less_sparse(facts: Mapping[str, Any]) -> Judged:
    piano, vocals = facts["piano_real"], facts["vocals_real"]
    evidence = f"rests among the tokens: piano {piano:.1%}, vocals {vocals:.1%}"
    return (_verdict(piano < vocals) if abs(piano - vocals) > ALIKE else CANNOT_TELL), evidence


def _unmanageable(facts: Mapping[str, Any]) -> Judged:
    evidence = (
        f"{facts['with']:,} tokens in {facts['songs']} songs, {facts['without']:,} without the "
        f"instrument; as a power law, {facts['with_lakh']:,} in all of Lakh"
    )
    if facts["songs"] < 1000:
        return CANNOT_TELL, f"{evidence}: too far from so few songs"
    return _verdict(facts["with_lakh"] > 500_000), evidence


def _overfits(facts: Mapping[str, Any]) -> Judged:
    rise = facts["last_validation"] - facts["best_validation"]
    evidence = (
        f"validation {facts['first_validation']:.2f} at first, best {facts['best_validation']:.2f} "
        f"in epoch {facts['turns_at']}, {facts['last_validation']:.2f} at last; training "
        f"{facts['first_train']:.2f} to {facts['last_train']:.2f}"
    )
    fits = facts["last_train"] < facts["first_train"] - 0.5
    return _verdict(fits and rise > 0.05 and facts["turns_at"] < facts["epochs"]), evidence


def _dropout(facts: Mapping[str, Any]) -> Judged:
    losses = facts["dropout"]
    evidence = "best validation loss by dropout " + ", ".join(
        f"{name}: {loss:.3f}" for name, loss in losses.items()
    )
    if max(losses.values()) - min(losses.values()) < ALIKE:
        return CANNOT_TELL, f"{evidence}: all alike"
    return _verdict(losses["0.3"] - min(losses.values()) < ALIKE), evidence


def _slow_is_steady(facts: Mapping[str, Any]) -> Judged:
    fast, slow = facts["rates"]["0.01"], facts["rates"]["0.0001"]
    evidence = (
        f"at 0.01 validation rises in {fast['rises']} epochs and ends at "
        f"{fast['last_validation']:.2f}; at 0.0001 in {slow['rises']}, from "
        f"{slow['first_validation']:.2f} to {slow['last_validation']:.2f}"
    )
    if abs(slow["last_validation"] - slow["first_validation"]) < ALIKE:
        return CANNOT_TELL, f"{evidence}: it has hardly begun"
    steady = slow["rises"] < fast["rises"] and slow["last_validation"] < slow["first_validation"]
    return _verdict(steady), evidence


def _turns_late(facts: Mapping[str, Any]) -> Judged:
    evidence = (
        f"validation is best in epoch {facts['turns_at']} of {facts['epochs']} "
        f"({facts['best_validation']:.2f}) and ends at {facts['last_validation']:.2f}; training "
        f"ends at {facts['last_train']:.2f}"
    )
    return _verdict(
        facts["turns_at"] < facts["epochs"]
        and facts["last_validation"] > facts["best_validation"] + 0.05
    ), evidence


def _more_variable(facts: Mapping[str, Any]) -> Judged:
    before, after = facts["wobble_before"], facts["wobble_after"]
    evidence = (
        f"from epoch to epoch validation changes by {before:.3f} in the first half, by "
        f"{after:.3f} in the second"
    )
    return _verdict(after > before), evidence


def _one_chord(facts: Mapping[str, Any]) -> Judged:
    first = facts["first"]
    evidence = (
        f"at epoch 1 an output has {first['distinct']:.1f} different tokens and one comes "
        f"{first['longest_run']:.0f} times in a row"
    )
    return _verdict(first["repetition"] > 0.8), evidence


def _fuller(facts: Mapping[str, Any]) -> Judged:
    first, later = facts["first"], facts["later"]
    evidence = (
        f"different tokens {first['distinct']:.1f}, then {later['distinct']:.1f}; pitches "
        f"{first['pitches']:.1f}, then {later['pitches']:.1f}, at epoch {facts['epoch']}"
    )
    return _verdict(later["distinct"] > 2 * first["distinct"]), evidence


def _long_rests(facts: Mapping[str, Any]) -> Judged:
    first, later = facts["first"]["silence"], facts["later"]["silence"]
    evidence = (
        f"silent: {_share(first)} of the outputs at epoch 1, {_share(later)} at epoch "
        f"{facts['epoch']}, {_share(facts['real']['silence'])} of the test songs"
    )
    return _verdict(max(first, later) > 0.5), evidence


def _same_style(facts: Mapping[str, Any]) -> Judged:
    found = facts["argmax, the paper's"]
    sampled = facts["sampled"]
    evidence = (
        f"by argmax {_share(found['favourite_share'])} of the pieces have {found['favourite']} as "
        f"their most frequent token, and {_share(found['repetition'])} of tokens repeat the one "
        f"before; sampled {_share(sampled['favourite_share'])} and {_share(sampled['repetition'])}"
    )
    return _verdict(found["favourite_share"] > 0.5), evidence


def _cohesive(facts: Mapping[str, Any]) -> Judged:
    one, mixed = facts["of the decade"], facts["piano of all years"]
    overlap, nats, grams = "overlap with training songs", "nats a token", "n-grams"
    evidence = (
        f"{facts['decade']}s: {one[nats]:.2f} nats a token (n-grams {one[grams]:.2f}), overlap "
        f"with training songs {one[overlap]:.2f}; all years: {mixed[nats]:.2f} (n-grams "
        f"{mixed[grams]:.2f}), {mixed[overlap]:.2f}. Whether it is pleasant, listeners must say"
    )
    apart = abs(one[overlap] - mixed[overlap]) > 0.05
    return (_verdict(one[overlap] > mixed[overlap]) if apart else CANNOT_TELL), evidence


def _v_generalises(facts: Mapping[str, Any]) -> Judged:
    states, tokens = facts["note states"], facts["vocabulary"]
    evidence = (
        f"held-out loss over training loss: note states {states['gap']:.2f}, vocabulary "
        f"{tokens['gap']:.2f}; of the best baseline's error is left: "
        f"{_share(states['share_of_baseline'])} and {_share(tokens['share_of_baseline'])}"
    )
    better = [tokens[name] < states[name] for name in ("gap", "share_of_baseline")]
    if len(set(better)) > 1:
        return CANNOT_TELL, evidence
    return _verdict(better[0]), evidence


def _jumps(facts: Mapping[str, Any]) -> Judged:
    found = facts["[3] Kotecha and Young"]
    evidence = (
        f"{found['nll']:.2f} nats a step after a small part of their training; the baseline "
        f"{found['baseline']:.2f}. The paper itself lays the jumps to random batches"
    )
    return CANNOT_TELL, evidence


CLAIMS = (
    Claim("3.1.1", "The loss of note states fluctuates wildly, barely a downward trend (Figure 5)",
          "nsm", _barely_a_trend),
    Claim("3.1.1", "From epoch 10 to 50 the test loss hardly falls (Table 1)", "nsm", _small_gain),
    Claim("3.1.1", "Training takes too long to try other sizes: an hour for 10 epochs", "nsm",
          _too_slow),
    Claim("3.1.1", "Test error is not any better than training error", "nsm", _test_no_better),
    Claim("3.1.2", "The model learned very little from the music", "nsm", _learned_little),
    Claim("3.1.2", "It learned that there are a lot of rests", "alike", _learned_rests),
    Claim("3.1.2", "None of the outputs is exactly another", "alike", _different_matrices),
    Claim("3.1.2", "All outputs sound like the same music", "alike", _all_alike),
    Claim("3.1.2", "Weighing notes more than rests would help", "ablation", _weights_help),
    Claim("2.3", "To begin with each song's start, in sequence, generalises better", "ablation",
          _beginnings_generalise),
    Claim("3.2.1", "One LSTM layer only predicts rests for vocals", "track",
          _only_rests("vocals", 0.9)),
    Claim("3.2.1", "... and mostly rests for piano", "track", _only_rests("piano", 0.5)),
    Claim("3.2.1", "Class weights make it predict something else", "track", _class_weights),
    Claim("3.2.1", "Piano is less sparse than vocals", "track", _piano_less_sparse),
    Claim("2.3", "With the instrument in each token the vocabulary is over 500,000", "instruments",
          _unmanageable),
    Claim("3.2.1", "The first try over-fits massively within 10 epochs", "overfit", _overfits),
    Claim("3.2.1", "Dropout near 30 % gives decent validation losses", "vocabulary", _dropout),
    Claim("3.2.1", "A learning rate of 0.0001 gives a steady decline", "vocabulary",
          _slow_is_steady),
    Claim("3.2.1", "Within the epochs of Table 2 it over-fits (Figure 6)", "vocabulary",
          _turns_late),
    Claim("3.2.1", "Then the validation loss is more variable", "vocabulary", _more_variable),
    Claim("3.2.2", "At first it predicts one chord over and over (Figure 7)", "snapshots",
          _one_chord),
    Claim("3.2.2", "By epoch 50 the prediction is fuller (Figure 8)", "snapshots", _fuller),
    Claim("3.2.2", "Some outputs are really long rests", "snapshots", _long_rests),
    Claim("3.2.2", "All outputs have one strange style, a staccato note", "samplers", _same_style),
    Claim("3.2.2", "A cohesive style is crucial", "styles", _cohesive),
    Claim("3.2.1", "The vocabulary generalises better than note states", "against",
          _v_generalises),
    Claim("2.3", "Validation loss of [3] jumped around", "references", _jumps),
)  # fmt: skip
