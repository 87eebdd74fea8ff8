"""Matrix product: y[i,k] = sum_c a[i,c] b[c,k], a (I,C), b (C,K) -> y (I,K); a @ b.

da = dy bᵀ        db = aᵀ dy
"""

from ..autograd import Op, Tensor
from ..errors import ShapeError
from ..gemm import product, product_over_rows
from ..kernel import constants


class MatMul(Op):
    """matmul(a, b) -> a @ b for two matrices."""

    @staticmethod
    def shape(a, b):
        if len(a) != 2 or len(b) != 2 or a[1] != b[0]:
            raise ShapeError(f"matmul needs a (I,C) and b (C,K), got a {a}, b {b}")
        return a[0], b[1]

    @staticmethod
    def reference(a, b):
        return a @ b

    def forward_cpu(self, a, b):
        self.a, self.b = a, b
        return product(a, b)

    def backward_cpu(self, dy):
        return product(dy, self.b.T), product_over_rows(self.a, dy)

    def forward_gpu(self, a, b):
        self.a, self.b = a, b
        y = self.device.empty(self.out_shape)
        self._launch("forward", y.shape, a, b, y)
        return y

    def backward_gpu(self, dy):
        da, db, empty = None, None, self.device.empty
        if self.needs[0]:
            da = empty(self.a.shape)
            self._launch("backward_a", da.shape, dy, self.b, da)
        if self.needs[1]:
            slabs = -(-len(self.a) // constants("matmul")["SLAB"])
            part, db = empty((slabs, *self.b.shape)), empty(self.b.shape)
            self._launch("backward_b", part.shape, self.a, dy, part)
            self.device.each("matmul", "matmul_sum", db.size, part, db, part.size, db.size)
        return da, db

    def _launch(self, what, result, *arrays):
        """One block for each tile of the result; of the slabs, if it has three dimensions."""
        size = constants("matmul")
        grid = *result[:-2], *(-(-n // size["TILE"]) for n in result[-2:])
        if 0 not in grid:
            sizes = *self.a.shape, self.b.shape[1]
            self.device.launch("matmul", "matmul_" + what, grid, size["BLOCK"], *arrays, *sizes)


matmul = MatMul.apply
Tensor.operators.update(matmul=matmul)
