"""Values and their cotangents by type: which have a tangent space, what a zero is, NumPy's and Python's numbers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core.primitives import add_jaxvals_p, convert_element_type_p

from functional_dl.aliases import Array
from functional_dl.sharding import cotangent_sharding, cotangent_type, full, type_of

_inexact: dict[Any, bool] = {}
_tangents: dict[Any, Any] = {}


def is_inexact(dtype: Any) -> bool:
    """Whether numbers of this dtype have a tangent space other than {0}: real or complex floating."""
    known = _inexact.get(dtype)
    if known is None:
        known = _inexact[dtype] = bool(jnp.issubdtype(dtype, jnp.inexact))
    return known


def is_differentiable(aval: Any) -> bool:
    """Whether values of this type are arrays of real or complex floating numbers, or of a type of a user's own that
    has a vector space of tangents; a reference to one is none."""
    dtype = getattr(aval, "dtype", None)
    if dtype is None:
        return is_users_type(aval)
    return tangent_dtype(dtype) != jax.float0 and not is_reference(aval)


def is_users_type(aval: Any) -> bool:
    """Whether this is a type of a user's own values (JAX calls it a hitype), which says itself how they add up."""
    return hasattr(aval, "vspace_zero")


def add(x: Any, y: Any) -> Any:
    """x + y, of two cotangents of one value."""
    aval = jax.typeof(x)
    return aval.vspace_add(x, y) if is_users_type(aval) else add_jaxvals_p.bind(x, y)


def is_number(x: Any) -> bool:
    """Whether x is a number that is not on a device: NumPy's, or one that is written in a program."""
    if isinstance(x, np.generic):
        return True
    if isinstance(x, jax.Array) or getattr(x, "shape", None) != () or not isinstance(x.dtype, np.dtype):
        return False
    return not is_reference(jax.typeof(x))


def is_reference(aval: Any) -> bool:
    return hasattr(aval, "inner_aval")


def tangent_dtype(dtype: Any) -> Any:
    """The dtype of tangents and cotangents of values of this dtype: float0 for integers and booleans; an extended dtype
    says itself which."""
    known = _tangents.get(dtype)
    if known is None:
        extended = jnp.issubdtype(dtype, jax.dtypes.extended)
        own = jax.core.ShapedArray((), dtype).to_tangent_aval().dtype if extended else dtype
        known = _tangents[dtype] = own if extended or is_inexact(dtype) else jax.float0
    return known


def zeros_of(aval: Any) -> Any:
    """The zero cotangent of values of this type: zeros, laid out as the values are; of integers, NumPy's of float0 (JAX
    has no such arrays)."""
    dtype = tangent_dtype(aval.dtype)
    return np.zeros(aval.shape, dtype) if dtype == jax.float0 else full(cotangent_type(aval), 0, dtype)


def instantiate(ct: Array | None, out: Any) -> Array:
    """ct, or an array of zeros like `out`, a value or a type, where ct is None."""
    if ct is not None:
        return ct
    aval = type_of(out)
    if is_users_type(aval):
        return aval.to_tangent_aval().vspace_zero()
    zero = zeros_of(aval)
    return weakened(zero) if aval.weak_type and is_inexact(aval.dtype) else zero


def reused(x: Any) -> Any:
    """x; of random keys a clone, which says that they are used again on purpose, by a program that runs again: JAX's
    check of keys (`jax_debug_key_reuse`) would take it for a mistake."""
    dtype = getattr(x, "dtype", None)
    return jax.random.clone(x) if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) else x


class Reshaped:
    """The cotangent `array`, in row-major order in the shape of `like`: reshaped when it is read, and once only where
    one equation after the other reshapes it."""

    __slots__ = ("array", "like")
    array: Any
    like: Any

    def __init__(self, array: Any, like: Any) -> None:
        self.array = array
        self.like = like


class Block:
    """The cotangent that is `array` at `index` of the primal and 0 elsewhere: formed when it is read, and not at all
    where it is added to a mutable array."""

    __slots__ = ("array", "form", "index")
    array: Any
    form: Callable[[], Any]
    index: tuple[Any, ...]

    def __init__(self, array: Any, index: tuple[Any, ...], form: Callable[[], Any]) -> None:
        self.array = array
        self.index = index
        self.form = form

    def add_to(self, ref: Any) -> None:
        shape = [1 if isinstance(i, slice) else 0 for i in self.index]
        kept = [n for n, axis in zip(self.array.shape, shape) if axis]
        jax.ref.addupdate(ref, self.index, lax.reshape(self.array, kept))


def add_to(ref: Any, ct: Any) -> None:
    """ref += ct, of a mutable array to which cotangents are added."""
    if type(ct) is Block:
        ct.add_to(ref)
    else:
        jax.ref.addupdate(ref, ..., formed(ct))


def formed(x: Any) -> Any:
    """x, a Reshaped or Block as the array that it stands for."""
    if type(x) is Block:
        return x.form()
    if type(x) is not Reshaped:
        return x
    if x.array.shape == x.like.shape:
        return x.array
    return lax.reshape(x.array, x.like.shape, out_sharding=cotangent_sharding(x.like))


def as_array(x: Any) -> Any:
    """x, for Python's numbers NumPy's, so that every rule may count on a shape and a dtype."""
    if type(x) is Reshaped or type(x) is Block:
        return formed(x)
    return jax.typeof(x).dtype.type(x) if isinstance(x, (bool, int, float, complex)) and not hasattr(x, "shape") else x


def weakened(x: Array) -> Any:
    """x with JAX's weak type, that of Python's numbers, which yields to other dtypes in a promotion."""
    aval = jax.typeof(x)
    if getattr(aval, "weak_type", True):
        return x
    return convert_element_type_p.bind(x, new_dtype=aval.dtype, weak_type=True, sharding=None)


def of_dtype(bar: Array, dtype: Any) -> Array:
    """A cotangent in the dtype of its primal: of a real number's, in a product with complex ones, the real part."""
    if bar.dtype == dtype:
        return bar
    bar = lax.real(bar) if jnp.iscomplexobj(bar) and not jnp.issubdtype(dtype, jnp.complexfloating) else bar
    return bar if bar.dtype == dtype else lax.convert_element_type(bar, dtype)
