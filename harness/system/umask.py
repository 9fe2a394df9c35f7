"""Files as others may read them."""

import os
from pathlib import Path


def follow_umask(path: Path) -> None:
    """Gives a file the mode of a new one, for others to read as the user has it: some libraries write for the owner alone."""
    mask = os.umask(0o077)  # the only way to read it is to set it
    os.umask(mask)
    path.chmod(0o666 & ~mask)
