"""Faults that people reported of graph networks, optimal transport, splines, samplers, quantisation and transducers.

Each note says where, a repository and the number of its issue or pull request, or what is wrong.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.corpus.case import WIDE, Fault, operation

SOURCE = np.array([0, 1, 2, 0, 3, 4, 1, 0, 2, 4])
TARGET = np.array([1, 1, 1, 2, 2, 0, 3, 3, 4, 0])
NODES = 5


def _sum(x, index):
    return jnp.zeros((NODES, *x.shape[1:]), x.dtype).at[index].add(x)


@operation(
    lambda d: (d.normal(10), d.normal(NODES, 3)),
    scales=(1e-6,),
    no_group=Fault("missing_term", 0, note="the softmax's sum over the edges of a node is left out"),
    reversed_edges=Fault("not_transposed", 1, also=("transpose",), note="messages go along the edges, not back"),
    set_not_added=Fault("overwrite", 1),
    detached=Fault("zero", 0, note="pytorch_geometric 10809: the weights get no gradient"),
)  # fmt: skip
def graph_attention(fault):
    def weights(score):
        e = jnp.exp(score)
        return e / _sum(e, TARGET)[TARGET]

    def fun(score, value):
        return _sum(weights(score)[:, None] * value[SOURCE], TARGET)

    def fun_vjp(score, value):
        p = weights(score)

        def pullback(ct):
            share = p * jnp.sum(ct[TARGET] * value[SOURCE], -1)
            score_bar = share - (0 if fault == "no_group" else p * _sum(share, TARGET)[TARGET])
            if fault == "reversed_edges":
                value_bar = _sum(p[:, None] * ct[SOURCE], TARGET)
            elif fault == "set_not_added":
                value_bar = jnp.zeros_like(value).at[SOURCE].set(p[:, None] * ct[TARGET])
            else:
                value_bar = _sum(p[:, None] * ct[TARGET], SOURCE)
            return 0 * score if fault == "detached" else score_bar, value_bar

        return fun(score, value), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(10, 3),),
    not_divided=Fault("missing_factor", also=("scale",), note="the mean's cotangent is the sum's"),
    by_all=Fault("missing_factor", also=("scale", "wrong_point"), note="divided by all edges, not by the node's"),
)  # fmt: skip
def segment_mean(fault):
    count = np.maximum(np.bincount(TARGET, minlength=NODES), 1)

    def fun(x):
        return _sum(x, TARGET) / jnp.asarray(count, x.dtype)[:, None]

    def fun_vjp(x):
        n = {"not_divided": np.ones_like(count), "by_all": np.full_like(count, len(TARGET))}.get(fault, count)
        return fun(x), lambda ct: ((ct / jnp.asarray(n, x.dtype)[:, None])[TARGET],)

    return fun, fun_vjp


@operation(
    lambda d: (d.uniform(0.5, 1.5, 10), d.normal(NODES, 2)),
    degrees_constant=Fault("missing_term", 0, note="the degrees count as constants"),
    not_reversed=Fault("not_transposed", 1, also=("transpose",), note="A in place of A^T, for a directed graph"),
    unweighted=Fault("missing_factor", 1, also=("unknown",), note="the edges' weights are left out"),
)  # fmt: skip
def graph_convolution(fault):
    """y = D^-1/2 A D^-1/2 x with the degrees of the targets, plus one."""

    def roots(w):
        return lax.rsqrt(1 + _sum(w, TARGET))

    def fun(w, x):
        r = roots(w)
        return _sum((r[TARGET] * w * r[SOURCE])[:, None] * x[SOURCE], TARGET)

    def fun_vjp(w, x):
        r = roots(w)

        def pullback(ct):
            inner = jnp.sum(ct[TARGET] * x[SOURCE], -1)
            w_bar = r[TARGET] * r[SOURCE] * inner
            if fault != "degrees_constant":
                r_bar = _sum(inner * w * r[SOURCE], TARGET) + _sum(inner * w * r[TARGET], SOURCE)
                w_bar = w_bar - 0.5 * (r_bar * r**3)[TARGET]
            norm = r[TARGET] * r[SOURCE] * (1 if fault == "unweighted" else w)
            out, into = (TARGET, SOURCE) if fault == "not_reversed" else (SOURCE, TARGET)
            return w_bar, _sum(norm[:, None] * ct[into], out)

        return fun(w, x), pullback

    return fun, fun_vjp


ROUNDS = 3


@operation(
    lambda d: (d.uniform(0.2, 2, 4, 5),),
    scales=(1e-6,),
    plan_constant=Fault("missing_term", note="the plan alone, though the iteration has not converged (ott 9)"),
    last_round=Fault("missing_term", also=("unknown",), note="only the last round is differentiated"),
    by_epsilon=Fault("scale", note="not divided by the regularisation"),
)  # fmt: skip
def sinkhorn(fault):
    """<P, C> with P after some rounds of Sinkhorn's iteration."""
    epsilon = 0.5

    def kernel(cost):
        return jnp.exp(-cost / epsilon)

    def rounds(plan, count):
        for _ in range(count):
            plan = plan / jnp.sum(plan, 0)
            plan = plan / jnp.sum(plan, 1, keepdims=True)
        return plan

    def fun(cost):
        return jnp.sum(rounds(kernel(cost), ROUNDS) * cost)

    def round_back(plan, bar):
        """One round's pullback."""
        columns = jnp.sum(plan, 0)
        half = plan / columns
        rows = jnp.sum(half, 1, keepdims=True)
        out = half / rows
        bar = (bar - jnp.sum(bar * out, 1, keepdims=True)) / rows
        return (bar - jnp.sum(bar * half, 0)) / columns

    def fun_vjp(cost):
        plans = [rounds(kernel(cost), n) for n in range(ROUNDS + 1)]

        def pullback(ct):
            bar = ct * cost
            back = 1 if fault == "last_round" else ROUNDS
            for n in range(back):
                bar = round_back(plans[ROUNDS - 1 - n], bar)
            through = -bar * plans[ROUNDS - back] / epsilon
            if fault == "plan_constant":
                return (ct * plans[-1],)
            total = ct * plans[-1] + through
            return (total * epsilon if fault == "by_epsilon" else total,)

        return fun(cost), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.uniform(0.5, 2, 4, 4), d.uniform(0.5, 2, 4, 4)),
    plus=Fault("sign", 1, also=("missing_term", "unknown"), note="PythonOT 610: the divided term's sign"),
    no_division=Fault("missing_factor", 1, also=("unknown", "wrong_point"), note="M in place of M / C2"),
)  # fmt: skip
def gromov_kl(fault):
    plan = np.outer([0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]) + 0.02 * np.eye(4)

    def fun(c1, c2):
        t = jnp.asarray(plan, c1.dtype)
        return jnp.sum(c2) - jnp.sum((t.T @ c1 @ t) * jnp.log(c2))

    def fun_vjp(c1, c2):
        t = jnp.asarray(plan, c1.dtype)
        m = t.T @ c1 @ t

        def pullback(ct):
            divided = m if fault == "no_division" else m / c2
            return -ct * (t @ jnp.log(c2) @ t.T), ct * (1 + divided if fault == "plus" else 1 - divided)

        return fun(c1, c2), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(6, 4, scale=3), d.uniform(0.5, 1.5, 4)),
    scales=(1e4,),
    no_mask=Fault("wrong_branch", 0, also=("mask_missing",), note="nni 3159: what is clipped gets the cotangent too"),
    not_summed=Fault("missing_reduction", 1, note="the scale's cotangent of the first row alone"),
    saturated=Fault("missing_term", 1, also=("wrong_branch", "zero", "unknown"),
                    note="the saturated entries' part of the scale is left out: all there is"),
)  # fmt: skip
def clipped_quantiser(fault):
    """y = s clip(x / s, -2, 2), the rounding left out: its straight-through part."""

    def fun(x, s):
        return s * jnp.clip(x / s, -2, 2)

    def fun_vjp(x, s):
        inside = jnp.abs(x / s) < 2

        def pullback(ct):
            x_bar = ct if fault == "no_mask" else jnp.where(inside, ct, 0)
            part = jnp.where(inside, 0, ct * jnp.sign(x) * 2)
            s_bar = part[0] if fault == "not_summed" else jnp.sum(part, 0)
            return x_bar, 0 * s_bar if fault == "saturated" else s_bar

        return fun(x, s), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(8, 3), d.uniform(0.5, 2, 3), d.normal(3)),
    zero_unscaled=Fault("missing_factor", 2, note="the zero point's cotangent is not multiplied by the scale"),
    zero_sign=Fault("sign", 2),
    scale_of_codes=Fault("wrong_point", 1, also=("missing_term",), note="the codes in place of codes less zero"),
)  # fmt: skip
def dequantise(fault):
    def fun(codes, scale, zero):
        return (codes - zero) * scale

    def fun_vjp(codes, scale, zero):
        def pullback(ct):
            factor = 1 if fault == "zero_unscaled" else scale
            read = codes if fault == "scale_of_codes" else codes - zero
            z = jnp.sum(ct * factor, 0)
            return ct * scale, jnp.sum(ct * read, 0), z if fault == "zero_sign" else -z

        return fun(codes, scale, zero), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.uniform(0.1, 3.9, 9), d.normal(8)),
    no_spacing=Fault("scale", 0, note="the knots' distance is left out of the slope"),
    next_knots=Fault("wrong_point", 0, also=("shifted", "unknown"), note="the slope takes the next knots' weights"),
    written_over=Fault("overwrite", 1, note="control points shared by several arguments"),
    linear_slope=Fault("wrong_point", 0, also=("unknown", "missing_term"), note="the slope of the straight spline"),
)  # fmt: skip
def cubic_spline(fault):
    spacing = 0.4

    def parts(x):
        u = x / (2 * spacing)
        i = jnp.clip(jnp.floor(u).astype(jnp.int32), 0, 4)
        return i, u - i

    def basis(t):
        return jnp.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6

    def fun(x, control):
        i, t = parts(x)
        return jnp.sum(basis(t) * control[i + jnp.arange(4)[:, None]], 0)

    def fun_vjp(x, control):
        i, t = parts(x)
        places = i + jnp.arange(4)[:, None]

        def pullback(ct):
            slope = jnp.stack([-3 * (1 - t) ** 2, 9 * t**2 - 12 * t, -9 * t**2 + 6 * t + 3, 3 * t**2]) / 6
            if fault == "linear_slope":
                slope = jnp.stack([0 * t, 0 * t - 1, 0 * t + 1, 0 * t])
            read = control[places + 1 if fault == "next_knots" else places]
            x_bar = ct * jnp.sum(slope * read, 0) / (1 if fault == "no_spacing" else 2 * spacing)
            start = jnp.zeros_like(control).at[places]
            own = ct * basis(t)
            return x_bar, start.set(own) if fault == "written_over" else start.add(own)

        return fun(x, control), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(5, 6), d.uniform(-1.2, 1.2, 8), d.uniform(-0.95, 0.95, 8)),
    no_size=Fault("scale", (1, 2), note="the grid's half size is left out"),
    exchanged=Fault("swapped", (1, 2), also=("unknown",), note="x and y are exchanged"),
    border=Fault("wrong_branch", 1, also=("mask_missing",),
                 note="pytorch 23925: what is clamped to the border gets a slope"),
    corner=Fault("missing_term", 0, also=("overwrite", "unknown"), note="the last corner is left out"),
    set_not_added=Fault("overwrite", 0),
    dtypes=WIDE,
)  # fmt: skip
def grid_sample(fault):
    """Bilinear samples of an image, x clamped to its border."""
    rows, columns = 5, 6

    def where(x, y):
        u, v = (jnp.clip(x, -1, 1) + 1) / 2 * (columns - 1), (y + 1) / 2 * (rows - 1)
        i = jnp.clip(jnp.floor(v).astype(jnp.int32), 0, rows - 2)
        j = jnp.clip(jnp.floor(u).astype(jnp.int32), 0, columns - 2)
        return i, j, v - i, u - j

    def fun(image, x, y):
        i, j, s, t = where(x, y)
        top = image[i, j] * (1 - t) + image[i, j + 1] * t
        low = image[i + 1, j] * (1 - t) + image[i + 1, j + 1] * t
        return top * (1 - s) + low * s

    def fun_vjp(image, x, y):
        i, j, s, t = where(x, y)
        a, b, c, e = image[i, j], image[i, j + 1], image[i + 1, j], image[i + 1, j + 1]

        def pullback(ct):
            along_x, along_y = ((b - a) * (1 - s) + (e - c) * s), ((c - a) * (1 - t) + (e - b) * t)
            half_x, half_y = (1, 1) if fault == "no_size" else ((columns - 1) / 2, (rows - 1) / 2)
            inside = 1 if fault == "border" else (jnp.abs(x) < 1).astype(x.dtype)
            x_bar, y_bar = ct * along_x * half_x * inside, ct * along_y * half_y
            corners = [(i, j, (1 - s) * (1 - t)), (i, j + 1, (1 - s) * t), (i + 1, j, s * (1 - t))]
            corners += [] if fault == "corner" else [(i + 1, j + 1, s * t)]
            bar = jnp.zeros_like(image)
            for p, q, w in corners:
                bar = bar.at[p, q].set(ct * w) if fault == "set_not_added" else bar.at[p, q].add(ct * w)
            return (bar, y_bar, x_bar) if fault == "exchanged" else (bar, x_bar, y_bar)

        return fun(image, x, y), pullback

    return fun, fun_vjp


def _rotation(q):
    w, x, y, z = q
    return jnp.stack([
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]).reshape(3, 3)  # fmt: skip


def _rotation_back(q, c):
    w, x, y, z = q
    return jnp.stack([
        2 * (-z * c[0, 1] + y * c[0, 2] + z * c[1, 0] - x * c[1, 2] - y * c[2, 0] + x * c[2, 1]),
        2 * (y * c[0, 1] + z * c[0, 2] + y * c[1, 0] - 2 * x * c[1, 1] - w * c[1, 2] + z * c[2, 0] + w * c[2, 1]
             - 2 * x * c[2, 2]),
        2 * (-2 * y * c[0, 0] + x * c[0, 1] + w * c[0, 2] + x * c[1, 0] + z * c[1, 2] - w * c[2, 0] + z * c[2, 1]
             - 2 * y * c[2, 2]),
        2 * (-2 * z * c[0, 0] - w * c[0, 1] + x * c[0, 2] + w * c[1, 0] - 2 * z * c[1, 1] + y * c[1, 2]
             + x * c[2, 0] + y * c[2, 1]),
    ])  # fmt: skip


@operation(
    lambda d: (d.normal(4),),
    scales=(1e-2, 1e2),
    not_normalised=Fault("missing_term", note="gsplat: the unit quaternion's cotangent without the projection"),
    columns_first=Fault("transpose", also=("not_transposed",), note="the matrix is read column by column"),
    no_length=Fault("scale", also=("missing_factor",), note="1 / |q| is left out"),
)  # fmt: skip
def quaternion(fault):
    def fun(q):
        return _rotation(q / jnp.sqrt(jnp.sum(q * q)))

    def fun_vjp(q):
        length = jnp.sqrt(jnp.sum(q * q))
        u = q / length

        def pullback(ct):
            bar = _rotation_back(u, ct.T if fault == "columns_first" else ct)
            bar = bar if fault == "not_normalised" else bar - u * jnp.sum(bar * u)
            return (bar if fault == "no_length" else bar / length,)

        return fun(q), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(2, 3), d.normal(3, 3)),
    one_side=Fault("missing_term", 0, also=("overwrite",), note="the factor's second use is left out"),
    doubled=Fault("missing_term", 0, also=("unknown", "transpose"), note="twice the first use: right for symmetric ct"),
    inside_out=Fault("transpose", 1, also=("not_transposed", "wrong_point"), note="the cotangent's transpose"),
)  # fmt: skip
def projected_covariance(fault):
    def fun(t, s):
        return t @ s @ t.T

    def fun_vjp(t, s):
        def pullback(ct):
            first, second = ct @ t @ s.T, ct.T @ t @ s
            t_bar = {"one_side": first, "doubled": 2 * first}.get(fault, first + second)
            return t_bar, t.T @ (ct.T if fault == "inside_out" else ct) @ t

        return fun(t, s), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(4, 3), d.normal(4, 2)),
    last_blank=Fault("wrong_branch", 0, also=("missing_term", "unknown"),
                     note="warp-transducer 55: the last blank's own term"),
    fast_emit=Fault("scale", 1, note="the emission's cotangent is enlarged"),
    late=Fault("shifted", 1, note="the label's posterior of the step before"),
    mean_loss=Fault("scale", (0, 1), note="divided by the frames"),
)  # fmt: skip
def transducer(fault):
    """Minus the log-probability of a sequence, over all paths of blanks and labels."""
    frames, labels = 4, 2

    def fun(blank, label):
        alpha: list[list[Any]] = [[None] * (labels + 1) for _ in range(frames)]
        alpha[0][0] = jnp.zeros((), blank.dtype)
        for t in range(frames):
            for u in range(labels + 1):
                ways = []
                if t:
                    ways.append(alpha[t - 1][u] + blank[t - 1, u])
                if u:
                    ways.append(alpha[t][u - 1] + label[t, u - 1])
                if ways:
                    alpha[t][u] = ways[0] if len(ways) == 1 else jnp.logaddexp(*ways)
        return -(alpha[-1][-1] + blank[-1, -1])

    def fun_vjp(blank, label):
        of_blank, of_label = jax.grad(fun, (0, 1))(blank, label)
        if fault == "last_blank":
            of_blank = of_blank.at[-1, -1].set(0)
        if fault == "fast_emit":
            of_label = of_label * 1.25
        if fault == "late":
            of_label = jnp.roll(of_label, 1, 0)
        share = 1 / frames if fault == "mean_loss" else 1
        return fun(blank, label), lambda ct: (ct * share * of_blank, ct * share * of_label)

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(2, 6, 5), d.uniform(0.5, 1.5, 6)),
    unweighted=Fault("missing_factor", 0, note="oneDNN 3543: wrong unless the scale is one"),
    other_group=Fault("wrong_point", 1, also=("unknown",), note="tt-metal 56202: another group's mean and deviation"),
    no_mean=Fault("missing_term", 0),
    batch_first=Fault("missing_reduction", 1, note="the first example alone"),
)  # fmt: skip
def grouped_norm(fault):
    groups = 3

    def parts(x):
        g = x.reshape(2, groups, -1)
        mean = jnp.mean(g, -1, keepdims=True)
        rstd = lax.rsqrt(jnp.mean((g - mean) ** 2, -1, keepdims=True) + 1e-5)
        return g, mean, rstd

    def fun(x, w):
        g, mean, rstd = parts(x)
        return ((g - mean) * rstd).reshape(x.shape) * w[:, None]

    def fun_vjp(x, w):
        g, mean, rstd = parts(x)
        n = (g - mean) * rstd
        read = (g - jnp.roll(mean, 1, 1)) * jnp.roll(rstd, 1, 1) if fault == "other_group" else n

        def pullback(ct):
            d = (ct if fault == "unweighted" else ct * w[:, None]).reshape(g.shape)
            mean_term = 0 if fault == "no_mean" else jnp.mean(d, -1, keepdims=True)
            bar = (d - mean_term - n * jnp.mean(d * n, -1, keepdims=True)) * rstd
            each = ct * read.reshape(x.shape)
            w_bar = jnp.sum(each[0], -1) if fault == "batch_first" else jnp.sum(each, (0, 2))
            return bar.reshape(x.shape), w_bar

        return fun(x, w), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(6, 8), d.normal(6, 8)),
    after_half=Fault("wrong_point", 0, also=("unknown", "missing_factor", "transpose"),
                     note="Paddle 74716: halves exchanged before, not after, the product with the sines"),
    table=Fault("zero", 1, note="the angles get no gradient"),
    plus=Fault("sign", 1, also=("missing_term", "unknown"), note="a sign of one of the angles' two terms"),
)  # fmt: skip
def rotary_halves(fault):
    def half(x):
        a, b = jnp.split(x, 2, -1)
        return jnp.concatenate([-b, a], -1)

    def fun(x, angle):
        return x * jnp.cos(angle) + half(x) * jnp.sin(angle)

    def fun_vjp(x, angle):
        c, s = jnp.cos(angle), jnp.sin(angle)

        def pullback(ct):
            x_bar = ct * c - (half(ct) * s if fault == "after_half" else half(ct * s))
            first = -ct * x * s
            angle_bar = (-first if fault == "plus" else first) + ct * half(x) * c
            return x_bar, 0 * angle_bar if fault == "table" else angle_bar

        return fun(x, angle), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(12, 2), d.normal(3, 2)),
    overlapping=Fault("overwrite", 0, also=("missing_term",), note="cherimoya 25: taps write over each other"),
    last_row=Fault("missing_reduction", 1, also=("overwrite",), note="the last position alone"),
    not_flipped=Fault("not_transposed", 0, also=("wrong_point", "shifted"), note="taps run the same way back"),
)  # fmt: skip
def dilated_taps(fault):
    """Depthwise: y_l = w_0 x_{l-2} + w_1 x_l + w_2 x_{l+2}."""
    moves = (-2, 0, 2)

    def moved(x, step):
        """x_{l + step}, zeros beyond the ends"""
        padded = jnp.pad(x, ((2, 2), (0, 0)))
        return padded[2 + step : 2 + step + len(x)]

    def fun(x, w):
        return sum(w[m] * moved(x, step) for m, step in enumerate(moves))

    def fun_vjp(x, w):
        def pullback(ct):
            turn = 1 if fault == "not_flipped" else -1
            parts = [w[m] * moved(ct, turn * step) for m, step in enumerate(moves)]
            x_bar = parts[0] + parts[1] + parts[2]
            if fault == "overlapping":
                x_bar = jnp.concatenate([parts[2][:4], parts[1][4:]])
            each = jnp.stack([ct * moved(x, step) for step in moves])
            return x_bar, each[:, -4] if fault == "last_row" else jnp.sum(each, 1)

        return fun(x, w), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(4, 2),),
    window=Fault("missing_term", also=("overwrite", "unknown", "wrong_branch", "missing_reduction"),
                 note="FlagGems 5218: outputs beyond the window are left out"),
    halves=Fault("scale", note="the stretch divides"),
)  # fmt: skip
def stretch(fault):
    """Linear interpolation from 4 to 13 rows, ends on ends."""
    places = np.linspace(0, 3, 13)
    matrix = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(4)))

    def fun(x):
        return jnp.asarray(matrix, x.dtype) @ x

    def fun_vjp(x):
        kept = np.where(np.abs(places[:, None] - np.arange(4)) <= 0.6, matrix, 0) if fault == "window" else matrix
        return fun(x), lambda ct: ((jnp.asarray(kept, x.dtype).T @ ct) / (4 if fault == "halves" else 1),)

    return fun, fun_vjp


@operation(
    lambda d: (d.uniform(-0.4, 0.4, 7, 3), d.uniform(-0.4, 0.4, 7, 3)),
    scales=(1e-2,),
    flat=Fault("missing_term", 0, note="poincare-embedding 1: the path through 1 - |u|^2"),
    no_slope=Fault("missing_factor", (0, 1), note="1 / sqrt(g^2 - 1) is left out"),
    towards=Fault("sign", 1),
    dtypes=WIDE,
)  # fmt: skip
def hyperbolic_distance(fault):
    def parts(u, v):
        a, b = 1 - jnp.sum(u * u, -1, keepdims=True), 1 - jnp.sum(v * v, -1, keepdims=True)
        return a, b, jnp.sum((u - v) ** 2, -1, keepdims=True)

    def fun(u, v):
        a, b, d = parts(u, v)
        return jnp.arccosh(1 + 2 * d / (a * b))[:, 0]

    def fun_vjp(u, v):
        a, b, d = parts(u, v)
        g = 1 + 2 * d / (a * b)

        def pullback(ct):
            c = ct[:, None] / (1 if fault == "no_slope" else jnp.sqrt(g * g - 1))
            u_bar = c * (4 * (u - v) / (a * b) + (0 if fault == "flat" else 4 * d * u / (a * a * b)))
            v_bar = c * (4 * (v - u) / (a * b) + 4 * d * v / (a * b * b))
            return u_bar, -v_bar if fault == "towards" else v_bar

        return fun(u, v), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(5, 4), d.normal(5, 4), d.uniform(0.3, 0.9)),
    rows_only=Fault("missing_term", (0, 1), note="the other direction's loss is left out"),
    temperature=Fault("sign", 2),
    undivided=Fault("scale", (0, 1), also=("missing_factor",), note="not divided by the temperature"),
    no_positive=Fault("missing_term", (0, 1), note="the matching pairs' own term"),
)  # fmt: skip
def contrastive(fault):
    def logits(a, b, tau):
        return a @ b.T / tau

    def fun(a, b, tau):
        z = logits(a, b, tau)
        own = jnp.sum(jnp.diagonal(z))
        return jnp.sum(jax.nn.logsumexp(z, 0)) + jnp.sum(jax.nn.logsumexp(z, 1)) - 2 * own

    def fun_vjp(a, b, tau):
        z = logits(a, b, tau)

        def pullback(ct):
            eye = jnp.eye(5, dtype=z.dtype)
            z_bar = jax.nn.softmax(z, 0) + jax.nn.softmax(z, 1) - 2 * eye
            used = z_bar
            if fault == "rows_only":
                used = jax.nn.softmax(z, 1) - eye
            if fault == "no_positive":
                used = z_bar + 2 * eye
            over = 1 if fault == "undivided" else tau
            tau_bar = ct * jnp.sum(z_bar * z) / tau
            return ct * used @ b / over, ct * used.T @ a / over, tau_bar if fault == "temperature" else -tau_bar

        return fun(a, b, tau), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(7, 3), d.normal(5, 3)),
    one_way=Fault("missing_term", (0, 1), also=("unknown",), note="the other cloud's nearest points are left out"),
    written_over=Fault("overwrite", 1, note="points that are nearest to several"),
    no_two=Fault("scale", (0, 1)),
    dtypes=WIDE,
)  # fmt: skip
def chamfer(fault):
    def squares(x, y):
        return jnp.sum((x[:, None] - y[None]) ** 2, -1)

    def fun(x, y):
        d = squares(x, y)
        return jnp.sum(jnp.min(d, 1)) + jnp.sum(jnp.min(d, 0))

    def fun_vjp(x, y):
        d = squares(x, y)
        to_y, to_x = jnp.argmin(d, 1), jnp.argmin(d, 0)

        def pullback(ct):
            two = 1 if fault == "no_two" else 2
            first, second = two * ct * (x - y[to_y]), two * ct * (y - x[to_x])
            back = jnp.zeros_like(x).at[to_x].add(-second)
            start = jnp.zeros_like(y).at[to_y]
            other = start.set(-first) if fault == "written_over" else start.add(-first)
            if fault == "one_way":
                return first, second
            return first + back, second + other

        return fun(x, y), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(2, 4, 3), d.normal(2, 5, 3), d.normal(2, 5, 3), d.normal(4, 5)),
    first_of_batch=Fault("missing_reduction", 3, note="the bias is shared by the batch"),
    scaled_bias=Fault("scale", 3, note="the bias's cotangent holds the logits' scale"),
    other_axis=Fault("wrong_point", (0, 1, 3), also=("missing_term", "unknown"),
                     note="the softmax's sum is taken over the queries"),
    values_of_keys=Fault("wrong_point", (0, 1, 3), also=("unknown", "swapped"), note="the keys in place of the values"),
)  # fmt: skip
def biased_attention(fault):
    scale = 3**-0.5

    def weights(q, k, bias):
        return jax.nn.softmax(jnp.einsum("bqd,bkd->bqk", q, k) * scale + bias, -1)

    def fun(q, k, v, bias):
        return weights(q, k, bias) @ v

    def fun_vjp(q, k, v, bias):
        p = weights(q, k, bias)

        def pullback(ct):
            share = p * jnp.einsum("bqd,bkd->bqk", ct, k if fault == "values_of_keys" else v)
            axis = -2 if fault == "other_axis" else -1
            z = share - p * jnp.sum(share, axis, keepdims=True)
            bias_bar = z[0] if fault == "first_of_batch" else jnp.sum(z, 0)
            return (jnp.einsum("bqk,bkd->bqd", z, k) * scale, jnp.einsum("bqk,bqd->bkd", z, q) * scale,
                    jnp.swapaxes(p, 1, 2) @ ct, bias_bar * (scale if fault == "scaled_bias" else 1))  # fmt: skip

        return fun(q, k, v, bias), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(6, 4), d.normal(6, 4, 3)),
    scales=(1e-6,),
    constant_sum=Fault("missing_term", 0, note="the gates' sum counts as a constant"),
    all_experts=Fault("mask_missing", 1, also=("wrong_branch",), note="experts that were not chosen get a part"),
    gates_raw=Fault("wrong_point", 1, also=("missing_factor",), note="the gates before they are divided by their sum"),
)  # fmt: skip
def routed_experts(fault):
    """The two experts of the largest gates, weighted by them, the weights of sum one."""

    def parts(gate):
        e = jnp.exp(gate)
        mask = (gate >= jnp.sort(gate, -1)[:, -2:-1]).astype(gate.dtype)
        return e * mask, mask

    def fun(gate, value):
        raw, _ = parts(gate)
        return jnp.einsum("ne,ned->nd", raw / jnp.sum(raw, -1, keepdims=True), value)

    def fun_vjp(gate, value):
        raw, _ = parts(gate)
        total = jnp.sum(raw, -1, keepdims=True)
        share = raw / total

        def pullback(ct):
            each = jnp.einsum("nd,ned->ne", ct, value)
            coupling = 0 if fault == "constant_sum" else jnp.sum(each * share, -1, keepdims=True)
            used = {"gates_raw": raw, "all_experts": jnp.exp(gate) / total}.get(fault, share)
            return share * (each - coupling), used[..., None] * ct[:, None]

        return fun(gate, value), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(5, 2), d.normal(5, 2), d.normal(5, 2)),
    area_constant=Fault("missing_term", {0: "zero", 1: "missing_term", 2: "missing_term"},
                        note="the triangle's area counts as a constant"),
    clockwise=Fault("sign", (0, 1, 2), also=("unknown",), note="the edge function's corners the other way round"),
    dtypes=WIDE,
)  # fmt: skip
def edge_functions(fault):
    """e / (1 + area^2), e the first edge function at the origin."""

    def cross(a, b):
        return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]

    def fun(a, b, c):
        area = cross(b - a, c - a)
        return cross(b, c) / (1 + area**2)

    def fun_vjp(a, b, c):
        area, edge = cross(b - a, c - a), cross(b, c)
        bottom = 1 + area**2

        def turned(x):
            return jnp.stack([x[:, 1], -x[:, 0]], -1)

        def pullback(ct):
            e = (ct / bottom)[:, None]
            s = 0 if fault == "area_constant" else (-2 * ct * edge * area / bottom**2)[:, None]
            a_bar, b_bar, c_bar = (
                s * turned(b - c),
                e * turned(c) + s * turned(c - a),
                -e * turned(b) + s * turned(a - b),
            )
            sign = -1 if fault == "clockwise" else 1
            return sign * a_bar, sign * b_bar, sign * c_bar

        return edge / bottom, pullback

    return fun, fun_vjp
