#!/usr/bin/env bash
# Lint and all tests, from nothing. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup_env.sh
.venv/bin/ruff check .
.venv/bin/ruff format --check .
# One worker has the tests over a live graph, the other the rest; one thread each.
export OMP_NUM_THREADS=1
exec .venv/bin/python -m pytest -n 2 --dist loadscope "$@"
