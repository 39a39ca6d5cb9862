"""Values and cotangents of an independent framework, stored as JSON, and how a function of ours is held to them.

A file has the framework's version and cases by name: inputs by name, the output, a cotangent of it, the cotangents of
the floating inputs.  The scripts that make the files use pytorch_references.py.
"""

import json
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl import reverse

TOLERANCE = 1e-10


def load(beside: str, name: str) -> dict[str, dict]:
    """The cases of a file that stands beside a test."""
    return json.loads(Path(beside).with_name(name).read_text())["cases"]


def assert_agrees(reference: dict, fun: Callable) -> None:
    """fun, of the case's inputs by name, has its value and its cotangents, by JAX's reverse mode and by ours."""
    inputs = {key: jnp.array(np.asarray(value)) for key, value in reference["inputs"].items()}
    floating = {key: x for key, x in inputs.items() if jnp.issubdtype(x.dtype, jnp.floating)}
    fixed = {key: x for key, x in inputs.items() if key not in floating}
    ct = jnp.array(np.asarray(reference["ct"]))

    @jax.jit
    def all_of(floating):
        out, pullback = jax.vjp(lambda floating: fun(**floating, **fixed), floating)
        return out, pullback(ct)[0], reverse.vjp(lambda floating: fun(**floating, **fixed), floating)[1](ct)[0]

    out, theirs, ours = all_of(floating)
    np.testing.assert_allclose(out, reference["out"], rtol=TOLERANCE, atol=TOLERANCE)
    for key, bar in reference["bars"].items():
        np.testing.assert_allclose(theirs[key], bar, rtol=TOLERANCE, atol=TOLERANCE, err_msg=key)
        np.testing.assert_allclose(ours[key], bar, rtol=TOLERANCE, atol=TOLERANCE, err_msg=key)
