from __future__ import annotations

import pytest

from headgate_protos.v1.task_pb2 import TaskInput
from headgate_workers import crew
from headgate_workers.leases import LeaseBook
from headgate_workers.metering import MAX_AMOUNT, UsageMeter, nano_usd
from headgate_workers.ready.prices import price_of
from headgate_workers.share import Share
from headgate_workers.work import Work


@pytest.mark.parametrize(
    "wrong",
    [
        {"tokens_used": -1},
        {"tokens_used": 1.5},
        {"tokens_used": True},
        {"tokens_used": 2**63},
        {"cost_usd": float("nan")},
        {"cost_usd": float("inf")},
        {"cost_usd": -0.1},
        {"cost_usd": "much"},
        {"cost_nano_usd": 2**70},
    ],
)
def test_absurd_amounts_are_refused_and_add_nothing(wrong: dict[str, object]) -> None:
    meter = UsageMeter()
    with pytest.raises(ValueError, match="usage"):
        meter.add(**wrong)  # type: ignore[arg-type]
    assert meter.snapshot(0).ByteSize() == 0


def test_sums_stay_in_range() -> None:
    meter = UsageMeter()
    for _ in range(3):
        meter.add(tokens_used=MAX_AMOUNT)
    assert meter.snapshot(0).tokens_used == MAX_AMOUNT


def test_cost_is_rounded_up_to_a_nano() -> None:
    assert nano_usd("0.0000000001") == 1
    assert nano_usd(0.1) == 100_000_000


def test_a_call_that_was_torn_off_is_unpriced_and_one_that_ended_is_not() -> None:
    meter = UsageMeter()
    with meter.call():
        assert meter.snapshot(0).unpriced
    assert not meter.snapshot(0).unpriced
    with pytest.raises(KeyError), meter.call():
        raise KeyError
    assert meter.snapshot(0).unpriced
    meter.close_call()
    assert not meter.snapshot(0).unpriced


def test_saying_zero_is_saying_something() -> None:
    meter = UsageMeter()
    assert meter.snapshot(0, must_be_told=True).unpriced
    meter.add(tokens_used=0)
    assert not meter.snapshot(0, must_be_told=True).unpriced


def test_prices_come_from_the_table_by_endpoint_or_by_name() -> None:
    known = price_of("gpt-4o", input_tokens=1000, output_tokens=100)
    proxied = price_of("gpt-4o", input_tokens=1000, output_tokens=100, base_url="http://127.0.0.1:1/v1")
    assert known is not None
    assert known == proxied
    assert known.cost_usd > 0
    assert price_of("nobody-knows-it", input_tokens=1, output_tokens=1) is None


def _work(tenant: str, lease_ms: int) -> Work:
    received = TaskInput(tenant_id=tenant, leased=True)
    received.lease.FromMilliseconds(lease_ms)
    return Work(received, Share.__new__(Share), 0, f"run-{lease_ms}-{tenant}")


def test_all_runs_of_a_tenant_are_renewed_when_the_shortest_third_has_passed() -> None:
    book = LeaseBook()
    short, long, other = _work("one", 300), _work("one", 3000), _work("two", 3000)
    for work in (short, long, other):
        book.add(work, 0.0)
    assert book.due(0.09) == []
    assert book.due(0.11) == [("one", [short, long])]
    assert book.due(0.12) == []
    book.drop(short)
    book.drop(short)
    assert book.due(0.25) == [("one", [long])]
    assert book.due(1.0) == [("two", [other])]
    book.drop(long)
    book.drop(other)
    assert book.due(99.0) == []


def test_more_runs_than_fit_a_record_are_renewed_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "MAX_RENEWED", 2)
    made = crew.Crew(lambda: pytest.fail("nothing is run"), 1.0)
    works = [_work("one", 1 + number) for number in range(5)]
    for work in works:
        made._leases.add(work, -99.0)
    assert made.renewals() == [("one", works[:2]), ("one", works[2:4]), ("one", works[4:])]
