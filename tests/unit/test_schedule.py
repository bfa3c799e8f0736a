"""When the schedules of the local stage are due."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from local.aws.schedule import Target


@pytest.mark.parametrize(
    ("schedule", "following"),
    [
        ("rate(1 minute)", "2026-11-27T02:16"),
        ("rate(10 minutes)", "2026-11-27T02:25"),
        ("rate(2 hours)", "2026-11-27T04:15"),
        ("rate(1 day)", "2026-11-28T02:15"),
        ("cron(15 2 * * ? *)", "2026-11-28T02:15"),
        ("cron(16 2 * * ? *)", "2026-11-27T02:16"),
        ("cron(0/5 8-10 ? * MON-FRI *)", "2026-11-27T08:00"),
    ],
)
def test_a_schedule_is_due_next_after_the_last_time(schedule, following):
    last = datetime(2026, 11, 27, 2, 15, tzinfo=UTC)  # a Friday
    due = Target(schedule, "arn", "{}").next_time(last)
    assert due == datetime.fromisoformat(f"{following}:00+00:00")
