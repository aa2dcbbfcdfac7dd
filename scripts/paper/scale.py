"""How much of each experiment is run."""

import dataclasses


def _size(default, help: str):
    return dataclasses.field(default=default, metadata={"help": help})


@dataclasses.dataclass(frozen=True)
class Scale:
    """Sizes of the experiments. The defaults are the paper's, where it gives them."""

    nsm_songs: int = _size(400, "songs of the note state experiments, an eighth of them to test")
    nsm_window: int = _size(128, "steps of a song")
    nsm_epochs: int = _size(50, "epochs of Table 1")
    nsm_snapshot: int = _size(10, "epoch of the first row of Table 1")
    long_epochs: int = _size(1, "epochs at twice the steps, to time them")
    ablation_songs: int = _size(400, "songs of the ablation, three in ten of them to test")
    ablation_epochs: int = _size(20, "epochs of each run of the ablation")
    v_songs: int = _size(42, "songs of piano, a twelfth to validate and a twelfth to test")
    v_divisor: int = _size(1, "by which the vocabulary network's layers are smaller")
    v_window: int = _size(50, "tokens that the vocabulary network reads")
    v_stride: int = _size(1, "an epoch takes every so-many-th window")
    v_epochs: int = _size(100, "epochs of Table 2")
    v_rate: float = _size(1e-4, "learning rate of Table 2")
    v_snapshot: int = _size(50, "epoch of Figure 8")
    dropouts: tuple[float, ...] = _size((0.0, 0.1, 0.3, 0.5), "shares of dropout that are tried")
    rates: tuple[float, ...] = _size((1e-2, 1e-3, 1e-4), "learning rates that are tried")
    try_epochs: int = _size(10, "epochs of each shorter try with the vocabulary")
    track_songs: int = _size(50, "songs of the choice of track")
    style_songs: int = _size(35, "songs of a style, at most")
    style_seeds: int = _size(3, "seeds of the styles")
    seeds: int = _size(3, "seeds of the ablation")
    growth: tuple[int, ...] = _size((25, 50, 100, 200), "songs whose vocabularies are counted")
    reference_songs: int = _size(400, "songs of the network of reference [3]")
    reference_divisor: int = _size(1, "by which that network's layers are smaller")
    reference_window: int = _size(100, "tokens that the network of reference [1] reads")
    reference_epochs: int = _size(50, "epochs of the networks of references [1] and [3]")
    pieces: int = _size(16, "pieces that are made of each model")
    piece_length: int = _size(100, "tokens of a piece")

    def network(self, encoder: int = 512, decoder: int = 256, dense: int = 256) -> dict[str, int]:
        """Config fields of the vocabulary network's sizes."""
        sizes = {"encoder_size": encoder, "decoder_size": decoder, "dense_size": dense}
        return {f"model.{name}": -(-size // self.v_divisor) for name, size in sizes.items() if size}


FULL = Scale()
CPU = Scale(
    ablation_songs=80,
    v_divisor=8,
    v_stride=6,
    v_rate=1e-3,
    dropouts=(0.0, 0.3, 0.5),
    style_seeds=2,
    seeds=2,
    reference_songs=60,
    reference_epochs=1,
)
SMOKE = Scale(
    nsm_songs=24,
    nsm_window=16,
    nsm_epochs=3,
    nsm_snapshot=1,
    ablation_songs=16,
    ablation_epochs=1,
    v_songs=20,
    v_divisor=64,
    v_window=16,
    v_stride=16,
    v_epochs=3,
    v_rate=1e-2,
    v_snapshot=3,
    dropouts=(0.3,),
    rates=(1e-2, 1e-4),
    try_epochs=1,
    track_songs=20,
    style_songs=16,
    style_seeds=1,
    seeds=1,
    growth=(5, 20),
    reference_songs=12,
    reference_divisor=25,
    reference_window=16,
    reference_epochs=1,
    pieces=3,
    piece_length=16,
)
SCALES = {"full": FULL, "cpu": CPU, "smoke": SMOKE}
