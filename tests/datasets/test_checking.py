import os
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import pytest

from harness.datasets import checking
from harness.datasets.cache import cache_folder
from harness.datasets.checking import sound_files
from harness.errors import DataError
from tests.conftest import MakeFolder

FILES = ("Leek/00.jpg", "Leek/01.png", "Onion/00.jpg", "Onion/01.png")


@pytest.fixture
def root(make_folder: MakeFolder) -> Path:
    return make_folder(splits={"": 2})


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Collects the contents of the images that are decoded."""
    contents: list[bytes] = []
    decode = checking.check_encoded

    def spy(data: bytes) -> str:
        contents.append(data)
        return decode(data)

    monkeypatch.setattr(checking, "check_encoded", spy)
    return contents


def expected(root: Path) -> list[str]:
    return [sha256((root / file).read_bytes()).hexdigest() for file in FILES]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def test_hashes_are_the_sha256_of_the_files_in_their_order(root: Path) -> None:
    assert sound_files(root, FILES).hashes == expected(root)


def test_broken_and_truncated_images_are_named_with_their_reason(root: Path) -> None:
    truncate(root / FILES[0])
    (root / FILES[3]).write_text("no image")
    with pytest.raises(
        DataError, match=r"got 2 broken: Leek/00\.jpg \(.*truncated.*\); Onion/01\.png \(cannot identify"
    ) as error:
        sound_files(root, FILES)
    assert "\n" not in str(error.value)
    assert "Onion/00.jpg" not in str(error.value)


def test_truncated_png_is_found(root: Path) -> None:
    truncate(root / FILES[1])
    with pytest.raises(DataError, match=r"got 1 broken: Leek/01\.png"):
        sound_files(root, FILES)


def test_five_broken_images_are_named_and_the_others_counted(root: Path) -> None:
    files = [f"Leek/{number:02d}.gif" for number in range(8)]
    for file in files:
        (root / file).write_bytes(b"")
    with pytest.raises(DataError, match=r"got 8 broken: .*04\.gif .*; and 3 more$") as error:
        sound_files(root, files)
    assert "05.gif" not in str(error.value)


def test_sound_images_are_decoded_once(root: Path, looked_at: list[bytes]) -> None:
    first = sound_files(root, FILES).hashes
    again = sound_files(root, FILES).hashes
    assert first == again
    assert len(looked_at) == len(FILES)


@pytest.mark.parametrize("written", ["1980-01-02", "2100-01-02"])
def test_time_of_a_file_is_compared_with_nothing_but_itself(root: Path, looked_at: list[bytes], written: str) -> None:
    seconds = datetime.fromisoformat(written).timestamp()
    for file in FILES:
        os.utime(root / file, (seconds, seconds))
    for _ in range(2):
        assert sound_files(root, FILES).hashes == expected(root)
    assert len(looked_at) == len(FILES), "images of another time are decoded once too"
    (root / FILES[1]).write_bytes((root / FILES[1]).read_bytes()[::-1])
    os.utime(root / FILES[1], (seconds, seconds))
    with pytest.raises(DataError, match=r"got 1 broken: Leek/01\.png"):
        sound_files(root, FILES)


def test_image_that_was_rewritten_is_looked_at_again_though_size_and_time_are_the_same(root: Path) -> None:
    sound_files(root, FILES)
    path = root / FILES[1]
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(DataError, match=r"got 1 broken: Leek/01\.png"):
        sound_files(root, FILES)


def test_broken_images_stay_broken_and_the_sound_ones_are_remembered(root: Path, looked_at: list[bytes]) -> None:
    truncate(root / FILES[0])
    for _ in range(2):
        with pytest.raises(DataError, match="got 1 broken"):
            sound_files(root, FILES)
    assert len(looked_at) == len(FILES) + 1


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b'{"schema_version": 1}', b'{"schema_version": 1, "hashes": 3}']
)
def test_damaged_memory_is_ignored(root: Path, content: bytes) -> None:
    sound_files(root, FILES)
    memories = list(cache_folder().rglob("*.json"))
    assert len(memories) == 1
    memories[0].write_bytes(content)
    assert sound_files(root, FILES).hashes == expected(root)


def test_cache_that_cannot_be_written_is_done_without(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a-file").write_text("in the way")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "a-file"))
    assert sound_files(root, FILES).hashes == expected(root)


def test_cache_lies_in_the_home_folder_unless_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "robustness-harness"
