"""The threads of the compiled module, also after a fork; and which code it chooses."""

import os
import subprocess
import sys

import numpy as np
import pytest

from unetcu.device import device

NATIVE = device("cpu").native(np.float32)
pytestmark = pytest.mark.skipif(NATIVE is None, reason="the compiled module was not built")

FORK = """
import os, numpy as np, unetcu._native as n
n.set_threads(4)

def filled(value):
    y = np.empty(1_000_003, np.float32)
    n.fill(y, value)
    return (y == value).all()

assert filled(1)  # workers are there now
child = os.fork()
if child == 0:
    os._exit(0 if filled(2) and filled(3) else 1)
assert filled(4)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_workers_of_its_own():
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=60)


def test_an_unknown_instruction_set_is_an_error_and_no_slow_run():
    ask = "import numpy as np; from unetcu.device import device; device('cpu').native(np.float32)"
    env = {**os.environ, "UNETCU_ISA": "mmx"}
    done = subprocess.run([sys.executable, "-c", ask], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "ImportError: UNETCU_ISA is 'mmx'; this CPU can use " in done.stderr


@pytest.mark.parametrize("count", [-1, 0, 1, 3, 64])
def test_any_thread_count_does_all_parts_once(count):
    y = np.zeros(1_000_003, np.float32)
    NATIVE.set_threads(count)
    try:
        NATIVE.fill(y, 2.5)
    finally:
        NATIVE.set_threads(1)
    assert (y == 2.5).all()
