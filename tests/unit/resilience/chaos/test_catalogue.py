"""Which faults a name means, and that the same seed draws the same ones."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from headgate_graphs.errors import UserError
from headgate_resilience.chaos.faults.catalogue import drawn, faults, named


def test_every_fault_of_the_list_can_be_named() -> None:
    for one in faults():
        assert named([one.name]) == [one]
        assert one in named([one.id.lower()])
        assert one.text.endswith(".")


def test_a_mix_leaves_out_what_changes_the_installation_for_good() -> None:
    mix = {one.name for one in named(["mix"])}
    assert "F4-upgrade" not in mix
    assert mix == {one.name for one in named(["F22"])}
    assert {one.partition("-")[0] for one in mix} >= {f"F{n}" for n in range(1, 22)}


def test_no_fault_is_a_wish_too() -> None:
    assert named(["none"]) == []


def test_a_name_that_means_nothing_is_told_with_those_that_do() -> None:
    with pytest.raises(UserError, match=r"no fault 'F99': F1, F2, .*mix or none"):
        named(["F99"])


def test_the_same_seed_draws_the_same_rounds_and_each_fault_once_before_any_twice() -> None:
    mix = named(["mix"])
    first, second = (list(islice(drawn(mix, random.Random(7), 2), 200)) for _ in range(2))
    assert first == second
    early = [one for round_ in first[: len(mix) // 2] for one in round_]
    assert len(set(early)) == len(early)
    assert list(islice(drawn(mix, random.Random(8), 2), 200)) != first
