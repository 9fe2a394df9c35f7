from harness.cli.catalogue import catalogue


def test_families_of_poisons_and_detectors_are_listed() -> None:
    assert {"backdoor", "gradient_matching"} <= {name for _, name, _ in catalogue("poisons")}
    assert {"activation_clustering", "strip"} <= {name for _, name, _ in catalogue("detectors")}
    assert {"fog"} <= {name for _, name, _ in catalogue("corruptions")}
