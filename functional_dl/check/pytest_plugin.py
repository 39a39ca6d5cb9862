"""For pytest: a fixture `check_vjp` that fails the test with a report, and `--check-vjp-report=FILE` that gathers them.

    def test_my_backward_pass(check_vjp):
        check_vjp(fun, fun_vjp, x, y)

The file is a page if its name ends in .html, else JSON: a list of reports with the tests' names.
"""

import json
from pathlib import Path
from typing import Any

import pytest

_REPORTS = "functional_dl_reports"


def pytest_addoption(parser: Any) -> None:
    parser.addoption(
        "--check-vjp-report",
        metavar="FILE",
        default=None,
        help="write the reports of all check_vjp fixtures to FILE (.html: a page, else JSON)",
    )


@pytest.fixture
def check_vjp(request: Any) -> Any:
    """`functional_dl.check.assert_vjp`, whose reports go into --check-vjp-report."""
    from functional_dl import check  # not at start-up: importing JAX takes a second

    def assert_and_keep(fun, fun_vjp, *primals, **options):
        report = check.check_vjp(fun, fun_vjp, *primals, **options)
        entry = {"test": request.node.nodeid, **report.to_dict()}
        request.node.user_properties.append((_REPORTS, {"entry": entry, "html": report.to_html()}))
        if not report.passed:
            raise check.GradientMismatch(report)
        return report

    return assert_and_keep


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    path = config.getoption("--check-vjp-report")
    if path is None:
        return
    kept = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == _REPORTS
    ]
    if str(path).endswith(".html"):
        Path(path).write_text("\n<hr>\n".join(item["html"] for item in kept), encoding="utf-8")
    else:
        Path(path).write_text(json.dumps([item["entry"] for item in kept], indent=2) + "\n", encoding="utf-8")
    failed = sum(not item["entry"]["passed"] for item in kept)
    terminalreporter.write_line(f"check_vjp: {len(kept)} reports, {failed} with faults, written to {path}")
