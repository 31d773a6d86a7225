"""Training and evaluation of CLQ on Detectron2's trainer."""

import contextlib
import functools
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase, TrainerBase
from detectron2.engine.hooks import EvalHook
from detectron2.solver import build_optimizer
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from torch import nn

from ..checkpoint import CLQCheckpointer, dump_config, remove_partial_files
from ..data import CLQMapper, TestLoader, TrainLoader, build_train_augmentations
from ..evaluation import CocoBoxEvaluator, box_results_by_dataset, write_results
from ..modeling.compile import compile_network
from .hooks.best_checkpoint import KeepBest
from .hooks.early_stopping import EarlyStopping, TrainingDone
from .hooks.ema import KeepAverage
from .hooks.evaluation import Evaluate, Evaluation, score_name
from .hooks.final_weights import WriteDetector
from .hooks.metric_history import MetricHistoryHook
from .hooks.preemption import StopOnSignal
from .hooks.validation_loss import validation_batches, validation_losses
from .hooks.visualization import ShowPredictions
from .hooks.wandb_writer import WandbWriter
from .rng_state import get_random_state, set_random_state
from .run_config.setup import names_of_training
from .train_step import TrainingStep, broadcast_buffers, wrap_ddp

_PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}
# Hooks' names in checkpoints of earlier versions.
_FORMER_HOOK_NAMES = {"KeepHistory": "MetricHistoryHook"}


class CLQTrainer(DefaultTrainer):
    """Detectron2's trainer with what CLQ needs beside it.

    Differs in: training on CPU as on CUDA in any number of processes, the precision of autocast,
    AdamW, augmentations for views from above, COCO evaluation on hotcoco, ``results.json`` after
    every evaluation, configuration and class names in every checkpoint, the final detector as
    ``model_final.safetensors`` too, and resuming: a training that was stopped at any moment goes
    on as if it had not been.
    """

    def __init__(self, cfg: CfgNode) -> None:
        TrainerBase.__init__(self)  # DefaultTrainer's own would build parts that assume CUDA
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        if cfg.MODEL.COMPILE.ENABLED:
            compile_network(model, cfg.MODEL.COMPILE.BACKEND)
        model = wrap_ddp(model)
        amp = cfg.SOLVER.AMP
        self._stop = StopOnSignal(self._save_iteration, lambda: self._trainer.flag_counts)
        self._trainer = TrainingStep(
            model,
            data_loader,
            optimizer,
            precision=_PRECISIONS[amp.PRECISION] if amp.ENABLED else None,
            micro_batches=cfg.SOLVER.ACCUMULATION.MICRO_BATCHES,
            flags=self._stop.flags,
            folder=Path(cfg.OUTPUT_DIR),
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self._class_names = names_of_training(cfg)
        self.checkpointer = CLQCheckpointer(
            model,
            cfg.OUTPUT_DIR,
            trusted=cfg.MODEL.TRUST_WEIGHTS,
            metadata={"config": dump_config(cfg), "class_names": self._class_names},
            trainer=weakref.proxy(self),
        )
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        ema = cfg.SOLVER.EMA
        network = self.checkpointer.model
        self._average = KeepAverage(network, ema.DECAY) if ema.ENABLED else None
        self.register_hooks(self.build_hooks())

    @property
    def last_results(self) -> OrderedDict:
        """Metrics of the latest evaluation, in the form of :meth:`test`."""
        return self._last_eval_results

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "_trainer": self._trainer.state_dict(),  # the release v0.6 leaves the optimizer out
            "data_seed": self._trainer.data_loader.seed,
            "random": get_random_state(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        hooks = {
            _FORMER_HOOK_NAMES.get(name, name): state for name, state in state_dict["hooks"].items()
        }
        super().load_state_dict({**state_dict, "hooks": hooks})
        self._trainer.load_state_dict(state_dict["_trainer"])
        self._trainer.data_loader.seed = state_dict["data_seed"]
        set_random_state(state_dict["random"])

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the newest intact checkpoint, if asked to and there is one, else start.

        Raises:
            ValueError: a checkpoint or the weights can't be used.
        """
        self.start_iter = 0
        self.iter = -1
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        # Where a checkpoint was loaded, it has told the last complete iteration.
        self.start_iter = self._trainer.data_loader.start = self.iter + 1

    def before_train(self) -> None:
        if comm.is_main_process():
            remove_partial_files(Path(self.cfg.OUTPUT_DIR))
        super().before_train()
        if self.start_iter > 0:
            self._finish_step(self.start_iter - 1)

    def after_train(self) -> None:
        # Detectron2 counts one more where a complete training was resumed.
        self.iter = min(self.iter, self.max_iter)
        try:
            super().after_train()
        finally:
            self._stop.restore_handlers()
            self._trainer._data_loader_iter.close()  # ends its worker processes

    def _finish_step(self, iteration: int) -> None:
        """Run what follows a step's checkpoint, such as evaluation."""
        self.iter = self.storage.iter = iteration
        for hook in self._hooks[self._hooks.index(self._stop) + 1 :]:
            hook.after_step()
        self.iter = self.storage.iter = self.start_iter

    def train(self) -> OrderedDict | None:
        """Train to the last iteration, or to where no gain is expected any more."""
        with contextlib.suppress(TrainingDone):
            return super().train()
        return None

    def build_hooks(self) -> list[HookBase]:
        """Detectron2's hooks with those of CLQ among them; a step is over with ``_stop``.

        A checkpoint is saved just before it. What comes behind is done again by a training that
        goes on from that checkpoint.
        """
        hooks: list[HookBase] = []
        for hook in super().build_hooks():
            if isinstance(hook, EvalHook):
                hooks += [self._stop, *self._build_evaluation(hook._func)]
                continue
            hooks.append(hook)
        hooks.append(MetricHistoryHook(Path(self.cfg.OUTPUT_DIR, "metrics.json"), period=20))
        stopping = self.cfg.SOLVER.EARLY_STOPPING
        if stopping.PATIENCE > 0:
            hooks.append(EarlyStopping(self._evaluate, stopping.PATIENCE, stopping.MIN_GAIN))
        # Before the checkpoint of a step is saved.
        return [self._average, *hooks] if self._average else hooks

    def _build_evaluation(self, test: Evaluation) -> list[HookBase]:
        """Hooks that evaluate, the model by ``test`` first, and those that use evaluations."""
        cfg, model, average = self.cfg, self.checkpointer.model, self._average
        output, about = Path(cfg.OUTPUT_DIR), (dump_config(cfg), self._class_names)
        more: dict[str, Evaluation] = {}
        hooks: list[HookBase] = [WriteDetector(output / "model_final.safetensors", model, *about)]
        if average:
            more["ema"] = functools.partial(self.test, _in_subfolder(cfg, "ema"), average.model)
            file = output / "ema" / "model_final.safetensors"
            hooks.append(WriteDetector(file, average.model, *about))
        if cfg.TEST.VALIDATION_LOSS:
            batches = validation_batches(cfg)
            more["validation"] = functools.partial(validation_losses, model, batches)

        def evaluate() -> Mapping[str, Any]:
            for network in (model, average.model) if average else (model,):
                broadcast_buffers(network)
            return test()

        score = score_name(cfg.DATASETS.TEST, prefix="ema" if average else "")
        period = cfg.TEST.EVAL_PERIOD
        self._evaluate = Evaluate(period, evaluate, self._stop, more=more, score=score)
        hooks.append(self._evaluate)
        scored = average.model if average else model
        if cfg.SOLVER.KEEP_BEST:
            file = output / "model_best.safetensors"
            hooks.append(KeepBest(file, scored, *about, evaluate=self._evaluate))
        if cfg.VIS_PERIOD > 0 and comm.is_main_process():
            hooks.append(ShowPredictions.from_config(cfg, scored, self._class_names))
        return hooks

    def build_writers(self) -> list[EventWriter]:
        writers = super().build_writers()
        return [WandbWriter.from_config(self.cfg), *writers] if self.cfg.WANDB.ENABLED else writers

    def _save_iteration(self, iteration: int) -> None:
        self.checkpointer.save(f"model_{iteration:07d}", iteration=iteration)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """SGD as Detectron2 builds it, or AdamW with the same groups of parameters."""
        if cfg.SOLVER.OPTIMIZER == "SGD":
            return build_optimizer(cfg, model)
        params = get_default_optimizer_params(
            model,
            base_lr=cfg.SOLVER.BASE_LR,
            weight_decay=cfg.SOLVER.WEIGHT_DECAY,
            weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
            bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
            weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
        )
        return maybe_add_gradient_clipping(cfg, torch.optim.AdamW)(params, lr=cfg.SOLVER.BASE_LR)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> TrainLoader:
        augmentations = build_train_augmentations(cfg)
        mapper = CLQMapper(cfg, is_train=True, augmentations=augmentations)
        return TrainLoader.from_config(cfg, mapper)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> TestLoader:
        return TestLoader.from_config(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> CocoBoxEvaluator:
        folder = Path(cfg.OUTPUT_DIR, "inference", dataset_name)
        return CocoBoxEvaluator(
            dataset_name=dataset_name, output_dir=str(folder), backend=cfg.TEST.EVALUATOR
        )

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None) -> OrderedDict:
        """Evaluate as DefaultTrainer does, and write ``OUTPUT_DIR/results.json``."""
        results = super().test(cfg, model, evaluators)
        if comm.is_main_process() and cfg.DATASETS.TEST:
            by_dataset = box_results_by_dataset(results, cfg.DATASETS.TEST)
            write_results(Path(cfg.OUTPUT_DIR, "results.json"), by_dataset)
        return results


def _in_subfolder(cfg: CfgNode, name: str) -> CfgNode:
    """The same configuration for files in a folder of the output folder."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = str(Path(cfg.OUTPUT_DIR, name))
    cfg.freeze()
    return cfg
