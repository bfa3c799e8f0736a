from __future__ import annotations

import re

import pytest

from shared.errors import (
    IngestionError,
    LandingUnavailableError,
    SourceError,
    SourceUnavailableError,
    TransientIngestionError,
    explained,
    run_error,
)

MEND = SourceError("permission denied")
AGAIN = SourceUnavailableError("connection lost")
LATER = LandingUnavailableError("SlowDown")


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ({"staff": MEND}, IngestionError),
        ({"staff": AGAIN}, TransientIngestionError),
        ({"staff": AGAIN, "design": LATER}, TransientIngestionError),
        ({"staff": AGAIN, "design": MEND}, IngestionError),
    ],
    ids=["permanent", "transient", "all transient", "mixed"],
)
def test_a_run_is_worth_another_try_if_and_only_if_every_failure_is(failures, expected):
    error = run_error(failures)
    assert type(error) is expected
    assert error.transient is (expected is TransientIngestionError)


def test_the_error_of_a_run_names_every_table_and_reason():
    message = str(run_error({"staff": AGAIN, "design": MEND}))
    assert message.startswith("2 table(s) failed.")
    assert "staff: SourceUnavailableError: connection lost" in message
    assert "design: SourceError: permission denied" in message


def test_a_fault_of_ours_is_explained_by_its_place_and_not_by_values():
    with pytest.raises(ValueError, match="s3cr3t") as raised:
        int("s3cr3t")
    said = explained(raised.value)
    assert explained(said) is said
    assert said.__cause__ is raised.value
    assert re.fullmatch(r"Unexpected ValueError in test_errors\.py:\d+\. Please .*", str(said))
