from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import h5py
import numpy as np
import pytest

from harness.bundle import BundleCondition, BundleWriter, read_bundle
from harness.bundle.writer import WORTHWHILE
from harness.errors import DataError
from harness.threat import Norm

CLASSES = ("Bean", "Kürbis", "Radish")
CLEAN = BundleCondition(name="clean", kind="clean", digest="c0")
PGD = BundleCondition(
    name="pgd Linf 8-255", kind="attack", digest="a1", attack="pgd", norm=Norm.LINF, eps=Fraction(8, 255), clean="clean"
)


def examples(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.random((n, 3, 5, 4), dtype=np.float32)
    return x, rng.integers(0, len(CLASSES), n), rng.standard_normal((n, len(CLASSES)), dtype=np.float32)


def writer(path: Path, **options: str) -> BundleWriter:
    return BundleWriter(path, class_names=CLASSES, model="baseline", model_sha256="ab" * 32, dataset="tiny", **options)


def write(path: Path, n: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y, logits = examples(n)
    with writer(path) as bundle:
        with bundle.condition(CLEAN) as condition:
            condition.append(x, y, logits)
        with bundle.condition(PGD) as condition:
            condition.append(np.clip(x + np.float32(8 / 255), 0, 1), y, logits)
    return x, y, logits


@pytest.mark.parametrize("compression", ["lzf", "gzip", "none"])
def test_what_was_written_in_pieces_is_read_back_bit_for_bit(tmp_path: Path, compression: str) -> None:
    x, y, logits = examples(11)
    path = tmp_path / "bundle.h5"
    with writer(path, compression=compression) as bundle, bundle.condition(CLEAN) as condition:
        condition.append(x[:4], y[:4], logits[:4])
        condition.append(x[4:], y[4:], logits[4:])
    batches = list(read_bundle(path).batches("clean", 3))
    assert [len(batch.x) for batch in batches] == [3, 3, 3, 2]
    for found, wanted in zip(zip(*batches, strict=True), (x, y, logits), strict=True):
        np.testing.assert_array_equal(np.concatenate(found), wanted)


def test_metadata_survives_with_the_exact_budget(tmp_path: Path) -> None:
    write(tmp_path / "bundle.h5")
    bundle = read_bundle(tmp_path / "bundle.h5")
    assert (bundle.model, bundle.model_sha256, bundle.dataset) == ("baseline", "ab" * 32, "tiny")
    assert bundle.class_names == CLASSES
    assert [condition.spec for condition in bundle.conditions] == [CLEAN, PGD]
    assert bundle.conditions[1].spec.eps == Fraction(8, 255)
    assert (bundle.conditions[0].n, bundle.conditions[0].shape, bundle.conditions[0].has_logits) == (7, (3, 5, 4), True)


def test_conditions_keep_the_order_they_were_written_in(tmp_path: Path) -> None:
    x, y, _ = examples(2)
    names = ["zeta", "alpha", "mu"]
    with writer(tmp_path / "bundle.h5") as bundle:
        for name in names:
            with bundle.condition(BundleCondition(name=name, kind="clean")) as condition:
                condition.append(x, y)
    found = read_bundle(tmp_path / "bundle.h5").conditions
    assert [condition.spec.name for condition in found] == names
    assert not found[0].has_logits


@pytest.mark.parametrize("compression", ["lzf", "gzip"])
def test_images_are_packed_where_that_is_worth_while(tmp_path: Path, compression: str) -> None:
    noise, y, _ = examples(40)
    levels = (noise * 4).round() / 4
    with writer(tmp_path / "bundle.h5", compression=compression) as bundle:
        for spec, x in {CLEAN: levels, PGD: noise}.items():
            with bundle.condition(spec) as condition:
                condition.append(x, y)
    with h5py.File(tmp_path / "bundle.h5") as file:
        clean, attacked = (file[f"conditions/{spec.name}/x"] for spec in (CLEAN, PGD))
        assert (clean.compression, attacked.compression) == (compression, None)
        assert clean.chunks[1:] == attacked.chunks[1:] == clean.shape[1:]
        assert clean.id.get_storage_size() < WORTHWHILE * attacked.id.get_storage_size()


def test_an_interrupted_bundle_leaves_no_file(tmp_path: Path) -> None:
    x, y, logits = examples(3)

    def interrupted() -> None:
        with writer(tmp_path / "bundle.h5") as bundle, bundle.condition(CLEAN) as condition:
            condition.append(x, y, logits)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_rows_point_into_the_clean_condition(tmp_path: Path) -> None:
    x, y, logits = examples(6)
    rows = np.array([4, 1])
    with writer(tmp_path / "bundle.h5") as bundle:
        with bundle.condition(CLEAN) as condition:
            condition.append(x, y, logits)
        with bundle.condition(PGD) as condition:
            condition.append(x[rows], y[rows], logits[rows], rows=rows)
    bundle = read_bundle(tmp_path / "bundle.h5")
    np.testing.assert_array_equal(bundle.rows(PGD.name), rows)
    np.testing.assert_array_equal(bundle.rows("clean"), np.arange(6))


def test_an_example_that_is_appended_again_takes_the_place_of_the_earlier_one(tmp_path: Path) -> None:
    x, y, logits = examples(6)
    later = examples(6, seed=1)[0]
    with writer(tmp_path / "bundle.h5") as bundle:
        with bundle.condition(CLEAN) as condition:
            condition.append(x, y, logits)
        with bundle.condition(PGD) as condition:
            for rows in (np.array([4, 1, 2]), np.array([2, 5, 4]), np.array([1])):
                images = x if rows[0] == 4 else later
                condition.append(images[rows], y[rows], logits[rows], rows=rows)
            assert condition.n == 4
    bundle = read_bundle(tmp_path / "bundle.h5")
    np.testing.assert_array_equal(bundle.rows(PGD.name), [4, 1, 2, 5])
    (found,) = bundle.batches(PGD.name, 6)
    np.testing.assert_array_equal(found.x, later[[4, 1, 2, 5]])
    np.testing.assert_array_equal(found.y, y[[4, 1, 2, 5]])


def bad_arrays() -> dict[str, tuple[tuple[np.ndarray, ...], str]]:
    x, y, logits = examples(3)
    nan = x.copy()
    nan[1, 0, 0, 0] = np.nan
    below = x.copy()
    below[1, 0, 0, 0] = -2e-6
    return {
        "double": ((x.astype(np.float64), y, logits), r"/x: expected float32 .* got float64"),
        "flat": ((x.reshape(3, -1), y, logits), r"/x: expected .*\(N, C, H, W\), got float32 \(3, 60\)"),
        "nan": ((nan, y, logits), "/x: expected finite values"),
        "pixels of 255": ((255 * x, y, logits), r"/x: expected values from 0 to 1, got 0\.\d+ to 25\d\."),
        "below 0": ((below, y, logits), "/x: expected values from 0 to 1, got -2e-06 to"),
        "label": ((x, np.array([0, 1, 3]), logits), "/y: expected labels from 0 to 2, got 0 to 3"),
        "label type": ((x, y.astype(np.int32), logits), "/y: expected int64"),
        "label count": ((x, y[:2], logits), r"/y: expected int64 of shape \(3,\)"),
        "class count": ((x, y, logits[:, :2]), r"/logits: expected float32 of shape \(3, 3\), got float32 \(3, 2\)"),
        "nan logits": ((x, y, logits * np.float32("nan")), "/logits: expected finite values"),
    }


@pytest.mark.parametrize("case", bad_arrays())
def test_bad_arrays_are_refused_when_written(tmp_path: Path, case: str) -> None:
    arrays, message = bad_arrays()[case]
    with pytest.raises(DataError, match=message):  # noqa: SIM117, the writer's exit is part of what is tested
        with writer(tmp_path / "bundle.h5") as bundle, bundle.condition(CLEAN) as condition:
            condition.append(*arrays)
    assert list(tmp_path.iterdir()) == []


def test_a_batch_without_the_logits_of_the_batches_before_is_refused(tmp_path: Path) -> None:
    x, y, logits = examples(3)

    def mixed() -> None:
        with writer(tmp_path / "bundle.h5") as bundle, bundle.condition(CLEAN) as condition:
            condition.append(x, y, logits)
            condition.append(x, y)

    with pytest.raises(DataError, match="expected logits, x, y in every batch, got x, y"):
        mixed()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (PGD.model_copy(update={"clean": "nowhere"}), "attribute clean: .* got 'nowhere'"),
        (CLEAN.model_copy(update={"name": "other", "target_class": 3}), "target_class: expected 0 to 2, got 3"),
        (CLEAN, "written twice"),
    ],
)
def test_a_condition_that_does_not_fit_the_bundle_is_refused(tmp_path: Path, spec: BundleCondition, message: str) -> None:
    x, y, logits = examples(3)

    def unfitting() -> None:
        with writer(tmp_path / "bundle.h5") as bundle:
            for each in (CLEAN, spec):
                with bundle.condition(each) as condition:
                    condition.append(x, y, logits)

    with pytest.raises(DataError, match=message):
        unfitting()


@pytest.mark.parametrize("rows", [[0, 1, 3], [0, 1, -1], [1, 0, 2]])
def test_rows_that_are_not_the_same_examples_are_refused(tmp_path: Path, rows: list[int]) -> None:
    x, _, logits = examples(3)
    y = np.array([0, 1, 2])

    def unpaired() -> None:
        with writer(tmp_path / "bundle.h5") as bundle:
            with bundle.condition(CLEAN) as condition:
                condition.append(x, y, logits)
            with bundle.condition(PGD) as condition:
                condition.append(x, y, logits, rows=np.array(rows))

    with pytest.raises(DataError, match=r"expected 3 int64 rows below 3|expected the labels of 'clean'"):
        unpaired()


def test_images_of_two_sizes_are_refused(tmp_path: Path) -> None:
    x, y, logits = examples(3)

    def mixed() -> None:
        with writer(tmp_path / "bundle.h5") as bundle:
            for name, images in (("clean", x), ("cropped", x[..., 1:])):
                with bundle.condition(BundleCondition(name=name, kind="clean")) as condition:
                    condition.append(images, y, logits)

    with pytest.raises(DataError, match=r"/conditions/cropped/x: expected images of \(3, 5, 4\), got \(3, 5, 3\)"):
        mixed()


@pytest.mark.parametrize("name", ["a/b", "", ".", " x"])
def test_a_name_that_hdf5_would_read_as_a_path_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        BundleCondition(name=name, kind="clean")


def test_a_file_that_is_no_bundle_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("not HDF5")
    for name in ("text.h5", "missing.h5"):
        with pytest.raises(DataError, match=rf"{name}: expected a readable bundle, got .*") as caught:
            read_bundle(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.95])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "bundle.h5"
    write(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(DataError, match=r"bundle\.h5"):
        read_bundle(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.attrs.__setitem__("schema_version", 2), "schema_version: expected 1, got 2"),
        (lambda file: file.attrs.__delitem__("schema_version"), "schema_version: expected 1, got None"),
        (lambda file: file.__delitem__("class_names"), "class_names"),
        (lambda file: file.__delitem__("conditions/clean/y"), "y"),
        (lambda file: file["conditions/clean/y"].__setitem__(0, 9), "labels from 0 to 2, got 0 to 9|labels .* got 1 to 9"),
        (lambda file: file["conditions/clean"].attrs.__setitem__("kind", np.bytes_("odd")), "kind"),
        (lambda file: file["conditions"].clear(), "at least one condition"),
    ],
)
def test_a_damaged_bundle_names_the_place(tmp_path: Path, damage: object, message: str) -> None:
    path = tmp_path / "bundle.h5"
    write(path)
    with h5py.File(path, "r+") as file:
        damage(file)  # type: ignore[operator]
    with pytest.raises(DataError, match=message):
        read_bundle(path)


def linked(file: h5py.File) -> None:
    """One table of labels as those of many conditions."""
    for number in range(500):
        file["conditions"][f"copy {number}"] = file["conditions/clean"]


def unwritten(file: h5py.File) -> None:
    """Labels that were declared and never written."""
    del file["conditions/clean/y"]
    file["conditions/clean"].create_dataset("y", shape=(10**13,), dtype=np.int64, chunks=(1000,))


def large(file: h5py.File) -> None:
    """Images that were declared and never written."""
    del file["conditions/clean/x"]
    file["conditions/clean"].create_dataset("x", shape=(7, 3, 4000, 4000), dtype=np.float32, chunks=(1, 3, 100, 100))


def from_elsewhere(file: h5py.File) -> None:
    del file["conditions/clean/x"]
    layout = h5py.VirtualLayout((7, 3, 5, 4), np.float32)
    layout[:] = h5py.VirtualSource("other.h5", "x", (7, 3, 5, 4))
    file["conditions/clean"].create_virtual_dataset("x", layout)


def link(place: str, target: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[place]
        file[place] = target

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (unwritten, r"expected at most as many labels and rows as the file has room for, \d+, got 10000000000007"),
        (large, "/conditions/clean/x: expected at most as many images as the file has room for, got 7"),
        (linked, r"expected at most as many labels and rows as the file has room for, \d+, got 1004000"),
        (from_elsewhere, "/conditions/clean/x: expected values in the file itself, got some elsewhere"),
        (link("conditions/clean/y", h5py.ExternalLink("other.h5", "/y")), "/conditions/clean/y: expected an object of the file"),
        (link("conditions/clean", h5py.ExternalLink("other.h5", "/c")), "/conditions/clean: expected an object of the file"),
        (
            link("class_names", h5py.SoftLink("/conditions/clean/y")),
            ": /class_names: expected an object of the file itself, got a link",
        ),
    ],
)
def test_a_bundle_that_claims_more_than_it_holds_is_refused(
    tmp_path: Path, change: Callable[[h5py.File], None], message: str
) -> None:
    path = tmp_path / "bundle.h5"
    write(path, n=2000 if change is linked else 7)
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(DataError, match=message):
        read_bundle(path)


def test_more_conditions_than_any_reader_takes_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "bundle.h5", n=1)
    with h5py.File(tmp_path / "bundle.h5", "r+") as file:
        for number in range(1000):
            file["conditions"][f"copy {number}"] = file["conditions/clean"]
    with pytest.raises(DataError, match="expected at least one condition and at most 1000, got 1002"):
        read_bundle(tmp_path / "bundle.h5")


def test_more_classes_than_any_reader_takes_are_refused_when_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected at least one class name and at most 10000, got 10001"):
        BundleWriter(tmp_path / "b.h5", class_names=[str(k) for k in range(10_001)], model="m", model_sha256="")


def test_values_that_are_not_finite_are_found_when_streamed(tmp_path: Path) -> None:
    path = tmp_path / "bundle.h5"
    write(path)
    with h5py.File(path, "r+") as file:
        file["conditions/clean/x"][5, 0, 0, 0] = np.inf
    batches = read_bundle(path).batches("clean", 4)
    next(batches)
    with pytest.raises(DataError, match="/conditions/clean/x: expected finite values"):
        next(batches)


def test_pixels_of_255_are_found_when_streamed(tmp_path: Path) -> None:
    path = tmp_path / "bundle.h5"
    write(path)
    with h5py.File(path, "r+") as file:
        file["conditions/clean/x"][...] = 255 * file["conditions/clean/x"][...]
    with pytest.raises(DataError, match=r"/conditions/clean/x: expected values from 0 to 1, got 0\.\d+ to 25\d"):
        next(read_bundle(path).batches("clean", 4))


def test_an_unknown_condition_lists_the_known_ones(tmp_path: Path) -> None:
    write(tmp_path / "bundle.h5")
    with pytest.raises(DataError, match="expected a condition from clean, pgd Linf 8-255, got 'fgsm'"):
        read_bundle(tmp_path / "bundle.h5").condition("fgsm")


def _edited(path: Path, **attributes: object) -> Path:
    write(path)
    with h5py.File(path, "r+") as file:
        for name, value in attributes.items():
            file["conditions"][PGD.name].attrs[name] = np.bytes_(value) if isinstance(value, str) else value
    return path


@pytest.mark.parametrize("eps_text", ["1e99999999", "1/1e99999999", "1/0", "a lot"])
def test_budget_that_is_none_is_refused_with_its_place(eps_text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="pgd Linf 8-255: eps: expected a budget like"):
        read_bundle(_edited(tmp_path / "bundle.h5", eps_text=eps_text))


def test_budget_is_the_same_as_number_and_as_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"attribute eps: expected '4/255', as in eps_text, got 0\.0313"):
        read_bundle(_edited(tmp_path / "text.h5", eps_text="4/255"))
    with pytest.raises(DataError, match="attribute eps: expected '8/255', as in eps_text, got inf"):
        read_bundle(_edited(tmp_path / "number.h5", eps=np.inf))


def test_place_that_is_no_number_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a readable bundle, got OverflowError"):
        read_bundle(_edited(tmp_path / "bundle.h5", position=np.inf))


def test_either_byte_order_is_read(tmp_path: Path) -> None:
    x, y, logits = write(path := tmp_path / "bundle.h5")
    with h5py.File(path, "r+") as file:
        for name in ("x", "y", "logits"):
            values = file["conditions/clean"][name][:]
            del file["conditions/clean"][name]
            file["conditions/clean"][name] = values.astype(values.dtype.newbyteorder(">"))
    (batch,) = read_bundle(path).batches("clean", 10)
    for found, wanted in zip(batch, (x, y, logits), strict=True):
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype.isnative
