"""Hypotheses by simulation: the simulated faults whose cotangents are the user's."""

import numpy as np

from functional_dl.check.causes.relations import name_of, sizes_of
from functional_dl.check.evidence import FAIR, GOOD, Evidence, Hypothesis
from functional_dl.check.simulation.fault import where

PAIRS = 100  # of terms, that are looked at


def hypotheses(evidence: Evidence) -> list[Hypothesis]:
    """Faults in fun's own equations that give the user's cotangents, the best first."""
    simulation = evidence.simulate()
    if simulation is None:
        return []
    found = _lost_terms(evidence, simulation)
    found += _other_faults(evidence, simulation)
    if not any(h.rank < GOOD for h in found):
        found += _other_case(evidence, simulation)
    for pairs in (simulation.of_repeated, simulation.of_recomputed):  # (fault, cotangents with it in place)
        if not any(h.rank < FAIR for h in found):
            found += [
                fault.hypothesis
                for fault, bars in pairs(evidence.until)
                if np.isfinite(bars[evidence.k]).all() and evidence.explains(list(bars[evidence.k]))
            ]
    return sorted(found, key=lambda h: h.rank)


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
            found.append(Hypothesis("missing_term", "a lost path", f"A term is left out: the path through {name}."))
        elif abs(gamma - 2) < 0.02:
            found.append(Hypothesis("sign", "a path's sign", f"A term has the wrong sign: the path through {name}."))
        elif abs(gamma.imag) < 1e-6 and abs(gamma) > 1e-4:
            c = 1 - gamma.real
            size = f"{c:.6g} times what it should be{name_of(c, sizes_of(evidence))}"
            found.append(Hypothesis("scale", "a path's size", f"A term is {size}: the path through {name}."))
    if found:
        return found
    found = _single_uses(evidence, simulation, responses[evidence.k])
    if found:
        return found
    for i, j, c in _pairs(gram, side, target):
        if _close(evidence, [a + c * b for a, b in zip(terms[i], terms[j])]):
            message = f"Two terms are left out: the paths through {names[i]} and {names[j]}."
            if abs(c - 1) > 0.02:
                message = (
                    f"A term is left out: the path through {names[i]}; another is {1 - c:.6g} times what it should be: "
                    f"the path through {names[j]}."
                )
            return [Hypothesis("missing_term", "two lost paths", message)]
    return []


def _single_uses(evidence, simulation, responses) -> list[Hypothesis]:
    """A value is used many times, by the steps of a loop say, and one use alone counts, or only those from one on."""
    uses: dict[int, list[int]] = {}
    for m, (n, j) in enumerate(simulation.edges):
        uses.setdefault(simulation.program.steps[n].ins[j], []).append(m)
    for members in uses.values():
        if len(members) < 3:
            continue
        total = np.sum(responses[members], axis=0)
        for place, m in enumerate(members):
            if _close(evidence, list(total - responses[m])):
                what = {0: "the first", len(members) - 1: "the last"}.get(place, f"number {place + 1}")
                sites = [simulation.program.steps[simulation.edges[other][0]] for other in members]
                message = (
                    f"Of {len(members)} uses of a value only {what} counts: that in "
                    f"{where(simulation.edges[m][0], sites[place])}. Uses must be added."
                )
                if len({site.name for site in sites}) > 1:  # no loop's uses, which one would write over each other
                    return [Hypothesis("missing_term", "one use of many", message)]
                return [
                    Hypothesis("overwrite", "one use of many", message),
                    Hypothesis("missing_reduction", "looks alike", "The cotangent is not summed over all uses."),
                ]
        for count in range(2, len(members) - 1):
            for side, chosen in (("first", members[:count]), ("last", members[-count:])):
                if _close(evidence, list(np.sum(responses[chosen], axis=0))):
                    message = f"Of {len(members)} uses of a value the {side} {count} are left out."
                    return [Hypothesis("missing_term", "some uses of many", message)]
    return []


def _pairs(gram, side, target):
    """(i, j, c) with term i + c term j near the target, the nearest first; one way of a few for c = 1."""
    total, own = float(np.vdot(target, target).real), np.real(np.diag(gram))
    rest = total + own - 2 * np.real(side)  # |target - term i|^2
    c = np.real(side[None, :] - gram.T) / own[None, :]
    distance = rest[:, None] - own[None, :] * c**2
    distance[(np.abs(c) < 0.02) | np.eye(len(own), dtype=bool)] = np.inf
    close = np.argwhere(distance <= 1e-3 * total)
    close = sorted(close, key=lambda p: (abs(c[tuple(p)] - 1) > 0.02, distance[tuple(p)]))
    return [(i, j, 1.0 if abs(c[i, j] - 1) <= 0.02 else float(c[i, j])) for i, j in close[:PAIRS]]


def _terms(simulation, responses):
    """What each use contributes, and what each value contributes through all its uses."""
    terms, names = [], []
    by_value: dict[int, np.ndarray] = {}
    for (n, j), response in zip(simulation.edges, responses):
        site = simulation.program.steps[n]
        terms.append(response)
        names.append(f"operand {j} of {where(n, site)}")
        by_value[site.ins[j]] = by_value.get(site.ins[j], 0) + response
    for name, total in by_value.items():
        made = [(n, s) for n, s in enumerate(simulation.program.steps) if name in s.outs]
        terms.append(total)
        names.append(f"the result of {where(*made[0])}" if made else "an argument")
    return terms, names


def _close(evidence, missing) -> bool:
    return evidence.explains([e - m for e, m in zip(evidence.expected, missing)])


# --- other faults ----------------------------------------------------------------------------------------------------


def _other_faults(evidence, simulation) -> list[Hypothesis]:
    faults, responses = simulation.of_faults(evidence.until)
    if responses is None:
        return []
    found = []
    for fault, response in zip(faults, responses[evidence.k]):
        if np.isfinite(response).all() and np.any(response) and _close(evidence, -response):
            found.append(fault.hypothesis)
    return found


def _other_case(evidence, simulation) -> list[Hypothesis]:
    """At some entries the cotangent is right, at the others it is what another case of a condition gives."""
    faults, responses = simulation.of_faults(evidence.until)
    if responses is None:
        return []
    actual, expected, allowed = evidence.stacked
    for fault, response in zip(faults, responses[evidence.k]):
        if fault.cause not in ("wrong_branch", "mask_missing") or not np.isfinite(response).all():
            continue
        wrong = expected + response
        other = np.all(np.abs(actual - wrong) <= 3 * allowed * np.maximum(1, np.abs(wrong) / _size(expected)), axis=0)
        count = int((other & evidence.bad).sum())
        if count >= 2 and np.all(other | ~evidence.bad) and np.any(~evidence.bad & ~other):
            message = (
                f"At {count} entries the cotangent is that of the other case ({fault.message[:-1].lower()}), at the "
                "others it is right: the condition is misplaced."
            )
            return [Hypothesis("wrong_branch", "the other case", message)]
    return []


def _size(expected) -> np.ndarray:
    return np.maximum(np.abs(expected), 1e-3 * np.max(np.abs(expected), initial=0.0) + 1e-300)
