"""check_vjp: a backward pass against the derivative of its function."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_flatten, tree_flatten_with_path, tree_structure, tree_unflatten

from functional_dl.aliases import Array, PyTree
from functional_dl.check import digits, kinks, leaf, reference, simulation
from functional_dl.check.evidence import Evidence, Trial
from functional_dl.check.function import Function, is_inexact, own_copy, widen
from functional_dl.check.reference import Reference, positive_like, random_like
from functional_dl.check.report import ALIKE, Argument, Finding, GradientMismatch, Report
from functional_dl.precision import double, nan_allowed

TRIALS = 3
NEARBY = 0.1  # of the size of x: where else the size of a cotangent is looked at
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
    budget: float = 10.0,
    **unknown: Any,
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
      budget: seconds that the search for causes may take; it ends with the best that is found by then.
    Returns:
      Report; `report.passed`, `report.findings`, `print(report)`.
    Raises:
      TypeError: fun or fun_vjp is not callable, fun has no floating output, no primal is floating, or a keyword
        argument is unknown: those of fun are bound by functools.partial.
      ValueError: two calls of fun differ, or ct has not the output's tree and shapes.
    """
    refuse_keywords("check_vjp", unknown)
    if not callable(fun_vjp):
        raise TypeError(f"fun_vjp: expected a callable, got {fun_vjp!r}")
    function = Function(fun, primals)
    if not function.out_active:
        raise TypeError("fun: expected an output of floating numbers; it has none, so there is no derivative to check")
    if not function.active:
        raise TypeError("primals: expected at least one leaf of floating numbers, got none")
    _refuse_state(function)
    return _Check(function, fun_vjp, ct, name or _name(fun_vjp, fun), np.random.default_rng(seed), budget).run()


def assert_vjp(fun: Callable[..., Any], fun_vjp: Callable[..., Any], *primals: PyTree, **options: Any) -> Report:
    """`check_vjp`, raising GradientMismatch (an AssertionError) with the report where it finds a fault."""
    __tracebackhide__ = True  # pytest shows the caller's line
    report = check_vjp(fun, fun_vjp, *primals, **options)
    if not report.passed:
        raise GradientMismatch(report)
    return report


def check_custom_vjp(fun: Callable[..., Any], *primals: PyTree, **options: Any) -> Report:
    """`check_vjp` of a function decorated with `jax.custom_vjp`, jitted or not: its rule against its own body.

    The arguments at its `nondiff_argnums` are taken as they are.

    Raises:
      TypeError: fun is not such a function.
    """
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
    return check_vjp(at(body), lambda *args: jax.vjp(at(fun), *args), *moving, **options)


def custom_rule(fun: Any) -> jax.custom_vjp | None:
    """The function decorated with jax.custom_vjp that fun is, or that it is the jitted form of; None if it is none."""
    while not isinstance(fun, jax.custom_vjp) and hasattr(fun, "__wrapped__"):
        fun = fun.__wrapped__
    return fun if isinstance(fun, jax.custom_vjp) else None


def refuse_keywords(name: str, unknown: dict[str, Any]) -> None:
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


def _finding(cause: str, argument: str, message: str) -> Finding:
    """A finding on the form or the behaviour of a pullback, which no single entry shows."""
    return Finding(cause, argument, message, candidates=(cause, *ALIKE.get(cause, ())))


def _diagnosis():
    """What names causes: imported when a fault is found, as most checks find none."""
    from functional_dl.check import diagnosis

    return diagnosis


class Judged(NamedTuple):
    """The evidence on one leaf, and |actual - expected| over what is allowed, entry by entry, the worst trial's."""

    evidence: Evidence
    ratio: np.ndarray


class _Check:
    """One run of check_vjp.

    Attributes:
      budget: seconds that the search for causes may take.
      least: how far off a leaf must be as a whole, relative to its size.
    """

    def __init__(
        self,
        function: Function,
        fun_vjp: Callable[..., Any],
        ct: Any,
        name: str,
        rng: np.random.Generator,
        budget: float,
        least: float = 0.0,
    ) -> None:
        self.function, self.fun_vjp, self.name, self.rng, self.budget = function, fun_vjp, name, rng, budget
        self.given_ct, self.least = ct, least
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        self.comparisons = 0

    def report(self, arguments: Sequence[Argument] = (), source: str = "") -> Report:
        return Report(self.name, tuple(self.findings), tuple(arguments), source, self.comparisons, tuple(self.notes))

    def found(self, cause: str, argument: str, message: str) -> None:
        self.findings.append(_finding(cause, argument, message))

    # --- the stages

    def run(self) -> Report:
        function = self.function
        out, pullback = self._forward()
        self._check_output(out)
        cts = self._cotangents()
        if any(f.cause == "primal" and f.index is None for f in self.findings):
            return self.report()
        wrong_form = self._check_form(pullback(self._ct_tree(cts[0])))
        if wrong_form is None:
            return self.report()
        call = functools.partial(self.call, pullback)
        answers = [call(c) for c in cts]
        right = Reference(self.function, self.rng)
        if right.disagreement:
            self.notes.append(right.disagreement)
        if not right.source:
            self.notes.append("fun is too large for a numeric Jacobian and JAX's derivative of it cannot be used.")
            behaviour = self._check_behaviour(call, cts, answers, wrong_form, None)
            self.findings += behaviour.values()
            return self._probed(answers, wrong_form | {self.function.active[k] for k in behaviour})
        trials = []
        for answer in answers:
            expected = right.pull(answer.cts)
            rounding = right.rounding(answer.cts, expected)
            tolerance = tuple(r.tolerance for r in rounding)
            trials.append(Trial(tuple(answer.cts), tuple(expected), tuple(answer.bars), tolerance, tuple(rounding)))
        settled = kinks.settle(self.function, trials)
        trials = settled.trials
        self.notes += settled.notes
        noise = [2 * a + b for a, b in zip(trials[0].tolerance, trials[1].tolerance)]
        losses = functools.cache(lambda: self._losses([t.cts for t in trials]))
        unsound = self._check_behaviour(call, cts, answers, wrong_form, noise, trials)
        stateful = any(f.cause in ("nondeterministic", "accumulated") for f in unsound.values())
        if stateful:
            losses = lambda: [None] * len(function.active)  # what keeps a state is not traced: it would keep tracers
        if unsound:  # seen again with the rounding of terms that cancel
            for k in unsound:
                evidence = Evidence(function, right, k, trials, call, self.rng, settled.blank[k])
                first, second, *_ = simulation.cancellation(evidence)
                moved, lost = self._moved(evidence), self._lost_by_itself(evidence, losses)
                noise[k] = (
                    noise[k] + 8 * self._unit(k) * (first + second) + 2 * (moved[0] + lost[0]) + moved[1] + lost[1]
                )
            unsound = self._check_behaviour(call, cts, answers, wrong_form, noise, trials)
        places = [k for k, i in enumerate(function.active) if i not in wrong_form]
        judged = {k: self._judged(call, right, settled, k, losses) for k in places}
        named = None if stateful else self._in_single()
        if named is None:
            wrong = [judged[k] for k in judged if k not in unsound and (judged[k].ratio > 1).any()]
            self.findings += [*unsound.values(), *_diagnosis().of_arguments(wrong, self.findings, self.budget)]
        else:
            judged, found = self._named(judged, named, losses)
            self.findings += found
            unsound = {}
        arguments = [self._figures(judged[k], len(trials)) for k in judged if k not in unsound]
        return self.report(arguments, self._source(right))

    def _losses(self, cts) -> list[list[np.ndarray] | None]:
        found = digits.losses(self.function, self.fun_vjp, cts, self.rng)
        self._forward()  # a pass that saves its primals somewhere has saved tracers
        return found

    def _figures(self, judged: Judged, trials: int) -> Argument:
        evidence, ratio = judged
        self.comparisons += int((~evidence.blank).sum()) * trials
        dtype = str(self.function.point[evidence.k].dtype)
        worst = float(np.max(ratio, initial=0.0))
        share = leaf.relative(evidence)
        return Argument(evidence.path, evidence.shape, dtype, worst, int((ratio > 1).sum()), share, ratio)

    # --- dtypes of few bits: the same pass in float32

    def _in_single(self) -> dict[str, tuple[Finding, bool]] | None:
        """What a check of the same pass in float32 finds, by argument: there a fault is far above rounding, and few
        faults look alike.

        With each finding stands whether it is more than a few roundings in the caller's dtypes; what is less than a
        part of one is no fault at all.  None where the caller's dtypes are fine enough, or where the pass is written
        for them alone.  Under the caller's flags: a pass that was traced with others might not run again (see
        Function).
        """
        function = self.function
        coarsest = max(map(reference.eps, [*function.point, *self._outs()]))
        if not function.traceable or coarsest < leaf.COARSE:
            return None
        leaves = [own_copy(x) for x in function.leaves]
        try:
            with nan_allowed():
                for i, x in zip(function.active, function.point):
                    leaves[i] = x if reference.eps(x) < leaf.COARSE else jnp.asarray(x).astype(jnp.float32)
                again = Function(function.fun, tree_unflatten(function.tree, leaves))
                if any(reference.eps(again.outs[i]) > leaf.COARSE for i in again.out_active):
                    return None
                least = leaf.OWN_DIGITS * coarsest
                report = _Check(again, self.fun_vjp, None, self.name, self.rng, self.budget, least).run()
        except Exception:  # the pass is written for the caller's dtypes
            return None
        if "JAX" not in report.reference or any(f.index is None for f in report.findings if not f.argument):
            return None
        if any(f.cause in ("structure", "dtype") for f in report.findings):
            return None
        shares = {a.path: a.share for a in report.arguments}
        return {f.argument: (f, shares.get(f.argument, np.inf) > leaf.SHARED * coarsest / 2) for f in report.findings}

    def _named(self, judged, named, losses) -> tuple[dict[int, Judged], list[Finding]]:
        """The findings, given those in float32; a leaf that is right there is wrong only if it has lost more
        digits than the pass itself must lose in the caller's dtypes."""
        found, kept = [], {}
        if "" in named and not any(f.cause == "primal" for f in self.findings):
            found.append(named[""][0])
        for k, (evidence, ratio) in judged.items():
            finding, large = named.get(evidence.path, (None, False))
            if finding is not None and (large or (ratio > 1).any()):
                found.append(finding if finding.index is None else _diagnosis().with_cause_of(finding, evidence, ratio))
                ratio = np.maximum(ratio, 1.0 + 1e-9)
            elif (ratio > 1).any():
                lost = losses()[k]
                if lost is not None and np.isfinite(evidence.actual).all():
                    ratio = np.where(_ratio(evidence, lost) <= 1, np.minimum(ratio, 1.0), ratio)
                if (ratio > 1).any():
                    found.append(_diagnosis().of_digits(evidence, ratio))
            kept[k] = Judged(evidence, ratio)
        return kept, found

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

    def _lost_by_itself(self, evidence, losses) -> list[np.ndarray]:
        """What each entry may lose by the way in which the pass is written, where the right cotangent is far smaller
        than usual (a constant or a saturated point): no more than rounding would do to what it is nearby, or to
        |ct| |out| / |x|."""
        function, lost = evidence.function, losses()[evidence.k]
        if lost is None or evidence.reference.source != "autodiff":
            return [np.zeros(evidence.shape)] * len(evidence.trials)
        unit = self._lost(max([function.point[evidence.k], *self._outs()], key=reference.eps))
        rms = float(np.sqrt(np.mean(np.abs(evidence.x) ** 2))) if evidence.x.size else 0.0
        out = max(float(np.max(np.abs(y[np.isfinite(y)]), initial=0.0)) for y in evidence.outs) / (rms or 1.0)
        sizes = [out * max(float(np.max(np.abs(c), initial=0.0)) for c in t.cts) for t in evidence.trials]
        for _ in range(4):
            point = [x + NEARBY * s * random_like(x, self.rng) for x, s in zip(function.wide_point, function.scales)]
            near = [np.abs(evidence.pull_at(point, t.cts)) for t in evidence.trials]
            sizes = [max(size, float(np.max(n[np.isfinite(n)], initial=0.0))) for size, n in zip(sizes, near)]
        return [np.minimum(one, unit * size) for one, size in zip(lost, sizes)]

    def _unit(self, k) -> float:
        """Some roundings in the coarsest dtype at hand, relative to the terms that cancel.

        Each of those terms may be the sum of a contraction, which has lost digits of its own: in wide dtypes a fifth of
        what a whole pullback may lose is allowed, in narrow ones, where that is less than eight roundings, these.
        """
        function = self.function
        coarsest = max([function.point[k], *[function.outs[i] for i in function.out_active]], key=reference.eps)
        return max(8.0 * reference.eps(coarsest), self._lost(coarsest) / 5)

    def _lost(self, x) -> float:
        """What a pullback in the dtype of x may lose, relative to the terms of an entry."""
        return reference.ROUNDINGS.get(reference.dtype_name(x), 4.0) * reference.eps(x)

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
                unit = max(self._lost(coarsest), self.least)
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
        found = [[self._own(random_like(y, self.rng), y) for y in self._outs()] for _ in range(TRIALS - 1)]
        # of one sign: sums do not cancel, and show the digits that they lose
        found.append([self._own(positive_like(y, self.rng), y) for y in self._outs()])
        if self.given_ct is not None:
            leaves, tree = tree_flatten(self.given_ct)
            if tree != self.function.out_tree:
                raise ValueError(f"ct: expected the output's tree {self.function.out_tree}, got {tree}")
            for i in self.function.out_active:
                if np.shape(leaves[i]) != np.shape(self.function.outs[i]):
                    raise ValueError(
                        f"ct: expected shape {np.shape(self.function.outs[i])} for {self.function.out_paths[i]}, "
                        f"got {np.shape(leaves[i])}"
                    )
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

    def call(self, pullback: Callable[..., Any], cts: Sequence[Any]) -> Answer:
        """The user's cotangents of the differentiable leaves, for cotangents of the differentiable outputs."""
        own = [self._own(c, y) for c, y in zip(cts, self._outs())]
        bars = pullback(self._ct_tree(own))
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

    def _check_behaviour(self, call, cts, answers, wrong_form, noise, trials=None) -> dict[int, Finding]:
        """Determinism and linearity: the findings, by the position of the leaf among the differentiable ones.

        noise: what rounding may do to each entry of each leaf (a cotangent that cancels to nothing is all rounding).
        """
        first = answers[0]
        again = call(cts[0])
        fresh = self.call(self._forward()[1], cts[0])
        doubled = call([2 * np.asarray(c) for c in first.cts])
        summed = call([a + b for a, b in zip(first.cts, answers[1].cts)])
        failed: dict[int, Finding] = {}
        for k, i in enumerate(self.function.active):
            if i in wrong_form:
                continue
            x, path = self.function.leaves[i], self.function.paths[i]
            unit = self._lost(x)
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
                message = f"Two calls with the same cotangent differ by up to {off:.3g}."
                left = _left_behind(trials, k, self.function.wide_point[k], noise)
                failed[k] = _finding("accumulated" if left else "nondeterministic", path, left or message)
            elif not np.any(a) and not np.any(twice):
                continue
            elif same(twice, a) and same(total, a) and same(b, a):
                failed[k] = _finding(
                    "ignored_cotangent", path, "The cotangent is the same for ct, for 2 ct and for another ct: it does "
                    "not depend on ct, as if ct were one of ones.",
                )  # fmt: skip
            elif departs(twice, 2 * a) or departs(total, a + b):
                # rounding of summed ct in low precision is not a fault: look at how large the departure is
                ct_sum = [np.asarray(u) + np.asarray(v) for u, v in zip(first.cts, answers[1].cts)]
                rounded = max(float(np.max(np.abs(s - c), initial=0.0)) for s, c in zip(ct_sum, summed.cts))
                homogeneous = float(np.max(np.abs(twice - 2 * a), initial=0.0))
                additive = float(np.max(np.abs(total - a - b), initial=0.0))
                # what departs by less than a rounding to 8 bits is judged by its numbers, as a loss of digits
                small = max(homogeneous, additive) <= 1e-2 * size
                if not small and (homogeneous > 8 * unit * size or additive > 8 * (unit + rounded) * size):
                    left = _left_behind(trials, k, self.function.wide_point[k], noise)
                    failed[k] = _finding("accumulated", path, left) if left else _finding(
                        "nonlinear", path, f"The pullback is not linear in ct: pullback(2 ct) - 2 pullback(ct) is "
                        f"up to {homogeneous:.3g}, pullback(ct + ct') - pullback(ct) - pullback(ct') up to "
                        f"{additive:.3g}, where cotangents are about {size:.3g}.",
                    )  # fmt: skip
        return failed

    # --- numbers

    def _judged(self, call, right, settled, k, losses) -> Judged:
        """The evidence on a leaf, and how far its entries are off."""
        trials = settled.trials

        def evidence_of(trials, bad=None):
            return Evidence(self.function, right, k, trials, call, self.rng, settled.blank[k], bad)

        evidence = evidence_of(trials)
        ratio = _ratio(evidence)
        excused = None
        if (ratio > 1).any():
            excused = kinks.at_kink(evidence_of(trials, ratio > 1))
            if excused is not None:
                ratio = np.where(excused.mask, 0.0, ratio)
        if (ratio > 1).any():
            terms = simulation.cancellation(evidence)
            moved = self._moved(evidence) if excused is None else [0.0] * len(terms)
            more = [self._unit(k) * s + m for s, m in zip(terms, moved)]
            beyond = np.where(ratio > 1, _ratio(evidence, more), 0.0)
            if (beyond > 1).any():  # seen again with what this way of writing the pass must lose
                more = [m + lost for m, lost in zip(more, self._lost_by_itself(evidence, losses))]
                beyond = np.where(ratio > 1, _ratio(evidence, more), 0.0)
            if not (beyond > 1).any():
                ratio = np.minimum(ratio, 1.0)
        if not (ratio > 1).any():
            mask = np.zeros(evidence.shape, bool) if excused is None else excused.mask
            departed = self._as_a_whole(evidence, mask)
            if departed is not None:
                trials = [
                    dataclasses.replace(t, tolerance=(*t.tolerance[:k], limit, *t.tolerance[k + 1 :]))
                    for t, limit in zip(trials, departed.tolerance)
                ]
                evidence = evidence_of(trials)
                ratio = np.where(mask, 0.0, _ratio(evidence))
        if leaf.relative(evidence) <= self.least:
            ratio = np.minimum(ratio, 1.0)
        return Judged(evidence_of(trials, ratio > 1), ratio)

    def _as_a_whole(self, evidence, excused) -> leaf.Whole | None:
        """How a leaf whose entries are all within their tolerances departs as a whole; None if it does not."""
        nothing = [np.zeros(evidence.shape)] * len(evidence.trials)
        if leaf.departure(evidence, excused, nothing) is None:
            return None
        terms, moved = simulation.cancellation(evidence), self._moved(evidence)
        unit = self._unit(evidence.k) / 8
        return leaf.departure(evidence, excused, [unit * s + m / ROUNDED for s, m in zip(terms, moved)])

    def _probed(self, answers, left_out):
        """Without a reference: each leaf's cotangent against differences along random directions."""
        from functional_dl.check import numeric  # here alone

        arguments = []
        for k, i in enumerate(self.function.active):
            if i in left_out:
                continue
            worst, answer = 0.0, answers[0]
            for _ in range(4):
                direction = [np.zeros(x.shape, x.dtype) for x in self.function.wide_point]
                direction[k] = self.function.scales[k] * random_like(self.function.wide_point[k], self.rng)
                found = numeric.along(self.function, direction, answer.cts)
                claimed = float(np.sum(answer.bars[k] * direction[k]).real)
                low, high = found.interval
                x = self.function.leaves[i]
                unit = self._lost(x)
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


def _left_behind(trials: Sequence[Trial] | None, k: int, x: np.ndarray, noise: Sequence[Any] | None) -> str:
    """A sentence where a leaf's cotangents hold what an earlier call left behind, else "".

    The trials' pullbacks were called one after the other: every call may add to the sum of all before it, or to the
    last one; or all find the same array that is not theirs.
    """
    if trials is None or noise is None:
        return ""
    actual, expected = np.stack([t.actual[k] for t in trials]), np.stack([t.expected[k] for t in trials])
    allowed = 8 * np.stack([t.tolerance[k] for t in trials]) + noise[k]
    allowed = allowed + 4 * max([r.eps for t in trials for r in t.rounding], default=0.0) * np.abs(actual)
    if not np.isfinite(actual).all() or not actual.size:
        return ""
    more = actual - expected

    def same(a, b):
        """Whether a is b, which is more than rounding."""
        limit = allowed[1:] + allowed[:-1]
        return bool(np.all(np.abs(a - b) <= limit) and np.all(np.any(np.abs(b) > 3 * limit, axis=within)))

    within = tuple(range(1, actual.ndim))
    if not np.any(np.abs(more) > allowed):
        return ""
    if same(more[1:], actual[:-1]):
        return "Every call adds its cotangent to the sum of those of all calls before it: a buffer is never cleared."
    if same(more[1:], expected[:-1]):
        return "Every call adds the cotangent of the call before it: a buffer is not cleared."
    mean, own = np.mean(more, axis=0), x - np.mean(x)
    along = [np.vdot(v, mean) / max(np.vdot(v, v).real, 1e-300) * v for v in (x, own)]
    if any(np.all(np.abs(mean - v) <= np.max(allowed, axis=0)) for v in along):
        return ""  # a multiple of the argument (a penalty's gradient, say) is nothing that a call left
    if same(more[1:], more[:-1]):
        return (
            f"The same array, up to {float(np.max(np.abs(more))):.3g} in size, is added whatever the incoming "
            "cotangent: a buffer that was not empty."
        )
    return ""


def _ratio(evidence: Evidence, more: Sequence[Any] | None = None) -> np.ndarray:
    """|actual - expected| over the tolerance and what else is allowed, the worst of the trials; 0 at blank entries."""
    extra = [0.0] * len(evidence.trials) if more is None else more
    with np.errstate(all="ignore"):
        found = [np.abs(a - e) / (t + m) for a, e, t, m in zip(evidence.actual, evidence.expected, evidence.tolerance,
                                                            extra)]  # fmt: skip
    worst = np.max(found, axis=0)
    return np.where(evidence.blank, 0.0, np.where(np.isnan(worst), np.inf, worst))


_SOURCES = {
    "autodiff": "JAX's derivative in double precision, itself held against differences",
    "numeric": "differences of fun's values",
    "own autodiff": "JAX's derivative in the caller's dtypes, as fun is not evaluated in double precision",
    "own numeric": "differences of fun's values in the caller's dtypes, as fun is not evaluated in double precision",
}
