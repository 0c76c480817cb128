"""The product beside the hand-written loop, on one broker in one run, in turn: the ratio that counts."""

from __future__ import annotations

import secrets
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from headgate_graphs.errors import UserError
from headgate_loadtest.bare.loop import Loop
from headgate_loadtest.bare.running import measure_loop
from headgate_loadtest.installation import Installation
from headgate_loadtest.pace import Pace
from headgate_loadtest.processes import Crew, started
from headgate_loadtest.scenario import Scenario
from headgate_loadtest.steady import measure_steady
from headgate_streams.settings import StreamSettings

_WARM_S = 5.0
"""How long the broker is warmed up before anything is measured."""
_WILD = 1.5
"""Repeats that differ by more than this say that something else was at work."""


@dataclass(frozen=True)
class Side:
    """How the two are compared."""

    in_flight: int = 256
    seconds: float = 5.0
    repeats: int = 3
    synced: bool = False
    """Whether the broker writes each batch to the disk before it answers."""


@dataclass
class Comparison:
    """The two, each as often as it was repeated."""

    side: Side
    bare: list[Pace] = field(default_factory=list)
    product: list[Pace] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Steps a second of the product over those of the bare loop, medians."""
        return _median(self.product) / _median(self.bare)

    @property
    def step_ratio(self) -> float:
        """The p50 of the product's step over the bare loop's, medians; below 0 when it was not measured."""
        steps = [statistics.median(one.p50_ms for one in paces) for paces in (self.product, self.bare)]
        return steps[0] / steps[1]

    def lines(self) -> list[str]:
        """Return what people read; the ratio comes first."""
        how = "each batch synced, " if self.side.synced else ""
        lines = [f"ratio to the bare loop: {self.ratio:.2f}"]
        for name, paces in (("bare loop", self.bare), ("product", self.product)):
            each = ", ".join(f"{one.steps_per_s:,.0f}" for one in paces)
            lines.append(
                f"{name}: {_median(paces):,.0f} steps/s ({how}{self.side.in_flight} lifetimes; each: {each})"
            )
            if max(one.steps_per_s for one in paces) > _WILD * min(one.steps_per_s for one in paces):
                lines.append(
                    f"the {name}'s figures differ by more than {_WILD:g} times: the machine is not quiet"
                )
        if self.bare[0].p50_ms >= 0:
            bare, product = (statistics.median(p.p50_ms for p in one) for one in (self.bare, self.product))
            lines.append(
                f"p50 of a step: bare loop {bare:.2f} ms, product {product:.2f} ms, {self.step_ratio:.2f}x"
            )
        return lines


def _median(paces: list[Pace]) -> float:
    return statistics.median(one.steps_per_s for one in paces)


def compare_with_bare_loop(
    settings: StreamSettings,
    scenario: Scenario,
    sides: list[Side],
    crew: Crew,
    logs: Path,
    progress: Callable[[str], None],
) -> list[Comparison]:
    """Return the product beside the bare loop, for each of `sides`, in turn A B A B.

    The bare loop's processes run only while it is measured; the product's idle meanwhile.
    """
    if settings.kafka is None:
        raise UserError("the bare loop is a Kafka loop: name a cluster with --kafka")
    found: list[Comparison] = []
    for synced in sorted({side.synced for side in sides}):
        prefix = f"load-{secrets.token_hex(3)}"
        mine = settings.model_copy(update={"topic_prefix": prefix})
        with Installation(mine) as installation:
            installation.create_topics(synced=synced)
            # A broker that has just been started compiles as it goes: whoever is measured first would lose.
            measure_loop(installation.log, _loop(mine), 256, _WARM_S, synced=synced)
            found += [
                _compare(installation, scenario, side, crew, logs, progress)
                for side in sides
                if side.synced == synced
            ]
    return found


def _loop(settings: StreamSettings) -> Loop:
    name, options = f"bare-{secrets.token_hex(3)}", dict(settings.kafka_options)
    return Loop(settings.kafka or "", name, settings.partitions, options=options)


def _compare(
    installation: Installation,
    scenario: Scenario,
    side: Side,
    crew: Crew,
    logs: Path,
    progress: Callable[[str], None],
) -> Comparison:
    made = Comparison(side)
    settings = installation.settings
    for number in range(side.repeats):
        loop = _loop(settings)
        made.bare.append(
            measure_loop(installation.log, loop, side.in_flight, side.seconds, synced=side.synced)
        )
        progress(f"bare loop, {number + 1} of {side.repeats}: {made.bare[-1].steps_per_s:,.0f} steps/s")
        with started(settings, crew, logs) as serving:
            made.product.append(measure_steady(installation, serving, scenario, side.in_flight, side.seconds))
        progress(f"product, {number + 1} of {side.repeats}: {made.product[-1].steps_per_s:,.0f} steps/s")
    return made
