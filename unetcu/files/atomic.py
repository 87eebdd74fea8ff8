"""Files that are there whole or not at all.

A file is written under a temporary name in its own folder, flushed to the disk, and only then
given its real name, in one step of the file system. Whenever the process or the machine stops,
the old file or the new one is there, never a part of one.
"""

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from ..errors import DataError
from ..files.paths import shown


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path; when the block ends well, its file gets the name `path`.

    The block writes the whole file and closes it. If the block raises, the temporary file is
    removed and whatever was at `path` is untouched. Where `path` is a symbolic link, the file
    that it points to is replaced and the link stays.

    Raises DataError if the folder is missing, if `path` is there and `overwrite` is false or
    it is no regular file, and for every failure to write (a full disk, no permission).
    """
    target = _target(path, overwrite)
    temporary = target.parent / f"{_prefix(target)}{secrets.token_hex(6)}.tmp"
    try:
        # Made here, so that a folder that cannot be written is refused before the work. Unlike
        # tempfile, this gives the file the permissions that the user's umask asks for.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        _flush_file(temporary)
        _target(path, overwrite)  # the work may have taken hours: look again
        os.replace(temporary, target)
        _flush_folder(target.parent)
    except OSError as error:
        # An error about another file, read inside the block, is not ours to explain.
        if error.filename is not None and Path(error.filename) not in (temporary, target):
            raise
        raise DataError(f"{shown(path)} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def remove_stale(path: str | os.PathLike[str]) -> int:
    """Remove what killed writers of `path` left beside it; return how many files.

    Call it only where no other process can be writing `path`.
    """
    target = Path(os.path.realpath(path))
    prefix, removed = _prefix(target), 0
    with contextlib.suppress(OSError):
        for name in os.listdir(target.parent):
            if name.startswith(prefix) and name.endswith(".tmp"):
                with contextlib.suppress(OSError):
                    os.unlink(target.parent / name)
                    removed += 1
    return removed


def _target(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """The file to replace, or DataError where it must not or cannot be."""
    try:
        target = Path(os.path.realpath(path))
        folder = target.parent.is_dir()
        mode = os.lstat(target).st_mode
    except FileNotFoundError:
        mode = None
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be written: {error.strerror}") from error
    except ValueError as error:  # a null character in the name
        raise DataError(f"{shown(path)} cannot be written: {error}") from error
    if not folder:
        raise DataError(f"{shown(path)} cannot be written: its folder does not exist")
    if mode is not None and not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise DataError(f"{shown(path)} cannot be written: it is {kind}")
    if mode is not None and not overwrite:
        raise DataError(f"{shown(path)} exists already: name another file, or ask to overwrite it")
    return target


def _prefix(target: Path) -> str:
    # A digest, because the name itself may be as long as the file system allows.
    return f".unetcu-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]}-"


def _flush_file(path: Path) -> None:
    with open(path, "r+b") as file:  # Windows flushes only what is open for writing
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Make the new name itself last; some systems (Windows, some network disks) cannot."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
