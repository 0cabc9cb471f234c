"""Further right solutions of lesson 01, written in other ways."""

import numpy as np


def mul__einsum(a, b):
    y = np.einsum("...,...->...", a, b)

    def vjp(dy):
        return tuple(np.einsum("...,...->...", dy, other) for other in (b, a))

    return y, vjp


def mul__multiply(a, b):
    factors = (b, a)
    return np.multiply(a, b), lambda dy: tuple(np.multiply(factor, dy) for factor in factors)


def backward__order_of_leaving(node, cotangent):
    """Depth first without recursion; the order in which the nodes are left, turned round."""
    order, seen, stack = [], set(), [(node, False)]
    while stack:
        here, leaving = stack.pop()
        if leaving:
            order.append(here)
        elif here not in seen:
            seen.add(here)
            stack.append((here, True))
            stack.extend((each, False) for each in here.inputs)
    arrived = {node: cotangent}
    for here in reversed(order):
        total = arrived[here]
        if here.inputs:
            for each, share in zip(here.inputs, here.vjp(total), strict=True):
                arrived[each] = share if each not in arrived else arrived[each] + share
        elif here.grad is None:
            here.grad = total
        else:
            here.grad = here.grad + total


def backward__by_depth(node, cotangent):
    """In layers, by the longest way to the result; each layer is complete in its turn."""
    order, found = [node], {node}
    for here in order:  # grows while it is gone through
        for each in here.inputs:
            if each not in found:
                found.add(each)
                order.append(each)
    waiting = dict.fromkeys(order, 0)
    for here in order:
        for each in here.inputs:
            waiting[each] += 1
    shares = {here: [] for here in order}
    shares[node].append(cotangent)
    layer = [node]
    while layer:
        below = []
        for here in layer:
            total = shares[here][0]
            for each in shares[here][1:]:
                total = total + each
            if not here.inputs:
                here.grad = total if here.grad is None else here.grad + total
                continue
            for each, share in zip(here.inputs, here.vjp(total), strict=True):
                shares[each].append(share)
                waiting[each] -= 1
                if not waiting[each]:
                    below.append(each)
        layer = below
