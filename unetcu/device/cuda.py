"""The `cuda` device: kernels compiled by NVRTC and launched through CuPy."""

from .gpu import Gpu


class Cuda(Gpu):
    """GPU number `index`."""

    def __init__(self, index: int = 0) -> None:
        super().__init__()
        self.name = f"cuda:{index}"


def problem(index: int = 0) -> str | None:
    """Why GPU number `index` cannot be used, or None."""
    return "no NVIDIA driver was found"
