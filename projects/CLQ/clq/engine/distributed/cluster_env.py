"""Detect torchrun or srun, and read rank and world size."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Place", "find_place", "is_first_of_machine"]

Environment = Mapping[str, str]

_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_ADDRESS = ("MASTER_ADDR", "MASTER_PORT")
_NODE_LISTS = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
_PORTS = range(10_000, 30_000)  # below those that systems give away by themselves


@dataclass(frozen=True)
class Place:
    """Place of a process among those of its run.

    Attributes:
        launcher: what started it: ``torchrun``, ``srun`` or ``--num-gpus``.
        rank: among all processes.
        world_size: number of processes.
        local_rank: among the processes of this machine.
        machine: a number that the processes of a machine share, and no others.
        url: where the processes meet, as PyTorch's ``init_method``.
        launch_id: what the processes that one torchrun starts on a machine share, restarts
            included, and no others; empty if unknown.
    """

    launcher: str
    rank: int
    world_size: int
    local_rank: int
    machine: int
    url: str
    launch_id: str = ""


def find_place(
    environment: Environment, *, num_gpus: int = 1, num_machines: int = 1
) -> Place | None:
    """The place that a launcher gives to this process.

    Args:
        environment: variables of this process; those of torchrun go before those of srun, which
            may have started torchrun.
        num_gpus: processes for each machine that the command line asks for.
        num_machines: machines that the command line tells of.

    Returns:
        None if there is no launcher, or srun has started this process alone, or alone on its
        machine to start the machine's processes.

    Raises:
        ValueError: some variables are missing or make no sense, or the command line would start
            more processes in each that a launcher has started.
    """
    place = _of_torchrun(environment) or _of_srun(environment)
    if place is None or (num_gpus <= 1 and num_machines <= 1):
        return place
    remedy = "leave both flags out"
    if place.launcher == "srun":
        if num_machines == place.world_size == _number_of_machines(environment):
            return None
        remedy += ", or start one task on each machine and give their number by --num-machines"
    raise ValueError(
        f"{place.launcher} has started {place.world_size} processes, and --num-gpus {num_gpus} "
        f"with --num-machines {num_machines} would start others in each: {remedy}."
    )


def is_first_of_machine(environment: Environment) -> bool:
    """Tell whether a launcher has started no other process on this machine before this one."""
    return environment.get("LOCAL_RANK", environment.get("SLURM_LOCALID", "0")) == "0"


def _of_torchrun(environment: Environment) -> Place | None:
    is_elastic = "TORCHELASTIC_RUN_ID" in environment
    if not any(name in environment for name in _TORCHRUN):
        return None
    if environment.get("WORLD_SIZE") == "1" and not is_elastic:
        return None  # some clusters say so to every process
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
    return Place(
        launcher="torchrun",
        rank=rank,
        world_size=world_size,
        local_rank=local_rank,
        machine=_number(environment, "GROUP_RANK", default=rank - local_rank),
        url="env://",
        # One folder of logs for each torchrun, and in it one for each attempt.
        launch_id=environment.get("TORCHELASTIC_ERROR_FILE", "").partition("/attempt_")[0],
    )


def _of_srun(environment: Environment) -> Place | None:
    is_step = any(name in environment for name in ("SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS"))
    if "SLURM_PROCID" not in environment or ("SLURM_TASK_PID" in environment and not is_step):
        return None  # the latter is the script of a batch, outside of srun
    world_size = _number(environment, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", default=1)
    if world_size <= 1:
        return None
    rank = _number(environment, "SLURM_PROCID")
    if rank >= world_size:
        raise ValueError(f"SLURM_PROCID is {rank}, but the {world_size} tasks count from 0.")
    local_rank = _number(environment, "SLURM_LOCALID")
    return Place(
        launcher="srun",
        rank=rank,
        world_size=world_size,
        local_rank=local_rank,
        machine=_number(environment, "SLURM_NODEID", default=rank - local_rank),
        url=f"tcp://{_first_host(environment)}:{_port(environment)}",
    )


def _number_of_machines(environment: Environment) -> int:
    """Number of a step of srun; 0 if it does not say."""
    return _number(environment, "SLURM_STEP_NUM_NODES", "SLURM_NNODES", default=0)


def _first_host(environment: Environment) -> str:
    """The machine of the first task: ``gnode10`` if the list is ``gnode[10,20-25],other``."""
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
    """The same for all tasks of a step, and another for other steps as far as possible."""
    if environment.get("MASTER_PORT"):
        return _number(environment, "MASTER_PORT")
    job = _number(environment, "SLURM_JOB_ID", "SLURM_JOBID", default=0)
    step = _number(environment, "SLURM_STEP_ID", "SLURM_STEPID", default=0)
    return _PORTS[(100 * job + step) % len(_PORTS)]


def _number(environment: Environment, *names: str, default: int | None = None) -> int:
    """The first of some variables that is set, a number of 0 or more."""
    name = next((name for name in names if name in environment), None)
    if name is None:
        if default is None:
            raise ValueError(f"srun has set no {names[0]}; start by srun, or unset SLURM_PROCID.")
        return default
    if not environment[name].isdecimal():
        raise ValueError(f"{name} is '{environment[name]}'; it must be a whole number.")
    return int(environment[name])
