"""The convolutional network: forms, parameters, moments, dropout, refusals.  Its numbers: test_references_deep.py."""

import math
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.golden import golden
from models.networks import close, parameters, shape_of, zeros

from functional_dl import models, tree

KEY = jax.random.key(0)


def counted(space, c, classes, stages, hidden, window, norm=False, valid=False):
    """The docstring's formula."""
    total = 0
    for stage in stages:
        for k in stage:
            total += window ** len(space) * c * k + (2 * k if norm else k)
            c = k
            space = [n - window + 1 for n in space] if valid else space
        space = [n // 2 for n in space]
    widths = [math.prod(space) * c, *hidden, classes]
    return total + sum(n * m + m for n, m in pairwise(widths))


def test_parameters_are_those_of_the_formula():
    assert parameters(models.cnn((32, 32), 1, 10, padding="valid")) == 61706  # LeNet-5, channels all connected
    vgg = [[32, 32], [64, 64], [128, 128]]
    assert parameters(models.cnn((8, 8), 1, 10, "vgg")) == counted([8, 8], 1, 10, vgg, [128], 3)
    small = {"stages": [[3], [4, 5]], "hidden": [], "window": 2}
    for space, valid in (((9,), True), ((4, 5), False), ((4, 4, 6), False)):
        options = small | {"padding": "valid" if valid else "same", "batch_norm": True}
        expected = counted(space, 2, 3, small["stages"], [], 2, True, valid)
        assert parameters(models.cnn(space, 2, 3, **options)) == expected


def test_forms_have_readable_names_and_take_any_space():
    shapes = jax.eval_shape(models.cnn((8, 8), 1, 10).init, KEY)
    assert tree.path_names(shapes)[-2:] == ["stages/1/0/conv/bias", "stages/1/0/conv/weight"]
    for form in ("lenet", "vgg"):
        for space in ((8,), (8, 8), (28, 28), (32, 32), (8, 9, 10)):
            model = models.cnn(space, 2, 10, form)
            x = jax.ShapeDtypeStruct((2, 3, *space, 2), jnp.float64)
            assert jax.eval_shape(model.apply, jax.eval_shape(model.init, KEY), x).shape == (2, 3, 10)


def test_moments_at_evaluation_and_dropout():
    """With momentum 0 the running moments are the batch's: the batch evaluated is as it was trained on."""
    model = models.cnn((8,), 1, 3, "vgg", stages=[[4]], hidden=[40], batch_norm=True, momentum=0.0, dropout_rate=0.5)
    x = golden("x", (4, 8, 1))

    @jax.jit
    def all_of(key, x):
        params, moments = model.init(key), model.initial(jnp.float64)
        keys = jax.random.split(key)
        moved, one = model.apply(params, moments, x, key=keys[0])
        _, other = model.apply(params, moments, x, key=keys[1])
        same, used = model.apply(params, moved, x, deterministic=True)
        plain = models.cnn((8,), 1, 3, "vgg", stages=[[4]], hidden=[40], batch_norm=True)
        return one, other, used, moved, same, plain.apply(params, moments, x)[1]

    one, other, used, moved, same, expected = jax.device_get(all_of(KEY, x))
    close(used, expected, 1e-9)
    assert (one != other).any()
    assert (one != expected).all()
    jax.tree.map(np.testing.assert_array_equal, same, moved)


MODEL = models.cnn((8, 8), 1, 10)
NORMED = models.cnn((8,), 1, 3, stages=[[2]], batch_norm=True)
ZEROS, X = zeros(MODEL), np.zeros((2, 8, 8, 1))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: models.cnn((3, 8), 1, 10, padding="valid"), "stages/0/0/conv: space: expected axis 0 .* at least 5 long"),
    (lambda: models.cnn((8, 2), 1, 10), "stages/1/pool: space: expected axis 1 of space to be at least 2 long"),
    (lambda: models.cnn((8, 8, 8, 8), 1, 10), "space: expected one to three axes"),
    (lambda: models.cnn((8, 8), 1, 10, stages=[[4], []]), r"stages\[1\]: expected at least 1 integer"),
    (lambda: models.cnn((8, 8), 1, 10, "lnet"), "form: .* did you mean 'lenet'"),
    (lambda: models.cnn((8, 8), 1, 10, dropout_rate=1.0), "dropout_rate: expected values in"),
    (lambda: shape_of(MODEL, ZEROS, X[:, :7]), r"x: expected shape \(\*batch, 8, 8, 1\), axes -3 to -2"),
    (lambda: shape_of(MODEL, ZEROS, X[0, :, :, 0]), "x: expected shape"),
    (lambda: shape_of(MODEL, ZEROS, np.zeros((8, 8, 3))), "stages/0/0/conv: x: expected shape .*, 1\\), got"),
    (lambda: shape_of(MODEL, zeros(models.cnn((8, 8), 1, 9)), X), r"head/2: params..weight..: expected shape .84, 10"),
    (lambda: shape_of(MODEL, zeros(models.cnn((8, 8), 1, 10, "vgg")), X), "'stages'.: expected a list of 2, got 3"),
    (lambda: shape_of(MODEL, {"layers": []}, X), "params: expected an entry 'stages', got 'layers'"),
    (lambda: shape_of(NORMED, zeros(NORMED), models.cnn((8,), 1, 3, stages=[[3]], batch_norm=True).initial(), X[:, 0]),
     r"stages/0/0/norm: moments\['mean'\]: expected shape \(2,\), got \(3,\)"),
])  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_kinds_of_bad_input():
    with pytest.raises(TypeError, match=r"stages\[0\]: expected a sequence of integers, got 4"):
        models.cnn((8, 8), 1, 10, stages=[4])
    with pytest.raises(TypeError, match=r"params\['head'\]: expected a list of 3, got"):
        shape_of(MODEL, {**ZEROS, "head": {}}, X)
