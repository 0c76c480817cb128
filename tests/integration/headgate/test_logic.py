"""Logic versions: an older gate refuses a newer log, and activation in the middle of load loses nothing."""

from __future__ import annotations

import json

import pytest

from tests.e2e.command_line import headgate
from tests.integration.headgate.site import ONE, OTHER, Site

OLD = {"HEADGATE_NEWEST_LOGIC": "1"}


@pytest.mark.timeout(120)
def test_a_gate_that_does_not_know_the_version_ends_and_another_goes_on(site: Site) -> None:
    site.register(ONE)
    site.workers()
    with site.gate():
        site.start(ONE, "before")
        site.complete(ONE, "before")
        old = headgate("gate", cwd=site.home, **site.variables, **OLD)
        assert old.returncode == 1
        lines = [line for line in old.stderr.splitlines() if line.startswith("headgate: ")]
        assert lines == [
            "headgate: the log asks for logic version 2, this process has 1: install a newer headgate"
        ]
        site.start(ONE, "after")
        site.complete(ONE, "after")
    site.check_said()


@pytest.mark.timeout(120)
def test_activation_in_the_middle_of_load_folds_history_as_it_was(site: Site) -> None:
    site.register(ONE, OTHER)
    site.workers()
    early, late = [f"early-{n}" for n in range(15)], [f"late-{n}" for n in range(15)]
    with site.gate(**OLD) as old:
        for lifetime in early:
            site.start(ONE, lifetime)
            site.start(OTHER, lifetime)
        shown = json.loads(site.command("logic", "show", "--json")[1])
        assert shown == {"active": {"0": 1, "1": 1}, "known": [1, 2]}
        code, _, err = site.command("keys", "tickets", HEADGATE_TICKET_KEYS='["one"]')
        assert (code, "headgate logic activate 2" in err) == (2, True)
        old.stop()
    with site.gate():
        site.start(ONE, *late)
        code, said, err = site.command("logic", "activate", "2")
        assert (code, said) == (0, "logic version 2 is active: in all 2 partitions\n"), err
        site.start(OTHER, *late)
        for tenant in (ONE, OTHER):
            site.complete(tenant, *early, *late)
        assert "already" in site.command("logic", "activate", "2")[1]
        code, _, err = site.command("logic", "activate", "1")
        assert (code, "a later logic version is active" in err) == (2, True)
    assert site.letters() == []
    site.check_said()
