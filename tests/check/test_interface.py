"""Reports, errors, the pytest plugin and the command line."""

import functools
import html
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import check, reverse
from functional_dl.check.report import Report, page

ROOT = Path(__file__).parents[2]
X, W = np.linspace(-1, 1, 12).reshape(4, 3), np.linspace(0.5, -0.5, 6).reshape(3, 2)


def dense(x, w):
    return jnp.tanh(x @ w)


def dense_vjp(x, w, sign=1.0):
    out = dense(x, w)

    def pullback(ct):
        delta = ct * (1 - out**2)
        return sign * delta @ w.T, x.T @ delta

    return out, pullback


def wrong_vjp(x, w):
    return dense_vjp(x, w, sign=-1.0)


class Counter:
    """A function that counts its calls."""

    calls = 0

    def __call__(self, x, w):
        self.calls += 1
        return dense(x, w) * self.calls


def test_right_rule_passes():
    report = check.assert_vjp(dense, dense_vjp, X, W)
    assert report.passed
    assert report.comparisons > 50
    assert "passed" in str(report)
    assert "double precision" in report.reference


def test_wrong_rule_raises_with_the_report():
    with pytest.raises(check.GradientMismatch, match="sign") as caught:
        check.assert_vjp(dense, wrong_vjp, X, W)
    report = caught.value.report
    [finding] = report.findings
    assert (finding.cause, finding.argument) == ("sign", "args[0]")
    assert finding.candidates[0] == "sign"
    assert finding.error > finding.tolerance
    assert finding.actual == pytest.approx(-finding.expected)
    assert isinstance(caught.value, AssertionError)
    assert "right: args[1]" in str(report)


def test_report_as_json_and_page(tmp_path):
    report = check.check_vjp(dense, wrong_vjp, X, W, name="dense <layer>")
    data = json.loads(report.to_json(tmp_path / "report.json"))
    assert data == json.loads((tmp_path / "report.json").read_text())
    assert data["findings"][0]["cause"] == "sign"
    page = report.to_html(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == page
    assert "dense &lt;layer&gt;" in page
    assert page.count("<rect") == X.size
    assert not re.search(r"(src|href)=['\"](?!data:)", page)  # nothing from elsewhere
    assert report._repr_html_() == page


def test_without_jinja2_a_page_is_text(monkeypatch):
    report = check.check_vjp(dense, wrong_vjp, X, W, name="dense <layer>")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert html.escape(str(report)) in report.to_html()
    assert report._repr_html_() is None


def test_one_document_of_several_reports():
    reports = [check.check_vjp(dense, rule, X, W, name=f"<{rule.__name__}>") for rule in (dense_vjp, wrong_vjp)]
    text = page("all", [Report.from_dict(json.loads(report.to_json())) for report in reports])
    assert text.count("<!doctype html>") == text.count("<title>") == 1
    assert all(f"&lt;{rule.__name__}&gt;" in text for rule in (dense_vjp, wrong_vjp))
    assert str(Report.from_dict(reports[1].to_dict())) == str(reports[1])


def test_names_of_leaves():
    params = {"w": W, "b": np.zeros(2)}

    def fun(params, x):
        return x @ params["w"] + params["b"]

    def fun_vjp(params, x):
        return fun(params, x), lambda ct: ({"w": x.T @ ct, "b": ct[0]}, ct @ params["w"].T)

    [finding] = check.check_vjp(fun, fun_vjp, params, X).findings
    assert (finding.cause, finding.argument) == ("missing_reduction", "args[0]['b']")


def test_numpy_functions():
    def fun(x):
        return np.cumsum(np.asarray(x, float) ** 2)

    def fun_vjp(x, factor=2.0):
        return fun(x), lambda ct: (factor * np.cumsum(ct[::-1])[::-1] * x,)

    x = np.array([0.5, -1.0, 2.0])
    assert check.check_vjp(fun, fun_vjp, x).passed
    [finding] = check.check_vjp(fun, lambda x: fun_vjp(x, 1.0), x).findings
    assert finding.cause == "scale"
    assert "0.5" in finding.message


def test_custom_vjp_functions():
    @jax.custom_vjp
    def cube(x):
        return x**3

    cube.defvjp(lambda x: (x**3, x), lambda x, ct: (2 * x**2 * ct,))
    [finding] = check.check_custom_vjp(cube, X).findings
    assert finding.cause == "scale"
    assert "0.666667" in finding.message
    with pytest.raises(TypeError, match="custom_vjp"):
        check.check_custom_vjp(dense, X, W)


def test_a_wrong_rule_inside_fun_is_noticed():
    @jax.custom_vjp
    def cube(x):
        return x**3

    cube.defvjp(lambda x: (x**3, x), lambda x, ct: (2 * x**2 * ct,))
    x = np.array([0.5, 2.0])
    report = check.check_vjp(cube, lambda x: (x**3, lambda ct: (3 * x**2 * ct,)), x)
    assert report.passed
    assert "custom rule that is wrong" in report.notes[0]
    assert not check.check_grads(cube, x, order=1).passed


@pytest.mark.parametrize("differentiate", [jax.vjp, reverse.vjp])
def test_differentiators_pass_to_order_three(differentiate):
    def fun(x, y):
        return jnp.sum(jnp.sin(x) * y) + jnp.prod(x)

    x, y = np.array([0.3, -1.2, 0.7]), np.array([1.0, 0.5, -2.0])
    assert check.assert_grads(fun, x, y, order=3, differentiate=differentiate).passed


def test_a_wrong_second_derivative_is_found():
    @jax.custom_jvp
    def square(x):
        return x * x

    # the value of the derivative is right, its own derivative is not
    square.defjvp(lambda p, t: (p[0] * p[0], (p[0] + jax.lax.stop_gradient(p[0])) * t[0]))
    report = check.check_grads(square, np.array([0.5, 2.0]), order=2)
    assert not report.passed
    assert "order 2" in report.findings[0].message


def test_integers_have_no_cotangent():
    def fun(x, n):
        return x[n]

    n = np.array([0, 2])
    for nothing in (None, np.zeros(2, jax.float0)):
        report = check.check_vjp(fun, lambda x, n, z=nothing: (x[n], lambda ct: (np.zeros(4), z)), np.arange(4.0), n)
        assert [f.cause for f in report.findings] == ["zero"]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: check.check_vjp(dense, 3, X, W), TypeError, "fun_vjp: expected a callable"),
        (lambda: check.check_vjp(3, dense_vjp, X, W), TypeError, "fun: expected a callable"),
        (lambda: check.check_vjp(dense, lambda x, w: 3, X, W), TypeError, r"\(out, pullback\)"),
        (lambda: check.check_vjp(lambda n: n + 1, dense_vjp, np.arange(3)), TypeError, "floating"),
        (lambda: check.check_vjp(dense, dense_vjp, X, W, ct=(1, 2)), ValueError, "ct: expected the output's tree"),
        (lambda: check.check_vjp(dense, dense_vjp, X, W, ct=X), ValueError, r"ct: expected shape \(4, 2\)"),
        (lambda: check.check_vjp(dense, dense_vjp, X, W, axis=1), TypeError, r"'axis': bind .* functools.partial"),
        (lambda: check.check_grads(jnp.sin, X, order=0), ValueError, "order"),
        (lambda: check.check_grads(jnp.sin, X, axis=1), TypeError, "check_grads: unexpected keyword argument 'axis'"),
        (lambda: check.check_vjp(Counter(), dense_vjp, X, W), ValueError, "two calls at the same primals differ"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call()


def _run(*words, cwd):
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "HOME": str(cwd)}
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, capture_output=True, text=True, env=environment, check=False
    )


MODULE = """
import jax
import jax.numpy as jnp

@jax.custom_vjp
def right(x):
    return jnp.sin(x)

right.defvjp(lambda x: (jnp.sin(x), x), lambda x, ct: (ct * jnp.cos(x),))

def fun(x):
    return jnp.sin(x)

def wrong(x):
    return fun(x), lambda ct: (-ct * jnp.cos(x),)

def root(x):
    return jnp.sum(jnp.where(x > 0, jnp.sqrt(x), 0.0))
"""


def test_command_line(tmp_path):
    (tmp_path / "mine.py").write_text(MODULE)
    bad = _run(
        "-m", "functional_dl", "check", "mine:fun", "--vjp", "mine:wrong", "--shapes", "2,3", "--json", "r.json",
        cwd=tmp_path,
    )  # fmt: skip
    assert bad.returncode == 1, bad.stderr
    assert "args[0]: sign" in bad.stdout
    assert json.loads((tmp_path / "r.json").read_text())["findings"][0]["cause"] == "sign"
    nan = _run("-m", "functional_dl", "find-nan", "mine:root", "--shapes", "3", cwd=tmp_path)
    assert nan.returncode == 1
    assert "mine.py:18: sqrt, backward" in nan.stdout


OWN = """
import functools
import jax
import jax.numpy as jnp

def gathered(x, n):
    return jnp.sin(x[n])

@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def rule(x, n):
    return x**n

rule.defvjp(lambda x, n: (x**n, x), lambda n, x, ct: (ct * x ** (n - 1),))
power = jax.jit(rule, static_argnums=1)

def arguments():
    return jnp.array([1.0, 2.0, 3.0]), 3
"""


def test_command_line_targets(tmp_path, monkeypatch, capsys):
    """Integers, a module's own arguments, a file; a wrong command exits with 2."""
    from functional_dl.__main__ import main

    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "own_targets.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = "sub/own_targets.py"
    assert main(["check", f"{path}:gathered", "--shapes", "3", "2:int32<3", "--order", "1"]) == 0
    assert "passed" in capsys.readouterr().out
    assert main(["check", f"{path}:power"]) == 1
    assert "args[0]" in capsys.readouterr().out
    for words, said in (
        (["none:fun"], "No module"), (["own_targets"], "expected MODULE:FUNCTION"), (["none.py:fun"], "no file"),
        ([f"{path}:gathered", "--shapes", "a"], "expected integers"), ([f"{path}:nothing"], "has no 'nothing'"),
        ([f"{path}:gathered", "--shapes", "3", "2:float32"], "no integer dtype"),
    ):  # fmt: skip
        with pytest.raises(SystemExit) as caught:
            main(["check", *words])
        assert caught.value.code == 2
        assert said in capsys.readouterr().err


def test_rules_with_fixed_arguments_and_under_jit():
    @functools.partial(jax.custom_vjp, nondiff_argnums=(0, 2))
    def scaled(kind, x, n):
        return jnp.sin(x) * n if kind == "sine" else x * n

    scaled.defvjp(lambda kind, x, n: (scaled.fun(kind, x, n), x), lambda kind, n, x, ct: (ct * jnp.cos(x) * n,))
    assert check.check_custom_vjp(scaled, "sine", X, 3).passed
    assert not check.check_custom_vjp(scaled, "line", X, 3).passed

    @jax.custom_vjp
    def root(x):
        return jnp.sqrt(x)

    root.defvjp(lambda x: (jnp.sqrt(x), x), lambda x, ct: (ct / jnp.sqrt(x),))
    [finding] = check.check_custom_vjp(jax.jit(root), X**2 + 1).findings
    assert finding.cause == "scale"


def test_pytest_plugin(tmp_path):
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "test_mine.py").write_text(
        "import numpy as np, mine\n"
        "def test_right(check_vjp):\n    check_vjp(mine.fun, lambda x: (mine.fun(x), lambda ct: (ct * np.cos(x),)),"
        " np.ones(3, np.float32))\n"
        "def test_wrong(check_vjp):\n    check_vjp(mine.fun, mine.wrong, np.ones(3, np.float32))\n"
    )
    words = ["-m", "pytest", "-q", "-p", "functional_dl.check.pytest_plugin", "-p", "no:cacheprovider"]
    result = _run(*words, "--check-vjp-report=report.json", "test_mine.py", cwd=tmp_path)
    assert re.search(r"FAILED test_mine.py::test_wrong - args\[0\]: sign", result.stdout), result.stdout
    assert "pytest_plugin.py" not in result.stdout  # frames of the fixture are hidden
    assert "1 failed, 1 passed" in result.stdout, result.stdout + result.stderr
    assert "2 reports, 1 with faults" in result.stdout
    reports = json.loads((tmp_path / "report.json").read_text())
    assert [r["passed"] for r in reports] == [False, True] or [r["passed"] for r in reports] == [True, False]
    assert {f["cause"] for r in reports for f in r["findings"]} == {"sign"}
