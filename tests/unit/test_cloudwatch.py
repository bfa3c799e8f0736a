"""The stand-in for CloudWatch's filters, held against its documentation."""

from __future__ import annotations

import pytest

from local.cloudwatch.log_filters import matches
from tests.helpers.oracle.cloudwatch import metric_filters

ERROR = '{ $.level = "ERROR" }'


@pytest.mark.parametrize(
    ("pattern", "line", "expected"),
    [
        (ERROR, '{"level": "ERROR"}', True),
        (ERROR, '{"level":"ERROR","message":"x"}', True),
        (ERROR, '{"level": "error"}', False),
        (ERROR, '{"level": "WARNING", "message": "ERROR"}', False),
        (ERROR, '{"inner": {"level": "ERROR"}}', False),
        (ERROR, "[ERROR] Runtime.ImportModuleError", False),
        (ERROR, '["ERROR"]', False),
        (ERROR, "{}", False),
        ('{$.kind="column *"}', '{"kind": "column missing"}', True),
        ('{ $.kind = "[a]" }', '{"kind": "a"}', False),
        ('{ $.level != "INFO" }', '{"level": "ERROR"}', True),
        ('{ $.level != "INFO" }', "{}", False),
        ('{ $.level = "ERROR" && $.kind = "*" }', '{"level": "ERROR", "kind": "value"}', True),
        ('{ $.level = "ERROR" && $.kind = "*" }', '{"level": "ERROR"}', False),
    ],
)
def test_what_matches(pattern, line, expected):
    assert matches(pattern, line) is expected


@pytest.mark.parametrize("pattern", ["ERROR", "{ $.n > 3 }", '{ $.a = "b" || $.c = "d" }', "{}"])
def test_patterns_of_other_forms_are_refused(pattern):
    with pytest.raises(ValueError, match="is not"):
        matches(pattern, "{}")


def test_the_declared_filters_are_found():
    assert metric_filters()["ErrorLinesFilter"]["FilterPattern"] == ERROR
