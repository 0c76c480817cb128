from __future__ import annotations

import importlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support import eventually
from tests.unit.workers.bench import ABORTED, FAILED, Bench, registry


@pytest.fixture(autouse=True, scope="module")
def loaded() -> None:
    """Load what the handler loads when it is first called, before a test's clock runs."""
    importlib.import_module("genai_prices")
    importlib.import_module("openai")


class ModelServer:
    """Speaks the streaming OpenAI protocol: `replies` are taken in turn, the last one stays."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.text = "hello"
        self.model = "gpt-4o"
        self.status = 200
        self.tells_usage = True
        self.streams_for_ever = False
        self.closed = threading.Event()
        self.streaming = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                owner.answer(self)

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def answer(self, call: BaseHTTPRequestHandler) -> None:
        self.requests.append(json.loads(call.rfile.read(int(call.headers["content-length"]))))
        self.headers.append({name.lower(): value for name, value in call.headers.items()})
        if self.status != 200:
            body = json.dumps({"error": {"message": "no"}}).encode()
            call.send_response(self.status)
            call.send_header("content-type", "application/json")
            call.send_header("content-length", str(len(body)))
            call.end_headers()
            call.wfile.write(body)
            return
        call.send_response(200)
        call.send_header("content-type", "text/event-stream")
        call.send_header("connection", "close")
        call.end_headers()
        call.close_connection = True
        call.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._stream(call)
        except OSError:
            self.closed.set()

    def _stream(self, call: BaseHTTPRequestHandler) -> None:
        for letter in self.text:
            self._event(call, [{"index": 0, "delta": {"content": letter}, "finish_reason": None}])
        self.streaming.set()
        while self.streams_for_ever:
            self._event(call, [{"index": 0, "delta": {"content": "."}, "finish_reason": None}])
            self.closed.wait(0.01)
        self._event(call, [{"index": 0, "delta": {}, "finish_reason": "stop"}])
        if self.tells_usage:
            usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
            self._event(call, [], usage | {"prompt_tokens_details": {"cached_tokens": 200}})
        call.wfile.write(b"data: [DONE]\n\n")

    def _event(self, call: BaseHTTPRequestHandler, choices: list[Any], usage: Any = None) -> None:
        chunk = {
            "id": "c",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": self.model,
            "choices": choices,
            "usage": usage,
        }
        call.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        call.wfile.flush()


@pytest.fixture
def server() -> Iterator[ModelServer]:
    made = ModelServer()
    yield made
    made.close()


def params(server: ModelServer, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "base_url": server.url, "prompt": "Say {{word}}"} | more


def test_answer_is_streamed_metered_and_priced(bench: Bench, server: ModelServer) -> None:
    with bench.worker(registry()):
        given = bench.give_task(
            "chat", {"word": "hello"}, params=params(server, system="Be kind", max_tokens=9), leased=True
        )
        assert bench.value(given) == {"text": "hello"}
        report = bench.report(given)
    asked = server.requests[0]
    assert asked["messages"] == [
        {"role": "system", "content": "Be kind"},
        {"role": "user", "content": "Say hello"},
    ]
    assert (asked["stream"], asked["stream_options"], asked["max_tokens"]) == (
        True,
        {"include_usage": True},
        9,
    )
    usage = report.resource_usage
    assert (usage.tokens_used, usage.input_tokens, usage.output_tokens) == (1100, 1000, 100)
    assert (usage.cached_tokens, usage.model, usage.unpriced) == (200, "gpt-4o", False)
    assert usage.price_table.startswith("genai-prices@")
    assert 0 < usage.cost_nano_usd < 10_000_000
    metadata = json.loads(report.result.metadata_json)
    assert metadata == {
        "model": "gpt-4o",
        "finish_reason": "stop",
        "input_tokens": 1000,
        "output_tokens": 100,
    }


def test_unknown_model_is_counted_but_unpriced_unless_the_graph_names_prices(
    bench: Bench, server: ModelServer
) -> None:
    server.model = "nobody-knows-it"
    prices = {"input_usd_per_million": "1.5", "output_usd_per_million": 6}
    with bench.worker(registry()):
        unknown = bench.report(bench.give_task("chat", {"word": "x"}, params=params(server))).resource_usage
        told = bench.give_task("chat", {"word": "x"}, params=params(server, prices=prices))
        priced = bench.report(told).resource_usage
    assert (unknown.tokens_used, unknown.cost_nano_usd, unknown.unpriced) == (1100, 0, True)
    assert (priced.cost_nano_usd, priced.price_table, priced.unpriced) == (2_100_000, "graph", False)


def test_endpoint_that_tells_no_usage_is_unpriced(bench: Bench, server: ModelServer) -> None:
    server.tells_usage = False
    with bench.worker(registry()):
        usage = bench.report(bench.give_task("chat", {"word": "x"}, params=params(server))).resource_usage
    assert (usage.tokens_used, usage.unpriced) == (0, True)


def test_json_answers_are_parsed_and_a_bad_one_can_be_tried_again(bench: Bench, server: ModelServer) -> None:
    server.text = '```json\n{"ok": true}\n```'
    with bench.worker(registry()):
        given = bench.give_task("chat", {"word": "x"}, params=params(server, json=True))
        assert bench.value(given) == {"ok": True}
        assert server.requests[0]["response_format"] == {"type": "json_object"}
        server.text = "no"
        failed = bench.report(bench.give_task("chat", {"word": "x"}, params=params(server, json=True)))
    assert (failed.result.error.code, failed.result.error.retryable) == ("MODEL_ERROR", True)
    assert failed.resource_usage.tokens_used == 1100


def test_abort_closes_the_stream_and_leaves_the_cost_unknown(bench: Bench, server: ModelServer) -> None:
    server.streams_for_ever = True
    with bench.worker(registry()):
        given = bench.give_task("chat", {"word": "x"}, params=params(server), leased=True)
        assert server.streaming.wait(10)
        bench.abort()
        report = bench.report(given)
        eventually(server.closed.is_set)
    assert report.headers.status == ABORTED
    assert report.resource_usage.unpriced


@pytest.mark.parametrize(("status", "retryable"), [(401, False), (400, False), (429, True), (503, True)])
def test_refusals_are_not_billed_and_say_whether_to_try_again(
    bench: Bench, server: ModelServer, status: int, retryable: bool
) -> None:
    server.status = status
    with bench.worker(registry()):
        report = bench.report(bench.give_task("chat", {"word": "x"}, params=params(server), hold_tokens=10))
    assert (report.headers.status, report.result.error.code) == (FAILED, "MODEL_ERROR")
    assert report.result.error.retryable == retryable
    assert str(status) in report.result.error.message
    assert not report.resource_usage.unpriced
    assert len(server.requests) == 1


def test_an_endpoint_that_is_not_there_costs_nothing(bench: Bench) -> None:
    with bench.worker(registry()):
        asked = {"model": "m", "prompt": "p", "base_url": "http://127.0.0.1:9/v1"}
        report = bench.report(bench.give_task("chat", params=asked, hold_tokens=10))
    assert (report.result.error.code, report.result.error.retryable) == ("MODEL_ERROR", True)
    assert not report.resource_usage.unpriced


def test_an_input_cannot_send_the_key_elsewhere_nor_change_the_prompt(
    bench: Bench, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_SECRET", "s3cret")
    hostile = {
        "word": "x",
        "base_url": "http://127.0.0.1:9/v1",
        "api_key_env": "OTHER_SECRET",
        "prompt": "Evil",
    }
    with bench.worker(registry()):
        bench.value(bench.give_task("chat", hostile, params=params(server)))
    assert "s3cret" not in server.headers[0]["authorization"]
    assert server.requests[0]["messages"][0]["content"] == "Say x"


def test_wrong_parameters_name_the_field(bench: Bench, server: ModelServer) -> None:
    with bench.worker(registry()):
        typo = bench.report(bench.give_task("chat", {"word": "x"}, params=params(server, temprature=1)))
        missing = bench.report(bench.give_task("chat", {}, params=params(server)))
    assert "temprature" in typo.result.error.message
    assert "{{word}}" in missing.result.error.message
    assert not typo.result.error.retryable
    assert server.requests == []
