"""Every way in which runs over one table can interleave, die and be disturbed.

A run is a generator: it yields its next request to S3 or the database, one atomic step, and is sent
the answer. The world is a small immutable value, and so is a run: its name and the answers it has
had. That makes states comparable, and every state is explored once.

Two runs or three go first, A, B and E. They die anywhere, with or without a PUT on its way that
arrives at any later time or never; rows appear and disappear; latest.json is lost or put back. Then
nobody is left, and a normal run, C, has to put everything in order again, late PUTs or not; another
one, D, follows where something happened after the first.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

Request = tuple[Any, ...]
Program = Callable[[str], Generator[Request, Any]]
MOST_STEPS = 60  # of a run, which takes far fewer if it isn't going round in circles
WRITES = {"create claim", "create object", "put latest", "write latest"}


class Key(NamedTuple):
    """The name of an object; the maker stands for its timestamp."""

    row_id: int
    maker: str


class Latest(NamedTuple):
    """What latest.json says: id, timestamp and rows. Its etag is the hash of that: itself."""

    row_id: int = 0
    maker: str = ""
    rows: int = 0


class World(NamedTuple):
    """The table, of which the rows 1 to `highest` are settled, and the bucket."""

    highest: int
    deleted: frozenset[int] = frozenset()
    claims: frozenset[tuple[int, Key]] = frozenset()
    objects: frozenset[tuple[Key, tuple[int, ...]]] = frozenset()
    latest: Latest | None = None
    older: frozenset[Latest] = frozenset()

    def rows(self, above: int, to: int | None = None) -> tuple[int, ...]:
        """Return the rows above an id, up to another."""
        last = self.highest if to is None else min(to, self.highest)
        return tuple(n for n in range(above + 1, last + 1) if n not in self.deleted)


class Budget(NamedTuple):
    """What may still happen to the runs before everybody is dead."""

    appear: int = 0
    vanish: int = 0
    disturb: int = 0


class State(NamedTuple):
    """A point in a schedule: the world, who runs, which PUTs are on their way, what may happen."""

    world: World
    running: tuple[tuple[str, tuple[Hashable, ...]], ...]
    late: frozenset[Request]
    budget: Budget
    normal_runs: int = 0
    disturbed: bool = False


class Violation(AssertionError):
    """A schedule that breaks a promise; its notes are the schedule, last step first."""


def answers(world: World, request: Request, *, storm: bool) -> Iterator[tuple[World, Any]]:
    """Yield what a request may do to the world, and its answer.

    Args:
        world: as it is.
        request: its kind and arguments.
        storm: whether a read may return fewer rows than there are, because writers are open.
    """
    kind, *arguments = request
    if kind == "read rows":
        above, limit = arguments
        rows = world.rows(above)[:limit]
        for count in range(0 if storm else len(rows), len(rows) + 1):
            yield world, rows[:count]
    elif kind == "look for news":
        yield world, bool(world.rows(*arguments))
    elif kind in WRITES:
        yield _write(world, kind, *arguments)
    else:
        yield world, _READS[kind](world, *arguments)


_READS: dict[str, Callable[..., Any]] = {
    "read latest": lambda world: world.latest,
    "list": lambda world: max((key for key, _ in world.objects), default=None),
    "head": lambda world, key: next((len(r) for k, r in world.objects if k == key), None),
    "read claim": lambda world, above: dict(world.claims).get(above),
    "read settled rows": lambda world, above, to: world.rows(above, to),
}


def _write(world: World, kind: str, *arguments: Any) -> tuple[World, bool]:
    """Apply a PUT; tell whether S3 took it."""
    match kind, arguments:
        case "create claim", (above, key):
            if above in dict(world.claims):
                return world, False
            return world._replace(claims=world.claims | {(above, key)}), True
        case "create object", (key, rows):
            if key in dict(world.objects):
                return world, False
            return world._replace(objects=world.objects | {(key, rows)}), True
        case "write latest", (read, latest) if read != world.latest:
            return world, False
    latest = arguments[-1]
    return world._replace(latest=latest, older=world.older | {latest}), True


def start(runs: str, rows: int, budget: Budget) -> State:
    """Return the state in which these runs begin, over a table of so many rows."""
    return State(World(rows), tuple((name, ()) for name in runs), frozenset(), budget)


@dataclass
class Explorer:
    """Explores all schedules from a state and checks the world after each normal run.

    Attributes:
        program: what the runs do.
        promises: what to check, by the names that `broken_promises` gives them; all if empty.
        states: the states met, each with the number of schedules that begin there.
        histories: the answers a run has had, for every run that was ever met.
    """

    program: Program
    promises: frozenset[str] = frozenset()
    states: dict[State, int] = field(default_factory=dict)
    histories: set[tuple[str, tuple[Hashable, ...]]] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Remember the next request of each history: replaying it anew each time is slow."""
        self._next_request = cache(self._replay)

    def schedules(self, state: State) -> int:
        """Return how many schedules begin at a state.

        Raises:
            Violation: one of them breaks a promise.
        """
        known = self.states.get(state)
        if known is not None:
            return known
        count = 0
        for action, following in self._actions(state):
            try:
                count += self.schedules(following)
            except Violation as violation:
                violation.add_note(str(action))
                raise
        self.states[state] = count or 1
        return count or 1

    def _replay(self, name: str, history: tuple[Hashable, ...]) -> Request | None:
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
        if not state.running:
            yield from self._normal_run(state)
        for number, (name, history) in enumerate(state.running):
            others = state.running[:number] + state.running[number + 1 :]
            request = self._next_request(name, history)
            if request is None:
                yield (name, "ends"), self._ended(state, others)
                continue
            if len(history) > MOST_STEPS:
                raise Violation(f"{name} is stuck")
            for world, answer in answers(state.world, request, storm=not state.normal_runs):
                moved = (*others, (name, (*history, answer)))
                yield (
                    (name, *request, "->", answer),
                    state._replace(world=world, running=tuple(sorted(moved))),
                )
            if not state.normal_runs:
                late = state.late | {request} if request[0] in WRITES else state.late
                yield (name, "dies at", *request), state._replace(running=others, late=late)
        yield from self._accidents(state)

    def _normal_run(self, state: State) -> Iterator[tuple[Any, State]]:
        """Begin one after the storm, and another if the first one did not have the last word."""
        if state.normal_runs == 0 or (state.normal_runs == 1 and state.disturbed):
            # Where rows were deleted, it takes a new one to make a run look at the claims.
            highest = state.world.highest + bool(state.world.deleted)
            started = state._replace(
                world=state.world._replace(highest=highest),
                running=(("CD"[state.normal_runs], ()),),
                normal_runs=state.normal_runs + 1,
                disturbed=False,
            )
            yield "a normal run begins", started

    def _ended(self, state: State, others: tuple[Any, ...]) -> State:
        if state.normal_runs:
            self._check(state.world, disturbed=state.disturbed)
        return state._replace(running=others)

    def _check(self, world: World, *, disturbed: bool) -> None:
        broken = broken_promises(world) - ({LATEST} if disturbed else set())
        if broken & (self.promises or broken):
            raise Violation(f"Not true: {'; '.join(sorted(broken))}. {world}")

    def _accidents(self, state: State) -> Iterator[tuple[Any, State]]:
        for request in state.late:
            world, _ = _write(state.world, *request)
            over = bool(state.normal_runs and not state.running)
            if over:
                moved = world.objects != state.world.objects
                self._check(world, disturbed=state.disturbed or moved)
            # A run that is over can't mend it: the next one has to.
            disturbed = state.disturbed or (over and world != state.world)
            yield (
                ("arrives late", *request),
                state._replace(world=world, late=state.late - {request}, disturbed=disturbed),
            )
        if state.normal_runs == 0:
            yield from self._changes_of_rows(state)
        if state.normal_runs < 2 and state.budget.disturb:
            budget = state.budget._replace(disturb=state.budget.disturb - 1)
            for latest in (None, *state.world.older):
                if latest != state.world.latest:
                    yield (
                        ("latest.json becomes", latest),
                        state._replace(
                            world=state.world._replace(latest=latest), budget=budget, disturbed=True
                        ),
                    )

    def _changes_of_rows(self, state: State) -> Iterator[tuple[Any, State]]:
        world, budget = state.world, state.budget
        if budget.appear:
            yield (
                "a row appears",
                state._replace(
                    world=world._replace(highest=world.highest + 1),
                    budget=budget._replace(appear=budget.appear - 1),
                ),
            )
        if budget.vanish:
            for row in world.rows(0):
                yield (
                    f"row {row} is deleted",
                    state._replace(
                        world=world._replace(deleted=world.deleted | {row}),
                        budget=budget._replace(vanish=budget.vanish - 1),
                    ),
                )


ALL, ONCE = "every row landed", "each once and in order"
LATEST = "latest.json says where the table stands"


def broken_promises(world: World) -> set[str]:
    """Return which promises do not hold once a normal run has ended."""
    objects = sorted(world.objects)
    landed = [row for _, rows in objects for row in rows]
    claims = dict(world.claims)
    chain, above = [], 0
    while above in claims:
        chain.append(claims[above])
        above = claims[above].row_id
    last = Latest(*objects[-1][0], len(objects[-1][1])) if objects else None
    promises = {
        ALL: set(world.rows(0)) <= set(landed),
        ONCE: all(before < after for before, after in pairwise(landed)),
        LATEST: world.latest == last,
        "nothing landed that was not there": set(landed) <= set(range(1, world.highest + 1)),
        "no row is in an object of lower ids": all(
            not rows or rows[-1] <= key.row_id for key, rows in objects
        ),
        "the claims are one chain": len(chain) == len(claims),
        "each object is claimed": {key for key, _ in objects} <= set(chain),
    }
    return {promise for promise, kept in promises.items() if not kept}
