"""kernels/simt/README.md tells the truth: its kernel is run, and says what the page says."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from unetcu import kernel, simtbuild
from unetcu.device import simt
from unetcu.errors import KernelError

SOURCES = Path(__file__).resolve().parent.parent / "kernels"
PAGE = (SOURCES / "simt" / "README.md").read_text("utf-8")
(CODE,) = re.findall(r"```cuda\n(.*?)```", PAGE, re.S)


@pytest.fixture
def turned(tmp_path, monkeypatch):
    """Runs the page's kernel, as given, on n numbers; the result or the error's text."""
    folder = tmp_path / "kernels"
    shutil.copytree(SOURCES, folder, ignore=shutil.ignore_patterns("*.so", "*.cpp"))
    monkeypatch.setattr(kernel, "KERNELS", folder)
    monkeypatch.setattr(simtbuild, "KERNELS", folder)

    def run(mode, code=CODE, n=128):
        (folder / "turn.cu").write_text(code, "utf-8")
        for cached in (kernel.source, kernel.entries, kernel.constants, simt.load):
            cached.cache_clear()
        where = simt.Simt(mode.split(",") if mode else ())
        x, y = where.put(np.arange(n, dtype=np.float32)), where.empty((128,))
        try:
            where.launch("turn", "turn_block", 2, 64, x, y)
        except KernelError as error:
            return str(error)
        return where.records[0][1] if where.records else where.get(y)

    yield run
    monkeypatch.undo()
    for cached in (kernel.source, kernel.entries, kernel.constants, simt.load):
        cached.cache_clear()


def test_the_kernel_is_right(turned):
    for mode in ("", "reverse", "shuffled,guard", "checked"):
        assert np.array_equal(turned(mode), [*range(63, -1, -1), *range(127, 63, -1)])


def test_without_its_barrier_it_says_what_the_page_says(turned):
    code = CODE.replace("  __sync", "  // __sync")
    assert code != CODE
    first, last = slice(0, 32), slice(32, 64)
    for mode, half, other in (("", first, last), ("reverse", last, first)):
        y = turned(mode, code)[:64]
        assert np.isnan(y[half]).all()
        assert np.array_equal(y[other], np.arange(63, -1, -1)[other])
    assert f"`{turned('checked', code)}`" in PAGE


def test_an_array_too_short_says_what_the_page_says(turned):
    for mode in ("guard", "checked"):
        assert f"`{turned(mode, n=100)}`" in PAGE


def test_the_profile_says_what_the_page_says(turned):
    rows = turned("profile")
    assert [r["requests"] for r in rows] == [4] * 4
    assert [r["sectors"] for r in rows if r["kind"].startswith("global")] == [16, 16]
    assert all(r["wavefronts"] == r["ideal"] for r in rows)
