"""Whatever envelope decodes, the fold takes it or puts it aside: it never raises, and says the same again."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headgate_protos.v1 import execution_pb2
from headgate_protos.v1.plan_pb2 import PlanInput
from headgate_streams.codec import encode
from tests.unit.guardrails.graphs_for_tests import FORK, LOOP, PAID, graph, policy, rule
from tests.unit.guardrails.world import TENANT, World

LONG = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PEOPLE = graph([("p1", "t1"), ("t1", "p1"), ("p1", "end", "final")], entry="p1", t1={"type": "human"})
CAPS = policy(
    rule("tokens", limit={"tokens_used": 500}, action="pause_lifetime", pause={"ttl": "1h"}),
    rule("day", "tenant", limit={"cost_usd": 1}, window="1d", action="throttle"),
    rule("age", limit={"wall_time": "1d"}),
    rule("round", no_progress={"repeats": 3}, action="warn"),
    rule("when", "execution", when="iteration > 3 && sum(tokens_used) > 100", action="reject_execution"),
)
PAYLOADS = [
    *("lifetime_start", "execution_started", "task_execution", "plan_execution", "heartbeat", "command"),
    *("graph_registered", "policy_set", "tick", "command", "command", "plan_execution", "task_execution"),
]
NUMBERS = st.sampled_from([0, 1, 2, 3, 5, 100, -1, 2**31 - 1, -(2**31)])
LARGE = NUMBERS | st.sampled_from([2**53, 2**62, 2**63 - 1, -(2**63), 10**12])
WORDS = st.sampled_from(
    [
        *("", "g", "1.0.0", "p1", "t1", "ta", "tb", "tc", "p2", "end", "run-1", "run-2", "caps", "tokens"),
        *("tokens_used", "cost_usd", "null", "{}", "[1]", "x" * 200, "\x1b[31m\n%s", "a/b"),
        *("PAUSED", "NOT_BEGUN", "WITHDRAWN"),
    ]
)


class Pool:
    """What a hostile writer may have seen: the ids in use."""

    def __init__(self, world: World) -> None:
        given = world.inputs[-6:]
        self.words = WORDS | st.sampled_from(
            [TENANT, *(m.headers.execution_id for m in given), *(f"r{n:031d}" for n in range(1, 4))]
        )


def fill(draw: st.DrawFn, message: Message, pool: Pool, left: int) -> None:
    """Set some fields of a message, down to `left` levels, with what is likely to matter."""
    descriptor: Descriptor = message.DESCRIPTOR
    chosen = [
        draw(st.sampled_from([f for f in one.fields if f.name != "release"])) for one in descriptor.oneofs
    ]
    for field in descriptor.fields:
        if draw(st.integers(0, 3)) == 0 or (field.containing_oneof is not None and field not in chosen):
            continue
        if field.is_repeated:
            for _ in range(draw(st.integers(0, 2))):
                if field.message_type is not None:
                    if left:
                        fill(draw, getattr(message, field.name).add(), pool, left - 1)
                else:
                    getattr(message, field.name).append(draw(scalar(field, pool)))
        elif field.message_type is not None:
            if left:
                part = getattr(message, field.name)
                part.SetInParent()
                fill(draw, part, pool, left - 1)
        else:
            setattr(message, field.name, draw(scalar(field, pool)))


def scalar(field: FieldDescriptor, pool: Pool) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        return st.sampled_from([one.number for one in field.enum_type.values])
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            if field.type == FieldDescriptor.TYPE_BYTES:
                return st.binary(max_size=40)
            return pool.words
        case FieldDescriptor.CPPTYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.CPPTYPE_INT32:
            return NUMBERS
    return LARGE


@st.composite
def envelope(draw: st.DrawFn, world: World) -> execution_pb2.ExecutionEnvelope:
    """Return anything that decodes: mostly about what is there, now and then about nothing at all."""
    pool, kind = Pool(world), draw(st.sampled_from(PAYLOADS))
    made = execution_pb2.ExecutionEnvelope(envelope_id=str(len(world.records)))
    made.tenant_id = "*" if kind == "tick" or (kind == "policy_set" and draw(st.booleans())) else TENANT
    made.lifetime_id = draw(st.sampled_from(["run-1", "run-1", "run-2", "", "x/y"]))
    payload = getattr(made, kind)
    payload.SetInParent()
    is_likely = draw(st.integers(0, 9)) > 0
    if kind in ("task_execution", "plan_execution"):
        _result(draw, world, pool, made, kind, is_likely)
    elif kind == "execution_started" and world.inputs and is_likely:
        headers = draw(st.sampled_from(world.inputs)).headers
        made.lifetime_id, payload.execution_id = headers.lifetime_id, headers.execution_id
        payload.node_id, payload.iteration, payload.attempt = (
            headers.node_id,
            headers.iteration,
            headers.attempt,
        )
        payload.run_id = draw(pool.words)
    else:
        fill(draw, payload, pool, 4)
    if kind == "command" and is_likely:
        payload.command_id = f"c{len(world.records)}"
        if payload.WhichOneof("command") == "raise_budget":
            payload.raise_budget.policy = "caps"
            payload.raise_budget.rule, payload.raise_budget.metric = draw(
                st.sampled_from([("tokens", "tokens_used"), ("day", "cost_usd"), ("age", "wall_time_ms")])
            )
    if kind == "lifetime_start" and is_likely:
        payload.graph_id, payload.graph_version = "g", ""
        payload.issued_at.FromMilliseconds(world.clock)
    if draw(st.integers(0, 4)):
        without_blobs(payload)
    return made


def _result(
    draw: st.DrawFn,
    world: World,
    pool: Pool,
    made: execution_pb2.ExecutionEnvelope,
    kind: str,
    is_likely: bool,
) -> None:
    payload = getattr(made, kind)
    given = [one for one in world.inputs if isinstance(one, PlanInput) == (kind == "plan_execution")]
    if given and is_likely:
        payload.headers.CopyFrom(draw(st.sampled_from(given)).headers)
        fill(draw, payload.result, pool, 3)
        fill(draw, payload.resource_usage, pool, 1)
        payload.headers.run_id = draw(pool.words)
        payload.headers.status = draw(st.integers(1, 6))
    else:
        fill(draw, payload, pool, 4)
    payload.tenant_id = TENANT
    if is_likely:
        made.lifetime_id = payload.headers.lifetime_id


def without_blobs(message: Message) -> None:
    """Take out references, which would be all that is looked at."""
    for field, held in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.name == "BlobReference":
            message.ClearField(field.name)
            continue
        for part in held if field.is_repeated else [held]:
            without_blobs(part)


@LONG
@given(data=st.data())
def test_no_envelope_makes_the_fold_raise_and_it_always_says_the_same(data: st.DataObject) -> None:
    definition = data.draw(st.sampled_from([LOOP, PAID, FORK, PEOPLE]))
    world = World(definition, *data.draw(st.sampled_from([(), (CAPS,)])))
    world.start("g")
    for _ in range(data.draw(st.integers(1, 25))):
        match data.draw(st.integers(0, 5)):
            case 0:
                world.tick(data.draw(st.sampled_from([1, 1_000, 60_000, 86_400_000, 10**10])))
            case 1 if world.inputs:
                message = data.draw(st.sampled_from(world.inputs))
                names = list(getattr(message, "allowed_next_ids", []))
                world.report(message, {"n": 1}, next=names[:1])
            case 2:
                world.start("g", data.draw(st.sampled_from(["run-1", "run-2", "run-3"])))
            case _:
                made = data.draw(envelope(world))
                value, headers = encode(made, made.tenant_id)
                world.append_raw(value, headers, made.tenant_id.encode())
        assert all(encode(one.message, one.tenant_id) for one in world.outputs[-50:])
    world.refold()
