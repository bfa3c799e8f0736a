"""What lands rows, request by request: models of `ingest`, of the three functions, and of a load.

Each is a generator that yields a request, and is sent its answer; see `interleavings`. They read
like `table.py`, `land.py`, `plan.py` and `shared/bucket/chain.py`. tests/unit/test_claims_model.py
and tests/unit/test_holes_model.py hold them against the code, but for the workers: given the same
answers, both make the same requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.helpers.models.interleavings import Damaged, Key, Latest

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.helpers.models.interleavings import Request

    type Steps[Result] = Generator[Request, Any, Result]

NOTHING = Latest()
# Runs with a smaller limit than others have to go beyond it where a larger batch was claimed.
BATCH_ROWS = {"A": 2, "B": 1, "C": 2, "D": 2, "E": 2, "P": 1, "Q": 2}
# Planners of whose calls each has time for one batch.
ONE_BATCH_A_CALL = {"Q"}


def run(name: str) -> Steps[None]:
    """One run over one table, request by request: what `ingest` does."""
    stored = yield ("read latest",)
    at = stored or NOTHING
    highest = yield ("look for news",)
    if highest <= at.row_id:
        return
    at, claimed = yield from heal(at, stored)
    more: bool | Key | None = True
    is_end = False
    ahead: dict[int, tuple[int, ...]] = {}
    while more:
        if claimed:
            rows = yield from adopt(at.row_id, claimed)
            if rows is not None:
                at = latest(claimed, len(rows))
                stored = yield from save(at, stored)
            at, claimed = yield from heal(at, stored)
            is_end = False
            continue
        rows = ahead.get(at.row_id)
        if rows is None:
            rows = yield ("read rows", at.row_id, BATCH_ROWS[name])
        is_full, ahead = len(rows) == BATCH_ROWS[name], {}
        if is_full:  # as early as that can be
            ahead[rows[-1]] = yield ("read rows", rows[-1], BATCH_ROWS[name])
        at, claimed, is_end = yield from land(at, None, rows, name, highest, is_end=is_end)
        stored = yield from save(at, stored)
        more = is_full or claimed


def functions(name: str) -> Steps[None]:
    """The three functions, called one after the other; the normal runs at the end are normal."""
    if name in "CD":
        yield from run(name)
        return
    stored = yield ("read latest",)
    at, _ = yield from heal(stored or NOTHING, stored)
    rows = yield ("read rows", at.row_id, BATCH_ROWS[name])
    if rows:
        stored = yield ("read latest",)
        at, claimed = yield from heal(stored or NOTHING, stored)
        at, _, _ = yield from land(at, claimed, rows, name)
        yield from save(at, stored)


def latest(key: Key, rows: int) -> Latest:
    return Latest(key.row_id, key.maker, rows)


def heal(at: Latest, stored: Latest | None) -> Steps[tuple[Latest, Key | None]]:
    claims: dict[int, Key] = {}
    objects: tuple[Key, ...] = ()
    last: Key | None = None
    if stored is None:
        listed = yield ("list claims",)
        claims = {above: key for above, key in listed if above >= at.row_id}
        objects = (yield ("list objects",)) if claims else ()
    named = {above: key for above, key in claims.items() if key in objects}
    while True:
        row_id = last.row_id if last else at.row_id
        claimed = named.get(row_id) or (yield ("read claim", row_id))
        if claimed is None:
            if max(claims, default=0) > row_id:
                raise Damaged(row_id)
            break
        if claimed not in objects and (yield ("head", claimed)) is None:
            break
        last = claimed
    if last:
        at = latest(last, (yield ("head", last)) or 0)
    return at, claimed


def land(
    at: Latest,
    claimed: Key | None,
    rows: tuple[int, ...],
    name: str,
    highest: int | None = None,
    *,
    is_end: bool = False,
) -> Steps[tuple[Latest, Key | None, bool]]:
    while rows and rows[-1] > at.row_id:
        is_ours = False
        if not claimed:
            key = Key(rows[-1], name)
            claimed, is_ours = yield from claim_batch(at.row_id, key, highest, is_end=is_end)
        is_end = is_ours
        if claimed.row_id > rows[-1]:
            return at, claimed, is_end
        at = yield from put(claimed, tuple(n for n in rows if at.row_id < n <= claimed.row_id))
        claimed = None
    return at, None, is_end


def claim_batch(
    row_id: int, key: Key, highest: int | None, *, is_end: bool
) -> Steps[tuple[Key, bool]]:
    if not is_end:
        yield from look(row_id, highest and max(highest, key.row_id))
    return (yield from claim(row_id, key))


def look(row_id: int, highest: int | None) -> Steps[None]:
    """Look for what lies behind, before a batch is claimed."""
    if highest is None:
        claims = (above for above, _ in (yield ("list claims",)))
    else:
        claims = yield ("look for claims", row_id + 1)
    is_behind = any(row_id < above <= (highest or above) for above in claims)
    if not is_behind:
        objects = yield ("list objects",) if highest is None else ("look for objects", row_id + 1)
        is_behind = any(row_id < key.row_id <= (highest or key.row_id) for key in objects)
    if is_behind and (yield ("read claim", row_id)) is None:
        raise Damaged(row_id)


def claim(row_id: int, key: Key) -> Steps[tuple[Key, bool]]:
    if (yield ("create claim", row_id, key)):
        return key, True
    theirs = yield ("read claim", row_id)
    if theirs is None:
        raise Damaged(row_id)
    return theirs, False


def adopt(above: int, key: Key) -> Steps[tuple[int, ...] | None]:
    """Land a claimed batch; return its rows, None if it has landed already."""
    if (yield ("head", key)) is not None:
        return None
    rows = yield ("read settled rows", above, key.row_id)
    return rows if (yield ("create object", key, rows)) else None


def put(key: Key, rows: tuple[int, ...]) -> Steps[Latest]:
    yield ("create object", key, rows)  # whatever the answer is, it is there now
    return latest(key, len(rows))


def save(at: Latest, stored: Latest | None) -> Steps[Latest | None]:
    while at.row_id > (stored or NOTHING).row_id:
        if (yield ("write latest", stored, at)):
            return at
        stored = yield ("read latest",)
    return stored


def plan(name: str) -> Steps[None]:
    """A planner claims all rows up to the highest id; where somebody else's claim is, it goes on.

    What else it reads of the source is left out: it is the same in every schedule.
    """
    stored = yield ("read latest",)
    up_to = yield ("look for news",)
    above = yield from find_end()
    position = (stored or NOTHING).row_id
    if above < position:
        raise Damaged(above)
    if above < up_to and not position:
        yield ("read claim", 0)  # without it, the mark is saved
    is_end = False
    while above < up_to:
        cut = yield ("read cut", above, up_to, BATCH_ROWS[name])
        key, is_end = yield from claim_batch(above, Key(cut, name), up_to, is_end=is_end)
        above = key.row_id
        if above < up_to and name in ONE_BATCH_A_CALL:
            is_end = yield from call_again()
    yield ("read latest",)
    yield from find_end()  # where it lists what is left to land


def call_again() -> Steps[bool]:
    """Go on in the next call; it knows how far this one came, not whether the chain ends there."""
    yield ("call again",)
    return False


def find_end() -> Steps[int]:
    """Return where the chain ends, by listings: behind the last claim."""
    objects = yield ("list objects",)
    claims = yield ("list claims",)
    end = 0
    if claims:
        last, _ = max(claims)
        key = yield ("read claim", last)
        if key is None:
            raise Damaged(last)
        end = key.row_id
    if any(key.row_id > end for key in objects):
        raise Damaged(end)
    return end


def work(name: str) -> Steps[None]:
    """A worker lands one batch of the plan, whichever."""
    batch = yield ("take a batch",)
    if batch:
        yield from adopt(*batch)
