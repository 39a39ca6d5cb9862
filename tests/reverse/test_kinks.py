"""Every convention at a kink is what the table says, and an element of Clarke's subdifferential."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest

from functional_dl import reverse
from functional_dl.reverse.kinks import KINKS

by_name = pytest.mark.parametrize("convention", KINKS, ids=lambda c: c.name)


@by_name
def test_ours(convention):
    assert float(reverse.grad(convention.fun)(jnp.float64(convention.kink.location))) == convention.kink.value


@by_name
def test_jaxs(convention):
    assert float(jax.grad(convention.fun)(jnp.float64(convention.kink.location))) == convention.kink.jax


@by_name
def test_one_sided_derivatives_by_differences(convention):
    kink, h = convention.kink, 2.0**-20
    here = convention.fun(jnp.float64(kink.location))
    right = float(convention.fun(jnp.float64(kink.location + h)) - here) / h
    left = float(here - convention.fun(jnp.float64(kink.location - h))) / h
    assert right == pytest.approx(kink.right, abs=1e-5)
    assert left == pytest.approx(kink.left, abs=1e-5)
    assert abs(left - right) > 0.1, "no kink there"


@by_name
def test_pytorchs(convention):
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    if not convention.torch:
        pytest.skip("PyTorch has no such function")
    import torch

    x = torch.tensor(convention.kink.location, dtype=torch.float64, requires_grad=True)
    eval(convention.torch, {"torch": torch, "x": x}).backward()  # expressions of our own table
    assert float(x.grad) == convention.kink.pytorch
