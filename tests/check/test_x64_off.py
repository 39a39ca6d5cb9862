"""check as JAX is installed: x64 off, standard promotion, warnings as errors, after a jitted call of the function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import check

INDEX = np.array([2, 0, 1])  # int64, closed over: JAX holds on to its conversion to int32
X = np.array([0.5, -1, 2], np.float32)


@pytest.fixture(autouse=True)
def as_users_have_it():
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


# name -> (fun, primals)
CASES = {
    "NumPy index": (lambda x: x[INDEX] ** 2, (X,)),
    "NumPy index, inner jit": (lambda x: jnp.take_along_axis(x, INDEX, 0) * x, (X,)),
    "NumPy labels": (
        lambda w, y: -jax.nn.log_softmax(w)[jnp.arange(3), y].mean(),
        (np.eye(3, dtype=np.float32), INDEX),
    ),
    "NumPy float64 constant": (lambda x: x * np.linspace(0.5, 1, 3), (X,)),
    "NumPy float64 scalar": (lambda x: x * np.float64(2.5), (X,)),
    "NumPy float64 primal": (jnp.sin, (X.astype(np.float64),)),
    "Python float": (lambda x: x * 2.0, (1.5,)),
    "Python float beside an array": (lambda x, y: x * y, (0.1, X)),
    "Python floats in a tree": (lambda d: d["a"] * d["b"], ({"a": 0.1, "b": 2.0},)),
    "Python complex": (lambda z: jnp.abs(z), (1.5 + 2j,)),
    "boolean and integer outputs": (lambda x: (x**2, x > 0, jnp.argmax(x)), (X,)),
}


def scaled(fun, factor):
    def fun_vjp(*primals):
        out, pullback = jax.vjp(fun, *primals)

        def scaled_pullback(ct):
            return jax.tree.map(lambda bar: bar if bar.dtype == jax.float0 else bar * np.float32(factor), pullback(ct))

        return out, scaled_pullback

    return fun_vjp


@pytest.mark.parametrize("name", CASES)
@pytest.mark.sampled(3)
def test_right_passes_and_scaled_is_found(name):
    fun, primals = CASES[name]
    jax.jit(fun)(*primals)
    right = check.check_vjp(fun, scaled(fun, 1), *primals)
    assert right.passed, str(right)
    wrong = check.check_vjp(fun, scaled(fun, 1.01), *primals)
    assert {f.cause for f in wrong.findings} == {"scale"}, str(wrong)
    jax.jit(lambda *p: fun(*p))(*primals)  # a check leaves nothing behind that hinders the next trace


def test_estimates_of_a_function_that_is_evaluated_in_its_own_dtype():
    fun, primals = CASES["NumPy index"]
    jax.jit(fun)(*primals)
    found = check.estimate_vjp(fun, primals, np.ones(3, np.float32))
    assert (np.abs(np.asarray(found.value[0]) - 2 * X) <= np.asarray(found.error[0])).all()
    assert (np.asarray(found.error[0]) < 0.1).all()
    report = check.check_vjp(fun, scaled(fun, 1), *primals)
    assert "in the caller's dtypes" in report.reference


def test_an_output_of_booleans_alone_is_refused():
    with pytest.raises(TypeError, match="expected an output of floating numbers"):
        check.check_vjp(lambda x: x > 0, scaled(lambda x: x > 0, 1), X)


DRAWING = {
    "a factor": lambda key, x: x * jax.random.normal(key, x.shape),
    "dropout": lambda key, x: jnp.where(jax.random.bernoulli(key, 0.5, x.shape), 2 * x, 0.0),
    "a gamma variable": lambda key, x: x * jax.random.gamma(key, 2.0, x.shape),
    "numbers added": lambda key, x: 2 * x + jax.random.uniform(key, x.shape),
}


@pytest.mark.parametrize("draw", DRAWING.values(), ids=DRAWING)
@pytest.mark.sampled(3)
def test_a_key_gives_other_numbers_in_double_precision(draw):
    """The reference is then JAX's pullback in the caller's dtypes: not that of another function."""
    key, x = jax.random.key(0), jnp.array([1.0, 0.4, 1.6, 0.8])
    fun = lambda x: draw(key, x)
    right = lambda x: jax.vjp(fun, x)
    wrong = lambda x: (fun(x), lambda ct: (1.1 * jax.vjp(fun, x)[1](ct)[0],))
    assert check.check_vjp(fun, right, x).passed
    assert not check.check_vjp(fun, wrong, x).passed
