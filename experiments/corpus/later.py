"""Faults written after the last changes of the checker's causes: how it does on what it was not made with."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.corpus.case import Fault, operation

EPS = 1e-2


@operation(
    lambda d: (d.normal(5, 6),),
    scales=(1e-2,),
    right_neighbours=Fault("missing_term", note="the entry's part in its left and upper neighbours' differences"),
    no_root=Fault("missing_factor", note="the length of the gradient does not divide"),
)  # fmt: skip
def total_variation(fault):
    def parts(x):
        across = x[:-1, 1:] - x[:-1, :-1]
        down = x[1:, :-1] - x[:-1, :-1]
        return across, down, jnp.sqrt(across**2 + down**2 + EPS)

    def fun(x):
        return jnp.sum(parts(x)[2])

    def fun_vjp(x):
        across, down, length = parts(x)

        def pullback(ct):
            n = 1 if fault == "no_root" else length
            a, d = ct * across / n, ct * down / n
            bar = jnp.zeros_like(x).at[:-1, :-1].add(-a - d)
            if fault != "right_neighbours":
                bar = bar.at[:-1, 1:].add(a).at[1:, :-1].add(d)
            return (bar,)

        return fun(x), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(7, 4), d.normal(4)),
    scales=(1e-2,),
    values_only=Fault("missing_term", 0, note="the weights' path to the rows is left out"),
    no_normaliser=Fault("missing_term", (0, 1), note="the softmax's sum is left out"),
    logits=Fault("wrong_point", (0, 1), also=("unknown", "missing_factor"), note="logits stand for probabilities"),
)  # fmt: skip
def attention_pooling(fault):
    def fun(x, w):
        return jax.nn.softmax(x @ w) @ x

    def fun_vjp(x, w):
        z = x @ w
        p = jax.nn.softmax(z)

        def pullback(ct):
            each = x @ ct
            s = (z if fault == "logits" else p) * (each - (0 if fault == "no_normaliser" else p @ each))
            x_bar = jnp.outer(p, ct)
            return x_bar if fault == "values_only" else x_bar + jnp.outer(s, w), s @ x

        return fun(x, w), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(9), d.normal(9), d.normal(9)),
    scales=(1e-2,),
    no_variance=Fault("missing_factor", 0, note="the precision is left out of the mean's cotangent"),
    whole=Fault("scale", 1, also=("missing_term",), note="a half is left out"),
    constant_only=Fault("missing_term", 1, note="the squared error's part of the log-variance"),
    residual=Fault("sign", 2),
)  # fmt: skip
def gaussian_likelihood(fault):
    def fun(mean, log_var, y):
        return 0.5 * (log_var + (y - mean) ** 2 * jnp.exp(-log_var))

    def fun_vjp(mean, log_var, y):
        precision = jnp.exp(-log_var)

        def pullback(ct):
            pull = ct * (y - mean) * precision
            square = 0 if fault == "constant_only" else (y - mean) ** 2 * precision
            log_bar = (1 if fault == "whole" else 0.5) * ct * (1 - square)
            m = -ct * (y - mean) if fault == "no_variance" else -pull
            return m, log_bar, -pull if fault == "residual" else pull

        return fun(mean, log_var, y), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(5, 3), d.uniform(0.7, 1.5)),
    scales=(1e-2,),
    one_side=Fault("missing_term", 0, also=("unknown",), note="points count as centres alone"),
    no_length=Fault("scale", 0, also=("missing_factor",), note="1 / l^2 is left out"),
    squared=Fault("scale", 1, also=("missing_factor", "wrong_point"), note="l^-2 in place of l^-3"),
    distances=Fault("missing_factor", 0, also=("wrong_point",), note="the kernel's own value is no factor"),
)  # fmt: skip
def kernel_matrix(fault):
    def parts(x, length):
        apart = x[:, None] - x[None]
        squares = jnp.sum(apart**2, -1)
        return apart, squares, jnp.exp(-squares / (2 * length**2))

    def fun(x, length):
        return parts(x, length)[2]

    def fun_vjp(x, length):
        apart, squares, k = parts(x, length)

        def pullback(ct):
            c = ct * (1 if fault == "distances" else k)
            pull = -c[..., None] * apart / (1 if fault == "no_length" else length**2)
            x_bar = jnp.sum(pull, 1) - (0 if fault == "one_side" else jnp.sum(pull, 0))
            return x_bar, jnp.sum(ct * k * squares) / length ** (2 if fault == "squared" else 3)

        return k, pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(2, 8),),
    scales=(1e-2,),
    forwards=Fault("not_transposed", also=("wrong_point", "shifted"), note="summed along, not against, the axis"),
    by_last=Fault("wrong_point", also=("unknown", "missing_factor"), note="divided by the last sum, not by each"),
)  # fmt: skip
def cumulative_logsumexp(fault):
    def fun(x):
        return jnp.log(jnp.cumsum(jnp.exp(x), -1))

    def fun_vjp(x):
        y = fun(x)

        def pullback(ct):
            over = ct * jnp.exp(-(y[:, -1:] if fault == "by_last" else y))
            total = jnp.cumsum(over, -1) if fault == "forwards" else jnp.flip(jnp.cumsum(jnp.flip(over, -1), -1), -1)
            return (jnp.exp(x) * total,)

        return y, pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(2, 4, 3, 4),),
    reshaped=Fault("transpose", note="a reshape alone"),
    scaled=Fault("scale"),
)  # fmt: skip
def depth_to_space(fault):
    def fun(x):
        return x.reshape(2, 4, 3, 2, 2).transpose(0, 1, 3, 2, 4).reshape(2, 8, 6)

    def fun_vjp(x):
        def pullback(ct):
            if fault == "reshaped":
                return (ct.reshape(x.shape),)
            bar = ct.reshape(2, 4, 2, 3, 2).transpose(0, 1, 3, 2, 4).reshape(x.shape)
            return (bar / 4 if fault == "scaled" else bar,)

        return fun(x), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(6, 4), d.uniform(0.2, 0.8, 4)),
    undropped=Fault("mask_missing", 0, also=("wrong_branch", "missing_term"), note="dropped paths get a cotangent"),
    summed_all=Fault("mask_missing", 1, also=("wrong_branch", "unknown"), note="dropped rows count for the scale"),
    no_gain=Fault("missing_term", 0, also=("missing_factor", "unknown"), note="the branch's part is left out"),
)  # fmt: skip
def dropped_path(fault):
    """y = x + mask gain tanh(x)"""
    mask = np.array([1, 0, 1, 1, 0, 1.0])[:, None]

    def fun(x, gain):
        return x + jnp.asarray(mask, x.dtype) * gain * jnp.tanh(x)

    def fun_vjp(x, gain):
        t, m = jnp.tanh(x), jnp.asarray(mask, x.dtype)

        def pullback(ct):
            own = ct if fault == "undropped" else ct * m
            branch = 0 if fault == "no_gain" else own * gain * (1 - t * t)
            return ct + branch, jnp.sum((ct if fault == "summed_all" else ct * m) * t, 0)

        return fun(x, gain), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(3, 6), d.normal(6)),
    scales=(1e-2,),
    detached_norm=Fault("missing_term", 0, note="the norm counts as a constant"),
    no_mean=Fault("missing_term", 0, note="the centring's part is left out"),
    first=Fault("missing_reduction", 1),
)  # fmt: skip
def centred_cosine(fault):
    def parts(x):
        c = x - jnp.mean(x, -1, keepdims=True)
        r = lax.rsqrt(jnp.sum(c * c, -1, keepdims=True) + EPS)
        return c, r

    def fun(x, w):
        c, r = parts(x)
        return jnp.sum(c * r * w, -1)

    def fun_vjp(x, w):
        c, r = parts(x)
        n = c * r

        def pullback(ct):
            d = ct[:, None] * w
            c_bar = r * (d - (0 if fault == "detached_norm" else n * jnp.sum(d * n, -1, keepdims=True)))
            bar = c_bar if fault == "no_mean" else c_bar - jnp.mean(c_bar, -1, keepdims=True)
            each = ct[:, None] * n
            return bar, each[0] if fault == "first" else jnp.sum(each, 0)

        return fun(x, w), pullback

    return fun, fun_vjp
