"""Once gates have a key and it is registered, a result needs the ticket of its input."""

from __future__ import annotations

import json

from headgate_protos.v1.common_pb2 import EXECUTION_STATUS_COMPLETED
from headgate_protos.v1.execution_pb2 import ExecutionEnvelope
from headgate_protos.v1.task_pb2 import TaskInput
from headgate_streams.signing import fingerprint
from tests.e2e.command_line import headgate
from tests.integration.headgate.site import LONG_S, ONE, Site
from tests.support import eventually

SECRET = "what all gates know"
KEYS = {"HEADGATE_TICKET_KEYS": json.dumps([SECRET])}
NAME = fingerprint(SECRET.encode())


def forged(given: TaskInput) -> ExecutionEnvelope:
    """A result as a worker would report it, by somebody who was not given the input."""
    envelope = ExecutionEnvelope(tenant_id=given.tenant_id, lifetime_id=given.headers.lifetime_id)
    execution = envelope.task_execution
    execution.tenant_id = given.tenant_id
    execution.headers.CopyFrom(given.headers)
    execution.headers.run_id, execution.headers.status = "forged", EXECUTION_STATUS_COMPLETED
    execution.result.success, execution.result.json_result = True, '"no errand was run"'
    return envelope


def test_a_forged_result_is_a_dead_letter_and_the_run_completes(site: Site) -> None:
    site.register(ONE)
    with site.gate(**KEYS):
        code, said, err = site.command("keys", "tickets", **KEYS)
        assert (code, said) == (
            0,
            f"lifetimes that start now have tickets by {NAME}: in all 2 partitions\n",
        ), err
        site.start(ONE, "run")
        inputs = site.client.topics.task_inputs()
        (given,) = eventually(lambda: site.messages(inputs, TaskInput), LONG_S, 0.1)
        site.client.submit(forged(given))
        site.letter("TICKET")
        site.workers()
        site.complete(ONE, "run")
        assert site.letters() == ["TICKET"]
        listed = json.loads(site.command("keys", "list", "--json")[1])
        assert listed == {"keys": [], "tickets": {"0": NAME, "1": NAME}, "agree": True}


def test_a_gate_without_the_key_ends_and_says_what_it_lacks(site: Site) -> None:
    site.register(ONE)
    with site.gate(**KEYS):
        assert site.command("keys", "tickets", **KEYS)[0] == 0
        poor = headgate("gate", cwd=site.home, **site.variables)
        assert poor.returncode == 1
        assert f"uses the ticket key {NAME}, which this process does not have" in poor.stderr
