"""One run of chaos, from an empty set of topics to the report. Called by the command and by tests."""

from __future__ import annotations

import datetime
import json
import logging
import random
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from headgate_graphs.errors import UserError
from headgate_resilience.chaos.conductor import Conductor
from headgate_resilience.chaos.faults.catalogue import drawn
from headgate_resilience.chaos.faults.fault import FILES, NETWORK, S3, SERVERS, Fault
from headgate_resilience.chaos.fleet import Fleet
from headgate_resilience.chaos.proxy.network import Network
from headgate_resilience.chaos.report import STATUSES, ChaosReport, Checked
from headgate_resilience.chaos.settings import ChaosSettings
from headgate_resilience.chaos.stage import Servers, Stage
from headgate_resilience.chaos.watching.quiet import Quiet, names
from headgate_resilience.chaos.watching.recovery import p99_ms, seconds
from headgate_resilience.chaos.watching.timeline import Timeline
from headgate_resilience.chaos.workload.driver import Driver
from headgate_resilience.check import check_log
from headgate_streams.opening import open_blob_store, open_log
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import Topics

logger = logging.getLogger(__name__)

Tell = Callable[[str], None]
Judge = Callable[[Stage, ChaosReport, Tell], Checked]
"""Checks the topics of a run that has come to rest, or has not."""
PROGRESS_S = 5.0
TRIES_TO_REST = 5
CALM_MS = 250.0
"""A p99 below this counts as calm on any machine: what else runs there makes more of a difference."""
A_KILL_S = 60.0
"""How long a kill and its recovery may take: so long a run goes on for the sake of each that is wanted."""
KILLERS = frozenset({"F1", "F2"})
"""What is drawn from when the time is over and kills are missing."""


@dataclass(frozen=True)
class Wanted:
    """What a run is to do."""

    settings: ChaosSettings
    streams: StreamSettings
    """Where the broker and the blob store are; the topic prefix is the run's own."""
    faults: Sequence[Fault]
    rounds: Sequence[Sequence[Fault]] | None = None
    """Exactly these, in this order; none draws from `faults` until the time is over."""
    servers: Servers | None = None
    command: str = ""
    """How to have this run again; empty for the command as it was called."""


def run_chaos(wanted: Wanted, tell: Tell, judge: Judge | None = None) -> ChaosReport:
    """Run, heal, wait for quiet, check, and return the report; it is written into `settings.out`.

    Raises:
        UserError: The settings cannot be used: no broker is named, or the blob store's address is none.
        LogUnavailable: The broker does not answer at the start.
    """
    settings = wanted.settings
    if not wanted.streams.kafka:
        raise UserError("chaos needs a broker: give --kafka host:port")
    began = time.monotonic()
    report = ChaosReport(
        command=wanted.command or " ".join(["headgate", *sys.argv[1:]]),
        seed=settings.seed,
        settings=settings.model_dump(mode="json", exclude={"out"}),
        began_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    with ExitStack() as stack:
        stage = _stage(wanted, stack, tell)
        try:
            _play(stage, wanted, report, tell)
            _come_to_rest(stage, report, tell)
            report.check = (judge or checked)(stage, report, tell)
        except Exception as error:  # what was found so far is reported, and this with it
            report.failure = f"{type(error).__name__}: {error}"
            logger.exception("the run failed")
        finally:
            report.took_s = time.monotonic() - began
            tell(f"written: {', '.join(map(str, report.write(settings.out)))}")
    return report


def checked(stage: Stage, report: ChaosReport, tell: Tell) -> Checked:
    """Return what the checker says about the run's topics, blobs and logs."""
    told = [0.0]

    def progress(read: int, total: int) -> None:
        if time.monotonic() - told[0] > PROGRESS_S:
            told[0] = time.monotonic()
            tell(f"checking: {read} of {total} records")

    found = check_log(
        stage.log,
        stage.blobs,
        stage.settings,
        settled=report.is_quiet,
        canaries=stage.driver.canaries,
        progress=progress,
        acknowledged=[(one.tenant, one.lifetime_id) for one in stage.driver.acknowledged],
        logs=stage.fleet.home,
    )
    if report.calm_p99_ms:
        found.judge_latency(max(report.calm_p99_ms, CALM_MS), report.healed_p99_ms)
    else:
        report.unsteady.append("no step ended in the calm before the faults: latency is not judged")
    return found


# Setting the stage -----------------------------------------------------------------------------------------


def _stage(wanted: Wanted, stack: ExitStack, tell: Tell) -> Stage:
    settings = wanted.settings
    home = settings.out.absolute()
    home.mkdir(parents=True, exist_ok=True)
    streams = _own(wanted.streams, settings, home)
    topics = Topics(streams.topic_prefix)
    tell(f"seed {settings.seed}; topics {streams.topic_prefix}.* on {streams.kafka}; logs in {home}")
    log = open_log(streams)
    stack.callback(log.close)
    log.create_topics(topics.descriptions(streams.partitions))
    timeline = Timeline(log, topics, streams.partitions)
    opened: list[Quiet] = []
    driver = Driver(
        log,
        topics,
        streams.partitions,
        seed=settings.seed,
        tenants=settings.tenants,
        rate=settings.rate,
        most_open=settings.most_open,
        open_now=lambda: len(driver.acknowledged) - len(timeline.ended),
    )
    opened.append(Quiet(log, topics, timeline, driver))
    network = Network(settings.seed) if _is_in_the_clear(streams) else None
    if network is not None:
        stack.callback(network.close)
    fleet = Fleet(home / "processes")
    stage = Stage(
        log=log,
        blobs=open_blob_store(streams),
        settings=streams,
        topics=topics,
        fleet=fleet,
        timeline=timeline,
        driver=driver,
        quiet=opened[0],
        home=home,
        env=environment(streams),
        seed=settings.seed,
        network=network,
        servers=wanted.servers,
    )
    stack.callback(timeline.close)
    stack.callback(driver.close)
    stack.callback(fleet.close)
    stack.callback(stage.over.set)
    _populate(stage, settings)
    return stage


def _own(streams: StreamSettings, settings: ChaosSettings, home: Path) -> StreamSettings:
    """Return settings with topics of their own, and blobs beside the report unless a store is named."""
    given: dict[str, Any] = {"topic_prefix": f"chaos-{settings.seed}-{secrets.token_hex(3)}"}
    if not streams.ticket_keys:
        given["ticket_keys"] = [SecretStr(secrets.token_hex(16))]
    if streams.blob_url is None:
        given["blob_url"] = f"file://{home}/blobs"
    return streams.model_copy(update=given)


def _is_in_the_clear(streams: StreamSettings) -> bool:
    said = streams.kafka_options.get("security.protocol", streams.kafka_security_protocol)
    return "SSL" not in said.upper()


def environment(streams: StreamSettings) -> dict[str, str]:
    """Return the environment that gives a process these settings."""
    found: dict[str, str] = {}
    for name in type(streams).model_fields:
        value = _plain(getattr(streams, name))
        if value not in (None, {}, []):
            listed = isinstance(value, dict | list)
            found[f"HEADGATE_{name.upper()}"] = json.dumps(value) if listed else str(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def linked(stage: Stage, name: str) -> dict[str, str]:
    """Return the environment of a process that reaches Kafka and the blobs over links of its own name."""
    env = dict(stage.env)
    if not name.startswith("gate"):
        env.pop("HEADGATE_TICKET_KEYS", None)  # a worker cannot make tickets
    if stage.network is None or stage.settings.kafka is None:
        return env
    env["HEADGATE_KAFKA"] = stage.network.kafka(name, stage.settings.kafka)
    endpoint = stage.settings.s3_endpoint_url
    if endpoint and urlsplit(endpoint).scheme == "http":
        env["HEADGATE_S3_ENDPOINT_URL"] = f"http://{stage.network.blobs('blobs', urlsplit(endpoint).netloc)}"
    return env


def _populate(stage: Stage, settings: ChaosSettings) -> None:
    for number in range(1, settings.gates + 1):
        options = ("--checkpoint-every", str(settings.checkpoint_s))
        env = linked(stage, f"gate-{number}") | ({"HEADGATE_NEWEST_LOGIC": "1"} if settings.old_logic else {})
        stage.fleet.add(f"gate-{number}", "gate", env, options)
    for number in range(1, settings.workers + 1):
        kind = "task" if number % 2 else "plan"
        stage.fleet.add(f"{kind}-{(number + 1) // 2}", kind, linked(stage, f"{kind}-{(number + 1) // 2}"))


# Playing ---------------------------------------------------------------------------------------------------


def _play(stage: Stage, wanted: Wanted, report: ChaosReport, tell: Tell) -> None:
    settings = wanted.settings
    conductor = Conductor(stage, settings.steady_s, settings.rest_s, tell)
    report.marks, report.unsteady = conductor.marks, conductor.unsteady
    report.exits = stage.fleet.exits
    try:
        stage.driver.prepare()
        stage.timeline.start()
        stage.fleet.wait_ready()
        report.began_ms = conductor.now_ms()
        stage.driver.start()
        tell(f"{len(stage.fleet.places)} processes are ready; {settings.calm_s:.0f} s of calm")
        report.calm_p99_ms = _calm_p99_ms(stage, conductor, settings.calm_s)
        conductor.conduct(_rounds(wanted, tell), _enough(stage, wanted))
        _heal(stage)
        report.healed_p99_ms = _calm_p99_ms(stage, conductor, settings.calm_s)
        stage.driver.finish()
        report.is_quiet = stage.quiet.wait_quiet(settings.quiet_s, tell)
    finally:
        _fill(stage, report)


def _calm_p99_ms(stage: Stage, conductor: Conductor, calm_s: float) -> float:
    """Let it be calm for a while; return the p99 of the steps of the second half."""
    stage.hold(calm_s / 2)
    from_ms = conductor.now_ms()
    stage.hold(calm_s / 2)
    return p99_ms(stage.timeline.steps, from_ms, conductor.now_ms())


def _rounds(wanted: Wanted, tell: Tell) -> Iterable[Sequence[Fault]]:
    if wanted.rounds is not None:
        return wanted.rounds
    possible = [fault for fault in wanted.faults if fault.needs <= _there(wanted)]
    for fault in wanted.faults:
        if fault not in possible:
            tell(f"left out: {fault.name} needs {', '.join(sorted(fault.needs - _there(wanted)))}")
    if not possible:
        return repeat(())  # calm until the time is over
    dice = random.Random(f"{wanted.settings.seed}/rounds")  # noqa: S311 - repeatable, not secret
    at_once = wanted.settings.at_once
    mixed = drawn(possible, dice, min(at_once, len(possible)))
    killing = [fault for fault in possible if fault.id in KILLERS] or possible
    return _first_then(mixed, drawn(killing, dice, min(at_once, len(killing))), wanted.settings.duration_s)


def _first_then(
    first: Iterator[Sequence[Fault]], then: Iterator[Sequence[Fault]], after_s: float
) -> Iterator[Sequence[Fault]]:
    began = time.monotonic()
    while True:
        yield next(first if time.monotonic() - began < after_s else then)


def _there(wanted: Wanted) -> frozenset[str]:
    """Return what this run can offer to its faults."""
    url = wanted.streams.blob_url or "file:"
    has = {
        NETWORK: _is_in_the_clear(wanted.streams),
        SERVERS: wanted.servers is not None,
        S3: url.startswith("s3:") and bool(wanted.streams.s3_endpoint_url),
        FILES: url.startswith("file:"),
    }
    return frozenset(name for name, is_there in has.items() if is_there)


def _enough(stage: Stage, wanted: Wanted) -> Callable[[], bool]:
    settings, began = wanted.settings, time.monotonic()
    if wanted.rounds is not None:
        return lambda: False

    def is_enough() -> bool:
        passed_s = time.monotonic() - began
        if passed_s < settings.duration_s:
            return False
        if stage.fleet.kills >= settings.kills:
            return True
        if passed_s < settings.duration_s + settings.kills * A_KILL_S:
            return False
        stage.broken.append(f"{stage.fleet.kills} kills in {passed_s:.0f} s, not the {settings.kills} wanted")
        return True

    return is_enough


def _heal(stage: Stage) -> None:
    if stage.network is not None:
        stage.network.clear()
    for place in list(stage.fleet.places):
        stage.fleet.thaw(place)
        if place.is_held_down:
            stage.fleet.let_up(place)


def _come_to_rest(stage: Stage, report: ChaosReport, tell: Tell) -> None:
    """End every process, so that what the checker reads stays as it is."""
    tell("ending every process")
    stage.fleet.rest()
    for _ in range(TRIES_TO_REST):
        if not report.is_quiet or _is_all_read(stage):
            return
        # A gate that ended has left a tick, or a worker a result: one more of each kind reads it.
        some = [stage.fleet.of_kind(kind)[0] for kind in ("gate", "task", "plan")]
        for place in some:
            stage.fleet.let_up(place)
        stage.until(lambda: _is_all_read(stage), 60.0)
        stage.fleet.rest()
    if not _is_all_read(stage):
        report.unsteady.append(f"a lag was left at the end: {_lag(stage)}")


def _is_all_read(stage: Stage) -> bool:
    lag = _lag(stage)
    return lag is not None and not any(lag.values())


def _lag(stage: Stage) -> dict[str, int] | None:
    """Return how far each group is behind the end of what it reads."""
    ends = stage.log.offsets(stage.timeline.seen)
    return stage.quiet.lag({place: end for place, (_, end) in ends.items()})


def _fill(stage: Stage, report: ChaosReport) -> None:
    """Put what was seen into the report."""
    timeline, driver = stage.timeline, stage.driver
    report.kills, report.killed = stage.fleet.kills, dict(stage.fleet.killed)
    report.refused = list(driver.refused)
    report.broken = stage.broken
    report.acknowledged, report.steps = len(driver.acknowledged), len(timeline.steps)
    for status in timeline.ended.values():
        report.ended[STATUSES[status]] = report.ended.get(STATUSES[status], 0) + 1
    report.records, report.letters = dict(timeline.kinds), dict(timeline.letters)
    report.events = dict(timeline.events)
    report.seconds = seconds(list(timeline.steps), report.began_ms)
    left = stage.quiet.open()
    report.open = names(left, 100).split(", ") if left else []
    for error in (driver.error, timeline.error):
        if error is not None:
            report.failure = f"{type(error).__name__}: {error}"
