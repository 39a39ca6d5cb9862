"""Is reverse.vjp right on a program?  Against jax.vjp, against JAX's forward mode, against differences.

The tolerance of a cotangent is what rounding can do to it.  A first, strict test allows some units in the last place of
the largest entry.  Where that fails, rounding is measured: JAX's cotangents are taken again with every step's result
moved by a small relative noise (see program.run), and their change, scaled down to the rounding of the program's least
accurate dtype, is added to the tolerance.  A wrong derivative is wrong by far more.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl import reverse
from functional_dl.check.numeric import derivative
from tests.fuzz.evaluate import stepwise
from tests.fuzz.operations import OPERATIONS
from tests.fuzz.program import Program, all_steps, arguments, function
from tests.reverse.meshes import Lying, mesh_of, placed

STRICT = 64  # units in the last place that any program may lose
NOISE = {"float64": 1e-8, "float32": 1e-3, "bfloat16": 0.05}  # relative: above the rounding, below where f bends
ROUNDINGS = 64  # how many roundings a step may be
MESHES = {
    "on one device": Lying(1, split=True),
    "on eight devices": Lying(8, split=True),
    "mapped over eight devices": Lying(8, mapped=True),
}
MODES = ("eager", "jit", "vmap", "second order", "returned", *MESHES)


class Disagreement(AssertionError):
    """Two answers to one question."""


class Counts(NamedTuple):
    """How many comparisons were made; for how many programs rounding was measured; how many differences were good to
    1e-6; how many comparisons were left open: by JAX, with a NaN or an infinity where reverse.vjp has none, or by
    differences, no step being narrow enough."""

    comparisons: int
    measured: int
    sharp: int
    undefined: int


def least_dtype(program: Program) -> str:
    """The least accurate dtype of the program."""
    used = {step.op for step in all_steps(program)} | {f"to_{kind.dtype}" for kind in program.inputs.values()}
    return next((dtype for dtype in ("bfloat16", "float32") if f"to_{dtype}" in used), "float64")


def like(values, seed: int) -> tuple:
    """Cotangents or tangents of these values: entries of both signs, none of them small."""
    rng = np.random.default_rng(seed)

    def one(y):
        if not jnp.issubdtype(y.dtype, jnp.inexact):
            return np.zeros(y.shape, jax.float0)
        entries = rng.choice([-1.0, 1.0], y.shape) * rng.uniform(0.5, 1.5, y.shape)
        if jnp.issubdtype(y.dtype, jnp.complexfloating):
            entries = entries + 1j * rng.uniform(0.5, 1.5, y.shape)
        return np.asarray(entries).astype(y.dtype)

    return tuple(one(y) for y in values)


def leaves(tree) -> list:
    """The leaves that a trace may hold: not those of type float0."""
    return [x for x in jax.tree.leaves(tree) if x.dtype != jax.float0]


def wide(x):
    return np.asarray(x).astype(np.complex128 if jnp.issubdtype(x.dtype, jnp.complexfloating) else np.float64)


def pairing(cts, tangents) -> tuple[float, float]:
    """Re sum y_bar y_dot, and the sum of the terms' sizes."""
    terms = [wide(c) * wide(t) for c, t in zip(leaves(cts), leaves(tangents), strict=True)]
    return float(sum(np.sum(x).real for x in terms)), float(sum(np.sum(np.abs(x)) for x in terms))


# --- on meshes with Explicit axes -------------------------------------------------------------------------------------

FEW = 8  # steps of a program that is compiled for eight devices


def placed_arguments(args, lying):
    mesh = mesh_of(lying.devices)
    return tuple(placed(x, lying, mesh) for x in args)


def on_mesh(vjp, fun, args, lying):
    """Outputs and cotangents, for cotangents that lie as the outputs do."""
    outs, pull = vjp(jax.vmap(fun) if lying.mapped else fun, *args)

    def ct(y, value):
        if value.dtype == jax.float0:
            return np.zeros(y.shape, jax.float0)
        value = jnp.broadcast_to(jnp.asarray(value), y.shape)
        return jax.sharding.reshard(value, jax.typeof(y).sharding)

    rows = [jax.ShapeDtypeStruct(y.shape[1:] if lying.mapped else y.shape, y.dtype) for y in outs]
    return outs, leaves(pull(tuple(map(ct, outs, like(rows, 1)))))


def types_on_mesh(vjp, fun, args, lying) -> list[str]:
    return list(map(str, jax.make_jaxpr(lambda args: on_mesh(vjp, fun, args, lying))(args).out_avals))


def is_compiled(fun, args, lying) -> bool:
    """Whether JAX compiles the value of the program, which it traces."""
    try:
        jax.jit(jax.vmap(fun) if lying.mapped else fun).lower(*args)
    except Exception:
        return False
    return True


def refusal(program: Program, mode: str) -> str | None:
    """The kind of the error with which JAX refuses the program on this mesh; None if it differentiates it there."""
    lying, args, twin = MESHES[mode], arguments(program), function(program, twin=True)
    with jax.set_mesh(mesh_of(lying.devices)):
        try:
            types_on_mesh(jax.vjp, twin, placed_arguments(args, lying), lying)
        except Exception as e:
            return type(e).__name__
    return None


class Judge:
    """The comparisons of one program at one point."""

    def __init__(self, program: Program, seed: int = 0, small: int = 16):
        self.program, self.seed = program, seed
        self.small = len(list(all_steps(program))) <= small
        self.args = arguments(program, seed)
        self.fun, self.twin = function(program), function(program, twin=True)
        self.dtype = least_dtype(program)
        self.eps = float(jnp.finfo(self.dtype).eps)
        operations = [OPERATIONS[step.op] for step in all_steps(program)]
        self.forward = all(op.forward for op in operations)
        self.smooth = all(op.smooth for op in operations) and self.dtype == "float64"
        self.comparisons = self.measured = self.sharp = self.undefined = 0
        self.rounding = None

    def run(self, *modes: str) -> Counts:
        """Raises Disagreement at the first comparison that fails.  Most modes are for small programs alone."""
        self.first_order()
        for mode in modes if self.small else set(modes) & {"vmap", "returned", *MESHES}:
            if mode in MESHES:
                self.on_mesh(MESHES[mode])
            else:
                getattr(self, f"in_{mode.replace(' ', '_')}")()
        return Counts(self.comparisons, self.measured, self.sharp, self.undefined)

    # --- tolerances ---

    def agree(self, what, actual, expected, scale=None):
        """Equal up to rounding; `scale` is what the strict test is relative to, by default the largest entry."""
        self.comparisons += 1
        actual, expected = leaves(actual), leaves(expected)
        types = [[(x.shape, str(x.dtype)) for x in side] for side in (actual, expected)]
        if types[0] != types[1]:
            raise Disagreement(f"{what}: types {types[0]}, expected {types[1]}")
        actual, expected = [wide(x) for x in actual], [wide(x) for x in expected]
        if scale is None:
            scale = max([float(np.max(np.abs(e), initial=0.0, where=np.isfinite(e))) for e in expected], default=0.0)
        if all(np.isfinite(a).all() for a in actual) and not all(np.isfinite(e).all() for e in expected):
            self.undefined += 1  # JAX's derivative overflows on its way: the differences judge
            return
        for i, (a, e) in enumerate(zip(actual, expected)):
            gap = np.where((a == e) | (np.isnan(a) & np.isnan(e)), 0.0, np.abs(a - e))
            if np.all((gap == 0) | (gap <= STRICT * self.eps * scale)):
                continue
            tolerance = ROUNDINGS * self.eps * (scale + self.sensitivity())
            if not np.all(gap <= tolerance):
                worst = np.unravel_index(np.argmax(np.nan_to_num(gap, nan=np.inf)), gap.shape)
                place = [int(j) for j in worst]
                raise Disagreement(
                    f"{what}: {i} at {place}: {a[worst]!r}, expected {e[worst]!r}, tolerance {tolerance:.2g}"
                )

    def sensitivity(self) -> float:
        """How far values and cotangents move, at most, per relative noise in every step.

        The largest over the entries is taken: which of them the noise's signs spare is chance.
        """
        if self.rounding is None:
            self.measured += 1
            level = NOISE[self.dtype]
            moved = stepwise(self.with_jax(function(self.program, twin=True, noise=level)))(self.args)
            gaps = [np.abs(wide(a) - wide(b)) for a, b in zip(leaves(moved), leaves(self.expected))]
            self.rounding = max(float(np.max(gap, initial=0.0)) for gap in gaps) / level
        return self.rounding

    # --- comparisons ---

    def pulled(self, vjp, fun):
        """args -> outputs and cotangents, for cotangents that depend on the outputs' types alone."""

        def program(args):
            outs, pull = vjp(fun, *args)
            self.ct = like(outs, self.seed + 1)
            return outs, leaves(pull(self.ct))

        return program

    def with_jax(self, twin):
        return self.pulled(jax.vjp, twin)

    def first_order(self):
        self.found = outs, bars = stepwise(self.pulled(reverse.vjp, self.fun))(self.args)
        self.expected = stepwise(self.with_jax(self.twin))(self.args)
        self.agree("value", outs, self.expected[0])
        self.agree("reverse.vjp against jax.vjp", bars, self.expected[1])
        tangents = like(self.args, self.seed + 2)
        backward, terms = pairing(bars, tangents)
        if self.forward:
            out_dots = stepwise(lambda args: leaves(jax.jvp(self.twin, args, tangents)[1]))(self.args)
            forward, more = pairing(self.ct, out_dots)
            self.agree("<J^T u, v> against <u, J v>", [np.float64(backward)], [np.float64(forward)], terms + more)
        if self.smooth:
            self.against_differences(backward, terms, tangents)

    def against_differences(self, backward, terms, tangents):
        """Central differences along the tangent, extrapolated twice; the error is estimated by the last step's gain."""
        value = stepwise(self.fun)

        def along(t):
            moved = [x if v.dtype == jax.float0 else jnp.asarray(x + t * v) for x, v in zip(self.args, tangents)]
            outs = value(*moved)
            return [y for y in outs if jnp.issubdtype(y.dtype, jnp.inexact)]

        def central(h):
            return pairing(self.ct, [(wide(a) - wide(b)) / (2 * h) for a, b in zip(along(h), along(-h))])[0]

        steps = [central(h) for h in (1e-3, 5e-4, 2.5e-4)]
        first = [(4 * b - a) / 3 for a, b in itertools.pairwise(steps)]
        numeric = (16 * first[1] - first[0]) / 15
        size = pairing(self.ct, [y for y in self.found[0] if jnp.issubdtype(y.dtype, jnp.inexact)])[1]
        error = abs(numeric - first[1]) + self.eps * size / 2.5e-4
        self.comparisons += 1
        self.sharp += error <= 1e-6 * terms
        error = 10 * error + 1e-8 * terms
        if not abs(numeric - backward) <= error:  # cancellation on the way: rounding measured, and divided by h
            error += ROUNDINGS * self.eps * self.sensitivity() / 2.5e-4
        if abs(numeric - backward) <= error:
            return
        # steps too wide for a program that bends: from wide ones to narrow ones, with an error that is not understated
        found = derivative(lambda t: np.asarray(pairing(self.ct, along(t))[0]), self.eps)
        low, high = (float(end) for end in found.interval)
        slack = 1e-8 * terms
        self.undefined += not np.isfinite(found.error)
        if np.isfinite(found.error) and not low - slack <= backward <= high + slack:
            raise Disagreement(f"<J^T u, v> is {backward!r}, by differences between {low!r} and {high!r}")

    def in_eager(self):
        """Without a surrounding trace: loops and calls are compiled for themselves."""
        self.agree("eagerly", self.pulled(reverse.vjp, self.fun)(self.args), self.found)

    def in_jit(self):
        self.agree("under jit", jax.jit(self.pulled(reverse.vjp, self.fun))(self.args), self.found)

    def in_vmap(self):
        """Under vmap, two points at once; the first is the one above."""
        others = arguments(self.program, self.seed + 3)
        both = tuple(np.stack([x, y]) for x, y in zip(self.args, others))
        found = stepwise(jax.vmap(self.pulled(reverse.vjp, self.fun)))(both)
        self.agree("under vmap", [x[0] for x in leaves(found)], self.found)

    def in_returned(self):
        """The pullback leaves one program, with the residuals that it keeps, and is put to use in another."""
        outs, pull = stepwise(lambda args: reverse.vjp(self.fun, *args))(self.args)
        bars = stepwise(lambda pull, ct: leaves(pull(ct)))(pull, like(outs, self.seed + 1))
        self.agree("with a pullback that was returned", (outs, bars), self.found)

    def on_mesh(self, lying):
        """Types of values and cotangents, with their shardings, are JAX's; numbers are those off the mesh."""
        with jax.set_mesh(mesh_of(lying.devices)):
            args = placed_arguments(self.args, lying)
            found, expected = (types_on_mesh(*pair, args, lying) for pair in self.pairs())
            self.comparisons += 1
            if found != expected:
                raise Disagreement(f"{lying}: types {found}, expected {expected}")
            if len(list(all_steps(self.program))) > FEW or not is_compiled(self.twin, args, lying):
                return
            own = jax.jit(lambda args: on_mesh(reverse.vjp, self.fun, args, lying))(args)
            own = jax.device_get(leaves(own))
        if lying.mapped:
            own = [x[0] for x in own]
        self.agree(f"{lying}", own, self.found)

    def pairs(self):
        return (reverse.vjp, self.fun), (jax.vjp, self.twin)

    def in_second_order(self):
        """Reverse over reverse, of <J^T u, w>."""
        weights = leaves(like(self.args, self.seed + 4))

        def twice(vjp, fun):
            return lambda args: leaves(vjp(lambda *xs: self.pulled(vjp, fun)(xs)[1], *args)[1](weights))

        found = stepwise(twice(reverse.vjp, self.fun))(self.args)
        expected = stepwise(twice(jax.vjp, self.twin))(self.args)
        self.expected_first, self.expected = self.expected, expected
        sensitivity, self.rounding = self.rounding, None
        self.with_jax = lambda twin: twice(jax.vjp, twin)
        self.agree("second order", found, expected)
        del self.with_jax
        self.expected, self.rounding = self.expected_first, sensitivity
