"""A gate that fails on one tenant holds that tenant alone, says so, and nothing is lost when it goes on."""

from __future__ import annotations

import json
import signal

import pytest

from tests.integration.headgate.site import LONG_S, ONE, OTHER, Site
from tests.support import eventually

FAULT = {"HEADGATE_FOLD_FAILS_FOR": ONE}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_held_tenant_is_shown_and_goes_on_after_the_fix(site: Site, end: signal.Signals) -> None:
    site.register(ONE, OTHER)
    site.workers()
    with site.gate(**FAULT) as gate:
        site.start(ONE, "held")
        site.start(OTHER, "beside")
        site.complete(OTHER, "beside")
        held = eventually(lambda: site.client.quarantine(ONE), LONG_S, 0.1)
        assert held is not None
        assert "planted by HEADGATE_FOLD_FAILS_FOR" in held.reason
        site.start(ONE, "meanwhile")
        site.start(OTHER, "after")
        site.complete(OTHER, "after")
        assert_shown(site)
        code, _, said = site.command("control", "release", "--tenant", ONE)
        assert (code, said.count("\n")) == (1, 1)
        assert f"tenant {ONE} is still quarantined: the gate failed again" in said
        gate.stop(end)
    with site.gate():
        code, said, _ = site.command("control", "release", "--tenant", ONE)
        assert (code, said.rpartition(": ")[2]) == (0, "done\n")
        site.complete(ONE, "held", "meanwhile")
        assert site.client.quarantine(ONE) is None
        assert json.loads(site.command("status", "--tenant", ONE, "--json")[1])["quarantined"] is None
        _, said, _ = site.command("control", "release", "--tenant", ONE)
        assert "nothing to do, it was not quarantined" in said
    assert site.letters() == []
    site.check_said()


def assert_shown(site: Site) -> None:
    """What people see of a held tenant, and of one beside it."""
    _, status, _ = site.command("status", "--tenant", ONE)
    assert "quarantined: the gate failed on a record of the tenant: RuntimeError" in status
    assert f"go on with: headgate control release --tenant {ONE} (since 20" in status
    assert "quarantined" not in site.command("status", "--tenant", OTHER)[1]
    assert "quarantined: " in site.command("status", "held", "--tenant", ONE)[1]
    rows = json.loads(site.command("timeline", "held", "--tenant", ONE, "--json")[1])
    assert [row["why"] for row in rows if row["status"] == "QUARANTINE_TENANT"] != []
    _, said, _ = site.command("control", "pause", "--everything", "--tenant", ONE)
    assert "the tenant is quarantined: it waits for `headgate control release`" in said
    site.command("control", "resume", "--everything", "--tenant", ONE)


def test_a_record_without_a_fix_is_left_out(site: Site) -> None:
    site.register(ONE)
    site.workers()
    with site.gate(**FAULT):
        site.start(ONE, "held")
        eventually(lambda: site.client.quarantine(ONE), LONG_S, 0.1)
        code, _, said = site.command("control", "release", "--tenant", ONE, "--skip-failed")
        assert code == 0, said
        site.letter("FOLD_FAILED")
        assert site.client.quarantine(ONE) is None
