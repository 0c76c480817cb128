"""F12, F13: the blob store, the disk, and the checkpoints."""

from __future__ import annotations

import random
import resource
from collections.abc import Iterator

from headgate_graphs.errors import HeadgateError
from headgate_protos.v1.state_pb2 import CheckpointManifest, CheckpointPointer
from headgate_resilience.chaos.faults.fault import FILES, NETWORK, S3, Act, fault
from headgate_resilience.chaos.faults.network import network_of
from headgate_resilience.chaos.stage import NotHere, Stage
from headgate_streams.port import TopicPartition
from headgate_streams.ranges import read_range

AWAY_S = 8.0
FULL_BYTES = 1_024
"""The longest file a process may write while its disk is full."""
MAX_BLOB_BYTES = 1 << 26


def _weather(text: str, **change: object) -> Act:
    def act(stage: Stage, _dice: random.Random) -> str:
        weather = network_of(stage).weather["blobs"]
        before = weather.spoiled
        for name, value in change.items():
            setattr(weather, name, value)
        stage.hold(AWAY_S)
        weather.clear()
        return f"{text} for {AWAY_S:.0f} s, {weather.spoiled - before} answers spoiled"

    return act


for _name, _text, _change in (
    ("down", "does not answer", {"is_refused": True}),
    ("slow", "takes a second for each piece", {"delay_s": 1.0}),
    ("error", "answers 503 to everything", {"answers": "error"}),
    ("truncated", "cuts what is read", {"answers": "truncated"}),
    ("corrupt", "changes a byte of what is read", {"answers": "corrupt"}),
):
    fault("F12", _name, f"The blob store {_text}, for eight seconds.", needs=(NETWORK, S3))(
        _weather(_text, **_change)
    )


@fault("F12", "disk-full", "No process can write a blob, as when the disk is full.", needs=(FILES,))
def disk_full(stage: Stage, _dice: random.Random) -> str:
    """Limit the size of files that the running processes may write; a process that is restarted is free."""
    kept = _limit_files(stage, FULL_BYTES)
    stage.hold(AWAY_S)
    _limit_files(stage, resource.RLIM_INFINITY)
    return f"{kept} processes for {AWAY_S:.0f} s"


def _limit_files(stage: Stage, size: int) -> int:
    count = 0
    for place in stage.fleet.of_kind("gate", "task", "plan"):
        if (pid := place.pid) is not None:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            count += 1
    return count


@fault("F12", "no-directory", "The directory of the blobs is gone, something else is there.", needs=(FILES,))
def no_directory(stage: Stage, _dice: random.Random) -> str:
    """Put a file where the directory was, then put the directory back."""
    home = stage.home / "blobs"
    if not home.is_dir():
        raise NotHere("no blob has been written yet")
    beside = home.with_name("blobs.away")
    home.rename(beside)
    home.write_text("not a directory")
    try:
        stage.hold(AWAY_S)
    finally:
        home.unlink()
        beside.rename(home)
    return f"{AWAY_S:.0f} s"


# Checkpoints -----------------------------------------------------------------------------------------------


def _damage(how: str) -> Act:
    def act(stage: Stage, dice: random.Random) -> str:
        keys = [key for pointer in _newest(stage) for key in _blobs_of(stage, pointer)]
        if not keys:
            raise NotHere("no checkpoint has been saved yet")
        some = dice.sample(keys, min(len(keys), 40))
        for key in some:
            _spoil(stage, key, how)
        with stage.one_of(dice, "gate") as place:
            stage.fleet.kill(place)
            stage.until(lambda: not place.is_ready, 5.0)
            stage.wait_back(place)
            return f"{len(some)} blobs of the newest checkpoints, then {place.name} killed"

    return act


def _newest(stage: Stage) -> list[CheckpointPointer]:
    """Return the newest pointer of each partition."""
    place = TopicPartition(stage.topics.checkpoints, 0)
    first, end = stage.log.offsets([place])[place]
    newest: dict[int, CheckpointPointer] = {}
    for record in read_range(stage.log, place, first, end):
        pointer = CheckpointPointer.FromString(record.value or b"")
        newest[pointer.partition] = pointer
    return [newest[partition] for partition in sorted(newest)]


def _blobs_of(stage: Stage, pointer: CheckpointPointer) -> Iterator[str]:
    """Yield the keys of a checkpoint: its manifest, and what that names."""
    yield pointer.manifest.uri
    folder = pointer.manifest.uri.rpartition("/")[0]
    try:
        manifest = CheckpointManifest.FromString(stage.blobs.get(pointer.manifest.uri, MAX_BLOB_BYTES))
    except HeadgateError:
        return  # it was replaced, or damaged before
    yield from (f"{folder}/{entry.sha256}" for entry in manifest.tenants)


def _spoil(stage: Stage, key: str, how: str) -> None:
    if how == "deleted":
        stage.blobs.delete(key)
        return
    try:
        content = stage.blobs.get(key, MAX_BLOB_BYTES)
    except HeadgateError:
        return
    spoiled = content[: len(content) // 2] if how == "truncated" else content[:-1] + bytes([content[-1] ^ 1])
    stage.blobs.put(key, spoiled, "application/x-protobuf")


for _how, _what in (("deleted", "deleted"), ("truncated", "cut in half"), ("flipped", "changed by a bit")):
    fault(
        "F13",
        _how,
        f"Blobs of the newest checkpoints are {_what}, and a gate is killed so that they are needed.",
        stalls="gate",
        bound_s=15.0,
    )(_damage(_how))
