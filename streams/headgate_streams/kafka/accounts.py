"""Users, what they may do and how much: SCRAM credentials, ACLs and quotas of a Kafka cluster.

For whoever administers the cluster; gates, workers and clients never need it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it exports these without saying so
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from headgate_graphs.errors import AccessRefused, HeadgateError, UserError
from headgate_streams.kafka.clients import ANSWER_S, SHARED, kafka_error, meaning, metadata
from headgate_streams.kafka.material import Held, Material
from headgate_streams.kafka.quotas import read_quotas, set_quotas
from headgate_streams.kafka.wire import Connection
from headgate_streams.roles import Grant
from headgate_streams.security import SaslMechanism

_T = TypeVar("_T")
_ITERATIONS: Final = 8192
"""Rounds of hashing a stored password; passwords made here are random, so more would gain nothing."""
_MECHANISMS: Final = {
    "SCRAM-SHA-256": ScramMechanism.SCRAM_SHA_256,
    "SCRAM-SHA-512": ScramMechanism.SCRAM_SHA_512,
}

_NEEDED: Final = frozenset(
    {
        AclOperation.ALTER,
        AclOperation.ALTER_CONFIGS,
        AclOperation.CREATE,
        AclOperation.DESCRIBE,
        AclOperation.DESCRIBE_CONFIGS,
    }
)
"""What making tenants takes, on the cluster."""


class KafkaAccounts:
    """The accounts of one cluster, as an administrator sees them. Every call waits for the broker."""

    def __init__(self, material: Material) -> None:
        self._material = material
        self._held: Held[AdminClient] = Held(AdminClient, SHARED, material)

    def check(self) -> None:
        """Raise AccessRefused when this user is no administrator, LogUnavailable when no broker lets it in.

        Call it before anything else here: the client library (librdkafka 2.16) does not survive the refusal
        of a question about SCRAM users.
        """
        metadata(self._held.client, self._held.troubles, "to an administrator")
        ask = self._held.client.describe_cluster
        (found,) = self._wait(
            lambda: {"": ask(include_authorized_operations=True, request_timeout=ANSWER_S)},
            "cannot ask what this user may do",
        )
        if lacking := sorted(one.name for one in _NEEDED.difference(found.authorized_operations or ())):
            raise AccessRefused(
                f"user {self._material.security.username!a} is no administrator: no ACL for"
                f" {', '.join(lacking)} on the cluster"
            )

    def users(self, names: Iterable[str]) -> set[str]:
        """Return those of `names` that have a password."""
        ask: Any = self._held.client.describe_user_scram_credentials
        futures = ask(list(names), request_timeout=ANSWER_S)
        return {name for name, future in futures.items() if self._exists(future)}

    def _exists(self, future: Any) -> bool:
        try:
            return bool(future.result(ANSWER_S + 1).scram_credential_infos)
        except KafkaException as exception:
            error = kafka_error(exception)
            if error.code() == KafkaError.RESOURCE_NOT_FOUND:
                return False
            raise self._explained(error, "cannot look at users") from exception

    def set_password(self, user: str, password: str, mechanism: SaslMechanism) -> None:
        """Make a user, or give it another password; who is connected stays so.

        Raises:
            UserError: The mechanism keeps no passwords in the cluster.
        """
        if mechanism not in _MECHANISMS:
            raise UserError(f"users of {mechanism} are not kept in the cluster: use SCRAM-SHA-512")
        credential = ScramCredentialInfo(_MECHANISMS[mechanism], _ITERATIONS)
        change = UserScramCredentialUpsertion(user, credential, password.encode())
        ask = self._held.client.alter_user_scram_credentials
        self._wait(lambda: ask([change], request_timeout=ANSWER_S), f"cannot set the password of {user}")

    def grants(self, user: str) -> frozenset[Grant]:
        """Return all that a user is allowed by ACLs of its own, as far as it can be said as grants."""
        anything: Any = None  # as the client has it; its types do not say so
        wanted = AclBindingFilter(
            ResourceType.ANY,
            anything,
            ResourcePatternType.ANY,
            _principal(user),
            anything,
            AclOperation.ANY,
            AclPermissionType.ALLOW,
        )
        future = self._held.client.describe_acls(wanted, request_timeout=ANSWER_S)
        found = self._wait(lambda: {"": future}, "cannot look at ACLs")[0]
        return frozenset(_grant(binding) for binding in found)

    def allow(self, user: str, grants: Iterable[Grant]) -> None:
        """Make ACLs; those that exist stay as they are."""
        bindings = [_binding(user, grant) for grant in sorted(grants)]
        if bindings:
            ask = self._held.client.create_acls
            self._wait(lambda: ask(bindings, request_timeout=ANSWER_S), f"cannot make the ACLs of {user}")

    def quotas(self, users: Iterable[str]) -> dict[str, dict[str, float]]:
        """Return the quotas of each user: name to bytes per second and broker."""
        with Connection(self._material.options()) as connection:
            return read_quotas(connection, users)

    def set_quotas(self, wanted: Mapping[str, Mapping[str, float | None]]) -> None:
        """Set quotas of users; None removes one."""
        with Connection(self._material.options()) as connection:
            set_quotas(connection, wanted)

    def _wait(self, ask: Callable[[], Mapping[Any, Any]], doing: str) -> list[Any]:
        try:
            return [future.result(ANSWER_S + 1) for future in ask().values()]
        except KafkaException as exception:
            raise self._explained(kafka_error(exception), doing) from exception
        except TimeoutError as error:
            raise self._held.troubles.unavailable(f"({doing})") from error

    def _explained(self, error: KafkaError, doing: str) -> HeadgateError:
        if error.code() == KafkaError.SECURITY_DISABLED:
            return UserError(f"{doing}: the broker has no authorizer, so it keeps no ACLs")
        return meaning(error, doing)


def _principal(user: str) -> str:
    return f"User:{user}"


def _binding(user: str, grant: Grant) -> AclBinding:
    pattern = ResourcePatternType.PREFIXED if grant.is_prefix else ResourcePatternType.LITERAL
    kind, operation = ResourceType[grant.kind], AclOperation[grant.operation]
    return AclBinding(kind, grant.name, pattern, _principal(user), "*", operation, AclPermissionType.ALLOW)


def _grant(binding: Any) -> Grant:
    is_prefix = binding.resource_pattern_type == ResourcePatternType.PREFIXED
    return Grant(binding.restype.name, binding.name, is_prefix, binding.operation.name)
