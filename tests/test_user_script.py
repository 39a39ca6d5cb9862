"""A user's script, which pyright checks in strict mode (pyproject.toml), runs and gives the right numbers."""

import importlib.util
from pathlib import Path

import jax
import pytest

SCRIPT = Path(__file__).parent / "typing" / "user_script.py"


def test_it_runs():
    spec = importlib.util.spec_from_file_location("user_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        found = module.main()
    exact = {"x_bar": 4, "aux": 3, "gradient": 4, "of_x": 2, "of_y": 1, "both": 4, "hessian": 2, "carry": 0.125,
             "limit": 1, "slope": 1, "chain": 1, "third": 1 / 6, "volume": 3.14159265 / 3}  # fmt: skip
    for name, value in exact.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name
    assert found["passed"]
    assert not found["nan"]
    assert found["objective"] == pytest.approx(3.0, rel=1e-4)
    assert found["fell"] > 0
    assert found["shrunk"] == 0
