"""How the agent asks its model: any OpenAI-compatible endpoint, or recorded answers when none is named.

OPENAI_BASE_URL, OPENAI_API_KEY and HEADGATE_EXAMPLE_MODEL say which. Tokens and money go to `ctx.usage`, where
the gate finds them.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

import recorded_model

from headgate import HandlerFailed, NonRetryable, PlanContext, TaskContext

try:
    import openai
    from genai_prices import Usage, calc_price
except ImportError as missing:
    raise NonRetryable(
        f"the coding agent needs {missing.name}: pip install 'headgate[llm]' pytest"
    ) from missing

MAX_PROMPT_CHARS = 24_000
"""With MAX_ANSWER_TOKENS, what keeps one call below the limits that graph.yaml reserves for it."""
MAX_ANSWER_TOKENS = 2_000


class Endpoint(NamedTuple):
    """Where the model is."""

    base_url: str | None
    api_key: str
    model: str


def endpoint() -> Endpoint:
    """Return the endpoint that the environment names, or the recorded one."""
    url, key = os.environ.get("OPENAI_BASE_URL"), os.environ.get("OPENAI_API_KEY")
    if url or key:
        return Endpoint(url, key or "none", os.environ.get("HEADGATE_EXAMPLE_MODEL", "gpt-4.1-mini"))
    return Endpoint(recorded_model.in_this_process().url, "none", recorded_model.MODEL)


async def ask(ctx: TaskContext | PlanContext, system: str, prompt: str) -> tuple[dict[str, Any], str]:
    """Return the model's answer, a JSON object, and the name of the model that gave it.

    The answer is streamed, so that a cancelled execution stops paying at once.
    """
    url, key, model = endpoint()
    request: dict[str, Any] = {
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
    text = ""
    async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:
        try:
            async for chunk in await client.chat.completions.create(**request):
                text += "".join(choice.delta.content or "" for choice in chunk.choices)
                model = chunk.model or model
                if chunk.usage:
                    _meter(ctx, model, chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
        except openai.APIStatusError as refused:
            error = (
                HandlerFailed if refused.status_code in (408, 409, 429, 500, 502, 503, 504) else NonRetryable
            )
            raise error(f"{url or 'OpenAI'} answered {refused.status_code}: {refused.message}") from refused
    try:
        answer = json.loads(text)
    except json.JSONDecodeError as broken:
        raise HandlerFailed(f"{model} did not answer with JSON: {text[:200]!r}") from broken
    return answer, model


def _meter(ctx: TaskContext | PlanContext, model: str, input_tokens: int, output_tokens: int) -> None:
    """Bill a call at the list price of its model; a recorded answer is billed as its model would be."""
    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    try:
        cost = calc_price(usage, model.removeprefix("recorded/")).total_price
    except LookupError:
        cost = None  # unknown price: the gate settles at what it reserved
    ctx.usage.add(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        tokens_used=input_tokens + output_tokens,
        cost_usd=cost,
        model=model,
    )
