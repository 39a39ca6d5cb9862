"""The integral as a compiled program, for jit and vmap; the quadrature is quadax's adaptive Gauss and Kronrod rule."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from functional_dl.integrals import core, rules
from functional_dl.integrals.core import Core, Mesh, Settings

ORDER = 31
BATCH = 4096
INTERVALS = 400  # each costs an iteration of a loop, so fewer than `host` takes


def integrate(values_at: Callable[..., Any], lower: Any, upper: Any, settings: Settings, size: int) -> Core:
    """The integral of `values_at: x -> (K,)` from lower to upper, both of which may be traced."""
    batch = max(1, BATCH // max(1, size // 4))

    def values(x):
        return jax.lax.map(values_at, x, batch_size=min(batch, x.shape[0]))

    return core.integrate(jnp, values, _adaptive, lower, upper, settings._replace(samples=settings.samples // 2))


def _adaptive(evaluate, found, settings: Settings) -> Mesh:
    library = rules.quadax()
    ends = jnp.concatenate([found.t_lower[None], found.breaks, found.t_upper[None]])
    intervals = min(settings.intervals, INTERVALS)
    strict = rules.strictness()

    def integrand(t):
        with strict():
            return evaluate(t[None])[0][0]

    with rules.permissive():
        value, info = library.adaptive_quadrature(
            library.GaussKronrodRule(ORDER),
            integrand,
            ends,
            full_output=True,
            epsabs=settings.target * jnp.max(found.size),
            epsrel=0.0,
            max_ninter=intervals,
            extrapolate=False,
        )
    state = info.info
    used = jnp.arange(intervals) < state["ninter"]
    left, right = (jnp.where(used, state[name], ends[-1]) for name in ("a_arr", "b_arr"))
    parts = jnp.where(used[:, None], state["r_arr"], 0.0)
    return Mesh(value, info.err, left, right, parts, jnp.where(used, state["e_arr"], 0.0), ORDER * info.neval)
