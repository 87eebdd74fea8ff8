"""How a file is named in a message: on one line, whatever its name holds."""

import os
import shlex


def shown(path: str | bytes | os.PathLike[str]) -> str:
    """The path as text that prints on one line of any terminal.

    Line breaks, control and direction marks and bytes that are not UTF-8 are written as escapes
    (``\\n``, ``\\u202e``, ``\\xff``); every other character stays as it is.
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in os.fsdecode(path))


def for_shell(path: str | bytes | os.PathLike[str]) -> str:
    """The path as a word of a command to be typed, on one line whatever it holds."""
    text = os.fsdecode(path)
    if text.startswith("-"):
        text = f"./{text}"
    if text.isprintable():
        return shlex.quote(text)
    escaped = (
        chr(b) if 32 <= b < 127 and b not in b"'\\" else f"\\x{b:02x}" for b in os.fsencode(text)
    )
    return "$'" + "".join(escaped) + "'"


def _escaped(c: str) -> str:
    if "\udc80" <= c <= "\udcff":  # how Python carries a byte of a name that is not UTF-8
        return f"\\x{ord(c) - 0xDC00:02x}"
    return c.encode("unicode_escape").decode("ascii")
