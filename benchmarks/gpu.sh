#!/usr/bin/env bash
# Everything that needs a GPU. Usage: bash benchmarks/gpu.sh [tests] [timings] [presets]; all by default.
# Reports land in runs/gpu, timings in benchmarks/results.
set -uo pipefail
cd "$(dirname "$0")/.."
stages=${*:-tests timings presets}
failed=0

for stage in $stages; do
    case $stage in
        tests) python3 -m pytest -m gpu tests || failed=1 ;;
        timings) python3 benchmarks/run.py || failed=1 ;;
        presets)
            for model in egnn fa_gnn; do
                python3 -m eqlib train nbody --model "$model" --preset gpu \
                    --out "runs/gpu/nbody-$model" --resume || failed=1
            done
            ;;
        *) echo "unknown stage '$stage'; expected tests, timings or presets" >&2; exit 2 ;;
    esac
done
exit $failed
