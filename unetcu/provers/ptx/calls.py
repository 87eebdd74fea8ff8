"""Functions that NVRTC left as such (pow of doubles is one) are put in place of their calls."""

import re
from dataclasses import replace

from .text import Entry, Instruction, Table, parse


def kernels(text: str) -> tuple[dict[str, Entry], list[Table]]:
    """Every kernel of a PTX text by name, without calls, and the constant arrays."""
    entries, functions, tables = parse(text)
    return {name: inlined(entry, functions) for name, entry in entries.items()}, tables


def inlined(entry: Entry, functions: dict[str, Entry]) -> Entry:
    """The kernel with the bodies of the functions that it calls in place of the calls.

    What is passed lies in registers named as the parameters are.
    """
    code: list[Instruction] = []
    moved = []
    labels: dict[str, int] = {}
    for number, step in enumerate(entry.code):
        moved.append(len(code))
        called = step.operands[-2] if step.op[0] == "call" and len(step.operands) > 1 else ""
        if called not in functions or step.guard:
            code.append(step)
            continue
        body = inlined(functions[called], functions)
        passed = re.findall(r"[$\w]+", step.operands[0] if len(step.operands) > 2 else "")
        passed += re.findall(r"[$\w]+", step.operands[-1])
        end = f"$end${entry.name}${number}"
        names = {n: f"{n}${entry.name}${number}" for n in (*body.bits, *body.labels)}
        names |= {formal: actual for (formal, _), actual in zip(body.params, passed, strict=True)}
        labels |= {names[n]: len(code) + at for n, at in body.labels.items()}
        entry.bits.update({names[n]: width for n, width in body.bits.items()})
        entry.local += body.local
        code += [_renamed(s, names, end) for s in body.code]
        labels[end] = len(code)
    moved.append(len(code))
    entry.labels = {n: moved[at] for n, at in entry.labels.items()} | labels
    entry.code = code
    return entry


def _renamed(step: Instruction, names: dict[str, str], end: str) -> Instruction:
    if step.op[0] == "ret":
        return replace(step, op=("bra",), operands=(end,))

    def other(text: str) -> str:
        return re.sub(r"[%$\w]+", lambda m: names.get(m[0], m[0]), text)

    return replace(step, operands=tuple(map(other, step.operands)), guard=other(step.guard))
