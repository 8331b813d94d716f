#!/usr/bin/env bash
# Fetch the wheels that tests/check_gpu.sh needs on a machine without a network: tests/fetch_wheels.sh FOLDER
#
# Torch and NumPy are not among them: the machine with the GPU has a torch for its CUDA. PYTHON and PLATFORM name that
# machine if it is not like this one, such as PYTHON=3.12 PLATFORM=manylinux_2_28_x86_64.
set -euo pipefail
folder=${1:?"usage: tests/fetch_wheels.sh FOLDER"}
python3=$(command -v python3)
folder=$(mkdir -p "$folder" && cd "$folder" && pwd)
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What a dependency depends on is fetched too, but not what torch does: it is there.
"$python3" - >"$work/wanted" <<'PY'
import re
text = open("pyproject.toml").read()
block = re.search(r"^dependencies = \[(.*?)^\]", text, re.M | re.S)[1]
names = re.findall(r'^\s+"([^"]+)"', block, re.M)
print("\n".join(name for name in names if not re.match(r"(torch|numpy|tomli)\b[^k]", name)))
print("pytest>=8.3\nhypothesis>=6.100")
PY
where=(--only-binary=:all:)
[ -z "${PYTHON:-}" ] || where+=(--python-version "$PYTHON" --implementation cp)
for platform in ${PLATFORM:-}; do where+=(--platform "$platform"); done
if [ -n "${PLATFORM:-}" ]; then # pip takes each tag as it stands
  for platform in manylinux_2_27_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64; do where+=(--platform "$platform"); done
fi
"$python3" -m pip download -q "${where[@]}" -d "$folder" -r "$work/wanted"
rm -f "$folder"/numpy-* "$folder"/torch-*
echo "$(ls "$folder" | wc -l) wheels, $(du -sh "$folder" | cut -f1), in $folder"
