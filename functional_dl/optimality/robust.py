r"""Loss functions of one residual, that count outliers less than the square does.

    F(x) = c^2 / 2 sum_i rho((r_i / c)^2),    psi_i = rho' r_i = dF/dr_i,    psi'_i = rho' + 2 (r_i / c)^2 rho''.

    linear    rho(z) = z
    soft_l1   rho(z) = 2 (sqrt(1 + z) - 1)
    huber     rho(z) = z where z <= 1, 2 sqrt(z) - 1 beyond
    cauchy    rho(z) = log(1 + z)
    arctan    rho(z) = arctan(z)

Each is written in a = |r_i| / c, so that no square overflows.
Source: Triggs, McLauchlan, Hartley, Fitzgibbon 2000, section 4; the names are SciPy's.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

import jax.numpy as jnp
from jax import lax

from functional_dl.aliases import Array

Name: TypeAlias = Literal["linear", "soft_l1", "huber", "cauchy", "arctan"]
Parts: TypeAlias = tuple[Array, Array, Array]


def linear(a: Array) -> Parts:
    return a**2, jnp.ones_like(a), jnp.ones_like(a)


def soft_l1(a: Array) -> Parts:
    root = jnp.hypot(jnp.ones_like(a), a)
    return 2 * a * (a / (root + 1)), 1 / root, root**-3


def huber(a: Array) -> Parts:
    inside, beyond = a <= 1, jnp.maximum(a, 1)
    return jnp.where(inside, a**2, 2 * a - 1), 1 / beyond, jnp.where(inside, 1.0, 0.0).astype(a.dtype)


def cauchy(a: Array) -> Parts:
    root = jnp.hypot(jnp.ones_like(a), a)
    share = root**-2
    return jnp.where(a < 1, jnp.log1p(a**2), 2 * jnp.log(root)), share, share * (2 * share - 1)


def arctan(a: Array) -> Parts:
    share = 1 / (1 + a**4)
    return lax.atan(a**2), share, share * (4 * share - 3)


LOSSES: dict[str, Callable[[Array], Parts]] = {
    "linear": linear, "soft_l1": soft_l1, "huber": huber, "cauchy": cauchy, "arctan": arctan
}  # fmt: skip
"""name -> a function of a that gives rho, rho' and rho' + 2 a^2 rho''."""
