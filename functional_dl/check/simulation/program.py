"""Diagnosis by simulation: which single fault in the backward pass of fun's own equations gives the user's numbers?

Every equation y = p(x) has a linear map L = dy/dx; a fault replaces it by another, L'.  With L + w (L' - L) in its
place the cotangents are affine in w (no path through the program meets an equation twice), so that

    cotangents with the fault = right ones + d(right ones)/dw at w = 0,

and one program yields the cotangents under all faults.  A fault whose cotangents are the user's, in every entry and for
several cotangents, is the explanation.  A value that is used in several places gives the edges: w scales one use.
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.check import equations
from functional_dl.check.evidence import Evidence, Trial
from functional_dl.check.function import Function, jit, widen
from functional_dl.check.reference import Reference
from functional_dl.check.simulation import repeated
from functional_dl.check.simulation.branches import changes_of
from functional_dl.check.simulation.catalogue import faults_of
from functional_dl.check.simulation.fault import Fault, push_forward, where
from functional_dl.check.simulation.local_maps import LocalMaps

COARSEST = 1e-6  # eps of the dtypes in which faults are simulated
ENTRIES = 30_000  # of all differentiable leaves and outputs: beyond, faults are not simulated
FAULTS = 400  # at most
CHUNK = 32
CHOOSING = {
    "select_n", "max", "min", "clamp", "abs", "sign", "sort", "top_k", "argmax", "argmin", "reduce_max", "reduce_min",
    "reduce_window_max", "reduce_window_min", "cummax", "cummin", "cond", "while", "gt", "ge", "lt", "le",
}  # fmt: skip
LONG = 60  # steps of a program of large values, beyond which FEW faults are tried: all are compiled together
FEW = 60
CHANGES = 24  # forward equations that are changed


def has_conditions(evidence: Evidence) -> bool:
    """Whether fun chooses between cases; where its equations are not known, it may."""
    found = evidence.simulate()
    return found is None or any(site.name in CHOOSING for site in found.program.steps)


def of(function: Function, reference: Reference, trials: Sequence[Trial]) -> "Simulation | None":
    """fun's own equations at its primals; None where they cannot be taken apart."""
    if reference.source != "autodiff":
        return None
    point = function.wide_point if function.wide else [np.asarray(x) for x in function.point]
    if function.entries > ENTRIES or any(float(jnp.finfo(x.dtype).eps) > COARSEST for x in point):
        return None
    try:
        with function.precision():
            program = equations.listing(lambda *active: function.of_active(active), point)
            return None if program is None else Simulation(program, point, [t.cts for t in trials], function.precision)
    except Exception:  # an equation that cannot be applied on its own
        return None


def _dtypes(program, point) -> list[Any]:
    """Of the program's outputs."""

    def outputs(*args):
        values = equations.run(program, args)
        return [values[name] for name in program.outputs]

    return [out.dtype for out in jax.eval_shape(outputs, *point)]


class Simulation:
    """A listed program at a point, with the cotangents of the trials."""

    program: Any
    point: list[np.ndarray]
    cts: Sequence[Any]
    values: dict[Any, Any | np.ndarray]
    edges: list[tuple[int, int]]

    def __init__(self, program: Any, point: Any, cts: Sequence[Any], precision: Callable[[], Any]) -> None:
        self.program, self.point, self.precision = program, [np.asarray(x) for x in point], precision
        self.cts = [[c.astype(d) for c, d in zip(own, _dtypes(program, point))] for own in cts]
        self.values = {
            n: v if jnp.issubdtype(jax.typeof(v).dtype, jax.dtypes.extended) else np.asarray(v)
            for n, v in jit(lambda *args: equations.run(program, args), 0)(*self.point).items()
        }
        uses = [(n, j) for n, site in enumerate(program.steps) for j, name in enumerate(site.ins)]
        floating = [(n, j) for n, j in uses if equations.is_floating(self.values[program.steps[n].ins[j]])]
        self._memo: dict[str, Any] = {}
        self._matrices: dict[int, tuple[Fault, np.ndarray | None]] = {}
        depends = self._dependent()
        self.edges = [(n, j) for n, j in floating if program.steps[n].ins[j] in depends][: 2 * FAULTS]

    def _dependent(self) -> set[int]:
        found = set(self.program.inputs)
        for site in self.program.steps:
            if found.intersection(site.ins):
                found.update(site.outs)
        return found

    @functools.cached_property
    def _given(self) -> tuple[Any, Any]:
        """The point and the trials' cotangents, as arguments of what is compiled: XLA would compute with constants."""
        return [jnp.asarray(x) for x in self.point], [
            jnp.stack([jnp.asarray(c) for c in own]) for own in zip(*self.cts)
        ]

    def _pulled(self, apply, point, cts):
        """The trials' cotangents of the inputs, one array a leaf, with apply(n, step, operands) in the steps' place."""

        def outputs(active):
            values = equations.run(self.program, active, apply)
            return [values[name] for name in self.program.outputs]

        return jax.vmap(jax.vjp(outputs, point)[1])(cts)[0]

    def _mapped(self, fun: Callable[..., Any], rows: Any) -> list[np.ndarray]:
        """fun(row, point, cotangents) for all rows at once."""
        with self.precision():
            return [widen(leaf) for leaf in jit(jax.vmap(fun, (0, None, None)), 0)(jnp.asarray(rows), *self._given)]

    def _once(self, search: Callable[[float], Any], until: float, nothing: Any) -> Any:
        """What a search finds that ends then, made when it is first asked for; `nothing` if it is too late for it, or
        where an equation cannot be given what is tried."""
        if search.__name__ not in self._memo:
            try:
                self._memo[search.__name__] = search(until) if time.monotonic() < until else nothing
            except Exception:
                self._memo[search.__name__] = nothing
        return self._memo[search.__name__]

    @functools.cached_property
    def maps(self) -> LocalMaps | None:
        """The equations' matrices; None where they are large, or cannot be had."""
        if not LocalMaps.fits(self.program, self.values):
            return None
        try:
            with self.precision():
                return LocalMaps(self.program, self.values, self.cts, self._dependent())
        except Exception:  # an equation that has no derivative on its own
            return None

    @functools.cached_property
    def of_edges(self) -> Any:
        """The responses to every edge."""
        if self.maps is not None and self.edges:
            w = np.concatenate([np.eye(len(self.edges)), np.zeros((1, len(self.edges)))])
            return [leaf[:-1] - leaf[-1] for leaf in self.bars_at(None, w)]
        try:
            return self.responses(None) if self.edges else None
        except Exception:  # an equation whose derivative cannot be taken one use at a time
            return None

    def of_faults(self, until: float) -> tuple[list[Fault], Any]:
        """The faults that can be tried by then, and the responses to them."""
        return self._once(self._faults, until, ([], None))

    def of_repeated(self, until: float) -> list[tuple[Fault, list[np.ndarray]]]:
        """Faults that all equations of a kind share, as the steps of an unrolled loop do: (fault, cotangents) pairs."""
        return self._once(self._repeated, until, [])

    def of_recomputed(self, until: float) -> list[tuple[Fault, list[np.ndarray]]]:
        """(fault, cotangents) of programs with one forward equation changed: a backward pass that computes fun anew,
        wrongly.  One program computes them all: change m is in place where w_m is 1."""
        return self._once(self._recomputed, until, [])

    def _repeated(self, until):
        return repeated.pairs(self, until)

    def _faults(self, until):
        with self.precision():
            faults = faults_of(self.program, self.values, self._dependent())[:FAULTS]
        if self.maps is not None:
            faults = [fault for fault in faults if time.monotonic() < until and self._matrix(fault) is not None]
            if not faults:
                return faults, None
            w = np.concatenate([np.eye(len(faults)), np.zeros((1, len(faults)))])
            return faults, [leaf[:-1] - leaf[-1] for leaf in self.bars_at(faults, w)]
        if len(self.program.steps) > LONG:
            faults = faults[:FEW]
        try:
            return faults, self.responses(faults) if faults else None
        except Exception:  # a fault that an equation cannot be given
            faults = [fault for fault in faults if self._can_be_given(fault)]
        return faults, self.responses(faults) if faults else None

    def _matrix(self, fault: Fault) -> np.ndarray | None:
        if id(fault) not in self._matrices and self.maps is not None:
            with self.precision():
                self._matrices[id(fault)] = fault, self.maps.fault(fault)
        return self._matrices[id(fault)][1]

    def bars_at(self, faults: list[Fault] | None, w: np.ndarray) -> list[np.ndarray]:
        """The cotangents with w_m of fault m (or of edge m) in place, for every row of w."""
        if self.maps is None:
            return self._mapped(self.bars(faults), w)
        if faults is None:
            return self.maps.bars(len(w), {edge: 1 + w[:, m] for m, edge in enumerate(self.edges) if w[:, m].any()}, {})
        groups: dict[int, dict[tuple[int, ...], list[int]]] = {}
        for row, weights in enumerate(w):
            by_site: dict[int, list[int]] = {}
            for m in np.flatnonzero(weights):
                by_site.setdefault(faults[m].site, []).append(int(m))
            for n, members in by_site.items():
                groups.setdefault(n, {}).setdefault(tuple(members), []).append(row)
        given: dict[int, list[tuple[Any, np.ndarray]]] = {}
        for n, own in groups.items():
            right = self.maps.matrices[n]
            for members, rows in own.items():
                changes = [found - right for m in members if (found := self._matrix(faults[m])) is not None]
                given.setdefault(n, []).append((rows, right + np.sum(changes, axis=0)))
        return self.maps.bars(len(w), {}, given)

    def _can_be_given(self, fault: Fault) -> bool:
        """Whether the fault alone can be put in its equation's place, and gives tangents of the right types."""
        site = self.program.steps[fault.site]
        operands = [self.values[i] for i in site.ins]
        places = [j for j, x in enumerate(operands) if equations.is_floating(x)]

        def tangents(push, dots):
            full: list[Any] = [None] * len(operands)
            for j, dot in zip(places, dots):
                full[j] = dot
            return push(operands, full)

        dots = [operands[j] for j in places]
        try:
            with self.precision():
                base = jax.eval_shape(lambda d: tangents(lambda v, f: push_forward(site.fun, v, f)[1], d), dots)
                own = jax.eval_shape(lambda d: tangents(fault.push, d), dots)
        except Exception:  # what it says of itself, nobody asks
            return False
        return [(b.shape, b.dtype) for b in base] == [(o.shape, o.dtype) for o in own]

    def responses(self, faults: list[Fault] | None) -> list[np.ndarray]:
        """d cotangents / d w for every fault (or, for None, for every edge): one array for each differentiable leaf, of
        shape (faults, trials, *leaf)."""
        count = len(self.edges) if faults is None else len(faults)
        bars = self.bars(faults)

        def response(direction, *given):
            return jax.jvp(lambda w: bars(w, *given), (jnp.zeros(count),), (direction,))[1]

        with self.precision():
            compiled = jit(jax.vmap(response, (0, None, None)), 0)
            basis = np.eye(count)
            parts = []
            for start in range(0, count, CHUNK):
                block = basis[start : start + CHUNK]
                padded = np.concatenate([block, np.zeros((CHUNK - len(block), count))]) if count > CHUNK else block
                parts.append([widen(r)[: len(block)] for r in compiled(jnp.asarray(padded), *self._given)])
        return [np.concatenate(rows) for rows in zip(*parts)]

    def bars(self, faults: list[Fault] | None) -> Any:
        """(w, point, cotangents) -> cotangents with w_m of fault m (or of edge m) in place: one array a leaf, of shape
        (trials, *leaf)."""
        by_site: dict[int, list] = {}
        entries: list[Any] = self.edges if faults is None else faults
        for m, entry in enumerate(entries):
            site = entry[0] if faults is None else entry.site
            by_site.setdefault(site, []).append((m, entry))

        def bars(w, *given):
            def apply(n, site, operands):
                chosen = by_site.get(n)
                if not chosen:
                    return site.fun(*operands)
                positions = [m for m, _ in chosen]
                own = [entry for _, entry in chosen]
                if faults is None:
                    return _with_edges(site, operands, [w[m] for m in positions], [j for _, j in own])
                return _with_faults(site, operands, [w[m] for m in positions], own)

            return self._pulled(apply, *given)

        return bars

    def _recomputed(self, until):
        changes: list[tuple[int, str, str, Callable]] = []
        for n, site in enumerate(self.program.steps):
            changes += [(n, *c) for c in changes_of(site, [self.values[i] for i in site.ins], self._dependent())]
        changes = changes[:CHANGES]
        if not changes:
            return []

        def bars(w, *given):
            def apply(n, site, operands):
                outs = site.fun(*operands)
                for m, (place, _, _, fun) in enumerate(changes):
                    if place == n:
                        outs = [jnp.where(w[m] > 0, b, a) for a, b in zip(outs, fun(*operands))]
                return outs

            return self._pulled(apply, *given)

        found = self._mapped(bars, np.eye(len(changes)))
        pairs = []
        for m, (n, cause, what, _) in enumerate(changes):
            message = f"The cotangent is right for a forward pass where {what} in {where(n, self.program.steps[n])}."
            ground = "equation's mask" if cause == "mask_missing" else "another forward pass"
            pairs.append((Fault(n, cause, message, push_forward, ground), [leaf[m] for leaf in found]))
        return pairs


def _with_edges(site, operands, w, places):
    """The equation with its use of operand j scaled by 1 + w in the derivative."""
    operands = list(operands)
    for weight, j in zip(w, places):
        operands[j] = _edge(operands[j], weight)
    return site.fun(*operands)


@jax.custom_jvp
def _edge(x, w):
    return x


@_edge.defjvp
def _edge_jvp(primals, tangents):
    (x, w), (x_dot, _) = primals, tangents
    return x, (1 + w).astype(x_dot.dtype) * x_dot


def _with_faults(site, operands, w, faults):
    """The equation with L + sum_m w_m (L'_m - L) for its derivative."""
    floating = [j for j, x in enumerate(operands) if equations.is_floating(x)]

    @jax.custom_jvp
    def equation(active, w):
        values = list(operands)
        for j, x in zip(floating, active):
            values[j] = x
        return site.fun(*values)

    @equation.defjvp
    def equation_jvp(primals, tangents):
        (active, w), (active_dot, _) = primals, tangents
        values, dots = list(operands), [None] * len(operands)
        for j, x, v in zip(floating, active, active_dot):
            values[j], dots[j] = x, v
        outs, base = push_forward(site.fun, values, dots)
        total = list(base)
        for m, fault in enumerate(faults):
            changed = fault.push(values, dots)
            total = [
                t if not equations.is_floating(o) else t + w[m].astype(t.dtype) * (c - b)
                for t, c, b, o in zip(total, changed, base, outs)
            ]
        return outs, total

    return equation([operands[j] for j in floating], jnp.stack(w))
