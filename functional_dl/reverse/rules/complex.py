"""Complex numbers as pairs of real ones.  x_bar is transposed, not conjugated: JAX's convention."""

import jax.numpy as jnp
from jax import lax
from jax.extend.core.primitives import complex_p, conj_p, imag_p, real_p

from functional_dl.reverse.rule import COMPLEX, Probe, vjp_rule
from functional_dl.reverse.rules.algebra import unbroadcast, zeros_like

REAL = ("float64", "float32")


@vjp_rule(real_p, Probe(lax.real, dtypes=COMPLEX), reads="", latex=(r"\operatorname{Re} <x>", r"<c>"))
def real_vjp(ct, out, x, **_):
    """a = Re x,  da = Re dx  =>  x_bar = a_bar + 0i."""
    return (lax.complex(ct, zeros_like(ct)),)


@vjp_rule(imag_p, Probe(lax.imag, dtypes=COMPLEX), reads="", latex=(r"\operatorname{Im} <x>", r"-i\, <c>"))
def imag_vjp(ct, out, x, **_):
    """b = Im x = Re(-i x)  =>  x_bar = -i b_bar."""
    return (lax.complex(zeros_like(ct), lax.neg(ct)),)


@vjp_rule(
    conj_p,
    Probe(lax.conj, dtypes=COMPLEX),
    Probe(lambda x: lax.conj(x), dtypes=REAL),
    reads="",
    latex=(r"<x>^{*}", r"<c>^{*}"),
)
def conj_vjp(ct, out, x, **_):
    """y = conj x,  dy = conj dx  =>  x_bar = conj y_bar;  of a real x, which is made complex first, the real part."""
    bar = lax.conj(ct)
    return (bar if jnp.issubdtype(x.dtype, jnp.complexfloating) else lax.real(bar),)


@vjp_rule(
    complex_p,
    Probe(lax.complex, shapes=((3,), (3,)), dtypes=REAL),
    Probe(lax.complex, shapes=((3, 2), (3, 1)), dtypes=REAL),
    Probe(lax.complex, shapes=((3, 1), (3, 2)), dtypes=REAL),
    reads="",
    latex=(r"<0> + i <1>", r"\operatorname{Re} <c>", r"-\operatorname{Im} <c>"),
)
def complex_vjp(ct, out, re, im, **_):
    """z = a + ib,  z_bar paired with dz = da + i db  =>  a_bar = Re z_bar,  b_bar = Re(i z_bar) = -Im z_bar."""
    return lambda: unbroadcast(lax.real(ct), re), lambda: unbroadcast(lax.neg(lax.imag(ct)), im)
