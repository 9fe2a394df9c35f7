"""How the measurements of the deployed model are summed up."""

from tests.bench.deployed import alternate, percent


def test_contenders_take_turns_forwards_and_backwards() -> None:
    order: list[str] = []
    contenders = {name: lambda name=name: float(len(order.append(name) or order)) for name in "abc"}
    found = alternate(contenders, 3)
    assert "".join(order) == "abccbaabc"
    assert found == {"a": [1, 6, 7], "b": [2, 5, 8], "c": [3, 4, 9]}


def test_ratio_is_that_within_a_round_whatever_the_machine_did_meanwhile() -> None:
    yardstick = [50.0, 5.0, 40.0, 45.0, 48.0]
    assert percent([0.98 * rate for rate in yardstick], yardstick) == "98.0 % (98.0 to 98.0)"


def test_spread_is_told_beside_the_median() -> None:
    assert percent([90.0, 96.0, 98.0, 99.0, 120.0], [100.0] * 5) == "98.0 % (96.0 to 99.0)"
    assert percent([97.5], [100.0]) == "97.5 %"
