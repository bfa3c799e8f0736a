"""Missing ids: where they are, how many, what fills them, and what they cost."""

from __future__ import annotations

import re

import pytest

from services.ingestion.new_rows import read_new_rows
from shared.postgres import statement
from shared.tables import Table
from tests.helpers.writers.entries import (
    INSERT,
    LIST,
    READ_GAPS,
    Entries,
    Interleaved,
    ids,
    wait_for,
)

DEAD = 5_000_000


@pytest.fixture
def entries(database):
    return Entries(database)


@pytest.fixture
def read_while(entries):
    """Read from the start, not waiting, while something happens before one of the statements."""

    def read(statement, *steps, limit=None):
        session = Interleaved(entries.reader, {statement: steps})
        return read_new_rows(Table("entry"), 0, session, limit, wait_seconds=0), session

    return read


def jump(entries: Entries) -> None:
    """Let the sequence skip ids, as somebody does who makes room."""
    entries.writer.run(f"SELECT setval('entry_entry_id_seq', {DEAD})")


def touched(entries: Entries, table: str = "entry") -> dict[str, int]:
    """Return how many rows of the table the server has looked at for the reader so far."""
    entries.reader.run("SELECT pg_stat_force_next_flush()")
    [counts] = entries.writer.run(
        f"SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_user_tables WHERE relname = '{table}'"
    )
    return dict(zip(("by scan", "by index"), counts, strict=True))


# --- what fills a gap ---


def test_a_gap_right_above_the_watermark_is_filled(entries, read_while):
    late = entries.open(INSERT)
    entries.add()
    rows, _ = read_while(LIST, lambda: late.run("COMMIT"))
    assert ids(rows) == [1, 2]
    assert rows.held_back == 0


def test_a_row_that_commits_between_the_read_and_the_list_is_not_missed(entries, read_while):
    """It is in neither: only reading the gaps again finds it."""
    late = entries.open(INSERT)
    entries.add()
    rows, session = read_while(LIST, lambda: late.run("COMMIT"))
    assert session.results[LIST] == []
    assert ids(rows) == [1, 2]


def test_a_row_above_all_that_was_read_waits_for_the_next_read(entries, read_while):
    entries.add()
    entries.roll_back()
    entries.add()
    rows, _ = read_while(LIST, entries.add)
    assert ids(rows) == [1, 3]
    assert ids(entries.read(3)) == [4]


def test_a_copy_draws_its_ids_before_it_has_a_transaction_id(entries):
    """Why comparing transaction ids proves nothing: the one of the lower id is the higher one."""
    entries.add()  # the first draw, and then every 32nd, is written to the log, which needs one
    copy = entries.connect()
    [[pid]] = copy.run("SELECT pg_backend_pid()")

    def lines():
        yield "copied\n"
        wait_for(entries.writer, "SELECT last_value = 2 FROM entry_entry_id_seq")
        entries.add()
        assert not entries.writer.run(
            f"SELECT FROM pg_locks WHERE locktype = 'transactionid' AND pid = {pid}"
        )
        assert ids(entries.read()) == [1]

    copy.run("COPY entry (note) FROM STDIN", stream=lines())
    assert ids(entries.read()) == [1, 2, 3]
    by_transaction = entries.writer.run("SELECT entry_id FROM entry ORDER BY xmin::text::bigint")
    assert by_transaction == [[1], [3], [2]]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 9, None])
def test_a_limit_below_and_above_what_a_late_transaction_fills_in(entries, read_while, limit):
    """Ids 1 to 4 and 6 to 8 come late; 5, 9 and 10 are there."""
    late = entries.open(INSERT, INSERT, INSERT, INSERT)
    entries.add()
    for _ in range(3):
        late.run(INSERT)
    entries.add(2)
    rows, _ = read_while(LIST, lambda: late.run("COMMIT"), limit=limit)
    # A read that found all its rows below a gap never looked above it.
    assert ids(rows) == list(range(1, 11))[:limit]
    assert rows.held_back == 0
    while limit and len(rows.rows) == limit:
        last = ids(rows)[-1]
        rows = entries.read(last, limit)
        assert ids(rows) == list(range(last + 1, 11))[:limit]


@pytest.mark.parametrize("limit", [1, 2, 3, None])
def test_late_rows_below_a_gap_that_stays_open_land_as_far_as_they_go(entries, read_while, limit):
    """Ids 1 and 2 come late, 3 stays open, 4 and 5 are there."""
    late = entries.open(INSERT, INSERT)
    entries.open(INSERT)
    entries.add(2)
    rows, _ = read_while(READ_GAPS, lambda: late.run("COMMIT"), limit=limit)
    assert ids(rows) == [1, 2][:limit]
    # With a limit, rows beyond it were not held back by the writer.
    assert rows.held_back == {1: 0, 2: 0, 3: 1, None: 2}[limit]


@pytest.mark.parametrize("limit", [None, 2, 3])
def test_late_rows_too_long_for_one_statement_come_one_after_the_other(
    entries, read_while, monkeypatch, limit
):
    """Ids 1, 2 and 4 come late; 3 and 5 are there; each is as long as a statement may read."""
    monkeypatch.setattr(statement, "STATEMENT_BYTES", 5000)
    long = "INSERT INTO entry (note) VALUES (repeat('x', 5000))"
    late = entries.open(long, long)
    entries.writer.run(long)
    late.run(long)
    entries.writer.run(long)
    rows, _ = read_while(LIST, lambda: late.run("COMMIT"), limit=limit)
    delivered = ids(rows)
    while rows.more:
        rows = entries.read(delivered[-1], limit)
        delivered += ids(rows)
    assert delivered == [1, 2, 3, 4, 5]


# --- what a gap costs ---


@pytest.mark.parametrize("limit", [None, 10])
def test_a_gap_of_millions_costs_as_much_as_a_gap_of_one(entries, read_while, limit):
    entries.add()
    late = entries.open(INSERT)
    jump(entries)
    entries.add()
    before = touched(entries)
    rows, session = read_while(LIST, lambda: late.run("COMMIT"), limit=limit)
    after = touched(entries)
    assert ids(rows) == [1, 2, DEAD + 1]
    assert len(session.statements) == READ_GAPS + 1
    assert len(session.statements[READ_GAPS]) < 2500
    assert sum(after.values()) - sum(before.values()) <= 3 + 3


@pytest.mark.parametrize("limit", [None, 10])
def test_a_gap_of_millions_that_nobody_fills(entries, read_while, limit):
    entries.add()
    jump(entries)
    entries.add()
    rows, session = read_while(LIST, limit=limit)
    assert ids(rows) == [1, DEAD + 1]
    assert len(session.statements) == READ_GAPS + 1
    [[found, *_]] = session.results[READ_GAPS]
    assert found == 0


@pytest.mark.parametrize("analysed", [True, False])
@pytest.mark.parametrize("limit", [None, 800])
def test_many_gaps_are_looked_up_and_not_searched_for(entries, read_while, limit, analysed):
    """The planner takes it to be cheaper to hold all rows of the table against all gaps."""
    entries.add(20_000)
    entries.writer.run("DELETE FROM entry WHERE entry_id > 18000 AND entry_id % 2 = 0")
    entries.writer.run("VACUUM ANALYZE entry") if analysed else None
    before = touched(entries)
    rows = entries.read(18_000, limit)
    after = touched(entries)
    assert ids(rows) == list(range(18_001, 20_000, 2))[:limit]
    assert after["by scan"] == before["by scan"]
    assert after["by index"] - before["by index"] < 4 * len(rows.rows)


def test_without_a_gap_the_server_runs_two_statements(entries, database, server):
    database.connect().run(
        f"ALTER ROLE reader IN DATABASE {database.name} SET log_statement = 'all'"
    )
    session = database.connect("reader")
    pid = session.run("SELECT pg_backend_pid()")[0][0]
    line = re.compile(rf"\[{pid}\] LOG:  statement:(?! +SET |\s+SET )")

    def statements():
        before = len(line.findall(server.log_path.read_text()))
        read_new_rows(Table("entry"), 0, session, wait_seconds=0)
        return len(line.findall(server.log_path.read_text())) - before

    entries.add(3)
    writer = entries.open(INSERT)  # not looked for, without a gap
    assert statements() == 2
    entries.add()
    assert statements() == 5  # the last asks whose transaction holds rows back
    writer.run("ROLLBACK")
    assert statements() == 4
