"""Steps, values, groups and checks of an explanation."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from functional_dl import explain, layers, losses, models, reverse
from functional_dl.explain.explanation import Explanation
from functional_dl.explain.record import checks, recording
from tests.explain import programs
from tests.explain.programs import PROGRAMS, drawn

quick = functools.partial(explain.explain, check=False)


@pytest.fixture(scope="module")
def transformer() -> Explanation:
    return explain.explain(programs.transformer, *programs.transformer_arguments(), argnums=0)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.sampled(3)
def test_cotangents_are_the_reverse_modes(name):
    fun, arguments = PROGRAMS[name]
    args = arguments()
    shown = quick(fun, *args, argnums=0)
    expected = jax.tree.leaves(jax.jit(reverse.grad(fun))(*args))
    for number, want in zip(shown.inputs, expected):
        summary = shown.values[number].ct_summary
        assert summary is not None
        np.testing.assert_allclose(summary.norm, np.linalg.norm(np.asarray(want)), rtol=1e-12, atol=1e-300)
        np.testing.assert_allclose(summary.high, np.max(want), rtol=1e-10, atol=1e-14)


def test_every_step_of_a_transformer_agrees_with_its_oracles(transformer):
    done = [step for step in transformer.all_steps().values() if step.check is not None]
    differentiated = [step for step in transformer.steps if step.backward_latex]
    assert transformer.passed
    assert len(done) == len(differentiated) > 50
    assert all(step.check.error <= 1e-6 for step in done)


def test_the_packages_own_network():
    """Typed and checked at run time, in files of the package: its steps still have names, lines and groups."""
    network = models.mlp((4, 8, 3), "tanh", dtype=jnp.float64)
    params = network.init(jax.random.key(0))
    (x,) = drawn((5, 4))
    targets = jnp.arange(5) % 3

    def loss(params, x, targets):
        logits = network.apply(params, x)
        return jnp.mean(losses.softmax_cross_entropy(logits, jax.nn.one_hot(targets, 3)))

    shown = explain.explain(loss, params, x, targets)
    assert shown.passed
    places = {step.source[-1].split(":")[0] for step in shown.steps}
    assert places == {"test_explain.py"}
    assert any(step.source[0].startswith("dense.py") for step in shown.steps)
    assert [group.name for group in shown.groups][:2] == ["layers/0", "layers/1"]
    gradient, *_ = module(shown.to_python())["value_and_vjp"](params, x, targets, shown.recipe.ct)[1]
    chex.assert_trees_all_close(gradient, jax.jit(reverse.grad(loss))(params, x, targets), rtol=1e-14, atol=1e-16)


def test_a_rule_of_ones_own_where_nothing_is_differentiated():
    """A custom_jvp function of constants: shown, and traced for the module, as any equation."""
    w, x = drawn((4,), (4,))
    shown = explain.explain(lambda w: jnp.sum(w * layers.standardize(x)), w)
    assert shown.passed
    gradient, *_ = module(shown.to_python())["value_and_vjp"](w, shown.recipe.ct)[1]
    chex.assert_trees_all_close(gradient, layers.standardize(x), rtol=1e-14)


def test_masked_scores():
    """-inf among the values is no warning, and no fault of the rules."""
    mask = jnp.tril(jnp.ones((3, 3), bool))
    shown = explain.explain(lambda s: jnp.sum(jax.nn.softmax(jnp.where(mask, s, -jnp.inf)) ** 2), *drawn((3, 3)))
    assert shown.passed


def module(text):
    space: dict = {}
    exec(compile(text, "generated", "exec"), space)
    return space


def test_steps_say_where_they_come_from(transformer):
    places = {source for step in transformer.steps for source in step.source}
    assert all(place.startswith("programs.py:") for place in places)
    norm = next(step for step in transformer.steps if step.primitive == "rsqrt")
    assert norm.line.startswith("inverse = lax.rsqrt(")
    assert norm.derivation.startswith("y = x^(-1/2)") or "y" in norm.derivation


def test_functions_and_scopes_are_groups(transformer):
    (block,) = [group for group in transformer.groups if group.name == "block"]
    names = [child.name for child in block.children]
    assert names[:2] == ["layer_norm", "attention"]
    assert "layer_norm 2" in names
    steps = sorted([*transformer.loose, *[i for group in transformer.groups for i in group.all_steps()]])
    assert steps == [step.index for step in transformer.steps]
    total = sum(step.flops for step in transformer.steps if step.group[:1] == ("block",))
    assert block.flops == total


def test_scopes_stand_between_the_functions_they_stand_between():
    def inner(x):
        y = jnp.sin(x)
        return y * y

    def outer(x):
        with jax.named_scope("middle"):
            return inner(x)

    shown = quick(lambda x: jnp.sum(outer(x)), jnp.ones(3))
    assert shown.steps[0].group == ("outer", "middle", "inner")


def test_compiled_functions_are_entered():
    @jax.jit
    def layer(x, w):
        hidden = jnp.tanh(x @ w)
        return hidden * hidden

    def f(x, w):
        return jnp.sum(layer(layer(x, w), w))

    shown = quick(f, *drawn((3, 3), (3, 3)))
    assert [step.primitive for step in shown.steps] == ["dot_general", "tanh", "mul"] * 2 + ["reduce_sum"]
    assert [group.name for group in shown.groups] == ["layer", "layer 2"]
    assert shown.steps[1].line == "hidden = jnp.tanh(x @ w)"


def test_values_have_the_users_names():
    def f(params, x):
        z = x @ params["w1"]
        h = jnp.tanh(z) + 1.0
        z = h @ params["w2"]
        return jnp.sum(z)

    w1, w2, x = drawn((2, 3), (3, 2), (4, 2))
    shown = quick(f, {"w1": w1, "w2": w2}, x)
    names = {value.name: value for value in shown.values.values()}
    assert list(names) == ["w1", "w2", "x", "z", "h_a", "h", "z_2", "f"]
    assert names["w1"].latex == "W_{1}"
    assert names["w1"].label == "params/w1"
    assert names["h_a"].latex == "h'"
    assert names["z_2"].latex == "z^{[2]}"
    assert all(name.isidentifier() for name in names)


def test_names_are_unique_and_free():
    def f(ct, jnp_, x_bar):
        lax_ = ct * jnp_
        ct = lax_ * x_bar
        return jnp.sum(ct)

    shown = quick(f, *drawn((2,), (2,), (2,)))
    names = [value.name for value in shown.values.values()]
    assert len(set(names)) == len(names)
    assert "ct" not in names
    assert not any(name.endswith("_bar") for name in names)


def test_where_paths_meet_the_sum_is_shown():
    def f(x):
        h = jnp.sin(x)
        return jnp.sum(h * h + jnp.exp(h))

    shown = quick(f, jnp.ones(3))
    sine = shown.steps[0]
    (fan_in,) = sine.fan_ins
    primitives = [shown.steps[i].primitive for i in fan_in.terms]
    assert shown.values[fan_in.value].name == "h"
    assert sorted(primitives) == ["exp", "mul", "mul"]
    assert fan_in.latex.startswith(r"\bar h = \bar h^{(1)} + ")


def test_an_input_that_is_used_twice_meets_at_its_first_use():
    shown = quick(lambda x: jnp.sum(jnp.sin(x)) + jnp.sum(jnp.cos(x)), jnp.ones(3))
    ((index, fan_in),) = [(step.index, m) for step in shown.steps for m in step.fan_ins if m.value in shown.inputs]
    assert index == 0
    assert len(fan_in.terms) == 2


def test_python_decides_on_values():
    def f(x):
        if x > 0:
            return jnp.sin(x)
        return jnp.cos(x)

    assert [s.primitive for s in quick(f, jnp.asarray(1.0)).steps] == ["gt", "sin"]
    assert [s.primitive for s in quick(f, jnp.asarray(-1.0)).steps] == ["gt", "cos"]


def test_a_loop_shows_its_last_pass():
    def f(w, xs):
        def step(state, x):
            state = jnp.tanh(w * state + x)
            return state, state * state

        return lax.scan(step, jnp.zeros(()), xs)

    w, xs = jnp.asarray(0.7), jnp.asarray([0.3, -0.2, 0.5])
    shown = explain.explain(f, w, xs, ct=(jnp.asarray(1.0), jnp.asarray([0.1, 0.2, 0.3])))
    (scan,) = [step for step in shown.steps if step.primitive == "scan"]
    assert scan.trips == 3
    assert [step.primitive for step in scan.body] == ["mul", "add", "tanh", "mul"]
    assert shown.passed
    states = [0.0]
    for x in np.asarray(xs):
        states.append(float(np.tanh(0.7 * states[-1] + x)))
    last = shown.values[scan.body[2].outputs[0]]
    np.testing.assert_allclose(last.summary.mean, states[-1], rtol=1e-12)
    np.testing.assert_allclose(last.ct_summary.mean, 1.0 + 2 * 0.3 * states[-1], rtol=1e-12)


def test_a_while_loop_shows_its_last_pass_and_counts_all():
    def f(x):
        return lax.while_loop(lambda y: y < 100.0, lambda y: y * y, x)

    shown = explain.explain(f, jnp.asarray(2.0))
    (loop,) = shown.steps
    assert loop.trips == 3
    assert shown.values[loop.body[0].inputs[0]].summary.mean == 16.0
    assert shown.passed


def test_a_branch_shows_the_one_taken():
    def f(x):
        return lax.cond(x > 0, lambda y: jnp.sin(y) * y, lambda y: y, x)

    shown = explain.explain(f, jnp.asarray(0.5))
    (branch,) = [step for step in shown.steps if step.primitive == "cond"]
    assert [step.primitive for step in branch.body] == ["sin", "mul"]
    assert r"\begin{cases}" in branch.forward_latex


def test_a_custom_rule_may_close_over_what_is_computed():
    def f(x):
        scale = jnp.sqrt(2.0) * jnp.arange(3.0)
        scaled = jax.custom_jvp(lambda y: y * scale)
        scaled.defjvp(lambda primals, tangents: (scaled(*primals), tangents[0] * scale))
        return jnp.sum(scaled(x))

    shown = explain.explain(f, jnp.ones(3))
    assert shown.passed
    assert "custom_jvp_call" in [step.primitive for step in shown.steps if step.check is not None]


def test_custom_rules_are_steps_of_their_own():
    @jax.custom_vjp
    def clipped(x):
        return x * 2.0

    clipped.defvjp(lambda x: (x * 2.0, None), lambda _, ct: (jnp.clip(ct, -0.1, 0.1),))

    def f(x):
        return jnp.sum(clipped(jax.nn.relu(x)))

    shown = explain.explain(f, jnp.asarray([1.0, -2.0, 0.5]))
    called = {step.label: step for step in shown.steps if step.label}
    assert set(called) == {"relu", "clipped"}
    assert called["relu"].check.passed
    assert not called["clipped"].check.passed, "the rule is not the derivative, and the explanation says so"
    np.testing.assert_allclose(shown.values[shown.inputs[0]].ct_summary.high, 0.1)


def test_references_are_followed():
    def f(x):
        ref = jax.new_ref(jnp.sin(x))
        ref[0] = ref[1] * ref[2]
        return jnp.sum(ref[...])

    shown = quick(f, jnp.ones(3))
    assert "swap" in [step.primitive for step in shown.steps]
    np.testing.assert_allclose(
        shown.values[shown.inputs[0]].ct_summary.norm, np.linalg.norm(jax.grad(f)(jnp.ones(3))), rtol=1e-12
    )


def test_kept_values_are_those_that_the_rules_read():
    def f(x, y):
        product = x * y
        return jnp.sum(jnp.exp(jnp.sin(product) + 1.0))

    shown = quick(f, jnp.ones(4), jnp.ones(4))
    kept = {value.name for value in shown.values.values() if value.kept}
    exp = next(step for step in shown.steps if step.primitive == "exp")
    assert kept == {"product", shown.values[exp.outputs[0]].name}
    assert shown.ledger.residual_bytes == 2 * 4 * 8


def test_linear_steps_are_known():
    shown = quick(lambda x: jnp.sum(jnp.sin(3.0 * x)), jnp.ones(4))
    assert {step.primitive: step.linear for step in shown.steps} == {"mul": True, "sin": False, "reduce_sum": True}


def _layer_norm(x):
    centred = x - jnp.mean(x, -1, keepdims=True)
    return jnp.sum(centred / jnp.sqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-5))


def _tied_pool(x):
    weights = np.linspace(-1, 1, 8, dtype=x.dtype).reshape(2, 4)
    return jnp.sum(lax.reduce_window(jax.nn.relu(x - 1), -jnp.inf, lax.max, (2, 2), (2, 2), "VALID") * weights)


@pytest.mark.parametrize("x64", [False, True])
def test_exact_rules_are_not_accused(x64):
    """Differences in 24 bits err, a derivative that is 0 is rounding alone, and at ties there are many derivatives."""
    rng = np.random.default_rng(0)
    dtype = np.float64 if x64 else np.float32
    cases = [
        (lambda x: -x, dtype(1.4064777)),
        (lambda x: jnp.tanh(jnp.sin(x) * 2 - x) / 3, dtype(0.65)),
        (_layer_norm, rng.normal(size=(4, 8)).astype(dtype)),
        (_tied_pool, rng.normal(size=(4, 8)).astype(dtype)),
        (lambda x: jnp.sum(jax.nn.relu(x) * rng.normal(size=12).astype(dtype)), np.zeros(12, dtype)),
    ]
    with jax.enable_x64(x64), jax.numpy_dtype_promotion("standard"):
        for fun, x in cases:
            assert explain.explain(fun, x).passed, fun.__name__


@jax.custom_jvp
def _rounded(x):
    return jnp.round(x)


_rounded.defjvp(lambda primals, tangents: (_rounded(*primals), tangents[0]))


@pytest.mark.parametrize("rounded", [_rounded, lambda x: x + lax.stop_gradient(jnp.round(x) - x)])
def test_a_derivative_that_is_stated_is_not_held_to_values(rounded):
    """A straight-through estimator: its derivative is 1, that of its values 0."""
    step = lambda state, x: (jnp.tanh(state + rounded(x)), rounded(3 * state))
    f = lambda x: lax.scan(step, jnp.zeros((), x.dtype), x)[0] + jnp.sum(rounded(x))
    assert explain.explain(f, jnp.asarray([0.3, -1.2, 2.4], jnp.float32)).passed


def test_factorisations_that_read_one_triangle_are_not_accused():
    rng = np.random.default_rng(25)
    a = jnp.array(rng.normal(size=(4, 4)), jnp.float32)
    spread = a @ a.T + jnp.eye(4, dtype=jnp.float32)

    def f(a):
        return jnp.sum(jnp.linalg.eigh(a)[1][:, 0] ** 3) + jnp.linalg.eigvalsh(a)[0] + jnp.linalg.cholesky(a)[3, 1]

    assert explain.explain(f, spread).passed


def _outline(groups):
    return {group.name: _outline(group.children) for group in groups}


@pytest.mark.parametrize("compiled", [False, True])
def test_a_frameworks_modules_are_groups_by_path(compiled):
    eqx = pytest.importorskip("equinox")

    class Block(eqx.Module):
        up: eqx.nn.Linear
        norm: eqx.nn.LayerNorm

        def __init__(self, key):
            self.up, self.norm = eqx.nn.Linear(3, 3, key=key), eqx.nn.LayerNorm(3)

        def __call__(self, x):
            return x + jnp.tanh(self.up(self.norm(x)))

    class Net(eqx.Module):
        blocks: list

        def __init__(self, key):
            self.blocks = [Block(k) for k in jax.random.split(key)]

        def __call__(self, x):
            for block in self.blocks:
                x = block(x)
            return x

    params, static = eqx.partition(Net(jax.random.key(0)), eqx.is_array)

    def loss(params, x):
        net = eqx.combine(params, static)
        return jnp.sum(jax.vmap(net)(x) ** 2)

    x = jnp.ones((2, 3)).at[0, 1].set(2.0)
    shown = quick(jax.jit(loss) if compiled else loss, params, x)
    if compiled:  # no object is to be found: their classes, both blocks as one, for one line calls them
        assert _outline(shown.groups) == {
            "loss": {"Net": {"Block": {"LayerNorm": {"var": {}, "var 2": {}}, "Linear": {}}}}
        }
    else:
        block = {"norm": {"var": {}}, "up": {}}
        assert _outline(shown.groups) == {"Net": {"blocks/0": block, "blocks/1": block}}
        assert all("equinox" not in place for step in shown.steps for place in step.source)
    values = [shown.values[number] for number in shown.inputs]
    assert (values[0].label, values[0].name) == ("params/blocks/0/up/weight", "up_weight_0")


def test_arguments_are_told_by_their_paths():
    def f(x, *ys, k=2.0):
        return k * jnp.sum(x) + sum(jnp.sum(y["a"] * y["b"]["a"]) for y in ys)

    x = jnp.ones(2)
    shown = quick(f, x, {"a": x, "b": {"a": x}}, {"a": x, "b": {"a": x}})
    labels = ["x", "ys[0]/a", "ys[0]/b/a", "ys[1]/a", "ys[1]/b/a"]
    assert [shown.values[number].label for number in shown.inputs] == labels
    assert len({shown.values[number].name for number in shown.inputs}) == 5


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("factor", [1.001, -1.0, 0.0, np.nan])
def test_a_wrong_rule_is_found(factor, dtype):
    """The cotangent of one step is spoiled, or there is none: its check fails, at any size of the error."""

    def f(x):
        return jnp.sum(jnp.tanh(x) * x)

    x = jnp.asarray([0.3, -1.2, 2.0], dtype)
    _, run = recording.run(lambda v: [f(v)], [x], [True], f.__code__)
    recording.sweep(run, [jnp.ones((), dtype)])
    entry = run.recorder.entries[0]
    cts, bars = [run.cts[slot] for slot in entry.out_slots], run.bars()[entry.index]
    assert entry.primitive.name == "tanh"
    right = checks.check(entry, cts, bars)
    wrong = checks.check(entry, cts, {s: factor * b for s, b in bars.items()} if factor else {})
    assert right is not None
    assert right.passed
    assert wrong is not None
    assert not wrong.passed


def test_options():
    f = lambda x, y: (x * y, jnp.sum(y))
    x, y = drawn((2,), (2,))
    only = quick(f, x, y, argnums=1, values=False)
    assert only.values[only.inputs[0]].differentiated is False
    assert only.values[only.inputs[1]].summary is None
    given = quick(f, x, y, ct=(jnp.ones(2), jnp.asarray(0.0)))
    np.testing.assert_allclose(given.values[given.inputs[0]].ct_summary.norm, np.linalg.norm(np.asarray(y)))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: quick(3, jnp.ones(2)), TypeError, "fun: expected a callable"),
        (lambda: quick(lambda x: "text", jnp.ones(2)), TypeError, "fun: expected arrays"),
        (lambda: quick(jnp.sin, jnp.ones(2), argnums=1), ValueError, "argnums: expected numbers of the 1"),
        (lambda: quick(lambda i: i, jnp.arange(2)), ValueError, "argnums: none of the arguments"),
        (lambda: quick(jnp.sin, jnp.ones(2), ct=jnp.ones(3)), ValueError, "ct: expected the shape"),
        (lambda: quick(jnp.sin, jnp.ones(2), ct=(jnp.ones(2),)), ValueError, "ct: expected the structure"),
    ],
)
def test_bad_input_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_texts(transformer):
    overview, text = str(transformer), transformer.to_markdown()
    assert overview.splitlines()[0].startswith("transformer(")
    assert "rules agree with their oracles" in overview
    assert "block" in overview
    assert text.count("$$") % 2 == 0
    assert "### attention" in text
    document = transformer.to_latex()
    assert document.count("\\begin{") == document.count("\\end{")
    assert document.startswith("\\documentclass")


def test_graph(transformer):
    graph = transformer.graph
    forward = [(u, v) for u, v, data in graph.edges(data=True) if data["direction"] == "forward"]
    back = [(u, v) for u, v, data in graph.edges(data=True) if data["direction"] == "backward"]
    assert {(v, u) for u, v in back} <= set(forward)
    weights = [n for n in transformer.inputs if transformer.values[n].differentiated]
    assert all(any(v == ("value", n) for _, v in back) for n in weights)
    dot = graph.to_dot()
    assert dot.count(" -> ") == graph.number_of_edges()
    assert "dashed" in dot
