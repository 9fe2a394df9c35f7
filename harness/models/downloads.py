"""Pretrained weights from the hub: taken from the disk at once where the hub does not answer."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants, get_session
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled
from timm.models import PretrainedCfg

from harness.errors import ModelError, first_line

PATIENCE = 5.0
"""Seconds that the hub has to answer one question. The library itself asks six times for each file, and waits between."""
SERVER_ERROR = 500
"""Status codes from here on mean that the hub itself fails."""


@contextmanager
def offline_if_unreachable(config: PretrainedCfg | None) -> Iterator[None]:
    """Puts the hub's library into its offline mode for a block where the hub does not answer: it then takes what it has.

    Args:
        config: Where timm takes the weights from; nothing is asked where that is no hub.

    Raises:
        ModelError: if the block finds nothing on the disk; says why the hub is out of reach.
    """
    why = _why_unreachable() if config is not None and config.hf_hub_id else ""
    if not why:
        yield
        return
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise ModelError(why) from error
    finally:
        constants.HF_HUB_OFFLINE = before


def _why_unreachable() -> str:
    """Asks the hub once; returns why it is out of reach, or nothing."""
    try:
        status = get_session().head(constants.ENDPOINT, timeout=PATIENCE).status_code
    except Exception as error:  # whatever the HTTP library of this version raises, or the hub's own where it is set offline
        return f"no answer within {PATIENCE:g} s: {first_line(error)}"
    return f"the hub answers with HTTP {status}" if status >= SERVER_ERROR else ""
