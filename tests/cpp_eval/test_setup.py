"""What the build of the evaluator takes from the machine: a user's own ONNX Runtime, and what is said where parts are missing."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cpp_eval.conftest import CPP_EVAL

TOOLS = ("cmake", "ninja", "c++")
PROJECT = f"""
cmake_minimum_required(VERSION 3.22)
project(search NONE)
set(CMAKE_FIND_LIBRARY_PREFIXES lib)
set(CMAKE_FIND_LIBRARY_SUFFIXES .so)
include({CPP_EVAL / "cmake" / "OnnxRuntime.cmake"})
message(STATUS "found ${{ONNXRUNTIME_INCLUDE_DIR}} ${{ONNXRUNTIME_LIBRARY}}")
"""


def release(folder: Path, *, parts: tuple[str, ...] = ("include/onnxruntime_cxx_api.h", "lib/libonnxruntime.so")) -> Path:
    """A folder laid out as a release archive."""
    for part in parts:
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        (folder / part).touch()
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that only looks for the runtime; setup.sh made one in its build folder."""
    if shutil.which("cmake") is None:
        pytest.skip("needs cmake")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "CMakeLists.txt").write_text(PROJECT)
    release(tmp_path / "project" / "build" / "ort")
    return tmp_path / "project"


def configure(project: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["cmake", "-S", str(project), "-B", str(project / "build" / "release"), *options]
    known = {name: value for name, value in os.environ.items() if name != "ONNXRUNTIME_ROOT"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=known | environment)


def found(project: Path, *options: str, **environment: str) -> Path:
    done = configure(project, *options, **environment)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("-- found ")]
    include, library = map(Path, line.removeprefix("-- found ").split())
    assert (include.name, library.name) == ("include", "libonnxruntime.so")
    assert library.parent.parent == include.parent
    return include.parent


def test_named_runtime_replaces_the_one_of_an_earlier_configuration(project: Path, tmp_path: Path) -> None:
    made, mine, other = project / "build" / "ort", release(tmp_path / "mine"), release(tmp_path / "other")
    assert found(project) == made
    assert found(project, ONNXRUNTIME_ROOT=str(mine)) == mine
    assert found(project, f"-DONNXRUNTIME_ROOT={other}") == other
    assert found(project, "-DONNXRUNTIME_ROOT=") == made


@pytest.mark.parametrize("parts", [("include/onnxruntime_cxx_api.h",), ("lib/libonnxruntime.so",)])
def test_half_a_runtime_is_not_completed_from_elsewhere(project: Path, tmp_path: Path, parts: tuple[str, ...]) -> None:
    done = configure(project, f"-DONNXRUNTIME_ROOT={release(tmp_path / 'half', parts=parts)}")
    assert done.returncode != 0
    assert "ONNXRUNTIME_ROOT: expected include/onnxruntime_cxx_api.h" in " ".join(done.stderr.split())


def test_relative_folder_of_a_runtime_is_refused(project: Path) -> None:
    done = configure(project, "-DONNXRUNTIME_ROOT:STRING=mine")
    assert done.returncode != 0
    assert "expected an absolute path, got mine" in " ".join(done.stderr.split())


LIBRARIES = {
    "HDF5": "libhdf5-dev",
    "JPEG": "libjpeg-dev",
    "PNG": "libpng-dev",
    "ZLIB": "zlib1g-dev",
    "nlohmann_json": "nlohmann-json3-dev",
    "CLI11": "libcli11-dev",
    "Catch2": "catch2",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What configuring reads of the evaluator: no build folder, and no source files."""
    for tool in TOOLS:
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    for name in ("configure.sh", "CMakeLists.txt", "CMakePresets.json"):
        shutil.copy(CPP_EVAL / name, tmp_path)
    shutil.copytree(CPP_EVAL / "cmake", tmp_path / "cmake")
    return tmp_path


def preset(checkout: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([checkout / "configure.sh", "release", *options], capture_output=True, text=True, check=False)


def test_configuring_names_all_libraries_that_are_missing_and_how_to_get_them_in_one_line(checkout: Path) -> None:
    done = preset(checkout, *(f"-DCMAKE_DISABLE_FIND_PACKAGE_{name}=ON" for name in LIBRARIES))
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    parts, packages = ", ".join(LIBRARIES), " ".join(LIBRARIES.values())
    assert line.startswith(f"cpp_eval: missing {parts}; Debian has them: apt-get install {packages}; elsewhere CMAKE_PREFIX_PATH")


def test_configuring_that_fails_in_another_way_is_cmakes_error_in_one_line(checkout: Path) -> None:
    done = preset(checkout, "-DCMAKE_CXX_COMPILER=/nowhere/c++")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("cpp_eval: cmake cannot configure release: The CMAKE_CXX_COMPILER: /nowhere/c++ is not a full path")
    assert line.endswith(" (cpp_eval/build/configure.log)")
    assert "/nowhere/c++" in (checkout / "build" / "configure.log").read_text()


def set_up(
    tmp_path: Path,
    *tools: str,
    programs: Mapping[str, str] | None = None,
    setup: Path = CPP_EVAL / "setup.sh",
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Runs setup.sh where there are no more programs than these, some of them made up."""
    (tmp_path / "bin").mkdir()
    for name, script in (programs or {}).items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    for tool in ("sh", "dirname", "find", "head", "tr", "sed", *tools):
        if (path := shutil.which(tool)) is None:
            pytest.skip(f"needs {tool}")
        (tmp_path / "bin" / tool).symlink_to(path)
    return subprocess.run(
        ["sh", str(setup), sys.executable],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": str(tmp_path / "bin"), **environment},
    )


def libraries(tmp_path: Path) -> Path:
    """A prefix that seems to hold every library."""
    headers = ("hdf5.h", "nlohmann/json.hpp", "CLI/CLI.hpp", "catch2/catch_all.hpp", "jpeglib.h", "png.h", "zlib.h")
    return release(tmp_path / "prefix", parts=tuple(f"include/{header}" for header in headers))


def test_setup_without_apt_names_what_is_missing_in_one_line(tmp_path: Path) -> None:
    done = set_up(tmp_path, ONNXRUNTIME_ROOT=str(release(tmp_path / "mine")))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("cpp_eval: no apt-get here, and missing ")
    assert line.endswith(": cmake, ninja, c++")


def test_setup_without_apt_finds_libraries_where_the_user_says(tmp_path: Path) -> None:
    release(tmp_path / "mine")
    done = set_up(tmp_path, *TOOLS, CMAKE_PREFIX_PATH=str(libraries(tmp_path)), ONNXRUNTIME_ROOT="mine")
    assert (done.returncode, done.stderr) == (0, f"cpp_eval: for cmake: -DONNXRUNTIME_ROOT={tmp_path / 'mine'}\n")


WITHOUT_ROOT = {"apt-get": "exit 100", "dpkg-query": "exit 1", "id": "echo 1000"}
NO_SUCH_PACKAGE = "echo 'W: a warning' >&2; echo 'E: Unable to locate package catch2' >&2; exit 100"


def test_setup_without_root_names_what_is_missing_and_the_command_in_one_line(tmp_path: Path) -> None:
    done = set_up(tmp_path, "grep", programs=WITHOUT_ROOT, ONNXRUNTIME_ROOT=str(release(tmp_path / "mine")))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("cpp_eval: missing cmake, ninja, c++; run as root: apt-get install cmake ninja-build g++ libhdf5-dev ")


def test_setup_without_root_takes_what_is_there_without_a_package(tmp_path: Path) -> None:
    environment = {"CMAKE_PREFIX_PATH": str(libraries(tmp_path)), "ONNXRUNTIME_ROOT": str(release(tmp_path / "mine"))}
    done = set_up(tmp_path, *TOOLS, "grep", programs=WITHOUT_ROOT, **environment)
    assert (done.returncode, done.stderr) == (0, f"cpp_eval: for cmake: -DONNXRUNTIME_ROOT={tmp_path / 'mine'}\n")


def test_setup_whose_packages_cannot_be_installed_ends_with_the_reason(tmp_path: Path) -> None:
    done = set_up(tmp_path, "grep", programs={**WITHOUT_ROOT, "id": "echo 0", "apt-get": NO_SUCH_PACKAGE})
    assert done.returncode == 1
    begun, reason = done.stderr.splitlines()
    assert begun.startswith("cpp_eval: installing cmake ")
    assert reason.startswith("cpp_eval: apt-get could not install cmake ")
    assert reason.endswith(" (E: Unable to locate package catch2)")


def test_setup_refuses_a_folder_without_the_library(tmp_path: Path) -> None:
    half = release(tmp_path / "half", parts=("include/onnxruntime_cxx_api.h",))
    done = set_up(tmp_path, *TOOLS, CMAKE_PREFIX_PATH=str(libraries(tmp_path)), ONNXRUNTIME_ROOT=str(half))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "expected a folder with include/onnxruntime_cxx_api.h and lib/libonnxruntime.so" in done.stderr


def test_headers_of_an_archive_that_was_never_looked_at_are_refused(tmp_path: Path) -> None:
    shutil.copy(CPP_EVAL / "setup.sh", tmp_path / "setup.sh")  # it leaves what it makes beside itself
    packed = {"npm": "echo other > com.github.asus4.onnxruntime-0.4.9.tgz"}
    tools = (*TOOLS, "mkdir", "rm", "ln", "mktemp")
    done = set_up(tmp_path, *tools, programs=packed, setup=tmp_path / "setup.sh", CMAKE_PREFIX_PATH=str(libraries(tmp_path)))
    assert done.returncode == 1
    *_, reason = done.stderr.splitlines()
    assert reason.startswith("cpp_eval: npm's com.github.asus4.onnxruntime-0.4.9.tgz: expected SHA-256 ")
    assert reason.endswith(f", got {hashlib.sha256(b'other' + bytes([10])).hexdigest()}: it is not used")
    assert not (tmp_path / "build" / "ort" / "include").exists()
