"""Normalisation layers: over the batch, over the features, by the root mean square."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from functional_dl.aliases import Array
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.notation import drawing, normal, pulled_back, uniform
from functional_dl.derivations.step import Step

EPSILON = 1e-3


def over(v: Array, like: Any) -> Any:
    """A number for each column, for every row."""
    return jnp.broadcast_to(v, like.shape)


def mean(x: Array) -> Any:
    """mu: the mean of each column."""
    return x.mean(0)


def spread(x: Array) -> Any:
    """s = sqrt(var + epsilon) of each column, the variance divided by n."""
    return jnp.sqrt(jnp.mean((x - over(mean(x), x)) ** 2, 0) + EPSILON)


def standard(x: Array) -> Any:
    """x_hat = (x - mu) / s."""
    return (x - over(mean(x), x)) / over(spread(x), x)


def batch_norm(x: Array, g: Array, b: Array) -> Any:
    return over(g, x) * standard(x) + over(b, x)


def quotient_rule(x: Array) -> Any:
    """d x_hat_k / d x_i for each column: (i, k, column)."""
    n = x.shape[0]
    s = spread(x)
    centred = x - over(mean(x), x)
    ds = centred / over(n * s, x)  # ds / dx_i
    moved = (jnp.eye(n) - 1 / n)[:, :, None] * jnp.ones((1, 1, x.shape[1]))  # d (x_k - mu) / d x_i
    s3 = jnp.broadcast_to(s, moved.shape)
    return (moved * s3 - ds[:, None, :] * centred[None, :, :]) / s3**2


def simplified(x: Array) -> Any:
    """(delta_ki - 1/n - x_hat_k x_hat_i / n) / s."""
    n, xh = x.shape[0], standard(x)
    moved = (jnp.eye(n) - 1 / n)[:, :, None] * jnp.ones((1, 1, x.shape[1]))
    return (moved - xh[:, None, :] * xh[None, :, :] / n) / jnp.broadcast_to(spread(x), moved.shape)


def scale_and_shift(fun: Callable[..., Any], standardise: Callable[..., Any]) -> tuple[Step, Step, Step]:
    """The chains of g and b, which all three normalisations share but for what is normalised."""
    return (
        Step(
            r"\bar g_j = \sum_{k,l} \bar y_{kl} \lim_{h \to 0} \frac{y_{kl}(g + h e_j) - y_{kl}(g)}{h}",
            "the definition of the cotangent",
            pulled_back(fun, 1),
            chain="g",
        ),
        Step(
            r"= \sum_{k,l} \bar y_{kl}\, \hat x_{kl}\, \delta_{lj}",
            "y is linear in g",
            lambda x, g, *rest: jnp.einsum("kl,kl,lj->j", rest[-1], standardise(x), jnp.eye(g.size)),
            kind="limit",
            chain="g",
        ),
        Step(
            r"= \sum_k \bar y_{kj}\, \hat x_{kj}",
            "one feature is left; the scale is shared by all examples, whose parts add up",
            lambda x, g, *rest: jnp.sum(rest[-1] * standardise(x), 0),
            chain="g",
        ),
    )


def shift(fun: Callable[..., Any]) -> tuple[Step, Step, Step]:
    return (
        Step(
            r"\bar b_j = \sum_{k,l} \bar y_{kl} \lim_{h \to 0} \frac{y_{kl}(b + h e_j) - y_{kl}(b)}{h}",
            "the definition of the cotangent",
            pulled_back(fun, 2),
            chain="b",
        ),
        Step(
            r"= \sum_{k,l} \bar y_{kl}\, \delta_{lj}",
            "y is linear in b",
            lambda x, g, b, ct: jnp.einsum("kl,lj->j", ct, jnp.eye(b.size)),
            kind="limit",
            chain="b",
        ),
        Step(r"= \sum_k \bar y_{kj}", "the shift is shared by all examples", lambda x, g, b, ct: ct.sum(0), chain="b"),
    )


BATCH_NORM = Derivation(
    "batch_norm",
    "Batch normalisation",
    r"\hat x = \frac{x - \mu}{s},\; s = \sqrt{\sigma^2 + \varepsilon},\; y = g \odot \hat x + b \quad\Rightarrow\quad"
    r" \bar x_i = \frac{g}{s} \left( \bar y_i - \frac1n \sum_k \bar y_k - \hat x_i\,"
    r" \frac1n \sum_k \bar y_k \hat x_k \right)",
    (
        Step(
            r"\bar x_i = \sum_k \bar y_k \lim_{h \to 0} \frac{y_k(x + h e_i) - y_k(x)}{h}",
            "the definition of the cotangent, for one feature; i and k number the examples",
            pulled_back(batch_norm, 0),
            chain="x",
        ),
        Step(
            r"= \sum_k \bar y_k\, g\, \frac{(\delta_{ki} - \frac1n)\, s - (x_k - \mu)\, \frac{x_i - \mu}{n s}}{s^2}",
            r"the quotient rule, with $\partial \mu / \partial x_i = \frac1n$ and $\partial s / \partial x_i ="
            r" \frac{x_i - \mu}{n s}$",
            lambda x, g, b, ct: jnp.einsum("kj,j,ikj->ij", ct, g, quotient_rule(x)),
            kind="limit",
            chain="x",
        ),
        Step(
            r"= \frac{g}{s} \sum_k \bar y_k \left( \delta_{ki} - \frac1n - \frac{\hat x_k \hat x_i}{n} \right)",
            r"s is taken out; $(x_k - \mu)/s = \hat x_k$",
            lambda x, g, b, ct: jnp.einsum("kj,j,ikj->ij", ct, g, simplified(x)),
            chain="x",
        ),
        Step(
            r"= \frac{g}{s} \left( \bar y_i - \frac1n \sum_k \bar y_k - \hat x_i\,"
            r" \frac1n \sum_k \bar y_k \hat x_k \right)",
            "the three sums apart: the direct path, the path through the mean, the path through the variance",
            lambda x, g, b, ct: (
                over(g / spread(x), x)
                * (ct - over(ct.mean(0), x) - standard(x) * over(jnp.mean(ct * standard(x), 0), x))
            ),
            chain="x",
        ),
        *scale_and_shift(batch_norm, standard),
        *shift(batch_norm),
    ),
    "Ioffe and Szegedy 2015",
    drawing(normal(4, 3), uniform(3, low=0.5, high=1.5), normal(3), normal(4, 3)),
    fun=batch_norm,
    arguments=("x", "g", "b"),
    point="x, shape (4, 3), examples as rows; g and b, shape (3,); the cotangent of y, shape (4, 3)",
    notes=("The variance is divided by n, not by n - 1.  Leaving out the path through it is the usual mistake.",),
)


def rows_standard(x: Array) -> Any:
    """Each row normalised by its own mean and spread."""
    return standard(x.T).T


def layer_norm(x: Array, g: Array, b: Array) -> Any:
    return over(g, x) * rows_standard(x) + over(b, x)


def weighted(g: Array, ct: Array) -> Any:
    """w = g y_bar."""
    return over(g, ct) * ct


LAYER_NORM = Derivation(
    "layer_norm",
    "Layer normalisation",
    r"\hat x = \frac{x - \mu}{s},\; y = g \odot \hat x + b \text{ for each row} \quad\Rightarrow\quad"
    r" \bar x = \frac{1}{s} \left( w - \operatorname{mean}(w) - \hat x \operatorname{mean}(w \odot \hat x) \right),"
    r"\; w = g \odot \bar y",
    (
        Step(
            r"\bar x_i = \sum_k \bar y_k \lim_{h \to 0} \frac{y_k(x + h e_i) - y_k(x)}{h}",
            "the definition of the cotangent, for one row; i and k number its d features",
            pulled_back(layer_norm, 0),
            chain="x",
        ),
        Step(
            r"= \sum_k \bar y_k\, g_k\, \frac{(\delta_{ki} - \frac1d)\, s - (x_k - \mu)\, \frac{x_i - \mu}{d s}}{s^2}",
            "the quotient rule, as for `batch_norm`, but along the row",
            lambda x, g, b, ct: jnp.einsum("nk,ikn->ni", weighted(g, ct), quotient_rule(x.T)),
            kind="limit",
            chain="x",
        ),
        Step(
            r"= \frac{1}{s} \sum_k w_k \left( \delta_{ki} - \frac1d - \frac{\hat x_k \hat x_i}{d} \right), \quad w"
            r" = g \odot \bar y",
            "s is taken out; here g depends on k and stays under the sum",
            lambda x, g, b, ct: jnp.einsum("nk,ikn->ni", weighted(g, ct), simplified(x.T)),
            chain="x",
        ),
        Step(
            r"= \frac{1}{s} \left( w_i - \frac1d \sum_k w_k - \hat x_i\, \frac1d \sum_k w_k \hat x_k \right)",
            "the three sums apart",
            lambda x, g, b, ct: (
                (
                    weighted(g, ct)
                    - weighted(g, ct).mean(1, keepdims=True)
                    - rows_standard(x) * jnp.mean(weighted(g, ct) * rows_standard(x), 1, keepdims=True)
                )
                / spread(x.T)[:, None]
            ),
            chain="x",
        ),
        *scale_and_shift(layer_norm, rows_standard),
        *shift(layer_norm),
    ),
    "Ba, Kiros, Hinton 2016",
    drawing(normal(2, 4), uniform(4, low=0.5, high=1.5), normal(4), normal(2, 4)),
    fun=layer_norm,
    arguments=("x", "g", "b"),
    point="x, shape (2, 4); g and b, shape (4,); the cotangent of y, shape (2, 4)",
)


def root_mean_square(x: Array) -> Any:
    return jnp.sqrt(jnp.mean(x**2, 1, keepdims=True) + EPSILON)


def rms_standard(x: Array) -> Any:
    return x / root_mean_square(x)


def rms_norm(x: Array, g: Array) -> Any:
    return over(g, x) * rms_standard(x)


def rms_quotient(x: Array) -> Any:
    """(delta_ki r - x_k x_i / (d r)) / r^2 for each row: (row, k, i)."""
    d, r = x.shape[1], root_mean_square(x)[:, :, None]
    return (jnp.eye(d)[None] * r - x[:, :, None] * x[:, None, :] / (d * r)) / r**2


RMS_NORM = Derivation(
    "rms_norm",
    "Root-mean-square normalisation",
    r"\hat x = \frac{x}{r},\; r = \sqrt{\tfrac1d \textstyle\sum_k x_k^2 + \varepsilon},\; y = g \odot \hat x"
    r" \quad\Rightarrow\quad"
    r" \bar x = \frac{1}{r} \left( w - \hat x \operatorname{mean}(w \odot \hat x) \right),\; w = g \odot \bar y",
    (
        Step(
            r"\bar x_i = \sum_k \bar y_k \lim_{h \to 0} \frac{y_k(x + h e_i) - y_k(x)}{h}",
            "the definition of the cotangent, for one row",
            pulled_back(rms_norm, 0),
            chain="x",
        ),
        Step(
            r"= \sum_k \bar y_k\, g_k\, \frac{\delta_{ki}\, r - x_k\, \frac{x_i}{d r}}{r^2}",
            r"the quotient rule, with $\partial r / \partial x_i = \frac{x_i}{d r}$",
            lambda x, g, ct: jnp.einsum("nk,nki->ni", weighted(g, ct), rms_quotient(x)),
            kind="limit",
            chain="x",
        ),
        Step(
            r"= \frac{1}{r} \sum_k w_k \left( \delta_{ki} - \frac{\hat x_k \hat x_i}{d} \right), \quad w"
            r" = g \odot \bar y",
            "r is taken out",
            lambda x, g, ct: (
                jnp.einsum(
                    "nk,nki->ni",
                    weighted(g, ct),
                    jnp.eye(g.size)[None] - rms_standard(x)[:, :, None] * rms_standard(x)[:, None, :] / g.size,
                )
                / root_mean_square(x)
            ),
            chain="x",
        ),
        Step(
            r"= \frac{1}{r} \left( w_i - \hat x_i\, \frac1d \sum_k w_k \hat x_k \right)",
            "the two sums apart; there is no path through a mean, because none is taken off",
            lambda x, g, ct: (
                (weighted(g, ct) - rms_standard(x) * jnp.mean(weighted(g, ct) * rms_standard(x), 1, keepdims=True))
                / root_mean_square(x)
            ),
            chain="x",
        ),
        *scale_and_shift(rms_norm, rms_standard),
    ),
    "Zhang and Sennrich 2019",
    drawing(normal(2, 4), uniform(4, low=0.5, high=1.5), normal(2, 4)),
    fun=rms_norm,
    arguments=("x", "g"),
    point="x, shape (2, 4); g, shape (4,); the cotangent of y, shape (2, 4)",
)

DERIVATIONS = (BATCH_NORM, LAYER_NORM, RMS_NORM)
