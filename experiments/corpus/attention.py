"""Attention: plain, causal, blockwise with a running maximum, several heads, rotary positions."""

import jax
import jax.numpy as jnp

from experiments.corpus.case import WIDE, Fault, operation

SMALL = ("float64", "float32", "bfloat16")


def _qkv(draw):
    return draw.normal(5, 4), draw.normal(5, 4), draw.normal(5, 4)


def _causal(n):
    return jnp.tril(jnp.ones((n, n), bool))


@operation(
    _qkv,
    dtypes=SMALL,
    no_coupling=Fault("missing_term", (0, 1)),
    no_scale=Fault("scale", (0, 1), note="1/sqrt(d)"),
    exchanged=Fault("swapped", (0, 1)),
    value_untransposed=Fault("not_transposed", 2, also=("wrong_point", "transpose"), note="P ct in place of P^T ct"),
    key_untransposed=Fault("not_transposed", 1, also=("wrong_point", "transpose"), note="dS q in place of dS^T q"),
    saved_logits=Fault("wrong_point", (0, 1, 2), also=("unknown",), note="the logits stand for the probabilities"),
    negative_keys=Fault("sign", 1),
    value_detached=Fault("zero", 2),
    clipped=Fault("nonlinear", (0, 1), note="the logits' cotangent is clipped"),
)
def attention(fault):
    def fun(q, k, v):
        s = q @ k.T / q.shape[-1] ** 0.5
        return jax.nn.softmax(s, axis=-1) @ v

    def fun_vjp(q, k, v):
        scale = q.shape[-1] ** -0.5
        s = q @ k.T * scale
        p = s if fault == "saved_logits" else jax.nn.softmax(s, axis=-1)

        def pullback(ct):
            p_bar = ct @ v.T
            s_bar = p * p_bar if fault == "no_coupling" else p * (p_bar - jnp.sum(p * p_bar, -1, keepdims=True))
            if fault == "clipped":
                s_bar = jnp.clip(s_bar, -0.1, 0.1)
            if fault != "no_scale":
                s_bar = s_bar * scale
            q_bar = s_bar @ k
            k_bar = (s_bar if fault == "key_untransposed" else s_bar.T) @ q
            v_bar = (p if fault == "value_untransposed" else p.T) @ ct
            if fault == "exchanged":
                q_bar, k_bar = k_bar, q_bar
            if fault == "value_detached":
                v_bar = 0 * v_bar
            return q_bar, (-k_bar if fault == "negative_keys" else k_bar), v_bar

        return fun(q, k, v), pullback

    return fun, fun_vjp


@operation(
    _qkv,
    dtypes=SMALL,
    mask_left_out=Fault("mask_missing", (0, 1, 2), also=("wrong_branch", "unknown"),
            note="the backward pass "
            "recomputes without the mask"),
    diagonal_masked=Fault("wrong_branch", (0, 1, 2), also=("shifted", "unknown", "nonfinite"),
            note="< in place of "
            "<= in the recomputed mask"),
    mask_transposed=Fault("wrong_branch", (0, 1, 2), also=("transpose", "unknown")),
    doubled=Fault("scale", 2),
)  # fmt: skip
def causal_attention(fault):
    def weights(q, k, mask):
        s = q @ k.T / q.shape[-1] ** 0.5
        return jax.nn.softmax(jnp.where(mask, s, -1e4), axis=-1)

    def fun(q, k, v):
        return weights(q, k, _causal(len(q))) @ v

    def fun_vjp(q, k, v):
        mask = _causal(len(q))
        if fault == "mask_left_out":
            mask = jnp.ones_like(mask)
        if fault == "diagonal_masked":
            mask = jnp.tril(mask, -1)
        if fault == "mask_transposed":
            mask = mask.T
        p = weights(q, k, mask)

        def pullback(ct):
            p_bar = ct @ v.T
            s_bar = p * (p_bar - jnp.sum(p * p_bar, -1, keepdims=True)) / q.shape[-1] ** 0.5
            return s_bar @ k, s_bar.T @ q, (2 if fault == "doubled" else 1) * p.T @ ct

        return fun(q, k, v), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(6, 4), d.normal(8, 4), d.normal(8, 4)),
    dtypes=SMALL,
    no_delta=Fault("missing_term", (0, 1), note="rowsum(out ct), the coupling, is left out"),
    last_block=Fault("overwrite", 0, also=("missing_term", "missing_reduction"),
            note="dq is set by each "
            "block of keys, not added to"),
    stale_maximum=Fault("wrong_point", (0, 1, 2), also=("scale", "unknown"),
            note="the first block's maximum "
            "and sum are saved"),
    half_saved=Fault("precision", (0, 1, 2), dtypes=WIDE, note="the probabilities are recomputed in float16"),
    no_scale=Fault("scale", 0),
)  # fmt: skip
def flash_attention(fault):
    block = 4

    def forward(q, k, v):
        scale = q.shape[-1] ** -0.5
        top = jnp.full(len(q), -jnp.inf, q.dtype)
        total, acc = jnp.zeros(len(q), q.dtype), jnp.zeros((len(q), v.shape[-1]), q.dtype)
        saved: tuple = ()
        for start in range(0, len(k), block):
            s = q @ k[start : start + block].T * scale
            higher = jnp.maximum(top, s.max(-1))
            e = jnp.exp(s - higher[:, None])
            keep = jnp.exp(top - higher)
            total = keep * total + e.sum(-1)
            acc = keep[:, None] * acc + e @ v[start : start + block]
            top = higher
            saved = saved or (top, total)  # of the first block
        return acc / total[:, None], top, total, saved

    def fun(q, k, v):
        return jax.nn.softmax(q @ k.T * q.shape[-1] ** -0.5, axis=-1) @ v

    def fun_vjp(q, k, v):
        out, top, total, first = forward(q, k, v)
        if fault == "stale_maximum":
            top, total = first
        scale = q.shape[-1] ** -0.5

        def pullback(ct):
            delta = jnp.sum(out * ct, -1, keepdims=True)
            if fault == "no_delta":
                delta = 0 * delta
            q_bar, k_bars, v_bars = jnp.zeros_like(q), [], []
            for start in range(0, len(k), block):
                kb, vb = k[start : start + block], v[start : start + block]
                p = jnp.exp(q @ kb.T * scale - top[:, None]) / total[:, None]
                if fault == "half_saved":
                    p = p.astype(jnp.float16).astype(q.dtype)
                v_bars.append(p.T @ ct)
                s_bar = p * (ct @ vb.T - delta) * scale
                update = s_bar @ kb
                q_bar = update if fault == "last_block" else q_bar + update
                k_bars.append(s_bar.T @ q)
            if fault == "no_scale":
                q_bar = q_bar / scale
            return q_bar, jnp.concatenate(k_bars), jnp.concatenate(v_bars)

        return out, pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(5, 6), d.normal(6, 6, scale=0.5), d.normal(6, 6, scale=0.5), d.normal(6, 6, scale=0.5)),
    dtypes=SMALL,
    heads_reshaped=Fault("transpose", (1, 2, 3), also=("unknown", "wrong_point"), note="heads are merged by a reshape "
                         "where a transpose should be"),
    only_values=Fault("missing_term", 0, note="the paths through q and k are left out of x_bar"),
    exchanged=Fault("swapped", (1, 2)),
    no_query_path=Fault("missing_term", 0),
)  # fmt: skip
def multi_head_attention(fault):
    heads = 2

    def split(x):
        return x.reshape(len(x), heads, -1).transpose(1, 0, 2)

    def merge(x):
        if fault == "heads_reshaped":
            return x.reshape(x.shape[1], -1)
        return x.transpose(1, 0, 2).reshape(x.shape[1], -1)

    def right_merge(x):
        return x.transpose(1, 0, 2).reshape(x.shape[1], -1)

    def parts(x, wq, wk, wv):
        q, k, v = split(x @ wq), split(x @ wk), split(x @ wv)
        p = jax.nn.softmax(jnp.einsum("hid,hjd->hij", q, k) * q.shape[-1] ** -0.5, axis=-1)
        return q, k, v, p

    def fun(x, wq, wk, wv):
        _q, _k, v, p = parts(x, wq, wk, wv)
        return right_merge(jnp.einsum("hij,hjd->hid", p, v))

    def fun_vjp(x, wq, wk, wv):
        q, k, v, p = parts(x, wq, wk, wv)

        def pullback(ct):
            o_bar = split(ct)
            p_bar = jnp.einsum("hid,hjd->hij", o_bar, v)
            s_bar = p * (p_bar - jnp.sum(p * p_bar, -1, keepdims=True)) * q.shape[-1] ** -0.5
            q_bar = merge(jnp.einsum("hij,hjd->hid", s_bar, k))
            k_bar = merge(jnp.einsum("hij,hid->hjd", s_bar, q))
            v_bar = merge(jnp.einsum("hij,hid->hjd", p, o_bar))
            x_bar = v_bar @ wv.T
            if fault != "only_values":
                x_bar = x_bar + k_bar @ wk.T
                if fault != "no_query_path":
                    x_bar = x_bar + q_bar @ wq.T
            if fault == "heads_reshaped":
                merged = [x.transpose(1, 0, 2).reshape(x.shape[1], -1) for x in
                          (jnp.einsum("hij,hjd->hid", s_bar, k), jnp.einsum("hij,hid->hjd", s_bar, q),
                           jnp.einsum("hij,hid->hjd", p, o_bar))]  # fmt: skip
                x_bar = merged[0] @ wq.T + merged[1] @ wk.T + merged[2] @ wv.T
            wq_bar, wk_bar = x.T @ q_bar, x.T @ k_bar
            if fault == "exchanged":
                wq_bar, wk_bar = wk_bar, wq_bar
            return x_bar, wq_bar, wk_bar, x.T @ v_bar

        return fun(x, wq, wk, wv), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(6, 8),),
    not_inverted=Fault("not_transposed", also=("sign", "wrong_branch", "transpose", "unknown"),
            note="rotated by the "
            "same angle, not back"),
    positions_from_one=Fault("shifted", also=("wrong_point", "unknown"),
            note="positions counted from one "
            "in the backward pass"),
    halves_exchanged=Fault("transpose", also=("swapped", "shifted", "unknown"),
            note="the two halves are "
            "concatenated in the wrong order"),
    negative=Fault("sign"),
)  # fmt: skip
def rotary(fault):
    def angles(n, d, first=0):
        return (jnp.arange(first, n + first)[:, None] / 100.0 ** (jnp.arange(d // 2) / (d // 2))[None]).astype

    def rotate(x, sign=1, first=0):
        n, d = x.shape
        a = angles(n, d, first)(jnp.float32)
        c, s = jnp.cos(a).astype(x.dtype), sign * jnp.sin(a).astype(x.dtype)
        u, v = x[:, : d // 2], x[:, d // 2 :]
        return jnp.concatenate([u * c - v * s, u * s + v * c], -1)

    def fun(x):
        return rotate(x)

    def fun_vjp(x):
        def pullback(ct):
            bar = rotate(ct, 1 if fault == "not_inverted" else -1, 1 if fault == "positions_from_one" else 0)
            if fault == "halves_exchanged":
                half = x.shape[-1] // 2
                bar = jnp.concatenate([bar[:, half:], bar[:, :half]], -1)
            return (-bar if fault == "negative" else bar,)

        return fun(x), pullback

    return fun, fun_vjp
