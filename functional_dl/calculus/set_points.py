"""Points at which a condition sets a function's value, as jnp.where(r2 == 0, 0, x**2 * y / r2) does at 0.

There JAX differentiates the branch that is taken at the point alone, or multiplies 0 by infinity; the derivative is
that of the formula around it.  Such a point is told by its comparisons: what they say at x they say on no side of it.
Along a line through x the function is then expanded in a power series (`taylor`), which takes the branches that hold
beside x.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_leaves, tree_map

from functional_dl import arguments, tree
from functional_dl.aliases import PyTree
from functional_dl.calculus.series import Series, constant
from functional_dl.calculus.taylor import Germs, series_of
from functional_dl.jaxprs import Interpreter, primitive_names, staged

COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge"}
LARGEST = 64  # entries of x up to which derivatives are put together from lines
ORDER = 6  # of the series by which comparisons beside a point are decided
AGREE = 1e-6  # relative difference up to which two ways to a number agree


class _Outcomes(Interpreter):
    """What comparisons say at a point, and whether one of them is a tie."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.tied: list[Any] = []

    def takes_apart(self, eqn: Any, operands: Any) -> bool:
        return False

    def apply(self, eqn: Any, operands: list[Any]) -> Any:
        out = super().apply(eqn, operands)
        if eqn.primitive.name in COMPARISONS:
            self.said.append(out[0])
            self.tied.append(jnp.any(operands[0] == operands[1]))
        return out


class _Beside(Germs):
    """What comparisons say beside the point."""

    def __init__(self, order: int) -> None:
        super().__init__(order)
        self.said: list[Any] = []

    def _apart(self, run: Callable[..., Any], eqn: Any, operands: Any) -> Any:
        """What is said within branches and loops is left out."""
        said, self.said = self.said, []
        out = run(eqn, operands)
        self.said = said
        return out

    def cond(self, eqn: Any, operands: Any) -> Any:
        return self._apart(super().cond, eqn, operands)

    def scan(self, eqn: Any, operands: Any) -> Any:
        return self._apart(super().scan, eqn, operands)

    def apply(self, eqn: Any, operands: list[Any]) -> Any:
        out = super().apply(eqn, operands)
        if eqn.primitive.name in COMPARISONS:
            self.said.append(out[0].c[0] if isinstance(out[0], Series) else out[0])
        return out


def _line(f: Callable[..., Any], x: PyTree, v: PyTree) -> Callable[..., Any]:
    """t -> f(x + t v)."""
    return lambda t: f(tree_map(lambda a, b: a + t.astype(a.dtype) * b, x, v))


def is_set(f: Callable[..., Any], x: PyTree) -> bool:
    """Whether a condition that holds at x only sets f there; False where x is traced, which is not looked into."""
    if any(arguments.concrete(leaf) is None for leaf in tree_leaves(x)):
        return False
    zero = jnp.zeros((), jnp.result_type(float))
    g = _line(f, x, _direction(x))
    try:
        jaxpr, _ = staged(g, zero)
    except Exception:  # f will say so itself
        return False
    if not primitive_names(jaxpr) & COMPARISONS:
        return False

    def at_point(t):
        machine = _Outcomes()
        machine.run(jaxpr, [t])
        return machine.said, machine.tied

    said, tied = jax.jit(at_point)(zero)
    if not any(bool(tie) for tie in tied):
        return False
    sides = []
    for direction in (1.0, -1.0):
        try:
            sides.append(jax.jit(functools.partial(_said_beside, jaxpr, direction))(zero))
        except NotImplementedError:
            return False
    if not len(said) == len(sides[0]) == len(sides[1]):
        return False
    return any(bool(np.any((here != right) & (here != left))) for here, right, left in zip(said, *sides))


def _said_beside(jaxpr: Any, direction: float, zero: Any) -> list[Any]:
    machine = _Beside(ORDER)
    machine.run(jaxpr, [Series(constant(zero, ORDER).at[1].set(direction))])
    return machine.said


def _direction(x: PyTree) -> PyTree:
    rng = np.random.default_rng(11)
    return tree_map(lambda leaf: jnp.asarray(rng.uniform(0.5, 1.0, leaf.shape), leaf.dtype), x)


def _flat(x: PyTree) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in tree_leaves(x)])


class Lines:
    """f on lines through x: its expansions, compiled once for all directions."""

    def __init__(self, f: Callable[..., Any], x: PyTree, order: int = 1) -> None:
        self.here = f(x)
        self.order = order
        self.run = jax.jit(lambda zero, v: series_of(_line(f, x, v), zero, order + ORDER, "both"))

    def expansion(self, v: PyTree) -> list[PyTree]:
        """The coefficients of f(x + t v) in t, up to the order.

        Raises:
          ValueError: f is not continuous along that line, or its derivatives from either side differ.
        """
        c = self.run(jnp.zeros((), jnp.result_type(float)), v)
        off = tree_map(lambda c, y: np.max(np.abs(c[0] - y) / (1 + np.abs(y)), initial=0.0), c, self.here)
        if not all(o <= AGREE for o in tree_leaves(off)):
            raise ValueError(
                "f: a condition sets its value at x, and it is not continuous there along that direction: there is no "
                "derivative"
            )
        if not all(np.isfinite(np.asarray(leaf[: self.order + 1])).all() for leaf in tree_leaves(c)):
            raise ValueError(
                "f: a condition sets its value at x, and around it f has no derivative in that direction, or two"
            )
        return [tree_map(lambda c, y, k=k: c[k].astype(y.dtype), c, self.here) for k in range(self.order + 1)]

    def slope(self, v: PyTree) -> np.ndarray:
        return _flat(self.expansion(v)[1])


def along(f: Callable[..., Any], x: PyTree, v: PyTree) -> PyTree:
    """The derivative of f at x along v.  Raises ValueError as `Lines.expansion`."""
    return Lines(f, x).expansion(v)[1]


def _units(x: PyTree) -> list[PyTree]:
    """A direction along each entry of x."""
    size = tree.size(x)
    if size > LARGEST:
        raise ValueError(
            f"f: a condition sets its value at x; its derivatives there are put together from lines for at most "
            f"{LARGEST} entries of x, got {size}"
        )
    units = []
    leaves, structure = jax.tree_util.tree_flatten(x)
    for k, leaf in enumerate(leaves):
        for i in range(leaf.size):
            unit = jnp.zeros(leaf.size, leaf.dtype).at[i].set(1).reshape(leaf.shape)
            parts = [unit if j == k else jnp.zeros_like(other) for j, other in enumerate(leaves)]
            units.append(jax.tree_util.tree_unflatten(structure, parts))
    return units


def derivatives(f: Callable[..., Any], x: PyTree) -> np.ndarray:
    """(size of f, size of x): the Jacobian of f at x, flat.

    Raises:
      ValueError: as `Lines.expansion`; and where the derivative along a line is not linear in its direction.
    """
    lines = Lines(f, x)
    columns = np.stack([lines.slope(unit) for unit in _units(x)], axis=1)
    v = _direction(x)
    found, said = lines.slope(v), columns @ _flat(v)
    if np.max(np.abs(found - said)) > AGREE * (1 + np.max(np.abs(columns))):
        raise ValueError(
            "f: a condition sets its value at x, and its derivative along a line is not linear in the direction: f has "
            "directional derivatives there, but no gradient"
        )
    return columns


def second_derivatives(f: Callable[..., Any], x: PyTree) -> np.ndarray:
    """(size of x, size of x): the Hessian at x of f, a number.

    Raises:
      ValueError: as `derivatives`; and where the second derivative along a line is no quadratic form of its direction.
    """
    derivatives(f, x)
    units = _units(x)
    lines = Lines(f, x, 2)
    curvature = lambda v: float(np.asarray(lines.expansion(v)[2])) * 2
    n = len(units)
    h = np.zeros((n, n))
    for i in range(n):
        h[i, i] = curvature(units[i])
    for i in range(n):
        for j in range(i):
            both = curvature(tree.add(units[i], units[j]))
            h[i, j] = h[j, i] = (both - h[i, i] - h[j, j]) / 2
    for sign in (1.0, -1.0):
        v = _direction(x)
        leaves, structure = jax.tree_util.tree_flatten(v)
        flat = _flat(v) * np.where(np.arange(n) % 2, sign, 1.0)
        cuts = np.cumsum([leaf.size for leaf in leaves])[:-1]
        parts = [jnp.asarray(p.reshape(leaf.shape), leaf.dtype) for p, leaf in zip(np.split(flat, cuts), leaves)]
        found = curvature(jax.tree_util.tree_unflatten(structure, parts))
        if abs(found - flat @ h @ flat) > AGREE * (1 + np.max(np.abs(h))):
            raise ValueError(
                "f: a condition sets its value at x, and its second derivative along a line is no quadratic form of "
                "the direction: f has no Hessian there"
            )
    return h


def like(x: PyTree, flat: np.ndarray, lead: tuple[int, ...] = ()) -> PyTree:
    """(*lead, size of x) as a pytree like x."""
    leaves, structure = jax.tree_util.tree_flatten(x)
    cuts = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = np.split(flat, cuts, axis=-1)
    return jax.tree_util.tree_unflatten(
        structure, [jnp.asarray(p.reshape((*lead, *leaf.shape)), leaf.dtype) for p, leaf in zip(parts, leaves)]
    )
