"""Gather, scatter, slices, sorting."""

import jax
import jax.numpy as jnp

from experiments.corpus.case import Fault, operation


@operation(
    lambda d: (d.normal(6, 4), d.integers(6, 9)),
    set_not_added=Fault("overwrite", 0),
    averaged=Fault("scale", 0, also=("missing_reduction", "unknown", "overwrite"), primals=lambda d: (d.normal(6, 4), jnp.repeat(jnp.arange(6), 2)),  # noqa: E501
                   note="divided by the count of each row, here two"),
    padding_kept=Fault("wrong_branch", 0, also=("unknown",), note="the row of the padding index is zeroed"),
    shifted_ids=Fault("shifted", 0),
    no_ids=Fault("structure", ""),
)  # fmt: skip
def embedding(fault):
    def fun(table, ids):
        return table[ids]

    def fun_vjp(table, ids):
        def pullback(ct):
            where = (ids + 1) % len(table) if fault == "shifted_ids" else ids
            at = jnp.zeros_like(table).at[where]
            bar = at.set(ct) if fault == "set_not_added" else at.add(ct)
            if fault == "averaged":
                bar = bar / jnp.bincount(ids, length=len(table))[:, None].astype(bar.dtype)
            if fault == "padding_kept":
                bar = bar.at[ids[0]].set(0)
            return (bar,) if fault == "no_ids" else (bar, None)

        return fun(table, ids), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(4, 5), d.integers(5, 4, 7)),
    set_not_added=Fault("overwrite", 0),
    wrong_axis=Fault("transpose", 0, primals=lambda d: (d.normal(5, 5), d.integers(5, 5, 5)), also=("unknown", "wrong_point"),  # noqa: E501
                     note="scattered along axis 0"),
    first_column=Fault("missing_reduction", 0, also=("overwrite", "missing_term", "unknown"),
            note="only the first of "
            "the gathered columns counts"),
)  # fmt: skip
def take_along(fault):
    def fun(x, index):
        return jnp.take_along_axis(x, index, 1)

    def fun_vjp(x, index):
        rows = jnp.arange(len(x))[:, None]

        def pullback(ct):
            zero = jnp.zeros_like(x)
            if fault == "set_not_added":
                return zero.at[rows, index].set(ct), None
            if fault == "wrong_axis":
                return zero.at[index, rows].add(ct), None
            if fault == "first_column":
                return zero.at[rows[:, 0], index[:, 0]].add(ct[:, 0]), None
            return zero.at[rows, index].add(ct), None

        return fun(x, index), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(10, 3), d.integers(4, 10)),
    averaged=Fault("scale", 0, also=("wrong_point", "unknown"), primals=lambda d: (d.normal(8, 3), jnp.repeat(jnp.arange(4), 2)),  # noqa: E501
                   note="divided by the segment's length, here two for all"),
    shifted_ids=Fault("shifted", 0, also=("wrong_point", "unknown"), note="the next segment's cotangent"),
    unsorted=Fault("transpose", 0, also=("wrong_point", "unknown", "shifted"),
            note="the sorted order is taken "
            "for the given one: a permutation"),
)  # fmt: skip
def segment_sum(fault):
    def fun(x, segment):
        return jnp.zeros((4, x.shape[1]), x.dtype).at[segment].add(x)

    def fun_vjp(x, segment):
        def pullback(ct):
            bar = ct[segment]
            if fault == "averaged":
                bar = bar / 2
            if fault == "shifted_ids":
                bar = ct[(segment + 1) % 4]
            if fault == "unsorted":
                bar = ct[jnp.sort(segment)]
            return bar, None

        return fun(x, segment), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(9, 3), jnp.asarray(2, jnp.int32)),
    start_late=Fault("shifted", 0),
    start_early=Fault("shifted", 0),
    at_the_front=Fault("shifted", 0, also=("wrong_branch", "unknown"), note="the start is left out: shifted by two"),
    float_start=Fault("structure", ""),
)
def dynamic_slice(fault):
    def fun(x, start):
        return jax.lax.dynamic_slice_in_dim(x, start, 4)

    def fun_vjp(x, start):
        def pullback(ct):
            at = start + {"start_late": 1, "start_early": -1}.get(fault, 0)
            if fault == "at_the_front":
                at = 0
            bar = jax.lax.dynamic_update_slice_in_dim(jnp.zeros_like(x), ct, at, 0)
            return (bar,) if fault == "float_start" else (bar, None)

        return fun(x, start), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(4, 7),),
    same_way=Fault("shifted", note="rolled on, not back: two steps off"),
    not_rolled=Fault("shifted"),
    other_axis=Fault("shifted", also=("transpose", "wrong_point", "unknown"), note="rolled back along the other axis"),
)
def roll(fault):
    def fun(x):
        return jnp.roll(x, 1, 1)

    def fun_vjp(x):
        def pullback(ct):
            if fault == "not_rolled":
                return (ct,)
            return (jnp.roll(ct, 1 if fault == "same_way" else -1, 0 if fault == "other_axis" else 1),)

        return fun(x), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(5, 4),),
    from_border=Fault("shifted", note="the border is cut at one end"),
    unpadded=Fault("structure"),
    border_added=Fault(
        "overwrite", also=("missing_term",), note="for edge padding: the copies at the border are not added"
    ),
)
def edge_pad(fault):
    def fun(x):
        return jnp.concatenate([x[:1], x, x[-1:]])

    def fun_vjp(x):
        def pullback(ct):
            if fault == "unpadded":
                return (ct,)
            if fault == "from_border":
                return (ct[:-2].at[0].add(ct[0] * 0),)
            bar = ct[1:-1]
            if fault == "border_added":
                return (bar,)
            return (bar.at[0].add(ct[0]).at[-1].add(ct[-1]),)

        return fun(x), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(5, 6),),
    variants={"ties": lambda d: (d.pick([0.0, 1.0, 2.0], 4, 6),)},
    forward_permutation=Fault("not_transposed", also=("transpose", "wrong_point"),
            note="the permutation where "
            "its inverse should be"),
    not_permuted=Fault("transpose", also=("missing_term", "unknown", "wrong_branch"),
            note="the cotangent "
            "in sorted order"),
    descending=Fault("transpose", also=("wrong_branch", "wrong_point", "unknown"),
            note="the order of "
            "the other direction"),
)  # fmt: skip
def sort(fault):
    def fun(x):
        return jnp.sort(x, axis=-1)

    def fun_vjp(x):
        order = jnp.argsort(x, axis=-1)

        def pullback(ct):
            inverse = jnp.argsort(order, axis=-1)
            if fault == "not_permuted":
                return (ct,)
            if fault == "forward_permutation":
                inverse = order
            if fault == "descending":
                inverse = x.shape[-1] - 1 - inverse
            return (jnp.take_along_axis(ct, inverse, -1),)

        return fun(x), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(4, 7),),
    smallest=Fault("wrong_branch"),
    dense=Fault("wrong_branch", also=("unknown",), note="all entries of a row get the mean of its cotangents"),
    first_only=Fault("missing_term", also=("wrong_branch",), note="only the largest, not the k largest"),
)
def top_k(fault):
    k = 3

    def fun(x):
        return jnp.sort(x, axis=-1)[:, ::-1][:, :k]

    def fun_vjp(x):
        order = jnp.argsort(-x, axis=-1)[:, :k]

        def pullback(ct):
            rows = jnp.arange(len(x))[:, None]
            zero = jnp.zeros_like(x)
            if fault == "smallest":
                return (zero.at[rows, jnp.argsort(x, axis=-1)[:, :k]].add(ct),)
            if fault == "dense":
                return (zero + ct.mean(-1, keepdims=True),)
            if fault == "first_only":
                return (zero.at[rows, order[:, :1]].add(ct[:, :1]),)
            return (zero.at[rows, order].add(ct),)

        return fun(x), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(3, 8), d.normal(3, 8)),
    inverted=Fault("wrong_branch", (0, 1)),
    both=Fault("wrong_branch", (0, 1), note="no mask at all"),
    second_dropped=Fault("zero", 1),
    mask_of_second=Fault("wrong_branch", (0, 1), note="y > 0 in place of x > 0"),
)
def where(fault):
    def fun(x, y):
        return jnp.where(x > 0, x, y)

    def fun_vjp(x, y):
        def pullback(ct):
            mask = (y if fault == "mask_of_second" else x) > 0
            if fault == "inverted":
                mask = ~mask
            if fault == "both":
                return ct, ct
            y_bar = jnp.where(mask, 0, ct)
            return jnp.where(mask, ct, 0), (None if fault == "second_dropped" else y_bar)

        return fun(x, y), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(6, 4), d.integers(6, 5)),
    head_only=Fault("missing_term", 0, also=("overwrite", "missing_reduction"),
            note="a tied table: the "
            "embedding's use is left out"),
    overwritten=Fault("overwrite", 0, also=("unknown", "missing_term"),
            note="the head's cotangent is written "
            "over by the embedding's rows"),
    stale=Fault("wrong_point", 0, also=("unknown",), note="the head's part with the embedding of the wrong token"),
)  # fmt: skip
def tied_embedding(fault):
    def fun(table, ids):
        return jnp.tanh(table[ids]) @ table.T

    def fun_vjp(table, ids):
        h = jnp.tanh(table[ids])

        def pullback(ct):
            head = ct.T @ (jnp.roll(h, 1, 0) if fault == "stale" else h)
            inner = (ct @ table) * (1 - h * h)
            if fault == "head_only":
                return head, None
            return (head.at[ids].set(inner) if fault == "overwritten" else head.at[ids].add(inner)), None

        return fun(table, ids), pullback

    return fun, fun_vjp
