"""The graph of a computation as text and as a drawing."""

import xml.etree.ElementTree as ElementTree

import numpy as np

from unetcu.autograd import Tensor
from unetcu.ops.elementwise import multiply
from unetcu.ops.reduce import mean
from unetcu.ops.reduce import sum as total
from unetcu.ops.relu import relu


def leaf(values, on="cpu", name=""):
    return Tensor(np.array(values, np.float64), on, needs_grad=True, name=name)


def test_the_graph_as_text(on):
    x, w = Tensor([[1.0, 2]], on, name="pixels"), leaf([[1.0], [1]], on, name="w")
    y = mean(relu(x @ w) + leaf([0.0], on))
    assert str(y.graph()).splitlines() == [
        "#0   pixels     1x2                  input",
        "#1   w          2x1                  parameter",
        "#2   MatMul     1x1                  #0, #1",
        "#3   ReLU       1x1                  #2",
        "#4   parameter  1                    parameter",
        "#5   Add        1x1                  #3, #4",
        "#6   Mean       scalar               #5",
    ]
    assert str(Tensor([1.0], on, name="alone").graph()).split() == ["#0", "alone", "1", "input"]


def test_the_drawing_is_well_formed_and_nothing_overlaps(on):
    x = leaf([1.0], on, name="<b>&\"'")
    h = x * x
    y = total(relu(h) + h * leaf([2.0], on, name="second"))
    drawing = ElementTree.fromstring(y.graph().svg())
    texts = [t.text for t in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert "<b>&\"'" in texts
    assert {"Multiply", "ReLU", "Add", "Sum", "second", "scalar"} <= set(texts)
    boxes = [
        tuple(float(r.get(k)) for k in ("x", "y", "width", "height"))
        for r in drawing.iter("{http://www.w3.org/2000/svg}rect")
        if r.get("fill") != "white"  # the paper
    ]
    assert len(boxes) == 7
    for i, (x0, y0, w, h) in enumerate(boxes):
        assert 0 <= x0 <= float(drawing.get("width")) - w
        assert 0 <= y0 <= float(drawing.get("height")) - h
        for x1, y1, *_ in boxes[:i]:
            assert abs(x0 - x1) >= w or abs(y0 - y1) >= h
    arrows = list(drawing.iter("{http://www.w3.org/2000/svg}path"))
    assert len(arrows) == 2 * 8  # a line and a head for each use of a tensor
    assert y.graph()._repr_svg_() == y.graph().svg()


def test_a_tensor_tells_what_it_is(on):
    x = leaf([1.0], on)
    assert repr(multiply(x, x)) == f"Tensor((1,), float64, on {on}, made by Multiply)"
    assert repr(x) == f"Tensor((1,), float64, on {on})"
