"""check_grads: a differentiator against differences of values, to any order."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.tree_util import tree_flatten, tree_unflatten

from functional_dl.aliases import PyTree
from functional_dl.check.function import Function, is_inexact, widen
from functional_dl.check.reference import random_like
from functional_dl.check.report import Finding, GradientMismatch, Report, merged
from functional_dl.check.vjp import check_vjp, refuse_keywords


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
      budget: seconds that the search for causes may take.
    Returns:
      Report of all orders; a finding's message says of which order it is.
    Raises:
      ValueError: order is less than 1, or two calls of fun differ.
      TypeError: an unknown keyword argument: those of fun are bound by functools.partial.
    """
    refuse_keywords("check_grads", unknown)
    if order < 1:
        raise ValueError(f"order: expected at least 1, got {order}")
    reports = []
    rng = np.random.default_rng(seed)
    for n in range(1, order + 1):
        report = check_vjp(
            fun, lambda *args, fun=fun: differentiate(fun, *args), *primals, name=f"order {n}", seed=seed, budget=budget
        )
        findings = tuple(
            Finding(**{**f.__dict__, "message": f"Derivative of order {n}. {f.message}"}) for f in report.findings
        )
        reports.append(Report(**{**report.__dict__, "findings": findings}))
        if findings or n == order:
            break
        fun = _derivative(fun, primals, differentiate, rng)
    return merged(name or f"derivatives of {getattr(fun, '__name__', repr(fun))}", reports)


def assert_grads(fun: Callable[..., Any], *primals: PyTree, **options: Any) -> Report:
    """`check_grads`, raising GradientMismatch (an AssertionError) with the report where it finds a fault."""
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
