"""Primitives that are not JAX's: the derivative that their owner registered is honoured, as jax.vjp does; JAX's own
registrations are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every import every
from jax import lax
from jax.experimental import hijax, sparse
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from functional_dl import reverse
from functional_dl.reverse.rules import foreign

X = jnp.array([0.3, -1.2, 2.0])
Y = jnp.array([0.5, 0.7, -0.4])


def primitive(name, impl, *, batch=True, several=False):
    """A user's own primitive with these operations, defined as JAX's documentation does it."""
    p = Primitive(name)
    p.multiple_results = several
    p.def_impl(impl)
    p.def_abstract_eval(
        lambda *avals, **params: jax.tree.map(_aval, jax.eval_shape(lambda *x: impl(*x, **params), *avals))
    )
    mlir.register_lowering(p, mlir.lower_fun(impl, multiple_results=several))
    if batch:
        batching.primitive_batchers[p] = lambda xs, axes, **params: _batched(p, xs, axes, params)
    return p


def _aval(x):
    return jax.core.ShapedArray(x.shape, x.dtype)


def _batched(p, xs, axes, params):
    outs = p.bind(
        *[x if axis is not None else jnp.broadcast_to(x, (3, *x.shape)) for x, axis in zip(xs, axes)], **params
    )
    return outs, [0] * len(outs) if p.multiple_results else 0


# The registered derivatives double or change the true one, so that they are seen to be used.
sine_p = primitive("own_sine", lambda x: jnp.sin(x))
ad.defjvp(sine_p, lambda t, x: 2 * t * jnp.cos(x))

root_p = primitive("own_exponential", lambda x: jnp.exp(x))
ad.defjvp2(root_p, lambda t, y, x: 3 * t * y)

linear_p = primitive("own_linear", lambda x, *, by: x * by)
ad.deflinear2(linear_p, lambda ct, _, *, by: [7 * ct * by])

product_p = primitive("own_product", lambda x, y: x * y)
ad.defbilinear(product_p, lambda ct, x, y: product_p.bind(ct, y), lambda ct, x, y: product_p.bind(x, ct))

of_jax_p = Primitive("own_of_jax_operations")  # nothing but the registration is the user's
of_jax_p.def_impl(jnp.sin)
ad.defjvp(of_jax_p, lambda t, x: 2 * t * jnp.cos(x))

halves_p = primitive("own_halves", lambda x, y: [x * y, x + y], several=True)


def _halves_jvp(primals, tangents):
    (x, y), (x_dot, y_dot) = primals, map(ad.instantiate_zeros, tangents)
    return halves_p.bind(x, y), [x_dot * y + 2 * x * y_dot, linear_p.bind(x_dot, by=1.0) + y_dot]


ad.primitive_jvps[halves_p] = _halves_jvp


class Cube(hijax.HiPrimitive):
    def abstract_eval(self, x):
        return x, set()

    def to_lojax(self, x):
        return x**3

    def jvp(self, primals, tangents):
        return cube_p.bind(*primals), 30 * primals[0] ** 2 * tangents[0]


cube_p = Cube("own_cube")

PROGRAMS = {
    "defjvp": (lambda x: sine_p.bind(x), X),
    "defjvp2": (lambda x: root_p.bind(x), X),
    "deflinear2": (lambda x: linear_p.bind(jnp.sin(x), by=3.0), X),
    "defbilinear": (lambda x, y: product_p.bind(jnp.sin(x), y), X, Y),
    "defbilinear, one constant": (lambda x: product_p.bind(2 * Y, x), X),
    "several results": (lambda x, y: halves_p.bind(x, y), X, Y),
    "several results, one read": (lambda x, y: halves_p.bind(x, y)[1], X, Y),
    "operations of JAX's": (lambda x: of_jax_p.bind(x), X),
    "a class": (lambda x: cube_p.bind(x), X),
}
EAGER_ONLY = {"operations of JAX's"}
NOT_MAPPED = {"a class"}
WRAPPERS = {
    "eager": lambda f: f,
    "jit": jax.jit,
    "scan": lambda f: lambda *xs: _once(f, xs),
    "checkpoint": jax.checkpoint,
    "cond": lambda f: lambda *xs: lax.cond(jnp.sum(xs[0]) > -100, f, f, *xs),
}


def _once(f, xs):
    """f in the body of a scan of two steps, of which each gives its value."""
    return lax.scan(lambda c, _: (c, f(*c)), xs, None, length=2)[1]


def derivatives(name, d, fun, args):
    """First derivatives, under vmap and second derivatives."""

    def loss(*xs):
        return sum(jnp.sum(jnp.sin(leaf) * (i + 1)) for i, leaf in enumerate(jax.tree.leaves(fun(*xs))))

    argnums = tuple(range(len(args)))
    yield d.value_and_grad(loss, argnums)(*args)
    yield d.grad(lambda x: jnp.sum(jnp.cos(d.grad(loss)(x, *args[1:]))))(args[0])
    if name not in EAGER_ONLY | NOT_MAPPED:
        yield jax.vmap(d.grad(lambda *xs: loss(*xs), argnums))(*[jnp.stack([x, 2 * x, -x]) for x in args])


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.sampled(3)
def test_equals_jax(wrap):
    def check(name):
        fun, *args = PROGRAMS[name]
        ours, theirs = (list(derivatives(name, d, WRAPPERS[wrap](fun), args)) for d in (reverse, jax))
        for actual, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)

    every([name for name in PROGRAMS if wrap == "eager" or name not in EAGER_ONLY], check)


def test_registered_derivatives_by_hand():
    assert reverse.grad(lambda x: sine_p.bind(x))(0.0) == 2.0
    assert reverse.grad(lambda x: linear_p.bind(x, by=3.0))(1.0) == 21.0
    assert reverse.grad(lambda x: cube_p.bind(x))(1.0) == 30.0


def jaxs_own():
    """Every primitive for which JAX has registered a derivative."""
    assert sparse.bcoo_todense_p in ad.primitive_jvps
    registered = {*ad.primitive_jvps, *ad.primitive_transposes}
    return [p for p in registered if not p.name.startswith("own_") and not _of_a_library(p)]


def _of_a_library(p):
    """Primitives of libraries that other tests have loaded."""
    return any(package in foreign.owners(p) for package in ("equinox", "lineax", "optimistix", "quadax"))


def is_refused(p):
    assert foreign.owners(p) == set()
    assert foreign.rule_of_others(p) is None


def test_registrations_of_jax_are_refused():
    assert every(jaxs_own(), is_refused) > 150


def test_a_registration_for_a_primitive_of_jax_is_refused(monkeypatch):
    """Libraries do so: whose primitive it is does not change."""
    found = {p.name: p for p in jaxs_own()}
    for name in ("sin", "dot_general", "bcoo_todense"):
        monkeypatch.setitem(ad.primitive_jvps, found[name], lambda primals, tangents, **_: (primals[0], tangents[0]))
        monkeypatch.setitem(ad.primitive_transposes, found[name], lambda ct, *_, **__: [ct])
        is_refused(found[name])


def test_owners():
    for p in (sine_p, root_p, linear_p, product_p, of_jax_p, halves_p, cube_p):
        assert foreign.owners(p) == {__name__.split(".")[0]}


def test_a_rule_of_the_users_comes_first():
    p = primitive("own_ruled", lambda x: x)
    ad.deflinear(p, lambda ct: [2 * ct])
    assert reverse.grad(lambda x: p.bind(x))(1.0) == 2.0

    @reverse.vjp_rule(p, reverse.Probe(p.bind))
    def ruled_vjp(ct, out, x, **_):
        """y = x  =>  x_bar = 5 y_bar, to be told from the other."""
        return (5 * ct,)

    try:
        assert reverse.grad(lambda x: p.bind(x))(1.0) == 5.0
    finally:
        del reverse.PRIMITIVES[p]


def test_what_is_missing_is_said_with_its_place():
    bare = primitive("own_bare", lambda x: x)
    with pytest.raises(NotImplementedError, match=r"'own_bare' not implemented \(.*test_foreign\.py:\d+.*defjvp"):
        reverse.grad(lambda x: bare.bind(x))(1.0)
    no_transpose = primitive("own_without_transpose", lambda x: 2 * x)
    ad.primitive_jvps[no_transpose] = lambda primals, tangents: (
        no_transpose.bind(*primals),
        no_transpose.bind(*tangents),
    )
    with pytest.raises(NotImplementedError, match=r"Transpose rule .*'own_without_transpose'.*test_foreign\.py:\d+"):
        reverse.grad(lambda x: no_transpose.bind(x))(1.0)


def test_what_needs_no_derivative_needs_no_rule():
    rounded = primitive("own_rounded", lambda x: jnp.round(x).astype(jnp.int32))
    assert reverse.grad(lambda x: x * rounded.bind(x).astype(x.dtype))(3.0) == 3.0


def test_a_transpose_alone_serves_tangents():
    of_tangents = primitive("own_of_tangents", lambda x: 2 * x)
    ad.primitive_transposes[of_tangents] = lambda ct, _: [11 * ct]
    p = primitive("own_by_tangents", lambda x: x)
    ad.defjvp(p, lambda t, x: of_tangents.bind(t))
    assert reverse.grad(lambda x: p.bind(x))(1.0) == jax.grad(lambda x: p.bind(x))(1.0) == 11.0


def test_a_transpose_may_say_that_a_cotangent_is_zero():
    p = primitive("own_first", lambda x, y: x + 0 * y)
    ad.primitive_jvps[p] = lambda primals, tangents: (p.bind(*primals), p.bind(*map(ad.instantiate_zeros, tangents)))
    ad.primitive_transposes[p] = lambda ct, x, y: [2 * ct, ad.Zero(jax.typeof(ct))]
    assert reverse.grad(lambda x, y: p.bind(x, y) + y * x, (0, 1))(2.0, 5.0) == (7.0, 2.0)


def test_values_and_tangents_of_a_loop_are_told_apart():
    """The derivative of a loop computes both; a value is no tangent, in which a primitive would be linear."""

    def fun(x):
        def outer(c, w):
            def inner(d, _):
                return lax.cond(w > 0, jnp.sin, jnp.cos, d * jnp.sin(x)), d

            c, ys = lax.scan(inner, c, None, length=2)
            c = lax.fori_loop(0, 2, lambda i, c: halves_p.bind(c, x)[1], c)
            return halves_p.bind(c, ys[1])[0], c

        return jnp.sum(halves_p.bind(*lax.scan(outer, x, jnp.array([1.0, -1.0])))[1])

    wrapped = jax.custom_jvp(fun)
    wrapped.defjvp(lambda primals, tangents: jax.jvp(fun, primals, tangents))
    np.testing.assert_allclose(reverse.grad(wrapped)(0.7), jax.grad(wrapped)(0.7), rtol=1e-12)


# --- primitives that are objects --------------------------------------------------------------------------------------


class _Object(hijax.VJPHiPrimitive):
    def __init__(self, *avals):
        self.in_avals, self.out_aval, self.params = avals, avals[0], {}
        super().__init__()


class Passes(_Object):
    """x y, with a forward and a backward pass."""

    def expand(self, x, y):
        return x * y

    def vjp_fwd(self, wanted, x, y):
        return self(x, y), (x, y)

    def vjp_bwd_retval(self, kept, ct):
        return 2 * ct * kept[1], 3 * ct * kept[0]

    def batch_dim_rule(self, axis_data, dims):
        return 0


class Before(Passes):
    """The same, with a forward pass as JAX had them: it is not told what is differentiated."""

    def vjp_fwd(self, x, y):
        return self(x, y), (x, y)


class Places(Passes):
    """The same, with a backward pass that brings the cotangents to their places."""

    vjp_bwd_retval = hijax.VJPHiPrimitive.vjp_bwd_retval

    def vjp_bwd(self, kept, ct, x_bar, y_bar):
        x_bar.accum(ct * kept[1])
        x_bar.accum(ct * kept[1])
        y_bar.accum(3 * ct * kept[0])


class Twice(_Object):
    """2 x, which says its transpose."""

    def expand(self, x):
        return 2 * x

    def vjp_fwd(self, wanted, x):
        return self(x), None

    def vjp_bwd_retval(self, _, ct):
        return (Twice(jax.typeof(ct))(ct),)

    def batch_dim_rule(self, axis_data, dims):
        return 0


class Steps(_Object):
    """sin, whose derivative is stated in two steps: what is kept of the value, and a linear map of tangents."""

    def expand(self, x):
        return jnp.sin(x)

    def lin(self, wanted, x):
        return self(x), jnp.cos(x)

    def linearized(self, kept, x_dot):
        return Scaled(jax.typeof(x_dot))(x_dot) * kept


class Asked(Passes):
    """x y, as a linear map that is made of what is wanted alone."""

    vjp_fwd = hijax.VJPHiPrimitive.vjp_fwd
    vjp_bwd_retval = hijax.VJPHiPrimitive.vjp_bwd_retval

    def lin(self, wanted, x, y):
        return self(x, y), (2 * y if wanted[0] else 0 * y, 3 * x if wanted[1] else 0 * x)

    def linearized(self, kept, x_dot, y_dot):
        return kept[0] * x_dot + kept[1] * y_dot


class Scaled(_Object):
    """5 x, which says its transpose alone."""

    def expand(self, x):
        return 5 * x

    def transpose(self, ct, x_bar):
        x_bar.accum(7 * ct)


class Linear(_Object):
    """x k, linear in x, with a derivative and a transpose that are told apart by their factors."""

    def expand(self, x, k):
        return x * k

    def jvp(self, primals, tangents):
        return self(*primals), 2 * self(tangents[0], primals[1])

    def transpose(self, ct, x_bar, k):
        x_bar.accum(3 * ct * k)


class Rounded(_Object):
    """An integer, of which nobody asks a derivative."""

    def __init__(self, aval):
        super().__init__(aval)
        self.out_aval = jax.core.ShapedArray(aval.shape, jnp.int32)
        hijax.VJPHiPrimitive.__init__(self)

    def expand(self, x):
        return jnp.round(x).astype(jnp.int32)


class _Pair(_Object):
    def __init__(self, aval):
        super().__init__(aval)
        self.out_aval = (aval, aval)
        hijax.VJPHiPrimitive.__init__(self)

    def expand(self, x):
        return 2 * x, 3 * x


class Moving(_Pair):
    """(2 x, 3 x), of which the second is said not to depend on x."""

    def vjp_fwd(self, wanted, x):
        return self(x), None, (True, False)

    def vjp_bwd_retval(self, _, cts):
        return (5 * cts[0] + jnp.ones_like(cts[1]) * cts[1],)


class Still(_Pair):
    """(2 x, 3 x), with tangents that are None and a number."""

    def jvp(self, primals, tangents):
        return self(*primals), (None, 7 * tangents[0])


def of(kind):
    return lambda *xs: kind(*map(jax.typeof, xs))(*xs)


OBJECTS = {"passes": (of(Passes), X, Y), "places": (of(Places), X, Y), "one operand": (of(Twice), X)}


@pytest.mark.parametrize("wrap", ["eager", "jit", "scan"])
def test_objects_equal_jax(wrap):
    def check(name):
        fun, *args = OBJECTS[name]

        def loss(*xs):
            return jnp.sum(jnp.sin(WRAPPERS[wrap](fun)(*xs)))

        argnums = tuple(range(len(args)))
        for transform in (lambda g: g, jax.jit):
            ours, theirs = (transform(d.value_and_grad(loss, argnums))(*args) for d in (reverse, jax))
            for actual, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
                np.testing.assert_allclose(actual, expected, rtol=1e-12)

    every(OBJECTS, check)


def test_objects_by_hand():
    assert reverse.grad(of(Passes))(2.0, 5.0) == 10.0
    assert reverse.grad(of(Passes), 1)(2.0, 5.0) == 6.0
    assert reverse.grad(of(Before), (0, 1))(2.0, 5.0) == (10.0, 6.0)
    assert reverse.grad(of(Steps))(0.0) == 7.0
    assert reverse.grad(of(Asked))(2.0, 5.0) == 10.0
    assert reverse.grad(of(Asked), 1)(2.0, 5.0) == 6.0
    assert reverse.grad(of(Asked), (0, 1))(2.0, 5.0) == (10.0, 6.0)
    assert reverse.grad(of(Linear))(2.0, 5.0) == 2 * 3 * 5.0
    assert reverse.grad(lambda x: sum(of(Moving)(x)))(2.0) == 5.0
    assert reverse.grad(lambda x: of(Moving)(x)[0])(2.0) == 5.0
    assert reverse.grad(lambda x: sum(of(Still)(x)))(2.0) == 7.0
    assert reverse.grad(lambda x: x * of(Rounded)(x).astype(x.dtype))(3.0) == 3.0
    np.testing.assert_allclose(reverse.grad(lambda x: jnp.sum(jax.vmap(of(Passes))(x, Y)))(X), 2 * Y)


def test_passes_of_objects_may_say_that_a_cotangent_is_zero(monkeypatch):
    monkeypatch.setattr(Passes, "vjp_bwd_retval", lambda self, kept, ct: (2 * ct, ad.Zero(jax.typeof(ct))))
    assert reverse.grad(lambda x, y: of(Passes)(x, y) + x * y, (0, 1))(2.0, 5.0) == (7.0, 2.0)


def test_passes_of_objects_are_given_numbers_as_they_are(monkeypatch):
    given = []
    backward = Passes.vjp_bwd_retval
    monkeypatch.setattr(Passes, "vjp_bwd_retval", lambda self, kept, ct: given.append(ct) or backward(self, kept, ct))
    for d in (reverse, jax):
        d.vjp(of(Passes), 2.0, 5.0)[1](1.0)
    ours, theirs = given
    assert type(ours) is type(theirs)
