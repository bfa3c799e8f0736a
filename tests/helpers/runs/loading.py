"""A load, played as its state machine does: its calls, one after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3

from services.ingestion import Limits
from services.ingestion.finish import finish_load
from services.ingestion.items import land_item
from services.ingestion.loads import outcome, requested_item, requested_load
from services.ingestion.plan import plan_load
from shared.postgres.session import disconnect
from tests.helpers.faults.steps import on_every_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from services.ingestion.loads import Outcome
    from tests.helpers.faults.steps import Step
    from tests.helpers.runs.place import Place


def calls(number: int) -> Callable[[], float]:
    """Return what tells a call how long it may go on: until it has asked so many times."""
    left = iter([1.0] * number)
    return lambda: next(left, 0.0)


class Loading:
    """The calls of a load of a place's first table; each has a client and a session of its own."""

    def __init__(self, place: Place, workers: int = 3) -> None:
        """Load by so many workers."""
        self.place, self.workers = place, workers
        self.table = place.tables[0]

    def plan(self, step: Step | None = None, *, batches_a_call: int = 10_000) -> dict[str, Any]:
        """Plan in as many calls as it takes; return what the last one did."""
        asked: dict[str, Any] = {"table": self.table, "workers": self.workers}
        while True:
            asked = self.plan_once(asked, step, batches_a_call)
            if not asked["more"]:
                return asked

    def plan_once(
        self, asked: dict[str, Any], step: Step | None = None, batches: int = 10_000
    ) -> dict[str, Any]:
        """Plan in one call, that has time for so many batches."""
        load = requested_load({"plan": asked})
        # The first call asks once more: how long it may wait for writers.
        left = calls(batches + (load.up_to is None))
        return self._call(plan_load, load, step, replace(self._limits(), seconds_left=left))

    def land(
        self, item: dict[str, Any], step: Step | None = None, *, batches_a_call: int = 10_000
    ) -> dict[str, Any]:
        """Land an item in as many calls as it takes; return what the last one did."""
        while True:
            item = self.land_once(item, step, batches_a_call)
            if not item["more"]:
                return item

    def land_once(
        self, item: dict[str, Any], step: Step | None = None, batches: int = 10_000
    ) -> dict[str, Any]:
        """Land so many batches of an item, in one call."""
        return self._call(land_item, requested_item({"land": item}), step, calls(batches))

    def finish(
        self, items: Iterable[dict[str, Any]], step: Step | None = None, *, batches: int = 10_000
    ) -> dict[str, Any]:
        """Finish, with time for about so many batches."""
        done = outcome({"finish": {"table": self.table, "items": list(items)}})
        limits = replace(self._limits(), seconds_left=calls(batches))

        def finish(asked: Outcome, *rest: Any, **options: Any) -> dict[str, Any]:
            return finish_load(asked, self.place.tables, *rest, **options)

        return self._call(finish, done, step, limits)

    def run(self, step: Step | None = None, **options: int) -> dict[str, Any]:
        """Plan, land each item and finish."""
        planned = self.plan(step, **options)
        return self.finish([self.land(item, step, **options) for item in planned["items"]], step)

    def _limits(self) -> Limits:
        left_out = () if self.place.with_changes else self.place.tables
        return Limits(self.place.batch_rows, 30.0, without_changes=left_out)

    def _call(self, function: Any, asked: Any, step: Step | None, limits: Any) -> dict[str, Any]:
        client, connection = boto3.client("s3"), self.place.session()
        key = str(self.place.database.secret["hash_key"])
        try:
            if step:
                on_every_step(client, connection, step)
            name = self.place.bucket.name
            done: dict[str, Any] = function(asked, client, connection, name, limits, hash_key=key)
            return done
        finally:
            disconnect(connection)
