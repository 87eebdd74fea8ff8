"""The operations, one a module; a Tensor's operators are there as soon as any of them is."""

from . import elementwise, matmul  # noqa: F401
