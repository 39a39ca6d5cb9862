"""check_vjp and check_grads: a backward pass against the derivative of its function; a differentiator, to any order."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.tree_util import tree_flatten, tree_unflatten

from functional_dl.aliases import Array, PyTree
from functional_dl.check import reference
from functional_dl.check.function import Function, is_inexact, widen
from functional_dl.check.reference import random_like
from functional_dl.check.report import GradientMismatch, Report, merged
from functional_dl.check.vjp.pipeline import run
from functional_dl.check.vjp.subject import BackwardPass


def check_vjp(
    fun: Callable[..., Any],
    fun_vjp: Callable[..., Any],
    *primals: PyTree,
    ct: Array | None = None,
    name: str | None = None,
    seed: int = 0,
    budget: float = 10.0,
    **unknown: Any,
) -> Report:
    """Checks a hand-written backward pass and names what is wrong with it.

    Correct is x_i_bar = (df/dx_i)^T y_bar  for every primal x_i, up to the rounding that the primals'
    dtypes and the conditioning of f allow, and at kinks any element of the subdifferential.  Where f declares another
    derivative than that of its values, by a stopped gradient or by a rule of a function of steps (straight-through
    rounding), that one is meant.

    Args:
      fun: the function, of pytrees of arrays; JAX's or NumPy's.
      fun_vjp: `fun_vjp(*primals)` -> (out, pullback), `pullback(ct)` -> tuple of one cotangent for each primal.
      *primals: where to check.  Integer and boolean leaves have no cotangent (None, float0 or zeros will do).
      ct: a cotangent to use besides random ones.
      name: what the report calls the backward pass.
      seed: of the random cotangents.
      budget: seconds from the call on, after which no further cause is looked for: the best found by then is named.
    Returns:
      Report; `report.passed`, `report.findings`, `print(report)`.
    Raises:
      TypeError: fun or fun_vjp is not callable, fun has no floating output, no primal is floating, or a keyword
        argument is unknown: those of fun are bound by functools.partial.
      ValueError: two calls of fun differ, or ct has not the output's tree and shapes.
    Example:
      >>> wrong = lambda x: (jnp.sin(x), lambda ct: (-ct * jnp.cos(x),))
      >>> report = check.check_vjp(jnp.sin, wrong, jnp.array([0.5, 1.0]))
      >>> report.passed, report.findings[0].cause
      (False, 'sign')
    """
    _refuse_keywords("check_vjp", unknown)
    return _checked(fun, fun_vjp, primals, ct, name, seed, budget, surrogates=True)


def _checked(fun, fun_vjp, primals, ct, name, seed, budget, surrogates) -> Report:
    until = time.monotonic() + budget
    if not callable(fun_vjp):
        raise TypeError(f"fun_vjp: expected a callable, got {fun_vjp!r}")
    function = Function(fun, primals)
    if not function.out_active:
        raise TypeError("fun: expected an output of floating numbers; it has none, so there is no derivative to check")
    if not function.active:
        raise TypeError("primals: expected at least one leaf of floating numbers, got none")
    _refuse_state(function)
    name, rng = name or _name(fun_vjp, fun), np.random.default_rng(seed)
    return run(BackwardPass(function, fun_vjp, name, rng, until, ct, surrogates=surrogates))


def assert_vjp(fun: Callable[..., Any], fun_vjp: Callable[..., Any], *primals: PyTree, **options: Any) -> Report:
    """`check_vjp`, raising GradientMismatch (an AssertionError) with the report where it finds a fault.

    Example:
      >>> right = lambda x: (jnp.sin(x), lambda ct: (ct * jnp.cos(x),))
      >>> check.assert_vjp(jnp.sin, right, jnp.array([0.5, 1.0])).passed
      True
    """
    __tracebackhide__ = True  # pytest shows the caller's line
    report = check_vjp(fun, fun_vjp, *primals, **options)
    if not report.passed:
        raise GradientMismatch(report)
    return report


def check_custom_vjp(fun: Callable[..., Any], *primals: PyTree, **options: Any) -> Report:
    """`check_vjp` of a function decorated with `jax.custom_vjp`, jitted or not: its rule against its own body.

    The arguments at its `nondiff_argnums` are taken as they are.  The rule of a function of steps (straight-through
    rounding) stands for a derivative that the body has not: its form and linearity alone are checked.

    Raises:
      TypeError: fun is not such a function.
    Example:
      >>> square = jax.custom_vjp(lambda x: x**2)
      >>> square.defvjp(lambda x: (x**2, x), lambda x, ct: (ct * x,))  # should be 2 ct x
      >>> check.check_custom_vjp(square, jnp.array([1.0, 2.0])).findings[0].cause
      'scale'
    """
    from functional_dl.check.surrogates import is_surrogate  # of no other check

    rule = custom_rule(fun)
    if rule is None:
        raise TypeError(f"fun: expected a function decorated with jax.custom_vjp, got {fun!r}")
    body: Callable[..., Any] = getattr(rule, "fun", None) or rule.__wrapped__
    options.setdefault("name", getattr(rule, "__name__", "custom_vjp"))
    fixed = {n % len(primals) for n in getattr(rule, "nondiff_argnums", ()) if primals}

    def at(function):
        def of(*moving):
            rest = iter(moving)
            return function(*[x if n in fixed else next(rest) for n, x in enumerate(primals)])

        return of

    moving = [x for n, x in enumerate(primals) if n not in fixed]
    leaves, tree = tree_flatten(moving)
    of_leaves = lambda function: lambda *leaves: at(function)(*tree_unflatten(tree, leaves))
    if is_surrogate(of_leaves(body), of_leaves(fun), leaves):  # the rule is all that there is to differentiate by
        body = fun
    return check_vjp(at(body), lambda *args: jax.vjp(at(fun), *args), *moving, **options)


def custom_rule(fun: Any) -> jax.custom_vjp | None:
    """The function decorated with jax.custom_vjp that fun is, or that it is the jitted form of; None if it is none."""
    while not isinstance(fun, jax.custom_vjp) and hasattr(fun, "__wrapped__"):
        fun = fun.__wrapped__
    return fun if isinstance(fun, jax.custom_vjp) else None


def _refuse_keywords(name: str, unknown: dict[str, Any]) -> None:
    """A keyword argument that a check does not know is fun's own."""
    if unknown:
        first = next(iter(unknown))
        raise TypeError(
            f"{name}: unexpected keyword argument {first!r}: bind those of fun, functools.partial(fun, {first}=...)"
        )


def _refuse_state(function: Function) -> None:
    """fun is called a second time; a function that keeps a state or draws anew has no derivative to check."""
    again = tree_flatten(function.fun(*function.primals))[0]
    for before, after, path in zip(function.outs, again, function.out_paths):
        if not is_inexact(before):
            continue
        a, b = widen(before), widen(after)
        with np.errstate(invalid="ignore"):
            off = np.abs(a - b)[np.isfinite(a)]
        size = np.max(np.abs(a[np.isfinite(a)]), initial=0.0)
        if a.shape != b.shape or np.any(~(off <= 1e3 * reference.eps(before) * size)):
            raise ValueError(
                f"fun: two calls at the same primals differ, {path} by up to {np.max(off, initial=0.0):.3g}: it keeps "
                "a state or draws random numbers; make what changes an argument"
            )


def _name(fun_vjp, fun) -> str:
    own = getattr(fun_vjp, "__name__", "")
    return own if own and own != "<lambda>" else f"backward pass of {getattr(fun, '__name__', repr(fun))}"


def check_grads(
    fun: Callable[..., Any],
    *primals: PyTree,
    order: int = 2,
    differentiate: Callable[..., Any] = jax.vjp,
    name: str | None = None,
    seed: int = 0,
    budget: float = 10.0,
    **unknown: Any,
) -> Report:
    r"""Checks a differentiator on a function: its pullback of fun, the pullback of that pullback, ... up to `order`.

    Args:
      fun: function of pytrees of arrays.
      *primals: where.
      order: up to which derivative, at least 1.
      differentiate: `differentiate(fun, *primals)` -> (out, pullback), as `jax.vjp` or `functional_dl.reverse.vjp`.
      name: what the report calls the check.
      seed: of the random cotangents.
      budget: seconds for each order, after which no further cause is looked for.
    Returns:
      Report of all orders; a finding's message says of which order it is.
    Raises:
      ValueError: order is less than 1, or two calls of fun differ.
      TypeError: an unknown keyword argument: those of fun are bound by functools.partial.
    Example:
      >>> check.check_grads(jnp.tanh, jnp.array([0.5, 1.0]), differentiate=reverse.vjp).passed
      True
    """
    _refuse_keywords("check_grads", unknown)
    if order < 1:
        raise ValueError(f"order: expected at least 1, got {order}")
    reports = []
    rng = np.random.default_rng(seed)
    for n in range(1, order + 1):
        fun_vjp = lambda *args, fun=fun: differentiate(fun, *args)
        # what a derivative declares is the differentiator's, which is to be judged
        report = _checked(fun, fun_vjp, primals, None, f"order {n}", seed, budget, surrogates=n == 1)
        findings = tuple(replace(f, message=f"Derivative of order {n}. {f.message}") for f in report.findings)
        reports.append(replace(report, findings=findings))
        if findings or n == order:
            break
        fun = _derivative(fun, primals, differentiate, rng)
    return merged(name or f"derivatives of {getattr(fun, '__name__', repr(fun))}", reports)


def assert_grads(fun: Callable[..., Any], *primals: PyTree, **options: Any) -> Report:
    """`check_grads`, raising GradientMismatch (an AssertionError) with the report where it finds a fault.

    Example:
      >>> check.assert_grads(jnp.tanh, jnp.array([0.5, 1.0]), order=1).passed
      True
    """
    __tracebackhide__ = True  # pytest shows the caller's line
    report = check_grads(fun, *primals, **options)
    if not report.passed:
        raise GradientMismatch(report)
    return report


def _derivative(fun, primals, differentiate, rng):
    """The differentiable leaves of the pullback of fun at a fixed cotangent, as a function of the primals."""
    function = Function(fun, primals)
    cts = [random_like(y, rng) if is_inexact(y) else np.zeros(np.shape(y), jax.float0) for y in function.outs]

    def derivative(*args):
        out, pullback = differentiate(fun, *args)
        outs = tree_flatten(out)[0]
        own = [c if c.dtype == jax.float0 else jax.numpy.asarray(widen(c)).astype(y.dtype) for c, y in zip(cts, outs)]
        bars = tree_flatten(pullback(tree_unflatten(function.out_tree, own)))[0]
        return [bar for bar in bars if is_inexact(bar) and bar.dtype != jax.float0]

    derivative.__name__ = f"derivative of {getattr(fun, '__name__', 'fun')}"
    return derivative
