"""Long-lived commands: what ends them, and with which exit code, when the log is lost."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest

from headgate.command import service as serving
from headgate.command.faults import ExitCode, exit_code_of
from headgate.command.place import Place
from headgate.command.service import serve
from headgate.embedding import Service
from headgate_graphs.errors import DeliveryFailed, HeadgateError, LogUnavailable, UserError

LOST = LogUnavailable("the broker is gone")


@pytest.fixture(autouse=True)
def announced(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once the ready line has been said; nothing is waited for between two tries."""
    said = threading.Event()
    say = serving._say_ready

    def say_ready(place: Place, service: Service, line: str) -> None:
        say(place, service, line)
        said.set()

    monkeypatch.setattr(serving, "AGAIN_S", 0.01)
    monkeypatch.setattr(serving, "_say_ready", say_ready)
    return said


class Services:
    """Makes services that are ready and then end as they are told, one after the other."""

    def __init__(self, *ends: HeadgateError | None, announced: threading.Event | None) -> None:
        self.ends = list(ends)
        self.made = 0
        self._announced = announced

    def __call__(self) -> Service:
        end = self.ends[min(self.made, len(self.ends) - 1)]
        self.made += 1
        ready = threading.Event()

        def run(stop: threading.Event) -> None:
            if self._announced is not None:
                ready.set()
                assert self._announced.wait(10)
            if end is not None:
                raise end
            stop.set()

        return Service("gate", run, ready)


def code_of(make: Callable[[], Service], retry_s: float) -> tuple[int, str]:
    with pytest.raises(HeadgateError) as error:
        serve(Place(), make, "gate ready", 5.0, retry_s)
    return int(exit_code_of(error.value)), str(error.value)


def test_a_log_that_is_not_there_at_the_start_is_the_users_to_look_at() -> None:
    services = Services(LOST, announced=None)
    assert code_of(services, 30.0) == (ExitCode.USER_ERROR, str(LOST))
    assert services.made == 1


def test_a_log_that_is_lost_is_tried_again_and_then_is_no_user_error(
    announced: threading.Event,
) -> None:
    services = Services(LOST, announced=announced)
    code, said = code_of(services, 0.5)
    assert (code, "the log was lost for 0.5 s: the broker is gone" in said) == (ExitCode.BROKEN, True)
    assert services.made > 1


def test_a_log_that_comes_back_is_gone_on_with(
    capsys: pytest.CaptureFixture[str], announced: threading.Event
) -> None:
    services = Services(LOST, LOST, None, announced=announced)
    serve(Place(), services, "gate ready", 5.0, 30.0)
    assert services.made == 3
    assert capsys.readouterr().out == "gate ready\n"


@pytest.mark.parametrize(
    ("error", "code"), [(UserError("wrong"), ExitCode.USER_ERROR), (DeliveryFailed("no"), ExitCode.BROKEN)]
)
def test_what_trying_again_cannot_help_ends_it_at_once(
    error: HeadgateError, code: ExitCode, announced: threading.Event
) -> None:
    services = Services(error, announced=announced)
    assert code_of(services, 30.0) == (code, str(error))
    assert services.made == 1


def test_a_log_that_is_lost_while_stopping_is_no_user_error(announced: threading.Event) -> None:
    ready = threading.Event()

    def run(stop: threading.Event) -> None:
        ready.set()
        assert announced.wait(10)
        os.kill(os.getpid(), signal.SIGTERM)  # serve has its own handler in place by now
        assert stop.wait(10)
        raise LOST

    code, said = code_of(lambda: Service("gate", run, ready), 30.0)
    assert (code, "while stopping" in said) == (ExitCode.BROKEN, True)
