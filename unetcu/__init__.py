"""unetcu: the U-Net of 2015, with its own small autograd, from the command line or from Python.

The names below are loaded when they are first used: `import unetcu` costs next to nothing.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

# Every public name, and the module that defines it.
_HOME = {
    "Tensor": "autograd",
    "Op": "autograd",
    "no_grad": "autograd",
    "Parameter": "parameters",
    "Parameters": "parameters",
    "UNet": "unet",
    "SGD": "optim",
    "AdamW": "optim",
    "UnetcuError": "errors",
    "conv3x3": "ops.conv3x3",
    "conv1x1": "ops.conv1x1",
    "maxpool2": "ops.maxpool2",
    "upconv2": "ops.upconv2",
    "crop_concat": "ops.crop_concat",
    "relu": "ops.relu",
    "dropout": "ops.dropout",
    "softmax_loss": "ops.softmax_loss",
    "add": "ops.elementwise",
    "multiply": "ops.elementwise",
    "matmul": "ops.matmul",
    "reshape": "ops.reshape",
    "sum": "ops.reduce",
    "mean": "ops.reduce",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value  # so that this function is asked once
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
