"""Primitives of a user's own, as JAX's documentation makes them: typed, lowered, batched, and with derivatives that are
registered with `jax.interpreters.ad`.  JAX and reverse both read them; differences tell that these are right.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def _primitive(name, impl, several=False, entrywise=True):
    """A primitive with these operations.

    Args:
      several: it has several results.
      entrywise: operands and results have one shape, and a batch of them is mapped by the primitive itself.
    """
    p = Primitive(f"own_{name}")
    p.multiple_results = several
    p.def_impl(impl)
    p.def_abstract_eval(functools.partial(_types, impl))
    mlir.register_lowering(p, mlir.lower_fun(impl, multiple_results=several))
    batching.primitive_batchers[p] = functools.partial(_mapped, p, p.bind if entrywise else impl, entrywise)
    return p


def _types(impl, *avals, **params):
    def operand(aval):
        sharding = None if aval.sharding.mesh.empty else aval.sharding
        return jax.ShapeDtypeStruct(aval.shape, aval.dtype, sharding=sharding)

    outs = jax.make_jaxpr(lambda *xs: impl(*xs, **params))(*map(operand, avals)).out_avals
    outs = [aval.update(weak_type=False) for aval in outs]
    return outs if isinstance(jax.eval_shape(lambda *xs: impl(*xs, **params), *avals), list) else outs[0]


def _mapped(p, fun, entrywise, operands, axes, **params):
    if not entrywise:
        outs = jax.vmap(lambda *xs: fun(*xs, **params), axes)(*operands)
    else:
        size = next(x.shape[axis] for x, axis in zip(operands, axes) if axis is not None)
        wide = [
            jnp.broadcast_to(x[None], (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
            for x, axis in zip(operands, axes)
        ]
        outs = fun(*wide, **params)
    return outs, [0] * len(outs) if p.multiple_results else 0


# --- entry by entry ---------------------------------------------------------------------------------------------------

wave_p = _primitive("wave", lambda x: lax.sin(2.0 * x))
ad.defjvp(wave_p, lambda t, x: 2.0 * t * lax.cos(2.0 * x))

bell_p = _primitive("bell", lambda x: lax.exp(-0.5 * x * x))
ad.defjvp2(bell_p, lambda t, y, x: -t * x * y)

stretch_p = _primitive("stretch", lambda x, *, by: x * x.dtype.type(by))
ad.deflinear2(stretch_p, lambda ct, _, *, by: [stretch_p.bind(ct, by=by)])

product_p = _primitive("product", lambda x, y: x * y)
ad.defbilinear(product_p, lambda ct, x, y: product_p.bind(ct, y), lambda ct, x, y: product_p.bind(x, ct))

# --- several results --------------------------------------------------------------------------------------------------

polar_p = _primitive("polar", lambda r, a: [r * lax.cos(a), r * lax.sin(a)], several=True)
turn_p = _primitive("turn", lambda x, y, *, by: [x - x.dtype.type(by) * y, y + x.dtype.type(by) * x], several=True)


def _polar_jvp(primals, tangents):
    """(x, y) = r (cos a, sin a)  =>  dx = cos(a) dr - y da,  dy = sin(a) dr + x da; what is 0 is left out."""
    (r, a), (r_dot, a_dot) = primals, tangents
    x, y = polar_p.bind(r, a)
    dots = [ad.Zero(jax.typeof(x))] * 2
    if not isinstance(r_dot, ad.Zero):
        dots = [r_dot * lax.cos(a), r_dot * lax.sin(a)]
    if not isinstance(a_dot, ad.Zero):
        own = [-product_p.bind(y, a_dot), product_p.bind(x, a_dot)]
        dots = own if isinstance(dots[0], ad.Zero) else [d + o for d, o in zip(dots, own)]
    return [x, y], dots


def _turn_jvp(primals, tangents, *, by):
    """(x, y) -> (x - b y, y + b x) is linear."""
    return turn_p.bind(*primals, by=by), turn_p.bind(*map(ad.instantiate_zeros, tangents), by=by)


def _turn_transpose(cts, x, y, *, by):
    """The transpose turns back: that by -b."""
    bars = turn_p.bind(*map(ad.instantiate_zeros, cts), by=-by)
    return [bar if ad.is_undefined_primal(operand) else None for bar, operand in zip(bars, (x, y))]


ad.primitive_jvps[polar_p] = _polar_jvp
ad.primitive_jvps[turn_p] = _turn_jvp
ad.primitive_transposes[turn_p] = _turn_transpose

# --- operands of two kinds: linear in one of them ---------------------------------------------------------------------

bend_p = _primitive("bend", lambda a, x: jnp.matmul(jnp.sin(a), x), entrywise=False)


def _bend_jvp(primals, tangents):
    """y = sin(A) x  =>  dy = sin(A) dx + (cos(A) * dA) x."""
    (a, x), (a_dot, x_dot) = primals, tangents
    terms = [] if isinstance(x_dot, ad.Zero) else [bend_p.bind(a, x_dot)]
    terms += [] if isinstance(a_dot, ad.Zero) else [jnp.matmul(jnp.cos(a) * a_dot, x)]
    return bend_p.bind(a, x), sum(terms[1:], start=terms[0])


def _bend_transpose(ct, a, x):
    """x -> sin(A) x  =>  x_bar = sin(A)^T y_bar = sin(A^T) y_bar."""
    return [None, bend_p.bind(a.T, ct)]


ad.primitive_jvps[bend_p] = _bend_jvp
ad.primitive_transposes[bend_p] = _bend_transpose
