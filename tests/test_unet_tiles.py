"""A tile at multiples of 2^depth gives the bits that the whole image gives there."""

import numpy as np

from unetcu import no_grad
from unetcu.autograd import Tensor
from unetcu.device.cpu import exact
from unetcu.unet import UNet, valid_sizes


def unlike_tiles(on="cpu"):
    """Tiles at multiples of 2^depth whose logits are not, bit for bit, those of the whole image."""
    rng, found = np.random.default_rng(0), []
    for depth, base, h, w in [(1, 16, 58, 44), (2, 8, 72, 92)]:
        net, b = UNet(depth, base, on=on), 3 * 2 ** (depth + 1) - 4
        x = rng.standard_normal((1, h, w, 1)).astype(np.float32)
        with no_grad(), exact():
            whole = net(Tensor(x, on)).numpy()
            for _ in range(4):
                size = valid_sizes(depth, 1, min(h, w))[rng.integers(0, 3)]
                top, left = (rng.integers(0, (n - size) // 2**depth + 1) * 2**depth for n in (h, w))
                tile = net(Tensor(x[:, top : top + size, left : left + size], on)).numpy()
                out = size - 2 * b
                right = whole[:, top : top + out, left : left + out]
                if tile.tobytes() != right.tobytes():
                    found.append((depth, base, size, int(top), int(left)))
    return found


def test_a_tile_equals_its_part_of_the_whole_image(on):
    assert unlike_tiles(on) == []
