"""PyTorch's values and cotangents of networks of dense layers and of the GAN (make_references_dense.py), to 1e-10."""

import jax
import jax.numpy as jnp
import pytest

from functional_dl import losses, models, reverse
from tests.references import assert_agrees, load

REFERENCES = load(__file__, "references_dense.json")


def _dense(w, b):
    return {"weight": w.T, "bias": b}


def _layers(weights, prefix=""):
    depth = sum(name.startswith(f"{prefix}w") for name in weights)
    return {"layers": [_dense(weights[f"{prefix}w{l}"], weights[f"{prefix}b{l}"]) for l in range(depth)]}


def _halves(weights):
    return {"encoder": _layers(weights, "e"), "decoder": _layers(weights, "d")}


def _logistic(classes, loss):
    def fun(x, w, b, **targets):
        model = models.logistic(3, classes)
        logits = model.apply(_dense(w, b), x)
        return loss(logits, *targets.values())

    return fun


def _vae(likelihood):
    model = models.vae((5, 4, 2), likelihood=likelihood)
    return lambda x, noise, **w: model.loss(_halves(w), x, noise=noise)


def _conv(k, c):
    return {"weight": jnp.moveaxis(k, (0, 1), (-1, -2)), "bias": c}


def _generator(z, w0, b0, **p):
    model = models.gan(16, latent=3, width=2)
    blocks = [
        {"norm": {"scale": p[f"scale{i}"], "bias": p[f"shift{i}"]}, "conv": _conv(p[f"k{i}"], p[f"c{i}"])}
        for i in range(2)
    ]
    # its maps of 4 channels are (channels, 4, 4), ours (4, 4, channels)
    last = lambda of: jnp.moveaxis(of.reshape(4, 4, 4, *of.shape[1:]), 0, 2).reshape(of.shape)
    params = {"generator": {"dense": _dense(last(w0), last(b0)), "blocks": blocks}}
    return jnp.moveaxis(model.apply(params, z), -1, 1)


def _critic(method, differentiate=None):
    def fun(x, k0, c0, k1, c1, w0, b0, scale=None, shift=None):
        norm = "none" if scale is None else "layer"
        model = models.gan(16, latent=3, width=2, norm=norm, differentiate=differentiate)
        blocks = [{"conv": _conv(k0, c0)}, {"conv": _conv(k1, c1), "norm": {"scale": scale, "bias": shift}}]
        last = jnp.moveaxis(w0.reshape(4, 4, 4), 0, 2).reshape(64, 1)
        params = {"critic": {"blocks": blocks, "dense": {"weight": last, "bias": b0}}}
        return getattr(model, method)(params, jnp.moveaxis(x, 1, -1))

    return fun


OURS = {
    "linear": lambda input, weight, bias: models.linear(3, 2).apply(_dense(weight, bias), input),
    "logistic, binary, cross-entropy": _logistic(1, losses.sigmoid_cross_entropy),
    "logistic, classes, cross-entropy": _logistic(5, losses.softmax_cross_entropy),
    "logistic, probabilities": lambda x, w, b: models.logistic(3, 4).probabilities(_dense(w, b), x),
    **{
        f"mlp, {name}": lambda x, name=name, **w: models.mlp((4, 5, 3, 2), name).apply(_layers(w), x)
        for name in ("relu", "tanh", "gelu", "silu")
    },
    "autoencoder, sigmoid": lambda x, **w: models.autoencoder((5, 4, 2), "tanh", output="sigmoid").apply(_halves(w), x),
    "vae, bernoulli": _vae("bernoulli"),
    "vae, gaussian": _vae("gaussian"),
    "gan, generator": _generator,
    "gan, critic": _critic("discriminate"),
    "gan, penalty": _critic("penalty"),
    "gan, penalty, no norm": _critic("penalty"),
}
# the penalty's second-order gradient by either reverse mode over itself, too
OVER = {
    f"{case}, {name}": (case, _critic("penalty", way))
    for case in ("gan, penalty", "gan, penalty, no norm")
    for name, way in (("by jax", jax.value_and_grad), ("by reverse", reverse.value_and_grad))
}


def test_every_reference_is_looked_at():
    assert set(OURS) == set(REFERENCES)


@pytest.mark.parametrize("name", [*OURS, *OVER])
@pytest.mark.sampled(3)
def test_values_and_cotangents(name):
    case, fun = OVER.get(name) or (name, OURS[name])
    assert_agrees(REFERENCES[case], fun)
