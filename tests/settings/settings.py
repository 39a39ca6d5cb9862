"""The settings that users have, as contexts.  Warnings are errors under each (pyproject.toml)."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import jax

from tests.settings.values import Values


@dataclass(frozen=True)
class Setting:
    """Flags of JAX's, and how inputs are made."""

    x64: bool = False
    strict: bool = False
    debug_nans: bool = False
    disable_jit: bool = False
    jitted: bool = False
    mesh: bool = False
    int64: bool = False
    python: bool = False


SETTINGS = {
    "default": Setting(),  # as JAX is installed: float32, x64 off, standard promotion
    "x64": Setting(x64=True),
    "strict promotion": Setting(strict=True),
    "x64, strict promotion": Setting(x64=True, strict=True),
    "debug_nans": Setting(debug_nans=True),
    "disable_jit": Setting(disable_jit=True),
    "after a jitted call": Setting(jitted=True),
    "Explicit mesh": Setting(mesh=True),
    "int64 constants": Setting(int64=True),
    "Python numbers": Setting(python=True),
}


@contextlib.contextmanager
def applied(setting: Setting) -> Iterator[None]:
    """JAX with these flags."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.enable_x64(setting.x64))
        stack.enter_context(jax.numpy_dtype_promotion("strict" if setting.strict else "standard"))
        stack.enter_context(jax.numpy_rank_promotion("raise" if setting.strict else "allow"))
        stack.enter_context(jax.debug_nans(setting.debug_nans))
        if setting.disable_jit:
            stack.enter_context(jax.disable_jit())
        yield


def values(setting: Setting, given: list | None = None) -> Values:
    """The maker of inputs; on a mesh, one of one device, with the axis types that jax.make_mesh gives."""
    mesh = jax.make_mesh((1,), ("x",), devices=jax.devices()[:1]) if setting.mesh else None
    return Values(mesh, setting.python, setting.int64, given)
