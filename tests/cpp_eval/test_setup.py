"""What the build of the evaluator takes from the machine: a user's own ONNX Runtime, and what is said where parts are missing."""

import os
import shutil
import subprocess
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


def set_up(tmp_path: Path, *tools: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs setup.sh where there are no more programs than these."""
    (tmp_path / "bin").mkdir()
    for tool in ("sh", "dirname", "find", "head", "tr", "sed", *tools):
        if (path := shutil.which(tool)) is None:
            pytest.skip(f"needs {tool}")
        (tmp_path / "bin" / tool).symlink_to(path)
    return subprocess.run(
        ["sh", str(CPP_EVAL / "setup.sh")],
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


def test_setup_refuses_a_folder_without_the_library(tmp_path: Path) -> None:
    half = release(tmp_path / "half", parts=("include/onnxruntime_cxx_api.h",))
    done = set_up(tmp_path, *TOOLS, CMAKE_PREFIX_PATH=str(libraries(tmp_path)), ONNXRUNTIME_ROOT=str(half))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "expected a folder with include/onnxruntime_cxx_api.h and lib/libonnxruntime.so" in done.stderr
