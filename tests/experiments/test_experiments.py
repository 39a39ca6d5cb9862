"""Every experiment in the folder, on tiny settings: it runs, writes what it must, and its page is well formed."""

import csv
import dataclasses
import html
import json
from html.parser import HTMLParser

import numpy as np
import pytest

from experiments.framework import page, registry, runner
from experiments.framework.result import Picture, Result
from tests.browsing import browser, needs_browser
from tests.campaigns import quick
from tests.experiments.planted import FRESH, make_experiment

__all__ = ["browser"]  # a fixture

EXPERIMENTS = registry.discover()
VOID = {"meta", "img", "br", "link", "input"}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


class Balanced(HTMLParser):
    """Checks that tags nest, and notes images, links and anchors."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.images, self.links, self.ids, self.outside = [], [], [], set(), []
        self.feed(text)
        self.close()
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(values)
        if "href" in values:
            self.links.append(values["href"])
        if "id" in values:
            self.ids.add(values["id"])
        self.outside += [v for k, v in attrs if k in ("src", "href") and v and v.startswith(("http", "//", "file"))]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


# those outside of the suite, and the longest to compile, are in the campaign
LONG = {
    "attribution",
    "cnn_digits",
    "depth",
    "activations",
    "chain_rule",
    "descent_rates",
    "digits",
    "double_descent",
    "dropout_expectation",
    "duality",
    "edge_of_stability",
    "generative",
    "gradient_field",
    "integrals",
    "kkt",
    "lagrange",
    "lasso_support",
    "limits",
    "linear_regression",
    "optimisers",
    "precision",
    "qp_layer",
    "regularisation",
    "svm",
    "bench",
    "checker",
    "derivations",
    *(n for n in EXPERIMENTS if EXPERIMENTS[n].suite != "quick"),
}


@pytest.mark.parametrize("name", quick(EXPERIMENTS, *(set(EXPERIMENTS) - LONG)))
def test_runs_on_tiny_settings(name, results):
    experiment = EXPERIMENTS[name]
    result = runner.run(experiment, experiment.module.SMOKE, results)
    assert isinstance(result, Result)
    assert result.claim == experiment.claim
    assert result.verdict == all(check.holds for check in result.checks)
    assert all(isinstance(check.holds, bool) for check in result.checks)
    assert result.metrics
    assert result.table.rows
    directory = results / name
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    assert set(config["settings"]) == {field.name for field in dataclasses.fields(experiment.module.Config)}
    assert config["environment"]["packages"]["jax"]
    assert config["environment"]["cores"] >= 1
    lines = (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert len([json.loads(line) for line in lines]) == len(result.metrics)
    with open(directory / "table.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == list(result.table.columns)
    assert len(rows) == len(result.table.rows) + 1
    summary = json.loads((directory / "result.json").read_text(encoding="utf-8"))
    assert summary["verdict"] == result.verdict
    assert summary["pictures"], "an experiment shows at least one plot"
    for picture in summary["pictures"]:
        assert (directory / picture["file"]).read_bytes()[:4] == b"\x89PNG"
        assert picture["caption"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_settings_have_help_and_the_default_uses_enough_seeds(name):
    for preset in registry.PRESETS:
        config = EXPERIMENTS[name].settings(preset)
        assert isinstance(config, EXPERIMENTS[name].module.Config)
        if hasattr(config, "seeds"):
            assert config.seeds >= 5
    assert EXPERIMENTS[name].claim == EXPERIMENTS[name].module.CLAIM  # the list shows what the file says
    assert EXPERIMENTS[name].about == EXPERIMENTS[name].module.__doc__.strip()


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Results of the two that are quickest, and their pages, which know nothing of which they are."""
    folder = tmp_path_factory.mktemp("shown")
    for name in ("chain_rule", "linear_regression"):
        runner.run(EXPERIMENTS[name], EXPERIMENTS[name].module.SMOKE, folder)
    return folder


def test_pages_tie_them_together(shown):
    summaries = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in shown.glob("*/result.json")}
    text = (shown / "index.html").read_text(encoding="utf-8")
    front = Balanced(text)
    assert {"chain_rule.html", "linear_regression.html"} <= set(front.links)
    assert len(front.images) == 2 * len(summaries)  # one picture each, for light and for dark
    for name, summary in summaries.items():
        page = Balanced((shown / f"{name}.html").read_text(encoding="utf-8"))
        assert html.escape(summary["claim"], quote=False).replace("'", "&#39;") in text
        assert len(page.images) == 2 * len(summary["pictures"])
        assert all(image["alt"] for image in page.images)
        assert "index.html" in page.links  # the way back
        assert {f"{name}/table.csv", f"{name}/metrics.jsonl", f"{name}/config.json"} <= set(page.links)
        for parsed in (front, page):
            assert parsed.outside == []
            places = [*parsed.links, *(image["src"] for image in parsed.images)]
            assert all((shown / place).is_file() for place in places if not place.startswith("data:"))
    assert summaries["chain_rule"]["pictures"][0]["pdf"].endswith(".pdf")
    source = (page_source := (shown / "chain_rule.html").read_text(encoding="utf-8")).partition("Code: ")[2]
    assert "SMOKE = Config(points=3)" in source
    assert "“The chain rule”" in page_source  # the chapter, which is not built here


@needs_browser
def test_pages_in_a_browser(browser, shown):
    """Search and filter; light, dark and on a phone nothing is too wide; the picture is the theme's; all is local."""
    said, asked = [], []

    def visit(name: str, width: int = 1280, dark: bool = False):
        tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light")
        tab.on("console", lambda message: said.append(message.text))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(f"file://{shown}/{name}.html")
        return tab

    tab = visit("index")
    tab.fill("#query", "960x")
    assert tab.locator(".cards > li:visible .name").all_inner_texts() == ["chain_rule\nborne out"]
    assert tab.inner_text("#count") == "1 of 2 shown"
    tab.fill("#query", "")
    tab.check("input[value=no]")
    verdicts = [json.loads(path.read_text(encoding="utf-8"))["verdict"] for path in shown.glob("*/result.json")]
    assert tab.locator(".cards > li:visible").count() == verdicts.count(False)
    for width, dark in ((1280, True), (390, False)):
        tab = visit("chain_rule", width, dark)
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert tab.locator("img.dark").first.is_visible() == dark
        tab.click("#theme")
        assert tab.locator("img.dark").first.is_visible() != dark
    assert said == []
    assert all(url.startswith((f"file://{shown}/", "data:")) for url in asked)


def test_a_dark_picture_has_light_ink():
    """Greys turn over, colours stay; texts, lines, markers, patches, collections, and the boxes of texts."""
    from matplotlib import colors

    from experiments.framework import style

    figure = style.figure(2, 2)
    axes = figure.subplots()
    (line,) = axes.plot([0, 1], color="black", marker="o", markerfacecolor="white")
    points = axes.scatter([0], [1], color=style.BLUE)
    text = axes.text(0, 0, "a", bbox={"facecolor": "white"})
    style.darken(figure)
    near = lambda colour, wanted: np.testing.assert_allclose(colors.to_rgb(colour), colors.to_rgb(wanted), atol=0.01)
    near(line.get_color(), style.LIGHT)
    near(line.get_markerfacecolor(), style.DARK)
    near(text.get_color(), style.LIGHT)
    near(text.get_bbox_patch().get_facecolor(), style.DARK)
    near(axes.get_facecolor(), style.DARK)
    assert np.argmax(points.get_facecolor()[0][:3]) == 2


def test_row_8_through_the_experiment():
    from experiments import linear_regression

    example = linear_regression._example(rounds=1)
    np.testing.assert_allclose(example["theta"], [0.13630728673236478, 1.9536389002891459], rtol=0, atol=1e-12)
    assert example["numpy_error"] < 1e-12


def test_row_6_through_the_experiment():
    from fractions import Fraction

    from experiments.chain_rule import CASES

    case = CASES["power of a power"]
    assert case.derivative(None, Fraction(1))[0] == 960
    assert case.derivative(None, Fraction(1, 2))[0] == Fraction(960, 2**9)
    assert len(CASES["several paths"].paths) == 3


def test_deltas_of_the_activations_experiment_are_backprops():
    """The loop of formulas (1) and (2) there equals functional_dl.backprop's."""
    import jax
    import jax.numpy as jnp

    from experiments import activations
    from functional_dl import backprop
    from functional_dl.activations import ACTIVATIONS

    config = activations.SMOKE
    with jax.enable_x64(False):
        hidden, readout, x, y = jax.tree_util.tree_map(lambda leaf: leaf[0], activations._networks(config))
        norms = activations._delta_norms(ACTIVATIONS["tanh"], hidden, readout, x, y)
        equal = [jax.tree_util.tree_map(lambda leaf: leaf[l], hidden) for l in range(config.depth)]
        _, _, deltas = backprop.gradients({"layers": [*equal, readout]}, x, y, "tanh", "softmax_cross_entropy")
    np.testing.assert_allclose(norms, [jnp.linalg.norm(delta) for delta in deltas[:-1]], rtol=1e-5)


def test_what_generative_compares_with():
    """PCA's density is the normal one of its own covariance; nearest digits and entropies by hand."""
    from scipy import stats

    from experiments import generative

    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(40, 5)) * np.arange(1, 6), rng.normal(size=(7, 5))
    values, vectors = np.linalg.eigh(np.cov(train.T, bias=True))
    noise = values[:3].mean()
    loadings = vectors[:, 3:] * np.sqrt(values[3:] - noise)
    law = stats.multivariate_normal(train.mean(0), loadings @ loadings.T + noise * np.eye(5))
    found = generative._pca_log_likelihood(train, test, 2)
    np.testing.assert_allclose(found, law.logpdf(test).mean(), rtol=1e-12)
    distance, place = generative._nearest(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[0.0, 1.0], [3.0, 3.0]]))
    np.testing.assert_allclose(distance, [1.0, 1.0], rtol=1e-12)
    assert place.tolist() == [0, 1]
    np.testing.assert_allclose(generative._entropy(np.array([0, 0, 9, 9])), np.log(2), rtol=1e-12)
    assert generative._entropy(np.zeros(3, int)) == 0.0


def test_moved_digits_are_scipys_affine_transforms():
    """Turned, stretched and shifted, linearly between the pixels, 0 outside; not at all where all of these are 0."""
    import jax
    from scipy import ndimage

    from experiments import cnn_digits

    key, x = jax.random.key(3), np.random.default_rng(0).random((3, 8, 8, 1)).astype(np.float32)
    moving = cnn_digits.Config(angle=0.4, stretch=0.2, shift=0.7)
    still = cnn_digits.Config(angle=0.0, stretch=0.0, shift=0.0)

    @jax.jit
    def both(key, x):
        u = jax.random.uniform(key, (5, 3), "float32", -1.0, 1.0)
        return u, cnn_digits._moved(moving, key, x), cnn_digits._moved(still, key, x)

    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        u, moved, same = (np.asarray(values) for values in both(key, x))
    np.testing.assert_allclose(same, x, rtol=0, atol=1e-6)
    for i, image in enumerate(x[..., 0]):
        cos, sin = np.cos(0.4 * u[0, i]), np.sin(0.4 * u[0, i])
        matrix = np.array([[cos, -sin], [sin, cos]]) @ np.diag(1 + 0.2 * u[1:3, i])
        middle = np.full(2, 3.5)
        offset = middle + 4 - matrix @ middle + 0.7 * u[3:, i]  # the image stands in a frame of 4 zeros
        expected = ndimage.affine_transform(np.pad(image, 4), matrix, offset, (8, 8), order=1)
        np.testing.assert_allclose(moved[i, ..., 0], expected, rtol=0, atol=2e-6)


def test_the_range_of_good_rates():
    """A loss of 10^|log10 rate| is within 10 % of its least, 1, over 2 log10 1.1 decades; a flat one everywhere."""
    from experiments import optimisers

    places = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(optimisers._width(places, 10 ** np.abs(places)), 2 * np.log10(1.1), rtol=1e-12)
    assert optimisers._width(places, np.ones(9)) == 4.0
    assert optimisers._width(places, np.where(places < 0, np.nan, 1.0)) == pytest.approx(2.0, abs=0.01)


# -- the framework ---------------------------------------------------------------------------------------


def test_a_new_file_is_found_run_and_refuted(tmp_path, monkeypatch, capsys):
    from experiments.__main__ import main

    (tmp_path / "code").mkdir()
    make_experiment(tmp_path / "code", monkeypatch, FRESH, "fresh_one")
    assert "fresh_one" in registry.discover()
    assert main(["list"]) == 0
    assert "fresh_one" in capsys.readouterr().out
    assert main(["--results", str(tmp_path / "out"), "fresh_one", "--number", "3"]) == 1
    assert "NOT borne out" in capsys.readouterr().out
    Balanced((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    text = (tmp_path / "out" / "fresh_one.html").read_text(encoding="utf-8")
    Balanced(text)
    assert "not borne out" in text
    assert "&lt;value&gt;" in text
    assert "A &lt;line&gt; &amp; more." in text
    assert json.loads((tmp_path / "out/fresh_one/config.json").read_text())["settings"] == {"number": 3}
    assert json.loads((tmp_path / "out/fresh_one/metrics.jsonl").read_text()) == {"value": "inf"}


def test_the_suite_lists_runs_and_survives_a_failure(tmp_path, monkeypatch, capsys):
    from experiments.__main__ import main

    broken = FRESH.replace("number: int = 2", "number: int = -1")
    (tmp_path / "code").mkdir()
    make_experiment(tmp_path / "code", monkeypatch, broken, "broken_one")
    make_experiment(tmp_path / "code", monkeypatch, FRESH.replace("is 5", "is 4").replace("== 5", "== 4"), "true_one")
    kept = {n: e for n, e in registry.discover().items() if n in ("broken_one", "true_one")}
    monkeypatch.setattr(registry, "discover", lambda: kept)
    assert main(["--results", str(tmp_path / "out"), "--jobs", "1"]) == 1
    out = capsys.readouterr().out
    assert "ValueError: number: expected >= 0" in out
    assert "true_one: borne out" in out
    assert "1 of 2 claims borne out" in out
    text = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    Balanced(text)
    assert "failed to run" in text
    assert "ValueError" in (tmp_path / "out/broken_one/traceback.txt").read_text()
    Balanced((tmp_path / "out/broken_one.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_experiment_leaves_the_old_results(tmp_path, monkeypatch, stop):
    (tmp_path / "code").mkdir()
    make_experiment(tmp_path / "code", monkeypatch, FRESH, "stopped_one")
    experiment, out = registry.load("stopped_one"), tmp_path / "out"
    runner.run(experiment, experiment.module.Config(), out)
    before = {path.name: path.read_bytes() for path in (out / "stopped_one").iterdir()}
    page_before = (out / "index.html").read_bytes()

    def stopping(result):
        raise stop

    monkeypatch.setattr(experiment.module, "plot", stopping)
    with pytest.raises(stop):
        runner.run(experiment, experiment.module.Config(number=7), out)
    assert {path.name: path.read_bytes() for path in (out / "stopped_one").iterdir()} == before
    assert (out / "index.html").read_bytes() == page_before
    assert sorted(path.name for path in out.iterdir()) == ["index.html", "stopped_one", "stopped_one.html"]


def test_a_replacement_cut_short_is_repaired(tmp_path):
    from experiments.framework import store

    store.write_directory(tmp_path, "x", {"a": b"1"})
    (tmp_path / "x").rename(tmp_path / ".x.old")  # died between the two renames
    page.write(tmp_path)
    store.write_directory(tmp_path, "x", {"a": b"2"})
    assert (tmp_path / "x" / "a").read_bytes() == b"2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "x"]


BAD_FILES = [
    ("CLAIM = 'x'", r"experiments/bad_\w+.py: expected .*; missing: Config, SMOKE, run, plot"),
    (FRESH + "QUICK = 3", r"expected QUICK to be a Config, got 3"),
    (FRESH.replace("SMOKE = Config()", "SMOKE = 3"), r"expected Config to be a dataclass and SMOKE one of its values"),
]


@pytest.mark.parametrize(("body", "message"), BAD_FILES)
def test_a_file_that_is_no_experiment_is_named(tmp_path, monkeypatch, body, message):
    name = f"bad_{abs(hash(body)) % 1000}"
    make_experiment(tmp_path, monkeypatch, body, name)
    with pytest.raises(TypeError, match=message):
        registry.load(name)


COMMANDS = [
    (["digit"], "no experiment 'digit': did you mean 'digits'?"),
    (["nonsense", "--x", "1"], "no experiment 'nonsense': there are activations"),
]


def test_an_option_without_its_value_is_refused(capsys):
    from experiments.__main__ import main

    for arguments, message in (
        (["--results"], "Missing value for argument '--results'"),
        (["--presett", "quick"], "did you mean --preset?"),
        (["compare"], "Missing from python -m experiments compare"),
        (["list", "extra"], "Unrecognized options: extra"),
        (["book", "--only", "nosuch"], "--only: no chapter 'nosuch'"),
    ):
        assert main(arguments) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert message in line


@pytest.mark.parametrize(("arguments", "message"), COMMANDS)
def test_a_wrong_command_is_explained(arguments, message, capsys):
    from experiments.__main__ import main

    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_help_of_an_experiment(capsys):
    from experiments.__main__ import main

    with pytest.raises(SystemExit) as stop:
        main(["digits", "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "--learning-rate" in out
    assert "Passes over the training digits" in out


BAD_SETTINGS = [
    ("digits", dict(seeds=1), r"seeds: expected a number of at least 2, got 1"),
    ("digits", dict(train=1797), r"train: expected from batch_size = 64 to 1796, got 1797"),
    ("linear_regression", dict(batch_learning_rate=-1.0), r"batch_learning_rate: expected a number above 0, got -1.0"),
    ("linear_regression", dict(steps=0), r"steps: expected a number of at least 1, got 0"),
    ("linear_regression", dict(batch_sizes=(443,)), r"batch_sizes: expected numbers from 1 to 442, got \(443,\)"),
    ("regularisation", dict(dropout=(1.0,)), r"dropout: expected numbers >= 0 below 1, got \(1.0,\)"),
    ("regularisation", dict(steps=7), r"steps: expected a multiple of record_every"),
    ("activations", dict(reach=float("nan")), r"reach: expected a number above 0, got nan"),
    ("cnn_digits", dict(dropout_rate=1.0), r"dropout_rate: expected a number >= 0 below 1, got 1.0"),
    ("cnn_digits", dict(shift=-1.0), r"shift: expected a number of at least 0, got -1.0"),
    ("language", dict(steps=7), r"steps: expected a multiple of judged = 8, got 7"),
    ("language", dict(lines=12887), r"lines: expected from 10 piece = 640 to 12886, got 12887"),
    ("generative", dict(critic_steps=0), r"critic_steps: expected a number of at least 1, got 0"),
    ("generative", dict(train=60), r"train: expected from max\(batch_size, 65\) to 1796, got 60"),
    ("depth", dict(sizes=(4,)), r"sizes: expected at least two positive numbers, got \(4,\)"),
    ("optimisers", dict(conditions=(1.0, 9.0)), r"conditions: expected at least two .* above 1, got \(1.0, 9.0\)"),
    ("optimisers", dict(loop_settings=65), r"sweep_settings: expected at least loop_settings = 65, got 64"),
    ("chain_rule", dict(low=-1.0), r"low: expected a number of at least -0.9, got -1.0"),
]


@pytest.mark.parametrize(("name", "fields", "message"), BAD_SETTINGS)
def test_bad_settings(name, fields, message):
    with pytest.raises(ValueError, match=message):
        EXPERIMENTS[name].module.Config(**fields)


def test_results_refuse_what_cannot_be_judged():
    from experiments.framework.result import Check, Table
    from experiments.framework.statistics import mean_interval

    with pytest.raises(ValueError, match="checks: expected at least one"):
        Result("c", [], {}, [], Table(["a"], []))
    with pytest.raises(ValueError, match="rows: expected 1 cells"):
        Table(["a"], [[1, 2]])
    with pytest.raises(ValueError, match="at least 2 along axis 0, got 1"):
        mean_interval([1.0])
    assert not Result("c", [Check("a", "", True), Check("b", "", False)], {}, [], Table(["a"], [])).verdict
    assert Picture("a", "b", None).name == "a"


def test_mean_interval_is_students():
    from scipy import stats

    from experiments.framework.statistics import mean_interval

    values = np.random.default_rng(0).normal(size=(7, 3))
    mean, half = mean_interval(values)
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose(mean - half, low, rtol=1e-12)
    np.testing.assert_allclose(mean + half, high, rtol=1e-12)
