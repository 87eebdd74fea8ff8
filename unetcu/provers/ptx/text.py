"""Reads PTX, the text that NVRTC turns a kernel into, as a list of instructions.

Every instruction keeps its own line and, from the .loc lines that -lineinfo asks for, that of the
kernel's source.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ...errors import KernelError

BITS = {"pred": 1, "b128": 128}
BITS.update({f"{k}{n}": n for k in "busf" for n in (8, 16, 32, 64)})


class PtxError(KernelError):
    """A kernel did, in the PTX machine, what it may not do; the message names both lines."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """`@guard op operands;`"""

    op: tuple[str, ...]  # "ld", "global", "f32"
    operands: tuple[str, ...]
    guard: str  # a register, or ""
    negated: bool  # runs where the guard is false
    text: str
    line: int  # in the PTX
    source: str  # "kernels/relu.cu:12"

    def about(self, what: str) -> str:
        """`what` with where it happened."""
        return f"{self.source or '?'}: {what} (PTX line {self.line}: {self.text})"


@dataclass(slots=True)
class Entry:
    """A kernel: its parameters (name, bytes), code, labels, register widths, memory."""

    name: str
    params: list[tuple[str, int]]
    most_threads: int  # of __launch_bounds__, or 1024
    bounded: bool = False  # there is such a line
    code: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    bits: dict[str, int] = field(default_factory=dict)
    shared: dict[str, int] = field(default_factory=dict)  # name -> offset
    static: int = 0  # bytes of shared memory before the dynamic part
    local: int = 0  # bytes of local memory a thread


@dataclass(slots=True)
class Table:
    """A constant array at file scope."""

    name: str
    values: bytes


_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_ENTRY = re.compile(r"\.(entry|func)\s*(\([^)]*\))?\s*(\w+)\s*\(([^)]*)\)([^{;]*)\{")
_PARAM = re.compile(r"\.param\s+((?:\.\w+\s+(?:\d+\s+)?)+)(\w+)(?:\[(\d+)\])?")
_ARRAY = re.compile(r"\.(\w+)\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([$\w]+)((?:\[\d*\])*)")
_SCOPE = re.compile(r"\{[^{}]*\}")
_LABEL = re.compile(r"([$\w]+)\s*:(?!:)\s*")
_LOC = re.compile(r"\.loc\s+(\d+)\s+(\d+)\s+\d+(?:.*inlined_at\s+(\d+)\s+(\d+))?")


def parse(text: str) -> tuple[dict[str, Entry], dict[str, Entry], list[Table]]:
    """Every kernel of a PTX text by name, the functions that they call, and constant arrays."""
    text = _COMMENT.sub(lambda m: "\n" * m[0].count("\n"), text)
    files = dict(re.findall(r'^\s*\.file\s+(\d+)\s+"(.*?)"', text, re.M))
    entries: dict[str, Entry] = {}
    functions: dict[str, Entry] = {}
    tables, outside, at = [], "", 0
    for head in _ENTRY.finditer(text):
        end = _closing(text, head.end())
        outside += text[at : head.start()]
        at = end
        results, params = (
            [(n, _bytes(t) * int(c or 1)) for t, n, c in _PARAM.findall(text)]
            for text in (head[2] or "", head[4])
        )
        bounds = re.search(r"\.(?:maxntid|reqntid)\s+([\d, ]+)", head[5])
        most = math.prod(map(int, bounds[1].split(","))) if bounds else 1024
        entry = Entry(head[3], [*results, *params], most, bounds is not None)
        (entries if head[1] == "entry" else functions)[entry.name] = entry
        body = _SCOPE.sub(_with_own_labels, text[head.end() : end - 1])
        _read_body(entry, body, text.count("\n", 0, head.end()) + 1, files)
    outside += text[at:]
    shared = re.findall(r"^.*\.shared\b[^;]*(?=;)", outside, re.M)
    for declared in sorted(shared, key=lambda s: "[]" in s):  # the dynamic part comes last
        for entry in entries.values():
            _place_shared(entry, declared)
    for declared in re.findall(r"^[^\n;]*\.(?:const|global)\s[^;]*(?=;)", outside, re.M):
        tables.append(_table(declared))
    return entries, functions, tables


def _bytes(kind: str) -> int:
    """The size of one ".align 4 .u64 .ptr": the word that is a type says it."""
    return next(BITS[w] // 8 for w in kind.replace(".", " ").split() if w in BITS)


def _closing(text: str, at: int) -> int:
    depth = 1
    while depth:
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
    return at


def _with_own_labels(scope: re.Match[str]) -> str:
    """Labels of a scope in braces are its own: inline assembly has the same ones each time."""
    text = scope[0]
    for name in re.findall(r"(?<=[{};\n])\s*(\w+)\s*:(?!:)", text):
        text = re.sub(rf"\b{name}\b", f"{name}${scope.start()}", text)
    return text


def _read_body(entry: Entry, body: str, first: int, files: dict[str, str]) -> None:
    source = ""
    passed: dict[str, str] = {}  # parameters of calls: every call has its own of the same names
    for number, statement in _statements(body, first):
        if statement.startswith((".loc ", ".loc\t")):
            source = _place(statement, files) or source
        elif statement.startswith(".reg"):
            kind, names = re.match(r"\.reg\s+\.(\w+)\s+(.*)", statement, re.S).groups()  # type: ignore[union-attr]
            for name in names.replace(" ", "").split(","):
                base, _, count = name.partition("<")
                each = [f"{base}{i}" for i in range(int(count[:-1]))] if count else [base]
                entry.bits.update(dict.fromkeys(each, BITS[kind]))
        elif statement.startswith(".shared"):
            _place_shared(entry, statement)
        elif statement.startswith(".param"):  # of a call
            name, size, _ = _size(_ARRAY.match(".x " + statement.removeprefix(".param")))
            passed[name] = f"{name}${number}"
            entry.bits[passed[name]] = 8 * size
        elif statement.startswith(".local"):
            entry.local += _size(_ARRAY.match(statement))[1]
        elif statement.endswith(":"):
            if statement[:-1] in entry.labels:
                raise PtxError(f"{entry.name}: two labels {statement} (PTX line {number})")
            entry.labels[statement[:-1]] = len(entry.code)
        elif statement[0] != ".":
            if passed:
                statement = re.sub(r"[$\w]+", lambda m: passed.get(m[0], m[0]), statement)
            entry.code.append(_instruction(statement, number, source))


def _statements(body: str, first: int) -> Iterator[tuple[int, str]]:
    """(line, text) of each statement; a label comes out as "name:"."""
    pending = ""
    for number, line in enumerate(body.split("\n"), first):
        if re.match(r"\s*\.loc\s", line):
            yield number, line.strip()
            continue
        *whole, pending = (pending + " " + line).split(";")
        for piece in [*whole, None]:
            # A brace at the start of a statement opens or closes a scope of register names.
            rest = (pending if piece is None else piece).lstrip("{} \t")
            while label := _LABEL.match(rest):
                yield number, label[1] + ":"
                rest = rest[label.end() :].lstrip("{} \t")
            if piece is None:
                pending = rest
            elif rest:
                yield number, " ".join(rest.split())


def _place(loc: str, files: dict[str, str]) -> str:
    """The "file:line" of a .loc, with the place that called an inlined function."""
    found = _LOC.match(loc)
    if not found or found[2] == "0":  # line 0: the compiler cannot say
        return ""
    where = f"{files.get(found[1], '?')}:{found[2]}"
    if found[3] and found[4] != "0":
        where += f", called at {files.get(found[3], '?')}:{found[4]}"
    return where


def _instruction(statement: str, line: int, source: str) -> Instruction:
    guard = re.match(r"@(!?)\s*([%$\w]+)\s+", statement)
    rest = statement[guard.end() :] if guard else statement
    op, _, operands = rest.partition(" ")
    negated = bool(guard and guard[1])
    parts = tuple(op.replace("::", "_").split("."))
    name = guard[2] if guard else ""
    return Instruction(parts, tuple(split(operands)), name, negated, statement, line, source)


def split(operands: str) -> list[str]:
    """Operands at commas outside brackets: "{%f1, %f2}, [%rd1+8]" gives two."""
    found, depth, current = [], 0, ""
    for c in operands:
        depth += (c in "{[(") - (c in "}])")
        if c == "," and depth == 0:
            found.append(current.strip())
            current = ""
        else:
            current += c
    return [*found, current.strip()] if current.strip() else found


def _size(array: re.Match[str] | None) -> tuple[str, int, int]:
    """(name, bytes, alignment) of a declared array."""
    if array is None:
        raise PtxError("a declaration in the PTX cannot be read")
    size = BITS[array[3]] // 8
    count = math.prod(int(n or 0) for n in re.findall(r"\[(\d*)\]", array[5]))
    return array[4], size * count, int(array[2] or size)


def _place_shared(entry: Entry, declared: str) -> None:
    name, size, alignment = _size(_ARRAY.search(declared[declared.index(".shared") :]))
    entry.static = -(-entry.static // alignment) * alignment
    entry.shared[name] = entry.static
    entry.static += size


def _table(declared: str) -> Table:
    start = re.search(r"\.(const|global)\s", declared)
    array = _ARRAY.search(declared[start.start() :]) if start else None
    name, size, _ = _size(array)
    kind, (_, _, given) = array[3] if array else "", declared.partition("=")
    given = re.sub(r"\b0[fd](?=[0-9A-F]{8})", "0x", given)  # floats by their bits
    values = [int(v, 0) for v in re.findall(r"-?\w+", given)]
    width = BITS[kind] // 8
    data = b"".join((v % (1 << 8 * width)).to_bytes(width, "little") for v in values)
    return Table(name, data.ljust(size, b"\0"))
