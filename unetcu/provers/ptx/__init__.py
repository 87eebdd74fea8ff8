"""A machine that runs PTX, what NVRTC makes of a kernel, with NumPy: for tiny shapes.

`machine` steps through a kernel; `text` parses it; `registers` and `memory` hold its state; `ops`,
`bits`, `float`, `convert`, `access` and `warp` are its instructions, and `hopper` those that only
Hopper has (`mbarrier`, `tma`, `wgmma`); `calls` inlines functions; `device` lets an op run its own
launches on it.
"""

from .machine import PtxModule
from .text import PtxError

__all__ = ["PtxError", "PtxModule"]
