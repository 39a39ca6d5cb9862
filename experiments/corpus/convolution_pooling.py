"""Convolutions, pooling, upsampling, interpolation."""

import jax
import jax.numpy as jnp
from jax import lax

from experiments.corpus.case import FLOATS, WIDE, Fault, operation

SMALL = ("float64", "float32", "bfloat16")


def _image(draw):
    return draw.normal(2, 6, 6, 2), draw.normal(3, 3, 2, 3, scale=0.5), draw.normal(3)


def _patches(x, size, stride, pad):
    """All windows: (n, i, j, a, b, c)."""
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    count = (x.shape[1] - size) // stride + 1
    rows = [
        jnp.stack([x[:, stride * i : stride * i + size, stride * j : stride * j + size] for j in range(count)], 1)
        for i in range(count)
    ]
    return jnp.stack(rows, 1)


def _unpatch(p, shape, stride, pad, write=False):
    """The transpose of `_patches`; with write=True windows are set, not added."""
    n, rows, columns, size, _, c = p.shape
    x = jnp.zeros((n, shape[1] + 2 * pad, shape[2] + 2 * pad, c), p.dtype)
    for i in range(rows):
        for j in range(columns):
            at = x.at[:, stride * i : stride * i + size, stride * j : stride * j + size]
            x = at.set(p[:, i, j]) if write else at.add(p[:, i, j])
    return x[:, pad : pad + shape[1], pad : pad + shape[2]]


@operation(
    _image,
    dtypes=SMALL,
    kernel_unflipped=Fault("wrong_point", 0, also=("transpose", "unknown"),
            note="the input's cotangent by a "
            "convolution with the kernel not "
                           "flipped"),
    kernel_axes=Fault("transpose", 1, note="height and width of the kernel"),
    padding=Fault("shifted", 0, note="the padding is off by one"),
    bias_no_batch=Fault("missing_reduction", 2, note="only the first image's"),
    bias_mean=Fault("missing_reduction", 2, also=("scale",)),
    windows_set=Fault("overwrite", 0, note="overlapping windows are set, not added"),
    weight_mean=Fault("scale", 1),
    weight_shifted=Fault("shifted", 1, also=("wrong_point",), note="the input is padded on one side only"),
    weight_first_image=Fault("missing_reduction", 1),
)  # fmt: skip
def convolution(fault):
    def fun(x, w, b):
        y = lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y + b

    def fun_vjp(x, w, b):
        windows = _patches(x, 3, 1, 1)

        def pullback(ct):
            kernel = w[::-1, ::-1] if fault == "kernel_unflipped" else w
            p_bar = jnp.einsum("nijk,abck->nijabc", ct, kernel)
            x_bar = _unpatch(p_bar, x.shape, 1, 1, fault == "windows_set")
            if fault == "padding":
                x_bar = jnp.pad(x_bar, ((0, 0), (1, 0), (1, 0), (0, 0)))[:, :-1, :-1]
            source = windows
            if fault == "weight_shifted":
                source = _patches(jnp.pad(x, ((0, 0), (2, 0), (2, 0), (0, 0))), 3, 1, 0)
            w_bar = jnp.einsum("nijabc,nijk->abck", source, ct)
            if fault == "kernel_axes":
                w_bar = w_bar.transpose(1, 0, 2, 3)
            if fault == "weight_mean":
                w_bar = w_bar / len(x)
            if fault == "weight_first_image":
                w_bar = jnp.einsum("ijabc,ijk->abck", windows[0], ct[0])
            b_bar = ct.sum((0, 1, 2))
            if fault == "bias_no_batch":
                b_bar = ct[0].sum((0, 1))
            if fault == "bias_mean":
                b_bar = ct.mean((0, 1, 2))
            return x_bar, w_bar, b_bar

        return fun(x, w, b), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(2, 7, 7, 2), d.normal(3, 3, 2, 2, scale=0.5)),
    dtypes=SMALL,
    windows_set=Fault("overwrite", 0),
    channels_exchanged=Fault("transpose", 1, note="input and output channels of the kernel"),
    negative=Fault("sign", 0),
    stride_offset=Fault("shifted", 0),
    list_returned=Fault("dtype", 1, dtypes=WIDE, note="a float16 accumulator is returned"),
)
def strided_convolution(fault):
    def fun(x, w):
        return lax.conv_general_dilated(x, w, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def fun_vjp(x, w):
        windows = _patches(x, 3, 2, 0)

        def pullback(ct):
            x_bar = _unpatch(jnp.einsum("nijk,abck->nijabc", ct, w), x.shape, 2, 0, fault == "windows_set")
            if fault == "stride_offset":
                x_bar = jnp.pad(x_bar, ((0, 0), (0, 1), (0, 0), (0, 0)))[:, 1:]
            w_bar = jnp.einsum("nijabc,nijk->abck", windows, ct)
            if fault == "channels_exchanged":
                w_bar = w_bar.swapaxes(2, 3)
            if fault == "list_returned":
                w_bar = w_bar.astype(jnp.float16)
            return (-x_bar if fault == "negative" else x_bar), w_bar

        return fun(x, w), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(3, 9), d.normal(3)),
    not_reversed=Fault("not_transposed", 0, also=("transpose", "wrong_point"),
            note="the causal filter is applied "
            "forwards, not backwards in time"),
    off_by_one=Fault("shifted", 0),
    one_row=Fault("missing_reduction", 1),
    filter_negative=Fault("sign", 1),
)  # fmt: skip
def causal_filter(fault):
    def fun(x, w):
        padded = jnp.pad(x, ((0, 0), (len(w) - 1, 0)))
        return sum(w[i] * padded[:, i : i + x.shape[1]] for i in range(len(w)))

    def fun_vjp(x, w):
        padded = jnp.pad(x, ((0, 0), (len(w) - 1, 0)))

        def pullback(ct):
            extra = jnp.pad(ct, ((0, 0), (0, len(w) - 1)))
            x_bar = sum(w[len(w) - 1 - i] * extra[:, i : i + x.shape[1]] for i in range(len(w)))
            if fault == "not_reversed":
                x_bar = fun(ct, w)
            if fault == "off_by_one":
                x_bar = jnp.roll(x_bar, 1, 1)
            rows = slice(0, 1) if fault == "one_row" else slice(None)
            w_bar = jnp.stack([jnp.sum((ct * padded[:, i : i + x.shape[1]])[rows]) for i in range(len(w))])
            return x_bar, (-w_bar if fault == "filter_negative" else w_bar)

        return fun(x, w), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(2, 6, 6, 2),),
    not_divided=Fault("scale", note="1/4, the window's area"),
    corner_only=Fault("missing_reduction", also=("overwrite", "wrong_branch", "unknown", "missing_term"),
            note="each window's cotangent goes to one "
            "corner; it is the broadcast "
                      "back that is missing"),
    shifted=Fault("shifted"),
    transposed=Fault("transpose"),
    flat=Fault("structure"),
)  # fmt: skip
def average_pool(fault):
    def fun(x):
        n, h, w, c = x.shape
        return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))

    def fun_vjp(x):
        def pullback(ct):
            up = jnp.repeat(jnp.repeat(ct, 2, 1), 2, 2) / (1 if fault == "not_divided" else 4)
            if fault == "corner_only":
                up = jnp.zeros_like(x).at[:, ::2, ::2].set(ct / 4)
            if fault == "shifted":
                up = jnp.roll(up, 1, 1)
            if fault == "transposed":
                up = up.swapaxes(1, 2)
            return (up.reshape(len(x), -1) if fault == "flat" else up,)

        return fun(x), pullback

    return fun, fun_vjp


def _levels(draw):
    return (draw.pick([0.0, 1.0, 2.0], 2, 6, 6, 2),)


@operation(
    lambda d: (d.normal(2, 6, 6, 2),),
    variants={"ties": _levels},
    all_at_ties=Fault("kink", primals=_levels, note="each of the tied entries gets the whole cotangent"),
    minimum=Fault("wrong_branch", note="the mask selects the smallest entry"),
    spread=Fault("wrong_branch", also=("scale", "unknown"), note="as average pooling: a quarter to each"),
    everywhere=Fault("wrong_branch", note="no mask"),
)
def max_pool(fault):
    def windows(x):
        n, h, w, c = x.shape
        return x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4).reshape(n, h // 2, w // 2, c, 4)

    def back(y, shape):
        n, h, w, c = shape
        return y.reshape(n, h // 2, w // 2, c, 2, 2).transpose(0, 1, 4, 2, 5, 3).reshape(shape)

    def fun(x):
        return windows(x).max(-1)

    def fun_vjp(x):
        y = windows(x)

        def pullback(ct):
            place = y.argmin(-1) if fault == "minimum" else y.argmax(-1)
            mask = jax.nn.one_hot(place, 4, dtype=x.dtype)
            if fault == "all_at_ties":
                mask = (y == y.max(-1, keepdims=True)).astype(x.dtype)
            if fault == "spread":
                mask = jnp.full_like(mask, 0.25)
            if fault == "everywhere":
                mask = jnp.ones_like(mask)
            return (back(ct[..., None] * mask, x.shape),)

        return fun(x), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(2, 8, 3),),
    windows_set=Fault("overwrite", note="an entry that is the largest of two windows gets one's cotangent"),
    padded=Fault("shifted", note="the window's start is off by one"),
    first=Fault("wrong_branch", note="the first entry of each window"),
)
def overlapping_max_pool(fault):
    def stacked(x):
        return jnp.stack([x[:, i : i + 6] for i in range(3)], -1)

    def fun(x):
        return stacked(x).max(-1)

    def fun_vjp(x):
        place = stacked(x).argmax(-1)

        def pullback(ct):
            where = jnp.zeros_like(place) if fault == "first" else place
            rows = jnp.arange(6)[None, :, None] + where
            if fault == "padded":
                rows = jnp.clip(rows + 1, 0, 7)
            b, c = jnp.arange(2)[:, None, None], jnp.arange(3)[None, None]
            at = jnp.zeros_like(x).at[b, rows, c]
            return (at.set(ct) if fault == "windows_set" else at.add(ct),)

        return fun(x), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(2, 3, 4, 2),),
    one_of_four=Fault("missing_reduction", also=("overwrite",), note="the copies' cotangents are not summed"),
    averaged=Fault("missing_reduction", also=("scale",)),
    set_not_added=Fault("overwrite", also=("missing_reduction",)),
)
def upsample(fault):
    def fun(x):
        return jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)

    def fun_vjp(x):
        def pullback(ct):
            n, h, w, c = x.shape
            parts = ct.reshape(n, h, 2, w, 2, c)
            bar = parts.sum((2, 4))
            if fault == "one_of_four":
                bar = parts[:, :, 0, :, 0]
            if fault == "averaged":
                bar = parts.mean((2, 4))
            if fault == "set_not_added":
                bar = jnp.zeros_like(x)
                for i in range(2):
                    for j in range(2):
                        bar = bar.at[:].set(parts[:, :, i, :, j])
            return (bar,)

        return fun(x), pullback

    return fun, fun_vjp


@operation(
    lambda d: (d.normal(6, 3), d.uniform(0.2, 4.8, 10)),
    dtypes=FLOATS[:2],
    corners_exchanged=Fault(
        "swapped", 0, also=("wrong_point", "shifted", "wrong_branch", "unknown"), note="t and 1 - t"
    ),
    set_not_added=Fault("overwrite", 0),
    no_position=Fault("zero", 1, note="positions are taken for constants"),
    position_negative=Fault("sign", 1),
    one_corner=Fault("missing_term", 0, note="the upper corner's part is left out"),
    off_by_one=Fault("shifted", 0, note="the corners' index is one too large"),
)
def interpolation(fault):
    def fun(table, at):
        low = jnp.clip(jnp.floor(at).astype(jnp.int32), 0, len(table) - 2)
        t = (at - low)[:, None]
        return (1 - t) * table[low] + t * table[low + 1]

    def fun_vjp(table, at):
        low = jnp.clip(jnp.floor(at).astype(jnp.int32), 0, len(table) - 2)
        t = (at - low)[:, None]

        def pullback(ct):
            left, right = (t, 1 - t) if fault == "corners_exchanged" else (1 - t, t)
            bar = jnp.zeros_like(table)
            index = low + 1 if fault == "off_by_one" else low
            if fault == "set_not_added":
                bar = bar.at[index].set(left * ct).at[index + 1].set(right * ct)
            else:
                bar = bar.at[index].add(left * ct)
                if fault != "one_corner":
                    bar = bar.at[index + 1].add(right * ct, mode="drop")
            at_bar = jnp.sum(ct * (table[low + 1] - table[low]), -1)
            if fault == "no_position":
                at_bar = 0 * at_bar
            return bar, (-at_bar if fault == "position_negative" else at_bar)

        return fun(table, at), pullback

    return fun, fun_vjp
