"""A probe at many shapes: the program over batches, entries and none at all, and what each batch entry should give.

Every variant is the probe's program mapped over a batch (of any rank, along the first axis or the last, with some
arguments shared by the whole batch), or, for programs that act entry by entry, the program on larger arrays.  The
reference never sees the batch: it is JAX's pullback of the unmapped program, entry by entry, summed where an argument
is shared.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import oracles

from tests.reverse import ledger


@dataclass(frozen=True)
class Variant:
    """How a probe's program is enlarged.

    Fields:
      sizes: lengths of the batch axes, the outermost first.
      trailing: the batch axes come last, not first.
      shared: all arguments but the first are shared by the batch.
      entries: the program acts entry by entry: it is called on arrays of shape `sizes`, not mapped.
    """

    sizes: tuple[int, ...]
    trailing: bool = False
    shared: bool = False
    entries: bool = False

    def __str__(self):
        words = ["entries" if self.entries else "batch", "x".join(map(str, self.sizes)) or "none"]
        return " ".join(words + ["last"] * self.trailing + ["shared"] * self.shared)


MAPPED = (
    Variant(()),
    Variant((0,)),
    Variant((1,)),
    Variant((4,)),
    Variant((3,), trailing=True),
    Variant((2,), shared=True),
    Variant((3, 2)),
    Variant((2, 2), trailing=True, shared=True),
    Variant((29,)),
)
ENTRIES = tuple(
    Variant(shape, entries=True) for shape in ((), (0,), (1,), (3,), (2, 0, 3), (2, 1, 3), (1, 1), (257,), (31, 33))
)
SHARED = Variant((5,), shared=True)


def of(probe, few: bool = False) -> tuple[Variant, ...]:
    """The variants of a probe, at least 8 (4 if few), unless JAX cannot map its program."""
    if probe.elementwise:
        mapped = (SHARED,) if ledger.differentiates_batches(probe.fun) else ()
        return (*(ENTRIES[::3] if few else ENTRIES), *mapped)
    if not ledger.differentiates_batches(probe.fun):
        return MAPPED[:1]
    return MAPPED[::2][:4] if few else MAPPED


def program(variant: Variant, probe, fun=None):
    """The enlarged program."""
    fun = fun or probe.fun
    if variant.entries:
        return fun
    for _ in variant.sizes:
        fun = jax.vmap(fun, in_axes=tuple(_axes(variant, len(probe.shapes))))
    return fun


def _axes(variant, count):
    batched = -1 if variant.trailing else 0
    return [batched, *[None if variant.shared else batched] * (count - 1)]


def draw(variant: Variant, probe, dtype, seed):
    """Arguments: each entry of the batch is a draw of its own."""
    shapes = ((),) * len(probe.shapes) if probe.elementwise else probe.shapes
    if variant.entries:
        return oracles.draw(probe, dtype, seed, shapes=(variant.sizes,) * len(probe.shapes))
    count = int(np.prod(variant.sizes))
    draws = [oracles.draw(probe, dtype, seed + i, shapes=shapes) for i in range(max(count, 1))]
    rank = len(variant.sizes)
    args = []
    for axis, *entries in zip(_axes(variant, len(probe.shapes)), *draws):
        if axis is None:
            args.append(entries[0])
            continue
        stacked = np.stack([np.asarray(x) for x in entries])[:count].reshape((*variant.sizes, *entries[0].shape))
        # the first map takes the innermost of the last axes
        order = [*range(rank, stacked.ndim), *reversed(range(rank))]
        args.append(jnp.asarray(stacked.transpose(order) if axis else stacked))
    return tuple(args)


def references(variant: Variant, probe, args, ct):
    """oracles.references of each entry, put together as the cotangents of the enlarged program are."""
    rank, sizes = len(variant.sizes), variant.sizes

    def of_entry(args, ct):
        return oracles.references(probe.fun, args, ct)[0]

    if variant.entries:
        return _mapped(of_entry, rank)(args, ct)
    axes = _axes(variant, len(probe.shapes))
    entries = [
        jnp.broadcast_to(x, (*sizes, *x.shape)) if axis is None else _first(x, rank) if axis else x
        for axis, x in zip(axes, args)
    ]
    summed = tuple(range(rank))

    def together(bars):
        return [
            jnp.sum(bar, summed) if axis is None else _last(bar, rank) if axis else bar for axis, bar in zip(axes, bars)
        ]

    return tuple(map(together, _mapped(of_entry, rank)(tuple(entries), ct)))


def _mapped(fun, rank):
    for _ in range(rank):
        fun = _vmap_floating(fun)
    return fun


def _vmap_floating(fun):
    """vmap over (args, ct); leaves of type float0 are no arrays of JAX's, and only their shapes are mapped."""

    def mapped(args, ct):
        leaves, tree = jax.tree.flatten(ct)
        floating = [leaf for leaf in leaves if leaf.dtype != jax.float0]

        def one(args, floating):
            rest = iter(floating)
            own = [np.zeros(x.shape[1:], x.dtype) if x.dtype == jax.float0 else next(rest) for x in leaves]
            return fun(args, jax.tree.unflatten(tree, own))

        return jax.vmap(one)(args, floating)

    return mapped


def _first(x, rank):
    """The last `rank` axes, the innermost first, moved to the front."""
    return jnp.transpose(x, [*reversed(range(x.ndim - rank, x.ndim)), *range(x.ndim - rank)])


def _last(x, rank):
    return jnp.transpose(x, [*range(rank, x.ndim), *reversed(range(rank))])
