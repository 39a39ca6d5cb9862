"""Every convention at a kink is what the table says, and an element of Clarke's subdifferential."""

import functools
import importlib.util
import operator

import jax
import jax.numpy as jnp
import pytest
from every import every
from jax import lax

from functional_dl import reverse
from functional_dl.reverse.kinks import KINKS

NAME = operator.attrgetter("name")
H = 2.0**-20


@functools.cache
def figures():
    """Convention -> our slope at its kink, JAX's, and the values there and at +h and -h: one compiled program."""

    @jax.jit
    def all_of(points):
        return [
            (reverse.grad(c.fun)(x), jax.grad(c.fun)(x), c.fun(x), c.fun(x + H), c.fun(x - H))
            for c, x in zip(KINKS, points, strict=True)
        ]

    found = all_of([jnp.float64(c.kink.location) for c in KINKS])
    return dict(zip(map(NAME, KINKS), jax.device_get(found), strict=True))


def is_ours(convention):
    assert figures()[convention.name][0] == convention.kink.value


def is_jaxs(convention):
    assert figures()[convention.name][1] == convention.kink.jax


def lies_between_its_slopes(convention):
    here, after, before = figures()[convention.name][2:]
    right, left = float(after - here) / H, float(here - before) / H
    assert right == pytest.approx(convention.kink.right, abs=1e-5)
    assert left == pytest.approx(convention.kink.left, abs=1e-5)
    assert abs(left - right) > 0.1, "no kink there"


def test_ours():
    every(KINKS, is_ours, NAME)


@pytest.mark.parametrize("convention", [KINKS[0], KINKS[-1]], ids=NAME)
def test_ours_outside_jit(convention):
    assert float(reverse.grad(convention.fun)(jnp.float64(convention.kink.location))) == convention.kink.value


def test_jaxs():
    every(KINKS, is_jaxs, NAME)


def test_one_sided_derivatives_by_differences():
    every(KINKS, lies_between_its_slopes, NAME)


@pytest.mark.parametrize("convention", KINKS, ids=NAME)
def test_pytorchs(convention):
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    if not convention.torch:
        pytest.skip("PyTorch has no such function")
    import torch

    x = torch.tensor(convention.kink.location, dtype=torch.float64, requires_grad=True)
    eval(convention.torch, {"torch": torch, "x": x}).backward()  # expressions of our own table
    assert float(x.grad) == convention.kink.pytorch


# Smooth functions made of kinked ones: name, function, where, its first and second derivative there.  The second is
# None where it is a product of two first ones, of which no element of the intervals makes all come out.
SMOOTH = [
    ("I_0 from i0e", lambda x: jnp.exp(jnp.abs(x)) * lax.bessel_i0e(x), 0.0, 0.0, 0.5),
    ("I_1 from i1e", lambda x: jnp.exp(jnp.abs(x)) * lax.bessel_i1e(x), 0.0, 0.5, 0.0),
    ("jax.scipy.special.i0", jax.scipy.special.i0, 0.0, 0.0, 0.5),
    ("jax.scipy.special.i1", jax.scipy.special.i1, 0.0, 0.5, 0.0),
    ("log I_0, of a Rician likelihood", lambda x: jnp.log(lax.bessel_i0e(x)) + jnp.abs(x), 0.0, 0.0, 0.5),
    ("log cosh", lambda x: jnp.abs(x) + jnp.log1p(jnp.exp(-2 * jnp.abs(x))), 0.0, 0.0, 1.0),
    ("square of abs", lambda x: jnp.abs(x) ** 2, 0.0, 0.0, 2.0),
    ("abs times abs", lambda x: jnp.abs(x) * jnp.abs(x), 0.0, 0.0, 2.0),
    ("cosh of abs", lambda x: jnp.cosh(jnp.abs(x)), 0.0, 0.0, 1.0),
    ("maximum and minimum", lambda x: jnp.maximum(x, 1.0) + jnp.minimum(x, 1.0), 1.0, 1.0, 0.0),
    ("product of maximum and minimum", lambda x: jnp.maximum(x, 0.0) * jnp.minimum(x, 0.0), 0.0, 0.0, None),
    ("max and min of an array", lambda x: (v := jnp.stack([x, x * 0 + 2])).max() + v.min(), 2.0, 1.0, 0.0),
    ("sum of the sorted", lambda x: jnp.sum(jnp.sort(jnp.stack([x, 1.0 * 0 * x + 1]))), 1.0, 1.0, 0.0),
    ("cummax and cummin", lambda x: (lax.cummax(v := jnp.stack([x, x * 0])) + lax.cummin(v))[1], 0.0, 1.0, 0.0),
    ("two sides of where", lambda x: jnp.where(x > 0, x, 0.0) + jnp.where(x > 0, 0.0, x), 0.0, 1.0, 0.0),
    (
        "clip and what it clips",
        lambda x: jnp.clip(x, 0.0, 1.0) + jnp.minimum(x, 0.0) + jnp.maximum(x - 1, 0.0),
        0.0,
        1.0,
        0.0,
    ),
    ("square of complex abs", lambda x: jnp.abs(lax.complex(x, 0 * x)) ** 2, 0.0, 0.0, None),
    ("square of the 1-norm", lambda x: jnp.linalg.norm(jnp.stack([x, 0 * x]), 1) ** 2, 0.0, 0.0, 2.0),
    ("logaddexp at a tie", lambda x: jnp.logaddexp(x, 0.0 * x), 0.0, 0.5, 0.25),
    ("softplus", jax.nn.softplus, 0.0, 0.5, 0.25),
    ("log_sigmoid", jax.nn.log_sigmoid, 0.0, 0.5, -0.25),
    ("logsumexp at a tie", lambda x: jax.nn.logsumexp(jnp.stack([x, 0.0 * x])), 0.0, 0.5, 0.25),
]


@functools.cache
def derivatives():
    @jax.jit
    def all_of(points):
        return [
            (reverse.grad(fun)(x), reverse.grad(reverse.grad(fun))(x))
            for (_, fun, *_), x in zip(SMOOTH, points, strict=True)
        ]

    return jax.device_get(all_of([jnp.float64(point) for _, _, point, *_ in SMOOTH]))


def comes_out_smooth(number):
    name, _, _, first, second = SMOOTH[number]
    ours = derivatives()[number]
    assert ours[0] == pytest.approx(first, abs=1e-12), name
    assert second is None or ours[1] == pytest.approx(second, abs=1e-12), name


def test_kinks_that_only_cancel_together():
    every(range(len(SMOOTH)), comes_out_smooth, lambda number: SMOOTH[number][0])
