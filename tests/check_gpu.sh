#!/usr/bin/env bash
# Check fishcli on a GPU in five minutes: tests/check_gpu.sh [--wheels FOLDER] [--out FOLDER]
#
# It makes the full-size random checkpoint, runs `pytest -m cuda` and `fish bench` with and without --compile, and writes
# check_gpu.json and check_gpu.md into the folder (./check_gpu). It exits with 0 if everything passed. Each step has a
# time limit, so that one that hangs costs no other its result. PATH must have a python3 with torch and NumPy.
#
#   --wheels FOLDER  install what is missing from there: tests/fetch_wheels.sh makes it where there is a network
#   --device cpu     rehearse without a GPU, with the micro checkpoint
#   --size SIZE      full or micro
#   --seconds N      all time there is (default 300); the limits of the steps grow with it, as a CPU at full size needs
set -uo pipefail
device=cuda size= wheels= out=check_gpu seconds=300
while [ $# -gt 0 ]; do
  case $1 in
    --device) device=$2 ;;
    --size) size=$2 ;;
    --wheels) wheels=$2 ;;
    --out) out=$2 ;;
    --seconds) seconds=$2 ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
  shift 2 || exit 2
done
[ -n "$size" ] || { [ "$device" = cpu ] && size=micro || size=full; }
out=$(mkdir -p "$out" && cd "$out" && pwd)
[ -z "$wheels" ] || wheels=$(cd "$wheels" && pwd) || exit 2
cd "$(dirname "$0")/.."
rm -f "$out"/*.json "$out"/*.log "$out"/*.rc "$out"/check_gpu.md
export FISHCLI_CACHE_DIR=$out/cache FISHCLI_TEST_DEVICE=$device PYTHONPATH=$PWD PYTHONUNBUFFERED=1

# step NAME LIMIT COMMAND...: its output in NAME.log, its exit code and seconds in NAME.rc; 124: it took too long, 125: no time was left.
step() {
  local name=$1 limit=$(($2 * seconds / 300)) left=$((seconds - SECONDS)) began=$SECONDS rc=125
  shift 2
  [ "$limit" -lt "$left" ] || limit=$left
  echo "$name: at most $limit s"
  if [ "$limit" -gt 0 ]; then
    timeout -k 5 "$limit" "$@" >"$out/$name.log" 2>&1 </dev/null
    rc=$?
  fi
  echo "$rc $((SECONDS - began))" >"$out/$name.rc"
  echo "$name: exit code $rc after $((SECONDS - began)) s"
}

# The options of fish bench and the seconds that it may take, compiled and not.
if [ "$device" = cpu ]; then
  compiled=(--compile --batch 1,8) plain=(--no-compile --batch 1,8)
else
  compiled=(--compile --batch 1,8,32,64) plain=(--no-compile --batch 1,8,32)
fi
bench() {
  local name=$1 limit=$2
  shift 2
  step "$name" "$limit" python3 -m fishcli bench --device "$device" --size "$size" --repeat 1 --json "$@"
  [ ! -e "$out/$name.log" ] || sed -n '/^{/,$p' "$out/$name.log" >"$out/$name.json"
}

if [ -n "$wheels" ]; then
  step install 60 python3 -m pip install -q --no-index --no-deps --no-compile --upgrade --target "$out/site" "$wheels"/*.whl
  export PYTHONPATH=$PWD:$out/site
fi
step machine 40 python3 tests/gpu_report.py --machine "$device"
step checkpoint 90 python3 -c "from fishcli.testing.checkpoint import cached; print(cached('$size'))"
[ "$size" = full ] && export FISHCLI_TEST_FULL=$FISHCLI_CACHE_DIR/bench/full
bench bench-compiled 120 "${compiled[@]}"
step tests 150 python3 -m pytest -o addopts=--strict-markers -m cuda tests/test_cuda.py -v -rf --tb=short -p no:cacheprovider
bench bench-plain 60 "${plain[@]}"
python3 tests/gpu_report.py "$out" "$device" "$size"
