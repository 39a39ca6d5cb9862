"""Dense layers, matrix products in all transposes, and what is built of them."""

import jax
import jax.numpy as jnp

from experiments.corpus.case import WIDE, Fault, operation


def _layer(draw):
    return draw.normal(5, 4), draw.normal(4, 3, scale=0.6), draw.normal(3)


@operation(
    _layer,
    bias_first_row=Fault("missing_reduction", 2),
    bias_mean=Fault("missing_reduction", 2, also=("scale",)),
    weight_not_transposed=Fault("structure", 1, note="ct^T x: the shape is the transpose's"),
    input_negative=Fault("sign", 0),
    weight_mean=Fault("scale", 1, note="1/n of a mean over the batch that fun does not have"),
    weight_first_example=Fault("missing_reduction", 1),
    bias_unsummed=Fault("structure", 2, also=("missing_reduction",)),
    bias_none=Fault("zero", 2),
    two_results=Fault("structure", "", note="the bias's cotangent is not returned"),
)
def affine(fault):
    def fun(x, w, b):
        return x @ w + b

    def fun_vjp(x, w, b):
        def pullback(ct):
            x_bar, w_bar, b_bar = ct @ w.T, x.T @ ct, ct.sum(0)
            if fault == "bias_first_row":
                b_bar = ct[0]
            elif fault == "bias_mean":
                b_bar = ct.mean(0)
            elif fault == "weight_not_transposed":
                w_bar = ct.T @ x
            elif fault == "input_negative":
                x_bar = -x_bar
            elif fault == "weight_mean":
                w_bar = w_bar / x.shape[0]
            elif fault == "weight_first_example":
                w_bar = jnp.outer(x[0], ct[0])
            elif fault == "bias_unsummed":
                b_bar = ct
            elif fault == "bias_none":
                b_bar = None
            elif fault == "two_results":
                return x_bar, w_bar
            return x_bar, w_bar, b_bar

        return fun(x, w, b), pullback

    return fun, fun_vjp


def _squares(draw):
    return draw.normal(5, 5), draw.normal(5, 5)


@operation(
    _squares,
    left_not_transposed=Fault("not_transposed", 1, also=("wrong_point", "transpose"), note="A ct in place of A^T ct"),
    result_transposed=Fault("transpose", 0),
    exchanged=Fault("swapped", (0, 1)),
    right_not_transposed=Fault("transpose", 0, also=("wrong_point",), note="ct B in place of ct B^T: the saved B "
                               "untransposed"),
)  # fmt: skip
def matmul(fault):
    def fun(a, b):
        return a @ b

    def fun_vjp(a, b):
        def pullback(ct):
            a_bar = ct @ (b if fault == "right_not_transposed" else b.T)
            b_bar = (a if fault == "left_not_transposed" else a.T) @ ct
            if fault == "result_transposed":
                a_bar = a_bar.T
            return (b_bar, a_bar) if fault == "exchanged" else (a_bar, b_bar)

        return fun(a, b), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(4, 4), d.normal(4, 4)),
    as_plain=Fault("transpose", 0, note="the cotangent of A^T is returned for A"),
    half_accumulation=Fault("precision", 1, dtypes=WIDE, note="the product is accumulated in float16"),
    detached_left=Fault("zero", 0),
)
def matmul_tn(fault):
    def fun(a, b):
        return a.T @ b

    def fun_vjp(a, b):
        def pullback(ct):
            a_bar = b @ ct.T
            b_bar = a @ ct
            if fault == "as_plain":
                a_bar = ct @ b.T
            if fault == "half_accumulation":
                b_bar = (a.astype(jnp.float16) @ ct.astype(jnp.float16)).astype(b.dtype)
            return (0 * a_bar if fault == "detached_left" else a_bar), b_bar

        return fun(a, b), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(3, 4), d.normal(4, 4)),
    transposed=Fault("transpose", 1),
    first_row=Fault("missing_reduction", 1),
    ones=Fault("ignored_cotangent", 1),
)
def matmul_nt(fault):
    def fun(a, b):
        return a @ b.T

    def fun_vjp(a, b):
        def pullback(ct):
            b_bar = ct.T @ a
            if fault == "transposed":
                b_bar = b_bar.T
            if fault == "first_row":
                b_bar = jnp.outer(ct[0], a[0])
            if fault == "ones":
                b_bar = jnp.ones_like(ct).T @ a
            return ct @ b, b_bar

        return fun(a, b), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(3, 4, 4), d.normal(4, 4)),
    first_of_batch=Fault("missing_reduction", 1, note="the shared matrix gets the first batch entry's cotangent"),
    batch_mean=Fault("missing_reduction", 1, also=("scale",)),
    axes_mixed=Fault("transpose", 0),
    last_of_batch=Fault("overwrite", 1, also=("missing_reduction",), note="a loop over the batch sets, not adds"),
)
def batched_matmul(fault):
    def fun(x, w):
        return jnp.einsum("bij,jk->bik", x, w)

    def fun_vjp(x, w):
        def pullback(ct):
            x_bar = jnp.einsum("bik,jk->bij", ct, w)
            each = jnp.einsum("bij,bik->bjk", x, ct)
            w_bar = each.sum(0)
            if fault == "first_of_batch":
                w_bar = each[0]
            if fault == "batch_mean":
                w_bar = each.mean(0)
            if fault == "axes_mixed":
                x_bar = x_bar.swapaxes(1, 2)
            if fault == "last_of_batch":
                for one in each:
                    w_bar = one
            return x_bar, w_bar

        return fun(x, w), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(3, 4), d.normal(5, 4), d.normal(6, 3, 5)),
    summed_over_k=Fault("missing_reduction", 0, note="only the first k counts"),
    reshaped=Fault("transpose", 2, note="a reshape where a transpose should be"),
    y_negative=Fault("sign", 1),
)
def bilinear_form(fault):
    """z_kb = sum_ij x_bi... : einsum of three operands."""

    def fun(x, y, w):
        return jnp.einsum("id,jd,kij->kd", x, y, w)

    def fun_vjp(x, y, w):
        def pullback(ct):
            x_bar = jnp.einsum("kd,jd,kij->id", ct, y, w)
            if fault == "summed_over_k":
                x_bar = jnp.einsum("d,jd,ij->id", ct[0], y, w[0])
            y_bar = jnp.einsum("kd,id,kij->jd", ct, x, w)
            w_bar = jnp.einsum("kd,id,jd->kij", ct, x, y)
            if fault == "reshaped":
                w_bar = jnp.einsum("kd,id,jd->kji", ct, x, y).reshape(w.shape)
            return x_bar, (-y_bar if fault == "y_negative" else y_bar), w_bar

        return fun(x, y, w), pullback

    return fun, fun_vjp


def _block(draw):
    return draw.normal(4, 6), draw.normal(6, 6, scale=0.4), draw.normal(6, 6, scale=0.4)


@operation(
    _block,
    no_skip=Fault("missing_term", 0, note="the skip connection's cotangent"),
    mask_after=Fault("wrong_point", (0, 1), also=("wrong_branch",), note="ReLU's mask from the block's output"),
    only_skip=Fault("missing_term", 0),
    second_weight_input=Fault("wrong_point", 2, note="the second weight is given x, not the hidden layer"),
)
def residual_block(fault):
    def fun(x, w1, w2):
        return x + jax.nn.relu(x @ w1) @ w2

    def fun_vjp(x, w1, w2):
        h = x @ w1
        a = jnp.maximum(h, 0)
        out = x + a @ w2

        def pullback(ct):
            a_bar = ct @ w2.T
            h_bar = a_bar * ((out if fault == "mask_after" else h) > 0)
            inner = h_bar @ w1.T
            x_bar = inner if fault == "no_skip" else ct if fault == "only_skip" else ct + inner
            return x_bar, x.T @ h_bar, (x if fault == "second_weight_input" else a).T @ ct

        return fun(x, w1, w2), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(4, 5), d.normal(5, 3), d.normal(3, 5, 6, scale=0.5)),
    no_gate_path=Fault("zero", 1, note="the gate is taken for a constant"),
    gate_not_softmaxed=Fault("missing_term", (0, 1), note="softmax's coupling -p (p . ct)"),
    input_without_gate=Fault("missing_term", 0),
    stale_expert=Fault("missing_reduction", 2, also=("unknown", "missing_term", "scale"),
            note="the expert's gate weight "
            "is the mean, 1/E"),
)  # fmt: skip
def mixture_of_experts(fault):
    def fun(x, gate, experts):
        p = jax.nn.softmax(x @ gate, axis=-1)
        return jnp.einsum("ne,nd,edh->nh", p, x, experts)

    def fun_vjp(x, gate, experts):
        p = jax.nn.softmax(x @ gate, axis=-1)
        each = jnp.einsum("nd,edh->neh", x, experts)

        def pullback(ct):
            p_bar = jnp.einsum("nh,neh->ne", ct, each)
            logits_bar = p * (p_bar - jnp.sum(p * p_bar, -1, keepdims=True))
            if fault == "gate_not_softmaxed":
                logits_bar = p * p_bar
            x_bar = jnp.einsum("nh,ne,edh->nd", ct, p, experts)
            if fault != "input_without_gate":
                x_bar = x_bar + logits_bar @ gate.T
            gate_bar = x.T @ logits_bar
            weights = jnp.full_like(p, 1 / p.shape[1]) if fault == "stale_expert" else p
            experts_bar = jnp.einsum("ne,nd,nh->edh", weights, x, ct)
            return x_bar, (0 * gate_bar if fault == "no_gate_path" else gate_bar), experts_bar

        return fun(x, gate, experts), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(4, 5, scale=0.5), d.normal(3, 5), d.uniform(0.5, 2, 4)),
    no_projection=Fault("missing_term", 0, note="the derivative of the norm"),
    gain_over_batch=Fault("missing_reduction", 2, note="only the first example's"),
    squared_norm=Fault("wrong_point", 0, also=("scale", "unknown"), note="divided by |v|^2 in place of |v|"),
)
def weight_norm(fault):
    """y = x (g v / |v|)^T"""

    def fun(v, x, g):
        n = jnp.sqrt(jnp.sum(v * v, -1, keepdims=True))
        return x @ (g[:, None] * v / n).T

    def fun_vjp(v, x, g):
        n = jnp.sqrt(jnp.sum(v * v, -1, keepdims=True))
        u = v / n

        def pullback(ct):
            w_bar = ct.T @ x
            g_bar = jnp.sum(w_bar * u, -1)
            if fault == "gain_over_batch":
                g_bar = ct[0] * (u @ x[0])
            u_bar = g[:, None] * w_bar
            v_bar = (u_bar - u * jnp.sum(u * u_bar, -1, keepdims=True)) / n
            if fault == "no_projection":
                v_bar = u_bar / n
            if fault == "squared_norm":
                v_bar = v_bar / n
            return v_bar, ct @ (g[:, None] * u), g_bar

        return fun(v, x, g), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(5, 5), d.normal(5), d.normal(5)),
    sigma_constant=Fault("missing_term", 0, note="as if the estimated norm did not depend on W"),
    no_division=Fault("missing_factor", (0, 1, 2), also=("scale", "missing_term", "wrong_point"),
            note="1/sigma missing in "
            "the second term"),
    outer_exchanged=Fault("missing_term", 0, also=("transpose", "unknown"),
            note="v u^T in place of u "
            "v^T in the second term alone"),
    vectors_detached=Fault("zero", (1, 2), note="power iteration's vectors without a cotangent"),
)  # fmt: skip
def spectral_scaling(fault):
    def fun(w, u, v):
        return w / (u @ w @ v)

    def fun_vjp(w, u, v):
        sigma = u @ w @ v
        out = w / sigma

        def pullback(ct):
            s_bar = -jnp.sum(ct * w) / sigma**2
            if fault == "no_division":
                s_bar = s_bar * sigma
            w_bar = ct / sigma
            if fault == "outer_exchanged":
                w_bar = w_bar + s_bar * jnp.outer(v, u)
            elif fault != "sigma_constant":
                w_bar = w_bar + s_bar * jnp.outer(u, v)
            if fault == "vectors_detached":
                return w_bar, None, None
            return w_bar, s_bar * (w @ v), s_bar * (w.T @ u)

        return out, pullback

    return fun, fun_vjp
