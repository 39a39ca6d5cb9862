"""What the campaign's processes counted, added up and printed at the end."""

from collections import Counter

TOTALS = {"counts": Counter(), "primitives": Counter()}


def pytest_runtest_logreport(report):
    if report.when == "call":
        for name, value in report.user_properties:
            if name in TOTALS:
                TOTALS[name].update(value)


def pytest_terminal_summary(terminalreporter):
    if TOTALS["counts"]:
        terminalreporter.section("fuzz")
        terminalreporter.line(", ".join(f"{name} {n}" for name, n in TOTALS["counts"].items()))
        terminalreporter.line(f"{len(TOTALS['primitives'])} primitives: " + ", ".join(f"{name} {n}" for name, n in TOTALS["primitives"].most_common()))
