"""What a run does to one table with both streams, request by request, for `change_schedules`."""

from __future__ import annotations

from tests.helpers.models.change_schedules import UNKNOWN, Key, Saved, Scan

# Runs with a smaller limit have to go beyond it where a larger batch was claimed, and some run out
# of time: after so many batches, and after so many rows looked at for changes.
BATCH_ROWS = {"A": 2, "B": 1, "C": 3, "D": 3, "E": 3}
BATCHES = {"A": 2, "B": 1, "C": 9, "D": 9, "E": 9}
STRETCHES = {"A": 1, "B": 9, "C": 9, "D": 9, "E": 9}


def run(name, faults=frozenset()):
    """One run over one table, request by request."""
    state = yield ("read state",)
    at = yield ("read latest",)
    base, next_xid, writes, highest, declared = yield ("survey",)
    if "declaration not in the mark" in faults:
        declared = 0
    base = next_xid if "next xid as base" in faults else base
    before, all_ours = at, True
    has_news = highest > at
    if has_news:
        stored, (at, claimed) = at, (yield ("find position", at))
        before = at
        if not at and not claimed and not state and "opened after the rows" not in faults:
            state = yield from save(None, Saved(0, base, None, None, declared))
        more, batches = True, 0
        while more and batches < BATCHES[name]:
            if claimed:
                ours = yield from adopt(at, claimed)
                all_ours = all_ours and ours
                if ours:
                    at = claimed.row_id
                    stored = yield from save_latest(stored, at)
                adopted, (at, claimed) = at, (yield ("find position", at))
                if "landed by others behind an adoption" not in faults:
                    all_ours = all_ours and at == adopted
                continue
            at, claimed, ours, more = yield from batch(name, at)
            batches += 1
            all_ours = all_ours and ours
            if not before and not state and "opened after the rows" in faults:
                state = yield from save(None, Saved(0, base, None, None, declared))
            stored = yield from save_latest(stored, at)
        if more and "not read to the end" not in faults:
            return
    if "mark after the rows" in faults:
        base, _, writes, _, declared = yield ("survey",)
    is_same = state and (state.writes, state.declared) == (writes, declared)
    if is_same and not state.scan and not has_news:
        return
    if all_ours or "landed by others" in faults:
        yield from scan(name, state, Scan(base, writes, before, 0, declared), faults)


def work(above):
    """A worker of a load lands the batch that is claimed above an id."""
    claimed = yield ("read claim", above)
    yield from adopt(above, claimed)


def adopt(at, claimed):
    rows = yield ("read rows", at, claimed.row_id, None)
    return (yield ("create object", claimed, rows))


def batch(name, at):
    rows = yield ("read rows", at, None, BATCH_ROWS[name])
    ours, more = True, len(rows) == BATCH_ROWS[name]
    while rows and rows[-1][0] > at:
        claimed = Key(rows[-1][0], name)
        if not (yield ("create claim", at, claimed)):
            claimed = yield ("read claim", at)
        if claimed.row_id > rows[-1][0]:
            return at, claimed, False, True
        some = tuple(row for row in rows if at < row[0] <= claimed.row_id)
        ours = (yield ("create object", claimed, some)) and ours
        at = claimed.row_id
    return at, None, ours, more


def save_latest(stored, at):
    while at > stored:
        if (yield ("write latest", stored, at)):
            return at
        stored = yield ("read latest",)
    return stored


def scan(name, state, new, faults):
    known = state.sequence if state else 0
    number = known if "number not healed" in faults else max(known, (yield ("last change",)))
    base, done_writes = (state.base, state.writes) if state else (None, None)
    declared = state.declared if state else 0
    if number and not state:
        base, declared = yield ("base of change", number)
    going = new
    if state and state.scan and state.scan.declared == new.declared:
        going = state.scan
    landed, left_out = None, False
    if base is not None and declared != new.declared:
        if declared != UNKNOWN and "declaration not forgotten" not in faults:
            forgotten = Saved(number, base, done_writes, None, UNKNOWN)
            if (state := (yield from save(state, forgotten))) != forgotten:
                return
            declared = UNKNOWN
        landed = yield ("read landed", number)
        landed = dict(landed or ())  # where an object is missing, all lines are sent
    if "saved too early" in faults:
        state = yield from save(state, Saved(number, going.base, going.writes, None, new.declared))
    mark = base, declared
    found = ()
    for _ in range(STRETCHES[name]):
        if going.above >= going.up_to:
            break
        since = base if landed is None or "changed versions only" in faults else None
        rows = yield ("read changed", since, going.above, going.above + 1)
        if landed is not None:
            changed = tuple((row_id, line) for row_id, line in rows if landed.get(row_id) != line)
            left_out, rows = left_out or changed != rows, changed
        if found and len(found + rows) > BATCH_ROWS[name]:
            number = yield from put(number + 1, found, mark, faults)
            if not number:
                return
            found, left_out = (), False
        found += rows
        going = going._replace(above=going.above + 1)
    if found or (left_out and "left out without a number" not in faults):
        number = yield from put(number + 1, found, mark, faults)
        if not number:
            return
    if going.above >= going.up_to:
        yield from save(
            state, Saved(number, going.base, going.writes, None, going.declared), faults
        )
    else:
        yield from save(state, Saved(number, base, done_writes, going, declared), faults)


def put(number, rows, mark, faults):
    if "overwrites" in faults:
        yield ("overwrite change", number, rows, *mark)
        return number
    while not (yield ("create change", number, rows, *mark)):
        if "refused, so takes the next number" not in faults:
            return None
        number += 1
    return number


def save(state, saved, faults=frozenset()):
    if "state without If-Match" in faults:
        yield ("overwrite state", saved)
        return saved
    return saved if (yield ("write state", state, saved)) else state


def restore(faults=frozenset()):
    """The restoring of an object of changes, of which nothing is left."""
    state = yield ("read state",)
    survey = yield ("survey",)
    known = state.sequence if state else 0
    number = max(known, (yield ("last change",)))
    lost = yield ("lost change",)
    if not lost or not state or state.base is None or state.declared != survey[-1]:
        return
    at = yield ("read latest",)
    front, _ = yield ("find position", at)
    source = dict((yield ("read source", front, 0)))
    absent = tuple((row_id, None) for row_id in range(1, front + 1) if row_id not in source)
    if absent and "no tombstones" not in faults:
        number = yield from put(number + 1, absent, (state.base, state.declared), faults)
        if not number:
            return
    if "all lines are as they were" not in faults:
        forgotten = Saved(number, state.base, state.writes, None, UNKNOWN)
        if (yield from save(state, forgotten)) is state:
            return
    yield ("create change", lost, (), None, 0)
