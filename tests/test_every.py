"""The loop over a table's cases tries them all and names those that fail."""

import pytest
from every import every


def even(n):
    assert n % 2 == 0, f"{n} is odd"


def test_every_failure_is_named():
    with pytest.raises(ExceptionGroup, match="2 of 4 cases failed: n=1, n=3") as caught:
        every([1, 2, 3, 4], even, name="n={}".format)
    assert [str(error).splitlines()[0] for error in caught.value.exceptions] == ["1 is odd", "3 is odd"]
    assert [error.__notes__ for error in caught.value.exceptions] == [["case: n=1"], ["case: n=3"]]


def test_an_error_is_a_failure_too():
    with pytest.raises(ExceptionGroup, match="1 of 1 cases failed: one"):
        every(["one"], even)


def test_cases_are_counted_and_none_is_a_failure():
    assert every(range(0, 6, 2), even) == 3
    with pytest.raises(AssertionError, match="no case"):
        every([], even)
