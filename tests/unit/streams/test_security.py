"""The settings of the connection are one group: what does not fit together is one line without a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headgate.settings import open_settings
from headgate_graphs.errors import UserError
from headgate_streams.security import KafkaSecurity
from headgate_streams.settings import StreamSettings, environment

SECRET = "hush-hush-4711"
SASL = {"kafka_security_protocol": "SASL_SSL", "kafka_username": "joe", "kafka_password": SECRET}


def read(**given: Any) -> StreamSettings:
    return StreamSettings.read(kafka="broker:9092", **given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kafka_password": SECRET}, "a password without kafka_username"),
        ({"kafka_password_file": "x"}, "a password without kafka_username"),
        ({"kafka_username": "joe", "kafka_password": SECRET}, "never sent over PLAINTEXT"),
        ({"kafka_username": "joe", "kafka_security_protocol": "SSL"}, "never sent over SSL"),
        ({"kafka_security_protocol": "SASL_SSL"}, "kafka_username is needed"),
        (
            {"kafka_security_protocol": "SASL_SSL", "kafka_username": "joe"},
            "kafka_username needs kafka_password",
        ),
        ({**SASL, "kafka_password_file": "x"}, "exclude each other"),
        ({**SASL, "kafka_cert_file": "x"}, "belong together"),
        ({**SASL, "kafka_key_file": "x"}, "belong together"),
        ({**SASL, "kafka_key_password": SECRET}, "kafka_key_password without kafka_key_file"),
        ({"kafka_ca_file": "x"}, "kafka_ca_file without TLS: set kafka_security_protocol to SSL"),
        ({**SASL, "kafka_security_protocol": "SASL_PLAINTEXT", "kafka_ca_file": "x"}, "to SASL_SSL"),
        ({"kafka_security_protocol": "TLS"}, "kafka_security_protocol"),
        ({**SASL, "kafka_sasl_mechanism": "GSSAPI"}, "kafka_sasl_mechanism"),
        ({**SASL, "kafka_reload_s": 0}, "kafka_reload_s"),
    ],
)
def test_what_does_not_fit_together_is_one_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        read(**given)
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_no_broker_no_faults() -> None:
    assert StreamSettings.read(kafka_password=SECRET).security.password is not None


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(**SASL, kafka_key_file="k", kafka_cert_file="c", kafka_key_password=SECRET)
    shown = f"{settings!r} {settings} {settings.model_dump_json()} {settings.security!r}"
    assert SECRET not in shown
    for name in ("HEADGATE_KAFKA_PASSWORD", "HEADGATE_KAFKA_RELOAD_S", "HEADGATE_KAFKA_SECURITY_PROTOCOL"):
        monkeypatch.setenv(name, SECRET)
    with pytest.raises(UserError) as caught:
        open_settings({"kafka": "broker:9092"})
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in str(error)
        error = error.__cause__


def test_options_of_the_client_are_made_from_the_group(tmp_path: Path) -> None:
    for name in ("ca", "cert", "key"):
        (tmp_path / name).write_text("PEM")
    files: dict[str, Any] = {f"kafka_{name}_file": tmp_path / name for name in ("ca", "cert", "key")}
    assert read(**SASL, **files, kafka_key_password="k").security.options() == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "joe",
        "sasl.password": SECRET,
        "ssl.ca.location": str(tmp_path / "ca"),
        "ssl.certificate.location": str(tmp_path / "cert"),
        "ssl.key.location": str(tmp_path / "key"),
        "ssl.key.password": "k",
    }
    assert KafkaSecurity().options() == {}


@pytest.mark.parametrize("content", ["", "\n", "two\nlines", "a\x00b", "x" * 5000])
def test_file_that_holds_no_password_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "password").write_text(content)
    security = KafkaSecurity("SASL_SSL", username="joe", password_file=tmp_path / "password")
    with pytest.raises(UserError, match="does not hold one line") as caught:
        security.options()
    assert "lines" not in str(caught.value)


@pytest.mark.parametrize("content", ["pass word", "pass word\n", "pass word\r\n"])
def test_file_may_end_with_its_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "password").write_bytes(content.encode())
    security = KafkaSecurity("SASL_SSL", username="joe", password_file=tmp_path / "password")
    assert security.current_password() == "pass word"


def test_missing_files_are_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    for security in (
        KafkaSecurity("SASL_SSL", username="joe", password_file=gone),
        KafkaSecurity("SSL", ca_file=gone),
        KafkaSecurity("SSL", ca_file=tmp_path),
    ):
        with pytest.raises(UserError, match=str(tmp_path)):
            security.options()


@pytest.mark.parametrize("name", ["HEADGATE_KAFKA_PASSWORD", "headgate_kafka_password"])
def test_graph_cannot_name_the_workers_own_password(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("API_KEY", "for-the-model")
    assert environment(name) is None
    assert environment("API_KEY") == "for-the-model"


# Placement -----------------------------------------------------------------------------------------------


def test_dedicated_tenant_has_topics_and_groups_of_its_own() -> None:
    topics = StreamSettings(topic_prefix="hg", placement="acme").topics()
    assert topics.executions == "hg.acme.executions"
    assert topics.task_inputs("gpu") == "hg.acme.task-inputs.gpu"
    assert topics.gate_group == "hg.acme.gate"
    assert topics.workers_group("plan", "gpu") == "hg.acme.plan-workers.gpu"
    assert StreamSettings(topic_prefix="hg").topics().workers_group("task") == "hg.task-workers"


@pytest.mark.parametrize(
    "name", ["executions", "task-inputs", "plan-inputs", "gate", "task-workers", "dead-letters", "A", "a.b"]
)
def test_name_that_would_mix_with_the_shared_topics_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="placement"):
        StreamSettings.read(placement=name)


def test_placement_speaks_for_its_tenant_alone() -> None:
    assert open_settings({"placement": "acme"}).tenant == "acme"
    assert open_settings({"placement": "acme", "tenant": "acme"}).tenant == "acme"
    assert open_settings({"tenant": "acme"}).placement == "shared"
    with pytest.raises(UserError, match="acme is that tenant's alone"):
        open_settings({"placement": "acme", "tenant": "other"})
