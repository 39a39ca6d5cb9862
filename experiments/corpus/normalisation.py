"""Layer, RMS, group, batch and instance normalisation."""

import jax
import jax.numpy as jnp

from experiments.corpus.case import WIDE, Fault, operation

EPS = 1e-5


def _rows(draw):
    return draw.normal(5, 8, shift=0.4), draw.uniform(0.5, 1.5, 8), draw.normal(8)


@operation(
    _rows,
    variants={"nearly_constant": lambda d: (d.normal(4, 8, scale=0.02, shift=0.5), d.uniform(0.5, 1.5, 8),
                                            d.normal(8))},
    no_mean=Fault("missing_term", 0),
    no_variance=Fault("missing_term", 0),
    neither=Fault("missing_term", 0),
    gain_first_row=Fault("missing_reduction", 1),
    gain_with_x=Fault("wrong_point", 1, note="x in place of the normalised x"),
    bias_mean=Fault("missing_reduction", 2, also=("scale",)),
    no_gain=Fault("missing_factor", 0, also=("wrong_point", "missing_term"), note="g is not multiplied by"),
    forward_without_eps=Fault("primal", "", primals=lambda d: (d.normal(5, 8, scale=0.003), d.uniform(0.5, 1.5, 8),
                                                              d.normal(8))),
    half_statistics=Fault("precision", (0, 1), dtypes=WIDE, note="the saved statistics are bfloat16"),
    unbiased=Fault("scale", 0, also=("missing_term", "unknown", "precision", "wrong_point"),
                   note="n - 1 in the means of the backward pass: not a multiple of the whole"),
    exchanged=Fault("swapped", (1, 2)),
)  # fmt: skip
def layer_norm(fault):
    def statistics(x, eps=EPS):
        mean = x.mean(-1, keepdims=True)
        inverse = jax.lax.rsqrt(jnp.mean((x - mean) ** 2, -1, keepdims=True) + eps)
        return mean, inverse

    def fun(x, g, b):
        mean, inverse = statistics(x)
        return (x - mean) * inverse * g + b

    def fun_vjp(x, g, b):
        mean, inverse = statistics(x)
        if fault == "half_statistics":
            mean, inverse = (s.astype(jnp.bfloat16).astype(x.dtype) for s in (mean, inverse))
        normal = (x - mean) * inverse
        out = fun(x, g, b)
        if fault == "forward_without_eps":
            out = (x - mean) * statistics(x, 0.0)[1] * g + b

        def pullback(ct):
            d = ct if fault == "no_gain" else ct * g
            n = x.shape[-1] - (fault == "unbiased")
            average = jnp.sum(d, -1, keepdims=True) / n
            coupled = normal * jnp.sum(d * normal, -1, keepdims=True) / n
            if fault in ("no_mean", "neither"):
                average = 0 * average
            if fault in ("no_variance", "neither"):
                coupled = 0 * coupled
            g_bar = jnp.sum(ct * (x if fault == "gain_with_x" else normal), 0)
            if fault == "gain_first_row":
                g_bar = ct[0] * normal[0]
            b_bar = ct.mean(0) if fault == "bias_mean" else ct.sum(0)
            if fault == "exchanged":
                g_bar, b_bar = b_bar, g_bar
            return (d - average - coupled) * inverse, g_bar, b_bar

        return out, pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(4, 6), d.uniform(0.5, 1.5, 6)),
    no_coupling=Fault("missing_term", 0),
    no_mean=Fault("missing_term", 0, also=("scale", "unknown"),
            note="1/n of the coupling is "
            "forgotten: the term has another size"),
    gain_mean=Fault("missing_reduction", 1, also=("scale",)),
    gain_unsummed=Fault("structure", 1, also=("missing_reduction",)),
    gain_zero=Fault("zero", 1),
    float32_answer=Fault("dtype", 0, dtypes=("float64", "bfloat16", "float16"),
            note="computed in float32, "
            "not cast back"),
    normalised_twice=Fault("wrong_point", 1, note="the output stands for the normalised x"),
)  # fmt: skip
def rms_norm(fault):
    def fun(x, g):
        return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPS) * g

    def fun_vjp(x, g):
        inverse = jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPS)
        normal = x * inverse
        out = fun(x, g)

        def pullback(ct):
            d = ct * g
            reduce = jnp.sum if fault == "no_mean" else jnp.mean
            coupled = normal * reduce(d * normal, -1, keepdims=True)
            x_bar = inverse * (d if fault == "no_coupling" else d - coupled)
            if fault == "float32_answer":
                x_bar = x_bar.astype(jnp.float32)
            each = ct * (out if fault == "normalised_twice" else normal)
            g_bar = each.sum(0)
            if fault == "gain_mean":
                g_bar = each.mean(0)
            if fault == "gain_unsummed":
                g_bar = each
            if fault == "gain_zero":
                g_bar = None
            return x_bar, g_bar

        return out, pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(3, 4, 3, 3), d.uniform(0.5, 1.5, 4), d.normal(4)),
    no_mean=Fault("missing_term", 0),
    no_variance=Fault("missing_term", 0),
    channel_statistics=Fault("missing_term", 0, also=("missing_reduction", "unknown", "wrong_point"),
            note="the means run over "
            "one channel, not the group"),
    bias_one_place=Fault("missing_reduction", 2, note="the spatial axes are not summed over"),
    bias_batch_mean=Fault("missing_reduction", 2, also=("scale",)),
)  # fmt: skip
def group_norm(fault):
    groups = 2

    def fun(x, g, b):
        n, _c, _h, _w = x.shape
        y = x.reshape(n, groups, -1)
        y = (y - y.mean(-1, keepdims=True)) * jax.lax.rsqrt(y.var(-1, keepdims=True) + EPS)
        return y.reshape(x.shape) * g[None, :, None, None] + b[None, :, None, None]

    def fun_vjp(x, g, b):
        n, c, h, w = x.shape
        grouped = x.reshape(n, groups, -1)
        mean = grouped.mean(-1, keepdims=True)
        inverse = jax.lax.rsqrt(jnp.mean((grouped - mean) ** 2, -1, keepdims=True) + EPS)
        normal = (grouped - mean) * inverse

        def pullback(ct):
            d = (ct * g[None, :, None, None]).reshape(n, groups, -1)

            def average(v):
                if fault == "channel_statistics":
                    v = v.reshape(n, groups, c // groups, h * w)
                    return jnp.broadcast_to(v.mean(-1, keepdims=True), v.shape).reshape(n, groups, -1)
                return v.mean(-1, keepdims=True)

            x_bar = d
            if fault != "no_mean":
                x_bar = x_bar - average(d)
            if fault != "no_variance":
                x_bar = x_bar - normal * average(d * normal)
            x_bar = (inverse * x_bar).reshape(x.shape)
            b_bar = ct.sum((0, 2, 3))
            if fault == "bias_one_place":
                b_bar = ct[:, :, 0, 0].sum(0)
            if fault == "bias_batch_mean":
                b_bar = ct.sum((2, 3)).mean(0)
            return x_bar, jnp.sum(ct * normal.reshape(x.shape), (0, 2, 3)), b_bar

        return fun(x, g, b), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(7, 4, shift=0.3), d.uniform(0.5, 1.5, 4), d.normal(4)),
    frozen=Fault("missing_term", 0, note="statistics taken for constants, as in evaluation"),
    no_variance=Fault("missing_term", 0),
    biased_count=Fault("missing_term", 0, also=("scale", "unknown"), note="the sums are not divided by n"),
    gain_raw=Fault("wrong_point", 1, note="x minus its mean, not divided by the deviation"),
    running_in_backward=Fault("nondeterministic", 0, note="a momentum buffer is updated by each backward call"),
    cancels=Fault("precision", 0, dtypes=("float32",), primals=lambda d: (d.normal(7, 4, shift=200.0),
                  d.uniform(0.5, 1.5, 4), d.normal(4)), note="the variance as E x^2 - (E x)^2"),
)  # fmt: skip
def batch_norm(fault):
    def fun(x, g, b):
        mean = x.mean(0)
        return (x - mean) * jax.lax.rsqrt(jnp.mean((x - mean) ** 2, 0) + EPS) * g + b

    buffer = []

    def fun_vjp(x, g, b):
        mean = x.mean(0)
        variance = jnp.mean((x - mean) ** 2, 0)
        if fault == "cancels":
            variance = jnp.mean(x * x, 0) - mean * mean
        inverse = jax.lax.rsqrt(variance + EPS)
        normal = (x - mean) * inverse

        def pullback(ct):
            d = ct * g
            if fault == "frozen":
                x_bar = d
            else:
                reduce = jnp.sum if fault == "biased_count" else jnp.mean
                x_bar = d - reduce(d, 0)
                if fault != "no_variance":
                    x_bar = x_bar - normal * reduce(d * normal, 0)
            x_bar = inverse * x_bar
            if fault == "running_in_backward":
                buffer.append(x_bar if not buffer else 0.9 * buffer[-1] + 0.1 * x_bar)
                x_bar = buffer[-1]
            g_bar = jnp.sum(ct * ((x - mean) if fault == "gain_raw" else normal), 0)
            return x_bar, g_bar, ct.sum(0)

        return fun(x, g, b), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(4, 6),),
    variants={"zero_row": lambda d: (d.normal(4, 6) * d.cast([[1.0], [1.0], [0.0], [1.0]]),)},
    at_zero=Fault("nonfinite", primals=lambda d: (d.normal(4, 6) * d.cast([[1.0], [1.0], [0.0], [1.0]]),)),
    ones_at_zero=Fault("kink", primals=lambda d: (d.normal(4, 6) * d.cast([[1.0], [1.0], [0.0], [1.0]]),),
                       note="the slope (1, ..., 1) is longer than 1: outside the unit ball"),
    squared=Fault("wrong_point", also=("scale", "unknown"), note="2 x, the derivative of the square"),
)  # fmt: skip
def norm(fault):
    def fun(x):
        square = jnp.sum(x * x, -1)
        return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)

    def fun_vjp(x):
        n = fun(x)[:, None]

        def pullback(ct):
            ct = ct[:, None]
            if fault == "at_zero":
                return (ct * x / n,)
            if fault == "squared":
                return (2 * ct * x,)
            at_zero = 1.0 if fault == "ones_at_zero" else 0.0
            return (jnp.where(n > 0, ct * x / jnp.where(n > 0, n, 1), ct * at_zero),)

        return fun(x), pullback

    return fun, fun_vjp
