r"""The augmented Lagrangian, minimised between the bounds by L-BFGS: no matrix is formed or factored.

    psi(x) = f + lambda . h + rho/2 |h|^2 + sum_i (max(0, mu_i + rho g_i)^2 - mu_i^2) / (2 rho),    lower <= x <= upper.

Where psi has been minimised to omega, the multipliers move,  lambda <- lambda + rho h,  mu <- max(0, mu + rho g), kept
below a limit (safeguarded); rho grows tenfold where the constraints, |h| and |max(g, -mu/rho)|, have not shrunk to a
quarter.  The inner step is L-BFGS on the variables that are free of their bounds, projected and halved until psi falls
enough (Armijo).  The multipliers of bounds are what remains of grad psi there.

Where n + p + m is small Newton's method on the conditions polishes the result, with the active set that mu + g > 0
names; where n is large, every PATIENCE-th inner step is a truncated Newton step, for L-BFGS is slow where the
curvatures of psi are far apart.
Source: Nocedal and Wright 2006, section 17.4; Andreani, Birgin, Martinez and Schuverdt 2007.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from functional_dl.aliases import Array
from functional_dl.optimality import truncated
from functional_dl.optimality.active_set import polish
from functional_dl.optimality.measures import largest
from functional_dl.optimality.scaled import Scaled, scale
from functional_dl.optimality.sqp import SolverResult

MEMORY = 10
INNER = 200  # steps with the same multipliers, at most
STEPS = 20  # L-BFGS steps for each iteration that the caller allows
PATIENCE = 50
PRODUCTS = 20  # Hessian products that count as one step
SMALL = 200  # n + p + m, up to which the result is polished
ROUGH = 1e-5  # where that begins
MOST = 1e8  # of multipliers


class State(NamedTuple):
    """An iterate: point, value and gradient of psi, multipliers, rho, omega, violation, memory, error, counts."""

    x: Array
    value: Array
    gradient: Array
    lam: Array
    mu: Array
    rho: Array
    omega: Array
    violation: Array
    memory: optax.OptState
    inner: Array
    error: Array
    iterations: Array
    failures: Array


class Parts(NamedTuple):
    """The problem with its bounds apart: the general constraints are the first rows of F behind f."""

    scaled: Scaled
    lower: Array
    upper: Array
    m: int
    large: bool

    def split(self, x: Array) -> Any:
        """f, h, and the inequalities that are no bounds."""
        values, p = self.scaled.values(x), self.scaled.p
        return values[0], values[1 : 1 + p], values[1 + p : 1 + p + self.m]

    def psi(self, x: Array, lam: Any, mu: Any, rho: Any) -> Any:
        f, h, g = self.split(x)
        pushed = jnp.maximum(0, mu + rho * g)
        return f + lam @ h + rho / 2 * (h @ h) + (jnp.sum(pushed**2) - jnp.sum(mu**2)) / (2 * rho)

    def project(self, x: Array) -> Any:
        return jnp.clip(x, self.lower, self.upper)

    def free(self, x: Array, gradient: Any) -> Any:
        """1 where a variable may move down the gradient, 0 where its bound holds it."""
        held = ((x <= self.lower) & (gradient > 0)) | ((x >= self.upper) & (gradient < 0))
        return jnp.where(held, 0.0, 1.0).astype(x.dtype)


def minimise(flat: Any, x0: Any, tolerance: Any, limit: Any) -> SolverResult:
    """Run the method; pure, under jit and vmap.  It takes up to STEPS * limit steps of L-BFGS."""
    scaled = scale(flat, x0)
    below, above = (np.flatnonzero(np.isfinite(side)) for side in (flat.lower, flat.upper))
    m = flat.inequalities(x0).size - below.size - above.size
    parts = Parts(scaled, jnp.asarray(flat.lower, x0.dtype), jnp.asarray(flat.upper, x0.dtype), m, flat.large)
    small = x0.size + scaled.p + m <= SMALL
    enough = jnp.maximum(tolerance, ROUGH) if small else tolerance

    def going(state):
        sound = jnp.isfinite(state.error) & (jnp.linalg.norm(state.x) < 1e15) & jnp.isfinite(state.value)
        return (state.error > enough) & (state.iterations < STEPS * limit) & (state.failures < 4) & sound

    end = lax.while_loop(going, lambda state: _iterate(parts, state, tolerance), _start(parts, x0))
    of_lower, of_upper = _bound_multipliers(parts, end)
    y = jnp.concatenate([end.lam, end.mu, of_lower[below], of_upper[above]])
    x, error = end.x, end.error
    if small:
        x, y, error = polish(scaled, x, y, tolerance)
    lam, mu = scaled.unscale(y)
    return SolverResult(x, lam, mu, error, end.iterations)


def _start(parts: Parts, x0) -> State:
    one, zero = jnp.ones((), x0.dtype), jnp.zeros((), int)
    x = parts.project(x0)
    f, h, g = parts.split(x)
    lam, mu = jnp.zeros_like(h), jnp.zeros_like(g)
    off = jnp.sum(h**2) + jnp.sum(jnp.maximum(g, 0) ** 2)
    # the penalty parameter makes both parts of psi alike at the start
    rho = jnp.clip(10 * jnp.maximum(1, jnp.abs(f)) / jnp.maximum(off, 1e-8), 1e-2, 1e2).astype(x.dtype)
    value, gradient = jax.value_and_grad(parts.psi)(x, lam, mu, rho)
    memory = optax.scale_by_lbfgs(MEMORY).init(x)
    return State(x, value, gradient, lam, mu, rho, 0.1 * one, jnp.inf * one, memory, zero, 10 * one, zero, zero)


def _iterate(parts: Parts, state: State, tolerance) -> State:
    state = _descend(parts, state)
    held = parts.project(state.x - state.gradient) - state.x
    done = (largest(held) <= state.omega) | (state.inner >= INNER) | (state.failures > 0)
    outer = lambda state: _update(parts, state, tolerance)
    return lax.cond(done, outer, lambda state: state, state)


def _descend(parts: Parts, state: State) -> State:
    """One projected step of L-BFGS; of steepest descent where its direction does not descend."""
    x, gradient, now = state.x, state.gradient, state.value
    lbfgs = optax.scale_by_lbfgs(MEMORY)
    free = parts.free(x, gradient)
    with jax.numpy_dtype_promotion("standard"):  # optax adds integers of two widths
        move, memory = lbfgs.update(free * gradient, state.memory, x)
    move, count = -free * move.astype(x.dtype), jnp.zeros((), int)
    if parts.large:
        late = state.inner % PATIENCE == PATIENCE - 1
        newton = lambda: _newton(parts, state, free)
        move, count = lax.cond(late, newton, lambda: (move, count))
    sound = jnp.all(jnp.isfinite(move)) & (
        move @ gradient < -1e-10 * jnp.linalg.norm(move) * jnp.linalg.norm(free * gradient)
    )
    move = jnp.where(sound, move, -free * gradient / jnp.maximum(1, jnp.linalg.norm(gradient)))
    fresh = lbfgs.init(x)
    memory = jax.tree.map(lambda kept, new: jnp.where(sound, kept, new), memory, fresh)
    slack = 4 * jnp.finfo(x.dtype).eps * (1 + jnp.abs(now))

    def unfit(carry):
        return ~carry[3] & (carry[1] < 40)

    def body(carry):
        step, count, _, _ = carry
        step = jnp.where(count == 0, 1.0, step / 2).astype(x.dtype)
        tried = parts.project(x + step * move)
        after = parts.psi(tried, state.lam, state.mu, state.rho)
        good = jnp.isfinite(after) & (after <= now + 1e-4 * jnp.minimum(gradient @ (tried - x), 0.0) + slack)
        return step, count + 1, tried, good

    begin = jnp.ones((), x.dtype), jnp.zeros((), int), x, jnp.zeros((), bool)
    _, _, tried, good = lax.while_loop(unfit, body, begin)
    moved = good & jnp.any(tried != x)
    x = jnp.where(moved, tried, x)
    value, gradient = jax.value_and_grad(parts.psi)(x, state.lam, state.mu, state.rho)
    failures = jnp.where(moved, 0, state.failures + 1)
    return state._replace(
        x=x,
        value=value,
        gradient=gradient,
        memory=memory,
        inner=state.inner + 1,
        iterations=state.iterations + 1 + count // PRODUCTS,
        failures=failures,
    )


def _newton(parts: Parts, state: State, free):
    """The truncated Newton direction of psi, and its products."""
    gradient_of = jax.grad(lambda x: parts.psi(x, state.lam, state.mu, state.rho))
    return truncated.direction(jax.linearize(gradient_of, state.x)[1], state.gradient, free)


def _update(parts: Parts, state: State, tolerance) -> State:
    """New multipliers, penalty parameter, precision; the memory of the old psi is forgotten."""
    _, h, g = parts.split(state.x)
    violation = jnp.maximum(largest(h), largest(jnp.maximum(g, -state.mu / state.rho)))
    lam = jnp.clip(state.lam + state.rho * h, -MOST, MOST)
    mu = jnp.clip(state.mu + state.rho * g, 0, MOST)
    too_low = (violation > 0.25 * state.violation) & (violation > tolerance / 10)
    rho = jnp.where(too_low, jnp.minimum(10 * state.rho, 1e12), state.rho)
    # the gradient of the Lagrangian is that of psi before the multipliers moved
    held = largest(parts.project(state.x - state.gradient) - state.x)
    mean = (jnp.sum(jnp.abs(lam)) + jnp.sum(mu)) / max(lam.size + mu.size, 1)
    error = jnp.maximum(held / jnp.maximum(1.0, mean / 100.0), violation)
    value, gradient = jax.value_and_grad(parts.psi)(state.x, lam, mu, rho)
    omega = jnp.maximum(tolerance / 2, jnp.minimum(0.1 * state.omega, 0.1 * violation + 1e-3 * state.omega))
    return state._replace(
        value=value,
        gradient=gradient,
        lam=lam,
        mu=mu,
        rho=rho,
        omega=omega,
        violation=violation,
        memory=optax.scale_by_lbfgs(MEMORY).init(state.x),
        inner=jnp.zeros_like(state.inner),
        error=error,
    )


def _bound_multipliers(parts: Parts, state: State):
    """grad L = mu_lower - mu_upper, by the gradient of psi at the end."""
    zero = jnp.zeros_like(state.x)
    of_lower = jnp.where(state.x <= parts.lower, jnp.maximum(state.gradient, 0), zero)
    of_upper = jnp.where(state.x >= parts.upper, jnp.maximum(-state.gradient, 0), zero)
    # rows of bounds are not scaled, for their gradients are 1
    return of_lower, of_upper
