"""The settings that users have, as contexts.  Warnings are errors under each (pyproject.toml)."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, fields

import jax
from jax.sharding import Mesh

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

# What the default run of the tests goes through: every setting is met by every example, in few runs, for each traces
# and lowers an example anew.  "after a jitted call" calls under "default" first.  Promotion and NaNs only add errors;
# how numbers and indices are given is no matter of flags.  The settings one by one are the campaign's: it tells which
# of a combination's settings is at fault, and what one of them hides of another.
COMBINATIONS = {
    "after a jitted call": ["default", "after a jitted call"],
    "strict promotion, debug_nans, int64 constants, Explicit mesh": [
        "strict promotion", "debug_nans", "int64 constants", "Explicit mesh",
    ],
    "x64, disable_jit, Python numbers": ["x64", "disable_jit", "Python numbers"],
}  # fmt: skip


def combined(names: list[str]) -> Setting:
    """The setting with every flag that one of these has."""
    flags = [field.name for field in fields(Setting)]
    return Setting(**{flag: any(getattr(SETTINGS[name], flag) for name in names) for flag in flags})


@contextlib.contextmanager
def applied(setting: Setting) -> Iterator[None]:
    """JAX with these flags."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.enable_x64(setting.x64))
        stack.enter_context(jax.numpy_dtype_promotion("strict" if setting.strict else "standard"))
        stack.enter_context(jax.numpy_rank_promotion("raise" if setting.strict else "allow"))
        stack.enter_context(jax.debug_nans(setting.debug_nans))
        if setting.mesh:
            stack.enter_context(jax.set_mesh(mesh_of_one()))
        if setting.disable_jit:
            stack.enter_context(jax.disable_jit())
        yield


def values(setting: Setting, given: list | None = None) -> Values:
    """The maker of inputs."""
    return Values(mesh_of_one() if setting.mesh else None, setting.python, setting.int64, given)


def mesh_of_one() -> Mesh:
    """One device, with the axis types that jax.make_mesh gives: Explicit."""
    return jax.make_mesh((1,), ("x",), devices=jax.devices()[:1])
