"""What a run does to one table with both streams, request by request, for `change_schedules`."""

from __future__ import annotations

from tests.helpers.models.change_schedules import Key, Saved, Scan

# Runs with a smaller limit have to go beyond it where a larger batch was claimed, and some run out
# of time: after so many batches, and after so many rows looked at for changes.
BATCH_ROWS = {"A": 2, "B": 1, "C": 3, "D": 3, "E": 3}
BATCHES = {"A": 2, "B": 1, "C": 9, "D": 9, "E": 9}
STRETCHES = {"A": 1, "B": 9, "C": 9, "D": 9, "E": 9}


def run(name, faults=frozenset()):
    """One run over one table, request by request."""
    state = yield ("read state",)
    at = yield ("read latest",)
    base, next_xid, writes, highest = yield ("survey",)
    base = next_xid if "next xid as base" in faults else base
    before, all_ours = at, True
    has_news = highest > at
    if has_news:
        stored, (at, claimed) = at, (yield ("find position", at))
        before = at
        if not at and not claimed and not state and "opened after the rows" not in faults:
            state = yield from save(None, Saved(0, base, None))
        more = True
        for _ in range(BATCHES[name]):
            if claimed:
                ours = yield from adopt(at, claimed)
                at, all_ours = claimed.row_id, all_ours and ours
                stored = yield from save_latest(stored, at)
            at, claimed, ours, more = yield from batch(name, at)
            all_ours = all_ours and ours
            if not before and not state and "opened after the rows" in faults:
                state = yield from save(None, Saved(0, base, None))
            stored = yield from save_latest(stored, at)
            if not more:
                break
        if more and "not read to the end" not in faults:
            return
    if "mark after the rows" in faults:
        base, _, writes, _ = yield ("survey",)
    if state and not state.scan and state.writes == writes and not has_news:
        return
    if all_ours or "landed by others" in faults:
        yield from scan(name, state, Scan(base, writes, before, 0), faults)


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
    number = known if "number not healed" in faults else (yield ("last change",))
    base, done_writes = (state.base, state.writes) if state else (None, None)
    if number and not state:
        base = yield ("base of change", number)
    going = (state.scan if state else None) or new
    if "saved too early" in faults:
        state = yield from save(state, Saved(number, going.base, going.writes))
    found = ()
    for _ in range(STRETCHES[name]):
        if going.above >= going.up_to:
            break
        rows = yield ("read changed", base, going.above, going.above + 1)
        if found and len(found + rows) > BATCH_ROWS[name]:
            number = yield from put(number + 1, found, base, faults)
            if not number:
                return
            found = ()
        found += rows
        going = going._replace(above=going.above + 1)
    if found:
        number = yield from put(number + 1, found, base, faults)
        if not number:
            return
    if going.above >= going.up_to:
        yield from save(state, Saved(number, going.base, going.writes), faults)
    else:
        yield from save(state, Saved(number, base, done_writes, going), faults)


def put(number, rows, base, faults):
    if "overwrites" in faults:
        yield ("overwrite change", number, rows, base)
        return number
    while not (yield ("create change", number, rows, base)):
        if "refused, so takes the next number" not in faults:
            return None
        number += 1
    return number


def save(state, saved, faults=frozenset()):
    if "state without If-Match" in faults:
        yield ("overwrite state", saved)
        return saved
    return saved if (yield ("write state", state, saved)) else state
