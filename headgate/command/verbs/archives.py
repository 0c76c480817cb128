"""Archives of a log: audit export, import, show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.command.inputs import need_log
from headgate.command.place import Place
from headgate.command.progress import reading_progress
from headgate.command.verb import verb

if TYPE_CHECKING:
    from headgate_streams.archive.export import Exported
    from headgate_streams.archive.importing import Imported
    from headgate_streams.archive.objects import Archive

Url = Annotated[str, typer.Argument(metavar="URL", help="The archive: file:///dir or s3://bucket/prefix.")]


def export(
    place: Place,
    url: Url,
    rate: Annotated[
        int,
        typer.Option("--rate", metavar="RECORDS/S", min=0, help="Read no faster than this; 0 has no limit."),
    ] = 0,
) -> None:
    """Copy what the log has gained since the last export into an archive of Avro files.

    The first export copies everything. One that was interrupted is finished first. It reads in no group, so
    gates and workers do not notice it but by the load; --rate bounds that. With HEADGATE_SIGNING_KEY the
    manifest is signed. Refused is a log that is not the one that was archived before, and one that has
    deleted records before they were archived: export more often than records are deleted.
    """
    from headgate_streams.archive.export import Export
    from headgate_streams.opening import open_archive, open_log
    from headgate_streams.pace import Pace
    from headgate_streams.signing import SigningKey

    settings = place.settings()
    need_log(settings)
    key = SigningKey.load(settings.signing_key) if settings.signing_key is not None else None
    archive = open_archive(settings, url, key.public if key is not None else None)
    log = open_log(settings)
    try:
        with reading_progress(place) as progress:
            one = Export(log, settings.topics(), archive, key=key, pace=Pace(rate), progress=progress)
            done = one.run()
    finally:
        log.close()
    _say_exported(place, url, done, key.key_id if key is not None else "")


def _say_exported(place: Place, url: str, done: Exported, key_id: str) -> None:
    from headgate.command.printing import say, say_json

    number = done.manifest.export
    if place.json:
        known = {"archive": url, "export": number, "records": done.records, "files": done.files}
        say_json(known | {"new": done.is_new, "taken_up": done.was_taken_up, "key_id": key_id})
        return
    if not done.is_new:
        say(f"nothing is new since export {number} of {url}")
        return
    if done.was_taken_up:
        say("finished the export that was interrupted; run it again for what is new since")
    signed = f", signed by key {key_id}" if key_id else ""
    say(f"exported {done.records:,} records in {done.files:,} files: export {number} of {url}{signed}")


def import_(place: Place, url: Url) -> None:
    """Bring an archive back into an empty log: the records, and what gates and workers had committed.

    An embedded log (--local) becomes what the archived one was, with its offsets and append times. Kafka
    gives append times of its own, so what depended on time is not decided as it was: that is for reading,
    not for going on. Stop gates and workers first. An import that is interrupted is begun anew, with an
    empty log.
    """
    from headgate_streams.archive.importing import Import
    from headgate_streams.archive_log import ArchiveLog
    from headgate_streams.opening import open_archive, open_log

    settings = place.settings()
    archive = ArchiveLog(open_archive(settings, url))
    log = open_log(settings)
    try:
        with reading_progress(place) as progress:
            done = Import(archive, log, settings.topics(), progress).run()
    finally:
        log.close()
    _say_imported(place, url, done)


def _say_imported(place: Place, url: str, done: Imported) -> None:
    from headgate.command.printing import say, say_json

    if place.json:
        known = {"archive": url, "records": done.records, "keeps_times": done.keeps_times}
        say_json(known | {"renumbered": done.renumbered, "left_out": done.left_out})
        return
    say(f"imported {done.records:,} records from {url}")
    if not done.keeps_times:
        say("append times are Kafka's own: what depended on time would be decided otherwise")
    if done.renumbered:
        say(f"compacted, so with other offsets than before: {', '.join(done.renumbered)}")
    if done.left_out:
        say(f"left out, as it names states of another log: {', '.join(done.left_out)}")


def show(place: Place, url: Url) -> None:
    """Show what is in an archive, and read all of it to see that every link of its chain holds.

    It ends with exit code 1 and the first place that is not as it was written. HEADGATE_ARCHIVE_KEY names
    the key that must have signed it.
    """
    from headgate.command.printing import say, say_json, say_table
    from headgate.words import moment
    from headgate_streams.opening import open_archive

    settings = place.settings()
    archive = open_archive(settings, url)
    found = _survey(place, archive)
    if place.json:
        say_json(found)
        return
    columns = ("topic", "partitions", "records", "bytes", "from", "to")
    rows = [
        (
            one["name"],
            str(one["partitions"]),
            f"{one['records']:,}",
            f"{one['size_bytes']:,}",
            moment(one["earliest_ms"]) if one["records"] else "",
            moment(one["latest_ms"]) if one["records"] else "",
        )
        for one in found["topics"]
    ]
    say_table(columns, rows, right=("partitions", "records", "bytes"))
    when = moment(found["created_ms"])
    say(f"export {found['export']} of {found['prefix']}, begun {when}, by headgate {found['headgate']}")
    say(_signature_words(found))
    if found["is_under_way"]:
        say("an export is under way, or was interrupted: the next one finishes it")
    say(f"every link holds: {found['records']:,} records in {found['files']:,} files")


def _survey(place: Place, archive: Archive) -> dict[str, Any]:
    """Read the whole archive; return what is in it."""
    from headgate_streams.archive.reading import index_of

    manifest, document = archive.existing(), archive.document()
    index = index_of(archive, manifest)
    total = sum(span.records for span in manifest.partitions)
    topics: dict[str, dict[str, Any]] = {
        one.name: {"name": one.name, "partitions": one.partitions, "records": 0, "size_bytes": 0}
        for one in manifest.topics
    }
    done = files = 0
    with reading_progress(place) as progress:
        for file in (file for part in index.values() for file in part.files):
            count = sum(1 for _ in archive.records(file))
            topic = topics[file.topic]
            topic["records"] += count
            topic["size_bytes"] += file.size_bytes
            topic["earliest_ms"] = min(topic.get("earliest_ms", file.earliest_ms), file.earliest_ms)
            topic["latest_ms"] = max(topic.get("latest_ms", file.latest_ms), file.latest_ms)
            done, files = done + count, files + 1
            if progress is not None:
                progress(done, total)
    return {
        "archive": archive.name,
        "export": manifest.export,
        "prefix": manifest.prefix,
        "created_ms": manifest.created_ms,
        "headgate": manifest.headgate,
        "key_id": document.key_id if document is not None else "",
        "signature_checked": archive.trusted is not None,
        "is_under_way": archive.is_under_way(),
        "topics": list(topics.values()),
        "records": done,
        "files": files,
    }


def _signature_words(found: dict[str, Any]) -> str:
    if not found["key_id"]:
        return "it is not signed"
    if found["signature_checked"]:
        return f"signed by key {found['key_id']}, which is the one it must be"
    return f"said to be signed by key {found['key_id']}: name that key's file in HEADGATE_ARCHIVE_KEY to see"


def add_to(audit: typer.Typer) -> None:
    """Register the verbs in the group `audit`."""
    verb(
        audit,
        "export",
        example="""headgate audit export file:///srv/archive
        headgate audit export s3://audit/headgate --kafka localhost:9092 --rate 5000""",
    )(export)
    verb(audit, "import", example="headgate audit import s3://audit/headgate --local restored")(import_)
    verb(audit, "show", example="HEADGATE_ARCHIVE_KEY=ops.pub headgate audit show s3://audit/headgate")(show)
