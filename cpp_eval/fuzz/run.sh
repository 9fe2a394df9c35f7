#!/bin/sh
# Fuzzes the readers of images and bundles for a bounded time, starting from the tests' files.
#
# Usage: cpp_eval/fuzz/run.sh [SECONDS]     for each of the two targets (default 60)
# What is found lies in cpp_eval/build/fuzz/findings; a finding becomes one of the broken files of cpp_eval/tests/fixtures.
set -eu

seconds=${1:-60}
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
python=${PYTHON:-$root/../.venv/bin/python}
build=$root/build/fuzz

cd "$root"
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target fuzz_image fuzz_bundle
"$python" tests/fixtures "$build/fixtures"

status=0
for target in image bundle; do
    corpus=$build/corpus/$target
    mkdir -p "$corpus" "$build/findings/$target"
    find "$build/fixtures/${target}s" -type f -size -64k ! -name '*.rgb' ! -name '*.json' -exec cp {} "$corpus/" \;
    # One leak check at the end would only tell of memory that the libraries keep for themselves.
    ASAN_OPTIONS=detect_leaks=0 "$build/fuzz/fuzz_$target" "$corpus" -max_total_time="$seconds" -max_len=65536 \
        -timeout=20 -rss_limit_mb=4096 -artifact_prefix="$build/findings/$target/" -print_final_stats=1 || status=1
done
exit $status
