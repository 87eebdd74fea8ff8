"""Finds a kernel's source text and reads from it what the Python side must know.

A kernel's signature and tile sizes are written once, in its .cu file, and read from there: launch
code and kernel cannot drift apart. CuPy itself checks neither the number nor the types of
arguments. Standard library only: the build of the package uses this module too.
"""

import ast
import functools
import re
from pathlib import Path
from typing import NamedTuple

from .errors import KernelError

HERE = Path(__file__).resolve().parent
# In an installed package the sources lie inside it, in a checkout beside it.
KERNELS = HERE / "_kernels" if (HERE / "_kernels" / "simt").is_dir() else HERE.parent / "kernels"

_ENTRY = re.compile(
    r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(([^)]*)\)'
)
_INCLUDE = re.compile(r'^#include "(\w+\.cuh)"$', re.M)
_CONSTANT = re.compile(r"^constexpr (?:int|unsigned) (\w+) = ([^;]+);", re.M)
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
MAP = "V128"  # NumPy's name for 128 bytes: a map of boxes (device/boxes.py)
_DTYPES = {
    "float": "float32",
    "double": "float64",
    "int": "int32",
    "unsigned": "uint32",
    "unsigned int": "uint32",
    "unsigned char": "uint8",
    "unsigned short": "uint16",
    "long long": "int64",
    "unsigned long long": "uint64",
    "TensorMap": MAP,
}


# What real.cuh can make of a kernel file, and the NumPy type whose arrays hold such numbers. The
# first is what a file is compiled for if nothing else is said. bf16: its bits, as NumPy lacks it.
FORMATS = {"fp32": "float32", "bf16": "uint16", "fp16": "float16"}
_NEEDS = re.compile(r"^// Needs:? +sm_(\d+)(a?)\b", re.M)
HALVES_FROM = 80  # sm_80: the instructions that round to bfloat16
_FORMATS = re.compile(r"^// Formats: +(.+)$", re.M)


class Param(NamedTuple):
    """One parameter of an entry point; dtype is a NumPy name, of the elements for a pointer.
    real: its type depends on the format."""

    name: str
    dtype: str
    pointer: bool
    const: bool
    real: bool = False


def units() -> list[str]:
    """Everything that is compiled: each stem, and "STEM:FORMAT" for its further formats."""
    return [u for stem in stems() for u in formats(stem).values()]


@functools.cache
def formats(stem: str) -> dict[str, str]:
    """Format -> unit, for what kernels/<stem>.cu is compiled for: "fp32" alone if it includes no
    real.cuh, else those of its line "// Formats: ...", or all of FORMATS."""
    text = (KERNELS / f"{stem}.cu").read_text("utf-8")
    if given := _FORMATS.search(text):
        return {form: f"{stem}:{form}" for form in given[1].split()}
    known = FORMATS if '#include "real.cuh"' in text else ("fp32",)
    return {form: stem if form == "fp32" else f"{stem}:{form}" for form in known}


def named(entry: str, unit: str) -> str:
    """An entry point as tables call it: with the format, if its unit has one."""
    return f"{entry}{''.join(unit.partition(':')[1:])}"


def needs(unit: str) -> tuple[int, str]:
    """What the line "// Needs: sm_90a" of a unit's file asks for: (90, "a"). Such an architecture
    is needed exactly, one without a letter or a newer one. 0: any."""
    found = _NEEDS.search(source(unit))
    if found:
        return int(found[1]), found[2]
    return (HALVES_FROM if ":" in unit else 0), ""


def suffix(text: str) -> str:
    """What follows the architecture's name when a unit of this text is compiled: "a" or nothing."""
    found = _NEEDS.search(text)
    return found[2] if found else ""


def stems() -> list[str]:
    """Every kernel file without its ending: "conv3x3", "ladder/conv3x3_1_naive", ..."""
    files = (f.relative_to(KERNELS).with_suffix("") for f in KERNELS.rglob("*.cu"))
    return sorted(f.as_posix() for f in files)


@functools.cache
def source(unit: str) -> str:
    """The text of kernels/<stem>.cu with its headers pasted in; #line tells where from.

    Pasted, so that the text alone decides what a compiler sees: caches can be keyed by it. unit:
    a stem, or "STEM:FORMAT".
    """
    stem, _, form = unit.partition(":")
    path = KERNELS / f"{stem}.cu"
    if not path.is_file():
        raise KernelError(f"there is no kernel file {stem}.cu in {KERNELS}")
    seen: set[str] = set()

    def pasted(file: Path) -> str:
        text = file.read_text("utf-8").replace("#pragma once\n", "\n")

        def paste(include: re.Match[str]) -> str:
            name, after = include[1], text.count("\n", 0, include.start()) + 2
            if name in seen:
                return ""
            seen.add(name)
            return f'{pasted(KERNELS / name)}\n#line {after} "{_shown(file)}"'

        return f'#line 1 "{_shown(file)}"\n' + _INCLUDE.sub(paste, text)

    return (f"#define FORMAT_{form.upper()}\n" if form else "") + pasted(path)


def _shown(file: Path) -> str:
    return "kernels/" + file.relative_to(KERNELS).as_posix()


@functools.cache
def entries(unit: str) -> dict[str, tuple[Param, ...]]:
    """Every entry point of a unit, name -> parameters in order."""
    stem, _, form = unit.partition(":")
    text = _COMMENT.sub(" ", (KERNELS / f"{stem}.cu").read_text("utf-8"))
    types = {**_DTYPES, "real": FORMATS.get(form, "float32")}
    return {
        name: tuple(_param(f"{stem}.cu, {name}", types, p) for p in parameters.split(","))
        for name, parameters in _ENTRY.findall(text)
    }


def _param(where: str, types: dict[str, str], declared: str) -> Param:
    const = re.search(r"\bconst\b", declared) is not None
    words = (
        re.sub(r"\bconst\b|\b__restrict__\b|\b__grid_constant__\b", " ", declared)
        .replace("*", " * ")
        .split()
    )
    kind = " ".join(w for w in words[:-1] if w != "*")
    if kind not in types or words.count("*") > 1:
        raise KernelError(f"{where}: cannot read the parameter {declared.strip()!r}")
    return Param(words[-1], types[kind], "*" in words, const, kind == "real")


@functools.cache
def constants(unit: str) -> dict[str, int]:
    """A unit's `constexpr int NAME = ...;` at the start of a line: tile sizes for launches.

    The value is whole numbers, sizeof(real) and earlier names with + - * / and parentheses.
    """
    form = unit.partition(":")[2]
    real = "2" if FORMATS.get(form) in ("uint16", "float16") else "4"
    found: dict[str, int] = {}
    text = _COMMENT.sub(" ", source(unit)).replace("sizeof(real)", real)
    for name, value in _CONSTANT.findall(text):
        try:
            found[name] = _value(ast.parse(value.strip(), mode="eval").body, found)
        except (SyntaxError, KeyError):
            raise KernelError(
                f"{unit.partition(':')[0]}.cu: cannot read constexpr int {name} = {value}"
            ) from None
    return found


def _value(node: ast.expr, names: dict[str, int]) -> int:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.Name):
        return names[node.id]
    if isinstance(node, ast.BinOp):
        a, b = _value(node.left, names), _value(node.right, names)
        if isinstance(node.op, ast.Div):
            return a // b
        operations = {ast.Add: a + b, ast.Sub: a - b, ast.Mult: a * b}
        return operations[type(node.op)]
    raise KeyError(ast.unparse(node))


def tests(stem: str) -> str:
    """The test file that the header of kernels/<stem>.cu names."""
    named = re.search(r"Tested by (tests/[\w/]+\.py)", (KERNELS / f"{stem}.cu").read_text("utf-8"))
    return named[1] if named else "?"


def simt_unit(unit: str) -> str:
    """A unit as a C++ translation unit for the SIMT runtime: with a table of entry points."""
    table = ", ".join(f"SIMT_KERNEL({name})" for name in entries(unit))
    return f'#include "simt.h"\n{source(unit)}\nSIMT_MODULE({table})\n'
