"""The recorded model speaks the protocol that the openai client expects, and says that it is recorded."""

from __future__ import annotations

import json

import httpx
import openai
import pytest

ISSUE = "A shared bill loses cents"


@pytest.fixture
def client(recorded):
    with openai.OpenAI(base_url=recorded.url, api_key="none", max_retries=0) as client:
        yield client


def _ask(client: openai.OpenAI, words: str, **more):
    return client.chat.completions.create(model="any", messages=[{"role": "user", "content": words}], **more)


def test_an_answer_carries_the_recorded_name_and_usage(client):
    answer = _ask(client, f"look_for {ISSUE}")
    assert answer.model == "recorded/gpt-4.1-mini"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert json.loads(answer.choices[0].message.content)["look_for"]


def test_a_streamed_answer_is_the_same_with_its_usage_in_the_last_chunk(client):
    whole = _ask(client, f"edits {ISSUE}")
    chunks = list(_ask(client, f"edits {ISSUE}", stream=True, stream_options={"include_usage": True}))
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].message.content
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].usage == whole.usage


def test_the_second_answer_comes_only_to_who_has_tried_the_first(client):
    first, second = (
        _ask(client, f"edits {ISSUE} {tried}").choices[0].message.content for tried in ("", "Already tried")
    )
    assert first != second


def test_what_was_not_recorded_is_refused(client):
    with pytest.raises(openai.NotFoundError, match="real endpoint"):
        _ask(client, "write a poem")


def test_the_server_counts_its_calls(client, recorded):
    _ask(client, f"look_for {ISSUE}")
    _ask(client, f"edits {ISSUE}")
    calls = httpx.get(recorded.url.removesuffix("/v1") + "/calls", trust_env=False).json()
    assert calls == {"calls": ["plan", "first patch"]}
