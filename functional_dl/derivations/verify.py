"""Verifying a derivation: every line against the line above, first and last lines against independent oracles."""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.tree_util import tree_leaves, tree_structure

from functional_dl import arguments, check, reverse
from functional_dl.aliases import Array, Key, PyTree
from functional_dl.check import precise
from functional_dl.derivations.limits import (
    EPS,
    SHOWN,
    Approach,
    Limit,
    approaches,
    extrapolate,
    extrapolated,
    observed_order,
)
from functional_dl.derivations.record import Record
from functional_dl.derivations.report import Comparison, Verification
from functional_dl.derivations.step import Oracle, Step
from functional_dl.precision import double

# A line is a few dozen roundings of numbers of size 1 to 100, of operations whose condition is below some hundred.
UNIT = 2.0**14 * EPS
UNCERTAIN = 2.0**-20  # a limit known less well than this proves nothing
TAKEN = 2.0**-30  # relative error of an extrapolated limit
ORDER = 0.65  # the error of a difference quotient must shrink like h, or faster


def verify(derivation: Record, key: Key | None = None, points: int = 3, oracles: bool = True) -> Verification:
    """Checks every line of a derivation at random points, in float64.

    Each line is held to the line above in the way that its kind says, and the first line of each chain, which has none
    above, to an oracle.  The last line of a derivative is held to the numeric derivative (with its error), to the
    hand-written `reverse.vjp`, to `check.check_vjp` and, where the function is one of numbers, to its derivative at 50
    digits; other results are held to the oracles that they bring.

    Args:
      derivation: what is verified.
      key: random key; jax.random.key(0) without.
      points: how many random points; oracles look at the first, and lines at all of them.
      oracles: whether last lines are held to oracles.
    Returns:
      Verification; `passed`, `first_wrong`, `print(report)`.
    Raises:
      ValueError: points is not positive.  TypeError: key is no PRNG key.
    """
    points = arguments.integer("points", points)
    with double():
        key = jax.random.key(0) if key is None else arguments.key("key", key)
        draw = jax.jit(derivation.draw)
        drawn = [draw(jax.random.fold_in(key, i)) for i in range(points)]
        if derivation.extra_points is not None:
            drawn += jax.jit(derivation.extra_points)(jax.random.fold_in(key, points))
        run = _Run(derivation)
        run.lines(drawn, key)
        run.oracles(drawn[0], last=oracles)
        if oracles and derivation.kink_points is not None and derivation.fun is not None:
            for point in jax.jit(derivation.kink_points)(jax.random.fold_in(key, points + 1)):
                run.check_vjp(point, "check_vjp on a kink")
        return Verification(derivation.name, derivation.title, derivation.steps, len(drawn), run.rows(), run.notes)


class _Run:
    """Collects comparisons; of those of one line with one oracle, the worst is kept."""

    def __init__(self, derivation: Record) -> None:
        self.derivation = derivation
        self.found: dict[tuple[int, str], Comparison] = {}
        self.notes: tuple[str, ...] = ()
        self.first: dict[int, Any] = {}  # line -> value at the first point

    def rows(self) -> tuple[Comparison, ...]:
        return tuple(self.found[at] for at in sorted(self.found, key=lambda at: at[0]))

    def add(
        self, line: int, against: str, error: float, tolerance: float, note: str = "", passed: bool | None = None
    ) -> None:
        passed = bool(error <= tolerance) if passed is None else passed
        new = Comparison(line + 1, against, float(error), float(tolerance), passed, note)
        old = self.found.get((line, against))
        if old is None or (old.passed, -old.share) > (new.passed, -new.share):
            self.found[line, against] = new

    def compare(self, line: int, against: str, actual: Any, expected: Any, tolerance: Any) -> None:
        """Largest |actual - expected| over tolerance; trees and shapes must be the same."""
        problem = _misfit(actual, expected)
        if problem:
            self.add(line, against, np.inf, 0.0, problem, False)
            return
        a, e = _vector(actual), _vector(expected)
        allowed = np.broadcast_to(tolerance, e.shape)
        if not e.size:
            self.add(line, against, 0.0, 0.0)
            return
        with np.errstate(invalid="ignore"):
            error = np.abs(a - e)
        bad = ~(error <= allowed)
        at = int(np.argmax(np.where(np.isfinite(error), error / np.maximum(allowed, 1e-300), np.inf)))
        self.add(line, against, error[at], allowed[at], f"entry {at}: {e[at]:.6g} here {a[at]:.6g}", not bad.any())

    # --- each line against the one above

    def lines(self, points: list[Any], key: Array) -> None:
        for places in self.derivation.chains.values():
            for i, point in enumerate(points):
                values = line_values([self.derivation.steps[place] for place in places], point)
                if i == 0:
                    self.first |= dict(zip(places, values))
                for k in range(1, len(places)):
                    self.pair(places[k - 1], places[k], values[k - 1], values[k])
            for above, here in itertools.pairwise(places):
                self.tight(above, here, key)

    def value(self, line: int) -> Array:
        """What the line is at the first point."""
        value = self.first[line]
        return extrapolated(value[0].stacked) if isinstance(self.derivation.steps[line].evaluate, Limit) else value

    def spread(self, line: int) -> Any:
        """A bound of the error of that value: of an extrapolated limit, as far as it can be believed; else 0."""
        if not isinstance(self.derivation.steps[line].evaluate, Limit):
            return 0.0
        found = extrapolate(self.first[line][0].table)
        size = max(1.0, float(np.max(np.abs(found.value), initial=0.0)))
        return np.minimum(found.error, UNCERTAIN * size)

    def pair(self, above: int, here: int, upper: PyTree, lower: PyTree) -> None:
        step, before = self.derivation.steps[here], self.derivation.steps[above]
        against = f"line {above + 1}"
        if isinstance(step.evaluate, Limit) and isinstance(before.evaluate, Limit):
            for h, first, second in zip(SHOWN, upper[1].table, lower[1].table):
                self.compare(here, against, second, first, _tolerance(first, second) / h)
        elif isinstance(before.evaluate, Limit):
            self.limit(here, f"limit of {against}", upper[0], lower)
        elif isinstance(step.evaluate, Limit):
            self.limit(here, f"{against}, as its limit", lower[0], upper)
        elif step.kind == "limit":  # the line above gives its limit itself
            size = max(1.0, float(np.max(np.abs(_vector(upper)), initial=0.0)))
            self.compare(here, f"limit of {against}", lower, upper, TAKEN * size)
        elif step.kind == "upper_bound":
            excess = np.maximum(_vector(upper) - _vector(lower), 0.0)
            self.compare(here, f"at least {against}", excess, np.zeros_like(excess), _tolerance(upper, lower))
        elif step.kind == "element_of":
            self.element_of(here, f"element of {against}", upper, lower)
        else:
            self.compare(here, against, lower, upper, _tolerance(upper, lower))

    def limit(self, line: int, against: str, quotients: Approach, value: Any) -> None:
        """A quotient tends to a value: the extrapolated limit is the value, and the error shrinks like h."""
        vector, table = _vector(value), quotients.table
        if table.shape[1:] != vector.shape:
            self.add(line, against, np.inf, 0.0, f"{table.shape[1:]} entries here {vector.shape}", False)
            return
        found = extrapolate(table)
        size = max(1.0, float(np.max(np.abs(found.value), initial=0.0)))
        if np.max(found.error, initial=0.0) > UNCERTAIN * size:
            self.add(line, against, np.inf, UNCERTAIN * size, "the quotient settles down to no limit", False)
            return
        self.compare(line, against, vector, found.value, found.error + UNIT * size)
        order = observed_order(table, vector)
        if order < ORDER:
            self.add(line, f"rate of {against}", 1.0 - order, 1.0 - ORDER, f"the error shrinks like h^{order:.2f}")

    def element_of(self, line: int, against: str, interval: Any, value: Any) -> None:
        low, high = (_vector(end) for end in interval)
        v = _vector(value)
        outside = np.maximum(np.maximum(low - v, v - high), 0.0)
        self.compare(line, against, outside, np.zeros_like(outside), UNIT)

    def tight(self, above: int, here: int, key: Array) -> None:
        """A bound is attained where it claims to be."""
        step = self.derivation.steps[here]
        if step.tight is not None:
            point = step.tight(key)
            upper, lower = line_values([self.derivation.steps[above], step], point)
            self.compare(here, f"line {above + 1}, where attained", lower, upper, _tolerance(upper, lower))

    # --- the ends of chains against oracles

    def oracles(self, point: tuple[Any, ...], last: bool) -> None:
        d = self.derivation
        if d.fun is not None:
            self.numeric(point, last)
            if last:
                self.by_reverse(point)
                self.check_vjp(point, "check_vjp")
                self.exact(point)
        for oracle in d.oracles:
            self.own(oracle, point, last)

    @functools.cached_property
    def fun(self) -> Callable[..., Any]:
        assert self.derivation.fun is not None
        return jax.jit(self.derivation.fun)

    def fun_vjp(self, *primals: PyTree) -> tuple[Array, Callable[..., Any]]:
        """The derivation's vjp, its pullback compiled."""
        vjp = self.derivation.vjp
        assert vjp is not None
        return self.fun(*primals), jax.jit(lambda ct: vjp(*primals)[1](ct))

    def primals_and_ct(self, point: tuple[Any, ...]) -> tuple[Any, ...]:
        if not self.derivation.slope:
            return tuple(point[:-1]), point[-1]
        return tuple(point), np.ones(np.shape(self.fun(*point)))

    def ends(self, last: bool) -> Iterator[Any]:
        """(argument's place, line) of the first and last lines of the arguments' chains."""
        for name, places in self.derivation.chains.items():
            if name in self.derivation.arguments:
                for line in {places[0], places[-1]} if last else {places[0]}:
                    yield self.derivation.arguments.index(name), line

    def numeric(self, point: tuple[Any, ...], last: bool) -> None:
        primals, ct = self.primals_and_ct(point)
        estimate = check.estimate_vjp(self.fun, primals, ct)
        for argument, line in self.ends(last):
            value = self.value(line)
            expected, error = estimate.value[argument], _vector(estimate.error[argument])
            allowed = error + self.spread(line) + _tolerance(expected, value)
            self.compare(line, "numeric derivative", value, expected, allowed)

    def by_reverse(self, point: tuple[Any, ...]) -> None:
        primals, ct = self.primals_and_ct(point)
        bars = jax.jit(lambda ct, *primals: reverse.vjp(self.fun, *primals)[1](ct))(ct, *primals)
        for argument, line in self.ends(True):
            value = self.value(line)
            if line == self.last_line(argument):
                self.compare(line, "reverse.vjp", value, bars[argument], _tolerance(bars[argument], value))

    def last_line(self, argument: int) -> int:
        return self.derivation.chains[self.derivation.arguments[argument]][-1]

    def check_vjp(self, point: tuple[Any, ...], against: str) -> None:
        primals, _ = self.primals_and_ct(point)
        d = self.derivation
        report = check.check_vjp(self.fun, self.fun_vjp, *primals, name=d.name)
        for argument, name in enumerate(d.arguments):
            if name in d.chains:
                faults = [f for f in report.findings if f.argument in ("", f"args[{argument}]")
                          or f.argument.startswith(f"args[{argument}][")]  # fmt: skip
                worst = max((f.error or np.inf for f in faults), default=0.0)
                allowed = max((f.tolerance or 0.0 for f in faults), default=0.0)
                note = faults[0].message if faults else ""
                self.add(self.last_line(argument), against, worst, allowed, note, not faults)

    def exact(self, point: tuple[Any, ...]) -> None:
        d = self.derivation
        if d.exact is None:
            return
        if not precise.available():
            self.notes = ("mpmath is not installed: no 50-digit oracle.",)
            return
        for argument, name in enumerate(d.arguments):
            if name in d.chains:
                line = self.last_line(argument)
                value = self.value(line)
                expected = precise.partial_derivative(d.exact, [np.asarray(x) for x in point], argument)
                self.compare(line, "50-digit derivative", value, expected, _tolerance(expected, value))

    def own(self, oracle: Oracle, point: tuple[Any, ...], last: bool) -> None:
        places = self.derivation.chains[oracle.chain]
        lines = {"first": places[:1], "last": places[-1:], "both": [places[0], places[-1]]}[oracle.line]
        lines = [line for line in dict.fromkeys(lines) if last or line == places[0]]
        if lines:
            expected, error = oracle.evaluate(*point), 0.0
            if isinstance(expected, check.Estimate):
                expected, error = expected.value, _vector(expected.error)
            for line in lines:
                value = self.value(line)
                size = max(1.0, float(np.max(np.abs(_vector(expected)), initial=0.0)))
                self.compare(line, oracle.name, value, expected, error + self.spread(line) + oracle.tolerance * size)


def line_values(steps: list[Step], point: tuple[Any, ...]) -> list[Any]:
    """Every line at a point, compiled together: its value, or the two Approaches of a line under a limit sign."""
    limits = tuple(step.evaluate for step in steps if isinstance(step.evaluate, Limit))
    plain = tuple(step.evaluate for step in steps if not isinstance(step.evaluate, Limit))
    found = iter(approaches(limits, point) if limits else ())
    values = iter(_together(plain)(*point))
    return [next(found) if isinstance(step.evaluate, Limit) else next(values) for step in steps]


@functools.lru_cache(maxsize=1024)
def _together(evaluates: tuple[Callable[..., Any], ...]) -> Callable[..., Any]:
    return jax.jit(lambda *point: [evaluate(*point) for evaluate in evaluates])


def _vector(tree) -> np.ndarray:
    return np.asarray(ravel_pytree(tree)[0], np.float64)


def _misfit(actual, expected) -> str:
    a, e = tree_structure(actual), tree_structure(expected)
    shapes = [[np.shape(x) for x in tree_leaves(tree)] for tree in (actual, expected)]
    if shapes[0] != shapes[1] or (a.num_leaves > 1 and a != e):
        return f"shapes {shapes[1]} here {shapes[0]}"
    return ""


def _tolerance(*values) -> float:
    return UNIT * max(1.0, *(float(np.max(np.abs(_vector(v)), initial=0.0)) for v in values))
