#!/bin/sh
# Measures three released sizes (random weights, NF4) on one CUDA GPU and writes the README's rows, in one call; then
# what loading the smallest of them from a checkpoint in shards takes of the host's memory.
#
# torch with CUDA must be there. Other packages that the machine lacks go into a virtual environment beside its own: from
# the folder $WHEELS if there is one, so that no network is needed, else from pip's index. To fill it where there is a
# network, with the GPU machine's Python version:
#   pip download -d wheels -r requirements.txt
set -eu
cd "$(dirname "$0")"
python=${PYTHON:-python3}
wheels=${WHEELS:-wheels}
sees='import sys, torch; sys.exit(not torch.cuda.is_available())'
"$python" -c "$sees" 2>/dev/null || { echo "bench_cuda.sh: torch of $python is missing or sees no CUDA GPU; name another with PYTHON=." >&2; exit 1; }

if ! "$python" -c 'import transformers, accelerate, bitsandbytes, safetensors, gguf, filelock, psutil, numba' 2>/dev/null; then
    "$python" -m venv --system-site-packages .bench-venv
    python=.bench-venv/bin/python
    [ -d "$wheels" ] && set -- --no-index --find-links "$wheels" || set --
    grep -vE '^(#|torch|gradio|plotly)' requirements.txt | "$python" -m pip install --quiet "$@" -r /dev/stdin
fi
"$python" -m molora.bench --device cuda --all-shapes --json assets/bench-cuda.json --readme README.md

checkpoint=$(mktemp -d)
trap 'rm -rf "$checkpoint"' EXIT
"$python" -m molora.fixture --like MING-MOE-1.8B "$checkpoint/MING-MOE-1.8B"
"$python" -m molora.bench --device cuda --quick --model "$checkpoint/MING-MOE-1.8B/adapter" --json assets/bench-cuda-loaded.json --readme README.md
