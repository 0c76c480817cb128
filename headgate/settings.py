"""What the command and the embedded run read from the environment beyond the log's own settings."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from headgate_graphs.errors import UserError
from headgate_graphs.ids import is_tenant_id
from headgate_graphs.model import DEFAULT_TENANT
from headgate_streams.settings import StreamSettings
from headgate_streams.topics import SHARED


class HeadgateSettings(StreamSettings):
    """Settings of the log and the blob store, and whose work is meant."""

    tenant: str = DEFAULT_TENANT
    """Tenant that a command speaks for (HEADGATE_TENANT); in a dedicated placement its tenant."""


def open_settings(given: dict[str, Any]) -> HeadgateSettings:
    """Return the settings: `given` wins over the environment; raises UserError naming what is wrong.

    A log that is given explicitly is meant, whatever HEADGATE_KAFKA and HEADGATE_ARCHIVE say.
    """
    values = {name: value for name, value in given.items() if value is not None}
    logs = [name for name in ("local", "kafka", "archive") if name in values]
    if len(logs) > 1:
        raise UserError(f"--{logs[0]} and --{logs[1]} exclude each other: give one of them")
    if logs:
        values = {"kafka": None, "archive": None} | values
    try:
        settings = HeadgateSettings(**values)
    except ValueError as invalid:
        raise UserError(_one_line(invalid)) from invalid
    if not is_tenant_id(settings.tenant):
        raise UserError(
            f"{settings.tenant[:64]!a} is not a tenant id: 3-40 lower-case letters, digits and inner hyphens"
        )
    return _of_the_placement(settings)


def _of_the_placement(settings: HeadgateSettings) -> HeadgateSettings:
    """Return settings that speak for the tenant of a dedicated placement, who is alone there."""
    if settings.placement in (SHARED, settings.tenant):
        return settings
    if "tenant" in settings.model_fields_set:
        raise UserError(
            f"placement {settings.placement} is that tenant's alone, not tenant {settings.tenant}'s"
        )
    return settings.model_copy(update={"tenant": settings.placement})


def _one_line(invalid: ValueError) -> str:
    if not isinstance(invalid, ValidationError):
        return f"settings: {invalid}"
    faults = (
        f"{'.'.join(map(str, error['loc']))} (HEADGATE_{str(error['loc'][0]).upper()}): {error['msg']}"
        for error in invalid.errors(include_url=False)
        if error["loc"]
    )
    return "settings: " + "; ".join(faults)
