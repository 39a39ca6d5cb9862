"""The GAN: sizes, losses from their parts, the critic's gradient by hand against two reverse modes, refusals."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import models, reverse, tree

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X, Z = RNG.uniform(-1, 1, size=(3, 16, 16, 2)), RNG.normal(size=(3, 5))


def _shifted(params):
    """Biases and scales away from 0 and 1."""
    names = tree.path_names(params)
    leaves = [np.asarray(p) + 0.05 * np.cos(7.0 * np.arange(p.size)).reshape(p.shape) for p in jax.tree.leaves(params)]
    assert len(names) == len(leaves)
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


@pytest.mark.parametrize(("size", "norm"), [(8, "none"), (8, "layer"), (16, "layer"), (32, "layer")])
def test_count_and_shapes(size, norm):
    width, latent, channels = 3, 5, 2
    model = models.gan(size, channels, latent=latent, width=width, norm=norm)
    params = jax.eval_shape(model.init, KEY)
    k = size.bit_length() - 3
    c = [*(width * 2 ** (k - 1 - i) for i in range(k)), channels]
    d = c[::-1]
    generator = (latent + 1) * 16 * c[0] + sum(16 * m * n + n for m, n in pairwise(c))
    critic = sum(16 * m * n + n for m, n in pairwise(d)) + 16 * d[k] + 1
    if norm == "layer":
        generator += sum(2 * m for m in c[:k])
        critic += 2 * sum(d[2:])
    assert tree.size(params["generator"]) == generator
    assert tree.size(params["critic"]) == critic
    images = jax.eval_shape(model.apply, params, jax.ShapeDtypeStruct((7, latent), float))
    assert images.shape == (7, size, size, channels)
    assert jax.eval_shape(model.discriminate, params, images).shape == (7,)


def test_losses_are_their_parts_and_each_half_learns_from_its_own():
    plain, wasserstein = (models.gan(16, 2, latent=5, width=2, loss=loss) for loss in ("non_saturating", "wasserstein"))

    @jax.jit
    def figures(params):
        fakes = plain.apply(params, Z)
        values = plain.discriminate(params, X), plain.discriminate(params, fakes)
        u = jnp.broadcast_to(jax.random.uniform(KEY, (3, 1, 1, 1)), X.shape)
        between = wasserstein.penalty(params, u * X + (1 - u) * fakes)
        found = []
        for model in (plain, wasserstein):
            of_critic = lambda p, model=model: model.discriminator_loss(p, X, Z, key=KEY)
            of_generator = lambda p, model=model: model.generator_loss(p, Z)
            for loss in (of_critic, of_generator):
                found.append((loss(params), jax.grad(lambda p, loss=loss: loss(p).sum())(params)))
        drawn = plain.generate(params, KEY, (2, 3)), plain.apply(params, jax.random.normal(KEY, (2, 3, 5)))
        return fakes, values, between, found, drawn, plain.apply(params, Z[0])

    fakes, (real, fake), penalty, found, drawn, single = jax.tree.map(np.asarray, figures(_shifted(plain.init(KEY))))
    assert (np.abs(fakes) < 1).all()
    np.testing.assert_allclose(single, fakes[0], rtol=1e-12, atol=1e-12)
    assert drawn[0].shape == (2, 3, 16, 16, 2)
    np.testing.assert_allclose(*drawn, rtol=1e-13, atol=1e-15)
    softplus = lambda z: np.logaddexp(0, z)
    expected = [softplus(-real) + softplus(fake), softplus(-fake), fake - real + 10 * penalty, -fake]
    for (value, grads), right, mine in zip(found, expected, ("critic", "generator") * 2):
        other = "generator" if mine == "critic" else "critic"
        np.testing.assert_allclose(value, right, rtol=1e-12)
        assert not any(leaf.any() for leaf in jax.tree.leaves(grads[other]))
        assert all(leaf.any() for leaf in jax.tree.leaves(grads[mine]) if leaf.ndim > 1)


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_the_critics_gradient_by_hand_is_that_of_reverse_over_reverse(norm):
    ways = {"hand": None, "jax": jax.value_and_grad, "reverse": reverse.value_and_grad}
    ours = {name: models.gan(16, 2, latent=5, width=2, norm=norm, differentiate=way) for name, way in ways.items()}
    outer = {"hand": reverse.grad, "jax": jax.grad, "reverse": reverse.grad}

    @jax.jit
    def figures(params):
        of = {}
        for name, model in ours.items():
            total = lambda p, x, model=model: jnp.sum(model.penalty(p, x))
            of[name] = model.penalty(params, X), outer[name](total, (0, 1))(params, jnp.asarray(X))
        return of

    of = figures(_shifted(ours["hand"].init(KEY)))
    assert (np.abs(of["jax"][0]) > 1e-3).all()
    for name in ("hand", "reverse"):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), of[name], of["jax"])


def test_a_critic_without_gradient_has_a_penalty_with_one():
    model = models.gan(8, latent=2, width=2, loss="wasserstein", initializer="zeros", norm="none")
    params = model.init(KEY)
    value, grads = jax.jit(jax.value_and_grad(lambda p: model.penalty(p, X[:, :8, :8, :1]).sum()))(params)
    assert value == 3.0
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(grads))


MODEL = models.gan(16, 2, latent=5, width=2, loss="wasserstein")


@pytest.mark.parametrize(("call", "message"), [
    (lambda p: models.gan(12), r"size: expected 4 times a power of two \(8, 16, 32, ...\), got 12"),
    (lambda p: models.gan(4), "size: expected an integer of at least 8, got 4"),
    (lambda p: MODEL.apply(p, Z[:, :4]), "^generator/dense: x: expected last axis 5"),
    (lambda p: MODEL.discriminate(p, X[..., :1]), r"x: expected shape \(\*batch, 16, 16, 2\), got \(3, 16, 16, 1\)"),
    (lambda p: MODEL.discriminator_loss(p, X, Z[:2], key=KEY), r"z: expected the batch axes of x, \(3,\), got \(2,\)"),
    (lambda p: MODEL.discriminator_loss(p, X, Z), "key: expected a random key"),
    (lambda p: models.gan(16, 2, latent=5, width=3).discriminate(p, X),
     r"^critic/blocks/0/conv: params\['weight'\]: expected shape \(4, 4, 2, 3\), got \(4, 4, 2, 2\)"),
    (lambda p: models.gan(32, 2, latent=5, width=1).apply(p, Z),
     r"^generator: params\['blocks'\]: expected a list of 3, got 2"),
    (lambda p: models.gan(16, 2, latent=5, width=2).discriminate(models.gan(16, 2, norm="none", width=2).init(KEY), X),
     "^critic/blocks/1/norm: params: expected an entry 'norm', got 'conv'"),
])  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(MODEL.init(KEY))
