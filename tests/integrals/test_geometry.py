"""Lengths, areas and volumes: exact values, and regions that are refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import integrals

PI = np.pi
ARC = lambda x: jnp.sqrt(1 - x * x)
CASES = {
    "unit ball": (lambda: integrals.volume_of_revolution(ARC, -1, 1), 4 * PI / 3),
    "ball by sections": (lambda: integrals.volume_by_cross_sections(lambda x: PI * (1 - x * x), 1, -1), 4 * PI / 3),
    "torus, washers": (lambda: integrals.volume_of_revolution(
        lambda x: 3 + 0.5 * ARC(x / 0.5), -0.5, 0.5, inner=lambda x: 3 - 0.5 * ARC(x / 0.5)), 2 * PI**2 * 3 * 0.25),
    "torus, shells": (lambda: integrals.volume_of_revolution(
        lambda x: ARC(x - 3), 2, 4, axis="y", inner=lambda x: -ARC(x - 3)), 2 * PI**2 * 3),
    "cone": (lambda: integrals.volume_of_revolution(lambda x: x / 2, 0, 4), PI * 4 * 4 / 3),
    "under x^2 about y": (lambda: integrals.volume_of_revolution(lambda x: x**2, 0, 2, axis="y"), 8 * PI),
    "under x^2 about y = 2": (lambda: integrals.volume_of_revolution(lambda x: x**2, 0, 1, axis="y=2"), PI * 17 / 15),
    "under x^2 about x = -1": (lambda: integrals.volume_of_revolution(lambda x: x**2, 0, 1, axis="x=-1"), PI * 7 / 6),
    "about its own axis": (lambda: integrals.volume_of_revolution(jnp.sin, 0, 2 * PI), PI**2),
    "sphere": (lambda: integrals.surface_of_revolution(ARC, -1, 1), 4 * PI),
    "torus skin": (lambda: integrals.surface_of_revolution(
        lambda t: jnp.stack([jnp.cos(t), 3 + jnp.sin(t)]), 0, 2 * PI), 4 * PI**2 * 3),
    "cone about y": (lambda: integrals.surface_of_revolution(lambda x: x, 0, 1, axis="y"), PI * 2**0.5),
    "cycloid": (lambda: integrals.arc_length(lambda t: jnp.stack([t - jnp.sin(t), 1 - jnp.cos(t)]), 0, 2 * PI), 8),
    "half circle": (lambda: integrals.arc_length(ARC, -1, 1), PI),
    "line": (lambda: integrals.arc_length(lambda x: 3 * x, 2, 0), 2 * 10**0.5),
    "helix": (lambda: integrals.arc_length(lambda t: jnp.stack([jnp.cos(t), jnp.sin(t), t]), 0, 1), 2**0.5),
    "sine and cosine": (lambda: integrals.area_between(jnp.sin, jnp.cos, 0, 2 * PI), 4 * 2**0.5),
    "x and x^3": (lambda: integrals.area_between(lambda x: x, lambda x: x**3, -1, 1), 1 / 2),
    "sine": (lambda: integrals.area_under(jnp.sin, 0, 2 * PI), 4),
    "bell": (lambda: integrals.area_under(lambda x: jnp.exp(-x * x), -jnp.inf, jnp.inf), PI**0.5),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.sampled(4)
def test_exact(name):
    call, true = CASES[name]
    found = call()
    assert found.converged, found.reason
    assert abs(float(found.value) - true) <= float(found.error) <= 1e-8 * true
    assert abs(float(found.value) - true) <= 1e-11 * true


def test_pappus():
    """A region's volume of revolution is its area times the way of its centroid; and so for curves' surfaces."""
    top = lambda x: 2 + jnp.sin(x)
    centre = integrals.centroid(top, 0, 2)
    volume = integrals.volume_of_revolution(top, 0, 2)
    assert abs(float(volume.value) - 2 * PI * float(centre.y.value) * float(centre.area.value)) <= 1e-12 * volume.value
    shells = integrals.volume_of_revolution(top, 0, 2, axis="y")
    assert abs(float(shells.value) - 2 * PI * float(centre.x.value) * float(centre.area.value)) <= 1e-12 * shells.value


def test_the_half_discs_centroid():
    centre = integrals.centroid(ARC, -1, 1)
    assert abs(float(centre.y.value) - 4 / (3 * PI)) <= float(centre.y.error) <= 1e-12
    assert abs(float(centre.x.value)) <= float(centre.x.error) <= 1e-12


@pytest.mark.parametrize(("call", "message"), [
    (lambda: integrals.volume_of_revolution(jnp.sin, -1, 1, axis="y"), "axis: expected a line that does not cut"),
    (lambda: integrals.volume_of_revolution(jnp.cos, 0, 1, axis="y=0.5"), "axis: expected a line that does not cut"),
    (lambda: integrals.volume_of_revolution(jnp.cos, 0, 1, axis="z"), "axis: expected .x., .y. or a line"),
    (lambda: integrals.volume_by_cross_sections(jnp.sin, -1, 1), "area: expected areas >= 0"),
    (lambda: integrals.centroid(jnp.sin, -1, 1), "f: expected f >= inner"),
    (lambda: integrals.arc_length(lambda t: jnp.ones((2, 2)) * t, 0, 1), "curve: expected a number or a vector"),
    (lambda: integrals.area_between(lambda x: jnp.ones(2) * x, jnp.sin, 0, 1), "f: expected one real number"),
    (lambda: integrals.area_under(jnp.sin, float("nan"), 1), "a: expected a number, got NaN"),
])  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_axis_is_a_text():
    with pytest.raises(TypeError, match=r"axis: expected 'x', 'y' or a line such as 'y=2', got 3"):
        integrals.volume_of_revolution(jnp.cos, 0, 1, axis=3)
