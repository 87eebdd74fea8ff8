"""What every test may ask for: `on`, each device in turn, and `rng`, seeded by the test's name."""

import zlib

import numpy as np
import pytest
from benches import bench  # noqa: F401  (a fixture)
from fakecuda import driver, launched  # noqa: F401  (fixtures)

from unetcu.device.cpu import exact

DEVICES = ["cpu"]


@pytest.fixture(params=DEVICES)
def on(request):
    """The name of a device; a test that asks for it runs once on each."""
    return request.param


@pytest.fixture
def rng(request):
    """The same numbers at every run, other numbers for every test."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def exact_form():
    """Convolutions on the CPU keep the bounds that every op keeps: no fast form."""
    with exact():
        yield


def pytest_terminal_summary(terminalreporter):
    """One line for all that needs a GPU and did not find one."""
    reasons = [str(r.longrepr[-1]) for r in terminalreporter.stats.get("skipped", [])]
    waiting = [reason for reason in reasons if "no GPU: " in reason]
    if waiting:
        why = waiting[0].partition("no GPU: ")[2]
        terminalreporter.write_line(f"{len(waiting)} tests skipped that need a GPU: {why}")
