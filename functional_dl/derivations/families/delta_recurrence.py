"""Backpropagation of a deep network: the delta recurrence by induction, held at every depth."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from functional_dl import backprop, reverse
from functional_dl.aliases import Array, Key
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.limits import Limit
from functional_dl.derivations.notation import normal, outer, pulled_back
from functional_dl.derivations.step import Oracle, Step

BASE, INDUCTION = "base case: the last layer", "induction step: from layer l + 1 to layer l"
f = jnp.tanh


def f_prime(z: Array) -> Array:
    return 1 - jnp.tanh(z) ** 2


def run(params: list[dict[str, Array]], x: Array) -> tuple[list[Array], list[Array]]:
    """z^1..z^L and a^0..a^L with z^l = W^l a^{l-1} + b^l, a^l = f(z^l)."""
    zs, activations = [], [x]
    for layer in params:
        zs.append(layer["W"] @ activations[-1] + layer["b"])
        activations.append(f(zs[-1]))
    return zs, activations


def from_layer(params: list[dict[str, Array]], l: int, z: Array, y: Array) -> Array:
    """The cost as a function of z^l alone (l counted from 0)."""
    a = f(z)
    for layer in params[l + 1 :]:
        a = f(layer["W"] @ a + layer["b"])
    return jnp.sum((a - y) ** 2) / 2


def cost(params: list[dict[str, Array]], x: Array, y: Array) -> Array:
    return from_layer(params, 0, params[0]["W"] @ x + params[0]["b"], y)


def by_quotients(l: int) -> Callable[..., Any]:
    """delta^l_i = lim (C(z^l + h e_i) - C(z^l)) / h."""

    def quotient(h, params, x, y, ct):
        z = run(params, x)[0][l]
        here = from_layer(params, l, z, y)
        return ct * jax.vmap(lambda e: (from_layer(params, l, z + h * e, y) - here) / h)(jnp.eye(z.size))

    return quotient


def cost_slopes(params: list[dict[str, Array]], x: Array, y: Array) -> Array:
    """dC/da^L = a^L - y."""
    return run(params, x)[1][-1] - y


def by_paths(params: list[dict[str, Array]], zs: list[Array], slopes: Array, l: int) -> Array:
    """delta^l_i: over all paths i -> k_{l+1} -> ... -> k_L, weights times slopes times dC/da of the last unit."""
    sizes = [z.size for z in zs]
    found = []
    for i in range(sizes[l]):
        total = jnp.zeros(())
        for path in itertools.product(*(range(n) for n in sizes[l + 1 :])):
            units = (i, *path)
            term = f_prime(zs[l][i])
            for m, (here, there) in enumerate(itertools.pairwise(units), start=l + 1):
                term = term * params[m]["W"][there, here] * f_prime(zs[m][there])
            total = total + term * slopes[units[-1]]
        found.append(total)
    return jnp.stack(found)


def deltas(params: list[dict[str, Array]], x: Array, y: Array, ct: Array) -> list[Array]:
    """delta^1..delta^L by the recurrence."""
    zs, _ = run(params, x)
    found = [ct * cost_slopes(params, x, y) * f_prime(zs[-1])]
    for l in reversed(range(len(params) - 1)):
        found.insert(0, (params[l + 1]["W"].T @ found[0]) * f_prime(zs[l]))
    return found


def hidden(line: Callable[..., Any]) -> Callable[..., Any]:
    """A line for every layer but the last, as a tuple: line(l, params, x, y, ct)."""
    return lambda params, *rest: tuple(line(l, params, *rest) for l in range(len(params) - 1))


def all_paths(l: int, params: list[dict[str, Array]], x: Array, y: Array, ct: Array) -> Array:
    return ct * by_paths(params, run(params, x)[0], cost_slopes(params, x, y), l)


def first_step_apart(l: int, params: list[dict[str, Array]], x: Array, y: Array, ct: Array) -> Array:
    zs, _ = run(params, x)
    onward = by_paths(params, zs, cost_slopes(params, x, y), l + 1)
    return ct * jnp.einsum("k,ki,i->i", onward, params[l + 1]["W"], f_prime(zs[l]))


def by_hypothesis(l: int, params: list[dict[str, Array]], x: Array, y: Array, ct: Array) -> Array:
    zs, _ = run(params, x)
    return jnp.einsum("k,ki,i->i", deltas(params, x, y, ct)[l + 1], params[l + 1]["W"], f_prime(zs[l]))


def recurrence(l: int, params: list[dict[str, Array]], x: Array, y: Array, ct: Array) -> Array:
    zs, _ = run(params, x)
    return (params[l + 1]["W"].T @ deltas(params, x, y, ct)[l + 1]) * f_prime(zs[l])


def shifted_cost(params: list[dict[str, Array]], x: Array, y: Array) -> Callable[..., Any]:
    """The cost as a function of what is added to every z^l."""

    def fun(shifts):
        a = x
        for layer, shift in zip(params, shifts):
            a = f(layer["W"] @ a + layer["b"] + shift)
        return jnp.sum((a - y) ** 2) / 2

    return fun


@jax.jit
def by_reverse(params: list[dict[str, Array]], x: Array, y: Array, ct: Array) -> list[Array]:
    shifts = [jnp.zeros_like(layer["b"]) for layer in params]
    return reverse.vjp(shifted_cost(params, x, y), shifts)[1](ct)[0]


@jax.jit
def by_backprop(params: list[dict[str, Array]], x: Array, y: Array, ct: Array) -> list[Array]:
    """The deltas of functional_dl.backprop, whose loss is a mean over the entries of y."""
    rows = {"layers": [{"weight": layer["W"].T, "bias": layer["b"]} for layer in params]}
    found = backprop.gradients(rows, x[None], y[None], "tanh", "half_squared_error", output="tanh")[2]
    return [ct * y.size * delta[0] for delta in found]


def params_line(line: Callable[..., Any]) -> Callable[..., Any]:
    """A line for every layer's W and b: line(delta, a) -> dict."""

    def evaluate(params, x, y, ct):
        _, activations = run(params, x)
        return [line(d, a) for d, a in zip(deltas(params, x, y, ct), activations)]

    return evaluate


def with_deltas(d: Array, a: Array) -> dict[str, Array]:
    return {"W": jnp.einsum("k,ki,j->ij", d, jnp.eye(d.size), a), "b": jnp.einsum("k,ki->i", d, jnp.eye(d.size))}


STEPS = (
    Step(
        r"\delta^L_i := \bar C\, \frac{\partial C}{\partial z^L_i} = \bar C \lim_{h \to 0} \frac{C(z^L + h e_i)"
        r" - C(z^L)}{h}",
        r"the definition of delta: a derivative with respect to z, not to a, times the cost's cotangent $\bar C$ (1"
        r" for a gradient)",
        Limit(lambda h, params, *rest: by_quotients(len(params) - 1)(h, params, *rest)),
        chain=BASE,
    ),
    Step(
        r"= \bar C \sum_k \frac{\partial C}{\partial a^L_k}\, f'(z^L_k)\, \delta_{ki}",
        r"the chain rule through $a^L = f(z^L)$, which works entry by entry",
        lambda params, x, y, ct: (
            ct * jnp.einsum("k,k,ki->i", cost_slopes(params, x, y), f_prime(run(params, x)[0][-1]), jnp.eye(y.size))
        ),
        kind="limit",
        chain=BASE,
    ),
    Step(
        r"\delta^L = \bar C\, \frac{\partial C}{\partial a^L} \odot f'(z^L)",
        "one term of the sum is left",
        lambda params, x, y, ct: ct * cost_slopes(params, x, y) * f_prime(run(params, x)[0][-1]),
        chain=BASE,
    ),
    Step(
        r"\delta^l_i := \bar C\, \frac{\partial C}{\partial z^l_i} = \bar C \lim_{h \to 0} \frac{C(z^l + h e_i)"
        r" - C(z^l)}{h}",
        "the definition, for every layer l < L",
        Limit(lambda h, *point: hidden(lambda l, *p: by_quotients(l)(h, *p))(*point)),
        chain=INDUCTION,
    ),
    Step(
        r"= \bar C \sum_{k_{l+1}, \dots, k_L} f'(z^l_i) \left[ \prod_{m=l+1}^{L} W^m_{k_m k_{m-1}}\, f'(z^m_{k_m})"
        r" \right]"
        r" \frac{\partial C}{\partial a^L_{k_L}}, \quad k_l = i",
        "the chain rule, unrolled: one term for every path from unit i to the output",
        hidden(all_paths),
        kind="limit",
        chain=INDUCTION,
    ),
    Step(
        r"= \sum_k \left[ \bar C \sum_{\text{paths from } k} \cdots \right] W^{l+1}_{ki}\, f'(z^l_i), \quad k"
        r" = k_{l+1}",
        "the paths sorted by their first step; what follows it does not depend on i",
        hidden(first_step_apart),
        chain=INDUCTION,
    ),
    Step(
        r"= \sum_k \delta^{l+1}_k\, W^{l+1}_{ki}\, f'(z^l_i)",
        r"the bracket is $\delta^{l+1}_k$, by the induction hypothesis",
        hidden(by_hypothesis),
        chain=INDUCTION,
    ),
    Step(
        r"\delta^l = \left( (W^{l+1})^\top \delta^{l+1} \right) \odot f'(z^l)",
        "as a matrix: the recurrence holds at l, and so at every depth",
        hidden(recurrence),
        chain=INDUCTION,
    ),
    Step(
        r"\bar W^l_{ij} = \bar C \lim_{h \to 0} \frac{C(W^l + h E_{ij}) - C(W^l)}{h}",
        "the definition of the cotangent of the parameters, and the same for the biases",
        pulled_back(cost, 0),
        chain="params",
    ),
    Step(
        r"= \sum_k \delta^l_k\, \frac{\partial z^l_k}{\partial W^l_{ij}} = \sum_k \delta^l_k\, \delta_{ki}\, a^{l-1}_j",
        r"$z^l = W^l a^{l-1} + b^l$ is all that $W^l$ acts through",
        params_line(with_deltas),
        kind="limit",
        chain="params",
    ),
    Step(
        r"\bar W^l = \delta^l (a^{l-1})^\top, \quad \bar b^l = \delta^l",
        "as an outer product",
        params_line(lambda d, a: {"W": outer(d, a), "b": d}),
        chain="params",
    ),
    Step(
        r"\bar x_j = \bar C \lim_{h \to 0} \frac{C(x + h e_j) - C(x)}{h}",
        "the definition of the input's cotangent",
        pulled_back(cost, 1),
        chain="x",
    ),
    Step(
        r"= \sum_k \delta^1_k\, \frac{\partial z^1_k}{\partial x_j} = \sum_k \delta^1_k\, W^1_{kj}",
        r"x acts through $z^1$ alone",
        lambda params, x, y, ct: jnp.einsum("k,kj->j", deltas(params, x, y, ct)[0], params[0]["W"]),
        kind="limit",
        chain="x",
    ),
    Step(
        r"\bar x = (W^1)^\top \delta^1",
        "as a matrix product",
        lambda params, x, y, ct: params[0]["W"].T @ deltas(params, x, y, ct)[0],
        chain="x",
    ),
    Step(
        r"\bar y_k = \bar C \lim_{h \to 0} \frac{C(y + h e_k) - C(y)}{h}",
        "the definition of the target's cotangent",
        pulled_back(cost, 2),
        chain="y",
    ),
    Step(
        r"= -\bar C\, (a^L_k - y_k)",
        r"$C = \frac12 \sum_k (a^L_k - y_k)^2$",
        lambda params, x, y, ct: -ct * cost_slopes(params, x, y),
        kind="limit",
        chain="y",
    ),
)


def draw_with(sizes: tuple[Any, ...]) -> Callable[..., Any]:
    """draw(key) of a network of these layer sizes, the input's first."""

    def draw(key):
        keys = iter(jax.random.split(key, 2 * len(sizes) + 1))
        params = [
            {"W": normal(n, m, scale=0.8)(next(keys)), "b": normal(n, scale=0.3)(next(keys))}
            for m, n in itertools.pairwise(sizes)
        ]
        return params, normal(sizes[0])(next(keys)), normal(sizes[-1])(next(keys)), jnp.asarray(1.3)

    return draw


def of_every_depth(
    key: Key,
) -> tuple[
    tuple[list[Any], Array, Array, Array], tuple[list[Any], Array, Array, Array], tuple[list[Any], Array, Array, Array]
]:
    """Networks of one, two and four layers; `draw` makes one of three."""
    return tuple(draw_with(sizes)(key) for sizes in ((2, 3), (3, 2, 2), (2, 2, 1, 2, 2)))


DELTA_RECURRENCE = Derivation(
    "delta_recurrence",
    "Backpropagation: the delta recurrence, by induction",
    r"\delta^L = \bar C\, \frac{\partial C}{\partial a^L} \odot f'(z^L), \quad"
    r" \delta^l = \left( (W^{l+1})^\top \delta^{l+1} \right) \odot f'(z^l), \quad \bar W^l = \delta^l (a^{l-1})^\top",
    STEPS,
    "Rumelhart, Hinton, Williams 1986; Goodfellow, Bengio, Courville 2016, section 6.5",
    draw_with((2, 3, 2, 2)),
    fun=cost,
    arguments=("params", "x", "y"),
    oracles=(
        Oracle("reverse.vjp with respect to z", lambda *point: by_reverse(*point)[-1], BASE),
        Oracle("backprop.gradients", lambda *point: by_backprop(*point)[-1], BASE),
        Oracle("reverse.vjp with respect to z", lambda *point: tuple(by_reverse(*point)[:-1]), INDUCTION),
        Oracle("backprop.gradients", lambda *point: tuple(by_backprop(*point)[:-1]), INDUCTION),
    ),
    extra_points=of_every_depth,
    point="params, a list of {W, b}; x; y; the cotangent of C, a number.  f is tanh, C = |a^L - y|^2 / 2",
    notes=(
        "delta is dC/dz.  Texts that write dC/da for it get another recurrence.",
        "The lines of the induction step are tuples, one entry for each layer below the last, and are checked on"
        " networks "
        "of one to four layers.",
    ),
)

DERIVATIONS = (DELTA_RECURRENCE,)
