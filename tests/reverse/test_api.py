"""The interface: what jax.vjp, jax.grad and their kin return and refuse, ours return and refuse."""

import functools
import gc
import traceback

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from functional_dl import reverse
from functional_dl.jaxprs import equations, needed

X = jnp.array([0.3, -1.2, 2.0])
M = jnp.array([[0.5, -0.2, 1.0], [1.5, 0.1, -0.4]])


def assert_trees_close(actual, expected, rtol=1e-13, atol=1e-13):
    chex.assert_trees_all_equal_shapes_and_dtypes(actual, expected)
    floating = jax.tree.map(lambda x: None if x.dtype == jax.float0 else x, (actual, expected))
    chex.assert_trees_all_close(*floating, rtol=rtol, atol=atol)


def network(params, x):
    hidden = jax.nn.relu(x @ params["first"] + 0.1)
    return jnp.mean(jax.nn.logsumexp(jnp.tanh(hidden) @ params["second"], axis=-1) ** 2)


PARAMS = {"first": M.T, "second": M[:, :2]}
BATCH = jnp.sin(jnp.arange(12.0)).reshape(4, 3)

FUNCTIONS = {
    "polynomial": (lambda x: jnp.sum(3 * x**2 - 2 * x + 1), (X,)),
    "network": (network, (PARAMS, BATCH)),
    "dictionary": (lambda d: d["a"] * jnp.sum(d["b"][0] ** 2) - d["b"][1], ({"a": 2.0, "b": (X, 3.0)},)),
    "shared": (lambda x: jnp.sum(x * x) + jnp.prod(x) * jnp.max(x), (X,)),
    "jitted": (lambda x: jnp.sum(jax.jit(lambda y: jnp.sin(y) * jnp.exp(y) / (1 + y**2) + jnp.cosh(y))(x)), (X,)),
    "checkpointed": (lambda x: jnp.sum(jax.checkpoint(lambda y: jnp.sin(jnp.exp(y)) * y)(x)), (X,)),
    "our checkpoint": (lambda x: jnp.sum(reverse.checkpoint(lambda y: jnp.sin(jnp.exp(y)) * y)(x)), (X,)),
    "nested": (lambda x: jnp.sum(reverse.grad(lambda y: jnp.sum(jnp.sin(y) * y**3))(x) ** 2), (X,)),
    "jax inside": (lambda x: jnp.sum(jax.grad(lambda y: jnp.sum(jnp.sin(y) * y**3))(x) ** 2), (X,)),
    "jvp inside": (lambda x: jnp.sum(jax.jvp(lambda y: jnp.sin(y) * y**3, (x,), (x,))[1]), (X,)),
    "vmap inside": (lambda m: jnp.sum(jax.vmap(lambda r: r @ r * jnp.sin(r))(m)), (M,)),
    "branch": (lambda x: jnp.sum(jnp.where(x > 0, jnp.sqrt(jnp.abs(x)), x**3)), (X,)),
    "stopped": (lambda x: jnp.sum(lax.stop_gradient(x) * x**2), (X,)),
    "constant": (lambda x: jnp.float64(3.0), (X,)),
    "identity": (lambda x: x, (jnp.float64(2.0),)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_and_grad_equals_jax(name):
    fun, args = FUNCTIONS[name]
    ours, expected = jax.jit(lambda *args: [d.value_and_grad(fun)(*args) for d in (reverse, jax)])(*args)
    assert_trees_close(ours, expected)
    assert_trees_close(reverse.value_and_grad(fun)(*args), expected)


@pytest.mark.parametrize("name", ["polynomial", "network", "shared", "jitted", "branch", "checkpointed", "nested"])
@pytest.mark.sampled(3)
def test_under_other_transformations(name):
    fun, args = FUNCTIONS[name]
    args = jax.tree.map(jnp.asarray, args)

    def norm(grad):
        return lambda *a: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(grad(*a)))

    def derivatives(grad, *args):
        tangents = jax.tree.map(jnp.ones_like, args)
        stacked = jax.tree.map(lambda x: jnp.stack([x, x + 0.1]), args)
        return jax.jvp(grad, args, tangents), jax.vmap(grad)(*stacked), jax.grad(norm(grad))(*args)

    @jax.jit
    def all_of(*args):
        twice = reverse.grad(norm(reverse.grad(fun)))(*args)
        return derivatives(reverse.grad(fun), *args), derivatives(jax.grad(fun), *args), twice

    (jvp, mapped, mixed), (jaxs_jvp, jaxs_mapped, expected), twice = all_of(*args)
    assert_trees_close(jvp, jaxs_jvp, 1e-12, 1e-12)
    assert_trees_close(mapped, jaxs_mapped, 1e-12, 1e-12)
    for actual in (mixed, twice):
        assert_trees_close(actual, expected, 1e-11, 1e-11)
    if name == "shared":
        assert_trees_close(reverse.grad(norm(reverse.grad(fun)))(*args), expected, 1e-11, 1e-11)


def test_fourth_order():
    def fourth(grad):
        return functools.reduce(lambda f, _: grad(f), range(4), lambda x: jnp.sin(x) * jnp.exp(2 * x) / x)

    np.testing.assert_allclose(fourth(reverse.grad)(0.7), fourth(jax.grad)(0.7), rtol=1e-12)


def test_argnums():
    def fun(x, y, z):
        return jnp.sum(x * y) * z["s"]

    args = (X, X + 1, {"s": 2.0})
    for argnums in (0, 1, 2, (0,), (2, 0), (0, 1, 2), -1, [1, 0]):
        assert_trees_close(reverse.grad(fun, argnums)(*args), jax.grad(fun, argnums)(*args))
    assert_trees_close(reverse.grad(fun)(X, z={"s": 2.0}, y=X), jax.grad(fun)(X, z={"s": 2.0}, y=X))


def test_aux():
    def fun(x):
        return jnp.sum(x**2), {"twice": 2 * x, "count": 3, "flag": x[0] > 0}

    (value, aux), gradient = reverse.value_and_grad(fun, has_aux=True)(X)
    (jax_value, jax_aux), jax_gradient = jax.value_and_grad(fun, has_aux=True)(X)
    assert_trees_close((value, gradient, aux["twice"]), (jax_value, jax_gradient, jax_aux["twice"]))
    assert aux["count"] == 3
    assert aux["flag"] == jax_aux["flag"]
    _, pullback, aux = reverse.vjp(fun, X, has_aux=True)
    assert_trees_close(pullback(1.0), (2 * X,))
    assert_trees_close(reverse.grad(fun, has_aux=True)(X)[0], 2 * X)


def test_integers_have_float0_cotangents():
    def fun(x, n, flag):
        return x * jnp.float64(n) + jnp.where(flag, 1.0, 0.0), n + 1

    _, pullback = reverse.vjp(fun, 2.0, 3, True)
    _, expected = jax.vjp(fun, 2.0, 3, True)
    ct = (1.5, np.zeros((), jax.float0))
    assert_trees_close(pullback(ct), expected(ct))
    assert reverse.grad(lambda n: n * 2.0, allow_int=True)(3).dtype == jax.float0


@pytest.mark.parametrize("branch", [1.5, -1.5])
def test_python_control_flow_on_concrete_values(branch):
    def fun(x):
        total = x
        while total < 10 and total > -10:
            total = total * 2 if x > 0 else total * 3
        for _ in range(int(abs(x) + 1)):
            total = total * x
        return total

    assert_trees_close(reverse.grad(fun)(branch), jax.grad(fun)(branch))


def test_pullback_is_a_pytree():
    _, pullback = jax.jit(lambda x: reverse.vjp(lambda y: jnp.sin(y) * y, x))(X)
    assert isinstance(pullback, jax.tree_util.Partial)
    expected = (jnp.cos(X) * X + jnp.sin(X),)
    assert_trees_close(pullback(jnp.ones(3)), expected)
    doubled = jax.tree.map(lambda leaf: leaf, pullback)
    assert_trees_close(jax.jit(lambda p, ct: p(ct))(doubled, jnp.ones(3)), expected)
    rows = jax.vmap(pullback)(jnp.eye(3))[0]
    assert_trees_close(rows, jnp.diag(expected[0]))


def test_residuals_are_only_what_the_backward_pass_reads():
    leaves = jax.tree.leaves(reverse.vjp(lambda x: 2.0 * (x + 1.0), X)[1])
    assert [leaf.size for leaf in leaves if leaf.size > 1] == []
    leaves = jax.tree.leaves(reverse.vjp(jnp.exp, X)[1])
    assert len(leaves) == 1


@pytest.mark.parametrize("name", ["polynomial", "shared", "branch"])
def test_jacobians_and_hessians(name):
    fun, args = FUNCTIONS[name]
    ours, expected = jax.jit(lambda *args: [d.hessian(fun)(*args) for d in (reverse, jax)])(*args)
    assert_trees_close(ours, expected, 1e-12, 1e-12)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_jacobians_of_trees(wrap):
    def field(x):
        return {"a": jnp.sin(x) * x[0], "b": jnp.outer(x, x)}

    def jacobians(d, x):
        return d.jacrev(field)(x), d.jacobian(field, (0,))(x), d.jacrev(lambda x: (x**2, x), has_aux=True)(x)

    for ours, expected in zip(wrap(functools.partial(jacobians, reverse))(X), jax.jit(lambda x: jacobians(jax, x))(X)):
        assert_trees_close(ours, expected)


def test_holomorphic():
    z = jnp.array(0.3 + 0.7j)
    assert_trees_close(
        reverse.grad(lambda z: jnp.sin(z) * z**2, holomorphic=True)(z),
        jax.grad(lambda z: jnp.sin(z) * z**2, holomorphic=True)(z),
    )
    assert_trees_close(reverse.grad(lambda z: jnp.abs(z) ** 2)(z), jax.grad(lambda z: jnp.abs(z) ** 2)(z))
    assert_trees_close(
        reverse.jacrev(lambda z: z * z[0], holomorphic=True)(z[None]),
        jax.jacrev(lambda z: z * z[0], holomorphic=True)(z[None]),
    )


def count(fun, *args):
    """Equations of a program, without those whose results nothing uses (XLA drops them)."""
    jaxpr = jax.make_jaxpr(fun)(*args)
    return len(needed(jaxpr)), len(equations(jaxpr))


def test_what_is_not_differentiated_costs_nothing():
    def fun(x, y):
        long = y
        for _ in range(20):
            long = jnp.sin(long)
        return x * jnp.sum(long)

    kept, total = count(reverse.grad(fun), 2.0, X)
    assert total <= 26  # 20 sines, a sum, the product forward and back, and room for a conversion
    del kept


def test_unused_paths_are_pruned():
    def fun(x):
        unused = x
        for _ in range(20):
            unused = jnp.sin(unused)
        return x * 3.0

    _, total = count(reverse.grad(fun), 2.0)
    assert total <= 24  # the forward pass as the user wrote it; nothing of it in the backward pass
    assert jax.tree.leaves(reverse.vjp(fun, 2.0)[1]) == []


def test_zero_cotangents_stay_symbolic():
    def fun(x):
        return x, jax.jit(lambda y: functools.reduce(lambda a, _: jnp.sin(a), range(30), y))(x)

    plain, _ = count(lambda x: fun(x), 2.0)
    with_grad, _ = count(lambda x: reverse.vjp(lambda y: fun(y)[0], x)[1](1.0), 2.0)
    assert with_grad <= plain


BAD = {
    "not callable": (lambda: reverse.grad(3.0), TypeError, "Expected a callable"),
    "generator": (lambda: reverse.vjp(generator, 1.0), TypeError, "generator"),
    "vector output": (lambda: reverse.grad(lambda x: x)(X), TypeError, r"scalar-output functions.*\(3,\)"),
    "tree output": (lambda: reverse.grad(lambda x: (x, x))(1.0), TypeError, "scalar-output functions"),
    "complex output": (lambda: reverse.grad(lambda x: x * 1j)(1.0), TypeError, "real-valued outputs"),
    "integer output": (lambda: reverse.grad(lambda x: 3)(1.0), TypeError, "real-valued outputs"),
    "integer input": (lambda: reverse.grad(lambda x: x)(3), TypeError, "allow_int"),
    "real holomorphic": (lambda: reverse.grad(lambda x: x, holomorphic=True)(1.0), TypeError, "complex dtype"),
    "string input": (lambda: reverse.grad(lambda x: x)("text"), TypeError, "not a valid JAX type"),
    "string output": (lambda: reverse.grad(lambda x: "text")(1.0), TypeError, "not a valid JAX type"),
    "too few arguments": (lambda: reverse.grad(lambda x: x, 1)(1.0), TypeError, "at least 2"),
    "aux not a pair": (lambda: reverse.vjp(lambda x: x, 1.0, has_aux=True), TypeError, "two-element tuple"),
    "two cotangents": (lambda: reverse.vjp(lambda x: x, 1.0)[1](1.0, 1.0), TypeError, "called with 2 arguments"),
    "cotangent tree": (lambda: reverse.vjp(lambda x: (x, x), 1.0)[1](1.0), ValueError, "tree structure"),
    "cotangent shape": (lambda: reverse.vjp(lambda x: x, X)[1](1.0), ValueError, r"got float64\[\]"),
    "cotangent dtype": (lambda: reverse.vjp(lambda x: x, X)[1](X.astype("float32")), ValueError, "got float32"),
    "callback": (
        lambda: reverse.grad(lambda x: jax.pure_callback(lambda y: y, jax.ShapeDtypeStruct((), X.dtype), x))(1.0),
        ValueError,
        "Pure callbacks do not support",
    ),
    "tracer to float": (
        lambda: reverse.grad(jax.jit(lambda x: float(x)))(1.0),
        jax.errors.ConcretizationTypeError,
        "float",
    ),
}


def generator(x):
    yield x


@pytest.mark.parametrize("name", BAD)
def test_refusals(name):
    call, error, message = BAD[name]
    with pytest.raises(error, match=message):
        call()


def test_a_missing_rule_names_the_primitive_and_the_line():
    primitive = jax.extend.core.Primitive("mystery")
    primitive.def_impl(lambda x: x)
    primitive.def_abstract_eval(lambda x: x)
    with pytest.raises(NotImplementedError, match=r"mystery.*test_api\.py"):
        reverse.grad(lambda x: primitive.bind(x))(1.0)


def test_a_user_can_state_a_rule():
    primitive = jax.extend.core.Primitive("doubled")
    primitive.def_impl(lambda x: 2 * x)
    primitive.def_abstract_eval(lambda x: x)

    @reverse.vjp_rule(primitive, reverse.Probe(primitive.bind))
    def doubled_vjp(ct, out, x, **_):
        """y = 2 x  =>  x_bar = 2 y_bar."""
        return (2 * ct,)

    try:
        assert reverse.grad(lambda x: primitive.bind(x) ** 2)(3.0) == 24.0
    finally:
        del reverse.PRIMITIVES[primitive]


def test_a_tracer_does_not_escape():
    leaked = []
    reverse.grad(lambda x: leaked.append(x) or x * 2)(1.0)
    with pytest.raises(jax.errors.UnexpectedTracerError):
        jnp.sin(leaked[0])


def test_closing_over_tracers():
    def outer(x):
        return reverse.grad(lambda y: x * y**2 + x)(x * 3.0)

    assert_trees_close(jax.jit(outer)(2.0), jnp.float64(24.0))
    assert_trees_close(reverse.grad(outer)(2.0), jax.grad(lambda x: 2 * x * 3.0 * x)(2.0))


def test_python_numbers_keep_their_weak_type():
    """x is of weak type: where it meets float32 the result is float32, and so it is with x's cotangent."""
    narrow = jnp.ones(3, "float32")
    functions = [lambda x: x, jnp.sin, lambda x: x**3, lambda x: jnp.sum(narrow * x), lambda x: jnp.sum(X * x)]
    for fun in functions:
        for args in ((2.0,), (jnp.float64(2.0),), (jnp.float32(2.0),)):
            with jax.numpy_dtype_promotion("standard"):
                actual, expected = reverse.grad(fun)(*args), jax.grad(fun)(*args)
            assert (actual.dtype, actual.weak_type) == (expected.dtype, expected.weak_type)
    assert isinstance(reverse.vjp(lambda x: x, 2.0)[0], float)
    assert equations(jax.make_jaxpr(reverse.grad(jnp.sin))(2.0))[-1].primitive.name == "mul"


@pytest.mark.campaign
def test_a_value_within_shows_itself_as_jaxs_does():
    def seen(differentiate):
        found = []

        def noted(x):
            found.append(repr(x))
            return jnp.sum(x)

        for call in (differentiate(noted), jax.jit(differentiate(noted)), jax.vmap(differentiate(noted))):
            call(jnp.arange(3.0))
        differentiate(differentiate(noted))(1.0)
        return found

    assert seen(reverse.grad) == seen(jax.grad)
    assert seen(reverse.grad)[0] == "GradTracer(primal=[0. 1. 2.], typeof(tangent)=f64[3])"


def test_debug_nans_shows_the_line_whose_derivative_is_nan():
    def length(x):
        squares = jnp.sum(x**2)
        return jnp.sqrt(squares)

    with jax.debug_nans(True), pytest.raises(FloatingPointError) as caught:
        reverse.grad(length)(jnp.zeros(3))
    assert caught.value.__cause__ is not None
    [cause] = [frame for frame in traceback.extract_tb(caught.value.__cause__.__traceback__) if frame.name == "length"]
    assert cause.line == "squares = jnp.sum(x**2)"  # 2 x inf of the square root's


def test_nothing_leaks():
    """jax.checking_leaks finds a tracer that the user keeps, and none of ours."""
    programs = [
        jnp.sin,
        jax.nn.gelu,
        reverse.grad(jax.nn.silu),
        jax.jit(lambda x: jnp.sin(x) ** 2 * x),
        jax.checkpoint(lambda x: jnp.sin(jnp.sin(x))),
        lambda x: lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=3)[0],
        lambda x: lax.cond(x > 0, jnp.sin, jnp.cos, x),
    ]
    kept: list = []
    with jax.checking_leaks():
        for fun in programs:
            reverse.grad(fun)(0.5)
        jax.jit(reverse.grad(programs[-1]))(0.5)
        jax.jit(lambda x: reverse.vjp(jax.checkpoint(lambda x: jax.nn.relu(1.0 * x)), x))(1.0)
        with pytest.raises(Exception, match="Leaked trace"):
            reverse.grad(lambda x: kept.append(x) or x * 2)(1.0)


def test_what_was_recorded_goes_at_once():
    """Values of the forward pass, and tracers, do not wait for a collection of garbage."""
    x = jnp.ones(1003)
    collecting = gc.isenabled()
    gc.disable()
    try:
        reverse.grad(lambda x: jnp.sum(jnp.sin(x) * x))(x)
        alive = [y for y in jax.live_arrays() if y.shape == x.shape]
        assert len(alive) == 1  # x
    finally:
        if collecting:
            gc.enable()


def test_a_primitive_without_any_rule_is_told_of_its_derivative_first():
    primitive = jax.extend.core.Primitive("mystery")
    with pytest.raises(NotImplementedError, match=r"^Differentiation rule for 'mystery' not implemented"):
        reverse.grad(lambda x: primitive.bind(x))(1.0)
    with pytest.raises(NotImplementedError, match=r"^Evaluation rule for 'mystery' not implemented"):
        reverse.grad(lambda x: x * primitive.bind(1.0))(1.0)


SPLIT, ALL = jax.P("i"), jax.P()
SHARDED = {
    "recorded in a jaxpr": lambda f: lambda w, x: jax.jit(f(SPLIT))(w, x),
    "under checkpoint": lambda f: lambda w, x: jax.checkpoint(f(SPLIT))(w, x),
    "pmap": lambda _: lambda w, x: jax.pmap(lambda w, x: w * jnp.sin(x), in_axes=(None, 0))(w, x),
}


@pytest.mark.parametrize("name", SHARDED)
def test_programs_on_several_devices(name):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("i",))

    def mapped(spec):
        return jax.shard_map(lambda w, x: w * jnp.sin(x), mesh=mesh, in_specs=(ALL, spec), out_specs=spec)

    fun = SHARDED[name](mapped)
    x = jnp.arange(4.0)
    actual = reverse.grad(lambda w, x: jnp.sum(fun(w, x)), (0, 1))(jnp.float64(2.0), x)
    assert_trees_close(actual, (jnp.sum(jnp.sin(x)), 2 * jnp.cos(x)))


def test_shard_map_over_a_closure():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("i",))

    def fun(w):
        return jnp.sum(jax.shard_map(lambda x: x * w**2, mesh=mesh, in_specs=SPLIT, out_specs=SPLIT)(jnp.arange(4.0)))

    for grad in (reverse.grad(fun), jax.jit(reverse.grad(fun)), reverse.grad(jax.jit(fun))):
        np.testing.assert_allclose(grad(jnp.float64(3.0)), 36.0, rtol=1e-14)


def test_cotangents_lie_on_the_mesh_as_their_primals_do():
    mesh = jax.make_mesh((4,), ("i",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x = jax.device_put(jnp.arange(8.0), SPLIT)
        w = jax.device_put(jnp.sin(jnp.arange(64.0)).reshape(8, 8), jax.P(None, None))
        gradient = reverse.grad(lambda x, w: jnp.sum(jnp.sin(x @ w)), (0, 1))
        for actual, primal in zip(gradient(x, w), (x, w)):
            assert jax.typeof(actual) == jax.typeof(primal)
