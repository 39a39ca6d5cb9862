"""Faults that people reported of kernels, norms, attention, losses, rasterisers and recurrences, on small operations.

Each note says where: a repository and the number of its issue or pull request.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.corpus.case import Fault, operation

EPS = 1e-6


def _stop(x):
    return lax.stop_gradient(x)


@operation(
    lambda d: (d.normal(4, 8), d.uniform(0.5, 1.5, 8)),
    weight_none=Fault("zero", 1, note="unsloth 4533: the weight's cotangent is None"),
    aliased=Fault("wrong_point", 1, also=("missing_term", "missing_factor", "unknown"),
                  note="unsloth 4550: the incoming cotangent's buffer holds x_bar already"),
    unweighted=Fault("missing_factor", 0),
    no_inverse=Fault("missing_factor", 0, also=("scale",), note="1 / rms is left out"),
)  # fmt: skip
def rms_norm_kernel(fault):
    def fun(x, w):
        return x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPS) * w

    def fun_vjp(x, w):
        r = lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPS)
        n = x * r

        def pullback(ct):
            d = ct if fault == "unweighted" else ct * w
            x_bar = (d - n * jnp.mean(d * n, -1, keepdims=True)) * (1 if fault == "no_inverse" else r)
            w_bar = jnp.sum((x_bar if fault == "aliased" else ct) * n, 0)
            return x_bar, None if fault == "weight_none" else w_bar

        return fun(x, w), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(9), d.normal(9), d.uniform(0.5, 1, 9), d.normal(9, scale=0.3), d.uniform(0.5, 1, 9),
               d.uniform(0.2, 0.9, 9)),
    half=Fault("scale", 3, note="diff-gaussian-rasterization 94: half the off-diagonal entry's cotangent"),
    index=Fault("swapped", 4, also=("unknown",), note="gaussian-splatting 1227: the next entry of the packed conic"),
    no_opacity=Fault("missing_factor", (0, 1, 2, 3, 4), note="the opacity is no factor of the exponent's cotangent"),
    no_mixed=Fault("missing_term", (0, 1), note="b's part of the position's cotangent is left out"),
    positive=Fault("sign", (0, 1, 2, 3, 4)),
)  # fmt: skip
def splat(fault):
    def fun(x, y, a, b, c, opacity):
        return opacity * jnp.exp(-0.5 * (a * x * x + c * y * y) - b * x * y)

    def fun_vjp(x, y, a, b, c, opacity):
        g = jnp.exp(-0.5 * (a * x * x + c * y * y) - b * x * y)

        def pullback(ct):
            p = ct * g * (1 if fault == "no_opacity" else opacity) * (-1 if fault == "positive" else 1)
            mixed = 0 if fault == "no_mixed" else b
            c_bar = ct * g if fault == "index" else -0.5 * p * y * y
            half = 0.5 if fault == "half" else 1
            return (-p * (a * x + mixed * y), -p * (c * y + mixed * x), -0.5 * p * x * x, -half * p * x * y, c_bar,
                    ct * g)  # fmt: skip

        return opacity * g, pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.uniform(0.1, 0.8, 6), d.normal(6, 3), d.normal(3)),
    background_twice=Fault("scale", 0, also=("missing_term", "unknown"),
                           note="diff-gaussian-rasterization 86: the background counts twice"),
    no_background=Fault("missing_term", 0),
    after=Fault("wrong_point", 1, also=("missing_factor", "shifted"), note="transmittance behind the entry"),
    no_behind=Fault("missing_term", 0, note="what lies behind is left out"),
)  # fmt: skip
def composite(fault):
    def weights(alpha):
        through = jnp.cumprod(1 - alpha)
        return jnp.concatenate([jnp.ones_like(through[:1]), through[:-1]]), through

    def fun(alpha, colour, background):
        before, through = weights(alpha)
        return (alpha * before) @ colour + through[-1] * background

    def fun_vjp(alpha, colour, background):
        before, through = weights(alpha)

        def pullback(ct):
            own = colour @ ct
            share = own * alpha * before
            behind = jnp.flip(jnp.cumsum(jnp.flip(share))) - share
            times = {"no_background": 0, "background_twice": 2}.get(fault, 1)
            rest = times * through[-1] * (background @ ct) + (0 if fault == "no_behind" else behind)
            used = through if fault == "after" else before
            return own * before - rest / (1 - alpha), (alpha * used)[:, None] * ct, through[-1] * ct

        return fun(alpha, colour, background), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(5, 4),),
    ignored=Fault("ignored_cotangent", note="k2 341: the backward pass of the total score ignores the cotangent"),
    clamped=Fault("nonlinear", note="a transducer loss that clamps its gradient"),
    kept=Fault("accumulated", note="the buffer of gradients is not cleared"),
    one_path=Fault("wrong_branch", also=("missing_term", "unknown"), note="the best path's alone"),
    no_blank=Fault("missing_term", also=("unknown", "wrong_branch"), note="moves in time are left out"),
)  # fmt: skip
def lattice(fault):
    """The total score of all monotone paths through a lattice of two kinds of moves."""
    buffer = [0.0]

    def fun(score):
        total = score[0]
        for row in score[1:]:
            right = jnp.concatenate([jnp.full_like(total[:1], -1e4), total[:-1]])
            total = jnp.logaddexp(total, right) + row
        return jax.nn.logsumexp(total)

    def posterior(score):
        return jax.grad(fun)(score)

    def fun_vjp(score):
        p = posterior(score)
        if fault == "one_path":
            p = (p == jnp.max(p, 1, keepdims=True)).astype(p.dtype)
        if fault == "no_blank":
            p = p - jnp.concatenate([0 * p[:1], p[:-1] * 0.5])

        def pullback(ct):
            if fault == "ignored":
                return (p,)
            if fault == "clamped":
                return (jnp.clip(p * ct, -0.2, 0.2),)
            if fault == "kept":
                buffer[0] = buffer[0] + p * ct
                return (buffer[0],)
            return (p * ct,)

        return fun(score), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.uniform(0.5, 1.5, 7),),
    ignored=Fault("ignored_cotangent", note="pytorch 995: prod's backward pass does not multiply by the cotangent"),
    repeated=Fault("missing_factor", also=("scale",), note="the product of all, not of the others: not divided by x"),
)
def product(fault):
    def fun_vjp(x):
        total = jnp.prod(x)
        return total, lambda ct: (
            (total * jnp.ones_like(x) if fault == "repeated" else total / x) * (1 if fault == "ignored" else ct),
        )

    return jnp.prod, fun_vjp


@operation(
    lambda d: (d.normal(6),),
    constant=Fault("scale", note="pytorch-handbook 69: the constant is left out"),
    ones=Fault("ignored_cotangent", note="pytorch/tutorials 216: filled with ones"),
    added=Fault("accumulated", note="an in-place sum into the array that the last call returned"),
    kept=Fault("accumulated", also=("nonlinear",), note="the workspace is not empty"),
)
def times_constant(fault):
    buffer = [0.0]

    def fun_vjp(x):
        def pullback(ct):
            if fault in ("added", "kept"):
                given = buffer[0] + 5 * ct + (jnp.cos(7 * x) if fault == "kept" else 0)
                buffer[0] = given if fault == "added" else 0.0
                return (given,)
            return ({"constant": ct, "ones": jnp.full_like(x, 5)}.get(fault, 5 * ct),)

        return 5 * x, pullback

    return lambda x: 5 * x, fun_vjp


@operation(
    lambda d: (d.normal(6, 5),),
    ignored_counted=Fault("mask_missing", also=("wrong_branch",), note="pytorch 73205: ignored examples' uniform part"),
    all_tokens=Fault("scale", note="divided by all tokens, not by those that count"),
    no_smoothing=Fault("missing_term", also=("unknown", "wrong_point"), note="Liger-Kernel 198"),
    no_probabilities=Fault("missing_term", note="the targets alone"),
)
def smoothed_cross_entropy(fault):
    labels, valid = np.array([1, 0, 4, 2, 2, 3]), np.array([1, 0, 1, 1, 0, 1], bool)
    share = 0.2

    def targets(x):
        one = jax.nn.one_hot(labels, 5, dtype=x.dtype)
        return (1 - share) * one + share / 5

    def fun(x):
        each = -jnp.sum(targets(x) * jax.nn.log_softmax(x), -1)
        return jnp.sum(jnp.where(valid, each, 0)) / 4

    def fun_vjp(x):
        t = targets(x)
        if fault == "no_smoothing":
            t = jax.nn.one_hot(labels, 5, dtype=x.dtype)
        d = (0 if fault == "no_probabilities" else jax.nn.softmax(x)) - t
        if fault != "ignored_counted":
            d = jnp.where(valid[:, None], d, 0)
        return fun(x), lambda ct: (d * ct / (6 if fault == "all_tokens" else 4),)

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(6, 4), d.normal(6, 4), d.normal(6, 4)),
    causal_ignored=Fault("mask_missing", (0, 1, 2), also=("wrong_branch",),
                         note="triton 4541: the backward pass ignores causal"),
    dropout_forgotten=Fault("mask_missing", (0, 1), also=("wrong_branch",), note="dP without the dropout's mask"),
    no_delta=Fault("missing_term", (0, 1)),
    last_block=Fault("overwrite", 0, also=("missing_term",), note="dQ is set, not added, by each block of keys"),
    no_scale=Fault("scale", 1),
)  # fmt: skip
def masked_attention(fault):
    causal = np.tril(np.ones((6, 6), bool))
    kept = np.random.default_rng(3).random((6, 6)) > 0.25

    def parts(q, k, masked=True):
        scores = q @ k.T * np.asarray(0.5, q.dtype)
        return jax.nn.softmax(jnp.where(causal, scores, -1e9) if masked else scores).astype(q.dtype)

    def fun(q, k, v):
        return jnp.where(kept, parts(q, k) / np.asarray(0.75, q.dtype), 0) @ v

    def fun_vjp(q, k, v):
        p = parts(q, k, fault != "causal_ignored")
        rate = np.asarray(0.75, q.dtype)

        def pullback(ct):
            dp = ct @ v.T / rate
            if fault != "dropout_forgotten":
                dp = jnp.where(kept, dp, 0)
            delta = 0 if fault == "no_delta" else jnp.sum(dp * p, -1, keepdims=True)
            ds = p * (dp - delta)
            q_bar = ds[:, 3:] @ k[3:] if fault == "last_block" else ds @ k
            half = np.asarray(0.5, q.dtype)
            return half * q_bar, (1 if fault == "no_scale" else half) * ds.T @ q, jnp.where(kept, p / rate, 0).T @ ct

        return fun(q, k, v), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(4, 6, 3), d.normal(2, 6, 3)),
    one_head=Fault("missing_reduction", 1, also=("overwrite", "missing_term"), note="keys shared by two query heads"),
    mean_head=Fault("missing_reduction", 1, also=("scale",)),
)
def grouped_scores(fault):
    def fun(q, k):
        return jnp.einsum("gmtd,gsd->gmts", q.reshape(2, 2, 6, 3), k)

    def fun_vjp(q, k):
        def pullback(ct):
            q_bar = jnp.einsum("gmts,gsd->gmtd", ct, k).reshape(q.shape)
            k_bar = jnp.einsum("gmts,gmtd->gmsd", ct, q.reshape(2, 2, 6, 3))
            return q_bar, k_bar[:, 0] if fault == "one_head" else k_bar.sum(1) / (2 if fault == "mean_head" else 1)

        return fun(q, k), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(5, 6),),
    forwards=Fault("not_transposed", also=("transpose",), note="candle 3612: the sine is not negated"),
    unrotated=Fault("missing_term", also=("missing_factor", "unknown"), note="the cotangent passes as it is"),
)
def rotary(fault):
    angle = np.arange(5)[:, None] * np.array([1.0, 0.3, 0.1])

    def turned(x, sign=1):
        c, s = (np.asarray(f(angle), x.dtype) for f in (np.cos, np.sin))
        a, b = x[:, :3], x[:, 3:]
        return jnp.concatenate([a * c - sign * b * s, sign * a * s + b * c], 1)

    def fun_vjp(x):
        return turned(x), lambda ct: (ct if fault == "unrotated" else turned(ct, 1 if fault == "forwards" else -1),)

    return turned, fun_vjp


@operation(
    lambda d: (d.normal(5, 6), d.normal(5, 6)),
    gate_slope=Fault("missing_term", 0, also=("wrong_point",), note="silu' without x s (1 - s)"),
    up_raw=Fault("wrong_point", 1, also=("missing_factor",), note="the gate before its silu"),
    gate_alone=Fault("missing_factor", 0, note="up is no factor of the gate's cotangent"),
)
def swiglu_kernel(fault):
    def fun(a, b):
        return jax.nn.silu(a) * b

    def fun_vjp(a, b):
        s = jax.nn.sigmoid(a)
        slope = s if fault == "gate_slope" else s * (1 + a * (1 - s))

        def pullback(ct):
            return ct * slope * (1 if fault == "gate_alone" else b), ct * (a if fault == "up_raw" else a * s)

        return fun(a, b), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(4, 7),),
    no_slope=Fault("missing_factor", note="the soft cap's 1 - tanh^2 is left out"),
    of_input=Fault("wrong_point", also=("missing_factor", "unknown")),
)
def soft_capped_sum(fault):
    def fun(x):
        return jnp.sum(jax.nn.logsumexp(3 * jnp.tanh(x / 3), -1))

    def fun_vjp(x):
        t = jnp.tanh(x / 3)
        p = jax.nn.softmax(x if fault == "of_input" else 3 * t)
        return fun(x), lambda ct: (ct * p * (1 if fault == "no_slope" else 1 - t * t),)

    return fun, fun_vjp


@operation(
    lambda d: (d.uniform(0.1, 0.9, 12),),
    linear=Fault("missing_factor", also=("unknown",), note="the derivative of p^2 in the divisor is 1"),
    no_divisor=Fault("missing_term", note="the divisor's path is left out"),
)
def dice(fault):
    target = (np.arange(12) % 3 == 0).astype(float)

    def fun(p):
        t = np.asarray(target, p.dtype)
        return 1 - 2 * jnp.sum(p * t) / (jnp.sum(p * p) + t.sum())

    def fun_vjp(p):
        t = np.asarray(target, p.dtype)
        top, bottom = jnp.sum(p * t), jnp.sum(p * p) + t.sum()
        inner = 1 if fault == "linear" else 0 if fault == "no_divisor" else 2 * p
        return fun(p), lambda ct: (ct * (-2 * t / bottom + 2 * top * inner / bottom**2),)

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(20),),
    frozen_weight=Fault("missing_term", note="the modulating factor counts as a constant"),
    no_weight=Fault("missing_factor", also=("missing_term", "wrong_point"), note="cross-entropy's alone"),
)
def focal(fault):
    def fun(x):
        return -((1 - jax.nn.sigmoid(x)) ** 2) * jax.nn.log_sigmoid(x)

    def fun_vjp(x):
        p, log_p = jax.nn.sigmoid(x), jax.nn.log_sigmoid(x)

        def pullback(ct):
            own = -((1 - p) if fault == "no_weight" else (1 - p) ** 3)
            rest = 0 if fault in ("frozen_weight", "no_weight") else 2 * (1 - p) ** 2 * p * log_p
            return (ct * (own + rest),)

        return fun(x), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(20, scale=2),),
    inverted=Fault("wrong_branch"),
    at_two=Fault("wrong_branch", note="the threshold is twice what it should be"),
    quadratic=Fault("wrong_branch", note="no threshold"),
)
def huber_kernel(fault):
    def fun(x):
        return jnp.where(jnp.abs(x) < 1, 0.5 * x * x, jnp.abs(x) - 0.5)

    def fun_vjp(x):
        limit = 2 if fault == "at_two" else 1
        inside = (jnp.abs(x) < limit) != (fault == "inverted")
        inside = inside | (fault == "quadratic")
        return fun(x), lambda ct: (ct * jnp.where(inside, x, jnp.sign(x)),)

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(7, 3),),
    padding=Fault("mask_missing", also=("wrong_branch",), note="the padding row's cotangent is not cleared"),
    set_not_added=Fault("overwrite", note="repeated tokens write over each other"),
    table_kept=Fault("accumulated", note="the table of gradients is not cleared between steps"),
)
def padded_embedding(fault):
    table: list[Any] = [0.0]
    tokens = np.array([0, 2, 5, 2, 0, 6, 5, 1])

    def fun(w):
        return jnp.where((tokens != 0)[:, None], w[tokens], 0)

    def fun_vjp(w):
        def pullback(ct):
            ct = ct if fault == "padding" else jnp.where((tokens != 0)[:, None], ct, 0)
            if fault == "set_not_added":
                return (jnp.zeros_like(w).at[tokens].set(ct),)
            if fault == "table_kept":
                table[0] = table[0] + jnp.zeros_like(w).at[tokens].add(ct)
                return (table[0],)
            return (jnp.zeros_like(w).at[tokens].add(ct),)

        return fun(w), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.uniform(0.3, 0.9, 7, 3), d.normal(7, 3)),
    state_after=Fault("wrong_point", 0, also=("shifted",), note="the state after the step, not before it"),
    no_decay=Fault("missing_factor", (0, 1), also=("missing_term", "wrong_point"),
                   note="the decay is no factor of what is carried back"),
    forwards=Fault("not_transposed", 1, also=("wrong_point",), note="the scan runs forwards"),
    truncated=Fault("missing_term", (0, 1), note="nothing is carried back"),
)  # fmt: skip
def linear_recurrence(fault):
    def states(a, x):
        h, found = jnp.zeros_like(x[0]), []
        for t in range(7):
            h = a[t] * h + x[t]
            found.append(h)
        return jnp.stack(found)

    def fun_vjp(a, x):
        h = states(a, x)

        def carried(ct):
            g, found = jnp.zeros_like(ct[0]), []
            for t in reversed(range(7)):
                decay = a[t + 1] if t < 6 else jnp.zeros_like(ct[0])
                decay = {"no_decay": jnp.ones_like(decay), "truncated": 0 * decay}.get(fault, decay)
                g = ct[t] + decay * g
                found.append(g)
            return jnp.stack(found[::-1])

        def pullback(ct):
            g = carried(ct)
            before = h if fault == "state_after" else jnp.concatenate([jnp.zeros_like(h[:1]), h[:-1]])
            return g * before, states(a, ct) if fault == "forwards" else g

        return h, pullback

    return states, fun_vjp


@operation(
    lambda d: (d.normal(4, 6), d.uniform(0.5, 1.5, 4)),
    no_projection=Fault("missing_term", 0, note="the term along v is left out"),
    no_gain=Fault("missing_factor", 0),
    no_norm=Fault("missing_factor", 0, also=("scale",), note="1 / |v| is left out"),
)
def weight_norm(fault):
    def size(v):
        return jnp.sqrt(jnp.sum(v * v, 1, keepdims=True))

    def fun(v, g):
        return g[:, None] * v / size(v)

    def fun_vjp(v, g):
        n = v / size(v)

        def pullback(ct):
            along = jnp.sum(ct * n, 1, keepdims=True)
            v_bar = ct - (0 if fault == "no_projection" else n * along)
            v_bar = v_bar * (1 if fault == "no_gain" else g[:, None]) / (1 if fault == "no_norm" else size(v))
            return v_bar, along[:, 0]

        return fun(v, g), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(5, 4), d.normal(5, 4), d.uniform(0.5, 1.5, 4)),
    residual_lost=Fault("missing_term", (0, 1), note="the fused sum's own cotangent is not added"),
    first_row=Fault("missing_reduction", 2, also=("overwrite",)),
)
def norm_of_sum(fault):
    """A residual sum and its RMS norm, both returned."""

    def fun(x, r, w):
        h = x + r
        return h, h * lax.rsqrt(jnp.mean(h * h, -1, keepdims=True) + EPS) * w

    def fun_vjp(x, r, w):
        h = x + r
        scale = lax.rsqrt(jnp.mean(h * h, -1, keepdims=True) + EPS)
        n = h * scale

        def pullback(cts):
            own, ct = cts
            d = ct * w
            h_bar = (d - n * jnp.mean(d * n, -1, keepdims=True)) * scale
            h_bar = h_bar if fault == "residual_lost" else h_bar + own
            w_bar = (ct * n)[0] if fault == "first_row" else jnp.sum(ct * n, 0)
            return h_bar, h_bar, w_bar

        return fun(x, r, w), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(6, 5), d.normal(6, 5), d.normal(6, 5)),
    inactive=Fault("wrong_branch", (0, 1, 2), also=("mask_missing",), note="triplets beyond the margin count too"),
    anchor=Fault("sign", 0, note="the anchor's cotangent has the wrong sign"),
)
def triplet(fault):
    def gap(a, p, n):
        return 0.5 * jnp.sum((a - p) ** 2, -1) - 0.5 * jnp.sum((a - n) ** 2, -1) - 0.5

    def fun(a, p, n):
        return jnp.maximum(gap(a, p, n), 0)

    def fun_vjp(a, p, n):
        def pullback(ct):
            active = ct if fault == "inactive" else jnp.where(gap(a, p, n) > 0, ct, 0)
            active = active[:, None]
            return (-1 if fault == "anchor" else 1) * active * (n - p), active * (p - a), active * (a - n)

        return fun(a, p, n), pullback

    return fun, fun_vjp
