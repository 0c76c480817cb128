"""The task type `http`: one HTTP request."""

from __future__ import annotations

import re
from typing import Any

import httpx
from pydantic import Field

from headgate_graphs.errors import HandlerFailed, NonRetryable
from headgate_graphs.model import NodeKind
from headgate_streams.settings import environment
from headgate_workers.context import TaskContext
from headgate_workers.handlers import Handler
from headgate_workers.ready.options import Options, options
from headgate_workers.results import Result
from headgate_workers.secrets import remember_secret

_WORTH_A_RETRY = frozenset({408, 425, 429})
FROM_GRAPH_ONLY = frozenset({"headers_env", "max_bytes", "follow_redirects", "fail_on_status"})
"""An input may not say which secrets are sent, nor loosen what the graph's author set."""


class HttpFailed(HandlerFailed):
    """The server did not answer, or answered that another try may help."""

    code = "HTTP_ERROR"


class HttpRefused(NonRetryable):
    """The server refused for a reason that stays."""

    code = "HTTP_ERROR"


class HttpOptions(Options):
    """Parameters of an `http` task."""

    url: str = Field(pattern=r"^https?://")
    method: str = Field(default="GET", pattern=r"^[A-Z]{1,16}$")
    headers: dict[str, str] = Field(default_factory=dict)
    headers_env: dict[str, str] = Field(default_factory=dict)
    """Headers whose value is in an environment variable, by header; with them the graph states the host."""
    query: dict[str, Any] = Field(default_factory=dict)
    json_body: Any = Field(default=None, alias="json")
    """A body that is sent as JSON; in place of `body`."""
    body: str | None = None
    max_bytes: int = Field(default=10 * 1024 * 1024, ge=1)
    """The largest answer that is read (default 10 MiB)."""
    follow_redirects: bool = False
    fail_on_status: bool = True
    """Whether an answer of 400 or more is a failure; else it is a result like any other."""


async def http(ctx: TaskContext) -> Result:
    """Return {"status", "headers", "json" or "text"}; metadata carries the status."""
    asked = options(ctx, HttpOptions, FROM_GRAPH_ONLY)
    headers = {"Idempotency-Key": ctx.idempotency_key, **asked.headers, **_secrets(ctx, asked)}
    client = ctx.shared.get(httpx.AsyncClient, _client)
    try:
        async with client.stream(
            asked.method,
            asked.url,
            headers=headers,
            params=asked.query or None,
            json=asked.json_body,
            content=asked.body,
            follow_redirects=asked.follow_redirects,
        ) as response:
            content = await _read(response, asked.max_bytes)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise HttpRefused(f"{asked.method} {_shown(asked.url)}: {error}") from error
    except httpx.HTTPError as error:
        raise HttpFailed(f"{asked.method} {_shown(asked.url)}: {type(error).__name__}: {error}") from error
    if asked.fail_on_status and response.status_code >= 400:
        kind = (
            HttpFailed
            if response.status_code in _WORTH_A_RETRY or response.status_code >= 500
            else HttpRefused
        )
        raise kind(f"{asked.method} {_shown(asked.url)}: status {response.status_code}: {content[:500]!a}")
    answer = {"status": response.status_code, "headers": dict(response.headers), **_body(response, content)}
    return Result(answer, {"status": response.status_code})


def _client() -> httpx.AsyncClient:
    # The run's own time limit holds for the whole request.
    return httpx.AsyncClient(timeout=httpx.Timeout(None))


def _secrets(ctx: TaskContext, asked: HttpOptions) -> dict[str, str]:
    if asked.headers_env and "{{" in _server(str(ctx.params.get("url", "{{"))):
        raise NonRetryable(
            "headers_env needs a url whose host the graph states, so that no input redirects a secret"
        )
    found = {}
    for header, variable in asked.headers_env.items():
        value = environment(variable)
        if value is None:
            raise NonRetryable(f"header {header} needs the environment variable {variable}")
        remember_secret(value)
        found[header] = value
    return found


def _server(url: str) -> str:
    """Return what stands between the scheme and the first of / ? # in a URL."""
    return re.split(r"[/?#\\]", url.partition("://")[2] or url, maxsplit=1)[0]


async def _read(response: httpx.Response, max_bytes: int) -> bytes:
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part
        if len(content) > max_bytes:
            raise HttpRefused(f"the answer of {_shown(str(response.url))} is larger than {max_bytes} bytes")
    return bytes(content)


def _body(response: httpx.Response, content: bytes) -> dict[str, Any]:
    text = content.decode(response.charset_encoding or "utf-8", "replace")
    if "json" in response.headers.get("content-type", ""):
        try:
            return {"json": httpx.Response(200, content=content).json()}
        except ValueError:
            pass  # it says JSON and is not: the text shows what it is
    return {"text": text}


def _shown(url: str) -> str:
    """Return the URL without what may be secret: user, query and fragment."""
    return str(httpx.URL(url).copy_with(userinfo=b"", query=None, fragment=None))[:200]


HTTP = Handler(NodeKind.TASK, "http", http)
