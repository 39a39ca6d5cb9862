"""Named scopes, which profiles and compiled programs show: the backward pass has the user's, as JAX's does."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from functional_dl import reverse

X = np.linspace(0.1, 1.0, 3)


@jax.jit
def decoder(x):
    with jax.named_scope("hidden"):
        return jnp.sin(x) * 2.0


@jax.named_scope("model")
def model(x):
    with jax.named_scope("encoder"):
        x = jnp.tanh(x)
    x = jax.checkpoint(jax.named_scope("kept")(lambda x: jnp.exp(jnp.sin(x))))(decoder(x))
    loop = jax.named_scope("step")(lambda c, _: (jnp.cos(c) * 0.5, None))
    return jnp.sum(lax.scan(loop, x, None, length=2)[0])


def names(fun):
    return set(re.findall(r'op_name="([^"]*)"', jax.jit(fun).lower(X).as_text("hlo", debug_info=True)))


def test_scopes_of_both_passes():
    for differentiate in (reverse.grad, jax.grad):
        found = names(jax.named_scope("outer")(differentiate(model)))
        for scope, operation in {
            "outer/jvp(model)/encoder": "tanh",
            "outer/transpose(jvp(model))/encoder": "mul",
            "outer/jvp(model)": "while",
            "outer/transpose(jvp(model))": "while",
        }.items():
            wanted = re.compile(rf".*{re.escape(scope)}/(.*/)?{operation}(/.*)?$")
            assert any(wanted.match(name) for name in found), (differentiate.__module__, scope, sorted(found))
        for part in (
            "jvp(model)/jit(decoder)",
            "transpose(jvp(model))/jit(decoder)",
            "checkpoint/rematted_computation/kept/sin",
            "step/sin",
        ):
            assert any(part in name for name in found), (differentiate.__module__, part, sorted(found))


def test_scopes_under_transformations():
    twice = names(lambda x: reverse.grad(lambda x: jnp.sum(jax.vmap(reverse.grad(lambda x: model(x[None])))(x)))(x))
    assert any("transpose(jvp(vmap(transpose(jvp(model)))))/encoder" in name for name in twice), sorted(twice)


@jax.jit
def marked(x):
    with set_xla_metadata(part="outer"):
        y = jnp.sin(x)
        with set_xla_metadata(inner="yes"):
            return jnp.sum(jnp.exp(jax.jit(lambda y: y**3)(y)))


def test_metadata_of_both_passes():
    """What the user's program says of an operation in the compiled program is said of its backward pass too."""
    for differentiate in (reverse.grad, jax.grad):
        text = jax.jit(differentiate(marked)).lower(X).as_text()
        marks = {
            operation: re.search(rf"stablehlo.{operation} .*frontend_attributes = {{(.*?)}}", text)
            for operation in ("sine", "cosine", "exponential")
        }
        assert all(marks.values()), (differentiate.__module__, text)
        assert {operation: "inner" in found[1] for operation, found in marks.items() if found} == {
            "sine": False,
            "cosine": False,
            "exponential": True,
        }
        marked_lines = [line for line in text.splitlines() if 'inner = "yes"' in line]
        assert sum("multiply" in line or "call @integer_pow" in line for line in marked_lines) >= 2


def step(c, x):
    h = jnp.tanh(c) * x
    return h, jnp.sin(h)


def placed(x):
    c, hs = lax.scan(step, x, jnp.ones((2, 3)))
    z = jnp.linalg.norm(jnp.where(c > 0.0, jnp.tanh(c) * x, 0.0))
    return jax.checkpoint(lambda z: jnp.cos(jnp.exp(z)))(z) + jnp.sum(hs**3)


def places(fun):
    """(whether it runs backward, the line) of the differentiated program's operations."""
    text = jax.jit(fun).lower(X).as_text(debug_info=True)
    parts = dict(re.findall(r"^(#loc\d+) = loc\((.*)\)$", text, re.MULTILINE))

    def line(text):
        found = re.search(r'test_scopes.py":(\d+)', text)
        inner = None if found else re.search(r"#loc\d+", text)
        return int(found[1]) if found else inner and line(parts.get(inner[0], ""))

    named = [(re.match(r'"([^"]*)"\(', text), line(text)) for text in parts.values()]
    return {
        ("transpose(" in name[1], line - placed.__code__.co_firstlineno)
        for name, line in named
        if name and "jvp" in name[1] and line
    }


@pytest.fixture
def with_places():
    before = jax.config.jax_traceback_in_locations_limit
    jax.config.update("jax_traceback_in_locations_limit", 10)
    yield
    jax.config.update("jax_traceback_in_locations_limit", before)


@pytest.mark.usefixtures("with_places")
def test_places_of_both_passes():
    """Profiles and errors show the user's lines in both passes, and scopes as JAX names them."""
    ours, theirs = places(reverse.value_and_grad(placed)), places(jax.value_and_grad(placed))
    assert ours == theirs
    assert {line for backward, line in ours if backward} >= {1, 2, 3}, ours
    scopes = {name.rsplit("/", 1)[0] for name in names(reverse.grad(placed))}
    assert not any(f"jit({name})" in scope for scope in scopes for name in ("tanh", "multiply", "sin", "sqrt"))
