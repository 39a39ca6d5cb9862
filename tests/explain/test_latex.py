"""Formulas: one for every primitive that has a rule, well-formed, and right where a reader knows them by heart."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from functional_dl import explain, reverse
from functional_dl.explain.formulas.naming import latex_of
from functional_dl.reverse import latex
from functional_dl.reverse.latex import bar
from tests.explain.programs import PROGRAMS, drawn


def test_every_rule_has_a_formula():
    """But for those of sparse matrices, which are programs: theirs is the general one."""
    sparse = ("bcoo_", "bcsr_", "coo_", "csr_", "spsolve", "todense")
    for primitive, rule in reverse.RULES.items():
        if not primitive.name.startswith(sparse):
            assert rule.latex is not None, primitive
            assert rule.latex.forward, primitive
            assert rule.latex.backward, primitive


def faults(text):
    """What LaTeX would complain of."""
    found = []
    plain = text.replace(r"\{", "").replace(r"\}", "")
    depth = 0
    for char in plain:
        depth += {"{": 1, "}": -1}.get(char, 0)
        if depth < 0:
            found.append("a brace closes that was not open")
    if depth:
        found.append("braces do not balance")
    if len(re.findall(r"\\left(?![a-z])", text)) != len(re.findall(r"\\right(?![a-z])", text)):
        found.append(r"\left without \right")
    if re.search(r"<[xyzcs]?\d*>", text):
        found.append("a placeholder is left")
    if re.search(r"\}\^\{[^{}]*\}\^|\^\{[^{}]*\}\^", plain):
        found.append("double superscript")
    if re.search(r"(?<!\\)[%#&$](?!.*cases|.*pmatrix)", text):
        found.append("an unescaped special character")
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_formulas_are_well_formed(name):
    fun, arguments = PROGRAMS[name]
    shown = explain.explain(fun, *arguments(), check=False, values=False)
    for step in shown.all_steps().values():
        for text in (step.forward_latex, *step.backward_latex, *[m.latex for m in step.fan_ins]):
            assert not faults(text), (faults(text), text)


def formulas(fun, *args):
    shown = explain.explain(fun, *args, check=False, values=False)
    step = next(s for s in shown.steps if s.backward_latex)
    return step.forward_latex, *step.backward_latex


def one(operation):
    def fun(*args):
        y = operation(*args)
        return y

    return fun


A, B, C = drawn((3, 4), (4, 5), (3, 5))
V, W = drawn((4,), (4,))


def product(left, right):
    return lambda a, b: lax.dot_general(a, b, (((left,), (right,)), ((), ())))


@pytest.mark.parametrize(
    ("fun", "args", "expected"),
    [
        (lambda x: jnp.tanh(x), (V,), (r"y = \tanh x", r"\bar x \mathrel{+}= \bar y \odot (1 - y^2)")),
        (lambda x: jnp.exp(x), (V,), (r"y = e^{x}", r"\bar x \mathrel{+}= \bar y \odot y")),
        (
            lambda a, b: a @ b,
            (A, B),
            (
                r"y = A\, B",
                r"\bar A \mathrel{+}= \bar y\, B^{\top}",
                r"\bar B \mathrel{+}= A^{\top}\, \bar y",
            ),
        ),
        (
            product(0, 0),
            (A.T, B),
            (r"y = A^{\top}\, B", r"\bar A \mathrel{+}= B\, \bar y^{\top}", r"\bar B \mathrel{+}= A\, \bar y"),
        ),
        (
            product(1, 1),
            (A, B.T),
            (r"y = A\, B^{\top}", r"\bar A \mathrel{+}= \bar y\, B", r"\bar B \mathrel{+}= \bar y^{\top}\, A"),
        ),
        (
            lambda a, b: a @ b,
            (A, V),
            (r"y = A\, b", r"\bar A \mathrel{+}= \bar y\, b^{\top}", r"\bar b \mathrel{+}= A^{\top}\, \bar y"),
        ),
        (
            lambda a, b: a @ b,
            (V, B),
            (r"y = a\, B", r"\bar a \mathrel{+}= B\, \bar y", r"\bar B \mathrel{+}= a\, \bar y^{\top}"),
        ),
        (lambda x: jnp.sum(x), (V,), (r"y = \textstyle\sum x", r"\bar x \mathrel{+}= \mathbf{1} \odot \bar y")),
        (lambda x: jax.nn.relu(x), (V,), (r"y = \max(x, 0)", r"\bar x \mathrel{+}= \bar y \odot [x > 0]")),
        (
            lambda x: lax.cumsum(x),
            (V,),
            (r"y = \textstyle\sum_{s \le t} x_s", r"\bar x \mathrel{+}= \textstyle\sum_{s \ge t} \bar y_s"),
        ),
        (lambda x: x.T, (A,), (r"y = X^{\top}".replace("X", "x"), r"\bar x \mathrel{+}= \bar y^{\top}")),
        (
            lambda x, w: x * w,
            (jnp.asarray(2.0), jnp.asarray(3.0)),
            (r"y = x \cdot w", r"\bar x \mathrel{+}= \bar y \cdot w", r"\bar w \mathrel{+}= \bar y \cdot x"),
        ),
    ],
)
def test_formulas_that_everybody_knows(fun, args, expected):
    import inspect

    letters = list(inspect.signature(fun).parameters)
    namespace = {"fun": fun}
    exec(f"def named({', '.join(letters)}):\n    y = fun({', '.join(letters)})\n    return y", namespace)
    shown = explain.explain(namespace["named"], *args, check=False, values=False)
    step = next(s for s in shown.steps if s.backward_latex)
    y = shown.values[step.outputs[0]].latex
    texts = [t.replace(bar(y), r"\bar y").replace(y, "y") for t in (step.forward_latex, *step.backward_latex)]
    assert tuple(texts) == expected


@pytest.mark.parametrize(
    ("name", "ndim", "expected"),
    [
        ("w1", 2, "W_{1}"),
        ("x", 2, "x"),
        ("theta_0", 0, r"\theta_{0}"),
        ("hidden", 0, r"\mathrm{hidden}"),
        ("weight_3", 2, "W_{3}"),
        ("hidden_state", 0, r"\mathrm{hidden}_{\mathrm{state}}"),
    ],
)
def test_names(name, ndim, expected):
    assert latex_of(name, ndim) == expected


@pytest.mark.parametrize(
    ("latex_name", "expected"),
    [
        ("x", r"\bar x"),
        ("W_{1}", r"\bar W_{1}"),
        (r"\theta_{0}", r"\bar{\theta}_{0}"),
        (r"\mathrm{hidden}", r"\overline{\mathrm{hidden}}"),
        ("h'", r"\bar h'"),
    ],
)
def test_bars(latex_name, expected):
    assert bar(latex_name) == expected


def test_text_is_escaped():
    assert latex.escape(r"a_b & 50% \x {y}") == r"a\_b \& 50\% \textbackslash{}x \{y\}"
