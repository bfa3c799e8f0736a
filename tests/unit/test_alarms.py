"""The stand-in for CloudWatch's alarms, held against its documentation."""

from __future__ import annotations

import pytest

from local.aws.function_log import Metric
from local.cloudwatch.alarms import Alarms, judge
from local.cloudwatch.metrics import Metrics, metric_key

TREATMENTS = ("missing", "ignore", "breaching", "notBreaching")
LATEST = "retained"  # the state it is in

# The two tables of "How alarm state is evaluated when data is missing", both of three periods and
# an evaluation range of five; X breaches, 0 does not, the newest period stands last.
THREE_OF_THREE = {
    "0 - X - X": ("OK", "OK", "OK", "OK"),
    "0 - - - -": ("OK", "OK", "OK", "OK"),
    "- - - - -": ("INSUFFICIENT_DATA", LATEST, "ALARM", "OK"),
    "0 X X - X": ("ALARM", "ALARM", "ALARM", "ALARM"),
    "- - X - -": ("ALARM", LATEST, "ALARM", "OK"),
}
TWO_OF_THREE = {
    "0 - X - X": ("ALARM", "ALARM", "ALARM", "ALARM"),
    "0 0 X 0 X": ("ALARM", "ALARM", "ALARM", "ALARM"),
    "0 - X - -": ("OK", "OK", "ALARM", "OK"),
    "- - - - 0": ("OK", "OK", "ALARM", "OK"),
    "- - - X -": ("ALARM", LATEST, "ALARM", "OK"),
}
RULES = [
    (needed, range_, missing, state)
    for needed, table in ((3, THREE_OF_THREE), (2, TWO_OF_THREE))
    for range_, states in table.items()
    for missing, state in zip(TREATMENTS, states, strict=True)
]


def alarm(**more):
    return {
        "Namespace": "N",
        "MetricName": "Rows",
        "Statistic": "Sum",
        "Period": 300,
        "EvaluationPeriods": 1,
        "Threshold": 1,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "notBreaching",
    } | more


def alarms(looks_back=0, **properties):
    resources = {
        name: {"Type": "AWS::CloudWatch::Alarm", "Properties": each}
        for name, each in properties.items()
    }
    return Alarms(resources, looks_back)


def metrics(*values, name="Rows"):
    found = Metrics()
    for second, value in values:
        found.add(second, Metric("N", name, {}, value))
    return found


@pytest.mark.parametrize("before", ["OK", "ALARM"])
@pytest.mark.parametrize(("needed", "range_", "missing", "expected"), RULES)
def test_the_documented_tables(needed, range_, missing, expected, before):
    points = [{"X": True, "0": False, "-": None}[letter] for letter in reversed(range_.split())]
    properties = alarm(EvaluationPeriods=3, DatapointsToAlarm=needed, TreatMissingData=missing)
    assert judge(properties, points, before) == (before if expected == LATEST else expected)


@pytest.mark.parametrize(("minute", "state"), [(1, "OK"), (2, "ALARM"), (6, "ALARM"), (7, "OK")])
def test_a_period_ends_at_the_minute_of_the_evaluation(minute, state):
    found = alarms(a=alarm())
    found.evaluate(metrics((100, 1)), 60 * minute)
    assert found.states["a"] == state


@pytest.mark.parametrize(
    ("statistic", "value"),
    [("Sum", 6), ("Maximum", 4), ("Minimum", 2), ("SampleCount", 2), ("Average", 3)],
)
def test_statistics(statistic, value):
    of_two = metrics((0, 4), (299, 2), (300, 100))
    assert of_two.statistic(alarm(), statistic, 0, 300) == value
    assert of_two.statistic(alarm(), statistic, 600, 900) is None


@pytest.mark.parametrize(
    ("comparison", "at"),
    [
        ("GreaterThanOrEqualToThreshold", True),
        ("GreaterThanThreshold", False),
        ("LessThanOrEqualToThreshold", True),
        ("LessThanThreshold", False),
    ],
)
def test_comparisons_at_the_threshold(comparison, at):
    found = alarms(a=alarm(ComparisonOperator=comparison))
    found.evaluate(metrics((0, 1)), 60)
    assert (found.states["a"] == "ALARM") is at


def test_dimensions_tell_metrics_apart():
    found = Metrics()
    found.add(0, Metric("N", "Rows", {"stage": "other"}, 1))
    watched = alarm(Dimensions=[{"Name": "stage", "Value": "prod"}])
    assert found.statistic(watched, "Sum", 0, 60) is None
    assert metric_key(alarm(Dimensions=[{"Name": "f", "Value": {"Ref": "Function"}}])) == (
        "N",
        "Rows",
        (("f", "Function"),),
    )


def test_an_expression_is_calculated_where_there_are_values():
    stat = {"Metric": {"Namespace": "N", "MetricName": "Rows"}, "Stat": "Maximum", "Period": 60}
    calculated = alarm(
        Metrics=[
            {"Id": "rows", "MetricStat": stat},
            {"Id": "share", "Expression": "rows / (10 * 5)"},
        ],
    )
    del calculated["MetricName"]
    found = alarms(a=calculated)
    found.evaluate(metrics((0, 50)), 60)
    assert found.states["a"] == "ALARM"
    found.evaluate(metrics((0, 49)), 60)
    assert found.states["a"] == "OK"
    found.evaluate(metrics(), 60)
    assert found.states["a"] == "OK"
    calculated["Metrics"][1]["Expression"] = "FILL(rows, 0) + 1"
    found.evaluate(metrics(), 60)
    assert found.states["a"] == "ALARM"
    calculated["Metrics"][1]["Expression"] = "FILL(rows, REPEAT)"
    with pytest.raises(ValueError, match="not simulated"):
        found.evaluate(metrics((0, 49)), 60)


@pytest.mark.parametrize(("second", "state"), [(60, "INSUFFICIENT_DATA"), (660, "ALARM")])
def test_a_new_alarm_is_not_evaluated_until_it_is_warm(second, state):
    silent = alarm(
        TreatMissingData="breaching",
        WarmUpConfiguration={"WarmUpPeriodDurationInMinutes": 10},
    )
    found = alarms(a=silent)
    found.evaluate(metrics(), second)
    assert found.states["a"] == state


def test_a_new_alarm_that_has_enough_values_is_warm():
    found = alarms(a=alarm(WarmUpConfiguration={"WarmUpPeriodDurationInMinutes": 10}))
    found.evaluate(metrics((0, 1)), 60)
    assert found.states["a"] == "ALARM"


def test_messages_are_sent_when_the_state_changes():
    found = alarms(a=alarm(AlarmActions=["topic"], OKActions=["topic"]))
    rows = metrics((660, 1), (700, 1), (4000, 1))
    for minute in range(1, 100):
        found.evaluate(rows, 60 * minute)
    assert [each.second for each in found.messages("ALARM")] == [720, 4020]
    assert [each.second for each in found.messages("OK")] == [60, 1020, 4320]
    assert found.fired() == {"a"}
