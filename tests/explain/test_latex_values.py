r"""The LaTeX that stands on a rule, evaluated as numbers, equals what the rule computes: it cannot drift.

A small reader turns the formulas of elementwise rules into Python: \odot and \cdot multiply, [ ... ] is 1 where the
condition holds, e^{...}, \sqrt{...}, \frac{...}{...}, |...| and the functions by name.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special as sp

from functional_dl import jaxprs, reverse
from functional_dl.reverse import latex

NAMES = {
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "arcsin": np.arcsin, "arccos": np.arccos, "arctan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "ln": np.log, "log_2": np.log2,
    "min": np.minimum, "max": np.maximum, "arsinh": np.arcsinh, "arcosh": np.arccosh, "artanh": np.arctanh,
    "erf": sp.erf, "sign": np.sign, "trunc": np.trunc, "atan2": np.arctan2, "sqrt": np.sqrt, "cbrt": np.cbrt,
    "sigma": sp.expit, "psi": sp.digamma, "psi_1": lambda x: sp.polygamma(1, x), "Gamma": sp.gamma,
    "erf_inv": sp.erfinv, "erfc": sp.erfc, "I_0": sp.i0, "I_1": sp.i1, "where": lambda c: np.where(c, 1.0, 0.0),
}  # fmt: skip
OTHER = {
    "lgamma",
    "polygamma",
    "zeta",
    "igamma",
    "igammac",
    "igamma_grad_a",
    "regularized_incomplete_beta",
    "clamp",
    "nextafter",
}


def braces(text, start):
    """The end of the group that opens at `start`."""
    depth = 0
    for i in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return i + 1
    raise ValueError(text)


def group(text, name, arguments):
    r"""Replaces \name{a}{b} by a function's call."""
    while (at := text.find(name + "{")) >= 0:
        end, parts = at + len(name), []
        for _ in range(arguments):
            close = braces(text, end)
            parts.append(text[end + 1 : close - 1])
            end = close
        shown = f"(({parts[0]}) / ({parts[1]}))" if arguments == 2 else f"sqrt({parts[0]})"
        text = text[:at] + shown + text[end:]
    return text


def python(formula):
    """A formula with named operands as a Python expression."""
    text = formula.replace(r"\left", "").replace(r"\right", "").replace(r"\,", " ").replace(r"\tfrac12", "0.5")
    text = text.replace(r"\sqrt[3]{X}", "cbrt(X)").replace(r"\operatorname{erf}^{-1} X", "erf_inv(X)")
    text = re.sub(r"\\operatorname\{(\w+)\}", r"\\\1", text)
    text = group(group(group(text, r"\sqrt", 1), r"\tfrac", 2), r"\frac", 2)
    text = text.replace(r"\pi", "3.141592653589793")
    text = re.sub(r"\[([^\[\]]*)\]", lambda m: f"where({m.group(1).replace(' = ', ' == ')})", text)
    text = re.sub(r"(\w) < (\w) < (\w)", r"(\1 < \2) & (\2 < \3)", text)
    text = re.sub(r"\|([^|]*)\|", r"np.abs(\1)", text)
    text = re.sub(r"e\^\{([^{}]*)\}", r"np.exp(\1)", text)
    text = re.sub(r"\^\{([^{}]*)\}", r"**(\1)", text).replace("^", "**")
    text = text.replace(r"\odot", "*").replace(r"\cdot", "*").replace(r"\bmod", "%")
    text = re.sub(r"\\(\w+) ([A-Z]\b|\d+)", r"\1(\2)", text).replace("\\", "")  # \sin X
    text = re.sub(r"(?<=[\w)]) +(?=[\w(])(?!if\b)", " * ", text)  # a product without a sign
    return re.sub(r"\b(\d+) *(?=[A-Za-z(])", r"\1 * ", text)


def cases():
    for primitive, rule in reverse.RULES.items():
        probe = rule.probes[0]
        if probe.elementwise and rule.formula is not None and primitive.name not in OTHER:
            yield pytest.param(primitive, rule, probe, id=primitive.name)


@pytest.mark.parametrize(("primitive", "rule", "probe"), list(cases()))
def test_latex_equals_the_rule(primitive, rule, probe):
    count = len(probe.shapes)
    generator = np.random.default_rng(7)
    operands = [generator.uniform(probe.low, probe.high, 6) for _ in range(count)]
    jax_operands = [jnp.asarray(x) for x in operands]
    params = params_of(probe, jax_operands)
    out = np.asarray(primitive.bind(*jax_operands, **params))
    ct = generator.uniform(0.5, 2.0, 6)
    bars = rule.vjp(jnp.asarray(ct), jnp.asarray(out), *jax_operands, **params)
    shapes = ((6,),) * count
    terms = latex.Terms(
        ("X", "W")[:count], ("Y",), params, shapes, ((6,),), active=tuple(range(count)), label=primitive.name
    )
    forward, backward = latex.equations(rule.latex, terms)
    scope = NAMES | {"np": np, "X": operands[0], "W": operands[-1], "Y": out, "C": ct}
    value = eval(python(forward.removeprefix("Y = ")), scope)
    np.testing.assert_allclose(value, out, rtol=1e-9, err_msg=forward)
    for text, bar in zip(backward, bars, strict=True):
        right = text.split(r"\mathrel{+}= ")[1].replace(r"\bar Y", "C")
        expected = np.zeros(6) if bar is None else np.asarray(bar)
        np.testing.assert_allclose(
            eval(python(right), scope) + np.zeros(6), expected, rtol=1e-9, atol=1e-12, err_msg=text
        )


def params_of(probe, operands):
    """The parameters under which the probe applies the primitive."""
    return jaxprs.equations(jax.make_jaxpr(probe.fun)(*operands))[-1].params


def test_a_formula_that_has_drifted_is_seen():
    wrong = python(r"\bar y \odot \sin x".replace(r"\bar y", "C").replace("x", "X"))
    x = np.array([0.3, 1.1])
    assert not np.allclose(eval(wrong, NAMES | {"X": x, "C": np.ones(2)}), np.cos(x))
