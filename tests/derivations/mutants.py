"""Derivations with one wrong line, made by machine."""

from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.derivations import Derivation, Limit, Step
from functional_dl.derivations.report import Verification
from functional_dl.derivations.verify import verify


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


def wrong_step(step: Step, wrong) -> Step:
    """The step with its value made wrong, under the limit sign where there is one."""
    if isinstance(step.evaluate, Limit):
        quotient = step.evaluate.quotient
        return replace(step, evaluate=Limit(lambda h, *point: wrong(quotient(h, *point))))
    evaluate = step.evaluate
    return replace(step, evaluate=lambda *point: wrong(evaluate(*point)))


def one_chain(derivation: Derivation, name: str) -> Derivation:
    """The derivation with the lines of one chain alone."""
    return replace(
        derivation,
        steps=tuple(derivation.steps[i] for i in derivation.chains[name]),
        oracles=tuple(oracle for oracle in derivation.oracles if oracle.chain == name),
        ties=None,
        also=None,
    )


def mutants(derivation: Derivation, key) -> Iterator[tuple[str, int, Derivation]]:
    """(what was done, number of the wrong line, the derivation with that line alone wrong), chain by chain.

    Left out is what changes nothing (0, negated) and what stays an element of the set above it.
    """
    with jax.enable_x64(True):
        point = derivation.draw(jax.random.fold_in(key, 0))
        for name in derivation.chains:
            chain = one_chain(derivation, name)
            for i, step in enumerate(chain.steps):
                for label, wrong in WRONGS.items():
                    broken = wrong_step(step, wrong)
                    if step.kind == "belongs" and label != "far away":
                        continue
                    if step.kind != "belongs" and label == "far away":
                        continue
                    if same(step, broken, point):
                        continue
                    steps = (*chain.steps[:i], broken, *chain.steps[i + 1 :])
                    yield f"{name}, line {i + 1} {label}", i + 1, replace(chain, steps=steps)


def same(step: Step, broken: Step, point) -> bool:
    old, new = (jax.tree.leaves(s.evaluate(*point)) for s in (step, broken))
    return all(np.allclose(a, b, rtol=1e-6, atol=1e-6) for a, b in zip(old, new))


def judged(derivation: Derivation, key) -> Verification:
    """Lines against lines, and first lines against their oracles."""
    return verify(derivation, key, points=1, oracles=False)
