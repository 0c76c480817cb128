"""Runs the graph as it is, in this process, on a log in memory: `pytest` needs nothing else."""

from __future__ import annotations

from pathlib import Path

from headgate import Headgate

HERE = Path(__file__).parent


def test_the_text_is_accepted_after_three_visits() -> None:
    """The loop ends, and its spend is what the handlers reported."""
    with Headgate(":memory:") as headgate:
        outcome = headgate.run(HERE, {"topic": "logs"}, policy=HERE / "policy.yaml", timeout_s=60)
    assert outcome.status == "completed", outcome.reason
    assert outcome.value.startswith("A text about logs")
    assert outcome.tokens_used == 360
