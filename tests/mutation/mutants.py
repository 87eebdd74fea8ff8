"""Small faults for CUDA sources: each mutant is the file with one token or statement changed.

relation     < <= > >= == !=  each to its neighbour and its opposite; && and || exchanged
arithmetic   + - * / % << >> & |  each to another
off by one   every whole number n to n+1 and n-1; every index [i] to [i + 1]
operands     a - b to b - a, a / b to b / a, a % b to b % a
update       += to =, -= to +=, ++ to --
choice       c ? a : b to c ? b : a; fmaxf, max and fminf, min exchanged; ! left out
deletion     every statement that is no declaration; every barrier; every guard that returns
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

TOKEN = re.compile(
    r"//[^\n]*|/\*.*?\*/|\"(?:[^\"\\]|\\.)*\"|^[ \t]*#[^\n]*"  # what is never changed
    r"|0[xX][0-9a-fA-F]+[uUlL]*|\d+\.\d*(?:[eE][-+]?\d+)?f?|\d+[uUlL]*|[A-Za-z_]\w*"
    r"|<<=|>>=|\+=|-=|\*=|/=|%=|&=|\|=|\^=|\+\+|--|->|::|<<|>>|<=|>=|==|!=|&&|\|\||[^\s]",
    re.S | re.M,
)
NEIGHBOURS = """\
< <= >=\n<= < >\n> >= <=\n>= > <\n== !=\n!= ==\n&& ||\n|| &&\n& |\n| &\n^ &\n<< >>\n>> <<
+ -\n- +\n* +\n/ *\n% /\n++ --\n-- ++\n+= = -=\n-= = +=\n*= =\n/= *=\n^= =
fmaxf fminf\nfminf fmaxf\nmax min\nmin max"""
SWAPS = {row.split()[0]: row.split()[1:] for row in NEIGHBOURS.splitlines()} | {"!": [""]}
TYPES = {"float", "double", "int", "unsigned", "char", "long", "short", "bool", "auto", "void"}
TYPES |= {"float4", "float2", "int4", "uint4", "T", "const", "constexpr", "uint32_t"}
OPERAND = r"[A-Za-z_]\w*(?:\[[^\][]*\])?|\d+(?:\.\d+f?)?|\([^()]*\)"
BARRIER = re.compile(  # the last: places of a Ring (bands.cuh)
    r"(?:__sync(?:threads|warp)|(?:cp_async|wgmma)_wait<[^>]*>|mbarrier_(?:wait|expect|arrive)"
    r"|\w+\.(?:fill|use|done))\([^;]*\);"
)


@dataclass(frozen=True)
class Mutant:
    """text[start:end] is replaced by `new`; `what` says it in a few words."""

    kind: str
    start: int
    end: int
    new: str
    what: str

    def of(self, text: str) -> str:
        """The mutated file, with the same line numbers."""
        gone = text[self.start : self.end]
        return text[: self.start] + self.new + "\n" * gone.count("\n") + text[self.end :]

    def line(self, text: str) -> int:
        """The line that changes, counted from 1."""
        return text.count("\n", 0, self.start) + 1


def mutants(text: str) -> list[Mutant]:
    """Every mutant of a .cu file, in the order of the text."""
    found = {(m.start, m.end, m.new): m for m in (*_tokens(text), *_operands(text), *_gone(text))}
    return sorted(found.values(), key=lambda m: (m.start, m.end, m.new))


def _code(text: str) -> list[re.Match[str]]:
    kept = [t for t in TOKEN.finditer(text) if not t[0].lstrip().startswith(("//", "/*", '"', "#"))]
    return [t for t in kept if _is_code(text, t.start())]


def _tokens(text: str) -> Iterator[Mutant]:
    tokens = _code(text)
    words = [t[0] for t in tokens]
    angle = _template_brackets(words)
    for i, t in enumerate(tokens):
        word, before = words[i], words[i - 1] if i else ""
        after = words[i + 1] if i + 1 < len(words) else ""
        at = t.start(), t.end()
        if re.fullmatch(r"\d+", word) or re.fullmatch(r"\d+[uUlL]+", word):
            number, end = re.match(r"\d+", word)[0], re.sub(r"^\d+", "", word)
            sizes = _declares(text, t.start())  # a larger array holds what the right one holds
            for n in (int(number) + (not sizes), int(number) - 1):
                if n >= 0 and n != int(number):
                    yield Mutant("off by one", *at, f"{n}{end}", f"{word} to {n}{end}")
        elif word == "]" and _indexes(words, i) and not _declares(text, t.start()):
            yield Mutant("off by one", t.start(), t.start(), " + 1", "[i] to [i + 1]")
        elif word in SWAPS and i not in angle:
            if word == "/" and _declares(text, t.start()):
                continue
            if word in "+-*&" and _is_unary(before, word, after):
                continue
            kind = "relation" if word[0] in "<>=!&|" and word not in ("&", "|", "<<", ">>") else ""
            kind = kind or (
                "choice" if word[0] in "fm!" else "update" if "=" in word else "arithmetic"
            )
            for new in SWAPS[word]:
                yield Mutant(kind, *at, new, f"{word} to {new or 'nothing'}")
    for m in re.finditer(r"\?([^?:;]+):([^?:;,]+?)(?=[;,)])", text):
        a, b = m[1].strip(), m[2].strip()
        if (
            a.count("(") == a.count(")")
            and b.count("(") == b.count(")")
            and _is_code(text, m.start())
        ):
            yield Mutant("choice", m.start(), m.end(), f"? {b} : {a}", f"{a} : {b} exchanged")


def _indexes(words: list[str], i: int) -> bool:
    """Does the bracket that closes at i index an array (and not declare one)?"""
    depth = 0
    for j in range(i, -1, -1):
        depth += (words[j] == "]") - (words[j] == "[")
        if depth == 0:
            declared = j >= 2 and (words[j - 2] in TYPES or words[j - 2] in ("*", "]"))
            return j > 0 and not declared and re.match(r"\w|\]|\)", words[j - 1]) is not None
    return False


def _declares(text: str, at: int) -> bool:
    """Is this bracket the size of an array that is declared here?"""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    types = "|".join(sorted(TYPES))
    inside = line.count("[") > line.count("]") and "=" not in line
    return inside and re.match(rf"\s*(?:__shared__|(?:{types}) \w+\[)", line) is not None


def _is_unary(before: str, word: str, after: str) -> bool:
    """A sign, a pointer's star or an address: nothing to exchange."""
    if before in TYPES or after in ("__restrict__", "const", "*", ">", ",", ")"):
        return True
    return not re.match(r"[\w)\]]", before) or before == "return"


def _template_brackets(words: list[str]) -> set[int]:
    """Where < and > are brackets: static_cast<float>, template <int N>, block_sum<BLOCK>(x)."""
    found: set[int] = set()
    for i, word in enumerate(words):
        if word == "<" and i and re.match(r"[A-Za-z_]", words[i - 1]):
            for j in range(i + 1, min(i + 20, len(words))):
                if words[j] in (";", "{", "&&", "||", "<", "=") and words[i - 1] != "template":
                    break
                if words[j] == ">":
                    call = words[j + 1] in ("(", "{", "::") or words[j + 1] in TYPES
                    if call or words[i - 1] in ("template", "static_cast", "reinterpret_cast"):
                        found |= {i, j}
                    break
    return found


def _operands(text: str) -> Iterator[Mutant]:
    for m in re.finditer(rf"({OPERAND}) (-|/|%) ({OPERAND})(?![\w\[(.])", text):
        if _is_code(text, m.start()):
            swapped = f"{m[3]} {m[2]} {m[1]}"
            yield Mutant("operands", m.start(), m.end(), swapped, f"{m[0]} to {swapped}")


def _gone(text: str) -> Iterator[Mutant]:
    for m in BARRIER.finditer(text):
        if _is_code(text, m.start()):
            yield Mutant("barrier", m.start(), m.end(), ";", f"{m[0]} deleted")
    statement = r"[A-Za-z_*(+-][^;{}]*;"
    for m in re.finditer(rf"(?<=[;{{}})])(\s*(?://[^\n]*\n\s*)*)({statement})", text):
        words = m[2].split(None, 1)
        plain = re.sub(r"//[^\n]*", "", m[2])
        first = re.match(r"\w*", words[0])[0]
        if _depth(text, m.start(2)):
            continue  # within the head of a for
        if first in TYPES | {"template", "extern", "using", "else", "case", "static_assert", "for"}:
            continue
        if BARRIER.match(m[2]) or not _is_code(text, m.start(2)) or "__shared__" in plain:
            continue
        kind = "guard" if re.match(r"if\b.*\breturn;$", plain, re.S) else "deletion"
        short = " ".join(plain.split())
        yield Mutant(kind, m.start(2), m.end(), ";", f"{short[:60]} deleted")


def _depth(text: str, at: int) -> int:
    """How many parentheses are open, since the last brace."""
    since = max(text.rfind("{", 0, at), text.rfind("}", 0, at))
    code = re.sub(r"//[^\n]*", "", text[since + 1 : at])
    return code.count("(") - code.count(")")


def _is_code(text: str, at: int) -> bool:
    line = text[text.rfind("\n", 0, at) + 1 : at]
    # Registers are the compile gate's matter, and a static_assert runs nowhere.
    runs = not re.search(r"__launch_bounds__|\bstatic_assert\b", line)
    return runs and "//" not in line and not line.lstrip().startswith("#")
