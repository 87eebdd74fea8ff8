"""What a measurement was made on: names, versions, clocks. Nothing here is ever missing: what
cannot be found out is left out."""

import platform
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import unetcu
from unetcu import threads
from unetcu.device import native, nvrtc
from unetcu.errors import DeviceError

CLOCKS = ["clocks.sm", "clocks.mem", "clocks.max.sm", "power.limit", "temperature.gpu"]


def said_by(*command: str) -> str:
    """What a program prints, or "" if there is none or it fails."""
    if not shutil.which(command[0]):
        return ""
    here = Path(__file__).resolve().parent
    found = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else ""


def clocks() -> dict[str, str]:
    """Of the GPUs, as nvidia-smi has them now."""
    query = ("--query-gpu=" + ",".join(CLOCKS), "--format=csv,noheader")
    rows = [line.split(", ") for line in said_by("nvidia-smi", *query).splitlines()]
    rows = [row for row in rows if len(row) == len(CLOCKS)]
    return {name: " | ".join(row[i] for row in rows) for i, name in enumerate(CLOCKS) if rows}


def processor() -> str:
    """The CPU's name and how many cores the process may use."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return f"{found[1] if found else platform.processor()}, {threads.count()} cores"


def software() -> dict[str, str]:
    """Versions, and the commit."""
    commit = said_by("git", "rev-parse", "--short=12", "HEAD")
    if commit and said_by("git", "status", "--porcelain", "--untracked-files=no"):
        commit += ", changed"
    found = {
        "unetcu": unetcu.__version__,
        "commit": commit,
        "Python": sys.version.split()[0],
        "NumPy": np.__version__,
        "CPU": processor(),
        "CPU kernels": native() or "none: NumPy",
    }
    with suppress(DeviceError):
        found["NVRTC"] = ".".join(map(str, nvrtc.version()))
    if find_spec("torch"):
        import torch

        found["PyTorch"] = torch.__version__
        if torch.version.cuda:
            found["PyTorch's CUDA"] = torch.version.cuda
            found["cuDNN"] = str(torch.backends.cudnn.version())
    return {name: value for name, value in found.items() if value}


def gpu(index: int = 0) -> dict[str, Any]:
    """Name, driver and compute capability of a GPU that can be used."""
    import cupy

    about = cupy.cuda.runtime.getDeviceProperties(index)
    return {
        "GPU": about["name"].decode(),
        "architecture": int(cupy.cuda.Device(index).compute_capability),
        "multiprocessors": int(about["multiProcessorCount"]),
        "memory, GB": round(about["totalGlobalMem"] / 1e9, 1),
        "driver": said_by("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "driver's CUDA": cupy.cuda.runtime.driverGetVersion(),
        "CUDA runtime": cupy.cuda.runtime.runtimeGetVersion(),
        "CuPy": cupy.__version__,
    }
