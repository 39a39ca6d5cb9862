"""The generated text, executed: the hand-written reverse mode's own numbers, in nobody's library but JAX's."""

import ast
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import explain, reverse
from functional_dl.explain.source.source_layout import lay_out
from tests.explain.programs import PROGRAMS, drawn

ULPS = 2
# Compiled, the derivative's series by a shape parameter is fused differently than in the reverse mode's program; its
# sum passes near zero at one of the entries, where 2 ulps of the terms are more of the sum.
NEAR_ZERO = {("random_gamma", 1): 16}


def module(text):
    """What the text defines."""
    space: dict = {}
    exec(compile(text, "generated", "exec"), space)
    return space


def explained(fun, *args, **options):
    return explain.explain(fun, *args, check=False, values=False, **options)


def reference(fun, args, ct):
    """Value and cotangents by the reverse mode."""

    def both(args, ct):
        out, pullback = reverse.vjp(fun, *args)
        leaves, tree = jax.tree.flatten(out)
        given = iter(jax.tree.leaves(ct))
        cts = [next(given) if jnp.issubdtype(y.dtype, jnp.inexact) else np.zeros(y.shape, jax.float0) for y in leaves]
        return out, pullback(jax.tree.unflatten(tree, cts))

    return jax.jit(both)(args, ct)


def assert_equal(fun, args, text, ct, ulps=ULPS):
    value_and_vjp = module(text)["value_and_vjp"]
    out, cts = jax.jit(value_and_vjp)(*args, ct)
    expected_out, expected = reference(fun, args, ct)
    wanted = [b for b in jax.tree.leaves(expected) if b.dtype != jax.float0]
    for actual, want in zip([*jax.tree.leaves(out), *jax.tree.leaves(cts)], [*jax.tree.leaves(expected_out), *wanted]):
        assert actual.shape == want.shape
        assert actual.dtype == want.dtype
        actual, want = np.asarray(actual), np.asarray(want)
        if actual.size and actual.dtype.kind in "fc":
            size = np.maximum(np.maximum(np.abs(actual), np.abs(want)), np.finfo(actual.dtype).tiny)
            assert np.max(np.abs(actual - want) / np.spacing(size)) <= ulps
        else:
            np.testing.assert_array_equal(actual, want)


@pytest.fixture(scope="module", params=PROGRAMS)
def generated(request):
    fun, arguments = PROGRAMS[request.param]
    args = arguments()
    shown = explained(fun, *args)
    return fun, args, shown, shown.to_python()


def test_executes_to_the_reverse_modes_numbers(generated):
    fun, args, shown, text = generated
    assert_equal(fun, args, text, shown.recipe.ct)


def test_imports_jax_alone_and_differentiates_nothing(generated):
    tree = ast.parse(generated[3])
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module])
    }
    assert imported <= {"jax", "jax.numpy", "jax.extend.core", "numpy"}
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert called.isdisjoint({"vjp", "jvp", "grad", "value_and_grad", "linearize", "linear_transpose", "jacrev"})


def test_names_each_steps_pullback(generated):
    shown, text = generated[2:]
    differentiated = [step for step in shown.steps if step.backward_latex]
    named = sum(f"# pullback of step {step.index}: " in text for step in differentiated)
    assert named >= 0.6 * len(differentiated)  # a pullback that hands its cotangent on has no line
    assert "# The backward pass." in text


def test_is_formatted(generated, tmp_path):
    ruff = shutil.which("ruff")
    if ruff is None:
        pytest.skip("ruff is not installed")
    for length in (88, 120):
        path = tmp_path / f"generated_{length}.py"
        path.write_text(generated[2].to_python(length))
        done = subprocess.run(
            [ruff, "format", "--isolated", "--line-length", str(length), "--diff", path], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


def probes(every=1):
    """Of each rule the first probe (all, one would say, but they take minutes: see the campaign)."""
    cases = [(rule, n) for rule in reverse.RULES.values() for n in range(len(rule.probes))]
    cases = [case for case in cases if case[1] == 0] if every > 1 else cases
    return [pytest.param(rule, n, id=f"{rule.primitive}-{n}") for rule, n in cases[::every]]


def probe_arguments(probe):
    dtype = "float64" if "float64" in probe.dtypes else probe.dtypes[0]
    rng = np.random.default_rng(0)
    return [jnp.array(rng.uniform(probe.low, probe.high, shape)).astype(dtype) for shape in probe.shapes]


def check_probe(rule, n):
    probe = rule.probes[n]
    args = probe_arguments(probe)
    shown = explained(probe.fun, *args)
    ulps = NEAR_ZERO.get((rule.primitive.name, n), ULPS)
    assert_equal(probe.fun, args, shown.to_python(), shown.recipe.ct, ulps)


@pytest.mark.parametrize(("rule", "n"), probes(every=9))
@pytest.mark.sampled(3)
def test_some_rules(rule, n):
    check_probe(rule, n)


@pytest.mark.campaign
@pytest.mark.parametrize(("rule", "n"), probes())
def test_every_rule(rule, n):
    check_probe(rule, n)


def test_platforms_and_total_orders():
    table = np.linspace(0.0, 2.0, 5)

    def f(x):
        chosen = jax.lax.platform_dependent(x, cpu=jnp.sin, default=jnp.cos)
        return jnp.sum(chosen * jnp.interp(x, table, table**2)) + jnp.linalg.det(jnp.outer(x, x) + jnp.eye(3))

    args = drawn((3,))
    shown = explained(f, *args)
    assert_equal(f, args, shown.to_python(), shown.recipe.ct)


def test_constants_are_in_the_text():
    rng = np.random.default_rng(3)
    table, few = jnp.array(rng.normal(size=(9, 9))), np.array([1.5, np.inf, -0.0])

    def f(x):
        return jnp.sum(jnp.tanh(table @ x)) + jnp.sum(jnp.where(jnp.isfinite(few), few, 0.0) * x[:3])

    args = drawn((9,))
    shown = explained(f, *args)
    assert_equal(f, args, shown.to_python(), shown.recipe.ct)


def test_trees_in_and_out():
    def f(pair, tables):
        return {"a": pair[0] * tables["one"][0], "b": (jnp.sin(pair[1]), tables["n"])}

    args = ((2.0 * jnp.ones(3), jnp.ones(2)), {"one": [jnp.arange(3.0)], "n": jnp.arange(2)})
    shown = explained(f, *args)
    text = shown.to_python()
    assert_equal(f, args, text, shown.recipe.ct)
    _, cts = module(text)["value_and_vjp"](*args, shown.recipe.ct)
    assert cts[1]["n"] is None


def test_an_unknown_primitive_is_named():
    from jax.extend.core import Primitive

    odd = Primitive("odd_one_out")
    odd.def_impl(lambda x: x)
    odd.def_abstract_eval(lambda x: x)
    with pytest.raises(NotImplementedError, match="odd_one_out"):
        explained(lambda x: jnp.sum(odd.bind(x) * x), jnp.ones(3)).to_python()


def test_decisions_in_python_are_refused():
    def f(x):
        return x * x if x > 0 else -x

    with pytest.raises(TypeError, match="decides in Python"):
        explained(f, jnp.asarray(2.0)).to_python()


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("x = f(a, b)", ["x = f(a, b)"]),
        ("out = function(first, second)", ["out = function(", "    first, second", ")"]),
        ("out = [first, second, third_one]", ["out = [", "    first,", "    second,", "    third_one,", "]"]),
    ],
)
def test_lines_are_broken_as_ruff_breaks_them(line, lines):
    assert lay_out(line, 0, 20) == lines
