"""Diagnosis by simulation: which single fault in the backward pass of fun's own equations gives the user's numbers?

Every equation y = p(x) has a linear map L = dy/dx; a fault replaces it by another, L'.  With L + w (L' - L) in its
place the cotangents are affine in w (no path through the program meets an equation twice), so that

    cotangents with the fault = right ones + d(right ones)/dw at w = 0,

and one program yields the cotangents under all faults.  A fault whose cotangents are the user's, in every entry and for
several cotangents, is the explanation.  A value that is used in several places gives the edges: w scales one use.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.check import equations
from functional_dl.check.causes.scale import name_of, sizes_of
from functional_dl.check.compiling import jit
from functional_dl.check.evidence import Evidence, Hypothesis
from functional_dl.check.faults import Fault, changes_of, faults_of, push_forward, where
from functional_dl.check.function import widen

ENTRIES = 30_000  # of all differentiable leaves and outputs: beyond, faults are not simulated
FAULTS = 400  # at the most
CHUNK = 32
GROUPS = 48  # kinds of edges that are cut at all equations of a kind at once
TOGETHER = 96  # faults in such groups
CHANGES = 24  # forward equations that are changed


def hypotheses(evidence: Evidence) -> list[Hypothesis]:
    """Faults in fun's own equations that give the user's cotangents, the best first."""
    simulation = _of(evidence)
    if simulation is None:
        return []
    found = _lost_terms(evidence, simulation)
    if not any(h.weight > 0.9 for h in found):
        found += _other_faults(evidence, simulation)
    if not any(h.weight > 0.7 for h in found):
        found += _repeated_faults(evidence, simulation)
    if not any(h.weight > 0.7 for h in found):
        found += _recomputed(evidence, simulation)
    return sorted(found, key=lambda h: -h.weight)


def cancellation(evidence: Evidence) -> list[np.ndarray]:
    """sqrt(sum over edges |term|^2) for each trial: the size of the terms whose sum each entry is.

    Where the terms cancel (softmax far from 1/2), their rounding is all that an entry holds, however a right pullback
    is written; zeros where fun cannot be taken apart.
    """
    simulation = _of(evidence)
    responses = None if simulation is None else simulation.of_edges
    if responses is None:
        return [np.zeros(evidence.shape) for _ in evidence.trials]
    terms = np.where(np.isfinite(responses[evidence.k]), np.abs(responses[evidence.k]), 0.0)
    return list(np.sqrt(np.sum(terms**2, axis=0)))


def _of(evidence: Evidence):
    """The simulation of a check, made once for all its arguments."""
    reference = evidence.reference
    if reference.source != "autodiff" or not reference.function.wide:
        return None
    if "simulation" not in reference.__dict__:
        reference.__dict__["simulation"] = _prepare(evidence)
    return reference.__dict__["simulation"]


def _prepare(evidence):
    function = evidence.function
    size = sum(x.size for x in function.wide_point) + sum(y.size for y in evidence.outs)
    if size > ENTRIES:
        return None
    try:
        with jax.enable_x64(True):
            program = equations.listing(lambda *active: function.of_active(active), function.wide_point)
            if program is None:
                return None
            return Simulation(program, function.wide_point, [t.cts for t in evidence.trials])
    except Exception:  # an equation that cannot be applied on its own
        return None


class Simulation:
    """A listed program at a point, with the cotangents of the trials."""

    def __init__(self, program, point, cts):
        self.program, self.point, self.cts = program, [np.asarray(x) for x in point], cts
        self.values = {
            n: np.asarray(v) if not jnp.issubdtype(getattr(v, "dtype", np.result_type(v)), jax.dtypes.extended) else v
            for n, v in jit(lambda *args: equations.run(program, args), 0)(*self.point).items()
        }
        uses = [(n, j) for n, site in enumerate(program.sites) for j, name in enumerate(site.ins)]
        floating = [(n, j) for n, j in uses if equations.is_floating(self.values[program.sites[n].ins[j]])]
        depends = self._dependent()
        self.edges = [(n, j) for n, j in floating if program.sites[n].ins[j] in depends][: 2 * FAULTS]

    def _dependent(self) -> set[int]:
        found = set(self.program.inputs)
        for site in self.program.sites:
            if found.intersection(site.ins):
                found.update(site.outs)
        return found

    def _stacked_cts(self):
        """The trials' cotangents, one array an output."""
        return [jnp.stack([jnp.asarray(c) for c in own]) for own in zip(*self.cts)]

    @functools.cached_property
    def of_edges(self):
        """The responses to every edge."""
        try:
            return self.responses(None) if self.edges else None
        except Exception:  # an equation whose derivative cannot be taken one use at a time
            return None

    @functools.cached_property
    def of_faults(self):
        """All faults, and the responses to them."""
        faults = faults_of(self.program, self.values, self._dependent())[:FAULTS]
        try:
            return faults, self.responses(faults) if faults else None
        except Exception:  # a fault that an equation cannot be given
            return faults, None

    @functools.cached_property
    def of_repeated(self):
        """Faults that all equations of a kind share, as the steps of an unrolled loop do: (fault, cotangents) pairs.

        Here paths do meet several faulty equations, so the cotangents are computed with the faults in place.
        """
        try:
            return self._of_edge_groups() + self._of_fault_groups()
        except Exception:  # as above
            return []

    def _of_edge_groups(self):
        groups: dict[Any, list[int]] = {}
        for m, (n, j) in enumerate(self.edges):
            groups.setdefault((*self._kind(n), j), []).append(m)
        named = []
        for (name, *_, j), members in groups.items():
            for what, chosen in (("every", members), ("every but the first", members[1:]),
                                 ("every but the last", members[:-1])):  # fmt: skip
                if len(members) > 2 and name not in ("step", "stack"):
                    message = f"A term is left out at {what} {name} of its kind: the path through operand {j}."
                    named.append((Fault(0, "missing_term", message, push_forward, 0.95), chosen))
        return self._with_groups(None, named, -1.0)

    def _of_fault_groups(self):
        groups: dict[Any, list[Fault]] = {}
        for fault in self.of_faults[0]:
            if fault.kind:
                groups.setdefault((*self._kind(fault.site), fault.cause, fault.kind), []).append(fault)
        chosen, named = [], []
        for members in groups.values():
            if len(members) > 1 and len(chosen) + len(members) <= TOGETHER:
                first = members[0]
                message = f"{first.message[:-1]}, and so at {len(members)} equations of its kind."
                places = list(range(len(chosen), len(chosen) + len(members)))
                named.append((Fault(first.site, first.cause, message, push_forward, 0.94), places))
                chosen += members
        return self._with_groups(chosen, named, 1.0)

    def _kind(self, n):
        site = self.program.sites[n]
        return (site.name, *[np.shape(self.values[i]) for i in site.ins])

    def _with_groups(self, faults, named, size):
        named = named[:GROUPS]
        if not named:
            return []
        count = len(self.edges) if faults is None else len(faults)
        bars = self._bars(faults)
        with jax.enable_x64(True):
            w = np.zeros((len(named), count))
            for row, (_, members) in zip(w, named):
                row[members] = size
            found = [widen(r) for r in jit(jax.vmap(bars), 0)(jnp.asarray(w))]
        return [(fault, [leaf[i] for leaf in found]) for i, (fault, _) in enumerate(named)]

    def responses(self, faults: list[Fault] | None) -> list[np.ndarray]:
        """d cotangents / d w for every fault (or, for None, for every edge): one array for each differentiable leaf, of
        shape (faults, trials, *leaf)."""
        count = len(self.edges) if faults is None else len(faults)
        bars = self._bars(faults)

        def response(direction):
            start = jnp.zeros(count)
            return jax.jvp(bars, (start,), (direction,))[1]

        with jax.enable_x64(True):
            compiled = jit(jax.vmap(response), 0)
            basis = np.eye(count)
            parts = []
            for start in range(0, count, CHUNK):
                block = basis[start : start + CHUNK]
                padded = np.concatenate([block, np.zeros((CHUNK - len(block), count))]) if count > CHUNK else block
                parts.append([widen(r)[: len(block)] for r in compiled(jnp.asarray(padded))])
        return [np.concatenate(rows) for rows in zip(*parts)]

    def _bars(self, faults: list[Fault] | None):
        """w -> cotangents with w_m of fault m (or of edge m) in place: one array a leaf, of shape (trials, *leaf)."""
        by_site: dict[int, list] = {}
        entries: list[Any] = self.edges if faults is None else faults
        for m, entry in enumerate(entries):
            site = entry[0] if faults is None else entry.site
            by_site.setdefault(site, []).append((m, entry))

        def bars(w):
            def apply(n, site, operands):
                chosen = by_site.get(n)
                if not chosen:
                    return site.fun(*operands)
                positions = [m for m, _ in chosen]
                own = [entry for _, entry in chosen]
                if faults is None:
                    return _with_edges(site, operands, [w[m] for m in positions], [j for _, j in own])
                return _with_faults(site, operands, [w[m] for m in positions], own)

            def outputs(active):
                values = equations.run(self.program, active, apply)
                return [values[name] for name in self.program.outputs]

            _, pull = jax.vjp(outputs, [jnp.asarray(x) for x in self.point])
            return jax.vmap(pull)(self._stacked_cts())[0]

        return bars

    @functools.cached_property
    def of_recomputed(self):
        """(fault, cotangents) of programs with one forward equation changed: a backward pass that computes fun anew,
        wrongly.  One program computes them all: change m is in place where w_m is 1."""
        changes: list[tuple[int, str, str, Callable]] = []
        for n, site in enumerate(self.program.sites):
            changes += [(n, *c) for c in changes_of(site, [self.values[i] for i in site.ins])]
        changes = changes[:CHANGES]
        if not changes:
            return []

        def bars(w):
            def apply(n, site, operands):
                outs = site.fun(*operands)
                for m, (place, _, _, fun) in enumerate(changes):
                    if place == n:
                        outs = [jnp.where(w[m] > 0, b, a) for a, b in zip(outs, fun(*operands))]
                return outs

            def outputs(active):
                values = equations.run(self.program, active, apply)
                return [values[name] for name in self.program.outputs]

            _, pull = jax.vjp(outputs, [jnp.asarray(x) for x in self.point])
            return jax.vmap(pull)(self._stacked_cts())[0]

        try:
            with jax.enable_x64(True):
                found = [widen(r) for r in jit(jax.vmap(bars), 0)(jnp.eye(len(changes)))]
        except Exception:  # as above
            return []
        return [
            (
                Fault(n, cause, f"The cotangent is right for a forward pass where {what} in "
                      f"{where(n, self.program.sites[n])}.", push_forward, 0.93),
                [leaf[m] for leaf in found],
            )
            for m, (n, cause, what, _) in enumerate(changes)
        ]  # fmt: skip


def _with_edges(site, operands, w, places):
    """The equation with its use of operand j scaled by 1 + w in the derivative."""
    operands = list(operands)
    if site.name == "custom_linear_solve":  # its rule wants the tangents of all operands
        operands = [_edge(x, 0 * w[0]) if equations.is_floating(x) else x for x in operands]
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


# --- edges: terms that are lost, or of another size ------------------------------------------------------------------


def _lost_terms(evidence, simulation) -> list[Hypothesis]:
    responses = simulation.of_edges
    if responses is None:
        return []
    terms, names = _terms(simulation, responses[evidence.k])
    missing = np.stack([e - a for e, a in zip(evidence.expected, evidence.actual)])
    if not np.isfinite(missing).all():
        return []
    keep = [i for i, t in enumerate(terms) if np.isfinite(t).all() and np.any(t)]
    terms, names = [terms[i] for i in keep], [names[i] for i in keep]
    if not terms:
        return []
    flat = np.array([t.reshape(-1) for t in terms])
    target = missing.reshape(-1)
    gram, side = (flat.conj() @ flat.T), flat.conj() @ target
    found = []
    for i, (term, name) in enumerate(zip(terms, names)):
        gamma = side[i] / gram[i, i]
        if not _close(evidence, [gamma * t for t in term]):
            continue
        gamma = complex(gamma)
        if abs(gamma - 1) < 0.02:
            found.append(Hypothesis("missing_term", 0.955, f"A term is left out: the path through {name}."))
        elif abs(gamma - 2) < 0.02:
            found.append(Hypothesis("sign", 0.8, f"A term has the wrong sign: the path through {name}."))
        elif abs(gamma.imag) < 1e-6 and abs(gamma) > 1e-4:
            c = 1 - gamma.real
            found.append(
                Hypothesis(
                    "scale", 0.75, f"A term is {c:.6g} times what it should be{name_of(c, sizes_of(evidence))}: the "
                    f"path through {name}.",
                )
            )  # fmt: skip
    if found:
        return found
    for i, j in _pairs(gram, side, target):
        if _close(evidence, [a + b for a, b in zip(terms[i], terms[j])]):
            return [
                Hypothesis(
                    "missing_term", 0.95, f"Two terms are left out: the paths through {names[i]} and {names[j]}."
                )
            ]
    return []


def _pairs(gram, side, target):
    """Pairs of terms whose sum is near the target, by squared distance."""
    total = float(np.vdot(target, target).real)
    diagonal = np.real(np.diag(gram)) - 2 * np.real(side)
    distance = total + diagonal[:, None] + diagonal[None, :] + 2 * np.real(gram)
    np.fill_diagonal(distance, np.inf)
    close = np.argwhere(np.triu(distance <= 1e-3 * total, 1))
    return close[:200]


def _terms(simulation, responses):
    """What each use contributes, and what each value contributes through all its uses."""
    terms, names = [], []
    by_value: dict[int, np.ndarray] = {}
    for (n, j), response in zip(simulation.edges, responses):
        site = simulation.program.sites[n]
        terms.append(response)
        names.append(f"operand {j} of {where(n, site)}")
        by_value[site.ins[j]] = by_value.get(site.ins[j], 0) + response
    for name, total in by_value.items():
        made = [(n, s) for n, s in enumerate(simulation.program.sites) if name in s.outs]
        terms.append(total)
        names.append(f"the result of {where(*made[0])}" if made else "an argument")
    return terms, names


def _close(evidence, missing) -> bool:
    return evidence.explains([e - m for e, m in zip(evidence.expected, missing)])


# --- other faults ----------------------------------------------------------------------------------------------------


def _other_faults(evidence, simulation) -> list[Hypothesis]:
    faults, responses = simulation.of_faults
    if responses is None:
        return []
    found = []
    for fault, response in zip(faults, responses[evidence.k]):
        if np.isfinite(response).all() and np.any(response) and _close(evidence, -response):
            found.append(Hypothesis(fault.cause, fault.weight, fault.message))
    return found


def _repeated_faults(evidence, simulation) -> list[Hypothesis]:
    return [
        Hypothesis(fault.cause, fault.weight, fault.message)
        for fault, bars in simulation.of_repeated
        if np.isfinite(bars[evidence.k]).all() and evidence.explains(list(bars[evidence.k]))
    ]


def _recomputed(evidence, simulation) -> list[Hypothesis]:
    return [
        Hypothesis(fault.cause, fault.weight, fault.message)
        for fault, bars in simulation.of_recomputed
        if np.isfinite(bars[evidence.k]).all() and evidence.explains(list(bars[evidence.k]))
    ]
