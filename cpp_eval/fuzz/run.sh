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
./configure.sh fuzz
cmake --build --preset fuzz --target fuzz_image fuzz_bundle
"$python" tests/fixtures "$build/fixtures"

# One leak check at the end would only tell of memory that the libraries keep for themselves; without a sanitizer a
# size beyond memory is no crash, but a failed allocation.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1

# Whether what a sanitizer said is about HDF5 itself. That is beyond repair here, and harness_eval survives it: it reads
# files in a process of its own (src/supervisor.hpp).
in_hdf5() {
    printf '%s\n' "$1" | grep -E '^ +#[0-9]+ 0x' | grep -vE 'interceptor|_asan|__ubsan| in (malloc|calloc|realloc|free|memcpy|operator)' |
        head -n 1 | grep -q libhdf5
}

status=0
for target in image bundle; do
    corpus=$build/corpus/$target
    findings=$build/findings/$target
    fuzzer=$build/fuzz/fuzz_$target
    mkdir -p "$corpus" "$findings"
    find "$build/fixtures/${target}s" -type f -size -64k ! -name '*.rgb' ! -name '*.json' -exec cp {} "$corpus/" \;
    "$fuzzer" "$corpus" -fork=1 -ignore_crashes=1 -ignore_ooms=1 -max_total_time="$seconds" -max_len=65536 \
        -timeout=20 -rss_limit_mb=4096 -artifact_prefix="$findings/" || status=1
    known=0
    for finding in "$findings"/*; do
        [ -f "$finding" ] || continue
        if said=$("$fuzzer" "$finding" 2>&1); then continue; fi
        if in_hdf5 "$said"; then known=$((known + 1)); else echo "found: $finding" >&2 && status=1; fi
    done
    echo "$target: $known findings in HDF5 itself, survived by harness_eval" >&2
done
exit $status
