"""Programs as data: what the fuzzer makes, judges, shrinks, prints and stores.

A Program is a list of Steps over named values.  A Step applies an operation of `operations.OPERATIONS` to earlier
values; loops, branches and calls hold Programs of their own (`bodies`), which see the caller's values too, as closures
do.  `run` interprets a Program with JAX's functions, `source` writes it down as Python.
"""

import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.fuzz.operations import OPERATIONS


class Type(NamedTuple):
    """Shape and dtype of a value."""

    shape: tuple[int, ...]
    dtype: str

    def __str__(self):
        return f"{self.dtype}{list(self.shape)}"


class Step(NamedTuple):
    """outs = op(*bodies, *operands, **params)."""

    outs: tuple[str, ...]
    op: str
    operands: tuple[str, ...]
    params: dict[str, Any] = {}  # noqa: RUF012 - read only
    bodies: tuple["Program", ...] = ()


class Program(NamedTuple):
    """A function of `inputs` (name -> Type): the steps in their order, then the values of `outputs`."""

    inputs: dict[str, Type]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]


def run(program: Program, *args, outer=None, twin: bool = False, noise: float = 0.0):
    """The program's outputs.

    Args:
      outer: the caller's values, for a body.
      twin: use the form that JAX differentiates: a scan for a while_loop, jax.vjp for reverse.vjp.
      noise: relative size of a perturbation of every step's floating results, fixed by their names: it models rounding.
    """
    env = dict(outer or {})
    env.update(zip(program.inputs, args, strict=True))
    for step in program.steps:
        bodies = [_body(body, dict(env), twin, noise) for body in step.bodies]
        options = {"twin": twin} if OPERATIONS[step.op].has_twin else {}
        operands = [env[name] for name in step.operands]
        if noise and step.op in INVERSES and not jnp.iscomplexobj(operands[0]):
            operands = [_of_rounded_output(step.op, *operands, noise)]
        results = OPERATIONS[step.op].fun(*bodies, *operands, **step.params, **options)
        results = results if isinstance(results, tuple) else (results,)
        for name, value in zip(step.outs, results, strict=True):
            env[name] = _perturbed(name, value, noise) if noise else value
    return tuple(env[name] for name in program.outputs)


# inverses of functions whose derivative is taken from their output: 1 - y^2 and y (1 - y) magnify its rounding
INVERSES = {"tanh": lax.atanh, "logistic": lambda y: lax.log(y) - lax.log1p(-y)}


def _of_rounded_output(op, x, noise):
    """x moved to where the output is another by the noise."""
    y = OPERATIONS[op].fun(x)
    top = 1 - float(jnp.finfo(y.dtype).eps)
    moved = INVERSES[op](jnp.clip(y * (1 + noise), -top, top).astype(y.dtype))
    return x + lax.stop_gradient(jnp.where(jnp.isfinite(moved), moved, x) - x)


def _body(body, env, twin, noise):
    return lambda *args: run(body, *args, outer=env, twin=twin, noise=noise)


def _perturbed(name, value, noise):
    if not jnp.issubdtype(value.dtype, jnp.inexact):
        return value
    signs = np.random.default_rng(zlib.crc32(name.encode())).choice([-1.0, 1.0], value.shape)
    return value * jnp.asarray(1 + noise * signs).astype(value.dtype)


def function(program: Program, **options):
    """The program as a Python function."""
    return lambda *args: run(program, *args, **options)


def all_steps(program: Program) -> Iterator[Step]:
    """The steps, those of bodies included."""
    for step in program.steps:
        yield step
        for body in step.bodies:
            yield from all_steps(body)


def nesting(program: Program) -> int:
    """How deep bodies hold bodies; 0 for a program without."""
    return max((1 + nesting(body) for step in program.steps for body in step.bodies), default=0)


def depth(program: Program) -> int:
    """The length of the longest chain of steps that depend on one another; a step with bodies counts theirs."""
    levels: dict[str, int] = {}
    for step in program.steps:
        inner = max((depth(body) for body in step.bodies), default=1)
        level = inner + max((levels.get(name, 0) for name in step.operands), default=0)
        levels.update(dict.fromkeys(step.outs, level))
    return max(levels.values(), default=0)


def reads(program: Program) -> set[str]:
    """Names that the program reads, those of the caller included."""
    names = set(program.outputs)
    for step in program.steps:
        names.update(step.operands)
        for body in step.bodies:
            names |= reads(body)
    return names


def without_dead_steps(program: Program) -> Program:
    """The program without the steps whose results nobody reads."""
    needed, kept = set(program.outputs), []
    for step in reversed(program.steps):
        if needed.intersection(step.outs):
            step = step._replace(bodies=tuple(without_dead_steps(body) for body in step.bodies))
            needed.update(step.operands, *(reads(body) for body in step.bodies))
            kept.append(step)
    return program._replace(steps=tuple(reversed(kept)))


def source(program: Program, name: str = "program", indent: str = "") -> str:
    """The program as a Python function, to be read."""
    inside = indent + "    "
    lines = [f"{indent}def {name}({', '.join(f'{n}: {t}' for n, t in program.inputs.items())}):"]
    for step in program.steps:
        functions = [f"f_{step.outs[0]}_{i}" for i in range(len(step.bodies))]
        lines += [source(body, f, inside) for f, body in zip(functions, step.bodies)]
        arguments = [*functions, *step.operands, *[f"{k}={v!r}" for k, v in step.params.items()]]
        lines.append(f"{inside}{', '.join(step.outs)} = {step.op}({', '.join(arguments)})")
    return "\n".join([*lines, f"{inside}return {', '.join(program.outputs)}"])


def arguments(program: Program, seed: int = 0) -> tuple:
    """Arguments with entries even in [-2, 2); no two are equal."""
    rng = np.random.default_rng(seed)

    def one(kind):
        if kind.dtype == "int32":
            return jnp.array(rng.integers(0, 4, kind.shape), "int32")
        values = rng.uniform(-2, 2, kind.shape)
        if kind.dtype.startswith("complex"):
            values = values + 1j * rng.uniform(-2, 2, kind.shape)
        return jnp.asarray(values).astype(kind.dtype)

    return tuple(one(kind) for kind in program.inputs.values())


def trace(program: Program):
    return jax.make_jaxpr(function(program))(*arguments(program))
