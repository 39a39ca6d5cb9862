"""A user's function as one of flat lists of arrays, evaluated in double precision: what every oracle looks at.

The function may be any callable: one that JAX can trace is compiled, one of NumPy is called as it is.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten, tree_flatten_with_path, tree_unflatten
from jax.typing import ArrayLike

from functional_dl.jaxprs import all_equations
from functional_dl.precision import double, nan_allowed

# Machine code of programs that run a few times only need not be quick: most of a check is XLA compiling them.  Other
# backends keep their own ways.
_IN_HASTE = {"cpu": {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}}
FEW = 100_000  # entries of the arguments: beyond, the time goes into running


def jit(fun: Callable[..., Any], entries: int) -> Callable[..., Any]:
    """`jax.jit(fun)`, compiled in haste where its arguments have few entries."""
    options = _IN_HASTE.get(jax.default_backend()) if entries <= FEW else None
    return jax.jit(fun, compiler_options=options)


def is_inexact(x: Any) -> bool:
    """Whether x holds real or complex floating numbers: those have derivatives."""
    return jnp.issubdtype(np.result_type(x) if not hasattr(x, "dtype") else x.dtype, jnp.inexact)


def is_complex(x: ArrayLike) -> bool:
    return jnp.issubdtype(x.dtype, jnp.complexfloating)


def widen(x: Any) -> np.ndarray:
    """x in float64 or complex128, where it is inexact at all."""
    x = np.asarray(x)
    if not is_inexact(x):
        return x
    return x.astype(np.complex128 if is_complex(x) else np.float64)


def concrete(x: Any) -> Any:
    """x as an array; errors name what came."""
    try:
        return x if hasattr(x, "dtype") and hasattr(x, "shape") else np.asarray(x)
    except (TypeError, ValueError) as error:
        raise TypeError(f"check: expected an array, got {x!r} of type {type(x).__name__}") from error


def own_copy(x: Any) -> Any:
    """A copy of an array of NumPy's, which JAX takes for what it became under other flags while a trace holds it."""
    return np.array(x) if isinstance(x, np.ndarray) else x


class Function:
    """fun at primals.

    Attributes:
      fun, primals: as given.
      leaves: the primals' leaves, as arrays in the caller's dtypes.
      paths: a readable name for each leaf.
      active: positions of the leaves that have derivatives.
      outs, out_tree: the outputs' leaves at the primals, and their tree.
      out_active: positions of the output leaves that have derivatives.
      traceable: whether JAX can trace fun.
    """

    fun: Any
    primals: tuple[Any, ...]
    tree: Any
    paths: list[str]
    leaves: list[Any]
    active: list[int]
    out_tree: Any
    outs: list[Any]
    out_paths: list[str]
    out_active: list[int]
    traceable: bool

    def __init__(self, fun: Callable[..., Any], primals: Sequence[Any]) -> None:
        if not callable(fun):
            raise TypeError(f"fun: expected a callable, got {fun!r}")
        self.fun, self.primals = fun, tuple(primals)
        with_paths, self.tree = tree_flatten_with_path(self.primals)
        self.paths = [_name(path) for path, _ in with_paths]
        self.leaves = [own_copy(concrete(leaf)) for _, leaf in with_paths]
        self.active = [i for i, leaf in enumerate(self.leaves) if is_inexact(leaf)]
        out = fun(*self.primals)
        outs, self.out_tree = tree_flatten(out)
        self.outs = [concrete(leaf) for leaf in outs]
        self.out_paths = [keystr(path) or "output" for path, _ in tree_flatten_with_path(out)[0]]
        self.out_active = [i for i, leaf in enumerate(self.outs) if is_inexact(leaf)]
        self.traceable = self._can_trace()
        if self.traceable:  # Python's floats and NumPy's float64 are float32 to JAX where x64 is off
            self.leaves, self.outs = ([self._canonical(x) for x in part] for part in (self.leaves, self.outs))

    def _canonical(self, x: Any) -> Any:
        return x.astype(self.canonical(x.dtype)) if is_inexact(x) and x.dtype != self.canonical(x.dtype) else x

    def canonical(self, dtype: Any) -> np.dtype:
        """The dtype that JAX computes in when handed this one; of a function that JAX does not trace, this one."""
        return jax.dtypes.canonicalize_dtype(dtype) if self.traceable and jnp.issubdtype(dtype, jnp.inexact) else dtype

    def _can_trace(self) -> bool:
        try:
            jax.eval_shape(self.fun, *self.primals)
        except Exception:  # whatever a NumPy function says to a tracer
            return False
        return True

    def flat(self, leaves: Sequence[Any]) -> list[Any]:
        """The output leaves that have derivatives, at other leaves; traceable where fun is."""
        outs = tree_flatten(self.fun(*tree_unflatten(self.tree, leaves)))[0]
        return [outs[i] for i in self.out_active]

    def of_active(self, active: Sequence[Any]) -> list[Any]:
        """As `flat`, with only the differentiable leaves given; the others stay."""
        leaves = list(self.leaves)
        for i, x in zip(self.active, active):
            leaves[i] = x
        return self.flat(leaves)

    @functools.cached_property
    def wide_point(self) -> list[np.ndarray]:
        """The differentiable leaves in double precision."""
        return [widen(self.leaves[i]) for i in self.active]

    @functools.cached_property
    def wide_outs(self) -> list[np.ndarray]:
        """The differentiable outputs, computed in double precision where fun allows it."""
        return self.evaluate(self.wide_point)

    @property
    def own_outs(self) -> list[Any]:
        """The differentiable outputs in the caller's dtypes."""
        return [self.outs[i] for i in self.out_active]

    @functools.cached_property
    def point(self) -> list[Any]:
        """The differentiable leaves as given."""
        return [self.leaves[i] for i in self.active]

    @functools.cached_property
    def entries(self) -> int:
        """Numbers in the differentiable leaves and outputs."""
        return sum(x.size for x in self.point) + sum(self.outs[i].size for i in self.out_active)

    @functools.cached_property
    def wide(self) -> bool:
        """Whether fun accepts double precision in place of the primals' own."""
        return self.precision is double and self._accepts_double

    @functools.cached_property
    def _accepts_double(self) -> bool:
        if all(str(x.dtype) in ("float64", "complex128") for x in self.point):
            return True
        try:
            with double():
                outs = jax.eval_shape(self.of_active, self.wide_point)
        except Exception:  # fun fixes its dtypes
            return False
        return all(out.shape == self.outs[i].shape for out, i in zip(outs, self.out_active))

    @property
    def precision(self) -> Callable[[], Any]:
        """How fun is evaluated: in `double`, or `nan_allowed` where it runs under the caller's flags alone.

        JAX converts a NumPy array of int64 that fun closes over to int32 where x64 is off, and takes that for the array
        as long as some trace holds it: fun, once traced so, cannot be traced with x64 on.  Nor is a function the same
        there that draws floats without naming their dtype: a key gives other numbers in float64.
        """
        return self._evaluation[0]

    @property
    def evaluate(self) -> Callable[[Sequence[Any]], list[np.ndarray]]:
        """values at differentiable leaves, computed in double precision where fun allows it."""
        return self._evaluation[1]

    @functools.cached_property
    def _evaluation(self) -> tuple[Callable[[], Any], Callable[[Sequence[Any]], list[np.ndarray]]]:
        if not self.traceable:
            return double, lambda active: [widen(y) for y in self.of_active([np.asarray(x) for x in active])]
        if not jax.config.jax_enable_x64:
            evaluate = self._evaluated(double, self._accepts_double)
            try:
                evaluate(self.wide_point)
                same = self._draws_the_same()
            except Exception:  # see `precision`
                same = False
            return (double, evaluate) if same else (nan_allowed, self._evaluated(nan_allowed, wide=False))
        return double, self._evaluated(double, self._accepts_double)

    def _draws_the_same(self) -> bool:
        """Whether fun draws the same random numbers in double precision."""
        own = _drawn(jax.make_jaxpr(self.of_active)(self.point))
        if not own:
            return True
        with double():
            return own == _drawn(
                jax.make_jaxpr(self.of_active)(self.wide_point if self._accepts_double else self.point)
            )

    def _evaluated(self, precision, wide: bool) -> Callable[[Sequence[Any]], list[np.ndarray]]:
        dtypes = None if wide else [x.dtype for x in self.point]
        with precision():
            compiled = jit(lambda active: self.of_active(active), self.entries)

        def evaluate(active):
            with precision():
                if dtypes is not None:
                    active = [np.asarray(x).astype(d) for x, d in zip(active, dtypes)]
                return [widen(y) for y in compiled(list(active))]

        return evaluate

    @functools.cached_property
    def eps(self) -> float:
        """The coarsest precision of all that fun computes when it is evaluated, as far as tracing can see."""
        finest = float(jnp.finfo(np.float64).eps)
        if not self.traceable:
            return finest
        with self.precision():
            point = self.wide_point if self.wide else self.point
            return max([finest, *(float(jnp.finfo(d).eps) for d in _floats(jax.make_jaxpr(self.of_active)(point)))])

    @functools.cached_property
    def scales(self) -> list[np.ndarray]:
        """For each differentiable leaf the size of a step of length one, entry by entry: |x|, or a tenth of the leaf's
        root mean square where x is smaller, or 1 for a leaf of zeros."""
        found = []
        for x in self.wide_point:
            finite = np.abs(x)[np.isfinite(x)]
            rms = float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
            size = np.where(np.isfinite(x), np.abs(x), rms)
            found.append(np.maximum(size, 0.1 * rms) if rms > 0 else np.ones(x.shape))
        return found


def _floats(jaxpr) -> set[Any]:
    """The floating dtypes of all that a jaxpr and those within it compute."""
    avals = [var.aval for eqn in all_equations(jaxpr) for var in eqn.outvars]
    return {aval.dtype for aval in avals if hasattr(aval, "dtype") and is_inexact(aval)}


def _drawn(jaxpr) -> list[tuple[str, str]]:
    """What a jaxpr and those within it draw at random: by which primitives, of which types."""
    drawing = [eqn for eqn in all_equations(jaxpr) if eqn.primitive.name.startswith(("random_", "rng_"))]
    return [(eqn.primitive.name, str(var.aval)) for eqn in drawing for var in eqn.outvars]


def pairing(ct: Sequence[Any], values: Sequence[Any]) -> float:
    """Re sum ct * value, without conjugates: how JAX pairs cotangents with tangents; a ct of 0 hides its value."""
    with np.errstate(invalid="ignore"):
        return float(sum(np.sum(np.where(c == 0, 0.0, c * v)).real for c, v in zip(ct, values)))


def _name(path) -> str:
    """args[0]['w'] for the leaf ['w'] of the first argument."""
    return "args" + keystr(path)
