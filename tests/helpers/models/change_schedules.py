"""Every way in which runs over a table in motion can interleave and die, with both streams.

A run is a generator: it yields its next request to S3 or the database, one atomic step, and is sent
the answer. Runs A and B go first, step by step in any order. They may die anywhere, with or without
a PUT on its way that arrives at any later time. Meanwhile rows appear and are updated, and a
transaction stays open. When nobody is left, three normal runs follow, C to E, over a table at rest:
late PUTs may still disturb the first, and the second may have to end a scan that began long ago.
Then what both streams say of each row must be what the table says.

How ids settle, and how latest.json is healed, is not in here: `interleavings` has that. A position
is found in one step.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

Request = tuple[Any, ...]
Program = Callable[[str], Generator[Request, Any]]
Rows = tuple[tuple[int, int], ...]  # id and version


NORMAL_RUNS = 3


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


class Saved(NamedTuple):
    """What changes/.../latest.json says. Its etag is the hash of that: itself."""

    sequence: int
    base: int | None
    writes: int | None
    scan: Scan | None = None


class World(NamedTuple):
    """The table and the bucket.

    `rows` are the (xmin, version) of the ids from 1 on; `pending` the (xid, xid of its savepoint,
    id) of a transaction that has updated a row and is open. `changes` are objects of the change
    stream: number, rows, and the base from which they were read.
    """

    rows: tuple[tuple[int, int], ...]
    next_xid: int = 100
    pending: tuple[int, int, int] | None = None
    claims: frozenset[tuple[int, Key]] = frozenset()
    objects: frozenset[tuple[Key, Rows]] = frozenset()
    latest: int = 0
    changes: frozenset[tuple[int, Rows, int | None]] = frozenset()
    state: Saved | None = None

    @property
    def xmin(self) -> int:
        """The lowest id of a transaction that is open, or has yet to begin."""
        return self.pending[0] if self.pending else self.next_xid

    def write(self, row_id: int, xid: int, after: int) -> World:
        """Return the world in which a row has a new version; versions count up."""
        rows = list(self.rows)
        rows[row_id - 1 : row_id] = [(xid, self.version + 1)]
        return self._replace(rows=tuple(rows), next_xid=after)

    @property
    def version(self) -> int:
        """The newest version of all, which is also how often the table was written to."""
        return max((version for _, version in self.rows), default=0)

    def versions(self, above: int, to: int, base: int = 0) -> Rows:
        """Return the rows above an id, up to another, whose xmin is not below a base."""
        return tuple(
            (row_id, version)
            for row_id, (xmin, version) in enumerate(self.rows, 1)
            if above < row_id <= to and xmin >= base
        )


class Budget(NamedTuple):
    """What may still happen to the table before everybody is dead."""

    inserts: int = 0
    updates: int = 0
    transactions: int = 0


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
            return world.xmin, world.next_xid, world.version, len(world.rows)
        case "find position", (latest,):
            return _find_position(world, latest)
        case "read claim", (above,):
            return dict(world.claims)[above]
        case "read rows", (above, to, limit):
            return world.versions(above, to or len(world.rows))[:limit]
        case "last change", ():
            return max((number for number, *_ in world.changes), default=0)
        case "base of change", (number,):
            return next(base for n, _, base in world.changes if n == number)
        case "read changed", (base, above, to):
            return world.versions(above, to, base or 0)
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
    landed = [row for _, rows in sorted(world.objects) for row in rows]
    changed = [row for _, rows, _ in sorted(world.changes) for row in rows]
    return dict(landed + changed)


def start(rows: int, budget: Budget, landed: int = 0) -> State:
    """Return the state in which two runs begin: so many rows, of which the first have landed."""
    world = World(tuple((n, n) for n in range(1, rows + 1)))
    if landed:
        key = Key(landed, "0")
        world = world._replace(
            claims=frozenset({(0, key)}),
            objects=frozenset({(key, world.versions(0, landed))}),
            latest=landed,
            state=Saved(0, world.xmin, landed),
        )
    return State(world, (("A", ()), ("B", ())), frozenset(), budget)


@dataclass
class Explorer:
    """Explores all schedules from a state.

    Attributes:
        program: what the runs do.
        states: the states met, each with the number of schedules that begin there.
        histories: the answers a run has had, for every run that was ever met.
    """

    program: Program
    states: dict[State, int] = field(default_factory=dict)
    histories: set[tuple[str, tuple[Any, ...]]] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Remember the next request of each history: replaying it anew each time is slow."""
        self._next_request = cache(self._replay)

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
        if not state.running and state.normal_runs == NORMAL_RUNS:
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
            running = (("CDE"[state.normal_runs], ()),)
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
        else:
            answer = read(world, *request)
        moved = tuple(sorted((*others, (name, (*history, answer))), key=repr))
        yield (name, *request, "->", answer), state._replace(world=world, running=moved)
        if not state.normal_runs:
            late = state.late | {request} if is_put else state.late
            yield (name, "dies at", *request), state._replace(running=others, late=late)

    def _check(self, world: World) -> None:
        table = {row_id: version for row_id, (_, version) in enumerate(world.rows, 1)}
        if both_streams(world) != table:
            raise Violation(f"Both streams say {both_streams(world)}, the table {table}. {world}")


def _writes(state: State) -> Iterator[tuple[Any, State]]:
    """Yield what may happen to the table."""
    world, budget, xid = state.world, state.budget, state.world.next_xid
    if world.pending:
        _, savepoint, row_id = world.pending
        committed = world.write(row_id, savepoint, xid)._replace(pending=None)
        yield "the transaction commits", state._replace(world=committed)
    if budget.inserts:
        inserted = world.write(len(world.rows) + 1, xid, xid + 1)
        left = budget._replace(inserts=budget.inserts - 1)
        yield "a row appears", state._replace(world=inserted, budget=left)
    for row_id in range(1, len(world.rows) + 1):
        if world.pending and world.pending[2] == row_id:
            continue  # it waits for the other one
        if budget.updates:
            updated = world.write(row_id, xid, xid + 1)
            left = budget._replace(updates=budget.updates - 1)
            yield f"row {row_id} is updated", state._replace(world=updated, budget=left)
        if budget.transactions and not world.pending:
            opened = world._replace(pending=(xid, xid + 1, row_id), next_xid=xid + 2)
            left = budget._replace(transactions=budget.transactions - 1)
            yield (
                f"a transaction updates row {row_id}",
                state._replace(world=opened, budget=left),
            )
