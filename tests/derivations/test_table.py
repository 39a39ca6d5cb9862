"""The table of derivations, tested itself: topics, lines, LaTeX, errors, and how a derivation shows itself."""

import itertools
import operator
import re
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architecture import MAY_IMPORT
from borrowed_derivatives import HAND_DERIVED, differentiation_faults
from every import every

from functional_dl import check, derivations
from functional_dl.derivations import Limit, Oracle, Step

ROOT = Path(__file__).resolve().parents[2]
ALL = [derivations.get(name) for name in derivations.names()]
NAME = operator.attrgetter("name")

TOPICS = [
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "elu",
    "softplus",
    "gelu",
    "gelu_tanh",
    "silu",
    "softmax",
    "log_softmax",
    "logsumexp",
    "squared_error",
    "half_squared_error",
    "mean_squared_error",
    "absolute_error",
    "huber",
    "binary_cross_entropy",
    "sigmoid_cross_entropy",
    "cross_entropy",
    "softmax_cross_entropy",
    "softmax_cross_entropy_labels",
    "label_smoothing",
    "kl_divergence",
    "hinge",
    "l1",
    "l1_subgradient",
    "l1_prox",
    "l2",
    "elastic_net",
    "dense",
    "delta_recurrence",
    "convolution",
    "strided_convolution",
    "max_pooling",
    "average_pooling",
    "batch_norm",
    "layer_norm",
    "rms_norm",
    "dropout",
    "embedding",
    "scaled_dot_product_attention",
    "multi_head_attention",
    "rnn",
    "lstm_cell",
    "gru_cell",
    "residual_block",
    "matrix_product",
    "matrix_inverse",
    "determinant",
    "log_determinant",
    "cholesky",
    "quadratic_form",
    "linear_solve",
    "gradient_descent_contraction",
    "normal_equations",
    "ridge_regression",
    "svm_dual",
    "argmin",
    "fixed_point",
    "power_of_power",
    "nested_composition",
    "exponential_of_sine",
    "product_and_quotient",
    "product_rule",
    "quotient_rule",
    "several_paths",
    "half_sum_of_squares",
    "half_mean_of_squares",
    "weight_decay",
    "delta_is_of_z",
    "maximum",
]


def test_every_topic_is_there():
    assert len(derivations.names()) >= 75
    assert set(TOPICS) <= set(derivations.names())


def whole(derivation):
    assert len(derivation.steps) >= 3
    for text in (derivation.title, derivation.statement, derivation.source):
        assert text.strip()
    assert re.search(r"\d{4}", derivation.source)
    for places in derivation.chains.values():
        assert len(places) >= 2
        chain = [derivation.steps[place] for place in places]
        assert chain[0].kind == "equal"
        for above, step in itertools.pairwise(chain):
            taken = isinstance(above.evaluate, Limit) and not isinstance(step.evaluate, Limit)
            assert (step.kind == "limit") == taken, step.latex
    if derivation.fun is not None:
        assert set(derivation.chains) & set(derivation.arguments)
    else:
        assert derivation.vjp is None
    kinked = any("kink" in oracle.name or oracle.name == "check.subdifferential" for oracle in derivation.oracles)
    assert not kinked or derivation.kinks


def test_every_entry_is_whole():
    every(ALL, whole, NAME)


def latex_faults(text: str) -> list[str]:
    """What is wrong with a line of LaTeX: braces, \\left and \\right, environments, or what only a page understands."""
    faults = []
    depth = 0
    for mark in re.findall(r"\\.|[{}]", text):
        depth += {"{": 1, "}": -1}.get(mark, 0)
        if depth < 0:
            break
    if depth:
        faults.append("braces")
    for opening, closing in ((r"\\left(?![a-z])", r"\\right(?![a-z])"), (r"\\begin\{", r"\\end\{")):
        if len(re.findall(opening, text)) != len(re.findall(closing, text)):
            faults.append(opening)
    for wrong in ("$", "\n", r"\label", r"\begin{align", "  "):
        if wrong in text:
            faults.append(wrong)
    if re.search(r"(?<![\\a-z])(?:sin|cos|ln|exp|max|min|tanh|log)(?![a-z}])", text):
        faults.append("a function's name without a backslash")
    return faults


def well_formed(derivation):
    for text in (derivation.statement, *(step.latex for step in derivation.steps)):
        assert not latex_faults(text), text
    for step in derivation.steps:
        assert step.reason.count("$") % 2 == 0
        for part in step.reason.split("$")[1::2]:
            assert not latex_faults(part), part


def between_dollars(derivation):
    for text in (*(step.reason for step in derivation.steps), *derivation.notes, *derivation.kinks):
        assert not re.search(r"[\^_{\\\\]", re.sub(r"\$[^$]*\$|`[^`]*`", "", text)), text


def test_latex_is_well_formed():
    every(ALL, well_formed, NAME)


def test_mathematics_in_words_stands_between_dollars():
    every(ALL, between_dollars, NAME)


@pytest.mark.parametrize("text", ["{a", "a}b{", r"\left( a", r"\begin{cases} a", "a $b$", r"sin x", "a\nb"])
def test_wrong_latex_is_found(text):
    assert latex_faults(text)


def test_unknown_name_names_the_nearest():
    with pytest.raises(KeyError, match="did you mean 'softmax_cross_entropy'"):
        derivations.get("softmax_crossentropy")
    with pytest.raises(KeyError, match="mean_squared_error"):
        derivations.get("mse")
    with pytest.raises(KeyError, match=r"names\(\) lists them"):
        derivations.get("q")


def test_a_derivation_is_data():
    derivation = derivations.get("softmax_cross_entropy")
    with pytest.raises(FrozenInstanceError):
        derivation.name = "other"
    with pytest.raises(FrozenInstanceError):
        derivation.steps[0].latex = "x"
    assert derivation.name == "softmax_cross_entropy"
    assert derivation.steps[0].evaluate(*derivation.draw(jax.random.key(0))).shape == (2, 4)


def test_last_line_is_a_closed_form_for_check_vjp():
    derivation = derivations.get("layer_norm")
    *primals, _ = derivation.draw(jax.random.key(5))
    check.assert_vjp(derivation.fun, derivation.vjp, *primals)
    wrong = replace(derivation, steps=derivation.steps[:3] + derivation.steps[4:])  # ends a line earlier: still right
    check.assert_vjp(wrong.fun, wrong.vjp, *primals)
    cut = replace(derivation.steps[3], evaluate=lambda x, g, b, ct: ct * g[None] / jnp.std(x, 1, keepdims=True))
    with pytest.raises(check.GradientMismatch):
        check.assert_vjp(wrong.fun, replace(wrong, steps=(*wrong.steps[:2], cut, *wrong.steps[3:])).vjp, *primals)


def test_slope_is_multiplied_by_the_cotangent():
    sigmoid = derivations.get("sigmoid")
    z, ct = jnp.asarray([0.0, 2.0]), jnp.asarray([4.0, 1.0])
    out, pullback = sigmoid.vjp(z)
    np.testing.assert_allclose(out, 1 / (1 + np.exp(-z)), rtol=1e-15)
    np.testing.assert_allclose(pullback(ct)[0], [1.0, 0.10499358540350652], rtol=1e-14)


def test_induction_is_held_at_every_depth():
    derivation = derivations.get("delta_recurrence")
    key = jax.random.key(4)
    depths = {len(point[0]) for point in (derivation.draw(key), *derivation.extra_points(key))}
    assert depths == {1, 2, 3, 4}


def test_without_mpmath_the_report_says_so(monkeypatch):
    monkeypatch.setattr("functional_dl.check.precise.available", lambda: False)
    report = derivations.get("product_rule").verify(points=1)
    assert report.passed
    assert "50-digit derivative" not in {c.against for c in report.comparisons}
    assert "mpmath is not installed" in str(report)


def test_exact_case_of_the_power():
    lines = [step.evaluate(jnp.asarray([1.0])) for step in derivations.get("power_of_power").steps]
    np.testing.assert_allclose(np.ravel(lines), 960.0, rtol=1e-10)


def test_labels_and_distributions_give_the_same():
    labels, rows = derivations.get("softmax_cross_entropy_labels"), derivations.get("softmax_cross_entropy")
    z, ct = jnp.asarray([[1.0, 2.0, 0.5, -1.0]]), jnp.asarray([2.0])
    by_label = labels.steps[-1].evaluate(z, jnp.asarray([1]), ct)
    one_hot = jnp.asarray([[0.0, 1.0, 0.0, 0.0]])
    by_row = rows.steps[rows.chains["z"][-1]].evaluate(z, one_hot, ct)
    np.testing.assert_allclose(by_label, by_row, rtol=1e-14)


def test_report_prints_every_comparison():
    report = derivations.get("l2").verify(points=1)
    text = str(report)
    assert text.startswith("l2: passed (4 lines")
    assert len(text.splitlines()) == 2 + len(report.comparisons)
    assert "numeric derivative" in text
    assert report._repr_markdown_().count("\n| ") == len(report.comparisons) + 1


def test_failed_report_says_what_is_wrong():
    derivation = derivations.get("l2")
    wrong = replace(derivation.steps[2], evaluate=Limit(lambda h, w, ct: ct * (2 * w + 1 + h)))
    report = replace(derivation, steps=(*derivation.steps[:2], wrong, derivation.steps[3])).verify(points=1)
    assert not report.passed
    assert report.first_wrong == 3
    assert "line 3 is wrong" in str(report)
    assert wrong.latex in str(report)
    assert "WRONG" in str(report)


@pytest.mark.parametrize("name", ["sigmoid", "embedding"])
@pytest.mark.sampled(3)
def test_a_line_wrapped_in_a_function_is_judged_as_it_is(name):
    derivation = derivations.get(name)
    for i, step in enumerate(derivation.steps):
        for factor in (1.0, 1.001):
            wrapped = replace(step, evaluate=lambda *point, step=step, factor=factor: factor * step.evaluate(*point))
            steps = (*derivation.steps[:i], wrapped, *derivation.steps[i + 1 :])
            report = replace(derivation, steps=steps).verify(points=1)
            assert report.first_wrong == (None if factor == 1.0 else i + 1), str(report)


def test_derivation_shows_itself():
    derivation = derivations.get("dense")
    page = derivation.to_markdown()
    assert page.startswith("## The dense layer")
    assert page == derivation._repr_markdown_()
    for step in derivation.steps:
        assert step.latex in page
        assert step.reason in page
    assert page.count("### With respect to") == 3
    assert page.count("$$") % 2 == 0
    latex = derivation._repr_latex_()
    assert latex.startswith("$$")
    assert latex.endswith("$$")
    assert not latex_faults(latex.strip("$"))
    assert "Kink" in derivations.get("relu").to_markdown()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: replace(d, steps=()), "at least one line"),
        (lambda d: replace(d, arguments=()), "arguments"),
        (lambda d: replace(d, oracles=(), steps=(replace(d.steps[0], chain="q"),)), "no oracle"),
        (lambda d: replace(d, oracles=(Oracle("name", d.fun, chain="q"),)), "checks chain 'q'"),
        (lambda d: replace(d.steps[0], kind="likely"), "kind"),
        (lambda d: replace(d.steps[0], kind="upper_bound"), "tight"),
        (lambda d: Oracle("name", lambda x: x, line="middle"), "line"),
        (lambda d: d.verify(points=0), "points"),
    ],
)
def test_wrong_data_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        change(derivations.get("sigmoid"))


def test_a_line_must_be_code():
    with pytest.raises(TypeError, match="evaluate"):
        Step("a", "b", 3.0)


def test_the_ban_on_differentiation_covers_every_derivation():
    assert "derivations" in HAND_DERIVED
    assert MAY_IMPORT["derivations"] >= {"reverse", "check"}
    files = sorted((ROOT / "functional_dl" / "derivations").rglob("*.py"))
    assert len(files) > 30
    for path in files:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        assert not differentiation_faults(path.read_text(), module)
        assert differentiation_faults(
            f"{path.read_text()}\n\ndef planted(f, x):\n    import jax\n    jax.vjp(f, x)\n", module
        )


def test_command_line_lists_and_verifies(capsys):
    from functional_dl.__main__ import main

    assert main(["derivations"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(derivations.names())
    assert main(["derivations", "l2", "--points", "1"]) == 0
    printed = capsys.readouterr().out
    for step in derivations.get("l2").steps:
        assert step.latex in printed
    assert "l2: passed" in printed
    assert main(["derivations", "l2", "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("## The L2 penalty")
    with pytest.raises(SystemExit, match="2"):
        main(["derivations", "l3"])
    assert "did you mean 'l" in capsys.readouterr().err


def test_command_line_fails_with_a_wrong_line(capsys, monkeypatch):
    from functional_dl.__main__ import main

    l2 = derivations.get("l2")
    wrong = replace(l2, steps=(*l2.steps[:3], replace(l2.steps[3], evaluate=lambda w, ct: ct * w)))
    monkeypatch.setattr(derivations, "get", lambda name: wrong)
    assert main(["derivations", "l2"]) == 1
    assert "line 4 is wrong" in capsys.readouterr().out
