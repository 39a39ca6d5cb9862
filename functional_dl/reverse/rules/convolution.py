"""Convolutions, with strides, padding, dilations of both operands, feature and batch groups, any layout.

In one dimension, with stride s, padding (low, high), x dilated to entries b apart and the kernel to entries t apart:

    y_{n o p} = sum_{c k} z_{n c, p s + k t} w_{o c k},      z_{n c, i b + low} = x_{n c i}, and 0 elsewhere,

for batch n, channels c and o, places p, i, k.  (The window is not flipped: a correlation.)
"""

from typing import Any

from jax import lax
from jax.extend.core.primitives import conv_general_dilated_p

from functional_dl.aliases import Array
from functional_dl.reverse.latex import Terms
from functional_dl.reverse.rule import COMPLEX, FLOATS, Probe, vjp_rule
from functional_dl.reverse.rules.algebra import zeros_like
from functional_dl.reverse.values import of_dtype

ALL = FLOATS + COMPLEX


def _probe(x_shape, w_shape, strides=None, padding: Any = "VALID", *, dtypes=FLOATS, **options):
    strides = strides or (1,) * (len(x_shape) - 2)

    def program(x, w):
        return lax.conv_general_dilated(x, w, strides, padding, **options)

    return Probe(program, shapes=(x_shape, w_shape), dtypes=dtypes)


def _wide_sum(x, w):
    wider = "float64" if x.dtype == "float64" else "float32"
    return lax.conv_general_dilated(x, w, (1,), "SAME", preferred_element_type=wider)


def split_axis(x: Array, axis: Any, groups: Any) -> Any:
    """Axis of length g m as two axes (g, m)."""
    return lax.reshape(x, (*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :]))


def move_group(x: Array, source: Any, target: Any, groups: Any) -> Any:
    """The groups g of axis `source`, of length g m, become the slow part of axis `target`: lengths m and g n."""
    apart = split_axis(x, source, groups)
    axis = target if target < source else target + 1  # of the target, now that there is one axis more
    order = [i for i in range(apart.ndim) if i != source]
    order.insert(order.index(axis), source)
    shape = [
        x.shape[i] // groups if i == source else x.shape[i] * (groups if i == target else 1) for i in range(x.ndim)
    ]
    return lax.reshape(lax.transpose(apart, order), shape)


def _apart(n, step):
    """From the first to the last of n entries `step` apart."""
    return (n - 1) * step


def _stride(terms: Terms) -> str:
    strides = terms.params.get("window_strides", ())
    return f"_{{\\downarrow {strides[0]}}}" if any(s != 1 for s in strides) else ""


@vjp_rule(
    conv_general_dilated_p,
    _probe((2, 3, 5), (4, 3, 2), dtypes=ALL),
    _probe((1, 2, 6), (3, 2, 3), (2,), "SAME"),
    _probe((1, 2, 4, 5), (2, 2, 2, 3), (2, 1), [(1, 0), (2, 1)]),
    _probe((1, 2, 6), (2, 2, 3), (2,), [(-1, 2)]),
    _probe((1, 1, 6), (1, 1, 2), (1,), [(3, -2)], lhs_dilation=(2,)),
    _probe((1, 2, 7), (2, 2, 3), (2,), [(2, 1)], lhs_dilation=(2,), rhs_dilation=(3,)),
    _probe((2, 4, 5), (6, 2, 2), feature_group_count=2, dtypes=ALL),
    _probe((1, 3, 4, 4), (6, 1, 2, 2), (2, 1), "SAME", feature_group_count=3, rhs_dilation=(1, 2)),
    _probe((4, 3, 5), (6, 3, 2), batch_group_count=2, dtypes=ALL),
    _probe((4, 1, 5), (4, 1, 2), (2,), "SAME", batch_group_count=4),
    _probe((2, 4, 4, 3), (2, 3, 3, 2), (1, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")),
    _probe((5, 2, 4), (2, 6, 2), feature_group_count=2, dimension_numbers=("HNC", "IOH", "CNH")),
    _probe((4, 5, 3), (3, 2, 4), (2,), [(1, 2)], batch_group_count=2, dimension_numbers=("NHC", "IHO", "HCN")),
    _probe((1, 1, 3, 3, 3), (2, 1, 2, 2, 2), (1, 2, 1), "SAME"),
    _probe((2, 3), (4, 3)),
    _probe((1, 2, 2), (1, 2, 3)),  # no window fits: an empty output
    _probe((1, 2, 0), (1, 2, 2), (1,), [(1, 2)]),
    _probe((0, 2, 3), (2, 2, 2)),
    _probe((1, 0, 3), (2, 0, 2)),
    Probe(_wide_sum, shapes=((1, 2, 4), (2, 2, 3))),
    reads=("w", "x"),
    latex=(
        lambda t: f"<0> \\star{_stride(t)} <1>",
        lambda t: "<c> \\ast <1>" + (r"\quad(\text{with } <c> \text{ dilated by the stride})" if _stride(t) else ""),
        r"<0> \star <c>",
    ),
)
def conv_general_dilated_vjp(
    ct,
    out,
    x,
    w,
    *,
    window_strides,
    padding,
    lhs_dilation,
    rhs_dilation,
    dimension_numbers,
    feature_group_count,
    batch_group_count,
    precision,
    preferred_element_type,
    **_,
):
    """With y, z and w as at the head of the file:

    x_bar_{n c i} = sum_{o k p} y_bar_{n o p} w_{o c k} over p s + k t = i b + low: a convolution of y_bar with the
    kernel reversed and its channels exchanged, with the stride b, y_bar dilated by s, the kernel by t;
    w_bar_{o c k} = sum_{n p} z_{n c, p s + k t} y_bar_{n o p}: a convolution of x with y_bar as its kernel, n and c
    exchanged, with the stride t and y_bar dilated by s.

    Groups of channels (g: o = (g, o'), c = (g, c')) stay groups of channels for x_bar and become groups of the batch
    for w_bar; groups of the batch (n = (g, n'), o = (g, o')) become groups of channels for both.
    """
    x_spec, w_spec, y_spec = dimension_numbers
    groups = max(feature_group_count, batch_group_count)
    n, k, m = ([v.shape[i] for i in spec[2:]] for v, spec in ((x, x_spec), (w, w_spec), (ct, y_spec)))
    reach = [(length - 1) * t for length, t in zip(k, rhs_dilation)]
    before = [low for low, _ in padding]
    empty = 0 in (*x.shape, *w.shape, *ct.shape)

    def convolve(left, right, strides, widths, left_dilation, right_dilation, spec, features, batches, like):
        bar = lax.conv_general_dilated(
            left,
            right,
            strides,
            widths,
            lhs_dilation=left_dilation,
            rhs_dilation=right_dilation,
            dimension_numbers=lax.ConvDimensionNumbers(*spec),
            feature_group_count=features,
            batch_group_count=batches,
            precision=precision,
            preferred_element_type=preferred_element_type,
        )
        return of_dtype(bar, like.dtype)

    def wide(v):
        return v if v.dtype == ct.dtype else lax.convert_element_type(v, ct.dtype)

    def exchanged(spec):
        return (spec[1], spec[0], *spec[2:])

    def x_bar():
        if empty:
            return zeros_like(x)
        kernel = lax.rev(wide(w), w_spec[2:])
        if groups > 1:
            kernel = move_group(kernel, w_spec[0], w_spec[1], groups)
        lows = [r - low for r, low in zip(reach, before)]
        wholes = [_apart(length, b) + r for length, b, r in zip(n, lhs_dilation, reach)]
        widths = [(low, all_ - low - _apart(p, s)) for low, all_, p, s in zip(lows, wholes, m, window_strides)]
        spec = (y_spec, exchanged(w_spec), x_spec)
        bar = convolve(ct, kernel, lhs_dilation, widths, window_strides, rhs_dilation, spec, groups, 1, x)
        return move_group(bar, x_spec[1], x_spec[0], groups) if batch_group_count > 1 else bar

    def w_bar():
        if empty:
            return zeros_like(w)
        wholes = [r + _apart(p, s) for r, p, s in zip(reach, m, window_strides)]
        widths = [(low, all_ - low - _apart(i, b)) for low, all_, i, b in zip(before, wholes, n, lhs_dilation)]
        spec = (exchanged(x_spec), exchanged(y_spec), exchanged(w_spec))
        features, batches = batch_group_count, feature_group_count
        return convolve(wide(x), ct, rhs_dilation, widths, lhs_dilation, window_strides, spec, features, batches, w)

    return x_bar, w_bar
