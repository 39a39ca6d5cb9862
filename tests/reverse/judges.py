"""What a rule is held to: each judge of a probe, in what dtypes it judges, what it looks at and what it wants.

The judges of a case (a rule, one of its probes, a dtype) look at one point: arguments, two cotangents u and v, and a
direction.  All that they look at is computed by one compiled program.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracles

from functional_dl import reverse
from tests.reverse import ledger

FLOAT, COMPLEX = "float64", "complex128"
OTHER_SHAPES = [(), (0,), (1,), (2, 0, 3), (2, 1, 3), (257,)]


@dataclass(frozen=True)
class Case:
    """A rule's probe in one dtype."""

    rule: reverse.Rule
    number: int
    dtype: str

    def __str__(self):
        return f"{self.rule.primitive}-{self.number}-{self.dtype}"

    @property
    def probe(self) -> reverse.Probe:
        return self.rule.probes[self.number]

    @functools.cached_property
    def point(self) -> dict[str, Any]:
        fun, args = self.probe.fun, oracles.draw(self.probe, self.dtype)
        outs = jax.eval_shape(fun, *args)
        point = {"args": args, "u": oracles.cotangent_of(outs, seed=1), "v": oracles.cotangent_of(outs, seed=10)}
        point["direction"] = oracles.cotangent_of(args, seed=15)
        return point | {"shapes": self._in_other_shapes() if self.probe.elementwise else []}

    def _in_other_shapes(self):
        count = len(self.probe.shapes)
        drawn = [oracles.draw(self.probe, self.dtype, seed=11, shapes=(shape,) * count) for shape in OTHER_SHAPES]
        return [(args, oracles.cotangent(self.probe.fun, args, seed=12)) for args in drawn]


class Traced:
    """A case's program at its point while it is traced: what several judges look at is traced once."""

    def __init__(self, case: Case, args, u, v, direction, shapes):
        self.case, self.fun = case, case.probe.fun
        self.args, self.u, self.v, self.direction, self.shapes = args, u, v, direction, shapes

    @functools.cached_property
    def pullback(self):
        return reverse.vjp(self.fun, *self.args)[1]

    @functools.cached_property
    def bars(self):
        return self.pullback(self.u)

    @functools.cached_property
    def references(self):
        return oracles.references(self.fun, self.args, self.u, self.v)

    def second(self, outer, inner, fun):
        """The pullback of the pullback, along the direction."""
        return outer(lambda *args: inner(fun, *args)[1](self.u), *self.args)[1](self.direction)


def computed(case: Case, parts: dict[Any, Callable[[Traced], Any]]) -> dict[Any, Any]:
    """The parts at the case's point, from one compiled program; tests/mutation computes fewer at a time."""

    @jax.jit
    def everything(floating):
        given = {name: oracles.with_floating(value, floating[name]) for name, value in case.point.items()}
        traced = Traced(case, **given)
        return {name: part(traced) for name, part in parts.items()}

    return jax.device_get(everything({name: oracles.floating_leaves(value) for name, value in case.point.items()}))


@dataclass(frozen=True)
class Judge:
    """One way to hold a rule to what is right.

    Attributes:
      name: what a failure says.
      ours: what the rule gives, of a case while it is traced.
      theirs: what it is held to, which no rule of ours enters.
      compare: `compare(case, ours, theirs)` asserts.
      applies: whether a probe can be judged so.
      dtypes: in these it can be judged at all.
      first: in these the default tests judge a rule's first probe; its others in their first dtype, where that is one
        of `others`.  What is left over is the campaign's.
    """

    name: str
    ours: Callable[[Traced], Any]
    theirs: Callable[[Traced], Any]
    compare: Callable[[Case, Any, Any], None]
    applies: Callable[[reverse.Probe], bool] = lambda probe: True
    dtypes: tuple[str, ...] = (FLOAT, COMPLEX)
    first: tuple[str, ...] = (FLOAT,)
    others: tuple[str, ...] = ()

    def __str__(self):
        return self.name

    def judges(self, case: Case) -> bool:
        return case.dtype in self.dtypes and self.applies(case.probe)

    def by_default(self, case: Case) -> bool:
        if not case.number:
            return case.dtype in self.first
        return case.dtype in self.others and case.dtype == case.probe.dtypes[0]


def compare_with_jax(case, bars, theirs):
    (reference, magnitudes), _ = theirs
    args, u = case.point["args"], case.point["u"]
    for bar, x in zip(bars, args, strict=True):
        assert bar.shape == x.shape
        assert bar.dtype == x.dtype
    tolerance = oracles.allowance(args, u, magnitudes)
    oracles.assert_within(bars, reference, tolerance, "against JAX in float64")


def compare_with_digits(case, bars, theirs):
    (_, magnitudes), _ = theirs
    args, u = case.point["args"], case.point["u"]
    expected = oracles.exact_cotangents(case.probe, args, u)
    oracles.assert_within(bars, expected, oracles.allowance(args, u, magnitudes), "against 50 digits")


def forward(traced):
    found = {}
    if traced.case.probe.forward:
        with oracles.jax_promotion():
            _, found["out_dot"] = jax.jvp(traced.fun, traced.args, traced.direction)
    if traced.case.probe.smooth:
        found["values"] = oracles.along(traced.fun, traced.args, traced.direction)
    return found


def compare_with_forward(case, bars, theirs):
    """<u, J v> = <J^T u, v>, with J v by JAX's forward mode and by differences."""
    probe, u = case.probe, case.point["u"]
    backward, terms = oracles.pairing(bars, case.point["direction"])
    if probe.forward:
        value, size = oracles.pairing(u, theirs["out_dot"])
        eps = 1e-13 if probe.smooth else 2.0**-7  # a program that rounds on its way, to 8 bits at the worst
        assert abs(backward - value) <= eps * (terms + size), "<u, J v> differs from <J^T u, v>"
    if probe.smooth:
        value, error = oracles.difference(theirs["values"], u)
        assert abs(backward - value) <= 10 * error + 1e-9 * terms, "differences"


def mapped(traced):
    """The pullback of u, of v and of 2u - v; and under vmap, over cotangents and over everything."""
    u, v = oracles.floating_leaves(traced.u), oracles.floating_leaves(traced.v)
    combined = [2 * a - b for a, b in zip(u, v)]

    def pulled(leaves):
        return traced.pullback(oracles.with_floating(traced.u, leaves))

    def whole(args, leaves):
        return oracles.ours(traced.fun, args, oracles.with_floating(traced.u, leaves))

    found = {"u": traced.bars, "v": pulled(v)}
    if not ledger.batches(traced.fun):
        return found | {"together": pulled(combined)}
    many = jax.vmap(pulled)([jnp.stack(pair) for pair in zip(u, combined)])
    both = jax.tree.map(lambda x: jnp.stack([x, x]), (traced.args, u))
    found |= {"many cotangents": [bar[0] for bar in many], "together": [bar[1] for bar in many]}
    return found | {"many arguments": [bar[1] for bar in jax.vmap(whole)(*both)]}


def compare_mapped(case, found, theirs):
    args, v = case.point["args"], case.point["v"]
    (_, of_u), (reference, of_v) = theirs
    oracles.assert_within(found["v"], reference, oracles.allowance(args, v, of_v), "another cotangent")
    tolerance = [3 * t for t in oracles.allowance(args, v, [a + b for a, b in zip(of_u, of_v)])]
    if case.probe.smooth:
        expected = [2 * a - b for a, b in zip(found["u"], found["v"])]
        oracles.assert_within(found["together"], expected, tolerance, "J^T(2u - v)")
    for what in {"many cotangents", "many arguments"} & set(found):
        oracles.assert_within(found[what], found["u"], tolerance, f"under vmap: {what}")


def diagonal(fun, args, ct):
    """As oracles.references, of a program that acts entry by entry on real numbers: there sum_j |J_ji| |y_bar_j| has
    one term, |x_bar_i|."""
    assert len(jax.tree.leaves(ct)) == 1
    with oracles.jax_promotion():
        out, pull = jax.vjp(ledger.for_jax(fun), *map(oracles.widened, args))
        bars = pull(oracles.widened(ct).astype(out.dtype))
    return bars, [jnp.abs(bar) for bar in bars]


def compare_shapes(case, found, theirs):
    for (args, ct), bars, (reference, magnitudes) in zip(case.point["shapes"], found, theirs, strict=True):
        tolerance = oracles.allowance(args, ct, magnitudes)
        oracles.assert_within(bars, reference, tolerance, f"shape {args[0].shape}")


def second_order(traced):
    found = {"ours": traced.second(reverse.vjp, reverse.vjp, traced.fun)}
    if ledger.differentiates(traced.fun):
        with oracles.jax_promotion():
            found["jax.vjp of reverse.vjp"] = traced.second(jax.vjp, reverse.vjp, traced.fun)
    return found


@oracles.jax_promotion()
def jaxs_second_order(traced):
    return traced.second(jax.vjp, jax.vjp, ledger.for_jax(traced.fun))


def compare_second_order(case, found, reference):
    size = max([float(np.max(np.abs(r), initial=0.0)) for r in reference])
    for what, bars in found.items():
        oracles.assert_within(bars, reference, [1e-11 * (1 + size)] * len(reference), f"second order: {what}")


def _bars(traced):
    return traced.bars


def _references(traced):
    return traced.references


JUDGES = (
    Judge(
        "JAX",
        _bars,
        _references,
        compare_with_jax,
        dtypes=tuple(oracles.WIDE),
        first=(FLOAT, "bfloat16", COMPLEX),
        others=(FLOAT, COMPLEX),
    ),
    Judge(
        "other shapes",
        lambda traced: [oracles.ours(traced.fun, args, ct) for args, ct in traced.shapes],
        lambda traced: [diagonal(traced.fun, args, ct) for args, ct in traced.shapes],
        compare_shapes,
        applies=lambda probe: probe.elementwise,
        dtypes=(FLOAT, "bfloat16"),
        others=(FLOAT,),
    ),
    Judge(
        "the adjoint and differences",
        _bars,
        forward,
        compare_with_forward,
        first=(FLOAT, COMPLEX),
    ),
    Judge(
        "the second order",
        second_order,
        jaxs_second_order,
        compare_second_order,
        applies=lambda probe: probe.order >= 2,
    ),
    Judge("linearity and vmap", mapped, _references, compare_mapped),
    Judge(
        "50 digits",
        _bars,
        _references,
        compare_with_digits,
        applies=lambda probe: probe.exact is not None,
        dtypes=(FLOAT,),
        others=(FLOAT,),
    ),
)


def cases(rules=None) -> Iterator[Case]:
    """Every probe in every dtype, of these rules or of all."""
    for rule in reverse.RULES.values() if rules is None else rules:
        for number, probe in enumerate(rule.probes):
            for dtype in probe.dtypes:
                yield Case(rule, number, dtype)


def questions(rules=None, campaign: bool = False) -> Iterator[tuple[Case, tuple[Judge, ...]]]:
    """Who judges what: by default, or what is left to the campaign."""
    for case in cases(rules):
        judges = tuple(judge for judge in JUDGES if judge.judges(case) and judge.by_default(case) != campaign)
        if judges:
            yield case, judges


@functools.lru_cache(maxsize=4)
def figures(case: Case, judges: tuple[Judge, ...]) -> dict[tuple[str, str], Any]:
    """What these judges of a case look at."""
    parts = {("ours", judge.name): judge.ours for judge in judges}
    return computed(case, parts | {("theirs", judge.name): judge.theirs for judge in judges})


def hold(case: Case, judges: tuple[Judge, ...], judge: Judge) -> None:
    """Fails if the judge, one of those of the case, finds the rule wrong."""
    found = figures(case, judges)
    judge.compare(case, found["ours", judge.name], found["theirs", judge.name])
