"""A fork calls only the handlers of what comes after, on the embedded log and on Kafka; the check holds."""

from __future__ import annotations

import json

import pytest

from headgate_graphs.loading import load_graph
from tests.integration.headgate.site import LONG_S, ONE, Site

LOOP = """apiVersion: headgate/v1
kind: AgentGraph
metadata: {id: rounds, version: 1.0.0}
entry: go
tasks:
  - {id: go, type: count}
  - {id: tell, type: count, config: {effects: external}}
plans:
  - id: again
    type: rules
    config: {rules: [{when: "iteration < 4", next: [go]}], default: [tell]}
  - {id: arrive, type: rules, config: {default: [end]}}
edges:
  - {from: go, to: again}
  - {from: again, to: go}
  - {from: again, to: tell}
  - {from: tell, to: arrive}
  - {from: arrive, to: end, type: final}
"""


def fork(site: Site, at: str, name: str, *options: str) -> dict[str, object]:
    place = ("--tenant", ONE, "--json")
    code, out, err = site.command("replay", "fork", "one", "--at", at, "--as", name, *options, *place)
    assert code == 0, err
    ended = site.client.wait(ONE, name, LONG_S)
    assert ended.status == "completed", ended
    return dict(json.loads(out))


@pytest.mark.timeout(120)
def test_a_fork_at_round_k_calls_only_what_comes_after(site: Site) -> None:
    (site.home / "graph.yaml").write_text(LOOP)
    site.client.register_graph(load_graph(site.home).for_tenant(ONE))
    site.workers()
    with site.gate():
        site.client.start("rounds", {"to": "the shop"}, tenant=ONE, lifetime_id="one")
        assert site.client.wait(ONE, "one", LONG_S).status == "completed"
        assert (site.calls[ONE, "one", "go"], site.calls[ONE, "one", "tell"]) == (4, 1)
        for k in (1, 3):
            said = fork(site, f"go#{k}", f"after-{k}")
            assert said["repeated"] == 2 * k - 1
            assert site.calls[ONE, f"after-{k}", "go"] == 4 - k
            assert site.calls[ONE, f"after-{k}", "tell"] == 0, "its effects were taken from the record"
        allowed = fork(site, "again#4", "told", "--allow-effects", "tell", "--set", "go.max_retries=0")
        assert (site.calls[ONE, "told", "go"], site.calls[ONE, "told", "tell"]) == (0, 1)
        assert str(allowed["graph_version"]).startswith("0.0.")
        again = site.client.start("rounds", {}, tenant=ONE, lifetime_id="newest")
        assert site.client.wait(ONE, again.lifetime_id, LONG_S).status == "completed"
    view = site.client.lifetime(ONE, "newest")
    assert view is not None
    assert view.graph_version == "1.0.0", "the version of a fork is never the newest"
    site.check_said()
    assert site.command("check")[0] == 0
    shown = site.command("timeline", "after-3", "--tenant", ONE)[1]
    assert "forked from one at offset" in shown
    assert shown.count("record of one") == 5
    assert "forked from one at offset" in site.command("status", "after-3", "--tenant", ONE)[1]


CAPS = """apiVersion: headgate/v1
kind: GuardrailPolicy
metadata: {{name: caps, version: {version}}}
rules:
  - {{name: runs, scope: lifetime, limit: {{executions: {most}}}, action: abort_lifetime}}
"""


@pytest.mark.timeout(120)
def test_a_fork_is_judged_by_a_policy_of_its_own_and_the_check_knows(site: Site) -> None:
    (site.home / "graph.yaml").write_text(LOOP)
    site.client.register_graph(load_graph(site.home).for_tenant(ONE))
    policies = {}
    for name, version, most in (("live", 1, 4), ("loose", 2, 50), ("strict", 3, 1)):
        policies[name] = site.home.parent / f"{name}.yaml"
        policies[name].write_text(CAPS.format(version=version, most=most))
    site.workers()
    with site.gate():
        site.client.start("rounds", {}, tenant=ONE, lifetime_id="one")
        assert site.client.wait(ONE, "one", LONG_S).status == "completed"
        code, _, err = site.command("policy", "apply", str(policies["live"]), "--tenant", ONE)
        assert code == 0, err
        said = fork(site, "go#1", "loose", f"--policy={policies['loose']}")
        assert said["changes"] == ["policy caps 2"]
        place = ("--tenant", ONE)
        for name, options in (("strict", [f"--policy={policies['strict']}"]), ("live", [])):
            code, _, err = site.command(
                "replay", "fork", "one", "--at=go#1", f"--as={name}", *options, *place
            )
            assert code == 0, err
            assert site.client.wait(ONE, name, LONG_S).status == "aborted"
    calls = [site.calls[ONE, name, "go"] for name in ("loose", "live", "strict")]
    assert calls == sorted(calls, reverse=True)
    assert calls[0] == 3
    assert calls[2] == 0
    site.check_said()
    assert site.command("check")[0] == 0
    assert site.command("replay", "verify")[0] == 0
    assert "aborts above 50" in site.command("policy", "explain", "loose", *place)[1]


@pytest.mark.timeout(60)
def test_what_cannot_be_forked_is_told_in_one_line(site: Site) -> None:
    site.register(ONE)
    site.workers()
    with site.gate():
        site.start(ONE, "one")
        site.complete(ONE, "one")
    place = ("--tenant", ONE)
    tenants_own = site.home.parent / "policy.yaml"
    tenants_own.write_text(
        CAPS.format(version=1, most=1).replace("name: runs, scope: lifetime", "name: all, scope: tenant")
    )
    for options, words in (
        (("one", "--at", "go#9"), "or one of go#1, turn#1, return#1, arrive#1"),
        (("two", "--at", "go#1"), "no lifetime 'two'"),
        (("one", "--at", "go#1", "--set", "nobody.x=1"), "names no node"),
        (("one", "--at", "go#1", "--set", "go.colour=1"), "colour"),
        (("one", "--at", "go#1", "--model", "go"), "NODE=NAME"),
        (("one", "--at", "go#1", "--budget", "p.r=1"), "POLICY.RULE.METRIC=VALUE"),
        (("one", "--at", "go#1", f"--policy={tenants_own}"), "rule all is about the tenant"),
        (("one", "--at", "go#1", "--allow-effects", "nobody"), "whose effects to allow"),
        (("one", "--at", "go#1", "--as", "a b"), "not a lifetime id"),
    ):
        code, out, err = site.command("replay", "fork", *options, *place)
        assert (code, out) == (2, "")
        assert words in err
