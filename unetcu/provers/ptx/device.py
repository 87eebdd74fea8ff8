"""A device that runs each launch on the PTX machine: ops are proved there with their own launches,
at shapes of a few elements."""

import functools

from ...cache import load_or_make
from ...device import nvrtc
from ...device.boxes import Boxes
from ...device.gpu import Call
from ...device.simt import Simt
from ...errors import KernelError
from ...kernel import entries, needs, source
from .machine import PtxModule


class PtxDevice(Simt):
    """Arrays as on simt; kernels as NVRTC compiles them for the architecture, such as "sm_80", or
    for the one that they are written for."""

    def __init__(self, arch: str = "sm_80") -> None:
        super().__init__()
        self.name, self._arch = f"ptx:{arch}", arch

    def _start(self, call: Call) -> None:
        given = []
        for p, a in zip(entries(call.unit)[call.entry], call.args, strict=True):
            if p.pointer and p.const:  # the machine then refuses to write there
                a = self.get(a).view()
                a.flags.writeable = False
            elif p.pointer and not a.flags.writeable:
                raise KernelError(f"{call.entry} writes to {p.name}, which is read-only")
            elif isinstance(a, Boxes):
                plain = self.get(a.array).view()
                plain.flags.writeable = False
                a = a._replace(array=plain)
            given.append(self.get(a) if p.pointer else a)
        number, letter = needs(call.unit)
        loaded = module(call.unit, f"sm_{number}{letter}" if letter else self._arch)
        loaded.launch(call.entry, call.grid, call.block, given, call.shared)


@functools.cache
def module(unit: str, arch: str) -> PtxModule:
    """The PTX of a unit (kernel.py), from the user's cache folder or compiled now."""
    given = source(unit), f"kernels/{unit}.cu", arch
    made = load_or_make(
        nvrtc.cache_key(*given), ".ptx", lambda: nvrtc.compiled(*given).ptx.encode()
    )
    return PtxModule(made.read_text("utf-8"))
