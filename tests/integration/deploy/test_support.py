"""`eventually` waits as long as it must and not longer."""

from __future__ import annotations

import pytest

from tests.support import eventually


def test_first_truthy_value_is_returned() -> None:
    values = iter([0, None, 3])
    assert eventually(lambda: next(values), interval_s=0) == 3


def test_failed_assertion_counts_as_not_yet() -> None:
    tries: list[int] = []

    def third_time() -> bool:
        tries.append(1)
        assert len(tries) == 3
        return True

    assert eventually(third_time, interval_s=0)


def test_what_never_holds_is_reported_with_its_last_value() -> None:
    with pytest.raises(AssertionError, match=r"did not hold within 0.01 s; last: \[\]"):
        eventually(lambda: [], timeout_s=0.01, interval_s=0)


def test_other_errors_are_not_waited_for() -> None:
    with pytest.raises(ZeroDivisionError):
        eventually(lambda: 1 // 0)
