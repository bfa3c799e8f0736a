"""The stand-in for CloudWatch's filters, held against its documentation."""

from __future__ import annotations

import pytest

from local.cloudwatch.log_filters import matches
from tests.helpers.oracle.cloudwatch import metric_filters

ERROR = '{ $.level = "ERROR" }'
REST = '{ ($.level = "ERROR") && ($.alarm NOT EXISTS) }'


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
        (REST, '{"level": "ERROR"}', True),
        (REST, '{"level": "ERROR", "alarm": "rows-missing"}', False),
        (REST, '{"level": "WARNING"}', False),
        ("{ $.n > 3 }", '{"n": 4}', True),
        ("{ $.n > 3 }", '{"n": 3}', False),
        ("{ $.n > 3 }", '{"n": "4"}', False),
        ("{ $.n > 3 }", '{"m": 4}', False),
        ('?"a b" ?"c"', "xa bx", True),
        ('?"a b" ?"c"', "c", True),
        ('?"a b" ?"c"', "a", False),
    ],
)
def test_what_matches(pattern, line, expected):
    assert matches(pattern, line) is expected


@pytest.mark.parametrize("pattern", ["ERROR", "{ $.n < 3 }", '{ $.a = "b" || $.c = "d" }', "{}"])
def test_patterns_of_other_forms_are_refused(pattern):
    with pytest.raises(ValueError, match="is not"):
        matches(pattern, "{}")


def test_the_declared_filters_are_found():
    assert metric_filters()["IngestErrorsFilter"]["FilterPattern"] == REST
