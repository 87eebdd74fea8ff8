"""How much memory a step of training or an inference takes, from the shapes alone.

Both functions walk through the network as autograd does and add up what is alive: what each op
keeps for its backward pass, gradients on their way, and the copies an op makes while it works.
Bytes above what Python and the libraries take when they are imported.

The sum of what is alive agrees with the allocations to 1 %. The process takes more, because its
allocator keeps holes between arrays that come and go; the allowances below are for that, and bring
the estimate within about 10 % of the measured peak.
"""

from . import threads
from .gemm import rows_a_part
from .unet import Layer, UNet

FLOAT = 4
TRAINING_ALLOWANCE, INFERENCE_ALLOWANCE, FIXED = 1.2, 1.6, 8_000_000


def inference_bytes(net: UNet, height: int, width: int) -> int:
    """Peak bytes of one forward pass of one (height, width) input, weights included."""
    alive = peak = size((height, width, net.in_channels))
    skips: list[int] = []
    layers = list(net.layers(height, width))
    for layer in layers:
        before, after = alive, size(layer.output)
        if layer.kind.startswith("crop"):  # the skip map and the up-convolved one: both end here
            up = after // 2
            peak = max(peak, before + sum(skips) + after)
            skips.pop()
            alive = after if up else 0
        else:
            double = after if layer.kind.startswith("up") else 0  # patches before they are dealt
            peak = max(peak, before + sum(skips) + after + double + _scratch(layer))
            if layer.kind.startswith("max"):
                skips.append(size(layer.input))
                before -= size(layer.input)
            alive = after
    out = layers[-1].output
    activations = INFERENCE_ALLOWANCE * FLOAT * (peak + 2 * size(out))
    return int(activations) + FLOAT * net.parameters.size + FIXED


def training_bytes(net: UNet, height: int, width: int, batch: int = 1, moments: int = 2) -> int:
    """Peak bytes of a training step of `batch` tiles: weights, gradients, the optimizer's moments,
    the average and the network that is judged with it, and everything backward needs."""
    layers = list(net.layers(height, width))
    kept = {layer.name: _kept(layer) for layer in layers}
    image, out = size((height, width, net.in_channels)), size(layers[-1].output)
    kept["loss"] = 2 * out  # its gradient, and logits until backward is over
    alive = image + sum(kept.values())
    peak, gradient = batch * alive, out
    skips: dict[str, int] = {}
    for layer in reversed(layers):
        where, to_input = layer.name.partition(".")[0], size(layer.input)
        work = _scratch(layer)
        if layer.kind.startswith("conv 3x3"):
            h, w, k = layer.output
            first = layer is layers[0]
            padded = size((h, w, k) if first else (h + 4, w + 4, k))
            passed = 0 if first else to_input
            need = gradient + padded + passed
        elif layer.kind.startswith("crop"):
            passed = size(layer.output) // 2
            skips["down" + where.removeprefix("up")] = to_input
            need = gradient + passed
            alive += to_input
        elif layer.kind.startswith("max"):
            passed = to_input
            need = gradient + 2 * passed  # the pool's own, and its sum with the skip's gradient
        else:
            passed = to_input
            need = 2 * gradient + passed
        peak = max(peak, batch * (alive + need) + work)
        if layer.kind.startswith("max"):
            alive -= skips[where]
        alive -= kept[layer.name]
        gradient = passed
    flat = 4 + moments  # values, gradients, moments, average, the judged network's values
    activations = TRAINING_ALLOWANCE * FLOAT * peak
    return int(activations) + FLOAT * flat * net.parameters.size + FIXED


def size(shape: tuple[int, int, int]) -> int:
    """Numbers in a map."""
    return shape[0] * shape[1] * shape[2]


def _kept(layer: Layer) -> int:
    """What forward keeps of its own making (inputs are other layers' outputs)."""
    out = size(layer.output)
    if layer.kind.startswith("max"):
        return out + out // 4  # the winners' numbers take a byte each
    return 0 if layer.kind.startswith("up-conv") else out


def _scratch(layer: Layer) -> int:
    """Columns of the parts that are being worked on, one per thread."""
    if not layer.kind.startswith("conv 3x3"):
        return 0
    h, w, _ = layer.output
    terms = 9 * layer.input[2]
    return threads.count() * rows_a_part(h, terms, w) * w * terms


def human(count: float) -> str:
    """12.3 GB, 45 MB: decimal units, as memory is sold."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"
