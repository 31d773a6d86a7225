"""Detect torchrun or srun, and read rank and world size."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

Environment = Mapping[str, str]

_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_ADDRESS = ("MASTER_ADDR", "MASTER_PORT")
_NODE_LISTS = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
_PORTS = range(10_000, 30_000)  # below the ephemeral ports


@dataclass(frozen=True)
class RankInfo:
    """Rank of a process in its run, and how to reach the others.

    Attributes:
        launcher: ``torchrun``, ``srun`` or ``--num-gpus``.
        rank: among all processes.
        world_size: number of processes.
        local_rank: among the processes on this node.
        node: number that the processes on a node share, and no others.
        url: rendezvous address, as PyTorch's ``init_method``.
        launch_id: shared by all processes that one torchrun starts on a node, also after a
            restart; empty if unknown.
    """

    launcher: str
    rank: int
    world_size: int
    local_rank: int
    node: int
    url: str
    launch_id: str = ""


def detect_launcher(
    environment: Environment, *, num_gpus: int = 1, num_machines: int = 1
) -> RankInfo | None:
    """Read the rank of this process from the variables of torchrun or srun.

    Args:
        environment: variables of this process. Those of torchrun take precedence over those of
            srun, which may have started torchrun.
        num_gpus: processes per node that the command line asks for.
        num_machines: nodes that the command line asks for.

    Returns:
        None without a launcher, and where srun has started a single process, or one on each node
        that is to start the others.

    Raises:
        ValueError: variables are missing or invalid, or the command line would start more
            processes in each process of a launcher.
    """
    info = _read_torchrun(environment) or _read_srun(environment)
    if info is None or (num_gpus <= 1 and num_machines <= 1):
        return info
    remedy = "leave both flags out"
    if info.launcher == "srun":
        num_nodes = _number(environment, "SLURM_STEP_NUM_NODES", "SLURM_NNODES", default=0)
        if num_machines == info.world_size == num_nodes:
            return None
        remedy += ", or start one task on each machine and give their number by --num-machines"
    raise ValueError(
        f"{info.launcher} has started {info.world_size} processes, and --num-gpus {num_gpus} "
        f"with --num-machines {num_machines} would start others in each: {remedy}."
    )


def is_local_rank_zero(environment: Environment) -> bool:
    """Tell whether this is the only process on its node, or the one of local rank 0."""
    return environment.get("LOCAL_RANK", environment.get("SLURM_LOCALID", "0")) == "0"


def _read_torchrun(environment: Environment) -> RankInfo | None:
    is_elastic = "TORCHELASTIC_RUN_ID" in environment
    if not any(name in environment for name in _TORCHRUN):
        return None
    if environment.get("WORLD_SIZE") == "1" and not is_elastic:
        return None  # some clusters set it for every process
    for name in (*_TORCHRUN, *_ADDRESS):
        if name not in environment:
            there = next(name for name in _TORCHRUN if name in environment)
            raise ValueError(
                f"{there} is set but {name} is not: start by torchrun, which sets both, or unset "
                f"{there}."
            )
    rank, world_size, local_rank = (_number(environment, name) for name in _TORCHRUN)
    _number(environment, "MASTER_PORT")
    if rank >= world_size:
        raise ValueError(f"RANK is {rank}, but the {world_size} of WORLD_SIZE count from 0.")
    return RankInfo(
        launcher="torchrun",
        rank=rank,
        world_size=world_size,
        local_rank=local_rank,
        node=_number(environment, "GROUP_RANK", default=rank - local_rank),
        url="env://",
        # Each torchrun has a log folder, with a subfolder for each attempt.
        launch_id=environment.get("TORCHELASTIC_ERROR_FILE", "").partition("/attempt_")[0],
    )


def _read_srun(environment: Environment) -> RankInfo | None:
    is_step = any(name in environment for name in ("SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS"))
    if "SLURM_PROCID" not in environment or ("SLURM_TASK_PID" in environment and not is_step):
        return None  # the latter is a batch script, outside of srun
    world_size = _number(environment, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", default=1)
    if world_size <= 1:
        return None
    rank = _number(environment, "SLURM_PROCID")
    if rank >= world_size:
        raise ValueError(f"SLURM_PROCID is {rank}, but the {world_size} tasks count from 0.")
    local_rank = _number(environment, "SLURM_LOCALID")
    return RankInfo(
        launcher="srun",
        rank=rank,
        world_size=world_size,
        local_rank=local_rank,
        node=_number(environment, "SLURM_NODEID", default=rank - local_rank),
        url=f"tcp://{_first_host(environment)}:{_port(environment)}",
    )


def _first_host(environment: Environment) -> str:
    """Return the host of the first task: ``gnode10`` in the list ``gnode[10,20-25],other``."""
    if environment.get("MASTER_ADDR"):
        return environment["MASTER_ADDR"]
    hosts = next((environment[name] for name in _NODE_LISTS if environment.get(name)), "")
    first = re.sub(r"\[([^],-]*)[^]]*\]", r"\1", hosts).partition(",")[0]
    if not first:
        raise ValueError(
            f"{_NODE_LISTS[1]} names no machine; set MASTER_ADDR to that of the first task."
        )
    return first


def _port(environment: Environment) -> int:
    """Choose a port that the tasks of a job step share, and other steps mostly don't."""
    if environment.get("MASTER_PORT"):
        return _number(environment, "MASTER_PORT")
    job = _number(environment, "SLURM_JOB_ID", "SLURM_JOBID", default=0)
    step = _number(environment, "SLURM_STEP_ID", "SLURM_STEPID", default=0)
    return _PORTS[(100 * job + step) % len(_PORTS)]


def _number(environment: Environment, *names: str, default: int | None = None) -> int:
    """Read the first of the named variables that is set as a non-negative integer."""
    name = next((name for name in names if name in environment), None)
    if name is None:
        if default is None:
            raise ValueError(f"srun has set no {names[0]}; start by srun, or unset SLURM_PROCID.")
        return default
    if not environment[name].isdecimal():
        raise ValueError(f"{name} is '{environment[name]}'; it must be a whole number.")
    return int(environment[name])
