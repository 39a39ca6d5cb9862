"""Rules of values held whole or as summands: their probes, compiled, against jax.vjp and a central difference.

JAX neither maps these primitives nor applies them outside of jit, so that the judges of the other rules cannot.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import reverse
from functional_dl.reverse.rules import held

PRIMITIVES = {
    "all_gather_reduced", "preduced", "reduced_vary_cast_p", "unreduced_psum", "unreduced_reduce_scatter",
    "vary_unreduced_cast_p",
}  # fmt: skip
PROGRAMS = {
    "gathered": (held.on_devices(held._gathered), [(4, 4)]),
    "shared": (held.on_devices(held._shared, jax.sharding.PartitionSpec()), [(4, 2), (2,)]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_equals_jax_and_a_difference(name):
    program, shapes = PROGRAMS[name]
    rng = np.random.default_rng(0)
    x, v = ([jnp.array(rng.normal(size=shape)) for shape in shapes] for _ in range(2))

    def judged(*primals):
        out, pull = reverse.vjp(program, *primals)
        expected, expected_pull = jax.vjp(program, *primals)
        ct = jnp.cos(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape)
        h = 1e-5
        up, down = (program(*[a + s * h * b for a, b in zip(x, v)]) for s in (1, -1))
        return out, expected, pull(ct), expected_pull(ct), jnp.vdot(ct, up - down) / (2 * h)

    out, expected, bars, expected_bars, along = jax.jit(judged)(*x)
    np.testing.assert_allclose(out, expected, rtol=1e-13)
    for bar, wanted in zip(bars, expected_bars, strict=True):
        np.testing.assert_allclose(bar, wanted, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(sum(np.vdot(bar, b) for bar, b in zip(bars, v)), along, rtol=1e-7)


def test_every_rule_of_the_file_is_met():
    for program, shapes in PROGRAMS.values():
        pulled = jax.jit(lambda *x, f=program: reverse.vjp(f, *x)[1](jnp.ones(jax.eval_shape(f, *x).shape)))
        pulled.lower(*[jax.ShapeDtypeStruct(shape, jnp.float64) for shape in shapes])
    assert {primitive.name for primitive in reverse.RULES} >= PRIMITIVES
