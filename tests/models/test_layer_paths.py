"""Reports on a network name its layers by the paths of their params: an explanation's outline, where a NaN is born."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.test_models import EXAMPLES, IDS, SERIES

from functional_dl import check, explain, layers, models, tree
from functional_dl.layers.layer import layer_path

KEY = jax.random.key(0)


def explained(fun, *args):
    """The explanation of fun at arguments of these types: nothing is computed."""
    found = []

    def traced(*args):
        found.append(explain.explain(fun, *args, check=False, values=False))
        return 0

    jax.eval_shape(traced, *args)
    return found[0]


def paths_of(steps, outside=()):
    """The group of each step with those around it, without the numbers of repeated ones."""
    for step in steps:
        group = (*outside, *(re.sub(r" \d+$", "", name) for name in step.group))
        yield group
        yield from paths_of(step.body, group)


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.sampled(4)
def test_an_explanation_has_the_layers_as_groups(name):
    example = EXAMPLES[name]
    params = jax.eval_shape(example.model.init, KEY)
    inputs = (example.x,)
    if isinstance(example.model, models.StatefulModel):
        inputs = (jax.eval_shape(example.model.initial), example.x)
    apply = jax.jit(example.model.apply) if name in ("cnn", "gan") else example.model.apply

    def loss(params, *inputs):
        return sum(jnp.sum(y) for y in jax.tree.leaves(apply(params, *inputs, **example.call)))

    shown = explained(loss, params, *inputs)
    groups = {"/".join(group[:depth]) for group in paths_of(shown.steps) for depth in range(len(group) + 1)}
    wanted = {path.rpartition("/")[0] for path in tree.path_names(params) if not path.startswith("critic")}
    assert wanted <= groups
    # and no helper of the network's around them
    first = {path.split("/")[0] for path in wanted} - {""}
    assert first <= {group.name.split("/")[0] for group in shown.groups}
    for group in shown.groups:
        assert group.name in str(shown)


def test_a_block_is_a_group_with_its_layers_below():
    model = models.transformer(7, 4, 2, 2, 6)
    shown = explained(lambda params, ids: jnp.sum(model.apply(params, ids)), jax.eval_shape(model.init, KEY), IDS)
    (block,) = [group for group in shown.groups if group.name == "blocks/1"]
    names = ["attention_norm", "attention", "mlp_norm", "hidden", "gelu", "output"]
    assert [group.name for group in block.children] == names
    assert [group.path for group in block.children[1].children] == [
        ("blocks/1", "attention", name) for name in ("query", "key", "value", "output")
    ]


def test_scopes_are_groups_under_transformations_and_however_small():
    weight = jax.ShapeDtypeStruct((3, 3), np.float64)

    def f(w, x):
        with layer_path("towers/1/head"):
            x = jnp.einsum("ij,bj->bi", w, x)  # whose own scope is a formula and no group
        with jax.named_scope("last"):
            return jnp.sum(x)

    shown = explained(f, weight, np.ones((2, 3)))
    assert [step.group for step in shown.steps if step.primitive == "dot_general"] == [("towers/1", "head")]
    assert shown.steps[-1].group == ("last",)
    mapped = explained(lambda w, x: jnp.sum(jax.vmap(f, (None, 0))(w, x)), weight, np.ones((4, 2, 3)))
    assert {step.group for step in mapped.steps if step.primitive == "dot_general"} == {("f", "towers/1", "head")}


def _logs():
    """layers/1 takes the logarithm of numbers below 0."""
    model = models.mlp((3, 4, 4, 2), jnp.log)
    params = jax.tree.map(lambda p: np.ones(p.shape), jax.eval_shape(model.init, KEY))
    params["layers"][1]["bias"] = np.full(4, -100.0)
    return model.apply, params, np.ones((2, 3)), "log", "forward", "layers/1"


def _roots():
    """layers/1 takes the root of 0, whose derivative is infinite."""
    dense = layers.dense(2, 2)

    def apply(params, x):
        for i, given in enumerate(params["layers"]):
            with layer_path(f"layers/{i}"):
                x = jnp.sqrt(dense.apply(given, x))
        return x

    params = {"layers": [{"weight": np.eye(2), "bias": np.full(2, b)} for b in (3.0, -2.0, 1.0)]}
    return apply, params, np.ones((2, 2)), "sqrt", "backward", "layers/1"


def _infinite(model, x, *places):
    """One layer's weight is infinite, so that it takes infinity from infinity."""
    params = jax.tree.map(np.asarray, jax.jit(model.init)(KEY))
    layer = params
    for place in places:
        layer = layer[place]
    layer["weight"] = np.full_like(layer["weight"], np.inf)
    return model.apply, params, x, "dot_general", "forward", "/".join(map(str, places))


FAULTS = {  # name -> function, parameters, x, the equation, its direction and its layer
    "log": _logs,
    "root": _roots,
    "in a block": lambda: _infinite(models.transformer(7, 4, 2, 2, 6), IDS[0], "blocks", 1, "hidden"),
    "in a scan": lambda: _infinite(models.recurrent(4, 3, 2, depth=1), SERIES[0] - 0.5, "layers", 0, "input"),
}


@pytest.mark.parametrize(
    ("name", "compiled"),
    [("log", False), ("log", True), ("root", False), ("root", True), ("in a block", True), ("in a scan", False)],
)
@pytest.mark.sampled(3)
def test_a_nan_is_told_with_the_path_of_its_layer(name, compiled):
    apply, params, x, equation, direction, layer = FAULTS[name]()
    report = check.find_nan(jax.jit(apply) if compiled else apply, params, x)
    assert (report.equation, report.direction, report.layer) == (equation, direction, layer)
    assert f" {equation} in {layer}, {direction}: " in str(report)


def test_a_nan_outside_of_all_layers_has_no_path():
    report = check.find_nan(jnp.log, np.full(2, -1.0))
    assert (report.found, report.layer) == (True, "")
    assert ": log, forward: " in str(report)
