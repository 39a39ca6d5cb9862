"""The pullback that `vjp` returns: cotangents of the outputs -> cotangents of the primals, checked at both ends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.tree_util import (
    Partial,
    register_dataclass,
    register_pytree_node_class,
    tree_flatten,
    tree_unflatten,
)

from functional_dl.aliases import Array, PyTree
from functional_dl.reverse.boundary import boundary
from functional_dl.reverse.sweep import Pull
from functional_dl.reverse.trace import is_zero_marker
from functional_dl.reverse.values import instantiate, is_differentiable, is_users_type, tangent_dtype, weakened
from functional_dl.sharding import is_on_mesh, laid_as


@register_dataclass
@dataclass(frozen=True)
class NotNeeded:
    """Stands among `args_res` for a primal that the pullback does not read."""


@register_pytree_node_class
class Pullback(Partial):
    """What `vjp` returns besides the value: y_bar -> one cotangent for each primal.

    Attributes:
      args_res: the primals that the pullback reads, a list of the primals' trees, with `NotNeeded()` for the others.
        They may be taken out and put back before the call (a parameter that is gathered again, say): the list is the
        only place where the pullback holds them.
      opaque_residuals: all else that it reads.
    """

    parts: "_Parts | None" = None  # once args_res was asked for

    @boundary
    def __call__(self, *ct: PyTree) -> tuple[PyTree, ...]:
        return self.func(self.pull, *ct)

    @property
    def pull(self) -> Any:
        """The pullback of flat lists, with its residuals put together."""
        return self.args[0] if self.parts is None else self.parts.pull(self.func.in_tree)

    def _taken_apart(self) -> "_Parts":
        static: Any = self.func
        if self.parts is None:
            self.parts = _Parts.of(static, self.args[0])
        return self.parts

    @property
    def args_res(self) -> list[Any]:
        return self._taken_apart().args_res

    @args_res.setter
    def args_res(self, args: Any) -> None:
        self._taken_apart().args_res = list(args)

    @property
    def opaque_residuals(self) -> list[Any]:
        return self._taken_apart().opaque

    def __repr__(self) -> str:
        static = self.func
        if not isinstance(static, Static):  # within JAX's own functions on trees
            return "Pullback(...)"
        types = lambda avals: ", ".join(aval.str_short() for aval in avals[:6]) + (", ..." if len(avals) > 6 else "")
        return f"Pullback of {static.name}: ({types(static.out_avals)}) -> ({types(static.in_avals)})"

    def tree_flatten(self) -> tuple[tuple[Any, ...], Any]:
        if self.parts is not None:
            return (self.parts.args_res, self.parts.opaque), (self.func, self.parts.static, self.parts.sources)
        return (self.args, self.keywords), self.func

    @classmethod
    def tree_unflatten(cls, func: Any, children: Any) -> "Pullback":
        args, keywords = children
        if not isinstance(func, tuple):
            return cls(func, *args, **keywords)
        static, *parts = func
        pullback = cls(static, None)
        pullback.parts = _Parts(args, keywords, *parts)
        return pullback

    def with_refs(self, *wanted: PyTree) -> Callable[[PyTree], PyTree]:
        """The pullback with a place for each cotangent.

        Args:
          *wanted: of the primals' tree; each leaf a mutable array (`jax.new_ref`), to which the cotangent is added,
            `jax.ad.GradValue()`, for which it is returned, or `jax.ad.DontWant()`.  At a primal without tangents (of
            integers, say) anything else means the last, too.
        Returns:
          Function of y_bar, a pytree like the pullback; `jax.ad.GradRef()` stands where a mutable array was added to,
          `jax.ad.DidntWant()` where nothing was wanted.
        Raises:
          ValueError: the tree differs from the primals', or a mutable array has another shape or dtype than its primal.
        """
        static = self.func
        leaves, tree = tree_flatten(wanted)
        if tree != static.in_tree:
            raise ValueError(
                "unexpected tree structure.\n\nThe arguments of `with_refs` must match the pytree structure of the "
                f"arguments of the differentiated function {static.name}.\n\nBut the tree structures differ: the "
                f"function took {static.in_tree}, `with_refs` was given {tree}."
            )
        for i, (leaf, aval) in enumerate(zip(leaves, static.in_avals)):
            if is_differentiable(aval) or is_mutable(leaf) or isinstance(leaf, jax.ad.GradValue):
                _check_place(leaf, aval, i in static.mutable)
            else:
                leaves[i] = jax.ad.DontWant()
        return Partial(_Delivery(tuple(map(type, leaves))), self, [x for x in leaves if is_mutable(x)])


@dataclass
class _Parts:
    """A pullback whose residuals are told apart: which are primals, and the others."""

    args_res: list[Any]
    opaque: list[Any]
    static: Any
    sources: tuple[int | None, ...]  # for each residual the flat primal that it is

    @classmethod
    def of(cls, static: "Static", pull: Pull) -> "_Parts":
        """Takes the residuals away from `pull`: what is taken out of `args_res` is held nowhere else."""
        source = static.primals_among(pull)
        backward, residuals = pull.parts
        pull.give_up()
        sources = tuple(source.get(id(r)) for r in residuals)
        read = {i: r for i, r in zip(sources, residuals) if i is not None}
        places = [read.get(i, NotNeeded()) for i in range(len(static.in_avals))]
        opaque = [r for r, i in zip(residuals, sources) if i is None]
        return cls(list(tree_unflatten(static.in_tree, places)), opaque, backward, sources)

    def pull(self, in_tree: Any) -> Pull:
        trees = in_tree.children()
        args = [
            leaf
            for tree, arg in zip(trees, self.args_res)
            for leaf in ([None] * tree.num_leaves if arg is None else tree.flatten_up_to(arg))
        ]
        own = iter(self.opaque)
        residuals = [next(own) if i is None else args[i] for i in self.sources]
        if any(r is None or isinstance(r, NotNeeded) for r in residuals):
            raise ValueError("pullback.args_res: a primal that the pullback reads was taken out and not put back.")
        return Pull(self.static, residuals)


@dataclass(frozen=True)
class _Delivery:
    """Brings cotangents to their places: the static part, of which kind each place is."""

    kinds: tuple[type, ...]

    def __call__(self, pullback: Any, refs: Any, ct: Array) -> tuple[Any, ...]:
        remaining = iter(refs)
        plain = (jax.ad.GradValue, jax.ad.DontWant)
        wanted = [kind is not jax.ad.DontWant for kind in self.kinds]
        places = [None if kind in plain else next(remaining) for kind in self.kinds]
        left = []
        for kind, bar in zip(self.kinds, pullback.func.bars(pullback.pull, ct, wanted=wanted, refs=places)):
            if kind is jax.ad.GradValue:
                left.append(bar)
            else:
                left.append(jax.ad.DidntWant() if kind is jax.ad.DontWant else jax.ad.GradRef())
        return tree_unflatten(pullback.func.in_tree, left)


def _check_place(place, aval, mutable: bool) -> None:
    if isinstance(place, jax.ad.DontWant) or (isinstance(place, jax.ad.GradValue) and not mutable):
        return
    given = jax.typeof(place) if is_mutable(place) else None
    if given is None or (given.shape, given.dtype) != (aval.shape, tangent_dtype(aval.dtype)):
        values = "" if mutable else "jax.ad.GradValue(), "
        raise ValueError(
            f"with_refs: expected {values}jax.ad.DontWant() or a mutable array of type {aval.str_short()}, got "
            f"{place if given is None else given.str_short()}"
        )


def is_mutable(x: Array) -> bool:
    """Whether x is a mutable array (a Ref) of numbers, or stands for one while JAX traces."""
    if not isinstance(x, (jax.ref.Ref, jax.core.Tracer)):
        return False
    return isinstance(jax.typeof(x), jax.ref.AbstractRef)


class Static:
    """The static part of a pullback: trees and types.  Compared by identity."""

    __slots__ = ("__weakref__", "in_avals", "in_tree", "mutable", "name", "out_avals", "out_tree", "primals")
    in_avals: list[Any]
    in_tree: Any
    mutable: frozenset[Any]
    name: str
    out_avals: list[Any]
    out_tree: Any
    primals: tuple[Any, dict[int, int]]  # of which backward pass the residuals at which places are which primals

    def __init__(
        self,
        name: str,
        in_tree: Any,
        out_tree: Any,
        values: list[Array],
        outs: list[Array],
        mutable: list[Any],
        pull: Pull,
    ) -> None:
        self.name = name
        self.mutable = frozenset(mutable)
        self.in_tree = in_tree
        self.out_tree = out_tree
        self.in_avals = [jax.typeof(v) for v in values]
        self.out_avals = [jax.typeof(out) for out in outs]
        places = {id(v): i for i, v in reversed([*enumerate(values)]) if i not in self.mutable}
        self.primals = pull.static, {k: places[id(r)] for k, r in enumerate(pull.residuals) if id(r) in places}

    def primals_among(self, pull: Pull) -> dict[int, int]:
        """The ids of the residuals that are primals -> which primal."""
        backward, places = self.primals
        return {id(pull.residuals[k]): i for k, i in places.items()} if pull.static is backward else {}

    def __call__(self, pull_flat: Callable[..., Any], *ct: PyTree) -> tuple[Any, ...]:
        if self.mutable:
            raise ValueError(
                f"A primal of {self.name} is a mutable array: its cotangent is added to one too, by "
                "`pullback.with_refs(...)(ct)`, or left out by jax.ad.DontWant() in its place."
            )
        return tree_unflatten(self.in_tree, self.bars(pull_flat, *ct))

    def bars(
        self, pull_flat: Any, *ct: PyTree, wanted: list[bool] | None = None, refs: Sequence[Any] | None = None
    ) -> list[Any]:
        """The cotangents, flat; None for those that are not wanted, and nothing is computed for them alone, and for
        those that are added to one of `refs` instead."""
        if len(ct) != 1:
            raise TypeError(
                f"The function returned by `reverse.vjp` applied to {self.name} was called with {len(ct)} arguments, "
                "but functions returned by `reverse.vjp` must be called with a single argument corresponding to the "
                "single value returned by the function being differentiated (even if that returned value is a tuple "
                "or other container)."
            )
        cts, tree = tree_flatten(ct[0], is_leaf=is_zero_marker)
        if tree != self.out_tree:
            raise ValueError(
                "unexpected tree structure.\n\nThe argument to a VJP function returned by `reverse.vjp` must match "
                f"the pytree structure of the differentiated function {self.name}.\n\nBut the tree structures "
                f"differ: the output has {self.out_tree}, the cotangent has {tree}."
            )
        cts = [_check_cotangent(c, aval) for c, aval in zip(cts, self.out_avals)]
        # JAX's: the weak type of a primal is kept, but where the cotangent of a weakly typed output was not weak
        weak = all(c is None or _is_weak(jax.typeof(c)) or not _is_weak(y) for c, y in zip(cts, self.out_avals))
        cts = [c if c is None or not is_on_mesh(y) else laid_as(c, y) for c, y in zip(cts, self.out_avals)]
        wanted = [True] * len(self.in_avals) if wanted is None else wanted
        refs = [None] * len(wanted) if refs is None else refs
        bars = pull_flat.towards(wanted)(cts, refs if any(ref is not None for ref in refs) else None)
        return [
            of_type(aval, instantiate(bar, aval), weak) if w and ref is None else None
            for aval, bar, w, ref in zip(self.in_avals, bars, wanted, refs)
        ]


def of_type(aval: Any, bar: Array, weak: bool = True) -> Array:
    """The cotangent of a Python number (or of what is computed from such alone) has the weak type of that number; that
    of an array whose type says how it lies on a mesh lies on it in the same way."""
    if not is_differentiable(aval) or is_users_type(aval):
        return bar
    bar = laid_as(bar, aval) if is_on_mesh(aval) else bar
    return weakened(bar) if weak and aval.weak_type else bar


def _is_weak(aval):
    return getattr(aval, "weak_type", False)


def _check_cotangent(ct, aval):
    """ct, None where it is a symbolic zero or a float0; an error where it does not fit the output."""
    if is_zero_marker(ct):
        return None
    ct_aval = jax.typeof(ct)
    if not hasattr(aval, "dtype"):  # a type of a user's own
        return ct
    expected = tangent_dtype(aval.dtype)
    if expected == jax.float0 and ct_aval.shape == aval.shape:  # JAX takes integers too for the cotangent of integers
        return None
    if ct_aval.shape != aval.shape or ct_aval.dtype != expected:
        raise ValueError(
            "unexpected JAX type (e.g. shape/dtype) for argument to VJP function: got "
            f"{ct_aval.str_short()}, but expected {np.dtype(expected).name}{list(aval.shape)} because the "
            f"corresponding output of the differentiated function had JAX type {aval.str_short()}"
        )
    return None if expected == jax.float0 else ct
