"""A while loop over a batch of problems that end at different times: those that have finished leave the batch.

vmap of a while_loop carries every element until the last has finished, and streams the whole batch through memory at
each step.  Here the batch is worked on in chunks that stay in a core's cache.  A chunk is left when at most a quarter
of its elements is unfinished; the next pass goes over what is left, in fewer chunks: a few slow elements cost little.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from functional_dl.aliases import Array, PyTree

SHRINK = 4
CACHE = 2**20  # bytes of data in a chunk; what is computed from them takes about as much again
FEWEST, MOST = 32, 512  # elements in a chunk


def run(
    start: Callable[..., Any], step: Callable[..., Any], going: Callable[..., Any], limit: int
) -> Callable[[PyTree], PyTree]:
    """data -> the state from start(data), after `step(data, state)` while `going(state)`, at most `limit` times.

    Under vmap, elements that have finished keep their state and cost nothing once most have.
    """

    @custom_vmap
    def loop(data):
        test = lambda carry: going(carry[0]) & (carry[1] < limit)
        begin = _varying((start(data), jnp.zeros((), int)), data)
        return lax.while_loop(test, lambda carry: (step(data, carry[0]), carry[1] + 1), begin)[0]

    @loop.def_vmap
    def many(size, batched, data):
        data = jax.tree.map(
            lambda leaf, is_: leaf if is_ else jnp.broadcast_to(leaf, (size, *leaf.shape)), data, batched[0]
        )
        end = _together(_Batch(start, step, going, limit), size, data)
        return end, jax.tree.map(lambda _: True, end)

    return loop


class _Batch:
    """The functions over a batch; `counted` states carry the number of steps of each element."""

    def __init__(
        self, start: Callable[..., Any], step: Callable[..., Any], going: Callable[..., Any], limit: int
    ) -> None:
        self.start, self.step, self._going, self.limit = jax.vmap(start), jax.vmap(step), jax.vmap(going), limit

    def going(self, counted: tuple[Any, Array]) -> Array:
        state, count = counted
        return self._going(state) & (count < self.limit)

    def begin(self, data: Any) -> tuple[Any, Array]:
        state = self.start(data)
        return _varying((state, jnp.zeros(len(jax.tree.leaves(state)[0]), int)), data)

    def work(self, data: Any, counted: tuple[Any, Array], rest: Any) -> tuple[Any, Array]:
        """Steps until at most `rest` elements are left."""

        def body(counted):
            active = self.going(counted)
            state, count = counted
            new = self.step(data, state), count + 1
            keep = lambda a, b: jnp.where(active.reshape((-1,) + (1,) * (a.ndim - 1)), a, b)
            return jax.tree.map(keep, new, counted)

        return lax.while_loop(lambda counted: jnp.sum(self.going(counted)) > rest, body, counted)


def _varying(tree, data):
    """The tree as it is, but computed from the data: shard_map wants a loop's state to vary over devices as they do."""
    nothing = sum(jnp.sum(jnp.ravel(leaf)[:0]).astype(int) for leaf in jax.tree.leaves(data))
    add = lambda leaf: leaf | (nothing > 0) if leaf.dtype == bool else leaf + nothing.astype(leaf.dtype)
    return jax.tree.map(add, tree)


def _together(batch: _Batch, size: int, data):
    """Passes over chunks: over all elements, then over the unfinished ones; the last chunk left runs to its end."""
    most = _most(size, data)
    if size <= most:
        return batch.work(data, batch.begin(data), 0)[0]
    chunks = -(-size // most)
    length = -(-size // chunks)
    fill = jnp.minimum(jnp.arange(chunks * length), size - 1)  # the last element is repeated to fill the last chunk
    take = lambda tree, at: jax.tree.map(lambda leaf: leaf[at], tree)

    def unfinished(counted):
        return jnp.any(batch.going(counted))

    def sweep(counted):
        left = batch.going(counted)
        order = jnp.argsort(~left, stable=True)[fill]
        needed = (jnp.sum(left) + length - 1) // length
        rest = jnp.where(needed > 1, length // SHRINK, 0)

        def work(k, counted):
            at = lax.dynamic_slice_in_dim(order, k * length, length)
            new = batch.work(take(data, at), take(counted, at), rest)
            return jax.tree.map(lambda leaf, part: leaf.at[at].set(part), counted, new)

        return lax.fori_loop(0, needed, work, counted)

    begun = lax.map(lambda at: batch.begin(take(data, at)), fill.reshape(chunks, length))
    counted = jax.tree.map(lambda leaf: leaf.reshape(chunks * length, *leaf.shape[2:])[:size], begun)
    return lax.while_loop(unfinished, sweep, counted)[0]


def _most(size: int, data) -> int:
    """Elements in a chunk, by the size of their data."""
    each = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(data)) // max(size, 1)
    return min(max(CACHE // max(each, 1), FEWEST), MOST)
