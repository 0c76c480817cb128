"""A research agent: a question goes in, a report that a person approved comes out.

         ┌→ by_title ───┐
    ask ─┼→ by_count ───┼─ 3 of 4 ─→ collect → draft → present → approve → judge → publish → end
         ├→ by_tf_idf ──┤                        ↑                          │
         └→ by_letters ─┘                        └───── a person said no ───┘

Which searches are enough, how long they may take and what happens to the slow one is said in graph.yaml, at
the join of `collect`; nothing here knows of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from searching import METHODS, Text, rarity_of, shelf, words

from headgate import Decision, NonRetryable, PlanContext, TaskContext, plan, task

HERE = Path(__file__).parent
SOURCES = 3
"""Texts that a draft is written from."""
SENTENCES = 4
"""Sentences of the first draft; each revision may have one more."""


class Request(BaseModel):
    """What a run is started with; every part has a default."""

    question: str = "How did sailors find their longitude at sea?"
    corpus: Path = HERE / "corpus"
    """A directory of texts, `*.txt`, each with its title in the first line."""
    workdir: Path = Path(".headgate/work")
    """Where drafts and report go, in a directory for each run; shared by all workers of it."""
    max_drafts: int = 3
    """How many drafts a person may be shown."""
    wait_s: dict[str, float] = {}
    """Seconds that a search waits before it begins, by its node: to see what the join makes of it."""


class Search(BaseModel):
    """One search: its method stands in the graph, the question comes from the plan."""

    method: Literal["title", "count", "tf_idf", "letters"]
    question: str
    wait_s: float = 0.0


class Brief(BaseModel):
    """What a draft is written from."""

    sources: list[str] = []
    wishes: list[str] = []
    """What a person missed in the drafts so far, in their own words."""


@plan
async def ask(ctx: PlanContext) -> Decision:
    """Send the question to every search at once."""
    request = _request(ctx)
    inputs: dict[str, dict[str, Any]] = {node: {"question": request.question} for node in ctx.allowed_next}
    for node in inputs.keys() & request.wait_s.keys():
        inputs[node]["wait_s"] = request.wait_s[node]
    return Decision(next=ctx.allowed_next, inputs=inputs)


@task
async def search(ctx: TaskContext, data: Search) -> dict[str, float]:
    """Return the texts that one method finds, best first; one that finds nothing has failed."""
    await asyncio.sleep(data.wait_s)
    found = METHODS[data.method](data.question, _shelf(ctx))
    if not found:
        raise NonRetryable(f"no text on the shelf answers by {data.method}")
    return found


@plan
async def collect(ctx: PlanContext) -> Decision:
    """Rank the texts by all searches that answered: a text counts 1 for a first place, 1/2 for a second, …"""
    votes: Counter[str] = Counter()
    for result in ctx.upstream:
        for place, name in enumerate(result.value or {}, start=1):
            votes[name] += 1 / place
    if not votes:
        raise NonRetryable(f"no search found anything for: {_request(ctx).question}")
    best = sorted(votes, key=lambda name: (-votes[name], name))[:SOURCES]
    searches = [result.node_id for result in ctx.upstream if result.success]
    return Decision(next=["draft"], output={"sources": best}, metadata={"searches": searches})


@task
def draft(ctx: TaskContext, data: Brief) -> dict[str, str]:
    """Write a draft: the sentences that say most about the question, and about what a person missed."""
    earlier = _brief(ctx, ctx.iteration - 1) if ctx.iteration > 1 else Brief()
    brief = Brief(sources=earlier.sources + data.sources, wishes=earlier.wishes + data.wishes)
    _file(ctx, f"brief-{ctx.iteration}.json").write_text(brief.model_dump_json(), encoding="utf-8")
    question, texts = _request(ctx).question, _shelf(ctx)
    sources = [texts[name] for name in brief.sources]
    wanted = " ".join([question, *brief.wishes])
    text = _page(question, _best_sentences(wanted, sources, texts, SENTENCES + ctx.iteration - 1), sources)
    file = _file(ctx, f"draft-{ctx.iteration}.md")
    file.write_text(text, encoding="utf-8")
    return {"file": str(file), "text": text}


@plan
async def present(ctx: PlanContext) -> Decision:
    """Show the draft to a person."""
    written = _value(ctx)
    return Decision(next=["approve"], output={"question": "Is this draft good?", **written})


@plan
async def judge(ctx: PlanContext) -> Decision:
    """Publish what was approved; have what was rejected revised, as often as the request allows."""
    said = _value(ctx)
    if said["outcome"] != "rejected":
        return Decision(next=["publish"], output={"draft": ctx.iteration})
    if ctx.iteration >= _request(ctx).max_drafts:
        raise NonRetryable(f"none of {ctx.iteration} drafts was approved; the last word: {said['answer']}")
    return Decision(next=["draft"], output={"wishes": [str(said["answer"] or "")]})


@task
def publish(ctx: TaskContext, data: dict[str, Any]) -> dict[str, Any]:
    """Make the approved draft the report: the outcome of the run."""
    report = _file(ctx, f"draft-{data['draft']}.md").read_text(encoding="utf-8")
    file = _file(ctx, "report.md")
    file.write_text(report, encoding="utf-8")
    sources = _brief(ctx, data["draft"]).sources
    return {"report": report, "file": str(file), "sources": sources, "drafts": data["draft"]}


def _best_sentences(
    wanted: str, sources: list[Text], texts: dict[str, Text], count: int
) -> list[tuple[str, int]]:
    """Return (sentence, number of its source), in the order of the sources; rare words weigh more."""
    rarity, asked = rarity_of(texts), set(words(wanted))
    scored = [
        (-sum(rarity.get(word, 0.0) for word in asked & set(words(sentence))), number, place, sentence)
        for number, text in enumerate(sources, start=1)
        for place, sentence in enumerate(text.sentences)
    ]
    best = sorted(scored)[:count]
    return [(sentence, number) for _, number, _, sentence in sorted(best, key=lambda one: one[1:3])]


def _page(question: str, chosen: list[tuple[str, int]], sources: list[Text]) -> str:
    lines = [f"# {question}", "", *(f"- {sentence} [{number}]" for sentence, number in chosen), ""]
    return "\n".join([*lines, *(f"[{n}] {text.title}" for n, text in enumerate(sources, start=1)), ""])


def _request(ctx: TaskContext | PlanContext) -> Request:
    return Request.model_validate(ctx.start_input or {})


def _shelf(ctx: TaskContext) -> dict[str, Text]:
    corpus = _request(ctx).corpus
    texts = shelf(corpus)
    if not texts:
        raise NonRetryable(f"there are no texts in {corpus}: name a directory with *.txt as `corpus`")
    return texts


def _file(ctx: TaskContext, name: str) -> Path:
    """Return a file of this run: it has a directory for each tenant and lifetime."""
    directory = (_request(ctx).workdir / ctx.tenant_id / ctx.lifetime_id).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    return directory / name


def _brief(ctx: TaskContext, number: int) -> Brief:
    """Return what draft `number` was written from."""
    return Brief.model_validate_json(_file(ctx, f"brief-{number}.json").read_text(encoding="utf-8"))


def _value(ctx: PlanContext) -> Any:
    """Return what the task before this plan made; a failed one fails the run with its reason."""
    result = ctx.upstream_one
    if result.error:
        raise NonRetryable(f"{result.node_id} failed: {result.error.message}")
    return result.value
