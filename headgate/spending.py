"""Spend as the log itself says it: first reports of runs, and newest views. Small logs need no catalog."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from headgate_catalog.happening import Happening, place_of
from headgate_catalog.spend import Charge, Run, charges, run_of
from headgate_protos.v1.execution_pb2 import LifetimeView


def charges_in(happenings: Iterable[Happening]) -> Iterator[Charge]:
    """Return all that counts, given all results and views, each topic in its order; see `spend.charges`."""
    runs: dict[tuple[str, str, str], Run] = {}
    views: dict[tuple[str, str], LifetimeView] = {}
    for one in happenings:
        if one.execution is not None:
            run = run_of(one)
            if run is not None:
                runs.setdefault((run.tenant_id, run.lifetime_id, run.run_id), run)
        elif one.view is not None:
            whose = (one.tenant_id, one.lifetime_id)
            if whose not in views or place_of(one.view) >= place_of(views[whose]):
                views[whose] = one.view
    return charges(views.values(), runs.values())
