"""The weights of another run, as the beginning of this one: train.init_from.

What two runs have in common is found by what their ids stand for. A parameter has a row for each
id, or for each part of ids (such as a duration), where its shape depends on the encoding; rows of
what both know are taken over, and the others begin afresh.
"""

from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from musicjax.config import Config, flat_fields
from musicjax.encodings import make_encoding
from musicjax.encodings.base import Encoding
from musicjax.errors import InputError
from musicjax.models import build_model
from musicjax.models.base import Model, Params
from musicjax.training import workdir
from musicjax.training.workdir import Trained


class _Rows(NamedTuple):
    """What an axis of both runs has in common.

    Attributes:
        sizes: of the axis, there and here.
        there, here: int [common], places along it.
    """

    sizes: tuple[int, int]
    there: np.ndarray
    here: np.ndarray


def check(config: Config) -> None:
    """Whether this run can begin as `config.train.init_from` says, if it says so: as far as can be
    told before songs are encoded and devices are chosen.

    Raises:
        InputError: no run, or one of another model or encoding.
    """
    if config.train.init_from:
        model, theirs = workdir.load_model(config.train.init_from)
        blank = build_model(config, make_encoding(config.data))
        kinds = [(type(model), type(model.encoding)) for model in (model, blank)]
        if kinds[0] != kinds[1]:
            raise _refused(config, theirs)


def begin(model: Model, config: Config) -> Params | None:
    """The parameters of a model that `config.train.init_from` asks for; None if it does not.

    Raises:
        InputError: as `check`, or the networks are not of one shape.
    """
    folder = config.train.init_from
    return adopt(workdir.load_trained(folder), model, config) if folder else None


def adopt(trained: Trained, model: Model, config: Config) -> Params:
    """Parameters of a model that begin as those of another run; says what they have in common.

    Args:
        trained: the other run's.
        model: of `config`, on its corpus.
        config: of this run.
    Raises:
        InputError: the networks are not of one shape.
    """
    blank = build_model(config, make_encoding(config.data))
    params = model.init(config.seed)
    here, there, bare = (
        dict(jax.tree_util.tree_flatten_with_path(nnx.to_pure_dict(tree))[0])
        for tree in (params, trained.params, blank.shapes)
    )
    if {place: x.ndim for place, x in here.items()} != {p: x.ndim for p, x in there.items()}:
        raise _refused(config, trained.config)
    ids, parts = _in_common(trained.model.encoding, model.encoding)
    made = {}
    for place, fresh in here.items():
        axes = []
        for sizes in zip(there[place].shape, fresh.shape, bare[place].shape, strict=True):
            rows = _Rows(sizes[:2], *2 * (np.arange(sizes[1]),))
            if len(set(sizes)) > 1:  # it depends on the encoding
                found = [common for common in (ids, *parts) if common.sizes == sizes[:2]]
                if len(found) != 1:
                    raise _refused(config, trained.config)
                rows = found[0]
            axes.append(rows)
        array = np.array(fresh)
        kept = np.asarray(there[place])[np.ix_(*[rows.there for rows in axes])]
        array[np.ix_(*[rows.here for rows in axes])] = kept
        made[place] = array
    leaves = [made[place] for place in here]
    tree = jax.tree.unflatten(jax.tree.structure(nnx.to_pure_dict(params)), leaves)
    nnx.replace_by_pure_dict(params, jax.tree.map(jax.numpy.asarray, tree))
    line = f"begins with the weights of {config.train.init_from} at step {trained.step}"
    if model.encoding.kind == "ids" and len(ids.here) < ids.sizes[1]:
        element = model.encoding.element
        line += (
            f": {len(ids.here) - 1:,} of {ids.sizes[1] - 1:,} {element} types are known there, the "
            "others begin afresh"
        )
    print(line)
    return params


def _in_common(there: Encoding, here: Encoding) -> tuple[_Rows, list[_Rows]]:
    """The ids of two encodings that stand for the same, and the columns of their features."""
    if here.kind != "ids":
        return _Rows((0, 0), *2 * (np.zeros(0, int),)), []
    numbers = {text: i for i, text in enumerate(_texts(there))}
    pairs = [(numbers[text], i) for i, text in enumerate(_texts(here)) if text in numbers]
    ids = _Rows((there.size, here.size), *np.array(pairs).T)
    parts = []
    for old, new in zip(there.features(), here.features(), strict=False):
        # A column is known by which of the common ids have it.
        columns = {column.tobytes(): i for i, column in enumerate(old[ids.there].T.copy())}
        pairs = [
            (columns[column.tobytes()], i)
            for i, column in enumerate(new[ids.here].T.copy())
            if column.any() and column.tobytes() in columns
        ]
        parts.append(_Rows((old.shape[1], new.shape[1]), *np.array(pairs, int).reshape(-1, 2).T))
    return ids, parts


def _texts(encoding: Encoding) -> list[str]:
    """What each id stands for; 0, which stands for none, is common to all."""
    return ["", *(encoding.text(np.array([i])) for i in range(1, encoding.size))]


def _refused(config: Config, theirs: Config) -> InputError:
    """Says what of the two runs differs."""
    there, here = (flat_fields({"model": c.model, "data": c.data}) for c in (theirs, config))
    kinds, sizes = ["model.name", "data.encoding"], [n for n in here if n.startswith("model.")]
    names = [name for name in kinds if there.get(name) != here.get(name)]
    names = names or [name for name in sizes if there.get(name) != here.get(name)]
    differs = ", ".join(f"{n} is {there.get(n)!r} there and {here[n]!r} here" for n in names[:5])
    return InputError(
        f"train.init_from is {config.train.init_from!r}, a run of another network"
        + (f" ({differs})" if differs else "")
        + "; expected one of the same model, sizes and encoding"
    )
