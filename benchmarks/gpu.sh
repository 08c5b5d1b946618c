#!/usr/bin/env bash
# Everything that needs a GPU, in steps of less than nine minutes that can be called one by one.
set -uo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'END'
usage: bash benchmarks/gpu.sh [--wheels DIR] [--out DIR] [--python COMMAND] [--again] [STAGE...]

stages, by default all in this order:
  packages        show what is missing; with --wheels, install the wheels of a folder first
  tests           the tests that need a GPU
  timings         all benchmarks; timings:NAME is one of them
  presets         train the gpu presets of models that make their data; presets:TASK/MODEL is one

  --wheels DIR    wheels to install, without downloading anything, into OUT/site
  --out DIR       where reports, marks and trained models go (default: runs/gpu)
  --python CMD    the interpreter (default: python3)
  --again         repeat steps that were done before

Timings land in benchmarks/results. A step that was done leaves a mark and is skipped the next time;
one that was cut off goes on where it stopped. Exit code: 0 all done, 1 a step failed, 2 wrong usage.
END
}

python=python3 out=runs/gpu wheels="" again=""
limit=530 # seconds a step
stages=()
while [ $# -gt 0 ]; do
    case $1 in
        --wheels | --out | --python)
            [ $# -gt 1 ] || { echo "gpu.sh: $1 needs a value" >&2; exit 2; }
            declare "${1#--}=$2"
            shift
            ;;
        --again) again=yes ;;
        -h | --help) usage; exit 0 ;;
        packages | tests | timings | timings:?* | presets | presets:?*/?*) stages+=("$1") ;;
        *) echo "gpu.sh: unknown stage '$1'; see gpu.sh --help" >&2; exit 2 ;;
    esac
    shift
done
[ ${#stages[@]} -gt 0 ] || stages=(packages tests timings presets)
[ -z "$wheels" ] || [ -d "$wheels" ] || { echo "gpu.sh: no folder $wheels" >&2; exit 2; }
mkdir -p "$out/done"
out=$(cd "$out" && pwd)
export PYTHONPATH="$out/site${PYTHONPATH:+:$PYTHONPATH}"
failed=0

# step NAME COMMAND...: run a command within the time limit, unless it was done before
step() {
    local name=$1 mark="$out/done/${1//[:\/]/-}"
    shift
    if [ -e "$mark" ] && [ -z "$again" ]; then
        echo "== $name: done before"
        return
    fi
    echo "== $name"
    local start=$SECONDS
    if timeout --signal=INT --kill-after=20 "$limit" "$@"; then
        touch "$mark"
        echo "== $name: done in $((SECONDS - start)) s"
    else
        echo "== $name: FAILED after $((SECONDS - start)) s" >&2
        failed=1
    fi
}

packages() {
    if [ -n "$wheels" ]; then
        "$python" -m pip install --quiet --no-index --no-deps --upgrade --target "$out/site" \
            "$wheels"/*.whl || failed=1
    fi
    "$python" benchmarks/packages.py || failed=1
}

tests() {
    local parallel=()
    "$python" -c 'import xdist' 2>/dev/null && parallel=(-n 8)
    step tests "$python" -m pytest -q -m gpu ${parallel[@]+"${parallel[@]}"} tests
}

timings() {
    step "timings:$1" "$python" benchmarks/run.py --device cuda --resume "$1"
}

presets() {
    step "presets:$1" "$python" -m eqlib train "${1%%/*}" --model "${1#*/}" --preset gpu \
        --out "$out/${1/\//-}" --resume
}

for stage in "${stages[@]}"; do
    case $stage in
        packages) packages ;;
        tests) tests ;;
        timings)
            names=$("$python" benchmarks/run.py --names --device cuda) || exit 1
            for name in $names; do timings "$name"; done
            ;;
        presets)
            for name in nbody/{egnn,fa_gnn,gaunt_net,ponita,pnita,integrator} normals/fa_dgcnn; do presets "$name"; done
            ;;
        timings:*) timings "${stage#*:}" ;;
        presets:*) presets "${stage#*:}" ;;
    esac
done
exit $failed
