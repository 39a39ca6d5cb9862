"""Interval arithmetic: what a function's values on a whole interval are between, for claims that samples cannot make.

An `Interval` is a pair of arrays lo <= hi, one entry for each of the intervals that a function is evaluated on at once;
each operation is rounded outwards.  A comparison that holds on a part of an interval only is undecided: False and True
are both kept, and what is selected by it is the hull of the cases.

Source: Moore, Kearfott and Cloud, Introduction to Interval Analysis, SIAM 2009, chapters 2 and 5.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from functional_dl.jaxprs import Interpreter

OUTWARDS = 8 * float(np.finfo(np.float64).eps)
TINY = 5e-324
MOST_ENTRIES = 4096  # of a value, for each interval
MOST_ROUNDS = 64  # of a loop


class Undecided(Exception):
    """A condition that holds on a part of the interval was used where Python needs one answer."""


class Interval:
    """Numbers between lo and hi, arrays whose first axis counts the intervals.  Booleans are 0 and 1."""

    __slots__ = ("hi", "lo")
    __array_ufunc__ = None
    lo: np.ndarray
    hi: np.ndarray

    def __init__(self, lo: Any, hi: Any) -> None:
        self.lo, self.hi = lo, hi

    def __add__(self, other: Any) -> "Interval":
        b = as_interval(other)
        return widened(self.lo + b.lo, self.hi + b.hi)

    def __sub__(self, other: Any) -> "Interval":
        b = as_interval(other)
        return (
            self * 0.0
            if b is self and bool(np.isfinite(self.lo + self.hi).all())
            else widened(self.lo - b.hi, self.hi - b.lo)
        )

    def __mul__(self, other: Any) -> "Interval":
        b = as_interval(other)
        return widened(
            *_hull(_times(self.lo, b.lo), _times(self.lo, b.hi), _times(self.hi, b.lo), _times(self.hi, b.hi))
        )

    def __truediv__(self, other: Any) -> "Interval":
        b = as_interval(other)
        ends = [x / y for x in (self.lo, self.hi) for y in (b.lo, b.hi)]
        lo, hi = _hull(*ends)
        through = ((b.lo <= 0) & (b.hi >= 0)) | np.isnan(lo) | np.isnan(hi)
        return widened(np.where(through, -np.inf, lo), np.where(through, np.inf, hi))

    def __neg__(self) -> "Interval":
        return Interval(-self.hi, -self.lo)

    def __abs__(self) -> "Interval":
        inside = (self.lo <= 0) & (self.hi >= 0)
        a, b = np.abs(self.lo), np.abs(self.hi)
        return Interval(np.where(inside, 0.0, np.minimum(a, b)), np.maximum(a, b))

    def __pow__(self, other: Any) -> "Interval":
        return power(self, as_interval(other))

    def __radd__(self, other: Any) -> "Interval":
        return as_interval(other) + self

    def __rsub__(self, other: Any) -> "Interval":
        return as_interval(other) - self

    def __rmul__(self, other: Any) -> "Interval":
        return as_interval(other) * self

    def __rtruediv__(self, other: Any) -> "Interval":
        return as_interval(other) / self

    def __rpow__(self, other: Any) -> "Interval":
        return power(as_interval(other), self)

    def __pos__(self) -> "Interval":
        return self

    def __lt__(self, other: Any) -> Any:
        return compare("lt", self, as_interval(other))

    def __le__(self, other: Any) -> Any:
        return compare("le", self, as_interval(other))

    def __gt__(self, other: Any) -> Any:
        return compare("gt", self, as_interval(other))

    def __ge__(self, other: Any) -> Any:
        return compare("ge", self, as_interval(other))

    def __eq__(self, other: Any) -> Any:
        return compare("eq", self, as_interval(other))

    def __ne__(self, other: Any) -> Any:
        return compare("ne", self, as_interval(other))

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        if np.all(self.lo > 0) or np.all(self.hi < 0):
            return True
        if np.all(self.lo == 0) and np.all(self.hi == 0):
            return False
        raise Undecided

    def __floor__(self) -> "Interval":
        return Interval(np.floor(self.lo), np.floor(self.hi))

    def __ceil__(self) -> "Interval":
        return Interval(np.ceil(self.lo), np.ceil(self.hi))


def as_interval(x: Any) -> Interval:
    if isinstance(x, Interval):
        return x
    if not isinstance(x, int | float | bool | np.generic | np.ndarray):
        raise TypeError(f"an interval does not combine with {type(x).__name__}")
    x = np.asarray(x, np.float64)[None]
    return Interval(x, x)


def widened(lo: Any, hi: Any) -> Interval:
    """Rounded outwards, but for zeros, which are exact; where nothing is known, everything."""
    lo, hi = np.where(np.isnan(lo), -np.inf, lo), np.where(np.isnan(hi), np.inf, hi)
    lo, hi = lo - OUTWARDS * np.abs(lo), hi + OUTWARDS * np.abs(hi)
    return Interval(np.where(np.isnan(lo), -np.inf, lo), np.where(np.isnan(hi), np.inf, hi))


def _times(a, b):
    """The product, 0 times infinity being 0: infinite ends are not reached.  What underflows keeps its sign."""
    return np.where((a == 0) | (b == 0), 0.0, _signed(a * b, np.sign(a) * np.sign(b)))


def _signed(x, sign):
    """x, or the least number of its sign where it has underflowed to 0."""
    return np.where((x == 0) & (sign != 0), sign * TINY, x)


def _hull(*ends):
    return np.minimum.reduce(np.broadcast_arrays(*ends)), np.maximum.reduce(np.broadcast_arrays(*ends))


def compare(name: str, a: Interval, b: Interval) -> Interval:
    """0, 1, or undecided [0, 1]."""
    if name in ("gt", "ge"):
        return compare({"gt": "lt", "ge": "le"}[name], b, a)
    if name == "lt":
        never, always = a.lo >= b.hi, a.hi < b.lo
    elif name == "le":
        never, always = a.lo > b.hi, a.hi <= b.lo
    else:
        never = (a.hi < b.lo) | (b.hi < a.lo)
        always = (a.lo == a.hi) & (b.lo == b.hi) & (a.lo == b.lo)
        if name == "ne":
            never, always = always, never
    return Interval(np.where(always, 1.0, 0.0), np.where(never, 0.0, 1.0))


def _increasing(fun: Callable[..., Any], low: float = -np.inf, high: float = np.inf) -> Callable[..., Interval]:
    """Of an increasing function whose domain is [low, high]; outside of it nothing is known."""

    def apply(x: Interval) -> Interval:
        outside = (x.lo < low) | (x.hi > high)
        a, b = fun(np.clip(x.lo, low, high)), fun(np.clip(x.hi, low, high))
        return widened(np.where(outside, -np.inf, a), np.where(outside, np.inf, b))

    return apply


def _decreasing(fun, low=-np.inf, high=np.inf):
    flipped = _increasing(lambda x: -fun(x), low, high)
    return lambda x: -flipped(x)


def _even(fun):
    """Of a function that is even and increases with |x|."""
    increasing = _increasing(fun)
    return lambda x: increasing(abs(x))


def _wave(shift: float) -> Callable[..., Interval]:
    """Of sin(x + shift)."""

    def apply(x: Interval) -> Interval:
        unknown = ~np.isfinite(x.lo) | ~np.isfinite(x.hi) | (x.hi - x.lo >= 2 * np.pi) | (np.abs(x.lo) > 1e12)
        lo, hi = np.where(unknown, 0.0, x.lo) + shift, np.where(unknown, 0.0, x.hi) + shift
        a, b = np.sin(lo), np.sin(hi)
        slack = 1e-15 * (1 + np.abs(lo))
        top = np.floor((hi + slack) / (2 * np.pi) - 0.25) > np.floor((lo - slack) / (2 * np.pi) - 0.25)
        bottom = np.floor((hi + slack) / (2 * np.pi) + 0.25) > np.floor((lo - slack) / (2 * np.pi) + 0.25)
        least = np.where(unknown | bottom, -1.0, np.minimum(a, b) - slack)
        most = np.where(unknown | top, 1.0, np.maximum(a, b) + slack)
        return Interval(np.maximum(least, -1.0), np.minimum(most, 1.0))

    return apply


def _tan(x: Interval) -> Interval:
    broken = ~(np.floor(x.lo / np.pi + 0.5) == np.floor(x.hi / np.pi + 0.5)) | (np.abs(x.lo) > 1e12)
    found = widened(np.tan(np.where(broken, 0.0, x.lo)), np.tan(np.where(broken, 0.0, x.hi)))
    return Interval(np.where(broken, -np.inf, found.lo), np.where(broken, np.inf, found.hi))


def integer_power(x: Interval, n: int) -> Interval:
    if n < 0:
        return as_interval(1.0) / integer_power(x, -n)
    if n == 0:
        return as_interval(1.0) + x * 0.0
    if n % 2 == 0:
        a = abs(x)
        return widened(_signed(a.lo**n, np.sign(a.lo)), _signed(a.hi**n, np.sign(a.hi)))
    return widened(_signed(x.lo**n, np.sign(x.lo)), _signed(x.hi**n, np.sign(x.hi)))


def power(x: Interval, y: Interval) -> Interval:
    n = y.lo.flat[0] if y.lo.size else 0.0
    if np.all(y.lo == n) and np.all(y.hi == n) and float(n).is_integer() and abs(n) <= 64:
        return integer_power(x, int(n))
    lo = np.where(x.lo < 0, np.nan, x.lo)
    return widened(*_hull(*(np.power(a, b) for a in (lo, x.hi) for b in (y.lo, y.hi))))


def _erf(x):
    from scipy.special import erf  # heavy to load, and seldom needed

    return erf(x)


UNARY: dict[str, Callable[..., Any]] = {
    "neg": operator.neg, "abs": abs, "square": lambda x: integer_power(x, 2),
    "exp": _increasing(np.exp), "exp2": _increasing(np.exp2), "expm1": _increasing(np.expm1),
    "log": _increasing(np.log, 0.0), "log1p": _increasing(np.log1p, -1.0), "sqrt": _increasing(np.sqrt, 0.0),
    "cbrt": _increasing(np.cbrt), "tanh": _increasing(np.tanh), "sinh": _increasing(np.sinh), "cosh": _even(np.cosh),
    "asinh": _increasing(np.arcsinh), "acosh": _increasing(np.arccosh, 1.0), "atan": _increasing(np.arctan),
    "asin": _increasing(np.arcsin, -1.0, 1.0), "acos": _decreasing(np.arccos, -1.0, 1.0),
    "atanh": _increasing(np.arctanh, -1.0, 1.0), "erf": _increasing(_erf),
    "erfc": _decreasing(lambda x: 1 - _erf(x)), "logistic": _increasing(lambda x: 1 / (1 + np.exp(-x))),
    "rsqrt": _decreasing(lambda x: 1 / np.sqrt(x), 0.0),
    "sin": _wave(0.0), "cos": _wave(np.pi / 2), "tan": _tan,
    "floor": lambda x: Interval(np.floor(x.lo), np.floor(x.hi)),
    "ceil": lambda x: Interval(np.ceil(x.lo), np.ceil(x.hi)),
    "round": lambda x: Interval(np.round(x.lo), np.round(x.hi)),
    "sign": lambda x: Interval(np.sign(x.lo), np.sign(x.hi)),
    "not": lambda x: Interval(1.0 - x.hi, 1.0 - x.lo),
    "stop_gradient": lambda x: x, "copy": lambda x: x, "copy_p": lambda x: x, "optimization_barrier": lambda x: x,
    "is_finite": lambda x: Interval(np.where(np.isfinite(x.lo) & np.isfinite(x.hi), 1.0, 0.0), np.ones_like(x.hi)),
}  # fmt: skip
BINARY: dict[str, Callable[..., Any]] = {
    "add": operator.add, "add_any": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
    "pow": power,
    "max": lambda a, b: Interval(np.maximum(a.lo, b.lo), np.maximum(a.hi, b.hi)),
    "min": lambda a, b: Interval(np.minimum(a.lo, b.lo), np.minimum(a.hi, b.hi)),
    "and": lambda a, b: Interval(a.lo * b.lo, a.hi * b.hi),
    "or": lambda a, b: Interval(np.maximum(a.lo, b.lo), np.maximum(a.hi, b.hi)),
    "xor": lambda a, b: compare("ne", a, b),
    **{name: (lambda a, b, name=name: compare(name, a, b)) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
}  # fmt: skip
SITES = {"lt", "le", "gt", "ge", "eq", "ne", "floor", "ceil", "round", "sign", "convert_element_type"}


def is_site(name: str, params: Any) -> bool:
    """Whether a primitive's value jumps: a comparison or a step."""
    return name in SITES and (name != "convert_element_type" or np.dtype(params["new_dtype"]).kind in "biu")


class Intervals(Interpreter):
    """Every value is an Interval.  `undecided` counts, for each comparison or step in the order in which they are
    met, on which of the intervals it takes both values; all of them, where it is not the same on all.

    Raises:
      NotImplementedError: a primitive without a rule.
    """

    most_rounds = MOST_ROUNDS

    def __init__(self) -> None:
        self.undecided: list[np.ndarray] = []

    def constant(self, value: Any, aval: Any = None) -> Any:
        x = np.asarray(value)
        if x.dtype.kind not in "fiub":
            raise NotImplementedError(f"intervals of dtype {x.dtype}")
        x = x.astype(np.float64)[None]
        return Interval(x, x)

    def concrete(self, value: Any) -> np.ndarray:
        if not np.array_equal(value.lo, value.hi) or len(np.unique(value.lo)) > 1:
            raise NotImplementedError("a branch that is not the same on the whole interval")
        return value.lo[0].astype(np.int64)

    def apply(self, eqn: Any, operands: list[Any]) -> list[Any]:
        name, params = eqn.primitive.name, eqn.params
        with np.errstate(all="ignore"):
            out = self._apply(name, params, operands)
        if out is None or any(o.lo[0].size > MOST_ENTRIES for o in out):
            raise NotImplementedError(f"no interval rule for '{name}'")
        if is_site(name, params):
            steps = out[0].lo != out[0].hi
            across = np.any(out[0].lo != out[0].lo[:1]) | np.any(out[0].hi != out[0].hi[:1])
            self.undecided.append(steps.reshape(len(steps), -1).any(axis=1) | across)
        return out

    def _apply(self, name, params, operands) -> list[Interval] | None:
        if name in BINARY or name in ("select_n", "clamp", "rem"):
            operands = _aligned(operands)
        if name in UNARY:
            return [UNARY[name](operands[0])]
        if name in BINARY:
            return [BINARY[name](*operands)]
        if not operands:
            return None
        a = operands[0]
        if name == "integer_pow":
            return [integer_power(a, params["y"])]
        if name == "convert_element_type":
            return [_converted(a, np.dtype(params["new_dtype"]))]
        if name == "select_n":
            return [_selected(*operands)]
        if name == "clamp":
            low, x, high = operands
            return [BINARY["min"](BINARY["max"](x, low), high)]
        if name == "rem":
            return [_remainder(*operands)]
        moved = _MOVES.get(name)
        if moved is None:
            return None
        parts = [(moved(params, *(v.lo for v in operands)), moved(params, *(v.hi for v in operands)))]
        return [widened(lo, hi) if name in ("reduce_sum", "cumsum") else Interval(lo, hi) for lo, hi in parts]

    def row(self, eqn: Any, x: Any, t: Any) -> Any:
        return Interval(x.lo[:, t], x.hi[:, t])

    def stack(self, eqn: Any, rows: Any, aval: Any) -> Any:
        if not rows:
            return self.constant(np.zeros(aval.shape))
        lo, hi = (np.stack(np.broadcast_arrays(*[getattr(r, end) for r in rows]), axis=1) for end in ("lo", "hi"))
        return Interval(lo, hi)


def _aligned(operands):
    """Numbers among arrays get axes of length 1 after the first."""
    most = max(x.lo.ndim for x in operands)
    padded = lambda x: x.reshape(len(x), *[1] * (most - x.ndim), *x.shape[1:])
    return [x if x.lo.ndim == most else Interval(padded(x.lo), padded(x.hi)) for x in operands]


def _converted(x: Interval, dtype: np.dtype) -> Interval:
    if dtype.kind == "b":
        return compare("ne", x, as_interval(0.0))
    if dtype.kind in "iu":
        return Interval(np.trunc(x.lo), np.trunc(x.hi))
    if dtype.kind != "f" and "float" not in dtype.name:
        raise NotImplementedError(f"intervals of dtype {dtype}")
    if dtype.itemsize < 8:
        slack = 2.0**-7 if dtype.itemsize < 4 else 2.0**-22
        return Interval(x.lo - slack * np.abs(x.lo), x.hi + slack * np.abs(x.hi))
    return x


def _selected(which: Interval, *cases: Interval) -> Interval:
    low, high = [], []
    for k, case in enumerate(cases):
        possible = (which.lo <= k) & (which.hi >= k)
        low.append(np.where(possible, case.lo, np.inf))
        high.append(np.where(possible, case.hi, -np.inf))
    return Interval(np.minimum.reduce(np.broadcast_arrays(*low)), np.maximum.reduce(np.broadcast_arrays(*high)))


def _remainder(a: Interval, b: Interval) -> Interval:
    whole = a / b
    whole = Interval(np.trunc(whole.lo), np.trunc(whole.hi))
    inside = a - b * whole
    size = abs(b).hi
    fixed = whole.lo == whole.hi
    return Interval(np.where(fixed, inside.lo, np.where(a.lo >= 0, 0.0, -size)),
                    np.where(fixed, inside.hi, np.where(a.hi <= 0, 0.0, size)))  # fmt: skip


def _axes(params):
    return tuple(axis + 1 for axis in params["axes"])


def _broadcast(params, x):
    shape, dims = params["shape"], params["broadcast_dimensions"]
    full = [1] * len(shape)
    for size, place in zip(x.shape[1:], dims):
        full[place] = size
    return np.broadcast_to(x.reshape(len(x), *full), (len(x), *shape))


def _sliced(params, x):
    strides = params["strides"] or (1,) * (x.ndim - 1)
    return x[(slice(None), *map(slice, params["start_indices"], params["limit_indices"], strides))]


def _concatenated(params, *xs):
    most = max(len(x) for x in xs)
    return np.concatenate([np.broadcast_to(x, (most, *x.shape[1:])) for x in xs], axis=params["dimension"] + 1)


_MOVES: dict[str, Callable[..., np.ndarray]] = {
    "reshape": lambda p, x: x.reshape(len(x), *p["new_sizes"]),
    "broadcast_in_dim": _broadcast,
    "squeeze": lambda p, x: np.squeeze(x, tuple(d + 1 for d in p["dimensions"])),
    "expand_dims": lambda p, x: np.expand_dims(x, tuple(d + 1 for d in p["dimensions"])),
    "transpose": lambda p, x: np.transpose(x, (0, *(k + 1 for k in p["permutation"]))),
    "rev": lambda p, x: np.flip(x, tuple(d + 1 for d in p["dimensions"])),
    "slice": _sliced,
    "concatenate": _concatenated,
    "reduce_sum": lambda p, x: np.sum(x, axis=_axes(p)),
    "reduce_max": lambda p, x: np.max(x, axis=_axes(p)),
    "reduce_min": lambda p, x: np.min(x, axis=_axes(p)),
    "reduce_or": lambda p, x: np.max(x, axis=_axes(p)),
    "reduce_and": lambda p, x: np.min(x, axis=_axes(p)),
    "cumsum": lambda p, x: np.cumsum(x[:, ::-1] if p["reverse"] else x, axis=p["axis"] + 1),
}


class Enclosure:
    """Of a function of one number, given as a closed jaxpr of it and of further operands: enclosures on intervals."""

    jaxpr: Any

    def __init__(self, jaxpr: Any, operands: Any = ()) -> None:
        self.jaxpr = jaxpr
        machine = Intervals()
        self.operands = [machine.constant(np.asarray(x)) for x in operands]

    @classmethod
    def of(cls, jaxpr: Any, operands: Any = ()) -> "Enclosure | None":
        """None where an operand or operation has no intervals."""
        try:
            found = cls(jaxpr, operands)
            found(np.ones(2), np.ones(2))
        except (NotImplementedError, TypeError, ValueError, IndexError):
            return None
        return found

    def __call__(self, lo: np.ndarray, hi: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """(lo (n, K), hi (n, K), undecided sites) of the first result on [lo, hi], (n,) each.

        Raises:
          NotImplementedError: a primitive without a rule.
        """
        machine = Intervals()
        out = machine.run(self.jaxpr, [Interval(lo, hi), *self.operands])[0]
        n = len(lo)
        low, high = (np.broadcast_to(x.reshape(len(x), -1), (n, max(1, x[0].size))) for x in (out.lo, out.hi))
        return low, high, machine.undecided
