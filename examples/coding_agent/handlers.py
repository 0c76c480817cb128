"""A coding agent: an issue goes in, a patch that passes the tests comes out.

    read_issue → plan_work ─┬→ search_code ─┬→ diagnose
                            └→ run_tests ───┘     │
                                                  ▼
               ┌───── the tests fail ────→ propose_patch → check_patch
               │                                                │
             decide ←───────────────── validate ←───────────────┘
               │
               └───── they pass ─────────→ (approve → confirm →) accept

Tasks do the work, plans decide what comes next. Nothing here counts money or stops the loop for its price:
the gate does, by the policy that the run is under.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from model import ask
from pydantic import BaseModel
from workspace import Edit, EditRefused, TestReport, copy_with, diff, run_pytest, source_files

from headgate import Decision, NonRetryable, PlanContext, Result, TaskContext, plan, task

HERE = Path(__file__).parent
TESTS_TIMEOUT_S = 120
MAX_FILES = 5
MAX_MATCHES = 40

PLAN_SYSTEM = """You plan the work of a coding agent on a Python repository. Answer with one JSON object:
{"look_for": [up to 8 words or names to search the code for], "why": "one sentence"}"""

PATCH_SYSTEM = """You repair a Python repository. Answer with one JSON object:
{"explanation": "one sentence", "edits": [{"file": "path", "find": "text", "replace": "text"}]}
`find` occurs exactly once in the file as it is shown to you; an empty `find` makes a new file.
Leave existing tests alone: they judge the patch."""


class Request(BaseModel):
    """What a run is started with; every part has a default."""

    repo: Path = HERE / "repo"
    """The repository; it is copied, never written."""
    issue: str = str(HERE / "issue.md")
    """The issue: its text, or the name of a file that holds it."""
    workdir: Path = Path(".headgate/work")
    """Where the copies go, in a directory for each run; shared by all workers when there are several."""
    max_rounds: int = 3
    """How many patches may be tried."""
    approve: bool = False
    """Whether a person must approve the patch that passes."""
    python: str = sys.executable
    """The interpreter that runs the repository's tests."""


class Patch(BaseModel):
    """What the model proposes, always against the original."""

    explanation: str
    edits: list[Edit]


@task
def read_issue(ctx: TaskContext, data: Request) -> dict[str, Any]:
    """Copy the repository, and say what the issue is and which files there are."""
    if not data.repo.is_dir():
        raise NonRetryable(f"{data.repo} is not a directory: name the repository as `repo`")
    original = _directory(ctx, "original")
    copy_with([], data.repo, original)
    return {"issue": _issue(data), "files": [name for name, _ in source_files(original)]}


@plan
async def plan_work(ctx: PlanContext) -> Decision:
    """Ask the model what to look for; then search the code and run the tests at the same time."""
    work = _value(ctx)
    files = "\n".join(work["files"])
    answer, _ = await ask(ctx, PLAN_SYSTEM, f"# The issue\n{work['issue']}\n\n# The files\n{files}")
    search = {"look_for": [str(words) for words in answer.get("look_for", [])]}
    return Decision(next=["search_code", "run_tests"], inputs={"search_code": search}, metadata=search)


@task
def search_code(ctx: TaskContext, data: dict[str, Any]) -> dict[str, Any]:
    """Return the files that hold most of what the plan looks for, and the lines that hold it."""
    look_for: list[str] = data["look_for"]
    found: list[tuple[int, str]] = []
    matches: list[str] = []
    for name, text in source_files(_directory(ctx, "original")):
        held = [words for words in look_for if words in text]
        found.append((-len(held), name))
        matches += [
            f"{name}:{number}: {line.strip()}"
            for number, line in enumerate(text.splitlines(), start=1)
            if any(words in line for words in held)
        ]
    return {
        "files": [name for missing, name in sorted(found)[:MAX_FILES] if missing < 0],
        "matches": matches[:MAX_MATCHES],
    }


@task
async def run_tests(ctx: TaskContext, data: dict[str, Any]) -> TestReport:  # noqa: ARG001
    """Run the tests as they are, to see what fails before anything is changed."""
    return await run_pytest(_directory(ctx, "original"), _request(ctx).python, TESTS_TIMEOUT_S)


@plan
async def diagnose(ctx: PlanContext) -> Decision:
    """Put together what the search and the tests found."""
    found, report = _values(ctx, "search_code", "run_tests")
    return Decision(next=["propose_patch"], output=found | {"failure": report["output"], "tried": ""})


@task
async def propose_patch(ctx: TaskContext, data: dict[str, Any]) -> Result:
    """Ask the model for a patch: the first one, or a better one when the last was not good enough."""
    texts = dict(source_files(_directory(ctx, "original")))
    sources = "".join(f"## {name}\n{texts[name]}\n" for name in data["files"] if name in texts)
    prompt = f"# The issue\n{_issue(_request(ctx))}\n\n# What fails\n{data['failure']}\n\n"
    if data["tried"]:
        prompt += f"# Already tried, and not good enough\n{data['tried']}\n\n"
    answer, model = await ask(ctx, PATCH_SYSTEM, f"{prompt}# The files\n{sources}")
    patch = Patch.model_validate(answer)
    return Result(data | patch.model_dump() | {"model": model}, metadata={"model": model})


@task
async def validate(ctx: TaskContext, data: dict[str, Any]) -> Result:
    """Make a copy with the patch in it and run the tests there, for real."""
    copy, original = _directory(ctx, f"round-{ctx.iteration}"), _directory(ctx, "original")
    try:
        copy_with(Patch.model_validate(data).edits, original, copy)
    except EditRefused as refused:
        report, tried = TestReport(passed=False, output=str(refused)), str(data["edits"])
    else:
        report, tried = await run_pytest(copy, _request(ctx).python, TESTS_TIMEOUT_S), diff(original, copy)
    value = data | report.model_dump() | {"tried": tried, "directory": str(copy), "round": ctx.iteration}
    if report.passed:
        _directory(ctx, "passed.json").write_text(json.dumps(value), encoding="utf-8")
    return Result(value, metadata={"passed": report.passed, "round": ctx.iteration})


@task
def accept(ctx: TaskContext) -> dict[str, Any]:
    """Return the patch that passed: the outcome of the run."""
    passed = json.loads(_directory(ctx, "passed.json").read_text(encoding="utf-8"))
    return {
        "explanation": passed["explanation"],
        "diff": passed["tried"],
        "directory": passed["directory"],
        "rounds": passed["round"],
        "model": passed["model"],
    }


@plan
async def check_patch(ctx: PlanContext) -> Decision:
    """Have a patch validated; ask again when it changes nothing."""
    patch = _value(ctx)
    return Decision(next=["validate" if patch["edits"] else "propose_patch"], output=patch)


@plan
async def decide(ctx: PlanContext) -> Decision:
    """Accept a patch that passes the tests; else go back with what failed, as often as the request allows."""
    report, request = _value(ctx), _request(ctx)
    if report["passed"]:
        question = {"question": "Is this patch good?", "diff": report["tried"]}
        return Decision(next=["approve" if request.approve else "accept"], output=question)
    if report["round"] >= request.max_rounds:
        raise NonRetryable(f"none of {report['round']} patches passed the tests; see {report['directory']}")
    return Decision(next=["propose_patch"], output=report | {"failure": report["output"]})


@plan
async def confirm(ctx: PlanContext) -> Decision:
    """Do as the person said."""
    said = _value(ctx)
    if said["outcome"] == "rejected":
        raise NonRetryable(f"a person said no: {said['answer']}")
    return Decision(next=["accept"])


def _request(ctx: TaskContext | PlanContext) -> Request:
    return Request.model_validate(ctx.start_input or {})


def _issue(request: Request) -> str:
    is_file = len(request.issue) < 256 and "\n" not in request.issue and Path(request.issue).is_file()
    return Path(request.issue).read_text(encoding="utf-8") if is_file else request.issue


def _directory(ctx: TaskContext | PlanContext, name: str) -> Path:
    """Return a directory of this run: it has one for each tenant and lifetime."""
    return (_request(ctx).workdir / ctx.tenant_id / ctx.lifetime_id / name).absolute()


def _value(ctx: PlanContext) -> Any:
    """Return what the task before this plan made."""
    (value,) = _values(ctx, ctx.upstream_one.node_id)
    return value


def _values(ctx: PlanContext, *node_ids: str) -> list[Any]:
    """Return what the named tasks made, in that order; a failed one fails the run with its reason."""
    results = {result.node_id: result for result in ctx.upstream}
    for result in results.values():
        if result.error:
            raise NonRetryable(f"{result.node_id} failed: {result.error.message}")
    return [results[node_id].value for node_id in node_ids]
