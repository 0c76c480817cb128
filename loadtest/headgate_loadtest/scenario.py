"""What a load is: how many runs arrive when, for whom, and what each of them does. Read from strict YAML."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from headgate_graphs.documents import lines_of, read_yaml, validate
from headgate_graphs.errors import UserError
from headgate_graphs.model import DurationMs

MAX_LIFETIMES = 2_000_000
"""A load is bounded in count, whatever rate and duration say."""
MAX_DURATION_MS = 7 * 86_400_000
"""... and in time: a week."""


class ScenarioInvalid(UserError):
    """A scenario that does not load."""


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True
    )


class StepTime(_Part):
    """How long a step takes; drawn from the seed, so a repeat draws the same."""

    kind: Literal["none", "fixed", "lognormal", "heavy"] = "none"
    """`none` answers at once; `heavy` is a Pareto tail with the median `ms`, capped at 100 times that."""
    ms: Annotated[float, Field(ge=0, le=3_600_000)] = 0.0
    """Milliseconds: the time itself when fixed, else the median."""
    sigma: Annotated[float, Field(ge=0, le=3)] = 0.5
    """Spread of the lognormal."""
    alpha: Annotated[float, Field(gt=0.5, le=10)] = 1.5
    """Shape of the heavy tail; smaller is heavier."""


class Tenants(_Part):
    """Who asks for runs."""

    count: Annotated[int, Field(ge=1, le=10_000)] = 8
    """How many tenants there are."""
    spread: Literal["even", "zipf"] = "even"
    """How runs are spread over them."""
    exponent: Annotated[float, Field(ge=0, le=4)] = 1.0
    """Of the Zipf spread: the n-th tenant gets 1/n^exponent."""
    noisy_factor: Annotated[float, Field(ge=1, le=10_000)] = 1.0
    """The first tenant's share is this many times as large, on top of everybody's: the rate grows by it."""


class Work(_Part):
    """What one run does: rounds of a plan and a task, or of a plan, several tasks at once and their join."""

    rounds: Annotated[int, Field(ge=0, le=100_000)] = 5
    """How often the loop is gone through."""
    fan_out: Annotated[int, Field(ge=1, le=16)] = 1
    """Tasks at once in each round, joined before it goes on."""
    payload_bytes: Annotated[int, Field(ge=0, le=10_000_000)] = 200
    """Size of each task's result; a large one goes to the blob store."""
    leased: bool = False
    """Whether the tasks have a token limit, so that each run is announced, held and leased."""
    step_time: StepTime = StepTime()
    """How long a task takes."""
    plan_time: StepTime = StepTime()
    """How long a plan takes; the planner's loop is measured without it."""


class Scenario(_Part):
    """One load."""

    api_version: Annotated[Literal["headgate/v1"], Field(alias="apiVersion")] = "headgate/v1"
    """Version of the format."""
    kind: Literal["LoadScenario"] = "LoadScenario"
    """What the document is."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = "load"
    """What reports call it."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 1
    """All that is drawn comes from it."""
    rate: Annotated[float, Field(gt=0, le=100_000)] = 20.0
    """Runs that are asked for in a second, on average."""
    duration_ms: Annotated[DurationMs, Field(alias="duration", gt=0, le=MAX_DURATION_MS)] = 10_000
    """How long runs are asked for."""
    arrivals: Literal["poisson", "constant"] = "poisson"
    """When: at random, or evenly."""
    at_ms: Annotated[tuple[DurationMs, ...], Field(alias="at", max_length=MAX_LIFETIMES)] = ()
    """The arrivals themselves, from a recording; they replace rate, duration and arrivals."""
    tenants: Tenants = Tenants()
    """For whom."""
    work: Work = Work()
    """What each does."""
    policies: bool = True
    """Whether ten rules are in force for each tenant, none of which is broken."""

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        count = len(self.at_ms) or self.offered_rate * self.duration_ms / 1000
        if count > MAX_LIFETIMES:
            raise ValueError(f"rate and duration make {count:,.0f} runs, the most is {MAX_LIFETIMES:,}")
        return self

    @property
    def offered_rate(self) -> float:
        """Runs a second of all tenants together, the noisy one's surplus among them."""
        return self.rate * (1 + (self.tenants.noisy_factor - 1) / self.tenants.count)

    @property
    def steps(self) -> int:
        """Executions of one run: tasks and plans."""
        work = self.work
        each = 2 if work.fan_out == 1 else work.fan_out + 3
        return work.rounds * each + 1

    def digest(self) -> str:
        """Return eight hex digits that name what runs do, and for whom nothing else matters."""
        text = json.dumps([self.work.model_dump(), self.seed], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def load_scenario(path: Path) -> Scenario:
    """Return the scenario in a YAML file; raises ScenarioInvalid with file:line:column for every fault."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ScenarioInvalid(f"{path}: cannot read the scenario: {reason}") from None
    return validate(read_yaml(text, str(path), ScenarioInvalid), Scenario, ScenarioInvalid)


def altered(scenario: Scenario, **changes: object) -> Scenario:
    """Return the scenario with other values, checked again; parts as dicts are merged.

    Raises ScenarioInvalid.
    """
    document = scenario.model_dump(mode="json", by_alias=True)
    for name, value in changes.items():
        document[name] = {**document[name], **value} if isinstance(value, dict) else value
    try:
        return Scenario.model_validate(document)
    except ValidationError as invalid:
        raise ScenarioInvalid(f"scenario: {'; '.join(lines_of(invalid))}") from None
