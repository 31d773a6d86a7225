#!/usr/bin/env bash
# Collect what CLQ needs beside an installed torch and torchvision; see the usage below.
set -euo pipefail

usage() {
    cat <<'END'
usage: tools/collect_wheels.sh PYTHON_VERSION FOLDER

Fill FOLDER with wheels for a machine without a network that has torch and torchvision already:
Detectron2 in pure Python (as tools/build_detectron2_wheel.py makes it) and what it, CLQ, the tests
and the benchmarks need beside it, in the versions of requirements.txt, for x86-64 Linux (glibc
2.28) and PYTHON_VERSION, which is 3.11 or 3.12. benchmarks/gpu.sh installs them.

The interpreter that fetches and builds them is $PYTHON, by default that of `make setup`, whose
torch the source archive of Detectron2 asks for. What torch and torchvision bring themselves (numpy,
Pillow, ...) is left out, and so is OpenCV, whose wheel alone has 57 MB: CLQ draws pictures and
reads videos with it, and trains, evaluates and predicts without. All wheels together stay under
40 MB; a folder that has more is told, and the exit code is 1. A second run fetches what is missing.

  tools/collect_wheels.sh 3.12 wheels
END
}

case "${1:-}" in -h | --help) usage && exit ;; esac
[[ $# == 2 ]] || { usage >&2 && exit 2; }
version=$1
[[ $version == 3.11 || $version == 3.12 ]] ||
    { echo "collect_wheels: PYTHON_VERSION is 3.11 or 3.12, not '$version'." >&2 && exit 2; }
mkdir -p "$2"
folder=$(cd "$2" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}
most=$((40 * 1000 * 1000)) # bytes

binary=(
    # Detectron2 and CLQ
    cloudpickle hotcoco hydra-core matplotlib omegaconf portalocker pycocotools PyYAML safetensors
    tabulate tensorboard termcolor tqdm yacs
    # what matplotlib and tensorboard need
    contourpy cycler fonttools kiwisolver pyparsing python-dateutil absl-py protobuf
    # the tests
    hypothesis iniconfig packaging pluggy Pygments pytest sortedcontainers
)
source=(antlr4-python3-runtime fvcore iopath) # pure Python, which the index has as archives only

# The lines of requirements.txt with these names.
pinned() {
    local name
    for name in "$@"; do
        grep -ix "$name==[^ ]*" requirements.txt ||
            { echo "collect_wheels: requirements.txt does not pin $name." >&2 && return 1; }
    done
}

pip() { "$python" -m pip --disable-pip-version-check --quiet "$@"; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
pinned "${binary[@]}" >"$scratch/binary.txt"
pinned "${source[@]}" >"$scratch/source.txt"

target=(--only-binary=:all: --implementation cp --python-version "$version")
for minor in $(seq 5 28); do # pip takes each platform by its exact name
    target+=(--platform "manylinux_2_${minor}_x86_64")
done
target+=(--platform manylinux2014_x86_64 --platform manylinux1_x86_64)
pip download --no-deps "${target[@]}" --find-links "$folder" -d "$folder" -r "$scratch/binary.txt"

pip wheel --no-deps --find-links "$folder" -w "$folder" -r "$scratch/source.txt"

if ! compgen -G "$folder/detectron2-*.whl" >/dev/null; then
    PYTHONPATH=tools "$python" -c "import build_detectron2_wheel as b; print(b.ARCHIVE_PIN)" \
        >"$scratch/archive.txt"
    pip download --no-deps --no-build-isolation --require-hashes -r "$scratch/archive.txt" \
        -d "$scratch"
    "$python" tools/build_detectron2_wheel.py "$scratch"/pb1-detectron2-*.tar.gz \
        --out-dir "$folder" >/dev/null
fi

for name in "${source[@]}"; do
    compgen -G "$folder/${name//-/_}-*-py3-none-any.whl" >/dev/null ||
        compgen -G "$folder/${name//-/_}-*-py2.py3-none-any.whl" >/dev/null ||
        { echo "collect_wheels: $name gave a wheel for this machine alone." >&2 && exit 1; }
done
bytes=$(cat "$folder"/*.whl | wc -c)
echo "$(ls "$folder"/*.whl | wc -l) wheels, $((bytes / 1000000)) MB, for Python $version: $folder"
((bytes < most)) || { echo "collect_wheels: that is more than 40 MB." >&2 && exit 1; }
