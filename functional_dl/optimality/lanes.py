"""A loop over many problems at once that end at different times: who has finished leaves the batch.

vmap of a while_loop carries every lane until the last has finished.  Here the batch is cut to a quarter whenever at
most a quarter is left, so that a few slow lanes cost little.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from functional_dl.aliases import PyTree

SHRINK, SMALLEST = 4, 32


def run(step: Callable, going: Callable, limit: int) -> Callable[[PyTree, PyTree], PyTree]:
    """(data, state) -> the state after `step(data, state)` while `going(state)`, at most `limit` times.

    Under vmap, lanes that have finished keep their state and cost nothing once most have.
    """

    @custom_vmap
    def loop(data, state):
        test = lambda carry: going(carry[0]) & (carry[1] < limit)
        return lax.while_loop(test, lambda carry: (step(data, carry[0]), carry[1] + 1), (state, 0))[0]

    @loop.def_vmap
    def many(size, batched, data, state):
        data, state = (
            jax.tree.map(lambda leaf, is_: leaf if is_ else jnp.broadcast_to(leaf, (size, *leaf.shape)), tree, flags)
            for tree, flags in zip((data, state), batched, strict=True)
        )
        end = _together(step, going, limit, size, data, state)
        return end, jax.tree.map(lambda _: True, end)

    return loop


def _together(step, going, limit, size, data, state):
    count, rounds = jnp.zeros((), int), size
    steps, tests = jax.vmap(step), jax.vmap(going)
    levels = []
    while True:
        rest = rounds // SHRINK if rounds // SHRINK >= SMALLEST else 0

        def test(carry, rest=rest):
            return (jnp.sum(tests(carry[0])) > rest) & (carry[1] < limit)

        def body(carry, data=data):
            old, count = carry
            active = tests(old)
            new = steps(data, old)
            keep = lambda a, b: jnp.where(active.reshape((-1,) + (1,) * (a.ndim - 1)), a, b)
            return jax.tree.map(keep, new, old), count + 1

        state, count = lax.while_loop(test, body, (state, count))
        if not rest:
            break
        chosen = jnp.argsort(~tests(state), stable=True)[:rest]
        levels.append((state, chosen))
        data, state = jax.tree.map(lambda leaf: leaf[chosen], (data, state))
        rounds = rest
    for whole, chosen in reversed(levels):
        state = jax.tree.map(lambda a, b: a.at[chosen].set(b), whole, state)
    return state
