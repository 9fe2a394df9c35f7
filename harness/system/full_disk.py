"""Errors that say that a disk, or a user's part of it, is full, whichever library raises them."""

import errno
import os

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space left, quota exceeded, a file larger than the process may write."""
GOES_ON = "what is finished is kept, and the same command goes on once there is room"


def says_disk_is_full(text: str) -> bool:
    """Returns whether a message says so; libraries in C and Rust hand on the system's words and not its number.

    Example:
        >>> says_disk_is_full("SafetensorError: I/O error: No space left on device (os error 28)")
        True
    """
    return any(os.strerror(number) in text for number in FULL)
