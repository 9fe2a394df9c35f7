#!/bin/sh
# Configures a preset of cmake. Where that cannot be done, one line says what is missing; cmake's report stays in a file.
#
# Usage: cpp_eval/configure.sh PRESET [OPTIONS OF CMAKE]
set -eu

cd "$(dirname "$0")"
report=build/configure.log
mkdir -p build
cmake --preset "$@" >"$report" 2>&1 && exit

# What this project says of itself, else cmake's first error, its lines joined.
said=$(sed -n 's/^ *cpp_eval: //p' "$report" | head -n 1)
[ -n "$said" ] || said="cmake cannot configure $1: $(awk '
    /^CMake Error: / { sub(/^CMake Error: /, ""); text = $0; exit }
    found && /^[^ ]/ { exit }
    found && NF { sub(/^ +/, ""); text = text (text == "" ? "" : " ") $0 }
    /^CMake Error/ { found = 1 }
    END { print text }' "$report") (cpp_eval/$report)"
echo "cpp_eval: $said" >&2
exit 1
