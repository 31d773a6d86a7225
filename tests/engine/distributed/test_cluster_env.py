"""Detection of torchrun and srun by their environment variables."""

from typing import Any

import pytest

from clq.engine.distributed.cluster_env import RankInfo, detect_launcher, is_local_rank_zero

# The second of two processes on the second of two nodes.
TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_RANK": "1",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_RESTART_COUNT": "1",
    "TORCHELASTIC_ERROR_FILE": "/logs/none_abc/attempt_1/1/error.json",
}
SRUN = {
    "SLURM_JOB_ID": "1234",
    "SLURM_STEP_ID": "2",
    "SLURM_TASK_PID": "4711",
    "SLURM_PROCID": "3",
    "SLURM_NTASKS": "8",  # of the job; those of the step differ
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_NNODES": "4",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_JOB_NODELIST": "a[1-4]",
    "SLURM_STEP_NODELIST": "a[2-3]",
}
ALONE = {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"}
ONE_PER_NODE = {"SLURM_STEP_NUM_NODES": "4", "SLURM_LOCALID": "0", "SLURM_NODEID": "3"}


def without(environment: dict[str, str], *names: str, **others: str) -> dict[str, str]:
    return {**{k: v for k, v in environment.items() if k not in names}, **others}


def srun_info(*names: str, **others: str) -> RankInfo:
    """Read srun's variables, without some and with others."""
    info = detect_launcher(without(SRUN, *names, **others))
    assert info is not None and info.launcher == "srun"
    return info


def error_of(environment: dict[str, str], **flags: int) -> str:
    with pytest.raises(ValueError) as error:
        detect_launcher(environment, **flags)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_torchrun_is_read():
    assert detect_launcher(TORCHRUN) == RankInfo(
        launcher="torchrun",
        rank=3,
        world_size=4,
        local_rank=1,
        node=1,
        url="env://",
        launch_id="/logs/none_abc",
    )


def test_srun_is_read():
    assert srun_info() == RankInfo(
        launcher="srun",
        rank=3,
        world_size=4,
        local_rank=1,
        node=1,
        url="tcp://a2:13402",  # 10000 + (100 * 1234 + 2) % 20000
    )


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"},
        {"RANK": "0", "WORLD_SIZE": "1"},  # some clusters set it for every process
        {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_JOB_NODELIST": "a"},  # shell of salloc
        without(SRUN, "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS", SLURM_PROCID="0"),  # sbatch
        without(SRUN, SLURM_STEP_NUM_TASKS="1", SLURM_PROCID="0"),  # srun --pty, or one launcher
    ],
)
@pytest.mark.parametrize("num_gpus", [1, 8])
def test_without_a_launcher_there_is_no_rank(environment: dict[str, str], num_gpus: int):
    assert detect_launcher(environment, num_gpus=num_gpus) is None


def test_torchrun_with_one_process_is_detected():
    info = detect_launcher({**TORCHRUN, **ALONE})
    assert info is not None and (info.world_size, info.launch_id) == (1, "/logs/none_abc")


def test_torchrun_takes_precedence_over_srun():
    assert detect_launcher({**SRUN, **TORCHRUN}) == detect_launcher(TORCHRUN)


def test_few_variables_of_srun_are_enough():
    environment = {
        "SLURM_PROCID": "1",
        "SLURM_NTASKS": "2",
        "SLURM_LOCALID": "1",
        "SLURM_NODELIST": "localhost",
    }
    info = detect_launcher(environment)
    assert info == RankInfo("srun", 1, 2, local_rank=1, node=0, url="tcp://localhost:10000")


@pytest.mark.parametrize("first", [0, 2])
def test_a_node_without_a_number_is_known_by_its_first_rank(first: int):
    ranks = {"RANK": str(first + 1), "LOCAL_RANK": "1"}
    info = detect_launcher(without(TORCHRUN, "GROUP_RANK", **ranks))
    assert info is not None and info.node == first


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("gnode[10,20-25],other", "gnode10"),
        ("gnode[03-04]", "gnode03"),
        ("node001", "node001"),
        ("node001,node002", "node001"),
        ("a-b[03-04]", "a-b03"),
        ("rack[1-2]node[7,9]-ib,a[1-2]", "rack1node7-ib"),
        ("a.example.org,b.example.org", "a.example.org"),
    ],
)
def test_tasks_meet_at_the_first_host(hosts: str, first: str):
    info = srun_info(SLURM_STEP_NODELIST=hosts)
    assert info.url == f"tcp://{first}:13402"


def test_the_node_list_of_the_step_takes_precedence():
    step, job = "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"
    assert srun_info(SLURM_NODELIST="c").url == "tcp://a2:13402"
    assert srun_info(step, SLURM_NODELIST="c").url == "tcp://a1:13402"
    assert srun_info(step, job, SLURM_NODELIST="c").url == "tcp://c:13402"


def test_an_address_of_the_user_takes_precedence():
    assert srun_info(MASTER_ADDR="b", MASTER_PORT="40000").url == "tcp://b:40000"
    assert srun_info(MASTER_ADDR="", MASTER_PORT="").url == "tcp://a2:13402"


def test_jobs_and_their_steps_have_different_ports():
    urls = {
        srun_info(SLURM_JOB_ID=str(job), SLURM_STEP_ID=str(step)).url
        for job in range(50)
        for step in range(20)
    }
    ports = {int(url.rpartition(":")[2]) for url in urls}
    assert len(ports) == 50 * 20
    assert min(ports) >= 1024 and max(ports) < 32768  # neither privileged nor ephemeral


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"RANK": "0"},
            "RANK is set but WORLD_SIZE is not: start by torchrun, which sets both, or unset RANK.",
        ),
        (
            {"LOCAL_RANK": "0"},
            "LOCAL_RANK is set but RANK is not: start by torchrun, which sets both, or unset "
            "LOCAL_RANK.",
        ),
        (
            without(TORCHRUN, "MASTER_PORT"),
            "RANK is set but MASTER_PORT is not: start by torchrun, which sets both, or unset "
            "RANK.",
        ),
        ({**TORCHRUN, "RANK": "one"}, "RANK is 'one'; it must be a whole number."),
        ({**TORCHRUN, "LOCAL_RANK": "-1"}, "LOCAL_RANK is '-1'; it must be a whole number."),
        ({**TORCHRUN, "WORLD_SIZE": ""}, "WORLD_SIZE is ''; it must be a whole number."),
        ({**TORCHRUN, "MASTER_PORT": "x"}, "MASTER_PORT is 'x'; it must be a whole number."),
        ({**TORCHRUN, "RANK": "4"}, "RANK is 4, but the 4 of WORLD_SIZE count from 0."),
        ({**SRUN, "SLURM_PROCID": "4"}, "SLURM_PROCID is 4, but the 4 tasks count from 0."),
        (
            {**SRUN, "SLURM_STEP_NUM_TASKS": "1.5"},
            "SLURM_STEP_NUM_TASKS is '1.5'; it must be a whole number.",
        ),
        (
            without(SRUN, "SLURM_LOCALID"),
            "srun has set no SLURM_LOCALID; start by srun, or unset SLURM_PROCID.",
        ),
        (
            without(SRUN, "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"),
            "SLURM_JOB_NODELIST names no machine; set MASTER_ADDR to that of the first task.",
        ),
    ],
)
def test_invalid_variables_are_rejected(environment: dict[str, str], message: str):
    assert error_of(environment) == message


@pytest.mark.parametrize("environment", [TORCHRUN, {**TORCHRUN, **ALONE}, {**SRUN, **TORCHRUN}])
@pytest.mark.parametrize("flags", [{"num_gpus": 8}, {"num_machines": 4}])
def test_a_launch_under_torchrun_is_rejected(environment: dict[str, str], flags: dict[str, Any]):
    asked = {"num_gpus": 1, "num_machines": 1, **flags}
    assert error_of(environment, **flags) == (
        f"torchrun has started {environment['WORLD_SIZE']} processes, and --num-gpus "
        f"{asked['num_gpus']} with --num-machines {asked['num_machines']} would start others in "
        "each: leave both flags out."
    )


@pytest.mark.parametrize(
    ("environment", "num_machines"),
    [
        (SRUN, 1),
        (SRUN, 4),  # two tasks on a node
        ({**SRUN, **ONE_PER_NODE}, 1),
        ({**SRUN, **ONE_PER_NODE}, 2),
        (without(SRUN, "SLURM_STEP_NUM_NODES", "SLURM_NNODES"), 4),
    ],
)
def test_a_launch_in_each_task_of_srun_is_rejected(environment: dict[str, str], num_machines: int):
    assert error_of(environment, num_gpus=2, num_machines=num_machines) == (
        f"srun has started 4 processes, and --num-gpus 2 with --num-machines {num_machines} would "
        "start others in each: leave both flags out, or start one task on each machine and give "
        "their number by --num-machines."
    )


@pytest.mark.parametrize("num_gpus", [1, 8])
def test_srun_may_start_a_launcher_on_each_node(num_gpus: int):
    environment = {**SRUN, **ONE_PER_NODE}
    assert detect_launcher(environment, num_gpus=num_gpus, num_machines=4) is None
    assert detect_launcher(environment) is not None


@pytest.mark.parametrize(
    ("environment", "is_first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0", "SLURM_LOCALID": "1"}, True),
        ({"LOCAL_RANK": "1", "SLURM_LOCALID": "0"}, False),
        ({"SLURM_LOCALID": "0"}, True),
        ({"SLURM_LOCALID": "1"}, False),
    ],
)
def test_local_rank_zero_is_known(environment: dict[str, str], is_first: bool):
    assert is_local_rank_zero(environment) is is_first
