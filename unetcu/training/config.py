"""TOML files: a run's config.toml, what --config reads, and recipes."""

import os
import tomllib
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..files.paths import shown

Config = str | os.PathLike[str]
DATA = ("images", "labels", "init_from")  # keys of a run's config.toml that are no settings


def data_in(config: Config) -> tuple[str | None, str | None, str | None]:
    """The images, the labels and the model to start from that a config file names."""
    table = read_toml(Path(config))
    return table.get("images"), table.get("labels"), table.get("init_from")


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a table; DataError in one line if it is not one, or names odd data."""
    try:
        # A name of a file need not be UTF-8; it stands in config.toml as it is.
        table = tomllib.loads(path.read_bytes().decode("utf-8", "surrogateescape"))
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise DataError(f"{shown(path)} is no TOML file: {error}") from error
    for key in DATA:
        if not isinstance(table.get(key, ""), str):
            raise DataError(f"{shown(path)}: {key} = {table[key]!r} is no name of a file")
    return table


def quoted(text: str) -> str:
    """A TOML basic string of this text."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    plain = (
        c if c.isprintable() or "\udc80" <= c <= "\udcff" else f"\\U{ord(c):08X}" for c in escaped
    )
    return '"' + "".join(plain) + '"'
