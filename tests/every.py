"""A table's cases in one test: every case is tried, and those that fail are named together."""

from collections.abc import Callable, Iterable


def every(cases: Iterable, check: Callable, name: Callable = str) -> int:
    """check(case) for every case; returns how many there were.

    A failure does not end the loop: an ExceptionGroup of all of them names the cases that failed, each with its own
    traceback.  A table without a case is a failure too.
    """
    failures, count = [], 0
    for case in cases:
        count += 1
        try:
            check(case)
        except Exception as error:
            error.add_note(f"case: {name(case)}")
            failures.append((name(case), error))
    if failures:
        names = ", ".join(case for case, _ in failures[:20]) + ", ..." * (len(failures) > 20)
        raise ExceptionGroup(f"{len(failures)} of {count} cases failed: {names}", [error for _, error in failures])
    assert count, "no case to try"
    return count
