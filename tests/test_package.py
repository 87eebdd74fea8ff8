"""What importing unetcu costs, and what its metadata promises."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import unetcu
from unetcu import device

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
HEAVY = {"scipy", "tifffile", "matplotlib", "PIL", "cupy", "tqdm", "safetensors", "torch"}


def fresh(code: str):
    """What a new Python prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},  # time it with the cached bytecode
    )
    return json.loads(done.stdout)


def packages_after(statement: str) -> set[str]:
    names = fresh(f"import sys, json\n{statement}\nprint(json.dumps(list(sys.modules)))")
    return {name.split(".")[0] for name in names}


ALL_NAMES = "import unetcu; [getattr(unetcu, name) for name in unetcu.__all__]"


def test_import_is_free_and_its_names_cost_little_more_than_numpy():
    # Best of five: a busy machine can only add to what the import needs.
    clock = "import json, time\nimport numpy\nt = time.perf_counter()\n{}\n"
    clock += "print(json.dumps(time.perf_counter() - t))"
    assert min(fresh(clock.format("import unetcu")) for _ in range(5)) <= 0.02
    assert min(fresh(clock.format(ALL_NAMES)) for _ in range(5)) <= 0.3


def test_import_brings_in_nothing_heavy():
    assert packages_after("import unetcu") & {*HEAVY, "numpy"} == set()
    # Building and training a network needs NumPy alone.
    after = packages_after(ALL_NAMES)
    assert "numpy" in after
    assert after & HEAVY == set()


def test_public_names_are_there_and_listed():
    assert set(unetcu.__all__) <= set(dir(unetcu))
    for name in unetcu.__all__:
        assert getattr(unetcu, name) is not None
    with pytest.raises(AttributeError, match="'unetcu' has no attribute 'Tenser'"):
        unetcu.Tenser  # noqa: B018


def test_metadata_and_code_agree():
    assert PROJECT["name"] == "unetcu"
    assert PROJECT["scripts"] == {"unetcu": "unetcu.cli:main"}
    assert PROJECT["requires-python"] == ">=3.11"
    assert PROJECT["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", unetcu.__version__)
    assert f"## [{unetcu.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_few_dependencies_each_with_a_lower_bound_and_none_pinned():
    allowed = {"numpy", "scipy", "tifffile", "safetensors", "pillow", "matplotlib", "tqdm"}
    bounds = [re.fullmatch(r"(\w+)>=[\d.]+", line) for line in PROJECT["dependencies"]]
    assert all(bounds)
    assert {match[1] for match in bounds} <= allowed


def test_the_compiled_module_tells_how_it_was_built_where_it_is_there():
    info = fresh(
        "import json\n"
        "try: from unetcu import _native as n; out = n.build_info() | {'text': n.describe()}\n"
        "except ImportError: out = None\n"
        "print(json.dumps(out))"
    )
    assert (device.native() is None) == (info is None)
    if info is not None:
        assert info["text"].startswith(info["compiler"])
        assert set(info["compiled_for"]) <= set(info["detected"])  # or it could not have run
