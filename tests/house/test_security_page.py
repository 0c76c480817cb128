"""The page on security gives each role what the product gives it."""

from __future__ import annotations

import pytest

from headgate_streams.roles import Role, grants_of
from headgate_streams.topics import Topics
from tests.house.pages import code, table_of

TOPICS = Topics()
EVERYTHING = {one.name.removeprefix("headgate.") for one in TOPICS.descriptions(1)}


def said(text: str) -> set[str]:
    """Return the topics that a cell of the table means."""
    return {"everything": EVERYTHING, "nothing": set[str]()}.get(text, set(code(text)))


@pytest.mark.parametrize("row", table_of("roles", "headgate_streams.roles").rows, ids=lambda row: row["role"])
def test_role_on_the_page_may_do_what_the_role_may(row: dict[str, str]) -> None:
    grants = grants_of(TOPICS, Role(code(row["role"])[0]))

    def given(operation: str) -> set[str]:
        found = (one for one in grants if (one.kind, one.operation) == ("TOPIC", operation))
        return {one.name.removeprefix("headgate.").rstrip(".") for one in found}

    assert (given("WRITE"), given("READ")) == (said(row["writes"]), said(row["reads"]))


def test_every_role_is_on_the_page() -> None:
    rows = table_of("roles", "headgate_streams.roles").rows
    assert [code(row["role"])[0] for row in rows] == [role.value for role in Role]
