"""Time several things in turns, so that what disturbs one disturbs all."""

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from .load import OtherLoad

Run = Callable[[], object]

MOST_LOAD = 0.1  # share of the machine that others may take in a round that counts as calm
_LEAST_SECONDS = 0.1  # a turn is made of calls until it takes this long
_MOST_CALLS = 1000


class Watch(Protocol):
    """As :class:`OtherLoad`."""

    def share(self) -> float: ...


@dataclass(frozen=True)
class Timing:
    """Figures of the rounds that count."""

    seconds: Mapping[str, list[float]]  # of a call, in each round
    made: int  # rounds, those that were repeated included
    disturbed: int  # of the rounds that count: those with too much other load
    results: Mapping[str, object]  # of the first call of each


def take_turns(
    runs: Mapping[str, Run],
    rounds: int,
    until: float,
    *,
    cold: Collection[str] = (),
    watch: Callable[[], Watch] = OtherLoad,
) -> Timing:
    """Call each in turn, once to warm up and then in rounds: A B C, A B C, ...

    A round in which others took more than ``MOST_LOAD`` of the machine is made again, as long as
    there is time, but no more than ``rounds`` times. If too few rounds were calm, those with the
    least other load count too. Which rounds count never depends on the times themselves.

    Args:
        runs: what to time.
        rounds: how many should count.
        until: time of ``time.perf_counter`` that the next round should not pass; one round is
            made in any case.
        cold: those that are not warmed up.
        watch: starts to watch the load of the machine.
    """
    results: dict[str, object] = {}
    calls = {}
    for name, run in runs.items():
        calls[name] = 1 if name in cold else _warm_up(run, name, results)
    made: list[tuple[float, dict[str, float]]] = []
    duration = 0.0
    while _calm(made) < rounds and len(made) < 2 * rounds:
        if made and time.perf_counter() + duration > until:
            break
        start, load = time.perf_counter(), watch()
        seconds = {name: _turn(runs[name], calls[name], name, results) for name in runs}
        made.append((load.share(), seconds))
        duration = time.perf_counter() - start
    counted = sorted(made, key=_excess)[:rounds]
    return Timing(
        seconds={name: [seconds[name] for _, seconds in counted] for name in runs},
        made=len(made),
        disturbed=len(counted) - _calm(counted),
        results=results,
    )


def _excess(round_made: tuple[float, dict[str, float]]) -> float:
    """Other load where it is too much, else 0; unknown load is not too much."""
    share = round_made[0]
    return share if not math.isnan(share) and share > MOST_LOAD else 0.0


def _calm(made: Collection[tuple[float, dict[str, float]]]) -> int:
    return sum(_excess(one) == 0 for one in made)


def _warm_up(run: Run, name: str, results: dict[str, object]) -> int:
    """Call once; how many calls make a turn.

    What was short is called again to learn how long it takes when warm.
    """
    for _ in range(2):
        seconds = _turn(run, 1, name, results)
        if seconds >= _LEAST_SECONDS:
            return 1
    return min(math.ceil(_LEAST_SECONDS / max(seconds, 1e-9)), _MOST_CALLS)


def _turn(run: Run, calls: int, name: str, results: dict[str, object]) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    for _ in range(calls):
        result = run()
    seconds = (time.perf_counter() - start) / calls
    results.setdefault(name, result)
    return seconds
