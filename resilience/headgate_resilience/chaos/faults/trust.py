"""F4, F20, F21: gates of other versions, a bug in the fold, and who says what they may not."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator

from headgate_graphs.errors import BadRecord
from headgate_protos.v1.common_pb2 import EXECUTION_STATUS_COMPLETED
from headgate_protos.v1.control_pb2 import AbortLifetime, OperatorCommand, ReleaseTenant
from headgate_protos.v1.execution_pb2 import (
    ExecutionEnvelope,
    KeyRegistered,
    LogicVersionActivated,
    TicketKeyRegistered,
)
from headgate_protos.v1.plan_pb2 import PlanInput
from headgate_protos.v1.task_pb2 import TaskInput
from headgate_resilience.chaos.faults.fault import fault
from headgate_resilience.chaos.faults.records import append, recent
from headgate_resilience.chaos.fleet import Place
from headgate_resilience.chaos.stage import NotHere, Stage
from headgate_streams.codec import decode, encode
from headgate_streams.port import LogRecord
from headgate_streams.signing import fingerprint
from headgate_streams.topics import partition_for

OLD = "HEADGATE_NEWEST_LOGIC"
PLANTED = "HEADGATE_FOLD_FAILS_FOR"
REFUSAL = b"install a newer headgate"
NEWEST = 2
FORGED = 10
SEEN_S = 30.0


@fault("F4", "unknown", "A gate that does not know the log's logic version is started beside the others.")
def old_binary(stage: Stage, _dice: random.Random) -> str:
    """Start an old gate; it must end with a clear line, again and again, and hurt nobody."""
    _need_logic(stage, NEWEST)
    options = [one for one in stage.fleet.of_kind("gate")[0].command if one.startswith("--checkpoint")]
    place = stage.fleet.add("gate-old", "gate", {**stage.env, OLD: "1"}, options and (*options, "3"))
    stage.expect(lambda: REFUSAL in place.log.read_bytes(), "an old gate says what to do", SEEN_S)
    stage.fleet.remove(place)
    stage.forget_exits(place)
    return "refused"


@fault(
    "F4",
    "upgrade",
    "Gates are rolled out one after the other, then the new logic is activated, in the middle of the load.",
    weight=0,
)
def upgrade(stage: Stage, _dice: random.Random) -> str:
    """Bring the log from logic 1 to 2; the run must have begun with old gates."""
    _need_logic(stage, 1)
    gates = stage.fleet.of_kind("gate")
    _rolled_out(stage, gates[1:], None)
    stage.publish_everywhere(
        ExecutionEnvelope(tenant_id="*", logic_version=LogicVersionActivated(version=NEWEST))
    )
    old = gates[0]
    stage.hold(5.0)
    refused = REFUSAL in old.log.read_bytes()
    _rolled_out(stage, gates[:1], None)
    stage.forget_exits(old)
    stage.expect(lambda: stage.timeline.logic >= NEWEST, "the new logic is in force")
    return f"{len(gates)} gates; the last old one {'refused' if refused else 'had no partition to refuse'}"


def _need_logic(stage: Stage, version: int) -> None:
    if stage.timeline.logic != version:
        raise NotHere(f"the log is at logic {stage.timeline.logic}, not {version}")


def _rolled_out(stage: Stage, gates: list[Place], planted: str | None) -> None:
    """Restart gates one after the other, as newest binaries, with the bug or without."""
    for place in gates:
        stage.fleet.hold_down(place, signal.SIGTERM)
        place.env.pop(OLD, None)
        place.env.pop(PLANTED, None)
        if planted is not None:
            place.env[PLANTED] = planted
        stage.fleet.let_up(place)
        stage.wait_back(place)


@fault(
    "F20", "fold", "The fold of every gate raises for one tenant; later it is mended and the tenant released."
)
def fold_bug(stage: Stage, dice: random.Random) -> str:
    """Plant the bug, wait until the tenant is quarantined, roll out the mended gates, release it."""
    _need_logic(stage, NEWEST)
    tenant = dice.choice(stage.driver.tenants)
    gates = stage.fleet.of_kind("gate")
    before = stage.timeline.quarantined[tenant], stage.timeline.released[tenant]
    try:
        _rolled_out(stage, gates, tenant)
        stage.expect(
            lambda: stage.timeline.quarantined[tenant] > before[0], f"{tenant} is quarantined", SEEN_S
        )
        stage.hold(3.0)
    finally:
        _rolled_out(stage, gates, None)
    stage.order(tenant, "", OperatorCommand(release=ReleaseTenant()))
    stage.expect(lambda: stage.timeline.released[tenant] > before[1], f"{tenant} is released", SEEN_S)
    return tenant


@fault("F21", "forged", "Results without a ticket and orders without a signature; an order that comes twice.")
def forged(stage: Stage, dice: random.Random) -> str:
    """Register keys the first time, then lie; every lie must be refused."""
    _need_logic(stage, NEWEST)
    _register_keys(stage)
    letters = stage.timeline.letters
    before = letters["TICKET"], letters["SIGNATURE"]
    results = append(stage, _unticketed(stage, dice))
    orders = append(stage, _unsigned(stage, dice))
    stage.expect(lambda: letters["TICKET"] >= before[0] + results, f"{results} forged results are refused")
    stage.expect(lambda: letters["SIGNATURE"] >= before[1] + orders, f"{orders} forged orders are refused")
    return f"{results} results, {orders} orders"


def _register_keys(stage: Stage) -> None:
    if stage.timeline.kinds["ticket_key_registered"] >= stage.settings.partitions:
        return
    key = stage.driver.key
    secret = stage.settings.ticket_keys[0].get_secret_value().encode()
    stage.publish_everywhere(
        ExecutionEnvelope(
            tenant_id="*", ticket_key_registered=TicketKeyRegistered(fingerprint=fingerprint(secret))
        )
    )
    stage.publish_everywhere(
        ExecutionEnvelope(
            tenant_id="*", key_registered=KeyRegistered(key_id=key.key_id, ed25519_public_key=key.public)
        )
    )
    stage.hold(8.0)  # only lifetimes that start from now on have tickets


def _unticketed(stage: Stage, dice: random.Random) -> Iterator[LogRecord]:
    """Yield results of inputs that were given to others, with a ticket that is none."""
    ticketed: list[TaskInput | PlanInput] = [
        message
        for topic, kind in ((stage.topics.task_inputs(), TaskInput), (stage.topics.plan_inputs(), PlanInput))
        for message in _inputs(recent(stage, topic, 40), kind)
        if message.ticket
    ]
    for number in range(FORGED if ticketed else 0):
        given = dice.choice(ticketed)
        envelope = ExecutionEnvelope(tenant_id=given.tenant_id, lifetime_id=given.headers.lifetime_id)
        is_task = isinstance(given, TaskInput)
        execution = envelope.task_execution if is_task else envelope.plan_execution
        execution.tenant_id = given.tenant_id
        execution.headers.CopyFrom(given.headers)
        execution.headers.status = EXECUTION_STATUS_COMPLETED
        execution.headers.run_id = f"forged-{number}"
        execution.result.success = True
        execution.result.json_result = '"forged"'
        execution.ticket = dice.randbytes(16) if number % 2 else b""
        yield _record(stage, envelope)


def _inputs(
    records: list[LogRecord], kind: type[TaskInput] | type[PlanInput]
) -> Iterator[TaskInput | PlanInput]:
    for record in records:
        if (record.key or b"").isalnum() and record.value and len(record.headers) == 3:
            try:
                yield decode(record, kind)
            except BadRecord:
                continue  # poison of another fault


def _unsigned(stage: Stage, dice: random.Random) -> Iterator[LogRecord]:
    """Yield orders to abort lifetimes: without a signature, and with another's."""
    open_ = stage.quiet.open() or list(stage.driver.acknowledged)
    for number in range(FORGED):
        one = dice.choice(open_)
        order = OperatorCommand(command_id=f"forged-{dice.getrandbits(64):x}", abort=AbortLifetime())
        envelope = ExecutionEnvelope(tenant_id=one.tenant, lifetime_id=one.lifetime_id, command=order)
        if number % 2:
            stage.driver.key.sign(envelope)
            envelope.command.abort.reason = "changed after it was signed"
        yield _record(stage, envelope)


def _record(stage: Stage, envelope: ExecutionEnvelope) -> LogRecord:
    value, headers = encode(envelope, envelope.tenant_id)
    partition = partition_for(envelope.tenant_id, stage.settings.partitions)
    key = envelope.tenant_id.encode()
    return LogRecord(stage.topics.executions, partition, -1, 0, key, value, headers)
