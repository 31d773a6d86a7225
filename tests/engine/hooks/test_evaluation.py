"""Evaluations during training, and their scores."""

import math
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from detectron2.data import MetadataCatalog
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

from clq.engine.hooks.evaluation import Evaluation, ScoredEvalHook, identify_data, score_name
from clq.engine.hooks.preemption import PreemptionHook


@pytest.fixture
def storage() -> Iterator[EventStorage]:
    with EventStorage() as storage:
        yield storage


def hook_in_training(
    storage: EventStorage,
    evaluate: Evaluation,
    *,
    period: int = 3,
    max_iter: int = 10,
    **options: Any,
) -> ScoredEvalHook:
    hook = ScoredEvalHook(period, evaluate, PreemptionHook(), **options)
    hook.trainer = SimpleNamespace(iter=0, max_iter=max_iter, storage=storage)
    return hook


def in_turn(*aps: float) -> Evaluation:
    """Return an evaluation that gives one AP after the other."""
    remaining = iter(aps)
    return lambda: {"bbox": {"AP": next(remaining)}}


def run(hook: ScoredEvalHook, steps: range) -> None:
    """Take steps as the trainer does, and end after them."""
    trainer = hook.trainer
    for trainer.iter in steps:
        trainer.storage.iter = trainer.iter
        hook.after_step()
    trainer.iter += 1
    hook.after_train()


def test_scores_are_kept_by_the_number_of_iterations_done(storage: EventStorage):
    told: list[tuple[int, float]] = []

    def note(scores: Mapping[int, float], done: int) -> None:
        told.append((done, scores[done]))

    hook = hook_in_training(storage, in_turn(1.0, 0.0, 2.5, 2.0), on_score=note)
    run(hook, range(10))
    assert hook.scores == {3: 1.0, 6: 0.0, 9: 2.5, 10: 2.0} == dict(told)
    assert hook.latest == 10 and len(told) == 4
    assert hook.results == {"bbox": {"AP": 2.0}}


@pytest.mark.parametrize(("last", "evaluates"), [(4, False), (8, False), (9, True)])
def test_only_a_complete_training_is_evaluated_at_its_end(
    last: int, evaluates: bool, storage: EventStorage
):
    hook = hook_in_training(storage, in_turn(1.0), period=0)
    run(hook, range(last + 1))
    assert hook.scores == ({10: 1.0} if evaluates else {})


def test_early_stopping_does_not_evaluate_again(storage: EventStorage):
    hook = hook_in_training(storage, in_turn(1.0, 2.0))
    hook.trainer.iter = 5
    hook.after_step()
    hook.trainer.iter = hook.trainer.max_iter = 6
    hook.after_train()
    assert hook.scores == {6: 1.0}


def test_a_resumed_training_keeps_the_scores(storage: EventStorage):
    """And evaluates again where it was stopped, since it may have been during an evaluation."""
    hook = hook_in_training(storage, in_turn(1.0, 2.0))
    hook.load_state_dict({"scores": {3: 0.5, 6: 9.0}})
    assert hook.latest is None
    run(hook, range(5, 7))
    assert hook.scores == {3: 0.5, 6: 1.0} and hook.latest == 6
    state = hook.state_dict()
    hook.scores[9] = 3.0
    assert state["scores"] == {3: 0.5, 6: 1.0}


@pytest.mark.parametrize(
    "change, is_kept",
    (
        ({}, True),
        ({"score": "ema/bbox/AP"}, False),  # SOLVER.EMA was switched on
        ({"score_data": ["val 00000001"]}, False),  # another json, under the same name
        ({"score_data": ["val 00000000", "more"]}, False),
    ),
)
def test_scores_of_other_data_or_of_the_average_do_not_survive_a_resume(
    change: dict[str, Any], is_kept: bool, storage: EventStorage, caplog: Any
):
    before = hook_in_training(storage, dict, score_data=["val 00000000"])
    before.scores = {3: 9.0}
    after = hook_in_training(storage, dict, **{"score_data": ["val 00000000"], **change})
    after.load_state_dict(before.state_dict())
    assert after.scores == ({3: 9.0} if is_kept else {})
    assert ("start over" in caplog.text) is not is_kept


def test_evaluation_data_is_identified_by_its_content(tmp_path: Path):
    for name, content in (("a", "1"), ("b", "2"), ("c", "1")):
        file = tmp_path / f"{name}.json"
        file.write_text(content)
        MetadataCatalog.get(f"identified_{name}").json_file = str(file)
    names = [f"identified_{name}" for name in "abc"]
    found = identify_data([*names, "without_json"])
    sums = [text.split()[-1] for text in found]
    assert sums[0] == sums[2] != sums[1] and found[3] == "without_json"
    for name in [*names, "without_json"]:
        MetadataCatalog.pop(name)


def test_a_complete_training_is_evaluated_again_when_resumed(storage: EventStorage):
    hook = hook_in_training(storage, in_turn(1.0), max_iter=6)
    hook.load_state_dict({"scores": {3: 0.5, 6: 9.0}})
    run(hook, range(5, 6))
    assert hook.scores == {3: 0.5, 6: 1.0}


def test_further_evaluations_have_prefixes_and_may_give_the_score(storage: EventStorage):
    more = {"ema": lambda: {"bbox": {"AP": 7.0}}, "validation": lambda: {"loss_cls": 0.25}}
    score = score_name(["val"], "ema")
    hook = hook_in_training(storage, in_turn(1.0), more=more, score=score)
    hook.trainer.iter = storage.iter = 2
    hook.after_step()
    latest = {name: value for name, (value, _) in storage.latest().items()}
    assert latest == {"bbox/AP": 1.0, "ema/bbox/AP": 7.0, "validation/loss_cls": 0.25}
    assert hook.scores == {3: 7.0} and hook.results == {"bbox": {"AP": 1.0}}


@pytest.mark.parametrize("prefix", ["", "ema"])
@pytest.mark.parametrize("names", [["val"], ["a", "b"]])
def test_the_score_has_its_logged_name(names: list[str], prefix: str):
    results: dict[str, Any] = {name: {"bbox": {"AP": i}} for i, name in enumerate(names)}
    results = results["val"] if len(names) == 1 else results  # as DefaultTrainer.test
    flat = flatten_results_dict({prefix: results} if prefix else results)
    assert flat[score_name(names, prefix)] == 0


def test_data_without_objects_has_no_score(storage: EventStorage):
    hook = hook_in_training(storage, lambda: {"bbox": {}}, max_iter=1)
    run(hook, range(1))
    assert list(hook.scores) == [1] and math.isnan(hook.scores[1])


def test_all_ranks_know_the_score_of_rank_0(storage: EventStorage, monkeypatch: pytest.MonkeyPatch):
    own: list[float] = []
    monkeypatch.setattr(comm, "all_gather", lambda value: own.append(value) or [4.0, value])
    hook = hook_in_training(storage, dict, max_iter=1)  # other ranks get no metrics
    run(hook, range(1))
    assert math.isnan(own[0]) and hook.scores == {1: 4.0}


def test_no_evaluation_starts_after_a_signal(storage: EventStorage):
    hook = hook_in_training(storage, lambda: pytest.fail("it was started"))
    hook._preemption._receive(signal.SIGTERM, None)
    hook.trainer.iter = 2
    with pytest.raises(SystemExit):
        hook.after_step()
    assert hook.scores == {} and hook.latest is None
