"""Training and evaluation of CLQ on Detectron2's trainer."""

import contextlib
import time
import weakref
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase, SimpleTrainer, TrainerBase
from detectron2.engine.hooks import EvalHook, PeriodicWriter
from detectron2.solver import build_optimizer
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from clq.checkpoint import CLQCheckpointer, dump_config, remove_leftovers
from clq.data import CLQMapper, TestBatches, TrainBatches, build_train_augmentations
from clq.evaluation import CocoBoxEvaluator, box_results_by_dataset, write_results

from .evaluating import Evaluate
from .history import KeepHistory
from .nonfinite import check_finite
from .random_state import get_random_state, set_random_state
from .setup import names_of_training
from .stopping import StopOnSignal
from .weights_out import WriteDetector

_PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class AutocastTrainer(SimpleTrainer):
    """One training step in full or in mixed precision, on any device.

    Detectron2's own ``AMPTrainer`` needs CUDA and knows only fp16.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[list[dict[str, Any]]],
        optimizer: torch.optim.Optimizer,
        *,
        precision: torch.dtype | None = None,
        folder: Path | None = None,
    ) -> None:
        """
        Args:
            model: gives a dict of losses for a batch.
            data_loader: endless batches.
            optimizer: of the model's parameters.
            precision: what autocast computes the network in; None is full precision.
            folder: for a batch whose loss is not finite; None keeps none.
        """
        super().__init__(model, data_loader, optimizer)
        self._folder = folder
        device = next(model.parameters()).device.type
        self._autocast = (
            contextlib.nullcontext()
            if precision is None
            else torch.autocast(device, dtype=precision)
        )
        # bf16 has the range of fp32, so that only fp16 needs its gradients scaled.
        self.grad_scaler = torch.amp.GradScaler(device, enabled=precision is torch.float16)

    def run_step(self) -> None:
        assert self.model.training, "the model was left in evaluation mode"
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        with self._autocast:
            loss_dict = self.model(data)
        self.optimizer.zero_grad()
        self.grad_scaler.scale(sum(loss_dict.values())).backward()
        # Looks at values, so that the host waits: after a GPU has been given all its work.
        if self._folder is not None:
            check_finite(loss_dict, data, self.model, iteration=self.iter, folder=self._folder)
        # Stops the run, before the weights change, if a loss is not finite.
        self._write_metrics(loss_dict, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if state_dict["grad_scaler"]:  # empty where the run before did not scale
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])


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
        model = _distribute(model)
        amp = cfg.SOLVER.AMP
        precision = _PRECISIONS[amp.PRECISION] if amp.ENABLED else None
        folder = Path(cfg.OUTPUT_DIR)
        self._trainer = AutocastTrainer(
            model, data_loader, optimizer, precision=precision, folder=folder
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self._class_names = names_of_training(cfg)
        self.checkpointer = CLQCheckpointer(
            model,
            cfg.OUTPUT_DIR,
            trusted=cfg.MODEL.TRUST_WEIGHTS,
            about={"config": dump_config(cfg), "class_names": self._class_names},
            trainer=weakref.proxy(self),
        )
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
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
        super().load_state_dict(state_dict)
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
            remove_leftovers(Path(self.cfg.OUTPUT_DIR))
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
        """What follows in a step after its checkpoint was saved, such as evaluation."""
        self.iter = self.storage.iter = iteration
        for hook in self._hooks[self._hooks.index(self._stop) + 1 :]:
            hook.after_step()
        self.iter = self.storage.iter = self.start_iter

    def build_hooks(self) -> list[HookBase]:
        output = Path(self.cfg.OUTPUT_DIR)
        model = self.checkpointer.model
        self._stop = StopOnSignal(self._save_iteration, next(model.parameters()).device)
        final = output / "model_final.safetensors"
        hooks: list[HookBase] = []
        writers = []
        for hook in super().build_hooks():
            if isinstance(hook, EvalHook):  # after the hook that saves checkpoints
                write = WriteDetector(final, model, dump_config(self.cfg), self._class_names)
                evaluate = Evaluate(self.cfg.TEST.EVAL_PERIOD, hook._func, self._stop)
                hooks += [self._stop, write, evaluate]
                continue
            if isinstance(hook, PeriodicWriter):
                writers = hook._writers
            hooks.append(hook)
        return [*hooks, KeepHistory(output / "metrics.json", writers)]

    def _save_iteration(self, iteration: int) -> None:
        self.checkpointer.save(f"model_{iteration:07d}", iteration=iteration)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        model = super().build_model(cfg)
        if cfg.MODEL.CHANNELS_LAST:
            model = model.to(memory_format=torch.channels_last)
        return model

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
    def build_train_loader(cls, cfg: CfgNode) -> TrainBatches:
        augmentations = build_train_augmentations(cfg)
        mapper = CLQMapper(cfg, is_train=True, augmentations=augmentations)
        return TrainBatches.from_config(cfg, mapper)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> TestBatches:
        return TestBatches.from_config(cfg, dataset_name)

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


def _distribute(model: nn.Module) -> nn.Module:
    """Average gradients over the processes, if there is more than one."""
    if comm.get_world_size() == 1:
        return model
    on_cuda = next(model.parameters()).is_cuda
    device_ids = [comm.get_local_rank()] if on_cuda else None
    return DistributedDataParallel(model, device_ids=device_ids, broadcast_buffers=False)
