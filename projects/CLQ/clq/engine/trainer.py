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
from detectron2.engine.hooks import (
    IterationTimer,
    LRScheduler,
    PeriodicCheckpointer,
    PreciseBN,
)
from detectron2.evaluation import verify_results
from detectron2.solver import build_optimizer
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from fvcore.nn.precise_bn import get_bn_modules
from torch import nn

from ..checkpoint import CLQCheckpointer
from ..checkpoint.output_dir import remove_partial_files
from ..config.serialize import dump_config
from ..data import TestLoader, TrainLoader
from ..evaluation import CocoBoxEvaluator, box_results_by_dataset, write_results
from ..evaluation.coco_evaluation import detections_file
from ..modeling.compile import compile_network
from ..prediction.predictor import Predictor
from ..utils.detectron2_private import data_iterator
from .final_report import write_final_report
from .full_images import FullImageDetector, needs_full_images
from .hooks.early_stopping import EarlyStoppingHook, TrainingDone
from .hooks.ema import EMAHook
from .hooks.evaluation import Evaluation, ScoredEvalHook, identify_data, score_name
from .hooks.metric_history import MetricHistoryHook, MetricWriterHook
from .hooks.model_files import FinalWeightsHook, ModelFile, keep_best
from .hooks.preemption import PreemptionHook
from .hooks.validation_loss import validation_batches, validation_losses
from .hooks.visualization import VisualizationHook
from .hooks.wandb_writer import WandbWriter
from .rng_state import get_rng_state, set_rng_state
from .run_config.setup import train_class_names
from .train_step import TrainingStep, broadcast_buffers, wrap_ddp

_PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_WRITE_PERIOD = 20  # iterations
# Hooks' names in checkpoints of earlier versions.
_FORMER_HOOK_NAMES = {
    "Evaluate": "ScoredEvalHook",
    "KeepAverage": "EMAHook",
    "KeepHistory": "MetricHistoryHook",
}


class CLQTrainer(DefaultTrainer):
    """Detectron2's trainer for CLQ, on CPU and CUDA.

    It adds autocast in any precision, AdamW, CLQ's data loaders, COCO evaluation on hotcoco,
    ``results.json`` after every evaluation, config and class names in every checkpoint, and
    ``model_final.safetensors``. A resumed run continues exactly, wherever it was stopped.
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
        self._preemption = PreemptionHook()
        self._trainer = TrainingStep(
            model,
            data_loader,
            optimizer,
            precision=_PRECISIONS[amp.PRECISION] if amp.ENABLED else None,
            micro_batches=cfg.SOLVER.ACCUMULATION.MICRO_BATCHES,
            flags=self._preemption.flags,
            folder=Path(cfg.OUTPUT_DIR),
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self._class_names = train_class_names(cfg)
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
        self.register_hooks(self.build_hooks())

    @property
    def last_results(self) -> OrderedDict:
        """Metrics of the latest evaluation, as :meth:`test` returns them."""
        return OrderedDict(self._evaluation.results)

    @property
    def flag_counts(self) -> list[int]:
        """Number of ranks that raised each flag in the latest step."""
        return self._trainer.flag_counts

    def state_dict(self) -> dict[str, Any]:
        return {
            **TrainerBase.state_dict(self),
            "_trainer": self._trainer.state_dict(),  # v0.6 leaves it out
            "data_seed": self.data_loader.seed,
            "random": get_rng_state(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        hooks = {
            _FORMER_HOOK_NAMES.get(name, name): state for name, state in state_dict["hooks"].items()
        }
        TrainerBase.load_state_dict(self, {**state_dict, "hooks": hooks})
        self._trainer.load_state_dict(state_dict["_trainer"])
        self.data_loader.seed = state_dict["data_seed"]
        set_rng_state(state_dict["random"])

    def resume_or_load(self, resume: bool = True) -> None:
        """Resume from the newest intact checkpoint if asked to, or load ``MODEL.WEIGHTS``.

        Raises:
            ValueError: a checkpoint or the weights can't be used.
        """
        self.start_iter = 0
        self.iter = -1
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        # A checkpoint has set `iter` to the last complete iteration.
        self.start_iter = self.data_loader.start = self.iter + 1

    def train(self) -> OrderedDict | None:
        """Train to ``SOLVER.MAX_ITER``, or until early stopping.

        Returns:
            The final metrics if ``TEST.EXPECTED_RESULTS`` asks to verify them, on rank 0.
        """
        with contextlib.suppress(TrainingDone):
            TrainerBase.train(self, self.start_iter, self.max_iter)
        write_final_report(self.cfg, self._model_file("model_final", self.model).path, trained=True)
        if not self.cfg.TEST.EXPECTED_RESULTS or not comm.is_main_process():
            return None
        verify_results(self.cfg, self.last_results)
        return self.last_results

    def before_train(self) -> None:
        if comm.is_main_process():
            remove_partial_files(Path(self.cfg.OUTPUT_DIR))
        super().before_train()
        if self.start_iter > 0:
            self.iter = self.storage.iter = self.start_iter - 1
            for hook in self._after_checkpoint:
                hook.after_step()
            self.iter = self.storage.iter = self.start_iter

    def after_train(self) -> None:
        # Detectron2 counts one more where a complete training was resumed.
        self.iter = min(self.iter, self.max_iter)
        try:
            super().after_train()
        finally:
            self._preemption.restore_handlers()
            data_iterator(self._trainer).close()  # ends its worker processes

    def build_hooks(self) -> list[HookBase | None]:
        """Build the hooks in the order in which they run.

        A step is complete once its checkpoint is saved. What follows is repeated by a run that
        resumes from that checkpoint.
        """
        cfg, ema = self.cfg, self.cfg.SOLVER.EMA
        self._ema = EMAHook(self.checkpointer.model, ema.DECAY) if ema.ENABLED else None
        up_to_checkpoint = [
            self._ema,
            IterationTimer(),
            LRScheduler(),
            self._build_precise_bn(),
            PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD),
            self._preemption,
        ]
        self._after_checkpoint = self._build_evaluation()
        if comm.is_main_process():
            self._after_checkpoint.append(
                MetricWriterHook(self.build_writers(), _WRITE_PERIOD, self._preemption)
            )
        metrics_file = Path(cfg.OUTPUT_DIR, "metrics.json")
        self._after_checkpoint.append(MetricHistoryHook(metrics_file, _WRITE_PERIOD))
        stopping = cfg.SOLVER.EARLY_STOPPING
        if stopping.PATIENCE > 0:
            self._after_checkpoint.append(
                EarlyStoppingHook(self._evaluation, stopping.PATIENCE, stopping.MIN_GAIN)
            )
        return [*up_to_checkpoint, *self._after_checkpoint]

    def _build_precise_bn(self) -> PreciseBN | None:
        options = self.cfg.TEST.PRECISE_BN
        if not options.ENABLED or not get_bn_modules(self.model):
            return None
        loader = self.build_train_loader(_replace(self.cfg, "DATALOADER.NUM_WORKERS", 0))
        return PreciseBN(self.cfg.TEST.EVAL_PERIOD, self.model, loader, options.NUM_ITER)

    def _build_evaluation(self) -> list[HookBase]:
        """Build the evaluation hook and those that use its results."""
        cfg, model, test = self.cfg, self.checkpointer.model, self.test
        averaged = self._ema.model if self._ema else None
        networks = [model, *([averaged] if averaged else [])]
        more: dict[str, Evaluation] = {}
        hooks: list[HookBase] = [FinalWeightsHook(self._model_file("model_final", model))]
        if averaged:
            more["ema"] = functools.partial(
                test, _replace(cfg, "OUTPUT_DIR", f"{cfg.OUTPUT_DIR}/ema"), averaged
            )
            hooks.append(FinalWeightsHook(self._model_file("ema/model_final", averaged)))
        if cfg.TEST.VALIDATION_LOSS:
            batches = validation_batches(cfg)
            more["validation"] = functools.partial(validation_losses, model, batches)

        def evaluate() -> Mapping[str, Any]:
            for network in networks:
                broadcast_buffers(network)
            return test(cfg, model)

        scored = networks[-1]
        score = score_name(cfg.DATASETS.TEST, prefix="ema" if averaged else "")
        self._evaluation = ScoredEvalHook(
            cfg.TEST.EVAL_PERIOD,
            evaluate,
            self._preemption,
            more=more,
            score=score,
            score_data=identify_data(cfg.DATASETS.TEST),
            on_score=(
                functools.partial(keep_best, self._model_file("model_best", scored))
                if cfg.SOLVER.KEEP_BEST
                else None
            ),
        )
        hooks.append(self._evaluation)
        if cfg.VIS_PERIOD > 0 and comm.is_main_process():
            hooks.append(VisualizationHook(cfg, scored, self._class_names))
        return hooks

    def _model_file(self, name: str, model: nn.Module) -> ModelFile:
        path = Path(self.cfg.OUTPUT_DIR, f"{name}.safetensors")
        return ModelFile(path, model, dump_config(self.cfg), self._class_names)

    def build_writers(self) -> list[EventWriter]:
        writers = super().build_writers()
        return [WandbWriter(self.cfg), *writers] if self.cfg.WANDB.ENABLED else writers

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """Build SGD as Detectron2 does, or AdamW with the same parameter groups."""
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
        return TrainLoader.from_config(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> TestLoader:
        return TestLoader.from_config(cfg, dataset_name, resize=not needs_full_images(cfg))

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> CocoBoxEvaluator:
        return CocoBoxEvaluator(
            dataset_name=dataset_name,
            output_dir=str(detections_file(cfg.OUTPUT_DIR, dataset_name).parent),
            backend=cfg.TEST.EVALUATOR,
            max_detections=cfg.TEST.DETECTIONS_PER_IMAGE,
            num_classes=cfg.MODEL.CLQ.NUM_CLASSES,
        )

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None) -> OrderedDict:
        """Evaluate, and write ``OUTPUT_DIR/results.json``."""
        if needs_full_images(cfg) and not isinstance(model, FullImageDetector):
            model = FullImageDetector(Predictor(model, cfg, []))
        results = super().test(cfg, model, evaluators)
        if comm.is_main_process() and cfg.DATASETS.TEST:
            by_dataset = box_results_by_dataset(results, cfg.DATASETS.TEST)
            write_results(Path(cfg.OUTPUT_DIR, "results.json"), by_dataset)
        return results


def _replace(cfg: CfgNode, key: str, value: Any) -> CfgNode:
    """Return a copy of a config with another value of a key."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.merge_from_list([key, value])
    cfg.freeze()
    return cfg
