from __future__ import annotations

import pytest

from headgate.command.faults import ExitCode, exit_code_of, one_line, report
from headgate_graphs.errors import BadRecord, DeliveryFailed, GraphInvalid, LogUnavailable, UserError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("x"), ExitCode.USER_ERROR),
        (GraphInvalid("g", ["a", "b"]), ExitCode.USER_ERROR),
        (LogUnavailable("x"), ExitCode.USER_ERROR),
        (BadRecord("BAD_TENANT_ID", "x"), ExitCode.USER_ERROR),
        (DeliveryFailed("x"), ExitCode.BROKEN),
        (ZeroDivisionError("x"), ExitCode.BROKEN),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
    ],
)
def test_exit_code_says_whose_fault_it_was(error: BaseException, code: ExitCode) -> None:
    assert exit_code_of(error) is code


def test_an_error_is_one_line_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    report(UserError("graph 'a\nb\x1b[31m\u202e' is odd"), debug=False)
    assert capsys.readouterr().err == "headgate: graph 'a\\nb\\x1b[31m\\u202e' is odd\n"


def test_trace_is_shown_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="odd") as caught:
        raise ValueError("odd")
    assert report(caught.value, debug=False) == ExitCode.BROKEN
    assert "--debug" in capsys.readouterr().err
    report(caught.value, debug=True)
    assert "Traceback" in capsys.readouterr().err


def test_letters_of_every_script_stay() -> None:
    assert one_line("Grüße 你好 → $1") == "Grüße 你好 → $1"
