"""How the agent asks its model: any OpenAI-compatible endpoint, or recorded answers when none is named.

OPENAI_BASE_URL, OPENAI_API_KEY and HEADGATE_EXAMPLE_MODEL say which. Tokens and money go to `ctx.usage`,
where the gate finds them.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

import recorded_model

from headgate import NonRetryable, PlanContext, TaskContext, UserError

try:
    import openai
    from genai_prices import Usage, __version__, calc_price
    from openai.types import CompletionUsage
except ImportError as missing:
    raise UserError(f"the coding agent needs {missing.name}: pip install 'headgate[llm]' pytest") from missing

MAX_PROMPT_CHARS = 24_000
"""With MAX_ANSWER_TOKENS, what keeps one call below the limits that graph.yaml reserves for it."""
MAX_ANSWER_TOKENS = 2_000
OPENAI = "https://api.openai.com/v1"
RETRYABLE = {408, 409, 429, 500, 502, 503, 504}


class Endpoint(NamedTuple):
    """Where the model is."""

    url: str
    api_key: str
    model: str


def endpoint() -> Endpoint:
    """Return the endpoint that the environment names, or the recorded one."""
    url, key = os.environ.get("OPENAI_BASE_URL"), os.environ.get("OPENAI_API_KEY")
    if url or key:
        model = os.environ.get("HEADGATE_EXAMPLE_MODEL") or "gpt-4.1-mini"
        return Endpoint(url or OPENAI, key or "none", model)
    return Endpoint(recorded_model.in_this_process().url, "none", recorded_model.MODEL)


async def ask(ctx: TaskContext | PlanContext, system: str, prompt: str) -> tuple[dict[str, Any], str]:
    """Return the model's answer, a JSON object, and the name of the model that gave it."""
    url, key, model = endpoint()
    client = ctx.shared.get(("openai", url), lambda: _client(url, key))
    try:
        with (
            ctx.usage.call()
        ):  # until it is left in peace, the cost is unknown and counts as what was reserved
            text, model = await _answer(ctx, client, _request(model, system, prompt))
    except openai.APIConnectionError as unreachable:
        raise ConnectionError(f"{model} at {url} cannot be reached: {unreachable.__cause__}") from unreachable
    except openai.APIStatusError as refused:
        ctx.usage.close_call()  # what is refused costs nothing
        kind = RuntimeError if refused.status_code in RETRYABLE else NonRetryable
        raise kind(f"{model} at {url}: {refused.message}") from refused
    try:
        return json.loads(text[text.index("{") : text.rindex("}") + 1]), model
    except ValueError as broken:
        raise ValueError(f"{model} did not answer with JSON: {text[:200]!r}") from broken


async def _answer(
    ctx: TaskContext | PlanContext, client: openai.AsyncOpenAI, request: dict[str, Any]
) -> tuple[str, str]:
    """Stream an answer, so that a cancelled execution stops paying; return it and the model that gave it."""
    text, model, usage = "", request["model"], None
    async with await client.chat.completions.create(**request) as stream:
        async for chunk in stream:
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
            model, usage = chunk.model or model, chunk.usage or usage
    _bill(ctx, model, usage)
    return text, model


def _client(url: str, key: str) -> openai.AsyncOpenAI:
    """Return a client that leaves retries to the gate, and asks no proxy for what is on this machine."""
    here = url.startswith(("http://127.0.0.1:", "http://localhost:"))
    http = openai.DefaultAsyncHttpxClient(trust_env=not here)
    return openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0, http_client=http)


def _request(model: str, system: str, prompt: str) -> dict[str, Any]:
    return {
        "model": model,
        "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": prompt[:MAX_PROMPT_CHARS]},
        ],
        "max_tokens": MAX_ANSWER_TOKENS,
        "response_format": {"type": "json_object"},
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _bill(ctx: TaskContext | PlanContext, model: str, used: CompletionUsage | None) -> None:
    """Add a call at its model's list price; a recorded answer costs what its model would have."""
    tokens = (used.prompt_tokens, used.completion_tokens) if used else (0, 0)
    try:
        usage = Usage(input_tokens=tokens[0], output_tokens=tokens[1])
        cost = calc_price(usage, model.removeprefix("recorded/")).total_price if used else None
    except LookupError:
        cost = None
    ctx.usage.add(
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        cost_usd=cost,
        model=model,
        price_table=f"genai-prices@{__version__}",
        unpriced=cost is None,  # the gate then settles at what it had reserved
    )
