"""The map/reduce example: fan-out, join, a cap on what is in flight, and mappers that are sub-graphs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate import Headgate, load_graph
from tests.e2e.embedded import EXAMPLES, history, most_in_flight
from tests.e2e.running import Place

EXAMPLE = EXAMPLES / "map_reduce"
SUBGRAPHS = EXAMPLE / "subgraphs.yaml"
POLICY = EXAMPLE / "policy.yaml"
COUNTED = {
    "words": 612,
    "different": 283,
    "top": {"the": 44, "and": 31, "a": 17, "to": 16, "said": 14},
    "shards": 4,
}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def headgate(tmp_path: Path) -> Iterator[Headgate]:
    with Headgate(tmp_path / "log") as embedded:
        yield embedded


@pytest.fixture
def shard_registered(headgate: Headgate) -> None:
    headgate.client.register_graph(load_graph(EXAMPLE / "shard.yaml"))


def children_of(headgate: Headgate) -> list[str]:
    return [v.lifetime_id for v in headgate.client.lifetimes("default") if v.graph_id == "count-shard"]


def test_it_counts_the_shipped_poem(place: Place) -> None:
    answer = place.headgate("run", EXAMPLE, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["outcome"] == COUNTED
    assert answer.json["spent"]["tokens_used"] == COUNTED["words"]


def test_any_text_gives_what_counting_it_in_one_piece_gives(headgate: Headgate, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("one two two\n\nthree three three\nfour")
    counted = headgate.run(EXAMPLE, {"text": str(tmp_path / "text.txt"), "top": 2}, policy=POLICY).completed()
    assert counted == {"words": 7, "different": 4, "top": {"three": 3, "two": 2}, "shards": 4}


def test_no_more_mappers_are_in_flight_than_the_graph_allows(headgate: Headgate) -> None:
    first, second = (headgate.begin(EXAMPLE, policy=POLICY) for _ in range(2))
    for run in (first, second):
        assert headgate.wait(run).completed() == COUNTED
    assert most_in_flight(history(headgate.client, first.lifetime_id, second.lifetime_id)) == 2


def test_a_cap_below_what_the_mappers_reserve_stops_it(place: Place) -> None:
    answer = place.headgate("run", EXAMPLE, "--policy", EXAMPLE / "tight.yaml", "--json")
    assert answer.code == 3, answer.err
    (broken,) = answer.json["violations"]
    assert broken["rule"] == "run-tokens"
    assert int(broken["measured"]) > int(broken["limit"]) == 800
    assert answer.json["spent"]["tokens_used"] <= 800


def test_a_text_that_is_not_there_fails_the_run_and_is_named(place: Place) -> None:
    answer = place.headgate("run", EXAMPLE, "--input", json.dumps({"text": "nowhere.txt"}), "--json")
    assert answer.code == 5, answer.err
    assert "nowhere.txt" in answer.json["reason"]


def test_mappers_that_are_sub_graphs_count_the_same(place: Place) -> None:
    assert place.headgate("graph", "register", EXAMPLE / "shard.yaml").code == 0
    answer = place.headgate("run", SUBGRAPHS, "--policy", POLICY, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["outcome"] == COUNTED


@pytest.mark.usefixtures("shard_registered")
def test_what_sub_graphs_spend_counts_in_the_run_above_them(headgate: Headgate) -> None:
    outcome = headgate.run(SUBGRAPHS, policy=POLICY)
    spent = [v.usage.tokens_used for v in headgate.client.lifetimes("default") if v.graph_id == "count-shard"]
    assert len(spent) == 4
    assert sum(spent) == outcome.tokens_used == COUNTED["words"]


@pytest.mark.usefixtures("shard_registered")
def test_a_cap_on_a_graph_holds_over_all_its_lifetimes(headgate: Headgate) -> None:
    headgate.run(SUBGRAPHS, policy=POLICY).completed()
    assert most_in_flight(history(headgate.client, *children_of(headgate))) == 2


def test_a_cap_of_the_run_above_stops_it_and_its_sub_graphs(place: Place) -> None:
    assert place.headgate("graph", "register", EXAMPLE / "shard.yaml").code == 0
    answer = place.headgate("run", SUBGRAPHS, "--policy", EXAMPLE / "tight.yaml", "--json")
    assert answer.code == 3, answer.err
    assert [broken["rule"] for broken in answer.json["violations"]] == ["run-tokens"]
    assert answer.json["spent"]["tokens_used"] <= 800
    below = [one for one in place.headgate("list", "--json").json if one["graph_id"] == "count-shard"]
    assert len(below) == 4
    assert {one["status"] for one in below} <= {"completed", "aborted"}
    assert sum(one["status"] == "aborted" for one in below) >= 1


def test_a_sub_graph_that_is_not_registered_is_named(place: Place) -> None:
    answer = place.headgate("run", SUBGRAPHS, "--policy", POLICY, "--json")
    assert answer.code == 5, answer.err
    assert "count-shard" in answer.json["reason"]
    assert "not registered" in answer.json["reason"]
