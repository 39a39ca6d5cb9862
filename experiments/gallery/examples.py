"""Functions that the gallery explains step by step: from a power of a power to attention."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl import activations, layers, losses


@dataclass(frozen=True)
class Example:
    """A function, where it is explained, and what there is to see.

    Fields:
      name: of its page; title: of the link to it.
      fun: what is explained; arguments: arguments() are its primals.
      about: one sentence.
    """

    name: str
    title: str
    fun: Callable
    arguments: Callable[[], tuple]
    about: str


def power(x):
    inner = 2 * x**2
    return 3 * inner**5


def neuron(w, b, x, target):
    z = jnp.vdot(w, x) + b
    a = activations.sigmoid(z)
    return (a - target) ** 2 / 2


def network(params, x, y):
    first, second, out = params
    z1 = layers.affine(first, x)
    a1 = activations.relu(z1)
    z2 = layers.affine(second, a1)
    a2 = activations.relu(z2)
    z3 = layers.affine(out, a2)
    p = activations.softmax(z3)
    return jnp.mean(losses.cross_entropy(p, y))


def attention(q, k, v):
    d = q.shape[-1]
    scores = q @ k.T / jnp.sqrt(jnp.asarray(d, q.dtype))
    weights = activations.softmax(scores)
    return weights @ v


def _drawn(seed: int, *shapes) -> list:
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape)) for shape in shapes]


def _network_arguments():
    sizes = (3, 4, 4, 3)
    keys = jax.random.split(jax.random.key(0), len(sizes) - 1)
    params = [layers.dense(m, n).init(key) for m, n, key in zip(sizes, sizes[1:], keys)]
    (x,) = _drawn(1, (5, sizes[0]))
    return params, x, jax.nn.one_hot(jnp.arange(5) % 3, 3)


EXAMPLES = (
    Example(
        "power",
        "3(2x²)⁵",
        power,
        lambda: (jnp.asarray(0.7),),
        "The chain rule on a power of a power: 960 x⁹, as 15 (2x²)⁴ times 4x.",
    ),
    Example(
        "neuron",
        "A neuron",
        neuron,
        lambda: (*_drawn(0, (3,), ()), *_drawn(1, (3,)), jnp.asarray(1.0)),
        "A weighted sum, a sigmoid, half the squared error; the error goes back to weights, bias and inputs.",
    ),
    Example(
        "network",
        "Two hidden layers",
        network,
        _network_arguments,
        "Dense, ReLU, dense, ReLU, dense, softmax, cross-entropy: backpropagation's δ from layer to layer.",
    ),
    Example(
        "attention",
        "Attention",
        attention,
        lambda: tuple(_drawn(2, (4, 3), (4, 3), (4, 3))),
        "Scaled dot products, softmax, weighted values; queries, keys and values each get their share.",
    ),
)
