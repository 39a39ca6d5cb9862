"""Sorting, with several keys and payloads, and the k largest: permutations and selections by data-dependent places.

Where keys tie, the permutation that the forward pass took is the one that is transposed.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core.primitives import approx_top_k_p, sort_p, top_k_p

from functional_dl.aliases import Array
from functional_dl.reverse.latex import Terms, own_bar
from functional_dl.reverse.rule import COMPLEX, FLOATS, Probe, vjp_rule
from functional_dl.reverse.sweep import call_rule
from functional_dl.sharding import sharding_of


def put_along(ct: Array, places: Any, shape: Any, axis: Any) -> Any:
    """x_bar of y = x read at `places` along an axis, no place read twice: y_bar there, 0 elsewhere."""
    others = tuple(i for i in range(len(shape)) if i != axis)
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=(),
        inserted_window_dims=(axis,),
        scatter_dims_to_operand_dims=(axis,),
        operand_batching_dims=others,
        scatter_indices_batching_dims=others,
    )
    zeros = lax.full(shape, 0, ct.dtype)
    return lax.scatter(zeros, lax.expand_dims(places, (places.ndim,)), ct, numbers, unique_indices=True, mode="drop")


def _integers(x):
    """The same order of magnitude, with many ties."""
    return lax.round(x)


def _sorted_latex(terms: Terms) -> str:
    keys = terms.params.get("num_keys", 1)
    ys = ", ".join(f"{x}[\\pi]" for x in terms.xs)
    return f"{ys}, \\quad \\pi = \\operatorname{{argsort}}({', '.join(terms.xs[:keys])})"


@call_rule(
    sort_p,
    Probe(lambda x: lax.sort(x, dimension=0), shapes=((5,),), distinct=0.1),
    Probe(lambda x: lax.sort(x, dimension=1), shapes=((2, 4, 2),), distinct=0.1),
    Probe(lambda x, y: lax.sort((x, y), num_keys=1), shapes=((2, 4), (2, 4)), distinct=0.1),
    Probe(lambda x, y: lax.sort((x, y), dimension=0, num_keys=2), shapes=((4, 2), (4, 2)), distinct=0.1),
    Probe(lambda x, y: lax.sort((_integers(x), y, x), num_keys=2), shapes=((6,), (6,)), distinct=0.1),
    Probe(lambda x, y: lax.sort((_integers(x), y), num_keys=1, is_stable=True)[1], shapes=((6,), (6,)), distinct=0.1),
    Probe(lambda x: lax.sort((jnp.array([2, 0, 1, 0]), x), num_keys=1), shapes=((4,),), dtypes=FLOATS + COMPLEX),
    Probe(lambda x: x[jnp.argsort(x, descending=True)], shapes=((4,),), distinct=0.1),
    Probe(lambda x: lax.sort(x), shapes=((2, 0),)),
    latex=(_sorted_latex, lambda t: f"{own_bar(t)}[\\pi^{{-1}}]"),
)
def sort_forward(tape: Any, values: Any, slots: Any, *, dimension: Any, is_stable: Any, num_keys: Any) -> Any:
    """y_k = P x_k for every operand, with the permutation P that sorts the keys, constant in a neighbourhood
    =>  x_k_bar = P^T y_k_bar.  P is sorted along with the operands, so that one sort does."""
    shape = np.shape(values[0])
    kind = "int32" if shape[dimension] < 2**31 else "int64"
    order = lax.broadcasted_iota(kind, shape, dimension, out_sharding=sharding_of(values[0]))
    *outs, order = sort_p.bind(*values, order, dimension=dimension, is_stable=is_stable, num_keys=num_keys)

    def pull_back(order, cts):
        return [None if ct is None else put_along(ct, order, shape, dimension) for ct in cts]

    return tape.call(sort_p, pull_back, order, slots, outs, tape.new_slots(outs), explicit=False)


@vjp_rule(
    top_k_p,
    Probe(lambda x: lax.top_k(x, 2)[0], shapes=((2, 5),), distinct=0.1),
    Probe(lambda x: lax.top_k(x, 3, axis=0), shapes=((4, 2),), distinct=0.1),
    Probe(lambda x: lax.top_k(x, 0)[0], shapes=((3,),)),
    reads="outs",
    latex=(r"<x>[\pi], \quad \pi = \operatorname{top}_k(<x>)", r"\text{put } <c0> \text{ at } \pi"),
)
def top_k_vjp(cts, outs, x, *, axis=-1, **_):
    """y_i = x_{p(i)}, with p(i) the place of the i-th largest  =>  x_bar is y_i_bar at p(i) and 0 elsewhere."""
    return (put_along(cts[0], outs[1], x.shape, axis % x.ndim),)


@vjp_rule(
    approx_top_k_p,
    Probe(lambda x: lax.approx_max_k(x, 2)[0], shapes=((2, 5),), distinct=0.1),
    Probe(lambda x: lax.approx_min_k(x, 2, reduction_dimension=0), shapes=((4, 2),), distinct=0.1),
    Probe(lambda x: lax.approx_max_k(x, 2, aggregate_to_topk=False)[0], shapes=((5,),), distinct=0.1),
    reads="outs",
    latex=(r"<x>[\pi], \quad \pi \approx \operatorname{top}_k(<x>)", r"\text{put } <c0> \text{ at } \pi"),
)
def approx_top_k_vjp(cts, outs, x, *, reduction_dimension, **_):
    """y_i = x_{p(i)}, with p(i) the places that were found  =>  x_bar is y_i_bar at p(i) and 0 elsewhere."""
    return (put_along(cts[0], outs[1], x.shape, reduction_dimension % x.ndim),)
