"""A fail-over of the database sends no email: the retries of one execution outlast it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from local.cloudwatch.simulation import record
from tests.helpers.faults.stage_faults import database_down
from tests.helpers.runs.drills import drill

pytestmark = [pytest.mark.e2e, pytest.mark.long]

# Amazon says that a fail-over of RDS takes 60 to 120 seconds:
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Concepts.MultiAZSingleStandby.html
AWAY_SECONDS = 119


def test_a_database_that_is_away_for_119_seconds(stage, resources):
    """The state machine waits as it is deployed; the other drills let it wait less."""
    stage.run()
    healthy = record(stage)
    with ThreadPoolExecutor(1) as executor:
        with database_down(stage):
            running = executor.submit(record, stage)
            ended, _ = wait([running], AWAY_SECONDS)
            assert not ended
        failed_over = running.result()
    assert failed_over.status == "SUCCEEDED"
    assert len(failed_over.calls) > 3
    for looks_back in (0, 2):
        outcome = drill(resources, looks_back, healthy, [failed_over], ticks=1)
        assert outcome.emails == []
