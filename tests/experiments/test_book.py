"""The book's engine on a book of two chapters, and, in the campaign, the whole book in a browser."""

import json
import re
import shutil

import pytest

from experiments.book import build, code_of, contents, exercises, links, markdown, reference, source
from experiments.book.faults import BuildError
from functional_dl import derivations
from tests.browsing import BROWSER, FLAGS, browser, needs_browser

__all__ = ["browser"]  # a fixture

CONTENTS = '[[part]]\ntitle = "Only"\nchapters = ["doubling", "second"]\n'
DOUBLING = r"""+++
title = "Doubling"
question = "What is twice $x$?"
+++

Two of one, in `jnp.add` and $2x$.

```python
import numpy as np

x = 3.0
print("twice:", 2 * x)
x + 1
```

So {{ f"{2 * x:.0f}" }} it is; see [the second](second.md#a-heading).

## Why

```derivation
title = "Twice"
statement = 'x + x = 2x'
variables = "x"
draw = ["uniform(2, low=1.0, high=2.0)"]

[[lines]]
latex = 'x + x'
reason = "the sum"
code = "x + x"

[[lines]]
latex = '= 2x'
reason = 'two of $x$'
code = "2 * x"

[[oracles]]
name = "a product"
code = "x * 2.0"
```

```moving dropout A picture that moves.
{"values": np.ones(2), "masks": [[1, 0]], "outputs": [[2.0, 0.0]], "rate": 0.5}
```

```experiment chain_rule
```

```exercise
question = '''What is $2 \cdot 3$?'''
answer = 6
check = "2 * x"
solution = '''Six.'''
```

```exercise
question = '''Is it even?'''
choices = ["yes", "no"]
answer = 1
check = "1 + (2 * x) % 2"
solution = '''Yes.'''
```
"""
SECOND = """+++
title = "Second"
question = "And then?"
+++

## A heading

```python
import jax.numpy as jnp

jnp.zeros(1).dtype.name
```
"""


# A room of the reference that has a chapter's name.
ENTRY = reference.Entry("half", "function", "half(x)", "Half of x.", "y = x / 2", (), ">>> 1 / 2\n0.5", "", "a.py", 1)
ROOMS = (reference.Room("second", "A room.", "", (ENTRY,)),)


@pytest.fixture
def tiny(tmp_path):
    """make(**changes) writes the tiny book, each change (old, new) applied to that chapter, and builds it."""

    def make(doubling=("", ""), second=("", "")):
        folder = tmp_path / "source"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "chapters").mkdir(parents=True)
        (folder / "contents.toml").write_text(CONTENTS)
        for name, text, (old, new) in (("doubling", DOUBLING, doubling), ("second", SECOND, second)):
            assert old in text
            (folder / "chapters" / f"{name}.md").write_text(text.replace(old, new) if old else text)
        build.build(tmp_path / "results", build.Settings(jobs=1), folder, ROOMS, lambda _: None)
        return tmp_path / "results" / "book"

    return make


def test_a_book(tiny):
    site = tiny()
    page = (site / "doubling.html").read_text()
    assert '<pre class="output" aria-label="Output">twice: 6.0\n4.0</pre>' in page
    assert "So 6 it is" in page
    assert '<a href="second.html#a-heading">' in page
    assert '<a href="notebooks/doubling.ipynb" download>' in page
    assert page.count('class="math') >= 5
    assert "2 lines,\n3 comparisons: all hold" in page
    assert re.search(r'<pre class="code"><code>.*2</span> <span class="o">\*</span> <span class="n">x</span>', page)
    assert "python -m experiments chain_rule" in page  # it was not run: the page says how
    assert 'data-answer="6.0"' in page
    assert not re.search(r"(src|href)=[\"']?(https?:|//)", page)
    assert "float32" in (site / "second.html").read_text()  # JAX's defaults, whatever the session's
    room = (site / "reference" / "second.html").read_text()
    assert '<h3 id="half">second.half' in room
    assert "&gt;&gt;&gt;" in room
    index = (site / "assets" / "search.js").read_text()
    assert "reference/second.html#half" in index
    assert "second.html#a-heading" in index
    front = (site / "index.html").read_text()
    assert "2 chapters: 3 pieces of code were run, 1 derivations verified (2 lines, 3 comparisons)" in front
    notebook = json.loads((site / "notebooks" / "doubling.ipynb").read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code[0]["outputs"][0]["text"] == ["twice: 6.0\n", "4.0\n"]
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])


FAULTS = {
    "a wrong line": ({"doubling": ("code = \"2 * x\"", "code = \"3 * x\"")},
                     r"doubling: derivation 1 \(line 20\): Twice: line 2 is wrong \(= 2x\): against line 1"),
    "a failing cell": ({"second": ("jnp.zeros(1)", "jnp.zeroes(1)")},
                       r"second: cell 1 \(line 8\): AttributeError: .*zeroes.* \(line 3 of the cell\)"),
    "a warning": ({"doubling": ('print("twice:", 2 * x)', 'np.log(np.zeros(1))')}, r"cell 1 .*RuntimeWarning"),
    "a dead link": ({"doubling": ("second.md#a-heading", "third.md")}, r"doubling: link: third.html leads nowhere"),
    "a dead place": ({"doubling": ("#a-heading", "#no-heading")}, r"link: second.html#no-heading leads nowhere"),
    "a wrong answer": ({"doubling": ("answer = 6", "answer = 7")},
                       r"doubling: exercise 1 \(line 48\): the answer is 7, the check computes 6"),
    "a wrong choice": ({"doubling": ("answer = 1", "answer = 2")}, r"exercise 2 .*the answer is 2, the check"),
    "a field left out": ({"doubling": ("solution = '''Six.'''", "")}, r"exercise 1 \(line 48\): expected solution"),
    "text without a value": ({"doubling": ('f"{2 * x:.0f}"', "nothing")}, r"text \(line \d+\): .*NameError"),
    "no derivation": ({"doubling": ("```derivation\n", "```derivation sigmoidd\n")}, r"derivation 1 .*sigmoid"),
    "no experiment": ({"doubling": ("experiment chain_rule", "experiment chains")}, r"no experiment 'chains'"),
    "no picture": ({"doubling": ("moving dropout", "moving nothing")}, r"no moving picture 'nothing'"),
    "no head": ({"second": ("+++", "---")}, r"second: head \(line 1\): expected TOML"),
    "no question": ({"second": ("question", "answer")}, r"second: head \(line 1\): expected question"),
}  # fmt: skip


def test_what_is_wrong_fails_the_build_and_is_named(tiny):
    for name, (changes, message) in FAULTS.items():
        with pytest.raises(BuildError) as caught:
            tiny(**changes)
        assert re.search(message, str(caught.value)), f"{name}: {caught.value}"


def test_a_book_that_is_wrong_replaces_nothing(tiny):
    site = tiny()
    before = (site / "doubling.html").read_text()
    with pytest.raises(BuildError):
        tiny(doubling=("answer = 6", "answer = 7"))
    assert (site / "doubling.html").read_text() == before
    assert [path.name for path in site.parent.iterdir()] == ["book"]


def test_contents_and_files_agree(tmp_path):
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "one.md").write_text("")
    (tmp_path / "contents.toml").write_text('[[part]]\ntitle = "A"\nchapters = ["two"]\n')
    with pytest.raises(BuildError, match=r"two: contents.toml: named, but(.|\n)*one: contents.toml: has a file"):
        contents.read(tmp_path)


def test_every_chapter_has_its_parts():
    """A derivation, a picture, cells, three exercises, traps and sources in each."""
    for part in contents.read():
        for name in part.chapters if part.title != "Notebooks" else ():
            read = source.read(contents.HERE / "chapters" / f"{name}.md")
            blocks = [p for p in read.parts if isinstance(p, source.Block)]
            kinds = [block.kind for block in blocks]
            text = "".join(p.text for p in read.parts if isinstance(p, source.Prose))
            assert kinds.count("exercise") == 3, name
            assert {"python", "derivation"} <= set(kinds), name
            assert "moving" in kinds or any(block.rest.startswith("picture") for block in blocks), name
            for heading in ("## A picture", "## The statement", "## Traps", "## Exercises", "## Sources"):
                assert f"{heading}\n" in text, f"{name}: {heading}"


def test_code_of_every_line_of_every_derivation():
    shown = 0
    for name in derivations.names():
        for step in derivations.get(name).steps:
            code = code_of.code_of(step.evaluate)
            compile(code, name, "exec")  # it is Python
            assert "<function" not in code
            assert "<lambda>" not in code
            shown += 1
    assert shown > 300


def test_code_of_is_what_is_evaluated():
    d = derivations.get("power_of_power")
    codes = [code_of.code_of(step.evaluate) for step in d.steps]
    assert codes[0] == "slope_of(power)"
    assert codes[-1] == "960 * x**9"
    for code, step in zip(codes[3:], d.steps[3:]):
        assert eval(code, {"x": 0.5}) == step.evaluate(0.5)
    assert list(code_of.called(d)) == ["power", "slope_of", "moved", "mixed_powers"]


def test_links_are_followed():
    pages = {"a.html": '<a href="b/c.html#x">', "b/c.html": '<p id="x"><a href="../a.html"><img src="../d.png">'}
    assert links.dead(pages, set()) == [("b/c.html", "../d.png")]
    assert links.dead(pages, {"d.png"}) == []


def test_formulas_and_names_in_prose():
    writer = markdown.Writer({"calculus.limit": "reference/calculus.html#limit"})
    text = writer.write("Of $a_1 * b$ and `calculus.limit`; $$ x $$\n\n## One $x$\n\n## One $y$\n")
    assert '<span class="math">a_1 * b</span>' in text
    assert '<span class="math display">x</span>' in text
    assert '<a class="api" href="reference/calculus.html#limit"><code>calculus.limit</code></a>' in text
    assert [place for _, _, place in writer.headings.found] == ["one", "one-2"]


def test_an_answer_is_held_to_its_tolerance():
    text = "question = 'q'\nanswer = 1.0005\ncheck = '1.0'\nsolution = 's'\n"
    assert exercises.read(text, eval).answer == 1.0005
    with pytest.raises(ValueError, match="the check computes 1"):
        exercises.read(text + "tolerance = 1e-4\n", eval)


# ---- in a browser


@pytest.fixture
def open_page(browser):
    """open_page(path, ...) opens a page of a site; nothing may be said on the console, or asked for from elsewhere."""
    opened = []

    def open_page(site, name, width=1280, dark=False):
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light"
        )
        context.set_default_timeout(20_000)
        tab, said, asked = context.new_page(), [], []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto((site / f"{name}.html").as_uri())
        opened.append((context, site, said, asked))
        return tab

    yield open_page
    for context, site, said, asked in opened:
        context.close()
        assert said == []
        assert [url for url in asked if not url.startswith((site.as_uri(), "data:"))] == []


@needs_browser
def test_a_page_in_a_browser(tiny, open_page):
    site = tiny()
    tab = open_page(site, "doubling")
    assert tab.locator("main .math math").count() == tab.locator("main .math").count() > 4
    assert tab.locator("merror, .temml-error").count() == 0
    form = tab.locator("form.exercise").first
    answers = {"5": "✗ not yet", "2*3": "✓ right", "6.0": "✓ right", "12/2": "✓ right", "six": "a number"}
    for given, told in answers.items():
        form.locator("input").fill(given)
        form.locator("button").click()
        assert told in form.locator("output").inner_text()
    choice = tab.locator("form.exercise").nth(1)
    choice.locator("label").nth(0).click()
    choice.locator("button").click()
    assert "✓ right" in choice.locator("output").inner_text()
    tab.locator("[data-moving] input").first.focus()
    tab.keyboard.press("ArrowRight")
    assert "draw 1" in tab.locator("[data-moving] .said").inner_text()
    tab.locator("h1").click()
    tab.keyboard.press("/")
    tab.keyboard.type("heading")
    tab.wait_for_selector("#hits [role=option]")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/second.html#a-heading")
    tab.keyboard.press("Escape")
    colour = "getComputedStyle(document.body).backgroundColor"
    before = tab.evaluate(colour)
    tab.click("#theme")
    assert tab.evaluate(colour) != before
    tab.click("a[rel=prev]")
    tab.wait_for_url("**/doubling.html")
    phone = open_page(site, "doubling", width=390, dark=True)
    assert phone.evaluate(colour) != before
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    assert phone.locator("#contents").is_hidden()
    phone.click("#menu")
    assert phone.locator('#contents a[href="second.html"]').is_visible()


@pytest.mark.campaign
@needs_browser
def test_the_whole_book(tmp_path, open_page):
    assert BROWSER
    assert FLAGS
    site = build.build(tmp_path, say=lambda _: None).parent
    for path in sorted(site.rglob("*.html")):
        name = path.relative_to(site).with_suffix("").as_posix()
        for width in (1280, 390):
            tab = open_page(site, name, width=width)
            assert tab.locator("merror, .temml-error").all_inner_texts() == [], name
            assert tab.locator(".math").count() == tab.locator(".math math").count(), name
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, name
            for picture in tab.locator("[data-moving]").all():
                assert picture.locator("svg").count() == 1
                assert picture.locator(".said").inner_text()
