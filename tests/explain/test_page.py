"""The page as text: it needs nothing but itself, its data are whole, and nothing that it shows can break out of it."""

import base64
import functools
import hashlib
import json
import re
import sys
from html.parser import HTMLParser

import jax.numpy as jnp
import pytest

from functional_dl import explain, pages
from functional_dl.explain.page import data as page_data
from functional_dl.explain.page import html
from tests.explain import programs

NAMESPACES = {"http://www.w3.org/2000/svg", "http://www.w3.org/1998/Math/MathML"}
NASTY = "</script><script>alert(1)</script><!--<b>&\u2028"


class Parsed(HTMLParser):
    """Scripts, policies, references, identifiers and roles of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.scripts, self.policies, self.references, self.ids, self.roles = [], [], [], [], []
        self.inside = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "script":
            self.inside = (given, [])
            self.scripts.append(self.inside)
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policies.append(given["content"])
        self.references += [given[key] for key in ("src", "href", "action", "data") if key in given]
        self.ids += [given["id"]] if "id" in given else []
        self.roles += [given["role"]] if "role" in given else []

    def handle_endtag(self, tag):
        if tag == "script":
            self.inside = None

    def handle_data(self, data):
        if self.inside:
            self.inside[1].append(data)

    @property
    def data(self):
        return json.loads(next("".join(text) for given, text in self.scripts if given.get("id") == "explanation"))

    @property
    def code(self):
        return ["".join(text) for given, text in self.scripts if "type" not in given]


@functools.cache
def explained(name: str, **settings):
    fun, arguments = programs.PROGRAMS[name]
    return explain.explain(fun, *arguments(**settings), check=False)


def own(text: str) -> str:
    """The page without other people's scripts."""
    for script in (pages.mathematics()[0], pages.asset("vendor/dagre/dagre.min.js")):
        assert text.count(script) == 1
        text = text.replace(script, "")
    return text


def test_data_are_those_of_the_explanation():
    e = explained("mlp")
    data = Parsed(e.to_html()).data
    assert [step["title"] for step in data["steps"]] == [step.title for step in e.steps]
    assert [step["backward_latex"] for step in data["steps"]] == [list(step.backward_latex) for step in e.steps]
    assert {int(number) for number in data["values"]} == set(e.values)
    assert data["ledger"]["forward_flops"] == e.ledger.forward_flops
    fan_ins = [fan_in for step in data["steps"] for fan_in in step["fan_ins"]]
    assert fan_ins == [
        {"value": m.value, "terms": list(m.terms), "latex": m.latex} for step in e.steps for m in step.fan_ins
    ]
    assert [argument["name"] for argument in data["arguments"]] == ["params", "x", "labels"]


def test_bodies_and_groups_are_whole():
    e = explained("lstm")
    data = Parsed(e.to_html()).data
    loops = [step for step in data["steps"] if step["body"]]
    assert [len(step["body"]) for step in loops] == [len(step.body) for step in e.steps if step.body]
    assert loops
    assert all(len(step["arguments"]) == len(step["inputs"]) for step in loops)

    def below(group):
        return [*group["steps"], *(i for child in group["children"] for i in below(child))]

    data = Parsed(explained("transformer").to_html()).data
    listed = [i for group in data["groups"] for i in below(group)] + data["loose"]
    assert sorted(listed) == [step["index"] for step in data["steps"]]


def test_nothing_comes_from_elsewhere():
    text = own(explained("mlp").to_html())
    parsed = Parsed(text)
    assert parsed.references == ["data:,"]
    assert set(re.findall(r"https?://[\w./-]+", text)) <= NAMESPACES
    assert not re.search(
        r"@import|sourceMappingURL|(?<![.\w])fetch\(|XMLHttpRequest|WebSocket|sendBeacon|import\(", text
    )
    assert all(url.startswith(("data:", "#", "%23")) for url in re.findall(r"url\([\"']?([^)\"']*)", text))


def test_policy_lets_these_scripts_run_and_no_other():
    parsed = Parsed(explained("mlp").to_html())
    (policy,) = parsed.policies
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    hashes = [base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in parsed.code]
    assert rules["script-src"].split() == [f"'sha256-{found}'" for found in hashes]
    assert rules["base-uri"] == rules["form-action"] == "'none'"
    assert len(hashes) == 3


def test_texts_cannot_break_out():
    data = page_data.collect(explained("mlp"))
    clean = html.render(data)
    data["name"] = data["source"] = NASTY
    for step in data["steps"]:
        step["title"] = step["line"] = step["primitive"] = step["label"] = NASTY
        step["source"] = step["group"] = [NASTY]
    for value in data["values"].values():
        value["name"] = value["label"] = value["text"] = value["latex"] = NASTY
    text = html.render(data)
    parsed = Parsed(text)
    assert text.count("<script") == clean.count("<script") == len(parsed.scripts)
    assert "alert(1)</script>" not in text
    assert parsed.data["steps"][0]["line"] == NASTY
    assert parsed.code == Parsed(clean).code


def test_a_source_line_with_markup_stays_text():
    def f(x):
        y = jnp.sin(x)  # </script><img src=x onerror=alert(1)>
        return jnp.sum(y)

    text = own(explain.explain(f, jnp.ones(2), check=False).to_html())
    assert "<img" not in text
    assert "</script><img" in Parsed(text).data["steps"][0]["line"]


def test_numbers_that_json_lacks():
    data = json.loads(pages.island({"nan": float("nan"), "big": [float("inf"), -float("inf")], "int": 3}))
    assert data == {"nan": "nan", "big": ["inf", "-inf"], "int": 3}
    text = explain.explain(lambda x: jnp.sum(jnp.log(x)), jnp.asarray([0.0, 1.0]), check=False).to_html()
    summary = next(v["summary"] for v in Parsed(text).data["values"].values() if v["summary"]["nonfinite"])
    assert (summary["nonfinite"], summary["special"]) == (1, "1 of -inf")


def test_parts_are_named_for_those_who_do_not_see_them():
    parsed = Parsed(explained("mlp").to_html())
    assert {"top", "outline", "graph", "detail", "query", "theme", "tree"} <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {"tree", "search", "combobox", "listbox", "tablist"} <= set(parsed.roles)


def test_four_blocks_are_small_enough():
    text = explained("transformer", blocks=4).to_html()
    assert len(text.encode()) < 1_500_000


def test_written_to_a_file_and_shown_in_a_notebook(tmp_path):
    e = explained("vae")
    text = e.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == text
    frame = e._repr_html_()
    found = []

    class Frame(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.append((tag, dict(attrs)))

    Frame().feed(frame)
    ((tag, given),) = found
    assert tag == "iframe"
    assert given["srcdoc"] == text
    assert given["sandbox"] == "allow-scripts"


def test_without_jinja2_the_page_is_text(monkeypatch, tmp_path):
    e = explained("vae")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    text = e.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == text
    parsed = Parsed(text)
    assert not parsed.scripts
    assert e._repr_html_() is None
    assert "<pre># Value and cotangents of `vae`" in text


@pytest.mark.parametrize("folder", ["temml", "dagre"])
def test_other_peoples_code_comes_with_its_licence(folder):
    assert "MIT" in pages.asset(f"vendor/{folder}/LICENSE") or "Permission is hereby granted" in pages.asset(
        f"vendor/{folder}/LICENSE"
    )
    assert folder in pages.asset("vendor/README.md")
    scripts = {"temml": "temml.min.js", "dagre": "dagre.min.js"}
    assert "</script" not in pages.asset(f"vendor/{folder}/{scripts[folder]}").lower()
