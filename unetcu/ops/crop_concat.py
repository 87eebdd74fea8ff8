"""Crop and concatenate: the gray arrows of figure 1.

    y[..., :S] = the centre of the skip map       skip (N,Hs,Ws,S), Hs >= H, Ws >= W
    y[..., S:] = x                                x (N,H,W,C)  ->  y (N,H,W,S+C)

Valid convolutions have cost the skip map fewer border pixels than x, hence the crop (section 2).
With copy=False, for a conv3x3 on tensor cores, y is not made: that reads skip and x where they lie.
Backward hands each part its channels; what was cropped away gets gradient 0.
"""

import numpy as np

from ..autograd import Op
from ..errors import ShapeError
from ..ops._fused import Framed, Pair, plain


class CropConcat(Op):
    """crop_concat(skip, x, copy=True) -> y; see the module's docstring for shapes."""

    @staticmethod
    def shape(skip, x, copy=True):
        fits = len(skip) == len(x) == 4 and skip[0] == x[0]
        margins = [s - t for s, t in zip(skip[1:3], x[1:3], strict=False)]
        if not fits or min(margins) < 0 or any(m % 2 for m in margins):
            raise ShapeError(
                f"crop_concat needs a skip map (N,H,W,S) that is larger than x (N,H,W,C) by an "
                f"even number of pixels (the crop is centred); got skip {skip}, x {x}"
            )
        return *x[:3], skip[3] + x[3]

    @staticmethod
    def reference(skip, x, copy=True):
        return np.concatenate([skip[_centre(skip.shape, x.shape)], x], axis=3)

    def forward_cpu(self, skip, x, copy=True):
        self.skip_shape = skip.shape
        y = self.device.empty(self.out_shape, x.dtype)
        native = self.device.native(x.dtype)
        if native is not None:
            native.crop_concat_forward(skip, x, y)
            return y
        y[..., : skip.shape[3]] = skip[_centre(skip.shape, x.shape)]
        y[..., skip.shape[3] :] = x
        return y

    def backward_cpu(self, dy):
        channels = self.skip_shape[3]
        native = self.device.native(dy.dtype)
        if native is not None:
            dskip = dx = None
            if self.needs[0]:
                dskip = self.device.empty(self.skip_shape, dy.dtype)
                native.crop_concat_backward_skip(dy, dskip)
            if self.needs[1]:
                dx = self.device.empty((*dy.shape[:3], dy.shape[3] - channels), dy.dtype)
                native.crop_concat_backward_x(dy, dx)
            return dskip, dx
        dskip = self.device.zeros(self.skip_shape, dy.dtype)
        dskip[_centre(self.skip_shape, dy.shape)] = dy[..., :channels]
        return dskip, np.ascontiguousarray(dy[..., channels:])

    def forward_gpu(self, skip, x, copy=True):
        skip = plain(skip)
        self.skip_shape = skip.shape
        self.cheap = len(self.sources) > 1 and hasattr(self.sources[1], "again")
        self.given = (skip, copy) if self.cheap else None
        # Is there a max-pool to add the rest of the skip map's gradient? Its convolution was told.
        self.framed = bool(self.sources) and getattr(self.sources[0], "pool", False)
        return self._both(skip, x, copy)

    def again(self):
        """What forward made."""
        skip, copy = self.given
        return self._both(skip, self.sources[1].again(), copy)

    def _both(self, skip, x, copy):
        if not copy:
            return Pair(skip, x)
        y = self.device.empty(self.out_shape, x.dtype)
        self._launch("forward", y.size, skip, x, y, y.size, *skip.shape[1:], *x.shape[1:])
        return y

    def backward_gpu(self, dy):
        if isinstance(dy, Pair) and dy.skip.shape != self.skip_shape:
            return Framed(dy.skip, self.skip_shape), dy.x
        if isinstance(dy, Pair):  # the centre of its skip map has been written
            sizes = *self.skip_shape[1:], *dy.shape[1:3]
            self._launch("border", dy.skip.size, dy.skip, dy.skip.size, *sizes)
            return dy.skip, dy.x
        dskip, dx = None, None
        N, H, W, channels = dy.shape
        S = self.skip_shape[3]
        C = channels - S
        if self.needs[0]:
            dskip = self.device.empty(self.skip_shape, dy.dtype)
            sizes = *self.skip_shape[1:], H, W, C
            self._launch("backward_skip", dskip.size, dy, dskip, dskip.size, *sizes)
        if self.needs[1]:
            dx = self.device.empty((N, H, W, C), dy.dtype)
            self._launch("backward_x", dx.size, dy, dx, dx.size, S, C)
        return dskip, dx

    def _launch(self, what, count, *args):
        self.device.each("crop_concat", "crop_concat_" + what, count, *args)


def _centre(outer, inner):
    """The slices that cut the centred (H, W) of `inner` out of `outer`, both (N,H,W,C)."""
    top, left = (outer[1] - inner[1]) // 2, (outer[2] - inner[2]) // 2
    return slice(None), slice(top, top + inner[1]), slice(left, left + inner[2])


crop_concat = CropConcat.apply
