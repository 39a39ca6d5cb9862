"""Cotangents have their primals' types, weak ones included, as jax.vjp's have; small floats are floats."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every import every
from jax import lax

from functional_dl import reverse

WIDE = ("float64", "float32", "float16", "bfloat16", "complex128", "complex64")
SMALL = ("e3m4", "e4m3", "e4m3b11fnuz", "e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0fnu")
NAMES = (*WIDE, *[f"float8_{name}" for name in SMALL])  # XLA's CPU backend does not run float4
DTYPES = [getattr(jnp, name) for name in NAMES if hasattr(jnp, name)]
VALUES = np.array([[0.5, 1.0], [2.0, 4.0]])  # every small float has these


def _standard(test):
    @functools.wraps(test)
    def wrapped(*args, **kwargs):
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            test(*args, **kwargs)

    return wrapped


def _type(x):
    return (x.dtype, x.shape) if x.dtype == jax.float0 else (x.dtype, x.shape, jax.typeof(x).weak_type)


def _both(fun, *args):
    (out, pull), (expected_out, expected_pull) = reverse.vjp(fun, *args), jax.vjp(fun, *args)
    ct = jnp.ones_like(out)
    return (out, pull(ct)), (expected_out, expected_pull(ct))


def _judge(fun, *args):
    _compare(_both(fun, *args))


def _compare(both):
    (out, bars), (expected_out, expected) = both
    assert _type(out) == _type(expected_out)
    assert [_type(bar) for bar in bars] == [_type(bar) for bar in expected]
    for bar, other in zip(bars, expected):
        if bar.dtype != jax.float0:
            wide = jnp.complex128 if jnp.issubdtype(bar.dtype, jnp.complexfloating) else jnp.float64
            np.testing.assert_allclose(bar.astype(wide), other.astype(wide), rtol=2 * float(jnp.finfo(bar.dtype).eps))


@pytest.mark.filterwarnings("ignore:Casting from complex")
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@_standard
@pytest.mark.sampled(3)
def test_every_floating_dtype(dtype):
    x = jnp.asarray(VALUES).astype(dtype)
    programs = {f"to {np.dtype(other).name}": (lambda x, other=other: x.astype(other), x) for other in DTYPES}
    for fun in (lax.add, lax.mul, lax.div)[: 3 if x.dtype.itemsize > 1 else 2]:  # JAX squares the divisor: too large
        programs[fun.__name__] = (fun, x, x)
    for preferred in (None, jnp.float32):
        if preferred is None or not jnp.issubdtype(dtype, jnp.complexfloating):
            programs[f"dot to {preferred}"] = (functools.partial(lax.dot, preferred_element_type=preferred), x, x.T)
    found = jax.jit(lambda arrays: {name: _both(programs[name][0], *own) for name, own in arrays.items()})(
        {name: arrays for name, (_, *arrays) in programs.items()}
    )
    every(programs, lambda name: _compare(found[name]))
    for name in ("to float32", "mul") if dtype in (jnp.bfloat16, jnp.complex64) else ():
        _judge(*programs[name])


INTEGERS = ("int4", "uint4", "int8", "uint8", "int32", "int64", "uint64", "bool")


@pytest.mark.parametrize("dtype", INTEGERS)
@_standard
def test_integers_and_booleans_have_float0(dtype):
    n = jnp.array([0, 1, 1], getattr(jnp, dtype.replace("bool", "bool_")))
    _judge(lambda x, n: x * n.astype(x.dtype), jnp.arange(3.0), n)
    [bar] = reverse.vjp(lambda n: n, n)[1](np.zeros(n.shape, jax.float0))
    assert bar.dtype == jax.float0
    assert bar.shape == n.shape


WEAK = {
    "sine": (jnp.sin, (3.0,)),
    "square": (lambda x: x**2, (3.0,)),
    "identity": (lambda x: x, (3.0,)),
    "into float32": (lambda x, y: x * y, (3.0, jnp.float32(2.0))),
    "into an array": (lambda x, y: jnp.sum(x * y), (3.0, jnp.arange(3.0))),
    "unused": (lambda x, y: jnp.sin(x), (3.0, 4.0)),
    "not weak": (jnp.sin, (jnp.float64(3.0),)),
    "a loop": (lambda x: lax.fori_loop(0, 3, lambda i, c: c * x, 1.0), (3.0,)),
    "a branch": (lambda x, y: lax.cond(x > 1, lambda: x, lambda: x * y), (3.0, 4.0)),
    "a constant predicate": (lambda x, y: jnp.where(True, x, y), (3.0, 2.0)),
    "selection by a number": (lambda x, y: lax.select_n(True, x, y), (3.0, 2.0)),
    "a clamp between numbers": (lambda x: lax.clamp(0.0, x, 4.0), (3.0,)),
    "jit": (jax.jit(jnp.tanh), (0.5,)),
}


@pytest.mark.parametrize("name", WEAK)
@_standard
def test_gradient_of_a_python_number_is_weakly_typed(name):
    fun, args = WEAK[name]
    positions = tuple(range(len(args)))
    ours, jaxs = (
        jax.tree.leaves(d(lambda *a: fun(*a), positions)(*args)) for d in (reverse.value_and_grad, jax.value_and_grad)
    )
    assert [_type(jnp.asarray(x)) for x in ours] == [_type(jnp.asarray(x)) for x in jaxs]
    for x, other in zip(ours, jaxs):
        np.testing.assert_allclose(x, other, rtol=1e-6)


def test_a_cotangent_that_is_not_weak_decides():
    [bar] = reverse.vjp(jnp.sin, 3.0)[1](jnp.float64(1.0))
    assert not bar.weak_type


PAIRS = {
    "igamma": (lax.igamma, [((), (2, 3)), ((2, 1), (1, 3)), ((2, 3), ())]),
    "igammac": (lax.igammac, [((), (2, 3)), ((2, 1), (1, 3))]),
    "pow": (lax.pow, [((), (2, 3)), ((2, 1), (1, 3)), ((2, 3), ())]),
    "rem": (lax.rem, [((), (2, 3)), ((2, 1), (1, 3))]),
    "atan2": (lax.atan2, [((), (2, 3)), ((2, 1), (1, 3))]),
    "betainc": (lambda x, b: lax.betainc(2.0, b, x), [((2, 1), (1, 3))]),
}


@pytest.mark.parametrize(
    ("fun", "shapes"),
    [pytest.param(fun, pair, id=f"{name}-{pair}") for name, (fun, pairs) in PAIRS.items() for pair in pairs],
)
@_standard
@pytest.mark.sampled(3)
def test_operands_of_unequal_shapes(fun, shapes):
    x, y = [jnp.array(np.random.default_rng(i).uniform(0.25, 0.75, s)) for i, s in enumerate(shapes)]
    if fun is PAIRS["betainc"][0]:
        _judge(lambda x: fun(x, y), x)
        return
    _judge(fun, x, y)


REAL, OTHER = jnp.array([1.0, 2.0, -0.5]), jnp.array([1.0 + 2.0j, 3.0 - 1.0j, 0.5j])
MIXED = {
    "inner": jnp.dot,
    "outer": lambda x, z: jnp.einsum("i,j->ij", x, z),
    "matrix": lambda x, z: jnp.stack([x, x]) @ z,
    "complex first": lambda x, z: jnp.dot(z, x),
    "elementwise": lambda x, z: x * z,
    "convolution": jnp.convolve,
    "into entries": lambda x, z: z.at[jnp.array([0, 2])].add(x[:2]),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", MIXED)
@_standard
def test_products_of_real_and_complex_numbers(name):
    """A real factor's cotangent is real, and nobody is warned of an imaginary part that was dropped."""
    (_, bars), (_, expected) = _both(MIXED[name], REAL, OTHER)
    assert [bar.dtype for bar in bars] == [REAL.dtype, OTHER.dtype]
    for bar, other in zip(bars, expected):
        np.testing.assert_allclose(bar, other, rtol=1e-14)


def _wider_inside(x):
    with jax.enable_x64(True):
        y = jnp.asarray(x, jnp.float64)
        return jnp.sum(jnp.sin(y) * y / (1 + y**2) + jax.nn.softmax(y) * lax.cumsum(y) + jnp.max(y))


def _wider_from_here(x):
    with jax.enable_x64(True):
        y = lax.convert_element_type(x, jnp.float64)
    y = lax.fori_loop(0, 3, lambda _, y: lax.cos(lax.mul(y, y)), lax.sin(y))
    y = jax.jit(lambda y: lax.mul(y, lax.logistic(y)))(y)
    y = lax.cond(x.ravel()[0] > 0, lax.tanh, lax.exp, y)
    with jax.enable_x64(True):
        return jnp.sum(y).astype(np.float32)


@_standard
def test_64_bit_types_within_a_function():
    """A cotangent has the type of its primal, and on the way back those of the values that it belongs to."""
    x = VALUES.astype(np.float32)
    with jax.enable_x64(False):
        for fun in (_wider_inside, _wider_from_here):
            for at in (x, jnp.asarray(x)):
                found, expected = (jax.jit(d(fun)) if at is x else d(fun) for d in (reverse.grad, jax.grad))
                found, expected = found(at), expected(at)
                assert _type(found) == _type(expected)
                np.testing.assert_allclose(found, expected, rtol=1e-6)
        found, expected = (d(lambda x: _wider_inside(jnp.reshape(x * x, (1,))))(0.5) for d in (reverse.grad, jax.grad))
        assert _type(found) == _type(expected)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@_standard
def test_a_pullback_outside_of_the_setting_that_it_was_made_in():
    x = jnp.asarray(VALUES)
    out, pull = reverse.vjp(_wider_inside, x)
    with jax.enable_x64(False):
        [bar] = pull(out)
    np.testing.assert_array_equal(bar, pull(out)[0])


@jax.custom_vjp
def _halved_backward(x):
    return x


_halved_backward.defvjp(lambda x: (x, None), lambda _, ct: (ct.astype(jnp.bfloat16),))

MOVES = {
    "gather": lambda x: x[jnp.array([1, 0, 1])],
    "dynamic_slice": lambda x: lax.dynamic_slice(x, (jnp.sum(x).astype(int) * 0, 0), (1, 2)),
    "dynamic_update_slice": lambda x: lax.dynamic_update_slice(x, x[:1], (jnp.sum(x).astype(int) * 0, 0)),
    "slice": lambda x: x[1:, ::2],
    "reshape": lambda x: jnp.tile(jnp.reshape(x, (4, 1)), (1, 2)),
}


def test_a_backward_pass_of_a_users_that_changes_the_dtype():
    """What only moves entries moves those of a cotangent of another dtype, too, and brings them back in it."""

    def judge(name):
        move, x = MOVES[name], jnp.asarray(VALUES, jnp.float32)
        out, pull = reverse.vjp(lambda x: _halved_backward(move(x)), x)
        ct = jnp.asarray(np.resize(VALUES, out.shape), jnp.float32)
        [bar], [expected] = pull(ct), jax.vjp(move, x)[1](ct)
        assert bar.dtype == jnp.bfloat16
        np.testing.assert_array_equal(bar.astype(jnp.float32), expected)  # sums of powers of 2

    every(MOVES, judge)
