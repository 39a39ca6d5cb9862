"""For pytest: a fixture `check_vjp` that fails the test with a report, and `--check-vjp-report=FILE` that gathers them.

    def test_my_backward_pass(check_vjp):
        check_vjp(fun, fun_vjp, x, y)

The file is a page if its name ends in .html, else JSON: a list of reports with the tests' names.
"""

import json
from collections.abc import Callable
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
def check_vjp(request: Any) -> Callable[..., Any]:
    """`functional_dl.check.assert_vjp`, whose reports go into --check-vjp-report."""
    from functional_dl import check  # not at start-up: importing JAX takes a second

    wanted = request.config.getoption("--check-vjp-report") is not None

    def assert_and_keep(fun, fun_vjp, *primals, **options):
        __tracebackhide__ = True
        report = check.check_vjp(fun, fun_vjp, *primals, **options)
        if wanted:
            request.node.user_properties.append((_REPORTS, {"test": request.node.nodeid, **report.to_dict()}))
        if not report.passed:
            raise check.GradientMismatch(report)
        return report

    return assert_and_keep


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: Any, call: Any) -> Any:
    """The line of the summary begins with the causes: it is cut at the terminal's width."""
    report = yield
    found = getattr(getattr(call.excinfo, "value", None), "report", None)
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None and found is not None and hasattr(found, "causes"):
        crash.message = f"{found.causes} ({crash.message})"
    return report


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
        from functional_dl.check.report import Report, page  # as above

        reports = [Report.from_dict({**entry, "name": f"{entry['test']}: {entry['name']}"}) for entry in kept]
        Path(path).write_text(page("check_vjp", reports), encoding="utf-8")
    else:
        Path(path).write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    failed = sum(not entry["passed"] for entry in kept)
    terminalreporter.write_line(f"check_vjp: {len(kept)} reports, {failed} with faults, written to {path}")
