# %% [markdown]
# # 02 · Activations · 激活函数
#
# Between any two layers of a network stands a function of one number. It is one line of code, and
# without it a hundred layers are worth one. This lesson takes the three that D2 prints, finds
# where the printed lines break in floating point, derives their slopes, and measures what a slope
# that is too small does to a deep network.

# %% [markdown]
# ## 1. Card
#
# You need the chain rule and the gradient check of lesson 01. At the end you have written sigmoid,
# tanh and relu with their gradients, and you can say why a deep network of sigmoids stands still.

# %%
from scratchlm.lessons import card, exercises, figure, show, solution, source, table

card(2)

# %% [markdown]
# ## 2. Hook
#
# Task: from three characters of Python's own help texts, tell whether the next one is a vowel. Four
# networks, each with six hidden layers of 32 units. Same data, same steps, same seed. The only
# difference is the function between the layers (and that relu starts with weights $\sqrt{2}$ times
# as large, for a reason that section 8 gives). The help texts of another Python than 3.11 differ a
# little, and so will some digits.

# %%
import math
import string
import textwrap
from itertools import pairwise

import numpy as np

import scratchlm
from scratchlm import Tensor, ops, optim, plot
from scratchlm import functional as F
from scratchlm.data import corpus

solved = solution(2)
text = corpus("topics")
kind = np.full(len(text.vocabulary), 27)  # 0 to 25: a letter, 26: space, 27: anything else
for i in range(len(text.vocabulary)):
    character = text.vocabulary.decode([i]).lower()
    if character in string.ascii_lowercase:
        kind[i] = string.ascii_lowercase.index(character)
    elif character.isspace():
        kind[i] = 26
VOWELS = [string.ascii_lowercase.index(letter) for letter in "aeiou"]


def examples(ids):
    """x [n, 3]: three characters, as rows of one table of 84. y [n]: is the next a vowel?"""
    k = kind[ids]
    x = np.stack([k[:-3], 28 + k[1:-2], 56 + k[2:-1]], axis=1)
    return x, np.isin(k[3:], VOWELS).astype(np.float32)


X, Y = examples(text.train)
X_held, Y_held = examples(text.validation)

ACTIVATIONS = {"none": lambda x: x, "sigmoid": F.sigmoid, "tanh": F.tanh, "relu": F.relu}
GAIN = {"none": 1.0, "sigmoid": 1.0, "tanh": 1.0, "relu": math.sqrt(2)}  # section 8 tells why


def start(depth, gain=1.0, width=32, seed=2):
    """Random weights: pairs (weight, bias), the first for the 84 rows, then [out, in]."""
    rng = np.random.default_rng(seed)
    sizes = [84] + [width] * depth + [1]
    parameters = []
    for layer, (inside, outside) in enumerate(pairwise(sizes)):
        spread = gain / math.sqrt(inside if layer else 3)  # three rows are added up
        w = spread * rng.standard_normal((outside, inside) if layer else (inside, outside))
        parameters.append(Tensor(w.astype(np.float32), requires_grad=True))
        parameters.append(Tensor(np.zeros(outside, np.float32), requires_grad=True))
    return parameters


def forward(parameters, x, act):
    """The scores [n], and what stands before each activation, a list of [n, width]."""
    first, bias, *rest = parameters
    before = [F.embedding(x, first).sum(axis=1) + bias]  # [n, 3, width] -> [n, width]
    for w, b in zip(rest[::2], rest[1::2], strict=True):
        before.append(F.linear(act(before[-1]), w, b))
    return before.pop().reshape(-1), before


def train(parameters, act, steps, rate, seed=2, watch=None):
    """Momentum on batches of 256. Returns the losses."""
    rng = np.random.default_rng(seed)
    optimizer, losses = optim.Momentum(parameters, lr=rate), []
    for step in range(steps):
        if watch is not None:
            watch(step)
        at = rng.integers(0, len(Y), 256)
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(forward(parameters, X[at], act)[0], Y[at])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def accuracy(parameters, act):
    """Right answers on the held-out text."""
    scores = forward(parameters, X_held, act)[0].numpy()
    return float(((scores > 0) == (Y_held > 0.5)).mean())


always_no = float((Y_held < 0.5).mean())
deep = {}
for name, act in ACTIVATIONS.items():
    network = start(6, GAIN[name])
    losses = train(network, act, 800, 0.1)
    deep[name] = (losses[0], float(np.mean(losses[-50:])), accuracy(network, act))
table(
    [[name, first, last, f"{right:.2%}"] for name, (first, last, right) in deep.items()],
    columns=["between the layers", "loss, first", "loss, last 50", "right, held out"],
)
print(f"always saying no is right in {always_no:.2%}")
share = float(Y.mean())  # of vowels
knows_share = -share * math.log(share) - (1 - share) * math.log(1 - share)
print(f"the loss of a model that knows only how frequent vowels are: {knows_share:.4f}")
assert deep["sigmoid"][2] == always_no
assert abs(deep["sigmoid"][1] - knows_share) < 0.02
assert deep["none"][2] < 0.86
assert min(deep["tanh"][2], deep["relu"][2]) > 0.865

# %% [markdown]
# tanh and relu learn. Nothing between the layers: as good as a single layer, and no better. And
# sigmoid has learned to say no, always, which is the right answer more often than not. Its loss is
# that of a model that knows how frequent vowels are and nothing else. Yet tanh is a sigmoid,
# stretched and shifted. How can one of them learn and the other not? Section 8 measures it, and
# section 12 repairs it without leaving the sigmoid.

# %% [markdown]
# ## 3. Formula
#
# **As printed** in D2 §4.3.1, §4.3.2 and §4.3.3:
#
# $$
# \sigma(x) = \frac{1}{1 + e^{-x}}
# $$
#
# $$
# \mathrm{ReLU}(x) = \max(0, x)
# $$
#
# $$
# \tanh(x) = \frac{e^{2x} - 1}{e^{2x} + 1}
# $$
#
# **As published**: the same (sigmoid: Goodfellow et al. 2016, eq. 3.30; relu: Nair & Hinton 2010,
# Glorot et al. 2011; tanh: LeCun et al. 1998, §4.4). On paper all three are right. Two of them,
# typed in as printed, are not right in floating point:
#
# | as typed | float32 | float64 | what comes out |
# |---|---|---|---|
# | $\tanh$, large $x$ | $x > 44.36$ | $x > 354.89$ | NaN, where 1 is right |
# | $\tanh$, small $x$ | near 0 | near 0 | digits lost; below 4.1e-8 (5.6e-17) just 0 |
# | $\sigma$, very negative $x$ | $x < -88.72$ | $x < -709.78$ | overflow; 0 by luck |
#
# Section 9 finds each of these numbers. D2 prints no derivatives. They are in section 6.
#
# | symbol | variable | shape |
# |---|---|---|
# | $x$ | `x` | any; each element by itself |
# | $y = \sigma(x)$, $\tanh(x)$, $\mathrm{ReLU}(x)$ | `y` | that of $x$ |
# | $\bar{y} = \partial L / \partial y$ | `dy` | that of $x$ |
# | $\bar{x} = \partial L / \partial x$ | `dx` | that of $x$ |
#
# D2 also says what each is for: sigmoid for classification, tanh for regression, relu for fast
# convergence; and §4.4 sets out to fit a straight line with relu (its program then leaves the relu
# out). Section 9 puts the second and the last to the test, section 8 the third.

# %% [markdown]
# ## 4. By hand
#
# A 2×3 input, and a pocket calculator with an $e^x$ key. First the three functions.

# %%
x = np.array([[0.0, 1.0, -1.0], [2.0, -3.0, 0.5]])  # [2, 3]
rows, values = [], {"sigmoid": [], "tanh": [], "relu": []}
for number in x.ravel():
    e, w = math.exp(-number), math.exp(2 * number)
    values["sigmoid"].append(1 / (1 + e))
    values["tanh"].append((w - 1) / (w + 1))
    values["relu"].append(max(0.0, number))
    last = [f"{each[-1]:.4f}" for each in values.values()]
    rows.append([f"{number:g}", f"{e:.4f}", last[0], f"{w:.4f}", *last[1:]])
table(rows, columns=["x", "exp(-x)", "1/(1+exp(-x))", "exp(2x)", "(…-1)/(…+1)", "max(0, x)"])
values = {name: np.array(each).reshape(2, 3) for name, each in values.items()}
assert values["sigmoid"].round(4).tolist() == [[0.5, 0.7311, 0.2689], [0.8808, 0.0474, 0.6225]]
assert values["tanh"].round(4).tolist() == [[0.0, 0.7616, -0.7616], [0.964, -0.9951, 0.4621]]

# %% [markdown]
# Then the slopes, each from the output alone, and the gradient for a cotangent `dy`. The formulas
# are those that section 6 derives.

# %%
dy = np.array([[1.0, 2.0, -1.0], [0.5, 3.0, -2.0]])
s, t, r = values["sigmoid"], values["tanh"], values["relu"]
slopes = {"y (1 - y)": s * (1 - s), "1 - y²": 1 - t * t, "1 if x > 0": (x > 0) * 1.0}
rows = [
    [f"{number:g}", f"{above:g}"]
    + [f"{f.ravel()[i]:.4f} → {above * f.ravel()[i]:+.4f}" for f in slopes.values()]
    for i, (number, above) in enumerate(zip(x.ravel(), dy.ravel(), strict=True))
]
table(rows, columns=["x", "dy", "σ: y(1-y) → dx", "tanh: 1-y² → dx", "relu: slope → dx"])
assert (dy * slopes["y (1 - y)"]).round(4).tolist() == [
    [0.25, 0.3932, -0.1966],
    [0.0525, 0.1355, -0.47],
]
assert (dy * slopes["1 - y²"]).round(4)[0].tolist() == [1.0, 0.8399, -0.42]

# %% [markdown]
# Look at $x = -3$. The cotangent there is the largest, 3. Sigmoid passes on 0.1355 of it, tanh
# 0.0296, relu nothing. Where a function is flat, what comes from above does not get through.

# %% [markdown]
# ## 5. In code
#
# Loops first, as printed. Python's own `math.exp` does not let an overflow pass:


# %%
def sigmoid_loops(x):
    return [1 / (1 + math.exp(-number)) for number in x]


def tanh_loops(x):
    return [(math.exp(2 * number) - 1) / (math.exp(2 * number) + 1) for number in x]


def relu_loops(x):
    return [max(0.0, number) for number in x]


for loops, number in [(sigmoid_loops, -710.0), (tanh_loops, 355.0)]:
    try:
        loops([number])
    except OverflowError as error:
        print(f"{loops.__name__}([{number:g}]): OverflowError: {error}")

# %% [markdown]
# NumPy does not stop. It puts infinity in the place and goes on. So the exponent must never be
# large and positive. The trick is the same in both cases: multiply the fraction above and below by
# one number, which changes nothing on paper.
#
# **Sigmoid.** For $x < 0$ multiply by $e^x$:
#
# $$
# \frac{1}{1 + e^{-x}} = \frac{e^x}{e^x + e^x e^{-x}} = \frac{e^x}{1 + e^x}
# $$
#
# The left form is safe for $x \ge 0$, the right one for $x < 0$. Both denominators are
# $1 + e^{-|x|}$. The numerators, $1 = e^0$ and $e^x$, are both $e^{\min(x, 0)}$. One line:
#
# $$
# \sigma(x) = \frac{e^{\min(x, 0)}}{1 + e^{-|x|}}
# $$
#
# **tanh.** Take $x \ge 0$ and multiply by $e^{-2x}$:
#
# $$
# \frac{e^{2x} - 1}{e^{2x} + 1} = \frac{1 - e^{-2x}}{1 + e^{-2x}}
# $$
#
# tanh is odd, so for negative $x$ take $|x|$ and give the sign back. That cures the overflow. Near
# 0 there is another trouble: $e^{-2x}$ is nearly 1, and $1 - e^{-2x}$ loses the digits that
# matter. NumPy has `expm1(z)`, which is $e^z - 1$ computed without that loss. With
# $m = e^{-2|x|} - 1$, between $-1$ and 0:
#
# $$
# \tanh|x| = \frac{-m}{2 + m}
# $$

# %%
source(solved.sigmoid)
source(solved.tanh)
source(solved.relu)

# %% [markdown]
# The library's sigmoid has the same line, cut in two, and its tanh is that of NumPy. All three
# versions agree:

# %%
source(ops.activations.stable_sigmoid)

# %%
numbers = np.random.default_rng(2).normal(0, 5, 1000)
for loops, mine, library in [
    (sigmoid_loops, solved.sigmoid, ops.sigmoid),
    (tanh_loops, solved.tanh, ops.tanh),
    (relu_loops, solved.relu, ops.relu),
]:
    by_loops, by_numpy, by_library = loops(numbers), mine(numbers)[0], library(numbers)[0]
    assert np.allclose(by_loops, by_library, rtol=1e-12, atol=0)
    assert np.allclose(by_numpy, by_library, rtol=1e-14, atol=0)
    apart = np.abs(by_numpy - by_library).max()
    print(f"{mine.__name__:8} loops, NumPy and the library agree; the last two to {apart:.0e}")

# %% [markdown]
# ### tanh is a sigmoid
#
# Put $2x$ into sigmoid, stretch it by 2, move it down by 1:
#
# $$
# 2\sigma(2x) - 1 = \frac{2}{1 + e^{-2x}} - \frac{1 + e^{-2x}}{1 + e^{-2x}}
# = \frac{1 - e^{-2x}}{1 + e^{-2x}} = \tanh(x)
# $$
#
# ### And without any of them
#
# Two linear layers with nothing between are one linear layer, $(xA)B = x(AB)$. The network of the
# hook without activation has six layers of 32, 8,033 numbers in all, and can say no more than 84
# numbers could, one for each row of its table.

# %%
assert np.allclose(2 * solved.sigmoid(2 * numbers)[0] - 1, solved.tanh(numbers)[0], atol=1e-15)

network = start(6)
first = network[0].numpy()  # [84, 32]
through = first
for w in network[2::2]:
    through = through @ w.numpy().T  # [84, 32] [32, 32] -> [84, 32], at last [84, 1]
collapsed = through[X_held[:1000]].sum(axis=(1, 2))  # one number for each of three characters
difference = np.abs(collapsed - forward(network, X_held[:1000], ACTIVATIONS["none"])[0].numpy())
size = sum(p.numpy().size for p in network)
print(f"{size:,} numbers, or {through.size}: the scores differ by {difference.max():.0e}")
assert size == 8033
assert difference.max() < 1e-5

# %% [markdown]
# ## 6. Backward, derived
#
# ### Step 0: why it is only a product
#
# $y_i$ depends on $x_i$ and on no other element. So the Jacobian has the slopes on its diagonal and
# zeros everywhere else:
#
# $$
# \frac{\partial y_i}{\partial x_j} = [i = j]\, f'(x_i)
# $$
#
# The chain rule sums over all outputs, and one term is left:
#
# $$
# \bar{x}_j = \sum_i \bar{y}_i \frac{\partial y_i}{\partial x_j} = \bar{y}_j f'(x_j)
# $$
#
# As matrices, $\bar{x} = J^T \bar{y}$ with $J = \mathrm{diag}(f'(x))$: element by element, `dy`
# times the slope. What remains is the slope.

# %%
flat, above = x.ravel(), dy.ravel()  # the example of section 4, six numbers
J = np.zeros((6, 6))
h = 1e-6
for j in range(6):
    step = h * np.eye(6)[j]
    J[:, j] = (ops.sigmoid(flat + step)[0] - ops.sigmoid(flat - step)[0]) / (2 * h)
assert np.count_nonzero(J - np.diag(np.diag(J))) == 0
by_sum = [sum(above[i] * J[i, j] for i in range(6)) for j in range(6)]
assert np.allclose(by_sum, above * np.diag(J), rtol=1e-14)
print("36 derivatives, 6 of them not zero:", np.diag(J).round(4))


def measured(f, x, h=1e-5):
    """The slope of f at each element of x by central differences."""
    return (f(x + h) - f(x - h)) / (2 * h)


# %% [markdown]
# ### Sigmoid
#
# Call the denominator $c = 1 + e^{-x}$. Then $y = 1 / c$, and a reciprocal has the derivative
# $-1/c^2$:
#
# $$
# \frac{dy}{dx} = -\frac{1}{c^2} \cdot \frac{dc}{dx}
# $$
#
# The exponential brings down the inner derivative $-1$:
#
# $$
# \frac{dc}{dx} = -e^{-x}
# $$
#
# The two minus signs cancel:
#
# $$
# \frac{dy}{dx} = \frac{e^{-x}}{c^2}
# $$
#
# This is right, and still has the exponential in it. But $e^{-x} = c - 1$:
#
# $$
# \frac{dy}{dx} = \frac{c - 1}{c^2} = \frac{1}{c} - \frac{1}{c^2} = y - y^2 = y(1 - y)
# $$
#
# The slope is a function of the *output*. Backward keeps $y$ and computes no exponential.

# %%
c = 1 + np.exp(-x)
dc = -np.exp(-x)
line_1 = -1 / c**2 * dc  # the reciprocal, then the inside
line_2 = np.exp(-x) / c**2  # minus times minus
line_3 = (c - 1) / c**2  # exp(-x) = c - 1
line_4 = 1 / c - 1 / c**2  # one fraction, taken apart
y = 1 / c
line_5 = y * (1 - y)
for line in (line_1, line_2, line_3, line_4, line_5):
    assert np.allclose(line, measured(lambda x: 1 / (1 + np.exp(-x)), x), atol=1e-9)
print(line_5.round(4))

# %% [markdown]
# How large can it get? Complete the square:
#
# $$
# y(1 - y) = \frac{1}{4} - \left( y - \frac{1}{2} \right)^2 \le \frac{1}{4}
# $$
#
# A quarter, at $y = 1/2$, and less everywhere else. Keep that number.
#
# ### tanh
#
# Write $w = e^{2x}$, so $dw/dx = 2w$. The numerator is $u = w - 1$, the denominator $v = w + 1$.
# Both have the derivative $2w$. The quotient rule:
#
# $$
# \frac{dy}{dx} = \frac{2w\,v - u\,2w}{v^2} = \frac{2w(v - u)}{v^2} = \frac{4w}{v^2}
# $$
#
# because $v - u = 2$. Now the other way round, from $1 - y^2$:
#
# $$
# 1 - \frac{u^2}{v^2} = \frac{(v - u)(v + u)}{v^2} = \frac{2 \cdot 2w}{v^2} = \frac{4w}{v^2}
# $$
#
# because $v + u = 2w$. The same. So
#
# $$
# \frac{dy}{dx} = 1 - y^2
# $$
#
# A second road goes through the sigmoid, $y = 2s - 1$ with $s = \sigma(2x)$. Two factors 2 come
# out, one from the front, one from the inside: $dy/dx = 2 \cdot 2 \cdot s(1 - s)$. With
# $s = (1 + y)/2$ that is $4 \cdot \frac{1 + y}{2} \cdot \frac{1 - y}{2} = 1 - y^2$.

# %%
w = np.exp(2 * x)
u, v = w - 1, w + 1
road_one = (2 * w * v - u * 2 * w) / v**2  # the quotient rule
shorter = 4 * w / v**2  # v - u = 2
y = u / v
from_output = 1 - y * y
s = 1 / (1 + np.exp(-2 * x))
road_two = 2 * 2 * s * (1 - s)
for line in (road_one, shorter, from_output, road_two):
    assert np.allclose(line, measured(np.tanh, x), atol=1e-9)
print(from_output.round(4))

# %% [markdown]
# The slope of tanh is 1 at 0, four times that of sigmoid, and less everywhere else.
#
# ### relu
#
# To the right of 0 the function is $x$, to the left it is 0:
#
# $$
# x > 0: \quad \frac{(x + h) - x}{h} = 1, \qquad x < 0: \quad \frac{0 - 0}{h} = 0
# $$
#
# At 0 the two sides do not agree. From the right $(h - 0)/h = 1$, from the left
# $(0 - 0)/(-h) = 0$. There is no derivative: it is a *kink*. Central differences take the mean of
# both sides, $(h - 0)/(2h) = 1/2$, and nobody uses that. The custom is 0, so that a unit whose
# input is exactly 0 counts as off:
#
# $$
# \frac{dy}{dx} = [x > 0]
# $$

# %%
f = lambda x: float(np.maximum(x, 0))
h = 1e-6
at_0 = float(ops.relu(np.zeros(1))[1](np.ones(1))[0])
print(f"from the right {(f(h) - f(0)) / h}, from the left {(f(0) - f(-h)) / h},")
print(f"central {(f(h) - f(-h)) / (2 * h)}, the op says {at_0}")
assert (f(h) - f(-h)) / (2 * h) == 0.5
assert at_0 == 0

# %% [markdown]
# All three vjps, each beside the forward line it undoes, and the numbers of section 4:

# %%
source(solved.sigmoid, "vjp")
source(solved.tanh, "vjp")
source(solved.relu, "vjp")

# %%
for name, slope in zip(["sigmoid", "tanh", "relu"], slopes.values(), strict=True):
    _, vjp = getattr(solved, name)(x)
    assert np.allclose(vjp(dy), dy * slope, rtol=1e-12)
    assert np.allclose(vjp(dy), getattr(ops, name)(x)[1](dy), rtol=1e-12)
    print(f"{name:8}", (vjp(dy).round(4) + 0.0).tolist())

# %% [markdown]
# ## 7. Gradient check, live
#
# Random numbers, random cotangents, float64:

# %%
from scratchlm.gradcheck import error_by_step, gradcheck

random = np.random.default_rng(2).standard_normal((3, 4))
checks = []
for name in ("sigmoid", "tanh", "relu"):
    for owner, op in [("solution", getattr(solved, name)), ("library", getattr(ops, name))]:
        report = gradcheck(op, random)
        checks.append([name, owner, f"{report.error:.1e}", "right" if report else "WRONG"])
        assert report
table(checks, columns=["op", "of the", "largest relative error", "verdict"])

# %% [markdown]
# Now an input with a 0 in it. The op says 0 there, the differences say 1/2. Which of them is
# wrong? Neither, and the checker knows that:

# %%
report = gradcheck(solved.relu, np.array([[1.0, 0.0, -2.0], [0.5, -0.5, 3.0]]))
print(report)
assert not report
assert report.inputs[0].diagnosis.name == "kink"

# %% [markdown]
# So check at inputs that lie off the kink. How far off? As far as the step is long: between
# $-h$ and $h$ central differences look at both sides and report a slope between 0 and 1.

# %%
h = 1e-5
places = np.array([-2, -1, -0.5, 0, 0.5, 1, 2])
table(
    [
        ["central difference", *measured(lambda x: np.maximum(x, 0), places * h, h).round(6)],
        ["the op", *ops.relu(places * h)[1](np.ones(7))],
    ],
    columns=["x / h", *(f"{p:g}" for p in places)],
)
assert np.allclose(
    measured(lambda x: np.maximum(x, 0), places * h, h), [0, 0, 0.25, 0.5, 0.75, 1, 1]
)

# %% [markdown]
# The curve of the error against the step, for all three. One element of the input is 0.01.
# **Look for** the V of sigmoid and tanh, and for what relu does instead. **Question:** a straight
# line has no second and no third derivative. What error do central differences make on it, and up
# to which step?

# %%
near = random.copy()
near[0, 0] = 0.01
errors = {}
for name in ("sigmoid", "tanh", "relu"):
    steps, errors[name] = error_by_step(getattr(solved, name), near)
with plot.style():
    ax = plot.gradcheck_curve(steps, errors)
    ax.set_title("Central differences against the derived gradient")
show(
    ax,
    alt="Error against step, both axes logarithmic. Sigmoid and tanh are V-shaped with their "
    "lowest points near 1e-5. Relu lies at the bottom up to a step of 0.01 and jumps up "
    "beyond it.",
)
assert errors["relu"][steps < 0.009].max() < 1e-12
assert errors["relu"][steps > 0.02].max() > 1e-2
for name in ("sigmoid", "tanh"):
    assert 1e-7 < steps[errors[name].argmin()] < 1e-3
    assert errors[name].min() < 1e-9

# %% [markdown]
# None at all, until the step reaches over the kink, at $h = 0.01$. Then the differences are wrong
# by a good part of the slope, and the gradient was right all along.

# %% [markdown]
# ## 8. See it
#
# ### Three functions and their slopes
#
# **Look for** the height of the slopes at 0 and at $\pm 4$. **Question:** what is left of a
# cotangent after *one* sigmoid, at best? After one tanh at $x = 4$?

# %%
line = np.linspace(-6, 6, 601)
styles = {
    "sigmoid": ("-", "#0072B2"),
    "tanh": ("--", "#D55E00"),
    "relu": (":", "#000000"),
    "none": ("-.", "#009E73"),
}
with plot.style():
    fig, (left, right) = figure(1, 2, width=8.4, height=3.5)
    for name in ("sigmoid", "tanh", "relu"):
        dash, color = styles[name]
        out, vjp = getattr(ops, name)(line)
        left.plot(line, out, linestyle=dash, color=color, label=name, linewidth=2)
        right.plot(line, vjp(np.ones(601)), linestyle=dash, color=color, label=name, linewidth=2)
    left.set(xlabel="x", ylabel="y", ylim=(-1.3, 2.2), title="the function")
    right.set(xlabel="x", ylabel="dy/dx", ylim=(-0.05, 1.15), title="its slope")
    right.axhline(0.25, color="#8a8a8a", linewidth=0.8)
    right.annotate("1/4", (-5.9, 0.265), fontsize=8.5, color="#5a5a5a")
    for ax in (left, right):
        ax.grid(axis="y")
    left.legend(loc="upper left")
show(
    fig,
    alt="Left: sigmoid rises from 0 to 1, tanh from -1 to 1, relu is 0, then a straight line. "
    "Right: the slope of sigmoid is a low hill of height one quarter, that of tanh a hill of "
    "height 1, that of relu jumps from 0 to 1 at x = 0.",
)
at_4 = float(ops.tanh(np.array([4.0]))[1](np.ones(1))[0])
print(f"tanh at 4: {ops.tanh(np.array([4.0]))[0][0]:.6f}, slope {at_4:.6f}")
assert 0.0013 < at_4 < 0.0014

# %% [markdown]
# A quarter, at best. And after one tanh at 4, which is no extreme number, 0.13%. Where the curve is
# flat the unit is *saturated*: it has decided, and hardly listens to corrections.
#
# ### The product through depth
#
# A chain of sigmoids, $z_{l+1} = \sigma(z_l)$, has the derivative
#
# $$
# \frac{\partial z_n}{\partial z_0} = \prod_{l=0}^{n-1} \sigma'(z_l)
# \le \left( \frac{1}{4} \right)^n
# $$

# %%
chain = []
for n in (1, 2, 4, 8, 12):
    z = Tensor(np.zeros(1), requires_grad=True)
    out = z
    for _ in range(n):
        out = F.sigmoid(out)
    out.backward(np.ones(1))
    chain.append([n, float(z.grad.numpy()[0]), 0.25**n])
    assert chain[-1][1] <= 0.25**n
table(chain, columns=["sigmoids in a row", "derivative", "0.25 to that power"], digits=3)

# %% [markdown]
# In a network weights stand between them, $z_{l+1} = W \sigma(z_l)$, and each brings a factor too.
# Here are networks of 12 hidden layers, 64 wide, on the vowels, before any training. Their weights
# have variance $1/64$ (the gain is 1): such a matrix keeps the length of a vector on average. So
# what is lost is lost in the activations. Two more networks have larger weights: relu with a gain
# of $\sqrt{2}$, and sigmoid with a gain of 4.
#
# **Look for** the slopes of the lines. **Question:** relu passes half of the numbers, with slope 1,
# and cuts the other half. By which factor does the length of the gradient shrink in one layer?

# %%
at = np.random.default_rng(2).integers(0, len(Y), 512)


def by_layer(name, gain):
    """Norm of the gradient before each of 12 activations."""
    scores, before = forward(start(12, gain, width=64), X[at], ACTIVATIONS[name])
    for z in before:
        z.retain_grad()
    F.binary_cross_entropy_with_logits(scores, Y[at]).backward()
    return np.array([np.linalg.norm(z.grad.numpy()) for z in before])


root = math.sqrt(2)
cases = [("sigmoid", 1.0), ("tanh", 1.0), ("relu", 1.0), ("relu", root), ("sigmoid", 4.0)]
profile = {case: by_layer(*case) for case in cases}
factor = {case: float((p[0] / p[-1]) ** (1 / 11)) for case, p in profile.items()}
layers = np.arange(1, 13)
with plot.style():
    fig, ax = figure(width=6.8, height=3.9)
    for (name, gain), mark in zip(cases, ["o", "s", "^", "v", "x"], strict=True):
        dash, color = styles[name]
        if (name, gain) == ("relu", root):
            dash, color = "-", "#CC79A7"
        if gain == 4:
            dash, color = "--", "#56B4E9"
        label = f"{name}, gain {'√2' if 1 < gain < 2 else f'{gain:g}'}"
        ax.semilogy(layers, profile[name, gain], dash, marker=mark, color=color, label=label)
    quarter = profile["sigmoid", 1.0][-1] * 0.25 ** (12 - layers)
    ax.semilogy(layers, quarter, color="#8a8a8a", linewidth=0.8)
    ax.annotate("a quarter per layer", (2.2, 4e-10), fontsize=8.5, color="#5a5a5a")
    ax.set(xlabel="hidden layer (12 is next to the loss)", ylabel="norm of the gradient")
    ax.set_title("What arrives at each layer, before training")
    ax.set_xticks(layers)
    ax.grid(axis="y")
    ax.legend(loc="lower right")
show(
    fig,
    alt="Norm of the gradient, logarithmic, at twelve layers. Sigmoid falls from 5e-3 at the "
    "last layer to 4e-10 at the first, along the line of a quarter per layer. Relu with gain 1 "
    "falls by a factor of fifty, tanh by six, relu with gain root two stays level.",
)
table(
    [
        [name, f"{gain:.4g}", norms[-1], norms[0], factor[name, gain]]
        for (name, gain), norms in profile.items()
    ],
    columns=["activation", "gain", "last layer", "first layer", "factor per layer"],
)
assert 0.2 < factor["sigmoid", 1.0] < 0.25
assert abs(factor["relu", 1.0] - math.sqrt(1 / 2)) < 0.03
assert abs(factor["relu", root] - 1) < 0.04
assert factor["tanh", 1.0] > 0.8
assert profile["sigmoid", 1.0][0] < 1e-8

# %% [markdown]
# By $\sqrt{1/2} = 0.707$: half of the *squares* is left. A gain of $\sqrt{2}$ gives it back, which
# is why relu networks are started with variance $2/n$ (He et al. 2015), and why `GAIN` in the hook
# has that entry. So D2 §4.3.2 is right that relu helps convergence, if it is started well. tanh
# loses little, since small numbers meet its slope of 1.
#
# Sigmoid loses three quarters and a bit in each layer. The first layer gets less than a
# ten-millionth of what the last one gets. A gain of 4 makes up for the quarter only at $x = 0$, and
# with such weights $x$ does not stay there: the factor is 0.6, not 1.
#
# And the same product works forward. Let two examples differ by a little before the first layer;
# each layer multiplies the difference by $W$ and by the slope. How much do 512 examples differ
# from each other, layer by layer?

# %%
_, before = forward(start(12, 1.0, width=64), X[at], F.sigmoid)
spread = [float(z.numpy().std(axis=0).mean()) for z in before]
shrink = (spread[5] / spread[0]) ** (1 / 5)
print(f"standard deviation over the examples: {spread[0]:.2g} before the first sigmoid,")
print(f"{spread[5]:.2g} before the sixth, which is {shrink:.3f} per layer; the twelfth sees")
print(f"{spread[-1]:.1g}, and that is float32 rounding")
assert 0.2 < shrink < 0.25
assert spread[-1] < 1e-5

# %% [markdown]
# That is the hook explained. After six such layers all examples look nearly alike, and the last
# layer can only say the same to all of them.
#
# ### Dead units
#
# relu has a danger of its own. If a unit is negative for *every* input, its slope is 0 for every
# input. No gradient comes to its weights, so they stay as they are: it is dead. One step that is
# too long is enough. We train two hidden layers of 64 relus and count units that are off for all of
# 4,096 examples.
#
# **Look for** the step at which units die. **Question:** does a dead unit come back when training
# goes on?

# %%
sample = X_held[:4096]


def count_dead(parameters):
    _, before = forward(parameters, sample, F.relu)
    return sum(int((z.numpy() <= 0).all(axis=0).sum()) for z in before)


deaths, relus = {}, {}
for rate in (0.1, 1.0, 5.0):
    network = start(2, GAIN["relu"], width=64)
    counted = []

    def watch(step, network=network, counted=counted):
        if step % 5 == 0:
            counted.append(count_dead(network))

    train(network, F.relu, 200, rate, watch=watch)
    deaths[rate], relus[rate] = [*counted, count_dead(network)], network
with plot.style():
    fig, ax = figure(width=6.4, height=3.5)
    for (rate, counted), dash, color in zip(
        deaths.items(), ["-", "--", ":"], ["#0072B2", "#D55E00", "#000000"], strict=True
    ):
        at_step = np.arange(len(counted)) * 5
        ax.plot(at_step, counted, dash, color=color, label=f"learning rate {rate:g}", linewidth=2)
    ax.set(xlabel="step", ylabel="dead units (of 128)", ylim=(-4, 132))
    ax.set_title("Units that are off for every example")
    ax.grid(axis="y")
    ax.legend(loc="center right")
show(
    fig,
    alt="Dead units of 128 against the step, for three learning rates. At 0.1 none die. At 1 a "
    "few dozen die in the first twenty steps and stay dead. At 5 nearly all are dead at once.",
)
table(
    [
        [rate, counted[0], counted[4], counted[-1], f"{accuracy(relus[rate], F.relu):.2%}"]
        for rate, counted in deaths.items()
    ],
    columns=["learning rate", "dead at step 0", "at step 20", "at step 200", "right, held out"],
)
assert deaths[0.1][-1] == 0
assert 20 < deaths[1.0][-1] < 70
assert deaths[5.0][-1] > 90
assert accuracy(relus[5.0], F.relu) == always_no

# %% [markdown]
# Units die in the first steps, and the count does not come down again. (It wavers by one or two:
# a unit of the second layer can be woken when the first layer changes what it sends.) At a rate of
# 5 a whole layer is dead, and the network can do nothing but say no. At a rate of 1 the accuracy
# does not even show it: a quarter of the units is gone, paid for and never used. Count them. Is the
# gradient of a dead unit small, or is it zero?

# %%
network = relus[1.0]
_, before = forward(network, sample, F.relu)
off = (before[1].numpy() <= 0).all(axis=0)  # the second layer
network[2].grad = None  # what training has left there
F.binary_cross_entropy_with_logits(forward(network, sample, F.relu)[0], Y_held[:4096]).backward()
gradient = np.abs(network[2].grad.numpy()).max(axis=1)  # [64, 64] -> [64], one for each unit
print(
    f"largest gradient of a dead unit: {gradient[off].max()}, "
    f"of a live one: {gradient[~off].max():.2g}"
)
assert gradient[off].max() == 0
assert gradient[~off].max() > 0

# %% [markdown]
# Zero, exactly. A saturated sigmoid learns too slowly; a dead relu not at all.

# %% [markdown]
# ## 9. Break it
#
# ### tanh as printed
#
# Where does it break? Not "about 44": there is one last float32 at which it works. Halve the
# interval until two neighbors are left.


# %%
def edge(broken, works, breaks, dtype):
    """The last number at which it works and the first at which it is broken, neighbors."""
    works, breaks = dtype(works), dtype(breaks)
    with np.errstate(all="ignore"):
        while True:
            middle = dtype(works + (breaks - works) / dtype(2))
            if middle in (works, breaks):
                return works, breaks
            works, breaks = (works, middle) if broken(middle) else (middle, breaks)


tanh_printed = exercises(2)["tanh"].mistake("as printed").function
sigmoid_printed = exercises(2)["sigmoid"].mistake("as printed").function
edges = {}
for dtype in (np.float32, np.float64):
    name = dtype.__name__
    nan = lambda x: np.isnan(tanh_printed(x)[0])
    lost = lambda x: tanh_printed(x)[0] == 0
    over = lambda x: np.isinf(np.exp(-x))
    gone = lambda x: np.exp(x) == 0
    edges["tanh is NaN above", name] = edge(nan, 1, 1000, dtype)[0]
    edges["tanh is 0 at and below", name] = edge(lost, 0.1, 0, dtype)[1]
    edges["exp(-x) overflows below", name] = edge(over, -1, -1000, dtype)[0]
    edges["exp(x) itself is 0 below", name] = edge(gone, -1, -1000, dtype)[0]
labels = list(dict.fromkeys(label for label, _ in edges))
table(
    [[label, *(float(edges[label, d]) for d in ("float32", "float64"))] for label in labels],
    columns=["x", "float32", "float64"],
    digits=8,
)
for name, largest in [("float32", 3.4028235e38), ("float64", 1.7976931348623157e308)]:
    assert math.isclose(edges["tanh is NaN above", name], math.log(largest) / 2, rel_tol=1e-6)
    assert math.isclose(edges["exp(-x) overflows below", name], -math.log(largest), rel_tol=1e-6)
assert math.isclose(edges["tanh is 0 at and below", "float32"], 4.1e-8, rel_tol=0.6)

# %% [markdown]
# The first row is half the logarithm of the largest float: $\ln(3.4 \cdot 10^{38}) / 2 = 44.36$.
# Above it $e^{2x}$ is infinite, and infinity over infinity is NaN. What does one NaN do? Start a
# network with weights far too large, a gain of 12, as one does who forgets to divide by the root of
# the width, and take the printed tanh.

# %%
outcome = []
for name, op in [("as printed", tanh_printed), ("stable", solved.tanh)]:
    network = start(2, gain=12.0)
    with scratchlm.use(tanh=op), np.errstate(all="ignore"):
        scores, before = forward(network, X[:256], F.tanh)
        beyond = sum(int((z.numpy() > 44.3614).sum()) for z in before)
        loss = F.binary_cross_entropy_with_logits(scores, Y[:256])
        loss.backward()
        above_first = np.concatenate([p.grad.numpy().ravel() for p in network[1:]])
        spoilt = float(np.isnan(above_first).mean())
        losses = train(network, F.tanh, 300, 0.03)
        right = accuracy(network, F.tanh)
    outcome.append([name, beyond, loss.item(), f"{spoilt:.0%}", losses[-1], f"{right:.1%}"])
table(
    outcome,
    columns=["tanh", "x > 44.36", "loss", "NaN gradients", "loss after 300 steps", "right"],
)
assert np.isnan(outcome[0][2])
assert np.isfinite(outcome[1][4])
assert 1 <= outcome[0][1] < 50  # of 2 · 256 · 32 = 16,384 numbers
assert outcome[0][3] == "100%"

# %% [markdown]
# One of 16,384 numbers lies beyond 44.36, and the network is gone. Its example has a score of NaN,
# so the loss is NaN, and so is the gradient of every weight above the first table; the optimizer
# writes it into the weights, and the next step reaches the rest. ("Right" is that of always saying
# no, because NaN is not greater than 0.)
#
# Near 0 there is no NaN and no warning. The digits go quietly. In float32, $e^{2x} - 1$ for
# $x = 10^{-6}$ is a difference of two numbers that agree in six of seven digits.
#
# **Look for** where each form leaves the level of $10^{-7}$, the last digit of float32. (An error
# of 0 is drawn at $10^{-9}$.) **Question:** which of the three would you want for a small signal?

# %%
small = np.logspace(-9, 2, 400).astype(np.float32)
truth = np.tanh(small.astype(np.float64))
with np.errstate(all="ignore"):
    forms = {
        "as printed": tanh_printed(small)[0],
        "(1 − t)/(1 + t), t = exp(−2x)": (1 - np.exp(-2 * small)) / (1 + np.exp(-2 * small)),
        "expm1": solved.tanh(small)[0],
    }
    wrong = {name: np.abs(form / truth - 1) for name, form in forms.items()}
with plot.style():
    fig, ax = figure(width=6.8, height=3.8)
    for (name, error), dash, color in zip(
        wrong.items(), [".", "x", "+"], ["#D55E00", "#0072B2", "#000000"], strict=True
    ):
        ax.loglog(small, np.maximum(error, 1e-9), dash, color=color, label=name, markersize=3)
    ax.axvspan(44.3614, 100, color="#D55E00", alpha=0.15, linewidth=0)
    ax.annotate("NaN as\nprinted", (46, 3e-6), fontsize=7.5)
    ax.set(xlabel="x", ylabel="relative error of tanh, float32", ylim=(1e-9, 3))
    ax.set_title("Three ways to write tanh")
    ax.grid(axis="y")
    ax.legend(loc="upper right", bbox_to_anchor=(0.93, 1), markerscale=2)
show(
    fig,
    alt="Relative error against x, both logarithmic, in float32. The printed form and the form "
    "with exp(-2x) lose digits below x = 0.1, and are wholly wrong below 1e-8; expm1 stays "
    "near 1e-7 everywhere. A band above 44.4 is marked NaN.",
)
rows = []
for number in (1e-3, 1e-6, 1e-8):
    value = np.float32(number)
    exact = math.tanh(float(value))
    results = [tanh_printed(value)[0], solved.tanh(value)[0]]
    rows.append([number, *(float(each) for each in results), abs(float(results[0]) / exact - 1)])
table(rows, columns=["x", "as printed", "expm1", "relative error as printed"], digits=7)
assert wrong["expm1"].max() < 1e-6
assert wrong["as printed"][0] == 1
assert float(tanh_printed(np.float32(1e-8))[0]) == 0

# %% [markdown]
# ### Sigmoid as printed
#
# $e^{-x}$ overflows below $-88.72$. What does that cost? Less than one fears: $1/\infty = 0$, and
# the right answer at $-90$ is $8 \cdot 10^{-40}$. NumPy warns, and goes on. It is when something
# is done with that 0 that it hurts: the logarithm of a probability, for one. And the derivative as
# it stands before it was simplified is 0 at $-80$ already, because of the square, and then NaN:

# %%
far = np.array([-80.0, -90.0, -100.0], dtype=np.float32)
quotient = exercises(2)["sigmoid"].mistake("quotient rule as it stands").function
with np.errstate(all="ignore"):
    zero = sigmoid_printed(far)[0]
    rows = [
        ["as printed", *zero],
        ["stable", *solved.sigmoid(far)[0]],
        ["ln, as printed", *np.log(zero)],
        ["ln σ(x) = −ln(1 + exp(−x)), stable", *(-ops.softplus(-far)[0])],
        ["slope exp(−x)/(1 + exp(−x))²", *quotient(far)[1](np.ones(3, np.float32))],
        ["slope y (1 − y)", *solved.sigmoid(far)[1](np.ones(3, np.float32))],
    ]
table(rows, columns=["x", "-80", "-90", "-100"], digits=3)
assert zero[1] == 0
assert 8e-40 < solved.sigmoid(far)[0][1] < 9e-40
assert rows[2][2] == -np.inf
assert rows[4][1] == 0
assert np.isnan(rows[4][2])

# %% [markdown]
# The exercise insists on the stable form, and for a float64 at $-720$ it can tell the difference.
# Two more ways that look safe: $e^x/(1 + e^x)$ for all $x$ is NaN at the *other* end, and
# $(1 + \tanh(x/2))/2$ cancels:

# %%
over_itself = exercises(2)["sigmoid"].mistake("exp over itself").function
through_tanh = exercises(2)["sigmoid"].mistake("through tanh").function
ends = np.array([-40.0, 0.0, 800.0])
with np.errstate(all="ignore"):
    table(
        [
            ["exp over itself", *over_itself(ends)[0]],
            ["through tanh", *through_tanh(ends)[0]],
            ["stable", *solved.sigmoid(ends)[0]],
        ],
        columns=["x", "-40", "0", "800"],
    )
    assert np.isnan(over_itself(ends)[0][2])
    assert through_tanh(ends)[0][0] == 0 < solved.sigmoid(ends)[0][0]

# %% [markdown]
# ### What the document says they are for
#
# D2 §4.3.3 recommends tanh for regression, and §4.4 fits a line "with relu". Take the line
# $y = 1 + 2x$ for $x$ between $-1$ and 1, so $y$ runs from $-1$ to 3, and fit
# $f(\theta_0 + \theta_1 x)$ with each $f$ as the output. What an output can't reach is lost
# whatever the weights: tanh never exceeds 1, so half of the points keep an error.

# %%
across = np.linspace(-1, 1, 2001)
goal = 1 + 2 * across


def fit(op, steps=3000, rate=0.1):
    """Descent on the mean squared error of op(a + b x); returns that error."""
    a, b = 0.1, 0.1
    for _ in range(steps):
        out, vjp = op(a + b * across)
        dz = vjp(2 * (out - goal) / len(goal))
        a, b = a - rate * dz.sum(), b - rate * (dz * across).sum()
    return float(((op(a + b * across)[0] - goal) ** 2).mean())


floors = {
    "none": 0.0,
    "tanh": float((np.maximum(goal - 1, 0) ** 2).mean()),
    "relu": float((np.minimum(goal, 0) ** 2).mean()),
    "sigmoid": float((np.maximum(goal - 1, 0) ** 2 + np.minimum(goal, 0) ** 2).mean()),
}
rows = []
for name, floor in floors.items():
    op = getattr(solved, name, lambda x: (x, lambda dy: dy))
    rows.append([name, fit(op), floor])
    assert rows[-1][1] >= floor - 1e-12
table(rows, columns=["output", "mean squared error, fitted", "no weights get below"])
assert rows[0][1] < 1e-9
assert rows[1][1] > 0.66

# %% [markdown]
# For regression the output has *no* activation; the hidden layers have. For a probability the
# output is a sigmoid, there D2 is right, and the loss takes it in (lesson 05).
#
# ### Mistakes, by their symptom
#
# Each is wrong in one line. Two hidden layers, 200 steps, the same batches for all.

# %%
WRONG = {
    "sigmoid": ["that of tanh", "sigmoid of the output", "input for output", "sign"],
    "tanh": ["no square", "inner 2 left out", "that of sigmoid", "dy forgotten"],
    "relu": ["output for slope", "slope 1 everywhere", "dy for x", "float64 mask"],
}
symptoms = {}
for name, mistakes in WRONG.items():
    for mistake in ["right", *mistakes]:
        op = getattr(solved, name)
        if mistake != "right":
            op = exercises(2)[name].mistake(mistake).function
        network = start(2, GAIN[name])
        with scratchlm.use(**{name: op}), np.errstate(all="ignore"):
            try:
                losses = train(network, ACTIVATIONS[name], 200, 0.3)
                right = accuracy(network, ACTIVATIONS[name])
                symptoms[name, mistake] = (losses[0], float(np.mean(losses[-20:])), right)
            except TypeError as error:
                symptoms[name, mistake] = str(error)
table(
    [
        [name, mistake, f"{s[0]:.4f}", f"{s[1]:.4f}", f"{s[2]:.1%}"]
        for (name, mistake), s in symptoms.items()
        if not isinstance(s, str)
    ],
    columns=["op", "mistake", "loss, first", "loss, last 20", "right"],
)
print(textwrap.fill("relu, float64 mask: " + symptoms["relu", "float64 mask"], 90))

# %% [markdown]
# - **Every first loss is that of the right op.** The value is right, so step 0 tells nothing about
#   a gradient.
# - **More than half of them train.** The slope of tanh in place of sigmoid's even trains *better*:
#   it is wrong, but larger, and this sigmoid starves. Sigmoid of the output, a half gradient, a
#   gradient times the output: no curve would make you suspicious. A falling loss proves that the
#   gradient points down roughly. Only the gradient check proves that it is right.
# - **Input for output**: outside (0, 1) the slope $x(1 - x)$ is negative and grows with $x^2$.
#   The weights run off to NaN.
# - **Sign**, **that of sigmoid** in tanh, **dy forgotten**: the loss of a model that says no, or
#   worse.
# - **dy for x**, the mask on the wrong array: only positive gradients come through, so a layer is
#   pushed one way, down, until all units of the last hidden layer are dead.
# - **float64 mask** the engine refuses by itself. In plain NumPy it would have gone through, at
#   twice the memory.

# %%
for name in WRONG:
    firsts = {s[0] for (op, _), s in symptoms.items() if op == name and not isinstance(s, str)}
    assert len(firsts) == 1
right_ones = {name: symptoms[name, "right"] for name in WRONG}
assert symptoms["sigmoid", "that of tanh"][1] < right_ones["sigmoid"][1]
assert symptoms["sigmoid", "sigmoid of the output"][2] > always_no
assert np.isnan(symptoms["sigmoid", "input for output"][1])
assert symptoms["tanh", "inner 2 left out"][2] > 0.84
assert symptoms["tanh", "dy forgotten"][1] > 0.5
assert symptoms["relu", "output for slope"][2] > 0.83
assert symptoms["relu", "dy for x"][2] == always_no
assert "float64" in symptoms["relu", "float64 mask"]
for name, mistakes in WRONG.items():
    for mistake in mistakes:
        if mistake != "float64 mask":
            assert not gradcheck(exercises(2)[name].mistake(mistake).function, random)
print("the gradient check finds all eleven")

network = start(2, GAIN["relu"])
with scratchlm.use(relu=exercises(2)["relu"].mistake("dy for x").function):
    train(network, F.relu, 200, 0.3)
    _, before = forward(network, sample, F.relu)
alive = int((before[1].numpy() > 0).any(axis=0).sum())
print(f"dy for x: {alive} units of the last hidden layer are alive")
assert alive == 0

# %% [markdown]
# ### Mistakes that wait
#
# **In place.** `x[x < 0] = 0` saves an array, and spoils the one that somebody else still has. In
# a residual connection, $x + f(x)$ (lesson 25), that somebody is the next line:

# %%
in_place = exercises(2)["relu"].mistake("in place").function
signal = np.array([-2.0, 1.0, -0.5])
print("right:   ", signal + solved.relu(signal)[0])
wrong_signal = signal.copy()
after = in_place(wrong_signal)[0]
print("in place:", wrong_signal + after)
assert (signal + solved.relu(signal)[0]).tolist() == [-2.0, 2.0, -0.5]
assert (wrong_signal + after).tolist() == [0.0, 2.0, 0.0]

# %% [markdown]
# **Times the mask.** `x * (x > 0)` is relu for every finite number. At $-\infty$, where a mask may
# have put it, it is $-\infty \cdot 0$:

# %%
multiplied = exercises(2)["relu"].mistake("times the mask").function
with np.errstate(invalid="ignore"):
    print("multiplied:", multiplied(np.array([-np.inf, 3.0]))[0])
    print("compared:  ", solved.relu(np.array([-np.inf, 3.0]))[0])
    assert np.isnan(multiplied(np.array([-np.inf]))[0][0])
assert solved.relu(np.array([-np.inf]))[0][0] == 0

# %% [markdown]
# **Slope 1 at 0** passes every check on random numbers. Start a layer with all weights at zero and
# it shows: every $x$ is exactly 0, and the two customs give different networks. (`y >= 0` as the
# mask is another matter: it is true everywhere, and the gradient check finds it.)

# %%
passes = exercises(2)["relu"].mistake("slope 1 at 0").function
assert gradcheck(passes, random)
for name, op in [("x >= 0", passes), ("x > 0", solved.relu)]:
    print(f"{name:6}: the gradient at 0 is {op(np.zeros(3))[1](np.ones(3))}")

# %% [markdown]
# ## 10. Your turn
#
# Write `sigmoid`, `tanh` and `relu`, forward and backward, in NumPy:
#
#     scratchlm start 2
#     scratchlm check 2 --watch
#     scratchlm hint 2
#
# The check tries them at $-10^4$ and $10^4$, at $-720$ and $10^{-12}$, at 0 and, for relu, at
# infinity. It wants the digits of small results too, and float32 for float32. When it passes, put
# them into a network in place of the library's:
#
#     import scratchlm
#     with scratchlm.use(sigmoid=sigmoid, tanh=tanh, relu=relu):
#         ...
#
# The check knows the usual ways to go wrong by name:

# %%
for each in exercises(2).values():
    print(f"{each.name}: {len(each.mistakes)} known mistakes")
assert sum(len(each.mistakes) for each in exercises(2).values()) >= 45

# %% [markdown]
# ## 11. Cost
#
# For each number relu compares once and multiplies once in backward. Sigmoid as written needs two
# exponentials, which cost as much as ten or twenty multiplications each; tanh one. Backward needs
# none, because the slope comes from the output. Beside the $2n$ operations that a layer of width
# $n$ spends on each of its outputs all of that is little.
#
# Memory counts more: each op keeps one array, as large as its input. What the closures hold:

# %%
wide = np.random.default_rng(0).standard_normal((256, 1024)).astype(np.float32)
for name in ("sigmoid", "tanh", "relu"):
    _, vjp = getattr(solved, name)(wide)
    kept = {
        variable: cell.cell_contents.nbytes
        for variable, cell in zip(vjp.__code__.co_freevars, vjp.__closure__, strict=True)
    }
    print(f"{name:8} keeps {kept} bytes for an input of {wide.nbytes}")
    assert list(kept.values()) == [wide.nbytes]
    assert list(kept) == ["x" if name == "relu" else "y"]

tokens, inner, blocks = 8 * 1024, 4 * 768, 12
print(f"GPT-2, 8 × 1024 tokens: {4 * tokens * inner / 1e6:.0f} MB for each of {blocks} layers")
assert round(4 * tokens * inner / 1e6) == 101

# %% [markdown]
# sigmoid and tanh keep their *output*. The next layer keeps that array anyway, as its input, so it
# costs nothing extra; $x$ can be let go. relu could do the same, since $x > 0$ exactly where
# $y > 0$, or keep one bit for each number, a 32nd of the memory.

# %% [markdown]
# ## 12. Use it
#
# Which activation for the vowels? The ops of the solution, seed 2, 800 steps at a rate of 0.1, two
# hidden layers beside the six of the hook. The referee counts: how often is each of the
# $28^3$ triples followed by a vowel in the training text? Threshold: tanh and relu above 86.5% with
# either depth; nothing between the layers below 86%.

# %%
code = X[:, 0] * 784 + (X[:, 1] - 28) * 28 + X[:, 2] - 56
code_held = X_held[:, 0] * 784 + (X_held[:, 1] - 28) * 28 + X_held[:, 2] - 56
seen, vowels = np.bincount(code, minlength=28**3), np.bincount(code, Y, minlength=28**3)
counted = float(((2 * vowels > seen)[code_held] == (Y_held > 0.5)).mean())

shallow = {}
with scratchlm.use(sigmoid=solved.sigmoid, tanh=solved.tanh, relu=solved.relu):
    for name, act in ACTIVATIONS.items():
        network = start(2, GAIN[name])
        train(network, act, 800, 0.1)
        shallow[name] = accuracy(network, act)
table(
    [[name, f"{shallow[name]:.1%}", f"{deep[name][2]:.1%}"] for name in ACTIVATIONS]
    + [["counted triples, the referee", f"{counted:.1%}", ""]],
    columns=["between the layers", "2 hidden layers", "6 hidden layers"],
)
assert shallow["none"] < 0.86
assert min(shallow["tanh"], shallow["relu"]) > 0.865
assert shallow["none"] - 0.005 < shallow["sigmoid"] < shallow["tanh"] - 0.01
assert counted > 0.89

# %% [markdown]
# Between tanh and relu a point more or less is chance. That both beat the straight line by three
# points or more, and sigmoid by as much, is not. What does a hidden layer know that the straight
# line does not? Ask both about some triples. **Question** before you look: the straight line adds
# up one number for each character. What must it say after *ith*, if after *th* a vowel is likely?

# %%
straight = start(2, GAIN["none"])
train(straight, ACTIVATIONS["none"], 800, 0.1)
bent = start(2, GAIN["tanh"])
train(bent, F.tanh, 800, 0.1)


def say(three):
    """Probability of a vowel after these three: straight line, tanh, counted."""
    k = [26 if c == " " else string.ascii_lowercase.index(c) for c in three]
    row = np.array([[k[0], 28 + k[1], 56 + k[2]]])
    lines = forward(straight, row, ACTIVATIONS["none"])[0].numpy()
    curves = forward(bent, row, F.tanh)[0].numpy()
    at = k[0] * 784 + k[1] * 28 + k[2]
    share = vowels[at] / seen[at]
    return [float(ops.sigmoid(z)[0][0]) for z in (lines, curves)] + [float(share)]


triples = [" th", "ith", "met", "int", " st", "ist"]
rows = [[f"'{three}'", *say(three)] for three in triples]
table(rows, columns=["after", "no activation", "tanh", "counted"], digits=3)
after = {row[0]: row[1:] for row in rows}
assert min(after["' th'"]) > 0.8
assert after["'ith'"][0] > 0.7
assert max(after["'ith'"][1:]) < 0.6

# %% [markdown]
# That a vowel is likely there too. *The*, *that*, *this*: after " th" nearly always a vowel. But
# *with* ends. The straight line can't let one letter change what another one means; tanh can.
#
# ### The sigmoid repaired
#
# tanh is a sigmoid, stretched: $\tanh z = 2\sigma(2z) - 1$. So a network of sigmoids can be
# *started* as the network of tanhs, number for number. One layer is
# $z_{l+1} = W \tanh(z_l) + b$. Write $u_l = 2 z_l$ for what stands before the sigmoid, and $e$ for
# a vector of ones:
#
# $$
# u_{l+1} = 2 z_{l+1} = 2W(2\sigma(u_l) - e) + 2b = 4W \sigma(u_l) + (2b - 2We)
# $$
#
# Four times the weights, and a bias that takes off the mean of $1/2$ which every sigmoid has. (In
# the first layer and the last, one of the two factors 2 is missing.)


# %%
def as_sigmoids(network):
    """The weights of sigmoids that compute what these tanhs compute."""
    new, last = [], len(network) // 2 - 1
    for layer in range(last + 1):
        w, b = network[2 * layer].numpy(), network[2 * layer + 1].numpy()
        inside, outside = (2 if layer else 1), (2 if layer < last else 1)
        shift = w.sum(axis=1) if layer else 0
        new.append(Tensor(inside * outside * w, requires_grad=True))
        new.append(Tensor(outside * (b - shift), requires_grad=True))
    return new


tanhs = start(6)
sigmoids = as_sigmoids(tanhs)
scores = [forward(tanhs, X[:1000], F.tanh)[0], forward(sigmoids, X[:1000], F.sigmoid)[0]]
apart = float(np.abs(scores[0].numpy() - scores[1].numpy()).max())
print(f"before training the two networks differ by {apart:.0e}")
assert apart < 1e-5

with scratchlm.use(sigmoid=solved.sigmoid):
    losses = train(sigmoids, F.sigmoid, 800, 0.1)
    repaired = accuracy(sigmoids, F.sigmoid)
print(f"six layers of sigmoids, usual start: {deep['sigmoid'][2]:.2%}")
print(f"six layers of sigmoids, this start:  {repaired:.2%}")
assert repaired > 0.84 > deep["sigmoid"][2]

# %% [markdown]
# The same function, the same data, the same steps. What was wrong with sigmoid was not what it can
# say but where it starts: off center, and four times too flat. Modern networks settle this more
# thoroughly, with relu and its relatives (lesson 23), normalization (24) and residual connections
# (25). The sigmoid has kept the places where a number between 0 and 1 is what one wants: gates
# (16, 17) and probabilities.

# %% [markdown]
# ## 13. Recap
#
# 1. A colleague writes `sigmoid_derivative(x) = x * (1 - x)` and calls it with the output of
#    sigmoid. Is it wrong? What goes wrong when someone else calls it?
# 2. A network of 20 sigmoid layers, each of which passes 0.227 of the gradient: what reaches the
#    first, if the last gets 1? Would float32 still hold it? ($0.227^{19} = 5.8 \cdot 10^{-13}$;
#    the smallest float32 is about $10^{-45}$. It is held, and useless.)
# 3. gradcheck says that your relu is wrong, at one element, and calls it a kink. What do you do?
#
# | English | 中文 |
# |---|---|
# | activation function | 激活函数 |
# | sigmoid | S 型函数 |
# | rectified linear unit (ReLU) | 修正线性单元 |
# | hyperbolic tangent | 双曲正切 |
# | saturation | 饱和 |
# | vanishing gradient | 梯度消失 |
# | dead unit | 死亡神经元 |
# | overflow | 上溢 |
# | cancellation | 相消（有效数字丢失） |
# | kink | 折点（不可导点） |
#
# - D2 §4.3.1, §4.3.2, §4.3.3 and §4.4.
# - Y. LeCun, L. Bottou, G. Orr, K.-R. Müller, *Efficient BackProp*, 1998, §4.4.
# - V. Nair, G. Hinton, *Rectified Linear Units Improve Restricted Boltzmann Machines*, 2010.
# - X. Glorot, Y. Bengio, *Understanding the Difficulty of Training Deep Feedforward Neural
#   Networks*, 2010; X. Glorot, A. Bordes, Y. Bengio, *Deep Sparse Rectifier Neural Networks*, 2011.
# - K. He, X. Zhang, S. Ren, J. Sun, *Delving Deep into Rectifiers*, 2015.
# - I. Goodfellow, Y. Bengio, A. Courville, *Deep Learning*, 2016, §3.10 and §6.3.
#
# Next: lesson 03 fits the line of D2 §4.4 and finds its sign, lesson 04 puts a layer of weights
# around these functions, lesson 05 gives the sigmoid more than two classes.

# %%
print(f"0.227^19 = {0.227**19:.1e}")
assert f"{0.227**19:.1e}" == "5.8e-13"
