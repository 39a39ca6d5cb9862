"""Dtypes of few bits: the causes are those of the same pass in float32, where a fault is far above rounding."""

from collections.abc import Callable
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_unflatten

from functional_dl.check import reference
from functional_dl.check.function import Function, own_copy
from functional_dl.check.report import Finding, Report
from functional_dl.check.vjp import leaf
from functional_dl.check.vjp.subject import BackwardPass
from functional_dl.precision import nan_allowed


def in_single(subject: BackwardPass, run: Callable[[BackwardPass], Report]) -> dict[str, tuple[Finding, bool]] | None:
    """What a check of the same pass in float32 finds, by argument: few faults look alike there.

    With each finding stands whether it is more than a few roundings in the caller's dtypes; what is less than a
    part of one is no fault at all.  None where the caller's dtypes are fine enough, or where the pass is written
    for them alone.  Under the caller's flags: a pass that was traced with others might not run again (see
    Function).
    """
    function = subject.function
    coarsest = max(map(reference.eps, [*function.point, *function.own_outs]))
    if not function.traceable or coarsest < leaf.COARSE:
        return None
    leaves = [own_copy(x) for x in function.leaves]
    try:
        with nan_allowed():
            for i, x in zip(function.active, function.point):
                leaves[i] = x if reference.eps(x) < leaf.COARSE else jnp.asarray(x).astype(jnp.float32)
            again = Function(function.fun, tree_unflatten(function.tree, leaves))
            if any(reference.eps(y) > leaf.COARSE for y in again.own_outs):
                return None
            report = run(replace(subject, function=again, ct=None, least=leaf.OWN_DIGITS * coarsest))
    except Exception:  # the pass is written for the caller's dtypes
        return None
    if "JAX" not in report.reference or any(f.index is None for f in report.findings if not f.argument):
        return None
    if any(f.cause in ("structure", "dtype") for f in report.findings):
        return None
    shares = {a.path: a.share for a in report.arguments}
    return {f.argument: (f, shares.get(f.argument, np.inf) > leaf.SHARED * coarsest / 2) for f in report.findings}
