"""A folder of this user for compiled kernels: files named by a hash of what they were made from.

What lies in it is loaded as machine code, so nobody else may write there: the folder is made with
mode 0700, and one that is not ours, or that others can write to, is not used. UNETCU_CACHE=FOLDER
chooses another place; the folder may be deleted at any time.
"""

import os
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from .errors import DeviceError


def folder() -> Path:
    """The cache folder, made if it is not there. Raises DeviceError if it is not safe to use."""
    chosen = os.environ.get("UNETCU_CACHE")
    if chosen:
        place = Path(chosen)
    elif sys.platform == "darwin":
        place = Path.home() / "Library" / "Caches" / "unetcu"
    else:
        base = os.environ.get("XDG_CACHE_HOME", "")
        place = (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "unetcu"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = place.stat()
    except OSError as error:
        raise DeviceError(
            f"cannot make the folder for compiled kernels, {place} ({error.strerror}); "
            "set UNETCU_CACHE to a folder of yours"
        ) from None
    if hasattr(os, "getuid") and (
        found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ):
        raise DeviceError(
            f"others can write to {place}, and what lies there would be run as code; "
            "set UNETCU_CACHE to a folder of yours, or make it yours alone (chmod 700)"
        )
    return place


def load_or_make(key: str, suffix: str, make: Callable[[], bytes]) -> Path:
    """The file called key + suffix; where there is none, `make` gives its bytes first.

    It appears whole or not at all: processes and threads that make it at the same time do not
    disturb each other.
    """
    path = folder() / (key + suffix)
    if not path.is_file():
        content = make()
        handle, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(part, path)
        finally:
            Path(part).unlink(missing_ok=True)
    return path
