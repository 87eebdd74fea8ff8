"""The same numbers in another shape, in the same (C) order: reshape(x, to=(...)).

One size of `to` may be -1: it is what the others leave.
"""

from ..autograd import Op
from ..errors import ShapeError


class Reshape(Op):
    """reshape(x, to=(...)) -> y of that shape."""

    @staticmethod
    def shape(x, to):
        size, known = 1, 1
        for n in x:
            size *= n
        for n in to:
            known *= n if n != -1 else 1
        free = [i for i, n in enumerate(to) if n == -1]
        if free and known and size % known == 0:
            to = tuple(size // known if n == -1 else n for n in to)
            known = size
        if len(free) > 1 or known != size or min(to, default=0) < 0:
            raise ShapeError(f"{size} numbers of shape {x} cannot be put in shape {tuple(to)}")
        return tuple(to)

    @staticmethod
    def reference(x, to):
        return x.reshape(to)

    def forward_cpu(self, x, to):
        self.x_shape = x.shape
        return x.reshape(self.out_shape)

    def backward_cpu(self, dy):
        return (dy.reshape(self.x_shape),)

    forward_gpu, backward_gpu = forward_cpu, backward_cpu  # no number is touched: no kernel


reshape = Reshape.apply
