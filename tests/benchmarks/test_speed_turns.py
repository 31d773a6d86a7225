"""Turns are taken fairly, and what others do with the machine is noticed."""

import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.timing import load, turns
from benchmarks.timing.turns import take_turns

ENDLESS = math.inf


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls in order; a turn is one call."""
    monkeypatch.setattr(turns, "_LEAST_SECONDS", 0)
    return []


def caller(order: list[str], name: str) -> Callable[[], str]:
    def run() -> str:
        order.append(name)
        return f"{name}{len(order)}"

    return run


def runs(order: list[str], names: str = "abc") -> dict[str, Callable[[], object]]:
    return {name: caller(order, name) for name in names}


def watching(shares: list[float]) -> Callable[[], object]:
    """Other load of one round after the other."""
    left: Iterator[float] = iter(shares)

    class Watch:
        def share(self) -> float:
            return next(left)

    return Watch


def test_turns_are_interleaved_after_one_call_of_each(order: list[str]):
    timing = take_turns(runs(order), 2, ENDLESS, watch=watching([0, 0]))
    assert "".join(order) == "abc" + "abc" * 2
    assert {name: len(seconds) for name, seconds in timing.seconds.items()} == dict.fromkeys(
        "abc", 2
    )
    assert (timing.made, timing.disturbed) == (2, 0)
    assert timing.results == {"a": "a1", "b": "b2", "c": "c3"}


def test_what_is_cold_is_not_warmed_up(order: list[str]):
    timing = take_turns(runs(order), 1, ENDLESS, cold=("b",), watch=watching([0]))
    assert "".join(order) == "ac" + "abc"
    assert timing.results["b"] == "b4"


def test_the_warm_up_is_not_counted(order: list[str]):
    waits = iter([0.2, 0, 0])
    timing = take_turns({"a": lambda: time.sleep(next(waits))}, 2, ENDLESS, watch=watching([0] * 2))
    assert max(timing.seconds["a"]) < 0.1


def test_disturbed_rounds_are_made_again(order: list[str]):
    timing = take_turns(runs(order), 2, ENDLESS, watch=watching([0.11, 0.1, 0.5, 0.05]))
    assert order.count("a") == 1 + 4
    assert (timing.made, timing.disturbed) == (4, 0)
    assert len(timing.seconds["a"]) == 2


def test_of_disturbed_rounds_the_least_disturbed_count(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(turns, "_LEAST_SECONDS", 0)
    # By turns slow and fast: the choice follows the load, not the times.
    waits = iter([0, 0.05, 0, 0, 0.05])
    timing = take_turns(
        {"a": lambda: time.sleep(next(waits))}, 2, ENDLESS, watch=watching([0.2, 0.9, 0.3, 0.1])
    )
    assert (timing.made, timing.disturbed) == (4, 1)
    assert [second > 0.04 for second in timing.seconds["a"]] == [True, True]


def test_rounds_are_not_repeated_for_ever(order: list[str]):
    timing = take_turns(runs(order), 3, ENDLESS, watch=watching([0.9] * 6))
    assert (timing.made, timing.disturbed) == (6, 3)


def test_unknown_load_is_no_reason_to_repeat(order: list[str]):
    timing = take_turns(runs(order), 2, ENDLESS, watch=watching([math.nan] * 2))
    assert (timing.made, timing.disturbed) == (2, 0)


def test_when_the_time_is_over_one_round_is_made(order: list[str]):
    timing = take_turns(runs(order), 5, until=0, watch=watching([0.5]))
    assert (timing.made, timing.disturbed) == (1, 1)
    assert len(timing.seconds["a"]) == 1


def test_no_round_starts_that_would_end_too_late(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(turns, "_LEAST_SECONDS", 0)
    until = time.perf_counter() + 0.35
    timing = take_turns(
        {"a": lambda: time.sleep(0.1)}, 9, until, cold=("a",), watch=watching([0] * 9)
    )
    assert timing.made in (2, 3) and time.perf_counter() < until + 0.05


def test_short_calls_are_repeated_and_divided():
    calls = []

    def run() -> None:
        calls.append(None)
        time.sleep(0.005)

    timing = take_turns({"a": run}, 2, ENDLESS, watch=watching([0, 0]))
    assert 2 + 2 * 10 <= len(calls) <= 2 + 2 * 20
    assert all(0.005 <= second < 0.05 for second in timing.seconds["a"])


BUSY = "import time\nwhile time.process_time() < {seconds}: pass\n{end}"


def test_children_are_not_others():
    before = load.own_seconds()
    command = [sys.executable, "-c", BUSY.format(seconds=0.3, end="print(flush=True); input()")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        running = load.own_seconds() - before
        child.communicate(b"\n")
    ended = load.own_seconds() - before
    assert 0.25 < running < 2 and 0.25 < ended < 2


def stat_line(*counters: int) -> str:
    return f"cpu  {' '.join(map(str, counters))}\ncpu0 9 9 9 9 9 9 9 9 9 9\n"


def test_other_load_is_what_the_machine_did_beside_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(load, "_PROC", tmp_path)
    monkeypatch.setattr(load.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(load.os, "sysconf", lambda name: 100)
    clock = iter([10.0, 15.0])
    monkeypatch.setattr(load.time, "perf_counter", lambda: next(clock))
    own = iter([1.0, 4.0])
    monkeypatch.setattr(load, "own_seconds", lambda: next(own))
    #                      user nice system idle iowait irq softirq steal guest
    before, after = [100, 10, 50, 900, 70, 5, 6, 7, 8, 0], [
        310,
        30,
        90,
        1500,
        90,
        15,
        21,
        107,
        9,
        0,
    ]
    (tmp_path / "stat").write_text(stat_line(*before))
    watch = load.OtherLoad()
    (tmp_path / "stat").write_text(stat_line(*after))
    busy = (210 + 20 + 40 + 10 + 15 + 100) / 100  # seconds, without idle, iowait and guest
    assert watch.share() == pytest.approx((busy - 3) / (5 * 2))


def test_without_the_counters_load_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(load, "_PROC", tmp_path / "none")
    assert math.isnan(load.OtherLoad().share())
