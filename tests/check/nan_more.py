"""More programs that are not finite, after public reports, and as many that only look so; in the form of nan_cases."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.check.nan_cases import F32, ONES, Case, Z

KEPT = np.array([True, False, True])
NONE = np.zeros(3, bool)


def attention_of_nothing(x):
    score = jnp.where(NONE, x, -jnp.inf)
    return jnp.sum(jax.nn.softmax(score) * x)  # here


def entropy(x):
    p = x / jnp.sum(x)
    return -jnp.sum(p * jnp.log(p))  # here


def pairwise_distances(x):
    squares = jnp.sum((x[:, None] - x[None]) ** 2, -1)
    return jnp.sum(jnp.sqrt(squares))  # here


def unit_vector(x):
    return jnp.sum(x / jnp.linalg.norm(x))  # here


def cosine(x, y):
    return jnp.dot(x, y) / (jnp.linalg.norm(x) * jnp.linalg.norm(y))  # here


def gaussian(x, log_sigma):
    sigma = jnp.exp(log_sigma)
    return jnp.sum((x / sigma) ** 2 + log_sigma)  # here


def probability(x):
    p = 1 / (1 + jnp.exp(-x))
    return jnp.sum(jnp.log(1 - p))  # here


def cell(state, v):
    state = state * v
    return state, jnp.log(state)  # here


def log_of_product(x):
    return jnp.sum(lax.scan(cell, jnp.ones((), x.dtype), x)[1])


log_of_product.__wrapped__ = cell


def inverse_of_singular(x):
    return jnp.sum(jnp.linalg.inv(jnp.outer(x, x)))  # here


def wide_exponent(x):
    y = jnp.exp(x * 100)  # here
    return jnp.sum(jnp.where(x > 0.5, 1.0, y))


def masked_distance(x):
    length = jnp.sqrt(x * x)  # here
    return jnp.sum(jnp.where(x != 0, length, 0.0))


def standardised(x):
    return jnp.sum((x - jnp.mean(x)) / jnp.std(x))  # here


CASES = {
    "attention of nothing": Case(attention_of_nothing, (Z,), "forward", "", verified=False),
    "entropy": Case(entropy, (Z,), "forward", "log of 0"),
    "pairwise distances": Case(pairwise_distances, (np.eye(3, 2, dtype=F32),), "backward", "root"),
    "unit vector of nothing": Case(unit_vector, (0 * ONES,), "forward", "division", verified=False),
    "cosine of nothing": Case(cosine, (0 * ONES, ONES), "forward", "division", verified=False),
    "gaussian": Case(gaussian, (ONES, np.full(3, -100, F32)), "forward", ""),
    "probability": Case(probability, (np.array([0, 30, 1], F32),), "forward", "log of 0"),
    "log of a product": Case(log_of_product, (Z,), "forward", "log of 0"),
    "singular": Case(inverse_of_singular, (ONES,), "forward", "singular", verified=False),
    "wide exponent": Case(wide_exponent, (Z,), "forward", "overflow", hidden=True),
    "masked distance": Case(masked_distance, (Z,), "backward", "root"),
    "standardised": Case(standardised, (ONES,), "forward", "division", verified=False),
}


def _rows(x):
    return jnp.sum(jnp.where(KEPT[:, None], jnp.linalg.norm(jnp.where(KEPT[:, None], x, 1.0), axis=1)[:, None], 0.0))


def _loop(x):
    return lax.fori_loop(0, 4, lambda i, v: jnp.where(v > 0, jnp.sqrt(jnp.where(v > 0, v, 1.0)), v), x).sum()


def _masked_logsumexp(x):
    return jax.nn.logsumexp(jnp.where(KEPT, x, -jnp.inf))


def _power(x):
    return jnp.sum(jnp.where(x > 0, jnp.where(x > 0, x, 1.0) ** -0.5, 0.0))


def _weights(x):
    return jnp.sum(jax.nn.softmax(x, where=KEPT)[np.flatnonzero(KEPT)] ** 2)


CONTROLS = {
    "rows kept back": (_rows, (np.zeros((3, 2), F32) + Z[:, None],)),
    "roots kept back in a loop": (_loop, (Z,)),
    "logsumexp of what is kept": (_masked_logsumexp, (Z,)),
    "power kept back": (_power, (Z,)),
    "softmax of what is kept": (_weights, (Z,)),
    "squares of cbrt": (lambda x: jnp.sum(jnp.where(x > 0, jnp.cbrt(jnp.where(x > 0, x, 1.0)), x)), (Z,)),
    "variance of equals": (lambda x: jnp.var(x), (ONES,)),
    "standardised with a floor": (lambda x: jnp.sum((x - x.mean()) / jnp.sqrt(x.var() + 1e-5)), (ONES,)),
    "entropy by xlogy": (lambda x: -jnp.sum(jax.scipy.special.xlogy(x, jnp.where(x > 0, x, 1.0))), (Z,)),
    "minimum of infinity": (lambda x: jnp.sum(jnp.minimum(x, jnp.inf)), (Z,)),
    "angle": (lambda x: jnp.sum(jnp.arctan2(x, x + 1)), (Z,)),
    "kept products": (lambda x: jnp.sum(jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 0)), 0) * KEPT), (Z,)),
    "finite part of a branch": (lambda x: lax.cond(x[1] > 0, lambda v: jnp.log(v).sum(), lambda v: v.sum(), x), (Z,)),
}
