"""A fault in any array of a deep network's parameters or moments is told with its layer's path, and the axis."""

import jax
import numpy as np
import pytest
from every import every

from functional_dl import models, tree

KEY = jax.random.key(0)
IDS = jax.ShapeDtypeStruct((2, 5), np.int32)
IMAGES = jax.ShapeDtypeStruct((2, 8, 8, 2), np.float64)
SERIES = jax.ShapeDtypeStruct((2, 5, 3), np.float64)
NETWORKS = {  # besides those of test_models.py
    "cnn, norms": (models.cnn((8, 8), 2, 3, "vgg", stages=[[2, 2]], batch_norm=True), (IMAGES,)),
    "resnet": (models.resnet(8, 2, 3, widths=(2, 3, 4), shortcut="projection"), (IMAGES,)),
    "resnet, pre-activation": (models.resnet(4, 2, 3, widths=(2,), pre_activation=True), (IMAGES,)),
    "recurrent, both ways": (models.recurrent(3, 4, 2, "gru", bidirectional=True), (SERIES,)),
    "transformer, source": (models.transformer(7, 8, 2, 1, 6, "encoder_decoder"), (IDS, IDS)),
}


def _longer(leaf):
    return jax.ShapeDtypeStruct((*leaf.shape[:-1], leaf.shape[-1] + 1), leaf.dtype)


def _faults(trees, i):
    """The i-th of these trees with one leaf a little longer, for each of its leaves."""
    leaves, structure = jax.tree.flatten(trees[i])
    for j, path in enumerate(tree.path_names(trees[i])):
        faulty = jax.tree.unflatten(structure, [_longer(x) if k == j else x for k, x in enumerate(leaves)])
        yield path, leaves[j].shape, [*trees[:i], faulty, *trees[i + 1 :]]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.sampled(3)
def test_a_fault_is_told_by_its_path(name, record_property):
    model, inputs = NETWORKS[name]
    trees = [jax.eval_shape(model.init, KEY)]
    trees += [jax.eval_shape(model.initial)] if isinstance(model, models.StatefulModel) else []

    def is_told(case):
        path, shape, given = case
        with pytest.raises(ValueError, match="expected shape") as found:
            jax.eval_shape(model.apply, *given, *inputs)
        layer, leaf = path.rpartition("/")[::2]
        what = "moments" if leaf in ("mean", "variance") else "params"
        longer = (*shape[:-1], shape[-1] + 1)
        assert str(found.value) == (
            f"{layer}: {what}['{leaf}']: expected shape {shape}, got {longer} (axis {len(shape) - 1})"
        )

    count = every((case for i in range(len(trees)) for case in _faults(trees, i)), is_told, name=lambda case: case[0])
    record_property("cases", count)
