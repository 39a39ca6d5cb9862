"""Faults that many equations share, as the steps of an unrolled loop do.

Here paths meet several faulty equations, so the cotangents are not affine in w: they are computed with the faults in
place.
"""

from typing import Any

import numpy as np

from functional_dl.check.simulation.fault import Fault, push_forward

GROUPS = 48  # kinds of edges that are cut at all equations of a kind at once
TOGETHER = 96  # faults in such groups
LONGEST_CHAIN = 14  # edges of a kind, whose numbers on a path are told apart
CHAINS = 6  # such kinds
STEPS = ("step", "stack")  # the equations that an unrolled loop is put together with


def pairs(simulation: Any, until: float) -> list[tuple[Fault, list[np.ndarray]]]:
    """(fault, cotangents): edges cut at all equations of a kind, loops truncated, one fault in all of a kind."""
    return _cut_edges(simulation) + _truncations(simulation) + _same_faults(simulation, until)


def _kinds(simulation) -> dict[tuple[Any, ...], list[int]]:
    """Edges by the kind of their equation (its name and shapes) and the operand."""
    groups: dict[tuple, list[int]] = {}
    for m, (n, j) in enumerate(simulation.edges):
        groups.setdefault((*_kind(simulation, n), j), []).append(m)
    return {kind: members for kind, members in groups.items() if len(members) > 2 and kind[0] not in STEPS}


def _kind(simulation, n) -> tuple[Any, ...]:
    site = simulation.program.steps[n]
    return (site.name, *[np.shape(simulation.values[i]) for i in site.ins])


def _cut_edges(simulation):
    named = []
    for (name, *_, j), members in _kinds(simulation).items():
        for what, chosen in (
            ("every", members),
            ("every but the first", members[1:]),
            ("every but the last", members[:-1]),
        ):
            message = f"A term is left out at {what} {name} of its kind: the path through operand {j}."
            named.append((Fault(0, "missing_term", message, push_forward, "edges of a kind"), chosen))
    return _with_groups(simulation, None, named, -1.0)


def _truncations(simulation):
    """Paths that pass through more than K edges of a kind left out, K = 1, 2, ...

    With all edges of the kind scaled by s the cotangents are sum_k a_k s^k, a_k from the paths through k of them:
    values at as many s as there are powers give every a_k.
    """
    chains = [(kind, members) for kind, members in _kinds(simulation).items() if len(members) <= LONGEST_CHAIN]
    found = []
    for (name, *_, j), members in chains[:CHAINS]:
        nodes = np.cos(np.pi * (np.arange(len(members) + 1) + 0.5) / (len(members) + 1))
        w = np.zeros((len(nodes), len(simulation.edges)))
        w[:, members] = nodes[:, None] - 1
        inverse = np.linalg.inv(np.vander(nodes, increasing=True))
        powers = [np.tensordot(inverse, leaf, 1) for leaf in simulation.bars_at(None, w)]
        depth = max(_degree(leaf) for leaf in powers)
        for kept in range(1, depth):
            message = (
                f"Terms are left out: the paths that pass through operand {j} of {name} more than {kept} time(s), of "
                f"at most {depth}: the backward pass is truncated."
            )
            fault = Fault(0, "missing_term", message, push_forward, "truncated")
            found.append((fault, [np.sum(leaf[: kept + 1], axis=0) for leaf in powers]))
    return found


def _degree(powers: np.ndarray) -> int:
    """The highest power whose coefficients are not rounding."""
    sizes = np.max(np.abs(powers.reshape(len(powers), -1)), axis=1, initial=0.0)
    return int(np.max(np.nonzero(sizes > 1e-9 * np.max(sizes, initial=0.0))[0], initial=0))


def _same_faults(simulation, until):
    groups: dict[tuple, list[Fault]] = {}
    for fault in simulation.of_faults(until)[0]:
        if fault.kind:
            groups.setdefault((*_kind(simulation, fault.site), fault.cause, fault.kind), []).append(fault)
    chosen, named = [], []
    for members in groups.values():
        if len(members) > 1 and len(chosen) + len(members) <= TOGETHER:
            first = members[0]
            message = f"{first.message[:-1]}, and so at {len(members)} equations of its kind."
            places = list(range(len(chosen), len(chosen) + len(members)))
            named.append((Fault(first.site, first.cause, message, push_forward, "faults of a kind"), places))
            chosen += members
    return _with_groups(simulation, chosen, named, 1.0)


def _with_groups(simulation, faults, named, size):
    named = named[:GROUPS]
    if not named:
        return []
    w = np.zeros((len(named), len(simulation.edges) if faults is None else len(faults)))
    for row, (_, members) in zip(w, named):
        row[members] = size
    found = simulation.bars_at(faults, w)
    return [(fault, [leaf[i] for leaf in found]) for i, (fault, _) in enumerate(named)]
