"""How a file is named in a message: on one line, whatever its name holds."""

import os


def shown(path: str | bytes | os.PathLike[str]) -> str:
    """The path as text that prints on one line of any terminal.

    Line breaks, control and direction marks and bytes that are not UTF-8 are written as escapes
    (``\\n``, ``\\u202e``, ``\\xff``); every other character stays as it is.
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in os.fsdecode(path))


def _escaped(c: str) -> str:
    if "\udc80" <= c <= "\udcff":  # how Python carries a byte of a name that is not UTF-8
        return f"\\x{ord(c) - 0xDC00:02x}"
    return c.encode("unicode_escape").decode("ascii")
