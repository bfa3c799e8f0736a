"""Where a batch ends: at a limit of rows or of bytes, never between rows that share an id."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.errors import SourceError
from shared.postgres.catalogue import read_description
from shared.postgres.cuts import read_cut
from shared.tables import Table

pytestmark = pytest.mark.thorough

ENTRY = Table("entry")
SHORT = 16 * 3  # as each of three columns counts
PARTITIONED = "CREATE TABLE entry (entry_id bigint, note text, data jsonb) PARTITION BY HASH (note)"
PARTS = [
    f"CREATE TABLE part_{n} PARTITION OF entry FOR VALUES WITH (MODULUS 2, REMAINDER {n})"
    for n in range(2)
]


@pytest.fixture
def session(database):
    session = database.connect()
    session.run("CREATE TABLE entry (entry_id bigint, note text, data jsonb)")
    session.run("CREATE INDEX ON entry (entry_id)")
    return session


def fill(session, rows):
    """Insert rows of an id, and a text of a length or NULL."""
    session.run("TRUNCATE entry")
    values = ", ".join(
        f"({row_id}, {'NULL' if length is None else f"repeat('x', {length})"})"
        for row_id, length in rows
    )
    if values:
        session.run(f"INSERT INTO entry (entry_id, note) VALUES {values}")


def cuts(session, up_to, rows, size, above=0):
    found = [above]
    while found[-1] < up_to:
        description = read_description(ENTRY, session)
        found.append(read_cut(description, session, found[-1], up_to, rows, size))
    return found[1:]


def expected(stored, up_to, rows, size, above=0):
    """What one finds who adds up the rows one by one."""
    found, number, total = [], 0, 0
    within = sorted((row_id, SHORT + (length or 0)) for row_id, length in stored)
    for row_id, same in groupby(within, key=lambda row: row[0]):
        if not above < row_id <= up_to:
            continue
        for _, length in same:
            number, total = number + 1, total + length
        if number >= rows or total >= size:
            found.append(row_id)
            number, total = 0, 0
    return found if found[-1:] == [up_to] else [*found, up_to]


SIZES = [1, 2 * SHORT, 3 * SHORT + 1, 300, 10_000]
ROWS = st.lists(st.tuples(st.integers(-3, 25), st.sampled_from([None, 0, 1, 40, 500])), max_size=30)


@settings(max_examples=60)
@example(stored=[(1, 0), (2, 0), (3, 0)], rows=9, size=2 * SHORT, up_to=3)
@given(
    ROWS,
    st.integers(1, 9),
    st.sampled_from([1, 2 * SHORT, 3 * SHORT + 1, 300, 10_000]),
    st.integers(1, 30),
)
def test_batches_are_those_of_who_adds_up_the_rows(stage_of_cuts, stored, rows, size, up_to):
    fill(stage_of_cuts, stored)
    assert cuts(stage_of_cuts, up_to, rows, size) == expected(stored, up_to, rows, size)


@pytest.fixture(scope="module")
def stage_of_cuts(server):
    """A session in a database of this module: a property runs in one test many times."""
    server.create_database("cuts")
    session = server.connect("cuts")
    session.run("CREATE TABLE entry (entry_id bigint, note text, data jsonb)")
    session.run("CREATE INDEX ON entry (entry_id)")
    yield session
    session.close()
    server.drop_database("cuts")


def test_ids_may_be_as_large_as_they_can(session):
    high = 2**63 - 1
    fill(session, [(high - 1, 1), (high, 1)])
    assert cuts(session, high, 1, 10_000) == [high - 1, high]


def test_what_was_compressed_counts_as_long_as_it_is(session):
    """A text of one letter takes a hundredth of its length in storage, a document no less."""
    fill(session, [(1, 1_000_000), (2, 1_000_000), (3, 1)])
    assert cuts(session, 3, 100, 1_500_000) == [2, 3]
    session.run("UPDATE entry SET note = NULL, data = to_jsonb(repeat('x', 1000000))")
    assert cuts(session, 3, 100, 1_500_000) == [2, 3]


def test_a_statement_measures_no_row_behind_the_batch(session):
    """But for one: else it would take as long as the table is large, and here fail on row 4."""
    fill(session, [(n, 100) for n in range(1, 5)])
    session.run(
        "CREATE FUNCTION boom(bigint, text) RETURNS text LANGUAGE sql IMMUTABLE AS "
        "$$ SELECT CASE WHEN $1 = 4 THEN (1 / ($1 - 4))::text ELSE $2 END $$"
    )
    session.run("ALTER TABLE entry RENAME TO stored")
    session.run("CREATE VIEW entry AS SELECT entry_id, boom(entry_id, note) AS note FROM stored")
    # As where a table is large.
    session.run("SET enable_sort = off; SET enable_seqscan = off; SET enable_bitmapscan = off")
    assert read_cut(read_description(ENTRY, session), session, 0, 4, 100, 150) == 2


def test_partitions_are_measured_together(database):
    session = database.connect()
    for statement in (PARTITIONED, *PARTS):
        session.run(statement)
    fill(session, [(n, n) for n in range(1, 10)])
    assert cuts(session, 9, 4, 10_000) == [4, 8, 9]


def test_a_cut_inside_a_transaction_is_refused(session):
    description = read_description(ENTRY, session)
    session.run("BEGIN")
    session.run("SELECT 1")
    with pytest.raises(SourceError, match="inside a transaction"):
        read_cut(description, session, 0, 3, 100, 150)
