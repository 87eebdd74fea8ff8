"""Matrix product: y[i,k] = sum_c a[i,c] b[c,k], a (I,C), b (C,K) -> y (I,K); a @ b.

da = dy bᵀ        db = aᵀ dy
"""

from ..autograd import Op, Tensor
from ..errors import ShapeError
from ..gemm import product, product_over_rows


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


matmul = MatMul.apply
Tensor.operators.update(matmul=matmul)
