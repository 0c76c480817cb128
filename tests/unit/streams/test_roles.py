"""The ACLs of each role, of the shared topics and of a tenant's own."""

from __future__ import annotations

import pytest

from headgate_graphs.errors import UserError
from headgate_streams.blob_access import bucket_policy
from headgate_streams.roles import Grant, Role, grants_of, user_of
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import Topics

SHARED, ACME, NEAR = Topics("hg"), Topics("hg", "acme"), Topics("hg", "acme-2")


def names(topics: Topics, role: Role, operation: str, kind: str = "TOPIC") -> set[str]:
    """Return what a role may do an operation on, without the prefix; `*` stands for all that begin so."""
    found = (one for one in grants_of(topics, role) if (one.kind, one.operation) == (kind, operation))
    return {one.name.removeprefix(f"{topics.prefix}.") + ("*" if one.is_prefix else "") for one in found}


INPUTS = {"task-inputs", "plan-inputs", "task-inputs.*", "plan-inputs.*"}
EVERY = {"executions", "control-events", "lifetimes", "checkpoints", "dead-letters", *INPUTS}


@pytest.mark.parametrize("topics", [SHARED, ACME])
@pytest.mark.parametrize(
    ("role", "writes", "reads", "joins"),
    [
        (Role.GATE, EVERY, {"executions", "checkpoints"}, {"gate"}),
        (
            Role.WORKER,
            {"executions", "dead-letters"},
            {"control-events", *INPUTS},
            {"task-workers", "plan-workers", "task-workers.*", "plan-workers.*"},
        ),
        (Role.CLIENT, {"executions"}, EVERY - INPUTS, set()),
        (Role.OPERATOR, {"executions", "dead-letters"}, EVERY - INPUTS, set()),
        (Role.AUDITOR, set(), EVERY, set()),
    ],
)
def test_role_may_do_what_it_must_and_no_more(
    topics: Topics, role: Role, writes: set[str], reads: set[str], joins: set[str]
) -> None:
    assert names(topics, role, "WRITE") == writes
    assert names(topics, role, "READ") == reads
    assert names(topics, role, "READ", "GROUP") == joins


def test_only_the_gate_makes_topics_and_only_those_of_named_queues() -> None:
    made = {role: names(ACME, role, "CREATE") for role in Role}
    assert made == {role: {"task-inputs.*", "plan-inputs.*"} if role is Role.GATE else set() for role in Role}


def test_only_an_operator_deletes_records_and_only_dead_letters() -> None:
    deleted = {role: names(ACME, role, "DELETE") for role in Role}
    assert deleted == {role: {"dead-letters"} if role is Role.OPERATOR else set() for role in Role}


def covers(grant: Grant, kind: str, name: str) -> bool:
    return grant.kind == kind and (name.startswith(grant.name) if grant.is_prefix else name == grant.name)


@pytest.mark.parametrize(("mine", "other"), [(ACME, NEAR), (NEAR, ACME), (SHARED, ACME), (ACME, SHARED)])
@pytest.mark.parametrize("role", Role)
def test_no_grant_reaches_into_another_placement(mine: Topics, other: Topics, role: Role) -> None:
    topics = [one.name for one in other.descriptions(1, ["gpu", "acme", "executions"])]
    groups = [other.gate_group, *(other.workers_group(k, q) for k in ("task", "plan") for q in ("", "gpu"))]
    for grant in grants_of(mine, role):
        assert [name for name in topics if covers(grant, "TOPIC", name)] == []
        assert [name for name in groups if covers(grant, "GROUP", name)] == []


def test_users_are_named_after_placement_and_role() -> None:
    assert user_of(SHARED, Role.GATE) == "hg.gate"
    assert user_of(ACME, Role.WORKER) == "hg.acme.worker"


def test_policy_of_a_bucket_names_the_tenants_part_alone() -> None:
    settings = StreamSettings(blob_url="s3://bkt/a/b/", placement="acme", topic_prefix="hg")
    assert bucket_policy(settings, Role.WORKER) == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:PutObject"],
                "Resource": "arn:aws:s3:::bkt/a/b/acme/*",
            }
        ],
    }
    (gate,) = bucket_policy(settings, Role.GATE)["Statement"]
    assert gate["Resource"] == "arn:aws:s3:::bkt/a/b/checkpoints.v*/hg.acme/*"


def test_shared_workers_keep_away_from_checkpoints() -> None:
    settings = StreamSettings(blob_url="s3://bkt")
    allowed, refused = bucket_policy(settings, Role.WORKER)["Statement"]
    assert (allowed["Effect"], allowed["Resource"]) == ("Allow", "arn:aws:s3:::bkt/*")
    assert (refused["Effect"], refused["Resource"]) == ("Deny", "arn:aws:s3:::bkt/checkpoints.v*")
    assert refused["Action"] == ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]


def test_policy_needs_a_bucket() -> None:
    for url in (None, "file:///x"):
        with pytest.raises(UserError, match="HEADGATE_BLOB_URL"):
            bucket_policy(StreamSettings(blob_url=url), Role.WORKER)
