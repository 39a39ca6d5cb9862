"""Derivations with one wrong line, made by machine."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl import check
from functional_dl.derivations import Derivation, Limit, Step, Verification
from functional_dl.derivations import verify as verification
from functional_dl.derivations.limits import Approach
from functional_dl.derivations.verify import line_values


def shifted(tree, by):
    """The first entry of the first leaf moved."""
    leaves, structure = jax.tree.flatten(tree)
    first = jnp.ravel(leaves[0])
    return jax.tree.unflatten(structure, [first.at[0].add(by).reshape(jnp.shape(leaves[0])), *leaves[1:]])


WRONGS = {
    "scaled": lambda value: jax.tree.map(lambda x: 1.001 * x, value),
    "negated": lambda value: jax.tree.map(jnp.negative, value),
    "shifted": lambda value: shifted(value, 0.001),
    "far away": lambda value: shifted(value, 9.0),
}


@dataclass(frozen=True)
class Wrong:
    """A line whose value is made wrong."""

    original: Callable
    wrong: Callable

    def __call__(self, *point):
        return self.wrong(self.original(*point))


@dataclass(frozen=True)
class WrongLimit(Limit):
    """A line under a limit sign whose quotient is made wrong at every h."""

    original: Limit
    wrong: Callable


def wrong_step(step: Step, wrong) -> Step:
    """The step with its value made wrong, under the limit sign where there is one."""
    if isinstance(step.evaluate, Limit):
        quotient = step.evaluate.quotient
        return replace(step, evaluate=WrongLimit(lambda h, *point: wrong(quotient(h, *point)), step.evaluate, wrong))
    return replace(step, evaluate=Wrong(step.evaluate, wrong))


def wrong_values(steps: list[Step], point) -> list:
    """As verify's line_values, but compiling nothing anew: the right values, made wrong where a line is."""
    right = [replace(s, evaluate=getattr(s.evaluate, "original", s.evaluate)) for s in steps]
    values = line_values(right, point)
    for i, step in enumerate(steps):
        if isinstance(step.evaluate, WrongLimit):
            over = jax.vmap(step.evaluate.wrong)
            values[i] = tuple(Approach(part.steps, over(part.stacked)) for part in values[i])
        elif isinstance(step.evaluate, Wrong):
            values[i] = step.evaluate.wrong(values[i])
    return values


def once(evaluate: Callable) -> Callable:
    """evaluate, called once: all mutants of a chain are looked at in one point."""
    known = []

    def remembered(*point):
        if not known:
            known.append(evaluate(*point))
        return known[0]

    return remembered


def one_chain(derivation: Derivation, name: str) -> Derivation:
    """The derivation with the lines of one chain alone."""
    return replace(
        derivation,
        steps=tuple(derivation.steps[i] for i in derivation.chains[name]),
        oracles=tuple(replace(o, evaluate=once(o.evaluate)) for o in derivation.oracles if o.chain == name),
        kink_points=None,
        extra_points=None,
    )


def mutants(derivation: Derivation, key) -> Iterator[tuple[str, int, Derivation]]:
    """(what was done, number of the wrong line, the derivation with that line alone wrong), chain by chain.

    Left out is what changes nothing (0, negated) and what stays an element of the set above it.
    """
    with jax.enable_x64(True):
        point = derivation.draw(jax.random.fold_in(key, 0))
        for name in derivation.chains:
            chain = one_chain(derivation, name)
            right = line_values(list(chain.steps), point)
            for i, step in enumerate(chain.steps):
                for label, wrong in WRONGS.items():
                    if (label == "far away") != (step.kind == "element_of"):
                        continue
                    broken = replace(chain, steps=(*chain.steps[:i], wrong_step(step, wrong), *chain.steps[i + 1 :]))
                    if not same(right[i], wrong_values(list(broken.steps), point)[i]):
                        yield f"{name}, line {i + 1} {label}", i + 1, broken


def same(right, wrong) -> bool:
    old, new = (value[0].stacked if isinstance(value, tuple) and value and isinstance(value[0], Approach) else value
                for value in (right, wrong))  # fmt: skip
    pairs = zip(jax.tree.leaves(old), jax.tree.leaves(new))
    return all(np.allclose(a, b, rtol=1e-6, atol=1e-6) for a, b in pairs)


@contextmanager
def quickly():
    """Verification of mutants that computes what they share once: the right lines and the numeric derivatives."""
    estimates = {}

    def estimate_vjp(fun, primals, ct):
        name = fun.__wrapped__
        if name not in estimates:
            estimates[name] = check.estimate_vjp(fun, primals, ct)
        return estimates[name]

    judges = SimpleNamespace(estimate_vjp=estimate_vjp, Estimate=check.Estimate)
    with patch.object(verification, "line_values", wrong_values), patch.object(verification, "check", judges):
        yield


def judged(derivation: Derivation, key) -> Verification:
    """Lines against lines, and first lines against their oracles."""
    return verification.verify(derivation, key, points=1, oracles=False)
