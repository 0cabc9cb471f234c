"""Check 1: a product and its gradients; a tape, on graphs where the order of visits matters."""

import string
from collections import Counter, defaultdict

import numpy as np
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake, normal, shapes

# ------------------------------------------------------------------------------------ the product


@st.composite
def two_alike(draw):
    shape = draw(shapes(0, 3))
    return Case(draw(normal(shape)), draw(normal(shape)))


MUL_ALSO = [
    Case(np.array([[1.0, 2, 3], [4, 5, 6]]), np.array([[2.0, 0, -1], [1, 3, 0]])),
    Case(np.array([2.0, -1.0, 0.5]), np.array([3.0, 4.0, 0.0])),
    Case(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0], [7.0, 8.0]])),
    Case(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([10.0, 20.0, 30.0])),
]


def product(gradients):
    """A right product whose vjp returns gradients(a, b, y, dy)."""

    def mul(a, b):
        y = a * b
        return y, lambda dy: gradients(a, b, y, dy)

    return mul


def matrix_product(a, b):
    y = a @ b
    return y, lambda dy: (dy @ b.T, a.T @ dy)


def changes_the_cotangent(a, b, y, dy):
    da = dy
    db = dy * a
    da *= b
    return da, db


def divided(a, b, y, dy):
    return dy * y / a, dy * y / b


MUL_MISTAKES = [
    Mistake(
        "swapped",
        product(lambda a, b, y, dy: (dy * a, dy * b)),
        "the two gradients are in each other's place: the slope along a has the factor a",
        "hold b = 3 still and let a grow by 1: by how much does a · b grow?",
    ),
    Mistake(
        "cotangent ignored",
        product(lambda a, b, y, dy: (b, a)),
        "these are dy/da and dy/db; wanted are dL/da and dL/db: what comes back, dy, is left out",
        "the chain rule multiplies: slope of L along y, times slope of y along a",
    ),
    Mistake(
        "one gradient",
        product(lambda a, b, y, dy: dy * b),
        "vjp does not return a tuple of two: there are two inputs, and each has a gradient",
        "end vjp with `return da, db`, in the order of the arguments",
    ),
    Mistake(
        "nothing for b",
        product(lambda a, b, y, dy: (dy * b, None)),
        "b is treated as a constant: its gradient is None, though y depends on it",
        "None is for inputs without a derivative, such as integers; a and b play the same part",
    ),
    Mistake(
        "derivative of a sum",
        product(lambda a, b, y, dy: (dy, dy)),
        "dy is handed on unchanged, which is right for a + b, not for a · b",
        "if b = 3, a step of 1 in a is a step of 3 in y: where does the 3 enter?",
    ),
    Mistake(
        "both terms in both",
        product(lambda a, b, y, dy: (dy * (a + b), dy * (a + b))),
        "each gradient holds both terms of the product rule: (ab)' = a'b + ab' is for a and b that "
        "move together",
        "a partial derivative holds the other input still: then one of the two terms is 0",
    ),
    Mistake(
        "divided again",
        product(divided),
        "y is divided by a to get b back: where an input is 0, that is 0/0",
        "b is still there: vjp can use every name of the function around it",
    ),
    Mistake(
        "changes the cotangent",
        product(changes_the_cotangent),
        "dy is changed in place; another vjp may hold the same array and would read wrong values",
        "*= writes into the array; da = dy * b makes a new one",
    ),
    Mistake(
        "matrix product",
        matrix_product,
        "@ is the matrix product; here each element is multiplied by its partner alone",
        "use * for the product element by element",
    ),
]


# --------------------------------------------------------------------------------------- the tape

LIMIT = 1000  # calls of one vjp; for one backward, one call is enough


class TooManyCalls(RuntimeError):
    """The vjp of one node was called again and again."""


class Node:
    """As in the exercise; and its vjp counts."""

    def __init__(self, value, inputs=(), vjp=None):
        self.value, self.inputs, self.grad = value, inputs, None
        self._vjp, self._calls = vjp, 0

    def __repr__(self):
        return f"<Node of value {self.value}>"

    def vjp(self, dy):
        self._calls += 1
        if self._calls > LIMIT:
            raise TooManyCalls(f"the vjp of one and the same node was called {LIMIT} times")
        return self._vjp(dy)


OPS = {"+": ops.add, "-": ops.sub, "*": ops.mul}


def record(program, times, leaves):
    """The node that is assigned last, in a program such as ``c = a * b; d = c + b``."""
    nodes = dict(leaves)
    lines = [line.split() for line in program.split(";")]
    for _ in range(times):
        for name, _, left, *more in lines:
            if more:
                sign, right = more
                value, vjp = OPS[sign](nodes[left].value, nodes[right].value)
                nodes[name] = Node(value, (nodes[left], nodes[right]), vjp)
            else:
                nodes[name] = nodes[left]
    return nodes[lines[-1][0]]


def observe(backward, program, cotangent, *, times=1, **values):
    """What is in `.grad` of each leaf after one backward, and after a second."""
    leaves = {name: Node(value) for name, value in values.items()}
    result = record(program, times, leaves)
    seen = {}
    for label in ("", " after a second backward"):
        backward(result, cotangent)
        for name, leaf in leaves.items():
            seen[f"{name}.grad{label}"] = leaf.grad
        seen[f"the cotangent{label} (it must not be changed)"] = cotangent
    for name, leaf in leaves.items():
        seen[f"the value of {name} (it must not be changed)"] = leaf.value
    return seen


@st.composite
def programs(draw):
    """Three leaves, and up to seven lines that each use what is there already."""
    names = ["a", "b", "c"]
    values = dict(zip(names, (round(x, 2) for x in draw(normal((3,)))), strict=True))
    lines = []
    for name in string.ascii_lowercase[3 : 3 + draw(st.integers(1, 7))]:
        left, right = draw(st.sampled_from(names)), draw(st.sampled_from(names))
        lines.append(f"{name} = {left} {draw(st.sampled_from('+-*'))} {right}")
        names.append(name)
    return Case("; ".join(lines), draw(st.sampled_from([1.0, -0.5])), **values)


u, v = np.array([1.0, 2.0, -1.0]), np.array([3.0, 0.5, 2.0])
TAPE_ALSO = [
    Case("c = a * b", 1.0, a=2.0, b=3.0),
    Case("c = a * b", 10.0, a=2.0, b=3.0),
    Case("y = x * x", 1.0, x=3.0),
    Case("c = a * b; d = c + b; f = d * a", 1.0, a=2.0, b=3.0),
    Case("y = x * x; l = y + x; r = y * x; z = l * r", 1.0, x=2.0),
    Case("p = x * x; q = p * p; z = q + p", 1.0, x=2.0),
    Case("p = x * x; q = p * p; z = p + q", 1.0, x=2.0),
    Case("p = x * x; q = x + a; z = p * q", 1.0, x=2.0, a=5.0),
    Case("p = x * x; q = x + a; z = q * p", 1.0, x=2.0, a=5.0),
    Case("p = x + x; q = p + x; r = q + p; z = r + q", 0.5, x=1.0),
    Case("c = a * b; d = c + c; f = d - a", 2 * v, a=u, b=v),
    Case("p = a * b; c = p + b; d = c + p", u - v, a=u, b=v),
    Case("c = a + b; d = c + a", v.copy(), a=u, b=v),
    Case("y = x", 4.0, x=3.0),
    Case("x = x + x", 1.0, times=40, x=1.0),
    Case("x = x * a", 1.0, times=20_000, x=2.0, a=1.0),
]


# ------------------------------------------------ a right backward, whose steps mistakes replace


def consumers_first(node):
    """The graph in an order in which each node comes after everything that uses it."""
    order, found, stack = [], {node}, [(node, iter(node.inputs))]
    while stack:
        here, rest = stack[-1]
        for each in rest:
            if each not in found:
                found.add(each)
                stack.append((each, iter(each.inputs)))
                break
        else:
            order.append(here)
            stack.pop()
    return order[::-1]


def add(old, new):
    return new if old is None else old + new


def add_in_place(old, new):
    if old is None:
        return new
    old += new
    return old


def wrong(*, seed=lambda cotangent: cotangent, order=consumers_first, join=add, keep=add):
    """A backward with one of its steps replaced."""

    def backward(node, cotangent):
        total = {node: seed(cotangent)}
        for each in order(node):
            arrived = total.pop(each)
            if not each.inputs:
                each.grad = keep(each.grad, arrived)
                continue
            for one, share in zip(each.inputs, each.vjp(arrived), strict=True):
                total[one] = join(total.get(one), share)

    return backward


def recursive_order(node):
    order, found = [], set()

    def visit(each):
        if each not in found:
            found.add(each)
            for one in each.inputs:
                visit(one)
            order.append(each)

    visit(node)
    return order[::-1]


def inputs_first_from_zero(node, cotangent):
    total = defaultdict(float)
    total[node] = cotangent
    for each in consumers_first(node)[::-1]:
        if not each.inputs:
            each.grad = add(each.grad, total[each])
            continue
        for one, share in zip(each.inputs, each.vjp(total[each]), strict=True):
            total[one] = total[one] + share


def each_path_alone(node, cotangent):
    if not node.inputs:
        node.grad = add(node.grad, cotangent)
        return
    for each, share in zip(node.inputs, node.vjp(cotangent), strict=True):
        each_path_alone(each, share)


def first_visit_only(node, cotangent):
    found, stack = {node}, [(node, cotangent)]
    while stack:
        here, arrived = stack.pop()
        if not here.inputs:
            here.grad = add(here.grad, arrived)
            continue
        for each, share in zip(here.inputs, here.vjp(arrived), strict=True):
            if each not in found:
                found.add(each)
                stack.append((each, share))


def running_total(node, cotangent):
    """Depth first; each time a share arrives, everything that has arrived so far is passed on."""
    total = {node: cotangent}

    def visit(each):
        shares = each.vjp(total[each]) if each.inputs else ()
        for one, share in zip(each.inputs, shares, strict=True):
            total[one] = add(total.get(one), share)
            visit(one)

    visit(node)
    for each in consumers_first(node):
        if not each.inputs:
            each.grad = add(each.grad, total[each])


def as_they_are_met(take, leaves_at_the_end=False):
    """Each node runs once, when its turn comes in the list of those that have been met."""

    def backward(node, cotangent):
        total, found, todo, leaves = {node: cotangent}, {node}, [node], []
        while todo:
            here = todo.pop(take)
            if not here.inputs:
                leaves.append(here)
                if not leaves_at_the_end:
                    here.grad = add(here.grad, total[here])
                continue
            for each, share in zip(here.inputs, here.vjp(total[here]), strict=True):
                total[each] = add(total.get(each), share)
                if each not in found:
                    found.add(each)
                    todo.append(each)
        if leaves_at_the_end:
            for leaf in leaves:
                leaf.grad = add(leaf.grad, total[leaf])

    return backward


def kept_in_the_nodes(node, cotangent):
    node.grad = cotangent if node.inputs else add(node.grad, cotangent)
    for each in consumers_first(node):
        shares = each.vjp(each.grad) if each.inputs else ()
        for one, share in zip(each.inputs, shares, strict=True):
            one.grad = add(one.grad, share)


def pairs_counted_once(node, cotangent):
    expected = Counter()
    for each in consumers_first(node):
        expected.update(set(each.inputs))
    total, ready = {node: cotangent}, [node]
    while ready:
        here = ready.pop()
        arrived = total.pop(here)
        if not here.inputs:
            here.grad = add(here.grad, arrived)
            continue
        for each, share in zip(here.inputs, here.vjp(arrived), strict=True):
            total[each] = add(total.get(each), share)
            expected[each] -= 1
            if expected[each] == 0:
                ready.append(each)


def leaf_forgotten(node, cotangent):
    if node.inputs:
        wrong()(node, cotangent)


TAPE_MISTAKES = [
    Mistake(
        "overwritten",
        wrong(join=lambda old, new: new),
        "a later contribution replaces an earlier one: the value was used twice, one use is lost",
        "x moves y along every path from x to y at once: what do the paths do, replace or add up?",
    ),
    Mistake(
        "first visit only",
        first_visit_only,
        "a node that is met again is skipped, and what came along the second path with it",
        "a node must be *run* once, but all that arrives at it must be added before that",
    ),
    Mistake(
        "running total",
        running_total,
        "a node passes on its whole total at each arrival, so what came first is passed on twice",
        "on paper: p = x·x; q = p·p; z = q + p. How often does p run, and with what?",
    ),
    Mistake(
        "each path alone",
        each_path_alone,
        "right, but every path is walked on its own: 40 doublings have 2⁴⁰ of them, too many",
        "wait at each node until everything has arrived, add it up, and go on once",
    ),
    Mistake(
        "breadth first",
        as_they_are_met(take=0),
        "a node runs in the order of being met, perhaps before the longer paths have arrived",
        "the distance from the result is no order: a node may run only after all its consumers",
    ),
    Mistake(
        "breadth first, leaves last",
        as_they_are_met(take=0, leaves_at_the_end=True),
        "leaves wait for everything, but the nodes in between run as soon as they are met",
        "the nodes in between need what the leaves get: to wait for all their consumers",
    ),
    Mistake(
        "depth first",
        as_they_are_met(take=-1),
        "the node that was met last runs next, perhaps before its other consumers have run",
        "on paper: p = x·x; q = p·p; z = p + q. Which of p and q must run first, in any program?",
    ),
    Mistake(
        "depth first, leaves last",
        as_they_are_met(take=-1, leaves_at_the_end=True),
        "leaves wait for everything, but the node in between that was met last runs at once",
        "count for each node how many contributions it will get; run it when none is missing",
    ),
    Mistake(
        "inputs first",
        wrong(order=lambda node: consumers_first(node)[::-1]),
        "the walk begins at the leaves, and asks for a cotangent that nothing has sent yet",
        "forward goes from the inputs to the result; which way does the cotangent go?",
    ),
    Mistake(
        "inputs first, from zero",
        inputs_first_from_zero,
        "the walk begins at the leaves: they are done before anything has arrived, so all is 0",
        "print the value of each node in the order of your walk: which should be first?",
    ),
    Mistake(
        "one to begin with",
        wrong(seed=lambda cotangent: 1.0),
        "the walk begins with 1, whatever cotangent is given",
        "the result may itself be the input of something: begin with what comes back from there",
    ),
    Mistake(
        "recursion",
        wrong(order=recursive_order),
        "right, but one function call inside another for each step: Python stops at 1,000 of them",
        "keep your own list of what is still to be visited, and loop until it is empty",
    ),
    Mistake(
        "kept in the nodes",
        kept_in_the_nodes,
        "cotangents of the first backward are still in the inner nodes when the second begins",
        "keep what is on its way in a dictionary of this call; only leaves keep their .grad",
    ),
    Mistake(
        "second replaces first",
        wrong(keep=lambda old, new: new),
        "a second backward replaces what the first has left in .grad; it should add to it",
        "`.grad` may hold something already: None means nothing, anything else is added to",
    ),
    Mistake(
        "added in place",
        wrong(join=add_in_place),
        "+= writes into an array that is also somebody else's cotangent: a + b hands one to both",
        "total = total + share makes a new array",
    ),
    Mistake(
        "pairs counted once",
        pairs_counted_once,
        "x · x uses x twice, but is counted as one use: the count is 0 one arrival too early",
        "count edges, not neighbors: one for each place in `inputs`",
    ),
    Mistake(
        "leaf forgotten",
        leaf_forgotten,
        "if the result is itself a leaf, nothing is left in its .grad",
        "d(x)/d(x) = 1: treat the first node like all others",
    ),
    Mistake(
        "nothing kept",
        lambda node, cotangent: None,
        "no leaf has a gradient afterwards",
        "backward returns nothing; it leaves each gradient in `.grad` of its leaf",
    ),
]

MUL_HINTS = (
    """\
Forward is one multiplication. For backward take plain numbers: b = 3. If a grows by 0.1, by how
much does y = a · b grow? Then ask the same for b.""",
    """\
dy/da = b and dy/db = a. The chain rule multiplies each by dy, which is dL/dy. `vjp` is a function
inside `mul`, so it may use a and b.""",
    "def vjp(dy): return dy * b, dy * a. And mul ends with: return a * b, vjp.",
)
TAPE_HINTS = (
    """\
Keep a dictionary from each node to the sum of what has arrived there; begin with
{node: cotangent}. When may a node run its vjp: at the first arrival, or at the last?""",
    """\
Two loops. The first finds all nodes, with a list of what is still to be looked at, and counts for
each how often it stands in somebody's `inputs`. The second runs nodes that wait for nothing more:
it adds each share to the total of its input, and counts down.""",
    """\
while ready: node = ready.pop(); arrived = total.pop(node). A leaf: add arrived to .grad. Else, for
each input and its share from node.vjp(arrived): total[input] = share, or total[input] + share if
something is there; expected[input] -= 1; if that is 0, ready.append(input).""",
)

EXERCISES = [
    Exercise(
        name="mul",
        reference=ops.mul,
        elementwise=True,
        inputs=two_alike(),
        also=MUL_ALSO,
        mistakes=MUL_MISTAKES,
        hints=MUL_HINTS,
    ),
    Exercise(
        name="backward",
        reference=wrong(),
        inputs=programs(),
        also=TAPE_ALSO,
        mistakes=TAPE_MISTAKES,
        contract=observe,
        hints=TAPE_HINTS,
    ),
]
