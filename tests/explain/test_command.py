"""python -m functional_dl explain."""

import pytest

from functional_dl.__main__ import main

MODULE = """
import jax.numpy as jnp

def loss(x, w):
    h = jnp.tanh(x @ w)
    return jnp.mean(h**2)

def arguments():
    return jnp.ones((2, 3)), jnp.ones((3, 3))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "explained_module.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_writes_what_is_asked_for(folder, capsys):
    options = ["--markdown", "out.md", "--latex", "out.tex", "--python", "out.py", "--dot", "out.dot"]
    code = main(["explain", "explained_module:loss", "--shapes", "4,3", "3,2", "--dtype", "float64", *options])
    assert code == 0
    assert capsys.readouterr().out.startswith("loss(x: float64[4, 3], w: float64[3, 2]) -> loss: float64[]")
    assert (folder / "out.md").read_text().startswith("# Value and cotangents of `loss`")
    assert "\\begin{document}" in (folder / "out.tex").read_text()
    assert "def value_and_vjp(x, w, ct):" in (folder / "out.py").read_text()
    assert (folder / "out.dot").read_text().startswith("digraph")


def test_takes_the_modules_arguments(folder, capsys):
    assert main(["explain", "explained_module:loss"]) == 0
    assert "w: " in capsys.readouterr().out
