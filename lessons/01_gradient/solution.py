"""Solution 1: a product with its gradients, and a tape that goes backward through any program."""

from collections import Counter


def mul(a, b):
    """y = a · b, element by element.  Returns (y, vjp); vjp(dy) -> (dL/da, dL/db)."""
    y = a * b

    def vjp(dy):
        # y = a · b: the slope in the direction of one factor is the other factor
        da = dy * b
        db = dy * a
        return da, db

    return y, vjp


class Node:
    """A value that remembers how it was made."""

    def __init__(self, value, inputs=(), vjp=None):
        self.value, self.inputs, self.vjp, self.grad = value, inputs, vjp, None


def apply(op, *inputs):
    """Run an op on nodes, and remember it."""
    out, vjp = op(*(each.value for each in inputs))
    return Node(out, inputs, vjp)


def backward(node, cotangent):
    """Add d(node)/d(leaf), times `cotangent`, to `.grad` of every leaf that leads to `node`."""
    # First round: from how many places does each node expect a contribution?
    expected = Counter()
    found, stack = {node}, [node]
    while stack:
        for each in stack.pop().inputs:
            expected[each] += 1
            if each not in found:
                found.add(each)
                stack.append(each)

    # Second round: a node's turn comes when all its contributions are there.
    total = {node: cotangent}
    ready = [node]
    while ready:
        node = ready.pop()
        arrived = total.pop(node)
        if not node.inputs:  # a leaf: this is where gradients are kept
            node.grad = arrived if node.grad is None else node.grad + arrived
            continue
        for each, share in zip(node.inputs, node.vjp(arrived), strict=True):
            # fan-out adds
            total[each] = total[each] + share if each in total else share
            expected[each] -= 1
            if expected[each] == 0:
                ready.append(each)
