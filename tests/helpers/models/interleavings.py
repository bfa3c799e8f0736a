"""Every way in which runs over one table can interleave, die and be disturbed.

A run is a generator: it yields its next request to S3 or the database, one atomic step, and is sent
the answer. The world is a small immutable value, and so is a run: its name and the answers it has
had. That makes states comparable, and every state is explored once.

Two runs or three go first, such as A, B and E. They die anywhere, with or without a PUT on its way
that arrives at any later time or never; rows appear and disappear; latest.json is lost or put back;
a claim is lost, and restored. Then nobody is left, and a normal run, C, has to put everything in
order again, late PUTs or not; another one, D, follows where something happened after the first, or
where it failed because a claim was lost, which is restored by then.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice, pairwise
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


class Damaged(Exception):
    """A run fails: the claim above an id is missing, and there is something behind it."""


class World(NamedTuple):
    """The table, of which the rows 1 to `highest` are settled, and the bucket.

    Attributes:
        lost: the claim that is lost, if one is.
    """

    highest: int
    deleted: frozenset[int] = frozenset()
    claims: frozenset[tuple[int, Key]] = frozenset()
    objects: frozenset[tuple[Key, tuple[int, ...]]] = frozenset()
    latest: Latest | None = None
    older: frozenset[Latest] = frozenset()
    lost: tuple[int, Key] | None = None

    def rows(self, above: int, to: int | None = None) -> tuple[int, ...]:
        """Return the rows above an id, up to another."""
        last = self.highest if to is None else min(to, self.highest)
        return tuple(n for n in range(above + 1, last + 1) if n not in self.deleted)


class Budget(NamedTuple):
    """What may still happen to the runs before everybody is dead."""

    appear: int = 0
    vanish: int = 0
    disturb: int = 0
    lose: int = 0


class State(NamedTuple):
    """A point in a schedule: the world, who runs, which PUTs are on their way, what may happen."""

    world: World
    running: tuple[tuple[str, tuple[Hashable, ...]], ...]
    late: frozenset[Request]
    budget: Budget
    normal_runs: int = 0
    disturbed: bool = False
    failed: bool = False
    lost: frozenset[int] = frozenset()  # the ids above which claims are, or were, lost


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
    elif kind == "take a batch":
        landed = {key for key, _ in world.objects}
        for claim in sorted(world.claims):
            if claim[1] not in landed:
                yield world, claim
        yield world, None
    elif kind in WRITES:
        yield _write(world, kind, *arguments)
    else:
        yield world, _READS[kind](world, *arguments)


_READS: dict[str, Callable[..., Any]] = {
    "read latest": lambda world: world.latest,
    "look for news": lambda world: max(world.rows(0), default=0),
    "list claims": lambda world: tuple(sorted(world.claims)),
    "list objects": lambda world: tuple(sorted(key for key, _ in world.objects)),
    "look for claims": lambda world, first: tuple(
        sorted(above for above, _ in world.claims if above >= first)
    ),
    "look for objects": lambda world, first: tuple(
        sorted(key for key, _ in world.objects if key.row_id >= first)
    ),
    "head": lambda world, key: next((len(r) for k, r in world.objects if k == key), None),
    "read claim": lambda world, above: dict(world.claims).get(above),
    "read settled rows": lambda world, above, to: world.rows(above, to),
    "call again": lambda _: None,
    "read cut": lambda world, above, up_to, limit: next(
        islice(world.rows(above, up_to), limit - 1, None), up_to
    ),
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


def start(runs: str, rows: int, budget: Budget, chain: Sequence[int] = ()) -> State:
    """Return the state in which these runs begin.

    Args:
        runs: their names.
        rows: how many rows the table has.
        budget: what may happen.
        chain: where the batches end that were claimed beforehand, and have not landed.
    """
    claims = frozenset((above, Key(end, "P")) for above, end in pairwise((0, *chain)))
    world = World(rows, claims=claims)
    return State(world, tuple((name, ()) for name in runs), frozenset(), budget)


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
        # A schedule of some hundred steps is followed by recursion.
        sys.setrecursionlimit(10_000)
        self._known_ends = cache(self._ends_known_by)

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
        except Damaged as error:
            return "fails", error.args[0]
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
            if request[0] == "fails":
                yield (name, *request), self._failed(state, others, request[1])
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
        if state.normal_runs == 1 and state.world.lost:
            yield self._restored(state)
        elif state.normal_runs == 0 or (state.normal_runs == 1 and state.disturbed):
            # Where rows were deleted, it takes a new one to make a run look at the claims.
            highest = state.world.highest + bool(state.world.deleted)
            started = state._replace(
                world=state.world._replace(highest=highest),
                running=(("CD"[state.normal_runs], ()),),
                normal_runs=state.normal_runs + 1,
                disturbed=False,
                failed=False,
            )
            yield "a normal run begins", started

    def _ended(self, state: State, others: tuple[Any, ...]) -> State:
        if state.normal_runs:
            self._check(state.world, disturbed=state.disturbed)
        return state._replace(running=others)

    def _failed(self, state: State, others: tuple[Any, ...], row_id: int) -> State:
        """A run fails that names a claim: it was lost, and the rows that landed have so once."""
        if row_id not in state.lost and NAMED in (self.promises or {NAMED}):
            raise Violation(f"Not true: {NAMED}. {state.world}")
        if state.normal_runs:
            self._check(state.world, disturbed=True, failed=True)
        return state._replace(running=others, failed=state.normal_runs > 0)

    def _restored(self, state: State) -> tuple[Any, State]:
        world, claim = state.world, state.world.lost
        assert claim is not None
        if claim[0] not in dict(world.claims):
            world = world._replace(claims=world.claims | {claim})
        restored = state._replace(world=world._replace(lost=None), disturbed=True)
        return ("restored is", claim), restored

    def _check(self, world: World, *, disturbed: bool, failed: bool = False) -> None:
        broken = broken_promises(world) - ({LATEST} if disturbed else set())
        broken -= {CHAIN, CLAIMED} if world.lost else set()
        broken -= {ALL} if failed else set()
        if broken & (self.promises or broken):
            raise Violation(f"Not true: {'; '.join(sorted(broken))}. {world}")

    def _accidents(self, state: State) -> Iterator[tuple[Any, State]]:
        for request in state.late:
            world, _ = _write(state.world, *request)
            over = bool(state.normal_runs and not state.running)
            if over:
                moved = world.objects != state.world.objects
                disturbed = state.disturbed or state.failed or moved
                self._check(world, disturbed=disturbed, failed=state.failed)
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

        if state.world.lost and state.normal_runs == 0:
            yield self._restored(state)
        if state.normal_runs == 0 and state.budget.lose:
            budget = state.budget._replace(lose=state.budget.lose - 1)
            for claim in self._claims_to_lose(state):
                world = state.world
                world = world._replace(claims=world.claims - {claim}, lost=claim)
                lost = state.lost | {claim[0]}
                yield (
                    ("lost is", claim),
                    state._replace(world=world, budget=budget, lost=lost),
                )

    def _claims_to_lose(self, state: State) -> Iterator[tuple[int, Key]]:
        """Yield the claims whose loss can be noticed.

        Something is behind it: its object, at least. And no run lives that knows that the chain
        ends there, nor is its PUT on its way: it claims the batch without looking again.
        """
        world = state.world
        ends = {request[1] for request in state.late if request[0] == "create claim"}
        ends = ends.union(*(self._known_ends(*run) for run in state.running))
        for claim in sorted(world.claims):
            above = claim[0]
            is_behind = any(other > above for other, _ in world.claims) or any(
                key.row_id > above for key, _ in world.objects
            )
            if is_behind and above not in ends:
                yield claim

    def _ends_known_by(self, name: str, history: tuple[Hashable, ...]) -> frozenset[int]:
        """Return the ids above which a run knows, or knew, no claim.

        It has looked there, or has claimed the batch that ends there, in the same call.
        """
        ends = set()
        for place, answer in enumerate(history):
            request = self._next_request(name, history[:place])
            if request and request[0] == "look for claims":
                ends.add(request[1] - 1)
            if request and request[0] == "create claim" and answer:
                ends.add(request[2].row_id)
            if request and request[0] == "call again":
                ends.clear()
        return frozenset(ends)

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
NAMED = "a run that fails names the claim that is lost"
CHAIN, CLAIMED = "the claims are one chain", "each object is claimed"


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
        CHAIN: len(chain) == len(claims),
        CLAIMED: {key for key, _ in objects} <= set(chain),
    }
    return {promise for promise, kept in promises.items() if not kept}
