from __future__ import annotations

import threading

from headgate_workers.once import once
from tests.support import eventually


class Slow:
    def __init__(self, release: threading.Event) -> None:
        self._release = release
        self.calls = 0

    @once
    def value(self) -> list[int]:
        self.calls += 1
        assert self._release.wait(10)
        return [self.calls]


def test_a_value_is_computed_once_and_kept() -> None:
    release = threading.Event()
    release.set()
    slow = Slow(release)
    assert slow.value is slow.value
    assert slow.calls == 1


def test_one_that_waits_holds_up_no_other_object() -> None:
    never, at_once = threading.Event(), threading.Event()
    at_once.set()
    waits, quick = Slow(never), Slow(at_once)
    thread = threading.Thread(target=lambda: waits.value)
    thread.start()
    eventually(lambda: waits.calls == 1)
    assert quick.value == [1]
    never.set()
    thread.join(10)
    assert waits.value == [1]
