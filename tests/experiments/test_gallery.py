"""The gallery of derivations: its index as text and in a browser, its examples."""

import re
from html import unescape

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.gallery import examples, pages
from functional_dl import derivations
from functional_dl.derivations import Comparison, Verification
from tests.browsing import browser, needs_browser, visit

__all__ = ["browser", "visit"]  # fixtures


def reported(name: str, wrong: int | None = None) -> Verification:
    """A report of the derivation, all lines right but one."""
    d = derivations.get(name)
    lines = range(1, len(d.steps) + 1)
    comparisons = tuple(Comparison(n, "an oracle", 0.5 if n == wrong else 1e-15, 1e-12, n != wrong) for n in lines)
    return Verification(d.name, d.title, d.steps, 3, comparisons)


@pytest.fixture(scope="module")
def reports():
    return {name: reported(name) for name in derivations.names()}


def test_index_shows_every_line_of_every_derivation(reports):
    text = pages.index(reports)
    shown = [unescape(found) for found in re.findall(r"data-latex>(.*?)</div>", text, re.DOTALL)]
    expected = []
    for family in pages.families.load().values():
        for d in family:
            expected += [d.statement, *(step.latex for step in d.steps)]
    assert shown == expected
    assert f"All {len(reports)} hold" in text
    assert not re.search(r"(src|href)=[\"']?(https?:|//)", text)
    assert "default-src &#39;none&#39;" in text


def test_a_wrong_line_is_marked():
    text = pages.index({"sigmoid": reported("sigmoid", wrong=2), "relu": reported("relu")})
    assert "1 of 2 derivations fail" in text
    assert text.count('aria-label="wrong"') == 2  # the derivation's mark, and its line's
    assert "5.0e-01" in text


@pytest.mark.parametrize("example", examples.EXAMPLES, ids=lambda example: example.name)
@pytest.mark.sampled(3)
def test_examples_differentiate_as_jax_does(example):
    arguments = example.arguments()
    e = pages.explain.explain(example.fun, *arguments)
    assert e.passed
    _, pullback = jax.vjp(example.fun, *arguments)
    cts = jax.tree_util.tree_leaves(pullback(e.recipe.ct))
    for number, ct in zip(e.inputs, cts, strict=True):
        summary = e.values[number].ct_summary
        assert summary is not None
        np.testing.assert_allclose(summary.norm, jnp.linalg.norm(ct), rtol=1e-12)


@needs_browser
def test_every_formula_is_understood_and_drawn(reports, visit, tmp_path):
    (tmp_path / "index.html").write_text(pages.index(reports), encoding="utf-8")
    tab = visit((tmp_path / "index.html").as_uri())
    tab.click("#all")
    tab.wait_for_function("document.querySelectorAll('[data-latex]').length === 0")
    lines = sum(len(report.steps) for report in reports.values())
    assert tab.locator(".formula math").count() == lines + len(reports)
    assert tab.locator(".temml-error, merror").all_inner_texts() == []
    sizes = tab.eval_on_selector_all(".formula math", "all => all.map(math => math.getBoundingClientRect().width)")
    assert min(sizes) > 10
    assert [text for text in tab.locator(".reason").all_inner_texts() if "$" in text] == []


@needs_browser
def test_filter_and_anchor(reports, visit, tmp_path):
    (tmp_path / "index.html").write_text(pages.index(reports), encoding="utf-8")
    tab = visit((tmp_path / "index.html").as_uri() + "#softmax_cross_entropy")
    assert tab.locator("#softmax_cross_entropy .statement math").is_visible()
    tab.keyboard.press("/")
    tab.keyboard.type("lstm")
    shown = tab.eval_on_selector_all(".derivation:not([hidden])", "all => all.map(entry => entry.id)")
    assert 0 < len(shown) < 10
    assert "lstm_cell" in shown
    tab.keyboard.press("Escape")
    assert tab.locator(".derivation:not([hidden])").count() == len(reports)
    colour = "getComputedStyle(document.body).backgroundColor"
    before = tab.evaluate(colour)
    tab.keyboard.press("t")
    assert tab.evaluate(colour) != before
