from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.unit.workers.bench import Bench, registry


@pytest.fixture
def site() -> Iterator[tuple[str, list[Any]]]:
    """Answers /json, /text, /status/N and /large; notes what it was asked."""
    seen: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.command, self.path, dict(self.headers)))
            length = int(self.headers.get("content-length") or 0)
            seen.append(self.rfile.read(length))
            status = int(self.path.rsplit("/", 1)[1]) if "/status/" in self.path else 200
            body = b"x" * 5_000 if self.path == "/large" else json.dumps({"path": self.path}).encode()
            self.send_response(status)
            self.send_header("content-type", "text/plain" if self.path == "/text" else "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    thread.join(10)
    server.server_close()


def test_request_and_answer(
    bench: Bench, site: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, seen = site
    monkeypatch.setenv("SITE_TOKEN", "t0ken")
    params = {
        "url": url + "/json?a={{a}}",
        "method": "POST",
        "json": {"n": "{{n}}"},
        "headers_env": {"Authorization": "SITE_TOKEN"},
    }
    with bench.worker(registry()):
        given = bench.give_task("http", {"a": "b", "n": 5}, params=params)
        value = bench.value(given)
        text = bench.value(bench.give_task("http", params={"url": url + "/text"}))
    assert (value["status"], value["json"]) == (200, {"path": "/json?a=b"})
    assert text["text"] == '{"path": "/text"}'
    method, _, headers = seen[0]
    assert (method, headers["Authorization"], headers["Idempotency-Key"]) == ("POST", "t0ken", given)
    assert json.loads(seen[1]) == {"n": 5}


@pytest.mark.parametrize(("status", "retryable"), [(404, False), (429, True), (500, True)])
def test_status_says_whether_to_try_again(
    bench: Bench, site: tuple[str, list[Any]], status: int, retryable: bool
) -> None:
    url = f"{site[0]}/status/{status}"
    with bench.worker(registry()):
        error = bench.report(bench.give_task("http", params={"url": url})).result.error
        taken = bench.value(bench.give_task("http", params={"url": url, "fail_on_status": False}))
    assert (error.code, error.retryable) == ("HTTP_ERROR", retryable)
    assert taken["status"] == status


def test_answers_are_bounded_and_secrets_go_where_the_graph_says(
    bench: Bench, site: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITE_TOKEN", "t0ken")
    url, seen = site
    secret = {"headers_env": {"Authorization": "SITE_TOKEN"}}
    asked: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {"url": url + "/large", "max_bytes": 100}),
        ({"where": "elsewhere"}, {"url": url + "{{where}}"} | secret),
        ({"url": url + "/json"}, secret),
        ({}, {"url": "file:///etc/passwd"}),
    ]
    with bench.worker(registry()):
        errors = [bench.report(bench.give_task("http", i, params=p)).result.error for i, p in asked]
    assert [error.retryable for error in errors] == [False] * 4
    assert "larger than 100" in errors[0].message
    assert len(seen) == 2


def test_nobody_there_can_be_tried_again(bench: Bench) -> None:
    with bench.worker(registry()):
        params = {"url": "http://user:pw@127.0.0.1:9/x?key=1"}
        error = bench.report(bench.give_task("http", params=params)).result.error
    assert (error.code, error.retryable) == ("HTTP_ERROR", True)
    assert "pw" not in error.message
    assert "key=1" not in error.message
