"""The instructions of the fuzzer's programs: what each does, what it applies to, and how large its results may be.

Every operation is defined and smooth for operands of any value, with probability one: it brings them into its domain
itself (log(1 + x^2), a division by 1 + y^2, a matrix near a multiple of the identity).
"""

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from functional_dl import reverse
from tests.fuzz import foreign

FLOATS = ("float64", "float32", "bfloat16")
WIDE = ("float64", "float32")
SHAPES = ((), (3,), (4,), (2, 3), (3, 3), (3, 4), (2, 3, 3))
MOST = 20.0  # results that may be larger than this are squashed


@dataclass(frozen=True)
class Operation:
    """An instruction.

    Fields:
      family: what it counts as.
      fun: `fun(*bodies, *operands, **params)` -> an array or a tuple of arrays.
      takes: for each operand, a test of its type given those before it.
      choices: the params to choose from, given the operands' types; none of them where it does not apply.
      bound: the size of the results, given the operands' sizes and types.
      smooth: differences of fun tend to its derivative.
      forward: JAX's forward mode can differentiate fun.
      has_twin: fun takes `twin`: whether to use the form that JAX's reverse mode differentiates.
      weight: how often it is drawn.
    """

    family: str
    fun: Callable
    takes: tuple[Callable[..., bool], ...] = ()
    choices: Callable[..., list[dict]] = lambda *types: [{}]
    bound: Callable[..., float] = lambda sizes, types: max(sizes)
    smooth: bool = True
    forward: bool = True
    has_twin: bool = False
    weight: float = 1.0


OPERATIONS: dict[str, Operation] = {}


def define(name, family, fun, takes=(), bound=None, choices=None, **options):
    if isinstance(bound, (int, float)):
        options["bound"] = lambda sizes, types: float(bound)
    elif bound is not None:
        options["bound"] = bound
    if choices is not None:
        options["choices"] = choices
    OPERATIONS[name] = Operation(family, fun, takes if isinstance(takes, tuple) else (takes,), **options)


def a_real(*types):
    return types[-1].dtype in FLOATS


def wide(*types):
    return types[-1].dtype in WIDE


def a_complex(*types):
    return types[-1].dtype == "complex128"


def inexact(*types):
    return a_real(*types) or a_complex(*types)


def an_integer(*types):
    return types[-1].dtype == "int32"


def same(*types):
    return types[-1] == types[0]


def same_dtype(*types):
    return types[-1].dtype == types[0].dtype


def ranked(kind, least=1, most=3):
    return lambda *types: kind(*types) and least <= len(types[-1].shape) <= most


def square_matrix(*types):
    return wide(*types) and types[-1].shape == (3, 3)


def product_of(sizes, types):
    return math.prod(sizes)


def sum_of(sizes, types):
    return sum(sizes)


def entries(kind):
    return math.prod(kind.shape)


# --- entry by entry -----------------------------------------------------------------------------------------------

for name, fun, bound in [
    ("sin", lax.sin, 1),
    ("cos", lax.cos, 1),
    ("tanh", lax.tanh, 1),
    ("logistic", lax.logistic, 1),
    ("erf", lax.erf, 1),
    ("atan", lax.atan, 1.6),
    ("asinh", lax.asinh, 4),
    ("erfc", lax.erfc, 2),
    ("neg", lax.neg, None),
    ("exp_sin", lambda x: lax.exp(lax.sin(x)), 3),
    ("exp2_cos", lambda x: lax.exp2(lax.cos(x)), 2),
    ("expm1_tanh", lambda x: lax.expm1(lax.tanh(x)), 2),
    ("log1p_square", lambda x: lax.log1p(lax.square(x)), 6),
    ("log_square", lambda x: lax.log(0.5 + x * x), 6),
    ("sqrt_square", lambda x: lax.sqrt(1.0 + x * x), None),
    ("rsqrt_square", lambda x: lax.rsqrt(1.0 + x * x), 1),
    ("cbrt_square", lambda x: lax.cbrt(1.0 + x * x), 8),
    ("tan_sin", lambda x: lax.tan(lax.sin(x)), 2),
    ("asin_tanh", lambda x: lax.asin(0.9 * lax.tanh(x)), 2),
    ("acos_tanh", lambda x: lax.acos(0.9 * lax.tanh(x)), 3),
    ("atanh_sin", lambda x: lax.atanh(0.8 * lax.sin(x)), 2),
    ("acosh_square", lambda x: lax.acosh(1.5 + x * x), 8),
    ("sinh_sin", lambda x: lax.sinh(lax.sin(x)), 2),
    ("cosh_sin", lambda x: lax.cosh(lax.sin(x)), 2),
    ("abs", lax.abs, None),
    ("softplus", jax.nn.softplus, None),
    ("relu", jax.nn.relu, None),
    ("gelu", jax.nn.gelu, None),
    ("silu", jax.nn.silu, None),
    ("elu", jax.nn.elu, None),
    ("sinc", lambda x: jnp.sinc(x), 1),
    ("clamp", lambda x: lax.clamp(x.dtype.type(-1), x, x.dtype.type(1.5)), 1.5),
    ("cube_of_sine", lambda x: lax.integer_pow(lax.sin(x), 3), 1),
    ("plus_one", lambda x: x + 1.0, lambda s, t: s[0] + 1),
    ("half", lambda x: 0.5 * x, lambda s, t: s[0] / 2),
    ("over_square", lambda x: x / (1.0 + x * x), 1),
    ("copysign", lambda x: jnp.copysign(x, 1.0 - x), None),
]:
    define(name, "elementwise", fun, a_real, bound)

for name, fun, bound in [
    ("lgamma", lambda x: lax.lgamma(2.5 + x * x), 800),
    ("digamma", lambda x: lax.digamma(1.0 + x * x), 8),
    ("erf_inv", lambda x: lax.erf_inv(0.9 * lax.sin(x)), 2),
    ("i0e", lax.bessel_i0e, 1),
    ("i1e", lax.bessel_i1e, 1),
]:
    define(name, "special", fun, wide, bound, weight=0.5)

for name, fun, bound in [
    ("add", lax.add, sum_of),
    ("sub", lax.sub, sum_of),
    ("mul", lax.mul, product_of),
    ("div", lambda x, y: lax.div(x, 1.0 + y * y), lambda s, t: s[0]),
    ("atan2", lambda x, y: lax.atan2(x, 1.0 + y * y), 2),
    ("pow", lambda x, y: lax.pow(0.5 + lax.logistic(x), lax.sin(y)), 2),
    ("max", lax.max, None),
    ("min", lax.min, None),
    ("logaddexp", jnp.logaddexp, sum_of),
    ("hypot", lambda x, y: jnp.hypot(x, 1.0 + y * y), lambda s, t: 1 + s[0] + s[1] ** 2),
    ("where", lambda x, y: jnp.where(x > y, lax.sin(x), x * 0.5 + y), sum_of),
    ("rem", lambda x, y: lax.rem(x, 1.5 + y * y), lambda s, t: s[0]),
    ("select_n", lambda x, y: lax.select_n((x < 0.3).astype("int32") + (y < 0.1).astype("int32"), x, y, x - y), sum_of),
]:
    define(name, "binary", fun, (a_real, same), bound)
define(
    "broadcast_mul",
    "binary",
    lambda x, y: lax.mul(x, y),
    (ranked(inexact, 0), lambda x, y: y.shape == () and same_dtype(x, y)),
    product_of,
)


def without_an_axis(x, y):
    return same_dtype(x, y) and any(y.shape == x.shape[:i] + x.shape[i + 1 :] for i in range(len(x.shape)))


def repeated(x, y):
    """The axes along which y may be repeated to have the shape of x."""
    return [{"axis": i} for i in range(len(x.shape)) if y.shape == x.shape[:i] + x.shape[i + 1 :]]


def beside(x, y, axis):
    """y with an axis of length 1, repeated as often as x is long there."""
    return jnp.broadcast_to(lax.expand_dims(y, (axis,)), x.shape)


for name, fun, kind, bound in [
    ("times_rows", lambda x, y, axis: x * beside(x, y, axis), inexact, product_of),
    ("over_rows", lambda x, y, axis: x / beside(x, 1.0 + y * y, axis), a_real, lambda s, t: s[0]),
    ("rows_over", lambda x, y, axis: beside(x, y, axis) / (1.0 + x * x), a_real, lambda s, t: s[1]),
    ("minus_rows", lambda x, y, axis: x - beside(x, y, axis), inexact, sum_of),
]:
    define(name, "binary", fun, (ranked(kind), without_an_axis), bound, repeated, weight=1.5)
define("triple", "binary", lambda x, y, z: x * y + z, (inexact, same, same), lambda s, t: s[0] * s[1] + s[2])

# --- types --------------------------------------------------------------------------------------------------------

for name, dtype, weight in [
    ("to_float64", "float64", 1.0),
    ("to_float32", "float32", 1.0),
    ("to_bfloat16", "bfloat16", 0.2),
]:
    define(
        name,
        "casts",
        functools.partial(lax.convert_element_type, new_dtype=dtype),
        (lambda x, d=dtype: a_real(x) and x.dtype != d,),
        weight=weight,
        smooth=False,
    )
define("to_integer", "integers", lambda x: jnp.floor(3.0 * x).astype("int32"), a_real, lambda s, t: 3 * s[0] + 1)
define("integer_sum", "integers", lambda i, j: i + j, (an_integer, same), sum_of)
define("integer_mod", "integers", lambda i: jnp.mod(i, 3), an_integer, 3)
define(
    "integer_scale",
    "integers",
    lambda x, i: x * (1 + jnp.mod(i, 3)).astype(x.dtype),
    (a_real, lambda x, i: an_integer(i) and i.shape == x.shape),
    lambda s, t: 3 * s[0],
    weight=2,
)
define(
    "argmax_scale",
    "integers",
    lambda x: x * (1.0 + jnp.argmax(x).astype(x.dtype)),
    ranked(a_real),
    lambda s, t: 18 * s[0],
)
define(
    "stop_gradient",
    "piecewise",
    lambda x: x * lax.stop_gradient(lax.cos(x)),
    inexact,
    product_of,
    smooth=False,
    weight=0.5,
)
define("floor", "piecewise", lambda x: x - jnp.floor(x), a_real, 1)
define("round_sign", "piecewise", lambda x: jnp.round(x) * 0.1 + x * lax.sign(x), a_real)

# --- complex numbers ----------------------------------------------------------------------------------------------

define("complex", "complex", lax.complex, (lambda x: x.dtype == "float64", same), sum_of, weight=3)
for name, fun, bound in [
    ("real", lax.real, None),
    ("imag", lax.imag, None),
    ("complex_abs", lambda z: lax.abs(z + 0.1), lambda s, t: s[0] + 1),
    ("angle", lambda z: jnp.angle(z + (0.3 + 0.2j)), 3.2),
]:
    define(name, "complex", fun, a_complex, bound, weight=2)
for name, fun, bound in [
    ("conj", lax.conj, None),
    ("complex_square", lambda z: lax.square(z + 0.5), lambda s, t: (s[0] + 1) ** 2),
    ("complex_sin", lambda z: lax.sin(z / (1.0 + z * lax.conj(z))), 2),
    ("complex_exp", lambda z: lax.exp(lax.complex(-0.1 * lax.square(lax.imag(z)), lax.real(z))), 1),
    ("complex_tanh", lambda z: lax.tanh(z / (1.0 + z * lax.conj(z))), 2),
    ("complex_neg", lax.neg, None),
    ("complex_log", lambda z: lax.log(z * lax.conj(z) + (1.0 + 0.5j)), 8),
    ("complex_sqrt", lambda z: lax.sqrt(z * lax.conj(z) + (1.0 + 0.5j)), None),
]:
    define(name, "complex", fun, a_complex, bound, weight=2)
for name, fun, bound in [
    ("complex_add", lax.add, sum_of),
    ("complex_sub", lax.sub, sum_of),
    ("complex_mul", lax.mul, product_of),
    ("complex_div", lambda x, y: lax.div(x, (2.0 + 1.0j) + y * lax.conj(y)), lambda s, t: s[0]),
]:
    define(name, "complex", fun, (a_complex, same), bound, weight=2)

# --- reductions and scans along an axis ---------------------------------------------------------------------------


def subsets_of_axes(x):
    return [
        {"axes": axes} for n in range(1, len(x.shape) + 1) for axes in itertools.combinations(range(len(x.shape)), n)
    ]


def turned(z):
    return z / (1.0 + z * lax.conj(z))


def an_axis(x, *_):
    return [{"axis": i} for i in range(len(x.shape))]


for name, fun, kind, bound in [
    ("sum", lambda x, axes: jnp.sum(x, axes), inexact, lambda s, t: entries(t[0]) * s[0]),
    ("mean", lambda x, axes: jnp.mean(x, axes), inexact, None),
    ("prod", lambda x, axes: jnp.prod(1.0 + 0.5 * lax.tanh(x), axes), a_real, 400),
    ("reduce_max", lambda x, axes: jnp.max(x, axes), a_real, None),
    ("reduce_min", lambda x, axes: jnp.min(x, axes), a_real, None),
    ("logsumexp", lambda x, axes: jax.nn.logsumexp(x, axes), a_real, lambda s, t: s[0] + 3),
    ("var", lambda x, axes: jnp.var(x, axes), a_real, lambda s, t: s[0] ** 2),
    ("prod_zeros", lambda x, axes: jnp.prod(x * jnp.round(0.4 * x), axes), a_real, lambda s, t: 1e4),
    ("shares", lambda x, axes: jnp.sum(x * x / (1.0 + jnp.sum(x * x, axes, keepdims=True)), axes), a_real, 1),
    ("norm", lambda x, axes: jnp.sqrt(1.0 + jnp.sum(x * x, axes)), a_real, lambda s, t: 1 + 5 * s[0]),
]:
    define(name, "reductions", fun, ranked(kind), bound, subsets_of_axes)
for name, fun, kind, bound in [
    ("cumsum", lambda x, axis, reverse: lax.cumsum(x, axis, reverse), inexact, lambda s, t: 4 * s[0]),
    ("cumprod", lambda x, axis, reverse: lax.cumprod(1.0 + 0.5 * lax.sin(x), axis, reverse), a_real, 6),
    ("cummax", lambda x, axis, reverse: lax.cummax(x, axis, reverse), a_real, None),
    ("cummin", lambda x, axis, reverse: lax.cummin(x, axis, reverse), a_real, None),
    ("cumprod_zeros", lambda x, axis, reverse: lax.cumprod(x * jnp.round(0.4 * x), axis, reverse), a_real, 1e4),
    ("cumprod_complex", lambda z, axis, reverse: lax.cumprod(1.0 + turned(z), axis, reverse), a_complex, 16),
    (
        "cumlogsumexp_far",
        lambda x, axis, reverse: lax.cumlogsumexp(40.0 * x, axis, reverse),
        wide,
        lambda s, t: 40 * s[0] + 2,
    ),
    ("cumlogsumexp", lambda x, axis, reverse: lax.cumlogsumexp(x, axis, reverse), a_real, lambda s, t: s[0] + 2),
]:
    define(
        name,
        "cumulative",
        fun,
        ranked(kind),
        bound,
        lambda x: [p | {"reverse": r} for p in an_axis(x) for r in (False, True)],
    )
for name, fun in [
    ("softmax", jax.nn.softmax),
    ("log_softmax", jax.nn.log_softmax),
    ("sort", jnp.sort),
    ("flip", jnp.flip),
]:
    define(
        name,
        "sorting" if name == "sort" else "reductions" if "soft" in name else "layout",
        fun,
        ranked(a_real),
        lambda s, t: 2 * s[0] + 2,
        an_axis,
    )
define(
    "sort_pair", "sorting", lambda x, y, axis: lax.sort((x, y), axis, num_keys=1), (ranked(a_real), same), None, an_axis
)
define("top_k", "sorting", lambda x: jnp.concatenate([lax.top_k(x, 2)[0], x[..., 2:]], -1), ranked(a_real), weight=0.5)
define(
    "associative_scan",
    "cumulative",
    lambda x, axis: lax.associative_scan(jnp.add, x, axis=axis),
    ranked(inexact),
    lambda s, t: 4 * s[0],
    an_axis,
    weight=0.3,
)

# --- layout -------------------------------------------------------------------------------------------------------

define(
    "transpose",
    "layout",
    lambda x, axes: lax.transpose(x, axes),
    ranked(inexact, 2),
    None,
    lambda x: [
        {"axes": p}
        for p in itertools.permutations(range(len(x.shape)))
        if list(p) != sorted(p) and tuple(x.shape[i] for i in p) in SHAPES
    ],
)
define(
    "reshape",
    "layout",
    lambda x: lax.reshape(lax.concatenate([x, x], 0), (2, *x.shape)),
    lambda x: inexact(x) and (2, *x.shape) in SHAPES and x.shape,
)
define("flat", "layout", lambda x: jnp.ravel(x)[1:-1:2][:3], lambda x: inexact(x) and entries(x) >= 8)
define(
    "broadcast",
    "layout",
    lambda x, shape: jnp.broadcast_to(lax.reshape(x, (1,) * (len(shape) - x.ndim) + x.shape), shape),
    inexact,
    None,
    lambda x: [{"shape": s} for s in SHAPES if s != x.shape and (not x.shape or s[len(s) - len(x.shape) :] == x.shape)],
)
define("like", "layout", lambda x, y: x * lax.cos(jnp.mean(y)).astype(x.dtype), (a_real, a_real))
define(
    "concatenate",
    "layout",
    lambda x, y: lax.concatenate([x, y[:1]], 0),
    (
        lambda x: inexact(x) and x.shape in ((3,), (2, 3)),
        lambda x, y: same_dtype(x, y) and y.shape[1:] == x.shape[1:] and len(x.shape) == len(y.shape),
    ),
    None,
    weight=2,
)
define("stack", "layout", lambda x, y: jnp.stack([x, y]), (lambda x: inexact(x) and (2, *x.shape) in SHAPES, same))
define(
    "pad",
    "layout",
    lambda x, y, widths: lax.pad(x, y, widths),
    (ranked(inexact), lambda x, y: same_dtype(x, y) and y.shape == ()),
    None,
    lambda x, y: [{"widths": w} for w in paddings(x.shape)],
    weight=2,
)
define(
    "slice",
    "layout",
    lambda x, axis: lax.slice_in_dim(x, 1, x.shape[axis], axis=axis),
    ranked(inexact),
    None,
    lambda x: [{"axis": i} for i, n in enumerate(x.shape) if (*x.shape[:i], n - 1, *x.shape[i + 1 :]) in SHAPES],
    weight=2,
)
define(
    "strided",
    "layout",
    lambda x: x[..., ::2] * x[..., :-1:2] if x.shape[-1] == 4 else x[..., ::-1],
    ranked(inexact),
    lambda s, t: s[0] ** 2 + s[0],
)
define(
    "index",
    "layout",
    lambda x, i: lax.index_in_dim(x, i, 0, keepdims=False),
    ranked(inexact),
    None,
    lambda x: [{"i": i} for i in range(x.shape[0])],
    weight=2,
)
define("tile_mean", "layout", lambda x: jnp.mean(jnp.tile(x, (2,) * x.ndim), -1), ranked(inexact), weight=0.5)
define("roll", "layout", lambda x: jnp.roll(x, 1, -1), ranked(inexact), weight=0.5)
define(
    "squeeze",
    "layout",
    lambda x: lax.squeeze(lax.expand_dims(x, (1,)) * 1.5, (1,)),
    ranked(inexact),
    lambda s, t: 1.5 * s[0],
)


def paddings(shape):
    """Widths that lead to a shape of the list: before, after, between; a negative one cuts."""
    options = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (-1, 1, 0), (-1, 2, 0), (1, -1, 0), (0, -2, 1), (0, -1, 0)]

    def after(length, width):
        return length + width[0] + width[1] + (length - 1) * width[2]

    return [
        widths
        for widths in itertools.product(options, repeat=len(shape))
        if any(w != (0, 0, 0) for w in widths) and tuple(after(n, w) for n, w in zip(shape, widths)) in SHAPES
    ]


# --- reading and writing at places ----------------------------------------------------------------------------------

define(
    "gather",
    "indexing",
    lambda x, rows: x[jnp.array(rows)],
    ranked(inexact),
    None,
    lambda x: [{"rows": r} for r in ((2, 0, 1), (1, 1, 0), (-1, 0, -1)) if x.shape[0] == 3],
    weight=2,
)
define(
    "take",
    "indexing",
    lambda x, i, mode: jnp.take(x, i, axis=0, mode=mode, fill_value=0.5 if mode == "fill" else None),
    (ranked(inexact), lambda x, i: an_integer(i) and (*i.shape, *x.shape[1:]) in SHAPES),
    None,
    lambda x, i: [{"mode": m} for m in ("clip", "wrap", "fill")],
    weight=4,
)
define(
    "take_along_axis",
    "indexing",
    lambda x, i: jnp.take_along_axis(x, jnp.mod(i, x.shape[0]), 0),
    (ranked(inexact), lambda x, i: an_integer(i) and i.shape == x.shape),
    weight=4,
)
define(
    "dynamic_slice",
    "indexing",
    lambda x, i: lax.dynamic_slice_in_dim(
        x,
        i if i.ndim == 0 else i.ravel()[0],
        3 if x.shape[0] > 3 else x.shape[0] - 1 if (x.shape[0] - 1, *x.shape[1:]) in SHAPES else 1,
        0,
    ).sum(0),
    (ranked(inexact), an_integer),
    lambda s, t: 3 * s[0],
    weight=4,
)
define(
    "dynamic_update",
    "indexing",
    lambda x, y, i: lax.dynamic_update_slice_in_dim(x, y[:1], i if i.ndim == 0 else i.ravel()[0], 0),
    (
        ranked(inexact),
        lambda x, y: same_dtype(x, y) and len(y.shape) == len(x.shape) and y.shape[1:] == x.shape[1:],
        lambda x, y, i: an_integer(i),
    ),
    weight=3,
)
for name, bound in [
    ("add", lambda s, t: s[0] + 3 * s[1]),
    ("multiply", lambda s, t: s[0] * s[1] ** 2),
    ("set", None),
    ("max", None),
    ("min", None),
]:
    unique = name in ("set", "multiply")
    define(
        f"scatter_{name}",
        "scattering",
        lambda x, y, rows, name=name, unique=unique: getattr(x.at[jnp.array(rows)], name)(y[:2], unique_indices=unique),
        (
            lambda x, n=name: (a_real if n in ("max", "min") else inexact)(x) and x.shape and x.shape[0] >= 3,
            lambda x, y: same_dtype(x, y) and len(y.shape) == len(x.shape) and y.shape[1:] == x.shape[1:],
        ),
        bound,
        lambda x, y, unique=unique: [{"rows": r} for r in ((2, 0), (0, 1)) + (() if unique else ((1, 1),))],
    )
define(
    "scatter_at",
    "scattering",
    lambda x, i: x.at[i].add(1.5 * jnp.sin(x[:1]).sum(), mode="drop"),
    (lambda x: a_real(x) and x.shape in ((3,), (4,)), lambda x, i: an_integer(i) and i.shape == ()),
    lambda s, t: s[0] + 2,
    weight=4,
)
define(
    "segment_sum",
    "scattering",
    lambda x, i: jax.ops.segment_sum(x, jnp.mod(i, 3), 3),
    (lambda x: inexact(x) and x.shape in ((3,), (4,), (3, 3)), lambda x, i: an_integer(i) and i.shape == x.shape[:1]),
    lambda s, t: 4 * s[0],
    weight=4,
)

# --- products and windows -------------------------------------------------------------------------------------------


def contractions(x, y):
    """Dimension numbers with at most one batch axis and one or two contracted axes whose result is in the list."""
    found = []
    pairs = [(i, j) for i in range(len(x.shape)) for j in range(len(y.shape)) if x.shape[i] == y.shape[j]]
    for n in (0, 1, 2):
        for contracted in itertools.combinations(pairs, n):
            for batch in [(), *[(p,) for p in pairs]]:
                used = [*contracted, *batch]
                if len({i for i, _ in used}) < len(used) or len({j for _, j in used}) < len(used):
                    continue
                free = [
                    [n for i, n in enumerate(t.shape) if i not in {p[k] for p in used}] for k, t in enumerate((x, y))
                ]
                if (*[x.shape[i] for i, _ in batch], *free[0], *free[1]) in SHAPES:
                    lists = [tuple(tuple(p[k] for p in chosen) for k in (0, 1)) for chosen in (contracted, batch)]
                    found.append({"numbers": tuple(lists)})
    return found


contractions = functools.lru_cache(maxsize=None)(contractions)
define(
    "dot_general",
    "products",
    lambda x, y, numbers: lax.dot_general(x, y, numbers),
    (ranked(inexact), lambda x, y: same_dtype(x, y) and y.shape),
    lambda s, t: 9 * s[0] * s[1],
    contractions,
    weight=6,
)
define(
    "einsum",
    "products",
    lambda x, y: jnp.einsum("...ij,jk->...ik", x, y),
    (
        lambda x: inexact(x) and x.shape in ((2, 3), (3, 3), (2, 3, 3)),
        lambda x, y: same_dtype(x, y) and y.shape == (3, 3),
    ),
    lambda s, t: 3 * s[0] * s[1],
    weight=3,
)
define(
    "bilinear",
    "products",
    lambda x, y: jnp.einsum("ij,ji->i", x, y),
    (lambda x: inexact(x) and x.shape == (3, 3), same),
    lambda s, t: 3 * s[0] * s[1],
)
define(
    "outer",
    "products",
    lambda x, y: jnp.outer(x, y),
    (lambda x: inexact(x) and x.shape == (3,), lambda x, y: same_dtype(x, y) and y.shape in ((3,), (4,))),
    product_of,
    weight=2,
)
define(
    "correlate",
    "products",
    lambda x, y: lax.conv_general_dilated(x[None, None], y[None, None], (1, 1), "SAME")[0, 0],
    (
        lambda x: wide(x) and x.shape in ((3, 3), (3, 4), (2, 3)),
        lambda x, y: same_dtype(x, y) and y.shape in ((2, 3), (3, 3)),
    ),
    lambda s, t: 9 * s[0] * s[1],
    weight=1,
)
for name, fun in [
    ("max_pool", lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2,) * x.ndim, (1,) * x.ndim, "SAME")),
    ("sum_pool", lambda x: lax.reduce_window(x, 0.0, lax.add, (2,) * x.ndim, (1,) * x.ndim, "SAME")),
]:
    define(name, "windows", fun, lambda x: wide(x) and x.shape in ((4,), (3, 3), (3, 4)), lambda s, t: 4 * s[0])

# --- linear algebra and Fourier transforms --------------------------------------------------------------------------


def near_identity(x):
    return 3.0 * jnp.eye(3, dtype=x.dtype) + 0.5 * lax.sin(x)


def definite(x):
    return jnp.matmul(near_identity(x), near_identity(x).T)


def separated(x):
    return jnp.diag(jnp.array([1.0, 3.0, 6.0], x.dtype)) + 0.2 * (lax.sin(x) + lax.sin(x).T)


for name, fun, kind, bound in [
    ("inverse", lambda x: jnp.linalg.inv(near_identity(x)), (square_matrix,), 1),
    ("slogdet", lambda x: jnp.linalg.slogdet(near_identity(x))[1], (square_matrix,), 5),
    (
        "solve",
        lambda x, y: jnp.linalg.solve(near_identity(x), y),
        (square_matrix, lambda x, y: same_dtype(x, y) and y.shape in ((3,), (3, 3), (3, 4))),
        lambda s, t: s[1],
    ),
    ("cholesky", lambda x: lax.linalg.cholesky(definite(x)), (square_matrix,), 5),
    ("eigvalsh", lambda x: jnp.linalg.eigvalsh(separated(x)), (square_matrix,), 8),
    ("eigh", lambda x: jnp.matmul(jnp.linalg.eigh(separated(x))[1] ** 2, x), (square_matrix,), lambda s, t: 3 * s[0]),
    ("qr", lambda x: jnp.matmul(*jnp.linalg.qr(near_identity(x))[::-1]), (square_matrix,), 15),
    ("svd", lambda x: jnp.linalg.svd(separated(x) + 0.1 * lax.cos(x), compute_uv=False), (square_matrix,), 8),
    ("svd_vectors", lambda x: jnp.linalg.svd(separated(x) + 0.1 * lax.cos(x))[0] ** 2, (square_matrix,), 1),
    (
        "triangular_solve",
        lambda x, y: lax.linalg.triangular_solve(near_identity(x), y, left_side=True, lower=True, transpose_a=True),
        (square_matrix, same),
        lambda s, t: s[1],
    ),
    ("lu", lambda x: lax.linalg.lu(near_identity(x))[0], (square_matrix,), 4),
]:
    define(name, "linear algebra", fun, kind, bound, weight=0.8)
define("fft", "fft", lambda z: jnp.fft.fft(z) / 2.0, ranked(a_complex), lambda s, t: 2 * s[0])
define("ifft", "fft", lambda z: jnp.fft.ifft(z), ranked(a_complex))
define(
    "rfft",
    "fft",
    lambda x: jnp.abs(jnp.fft.rfft(x)[..., 0]) + jnp.real(jnp.fft.rfft(x)).sum(-1),
    lambda x: x.dtype == "float64" and x.shape,
    lambda s, t: 12 * s[0],
    weight=0.5,
)
define(
    "irfft", "fft", lambda z: jnp.fft.irfft(z, 4)[..., :3], lambda z: a_complex(z) and z.shape in ((3,), (2, 3), (3, 3))
)

# --- primitives of a user's own ---------------------------------------------------------------------------------------

for name, fun, takes, bound in [
    ("own_wave", foreign.wave_p.bind, (a_real,), 1),
    ("own_bell", foreign.bell_p.bind, (a_real,), 1),
    ("own_stretch", lambda x: foreign.stretch_p.bind(x, by=0.75), (inexact,), None),
    ("own_product", foreign.product_p.bind, (inexact, same), product_of),
    ("own_polar", lambda x, y: tuple(foreign.polar_p.bind(x, y)), (a_real, same), lambda s, t: s[0]),
    ("own_polar_of_one", lambda x: foreign.polar_p.bind(x, jnp.ones_like(x))[1], (a_real,), None),
    ("own_polar_angle", lambda x: foreign.polar_p.bind(jnp.ones_like(x), x)[0], (a_real,), 1),
    ("own_turn", lambda x, y: tuple(foreign.turn_p.bind(x, y, by=0.5)), (inexact, same), sum_of),
    (
        "own_turn_of_one",
        lambda x: foreign.turn_p.bind(jnp.ones_like(x), x, by=0.5)[0],
        (inexact,),
        lambda s, t: 1 + s[0],
    ),
    (
        "own_bend",
        foreign.bend_p.bind,
        (square_matrix, lambda x, y: same_dtype(x, y) and y.shape in ((3,), (3, 3), (3, 4))),
        lambda s, t: 3 * s[1],
    ),
]:
    define(name, "foreign", fun, takes, bound)

# --- control flow and calls: operations that hold programs ------------------------------------------------------------


def structured(name, family, **options):
    def register(fun):
        define(name, family, fun, **options)
        return fun

    return register


@structured("cond", "branches")
def _cond(f, g, x, *operands):
    return lax.cond(jnp.sum(x) > 0, f, g, *operands)


@structured("switch", "branches")
def _switch(f, g, h, i, *operands):
    return lax.switch(jnp.mod(jnp.sum(i), 3), [f, g, h], *operands)


@structured("scan", "loops")
def _scan(f, init, *xs, reverse, unroll):
    """f(state, x...) -> (state, y...)."""

    def step(state, x):
        state, *ys = f(state, *x)
        return state, tuple(ys)

    state, ys = lax.scan(step, init, xs, length=3 if not xs else None, reverse=reverse, unroll=unroll)
    return (state, *ys)


@structured("counted_scan", "loops")
def _counted_scan(f, init, other, *, length):
    """Two states and an integer that counts; f(state, other) -> (state, other)."""

    def step(states, _):
        i, state, other = states
        state, other = f(state * (1.0 + 0.1 * i.astype(state.dtype)), other)
        return (i + 1, state, other), i

    (_, state, other), _ = lax.scan(step, (jnp.int32(0), init, other), length=length)
    return state, other


@structured("fori_loop", "loops")
def _fori(f, x, *, steps):
    return lax.fori_loop(0, steps, lambda i, y: f(y * (1.0 + 0.1 * i.astype(y.dtype)))[0], x)


@structured("while_loop", "loops", has_twin=True)
def _while(f, x, *, limit, most, twin):
    """x <- f(x) while the mean of x^2 is below a limit, at most so many times."""

    def unfinished(state):
        i, y = state
        return (i < most) & (jnp.mean(lax.square(y)) < limit)

    def step(state):
        return state[0] + 1, f(state[1])[0]

    def masked(state, _):
        going = unfinished(state)
        return jax.tree.map(lambda new, old: jnp.where(going, new, old), step(state), state), None

    start = (jnp.int32(0), x)
    return lax.scan(masked, start, length=most)[0][1] if twin else lax.while_loop(unfinished, step, start)[1]


@structured("map", "loops")
def _map(f, x):
    return lax.map(lambda row: f(row)[0], x)


@structured("jit", "calls")
def _jit(f, *operands):
    return jax.jit(f)(*operands)


POLICIES = {
    "none": None,
    "everything": jax.checkpoint_policies.everything_saveable,
    "nothing": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_saveable,
}


@structured("checkpoint", "calls", has_twin=True)
def _checkpoint(f, *operands, policy, twin):
    """JAX rounds what a policy keeps with reduce_precision, which takes no complex numbers."""
    return jax.checkpoint(f, policy=None if twin else POLICIES[policy])(*operands)


@structured("checkpoint_bytes", "calls", has_twin=True)
def _checkpoint_bytes(f, *operands, bytes, policy, twin):
    fun = jax.checkpoint(f) if twin else reverse.checkpoint(f, bytes=bytes, policy=POLICIES[policy])
    return fun(*operands)


@structured("checkpointed_scan", "loops", has_twin=True)
def _checkpointed_scan(f, init, xs, *, slots, twin):
    """f(state, x) -> (state, y)."""
    scan = lax.scan if twin else functools.partial(reverse.checkpointed_scan, slots=slots)
    return scan(lambda state, x: f(state, x), init, xs)


@structured("custom_jvp", "calls")
def _custom_jvp(f, x):
    @jax.custom_jvp
    def fun(x):
        return f(x)[0]

    fun.defjvp(lambda primals, tangents: jax.jvp(lambda x: f(x)[0], primals, tangents))
    return fun(x)


@structured("custom_vjp", "calls", has_twin=True, forward=False)
def _custom_vjp(f, x, *, twin):
    @jax.custom_vjp
    def fun(x):
        return f(x)[0]

    vjp = jax.vjp if twin else reverse.vjp
    fun.defvjp(lambda x: (fun(x), x), lambda x, ct: vjp(lambda x: f(x)[0], x)[1](ct))
    return fun(x)


@structured("vmap", "calls")
def _vmap(f, x):
    return jax.vmap(lambda row: f(row)[0])(x)


@structured("jvp", "inner derivatives")
def _jvp(f, x, v):
    return jax.jvp(lambda x: f(x)[0], (x,), (v,))[1]


@structured("vjp", "inner derivatives", has_twin=True)
def _vjp(f, x, v, *, twin):
    out, pull = (jax.vjp if twin else reverse.vjp)(lambda x: f(x)[0], x)
    return pull(out * lax.cos(jnp.mean(v)).astype(out.dtype))[0]
