"""On a mesh with Explicit axes, jax.make_mesh's default, cotangents have the types of JAX's, shardings included.

JAX is asked which programs it differentiates there; where it refuses, there is nothing to compare with.  What differs
between one device and none is seen when a program is traced; numbers, and the eight devices, are the campaign's.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every import every
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from functional_dl import reverse
from functional_dl.jaxprs import all_equations
from tests.reverse import judges
from tests.reverse.mesh_programs import PROGRAMS
from tests.reverse.meshes import Lying, Question, mesh_of, types_of

ONE = (Lying(1), Lying(1, split=True))
EIGHT = (Lying(8, split=True), Lying(8, mapped=True))


@pytest.fixture(autouse=True)
def as_installed():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def questions(lyings, first: bool):
    for rule in reverse.RULES.values():
        for case in [judges.Case(rule, i, probe.dtypes[0]) for i, probe in enumerate(rule.probes)][
            : 1 if first else None
        ]:
            for lying in lyings:
                yield Question(case, lying)


def asked(lyings, first: bool, check) -> dict[str, int]:
    """Puts every question that JAX answers; how many those were, and how many it refuses, by the kind of its error."""
    counts: dict[str, int] = {}

    def put(question):
        with jax.set_mesh(mesh_of(question.lying.devices)):
            refusal = question.refusal
            counts[refusal or "answered"] = counts.get(refusal or "answered", 0) + 1
            if not refusal:
                check(question)

    every(questions(lyings, first), put)
    return counts


def same_types(question):
    assert list(map(str, question.types(reverse.vjp))) == list(map(str, question.expected))


def same_numbers(question):
    same_types(question)
    if question.is_not_compiled:
        return
    (out, bars), (expected_out, expected) = jax.device_get(question.numbers())
    for ours, theirs in zip([*jax.tree.leaves(out), *bars], [*jax.tree.leaves(expected_out), *expected], strict=True):
        size = float(np.max(np.abs(theirs.astype(complex)), initial=1.0))
        np.testing.assert_allclose(ours.astype(complex), theirs.astype(complex), rtol=0, atol=1e-10 * size)


def test_the_first_probe_of_every_rule_on_one_device(record_property):
    counts = asked(ONE, True, same_types)
    record_property("cases", counts["answered"])
    assert counts["answered"] >= 215, counts


@pytest.mark.campaign
def test_every_probe_on_one_device(record_property):
    counts = asked(ONE, False, same_numbers)
    print(counts)
    record_property("cases", counts["answered"])
    assert counts["answered"] >= 680, counts


@pytest.mark.campaign
def test_every_probe_on_eight_devices(record_property):
    counts = asked(EIGHT, False, same_numbers)
    print(counts)
    record_property("cases", counts["answered"])
    assert counts["answered"] >= 620, counts


def two_by_four():
    return jax.make_mesh((2, 4), ("x", "y"))


def gradients(name, differentiate, args):
    entry = PROGRAMS[name]
    fun = entry.fun if differentiate is not jax.grad else entry.for_jax
    return differentiate(lambda *args: fun(*args), entry.floating)(*args)


@pytest.mark.parametrize("mesh", [two_by_four(), jax.make_mesh((1, 1), ("x", "y"), devices=jax.devices()[:1])], ids=str)
@pytest.mark.sampled(3)
def test_programs_have_the_types_of_jaxs_gradients(mesh):
    def check(name):
        args = PROGRAMS[name].draw(mesh)
        ours, theirs = (types_of(functools.partial(gradients, name, d), args) for d in (reverse.grad, jax.grad))
        assert list(map(str, ours)) == list(map(str, theirs))

    with jax.set_mesh(mesh):
        assert every(PROGRAMS, check) >= 60


def second(differentiate):
    """The gradient of a function of the gradient."""

    def grad(fun, positions):
        return differentiate(
            lambda *args: sum(jnp.sum(jnp.sin(g)) for g in differentiate(fun, positions)(*args)), positions
        )

    return grad


def close(ours, theirs, tolerance):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert jax.typeof(a) == jax.typeof(b)
        size = float(np.max(np.abs(b), initial=1.0))
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=0, atol=tolerance * size)


def jaxs(name, args):
    return jax.jit(lambda *args: gradients(name, jax.grad, args))(*args)


NUMBERS = ("mlp", "transformer", "lstm", "cache", "embedding_of_a_split_vocabulary", "scan_in_a_shard_map", "auto_axes")


@pytest.mark.parametrize("name", [n if n in NUMBERS else pytest.param(n, marks=pytest.mark.campaign) for n in PROGRAMS])
def test_programs_have_jaxs_gradients(name):
    mesh = two_by_four()
    with jax.set_mesh(mesh):
        args = PROGRAMS[name].draw(mesh)
        ours = jax.jit(lambda *args: gradients(name, reverse.grad, args))(*args)
        close(ours, jaxs(name, args), PROGRAMS[name].tolerance)


@pytest.mark.campaign
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_have_jaxs_gradients_without_jit(name):
    mesh = two_by_four()
    with jax.set_mesh(mesh):
        args = PROGRAMS[name].draw(mesh)
        close(gradients(name, reverse.grad, args), jaxs(name, args), PROGRAMS[name].tolerance)


@pytest.mark.campaign
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_have_jaxs_second_derivatives(name):
    mesh, entry = two_by_four(), PROGRAMS[name]
    with jax.set_mesh(mesh):
        args = entry.draw(mesh)
        try:
            theirs = jax.jit(second(jax.grad)(lambda *args: entry.for_jax(*args), entry.floating))(*args)
        except Exception as error:
            pytest.skip(f"JAX: {str(error).splitlines()[0]}")
        close(
            jax.jit(second(reverse.grad)(lambda *args: entry.fun(*args), entry.floating))(*args),
            theirs,
            entry.tolerance,
        )


def test_jacobians_and_hessians_have_jaxs_types():
    mesh = two_by_four()
    with jax.set_mesh(mesh):
        x, w = (jax.device_put(np.ones(shape), NamedSharding(mesh, spec)) for shape, spec in MATRICES)
        vector, scalar = lambda x, w: jnp.tanh(x @ w), lambda x, w: jnp.sum(jnp.tanh(x @ w) ** 2)
        pairs = {
            "jacrev": (reverse.jacrev(vector, (0, 1)), jax.jacrev(vector, (0, 1))),
            "hessian": (reverse.hessian(scalar, (0, 1)), jax.jacrev(jax.jacrev(scalar, (0, 1)), (0, 1))),
        }
        for ours, theirs in pairs.values():
            close(jax.jit(ours)(x, w), jax.jit(theirs)(x, w), 1e-12)


MATRICES = ((8, 4), P("x")), ((4, 2), P())


def test_arguments_off_the_mesh():
    """Their cotangents lie as JAX's do."""
    mesh = two_by_four()
    x = jax.device_put(np.arange(32.0).reshape(8, 4) / 32, NamedSharding(mesh, P("x")))
    others = np.ones((4, 3)), np.ones((8, 3)), np.ones(3), np.float64(2.0)

    def fun(w, a, b, c):
        return jnp.sum(jnp.tanh(x @ w * c + a) * b)

    with jax.set_mesh(mesh):
        ours, theirs = (jax.jit(d.grad(fun, (0, 1, 2, 3)))(*others) for d in (reverse, jax))
    close(ours, theirs, 1e-12)


def test_without_a_current_mesh():
    """The mesh of the arguments is enough, also where zeros are made (jax.grad needs jax.set_mesh there)."""
    mesh = two_by_four()
    x = jax.device_put(np.arange(32.0).reshape(8, 4), NamedSharding(mesh, P("x", "y")))
    bar = reverse.grad(lambda x: jnp.sum(lax.dynamic_slice(x, (0, 0), (8, 4)) ** 2 / 2))(x)
    assert jax.typeof(bar) == jax.typeof(x)
    np.testing.assert_array_equal(bar, x)


def test_off_a_mesh_nothing_is_said_of_one():
    jaxpr = jax.make_jaxpr(reverse.grad(lambda x: jnp.sum(jnp.where(x > 0, jnp.sin(x[1:3].sum()) * x, 0.0))))(
        np.ones(4)
    )
    assert not {"reshard", "sharding_constraint"} & {eqn.primitive.name for eqn in all_equations(jaxpr)}


@pytest.mark.parametrize("check_vma", [False, True])
def test_a_shard_map_within_a_vmap_that_splits(check_vma):
    """The axis that vmap's spmd_axis_name takes is not the shard_map's: no residual names it, no cotangent is summed
    over it."""
    mesh = jax.make_mesh((2, 4), ("x", "y"), axis_types=(AxisType.Auto,) * 2)

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(P("y"), P()), out_specs=P(), check_vma=check_vma)
    def shards(x, w):
        return jax.lax.psum(jnp.sum(jnp.sin(x * w) * jnp.exp(x)), "y")

    x, w = jnp.linspace(0, 1, 32).reshape(4, 8), jnp.asarray(1.3)
    every_row = lambda differentiate: jax.vmap(differentiate(shards, argnums=(0, 1)), (0, None), spmd_axis_name="x")
    for ours, theirs in zip(every_row(reverse.grad)(x, w), every_row(jax.grad)(x, w)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-14)


def test_forward_over_reverse_of_running_products_on_an_explicit_mesh():
    mesh = mesh_of(8)
    x = jax.device_put(jnp.linspace(0.5, 1.5, 32).reshape(4, 8), NamedSharding(mesh, P(mesh.axis_names[0], None)))
    with jax.set_mesh(mesh):
        ours, theirs = (
            jax.jvp(differentiate(lambda x: jnp.sum(jnp.cumprod(x, axis=1))), (x,), (jnp.sin(x),))[1]
            for differentiate in (reverse.grad, jax.grad)
        )
        assert jax.typeof(ours) == jax.typeof(theirs)
        np.testing.assert_allclose(ours, theirs, rtol=1e-13)
