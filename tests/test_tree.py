"""Pytrees as vectors: the axioms, norms at the ends of the range, names of leaves."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import tree_map

from functional_dl import tree

X = {"a": jnp.array([3.0, -4.0]), "b": [jnp.array(12.0), jnp.zeros((0, 2))]}
Y = {"a": jnp.array([1.0, 2.0]), "b": [jnp.array(-1.0), jnp.zeros((0, 2))]}


same = chex.assert_trees_all_equal


def test_vector_space():
    same(tree.add(X, Y), {"a": jnp.array([4.0, -2.0]), "b": [jnp.array(11.0), jnp.zeros((0, 2))]})
    same(tree.subtract(tree.add(X, Y), Y), X)
    same(tree.add(X, tree.zeros_like(X)), X)
    same(tree.scale(2.0, X), tree.add(X, X))
    same(tree.add_scaled(X, -2.0, Y), tree.subtract(tree.subtract(X, Y), Y))
    narrow = tree_map(lambda leaf: leaf.astype(jnp.bfloat16), X)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(tree.scale(jnp.float64(0.5), narrow)))


def test_inner_product_and_norm():
    assert float(tree.vdot(X, Y)) == 3.0 - 8.0 - 12.0
    assert float(tree.norm(X)) == 13.0
    assert tree.size(X) == 3
    z = {"c": jnp.array([1 + 2j])}
    assert complex(tree.vdot(z, tree_map(lambda leaf: 1j * leaf, z))) == 5j
    assert float(tree.norm({"c": jnp.array([3 + 4j])})) == 5.0
    assert float(tree.vdot({}, {})) == float(tree.norm({})) == float(tree.norm({"a": jnp.zeros((0,))})) == 0.0


def test_norm_neither_overflows_nor_underflows():
    for size in (1e300, 1e-300):
        np.testing.assert_allclose(tree.norm([jnp.array([3.0, 4.0]) * size]), 5 * size, rtol=1e-15)
    assert float(tree.norm([jnp.zeros(3)])) == 0.0
    assert float(tree.norm([jnp.array([jnp.inf, 1.0])])) == np.inf
    assert np.isnan(tree.norm([jnp.array([jnp.nan, 1.0])]))


def test_names_of_leaves():
    params = {"layers": [{"weight": 1, "bias": 2}], "scale": (3,)}
    assert tree.path_names(params) == ["layers/0/bias", "layers/0/weight", "scale/0"]
    named = tree.map_with_name(lambda name, leaf, other: (name, leaf + other), params, params)
    assert named["layers"][0]["weight"] == ("layers/0/weight", 2)


def test_trees_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"structure|key"):
        tree.add(X, {"a": X["a"]})
