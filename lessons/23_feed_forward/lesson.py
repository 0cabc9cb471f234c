# %% [markdown]
# # 23 · Feed-forward · 前馈网络
#
# In a transformer, attention moves things from one position to another. Then each position thinks
# by itself, and this is where: two matrices with a bend between them. Two thirds of the weights of
# a GPT layer sit here. Two documents print one ReLU too many. This lesson measures what that does,
# and derives the two bends that are used today, GELU and SwiGLU.

# %% [markdown]
# ## 1. Card
#
# You need the linear layer of lesson 04 and the slopes of lesson 02. At the end you have written
# GELU in both of its forms and SwiGLU, with gradients, and a GPT trains with your GELU.

# %%
from scratchlm.lessons import card, exercises, figure, show, solution, source, table

card(23)

# %% [markdown]
# ## 2. Hook
#
# A transformer never replaces its vector $x$. Each block *adds* to it: $x + \mathrm{FFN}(x)$. The
# sum is called the residual stream. Send 256 vectors through 24 such blocks with random weights,
# with a layer norm before each. Once with the formula as published, once with the ReLU around it
# that D1 prints.

# %%
import math
from itertools import pairwise

import numpy as np

from scratchlm import ops

d = 64
one, zero = np.ones(d), np.zeros(d)


def streams(outer, layers=24):
    """The stream [256, d] before the first block and after each; no biases, as in D1."""
    rng = np.random.default_rng(23)
    x = rng.standard_normal((256, d))
    seen = [x]
    for _ in range(layers):
        W1 = rng.standard_normal((4 * d, d)) * math.sqrt(2 / d)
        W2 = rng.standard_normal((d, 4 * d)) * 0.3 / math.sqrt(4 * d)
        n, _ = ops.layer_norm(x, one, zero)
        y = np.maximum(n @ W1.T, 0) @ W2.T
        x = x + (np.maximum(y, 0) if outer else y)
        seen.append(x)
    return seen


def alike(x):
    """The mean cosine between two different rows of x [n, d]."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    n = len(x)
    return float((np.linalg.norm(unit.sum(axis=0)) ** 2 - n) / (n * (n - 1)))


def fallen(seen):
    """The share of the numbers that went down, over all blocks."""
    return float(np.mean([(after < before).mean() for before, after in pairwise(seen)]))


free, printed = streams(outer=False), streams(outer=True)
rows = [
    [name, *(float(seen[k].mean()) for k in (0, 6, 12, 24)), fallen(seen), alike(seen[24])]
    for name, seen in [("published", free), ("with the outer ReLU", printed)]
]
table(
    rows,
    columns=["", "mean at 0", "6", "12", "24 blocks", "went down", "cosine of two rows"],
    digits=3,
)
assert fallen(printed) == 0
assert 0.45 < fallen(free) < 0.55
assert printed[24].mean() > 2.5 > 0.3 > abs(free[24].mean())
assert abs(alike(printed[0])) < 0.01
assert fallen(printed) * 393_216 == 0
assert 256 * 64 * 24 == 393_216
assert alike(printed[24]) > alike(free[24]) + 0.3

# %% [markdown]
# Not one of 393,216 steps leads down. What is written to the stream can never be taken back. And
# the vectors, which started in 256 unrelated directions, point more and more the same way. (Those
# of the published form do so a little, too: the hidden units are never negative, and say something
# in common for all vectors.)

# %% [markdown]
# ## 3. Formula
#
# **As printed.** D1 §4.1.2, and once more in §4.2.2, has a ReLU around everything and no biases:
#
# $$
# \mathrm{FFN}(X) = \mathrm{ReLU}(W_2 \, \mathrm{ReLU}(W_1 X))
# $$
#
# D4 §4.1.2 has the same two ReLUs, and two biases. The second one stands outside:
#
# $$
# \mathrm{FFN}(x) = \mathrm{ReLU}(W_2 \, \mathrm{ReLU}(W_1 x + b_1)) + b_2
# $$
#
# D4 §4.2.2 then derives it in four lines, and its example in §4.3.2 repeats them:
#
# $$
# Z_1 = W_1 X + b_1, \quad A_1 = \mathrm{ReLU}(Z_1), \quad Z_2 = W_2 A_1 + b_2, \quad O = Z_2
# $$
#
# Here is no second ReLU, and $b_2$ belongs to the second linear map. D4 contradicts itself: a
# formula and its own derivation compute different functions.
#
# **As published**, Vaswani et al. 2017, eq. 2, in our letters:
#
# $$
# \mathrm{FFN}(x) = W_2 \max(0, W_1 x + b_1) + b_2
# $$
#
# So D4 §4.2.2 is right, and D4 §4.1.2 and D1 are not. What comes out of the block is *added* to
# something, and a sum needs both signs.
#
# | symbol | variable | shape | what it is |
# |---|---|---|---|
# | $x$ | `x` | `[..., d]` | one row for each position; rows do not meet here |
# | $W_1, b_1$ | `W1, b1` | `[h, d]`, `[h]` | into the hidden layer, $h = 4 d$ as a rule |
# | $z$ | `z` | `[..., h]` | $W_1 x + b_1$ |
# | $f$ | `f` | | ReLU, GELU, ... number by number |
# | $a = f(z)$ | `a` | `[..., h]` | what the hidden units say |
# | $W_2, b_2$ | `W2, b2` | `[d, h]`, `[d]` | back out |
# | $y$ | `y` | `[..., d]` | the result |
#
# In memory a position is a *row*, so that code says `x @ W1.T + b1` where the paper has columns.
#
# ### The bends that came after
#
# **GELU** (Hendrycks & Gimpel 2016, §2): $x$ times the probability that a standard normal number
# is below $x$. GPT-2 computes it in a second form, with $\tanh$:
#
# $$
# \mathrm{gelu}(x) = x \, \Phi(x), \quad \Phi(x) = \frac{1}{2} \left( 1 + \mathrm{erf}\left( \frac{x}{\sqrt{2}} \right) \right)
# $$
#
# $$
# \mathrm{gelu}(x) \approx \frac{x}{2} \left( 1 + \tanh\left( \sqrt{\frac{2}{\pi}} \left( x + 0.044715 \, x^3 \right) \right) \right)
# $$
#
# **SwiGLU** (Shazeer 2020, eq. 6): two linear maps of the same $x$. One of them, bent, is the gate
# that the other has to pass. There are no biases, and there is a third matrix, $V$ `[h, d]`:
#
# $$
# \mathrm{FFN}(x) = W_2 \left( \mathrm{silu}(W_1 x) \odot V x \right), \quad
# \mathrm{silu}(a) = a \, \sigma(a) = \frac{a}{1 + e^{-a}}
# $$
#
# The op is the middle of it: `swiglu(a, b)` is $\mathrm{silu}(a) \, b$, with $a = W_1 x$ and $b =
# V x$. None of the five documents prints GELU or SwiGLU. GPT-2 has the one, Llama the other.

# %% [markdown]
# ## 4. By hand
#
# Two positions, $d = 3$, and only two hidden units, so that it stays on one sheet.

# %%
x = np.array([[1.0, 2, 0], [-1, 1, 2]])  # [2, 3]
W1, b1 = np.array([[1.0, -1, 2], [2, 1, -1]]), np.array([0.0, -1])  # [2, 3], [2]
W2, b2 = np.array([[1.0, -1], [0.5, 1], [-2, 0.5]]), np.array([0.5, -1, 1])  # [3, 2], [3]


def show_row(name, values):
    print(f"  {name:38} = ({', '.join(f'{v:g}' for v in values)})")


for k in range(2):
    print(f"position {k + 1}, x = ({', '.join(f'{v:g}' for v in x[k])})")
    z = [sum(W1[j, i] * x[k, i] for i in range(3)) + b1[j] for j in range(2)]
    a = [max(0.0, v) for v in z]
    q = [sum(W2[o, j] * a[j] for j in range(2)) for o in range(3)]
    show_row("z = W1 x + b1", z)
    show_row("a = ReLU(z)", a)
    show_row("q = W2 a", q)
    show_row("published: q + b2", [q[o] + b2[o] for o in range(3)])
    show_row("D4 §4.1.2: ReLU(q) + b2", [max(0.0, q[o]) + b2[o] for o in range(3)])
    bare = np.maximum(W1 @ x[k], 0)
    show_row("D1: ReLU(W2 ReLU(W1 x)), no biases", np.maximum(W2 @ bare, 0))

z = x @ W1.T + b1  # [2, 2]
a = np.maximum(z, 0)  # [2, 2]
q = a @ W2.T  # [2, 3]
y = q + b2  # [2, 3]
assert z.tolist() == [[-1, 3], [2, -4]]
assert y.tolist() == [[-2.5, 2, 2.5], [2.5, 0, -3]]
assert (y == np.maximum(q, 0) + b2).sum() == 4
assert (np.maximum(q, 0) + b2).tolist() == [[0.5, 2, 2.5], [2.5, 0, 1]]

# %% [markdown]
# Four of the six numbers are the same in D4's formula. Where $q$ is negative the two differ: $-2.5$
# has become 0.5, and $-3$ has become 1. The result is never below $b_2$.
#
# Now the bends, for six numbers. Keys you need: $e^x$ and tanh. $\Phi$ stands in every table of
# the normal distribution.

# %%
v = np.array([[1.0, -1, 2], [0.5, 0, -3]])  # [2, 3]
c, k3 = math.sqrt(2 / math.pi), 0.044715
rows, exact, approximated = [], [], []
for number in v.ravel():
    u = c * (number + k3 * number**3)
    t = math.tanh(u)
    Phi_here = (1 + math.erf(number / math.sqrt(2))) / 2
    exact.append(number * Phi_here)
    approximated.append(number * (1 + t) / 2)
    rows.append(
        [f"{number:g}", *(f"{n:.5f}" for n in (Phi_here, exact[-1], u, t, approximated[-1]))]
    )
table(rows, columns=["x", "Φ(x)", "x Φ(x)", "u", "t = tanh(u)", "x (1 + t) / 2"])
assert np.allclose(exact, ops.gelu(v)[0].ravel(), rtol=1e-12)
assert np.allclose(approximated, ops.gelu(v, approximate="tanh")[0].ravel(), rtol=1e-12)
assert f"{exact[0]:.4f}, {approximated[0]:.4f}" == "0.8413, 0.8412"

b = np.array([[2.0, 3, -1], [0, 4, 0.5]])  # [2, 3]
rows = []
for gate_in, passed in zip(v.ravel(), b.ravel(), strict=True):
    s = 1 / (1 + math.exp(-gate_in))
    rows.append(
        [
            f"{gate_in:g}",
            f"{s:.4f}",
            f"{gate_in * s:.4f}",
            f"{passed:g}",
            f"{gate_in * s * passed:.4f}",
        ]
    )
table(rows, columns=["a", "σ(a)", "gate a σ(a)", "b", "swiglu(a, b)"])
assert np.allclose([float(row[-1]) for row in rows], ops.swiglu(v, b)[0].ravel(), atol=5e-5)

# %% [markdown]
# ## 5. In code
#
# Three nested loops, for a position, a hidden unit, and an input.


# %%
def ffn_loops(x, W1, b1, W2, b2):
    rows = []
    for row in x:
        hidden = []
        for j in range(len(W1)):
            z = b1[j] + sum(W1[j][i] * row[i] for i in range(len(row)))
            hidden.append(max(0.0, z))
        rows.append([b2[o] + sum(W2[o][j] * hidden[j] for j in range(len(hidden)))
                     for o in range(len(W2))])  # fmt: skip
    return np.array(rows)


def ffn_numpy(x, W1, b1, W2, b2):
    z = x @ W1.T + b1  # [..., d] -> [..., h]
    a = np.maximum(z, 0)  # [..., h]
    return a @ W2.T + b2  # [..., h] -> [..., d]


# %% [markdown]
# And the library: `nn.FeedForward` is a linear op, an activation, a linear op.

# %%
from scratchlm import Tensor, nn

layer = nn.FeedForward(8, activation="relu", rng=23, dtype=np.float64)
source(nn.FeedForward.forward)
parts = [p.data for p in (layer.fc1.weight, layer.fc1.bias, layer.fc2.weight, layer.fc2.bias)]
X = np.random.default_rng(5).standard_normal((5, 8))
library = layer(Tensor(X)).data
for version in (ffn_loops, ffn_numpy):
    distance = np.abs(version(X, *parts) - library).max()
    print(f"{version.__name__:10} differs from the library by {distance:.0e}")
    assert distance < 1e-14

# %% [markdown]
# Change one position, and the others do not notice. So a causal model stays causal here, whatever
# the weights are.

# %%
moved = X.copy()
moved[2] += 100
assert (ffn_numpy(moved, *parts)[[0, 1, 3, 4]] == ffn_numpy(X, *parts)[[0, 1, 3, 4]]).all()
print("one row moved by 100; the others differ by 0")

# %% [markdown]
# GELU and SwiGLU: a loop with `math.erf` and `math.tanh`, the solution, and the library's op.
# NumPy has no erf. The solution maps Python's over the array. The library has its own, in Cody's
# rational form, since it also has to run on a GPU.


# %%
def gelu_loops(x):
    return np.array([n * (1 + math.erf(n / math.sqrt(2))) / 2 for n in x])


def gelu_tanh_loops(x):
    return np.array([n * (1 + math.tanh(c * (n + k3 * n**3))) / 2 for n in x])


solved = solution(23)
numbers = np.random.default_rng(6).normal(0, 3, 1000)
others = np.random.default_rng(7).normal(0, 3, 1000)
for name, loops, mine, theirs in [
    ("gelu", gelu_loops(numbers), solved.gelu(numbers)[0], ops.gelu(numbers)[0]),
    ("gelu, tanh form", gelu_tanh_loops(numbers), solved.gelu(numbers, approximate="tanh")[0],
     ops.gelu(numbers, approximate="tanh")[0]),
    ("swiglu", np.array([p / (1 + math.exp(-p)) * r for p, r in zip(numbers, others, strict=True)]),
     solved.swiglu(numbers, others)[0], ops.swiglu(numbers, others)[0]),
]:  # fmt: skip
    apart = max(np.abs(loops - theirs).max(), np.abs(mine - theirs).max())
    print(f"{name:16} loops, NumPy and library agree to {apart:.0e}")
    assert apart < 1e-13
source(ops.swiglu)

# %% [markdown]
# ### Where the tanh form comes from
#
# $\Phi$ and $(1 + \tanh u) / 2$ both rise from 0 to 1 in an S. They are equal where $\tanh u =
# \mathrm{erf}(x / \sqrt{2})$, so the right $u$ would be the inverse tanh of that. Both functions
# have a power series (integrate $e^{-t^2} = 1 - t^2 + \ldots$ for the first):
#
# $$
# \mathrm{erf}\left( \frac{x}{\sqrt{2}} \right) = c \left( x - \frac{x^3}{6} + \ldots \right), \quad c = \sqrt{\frac{2}{\pi}}
# $$
#
# $$
# \mathrm{artanh}(w) = w + \frac{w^3}{3} + \ldots
# $$
#
# Put the first into the second. The terms up to $x^3$ are
#
# $$
# u = c \left( x - \frac{x^3}{6} \right) + \frac{c^3 x^3}{3} = c \left( x + \left( \frac{c^2}{3} - \frac{1}{6} \right) x^3 \right)
# $$
#
# and with $c^2 = 2 / \pi$:
#
# $$
# u = c \left( x + \left( \frac{2}{3 \pi} - \frac{1}{6} \right) x^3 \right) = \sqrt{\frac{2}{\pi}} \left( x + 0.0455 \, x^3 \right)
# $$
#
# There they are, the strange root and the cube. The series gives 0.0455, the best value near 0.
# The published 0.044715 gives up a little there, and gains further out. Both are measured below,
# and so is the form with a sigmoid, $x \, \sigma(1.702 \, x)$, which the same paper has.

# %%
grid = np.linspace(-8, 8, 160_001)
truth = ops.gelu(grid)[0]


def tanh_form(x, coefficient):
    return x * (1 + np.tanh(c * (x + coefficient * x**3))) / 2


series = 2 / (3 * math.pi) - 1 / 6
errors = {
    f"tanh, {series:.6f} from the series": tanh_form(grid, series) - truth,
    "tanh, 0.044715": tanh_form(grid, k3) - truth,
    "sigmoid, 1.702": grid / (1 + np.exp(-1.702 * grid)) - truth,
}
near = np.abs(grid) < 0.5
table(
    [
        [name, np.abs(e).max(), abs(grid[np.abs(e).argmax()]), np.abs(e[near]).max()]
        for name, e in errors.items()
    ],
    columns=["form", "largest error", "at |x| =", "largest for |x| < 0.5"],
    digits=3,
)
by_series, by_tanh, by_sigmoid = (np.abs(e).max() for e in errors.values())
assert 4.7e-4 < by_tanh < 4.8e-4
assert by_tanh < by_series < 1e-3
assert 0.02 < by_sigmoid < 0.021
in_two = [np.abs(e[near]).max() for e in errors.values()]
assert in_two[0] < in_two[1] < in_two[2]

# %% [markdown]
# So the two forms of GELU differ by at most 0.00047. That is too small to see in a plot, and large
# enough to see in a test against somebody else's weights: which form was it trained with?
#
# ### Equal parameters
#
# SwiGLU has three matrices where ReLU and GELU have two. To compare them fairly, make its hidden
# layer two thirds as wide: $3 \cdot d \cdot \frac{2}{3} h = 2 \cdot d \cdot h$. Shazeer does so.

# %%
for width in (768, 4096):
    two, three = 2 * width * 4 * width, 3 * width * (8 * width // 3)
    print(f"d = {width}: two matrices of 4d {two:,}; three of {8 * width // 3} {three:,}")
    assert abs(three / two - 1) < 1e-3

# %% [markdown]
# ## 6. Backward, derived
#
# Write $dy_{no}$ for $\partial L / \partial y_{no}$: position $n$, output $o$. The hidden units
# have the index $j$, the inputs $i$. The numbers are those of section 4, and after each step
# central differences have to agree.

# %%
dy = np.array([[1.0, 0, -1], [0, 2, 0]])  # [2, 3]


def slopes(f, x, h=1e-6):
    """The central difference of the number f(x) for each element of x."""
    out = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[index] = h
        out[index] = (f(x + step) - f(x - step)) / (2 * h)
    return out


def agree(name, mine, measured):
    assert np.abs(mine - measured).max() < 1e-8  # rounding: u L / h, about 1e-9
    print(f"{name} =", np.array2string(mine.round(4) + 0.0, prefix=f"{name} = "))


# %% [markdown]
# ### The last line: $y_{no} = \sum_j a_{nj} W_{2,oj} + b_{2,o}$
#
# The bias $b_{2,o}$ touches output $o$ of every position, with the factor 1. The weight $W_{2,oj}$
# touches the same, with the factor $a_{nj}$. The hidden $a_{nj}$ touches *all* outputs of its own
# position, with the factors $W_{2,oj}$:
#
# $$
# db_{2,o} = \sum_n dy_{no}, \quad dW_{2,oj} = \sum_n dy_{no} \, a_{nj}, \quad da_{nj} = \sum_o dy_{no} W_{2,oj}
# $$
#
# As matrices:
#
# $$
# dW_2 = dy^T a, \quad da = dy \, W_2
# $$

# %%
db2 = dy.sum(axis=0)  # [3]
dW2 = dy.T @ a  # [3, 2] [2, 2] -> [3, h]
da = dy @ W2  # [2, 3] [3, h] -> [2, h]
agree("db2", db2, slopes(lambda b2: (dy * (a @ W2.T + b2)).sum(), b2))
agree("dW2", dW2, slopes(lambda W2: (dy * (a @ W2.T + b2)).sum(), W2))
agree("da", da, slopes(lambda a: (dy * (a @ W2.T + b2)).sum(), a))

# %% [markdown]
# ### The bend: $a_{nj} = f(z_{nj})$
#
# Each number by itself, so the sum of the chain rule has one term:
#
# $$
# dz_{nj} = da_{nj} \, f'(z_{nj}), \quad \mathrm{ReLU}'(z) = \begin{cases} 1 & z > 0 \\ 0 & \text{otherwise} \end{cases}
# $$

# %%
dz = da * (z > 0)  # [2, h]
agree("dz", dz, slopes(lambda z: (dy * (np.maximum(z, 0) @ W2.T + b2)).sum(), z))

# %% [markdown]
# ### The first line: $z_{nj} = \sum_i x_{ni} W_{1,ji} + b_{1,j}$
#
# The same three sentences with other letters:
#
# $$
# db_{1,j} = \sum_n dz_{nj}, \quad dW_{1,ji} = \sum_n dz_{nj} \, x_{ni}, \quad dx_{ni} = \sum_j dz_{nj} W_{1,ji}
# $$

# %%
db1 = dz.sum(axis=0)  # [h]
dW1 = dz.T @ x  # [h, 2] [2, 3] -> [h, 3]
dx = dz @ W1  # [2, h] [h, 3] -> [2, 3]


def pushed(x=x, W1=W1, b1=b1):
    return (dy * ffn_numpy(x, W1, b1, W2, b2)).sum()


agree("db1", db1, slopes(lambda b1: pushed(b1=b1), b1))
agree("dW1", dW1, slopes(lambda W1: pushed(W1=W1), W1))
agree("dx", dx, slopes(lambda x: pushed(x=x), x))
assert dx.tolist() == [[-3, -1.5, 1.5], [1, -1, 2]]

# %% [markdown]
# A hidden unit that is off at a position gets nothing from it: not its row of $W_1$, not its bias.
# A unit that is off at *every* position gets nothing from anywhere, and stays as it is. It is
# dead.
#
# ### The outer ReLU: one line more
#
# D4's formula has $y_{no} = \max(0, q_{no}) + b_{2,o}$ with $q = W_2 a$. Before anything else, the
# cotangent passes a second gate:
#
# $$
# dq_{no} = \begin{cases} dy_{no} & q_{no} > 0 \\ 0 & \text{otherwise} \end{cases}
# $$
#
# and in all lines above $dq$ stands for $dy$, except in $db_2$, which is outside the gate.

# %%
dq = dy * (q > 0)  # [2, 3]
agree("dq", dq, slopes(lambda q: (dy * (np.maximum(q, 0) + b2)).sum(), q))
print("lost on the way:", int(((dy != 0) & (dq == 0)).sum()), "of", int((dy != 0).sum()), "numbers")

rng = np.random.default_rng(9)
many, push = rng.standard_normal((2000, 64)), rng.standard_normal((2000, 64))
R1 = rng.standard_normal((256, 64)) * math.sqrt(2 / 64)
R2 = rng.standard_normal((64, 256)) / math.sqrt(256)
Z = many @ R1.T
Q = np.maximum(Z, 0) @ R2.T
through = [((g @ R2) * (Z > 0)) @ R1 for g in (push, push * (Q > 0))]
lost, shorter = (
    float((Q <= 0).mean()),
    float(np.linalg.norm(through[1]) / np.linalg.norm(through[0])),
)
print(f"random weights: {lost:.3f} of the outputs pass nothing back")
print(f"the gradient is {shorter:.3f} times as long")
assert abs(lost - 0.5) < 0.05
assert abs(shorter - math.sqrt(0.5)) < 0.05

# %% [markdown]
# Half of the outputs are off, and of the squared length of the gradient half is left: $\sqrt{1/2}$
# of its length.
#
# ### GELU
#
# **The exact form**, $y = x \, \Phi(x)$. The product rule:
#
# $$
# \frac{dy}{dx} = \Phi(x) + x \, \Phi'(x)
# $$
#
# $\Phi(x)$ is the area under the normal density up to $x$. Its derivative is the density at $x$.
# Let erf confirm it. Its derivative is $\frac{2}{\sqrt{\pi}} e^{-w^2}$, and $w = x / \sqrt{2}$ has
# the inner derivative $1 / \sqrt{2}$:
#
# $$
# \Phi'(x) = \frac{1}{2} \cdot \frac{2}{\sqrt{\pi}} e^{-x^2 / 2} \cdot \frac{1}{\sqrt{2}} = \frac{1}{\sqrt{2 \pi}} e^{-x^2 / 2} = \phi(x)
# $$

# %%
from scratchlm.ops.special import erf

Phi = (1 + erf(v / math.sqrt(2))) / 2  # [2, 3], the six numbers of section 4
phi = np.exp(-v * v / 2) / math.sqrt(2 * math.pi)
agree("Phi'", phi, slopes(lambda x: ((1 + erf(x / math.sqrt(2))) / 2).sum(), v))
agree("gelu'", Phi + v * phi, slopes(lambda x: ops.gelu(x)[0].sum(), v))

# %% [markdown]
# **The tanh form**, one link at a time. With $k = 0.044715$ and $c = \sqrt{2 / \pi}$:
#
# $$
# u = c \, (x + k x^3) \quad \Rightarrow \quad \frac{du}{dx} = c \, (1 + 3 k x^2)
# $$
#
# $$
# t = \tanh(u) \quad \Rightarrow \quad \frac{dt}{dx} = (1 - t^2) \frac{du}{dx}
# $$
#
# $$
# y = \frac{1}{2} x (1 + t) \quad \Rightarrow \quad \frac{dy}{dx} = \frac{1}{2} (1 + t) + \frac{1}{2} x \frac{dt}{dx}
# $$

# %%
u = c * (v + k3 * v**3)
du = c * (1 + 3 * k3 * v**2)
agree("du/dx", du, slopes(lambda x: (c * (x + k3 * x**3)).sum(), v))
t = np.tanh(u)
dt = (1 - t**2) * du
agree("dt/dx", dt, slopes(lambda x: np.tanh(c * (x + k3 * x**3)).sum(), v))
agree("dy/dx", (1 + t) / 2 + v * dt / 2, slopes(lambda x: tanh_form(x, k3).sum(), v))

# %% [markdown]
# ### SwiGLU
#
# $y = g \, b$ with the gate $g = a \, \sigma(a)$. A product again, of two variables this time:
#
# $$
# db = dy \, g, \quad dg = dy \, b
# $$
#
# Inside the gate $a$ stands twice, and lesson 02 has $\sigma' = \sigma (1 - \sigma)$:
#
# $$
# \frac{dg}{da} = \sigma(a) + a \, \sigma(a) (1 - \sigma(a)), \quad da = dy \, b \, \frac{dg}{da}
# $$

# %%
push = np.array([[1.0, 2, -1], [0.5, 1, -2]])  # [2, 3]
s = 1 / (1 + np.exp(-v))
gate = v * s
agree("db", push * gate, slopes(lambda b: (push * ops.swiglu(v, b)[0]).sum(), b))
agree(
    "da", push * b * (s + v * s * (1 - s)), slopes(lambda a: (push * ops.swiglu(a, b)[0]).sum(), v)
)

# %% [markdown]
# The solution is these lines:

# %%
source(solved.gelu_exact)
source(solved.gelu_tanh)
source(solved.swiglu)

# %% [markdown]
# ## 7. Gradient check, live
#
# Random cotangents, float64, central differences for every element: both forms of GELU, SwiGLU,
# and then the whole block with its four parameters.

# %%
from scratchlm import functional as F
from scratchlm import gradcheck, plot

rng = np.random.default_rng(7)
A, B = rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
report = gradcheck(ops.swiglu, A, B)
print(report)
assert report
assert gradcheck(ops.gelu, A)
assert gradcheck(lambda x: F.gelu(x, approximate="tanh"), A)
for name in ("gelu", "swiglu"):
    assert gradcheck(getattr(solved, name), *(A, B)[: 1 + (name == "swiglu")])


def block(x, W1, b1, W2, b2):
    return F.linear(F.gelu(F.linear(x, W1, b1)), W2, b2)


report = gradcheck(block, X, *parts, names=["x", "W1", "b1", "W2", "b2"])
print(report)
assert report

# %% [markdown]
# Now the V: error against step size. Look where the two branches meet. Before you run it: GELU is
# smooth everywhere. ReLU has a kink, and is made of straight lines. Which of the two lets you take
# a large step?

# %%
from scratchlm.gradcheck import error_by_step

ax = plot.gradcheck_curve(ops.swiglu, A, B, title="swiglu: error against step")
show(ax, alt="Two V-shaped curves of error against step on logarithmic axes: central "
             "differences have their lowest point near a step of 1e-5, forward ones near 1e-8.")  # fmt: skip

off_kink = A[np.abs(A) > 0.15]
at = {}
for name, op in [("gelu", ops.gelu), ("relu", ops.relu)]:
    steps, found = error_by_step(op, off_kink)
    at[name] = float(
        np.interp(math.log(0.1), np.log(steps[np.argsort(steps)]), found[np.argsort(steps)])
    )
    print(f"{name}: error at a step of 0.1: {at[name]:.0e}")
assert at["relu"] < 1e-12 < 1e-4 < at["gelu"]

# %% [markdown]
# ReLU, as long as the step does not reach its kink: a straight line has no third derivative. The
# inputs here are all further than 0.15 away from 0. (What happens *at* the kink is told in lesson
# 02.)

# %% [markdown]
# ## 8. See it
#
# ### The bends and their slopes
#
# Left: ReLU, GELU and silu (the gate of SwiGLU). Middle: their derivatives. Right: how far the two
# tanh forms are from GELU, in thousandths. (The sigmoid form would reach to 20.) Look left of 0: two
# of the three go down before they come up.
#
# Before you run it: can the slope of a bend that is nearly $y = x$ be larger than 1?

# %%
from scratchlm.plot import style

wide = np.linspace(-4, 4, 801)
bends = {"ReLU": ops.relu, "GELU": ops.gelu, "silu": ops.silu}
with style():
    fig, axes = figure(1, 3, width=9.2, height=3.3)
    for (name, op), look in zip(bends.items(), ["-", "--", ":"], strict=True):
        value, vjp = op(wide)
        slope = vjp(np.ones_like(wide))
        if name == "ReLU":
            slope[np.abs(wide) < 1e-9] = np.nan  # the step is not a line
        axes[0].plot(wide, value, look, label=name)
        axes[1].plot(wide, slope, look, label=name)
    for (name, e), look in zip(list(errors.items())[:2], [":", "-"], strict=True):
        axes[2].plot(grid[::100], 1000 * e[::100], look, label=name.split(" from")[0])
    axes[0].set(xlabel="x", ylabel="value", ylim=(-0.5, 2.5), xlim=(-4, 2.6), title="Value")
    axes[1].set(xlabel="x", ylabel="derivative", title="Derivative")
    axes[2].set(
        xlabel="x", ylabel="form − GELU, in 1/1000", xlim=(-5, 5), ylim=(-0.5, 1.2), title="Error"
    )
    for ax in axes:
        ax.grid(True)
        ax.legend(fontsize=7.5)
show(fig, alt="Left: ReLU with a corner at 0, GELU and silu smooth, both dipping below 0. "
              "Middle: their derivatives; those of GELU and silu rise above 1. Right: the "
              "published tanh form stays within half a thousandth, the one with the series' number "
              "within three quarters and always above.")  # fmt: skip

for name in ("GELU", "silu"):
    value, vjp = bends[name](grid)
    slope = vjp(np.ones_like(grid))
    low, steep = int(value.argmin()), int(slope.argmax())
    print(
        f"{name}: lowest {value[low]:.4f} at x = {grid[low]:.3f}; "
        f"steepest {slope[steep]:.4f} at x = {grid[steep]:.3f}"
    )
    assert value[low] < 0
    assert slope[steep] > 1
    if name == "GELU":
        assert abs(grid[steep] - math.sqrt(2)) < 1e-3

# %% [markdown]
# It can. GELU is steepest at $\sqrt{2}$, and you can derive that. With $\phi' = -x \phi$, the
# second derivative is $\phi + \phi + x \phi' = \phi \, (2 - x^2)$, which is 0 at $x = \sqrt{2}$.
# And left of its lowest point the slope is negative, small, but never quite gone: a unit that sits
# there still hears something.
#
# ### A stream that can only grow
#
# The 24 blocks of the hook. Left: the mean over all numbers of the stream after each block; the
# band holds the middle 80 %. Right: the numbers of the stream after the last block.
#
# Before you run it: a layer norm stands before each block, and takes the mean off what the block
# sees. Does that stop the growth?

# %%
pair = [("published", free, "#0072B2", "-"), ("with the outer ReLU", printed, "#D55E00", "--")]
with style():
    fig, (left, right) = figure(1, 2, width=8.4, height=3.5)
    for name, seen, color, look in pair:
        low, high = np.quantile([each.ravel() for each in seen], [0.1, 0.9], axis=1)
        left.fill_between(range(25), low, high, color=color, alpha=0.18, linewidth=0)
        left.plot(range(25), [each.mean() for each in seen], look, color=color, label=name)
        right.hist(
            seen[24].ravel(), bins=60, range=(-8, 10), histtype="step", color=color, linestyle=look,
            linewidth=1.6, label=name,
        )  # fmt: skip
    left.set(xlabel="after block", ylabel="numbers of the stream", title="Mean and middle 80 %")
    right.set(xlabel="number of the stream", ylabel="how many", title="After block 24")
    for ax in (left, right):
        ax.grid(True)
    left.legend(loc="upper left")
show(fig, alt="Left: the mean of the published stream stays near 0 while its band widens; with "
              "the outer ReLU mean and band climb in a nearly straight line, to 2.8. Right: one "
              "histogram is centered at 0, the other at about 3.")  # fmt: skip

climbs = np.diff([each.mean() for each in printed])
print(f"what a block adds on average: {climbs.min():.3f} to {climbs.max():.3f}")
assert climbs.min() > 0.09

# %% [markdown]
# It does not. The norm changes what the block *sees*. The stream itself goes by outside, and gets
# its portion from every block: 0.1 or more, 24 times.
#
# ### Dead units
#
# Now a network that learns: eight characters of Python's help texts, and from them the next one.
# The characters go through an embedding and one linear layer into a stream of 64; then come blocks
# $x + \mathrm{FFN}(\mathrm{norm}(x))$, as in a GPT without its attention. It is used to the end of
# the lesson, with five kinds of block:


# %%
from scratchlm import data, no_grad, optim
from scratchlm.train.threads import blas_threads

text = data.corpus("topics")
words = len(text.vocabulary)


class FFN(nn.Module):
    """The block in five kinds; `std` is that of W1, and of W2 before it is divided."""

    def __init__(self, kind, d, layers, std, rng):
        self.kind = kind
        h = 8 * d // 3 if kind == "SwiGLU" else 4 * d
        bias = kind not in ("SwiGLU", "D1")
        self.W1 = nn.Linear(d, h, bias, std=std, rng=rng)
        if kind == "SwiGLU":
            self.V = nn.Linear(d, h, False, std=std, rng=rng)
        out = std / math.sqrt(2 * layers)
        self.W2 = nn.Linear(h, d, bias and kind != "D4", std=out, rng=rng)
        if kind == "D4":
            self.b2 = nn.Parameter(np.zeros(d, np.float32))

    def forward(self, x):
        z = self.W1(x)  # [..., d] -> [..., h]
        if self.kind == "SwiGLU":
            return self.W2(F.swiglu(z, self.V(x)))
        y = self.W2(F.gelu(z) if self.kind == "GELU" else F.relu(z))  # [..., h] -> [..., d]
        if self.kind == "D1":
            return F.relu(y)
        return F.relu(y) + self.b2 if self.kind == "D4" else y


class Window(nn.Module):
    """Logits of the next character from eight: ids [n, 8] -> [n, words]."""

    def __init__(self, kind, layers, seed=0, std=0.05, d=64):
        rng = np.random.default_rng(seed)
        self.table = nn.Embedding(words, 16, rng=rng)
        self.start = nn.Linear(8 * 16, d, rng=rng)
        self.blocks = nn.ModuleList(FFN(kind, d, layers, std, rng) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(layers + 1))
        self.end = nn.Linear(d, words, rng=rng)

    def streams(self, ids):
        """The stream before the first block and after each."""
        x = self.start(self.table(ids).reshape(ids.shape[0], -1))  # [n, 8, 16] -> [n, d]
        seen = [x]
        for block, norm in zip(self.blocks, list(self.norms)[:-1], strict=True):
            seen.append(seen[-1] + block(norm(seen[-1])))
        return seen

    def forward(self, ids):
        return self.end(self.norms[len(self.blocks)](self.streams(ids)[-1]))


def windows(ids, n, rng):
    at = rng.integers(0, len(ids) - 9, n)
    return ids[at[:, None] + np.arange(8)], ids[at + 8]


@blas_threads(1)  # products as small as these are no faster with more
def train_window(kind, *, layers=4, lr=1e-3, steps=200, seed=0, std=0.05):
    """The trained network and its losses, on batches of 64."""
    network = Window(kind, layers, seed, std)
    optimizer, rng, losses = optim.AdamW(network.parameters(), lr=lr), np.random.default_rng(1), []
    for _ in range(steps):
        ids, targets = windows(text.train, 64, rng)
        optimizer.zero_grad()
        loss = F.cross_entropy(network(ids), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return network, losses


held_out = windows(text.validation, 2000, np.random.default_rng(2))


def active(network):
    """For each hidden unit, the share of 2000 unseen windows with z > 0."""
    with no_grad():
        seen = network.streams(held_out[0])
        shares = [
            (block.W1(norm(x)).data > 0).mean(axis=0)
            for block, norm, x in zip(
                network.blocks, list(network.norms)[:-1], seen[:-1], strict=True
            )
        ]
    return np.concatenate(shares)


# %% [markdown]
# Two blocks, 512 hidden units. For each unit: on which share of the unseen windows is it on, that
# is, $z > 0$? The units are sorted by that share. A unit at 0 is never on. Two learning rates, ten
# times apart, ReLU and GELU.
#
# Before you run it: which of the four curves touches 0? And is a GELU unit at 0 dead?

# %%
looks = {("ReLU", 1e-3): "-", ("ReLU", 1e-2): "--", ("GELU", 1e-3): "-.", ("GELU", 1e-2): ":"}
rows, share = [], {}
for kind, lr in looks:
    network, losses = train_window(kind, layers=2, lr=lr)
    share[kind, lr] = active(network)
    never = float((share[kind, lr] == 0).mean())
    rows.append([f"{kind}, rate {lr:g}", float(np.mean(losses[-30:])), f"{never:.1%}"])
table(rows, columns=["", "mean loss of the last 30", "units never on"], digits=3)
with style():
    fig, ax = figure(width=6.4, height=3.4)
    for (kind, lr), look in looks.items():
        ax.plot(np.sort(share[kind, lr]), look, label=f"{kind}, rate {lr:g}", linewidth=1.8)
    ax.set(xlabel="hidden unit, sorted", ylabel="share of windows with z > 0", ylim=(-0.02, 1))
    ax.grid(True)
    ax.legend()
show(fig, alt="Four rising curves over 512 sorted units. At the small rate ReLU and GELU rise "
              "from about 0.15 to 0.8. At the large rate ReLU lies on 0 for about the first "
              "hundred units, GELU for a few only.")  # fmt: skip
never = {key: float((each == 0).mean()) for key, each in share.items()}
assert never["ReLU", 1e-3] < 0.01
assert never["ReLU", 1e-2] > 0.1
assert never["GELU", 1e-2] < never["ReLU", 1e-2] / 2

# %% [markdown]
# At the larger rate a good part of the ReLU units is off on every window. Their weights get no
# gradient from any of them, so nothing brings them back. (The loss is still better than at the
# small rate, which is slow here: dead units are a waste, and not yet a failure.) A GELU unit is
# not dead there. Its slope is small and not zero, except far out.
#
# The outer ReLU does the same to the *outputs* of the block, the ones that the stream waits for:

# %%
network, _ = train_window("D1", layers=2)
with no_grad():
    seen = network.streams(held_out[0])
for k, (before, after) in enumerate(pairwise(seen)):
    off = after.data == before.data
    print(
        f"block {k + 1} of D1's, trained: {off.mean():.0%} of what it could write is 0, "
        f"and {off.all(axis=0).sum()} of 64 outputs are 0 for every window"
    )
    assert off.mean() > 0.3

# %% [markdown]
# ## 9. Break it
#
# ### The misprint: targets with a sign
#
# One block, no stream, and a task that could not be simpler: a linear map of four numbers, half of
# whose results are negative. D1's formula cannot go below 0. So whatever it learns, the squares of
# the negative targets remain. That floor is known before training.


# %%
def fit(kind, steps=400):
    """The last loss for a linear target, what the block says, and the block."""
    rng = np.random.default_rng(4)
    inputs = rng.standard_normal((256, 4)).astype(np.float32)
    target = inputs @ rng.standard_normal((4, 4)).astype(np.float32)
    ffn = FFN(kind, 4, 1, 0.7, np.random.default_rng(0))
    optimizer = optim.AdamW(ffn.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        said = ffn(Tensor(inputs))
        loss = F.mse(said, Tensor(target))
        loss.backward()
        optimizer.step()
    return loss.item(), said.data, ffn, float((np.minimum(target, 0) ** 2).mean())


fitted = {kind: fit(kind) for kind in ("ReLU", "D1", "D4")}
floor = fitted["D1"][3]
names = {"ReLU": "published", "D1": "D1, as printed", "D4": "D4 §4.1.2, as printed"}
table(
    [[names[kind], each[0], float(each[1].min())] for kind, each in fitted.items()],
    columns=["block", "loss after 400 steps", "lowest output"],
    digits=3,
)
print(f"floor for outputs that are never negative: {floor:.3f}")
lowest = fitted["D4"][2].b2.data
print("D4's b2, trained from 0:", lowest.round(2).tolist())
assert fitted["ReLU"][0] < 0.1 * floor
assert fitted["D1"][0] > floor
assert fitted["D1"][1].min() >= 0
assert lowest.max() < -0.5
assert fitted["ReLU"][0] < fitted["D4"][0] < floor
assert (fitted["D4"][1] >= lowest - 1e-6).all()

# %% [markdown]
# D4's formula finds a way out. It pulls $b_2$ down, and then has $\mathrm{ReLU}(q)$ climb up from
# there. The bias outside has become the lowest value the block can say. It helps, it is slower,
# and in a stack every block would have to learn it.
#
# ### Wrong GELUs in a GPT
#
# A GPT of two layers, 40 steps each, with one mistake after the other in the place of the
# library's GELU. The last two columns tell what a gradient check and what a comparison of values
# say (in the form that is wrong). Before you look: which will you see in the loss?

# %%
import scratchlm
from scratchlm.models.gpt import GPT, GPTConfig


@blas_threads(1)
def train_gpt(op="reference", steps=40, layers=2):
    """The model and its losses; everything has a seed."""
    config = GPTConfig(words, block_size=16, n_layer=layers, n_head=2, n_embd=32)
    model = GPT(config, rng=0, std=0.2)
    optimizer, rng, losses = optim.AdamW(model.parameters(), lr=3e-3), np.random.default_rng(1), []
    with scratchlm.use(gelu=op), np.errstate(all="ignore"):
        for _ in range(steps):
            ids, targets = data.sample_batch(text.train, 8, 16, rng)
            optimizer.zero_grad()
            _, loss = model(ids, targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return model, losses


def checked(op, approximate):
    """The error that a gradient check finds, and the largest error of a value, in one form."""
    found = gradcheck(lambda x: op(x, approximate=approximate), 2 * A).error
    return found, float(np.abs(op(wide, approximate=approximate)[0]
                               - ops.gelu(wide, approximate=approximate)[0]).max())  # fmt: skip


gelu_exercise = exercises(23)["gelu"]
model, losses = train_gpt()
rows = [["none", losses[0], float(np.mean(losses[-10:])), *checked(ops.gelu, "tanh")]]
end = {}
for name in (
    "path through tanh forgotten", "no 1 - t²", "inner derivative left out",
    "exponent not brought down", "no cube", "coefficient outside", "root of 2π",
    "sigmoid for tanh", "tanh form not halved",
):  # fmt: skip
    wrong = gelu_exercise.mistake(name).function
    _, found = train_gpt(wrong)
    end[name] = (float(np.mean(found[-10:])), *checked(wrong, "tanh"))
    rows.append([name, found[0], *end[name]])
table(
    rows,
    columns=["mistake", "first loss", "last 10", "gradient check, error", "largest error of y"],
    digits=3,
)
right_end = float(np.mean(losses[-10:]))
hidden = [name for name, each in end.items() if abs(each[0] - right_end) < 0.1]
print(f"{len(hidden)} of {len(end)} end within 0.1 of the right one")
assert len(hidden) >= 7
for name in ("path through tanh forgotten", "no 1 - t²", "inner derivative left out"):
    assert end[name][1] > 1e-3
    assert end[name][2] < 1e-12
for name in ("no cube", "coefficient outside", "root of 2π", "sigmoid for tanh"):
    assert end[name][1] < 1e-6
    assert end[name][2] > 1e-3

# %% [markdown]
# None, after 40 steps. Another 1000 might tell them apart, if you had the right curve beside them.
# The table has two kinds of rows, and each is blind to one test. In the upper rows the values are
# right and the gradient is wrong: the check finds them. Below, another function has been
# differentiated without a mistake: the gradient check is content. Only a comparison of values
# finds those.
#
# ### Somebody else's weights
#
# A wrong function that is trained with gets its weights to match. The harm comes when weights and
# function were not trained together. Take the model trained above with the right GELU, and read on
# with another one:

# %%
ids, targets = data.sample_batch(text.validation, 64, 16, np.random.default_rng(3))


def reads(op):
    with scratchlm.use(gelu=op), no_grad():
        return model(ids, targets)


own_logits, own_loss = reads("reference")
rows, moved_by = [], {}
for name in (
    "always exact", "coefficient outside", "sigmoid for tanh", "no cube", "root of 2π",
    "tanh form not halved",
):  # fmt: skip
    logits, loss = reads(gelu_exercise.mistake(name).function)
    moved_by[name] = float(np.abs(logits.data - own_logits.data).max())
    rows.append([name, moved_by[name], loss.item() - own_loss.item()])
table(
    rows,
    columns=["GELU used for reading", "largest change of a logit", "change of the loss"],
    digits=2,
)
assert moved_by["always exact"] < moved_by["sigmoid for tanh"] < moved_by["root of 2π"]
assert rows[-1][2] > 0.005

# %% [markdown]
# The first row is what a model of the one true form suffers when it is loaded as the other. It is
# little: enough to decide between two characters that are nearly even, and for a comparison with
# published logits to fail in the fourth digit. The lower rows are mistakes, and of some of them
# the loss shows next to nothing. Compare logits, not losses.
#
# ### $\Phi$ with $\mathrm{erf}(x)$
#
# Forget the $\sqrt{2}$ in the exact form, and keep the right density for backward. Now function
# and gradient do not fit each other, and both tests find it:

# %%
wrong = gelu_exercise.mistake("erf of x").function
found, off = checked(wrong, "none")
print(f"gradient check: error {found:.2g}; largest error of y: {off:.3f}")
at_one = wrong(np.array([1.0]))[0][0]
print(f"gelu(1) = {at_one:.4f}; one standard deviation in a table of the normal: 0.8413")
assert found > 1e-2
assert off > 0.05

# %% [markdown]
# ### Wrong gates
#
# The same for SwiGLU, in the network of section 8, 120 steps.

# %%
gates = exercises(23)["swiglu"]
rows, gate_end = [], {}
for name in (
    "none", "gradients exchanged", "gate not multiplied in backward",
    "b not multiplied in backward", "slope of sigmoid for that of silu", "sigmoid as a constant",
    "GLU", "two gates",
):  # fmt: skip
    op = ops.swiglu if name == "none" else gates.mistake(name).function
    with scratchlm.use(swiglu="reference" if name == "none" else op):
        _, found = train_window("SwiGLU", steps=120)
    gate_end[name] = float(np.mean(found[-20:]))
    rows.append([name, gate_end[name], gradcheck(op, A, B).error])
table(rows, columns=["mistake", "mean loss of the last 20", "gradient check, error"], digits=3)
assert all(each[2] > 1e-2 for each in rows[1:6])
assert max(each[2] for each in (rows[0], *rows[6:])) < 1e-6
worst = max(gate_end, key=gate_end.get)
print("the worst:", worst)
assert gate_end[worst] > gate_end["none"] + 0.1

# %% [markdown]
# Some gradients that are wrong train slower, and some hardly so. None crashes. That is what a
# wrong gradient usually looks like: not an error, a model that is a little worse than it could be,
# for a reason nobody looks for.

# %% [markdown]
# ## 10. Your turn
#
# Write `gelu(x, *, approximate="none")` and `swiglu(a, b)`. The first returns `(y, vjp)` with
# `vjp(dy) -> dx`, the second with `vjp(dy) -> (da, db)`. The stub has an `erf` for you.
#
#     scratchlm start 23            # copies the stub into your folder
#     scratchlm check 23 --watch    # checks it each time you save
#     scratchlm hint 23             # three levels
#
# A path that works: the exact form first, forward and backward; then the tanh form with $u$, $t$
# and $y$ as three lines, and its backward as three lines from the bottom up. When it passes, it
# can train a GPT:
#
#     with scratchlm.use(gelu=gelu): ...

# %%
print("what the check says if the path through Φ is forgotten:\n")
fault = gelu_exercise.check(gelu_exercise.mistake("path through Φ forgotten").function).fault
print(fault.what, fault.where, fault.looks_like, fault.hint, sep="\n")

# %% [markdown]
# ## 11. Cost
#
# A matrix of $h \times d$ takes $2 h d$ operations for one position. Forward through both
# matrices, with $h = 4 d$, is $16 d^2$; backward is twice that, one product for the input and one
# for the weight. SwiGLU with two thirds of the width takes the same. For GPT-2's smallest size,
# one layer, one position of a text of 1024:

# %%
D, T = 768, 1024
flops = {
    "feed-forward, 16 d²": 16 * D * D,
    "attention: its four matrices, 8 d²": 8 * D * D,
    "attention: scores and sums, 4 T d": 4 * T * D,
}
total = sum(flops.values())
table(
    [[name, f"{n:,}", f"{n / total:.0%}"] for name, n in flops.items()],
    columns=["", "operations", "share"],
)
weights = 8 * D * D / (12 * D * D)
print(f"of the weights of a layer, {weights:.0%} are here")
assert flops["feed-forward, 16 d²"] / total > 0.5

# %% [markdown]
# The bend itself is cheap in operations, but it reads and writes the widest array of the model.
# `tracemalloc` measures what each op keeps for backward beside its inputs and its result, in
# arrays of the size of $z$. The times are those of this machine.

# %%
import time
import tracemalloc

z_big, push = (
    np.random.default_rng(11).standard_normal((512, 2048)).astype(np.float32) for _ in "ab"
)


def cost_of(op, *arrays):
    """Arrays kept, milliseconds forward, milliseconds backward."""
    tracemalloc.start()
    result = op(*arrays)
    kept = (tracemalloc.get_traced_memory()[0] - result[0].nbytes) / z_big.nbytes
    tracemalloc.stop()
    times = []
    for call in (lambda: op(*arrays), lambda: result[1](push)):
        each = []
        for _ in range(3):
            begin = time.perf_counter()
            call()
            each.append(time.perf_counter() - begin)
        times.append(1e3 * min(each))
    return [kept, *times]


costs = {
    "relu": cost_of(ops.relu, z_big),
    "gelu": cost_of(ops.gelu, z_big),
    "gelu, tanh form": cost_of(lambda x: ops.gelu(x, approximate="tanh"), z_big),
    "swiglu": cost_of(ops.swiglu, z_big, push),
}
table(
    [[name, *each] for name, each in costs.items()],
    columns=["op", "kept / size of z", "forward, ms", "backward, ms"],
    digits=3,
)
assert costs["relu"][0] < 0.1
assert all(abs(costs[name][0] - 1) < 0.1 for name in ("gelu", "gelu, tanh form"))
assert abs(costs["swiglu"][0] - 2) < 0.1

# %% [markdown]
# ReLU keeps nothing of its own: the sign of its input tells all. GELU keeps $\Phi$ or $t$, SwiGLU
# keeps $\sigma(a)$ and the gate. A fused kernel keeps none of these. It computes them once more
# from $z$ in backward, since reading is dearer than computing.

# %% [markdown]
# ## 12. Use it
#
# ### The printed block in a GPT, and without attention
#
# Left: a GPT of four layers, GPT-2's initial weights (0.02), with ReLU blocks as published, with
# D1's and with D4's; the mean of 10 steps. Right: the network of section 8, four blocks, no
# attention, the mean of two seeds and 30 steps. All read the same text in the same order, so the
# loss of the published ReLU is taken off, and what is left is the distance from it. Look at where
# the curves part.
#
# Before you run it: in a GPT attention writes to the stream, too, and may write negative numbers.
# In which of the panels will the outer ReLU cost more?


# %%
@blas_threads(1)
def gpt_with(kind, steps=120, layers=4, d=32):
    """A GPT whose feed-forward blocks are of this kind, and its losses."""
    config = GPTConfig(words, block_size=32, n_layer=layers, n_head=2, n_embd=d)
    model = GPT(config, rng=0)
    for block in model.transformer.h:
        block.mlp = FFN(kind, d, layers, 0.02, np.random.default_rng(1))
    optimizer, rng, losses = optim.AdamW(model.parameters(), lr=3e-3), np.random.default_rng(1), []
    for _ in range(steps):
        ids, targets = data.sample_batch(text.train, 8, 32, rng)
        optimizer.zero_grad()
        _, loss = model(ids, targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


def means(model):
    """The mean of the stream of a GPT before the first block and after each."""
    ids, _ = data.sample_batch(text.validation, 16, 32, np.random.default_rng(5))
    body = model.transformer
    with no_grad():
        x = body.wte(ids) + body.wpe.weight[:32]
        seen = [float(x.data.mean())]
        for block in body.h:
            x = block(x)
            seen.append(float(x.data.mean()))
    return seen


gpts = {kind: gpt_with(kind) for kind in ("ReLU", "D1", "D4")}
seeds = (0, 1)
stacks = {
    kind: np.array([train_window(kind, seed=seed)[1] for seed in seeds])
    for kind in ("ReLU", "D1", "GELU", "SwiGLU")
}


def smooth(losses, width):
    return np.convolve(losses, np.ones(width) / width, mode="valid")


colors = {
    "ReLU": "#0072B2",
    "D1": "#D55E00",
    "D4": "#E69F00",
    "GELU": "#009E73",
    "SwiGLU": "#000000",
}
dashes = {"ReLU": "-", "D1": "--", "D4": ":", "GELU": "-.", "SwiGLU": (0, (1, 1))}
with style():
    fig, (left, right) = figure(1, 2, width=8.8, height=3.6)
    base = stacks["ReLU"].mean(axis=0)
    for ax, width, curves in [
        (left, 10, {kind: losses for kind, (_, losses) in gpts.items()}),
        (right, 30, {kind: each.mean(axis=0) - base for kind, each in stacks.items()}),
    ]:
        for kind, losses in curves.items():
            line = smooth(losses, width)
            label = "ReLU, published" if kind == "ReLU" else names.get(kind, kind)
            ax.plot(
                np.arange(len(line)) + width, line, linestyle=dashes[kind], color=colors[kind],
                label=label,
            )  # fmt: skip
        ax.grid(True)
    left.set(xlabel="step", ylabel="loss (nats per character)", title="GPT, 4 layers")
    left.set_ylim(top=3.6)
    right.set(
        xlabel="step", ylabel="loss − loss of ReLU, published", title="No attention, 4 blocks"
    )
    left.legend()
    right.legend()
show(fig, alt="Left: three loss curves of a GPT that fall together and then part, the published "
              "one lowest. Right: distances from ReLU; those of D1 and GELU rise to about 0.05, "
              "that of SwiGLU starts high and falls to -0.06.")  # fmt: skip

rows = [
    [names[kind], float(np.mean(losses[-20:])), *means(model)[::2]]
    for kind, (model, losses) in gpts.items()
]
table(
    rows, columns=["GPT, trained", "loss, last 20", "stream mean at 0", "2", "4 blocks"], digits=3
)
end_loss = {kind: np.mean(losses[-20:]) for kind, (_, losses) in gpts.items()}
assert end_loss["D1"] > end_loss["ReLU"] + 0.03
growth = {kind: means(model)[-1] - means(model)[0] for kind, (model, _) in gpts.items()}
assert growth["D1"] > 0.2
assert growth["D4"] > 0.2
assert abs(growth["ReLU"]) < 0.2

last = {kind: each[:, -30:].mean(axis=1) for kind, each in stacks.items()}
table(
    [[kind, *map(float, each), float(each.mean())] for kind, each in last.items()],
    columns=["no attention: loss, last 30", *(f"seed {s}" for s in seeds), "mean"],
    digits=4,
)
size = {kind: sum(p.data.size for p in Window(kind, 4, 0).parameters()) for kind in stacks}
print("parameters:", size)
# recorded: 2.71 ReLU, 2.76 D1, 2.75 GELU, 2.66 SwiGLU
assert (last["D1"] > last["ReLU"]).all()
assert last["SwiGLU"].mean() < min(last["ReLU"].mean(), last["GELU"].mean())
assert max(each.mean() for each in last.values()) < 2.85
assert abs(size["SwiGLU"] / size["ReLU"] - 1) < 0.02

# %% [markdown]
# The outer ReLU does not ruin the model. It costs something: without attention for every seed, and
# in the GPT, too, where it is one run, so that small distances mean nothing. And the stream shows
# where: in the GPT with D1's or D4's block its mean climbs from layer to layer, and in the
# published one it stays near 0. D4's $b_2$ may be negative, and could pull the stream down; in
# these steps it does not.
#
# Be fair to the misprint: does it cost something always? Start the weights four times as large, in
# eight blocks. Then what the blocks write at the start is mostly noise, and the outer ReLU writes
# half of it:

# %%
loud = {}
for kind in ("ReLU", "D1"):
    _, losses = train_window(kind, layers=8, std=0.2, steps=120)
    loud[kind] = float(np.mean(losses[-20:]))
    print(f"{names[kind]:15} 8 blocks, initial std 0.2: loss {loud[kind]:.3f}")
assert abs(loud["D1"] - loud["ReLU"]) < 0.1

# %% [markdown]
# There the two are about even: the order depends on how one starts. So a training curve alone does
# not convict the formula. What convicts it is what section 9 and the hook show: a block that cannot
# say less than 0, and a stream that cannot forget.
#
# GELU is not better than ReLU here. SwiGLU is, by a clear distance and with slightly fewer
# parameters. Shazeer 2020 found the same order for it in larger models, and offers no explanation
# for it. These runs are small and short. They are no proof for either.
#
# ### Your GELU in the GPT
#
# The solution in the place of the library's op, ten steps of the GPT of section 9:

# %%
_, ours = train_gpt(solved.gelu, steps=10)
_, theirs = train_gpt(steps=10)
print("solution:", [round(each, 4) for each in ours[-3:]])
print("library: ", [round(each, 4) for each in theirs[-3:]])
assert np.allclose(ours, theirs, rtol=1e-5)  # float32: other rounding in the last digits

share = np.bincount(text.train) / len(text.train)
entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
print(f"who knows how often each character occurs, and no more, has the loss {entropy:.2f}")
assert last["SwiGLU"].mean() < entropy - 0.5

# %% [markdown]
# ## 13. Recap
#
# Three questions. Answer before you read on.
#
# 1. D4 has $b_2$ outside the outer ReLU. What does $b_2$ mean there?
# 2. A gradient check of your GELU passes, and the weights of GPT-2 give slightly wrong logits. What
#    do you look at?
# 3. Why can a ReLU unit die, and a GELU unit hardly?
#
# *1.* It is the lowest value that the block can say. In the published formula it is the value at
# $a = 0$, and the block can go below it. *2.* At the function, not at its gradient: the exact form
# for the tanh form, or the coefficient outside the bracket. *3.* Where $z < 0$, the slope of ReLU
# is 0, so the weights of a unit that is off on all inputs get no gradient. GELU's slope there is
# small, but not 0, except far out.
#
# | English | 中文 |
# |---|---|
# | feed-forward network | 前馈网络 |
# | hidden layer, hidden unit | 隐藏层、隐藏单元 |
# | activation function | 激活函数 |
# | residual stream | 残差流 |
# | gate | 门控 |
# | dead unit | 死亡神经元 |
# | density, distribution function | 概率密度、分布函数 |
# | bias | 偏置 |
#
# References: Vaswani et al. 2017, *Attention Is All You Need*, eq. 2. Hendrycks & Gimpel 2016,
# *Gaussian Error Linear Units*, §2. Shazeer 2020, *GLU Variants Improve Transformer*, eq. 6.
# Dauphin et al. 2017, *Language Modeling with Gated Convolutional Networks*. Elfwing, Uchibe &
# Doya 2018, on silu. Cody 1969, *Rational Chebyshev Approximations for the Error Function*.
#
# Next: lesson 24 looks at the norm that stands before this block.
