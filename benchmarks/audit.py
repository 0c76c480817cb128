"""`make bench-audit`: what `replay verify` and `replay backtest` cost, and their memory as the log grows.

The log is that of `benchmarks.rules` with what a gate says of it, on disk. Each day as many lifetimes begin,
of the same length, and end; a day later the gate has forgotten them. So what the fold holds is the same
however long the log is, and what grows is the log. The draft of the backtest is the policy in force: one fold
as it was, one under the draft.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.replaying import write
from benchmarks.rules import RULES, Log, policy, policy_record
from benchmarks.steps import FILL, run
from headgate_guardrails.fold.engine import GuardrailEngine
from headgate_guardrails.fold.state import PartitionState
from headgate_guardrails.fold.turn import CONTROL_EVENTS, DEAD_LETTERS, LIFETIMES, PLAN_INPUTS, TASK_INPUTS
from headgate_guardrails.folding import surroundings
from headgate_replay.backtest import BacktestInput, backtest_log
from headgate_replay.verify import VerifyInput, verify_log
from headgate_streams.codec import headers_of
from headgate_streams.collector import spare_the_collector
from headgate_streams.opening import open_blob_store, open_log
from headgate_streams.port import TopicPartition
from headgate_streams.ranges import read_range
from headgate_streams.settings import StreamSettings

RUNS, ROUNDS = 50, 20
"""Of a day."""
PER_ROUND = 3
"""Records of one round of a lifetime's loop; the log is cut at N."""
POLICY = policy(*RULES)


def fill(folder: Path, records: int) -> None:
    """Make the log, and what a gate says of each of its records."""
    settings, days = _settings(folder), records // (RUNS * ROUNDS * PER_ROUND) + 1
    write(settings, [policy_record(POLICY), *Log(RUNS, ROUNDS, days).records][:records])
    log, topics = open_log(settings), settings.topics()
    log.create_topics(topics.descriptions(1))
    names = {
        TASK_INPUTS: topics.task_inputs(),
        PLAN_INPUTS: topics.plan_inputs(),
        CONTROL_EVENTS: topics.control_events,
        LIFETIMES: topics.lifetimes,
        DEAD_LETTERS: topics.dead_letters,
    }
    engine = GuardrailEngine(PartitionState(0, 1), surroundings(log, topics.executions, settings))
    producer = log.producer()
    for record in read_range(log, TopicPartition(topics.executions, 0), 0, records):
        for output in engine.apply(record):
            headers = headers_of(output.kind.__name__, output.tenant_id)
            key = output.key.encode()
            producer.append(names[output.topic], 0, key=key, value=output.value, headers=headers)
    producer.close()
    log.close()


def verify(folder: Path, records: int) -> None:
    """Fold it again and compare every output, in one process."""
    settings = _settings(folder)
    log = open_log(settings)
    spare_the_collector()
    found = verify_log(log, open_blob_store(settings), settings, VerifyInput())
    log.close()
    if found.divergences or found.counts.folded != records:
        raise SystemExit("\n".join(found.lines()))


def backtest(folder: Path, records: int) -> None:
    """Fold it as it was and under a draft that is the policy in force."""
    settings = _settings(folder)
    log = open_log(settings)
    asked = BacktestInput([("the same", POLICY)])
    spare_the_collector()
    found = backtest_log(log, open_blob_store(settings), settings, asked)
    log.close()
    if any(found.saved(found.drafts[0])) or found.records != records:
        raise SystemExit(f"{found.records} of {records} records, and the policy in force saves something")


def _settings(folder: Path) -> StreamSettings:
    return StreamSettings(kafka=None, local=folder / "log", partitions=1)


STEPS = {FILL: fill, "verify": verify, "backtest": backtest}

if __name__ == "__main__":
    run("benchmarks.audit", __doc__, STEPS, 40_000)
