#!/usr/bin/env bash
# Everything that needs a GPU, measured in one go; run from the repository root:
#   benchmarks/gpu.sh [FOLDER]
# Where nvcc is, build mamba_ssm first to have its kernel in the same run:
#   MAMBA_FORCE_BUILD=TRUE pip install --no-build-isolation mamba-ssm
set -eu
out=${1:-gpu_out}
mkdir -p "$out"
python -m pytest -q test/models/layers/test_scan.py test/models/layers/test_scan_triton.py \
    test/engines/test_engine.py | tee "$out/tests.txt"
python benchmarks/scan.py --device cuda --json "$out/scan.json"
for model in tpf_tiny tpf_small tpf_base; do
    tpf bench --device cuda --model "$model" --json "$out/$model.json"
done
