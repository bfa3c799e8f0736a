"""Every way in which runs over a table in motion can interleave and die, with both streams.

A run is a generator: it yields its next request to S3 or the database, one atomic step, and is sent
the answer. Some go first, two as a rule, step by step in any order: runs A and B, reconciliations
T and U. They may die anywhere, with or without a PUT on its way that arrives at any later time.
Meanwhile rows appear, are updated, deleted and inserted again, a transaction stays open, a
partition is detached and attached again, the table is declared anew, which changes lines and writes
no version, and the stream's latest.json or one of its objects is lost. When nobody is left, normal
ones follow over a table at rest: late PUTs may still disturb the first, and another may have to end
a scan that began long ago. Then what both streams say of each row must be what the table says.

How ids settle, and how latest.json is healed, is not in here: `interleavings` has that. A position
is found in one step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

Request = tuple[Any, ...]
Program = Callable[[str], Generator[Request, Any]]
Rows = tuple[tuple[int, int | None], ...]  # id and version; None: a tombstone


class Key(NamedTuple):
    """The name of an object of the first stream; the maker stands for its timestamp."""

    row_id: int
    maker: str


class Scan(NamedTuple):
    """A scan that goes on: its mark and the ids it is to look at."""

    base: int
    writes: int
    up_to: int
    above: int
    declared: int = 0


class Saved(NamedTuple):
    """What changes/.../latest.json says. Its etag is the hash of that: itself."""

    sequence: int
    base: int | None
    writes: int | None
    scan: Scan | None = None
    declared: int = 0


UNKNOWN = -1  # a declaration that no table has


class World(NamedTuple):
    """The table and the bucket.

    `rows` are the (xmin, version) of the ids from 1 on, None where there is no such row; `version`
    is the newest of all, which is also how often the table was written to. `pending` is the (xid,
    xid of its savepoint, what it did, id) of a transaction that has written a row and is open.
    `detached` are rows in a partition that is no part of the table now. `declared` counts how often
    the table was declared anew. `changes` are objects of the change stream: number, rows, and the
    mark from which they were read, its base and its declaration.
    """

    rows: tuple[tuple[int, int] | None, ...]
    version: int
    next_xid: int = 100
    pending: tuple[int, int, str, int] | None = None
    detached: frozenset[tuple[int, tuple[int, int]]] = frozenset()
    claims: frozenset[tuple[int, Key]] = frozenset()
    objects: frozenset[tuple[Key, Rows]] = frozenset()
    latest: int = 0
    changes: frozenset[tuple[int, Rows, int | None, int]] = frozenset()
    state: Saved | None = None
    declared: int = 0

    @property
    def xmin(self) -> int:
        """The lowest id of a transaction that is open, or has yet to begin."""
        return self.pending[0] if self.pending else self.next_xid

    @property
    def highest(self) -> int:
        """The highest id in the table."""
        return max((row_id for row_id, row in enumerate(self.rows, 1) if row), default=0)

    @property
    def front(self) -> int:
        """The id up to which rows have landed."""
        return _find_position(self, 0)[0]

    @property
    def lost_change(self) -> int | None:
        """The number of an object of changes that is missing: behind it there are others."""
        numbers = {number for number, *_ in self.changes}
        last = max([*numbers, self.state.sequence if self.state else 0])
        return next((number for number in range(1, last + 1) if number not in numbers), None)

    def write(self, row_id: int, xid: int, after: int) -> World:
        """Return the world in which a row has a new version; versions count up."""
        return self.with_row(row_id, (xid, self.version + 1))._replace(next_xid=after)

    def delete(self, row_id: int, after: int) -> World:
        """Return the world without a row."""
        return self.with_row(row_id, None)._replace(next_xid=after)

    def with_row(self, row_id: int, row: tuple[int, int] | None) -> World:
        """Return the world in which this is the row with an id."""
        rows = list(self.rows)
        rows[row_id - 1 : row_id] = [row]
        return self._replace(rows=tuple(rows), version=self.version + 1)

    def versions(self, above: int, to: int, base: int = 0) -> Rows:
        """Return the rows above an id, up to another, whose xmin is not below a base."""
        return tuple(
            (row_id, self.line(row_id, version))
            for row_id, (xmin, version) in self.present()
            if above < row_id <= to and xmin >= base
        )

    def line(self, row_id: int, version: int) -> int:
        """Return what lands of a row: lines of odd ids depend on every second declaration."""
        return version + 100 * (self.declared % 2) * (row_id % 2)

    def present(self) -> Iterator[tuple[int, tuple[int, int]]]:
        """Yield the ids of the rows that there are, each with its row."""
        return ((row_id, row) for row_id, row in enumerate(self.rows, 1) if row)


class Budget(NamedTuple):
    """What may still happen to the table before everybody is dead."""

    inserts: int = 0
    updates: int = 0
    transactions: int = 0
    deletes: int = 0
    returns: int = 0
    detaches: int = 0
    losses: int = 0
    declarations: int = 0
    lost_changes: int = 0


class State(NamedTuple):
    """A point in a schedule."""

    world: World
    running: tuple[tuple[str, tuple[Any, ...]], ...]
    late: frozenset[Request]
    budget: Budget
    normal_runs: int = 0


class Violation(AssertionError):
    """A schedule that breaks the promise; its notes are the schedule, last step first."""


def read(world: World, kind: str, *arguments: Any) -> Any:
    """Return the answer to a request that changes nothing."""
    match kind, arguments:
        case "read state", ():
            return world.state
        case "read latest", ():
            return world.latest
        case "survey", ():
            return world.xmin, world.next_xid, world.version, world.highest, world.declared
        case "find position", (latest,):
            return _find_position(world, latest)
        case "read claim", (above,):
            return dict(world.claims)[above]
        case "read rows", (above, to, limit):
            return world.versions(above, to or len(world.rows))[:limit]
        case "last change", ():
            return max((number for number, *_ in world.changes), default=0)
        case "base of change", (number,):
            return next(tuple(mark) for n, _, *mark in world.changes if n == number)
        case "read changed", (base, above, to):
            return world.versions(above, to, base or 0)
        case "lost change", ():
            return world.lost_change
        case "read landed", (number,) if (world.lost_change or number + 1) <= number:
            return None
        case "read landed", (number,):
            return tuple(sorted(_last_words(world, len(world.rows), number).items()))
        case "read streams", (front, number):
            return tuple(sorted(_last_words(world, front, number).items()))
        case "read source", (front, base):
            return tuple(
                (row_id, xmin < base) for row_id, (xmin, _) in world.present() if row_id <= front
            )
        case "read row", (row_id,):
            return world.versions(row_id - 1, row_id)
    raise ValueError(kind)


def write(world: World, kind: str, *arguments: Any) -> tuple[World, bool]:
    """Apply a PUT; tell whether S3 took it."""
    match kind, arguments:
        case "create claim", (above, key) if above not in dict(world.claims):
            return world._replace(claims=world.claims | {(above, key)}), True
        case "create object", (key, rows) if key not in dict(world.objects):
            return world._replace(objects=world.objects | {(key, rows)}), True
        case "write latest", (read, row_id) if read == world.latest:
            return world._replace(latest=row_id), True
        case "create change", (number, *_) if number not in {n for n, *_ in world.changes}:
            return world._replace(changes=world.changes | {arguments}), True
        case "overwrite change", (number, *_):
            others = frozenset(change for change in world.changes if change[0] != number)
            return world._replace(changes=others | {arguments}), True
        case "write state", (read, saved) if read == world.state:
            return world._replace(state=saved), True
        case "overwrite state", (saved,):
            return world._replace(state=saved), True
    return world, False


_PUTS = ("create ", "write ", "overwrite ")


def _find_position(world: World, latest: int) -> tuple[int, Key | None]:
    claims, objects = dict(world.claims), dict(world.objects)
    while (key := claims.get(latest)) and key in objects:
        latest = key.row_id
    return latest, claims.get(latest)


def both_streams(world: World) -> dict[int, int]:
    """Return the version of each row that a consumer of both streams has in the end."""
    words = _last_words(world, len(world.rows), max([0, *(n for n, *_ in world.changes)]))
    return {row_id: version for row_id, version in words.items() if version is not None}


def _last_words(world: World, front: int, number: int) -> dict[int, int | None]:
    """Return the version of each id that the streams have last, up to an id and a number."""
    landed = [row for key, rows in sorted(world.objects) if key.row_id <= front for row in rows]
    changes = sorted(world.changes, key=lambda change: change[0])
    changed = [row for n, rows, *_ in changes if n <= number for row in rows if row[0] <= front]
    return dict(landed + changed)


def start(
    rows: int, budget: Budget, landed: int = 0, first: str = "AB", chain: Sequence[int] = ()
) -> State:
    """Return the state in which the first ones begin: so many rows, of which some have landed.

    A load has claimed the batches that end where the chain says, and saved a mark before.
    """
    world = World(tuple((n, n) for n in range(1, rows + 1)), rows)
    if landed:
        key = Key(landed, "0")
        world = world._replace(
            claims=frozenset({(0, key)}),
            objects=frozenset({(key, world.versions(0, landed))}),
            latest=landed,
            state=Saved(0, world.xmin, landed),
        )
    for above, end in pairwise((landed, *chain)):
        world = world._replace(
            claims=world.claims | {(above, Key(end, "0"))},
            state=world.state or Saved(0, world.xmin, None, None),
        )
    return State(world, tuple((name, ()) for name in first), frozenset(), budget)


@dataclass
class Explorer:
    """Explores all schedules from a state.

    Attributes:
        program: what runs and reconciliations do, by their names.
        normal: the names of the normal ones that follow.
        deletes_are_known: whether in the end the streams may have no row that is not in the table.
        states: the states met, each with the number of schedules that begin there.
        histories: the answers a run has had, for every run that was ever met.
    """

    program: Program
    normal: str = "CDE"
    deletes_are_known: bool = True
    states: dict[State, int] = field(default_factory=dict)
    histories: set[tuple[str, tuple[Any, ...]]] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Remember the next request of each history: replaying it anew each time is slow."""
        self._next_request = cache(self._replay)
        # A schedule of some hundred steps is followed by recursion.
        sys.setrecursionlimit(10_000)

    def schedules(self, state: State) -> int:
        """Return how many schedules begin at a state.

        Raises:
            Violation: one of them breaks the promise.
        """
        if state in self.states:
            return self.states[state]
        count = 0
        for action, following in self._actions(state):
            try:
                count += self.schedules(following)
            except Violation as violation:
                violation.add_note(str(action))
                raise
        self.states[state] = count or 1
        return count or 1

    def _replay(self, name: str, history: tuple[Any, ...]) -> Request | None:
        self.histories.add((name, history))
        run = self.program(name)
        try:
            request = next(run)
            for answer in history:
                request = run.send(answer)
        except StopIteration:
            return None
        return request

    def _actions(self, state: State) -> Iterator[tuple[Any, State]]:
        if not state.running and state.normal_runs == len(self.normal):
            self._check(state.world)
            return
        if not state.running:
            yield from self._normal_run(state)
        for number, run in enumerate(state.running):
            others = state.running[:number] + state.running[number + 1 :]
            yield from self._steps(state, run, others)
        if state.normal_runs < 2:
            for request in state.late:
                world, _ = write(state.world, *request)
                late = state.late - {request}
                yield ("arrives late", *request), state._replace(world=world, late=late)
        if not state.normal_runs:
            yield from _writes(state)

    def _normal_run(self, state: State) -> Iterator[tuple[Any, State]]:
        if not state.world.pending:
            running = ((self.normal[state.normal_runs], ()),)
            yield (
                "a normal run begins",
                state._replace(running=running, normal_runs=state.normal_runs + 1),
            )

    def _steps(
        self, state: State, run: tuple[str, tuple[Any, ...]], others: tuple[Any, ...]
    ) -> Iterator[tuple[Any, State]]:
        name, history = run
        request = self._next_request(name, history)
        if request is None:
            yield (name, "ends"), state._replace(running=others)
            return
        is_put = request[0].startswith(_PUTS)
        world, answer = state.world, None
        if is_put:
            world, answer = write(world, *request)
            _check_change(state.world, request)
        else:
            answer = read(world, *request)
        moved = tuple(sorted((*others, (name, (*history, answer))), key=repr))
        yield (name, *request, "->", answer), state._replace(world=world, running=moved)
        if not state.normal_runs:
            late = state.late | {request} if is_put else state.late
            yield (name, "dies at", *request), state._replace(running=others, late=late)

    def _check(self, world: World) -> None:
        table = {row_id: world.line(row_id, version) for row_id, (_, version) in world.present()}
        streams = both_streams(world)
        if streams != (table if self.deletes_are_known else streams | table):
            raise Violation(f"Both streams say {streams}, the table {table}. {world}")


def _check_change(world: World, request: Request) -> None:
    """Who follows both streams relies on it: what changes has landed."""
    if request[0] == "create change" and any(row_id > world.front for row_id, _ in request[2]):
        raise Violation(f"A change of what has not landed: {request}. {world}")


def _writes(state: State) -> Iterator[tuple[Any, State]]:
    """Yield what may happen to the table, and to the stream's latest.json."""
    world, budget, xid = state.world, state.budget, state.world.next_xid
    if world.pending:
        _, savepoint, what, row_id = world.pending
        done = (
            world.delete(row_id, xid) if what == "deletes" else world.write(row_id, savepoint, xid)
        )
        yield "the transaction commits", state._replace(world=done._replace(pending=None))
        undone = world._replace(pending=None)
        yield "the transaction is rolled back", state._replace(world=undone)
    if budget.inserts:
        inserted = world.write(len(world.rows) + 1, xid, xid + 1)
        yield "a row appears", _spent(state, "inserts", inserted)
    for row_id, row in enumerate(world.rows, 1):
        if not (world.pending and world.pending[3] == row_id):  # it waits for the other one
            yield from _writes_of_row(state, row_id, row)
    for row_id, row in world.detached:
        attached = world.with_row(row_id, row)._replace(detached=frozenset())
        yield f"row {row_id} is attached again", state._replace(world=attached)
    if budget.declarations:
        declared = world._replace(declared=world.declared + 1)
        yield "the table is declared anew", _spent(state, "declarations", declared)
    for change in world.changes if budget.lost_changes else ():
        lost = world._replace(changes=world.changes - {change})
        yield f"change {change[0]} is lost", _spent(state, "lost_changes", lost)
    if budget.losses and world.state:
        yield "latest.json is lost", _spent(state, "losses", world._replace(state=None))


def _writes_of_row(
    state: State, row_id: int, row: tuple[int, int] | None
) -> Iterator[tuple[Any, State]]:
    world, budget, xid = state.world, state.budget, state.world.next_xid
    is_detached = row_id in dict(world.detached)
    if row and budget.updates:
        updated = world.write(row_id, xid, xid + 1)
        yield f"row {row_id} is updated", _spent(state, "updates", updated)
    if row and budget.deletes:
        yield f"row {row_id} is deleted", _spent(state, "deletes", world.delete(row_id, xid + 1))
    if row and budget.detaches:
        detached = world.with_row(row_id, None)._replace(detached=frozenset({(row_id, row)}))
        yield f"row {row_id} is detached", _spent(state, "detaches", detached)
    if not row and not is_detached and budget.returns:
        inserted = world.write(row_id, xid, xid + 1)
        yield f"row {row_id} is inserted again", _spent(state, "returns", inserted)
    if budget.transactions and not world.pending and not is_detached:
        deletes = ["deletes"] if row and budget.deletes else []
        inserts = ["inserts"] if not row and budget.returns else []
        for what in ["updates", *deletes] if row else inserts:
            opened = world._replace(pending=(xid, xid + 1, what, row_id), next_xid=xid + 2)
            yield f"a transaction {what} row {row_id}", _spent(state, "transactions", opened)


def _spent(state: State, what: str, world: World) -> State:
    left = state.budget._replace(**{what: getattr(state.budget, what) - 1})
    return state._replace(world=world, budget=left)
