"""reverse under JAX's transformations, and JAX's under reverse: modes mixed to order 4, batching, compilation."""

import functools
import itertools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from functional_dl import reverse

ROOT = Path(__file__).parents[2]


def _jax_forward(fun):
    return lambda x: jax.jvp(fun, (x,), (jnp.ones_like(x),))[1]


# outside jit too
EAGER = {("ours", "ours"), ("forward", "ours"), ("ours", "ours", "ours"), ("jax", "ours", "jax", "ours")}
GRADS = {"ours": reverse.grad, "jax": jax.grad, "forward": _jax_forward}


def scalar(x):
    """A function of one number through arithmetic, a branch, a loop, a call and a user's rule."""
    y = lax.cond(x > 0, lambda x: jnp.sin(x) * x, lambda x: jnp.exp(x), x)
    y = lax.scan(lambda c, _: (jnp.tanh(c) + 0.3 * x, None), y, None, length=3)[0]
    return jax.jit(lambda y: jnp.log1p(y * y))(y) + jax.nn.softplus(x) * jnp.sqrt(1 + x**2)


@functools.cache
def _derivative_of_order(n, point=0.7):
    """By JAX's Taylor mode of its own forward mode, n times: no reverse mode in it."""
    fun = scalar
    for _ in range(n):
        fun = _jax_forward(fun)
    return float(jax.jit(fun)(point))


@pytest.mark.parametrize("modes", list(itertools.product(GRADS, repeat=2)), ids="-".join)
@pytest.mark.sampled(4)
def test_modes_mixed_at_order_two(modes):
    fun = scalar
    for mode in modes:
        fun = GRADS[mode](fun)
    for run in (jax.jit(fun), fun)[: 2 if modes in EAGER else 1]:
        np.testing.assert_allclose(run(0.7), _derivative_of_order(2), rtol=1e-11)


@pytest.mark.parametrize(
    "modes", [("ours",) * 3, ("ours",) * 4, ("jax", "ours", "jax", "ours"), ("ours", "forward", "ours", "forward")],
    ids="-".join,
)  # fmt: skip
@pytest.mark.sampled(3)
def test_modes_mixed_to_order_four(modes):
    fun = scalar
    for mode in modes:
        fun = GRADS[mode](fun)
    for run in (jax.jit(fun), fun)[: 2 if modes in EAGER else 1]:
        np.testing.assert_allclose(run(0.7), _derivative_of_order(len(modes)), rtol=1e-9)


def nested(depth):
    """Loops and branches in each other, `depth` deep, of each kind in turn."""

    def level(x, w, k):
        if k == depth:
            return jnp.sin(w * x)
        inner = functools.partial(level, k=k + 1)
        if k % 4 == 0:
            return lax.scan(lambda c, v: (c + inner(v * c, w), c * w), x, jnp.array([0.5, -0.3]))[0]
        if k % 4 == 1:
            return lax.cond(x > 0, lambda x: inner(x, w), lambda x: inner(-x, w) * w, x)
        if k % 4 == 2:
            return lax.fori_loop(0, 2, lambda i, c: c + inner(c, w) * i, x)
        return lax.switch(jnp.int32(x > 0.2), [lambda x: inner(x, w), lambda x: x * w, jnp.cos], x)

    return lambda x, w: level(x, w, 0)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.sampled(3)
def test_nested_control_flow(depth):
    fun = nested(depth)
    batch = jnp.array([0.8, -0.4, 0.1])

    @jax.jit
    def gradients(batch, w):
        singly = jax.lax.map(lambda x: [d.grad(fun, (0, 1))(x, w) for d in (reverse, jax)], batch)
        return singly, jax.vmap(reverse.grad(fun), (0, None))(batch, w)

    (ours, expected), mapped = gradients(batch, 1.3)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    np.testing.assert_allclose(mapped, expected[0], rtol=1e-12)
    if depth <= 2:
        np.testing.assert_allclose(reverse.grad(fun, (0, 1))(0.8, 1.3), [e[0] for e in expected], rtol=1e-12)


def test_nested_while_loops_to_depth_four():
    def level(x, k):
        if k == 0:
            return jnp.sin(x) + 0.5
        return lax.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, level(s[1], k - 1)), (0, x))[1]

    def unrolled(x):
        for _ in range(16):
            x = jnp.sin(x) + 0.5
        return x

    def both(x):
        pairs = ((reverse.grad, lambda x: level(x, 4)), (jax.grad, unrolled))
        return [(grad(fun)(x[0]), jax.vmap(grad(fun))(x)) for grad, fun in pairs]

    (ours, mapped), (expected, expected_mapped) = jax.jit(both)(jnp.array([0.3, 1.0]))
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    np.testing.assert_allclose(mapped, expected_mapped)


def test_without_compilation():
    with jax.disable_jit():
        ours = reverse.grad(scalar)(0.7)
        twice = reverse.grad(reverse.grad(scalar))(0.7)
    expected, expected_twice = jax.jit(lambda x: (jax.grad(scalar)(x), jax.grad(jax.grad(scalar))(x)))(0.7)
    np.testing.assert_allclose(ours, expected, rtol=1e-13)
    np.testing.assert_allclose(twice, expected_twice, rtol=1e-12)


def test_donated_arguments():
    def step(params, x):
        gradient = reverse.grad(lambda p: jnp.sum(jnp.tanh(x @ p) ** 2))(params)
        return params - 0.1 * gradient

    params, x = jnp.ones((3, 2)) * 0.5, jnp.arange(6.0).reshape(2, 3)
    expected = jax.jit(step)(params, x)
    donated = params + 0.0
    np.testing.assert_array_equal(jax.jit(step, donate_argnums=0)(donated, x), expected)
    assert donated.is_deleted()


def test_forward_over_reverse_is_the_hessians_product():
    def fun(x):
        return jnp.sum(jnp.sin(x) * jnp.roll(x, 1) ** 2) + jnp.prod(x)

    x, v = jnp.array([0.3, -1.2, 0.7]), jnp.array([1.0, 0.5, -2.0])
    hessian = jax.hessian(fun)(x)
    np.testing.assert_allclose(jax.jvp(reverse.grad(fun), (x,), (v,))[1], hessian @ v, rtol=1e-12)
    np.testing.assert_allclose(reverse.hessian(fun)(x), hessian, rtol=1e-12)
    np.testing.assert_allclose(jax.jacfwd(reverse.grad(fun))(x), hessian, rtol=1e-12)
    np.testing.assert_allclose(reverse.jacrev(jax.grad(fun))(x), hessian, rtol=1e-12)
    np.testing.assert_allclose(jax.linearize(reverse.grad(fun), x)[1](v), hessian @ v, rtol=1e-12)


PROGRAM = """
import sys
import jax, jax.numpy as jnp
from functional_dl import reverse
f = lambda w, x: jnp.sum(jnp.tanh(x @ w) ** 2)
step = jax.jit(lambda w, x: w - 0.1 * reverse.grad(f)(w, x))
print(step(jnp.ones((3, 2)), jnp.ones((4, 3))).sum())
"""


def test_compilation_cache_is_hit_in_the_next_run(tmp_path):
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "PYTHONPATH": str(ROOT),
    }

    def run():
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=True, cwd=tmp_path
        )
        return done.stdout, {p.name for p in tmp_path.iterdir() if not p.name.endswith("-atime")}

    first, entries = run()
    assert entries
    assert run() == (first, entries)  # nothing new had to be compiled


ONE_EQUATION = {
    "pmap": lambda: jax.pmap(lambda x: jnp.sin(x) * x),
    "checkpoint": lambda: jax.jit(jax.checkpoint(lambda x: jnp.sin(x) * x)),
    "policy in a scan": lambda: jax.checkpoint(
        lambda x: jax.lax.scan(lambda c, _: (jnp.sin(c @ x), None), x[0], length=2)[0],
        policy=jax.checkpoint_policies.dots_saveable,
    ),
}


@pytest.mark.parametrize("name", ONE_EQUATION)
def test_a_program_of_one_equation_is_compiled_once(name, caplog):
    """A jit of nothing but a checkpoint or a map over devices runs as one program, outside jit too."""
    fun, x = ONE_EQUATION[name](), jnp.ones((1, 1))

    def step():
        y, pullback = reverse.vjp(fun, x)
        return pullback(y)

    expected = step()
    caplog.clear()
    with jax.log_compiles():
        again = step()
    assert not [line for line in caplog.messages if line.startswith("Compiling")]
    np.testing.assert_allclose(again[0], expected[0])
    np.testing.assert_allclose(again[0], jax.vjp(fun, x)[1](fun(x))[0], rtol=1e-12)
