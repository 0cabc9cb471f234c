"""Exercise 1: a product with its gradients, and a tape that goes backward through any program."""

import numpy as np  # not needed here, but at hand when you try things out


def mul(a, b):
    """y = a · b, element by element.

    a, b: arrays of any shape that broadcast, or plain numbers
    Returns (y, vjp). `vjp(dy)` takes dL/dy, which has the shape of y, and returns the tuple
    (dL/da, dL/db). Both may have the shape of y: what was broadcast, the engine sums back.
    """
    raise NotImplementedError


class Node:
    """A value that remembers how it was made.  (This class and `apply` are complete.)

    value: a number or an array
    inputs: the nodes it was made from, as a tuple; empty for a leaf
    vjp: takes the cotangent of this value, returns a tuple: one cotangent for each of `inputs`
    grad: None, until backward() leaves a gradient here; used on leaves only
    """

    def __init__(self, value, inputs=(), vjp=None):
        self.value, self.inputs, self.vjp, self.grad = value, inputs, vjp, None


def apply(op, *inputs):
    """Run an op on nodes, and remember it: apply(mul, x, y).value is x.value * y.value."""
    out, vjp = op(*(each.value for each in inputs))
    return Node(out, inputs, vjp)


def backward(node, cotangent):
    """Add d(node)/d(leaf), times `cotangent`, to `.grad` of every leaf that leads to `node`.

    node: the result; from it the whole graph can be reached through `.inputs`
    cotangent: dL/d(node), of the shape of node.value
    Returns nothing. The gradients are left in `leaf.grad` (None means that nothing is there yet).

    - One node may be an input of several nodes, and twice an input of the same one.
    - Called a second time, it adds the same gradients once more.
    - It changes no array in place, and calls no vjp more often than it has to.
    - The graph may be 20,000 nodes deep: Python gives up at 1,000 calls inside one another.
    """
    raise NotImplementedError
