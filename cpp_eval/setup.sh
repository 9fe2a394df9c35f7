#!/bin/sh
# Makes a machine ready to build cpp_eval: Debian's packages, ONNX Runtime's headers, and links to the library that the
# Python package onnxruntime carries. Does only what is missing; says in one line what it cannot do.
#
# Usage: cpp_eval/setup.sh [PYTHON]     PYTHON: the interpreter that has onnxruntime (default: .venv/bin/python)
#        EXTRA_PACKAGES="clang ..." cpp_eval/setup.sh     packages beside those that the build needs
#        ONNXRUNTIME_ROOT=DIR cpp_eval/setup.sh     use a release archive of ONNX Runtime instead (include/, lib/)
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
python=${1:-$here/../.venv/bin/python}
ort=$here/build/ort
packages="cmake ninja-build g++ libhdf5-dev nlohmann-json3-dev libcli11-dev catch2 libjpeg-dev libpng-dev zlib1g-dev
${EXTRA_PACKAGES:-}"

# Where Debian's package is out of reach: an npm package of a third party that carries the headers of ONNX Runtime (C API
# version 29). Its archive must be the one that was looked at.
npm_package=com.github.asus4.onnxruntime
npm_version=0.4.9
npm_sha256=e59788788818fdde1b2e522e766a21ba0f7d8391de55737abf81e32cc801785d

say() { echo "cpp_eval: $*" >&2; }
fail() { say "$@"; exit 1; }

missing_packages() {
    for package in $packages; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || printf '%s ' "$package"
    done
}

# What the build needs and this machine lacks, by its common names, for systems without Debian's packages.
missing_parts() {
    for tool in cmake ninja c++; do
        command -v "$tool" >/dev/null || printf '%s, ' "$tool"
    done
    command -v c++ >/dev/null || return 0
    folders="-I/usr/include/hdf5/serial"
    for prefix in $(echo "${CMAKE_PREFIX_PATH:-}" | tr ':;' '  '); do
        folders="$folders -I$prefix/include"
    done
    while read -r name header other; do
        # shellcheck disable=SC2086
        echo "#if !__has_include(<$header>) && !__has_include(<${other:-$header}>)
#error missing
#endif" | c++ -std=c++20 $folders -x c++ -fsyntax-only - 2>/dev/null || printf '%s, ' "$name"
    done <<PARTS
HDF5 hdf5.h
nlohmann-json nlohmann/json.hpp
CLI11 CLI/CLI.hpp
Catch2 catch2/catch_all.hpp catch2/catch.hpp
libjpeg jpeglib.h
libpng png.h
zlib zlib.h
PARTS
}

# Installs the packages that are missing; where that is not possible, what is there in other ways will do.
install_packages() {
    packaged=""
    if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
        packaged=$(missing_packages)
        [ -z "$packaged" ] && return
        if [ "$(id -u)" = 0 ]; then
            say "installing $packaged"
            said=$(apt-get update -qq 2>&1 &&
                DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packaged 2>&1) ||
                fail "apt-get could not install $packaged($(echo "$said" | grep '^E:' | head -n 1))"
            return
        fi
    fi
    missing=$(missing_parts)
    [ -z "$missing" ] && return
    [ -z "$packaged" ] || fail "missing ${missing%, }; run as root: apt-get install $packaged"
    fail "no apt-get here, and missing (CMAKE_PREFIX_PATH names other places): ${missing%, }"
}

# Downloads libonnxruntime-dev from this release, or from the next one that has it, and takes only the headers.
# Nothing is installed: mixing releases would pull in another C library.
headers_from_debian() {
    command -v apt-get >/dev/null || return 1
    (
        cd "$work"
        mkdir -p apt/lists/partial apt/cache/archives/partial apt/sources
        options=""
        if [ -z "$(apt-cache policy libonnxruntime-dev 2>/dev/null | sed -n 's/ *Candidate: *//p')" ]; then
            # shellcheck disable=SC1091
            codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
            [ "$codename" = bookworm ] || exit 1
            for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
                [ -f "$list" ] && sed 's/bookworm/trixie/g' "$list" >"apt/sources/$(basename "$list")"
            done
            options="-o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts=$work/apt/sources
                -o Dir::State::Lists=$work/apt/lists -o Dir::Cache=$work/apt/cache"
            # shellcheck disable=SC2086
            apt-get $options update -qq
        fi
        # shellcheck disable=SC2086
        apt-get $options download -qq libonnxruntime-dev
        dpkg-deb -x libonnxruntime-dev*.deb unpacked
    ) >/dev/null 2>&1 && take_headers "$work/unpacked"
}

headers_from_npm() {
    command -v npm >/dev/null || return 1
    archive=$npm_package-$npm_version.tgz
    (cd "$work" && npm pack --silent "$npm_package@$npm_version") >/dev/null 2>&1 || return 1
    found=$(sha256_of "$work/$archive")
    [ "$found" = "$npm_sha256" ] || fail "npm's $archive: expected SHA-256 $npm_sha256, got $found: it is not used"
    (cd "$work" && mkdir -p npm &&
        tar -xzf "$archive" -C npm --wildcards '*/ios-arm64/onnxruntime.framework/Headers/*') >/dev/null 2>&1 &&
        take_headers "$work/npm"
}

sha256_of() {
    "$python" -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$1"
}

take_headers() {
    found=$(find "$1" -name onnxruntime_cxx_api.h | head -n 1)
    [ -n "$found" ] && mkdir -p "$ort/include" && cp "$(dirname "$found")"/*.h "$ort/include/"
}

fetch_headers() {
    [ -f "$ort/include/onnxruntime_cxx_api.h" ] && return
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    say "fetching the headers of ONNX Runtime"
    headers_from_debian || headers_from_npm ||
        fail "no headers of ONNX Runtime: neither apt-get nor npm has them; set ONNXRUNTIME_ROOT to a release archive's folder"
}

link_library() {
    capi=$("$python" -c 'import importlib.util as u, pathlib; print(pathlib.Path(u.find_spec("onnxruntime").origin).parent / "capi")' \
        2>/dev/null) || fail "$python has no onnxruntime; give its interpreter as the first argument, or set ONNXRUNTIME_ROOT"
    mkdir -p "$ort/lib"
    rm -f "$ort"/lib/libonnxruntime*
    ln -s "$capi"/libonnxruntime* "$ort/lib/"
    library=$(find "$capi" -name 'libonnxruntime.so.*' | head -n 1)
    [ -n "$library" ] || fail "$capi: expected libonnxruntime.so.*, found none"
    ln -sf "$library" "$ort/lib/libonnxruntime.so.1"
    ln -sf "$library" "$ort/lib/libonnxruntime.so"
}

install_packages
if [ -n "${ONNXRUNTIME_ROOT:-}" ]; then
    header=$(find -L "$ONNXRUNTIME_ROOT/include" -name onnxruntime_cxx_api.h 2>/dev/null | head -n 1)
    library=$(find -L "$ONNXRUNTIME_ROOT/lib" "$ONNXRUNTIME_ROOT/lib64" -name 'libonnxruntime.*' 2>/dev/null | head -n 1)
    [ -n "$header" ] && [ -n "$library" ] ||
        fail "ONNXRUNTIME_ROOT=$ONNXRUNTIME_ROOT: expected a folder with include/onnxruntime_cxx_api.h and lib/libonnxruntime.so"
    say "for cmake: -DONNXRUNTIME_ROOT=$(CDPATH='' cd -- "$ONNXRUNTIME_ROOT" && pwd)"
else
    link_library
    fetch_headers
fi
