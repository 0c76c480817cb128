"""Long-lived commands: what ends them, and with which exit code, when the log is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from headgate.command import service as serving
from headgate.command.faults import ExitCode, exit_code_of
from headgate.command.place import Place
from headgate.command.service import LogLost, serve
from headgate.embedding import Service
from headgate_graphs.errors import DeliveryFailed, HeadgateError, LogUnavailable, UserError

LOST = LogUnavailable("the broker is gone")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "AGAIN_S", 0.01)


class Services:
    """Makes services that are ready and then end as they are told, one after the other."""

    def __init__(self, *ends: HeadgateError | None, ready: bool = True) -> None:
        self.ends = list(ends)
        self.made = 0
        self._ready = ready

    def __call__(self) -> Service:
        end = self.ends[min(self.made, len(self.ends) - 1)]
        self.made += 1
        ready = threading.Event()

        def run(stop: threading.Event) -> None:
            if self._ready:
                ready.set()
                threading.Event().wait(0.1)  # long enough to be seen ready
            if end is not None:
                raise end
            stop.set()

        return Service("gate", run, ready)


def code_of(make: Callable[[], Service], retry_s: float) -> tuple[int, str]:
    with pytest.raises(HeadgateError) as error:
        serve(Place(), make, "gate ready", 5.0, retry_s)
    return int(exit_code_of(error.value)), str(error.value)


def test_a_log_that_is_not_there_at_the_start_is_the_users_to_look_at() -> None:
    services = Services(LOST, ready=False)
    assert code_of(services, 30.0) == (ExitCode.USER_ERROR, str(LOST))
    assert services.made == 1


def test_a_log_that_is_lost_is_tried_again_and_then_is_no_user_error() -> None:
    services = Services(LOST)
    code, said = code_of(services, 0.5)
    assert (code, "the log was lost for 0.5 s: the broker is gone" in said) == (ExitCode.BROKEN, True)
    assert services.made > 1


def test_a_log_that_comes_back_is_gone_on_with(capsys: pytest.CaptureFixture[str]) -> None:
    services = Services(LOST, LOST, None)
    serve(Place(), services, "gate ready", 5.0, 30.0)
    assert services.made == 3
    assert capsys.readouterr().out == "gate ready\n"


@pytest.mark.parametrize(
    ("error", "code"), [(UserError("wrong"), ExitCode.USER_ERROR), (DeliveryFailed("no"), ExitCode.BROKEN)]
)
def test_what_trying_again_cannot_help_ends_it_at_once(error: HeadgateError, code: ExitCode) -> None:
    services = Services(error)
    assert code_of(services, 30.0) == (code, str(error))
    assert services.made == 1


def test_a_log_that_is_lost_while_stopping_is_no_user_error() -> None:
    ready = threading.Event()

    def run(stop: threading.Event) -> None:
        ready.set()
        stop.wait(10)
        raise LOST

    def make() -> Service:
        return Service("gate", run, ready)

    import os
    import signal

    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    code, said = code_of(make, 30.0)
    assert (code, "while stopping" in said) == (ExitCode.BROKEN, True)
    assert issubclass(LogLost, HeadgateError)
