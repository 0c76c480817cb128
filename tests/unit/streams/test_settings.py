from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from headgate_graphs.errors import UserError
from headgate_streams.blobs import FileBlobStore, MemoryBlobStore
from headgate_streams.kafka_log import KafkaLog
from headgate_streams.local_log import LocalLog
from headgate_streams.opening import open_blob_store, open_log
from headgate_streams.s3_blobs import S3BlobStore
from headgate_streams.settings import MEMORY, StreamSettings


def test_environment_is_read_and_what_is_given_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_KAFKA", "broker:9092")
    monkeypatch.setenv("HEADGATE_PARTITIONS", "4")
    monkeypatch.setenv("HEADGATE_KAFKA_OPTIONS", '{"security.protocol": "SASL_SSL"}')
    monkeypatch.setenv("HEADGATE_BLOB_URL", "")
    settings = StreamSettings.read(partitions=8, local=None)
    assert (settings.kafka, settings.partitions, settings.blob_url) == ("broker:9092", 8, None)
    assert settings.kafka_options == {"security.protocol": "SASL_SSL"}
    assert settings.local == Path(".headgate")


@pytest.mark.parametrize(
    ("variable", "value", "field"),
    [
        ("HEADGATE_PARTITIONS", "many", "partitions"),
        ("HEADGATE_PARTITIONS", "0", "partitions"),
        ("HEADGATE_TOPIC_PREFIX", "a b", "topic_prefix"),
        ("HEADGATE_KAFKA_OPTIONS", "{", "kafka_options"),
    ],
)
def test_wrong_setting_is_the_users_error_in_one_line(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, field: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=field) as caught:
        StreamSettings.read()
    assert "\n" not in str(caught.value)


def test_secret_is_never_shown() -> None:
    settings = StreamSettings.read(s3_secret_access_key="hush-hush")
    assert "hush" not in repr(settings)
    assert "hush" not in settings.model_dump_json()


def test_settings_open_what_they_name(tmp_path: Path) -> None:
    embedded = open_log(StreamSettings(local=tmp_path / "deep" / "down"))
    assert isinstance(embedded, LocalLog)
    embedded.close()
    assert (tmp_path / "deep/down/log.sqlite3").exists()
    memory = open_log(StreamSettings(local=MEMORY))
    memory.close()
    assert isinstance(open_log(StreamSettings(kafka="127.0.0.1:1")), KafkaLog)


def test_blob_urls(tmp_path: Path) -> None:
    assert isinstance(open_blob_store(StreamSettings(local=MEMORY)), MemoryBlobStore)
    assert isinstance(open_blob_store(StreamSettings(local=tmp_path)), FileBlobStore)
    there = open_blob_store(StreamSettings(blob_url=f"file://{tmp_path}/there"))
    there.put("a/b", b"1")
    assert (tmp_path / "there/a/b").read_bytes() == b"1"
    bucket = open_blob_store(
        StreamSettings(blob_url="s3://bucket/pre/fix", s3_endpoint_url="http://127.0.0.1:1")
    )
    assert isinstance(bucket, S3BlobStore)
    bucket.close()


@pytest.mark.parametrize("url", ["http://x/y", "s3:///x", "file://host/dir", "nonsense", "file://"])
def test_other_blob_urls_are_refused(url: str) -> None:
    with pytest.raises(UserError, match="blob_url"):
        open_blob_store(StreamSettings(blob_url=url))


def test_embedded_log_does_not_load_the_kafka_client_or_boto3() -> None:
    script = (
        "import sys; from headgate_streams.settings import *; from headgate_streams.opening import *;"
        "s = StreamSettings(local=MEMORY); open_log(s).close(); open_blob_store(s);"
        "print([m for m in ('confluent_kafka', 'boto3') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("point", "code"), [("after-commit", 137), ("elsewhere", 0)])
def test_crash_point_ends_the_process_only_where_it_is_named(point: str, code: int) -> None:
    script = "from headgate_streams.crash import crash_point; crash_point('after-commit')"
    done = subprocess.run(
        [sys.executable, "-c", script], env={"HEADGATE_CRASH_AT": point}, timeout=60, check=False
    )
    assert done.returncode == code


@pytest.mark.parametrize(("point", "code"), [("after-commit", 137), ("elsewhere", 0)])
def test_a_crash_point_that_a_file_comes_to_name_ends_the_process_once(
    tmp_path: Path, point: str, code: int
) -> None:
    named = tmp_path / "crash"
    script = (
        "from pathlib import Path; from headgate_streams.crash import crash_point;"
        f"crash_point('after-commit'); Path({str(named)!r}).write_text({point!r});"
        "crash_point('after-commit')"
    )
    env = {"HEADGATE_CRASH_FILE": str(named)}
    done = subprocess.run([sys.executable, "-c", script], env=env, timeout=60, check=False)
    assert done.returncode == code
    assert named.exists() == (code == 0), "who died has taken it along"
