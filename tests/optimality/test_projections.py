"""Projections against the condition that defines them, under jit and vmap, and their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl.optimality import projections as P

NORMAL, MATRIX, RIGHT = (
    jnp.array([1.0, -2.0, 0.5, 3.0]),
    jnp.array([[1.0, 0, 2, -1], [0, 1, 1, 1]]),
    jnp.array([1.0, 2.0]),
)

# name -> projection of a vector of four, a sampler of points of the set
SETS = {
    "nonnegative": (P.nonnegative, lambda rng: np.abs(rng.normal(size=4))),
    "box": (lambda x: P.box(x, -0.5, jnp.array([0.2, 1.0, jnp.inf, 0.5])),
            lambda rng: rng.uniform(-0.5, [0.2, 1.0, 5.0, 0.5])),
    "hyperplane": (lambda x: P.hyperplane(x, NORMAL, 0.7), lambda rng: _on_plane(rng.normal(size=4))),
    "half_space": (lambda x: P.half_space(x, NORMAL, 0.7),
                   lambda rng: _on_plane(rng.normal(size=4)) - rng.exponential() * np.asarray(NORMAL)),
    "affine": (lambda x: P.affine(x, MATRIX, RIGHT), lambda rng: _on_affine(rng.normal(size=4))),
    "simplex": (lambda x: P.simplex(x, 2.0), lambda rng: 2 * rng.dirichlet(np.ones(4))),
    "l1_ball": (lambda x: P.l1_ball(x, 1.5), lambda rng: 1.5 * rng.uniform() * rng.dirichlet(np.ones(4))
                * rng.choice([-1, 1], 4)),
    "l2_ball": (lambda x: P.l2_ball(x, 1.5), lambda rng: _within(rng.normal(size=4), rng)),
    "linf_ball": (lambda x: P.linf_ball(x, 0.8), lambda rng: rng.uniform(-0.8, 0.8, 4)),
    "second_order_cone": (lambda x: jnp.append(*P.second_order_cone(x[:3], x[3])),
                          lambda rng: _in_cone(rng.normal(size=3), rng)),
}  # fmt: skip


def _on_plane(v):
    normal = np.asarray(NORMAL)
    return v - (normal @ v - 0.7) / (normal @ normal) * normal


def _on_affine(v):
    return v - np.linalg.pinv(MATRIX) @ (np.asarray(MATRIX) @ v - np.asarray(RIGHT))


def _in_cone(v, rng):
    return np.append(v, np.linalg.norm(v) + rng.exponential())


def _within(v, rng):
    return 1.5 * rng.uniform() * v / np.linalg.norm(v)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.sampled(3)
def test_the_nearest_point(name):
    """z = P(x) lies in the set, and (x - z) . (v - z) <= 0 for all its v: the condition that defines it."""
    project, member = SETS[name]
    rng = np.random.default_rng(0)
    points = jnp.asarray(3 * rng.normal(size=(20, 4)))
    nearest = np.asarray(jax.jit(jax.vmap(project))(points))
    members = np.array([member(rng) for _ in range(200)])
    np.testing.assert_allclose(jax.vmap(project)(jnp.asarray(members)), members, atol=1e-12)
    np.testing.assert_allclose(jax.vmap(project)(jnp.asarray(nearest)), nearest, atol=1e-12)
    slack = np.einsum("pi,pmi->pm", np.asarray(points) - nearest, members[None] - nearest[:, None])
    assert slack.max() <= 1e-10
    for x, z in zip(points[:3], nearest):
        np.testing.assert_allclose(project(x), z, atol=1e-13)


@pytest.mark.parametrize("name", SETS)
def test_the_derivative_is_that_of_differences(name):
    project, _ = SETS[name]
    x = jnp.array([0.9, -1.7, 2.2, 0.4])
    h = 1e-6
    rows = [(project(x + h * e) - project(x - h * e)) / (2 * h) for e in jnp.eye(4)]
    np.testing.assert_allclose(jax.jacobian(project)(x), jnp.stack(rows).T, atol=1e-8)


def test_batches_are_rows():
    x = jnp.arange(12.0).reshape(3, 4) - 5
    for project in (P.simplex, P.l1_ball, P.l2_ball):
        np.testing.assert_allclose(project(x), jnp.stack([project(row) for row in x]), atol=1e-14)
    np.testing.assert_allclose(P.half_space(x, NORMAL, 1.0), [P.half_space(row, NORMAL, 1.0) for row in x], atol=1e-14)


def test_bad_input():
    x = jnp.ones(4)
    with pytest.raises(ValueError, match="lower <= upper"):
        P.box(x, 1.0, 0.0)
    with pytest.raises(ValueError, match=r"radius: expected a number > 0, got -1"):
        P.l2_ball(x, -1.0)
    with pytest.raises(ValueError, match=r"normal: expected shape \(4,\), got \(3,\)"):
        P.half_space(x, jnp.ones(3), 1.0)
    with pytest.raises(ValueError, match="other than 0"):
        P.hyperplane(x, jnp.zeros(4), 1.0)
    with pytest.raises(ValueError, match="matrix, right"):
        P.affine(x, jnp.ones((2, 3)), jnp.ones(2))
    with pytest.raises(ValueError, match="expected t of shape"):
        P.second_order_cone(x, jnp.ones(2))
    with pytest.raises(TypeError, match="real"):
        P.simplex(jnp.ones(3, complex))


def test_sizes_whose_squares_overflow_or_vanish():
    """In float32, which has squares up to 3e38 and from 1e-38: each set and vector scaled together, by 2^k."""
    x = np.array([3.0, -4, 1, 2], np.float32)

    def all_of(k):
        unit = jnp.exp2(k).astype(jnp.float32)
        z, s = P.second_order_cone(unit * x[:3], unit * x[3] / 4)
        found = [
            P.l2_ball(unit * x, 1.5 * unit), P.l1_ball(unit * x, 1.5 * unit), P.linf_ball(unit * x, 1.5 * unit),
            P.simplex(unit * x, 1.5 * unit), P.hyperplane(x, unit * x, 0 * unit), P.half_space(x, unit * x, 0 * unit),
            jnp.append(z, s),
        ]  # fmt: skip
        scales = jnp.stack([unit] * 4 + [jnp.ones_like(unit)] * 2 + [unit])
        return jnp.stack(found) / scales[:, None]

    found = np.asarray(jax.jit(jax.vmap(all_of))(jnp.array([-80.0, -40, 0, 40, 80, 100], jnp.float32)))
    np.testing.assert_allclose(found, np.broadcast_to(found[2], found.shape), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found[:, 0], axis=1), 1.5, rtol=1e-6)


def test_the_simplex_far_from_the_origin():
    """A constant added to all entries changes nothing, however large: its sum is not taken."""
    x = np.array([2.0**23, 2.0**23 - 1, 2.0**23 - 8], np.float32)
    np.testing.assert_array_equal(P.simplex(jnp.asarray(x), np.float32(3)), [2, 1, 0])
