"""A story as a tree: sub-graphs below the task that started them, branches below what sent them out. Pure.

A chain stays on one level, however long: only a fork goes deeper, and the join of its branches comes back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from headgate.story.causes import is_join
from headgate.story.model import Life, Note, Step, Story
from headgate_graphs.model import AgentGraph


@dataclass(slots=True)
class Branch:
    """One lifetime, step or note, and what lies below it, in order."""

    item: Life | Step | Note
    order: tuple[int, int, int]
    below: list[Branch] = field(default_factory=list)


def tree_of(story: Story, graphs: Mapping[tuple[str, str], AgentGraph]) -> list[Branch]:
    """Return the lifetimes that nothing in the story started, each with all that lies below it."""
    lives = {name: Branch(life, _began(story, name)) for name, life in story.lives.items()}
    steps = {name: Branch(step, step.order) for name, step in story.steps.items()}
    forks = _forks(story, graphs)
    for name, step in story.steps.items():
        fork = forks[name]
        above = lives[step.lifetime_id] if fork is None else steps[fork]
        above.below.append(steps[name])
    roots: list[Branch] = []
    for life_branch in lives.values():
        assert isinstance(life_branch.item, Life)  # noqa: S101 - made above
        view = life_branch.item.view
        starter = steps.get(view.parent_execution_id) if view is not None else None
        (roots if starter is None else starter.below).append(life_branch)
    for note in story.notes:
        of = steps.get(note.execution_id) or lives.get(note.lifetime_id)
        (roots if of is None else of.below).append(Branch(note, note.order))
    todo = [roots]
    while todo:
        branches = todo.pop()
        branches.sort(key=lambda one: one.order)
        todo += [one.below for one in branches]
    return roots


def walk(branches: list[Branch]) -> Iterator[tuple[str, Branch]]:
    """Yield each branch with the lines that stand before it, such as "│  ├─ "; depth first."""
    todo = [("", "", one) for one in reversed(branches)]
    while todo:
        own, guide, branch = todo.pop()
        yield own, branch
        last = len(branch.below) - 1
        todo += [
            (guide + ("└─ " if index == last else "├─ "), guide + ("   " if index == last else "│  "), one)
            for index, one in reversed(list(enumerate(branch.below)))
        ]


def _began(story: Story, lifetime_id: str) -> tuple[int, int, int]:
    return next((one.order for one in story.happenings if one.lifetime_id == lifetime_id), (0, 0, 0))


def _forks(story: Story, graphs: Mapping[tuple[str, str], AgentGraph]) -> dict[str, str | None]:
    """Return for each step the one whose branches it belongs to; None on its lifetime's own level."""
    firsts = {name: _first(story, step) for name, step in story.steps.items()}
    single: dict[str, set[str]] = {}
    for name, step in story.steps.items():
        if firsts[name] == name and len(step.upstream) == 1 and not _joins(story, step, graphs):
            single.setdefault(step.upstream[0], set()).add(name)
    forks: dict[str, str | None] = {}
    for name, step in sorted(story.steps.items(), key=lambda item: item[1].order):
        if firsts[name] != name:
            forks[name] = forks.get(firsts[name])
            continue
        above = [firsts[one] for one in step.upstream if firsts.get(one) in forks]
        if not above:
            forks[name] = None
        elif len(above) > 1 or _joins(story, step, graphs):
            fork = _meeting([forks[one] for one in above], forks)
            forks[name] = forks.get(fork) if fork is not None else None
        else:
            siblings = single.get(step.upstream[0], set())
            forks[name] = above[0] if len(siblings) > 1 else forks[above[0]]
    return forks


def _first(story: Story, step: Step) -> str:
    """Return the first try at the same visit."""
    seen = {step.execution_id}
    while step.previous in story.steps and step.previous not in seen:
        step = story.steps[step.previous]
        seen.add(step.execution_id)
    return step.execution_id


def _joins(story: Story, step: Step, graphs: Mapping[tuple[str, str], AgentGraph]) -> bool:
    view = story.lives[step.lifetime_id].view
    graph = graphs.get((view.graph_id, view.graph_version)) if view is not None else None
    above = [story.steps[one] for one in step.upstream if one in story.steps]
    return any(is_join(graph, one.node_id, step.node_id) for one in above)


def _meeting(starts: list[str | None], forks: dict[str, str | None]) -> str | None:
    """Return the deepest fork that all the branches have in common."""
    chains = [_chain(one, forks) for one in starts]
    return next((one for one in chains[0] if all(one in chain for chain in chains[1:])), None)


def _chain(start: str | None, forks: dict[str, str | None]) -> list[str]:
    chain: list[str] = []
    while start is not None:
        chain.append(start)
        start = forks.get(start)
    return chain
