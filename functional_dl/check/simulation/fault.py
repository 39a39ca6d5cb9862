"""One way for one equation's derivative to be wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from functional_dl.check.evidence import Hypothesis


@dataclass(frozen=True)
class Fault:
    """A way for one equation's derivative to be wrong.

    Fields:
      site: position of the equation.
      cause, message: what it is.
      push: push(values, tangents) -> tangents of the outputs under the fault, linear in tangents.
      ground: its place in PRECEDENCE if it fits.
      kind: what the same fault in other equations of a loop shares; None where they are not looked at together.
    """

    site: int
    cause: str
    message: str
    push: Callable[..., Any]
    ground: str
    kind: Any = None

    @property
    def hypothesis(self) -> Hypothesis:
        """That this fault is the user's."""
        return Hypothesis(self.cause, self.ground, self.message)


def push_forward(fun: Callable[..., Any], values: Any, dots: Any) -> Any:
    """Outputs and their tangents; tangents are None for values that are not floating."""
    places = [j for j, v in enumerate(dots) if v is not None]

    def of(*active):
        full = list(values)
        for j, x in zip(places, active):
            full[j] = x
        return fun(*full)

    return jax.jvp(of, tuple(values[j] for j in places), tuple(dots[j] for j in places))


def where(n: Any, site: Any) -> str:
    """An equation's name, number and line, the last if it stands in a file."""
    path, _, line = site.source.rpartition(":")
    return f"{site.name} (equation {n}{f', {Path(path).name}:{line}' if Path(path).is_file() else ''})"


def filled(values: Any, dots: Any) -> Any:
    """Tangents with zeros where there are none."""
    return [jnp.zeros_like(x) if d is None else d for x, d in zip(values, dots)]
