"""A backward pass under check: how it is called, and what its dtypes may lose."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_flatten, tree_unflatten

from functional_dl.check import reference
from functional_dl.check.function import Function, widen


class Answer(NamedTuple):
    """One call of the user's pullback: the cotangents as they were rounded, and what came back, in double precision."""

    cts: list[Any]
    bars: list[Any]


@dataclass(frozen=True, eq=False)
class BackwardPass:
    """A backward pass, and how it is checked.

    Fields:
      function: fun at the primals.
      fun_vjp: the pass.
      name: what the report calls it.
      rng: of the random cotangents and of all that is drawn.
      until: time.monotonic() at which the search for causes ends.
      ct: a cotangent to use besides random ones.
      least: how far off a leaf must be as a whole, relative to its size.
      surrogates: whether fun may declare another derivative than that of its values.
    """

    function: Function
    fun_vjp: Callable[..., Any]
    name: str
    rng: np.random.Generator
    until: float
    ct: Any = None
    least: float = 0.0
    surrogates: bool = True

    def forward(self) -> tuple[Any, Callable[..., Any]]:
        """The output and the pullback."""
        answer = self.fun_vjp(*self.function.primals)
        if not (isinstance(answer, tuple | list) and len(answer) == 2 and callable(answer[1])):
            raise TypeError(f"fun_vjp: expected it to return (out, pullback), got {answer!r:.200}")
        return answer[0], answer[1]

    def own(self, ct: Any, like: Any) -> Any:
        """ct in the dtype, and of the kind of array (NumPy's or JAX's), of an output."""
        cast = np.asarray(ct).astype(like.dtype)
        numpys = isinstance(like, np.ndarray | np.generic) and not self.function.traceable
        return cast if numpys else jnp.asarray(cast)

    def ct_tree(self, cts: Sequence[Any]) -> Any:
        """Cotangents of the differentiable outputs as a tree of the output's, whose other leaves have none."""
        function, rest = self.function, iter(cts)
        leaves = [
            next(rest) if i in function.out_active else np.zeros(np.shape(y), jax.float0)
            for i, y in enumerate(function.outs)
        ]
        return tree_unflatten(function.out_tree, leaves)

    def answer(self, pullback: Callable[..., Any], cts: Sequence[Any]) -> Answer:
        """The user's cotangents of the differentiable leaves, for cotangents of the differentiable outputs."""
        function = self.function
        own = [self.own(c, y) for c, y in zip(cts, function.own_outs)]
        bars = []
        for i, value in zip(function.active, active_leaves(function, pullback(self.ct_tree(own)))):
            x = function.leaves[i]
            good = value is not None and np.shape(value) == np.shape(x)
            bar = widen(value) if good else np.zeros(np.shape(x))
            bars.append((bar if np.iscomplexobj(widen(x)) else bar.real).astype(widen(x).dtype))
        return Answer([widen(c) for c in own], bars)

    def unit(self, k: int) -> float:
        """Some roundings in the coarsest dtype at hand, relative to the terms that cancel.

        Each of those terms may be the sum of a contraction, which has lost digits of its own: in wide dtypes a fifth of
        what a whole pullback may lose is allowed, in narrow ones, where that is less than eight roundings, these.
        """
        coarsest = max([self.function.point[k], *self.function.own_outs], key=reference.eps)
        return max(8.0 * reference.eps(coarsest), lost(coarsest) / 5)


def lost(x: Any) -> float:
    """What a pullback in the dtype of x may lose, relative to the terms of an entry."""
    return reference.ROUNDINGS.get(reference.dtype_name(x), 4.0) * reference.eps(x)


def active_leaves(function: Function, bars: Sequence[Any]) -> list[Any]:
    """What a pullback returns for the differentiable leaves; None for what it leaves out."""
    found: list[Any] = []
    for bar, primal in zip(bars, function.primals):
        values = leaves_of(bar, primal)
        found += [None] * len(tree_flatten(primal)[0]) if values is None else values
    return [found[i] for i in function.active]


def leaves_of(bar: Any, primal: Any) -> list[Any] | None:
    """A cotangent's leaves, one for each of its primal's, None for what it leaves out; None if its tree is another."""
    flatten = functools.partial(tree_flatten, is_leaf=lambda x: x is None)
    places, tree = flatten(primal)
    values, own = ([None] * len(places), tree) if bar is None else flatten(bar)
    return [value for value, x in zip(values, places) if x is not None] if own == tree else None
