"""Sums, means, maxima, cumulative sums, broadcasting."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.corpus.case import WIDE, Fault, operation


@operation(
    lambda d: (d.normal(6, 5),),
    not_divided=Fault("scale"),
    wrong_n=Fault("scale", note="divided by all entries, not by the rows"),
    same_for_all=Fault("ignored_cotangent"),
    squared_ct=Fault("nonlinear"),
    accumulates=Fault(
        "accumulated", also=("nondeterministic",), note="added to the gradient of the last call: no zero_grad"
    ),
)
def mean(fault):
    kept = []

    def fun(x):
        return x.mean(0)

    def fun_vjp(x):
        def pullback(ct):
            n = {"not_divided": 1, "wrong_n": x.size}.get(fault, len(x))
            if fault == "same_for_all":
                ct = jnp.ones_like(ct)
            if fault == "squared_ct":
                ct = ct * jnp.abs(ct)
            bar = jnp.broadcast_to(ct / n, x.shape)
            if fault == "accumulates":
                kept.append(bar)
                bar = sum(kept)
            return (bar,)

        return fun(x), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(6, 5),),
    no_mean_path=Fault("missing_term", also=("scale",),
            note="for the variance this term is zero "
            "in exact arithmetic; the squares' mean is "
                       "subtracted without it", primals=None),
    not_centred=Fault("wrong_point", also=("missing_term",), note="2 x / n in place of 2 (x - mean) / n"),
    unbiased=Fault("scale"),
    forward_unbiased=Fault("primal", ""),
)  # fmt: skip
def variance(fault):
    """E x^2 - (E x)^2"""

    def fun(x):
        return jnp.mean((x - x.mean(0)) ** 2, 0)

    def fun_vjp(x):
        def pullback(ct):
            n = len(x) - (fault == "unbiased")
            if fault == "no_mean_path":
                return (ct * 2 * (x - x.mean(0) * 0) / n - ct * x.mean(0) / n,)
            centred = x if fault == "not_centred" else x - x.mean(0)
            return (ct * 2 * centred / n,)

        return (x.var(0, ddof=1) if fault == "forward_unbiased" else fun(x)), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(5, 7),),
    variants={"ties": lambda d: (d.pick([0.0, 1.0], 5, 7),)},
    whole_to_all_ties=Fault("kink", primals=lambda d: (d.pick([0.0, 1.0], 5, 7),)),
    to_smallest=Fault("wrong_branch"),
    no_mask=Fault("wrong_branch", note="every entry of a row gets the cotangent"),
    smoothed=Fault("wrong_branch", also=("unknown", "missing_term"), note="softmax in place of the mask"),
)
def row_max(fault):
    def fun(x):
        return x.max(-1)

    def fun_vjp(x):
        def pullback(ct):
            mask = jax.nn.one_hot(x.argmin(-1) if fault == "to_smallest" else x.argmax(-1), 7, dtype=x.dtype)
            if fault == "whole_to_all_ties":
                mask = (x == x.max(-1, keepdims=True)).astype(x.dtype)
            if fault == "no_mask":
                mask = jnp.ones_like(x)
            if fault == "smoothed":
                mask = jax.nn.softmax(x, axis=-1)
            return (ct[:, None] * mask,)

        return fun(x), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(4, 6),),
    not_reversed=Fault("not_transposed", also=("transpose", "wrong_point"),
            note="summed from the front: the "
            "map itself, not its transpose"),
    exclusive=Fault("shifted", also=("missing_term",), note="the entry's own cotangent is left out"),
    left_out=Fault("missing_term", note="the cotangent itself, not its cumulative sum"),
    low_precision=Fault("precision", dtypes=WIDE, note="summed in float16"),
)  # fmt: skip
def cumulative_sum(fault):
    def fun(x):
        return jnp.cumsum(x, -1)

    def fun_vjp(x):
        def pullback(ct):
            if fault == "left_out":
                return (ct,)
            if fault == "not_reversed":
                return (jnp.cumsum(ct, -1),)
            if fault == "low_precision":
                ct = ct.astype(jnp.float16)
            bar = jnp.cumsum(ct[:, ::-1], -1)[:, ::-1].astype(x.dtype)
            if fault == "exclusive":
                bar = jnp.concatenate([bar[:, 1:], jnp.zeros_like(bar[:, :1])], -1)
            return (bar,)

        return fun(x), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.uniform(0.5, 1.5, 3, 5) * d.pick([-1.0, 1.0], 3, 5),),
    divided_by_square=Fault("wrong_point", also=("missing_factor",), note="prod / x^2"),
    zero_division=Fault("nonfinite", primals=lambda d: (d.uniform(0.5, 1.5, 3, 5) * d.cast([[0.0, 1, 1, 1, 1], [1] * 5, [1] * 5]),),  # noqa: E501
                        note="prod / x at x = 0"),
    own_entry=Fault("wrong_point", also=("unknown", "missing_term"), note="the product itself, not over the others"),
)  # fmt: skip
def product_reduction(fault):
    def fun(x):
        return x.prod(-1)

    def fun_vjp(x):
        def pullback(ct):
            out = x.prod(-1, keepdims=True)
            if fault == "divided_by_square":
                others = out / x**2
            elif fault == "zero_division":
                others = out / x
            elif fault == "own_entry":
                others = jnp.broadcast_to(out, x.shape)
            else:
                others = jnp.stack([jnp.delete(x, i, axis=1).prod(-1) for i in range(x.shape[1])], 1)
            return (ct[:, None] * others,)

        return fun(x), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(4, 5), d.normal(4, 1), d.normal()),
    column_first=Fault("missing_reduction", 1),
    column_mean=Fault("missing_reduction", 1, also=("scale",)),
    scalar_first=Fault("missing_reduction", 2, also=("overwrite", "unknown"), note="only the first row is summed"),
    column_unreduced=Fault("structure", 1, also=("missing_reduction",)),
    scalar_array=Fault("structure", 2, also=("missing_reduction",)),
    minus=Fault("sign", 1),
)
def scale_and_shift(fault):
    """y = a (x - c), c a column, a a number."""

    def fun(x, c, a):
        return a * (x - c)

    def fun_vjp(x, c, a):
        def pullback(ct):
            c_bar = -a * ct.sum(1, keepdims=True)
            a_bar = jnp.sum(ct * (x - c))
            if fault == "column_first":
                c_bar = -a * ct[:, :1]
            if fault == "column_mean":
                c_bar = -a * ct.mean(1, keepdims=True)
            if fault == "scalar_first":
                a_bar = jnp.sum((ct * (x - c))[0])
            if fault == "column_unreduced":
                c_bar = -a * ct
            if fault == "scalar_array":
                a_bar = jnp.sum(ct * (x - c), 0)
            return a * ct, (-c_bar if fault == "minus" else c_bar), a_bar

        return fun(x, c, a), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(2, 5, 4), d.normal(5, 4)),
    first_example=Fault("missing_reduction", 1),
    last_example=Fault("missing_reduction", 1, also=("overwrite",)),
    batch_mean=Fault("missing_reduction", 1, also=("scale",), primals=lambda d: (d.normal(4, 5, 4), d.normal(5, 4))),
    position_lag=Fault("shifted", 1),
    axes=Fault("transpose", 1, primals=lambda d: (d.normal(2, 4, 4), d.normal(4, 4))),
)
def positional_embedding(fault):
    def fun(x, p):
        return x * 2 + p[None]

    def fun_vjp(x, p):
        def pullback(ct):
            p_bar = ct.sum(0)
            if fault == "first_example":
                p_bar = ct[0]
            if fault == "last_example":
                p_bar = ct[-1]
            if fault == "batch_mean":
                p_bar = ct.mean(0)
            if fault == "position_lag":
                p_bar = jnp.roll(p_bar, 1, 0)
            return 2 * ct, (p_bar.T if fault == "axes" else p_bar)

        return fun(x, p), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(5, 6), d.uniform(0.5, 2.0)),
    temperature_constant=Fault("zero", 1),
    temperature_scale=Fault("scale", 0, note="1/T is forgotten"),
    temperature_sign=Fault("sign", 1),
)
def tempered_log_sum(fault):
    def fun(x, t):
        return t * jax.nn.logsumexp(x / t, axis=-1)

    def fun_vjp(x, t):
        def pullback(ct):
            p = jax.nn.softmax(x / t, axis=-1)
            t_bar = jnp.sum(ct * (jax.nn.logsumexp(x / t, axis=-1) - jnp.sum(p * x, -1) / t))
            x_bar = ct[:, None] * p
            if fault == "temperature_scale":
                x_bar = x_bar * t
            if fault == "temperature_constant":
                t_bar = 0 * t_bar
            return x_bar, (-t_bar if fault == "temperature_sign" else t_bar)

        return fun(x, t), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(6, 4),),
    noise=Fault("nondeterministic", note="stochastic rounding of the cotangent"),
    quantised=Fault("nonlinear", note="the cotangent is rounded to eighths before it is passed on"),
    whitened=Fault("nonlinear", note="the cotangent is divided by its norm"),
    unrelated=Fault("unknown", note="a fixed random matrix stands for the map: feedback alignment's idea, misplaced"),
    sorted=Fault("unknown", also=("transpose", "nonlinear"),
            note="the result of another, permuted batch: "
            "a fixed random permutation of all "
                 "entries with random signs"),
)  # fmt: skip
def centre(fault):
    generator = np.random.default_rng(3)
    fixed = generator.normal(size=(24, 24))
    order, signs = generator.permutation(24), generator.choice([-1.0, 1.0], 24)

    def fun(x):
        return x - x.mean(0)

    def fun_vjp(x):
        def pullback(ct):
            if fault == "noise":
                ct = ct + jnp.asarray(generator.normal(size=ct.shape) * 0.05, ct.dtype)
            if fault == "quantised":
                ct = jnp.round(ct * 8) / 8
            if fault == "whitened":
                ct = ct / jnp.linalg.norm(ct)
            if fault == "unrelated":
                return ((jnp.asarray(fixed, x.dtype) @ ct.reshape(-1)).reshape(x.shape),)
            bar = ct - ct.mean(0)
            if fault == "sorted":
                bar = (bar.reshape(-1)[order] * jnp.asarray(signs, x.dtype)).reshape(x.shape)
            return (bar,)

        return fun(x), pullback

    return fun, fun_vjp
