"""Dead letters by command and in Python: found, shown safely, put back once, deleted as far as a log can."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.client import Client
from headgate.command.views.letters import ADVICE, hex_dump
from headgate.dead_letters import DeadLetters, FoundLetter, LetterFilter
from headgate.reading import partitions_of, read_to_now
from headgate.settings import open_settings
from headgate_graphs.errors import BadRecord, UserError
from headgate_streams.codec import encode
from headgate_streams.letters import dead_letter
from headgate_streams.port import Headers, LogRecord
from headgate_streams.topics import partition_for
from tests.house.pages import code, table_of

Command = Callable[..., tuple[int, str, str]]
HEADERS: Headers = (("hg-type", b"ExecutionEnvelope"), ("hg-tenant", b"default"), ("traceparent", b"00-\xff"))


class Box:
    """Writes letters as a gate does."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.letters = DeadLetters(client.log, client.topics)
        self.count = client.observer.partitions()
        self.offsets = itertools.count(7)

    def put(self, reason: str = "DECODE", tenant: str = "default", **more: Any) -> str:
        """Append the letter of a record; return its id."""
        topics = self.client.topics
        given: dict[str, Any] = {
            "topic": topics.executions,
            "partition": 1,
            "offset": next(self.offsets),
            "timestamp_ms": 1_700_000_000_000,
            "key": tenant.encode(),
            "value": b"\x1b[31mred\n\x00",
            "headers": HEADERS,
        }
        letter = dead_letter(LogRecord(**given | more), BadRecord(reason, "why\n\x1b[31m"))
        letter.tenant_id = tenant
        value, headers = encode(letter, tenant)
        producer, landed = self.client.log.producer(), []
        producer.append(
            topics.dead_letters,
            partition_for(tenant, self.count),
            key=tenant.encode(),
            value=value,
            headers=headers,
            on_delivery=landed.append,
        )
        producer.close()
        return f"{landed[0].partition}:{landed[0].offset}"

    def records(self) -> list[LogRecord]:
        log, topics = self.client.log, self.client.topics
        return list(read_to_now(log, partitions_of(log, [topics.executions])))

    def find(self, **wanted: Any) -> list[FoundLetter]:
        return self.letters.find(LetterFilter(**wanted))


@pytest.fixture
def box(client: Client) -> Box:
    return Box(client)


@pytest.fixture
def boxed(command: Command) -> Iterator[tuple[Command, Box]]:
    """The command, and a box on the log that it works on."""
    command("list")
    with Client.open(open_settings({"local": Path(".headgate")})) as opened:
        yield command, Box(opened)


def test_letters_are_found_by_what_they_are_and_the_newest_is_last(box: Box) -> None:
    ids = [
        box.put("DECODE"),
        box.put("SIZE", tenant="acme"),
        box.put("DECODE", topic="headgate.task-inputs"),
        box.put("DECODE", tenant="*"),
    ]
    assert {one.id for one in box.find()} == set(ids)
    assert [one.when_ms for one in box.find()] == sorted(one.when_ms for one in box.find())
    assert [one.id for one in box.find(reason="SIZE")] == ids[1:2]
    assert [one.id for one in box.find(tenant="default")] == [ids[0], ids[2]]
    assert [one.id for one in box.find(tenant="*")] == ids[3:]
    assert [one.id for one in box.find(topic="headgate.task-inputs")] == ids[2:3]
    newest_ms = box.find()[-1].when_ms
    assert box.find(since_ms=newest_ms + 1) == []
    assert box.find(before_ms=newest_ms + 1) == box.find()
    assert box.find(before_ms=1) == []


def test_a_record_is_put_back_as_it_was_with_one_header_more(box: Box) -> None:
    found = box.letters.named(box.put())
    delivery = box.letters.requeue(found)
    (record,) = box.records()
    assert (record.partition, record.offset) == (1, 0) == (delivery.partition, delivery.offset)
    assert (record.key, record.value) == (b"default", b"\x1b[31mred\n\x00")
    assert record.headers == (*HEADERS, ("hg-requeued", found.id.encode()))


def test_no_key_and_no_value_stay_so(box: Box) -> None:
    for given in ({"key": None, "value": None}, {"key": b"", "value": b""}):
        box.letters.requeue(box.letters.named(box.put("EMPTY", **given)))
    assert [(one.key, one.value) for one in box.records()] == [(None, None), (b"", b"")]


def test_a_record_is_put_back_once_unless_somebody_says_again(box: Box) -> None:
    letter_id = box.put()
    before = box.letters.named(letter_id)
    box.letters.requeue(before)
    assert box.letters.named(letter_id).requeued_ms is not None
    with pytest.raises(UserError, match="put back before"):
        box.letters.requeue(box.letters.named(letter_id))
    with pytest.raises(UserError, match="somebody else"):
        box.letters.requeue(before)  # read before the other had put it back
    assert len(box.records()) == 1
    box.letters.requeue(box.letters.named(letter_id), again=True)
    assert len(box.records()) == 2


def test_two_who_begin_at_once_put_it_back_once(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    found = box.letters.named(box.put())
    other = DeadLetters(box.client.log, box.client.topics)
    real = other._mark
    outcomes: list[str] = []

    def late(letter: FoundLetter, *, again: bool) -> bool:
        box.letters.requeue(found)  # the other one is faster by a moment
        return real(letter, again=again)

    monkeypatch.setattr(other, "_mark", late)
    with pytest.raises(UserError, match="somebody else"):
        other.requeue(found)
    assert outcomes == []
    assert len(box.records()) == 1


def test_what_is_said_of_a_record_twice_is_one_letter(box: Box) -> None:
    first, _, other = (box.put(offset=offset) for offset in (7, 7, 8))
    assert [one.id for one in box.find()] == [first, other]
    box.letters.requeue(box.letters.named(first))
    assert [one.requeued_ms is None for one in box.find()] == [False, True]


def test_what_was_not_kept_whole_or_is_no_record_of_the_log_is_not_put_back(box: Box) -> None:
    for given, words in (
        ({"value": b"x" * 65_537}, "not kept whole"),
        ({"headers": tuple((f"h{n}", b"") for n in range(33))}, "not kept whole"),
        ({"topic": "headgate.task-inputs"}, "dispatches anew"),
        ({"topic": "somebody-elses"}, "only records of headgate.executions"),
    ):
        with pytest.raises(UserError, match=words):
            box.letters.requeue(box.letters.named(box.put(**given)))
    assert box.records() == []
    assert [one.requeued_ms for one in box.find()] == [None] * 4


def test_a_record_from_the_wrong_partition_goes_where_it_belongs(box: Box) -> None:
    home = partition_for("acme", box.count)
    box.letters.requeue(
        box.letters.named(box.put("WRONG_PARTITION", "acme", partition=(home + 1) % box.count))
    )
    assert [one.partition for one in box.records()] == [home]


def test_purging_takes_the_oldest_as_far_as_all_match(box: Box) -> None:
    ids = [box.put("DECODE"), box.put("DECODE"), box.put("SIZE"), box.put("DECODE")]
    (plan,) = box.letters.plan_purge(LetterFilter("default", "DECODE"))
    assert (plan.letters, plan.kept) == (2, 1)
    box.letters.purge([plan])
    assert [one.id for one in box.find()] == ids[2:]
    late = box.put("DECODE")
    plans = box.letters.plan_purge(LetterFilter())
    later = box.put("DECODE")
    box.letters.purge(plans)
    assert late not in [one.id for one in box.find()]
    assert [one.id for one in box.find()] == [later]


def test_bytes_are_shown_so_that_they_do_no_harm() -> None:
    lines = list(hex_dump(b"\x1b[31m\n%s" + bytes(range(256)), 32))
    assert lines[0] == "00000000  1b 5b 33 31 6d 0a 25 73 00 01 02 03 04 05 06 07  |.[31m.%s........|"
    assert all(line.isprintable() for line in lines)
    assert lines[-1].startswith("… and 232 bytes more")


def test_there_is_advice_for_every_reason() -> None:
    reasons = {one for row in table_of("codes", "letters").rows for one in code(row["reason"])}
    assert reasons <= set(ADVICE)


def test_the_list_is_a_table_or_json_and_has_filters(boxed: tuple[Command, Box]) -> None:
    command, box = boxed
    ids = [box.put("DECODE"), box.put("SIZE"), box.put("SIZE", "acme")]
    code, out, _ = command("dlq", "list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if " DECODE " in line or " SIZE " in line] == ids[:2]
    assert "\x1b" not in out
    shown = json.loads(command("dlq", "list", "--every-tenant", "--reason", "size", "--json")[1])
    assert {one["id"] for one in shown} == set(ids[1:])
    shown = json.loads(command("dlq", "list", "--every-tenant", "--limit", "1", "--json")[1])
    assert len(shown) == 1
    assert json.loads(command("dlq", "list", "--since", "1h", "--json")[1]) != []
    assert json.loads(command("dlq", "list", "--since", "2999-01-01", "--json")[1]) == []
    assert "no dead letters of tenant nobody" in command("dlq", "list", "--tenant", "nobody")[1]
    assert "older ones are not shown" in command("dlq", "list", "--limit", "1")[1]


def test_one_letter_is_shown_with_what_to_do_and_its_bytes(boxed: tuple[Command, Box]) -> None:
    command, box = boxed
    letter_id = box.put()
    code, out, _ = command("dlq", "show", letter_id)
    assert code == 0
    assert "reason: DECODE" in out
    assert f"what_to_do: {ADVICE['DECODE']}" in out
    assert "header traceparent: 00-\\xff" in out
    assert "1b 5b 33 31 6d" in out
    assert "\x1b" not in out
    shown = json.loads(command("dlq", "show", letter_id, "--json")[1])
    assert bytes.fromhex(shown["value_hex"]) == b"\x1b[31mred\n\x00"


def test_requeue_says_what_it_did_and_refuses_with_exit_code_2(boxed: tuple[Command, Box]) -> None:
    command, box = boxed
    letter_id = box.put()
    code, out, _ = command("dlq", "requeue", letter_id)
    assert (code, out) == (0, f"{letter_id}: put back at headgate.executions/1@0; no gate has read it yet\n")
    code, out, _ = command("dlq", "requeue", letter_id)
    assert (code, "--again" in out) == (2, True)
    code, out, _ = command("dlq", "requeue", letter_id, "--again", "--json")
    assert (code, json.loads(out)[0]["done"]) == (0, True)
    assert "put_back_at: 2" in command("dlq", "show", letter_id)[1]
    assert len(box.records()) == 2


def test_what_filters_find_is_put_back_or_purged_with_yes_alone(boxed: tuple[Command, Box]) -> None:
    command, box = boxed
    ids = [box.put("WRONG_PARTITION"), box.put("DECODE")]
    code, out, _ = command("dlq", "requeue", "--reason", "WRONG_PARTITION")
    assert (code, "add --yes" in out, box.records()) == (0, True, [])
    assert json.loads(command("dlq", "requeue", "--json")[1]) == {"would_requeue": ids}
    assert command("dlq", "requeue", "--reason", "WRONG_PARTITION", "--yes")[0] == 0
    assert len(box.records()) == 1
    assert command("dlq", "requeue", "--reason", "CONFLICT", "--yes")[1] == "no dead letters to put back\n"
    code, out, _ = command("dlq", "purge")
    assert (code, out) == (
        0,
        "would delete 2 dead letters of tenant default\nnothing is deleted yet: add --yes\n",
    )
    assert json.loads(command("dlq", "purge", "--before", "1h", "--yes", "--json")[1])["deleted"] == 0
    assert command("dlq", "purge", "--yes")[1] == "deleted 2 dead letters of tenant default\n"
    assert box.find() == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["dlq", "show", "1:1"],
        ["dlq", "show", "x"],
        ["dlq", "show", "999:1"],
        ["dlq", "show", "\x1b[31m\n"],
        ["dlq", "requeue", "1:1"],
        ["dlq", "requeue", "1:1", "--reason", "DECODE"],
        ["dlq", "list", "--since", "soon"],
        ["dlq", "list", "--limit", "0"],
        ["dlq", "purge", "--before", "2026-99-99"],
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(command: Command, arguments: list[str]) -> None:
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("headgate: ")
    assert err.count("\n") == 1
    assert err.rstrip("\n").isprintable()
