"""Every kernel, forward and backward, in hostile conditions: what `provers/cases.py` lists.

Threads take their turns in order, backwards and shuffled; pages that fault lie behind and before
every array; outputs come full of NaN. The same cases run on a GPU where there is one.
"""

import functools
import math
from collections import Counter

import numpy as np
import pytest
from gpus import CUDA
from step_cases import check_steps

from unetcu.device import cpu as cpu_device
from unetcu.device import device
from unetcu.device.simt import Simt
from unetcu.errors import KernelError
from unetcu.kernel import entries, stems
from unetcu.ops._conv3x3_variants import studied
from unetcu.provers.cases import cases
from unetcu.provers.judge import judge, right, run

CASES = list(cases())
MODES = ["simt:guard", "simt:reverse,guard-before", "simt:shuffled,guard", CUDA]
# What no op launches alone, and what is only taken if asked for: tests/ops/test_conv3x3_mma.py.
ELSEWHERE = {"crop_concat_border", *entries("conv3x3_wgmma"), *entries("conv3x3_wgmma_w")}
CHECKED = 2500  # numbers in a case's inputs: the checked build is slow
LAUNCHED: Counter[str] = Counter()
COUNTED: Counter[str] = Counter()


@functools.lru_cache(4)
def prepared(number):
    case = CASES[number]
    arrays, dy = case.draw()
    with np.errstate(all="ignore"):
        return case, arrays, dy, right(case, arrays, dy)


class Blocks:
    """Counts a device's launches, and tells whether all of a case's had several blocks."""

    def __init__(self, where):
        self.where, self.start, self.grids = where, where._start, []

    def __enter__(self):
        def note(call):
            self.grids.append(math.prod(call.grid))
            LAUNCHED[call.entry] += 1
            self.start(call)

        self.where._start = note
        return self

    def __exit__(self, *error):
        del self.where._start  # the class's own again


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: CASES[n].name)
def test_a_case(number, mode):
    case, arrays, dy, (exact, bounds) = prepared(number)
    where = device(mode)
    with Blocks(where) as blocks, studied("conv3x3_mma/wide" if number % 2 else ""):
        judge(case, run(case, where, arrays, dy), exact, bounds)
    COUNTED["cases"] += 1
    COUNTED["several blocks, 16 channels or more"] += (
        case.channels >= 16 and max(blocks.grids, default=0) > 1
    )


SMALL = [n for n, c in enumerate(CASES) if sum(np.prod(s, initial=1) for s in c.shapes) < CHECKED]


@pytest.mark.parametrize("number", SMALL, ids=lambda n: CASES[n].name)
def test_a_case_checked(number):
    """No race, no read of what was not written, nothing out of bounds: and no false alarm."""
    case, arrays, dy, (exact, bounds) = prepared(number)
    with studied("conv3x3_mma/wide" if number % 2 else ""):
        judge(case, run(case, device("simt:checked"), arrays, dy), exact, bounds)
    COUNTED["cases"] += 1


@pytest.mark.parametrize("mode", [*MODES, "simt:checked"])
def test_optimizers_and_fill(mode):
    where = device(mode)
    with Blocks(where):
        check_steps(where)


def test_the_cases_were_many_and_reached_every_kernel(request):
    """Only after a whole run of this file: selected tests alone cannot tell."""
    asked = {item.name for item in request.session.items if "test_kernel_cases" in item.nodeid}
    if len(asked) < 3 * len(CASES):
        return
    assert COUNTED["cases"] >= 2000
    assert 2 * COUNTED["several blocks, 16 channels or more"] >= COUNTED["cases"]
    every = {e for stem in stems() if "/" not in stem for e in entries(stem)}
    assert every - ELSEWHERE == set(LAUNCHED)


def test_the_judge_is_not_kind():
    """Planted faults of many sizes, in each result of a case, are all noticed."""
    rng = np.random.default_rng(0)
    for number in rng.choice(len(CASES), 60, replace=False):
        case, arrays, dy, (exact, bounds) = prepared(int(number))
        with np.errstate(all="ignore"), cpu_device.exact():
            honest = run(case, device("cpu"), arrays, dy)
        judge(case, honest, exact, bounds)
        for i, result in enumerate(honest):
            if not result.size or not np.isfinite(result).all():
                continue
            at = tuple(int(rng.integers(n)) for n in result.shape)
            just_too_far = np.float32(
                exact[i][at] + 1.5 * bounds[i][at] + 1e-3 * (not bounds[i][at])
            )
            for spoil in (np.nan, np.inf, just_too_far):
                wrong = [np.array(r) for r in honest]
                wrong[i][at] = spoil
                with pytest.raises(KernelError, match="are wrong"):
                    judge(case, wrong, exact, bounds)
            wide = [r.astype(np.float64) if j == i else r for j, r in enumerate(honest)]
            with pytest.raises(KernelError, match="float32"):
                judge(case, wide, exact, bounds)


def test_a_mode_that_is_not_there():
    with pytest.raises(Exception, match="its modes are reverse, shuffled"):
        Simt(["sideways"])
