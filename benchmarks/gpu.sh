#!/usr/bin/env bash
# Check and measure CLQ on a machine with a GPU and without a network; see the usage below.
set -euo pipefail

usage() {
    cat <<'END'
usage: benchmarks/gpu.sh [--device cuda|cpu] [--quick] [--wheels FOLDER] [--minutes M]
                         [--parallel N] OUTPUT [-- ARGUMENTS OF benchmarks.accuracy]

On a machine that has Python with torch (2.11 or newer) and torchvision, and no network: install
the wheels of FOLDER (default: wheels/ in the checkout, which git ignores) into a temporary folder
beside that torch, and run one after another
  tests   those of the modules on the device, and tests/cuda             (a third of M)
  bench   benchmarks/speed_cuda.py --quick                               (a third of M)
  study   python -m benchmarks.accuracy, N cells at a time               (what is left of M minutes)
M is 9 by default, so that tests and bench have three minutes each. What each of them prints and
writes is in OUTPUT as soon as it is there: run.log with the machine and how each one ended,
tests.log, bench.log, speed_cuda.json and .md, study.log, study.csv, and at the end study.tgz with
what the study wrote beside its csv. One that fails or is cut by its limit does not keep the others
from running; the exit code is then 1. The interpreter is $PYTHON, by default python3.

  --device cpu --quick OUTPUT   run all of it on a processor in under 10 minutes; no time that it
                                writes means anything
  --quick                       a study of a single small cell, on images made on the spot
  --parallel N                  cells of the study side by side (default: 4, on CPU 1)

Prepare it where there is a network:

  tools/collect_wheels.sh 3.12 wheels

The study has no network either. Its images and weights come along and are named after --,

  benchmarks/gpu.sh OUTPUT -- --name blood_cells --train train.json images/ --val val.json images/ \
      --members atss clq --seeds 0 --opts MODEL.WEIGHTS weights.pth

or lie in the folder $CLQ_CACHE: without arguments, the study is that of the tree crowns, whose
tiles (trees-v1/, 20 MB) and ImageNet weights (the file of 9 MB beside it) `make demo` leaves there.
Arguments replace --data trees; --results and --output are given already.
END
}

say() { printf '%4d s  %s\n' "$SECONDS" "$*" | tee -a "$output/run.log"; }
stop() { echo "gpu.sh: $*" >&2 && exit 2; }

device=cuda quick= wheels= minutes=9 parallel= output=
while (($#)); do
    case $1 in
    -h | --help) usage && exit ;;
    --quick) quick=yes ;;
    --device | --wheels | --minutes | --parallel)
        [[ $# -gt 1 ]] || stop "$1 needs a value."
        printf -v "${1#--}" %s "$2" && shift ;;
    --) shift && break ;;
    -*) stop "there is no option $1; see --help." ;;
    *) [[ -z $output ]] || stop "there are two OUTPUT folders, $output and $1." && output=$1 ;;
    esac
    shift
done
[[ -n $output ]] || { usage >&2 && exit 2; }
[[ $device == cuda || $device == cpu ]] || stop "--device is cuda or cpu, not '$device'."
[[ $device == cuda || -n $quick ]] || stop "--device cpu only tries the command, with --quick."
[[ $minutes =~ ^[1-9][0-9]*$ ]] || stop "--minutes is a whole number, not '$minutes'."
study=("$@")

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
wheels=$(cd "${wheels:-$root/wheels}" 2>/dev/null && pwd) ||
    stop "there are no wheels: tools/collect_wheels.sh fetches them, --wheels names their folder."
mkdir -p "$output"
output=$(cd "$output" && pwd)
[[ -z $(ls -A "$output") ]] || stop "$output is not empty."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
[[ $device == cuda ]] || export CUDA_VISIBLE_DEVICES=""
failed=0

# Install each distribution of the folder, in the version that it has there for this Python.
install() {
    local names
    names=$(cd "$wheels" && printf '%s\n' *.whl | sed -E 's/^([^-]+)-([^-]+)-.*/\1==\2/' | sort -u)
    # shellcheck disable=SC2086
    PIP_CONFIG_FILE=/dev/null "$python" -m pip --isolated --quiet install --no-index --no-deps \
        --no-compile --find-links "$wheels" --target "$scratch/site" $names
}

describe() {
    "$python" - <<'END'
import platform

import torch
import torchvision

print(f"Python {platform.python_version()}, torch {torch.__version__}", end=", ")
print(f"torchvision {torchvision.__version__}, {platform.platform()}")
END
    git -C "$root" log -1 --format='commit %h' 2>/dev/null || echo "commit unknown"
    [[ $device == cpu ]] || nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
}

# step NAME SECONDS COMMAND...: run it, all that it prints into NAME.log.
step() {
    local name=$1 limit=$2 code=0
    shift 2
    if ((limit < 5)); then
        failed=1 && say "$name: no time was left" && return
    fi
    timeout --signal=INT --kill-after=15 "$limit" "$@" >"$output/$name.log" 2>&1 || code=$?
    case $code in
    0) say "$name: passed" ;;
    124 | 137) failed=1 && say "$name: cut after $limit s" ;;
    *) failed=1 && say "$name: FAILED with exit code $code: $(tail -n 1 "$output/$name.log")" ;;
    esac
}

# The arguments of a study of one cell, whose images are written first.
made_study() {
    "$python" - "$scratch/made" <<'END'
import sys
from pathlib import Path

from reference.tiny import write_pair

for seed, name in enumerate(("train", "val")):
    write_pair(Path(sys.argv[1]), name, num_images=4, seed=seed)
END
    study=(--name made --data made --members clq --seeds 0)
    study+=(--train "$scratch/made/train.json" "$scratch/made/train")
    study+=(--val "$scratch/made/val.json" "$scratch/made/val")
    study+=(--opts MODEL.WEIGHTS "" MODEL.ALLOW_FROZEN_RANDOM True SOLVER.MAX_ITER 4 SOLVER.IMS_PER_BATCH 2 SOLVER.WARMUP_ITERS 0
        SOLVER.STEPS "()" INPUT.MIN_SIZE_TRAIN "(64,)" INPUT.MIN_SIZE_TEST 64)
}

run_study() {
    [[ -z $quick || ${#study[@]} -gt 0 ]] || made_study
    [[ ${#study[@]} -gt 0 ]] || study=(--data trees)
    local limit=$((60 * minutes - SECONDS - 10))
    [[ -n $parallel ]] || parallel=$([[ $device == cuda ]] && echo 4 || echo 1)
    step study "$limit" "$python" -m benchmarks.accuracy --device "$device" --parallel "$parallel" \
        --results "$output/study.csv" --output "$scratch/study" "${study[@]}"
    cd "$output"
    local beside=()
    mapfile -t beside < <(compgen -G "study*" | grep -vx 'study\.log\|study\.csv')
    if ((${#beside[@]})); then
        tar czf "$scratch/study.tgz" "${beside[@]}" && rm -r "${beside[@]}"
        mv "$scratch/study.tgz" .
    fi
}

cd "$root"
export PYTHONUNBUFFERED=1
describe 2>&1 | tee -a "$output/run.log"
if [[ $device == cuda ]] && ! "$python" -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
    stop "torch finds no CUDA device here."
fi
install 2>&1 | tee -a "$output/run.log"
export PYTHONPATH=$scratch/site:$root/projects/CLQ:$root:$root/tests:$root/tools
say "installed $(ls "$wheels"/*.whl | wc -l) wheels"

third=$((20 * minutes))
tests=(tests/modeling tests/engine/test_train_step.py)
[[ $device == cpu ]] || tests+=(tests/cuda)
step tests "$third" "$python" -m pytest -p no:cacheprovider -q -m "on_$device" "${tests[@]}"
step bench "$third" "$python" -W ignore::FutureWarning benchmarks/speed_cuda.py \
    --device "$device" --quick --results "$output/speed_$device.json" \
    --minutes "$((third * 13 / 15 / 60)).$((third * 13 / 15 % 60 * 10 / 60))" # ends before it is cut
run_study
say "$( ((failed)) && echo "not all passed" || echo "all passed")"
exit "$failed"
