"""Functions that work on mutable references inside: equal to the same functions without, and to jax.vjp."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from functional_dl import reverse

X = jnp.array([0.3, -1.2, 2.0])


def overwritten(x):
    ref = jax.new_ref(jnp.zeros(3))
    ref[...] = jnp.sin(x)
    ref[0] = ref[0] * 2
    return jnp.sum(ref[...] ** 2)


def overwritten_pure(x):
    return jnp.sum((jnp.sin(x) * jnp.array([2.0, 1.0, 1.0])) ** 2)


def accumulated(x):
    ref = jax.new_ref(x)
    for i in range(3):
        jax.ref.addupdate(ref, i, x[i] ** 2 * ref[0])
    return jnp.prod(jax.ref.freeze(ref))


def accumulated_pure(x):
    first = x[0] + x[0] ** 3
    return first * (x[1] + x[1] ** 2 * first) * (x[2] + x[2] ** 2 * first)


def swapped(x):
    ref = jax.new_ref(x * x)
    old = jax.ref.swap(ref, slice(0, 2), jnp.cos(x[1:]))
    return jnp.sum(old * ref[1:]) * ref[0]


def swapped_pure(x):
    now = jnp.concatenate([jnp.cos(x[1:]), x[2:] ** 2])
    return jnp.sum(x[:2] ** 2 * now[1:]) * now[0]


def dynamic(x):
    ref = jax.new_ref(jnp.zeros((2, 3)))
    i = jnp.argmax(x) // 2
    ref[i] = x**2
    ref[i, 1] = x[0]
    return jnp.sum(ref[i] * x) + jnp.sum(ref[1 - i])


def dynamic_pure(x):
    return jnp.sum((x**2).at[1].set(x[0]) * x)


def in_a_jit(x):
    ref = jax.new_ref(x)

    @jax.jit
    def work(y):
        ref[1] = y[0] * ref[2]
        return jnp.sin(ref[...])

    return jnp.sum(work(x) * ref[...])


def in_a_jit_pure(x):
    now = x.at[1].set(x[0] * x[2])
    return jnp.sum(jnp.sin(now) * now)


def of_constants(x):
    ref = jax.new_ref(jnp.zeros(()))
    ref[...] += 2.0
    return jnp.sum(x) * ref[...]


PROGRAMS = {
    "overwritten": (overwritten, overwritten_pure),
    "accumulated": (accumulated, accumulated_pure),
    "swapped": (swapped, swapped_pure),
    "dynamic": (dynamic, dynamic_pure),
    "in a jit": (in_a_jit, in_a_jit_pure),
    "of constants": (of_constants, lambda x: 2.0 * jnp.sum(x)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_equals_the_function_without_references(name):
    fun, pure = PROGRAMS[name]
    expected = jax.value_and_grad(pure)(X)
    for ours in (
        reverse.value_and_grad(fun),
        jax.jit(reverse.value_and_grad(fun)),
        reverse.value_and_grad(jax.jit(fun)),
    ):
        for a, e in zip(ours(X), expected):
            np.testing.assert_allclose(a, e, rtol=1e-13, atol=1e-13)
    rows = jnp.stack([X, 2 * X])
    np.testing.assert_allclose(jax.vmap(reverse.grad(fun))(rows), jax.vmap(jax.grad(pure))(rows), rtol=1e-12)
    second = reverse.grad(lambda x: jnp.sum(reverse.grad(fun)(x) ** 2))(X)
    np.testing.assert_allclose(second, jax.grad(lambda x: jnp.sum(jax.grad(pure)(x) ** 2))(X), rtol=1e-12, atol=1e-12)


def test_a_reference_of_others_takes_no_part():
    """It may hold a record of the run, but nothing that is differentiated."""
    ref = jax.new_ref(jnp.float64(0.0))

    def noted(x):
        ref[...] = lax.stop_gradient(x) * 2
        return x**2 * ref[...]

    assert reverse.grad(noted)(3.0) == 36.0
    assert ref[...] == 6.0

    def escaping(x):
        ref[...] = x
        return x

    for grad in (reverse.grad, jax.grad):
        with pytest.raises(Exception, match="non-differentiated array reference"):
            grad(escaping)(jnp.float64(1.0))


def test_a_loop_over_a_differentiated_reference_is_refused():
    def fun(x):
        ref = jax.new_ref(x)
        return lax.scan(lambda c, _: (c + ref[...], None), 0.0, None, length=3)[0]

    with pytest.raises(NotImplementedError, match=r"passed to 'scan' .*test_references\.py"):
        reverse.grad(fun)(2.0)


def test_a_backward_pass_may_write_to_a_reference():
    """The cotangent at a place of the program, put aside by the user's backward pass."""
    stash = jax.custom_vjp(lambda ref, x: x)

    def backward(ref, ct):
        ref[...] = ct
        return None, ct

    stash.defvjp(lambda ref, x: (x, ref), backward)
    ref = jax.new_ref(jnp.float64(0.0))
    assert reverse.grad(lambda x: 5.0 * stash(ref, x * x))(3.0) == 30.0
    assert ref[...] == 5.0
