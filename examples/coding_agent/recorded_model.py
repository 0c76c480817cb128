"""A model server that only plays recorded answers: no model is called, and every answer says so.

It speaks the HTTP protocol of OpenAI-compatible endpoints, streaming and not, so that the agent uses the same
client code as with a real one. Which answer it plays depends on the words of the request and on nothing else.
By hand: `python recorded_model.py --port 8555`, then `export OPENAI_BASE_URL=http://127.0.0.1:8555/v1`.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

RECORDING = json.loads(Path(__file__).with_name("recorded_answers.json").read_text(encoding="utf-8"))
MODEL: str = RECORDING["model"]
"""Name that every answer carries; what follows `recorded/` is the model at whose price it is billed."""
WORDS_A_CHUNK = 4

log = logging.getLogger("recorded_model")


class RecordedModel(ThreadingHTTPServer):
    """The server; `calls` counts each answer that was asked for, by name, also at GET /calls."""

    daemon_threads = True

    def __init__(self, port: int = 0, pause_s: float = 0.0) -> None:
        """Listen on 127.0.0.1 at `port`, or at a free one; wait `pause_s` between two streamed chunks."""
        super().__init__(("127.0.0.1", port), _Requests)
        self.pause_s = pause_s
        self.calls: list[str] = []

    @property
    def url(self) -> str:
        """What to give as OPENAI_BASE_URL."""
        return f"http://127.0.0.1:{self.server_port}/v1"

    def start(self) -> RecordedModel:
        """Serve in a thread that ends with the process."""
        threading.Thread(target=self.serve_forever, args=(0.05,), name="recorded-model", daemon=True).start()
        return self


@functools.cache
def in_this_process() -> RecordedModel:
    """Return the server of this process, started when first asked for."""
    server = RecordedModel().start()
    log.warning("RECORDED ANSWERS from %s: no model is called. Set OPENAI_BASE_URL to use one.", server.url)
    return server


def recorded_answer(request: dict[str, Any]) -> dict[str, Any] | None:
    """Return the first recorded answer all of whose words are in the request; None when there is none."""
    text = "\n".join(message["content"] for message in request["messages"])
    return next((each for each in RECORDING["answers"] if all(words in text for words in each["has"])), None)


class _Requests(BaseHTTPRequestHandler):
    server: RecordedModel
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/calls":
            self._json(200, {"calls": self.server.calls})
        else:
            self._json(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        recorded = recorded_answer(request)
        if recorded is None:
            self._json(
                404, {"error": {"message": "nothing like this was recorded: a real endpoint is needed"}}
            )
            return
        self.server.calls.append(recorded["name"])
        log.info("call %d plays the recorded answer %r", len(self.server.calls), recorded["name"])
        if request.get("stream"):
            self._stream(recorded)
        else:
            message = {"role": "assistant", "content": json.dumps(recorded["answer"])}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._json(200, _body("chat.completion", [choice], _usage(recorded)))

    def _stream(self, recorded: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for body in _chunks(recorded):
            self.wfile.write(b"data: " + json.dumps(body).encode() + b"\n\n")
            self.wfile.flush()
            time.sleep(self.server.pause_s)
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _json(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client was cancelled in the middle of an answer
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)


def _chunks(recorded: dict[str, Any]) -> Iterator[dict[str, Any]]:
    words = json.dumps(recorded["answer"]).split(" ")
    for start in range(0, len(words), WORDS_A_CHUNK):
        text = " ".join(words[start : start + WORDS_A_CHUNK]) + (
            " " if start + WORDS_A_CHUNK < len(words) else ""
        )
        choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
        yield _body("chat.completion.chunk", [choice], None)
    yield _body("chat.completion.chunk", [{"index": 0, "delta": {}, "finish_reason": "stop"}], None)
    yield _body("chat.completion.chunk", [], _usage(recorded))


def _usage(recorded: dict[str, Any]) -> dict[str, int]:
    usage: dict[str, int] = recorded["usage"]
    return usage | {"total_tokens": usage["prompt_tokens"] + usage["completion_tokens"]}


def _body(kind: str, choices: list[dict[str, Any]], usage: dict[str, int] | None) -> dict[str, Any]:
    return {
        "id": "recorded",
        "object": kind,
        "created": int(time.time()),
        "model": MODEL,
        "choices": choices,
        "usage": usage,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve recorded answers as an OpenAI-compatible endpoint.")
    parser.add_argument("--port", type=int, default=8555, help="0 for a free one")
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between two streamed chunks")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    server = RecordedModel(arguments.port, arguments.pause)
    print(f"RECORDED ANSWERS, no model is called: export OPENAI_BASE_URL={server.url}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
