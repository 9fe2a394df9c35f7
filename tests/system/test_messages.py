from harness.system.messages import counted


def test_one_thing_is_counted_in_the_singular_and_none_in_the_plural() -> None:
    assert [counted(count, "flip") for count in (0, 1, 1000)] == ["0 flips", "1 flip", "1000 flips"]
