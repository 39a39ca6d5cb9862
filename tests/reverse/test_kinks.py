"""Every convention at a kink is what the table says, and an element of Clarke's subdifferential."""

import functools
import importlib.util
import operator

import jax
import jax.numpy as jnp
import pytest
from every import every

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
