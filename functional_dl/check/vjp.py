"""check_vjp: a backward pass against the derivative of its function."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_flatten, tree_flatten_with_path, tree_structure, tree_unflatten

from functional_dl.aliases import Array, PyTree
from functional_dl.check import diagnosis, kinks, reference, simulation
from functional_dl.check.evidence import Evidence, Trial
from functional_dl.check.function import Function, is_inexact, widen
from functional_dl.check.reference import Reference, random_like
from functional_dl.check.report import Argument, Finding, GradientMismatch, Report
from functional_dl.precision import double

TRIALS = 3
ROUNDED = 8  # last places that a primal may be off by, where fun is ill-conditioned


class Answer(NamedTuple):
    """One call of the user's pullback: the cotangents as they were rounded, and what came back, in double precision."""

    cts: list[Any]
    bars: list[Any]


def check_vjp(
    fun: Callable[..., Any],
    fun_vjp: Callable[..., Any],
    *primals: PyTree,
    ct: Array | None = None,
    name: str | None = None,
    seed: int = 0,
) -> Report:
    r"""Checks a hand-written backward pass and names what is wrong with it.

    Correct is x_i_bar = (\partial f / \partial x_i)^T y_bar  for every primal x_i, up to the rounding that the primals'
    dtypes and the conditioning of f allow, and at kinks any element of the subdifferential.

    Args:
      fun: the function, of pytrees of arrays; JAX's or NumPy's.
      fun_vjp: `fun_vjp(*primals)` -> (out, pullback), `pullback(ct)` -> tuple of one cotangent for each primal.
      *primals: where to check.  Integer and boolean leaves have no cotangent (None, float0 or zeros will do).
      ct: a cotangent to use besides random ones.
      name: what the report calls the backward pass.
      seed: of the random cotangents.
    Returns:
      Report; `report.passed`, `report.findings`, `print(report)`.
    Raises:
      TypeError: fun or fun_vjp is not callable, fun has no floating output, or no primal is floating.
    """
    if not callable(fun_vjp):
        raise TypeError(f"fun_vjp: expected a callable, got {fun_vjp!r}")
    function = Function(fun, primals)
    if not function.out_active:
        raise TypeError("fun: expected an output of floating numbers; it has none, so there is no derivative to check")
    if not function.active:
        raise TypeError("primals: expected at least one leaf of floating numbers, got none")
    return _Check(function, fun_vjp, ct, name or _name(fun_vjp, fun), np.random.default_rng(seed)).run()


def assert_vjp(fun: Callable[..., Any], fun_vjp: Callable[..., Any], *primals: PyTree, **options: Any) -> Report:
    """`check_vjp`, raising GradientMismatch (an AssertionError) with the report where it finds a fault."""
    report = check_vjp(fun, fun_vjp, *primals, **options)
    if not report.passed:
        raise GradientMismatch(report)
    return report


def check_custom_vjp(fun: Callable[..., Any], *primals: PyTree, **options: Any) -> Report:
    """`check_vjp` of a function decorated with `jax.custom_vjp`: its rule against its own body.

    Raises:
      TypeError: fun is not such a function.
    """
    body = getattr(fun, "fun", None) or getattr(fun, "__wrapped__", None)
    if not isinstance(fun, jax.custom_vjp) or body is None:
        raise TypeError(f"fun: expected a function decorated with jax.custom_vjp, got {fun!r}")
    options.setdefault("name", getattr(fun, "__name__", "custom_vjp"))
    return check_vjp(body, lambda *args: jax.vjp(fun, *args), *primals, **options)


def _name(fun_vjp, fun) -> str:
    own = getattr(fun_vjp, "__name__", "")
    return own if own and own != "<lambda>" else f"backward pass of {getattr(fun, '__name__', repr(fun))}"


class _Check:
    """One run of check_vjp."""

    def __init__(self, function: Function, fun_vjp: Callable[..., Any], ct: Any, name: str, rng: Any) -> None:
        self.function, self.fun_vjp, self.name, self.rng = function, fun_vjp, name, rng
        self.given_ct = ct
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        self.comparisons = 0

    def report(self, arguments: Sequence[Argument] = (), source: str = "") -> Report:
        return Report(self.name, tuple(self.findings), tuple(arguments), source, self.comparisons, tuple(self.notes))

    def found(self, cause: Any, argument: Any, message: Any, **more: Any) -> None:
        candidates = (cause, *diagnosis.ALIKE.get(cause, ()))
        self.findings.append(Finding(cause, argument, message, candidates=candidates, **more))

    # --- the stages

    def run(self) -> Report:
        out, pullback = self._forward()
        self._check_output(out)
        cts = self._cotangents()
        if any(f.cause == "primal" and f.index is None for f in self.findings):
            return self.report()
        bars = pullback(self._ct_tree(cts[0]))
        wrong_form = self._check_form(bars)
        if wrong_form is None:
            return self.report()
        self.wrong_form = wrong_form
        self.pullback = pullback
        answers = [self.call(c) for c in cts]
        right = Reference(self.function, self.rng)
        if right.disagreement:
            self.notes.append(right.disagreement)
        if not right.source:
            self.notes.append("fun is too large for a numeric Jacobian and JAX's derivative of it cannot be used.")
            return self._probed(answers, self._check_behaviour(cts, answers, None))
        trials = []
        for answer in answers:
            expected = right.pull(answer.cts)
            tolerance = right.tolerance(answer.cts, expected)
            trials.append(Trial(tuple(answer.cts), tuple(expected), tuple(answer.bars), tuple(tolerance)))
        settled = kinks.settle(self.function, trials)
        trials = settled.trials
        self.notes += settled.notes
        noise = [2 * a + b for a, b in zip(trials[0].tolerance, trials[1].tolerance)]
        before = list(self.findings)
        unsound = self._check_behaviour(cts, answers, noise)
        if unsound:  # seen again with the rounding of terms that cancel
            self.findings = before
            for k in unsound:
                evidence = Evidence(self.function, right, k, trials, self.call, [], self.rng, settled.blank[k])
                first, second, *_ = simulation.cancellation(evidence)
                moved = self._moved(evidence)
                noise[k] = noise[k] + 8 * self._unit(k) * (first + second) + 2 * moved[0] + moved[1]
            unsound = self._check_behaviour(cts, answers, noise)
        return self.report(self._compare(right, settled, unsound), self._source(right))

    @functools.cached_property
    def _rounded_outs(self) -> dict[str, np.ndarray]:
        """What the differentiable outputs change by when the primals are rounded another way, by eight last places."""
        function = self.function
        here = function.evaluate(function.wide_point)
        change = [np.zeros(y.shape) for y in here]
        for _ in range(6):
            moved = function.evaluate(reference.rounded_point(function, ROUNDED, self.rng))
            with np.errstate(invalid="ignore"):
                off = [np.nan_to_num(np.abs(a - b), nan=0.0, posinf=0.0) for a, b in zip(moved, here)]
            change = [np.maximum(c, o) for c, o in zip(change, off)]
        return {function.out_paths[i]: c for i, c in zip(function.out_active, change)}

    def _source(self, right) -> str:
        return _SOURCES[right.source if self.function.precision is double else "own " + right.source]

    def _moved(self, evidence) -> list[np.ndarray]:
        """What the right cotangents change by when the primals are rounded another way, by eight last places.

        The changes of steps as long as a rounding are multiplied; where fun is exponential that is too little, and
        steps eight times as long are taken.
        """
        function, trials = self.function, evidence.trials
        if evidence.reference.source != "autodiff":
            return [np.zeros(evidence.shape) for _ in trials]
        found = [np.zeros(evidence.shape) for _ in trials]
        for steps in (1, 1, 1, *[ROUNDED] * 6):
            point = reference.rounded_point(function, steps, self.rng)
            off = [np.abs(evidence.pull_at(point, t.cts) - t.expected[evidence.k]) for t in trials]
            off = [np.where(np.isfinite(o), o, 0.0) for o in off]  # a place may have no derivative
            found = [np.maximum(f, ROUNDED / steps * o) for f, o in zip(found, off)]
        return found

    def _unit(self, k) -> float:
        """Some roundings in the coarsest dtype at hand, relative to the terms that cancel.

        Each of those terms may be the sum of a contraction, which has lost digits of its own: in wide dtypes a fifth of
        what a whole pullback may lose is allowed, in narrow ones, where that is less than eight roundings, these.
        """
        function = self.function
        coarsest = max([function.point[k], *[function.outs[i] for i in function.out_active]], key=reference.eps)
        return max(8.0, reference.ROUNDINGS.get(reference.dtype_name(coarsest), 4.0) / 5) * reference.eps(coarsest)

    def _forward(self):
        answer = self.fun_vjp(*self.function.primals)
        if not (isinstance(answer, tuple | list) and len(answer) == 2 and callable(answer[1])):
            raise TypeError(f"fun_vjp: expected it to return (out, pullback), got {answer!r:.200}")
        return answer

    def _check_output(self, out) -> None:
        """The output of fun_vjp is fun's."""
        outs, tree = tree_flatten(out)
        if tree != self.function.out_tree:
            self.found("primal", "", f"fun_vjp returns an output of the tree {tree}, fun {self.function.out_tree}.")
            return
        for mine, theirs, path in zip(self.function.outs, outs, self.function.out_paths):
            theirs = np.asarray(theirs)
            if theirs.shape != mine.shape:
                self.found("primal", "", f"{path}: fun_vjp returns shape {theirs.shape}, fun {mine.shape}.")
                continue
            if self.function.canonical(theirs.dtype) != self.function.canonical(mine.dtype):
                self.found("primal", "", f"{path}: fun_vjp returns dtype {theirs.dtype}, fun {mine.dtype}.")
            a, e = widen(theirs), widen(mine)
            if not is_inexact(mine):
                wrong = a != e
                allowed = np.zeros(e.shape)
            else:
                typical = float(np.sqrt(np.mean(np.abs(e[np.isfinite(e)]) ** 2))) if np.isfinite(e).any() else 0.0
                coarsest = max([mine, *self.function.point], key=reference.eps)
                unit = reference.ROUNDINGS.get(reference.dtype_name(coarsest), 4.0) * reference.eps(coarsest)
                allowed = unit * (np.abs(np.where(np.isfinite(e), e, 0)) + typical)
                with np.errstate(all="ignore"):
                    wrong = ~((np.abs(a - e) <= allowed) | (a == e) | (np.isnan(a) & np.isnan(e)))
                if wrong.any():  # seen again with the rounding of terms that cancel
                    allowed = allowed + self._rounded_outs[path]
                    with np.errstate(invalid="ignore"):
                        wrong = wrong & ~(np.abs(a - e) <= allowed)
            self.comparisons += e.size
            if wrong.any():
                index = tuple(int(i) for i in np.argwhere(wrong)[np.argmax(np.abs((a - e)[wrong]))])
                self.findings.append(
                    Finding(
                        "primal", "",
                        f"{path}: {int(wrong.sum())} of {e.size} entries of fun_vjp's output differ from fun's.",
                        index, e[index].item(), a[index].item(), float(abs(a[index] - e[index])), float(allowed[index]),
                        ("primal",),
                    )
                )  # fmt: skip

    def _cotangents(self):
        """Lists of cotangents of the differentiable outputs, in their dtypes."""
        found = [[self._own(random_like(y, self.rng), y) for y in self._outs()] for _ in range(TRIALS)]
        if self.given_ct is not None:
            leaves, tree = tree_flatten(self.given_ct)
            if tree != self.function.out_tree:
                raise ValueError(f"ct: expected the output's tree {self.function.out_tree}, got {tree}")
            found.append([self._own(widen(leaves[i]), self.function.outs[i]) for i in self.function.out_active])
        return found

    def _outs(self):
        return [self.function.outs[i] for i in self.function.out_active]

    def _own(self, ct, like):
        """ct in the dtype, and of the kind of array (NumPy's or JAX's), of an output."""
        cast = np.asarray(ct).astype(like.dtype)
        return cast if isinstance(like, np.ndarray | np.generic) and not self.function.traceable else jnp.asarray(cast)

    def _ct_tree(self, cts):
        leaves = []
        rest = iter(cts)
        for i, y in enumerate(self.function.outs):
            leaves.append(next(rest) if i in self.function.out_active else np.zeros(np.shape(y), jax.float0))
        return tree_unflatten(self.function.out_tree, leaves)

    def _check_form(self, bars) -> set[int] | None:
        """Count, trees, shapes and dtypes; returns the leaves that cannot be compared, None if none can."""
        function = self.function
        if not isinstance(bars, tuple | list):
            self.found(
                "structure", "", f"The pullback returns {type(bars).__name__}; expected a tuple of "
                f"{len(function.primals)} cotangent(s), one for each primal.",
            )  # fmt: skip
            return None
        if len(bars) != len(function.primals):
            self.found(
                "structure", "", f"The pullback returns {len(bars)} cotangent(s) for {len(function.primals)} primal(s)."
            )
            return None
        wrong: set[int] = set()
        leaf = 0
        for p, (bar, primal) in enumerate(zip(bars, function.primals)):
            with_paths, tree = tree_flatten_with_path(primal)
            positions = range(leaf, leaf + len(with_paths))
            leaf += len(with_paths)
            if bar is None:
                continue
            own, own_tree = tree_flatten(bar, is_leaf=lambda x: x is None)
            if own_tree != tree_structure(tree_unflatten(tree, [0] * len(with_paths))):
                self.found("structure", f"args[{p}]", f"The cotangent has the tree {own_tree}, its primal {tree}.")
                wrong.update(positions)
                continue
            for i, value in zip(positions, own):
                if value is None or i not in function.active:
                    continue
                x = function.leaves[i]
                path = function.paths[i]
                if np.shape(value) != np.shape(x):
                    self.found(
                        "structure", path, f"The cotangent has shape {np.shape(value)}, its primal {np.shape(x)}."
                        + self._shape_hint(np.shape(value), np.shape(x)),
                    )  # fmt: skip
                    wrong.add(i)
                    continue
                dtype = value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype
                if function.canonical(dtype) != x.dtype:
                    self.found("dtype", path, f"The cotangent has dtype {dtype}, its primal {x.dtype}.")
                    if not (
                        is_inexact(value)
                        and np.issubdtype(widen(value).dtype, np.complexfloating) == np.iscomplexobj(widen(x))
                    ):
                        wrong.add(i)
        return wrong

    @staticmethod
    def _shape_hint(got, expected):
        if sorted(got) == sorted(expected):
            return " The axes are permuted."
        if len(got) > len(expected) and got[len(got) - len(expected) :] == expected:
            return " Leading axes are not summed over."
        return ""

    def call(self, cts: Sequence[Any]) -> Answer:
        """The user's cotangents of the differentiable leaves, for cotangents of the differentiable outputs."""
        own = [self._own(c, y) for c, y in zip(cts, self._outs())]
        bars = self.pullback(self._ct_tree(own))
        found = []
        for bar, primal in zip(bars, self.function.primals):
            leaves, _ = tree_flatten(primal)
            values = [None] * len(leaves) if bar is None else tree_flatten(bar, is_leaf=lambda x: x is None)[0]
            found += values if len(values) == len(leaves) else [None] * len(leaves)
        answers = []
        for i in self.function.active:
            x = self.function.leaves[i]
            value = found[i]
            good = value is not None and np.shape(value) == np.shape(x)
            bar = widen(value) if good else np.zeros(np.shape(x))
            if np.iscomplexobj(bar) and not np.iscomplexobj(widen(x)):
                bar = bar.real
            answers.append(bar.astype(widen(x).dtype))
        return Answer([widen(c) for c in own], answers)

    def _check_behaviour(self, cts, answers, noise) -> set[int]:
        """Determinism and linearity; returns the positions (among the differentiable leaves) that fail.

        noise: what rounding may do to each entry of each leaf (a cotangent that cancels to nothing is all rounding).
        """
        first = answers[0]
        again = self.call(cts[0])
        _, pullback = self._forward()
        kept, self.pullback = self.pullback, pullback
        fresh = self.call(cts[0])
        self.pullback = kept
        doubled = self.call([2 * np.asarray(c) for c in first.cts])
        summed = self.call([a + b for a, b in zip(first.cts, answers[1].cts)])
        failed = set()
        for k, i in enumerate(self.function.active):
            if i in self.wrong_form:
                continue
            x, path = self.function.leaves[i], self.function.paths[i]
            unit = reference.ROUNDINGS.get(reference.dtype_name(x), 4.0) * reference.eps(x)
            a, b = first.bars[k], answers[1].bars[k]
            compared = np.isfinite(a) & np.isfinite(b)  # other entries do not blind these
            a, b, repeated, renewed, twice, total = (
                np.where(compared, u, 0.0)
                for u in (a, b, again.bars[k], fresh.bars[k], doubled.bars[k], summed.bars[k])
            )
            size = max(float(np.sqrt(np.mean(np.abs(a) ** 2 + np.abs(b) ** 2))) if a.size else 0.0, 1e-300)

            floor = noise[k] if noise is not None else 0.0

            def same(u, v, unit=unit):
                return float(np.max(np.abs(u - v), initial=0.0)) <= min(8 * unit, 0.05) * np.max(np.abs(v), initial=0.0)

            def departs(u, v, size=size, unit=unit, floor=floor):
                return float(np.max(np.abs(u - v) - floor, initial=0.0)) > unit * 8 * size

            if departs(repeated, a) or departs(renewed, a):
                off = max(np.max(np.abs(repeated - a), initial=0.0), np.max(np.abs(renewed - a), initial=0.0))
                self.found("nondeterministic", path, f"Two calls with the same cotangent differ by up to {off:.3g}.")
                failed.add(k)
            elif not np.any(a) and not np.any(twice):
                continue
            elif same(twice, a) and same(total, a) and same(b, a):
                self.found(
                    "ignored_cotangent", path, "The cotangent is the same for ct, for 2 ct and for another ct: it does "
                    "not depend on ct, as if ct were one of ones.",
                )  # fmt: skip
                failed.add(k)
            elif departs(twice, 2 * a) or departs(total, a + b):
                # rounding of summed ct in low precision is not a fault: look at how large the departure is
                ct_sum = [np.asarray(u) + np.asarray(v) for u, v in zip(first.cts, answers[1].cts)]
                rounded = max(float(np.max(np.abs(s - c), initial=0.0)) for s, c in zip(ct_sum, summed.cts))
                homogeneous = float(np.max(np.abs(twice - 2 * a), initial=0.0))
                additive = float(np.max(np.abs(total - a - b), initial=0.0))
                # what departs by less than a rounding to 8 bits is judged by its numbers, as a loss of digits
                small = max(homogeneous, additive) <= 1e-2 * size
                if not small and (homogeneous > 8 * unit * size or additive > 8 * (unit + rounded) * size):
                    self.found(
                        "nonlinear", path, f"The pullback is not linear in ct: pullback(2 ct) - 2 pullback(ct) is "
                        f"up to {homogeneous:.3g}, pullback(ct + ct') - pullback(ct) - pullback(ct') up to "
                        f"{additive:.3g}, where cotangents are about {size:.3g}.",
                    )  # fmt: skip
                    failed.add(k)
        return failed

    # --- numbers

    def _compare(self, right, settled, unsound) -> list[Argument]:
        function = self.function
        arguments, wrong = [], []
        for k, i in enumerate(function.active):
            if i in self.wrong_form:
                continue
            evidence = Evidence(function, right, k, settled.trials, self.call, [], self.rng, settled.blank[k])
            self.comparisons += int((~evidence.blank).sum()) * len(settled.trials)
            with np.errstate(all="ignore"):
                ratio = np.max([np.abs(a - e) / t for a, e, t in self._entries(evidence)], axis=0)
                ratio = np.where(np.isnan(ratio), np.inf, ratio)
            ratio = np.where(evidence.blank, 0.0, ratio)
            evidence.__dict__["bad"] = ratio > 1
            excused = None
            if evidence.bad.any():
                excused = kinks.at_kink(evidence)
                if excused is not None:
                    ratio = np.where(excused.mask, 0.0, ratio)
                    evidence.__dict__["bad"] = ratio > 1
            if (ratio > 1).any() and k not in unsound:
                terms = simulation.cancellation(evidence)
                moved = self._moved(evidence) if excused is None else [0.0] * len(terms)
                with np.errstate(all="ignore"):
                    off = [
                        np.abs(a - e) / (t + self._unit(k) * s + m)
                        for (a, e, t), s, m in zip(self._entries(evidence), terms, moved)
                    ]
                if np.max(np.where(ratio > 1, np.max(off, axis=0), 0.0), initial=0.0) <= 1:
                    ratio = np.minimum(ratio, 1.0)
                    evidence.__dict__["bad"] = ratio > 1
            worst = float(np.max(ratio, initial=0.0))
            path = function.paths[i]
            arguments.append(
                Argument(path, evidence.shape, str(function.leaves[i].dtype), worst, int((ratio > 1).sum()), ratio)
            )
            if worst > 1 and k not in unsound:
                wrong.append((k, evidence, ratio))
        for _, evidence, _ in wrong:
            evidence.wrong[:] = [k for k, _, _ in wrong]
        self.findings += diagnosis.of_arguments([(evidence, ratio) for _, evidence, ratio in wrong], self.findings)
        return arguments

    @staticmethod
    def _entries(evidence):
        return zip(evidence.actual, evidence.expected, evidence.tolerance)

    def _probed(self, answers, unsound):
        """Without a reference: each leaf's cotangent against differences along random directions."""
        from functional_dl.check import numeric  # here alone

        arguments = []
        for k, i in enumerate(self.function.active):
            if i in self.wrong_form or k in unsound:
                continue
            worst, answer = 0.0, answers[0]
            for _ in range(4):
                direction = [np.zeros(x.shape, x.dtype) for x in self.function.wide_point]
                direction[k] = self.function.scales[k] * random_like(self.function.wide_point[k], self.rng)
                found = numeric.along(self.function, direction, answer.cts)
                claimed = float(np.sum(answer.bars[k] * direction[k]).real)
                low, high = found.interval
                x = self.function.leaves[i]
                unit = reference.ROUNDINGS.get(reference.dtype_name(x), 4.0) * reference.eps(x)
                slack = (unit + 1e-7) * float(np.sqrt(np.sum(np.abs(answer.bars[k] * direction[k]) ** 2)))
                self.comparisons += 1
                off = float(max(low - claimed, claimed - high, 0.0))
                worst = max(worst, off / max(slack, 1e-300))
            path = self.function.paths[i]
            if worst > 1:
                self.found(
                    "unknown", path, f"Along a random direction the cotangent gives {claimed:.9g}, differences of "
                    f"fun's values {float(found.value):.9g} (+- {float(found.error):.1g}).",
                )  # fmt: skip
            x = self.function.leaves[i]
            arguments.append(Argument(path, np.shape(x), str(x.dtype), worst, int(worst > 1)))
        return self.report(arguments, "differences along random directions")


_SOURCES = {
    "autodiff": "JAX's derivative in double precision, itself held against differences",
    "numeric": "differences of fun's values",
    "own autodiff": "JAX's derivative in the caller's dtypes, as fun is not evaluated in double precision",
    "own numeric": "differences of fun's values in the caller's dtypes, as fun is not evaluated in double precision",
}
