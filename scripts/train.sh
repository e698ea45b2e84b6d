#!/usr/bin/env bash
# The whole training of tpf_tiny and of tpf_nano's adapter, from nothing to the tables:
#   scripts/train.sh SOURCE [DEVICE] [PAIRS]
# SOURCE: folder of real images, see docs/training.md. DEVICE: auto, cpu or cuda.
# PAIRS: folder of registered pairs (visible/, infrared/) to measure on, too.
# All goes to runs/; what was interrupted goes on. Hours on a CPU.
set -eu
cd "$(dirname "$0")/.."
source=${1:?give the folder of real images, see docs/training.md}
device=${2:-auto}
pairs=${3:-}
scripts/setup_env.sh
python=.venv/bin/python
experiments=tpf_tracker_ros/training/experiments
train() { .venv/bin/tpf train "$1" --config "$experiments/$2.toml" --out "runs/$2" --device "$device"; }

train supervised tpf_tiny
train mad tpf_tiny_mad
train drf tpf_tiny_drf
[[ -f runs/pack/pack.json ]] || .venv/bin/tpf train pack "$source" runs/pack
train distil tpf_tiny_distil
train mad tpf_nano_mad
$python benchmarks/ablation.py --device "$device" --out runs/ablation ${pairs:+--pairs "$pairs"} \
    --start runs/tpf_tiny/tpf_tiny.safetensors --adapter runs/tpf_tiny_mad/tpf_tiny.safetensors
$python benchmarks/fusion.py ${pairs:+--pairs "$pairs"} --device "$device" --json runs/fusion.json \
    --sheet runs/fusion.png --checkpoint runs/tpf_tiny_distil/tpf_tiny.safetensors
