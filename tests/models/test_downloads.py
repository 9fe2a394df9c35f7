"""Weights of the hub, where the hub does not answer."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from harness.errors import ModelError
from harness.models import downloads
from harness.models.timm import Timm


class Silent:
    """A session whose connections all fail; counts them."""

    def __init__(self) -> None:
        self.asked = 0

    def head(self, *_: object, **__: object) -> object:
        self.asked += 1
        raise ConnectionError("no route\nto the host")


def test_missing_download_is_found_at_once_and_asked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    silent = Silent()
    monkeypatch.setattr(downloads, "get_session", lambda: silent)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    started, before = time.perf_counter(), constants.HF_HUB_OFFLINE
    with pytest.raises(
        ModelError, match=r"cannot be downloaded \(no answer within 5 s: ConnectionError: no route\); name a file"
    ) as said:
        Timm(arch="resnet18", pretrained=True).build(("a", "b"), resolution=32, seed=0)
    assert time.perf_counter() - started < 10
    assert "\n" not in str(said.value)
    assert silent.asked == 1
    assert before == constants.HF_HUB_OFFLINE


@pytest.mark.parametrize(("status", "offline"), [(200, False), (404, False), (503, True)])
def test_hub_that_answers_is_used(status: int, offline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    session = SimpleNamespace(head=lambda *_, **__: SimpleNamespace(status_code=status))
    monkeypatch.setattr(downloads, "get_session", lambda: session)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with downloads.offline_if_unreachable(SimpleNamespace(hf_hub_id="timm/a")):
        assert constants.HF_HUB_OFFLINE is offline
    assert not constants.HF_HUB_OFFLINE


def test_weights_of_no_hub_ask_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Silent()
    monkeypatch.setattr(downloads, "get_session", lambda: silent)
    for config in (None, SimpleNamespace(hf_hub_id=None)):
        with downloads.offline_if_unreachable(config):
            pass
    assert silent.asked == 0
