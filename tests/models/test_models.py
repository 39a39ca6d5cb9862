"""The one form of all networks: every name has an example here, which goes through what users do to a network."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import explain, models, reverse, tree

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
X = RANDOM.uniform(size=(2, 3, 4))
IMAGES = RANDOM.uniform(size=(2, 3, 4, 4, 1))
SERIES = RANDOM.uniform(size=(2, 3, 5, 4))
IDS = RANDOM.integers(0, 7, (2, 3, 5))
SMALL = {"stages": [[2]], "window": 3, "hidden": []}


class Example(NamedTuple):
    """A network, one of the same name but other sizes, inputs of it with two batch axes and others that do not fit.

    `call` are keywords of apply; of a network with moments, it is used with its first ones.
    """

    model: Any
    other: Any
    x: np.ndarray = X
    wrong: np.ndarray = X[..., :3]
    call: dict = {}  # noqa: RUF012

    def apply(self, params, x):
        if isinstance(self.model, models.StatefulModel):
            return self.model.apply(params, self.model.initial(x.dtype), x, deterministic=True)[1]
        return self.model.apply(params, x, **self.call)


EXAMPLES = {
    "linear": Example(models.linear(4, 2), models.linear(4, 3)),
    "logistic": Example(models.logistic(4, 3), models.logistic(4)),
    "mlp": Example(models.mlp((4, 3, 2), "tanh"), models.mlp((4, 4, 2), "tanh")),
    "cnn": Example(models.cnn((4, 4), 1, 2, **SMALL), models.cnn((4, 4), 1, 3, **SMALL), IMAGES, IMAGES[:, :, :3]),
    "resnet": Example(
        models.resnet(6, 1, 2, widths=(2, 3), pre_activation=True, shortcut="projection"),
        models.resnet(4, 1, 2, widths=(2,), pre_activation=True),
        IMAGES,
        np.concatenate([IMAGES, IMAGES], -1),
    ),
    "recurrent": Example(
        models.recurrent(4, 3, 2, "lstm", depth=2), models.recurrent(4, 3, 2, "gru", depth=2), SERIES, SERIES[..., :3]
    ),
    "transformer": Example(
        models.transformer(7, 4, 2, 1, 6, hidden=3, key_value_heads=1, tied=True),
        models.transformer(7, 4, 2, 1, 6, hidden=3, tied=True),
        IDS,
        np.concatenate([IDS, IDS], -1),
    ),
    "autoencoder": Example(models.autoencoder((4, 3, 2), "tanh"), models.autoencoder((4, 2), "tanh")),
    "vae": Example(models.vae((4, 3, 2), "tanh"), models.vae((4, 3, 1), "tanh"), call={"deterministic": True}),
    "gan": Example(models.gan(8, latent=4, width=1), models.gan(8, latent=4, width=2)),
}


def test_every_network_is_here():
    assert set(models.NAMES) == set(EXAMPLES)
    for name in models.NAMES:
        assert name in models.__all__
        assert "parameters" in models.__dict__[name].__doc__  # their number


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.sampled(3)
def test_a_network_under_transformations(name):
    """jit, vmap and no batch axes give the same; shapes are known without numbers; both reverse modes agree."""
    example = EXAMPLES[name]
    model, apply, x = example.model, example.apply, example.x
    params = jax.jit(model.init)(KEY)
    assert jax.tree.structure(params) == jax.tree.structure(jax.eval_shape(model.init, KEY))
    wanted = (0, 1) if np.issubdtype(x.dtype, np.floating) else 0

    def loss(params, x):
        return sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(apply(params, x)))

    @jax.jit
    def figures(params, x):
        alike = apply(params, x), jax.vmap(apply, (None, 0))(params, x)
        single = apply(params, x[0, 0])
        grads = reverse.value_and_grad(loss, wanted)(params, x), jax.value_and_grad(loss, wanted)(params, x)
        return alike, single, grads

    (ys, mapped), single, (ours, theirs) = figures(params, x)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    jax.tree.map(close, ys, mapped)
    jax.tree.map(lambda y, one: close(y[0, 0], one), ys, single)
    jax.tree.map(close, ours, theirs)
    shapes = jax.eval_shape(apply, params, x)
    jax.tree.map(
        lambda y, shape: (y.shape == shape.shape and y.dtype == shape.dtype) or pytest.fail(str(shape)), ys, shapes
    )
    with pytest.raises((ValueError, TypeError), match="expected"):
        jax.eval_shape(apply, jax.eval_shape(example.other.init, KEY), x)
    with pytest.raises((ValueError, TypeError), match="expected"):
        jax.eval_shape(apply, params, example.wrong)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_network_in_float32_under_strict_promotion_and_by_default(name):
    example = EXAMPLES[name]
    of = np.float32 if np.issubdtype(example.x.dtype, np.floating) else np.int32
    for x64, promotion in ((False, "standard"), (True, "strict")):
        with jax.enable_x64(x64), jax.numpy_dtype_promotion(promotion):
            params = jax.tree.map(
                lambda p: jax.ShapeDtypeStruct(p.shape, jnp.float32), jax.eval_shape(example.model.init, KEY)
            )
            found = jax.eval_shape(example.apply, params, jax.ShapeDtypeStruct(example.x.shape, of))
            assert {y.dtype for y in jax.tree.leaves(found)} == {np.dtype(np.float32)}


def test_paths_of_layers_are_those_of_their_params():
    """A fault in each array of params is told with the path of its layer."""
    for name, example in EXAMPLES.items():
        params = jax.eval_shape(example.model.init, KEY)
        leaves, structure = jax.tree.flatten(params)
        for i, path in enumerate(tree.path_names(params)):
            if path.startswith("critic"):  # not applied by the generator
                continue
            wrong = jax.ShapeDtypeStruct((*leaves[i].shape[:-1], leaves[i].shape[-1] + 1), leaves[i].dtype)
            faulty = jax.tree.unflatten(structure, [wrong if j == i else leaf for j, leaf in enumerate(leaves)])
            with pytest.raises(ValueError, match="expected") as found:
                jax.eval_shape(example.apply, faulty, example.x)
            layer, leaf = path.rpartition("/")[::2]
            axis = len(wrong.shape) - 1
            message = f"{layer}: " if layer else ""
            message += f"params['{leaf}']: expected shape {leaves[i].shape}, got {wrong.shape} (axis {axis})"
            assert str(found.value) == message, name


@pytest.mark.parametrize("name", ["cnn", "resnet", "recurrent", "transformer"])
def test_the_table_of_layers_has_each_of_them(name):
    """Every layer with parameters has its row, has operations there both ways, and the numbers add up."""
    example = EXAMPLES[name]
    params = jax.eval_shape(example.model.init, KEY)
    table = explain.tabulate(example.model, example.x)
    rows = {row.path: row for row in table.rows}
    layers_of = {path.rpartition("/")[0] for path in tree.path_names(params)}
    assert all(rows[path].flops > 0 and rows[path].backward_flops > 0 for path in layers_of)
    assert sum(row.parameters for row in table.rows) == sum(p.size for p in jax.tree.leaves(params))
