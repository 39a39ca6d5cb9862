"""The page in a browser: it draws, answers to mouse and keys, changes its theme, and asks for nothing."""

import functools

import jax.numpy as jnp
import pytest

from functional_dl import explain
from tests.browsing import browser, needs_browser, visit
from tests.explain import programs

pytestmark = needs_browser
__all__ = ["browser", "visit"]  # fixtures


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages by name, written once."""
    folder = tmp_path_factory.mktemp("pages")

    @functools.cache
    def address(name: str) -> str:
        fun, arguments = programs.PROGRAMS[name]
        explain.explain(fun, *arguments()).to_html(folder / f"{name}.html")
        return (folder / f"{name}.html").as_uri()

    return address


@pytest.fixture
def show(visit, pages):
    """show(name) opens the page of a program."""
    return lambda name, **settings: visit(pages(name), **settings)


def title(tab) -> str:
    return tab.inner_text("#detail h2")


def test_graph_has_forward_and_backward_edges(show):
    tab = show("mlp")
    assert tab.locator("#canvas svg .leaf").count() > 10
    assert tab.locator("#canvas .edge.forward").count() >= tab.locator("#canvas .edge.backward").count() > 5
    for leaf in tab.locator("#canvas .leaf").all()[:5]:
        assert leaf.bounding_box()["width"] > 10
    lengths = tab.eval_on_selector_all("#canvas .edge", "edges => edges.map(edge => edge.getTotalLength())")
    assert all(5 < length < 5000 for length in lengths)


INTO = """name => {
  const block = [...document.querySelectorAll("#canvas .leaf.group")].find((leaf) => leaf.textContent.includes(name));
  const edges = [...document.querySelectorAll("#canvas .edge")];
  const ways = (key) => edges.filter((edge) => edge.dataset[key] === block.dataset.id).map((edge) => edge.classList[1]);
  return [ways("to").sort(), ways("from").sort()];
}"""


def test_a_closed_block_shows_both_ways_and_its_arguments(show):
    """The first of its steps to read the logits is a maximum that is not differentiated."""
    into, out = show("mlp").evaluate(INTO, "log_softmax")
    assert set(into) == set(out) == {"forward", "backward"}
    tab = show("transformer")
    into, _ = tab.evaluate(INTO, "block")
    assert {"forward", "backward"} <= set(into)
    assert tab.locator("#canvas .leaf:has-text('arguments')").count() + tab.locator("#canvas .leaf.input").count() > 0


@pytest.mark.parametrize("width", [1280, 1000, 856])
def test_the_graph_has_room_at_a_notebooks_width(show, width):
    tab = show("mlp", width=width)
    graph, detail = tab.locator("#canvas").bounding_box(), tab.locator("#detail").bounding_box()
    assert min(graph["width"], detail["width"]) > 300
    assert graph["height"] > 200
    assert graph["x"] + graph["width"] <= detail["x"] + 1


def test_leaves_do_not_overlap(show):
    tab = show("lstm")
    tab.click("#tree .fold:text('▸')")
    boxes = [leaf.bounding_box() for leaf in tab.locator("#canvas .leaf").all()]
    assert len(boxes) > 20
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            apart_x = a["x"] + a["width"] <= b["x"] + 1 or b["x"] + b["width"] <= a["x"] + 1
            apart_y = a["y"] + a["height"] <= b["y"] + 1 or b["y"] + b["height"] <= a["y"] + 1
            assert apart_x or apart_y


def test_a_click_opens_the_step_with_its_mathematics(show):
    tab = show("vae")
    tab.click("#canvas .leaf.step:has-text('tanh')")
    assert "tanh" in title(tab)
    formulas = tab.locator("#detail .formula math")
    assert formulas.count() >= 2
    for box in [formula.bounding_box() for formula in formulas.all()]:
        assert box["width"] > 20
        assert box["height"] > 8
    assert tab.locator("#detail .temml-error, #detail merror").count() == 0
    text = tab.inner_text("#detail")
    for part in ("Forward", "Backward", "rule of tanh", "agrees with its oracles", "programs.py", "norm"):
        assert part in text
    assert tab.locator("#canvas .leaf.chosen").count() == 1
    assert tab.locator("[role=treeitem][aria-selected=true]").count() == 1


STRICTLY = """() => {
  const data = JSON.parse(document.getElementById("explanation").textContent);
  const below = (step) => [step, ...step.body.flatMap(below)];
  const steps = data.steps.flatMap(below);
  const laid = (step) => [step.forward_latex, ...step.backward_latex, ...step.fan_ins.map((m) => m.latex)];
  const formulas = steps.flatMap(laid);
  formulas.push(...Object.values(data.values).map((value) => value.latex));
  const refused = [];
  for (const latex of formulas) {
    try { temml.renderToString(latex, { throwOnError: true, strict: true }); } catch { refused.push(latex); }
  }
  return [formulas.length, refused];
}"""


@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_every_formula_is_understood(show, name):
    count, refused = show(name).evaluate(STRICTLY)
    assert count > 50
    assert refused == []


def test_arrows_go_through_every_step(show):
    tab = show("lstm")
    steps = int(tab.inner_text("#detail p >> nth=0").split()[0])
    seen = set()
    for _ in range(steps + 1):  # there is nothing after the last
        tab.keyboard.press("ArrowRight")
        seen.add(title(tab))
        assert tab.locator("#detail .temml-error, #detail merror").count() == 0, title(tab)
    assert len(seen) == steps > 15


def test_keys(show):
    tab = show("transformer")
    tab.keyboard.press("ArrowRight")
    first = title(tab)
    tab.keyboard.press("ArrowRight")
    assert title(tab) != first
    tab.keyboard.press("ArrowLeft")
    assert title(tab) == first
    tab.keyboard.press("/")
    tab.keyboard.type("softmax exp")
    assert tab.locator("#hits [role=option]").count() > 0
    tab.keyboard.press("Enter")
    assert "exp(" in title(tab)
    assert tab.locator("#hits").is_hidden()
    tab.keyboard.press("Escape")
    assert title(tab) == "softmax"
    opened = tab.locator("#canvas .cluster").count()
    tab.keyboard.press("Enter")
    assert tab.locator("#canvas .cluster").count() == opened - 1
    tab.keyboard.press("Enter")
    assert tab.locator("#canvas .cluster").count() == opened


def test_outline_is_a_tree_for_the_keyboard(show):
    tab = show("transformer")
    tab.focus("[role=treeitem]")
    closed = tab.locator("[role=treeitem]").count()
    if tab.get_attribute("[role=treeitem]", "aria-expanded") == "false":
        tab.keyboard.press("ArrowRight")
        assert tab.locator("[role=treeitem]").count() > closed
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate("document.activeElement.getAttribute('aria-level')") == "2"
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("ArrowLeft")
    assert tab.get_attribute("[role=treeitem]", "aria-expanded") == "false"
    outline = tab.evaluate("getComputedStyle(document.activeElement.firstChild).outlineStyle")
    assert outline != "none"


def test_links_lead_to_the_terms_of_a_sum(show):
    tab = show("mlp")
    link = tab.locator("#detail .terms .link").first
    name = link.inner_text().split(" ", 1)[1].rstrip("…")
    link.click()
    assert title(tab).startswith(name)


def test_dark_and_light(show):
    colour = "getComputedStyle(document.body).backgroundColor"
    light, dark = show("mlp"), show("mlp", dark=True)
    assert light.evaluate(colour) != dark.evaluate(colour)
    before = light.evaluate(colour)
    light.keyboard.press("t")
    assert light.evaluate(colour) == dark.evaluate(colour)
    light.click("#theme")
    assert light.evaluate(colour) == before


def test_on_a_phone(show):
    tab = show("mlp", width=390, height=844)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert tab.locator("#outline").is_hidden()
    tab.click("#tabs [data-pane=outline]")
    assert tab.locator("#graph").is_hidden()
    tab.click("#tree .row.step >> nth=0")
    assert tab.locator("#detail h2").is_visible()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_in_a_frame_of_a_notebook(visit, tmp_path):
    e = explain.explain(lambda x: jnp.sum(jnp.tanh(x)), jnp.ones(3))
    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><title>n</title>{e._repr_html_()}", encoding="utf-8")
    tab = visit(path.as_uri())
    frame = tab.frame_locator("iframe")
    assert frame.locator("#canvas .leaf").count() >= 3


def test_markup_in_a_source_line_is_shown_as_text(visit, tmp_path):
    def f(x):
        y = jnp.sin(x)  # </script><script>document.title = 'broken'</script><img src=x>
        return jnp.sum(y)

    explain.explain(f, jnp.ones(2)).to_html(tmp_path / "f.html")
    tab = visit((tmp_path / "f.html").as_uri())
    tab.keyboard.press("ArrowRight")
    assert "<img src=x>" in tab.inner_text("#detail .source")
    assert tab.locator("img").count() == 0
    assert tab.title() == "f: value and cotangents"
