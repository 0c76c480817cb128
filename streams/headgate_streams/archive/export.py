"""Writes what a log has gained since the last export into its archive. Called by `headgate audit export`.

Order: the plan, files one by one (with the plan again after some), pages, the manifest last. Whatever happens
before that, the archive is what it was; the next export takes the plan up and comes to the same bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from headgate_graphs.errors import ArchiveBroken, UserError
from headgate_streams.archive.format import FileDraft, fingerprint
from headgate_streams.archive.manifest import (
    PAGE_FILES,
    ArchivedPage,
    ArchivedPartition,
    Manifest,
    Page,
    Plan,
    Target,
    sha256_of,
)
from headgate_streams.archive.objects import Archive
from headgate_streams.archive.planning import another_log, new_plan, taken_up
from headgate_streams.crash import crash_point
from headgate_streams.pace import Pace
from headgate_streams.port import Log, LogRecord, TopicPartition
from headgate_streams.ranges import read_range
from headgate_streams.signing import SigningKey
from headgate_streams.topics import Topics

logger = logging.getLogger(__name__)

PLAN_FILES: Final = 16
"""Files between two notes of how far the export has come; so much is done again after a crash."""
Progress = Callable[[int, int], None]
"""(offsets done, offsets in all)."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export has done."""

    manifest: Manifest
    records: int
    """Written by this run."""
    files: int
    was_taken_up: bool
    """Whether it has finished an export that was begun before."""
    is_new: bool
    """Whether there was anything to write."""


class Export:
    """One export from a log to an archive."""

    def __init__(
        self,
        log: Log,
        topics: Topics,
        archive: Archive,
        *,
        key: SigningKey | None = None,
        pace: Pace | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Take where from and where to; `key` signs the manifest."""
        self._log = log
        self._topics = topics
        self._archive = archive
        self._key = key
        self._pace = pace or Pace()
        self._progress = progress
        self._records = self._files = self._done = self._total = self._unnoted = 0
        self._partitions: dict[TopicPartition, ArchivedPartition] = {}

    def run(self) -> Exported:
        """Export up to where the log ends now, or finish what was begun.

        Raises:
            UserError: The log is not the one of the archive, has lost records, or the key is another.
            ArchiveBroken: What is there is not what it should be.
            LogUnavailable, BlobUnavailable: Run it again; nothing is lost.
        """
        raw = self._archive.manifest_bytes()
        base_sha = sha256_of(raw) if raw is not None else ""
        base = self._base()
        begun = self._begun(base_sha)
        if begun is not None:
            plan = taken_up(begun, self._log, self._topics)
        else:
            plan = new_plan(self._log, self._topics, base, base_sha)
            if base is not None and not _has_something_new(plan, base):
                return Exported(base, 0, 0, was_taken_up=False, is_new=False)
        self._partitions = {one.place: one for one in plan.draft.partitions}
        plan = self._copy_all(plan)
        self._finish(plan, base_sha)
        return Exported(plan.draft, self._records, self._files, was_taken_up=begun is not None, is_new=True)

    def _begun(self, base_sha256: str) -> Plan | None:
        """Return the plan that an export before this one has left behind, if it goes on from the manifest.

        One that we have not signed ourselves is not believed, and what it planned is planned anew.
        """
        try:
            begun = self._archive.plan(self._key.public if self._key is not None else None)
        except ArchiveBroken as error:
            logger.warning("an export that was begun before is begun anew: %s", error)
            return None
        return begun if begun is not None and begun.draft.previous == base_sha256 else None

    def _base(self) -> Manifest | None:
        """Return the newest manifest; raises UserError when going on would take its signature from it."""
        document = self._archive.document()
        if document is not None and document.ed25519 and self._archive.trusted is None:
            raise UserError(
                f"archive {self._archive.name} is signed by key {document.key_id[:16]}: name it in "
                "HEADGATE_SIGNING_KEY, or its public part in HEADGATE_ARCHIVE_KEY"
            )
        if document is not None and document.ed25519 and self._key is None:
            raise UserError(
                f"archive {self._archive.name} is signed: set HEADGATE_SIGNING_KEY, so that it stays so"
            )
        return self._archive.manifest()

    def _copy_all(self, plan: Plan) -> Plan:
        spans = {target: self._partitions[_place(target)] for target in plan.targets}
        self._total = sum(max(0, target.end - span.end) for target, span in spans.items())
        self._archive.put_plan(plan, self._key)
        for target in plan.targets:
            plan = self._copy(plan, target)
        return self._drafted(plan)

    def _copy(self, plan: Plan, target: Target) -> Plan:
        place = _place(target)
        known = self._partitions[place]
        topic_id = next(one.topic_id for one in plan.draft.topics if one.name == place.topic)
        draft = FileDraft(place, topic_id, known.end, bytes.fromhex(known.chain))
        for record in self._read(place, known, target.end):
            self._pace.take()
            draft.add(record)
            if draft.is_full:
                plan = self._put(plan, draft)
                draft = FileDraft(place, topic_id, record.offset + 1, draft.chain)
        return self._put(plan, draft) if draft.records else plan

    def _read(self, place: TopicPartition, known: ArchivedPartition, end: int) -> Iterator[LogRecord]:
        """Yield what is new; raises UserError when the last archived record is not the one in the log."""
        if known.end >= end:
            return
        has_last = bool(known.last) and self._log.offsets([place])[place][0] < known.end
        start = known.end - 1 if has_last else known.end
        for record in read_range(self._log, place, start, end):
            if record.offset >= known.end:
                yield record
            elif fingerprint(record) != known.last:
                where = f"{place.topic}[{place.partition}]@{record.offset}"
                raise UserError(another_log(f"{where} is another record than the archived one"))

    def _put(self, plan: Plan, draft: FileDraft) -> Plan:
        """Write a full file, or a partition's last one; note it in the plan."""
        entry, content = draft.seal()
        self._archive.put_file(entry, content)
        crash_point("export-after-file")
        place = TopicPartition(entry.topic, entry.partition)
        known = self._partitions[place]
        last = fingerprint(draft.last) if draft.last is not None else ""
        self._partitions[place] = known.model_copy(
            update={
                "end": entry.end,
                "records": known.records + entry.records,
                "size_bytes": known.size_bytes + entry.size_bytes,
                "chain": entry.chain_after,
                "last": last,
            }
        )
        self._records += entry.records
        self._files += 1
        self._done += entry.end - entry.first
        if self._progress is not None:
            self._progress(self._done, self._total)
        plan.draft.files.append(entry)
        return self._noted(plan)

    def _noted(self, plan: Plan) -> Plan:
        """Move files to a page when there are many, and keep the plan when much is done since."""
        self._unnoted += 1
        if len(plan.draft.files) < PAGE_FILES and self._unnoted < PLAN_FILES:
            return plan
        plan = self._drafted(plan)
        self._archive.put_plan(plan, self._key)
        self._unnoted = 0
        crash_point("export-after-plan")
        return plan

    def _drafted(self, plan: Plan) -> Plan:
        draft = plan.draft
        files, pages = draft.files, draft.pages
        while len(files) >= PAGE_FILES:
            page, files = Page(files=files[:PAGE_FILES]), files[PAGE_FILES:]
            pages = [*pages, ArchivedPage(sha256=self._archive.put_page(page), files=len(page.files))]
        partitions = sorted(self._partitions.values(), key=lambda one: one.place)
        known = {"files": files, "pages": pages, "partitions": partitions}
        return plan.model_copy(update={"draft": draft.model_copy(update=known)})

    def _finish(self, plan: Plan, base_sha256: str) -> None:
        raw = self._archive.manifest_bytes()
        if (sha256_of(raw) if raw is not None else "") != base_sha256:
            raise UserError(f"another export to {self._archive.name} has finished meanwhile: one at a time")
        crash_point("export-before-manifest")
        self._archive.put_manifest(plan.draft, self._key)


def _place(target: Target) -> TopicPartition:
    return TopicPartition(target.topic, target.partition)


def _has_something_new(plan: Plan, base: Manifest) -> bool:
    draft = plan.draft
    ends = {one.place: one.end for one in base.partitions}
    return (draft.topics, draft.partitions, draft.positions) != (
        base.topics,
        base.partitions,
        base.positions,
    ) or any(target.end > ends[_place(target)] for target in plan.targets)
