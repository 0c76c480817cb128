"""Two things at once: pauses, freezes, joins, sub-graphs, people, retries and caps that meet."""

from __future__ import annotations

from tests.e2e.semantics import BILL, LIMITS, Case, Run, each, graph, loop, needs, policy, rule, visits

ASK = {"type": "human"}
SLOW = {"type": "slow"}

LOSING_PERSON = graph(
    "p parallel ta,tb",
    "ta,tb join j",
    "j normal tz",
    "tz normal q",
    "q final",
    p=visits("ta,tb"),
    j={"join": {"strategy": "any", "cancel_losers": True}},
    ta=SLOW,
    tb=ASK,
    tz=SLOW,
)


@needs(LOSING_PERSON)
def test_a_person_whose_branch_has_lost_is_not_asked_any_more(run: Run) -> None:
    run.start()
    run.waits_until(lambda: (view := run.view()) and view.waiting)
    run.open("ta")
    run.begins("tz")
    run.barrier()
    assert not run.becomes("running").waiting
    run.open()
    run.ends("completed")


CHILD = graph("t final", id="child", t=SLOW | {"limits": LIMITS, "does": BILL})
LOSING_GRAPH = graph(
    "p parallel ta,tb",
    "ta,tb join j",
    "j final",
    p=visits("ta,tb"),
    j={"join": {"strategy": "any", "cancel_losers": True}},
    ta=SLOW,
    tb={"type": "graph", "does": {"graph": "child"}},
)


@needs(LOSING_GRAPH, CHILD)
def test_a_sub_graph_whose_branch_has_lost_is_aborted_and_its_spend_counts(run: Run) -> None:
    run.start()
    run.waits_until(
        lambda: any(call.node == "t" and call.tenant == run.tenant for call in run.stage.handlers.calls)
    )
    child = next(c.lifetime for c in run.stage.handlers.calls if c.node == "t" and c.tenant == run.tenant)
    run.open("ta")
    view = run.ends("completed")
    assert run.was_stopped("t", child)
    assert run.ends("aborted", child).reason == "its branch lost"
    assert view.usage.tokens_used == 100


TIMED = graph(
    "p parallel ta,tb",
    "ta,tb join j",
    "j final",
    p=visits("ta,tb"),
    j={"join": {"strategy": "all", "timeout": "200ms", "on_timeout": "proceed"}},
    ta=SLOW,
    tb=SLOW,
)


@needs(TIMED)
def test_a_join_whose_time_is_up_in_a_pause_goes_on_after_it(run: Run) -> None:
    run.start("x")
    run.begins("tb")
    run.pause()
    run.open("ta")
    run.waits_until(lambda: run.results("ta"))
    came_ms = run.results("ta")[0].at_ms

    def time_is_up() -> bool:
        run.barrier()
        return run.said_at_ms() > came_ms + 300

    run.waits_until(time_is_up)
    assert not run.dispatched("j")
    run.resume()
    run.ends("completed", outcome={"ta": "x"}, settled=False)


@needs(graph("t normal p", "p final", t=ASK | {"timeout": "200ms"}))
def test_a_person_who_is_late_in_a_pause_is_late_after_it(run: Run) -> None:
    run.start()
    run.waits_until(lambda: (view := run.view()) and view.waiting)
    run.pause()
    began_ms = run.becomes("paused").started_at.ToMilliseconds()

    def time_is_up() -> bool:
        run.barrier()
        return run.said_at_ms() > began_ms + 300

    run.waits_until(time_is_up)
    assert not run.dispatched("p")
    run.resume()
    run.ends("completed", outcome={"t": "TIMEOUT"})


@needs(graph("t normal p", "p final", limits={"deadline": "300ms"}, t=SLOW))
def test_a_deadline_holds_in_a_pause_too(run: Run) -> None:
    run.start()
    run.begins("t")
    run.pause()
    run.freeze()
    assert run.ends("aborted").reason.startswith("DEADLINE")
    assert run.was_stopped("t")


RETRIED = graph("t normal p", "p final", t=SLOW | {"does": {"times": 1}, "backoff": "30ms", "max_retries": 1})


@each(Case(what, (RETRIED,), what) for what in ("pause", "freeze"))
def test_a_retry_waits_for_the_end_of_a_pause(run: Run, case: Case) -> None:
    run.start("x")
    run.begins("t")
    {"pause": run.pause, "freeze": run.freeze}[case.want]()
    run.open("t")
    run.waits_until(lambda: run.results("t"))
    failed_ms = run.results("t")[0].at_ms

    def time_is_up() -> bool:
        run.barrier()
        return run.said_at_ms() > failed_ms + 100

    run.waits_until(time_is_up)
    assert len(run.dispatched("t")) == 1
    {"pause": run.resume, "freeze": run.thaw}[case.want]()
    run.ends("completed", outcome={"t": "x"})
    assert [call.attempt for call in run.calls("t")] == [1, 2]


@needs(RETRIED)
def test_what_is_paused_and_frozen_goes_on_when_both_are_over(run: Run) -> None:
    run.start("x")
    run.begins("t")
    run.pause()
    run.freeze()
    run.freeze("g")
    run.open()
    for go_on in (run.resume, run.thaw):
        go_on()
        run.barrier()
        assert not run.dispatched("p")
    run.thaw("g")
    run.ends("completed", outcome={"t": "x"})


CAPPED = policy(rule(action="throttle", limit={"tokens_used": 50}, throttle={"delay": "60ms"}))


@needs(loop(), CAPPED)
def test_what_is_put_off_can_be_aborted(run: Run) -> None:
    run.start()
    run.event("THROTTLE_EXECUTION")
    run.abort()
    run.ends("aborted")
    run.barrier()
    assert not run.dispatched("t")


QUEUED = graph(
    "p parallel ta,tb",
    "ta normal q",
    "tb normal q",
    "q final",
    limits={"max_in_flight_by_type": {"slow": 1}},
    p=visits("ta,tb"),
    ta=SLOW,
    tb=SLOW,
)


@needs(QUEUED)
def test_what_waits_for_room_ends_with_its_lifetime_and_frees_it_for_others(run: Run) -> None:
    run.start(lifetime="one")
    run.begins("ta", lifetime="one")
    run.start(lifetime="two")
    run.barrier()
    run.abort("one")
    run.ends("aborted", "one")
    run.begins("ta", lifetime="two")
    assert not run.dispatched("tb", "one")
    run.open("ta")
    run.ends("completed", "two", settled=False)


TWICE_CAPPED = policy(
    rule("small", action="pause_lifetime", limit={"tokens_used": 150}),
    rule("large", "tenant", "pause_lifetime", limit={"tokens_used": 250}),
)


@needs(loop(4), TWICE_CAPPED)
def test_each_of_two_caps_must_be_raised(run: Run) -> None:
    run.start()
    assert run.becomes("paused").violations[0].rule == "small"
    run.raise_budget("tokens_used", 1_000, "small")
    run.waits_until(lambda: run.events("PAUSE_LIFETIME", rule="large"))
    run.barrier()
    assert [v.rule for v in run.becomes("paused").violations] == ["large"]
    run.raise_budget("tokens_used", 1_000, "large", lifetime=None)
    run.ends("completed")
    assert len(run.calls("t")) == 4
    run.never_over("tokens_used", 1_000)


@needs(loop(4), policy(rule(action="pause_lifetime", limit={"tokens_used": 250}, pause={"ttl": "5m"})))
def test_the_ttl_of_an_answered_pause_aborts_nothing(run: Run) -> None:
    run.start()
    run.becomes("paused")
    run.raise_budget("tokens_used", 1_000)
    view = run.ends("completed")
    assert view.reason == ""
    assert not view.violations


FORKED = graph(
    "p parallel ta,tb,tc",
    "ta,tb,tc join j",
    "j final",
    p=visits("ta,tb,tc"),
    j={"join": {"strategy": "all"}},
    ta={"type": "spend", "limits": LIMITS, "does": BILL, "max_retries": 0},
    tb={"type": "echo"},
    tc={"type": "fail", "max_retries": 0},
)


@needs(
    FORKED, policy(rule(scope="execution", action="reject_execution", deny={"task_types": ["echo", "spend"]}))
)
def test_a_join_gathers_what_was_rejected_as_failures(run: Run) -> None:
    run.start()
    run.ends("completed")
    assert run.upstream("j") == ["ta:REJECTED", "tb:REJECTED", "tc:HANDLER_ERROR"]
