"""Recurrent networks: backpropagation through time, LSTM, GRU, linear recurrences."""

import jax
import jax.numpy as jnp

from experiments.corpus.case import WIDE, Fault, operation

SMALL = ("float64", "float32", "bfloat16")


def _sequence(draw):
    return (
        draw.normal(4, 3), draw.normal(5, scale=0.5), draw.normal(3, 5, scale=0.6), draw.normal(5, 5, scale=0.4),
        draw.normal(5, scale=0.3),
    )  # fmt: skip


@operation(
    _sequence,
    dtypes=SMALL,
    truncated=Fault("missing_term", (0, 1, 2, 3, 4), note="two steps back only"),
    one_step=Fault("missing_term", (0, 1, 2, 3, 4), note="no cotangent goes from step to step"),
    weight_set=Fault("overwrite", (2, 3), note="the shared weights keep the first step's cotangent alone"),
    bias_last=Fault("overwrite", 4, also=("missing_reduction", "missing_term")),
    recurrent_from_new=Fault("wrong_point", 3, also=("shifted",),
            note="h_t in place of "
            "h_(t-1) in the weight's cotangent"),
    pre_activation=Fault("wrong_point", (0, 1, 2, 3, 4), note="1 - z^2 in place of 1 - h^2"),
    initial_detached=Fault("zero", 1),
    weight_untransposed=Fault("not_transposed", (0, 1, 2, 3, 4), also=("transpose", "wrong_point"),
            note="W in place of "
            "W^T in the backward pass"),
    inputs_late=Fault("shifted", 0, note="the inputs' cotangents are stored one step late"),
    half_state=Fault("precision", (0, 1, 2, 3, 4), dtypes=WIDE, note="states are saved in bfloat16"),
)  # fmt: skip
def rnn(fault):
    def step(h, x, w, u, b):
        z = x @ w + h @ u + b
        return jnp.tanh(z), z

    def fun(xs, h, w, u, b):
        hs = []
        for x in xs:
            h, _ = step(h, x, w, u, b)
            hs.append(h)
        return jnp.stack(hs)

    def fun_vjp(xs, h, w, u, b):
        before, after, zs = [], [], []
        for x in xs:
            before.append(h)
            h, z = step(h, x, w, u, b)
            after.append(h)
            zs.append(z)

        def pullback(ct):
            w_bar, u_bar, b_bar = jnp.zeros_like(w), jnp.zeros_like(u), jnp.zeros_like(b)
            if fault in ("truncated", "one_step"):
                return windowed(ct)
            h_bar, x_bars = jnp.zeros_like(h), []
            for t in reversed(range(len(xs))):
                y = zs[t] if fault == "pre_activation" else after[t]
                p = before[t]
                if fault == "half_state":
                    y, p = (v.astype(jnp.bfloat16).astype(v.dtype) for v in (y, p))
                z_bar = (ct[t] + h_bar) * (1 - y**2)
                x_bars.append(z_bar @ w.T)
                h_bar = z_bar @ (u if fault == "weight_untransposed" else u.T)
                if fault == "weight_set":
                    w_bar, u_bar = jnp.outer(xs[t], z_bar), jnp.outer(p, z_bar)
                else:
                    w_bar = w_bar + jnp.outer(xs[t], z_bar)
                    u_bar = u_bar + jnp.outer(after[t] if fault == "recurrent_from_new" else p, z_bar)
                b_bar = z_bar if fault == "bias_last" else b_bar + z_bar
            x_bar = jnp.stack(x_bars[::-1])
            if fault == "inputs_late":
                x_bar = jnp.concatenate([jnp.zeros_like(x_bar[:1]), x_bar[:-1]])
            return x_bar, (0 * h_bar if fault == "initial_detached" else h_bar), w_bar, u_bar, b_bar

        def windowed(ct):
            """Each output's cotangent goes back at most k steps."""
            k = 1 if fault == "one_step" else 2
            x_bar, w_bar, u_bar, b_bar = (jnp.zeros_like(v) for v in (xs, w, u, b))
            first_bar = jnp.zeros_like(h)
            for t in range(len(xs)):
                h_bar = ct[t]
                for s in range(t, max(t - k, -1), -1):
                    z_bar = h_bar * (1 - after[s] ** 2)
                    x_bar = x_bar.at[s].add(z_bar @ w.T)
                    w_bar = w_bar + jnp.outer(xs[s], z_bar)
                    u_bar = u_bar + jnp.outer(before[s], z_bar)
                    b_bar = b_bar + z_bar
                    h_bar = z_bar @ u.T
                    if s == 0:
                        first_bar = first_bar + h_bar
            return x_bar, first_bar, w_bar, u_bar, b_bar

        return jnp.stack(after), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(4), d.normal(5), d.normal(5), d.normal(9, 20, scale=0.4)),
    dtypes=SMALL,
    no_forget_path=Fault("missing_term", 2, also=("wrong_point", "unknown"),
            note="the cell's cotangent "
            "through tanh(c) alone"),
    gate_order=Fault("transpose", 3, also=("swapped", "unknown", "shifted"),
            note="input and forget gates' "
            "cotangents in the wrong order"),
    forget_with_new=Fault("wrong_point", (0, 1, 3), note="the forget gate's cotangent with c' in place of c"),
    output_ignored=Fault("missing_term", (0, 1, 3), note="the output gate's path is left out"),
    candidate_as_sigmoid=Fault("wrong_point", (0, 1, 3), note="g(1 - g) for the tanh"),
    cell_zero=Fault("zero", 2),
)  # fmt: skip
def lstm_cell(fault):
    def gates(x, h, w):
        i, f, g, o = jnp.split(jnp.concatenate([x, h]) @ w, 4)
        return jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)

    def fun(x, h, c, w):
        i, f, g, o = gates(x, h, w)
        new = f * c + i * g
        return o * jnp.tanh(new), new

    def fun_vjp(x, h, c, w):
        i, f, g, o = gates(x, h, w)
        new = f * c + i * g
        t = jnp.tanh(new)

        def pullback(ct):
            h_ct, c_ct = ct
            new_bar = c_ct + h_ct * o * (1 - t * t)
            o_bar = 0 * h_ct if fault == "output_ignored" else h_ct * t * o * (1 - o)
            f_bar = new_bar * (new if fault == "forget_with_new" else c) * f * (1 - f)
            i_bar = new_bar * g * i * (1 - i)
            g_bar = new_bar * i * (g * (1 - g) if fault == "candidate_as_sigmoid" else 1 - g * g)
            z_bar = jnp.concatenate([i_bar, f_bar, g_bar, o_bar])
            xh_bar = w @ z_bar
            if fault == "gate_order":
                z_bar = jnp.concatenate([f_bar, i_bar, g_bar, o_bar])
            c_bar = f * new_bar
            if fault == "no_forget_path":
                c_bar = f * (new_bar - c_ct)
            if fault == "cell_zero":
                c_bar = 0 * c_bar
            w_bar = jnp.outer(jnp.concatenate([x, h]), z_bar)
            return xh_bar[: len(x)], xh_bar[len(x) :], c_bar, w_bar

        return fun(x, h, c, w), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(4), d.normal(4), d.normal(4, 4, scale=0.5), d.normal(4, 4, scale=0.5)),
    dtypes=SMALL,
    no_carry=Fault("missing_term", 1, note="(1 - z) h: the direct path is left out"),
    no_gate_path=Fault("missing_term", 1, note="the path through the update gate"),
    roles_exchanged=Fault(
        "sign", (3,), also=("wrong_branch", "missing_term"), note="z and 1 - z: h - n in place of n - h"
    ),
    weights_exchanged=Fault("swapped", (2, 3)),
)
def gru_like_cell(fault):
    """h' = (1 - z) h + z n,  z = sigmoid(V h),  n = tanh(W x)."""

    def parts(x, h, w, v):
        return jax.nn.sigmoid(v @ h), jnp.tanh(w @ x)

    def fun(x, h, w, v):
        z, n = parts(x, h, w, v)
        return (1 - z) * h + z * n

    def fun_vjp(x, h, w, v):
        z, n = parts(x, h, w, v)

        def pullback(ct):
            n_bar = ct * z * (1 - n * n)
            z_bar = ct * (n - h) * z * (1 - z)
            h_bar = v.T @ z_bar
            if fault != "no_carry":
                h_bar = (ct * (1 - z)) + (0 if fault == "no_gate_path" else h_bar)
            w_bar, v_bar = jnp.outer(n_bar, x), jnp.outer(z_bar, h)
            if fault == "roles_exchanged":
                v_bar = -v_bar
            if fault == "weights_exchanged":
                w_bar, v_bar = v_bar, w_bar
            return w.T @ n_bar, h_bar, w_bar, v_bar

        return fun(x, h, w, v), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.uniform(0.3, 0.95, 6), d.normal(6), d.normal(1)),
    decay_of_next=Fault(
        "shifted", (0, 1, 2), also=("wrong_point", "unknown"), note="a_t in place of a_(t+1) in the backward pass"
    ),
    states_late=Fault("wrong_point", 0, also=("shifted", "unknown"), note="h_t in place of h_(t-1)"),
    one_step=Fault("missing_term", (0, 1, 2)),
    initial_zero=Fault("zero", 2),
)
def linear_recurrence(fault):
    """h_t = a_t h_(t-1) + x_t"""

    def states(a, x, h):
        found = []
        for t in range(len(a)):
            h = a[t] * h + x[t : t + 1]
            found.append(h)
        return jnp.concatenate(found)

    def fun(a, x, h):
        return states(a, x, h)

    def fun_vjp(a, x, h):
        hs = states(a, x, h)
        before = jnp.concatenate([h, hs[:-1]])

        def pullback(ct):
            bars, carry = [], jnp.zeros((), ct.dtype)
            for t in reversed(range(len(a))):
                if fault == "one_step":
                    carry = 0 * carry
                total = ct[t] + carry
                bars.append(total)
                following = max(t - 1, 0) if fault == "decay_of_next" else t
                carry = a[following] * total
            if fault == "one_step":
                carry = a[0] * ct[0]
            x_bar = jnp.stack(bars[::-1])
            a_bar = x_bar * (hs if fault == "states_late" else before)
            last = 0 * carry if fault == "initial_zero" else carry
            return a_bar, x_bar, last[None]

        return hs, pullback

    return fun, fun_vjp
