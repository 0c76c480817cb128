"""The task type `chat`: one completion by any endpoint that speaks the OpenAI protocol, metered and priced.

The answer is streamed, so that an abort closes the connection and the provider stops writing. Needs the
extra `llm`.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pydantic import Field

from headgate_graphs.errors import HandlerFailed, NonRetryable
from headgate_graphs.model import NodeKind
from headgate_streams.settings import environment
from headgate_workers.context import TaskContext
from headgate_workers.handlers import Handler
from headgate_workers.ready.options import Options, options
from headgate_workers.ready.prices import Price, price_of
from headgate_workers.results import Result
from headgate_workers.secrets import remember_secret

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import CompletionUsage

_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?```\s*", re.DOTALL)
_WORTH_A_RETRY = frozenset({408, 409, 425, 429})
FROM_GRAPH_ONLY = frozenset({"base_url", "base_url_env", "api_key_env", "prices", "extra"})
"""An input may not say where the key goes or what the call costs."""


class ModelFailed(HandlerFailed):
    """The endpoint refused or broke off; another try may help."""

    code = "MODEL_ERROR"


class ModelRefused(NonRetryable):
    """The endpoint refused for a reason that stays."""

    code = "MODEL_ERROR"


class Prices(Options):
    """Prices of an endpoint that no public table knows."""

    input_usd_per_million: Decimal
    output_usd_per_million: Decimal


class ChatOptions(Options):
    """Parameters of a `chat` task."""

    model: str
    """Model name as the endpoint knows it."""
    prompt: str | None = None
    """What the user says; in place of `messages`."""
    system: str | None = None
    """What the system says, before the rest."""
    messages: list[dict[str, Any]] | None = None
    """The whole conversation, as the protocol has it."""
    base_url: str | None = None
    """Endpoint; none for the one in `base_url_env`, else OpenAI's own."""
    base_url_env: str = "OPENAI_BASE_URL"
    """Environment variable with the endpoint."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable with the key; the key itself never stands in a graph."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Most tokens the model may write."""
    temperature: float | None = None
    json_output: bool | dict[str, Any] = Field(default=False, alias="json")
    """True asks for a JSON object, a JSON Schema for one of that form; the value is then the parsed JSON."""
    prices: Prices | None = None
    """Prices to use in place of the public table."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the request body."""


async def chat(ctx: TaskContext) -> Result:
    """Return {"text": …}, or the parsed JSON; metadata carries model, finish_reason and token counts."""
    asked = options(ctx, ChatOptions, FROM_GRAPH_ONLY)
    request = _request(asked)
    client, base_url = _client(ctx, asked)
    with ctx.usage.call():
        text, finish_reason, model, usage = await _stream(ctx, client, request)
        _meter(ctx, asked, model or asked.model, base_url, usage)
    metadata: dict[str, Any] = {"model": model or asked.model, "finish_reason": finish_reason}
    if usage is not None:
        metadata |= {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens}
    return Result(_parsed(text) if asked.json_output else {"text": text}, metadata)


def _request(asked: ChatOptions) -> dict[str, Any]:
    if (asked.prompt is None) == (asked.messages is None):
        raise NonRetryable("a chat task needs either a prompt or messages")
    messages = asked.messages if asked.messages is not None else [{"role": "user", "content": asked.prompt}]
    if asked.system is not None:
        messages = [{"role": "system", "content": asked.system}, *messages]
    request: dict[str, Any] = {"model": asked.model, "messages": messages}
    if asked.max_tokens is not None:
        request["max_tokens"] = asked.max_tokens
    if asked.temperature is not None:
        request["temperature"] = asked.temperature
    if isinstance(asked.json_output, dict):
        schema = {"name": "answer", "schema": asked.json_output}
        request["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif asked.json_output:
        request["response_format"] = {"type": "json_object"}
    if asked.extra:
        request["extra_body"] = asked.extra
    return request


def _client(ctx: TaskContext, asked: ChatOptions) -> tuple[AsyncOpenAI, str]:
    try:
        from openai import AsyncOpenAI
    except ImportError:
        raise NonRetryable("chat needs the openai client: install headgate[llm]") from None
    base_url = asked.base_url or environment(asked.base_url_env)
    key = environment(asked.api_key_env)
    remember_secret(key)
    if key is None and base_url is None:
        raise NonRetryable(f"chat needs a key in {asked.api_key_env}, or a base_url")
    # Retries are the gate's: each is an attempt of its own, with its own hold.
    made = ctx.shared.get(
        (AsyncOpenAI, base_url, key),
        lambda: AsyncOpenAI(api_key=key or "none", base_url=base_url, max_retries=0, timeout=None),
    )
    return made, base_url or ""


async def _stream(
    ctx: TaskContext, client: AsyncOpenAI, request: dict[str, Any]
) -> tuple[str, str, str, CompletionUsage | None]:
    """Return text, finish reason, the model that answered, and the usage if the endpoint tells it."""
    import openai

    try:
        stream = await client.chat.completions.create(
            **request, stream=True, stream_options={"include_usage": True}
        )
    except openai.APITimeoutError as error:
        raise ModelFailed(f"the model did not answer in time: {error}") from error
    except openai.APIConnectionError as error:
        ctx.usage.close_call()  # never reached the model
        raise ModelFailed(f"the model cannot be reached: {error.__cause__ or error}") from error
    except openai.APIStatusError as error:
        ctx.usage.close_call()  # refused, not billed
        kind = (
            ModelFailed if error.status_code in _WORTH_A_RETRY or error.status_code >= 500 else ModelRefused
        )
        raise kind(f"the model answered {error.status_code}: {error.message}") from error
    parts: list[str] = []
    finish_reason, model, usage = "", "", None
    try:
        async with stream:
            async for chunk in stream:
                model = chunk.model or model
                usage = chunk.usage or usage  # the last chunk, which has no choices
                for choice in chunk.choices[:1]:
                    parts.append(choice.delta.content or "")
                    finish_reason = choice.finish_reason or finish_reason
    except (openai.APIError, json.JSONDecodeError) as error:
        raise ModelFailed(f"the answer broke off: {error}") from error
    return "".join(parts), finish_reason, model, usage


def _meter(
    ctx: TaskContext, asked: ChatOptions, model: str, base_url: str, usage: CompletionUsage | None
) -> None:
    if usage is None:
        ctx.usage.add(model=model, unpriced=True)
        return
    details = usage.prompt_tokens_details
    cached = (details.cached_tokens or 0) if details is not None else 0
    price = _price(asked, model, base_url, usage, cached)
    ctx.usage.add(
        tokens_used=usage.total_tokens or usage.prompt_tokens + usage.completion_tokens,
        cost_usd=price.cost_usd if price is not None else None,
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cached_tokens=cached,
        model=model,
        price_table=price.table if price is not None else "",
        unpriced=price is None,
    )


def _price(
    asked: ChatOptions, model: str, base_url: str, usage: CompletionUsage, cached: int
) -> Price | None:
    if asked.prices is not None:
        cost = (
            asked.prices.input_usd_per_million * usage.prompt_tokens
            + asked.prices.output_usd_per_million * usage.completion_tokens
        )
        return Price(cost / 1_000_000, "graph")
    return price_of(
        model,
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cached_tokens=cached,
        base_url=base_url,
    )


def _parsed(text: str) -> Any:
    fenced = _FENCE.fullmatch(text)
    try:
        return json.loads(fenced[1] if fenced is not None else text)
    except ValueError as error:
        raise ModelFailed(f"the model did not answer in JSON: {error}: {text[:200]!a}") from None


CHAT = Handler(NodeKind.TASK, "chat", chat)
