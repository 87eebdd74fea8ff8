"""The invariants of ARCHITECTURE.md that can be read off the source text.

Each check is a function of source text that returns what it found wrong, and is itself tested
with planted faults at the end of this file.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Lowest first. A module imports from its own layer (without a circle) and from layers below.
LAYERS = {
    "foundations": "unetcu errors rng progress tiles threads cache kernel simtbuild precision",
    "device": "gemm device device.*",
    "engine": "graph autograd parameters",
    "ops": "ops ops.*",
    "network": "unet optim warp",
    "provers": "provers provers.*",
    "images": "files files.* data data.* synth synth.em synth.phase synth.shapes"
    " scores scores.* augment gray resample weightmap",
    "models": "checkpoint colours pictures infer",
    "training": "training training.* memory outputs stackwise",
    "reports": "report report.*",
    "commands": "train predict evaluate check plan kernels",
    "cli": "cli __main__ synth.__main__",
}
# Files and images know nothing of tensors: of the layers below, they import these only.
ONLY_FROM = {"images": {"foundations", "images"}}

IMPORT_NAME = {"pillow": "PIL"}  # where it differs from the name of the distribution
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = {re.split(r"\W", line)[0] for line in PROJECT["dependencies"]}
THIRD_PARTY = {IMPORT_NAME.get(name, name) for name in DECLARED}

UNSAFE_MODULES = {"pickle", "_pickle", "dill", "marshal", "shelve", "joblib", "cloudpickle"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}
MACHINE_PATH = re.compile(r"(?<![\w.~*])/(?:work|root|home|Users)/\w|[A-Z]:\\\\?Users\\\\?\w")
LONGEST = 260


def modules() -> dict[str, Path]:
    """Dotted name within the package ("unetcu" for the package itself) to file."""
    found = {}
    for path in sorted((ROOT / "unetcu").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT / "unetcu").with_suffix("").parts)
        found[name.removesuffix(".__init__").replace("__init__", "unetcu")] = path
    return found


MODULES = modules()


def layer_of(module: str) -> str | None:
    """The layer's name; a module of a sub-package has its own or that of the sub-package."""
    for layer, names in LAYERS.items():
        if {module, f"{module.split('.')[0]}.*"} & set(names.split()):
            return layer
    return None


def imports(module: str, source: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything imported anywhere in a module of the package.

    Names inside the package come out as "unetcu.x.y", of modules where there is such a module.
    What runs only when a module is started with `python -m` is left out.
    """
    tree = ast.parse(source)
    tree.body = [n for n in tree.body if not ast.unparse(n).startswith("if __name__ == '__main__'")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                is_package = module in MODULES and MODULES[module].name == "__init__.py"
                parts = ["unetcu", *([] if module == "unetcu" else module.split("."))]
                cut = len(parts) - node.level + is_package
                base = ".".join([*parts[:cut], *([base] if base else [])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def inside(imported: str) -> str | None:
    """The module of the package that holds an imported name, or None outside the package."""
    if imported.split(".")[0] != "unetcu":
        return None
    name = imported.removeprefix("unetcu").lstrip(".")
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or "unetcu"


def upward(module: str, source: str) -> list[str]:
    order, here = list(LAYERS), layer_of(module)
    if here is None:
        return [f"{module} stands in no layer: give it a place in LAYERS"]
    wrong = []
    for line, imported in imports(module, source):
        target = inside(imported)
        if target is None or imported in ("unetcu._native", "unetcu._simt"):
            continue
        if target == "unetcu" and imported != "unetcu.__version__":
            wrong.append(f"{module}:{line} import {imported}: import it from its own module")
            continue
        there = layer_of(target)
        allowed = ONLY_FROM.get(here, {*order[: order.index(here) + 1]})
        if there not in {*allowed, None}:  # None: said when that module is looked at
            wrong.append(f"{module}:{line} ({here}) imports {target} ({there})")
    return wrong


def foreign(module: str, source: str) -> list[str]:
    """Packages imported that are not declared, and what only device.py may import."""
    wrong = []
    for line, imported in imports(module, source):
        package = imported.split(".")[0]
        if package == "cupy" or imported.startswith(("unetcu._native", "unetcu._simt")):
            known = module.split(".")[0] == "device"
        else:
            known = package in {"unetcu", *sys.stdlib_module_names, *THIRD_PARTY}
        if not known:
            wrong.append(f"{module}:{line} imports {imported}")
    return wrong


def unsafe(module: str, source: str) -> list[str]:
    wrong = [
        f"{module}:{line} imports {imported}"
        for line, imported in imports(module, source)
        if imported.split(".")[0] in UNSAFE_MODULES
    ]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            pickles = any(
                k.arg == "allow_pickle" and getattr(k.value, "value", True) for k in node.keywords
            )
            if name in UNSAFE_CALLS or pickles:
                wrong.append(f"{module}:{node.lineno} {ast.unparse(node)}")
    return wrong


def undocumented(module: str, source: str) -> list[str]:
    tree = ast.parse(source)
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    public = [n for n in tree.body if isinstance(n, kinds) and not n.name.startswith("_")]
    wrong = [f"{module}:{n.lineno} {n.name}" for n in public if not ast.get_docstring(n)]
    empty = not source.strip()  # an empty __init__.py has nothing to tell
    return wrong if empty or ast.get_docstring(tree) else [f"{module} has no docstring", *wrong]


def over_all(check) -> list[str]:
    return [f for name, path in MODULES.items() for f in check(name, path.read_text("utf-8"))]


def texts() -> Iterator[tuple[Path, str]]:
    """Every text file of the project, whether or not git knows of it."""
    folders = ("unetcu", "kernels", "tests", "bench", "docs", ".ci")
    files = [p for f in folders for p in sorted((ROOT / f).rglob("*")) if p.is_file()]
    files += [p for p in sorted(ROOT.iterdir()) if p.is_file() and p.name != ".git"]
    for path in files:
        if "__pycache__" not in path.parts:
            try:
                yield path, path.read_text("utf-8")
            except UnicodeDecodeError:  # a picture or a compiled file
                continue


@pytest.mark.parametrize("check", [upward, foreign, unsafe, undocumented])
def test_invariant_of_the_package(check):
    found = over_all(check)
    assert not found, "\n".join(found)


def test_imports_make_no_circle():
    graph = {
        name: {inside(i) for _, i in imports(name, path.read_text("utf-8"))} - {None, name}
        for name, path in MODULES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" -> ".join(reversed(circle.args[1])))


def test_files_are_short():
    too_long = {
        str(path.relative_to(ROOT)): lines
        for path, text in texts()
        if path.suffix == ".py" and (lines := len(text.splitlines())) > LONGEST
    }
    assert too_long == {}


def test_every_op_has_its_tests():
    stems = {n.removeprefix("ops.") for n in MODULES if re.fullmatch(r"ops\.[a-z]\w*", n)}
    tested = {p.stem.removeprefix("test_") for p in (ROOT / "tests/ops").glob("test_*.py")}
    assert len(stems) >= 8
    assert stems - tested == set()


def test_no_file_names_a_folder_of_somebodys_machine():
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path, text in texts()
        for match in MACHINE_PATH.finditer(text)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("check", "module", "source", "faults"),
    [
        (upward, "errors", '"""D."""\nfrom .device import device', 1),
        (upward, "errors", "def f():\n    from unetcu import autograd", 1),
        (upward, "errors", "import unetcu.unet as u", 1),
        (upward, "ops.relu", "from ..unet import UNet\nfrom ..errors import ShapeError", 1),
        (upward, "weightmap", "from . import autograd\nfrom .rng import stream", 1),
        (upward, "unet", "from unetcu import Tensor", 1),
        (upward, "checkpoint", "from unetcu import __version__", 0),
        (upward, "train", "if __name__ == '__main__':\n    from .cli import main", 0),
        (upward, "train", "def f():\n    from .cli import main", 1),
        (upward, "nowhere", "x = 1", 1),
        (foreign, "unet", "import cupy", 1),
        (foreign, "unet", "from . import _native", 1),
        (foreign, "device", "import cupy.cuda\nfrom . import _native", 0),
        (foreign, "unet", "import torch, numpy, os, PIL.Image", 1),
        (unsafe, "unet", "import pickle", 1),
        (unsafe, "unet", "np.load(f, allow_pickle=True); np.load(f, allow_pickle=False)", 1),
        (unsafe, "unet", "eval(x); exec(x); re.compile(x); model.eval()", 2),
        (undocumented, "unet", "def f(): ...", 2),
        (undocumented, "unet", '"""D."""\nclass A: ...\ndef _g(): ...', 1),
    ],
)
def test_the_checks_find_planted_faults(check, module, source, faults):
    assert len(check(module, source)) == faults


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see /ro" + "ot/x", True),
        ("C:\\Us" + "ers\\me", True),
        ("a/wo" + "rk/b ~/ho" + "me/x", False),
    ],
)
def test_machine_paths_are_recognised(text, found):
    assert bool(MACHINE_PATH.search(text)) is found
