"""What the campaign's processes counted, added up and printed at the end."""

from collections import Counter

import jax
import pytest

TOTALS = {"counts": Counter(), "primitives": Counter()}


@pytest.fixture(autouse=True, scope="module")
def quick_compilation():
    """Thousands of operations are compiled, each to run for a moment."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def pytest_runtest_logreport(report):
    if report.when == "call":
        for name, value in report.user_properties:
            if name in TOTALS:
                TOTALS[name].update(value)


def pytest_terminal_summary(terminalreporter):
    if TOTALS["counts"]:
        terminalreporter.section("fuzz")
        terminalreporter.line(", ".join(f"{name} {n}" for name, n in TOTALS["counts"].items()))
        terminalreporter.line(
            f"{len(TOTALS['primitives'])} primitives: "
            + ", ".join(f"{name} {n}" for name, n in TOTALS["primitives"].most_common())
        )
