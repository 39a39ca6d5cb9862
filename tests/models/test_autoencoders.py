"""Autoencoder and VAE: parts by NumPy, the ELBO where the evidence is known exactly, draws, refusals."""

import math
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from functional_dl import models, tree

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
SIZES = (5, 4, 2)
X = RNG.uniform(size=(3, 5))


def _forward(params, x):
    """A perceptron with ReLU by NumPy."""
    *hidden, last = params["layers"]
    for layer in hidden:
        x = np.maximum(x @ layer["weight"] + layer["bias"], 0)
    return x @ last["weight"] + last["bias"]


def _shifted(params):
    """Biases away from 0, as NumPy's arrays."""
    return jax.tree.map(lambda p: np.asarray(p) + 0.1, params)


@pytest.mark.parametrize("sizes", [(5, 2), (5, 4, 2), (7, 6, 5, 1)])
def test_counts(sizes):
    count = sum(2 * n * m + n + m for n, m in pairwise(sizes))
    assert tree.size(jax.eval_shape(models.autoencoder(sizes).init, KEY)) == count
    assert tree.size(jax.eval_shape(models.vae(sizes).init, KEY)) == count + (sizes[-2] + 1) * sizes[-1]


def test_autoencoder_by_numpy():
    model = models.autoencoder(SIZES, output="sigmoid")
    params = _shifted(model.init(KEY))
    code, back = jax.jit(lambda p: (model.encode(p, X), model.apply(p, X)))(params)
    np.testing.assert_allclose(code, _forward(params["encoder"], X), rtol=1e-13)
    logits = _forward(params["decoder"], _forward(params["encoder"], X))
    np.testing.assert_allclose(back, 1 / (1 + np.exp(-logits)), rtol=1e-13)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_vae_by_numpy(likelihood):
    model = models.vae(SIZES, likelihood=likelihood)
    params, noise = _shifted(model.init(KEY)), RNG.normal(size=(3, 2))

    @jax.jit
    def figures(params):
        given = model.apply(params, X, noise=noise)
        used = model.apply(params, X, deterministic=True)[0]
        drawn = [model.apply(params, X, key=jax.random.key(k))[0] for k in (0, 1)]
        drawn.append(model.apply(params, X, noise=jax.random.normal(jax.random.key(0), (3, 2)))[0])
        return given, used, drawn, model.loss(params, X, noise=noise), model.sample(params, KEY, (4,))

    (logits, m, s), used, drawn, loss, sample = jax.tree.map(np.asarray, figures(params))
    both = _forward(params["encoder"], X)
    np.testing.assert_allclose(m, both[:, :2], rtol=1e-13)
    np.testing.assert_allclose(s, both[:, 2:], rtol=1e-13)
    np.testing.assert_allclose(logits, _forward(params["decoder"], m + np.exp(s / 2) * noise), rtol=1e-12)
    np.testing.assert_allclose(used, _forward(params["decoder"], m), rtol=1e-12)
    np.testing.assert_allclose(drawn[0], drawn[2], rtol=1e-14)
    assert not np.allclose(drawn[0], drawn[1])
    nll = (
        (np.logaddexp(0, logits) - X * logits).sum(-1)
        if likelihood == "bernoulli"
        else ((X - logits) ** 2 + math.log(2 * math.pi)).sum(-1) / 2
    )
    np.testing.assert_allclose(loss, nll + (m**2 + np.exp(s) - 1 - s).sum(-1) / 2, rtol=1e-12)
    assert sample.shape == (4, 5)
    assert ((sample > 0) & (sample < 1)).all() == (likelihood == "bernoulli")


def test_with_the_exact_posterior_the_elbo_is_the_evidence():
    """x = z W + b + noise, W W^T = diag v: z given x is N((x - b) W^T / (1 + v), 1 / (1 + v)), x is N(b, W^T W + I)."""
    model = models.vae((5, 2), likelihood="gaussian")
    v = np.array([4.0, 0.25])
    w = np.sqrt(v)[:, None] * np.linalg.qr(RNG.normal(size=(5, 2)))[0].T
    b = RNG.normal(size=5)
    to_mean = w.T / (1 + v)
    params = {
        "encoder": {
            "layers": [
                {
                    "weight": np.concatenate([to_mean, np.zeros((5, 2))], 1),
                    "bias": np.concatenate([-b @ to_mean, -np.log1p(v)]),
                }
            ]
        },
        "decoder": {"layers": [{"weight": w, "bias": b}]},
    }
    # the loss is quadratic in the noise: means over the points +-sqrt(2) e_j are exact
    points = math.sqrt(2) * np.concatenate([np.eye(2), -np.eye(2)])
    losses = jax.jit(jax.vmap(lambda e: model.loss(params, X, noise=jnp.broadcast_to(e, (3, 2)))))(points)
    evidence = multivariate_normal(b, w.T @ w + np.eye(5)).logpdf(X)
    np.testing.assert_allclose(-np.asarray(losses).mean(0), evidence, rtol=1e-12)


AUTO, VAE = models.autoencoder(SIZES), models.vae(SIZES)


@pytest.mark.parametrize(("call", "message"), [
    (lambda p: AUTO.apply(p, X[:, :4]), "^encoder/layers/0: x: expected last axis 5"),
    (lambda p: AUTO.decode(p, X), "^decoder/layers/0: x: expected last axis 2"),
    (lambda p: models.autoencoder((5, 3, 2)).apply(p, X),
     r"^encoder/layers/0: params\['weight'\]: expected shape \(5, 3\), got \(5, 4\) \(axis 1\)"),
    (lambda p: AUTO.apply(p["encoder"], X), "params: expected an entry 'encoder', got 'layers'"),
    (lambda p: VAE.apply(p, X, deterministic=True), r"^encoder/layers/1: .* expected shape \(4, 4\), got \(4, 2\)"),
    (lambda p: VAE.loss(VAE.init(KEY), X), "key: expected a random key"),
    (lambda p: VAE.loss(VAE.init(KEY), X, noise=X), r"noise: expected shape \(3, 2\), got \(3, 5\)"),
    (lambda p: VAE.loss(VAE.init(KEY), X + 1, key=KEY), r"targets: expected values in \[0, 1\]"),
])  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(AUTO.init(KEY))
