import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.reports.files import check_writable, staged, write_text


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_files_appear_together_when_the_block_ends(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    with staged(folder, owned={}) as staging:
        (staging / "roc").mkdir()
        (staging / "roc" / "a.csv").write_text("1")
        (staging / "cells.csv").write_text("2")
        assert not (folder / "cells.csv").exists()
    assert contents(folder) == {"roc/a.csv": "1", "cells.csv": "2"}


def test_an_error_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "cells.csv").write_text("old")

    def fail_half_way() -> None:
        with staged(tmp_path, owned={"roc": (".csv",)}) as staging:
            (staging / "cells.csv").write_text("new")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail_half_way()
    assert contents(tmp_path) == {"cells.csv": "old"}


def test_only_owned_files_that_were_not_renewed_are_removed(tmp_path: Path) -> None:
    for name in ("roc/gone.csv", "roc/kept.csv", "roc/notes.txt", "crossruntime.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("old")
    with staged(tmp_path, owned={"roc": (".csv",)}) as staging:
        (staging / "roc").mkdir()
        (staging / "roc" / "kept.csv").write_text("new")
    assert contents(tmp_path) == {"roc/kept.csv": "new", "roc/notes.txt": "old", "crossruntime.csv": "old"}


def test_a_folder_is_tried_without_leaving_anything_in_it(tmp_path: Path) -> None:
    check_writable(tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(HarnessError, match="file: the results cannot be written"):
        check_writable(tmp_path / "file")


AT_WORK = """
import sys
from pathlib import Path
from harness.reports.files import staged
with staged(Path(sys.argv[1]), owned={}) as staging:
    (staging / "cells.csv").write_text("1")
    print(staging, flush=True)
    sys.stdin.readline()
"""


def test_only_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".staging-of_an_earlier.version").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", AT_WORK, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        staging = Path(other.stdout.readline().strip())
        check_writable(tmp_path)
        assert [path for path in tmp_path.iterdir() if path.is_dir()] == [staging]
        assert (staging / "cells.csv").is_file()
        other.kill()
        other.wait()
    assert staging.is_dir()
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HarnessError, match=r"file/run: the results cannot be written"):
        write_text(tmp_path / "file" / "run" / "report.html", "")
