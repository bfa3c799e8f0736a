"""Log lines and metrics as the alarms expect them."""

from __future__ import annotations

import json

import pytest

from shared import telemetry
from shared.errors import ConfigError, LandingUnavailableError, SourceError, SourceUnavailableError


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (SourceUnavailableError("gone"), "WARNING"),
        (LandingUnavailableError("busy"), "WARNING"),
        (SourceError("refused"), "ERROR"),
        (ConfigError("wrong"), "ERROR"),
        (ValueError("whatever"), "ERROR"),
    ],
)
def test_what_another_try_may_fix_is_no_error_line(error, level, caplog):
    telemetry.failure("It failed", error, table="staff")
    [record] = caplog.records
    assert (record.levelname, record.getMessage()) == (level, "It failed")
    said = vars(record)
    assert (said["error"], said["reason"]) == (type(error).__name__, str(error))
    assert said["table"] == "staff"


def test_a_metric_has_the_unit_of_its_name(capsys, monkeypatch):
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Totesys")
    telemetry.emit({"Rows": 3, "RunSeconds": 0.5, "BytesIngested": 7}, {"stage": "test"})
    blob = json.loads(capsys.readouterr().out)
    [metrics] = blob["_aws"]["CloudWatchMetrics"]
    units = {metric["Name"]: metric["Unit"] for metric in metrics["Metrics"]}
    assert units == {"Rows": "Count", "RunSeconds": "Seconds", "BytesIngested": "Bytes"}
    assert blob["stage"] == "test"
