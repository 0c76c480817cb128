"""SCRAM as the standard has it, and when a client's material counts as changed."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from pydantic import SecretStr

from headgate_graphs.errors import LogUnavailable, UserError
from headgate_streams.kafka.clients import Troubles, metadata
from headgate_streams.kafka.material import Held, Material
from headgate_streams.kafka.scram import ScramLogin
from headgate_streams.kafka.wire import Answer, text
from headgate_streams.security import KafkaSecurity

NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> ScramLogin:
    monkeypatch.setattr("headgate_streams.kafka.scram.secrets.token_urlsafe", lambda _: NONCE)
    return ScramLogin("SCRAM-SHA-256", "user", "pencil")


def test_exchange_is_the_one_of_rfc_7677(login: ScramLogin) -> None:
    assert login.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert login.final(SERVER_FIRST) == CLIENT_FINAL
    login.check(SERVER_FINAL)


@pytest.mark.parametrize(
    "answer", [b"v=AAAA", b"e=other-error", b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", b"v=%%"]
)
def test_server_that_does_not_know_the_password_is_refused(login: ScramLogin, answer: bytes) -> None:
    login.final(SERVER_FIRST)
    with pytest.raises(LogUnavailable):
        login.check(answer)


@pytest.mark.parametrize(
    "first",
    [
        b"r=other,s=AAAA,i=4096",
        b"",
        SERVER_FIRST.replace(b"4096", b"999999999"),
        b"r=x",
        SERVER_FIRST.replace(b"4096", b"x"),
        SERVER_FIRST.replace(b"W22Z", b"%\xff"),
    ],
)
def test_server_that_answers_something_else_is_refused(login: ScramLogin, first: bytes) -> None:
    with pytest.raises(LogUnavailable):
        login.final(first)


def test_name_is_escaped() -> None:
    assert ScramLogin("SCRAM-SHA-512", "a=b,c", "x").first().startswith(b"n,,n=a=3Db=2Cc,r=")


def test_answers_are_read_in_order() -> None:
    answer = Answer(b"\x00\x07" + text("abc") + text(None) + b"\x00\x00\x00\x02xy")
    assert (answer.number("h"), answer.text(), answer.text(), answer.content()) == (7, "abc", None, b"xy")


# Material ------------------------------------------------------------------------------------------------


class FakeClient:
    """What `Held` needs of a client; `refused` says whether a new one reaches a broker."""

    refused: KafkaError | None = None
    broken = False

    def __init__(self, configuration: Mapping[str, Any], logger: logging.Logger) -> None:
        if self.broken:
            raise KafkaException(KafkaError(KafkaError._INVALID_ARG, "ssl.ca.location failed"))
        self.configuration = dict(configuration)
        self.credentials: list[tuple[str, str]] = []

    def set_sasl_credentials(self, username: str, password: str) -> None:
        self.credentials.append((username, password))

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> Any:
        if self.refused is not None:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return object()

    def poll(self, timeout: float = -1) -> int:
        for _ in range(2):
            self.configuration["error_cb"](self.refused)
        return 0


class Files:
    """A password and an authority in files, whose change is seen at every look."""

    def __init__(self, folder: Path) -> None:
        self.password, self.ca = folder / "password", folder / "ca"
        self.password.write_text("first")
        self.ca.write_text("PEM")
        self.material = Material("broker:1", {"x": "y"}, self.security)

    @property
    def security(self) -> KafkaSecurity:
        return KafkaSecurity(
            "SASL_SSL", username="joe", password_file=self.password, ca_file=self.ca, reload_s=0.0
        )

    def replace(self, path: Path, content: str) -> None:
        """Put another file in place, as secrets are swapped."""
        beside = path.with_suffix(".new")
        beside.write_text(content)
        os.utime(beside, ns=(1, path.stat().st_mtime_ns + 1))
        beside.replace(path)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_given_options_win_and_the_newest_password_is_used(files: Files) -> None:
    assert files.material.options()["sasl.password"] == "first"
    files.replace(files.password, "second")
    files.material.look()
    assert files.material.options()["sasl.password"] == "second"
    assert Material("b", {"sasl.password": "given"}, files.security).options()["sasl.password"] == "given"


def test_new_password_goes_to_the_client_there_is(files: Files) -> None:
    held: Held[FakeClient] = Held(FakeClient, {}, files.material)
    assert not held.is_stale()
    files.replace(files.password, "second")
    assert not held.is_stale()
    assert held.client.credentials == [("joe", "second")]
    assert not held.is_stale()
    assert len(held.client.credentials) == 1


def test_password_file_that_is_gone_for_a_moment_changes_nothing(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    held: Held[FakeClient] = Held(FakeClient, {}, files.material)
    files.password.unlink()
    assert not held.is_stale()
    assert held.client.credentials == []
    assert "the password is kept" in caplog.text
    assert "first" not in caplog.text


def test_changed_authority_asks_for_another_client_once(files: Files) -> None:
    held: Held[FakeClient] = Held(FakeClient, {"a": "b"}, files.material)
    files.replace(files.ca, "PEM 2")
    assert held.is_stale()
    made = held.successor()
    assert made is not None
    assert (made.configuration["a"], made.configuration["x"]) == ("b", "y")
    assert not held.is_stale()


def test_unchanged_files_are_not_read_again_before_it_is_time(tmp_path: Path) -> None:
    files = Files(tmp_path)
    slow = KafkaSecurity("SASL_SSL", username="joe", password_file=files.password, reload_s=3600)
    material = Material("broker:1", {}, slow)
    files.replace(files.password, "second")
    material.look()
    assert material.password == "first"


@pytest.mark.parametrize("how", ["broken", "refused"])
def test_client_that_is_of_no_use_leaves_the_old_one(
    files: Files, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    held: Held[FakeClient] = Held(FakeClient, {}, files.material)
    files.replace(files.ca, "PEM 2")
    monkeypatch.setattr(FakeClient, how, KafkaError(KafkaError._SSL, "certificate verify failed"))
    assert held.is_stale()
    assert held.successor() is None
    assert "the old connection is kept" in caplog.text
    monkeypatch.setattr(FakeClient, how, None)
    assert held.is_stale()
    assert held.successor() is not None


# What the broker refuses -----------------------------------------------------------------------------------


def troubled(*errors: KafkaError) -> Troubles:
    security = KafkaSecurity("SASL_PLAINTEXT", username="joe", password=SecretStr("hush"))
    made = Troubles("broker:1", security)
    for error in errors:
        made(error)
    return made


LOGIN = KafkaError(KafkaError._AUTHENTICATION, "SASL authentication error")


def test_broker_that_refuses_twice_has_answered() -> None:
    assert troubled(LOGIN).refusal() is None
    said = str(troubled(LOGIN, LOGIN).refusal())
    assert "refuses user 'joe'" in said
    assert "hush" not in said
    assert troubled(LOGIN, LOGIN).refusal(for_s=60) is None


def test_refusal_is_told_before_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeClient, "refused", LOGIN)
    troubles = troubled()
    client = FakeClient({"error_cb": troubles}, logging.getLogger())
    with pytest.raises(LogUnavailable, match="refuses user"):
        metadata(client, troubles, "to a test", timeout_s=3600)


def test_file_that_cannot_be_read_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone"):
        Material("b", {}, KafkaSecurity("SSL", ca_file=tmp_path / "gone"))
