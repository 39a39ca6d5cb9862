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

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from functional_dl.aliases import Array, Scalar
from functional_dl.optimality.measures import backtrack, largest
from functional_dl.optimality.solvers.sqp import SolverResult
from functional_dl.optimality.units import Scaled, kkt_error, scale

MEMORY = 10
INNER = 200  # steps with the same multipliers, at most
STEPS = 20  # L-BFGS steps for each iteration that the caller allows
PATIENCE = 50
PRODUCTS = 20  # Hessian products that count as one step
SMALL = 200  # n + p + m, up to which the result is polished
ROUGH = 1e-5  # where that begins
MOST = 1e8  # of multipliers
POLISHING = 20  # steps of Newton's method
REMAINS = 1e-4  # of the gradient, that the residual of a truncated Newton step may keep
LONGEST = 5000  # products in one


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
    below, above = flat.bounded
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
        x, y, error = _polish(scaled, x, y, tolerance)
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

    def attempt(step, _, __):
        tried = parts.project(x + step * move)
        after = parts.psi(tried, state.lam, state.mu, state.rho)
        return tried, jnp.isfinite(after) & (after <= now + 1e-4 * jnp.minimum(gradient @ (tried - x), 0.0) + slack)

    tried, _, good = backtrack(attempt, x, jnp.ones((), x.dtype), 40)
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
    return _truncated(jax.linearize(gradient_of, state.x)[1], state.gradient, free)


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


def _truncated(product: Callable[[Array], Array], gradient: Array, free: Array) -> tuple[Array, Array]:
    """H d = -gradient on the free variables by conjugate gradients from products with H: d, 0 where free is 0,
    and how many products it took.

    It ends where the residual is small, after LONGEST products, or where a direction has no positive curvature: with
    what was found before it, which descends.
    Source: Nocedal and Wright 2006, algorithm 7.1.
    """
    begin = -free * gradient
    square = begin @ begin

    def body(carry):
        d, r, p, rr, count, _ = carry
        turned = free * product(p)
        bend = p @ turned
        straight = bend > 10 * jnp.finfo(p.dtype).eps * (p @ p)
        step = jnp.where(straight, rr / jnp.where(straight, bend, 1), jnp.where(count == 0, 1.0, 0.0)).astype(p.dtype)
        d, r = d + step * p, r - step * turned
        after = r @ r
        p = r + after / jnp.maximum(rr, jnp.finfo(p.dtype).tiny) * p
        return d, r, p, after, count + 1, straight

    def going(carry):
        return (carry[3] > REMAINS**2 * square) & (carry[4] < LONGEST) & carry[5]

    start = jnp.zeros_like(begin), begin, begin, square, jnp.zeros((), int), jnp.ones((), bool)
    d, _, _, _, count, _ = lax.while_loop(going, body, start)
    return d, count


def _polish(scaled: Scaled, x: Array, y: Array, tolerance: Any) -> tuple[Array, Array, Scalar]:
    """(x, y, KKT error) no worse than what came, by Newton's method on the KKT conditions written as equations:

        grad L = 0,    h = 0,    min(mu_i, -g_i) = 0:    g_i = 0 where mu_i + g_i > 0 (active), mu_i = 0 elsewhere.

    The active set is guessed anew at each step (a semismooth Newton method); a step is halved until the greatest
    residual falls, and the point with the least KKT error is kept.  Where constraints repeat each other, the step is
    the least-norm one.
    Source: Hintermueller, Ito and Kunisch 2003.
    """
    n, p, k = x.size, scaled.p, y.size
    equality = jnp.arange(k) < p

    def conditions(x, y):
        values, jacobian = scaled.values_and_jacobian(x)
        active = equality | (y + values[1:] > 0)
        residual = jnp.concatenate([jacobian[0] + y @ jacobian[1:], jnp.where(active, values[1:], y)])
        return residual, active, values, jacobian

    def size(x, y):
        residual = conditions(x, y)[0]
        return jnp.where(jnp.all(jnp.isfinite(residual)), jnp.linalg.norm(residual), jnp.inf)

    def error(x, y):
        found = kkt_error(scaled, *scaled.values_and_jacobian(x), y)
        return jnp.where(jnp.isfinite(found), found, jnp.inf)

    def body(carry):
        x, y, best, count = carry
        residual, active, _, jacobian = conditions(x, y)
        rows = jnp.where(active[:, None], jacobian[1:], 0.0)
        low = jnp.concatenate([rows, jnp.diag(jnp.where(active, 0.0, 1.0)).astype(x.dtype)], axis=1)
        matrix = jnp.concatenate([jnp.concatenate([scaled.lagrangian_hessian(x, y), jacobian[1:].T], axis=1), low])
        sound = jnp.all(jnp.isfinite(matrix)) & jnp.all(jnp.isfinite(residual))
        matrix, right = jnp.where(sound, matrix, 0.0), jnp.where(sound, residual, 0.0)
        move = -jnp.linalg.pinv(matrix, rtol=1e-11) @ right
        now = jnp.linalg.norm(right)

        def attempt(step, _, __):
            return None, size(x + step * move[:n], y + step * move[n:]) <= (1 - 1e-4 * step) * now

        _, step, _ = backtrack(attempt, None, jnp.ones((), x.dtype), 13)
        x, y = x + step * move[:n], y + step * move[n:]
        cut = jnp.where(equality, y, jnp.maximum(y, 0))
        found = error(x, cut)
        better = found < best[2]
        best = jnp.where(better, x, best[0]), jnp.where(better, cut, best[1]), jnp.where(better, found, best[2])
        return x, y, best, jnp.where(sound, count + 1, POLISHING)

    begin = x, y, (x, y, error(x, y)), jnp.zeros((), int)
    _, _, best, _ = lax.while_loop(lambda c: (c[2][2] > tolerance) & (c[3] < POLISHING), body, begin)
    return best
