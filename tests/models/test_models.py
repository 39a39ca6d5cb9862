"""The one form of all networks: every name has an example here, which goes through what users do to a network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import models, reverse, tree

KEY = jax.random.key(0)
X = np.random.default_rng(0).uniform(size=(2, 3, 4))
# name -> a network of inputs with 4 features, a network of the same name but other sizes, keywords of apply
EXAMPLES = {
    "linear": (models.linear(4, 2), models.linear(4, 3), {}),
    "logistic": (models.logistic(4, 3), models.logistic(4), {}),
    "mlp": (models.mlp((4, 3, 2), "tanh"), models.mlp((4, 4, 2), "tanh"), {}),
    "autoencoder": (models.autoencoder((4, 3, 2), "tanh"), models.autoencoder((4, 2), "tanh"), {}),
    "vae": (models.vae((4, 3, 2), "tanh"), models.vae((4, 3, 1), "tanh"), {"deterministic": True}),
    "gan": (models.gan(8, latent=4, width=1), models.gan(8, latent=4, width=2), {}),
}


def test_every_network_is_here():
    assert set(models.NAMES) == set(EXAMPLES)
    for name in models.NAMES:
        assert name in models.__all__
        assert "parameters" in models.__dict__[name].__doc__  # their number


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_network_under_transformations(name):
    """jit, vmap and no batch axes give the same; shapes are known without numbers; both reverse modes agree."""
    model, other, call = EXAMPLES[name]
    params = model.init(KEY)
    assert jax.tree.structure(params) == jax.tree.structure(jax.eval_shape(model.init, KEY))
    apply = lambda params, x: model.apply(params, x, **call)

    def loss(params, x):
        return sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(apply(params, x)))

    @jax.jit
    def figures(params, x):
        alike = apply(params, x), jax.vmap(apply, (None, 0))(params, x)
        single = apply(params, x[0, 0])
        grads = reverse.value_and_grad(loss, (0, 1))(params, x), jax.value_and_grad(loss, (0, 1))(params, x)
        return alike, single, grads

    (ys, mapped), single, (ours, theirs) = figures(params, X)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    jax.tree.map(close, ys, mapped)
    jax.tree.map(lambda y, one: close(y[0, 0], one), ys, single)
    jax.tree.map(close, ours, theirs)
    shapes = jax.eval_shape(apply, params, X)
    jax.tree.map(
        lambda y, shape: (y.shape == shape.shape and y.dtype == shape.dtype) or pytest.fail(str(shape)), ys, shapes
    )
    with pytest.raises((ValueError, TypeError), match="expected"):
        jax.eval_shape(apply, other.init(KEY), X)
    with pytest.raises((ValueError, TypeError), match="expected"):
        jax.eval_shape(apply, params, X[..., :3])


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_network_in_float32_under_strict_promotion_and_by_default(name):
    model, _, call = EXAMPLES[name]
    for x64, promotion in ((False, "standard"), (True, "strict")):
        with jax.enable_x64(x64), jax.numpy_dtype_promotion(promotion):
            params = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, jnp.float32), jax.eval_shape(model.init, KEY))
            x = jax.ShapeDtypeStruct(X.shape, jnp.float32)
            found = jax.eval_shape(lambda p, x: model.apply(p, x, **call), params, x)
            assert {y.dtype for y in jax.tree.leaves(found)} == {np.dtype(np.float32)}


def test_paths_of_layers_are_those_of_their_params():
    """A fault in each array of params is told with the path of its layer."""
    for name, (model, _, call) in EXAMPLES.items():
        params = jax.eval_shape(model.init, KEY)
        leaves, structure = jax.tree.flatten(params)
        for i, path in enumerate(tree.path_names(params)):
            if path.startswith("critic"):  # not applied by the generator
                continue
            wrong = jax.ShapeDtypeStruct((*leaves[i].shape[:-1], leaves[i].shape[-1] + 1), leaves[i].dtype)
            faulty = jax.tree.unflatten(structure, [wrong if j == i else leaf for j, leaf in enumerate(leaves)])
            with pytest.raises(ValueError, match="expected") as found:
                jax.eval_shape(lambda p, x: model.apply(p, x, **call), faulty, X)
            layer, leaf = path.rpartition("/")[::2]
            axis = len(wrong.shape) - 1
            message = f"{layer}: " if layer else ""
            message += f"params['{leaf}']: expected shape {leaves[i].shape}, got {wrong.shape} (axis {axis})"
            assert str(found.value) == message, name
