# %% [markdown]
# # 04 · The multilayer perceptron · 多层感知机
#
# Two thirds of the numbers in GPT-2 stand in one kind of layer: multiply by a matrix, add a vector.
# Its gradient has three short formulas. One of them, that of the vector, is what is most often got
# wrong by people who write their first layer. And it takes a second layer, with a bend in between,
# before a network can answer a question as small as "are these two different?"

# %% [markdown]
# ## 1. Card
#
# You need the chain rule with its sums over all paths (lesson 01), and an activation function or
# two (lesson 02). At the end you have written the layer that the GPT of this course spends most of
# its time in.

# %%
import math
import re
from itertools import pairwise

import numpy as np

import scratchlm
from scratchlm import Tensor, ops, optim, plot
from scratchlm import functional as F
from scratchlm.gradcheck import gradcheck
from scratchlm.lessons import card, exercises, figure, show, solution, source, table

card(4)
solved = solution(4)

# %% [markdown]
# ## 2. Hook
#
# Two bits come in. Say 1 if they differ, 0 if they are equal: the *exclusive or*, XOR. Four
# examples are all there is. We train the layer that D5 §4.1 prints, and beside it one with a
# second layer. Same data, same learning rate, 2000 steps. The loss is the mean of $-\ln$ of the
# probability that the network gives to the right answer (lesson 05 tells all about it); a network
# that always says "one half" pays $\ln 2 = 0.6931$.

# %%
corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])  # [4, 2]
differ = np.array([[0.0], [1.0], [1.0], [0.0]])  # [4, 1]


def start(sizes, seed, scale=1.0):
    """Random weights with the standard deviation scale / sqrt(inputs), and biases 0."""
    rng = np.random.default_rng(seed)
    return [
        [scale * rng.standard_normal((n_out, n_in)) / math.sqrt(n_in), np.zeros(n_out)]
        for n_in, n_out in pairwise(sizes)
    ]


def forward(layers, x, linears):
    """The scores before the last sigmoid, the hidden values, and the vjps, first layer first."""
    hidden, vjps = [], []
    for k, ((W, b), linear) in enumerate(zip(layers, linears, strict=True)):
        x, vjp = linear(x, W, b)
        vjps.append(vjp)
        if k < len(layers) - 1:  # a bend between two layers, none after the last
            x, vjp = ops.tanh(x)
            hidden.append(x)
            vjps.append(vjp)
    return x, hidden, vjps


def descend(layers, x, t, steps, rate, linears=None):
    """Gradient descent on all examples at once. Returns the layers and the losses."""
    linears = linears or [solved.linear] * len(layers)
    layers, losses = [list(layer) for layer in layers], []
    for _ in range(steps):
        z, _, vjps = forward(layers, x, linears)
        loss, vjp = ops.binary_cross_entropy_with_logits(z, t)
        losses.append(float(loss))
        d = vjp(np.ones(()))[0]
        for k in reversed(range(len(layers))):
            if k < len(layers) - 1:
                d = vjps.pop()(d)  # back through the bend
            d, dW, db = vjps.pop()(d)  # back through the layer
            layers[k][0] = layers[k][0] - rate * dW
            if db is not None:
                layers[k][1] = layers[k][1] - rate * db
    return layers, np.array(losses)


def probabilities(layers, x):
    return ops.sigmoid(forward(layers, x, [solved.linear] * len(layers))[0])[0]


one, one_losses = descend(start([2, 1], seed=4), corners, differ, 2000, 0.5)
two, two_losses = descend(start([2, 8, 1], seed=4), corners, differ, 2000, 0.5)
table(
    [
        [f"{a:.0f} and {b:.0f}", int(t), float(p), float(q)]
        for (a, b), (t,), (p,), (q,) in zip(
            corners, differ, probabilities(one, corners), probabilities(two, corners), strict=True
        )
    ]
    + [["loss", "", one_losses[-1], two_losses[-1]]],
    columns=["input", "right answer", "one layer, as printed", "two layers"],
)
assert np.allclose(probabilities(one, corners), 0.5, atol=1e-3)
assert 0 <= one_losses[-1] - math.log(2) < 1e-6
assert two_losses[-1] < 0.01

# %% [markdown]
# The printed layer has learned to shrug. More steps will not help it, nor better luck: section 9
# proves in four lines that no weights can.

# %% [markdown]
# ## 3. Formula
#
# **As printed** (D5 §4.1), introduced as a simple multilayer perceptron:
#
# $$
# f(x) = \sigma(W_1 \cdot x + b_1)
# $$
#
# **As published** (Rumelhart, Hinton & Williams 1986; Goodfellow et al. 2016, eq. 6.3 with ReLU for
# $\sigma$): a second layer follows.
#
# $$
# f(x) = W_2 \, \sigma(W_1 x + b_1) + b_2
# $$
#
# The index 1 in the print announces a $W_2$ that never comes. What is printed is *one* layer of a
# multilayer perceptron. With the sigmoid for $\sigma$ it has a name of its own: logistic
# regression. The bend has to stand *between* two layers. Without it two layers are one:
#
# $$
# W_2 (W_1 x + b_1) + b_2 = (W_2 W_1)\, x + (W_2 b_1 + b_2)
# $$
#
# ### Columns on paper, rows in memory
#
# The document's $x$ is one column. A program has many examples, and stores each as a *row*, so that
# one example is contiguous in memory. Transposing $y = W x + b$ turns the column into a row,
# $y^T = x^T W^T + b^T$, and $N$ rows on top of each other give the form of every library:
#
# $$
# y = x W^T + b, \qquad y_{no} = \sum_{i} x_{ni} W_{oi} + b_o
# $$
#
# | symbol | variable | shape |
# |---|---|---|
# | $x$ | `x` | $[N, \mathrm{in}]$, or $[B, T, \mathrm{in}]$ with $N = B T$ rows |
# | $W$ | `weight` | $[\mathrm{out}, \mathrm{in}]$, the same as on paper; row $o$ makes output $o$ |
# | $b$ | `bias` | $[\mathrm{out}]$, one number for each output, the same for every row |
# | $y$ | `y` | $[N, \mathrm{out}]$ |
# | $n$, $i$, $o$ | | row, input, output |
# | $dy_{no}$ | `dy` | $[N, \mathrm{out}]$, $\partial L / \partial y_{no}$, from above |
#
# $W$ itself is not transposed in memory. Only the product is written the other way round.

# %%
rng = np.random.default_rng(4)
X, W, b = rng.standard_normal((5, 3)), rng.standard_normal((2, 3)), rng.standard_normal(2)
columns = np.stack([W @ X[n] + b for n in range(5)], axis=1)  # [2, 5]: each column W·x + b
rows = X @ W.T + b  # [5, 2]: all at once
print("columns", columns.shape, "  rows", rows.shape)
assert np.allclose(columns.T, rows, rtol=1e-14)
assert np.allclose(W @ X.T + b[:, None], rows.T, rtol=1e-14)  # the paper's form, with a batch

W2, b2 = rng.standard_normal((4, 2)), rng.standard_normal(4)
merged = X @ (W2 @ W).T + (W2 @ b + b2)  # one layer
assert np.allclose(rows @ W2.T + b2, merged, rtol=1e-12)  # two without a bend are one

# %% [markdown]
# ## 4. By hand
#
# Two rows of three inputs, two outputs. All numbers are small enough for the head.

# %%
x = np.array([[1.0, 2.0, -1.0], [0.0, 1.0, 3.0]])  # [N, in] = [2, 3]
W = np.array([[1.0, 0.0, 2.0], [-1.0, 1.0, 1.0]])  # [out, in] = [2, 3]
b = np.array([1.0, -2.0])  # [out]
y = np.zeros((2, 2))
for n in range(2):
    for o in range(2):
        terms = [x[n, i] * W[o, i] for i in range(3)]
        y[n, o] = sum(terms) + b[o]
        products = " + ".join(f"({x[n, i]:.0f})({W[o, i]:.0f})" for i in range(3))
        print(f"y[{n},{o}] = {products} + ({b[o]:.0f}) = {y[n, o]:.0f}")
assert y.tolist() == [[0.0, -2.0], [7.0, 2.0]]

# %% [markdown]
# Backward. Suppose the loss tells us $dy$, below. Each input gets its three sums; section 6 says
# where they come from.

# %%
dy = np.array([[1.0, -1.0], [2.0, 0.5]])  # [N, out]
print("dy =", dy.tolist())
for n in range(2):
    print(
        f"dx[{n}] = ({dy[n, 0]:g}) {W[0].tolist()} + ({dy[n, 1]:g}) {W[1].tolist()}"
        f" = {(dy[n] @ W).tolist()}"
    )
for o in range(2):
    print(
        f"dW[{o}] = ({dy[0, o]:g}) {x[0].tolist()} + ({dy[1, o]:g}) {x[1].tolist()}"
        f" = {(dy[:, o] @ x).tolist()}"
    )
for o in range(2):
    print(f"db[{o}] = ({dy[0, o]:g}) + ({dy[1, o]:g}) = {dy[:, o].sum():g}")
assert (dy @ W).tolist() == [[2.0, -1.0, 1.0], [1.5, 0.5, 4.5]]
assert (dy.T @ x).tolist() == [[1.0, 4.0, 5.0], [-1.0, -1.5, 2.5]]
assert dy.sum(axis=0).tolist() == [3.0, -0.5]

# %% [markdown]
# Look at who is mixed with whom. A row of $dx$ mixes rows of $W$, and looks at one example only. A
# row of $dW$ mixes *examples*. So does $db$: it is $dW$ for an input that is always 1.
#
# ### XOR by hand
#
# Two hidden units solve it (Goodfellow et al. 2016, §6.1). With $\mathrm{ReLU}(a) = \max(0, a)$:
# the first unit counts the ones, the second fires only at two, and the output takes twice the
# second from the first.

# %%
h1 = np.maximum(corners.sum(axis=1), 0)
h2 = np.maximum(corners.sum(axis=1) - 1, 0)
f = h1 - 2 * h2
table(
    [[f"{p:.0f} and {q:.0f}", *(f"{v:.0f}" for v in row)] for (p, q), *row in zip(
        corners, h1, h2, f, strict=True
    )],
    columns=["input", "ReLU(x₁ + x₂)", "ReLU(x₁ + x₂ − 1)", "f = first − 2 · second"],
)  # fmt: skip
assert f.tolist() == differ[:, 0].tolist()

# %% [markdown]
# ## 5. In code
#
# Three loops, one for each index:


# %%
def linear_loops(x, weight, bias):
    y = np.zeros((len(x), len(weight)))
    for n in range(len(x)):  # each row
        for o in range(len(weight)):  # each output
            y[n, o] = bias[o]
            for i in range(x.shape[1]):  # each input
                y[n, o] += x[n, i] * weight[o, i]
    return y


print(linear_loops(x, W, b).tolist())

# %% [markdown]
# NumPy needs one line, `x @ W.T + b`. The plus sign hides something that will matter: $b$ has
# shape `[out]` and is repeated for every row. That is *broadcasting*. It makes no copies in memory,
# so it is easy to forget that one number has become $N$ numbers.

# %%
print((x @ W.T).shape, "+", b.shape, "->", (x @ W.T + b).shape)
repeated = np.broadcast_to(b, (2, 2))
print("rows of b, as NumPy sees them:", repeated.tolist())
assert np.array_equal(x @ W.T + b, x @ W.T + repeated)
assert repeated.strides[0] == 0  # the next row is the same memory

# %% [markdown]
# The library's op, as it runs in the GPT. Leading axes, whatever they are, become rows:

# %%
source(ops.linear)

# %%
assert np.array_equal(linear_loops(x, W, b), x @ W.T + b)
assert np.array_equal(ops.linear(x, W, b)[0], x @ W.T + b)
B, T = 4, 5
sequences = rng.standard_normal((B, T, 3))  # [B, T, in]
y3, _ = ops.linear(sequences, W, b)
assert y3.shape == (B, T, 2)
assert np.allclose(y3[2, 3], W @ sequences[2, 3] + b, rtol=1e-12)  # each position by itself

# %% [markdown]
# ## 6. Backward, derived
#
# One rule is enough, that of lesson 01: the gradient of an input is the sum over *all* outputs that
# it touches of what comes from above, times the local derivative. So for each input ask which
# outputs it touches.
#
# Start from $y_{mp} = \sum_j x_{mj} W_{pj} + b_p$. The indices have new names, $m$, $p$ and $j$,
# so that they do not collide with the $n$, $o$ and $i$ of the input that we differentiate by.
# $[p = o]$ is 1 if they are equal, else 0.
#
# ### The bias
#
# $b_o$ stands in $y_{mp}$ if $p = o$, once, in *every* row $m$:
#
# $$
# \frac{\partial y_{mp}}{\partial b_o} = [p = o]
# $$
#
# The sum over all outputs, that is over all pairs $m$, $p$; the bracket keeps $p = o$:
#
# $$
# db_o = \sum_m \sum_p dy_{mp} [p = o] = \sum_m dy_{mo}
# $$
#
# The sum over $m$ stays. There is no index $m$ in $b_o$ that could take it away. *The gradient of
# what was broadcast is a sum over the axis along which it was broadcast.*

# %%
N, n_out, n_in = 2, 2, 3
same = np.eye(n_out)  # same[p, o] = [p = o]
db_paths = np.array(
    [sum(dy[m, p] * same[p, o] for m in range(N) for p in range(n_out)) for o in range(n_out)]
)
db = dy.sum(axis=0)  # the sum over m that stays
print("all paths:", db_paths.tolist(), "  formula:", db.tolist())
assert np.allclose(db_paths, db, rtol=1e-14)

# %% [markdown]
# ### The weight
#
# $W_{oi}$ stands in $y_{mp}$ if $p = o$, in the term $j = i$, and is multiplied by $x_{mi}$.
# Again in every row:
#
# $$
# \frac{\partial y_{mp}}{\partial W_{oi}} = [p = o] \, x_{mi}
# $$
#
# $$
# dW_{oi} = \sum_m \sum_p dy_{mp} [p = o] \, x_{mi} = \sum_m dy_{mo} \, x_{mi}
# $$
#
# For the matrix form, the summed index must stand in the middle. $dy_{mo}$ has it in front, so
# transpose: $dy_{mo} = (dy^T)_{om}$.
#
# $$
# dW_{oi} = \sum_m (dy^T)_{om} \, x_{mi} \quad \text{that is} \quad dW = dy^T x
# $$

# %%
dW_index = np.einsum("mp,po,mi->oi", dy, same, x)  # with the bracket
dW_sum = np.einsum("mo,mi->oi", dy, x)  # the bracket has picked p = o
dW = dy.T @ x  # [out, N] [N, in] -> [out, in]
dW_rows = sum(np.outer(dy[m], x[m]) for m in range(N))  # one matrix of rank 1 for each row
assert np.allclose(dW_index, dW, rtol=1e-14)
assert np.allclose(dW_sum, dW, rtol=1e-14)
assert np.allclose(dW_rows, dW, rtol=1e-14)
print(dW.tolist())

# %% [markdown]
# ### The input
#
# $x_{ni}$ stands in $y_{mp}$ if $m = n$, for every output $p$, multiplied by $W_{pi}$:
#
# $$
# \frac{\partial y_{mp}}{\partial x_{ni}} = [m = n] \, W_{pi}
# $$
#
# $$
# dx_{ni} = \sum_m \sum_p dy_{mp} [m = n] \, W_{pi} = \sum_p dy_{np} \, W_{pi}
# \quad \text{that is} \quad dx = dy \, W
# $$
#
# $p$ stands in the middle already: no transpose. Forward multiplies by $W^T$, backward by $W$.

# %%
this = np.eye(N)  # this[m, n] = [m = n]
dx_index = np.einsum("mp,mn,pi->ni", dy, this, W)
dx_sum = np.einsum("np,pi->ni", dy, W)
dx = dy @ W  # [N, out] [out, in] -> [N, in]
assert np.allclose(dx_index, dx, rtol=1e-14)
assert np.allclose(dx_sum, dx, rtol=1e-14)
print(dx.tolist())

# %% [markdown]
# Should you forget: each gradient has the shape of its input, and if $N$, in and out are three
# different numbers, there is only one way to multiply $dy$ with $W$ to get $[N, \mathrm{in}]$, and
# one with $x$ to get $[\mathrm{out}, \mathrm{in}]$. It is no proof, and square matrices let the
# wrong way through (section 9).
#
# ### The bias once more
#
# A second derivation, which needs no thought about broadcasting. Append a 1 to every row of $x$,
# and the bias to $W$ as a last column. Then $y = [x, 1]\,[W, b]^T$ has no bias, and the formula
# for $dW$ gives
#
# $$
# d[W, b] = dy^T \, [x, 1] = \left[ dy^T x, \; dy^T 1 \right]
# $$
#
# The last column is $dy^T$ times a column of ones: $\sum_m dy_{mo}$, the same sum.

# %%
with_one = np.concatenate([x, np.ones((N, 1))], axis=1)  # [x, 1]: [N, in + 1]
with_bias = np.concatenate([W, b[:, None]], axis=1)  # [W, b]: [out, in + 1]
assert np.array_equal(with_one @ with_bias.T, x @ W.T + b)
d_both = dy.T @ with_one  # [out, in + 1]
assert np.array_equal(d_both[:, :-1], dW)
assert np.array_equal(d_both[:, -1], db)

# %% [markdown]
# ### The code
#
# More than two axes change nothing, since all but the last are rows. The solution, in full:

# %%
source(solved.linear)
_, vjp = solved.linear(x, W, b)
for mine, derived in zip(vjp(dy), (dx, dW, db), strict=True):
    assert np.allclose(mine, derived, rtol=1e-14)

# %% [markdown]
# ### Two layers and a loss
#
# A multilayer perceptron needs no new derivation. Its backward is its forward read from the last
# line to the first:
#
# $$
# a = x W_1^T + b_1, \quad h = \tanh(a), \quad z = h W_2^T + b_2, \quad
# L = \frac{1}{N} \sum_n \left( \ln(1 + e^{z_n}) - t_n z_n \right)
# $$
#
# $L$ is the loss of the hook: $-\ln \sigma(z)$ for $t = 1$ and $-\ln(1 - \sigma(z))$ for $t = 0$,
# in one formula. The derivative of $\ln(1 + e^z)$ is $e^z / (1 + e^z) = \sigma(z)$, so
# $dz_n = (\sigma(z_n) - t_n) / N$. *Here* stands the $1/N$, in the loss, and nowhere else. From
# lesson 02: $\tanh' = 1 - h^2$.

# %%
(W1, b1), (W2, b2) = start([2, 3, 1], seed=0)
a = corners @ W1.T + b1  # [4, 3]
h = np.tanh(a)  # [4, 3]
z = h @ W2.T + b2  # [4, 1]
loss = (np.log1p(np.exp(z)) - differ * z).mean()

dz = (1 / (1 + np.exp(-z)) - differ) / 4  # [4, 1]  from the loss
dh, dW2, db2 = dz @ W2, dz.T @ h, dz.sum(axis=0)  # from z = h W2ᵀ + b2
da = dh * (1 - h**2)  # [4, 3]  from h = tanh(a)
dW1, db1 = da.T @ corners, da.sum(axis=0)  # from a = x W1ᵀ + b1

tensors = [Tensor(p, requires_grad=True) for p in (W1, b1, W2, b2)]
hidden = F.tanh(F.linear(Tensor(corners), tensors[0], tensors[1]))
tape_loss = F.binary_cross_entropy_with_logits(
    F.linear(hidden, tensors[2], tensors[3]), Tensor(differ)
)
tape_loss.backward()  # the library's tape does the same
assert math.isclose(loss, tape_loss.item(), rel_tol=1e-12)
for tensor, mine in zip(tensors, (dW1, db1, dW2, db2), strict=True):
    assert np.allclose(tensor.grad.numpy(), mine, rtol=1e-12)
print("loss", round(float(loss), 4), "  db1", db1.round(4).tolist(), "  db2", db2.round(4).tolist())

# %% [markdown]
# ## 7. Gradient check, live
#
# Random inputs, random cotangents, float64: for a matrix, for a batch of sequences, and without a
# bias.

# %%
rng = np.random.default_rng(4)
weight, bias = rng.standard_normal((4, 3)), rng.standard_normal(4)
matrix, batch = rng.standard_normal((5, 3)), rng.standard_normal((2, 5, 3))
checks = []
for name, op in [("solution", solved.linear), ("library", ops.linear)]:
    for what, report in [
        ("matrix", gradcheck(op, matrix, weight, bias)),
        ("sequences", gradcheck(op, batch, weight, bias)),
    ]:
        assert report
        assert report.error < 1e-8
        checks.extend(
            [name, what, entry.name, entry.checked, f"{entry.error:.1e}"] for entry in report.inputs
        )
table(checks, columns=["op", "x", "input", "elements", "largest relative error"])
assert solved.linear(matrix, weight)[1](np.ones((5, 4)))[2] is None


def without_bias(x, weight):
    y, vjp = solved.linear(x, weight)
    return y, lambda dy: vjp(dy)[:2]  # the third is None


assert gradcheck(without_bias, matrix, weight)

# %% [markdown]
# The curve of error against step $h$ is a V in the other lessons: too long a step cuts the Taylor
# series, too short a one cancels digits. **Question before you look:** $y$ is linear in each of its
# inputs. Which arm of the V must be missing, and what does a tanh behind the layer do to the curve?


# %%
def two_layers(x, weight, bias):
    return F.tanh(F.linear(x, weight, bias))


with plot.style():
    fig, axes = figure(1, 2, width=8.0, height=3.6, sharey=True)
    plot.gradcheck_curve(solved.linear, matrix, weight, bias, title="linear", ax=axes[0])
    plot.gradcheck_curve(two_layers, matrix, weight, bias, title="tanh of it", ax=axes[1])
    axes[1].set_ylabel("")
    axes[0].set_ylim(1e-16, 1e3)
show(
    fig,
    alt="Relative error of difference quotients against the step, both logarithmic. For the linear "
    "layer the error only falls as the step grows, down to 3e-15. With tanh the curves are a V.",
)

# %% [markdown]
# The right arm. Its error comes from second and third derivatives, and there are none: the longer
# the step, the better. The tanh brings them back.

# %% [markdown]
# ## 8. See it
#
# ### One line, two lines
#
# The XOR of clouds instead of corners: 50 points around each of $(\pm 1, \pm 1)$, and the answer
# is 1 where the signs differ. (For each point its mirror image through the origin is there as
# well; section 9 uses that.) Left: the printed layer, where $W x + b = 0$ is one straight line.
# Middle: a network with two hidden units, so with two such lines. Right: the same points as *its
# output layer* sees them, in the coordinates $(h_1, h_2)$.
#
# **Look for** where the lines run and what lies between them. **Question:** the output layer of the
# middle network can draw only one straight line itself. Where is it?

# %%
rng = np.random.default_rng(4)
half = np.repeat([[1.0, 1.0], [1.0, -1.0]], 50, axis=0) + 0.35 * rng.standard_normal((100, 2))
cloud = np.concatenate([half, -half])  # [200, 2], point n + 100 is point n mirrored
label = np.repeat([0.0, 1.0, 0.0, 1.0], 50)[:, None]  # [200, 1]

flat, flat_losses = descend(start([2, 1], seed=4), cloud, label, 1000, 0.5)
bent, bent_losses = descend(start([2, 2, 1], seed=2), cloud, label, 1500, 1.0)
span = np.linspace(-2.4, 2.4, 121)
grid = np.stack(np.meshgrid(span, span), axis=-1)  # [121, 121, 2]: linear takes any axes
colors, marks = ["#0072B2", "#D55E00"], ["o", "^"]


def draw_points(ax, points):
    for k, what in enumerate(["equal signs", "different signs"]):
        own = label[:, 0] == k
        ax.scatter(*points[own].T, s=13, marker=marks[k], color=colors[k], label=what,
                   edgecolors="white", linewidths=0.4, zorder=3)  # fmt: skip


with plot.style():
    fig, axes = figure(1, 3, width=9.6, height=3.7)
    for ax, layers, title in [
        (axes[0], flat, "one layer, as printed"),
        (axes[1], bent, "two layers, two hidden units"),
    ]:
        p = probabilities(layers, grid)[..., 0]
        image = ax.imshow(
            p, origin="lower", extent=(-2.4, 2.4, -2.4, 2.4), cmap="cividis", vmin=0, vmax=1
        )
        for k, (w, c) in enumerate(zip(*layers[0], strict=True)):
            lines = ax.contour(
                span, span, grid @ w + c, levels=[0], colors="white",
                linestyles=["-", "--"][k], linewidths=1.6,
            )  # fmt: skip
        draw_points(ax, cloud)
        ax.set(title=title, xlabel="x₁", ylabel="x₂")
    fig.colorbar(image, ax=axes[1], shrink=0.75, label="probability of “different”")
    _, (seen,), _ = forward(bent, cloud, [solved.linear] * 2)
    draw_points(axes[2], seen)
    (v,), (c,) = bent[1]
    side = np.array([-1.1, 1.1])
    axes[2].plot(side, -(v[0] * side + c) / v[1], color="#333333", linewidth=1.4)
    axes[2].set(
        title="as the output layer sees it", xlabel="h₁", ylabel="h₂",
        xlim=(-1.15, 1.15), ylim=(-1.15, 1.15), aspect="equal",
    )  # fmt: skip
    axes[2].legend(loc="best", fontsize=7.5)
show(
    fig,
    alt="Three panels. One layer: an even color, one line through the middle that separates "
    "nothing. Two layers: two parallel diagonal lines with a band between them that holds one kind "
    "of points. Hidden space: both kinds lie on opposite sides of one straight line.",
)
hits = [float(((probabilities(m, cloud) > 0.5) == label).mean()) for m in (flat, bent)]
table(
    [
        ["one layer", flat_losses[-1], f"{hits[0]:.1%}"],
        ["two layers", bent_losses[-1], f"{hits[1]:.1%}"],
    ],
    columns=["on 200 points", "loss", "right"],
)
assert flat_losses[-1] > 0.69
assert hits[0] < 0.7
assert hits[1] > 0.97
assert bent_losses[-1] < 0.1

# %% [markdown]
# In the right panel. The two hidden units have folded the plane so that the two clouds with
# different signs come to lie together, and then one straight cut is enough. That is what hidden
# layers are for: the last layer is always the printed one; the layers before it move the points
# until it suffices.
#
# ### Any function, from bumps
#
# The difference of two sigmoids, one step up at $l$ and one down at $r$, is a bump. Two hidden
# units for each bump, and its height is a weight of the second layer. So a network with one
# hidden layer and enough units comes as near to any continuous function as you like, on a closed
# interval (Cybenko 1989, for any number of inputs). These networks are not trained: all weights
# are written down. **Question:** four times as many bumps, how much smaller is the largest error?


# %%
def target(u):
    return np.sin(2 * np.pi * u) + 0.5 * np.cos(6 * np.pi * u)


def bumps(u, count, steep=20.0):
    """A network with 2 · count sigmoid units; a step is 1/(steep · count) wide."""
    edges = np.linspace(0, 1, count + 1)
    left = np.where(edges[:-1] == 0, -1, edges[:-1])  # the outermost steps lie outside
    right = np.where(edges[1:] == 1, 2, edges[1:])
    k = steep * count
    W1 = np.full((2 * count, 1), k)  # [units, 1]
    b1 = -k * np.concatenate([left, right])  # [units]
    height = target((edges[:-1] + edges[1:]) / 2)
    W2 = np.concatenate([height, -height])[None]  # [1, units]
    h, _ = ops.sigmoid(ops.linear(u[:, None], W1, b1)[0])
    return ops.linear(h, W2)[0][:, 0]


u = np.linspace(0, 1, 1001)
largest = {}
with plot.style():
    fig, axes = figure(1, 3, width=9.0, height=3.1, sharey=True)
    for ax, count in zip(axes, (16, 64, 256), strict=True):
        approximation = bumps(u, count)
        largest[count] = float(np.abs(approximation - target(u)).max())
        ax.plot(u, target(u), color="#8a8a8a", linewidth=3, label="function")
        ax.plot(u, approximation, color="#D55E00", linewidth=1.3, label="network")
        ax.set(title=f"{2 * count} hidden units", xlabel="x (no unit)")
    axes[0].set_ylabel("f(x) (no unit)")
    axes[0].legend()
show(
    fig,
    alt="A wavy function and three staircases of sigmoid bumps that follow it, with 32, 128 and "
    "512 hidden units. The steps get finer until the two curves can hardly be told apart.",
)
print("largest error:", {2 * count: round(error, 3) for count, error in largest.items()})
assert 3.7 < largest[16] / largest[64] < 4.3
assert 3.7 < largest[64] / largest[256] < 4.3

# %% [markdown]
# Four times. A bump is flat, so at its edge it is wrong by half the rise of the function
# to the next one; a quarter of the width leaves a quarter of the rise. The theorem promises that
# weights *exist*. It does not say that descent finds them, nor that there are few of them.

# %% [markdown]
# ## 9. Break it
#
# ### The printed layer cannot: four lines
#
# A rising $\sigma$ can only shift the threshold, so look at the score $z = w_1 x_1 + w_2 x_2 + b$,
# and let the answer be 1 where $z > 0$. XOR asks for
#
# $$
# \begin{aligned}
# (0,0): &\quad b \le 0 \\
# (0,1): &\quad w_2 + b > 0 \\
# (1,0): &\quad w_1 + b > 0 \\
# (1,1): &\quad w_1 + w_2 + b \le 0
# \end{aligned}
# $$
#
# Add the two in the middle: $w_1 + w_2 + 2b > 0$. Add the first and the last:
# $w_1 + w_2 + 2b \le 0$. Both cannot be. (Any other threshold $c$: put $b - c$ for $b$.)
#
# And the best loss? Give each corner a sign $s$, $+1$ where the answer is 1, else $-1$. The loss is
# the mean of $\ln(1 + e^{-s z})$, and for *every* choice of weights
#
# $$
# \sum s z = -z_{00} + z_{01} + z_{10} - z_{11} = 0
# $$
#
# As $\ln(1 + e^{-u})$ is convex, its mean is at least its value at the mean of $u = s z$, which
# is 0: the loss is never below $\ln 2$, and equals it only where all $z = 0$. Measured, with the
# best of 100,000 random layers, and with descent:

# %%
tries = np.random.default_rng(4).standard_normal((100_000, 3)) * 3
scores = tries[:, :2] @ corners.T + tries[:, 2:]  # [100000, 4]
signs = 2 * differ[:, 0] - 1
random_losses = np.logaddexp(0, -signs * scores).mean(axis=1)
right_corners = ((scores > 0) == differ[:, 0].astype(bool)).sum(axis=1)
assert np.allclose(scores @ signs, 0, atol=1e-12)
print(f"best of 100,000: {random_losses.min():.6f}; descent: {one_losses[-1]:.6f}; "
      f"ln 2 = {math.log(2):.6f}")  # fmt: skip
print("most corners right at once:", right_corners.max())
assert random_losses.min() >= math.log(2)
assert one_losses.min() >= math.log(2) - 1e-12
assert right_corners.max() == 3

# %% [markdown]
# The proof used that $\sigma$ never falls. That is so for the sigmoid, tanh and ReLU; D5 §4.1 calls
# it the activation function (激活函数) and leaves it open. One that rises and falls does the trick
# in a single layer: $\sigma(a) = e^{-a^2}$ with $a = 2(x_1 + x_2 - 1)$. Even SiLU does,
# $a / (1 + e^{-a})$, by the small dip that it has at $a = -1.28$: put both equal pairs into it.

# %%
hill = np.exp(-((2 * (corners.sum(axis=1) - 1)) ** 2))
dip = ops.silu(6 * (corners[:, 0] - corners[:, 1]) - 1.28)[0]
print("one layer with exp(-a²):", hill.round(3).tolist())
print("one layer with SiLU:    ", dip.round(3).tolist())
assert ((hill > 0.5) == differ[:, 0].astype(bool)).all()
assert ((dip > -0.1) == differ[:, 0].astype(bool)).all()

# %% [markdown]
# How sure is a *second* layer of success? XOR has flat places where descent comes to rest. Twenty
# starts each:

# %%
lucky = []
for units in (1, 2, 4, 8):
    ends = [
        descend(start([2, units, 1], seed), corners, differ, 1000, 1.0)[1][-1] for seed in range(20)
    ]
    lucky.append([units, sum(end < 0.1 for end in ends), float(np.median(ends))])
table(lucky, columns=["hidden units", "of 20 starts below 0.1", "median loss"])
assert lucky[0][1] == 0  # one unit rises along one direction only
assert lucky[3][1] == 20

# %% [markdown]
# One hidden unit never does: it rises or falls along one direction, and the proof above holds for
# it. Two are enough on paper, more are easier to train.
#
# ### Mistake no. 1: the bias gradient is not summed
#
# `db = dy` has shape `[N, out]`. The library's tape refuses it:

# %%
mistakes = exercises(4)["linear"]


def wrong(name):
    return mistakes.mistake(name).function


parameters = [Tensor(p, requires_grad=True) for p in (W, b)]
with scratchlm.use(linear=wrong("bias gradient not summed")):
    out = F.linear(Tensor(x), *parameters).sum()
    try:
        out.backward()
        refused = False
    except (ValueError, RuntimeError) as error:
        refused = True
        print(*str(error).split(": "), sep=":\n    ")
assert refused

# %% [markdown]
# A program of one's own may not. `b = b - rate * db` broadcasts without a word: after the first
# step $b$ has shape `[N, out]`, and *each example has a bias of its own*. Here is the printed
# single layer on XOR, of which we have just proved that it cannot:

# %%
cheat, cheat_losses = descend(
    start([2, 1], 4), corners, differ, 2000, 0.5, [wrong("bias gradient not summed")]
)
(cheat_W, cheat_b) = cheat[0]
print("shape of b:", cheat_b.shape, "  loss:", round(cheat_losses[-1], 4))
print("scores:             ", (corners @ cheat_W.T + cheat_b)[:, 0].round(1).tolist())
order = [1, 0, 3, 2]  # other inputs in the same places
moved = (corners[order] @ cheat_W.T + cheat_b)[:, 0]
print("rows in other order:", moved.round(1).tolist(), "  wanted:", differ[order, 0].tolist())
try:
    print(corners[:3] @ cheat_W.T + cheat_b)
except ValueError as error:
    print(f"three rows: ValueError: {error}")
assert cheat_b.shape == (4, 1)
assert cheat_losses[-1] < 0.01
assert ((moved > 0) != differ[order, 0].astype(bool)).all()  # all wrong

# %% [markdown]
# A loss that is too good is a symptom too. It has learned the *places* in the batch by heart.
# Exchange the rows and every answer is wrong; take three rows and it stops.
#
# ### The shape right, the sum wrong
#
# So one makes the shape fit, by taking the first row, or the last, or the mean. All three pass a
# test of shapes. The cloud, a network 2-8-8-1, 400 steps. **Look for** the level at which the curve
# without any bias gradient comes to rest. **Question:** why exactly there?

# %%
names = [
    "bias gradient of the first row",
    "bias gradient of the last row",
    "mean for sum",
    "bias gradient missing",
    "divided by the number of rows",
    "dx without dy",
    "bias gradient without dy",
    "bias gradient not summed",
]
shape = [2, 8, 8, 1]
runs = {"right": descend(start(shape, 4), cloud, label, 400, 0.5)}
for name in names:
    runs[name] = descend(start(shape, 4), cloud, label, 400, 0.5, [wrong(name)] * 3)

# square: only the layer in the middle is wrong, of which W is 8 × 8
squares = ["dW transposed", "dx with W transposed", "W for its transpose"]
for name in squares:
    linears = [solved.linear, wrong(name), solved.linear]
    runs[name] = descend(start(shape, 4), cloud, label, 400, 0.5, linears)

# four sequences of 50 points, one cloud each
sequences, answers = cloud.reshape(4, 50, 2), label.reshape(4, 50, 1)
name = "dW of the last sequence only"
runs[name] = descend(start(shape, 4), sequences, answers, 400, 0.5, [wrong(name)] * 3)

table(
    [[name, *(float(losses[k]) for k in (0, 50, 150, 399))] for name, (_, losses) in runs.items()],
    columns=["loss at step", "0", "50", "150", "399"],
)

# %%
sets = [
    (
        "the bias gradient",
        ["right", "bias gradient of the first row", "mean for sum", "bias gradient missing"],
    ),
    (
        "weights and inputs",
        ["right", "dx with W transposed", "dW transposed", "dW of the last sequence only",
         "divided by the number of rows"],
    ),
]  # fmt: skip
looks = [
    ("-", "#0072B2"),
    ("--", "#D55E00"),
    ("-.", "#009E73"),
    (":", "#000000"),
    ((0, (6, 1, 1, 1, 1, 1)), "#CC79A7"),
]
with plot.style():
    fig, axes = figure(1, 2, width=9.2, height=4.0, sharey=True)
    for ax, (title, chosen) in zip(axes, sets, strict=True):
        for name, (dashes, color) in zip(chosen, looks, strict=False):
            ax.plot(runs[name][1], linestyle=dashes, color=color, label=name, linewidth=1.6)
        ax.axhline(math.log(2), color="#c8c8c8", linewidth=0.8)
        ax.set(title=title, xlabel="step", ylim=(0, 1.6))
        ax.legend(loc="upper right", fontsize=7.5)
        ax.grid(axis="y")
    axes[0].annotate("ln 2", (2, math.log(2) + 0.015), fontsize=8.5)
    axes[0].set_ylabel("loss (nats)")
show(
    fig,
    alt="Loss against step. The right layer falls to 0.01 within 300 steps. With the first row's "
    "bias gradient or the mean it falls late and unsteadily; without bias gradient it stays at "
    "ln 2. The wrong transposes train almost as well; with the last sequence only it stays "
    "above 0.5.",
)
end = {name: float(losses[-1]) for name, (_, losses) in runs.items()}
assert end["right"] < 0.01
assert runs["bias gradient missing"][1].min() >= math.log(2) - 1e-12
assert runs["right"][1][150] < 0.03
for name in ["bias gradient of the first row", "bias gradient of the last row", "mean for sum"]:
    assert runs[name][1][150] > 0.5
assert end["divided by the number of rows"] > 0.6
assert end["bias gradient without dy"] > 100
assert end["dW of the last sequence only"] > 0.4
assert end["dW transposed"] < 0.02
assert end["dx with W transposed"] < 0.02
for name in ["right", "bias gradient of the first row", "mean for sum"]:
    print(f"{name}: norm of the first biases {np.linalg.norm(runs[name][0][0][1]):.2f}")
    assert name == "right" or 2 * np.linalg.norm(runs[name][0][0][1]) < np.linalg.norm(
        runs["right"][0][0][1]
    )
last_hidden = forward(runs["dx without dy"][0], cloud, [solved.linear] * 3)[1][-1]  # [200, 8]
alike = float(np.ptp(last_hidden, axis=0).max())
print(f"dx without dy: over all 200 points the last hidden units differ by at most {alike:.1e}")
assert alike < 1e-6
assert abs(end["dx without dy"] - math.log(2)) < 1e-4

# %% [markdown]
# **Bias gradient missing.** It rests at $\ln 2$. The biases stay 0, and without them a tanh network
# is odd: $f(-x) = -f(x)$. Each point has its mirror image here, with the *same* answer, and
# $\ln(1 + e^{-z}) + \ln(1 + e^{z}) \ge 2 \ln 2$. Not one step of the 400 is below it.
#
# **First row, last row, mean.** The most treacherous. The loss falls, only late, and then jumps
# about. The weights have their right gradients and carry the network slowly, while the biases are
# pulled by one example out of 200, or by a gradient 200 times too small: after 400 steps those of
# the first layer are less than half of their right size (printed above). Who has never seen the
# right curve takes it for a hard problem and looks for a better optimizer.
#
# **Divided by the number of rows.** The loss is a mean, its $1/N$ is inside $dy$ already, and here
# comes another. A learning rate 200 times larger repairs it, *for this batch size*. Copy every
# example, and a mean must not change:

# %%
copies = []
for times in (1, 2, 4, 8):
    many, answers = np.tile(corners, (times, 1)), np.tile(differ, (times, 1))
    norms = []
    for op in (solved.linear, wrong("divided by the number of rows"), wrong("mean for sum")):
        z, vjp = op(many, *start([2, 1], 4)[0])
        _, dW, db = vjp(ops.binary_cross_entropy_with_logits(z, answers)[1](np.ones(()))[0])
        norms += [float(np.linalg.norm(dW)), float(abs(db[0]))]
    copies.append([len(many), *norms])
table(
    copies,
    columns=["rows", "right: ‖dW‖", "|db|", "divided: ‖dW‖", "|db|", "mean: ‖dW‖", "|db|"],
    digits=3,
)
assert np.allclose([row[1:3] for row in copies], copies[0][1:3], rtol=1e-9)
assert math.isclose(copies[0][3] / copies[3][3], 8, rel_tol=1e-9)
assert math.isclose(copies[0][6] / copies[3][6], 8, rel_tol=1e-9)

# %% [markdown]
# This test takes two lines and finds both. An optimizer may hide them instead. Adam (lesson 06)
# divides each gradient by its own size, so a factor 1/200 is gone before the step is made:

# %%
with_adam = []
for name in ["right", "divided by the number of rows", "mean for sum"]:
    parameters = [Tensor(p, requires_grad=True) for layer in start(shape, 4) for p in layer]
    adam = optim.Adam(parameters, lr=0.02)
    with scratchlm.use(linear=solved.linear if name == "right" else wrong(name)):
        for _ in range(150):
            adam.zero_grad()
            value = Tensor(cloud)
            for k in (0, 2, 4):
                value = F.linear(value, parameters[k], parameters[k + 1])
                value = F.tanh(value) if k < 4 else value
            adam_loss = F.binary_cross_entropy_with_logits(value, Tensor(label))
            adam_loss.backward()
            adam.step()
    with_adam.append([name, float(runs[name][1][150]), adam_loss.item()])
table(with_adam, columns=["loss after 150 steps", "plain descent", "Adam"])
assert with_adam[1][1] > 20 * with_adam[0][1]
assert with_adam[2][1] > 20 * with_adam[0][1]
assert max(row[2] for row in with_adam) < 0.05

# %% [markdown]
# **Square matrices.** `dW transposed`, `dx with W transposed`, `W for its transpose`: where `in`
# and `out` differ they stop at once with a shape error. In the middle layer, 8 × 8, they run, and
# the right panel shows something to worry about: they *train*. The other two layers are right and
# carry them. (Backward through a wrong matrix can even be enough to learn: Lillicrap et al. 2016
# used random ones.) So a falling loss proves nothing about a gradient, and a test with square
# shapes proves little more. A gradient check with three different sizes does.
#
# **dW of the last sequence only.** An `=` where `+=` belongs, in a loop over the batch. Each
# sequence is one of the four clouds here, so the weights learn from a single one, while the
# biases hear all.
#
# **Bias gradient without dy.** "y moves one to one with b, so the gradient is 1, for each row":
# then $b$ falls by the same amount at every step, whatever the data say, and the loss climbs in a
# straight line.
#
# **dx without dy.** All examples push the layers below in the same direction, with all their
# might. The hidden units saturate and give the same values for every point. The last layer is
# right, but it has nothing left to tell them apart by: $\ln 2$ again.
#
# ### The first weights: zero, too large, too small
#
# Let all weights be equal, here 0.5. Then all hidden units compute the same number, get the same
# gradient, and stay equal for good: eight units, one line. With 0 it is worse still: $W_2 = 0$ lets
# no gradient through to $W_1$, and $h = 0$ none to $W_2$.

# %%
outcomes = []
for name, layers in [
    ("all 0", [[np.zeros((8, 2)), np.zeros(8)], [np.zeros((1, 8)), np.zeros(1)]]),
    ("all 0.5", [[np.full((8, 2), 0.5), np.zeros(8)], [np.full((1, 8), 0.5), np.zeros(1)]]),
    ("random, deviation 30/√in", start([2, 8, 1], 4, scale=30.0)),
    ("random, deviation 1/√in", start([2, 8, 1], 4)),
]:
    first = forward(layers, cloud, [solved.linear] * 2)[1][0]  # [200, 8]
    trained, losses = descend(layers, cloud, label, 400, 0.5)
    spread = float(np.ptp(trained[0][0], axis=0).max())  # how far the rows of W1 differ
    saturated = float((np.abs(first) > 0.99).mean())
    outcomes.append([name, f"{saturated:.0%}", losses[0], losses[-1], spread])
table(
    outcomes,
    columns=["first weights", "units at ±1", "first loss", "last loss", "units differ by"],
    digits=3,
)
assert outcomes[0][4] == 0
assert outcomes[1][4] < 1e-9
assert outcomes[0][3] > 0.69
assert outcomes[1][3] > 0.3
assert float(outcomes[2][1].rstrip("%")) > 90
assert 20 < outcomes[2][2] < 30
assert outcomes[3][3] < 0.05
assert outcomes[2][3] > 3 * outcomes[3][3]

# %% [markdown]
# Too large, and $|h|$ is 1 nearly everywhere: $1 - h^2$ is 0 there, and the lines that chance has
# drawn all but stay where they are. Eight random lines happen to cut the four clouds apart well
# enough, but the end is five times worse, and the first loss, 26 instead of 0.8, gives it away.
#
# How large, then? Take independent weights of mean 0. Then the terms of $y_o = \sum_i W_{oi} x_i$
# are uncorrelated, and their variances add:
#
# $$
# \mathrm{Var}(y_o) = \sum_i \mathrm{Var}(W_{oi}) \, \mathrm{E}[x_i^2]
# = n_{\mathrm{in}} \, \mathrm{Var}(W) \, \mathrm{E}[x^2]
# $$
#
# It keeps its size if $\mathrm{Var}(W) = 1 / n_{\mathrm{in}}$ (LeCun et al. 1998, §4.6). Backward
# the sum runs over the outputs, and the same reasoning asks for $1 / n_{\mathrm{out}}$; Glorot &
# Bengio (2010) take the middle. Ten layers of 100 tanh units with three scales. **Look for** both
# arrows of time: values from left to right, gradients from right to left. **Question:** by which
# factor does a scale of 0.5 shrink the values in ten layers?

# %%
deep_x = np.random.default_rng(4).standard_normal((200, 100))
ways = {}
for scale in (0.5, 1.0, 5.0):
    layers = start([100] * 11, 4, scale=scale)
    v, vjps, sizes = deep_x, [], [1.0]
    for weight, bias in layers:
        v, through_linear = ops.linear(v, weight, bias)
        v, through_tanh = ops.tanh(v)
        vjps.append((through_linear, through_tanh))
        sizes.append(float(v.std()))
    d, gradients = np.random.default_rng(5).standard_normal(v.shape), [1.0]
    for through_linear, through_tanh in reversed(vjps):
        d = through_linear(through_tanh(d))[0]
        gradients.append(float(d.std()))
    ways[scale] = sizes, gradients[::-1], float((np.abs(v) > 0.99).mean())

with plot.style():
    fig, axes = figure(1, 2, width=8.2, height=3.5)
    for (scale, (sizes, gradients, _)), (dashes, color), mark in zip(
        ways.items(), [looks[1], looks[0], looks[2]], "s^o", strict=True
    ):
        for ax, values in zip(axes, (sizes, gradients), strict=True):
            ax.semilogy(values, linestyle=dashes, marker=mark, markersize=4, color=color,
                        label=f"{scale:g} / √n")  # fmt: skip
    axes[0].set(title="forward: values", ylabel="standard deviation (no unit)")
    axes[1].set(title="backward: gradients (1 at layer 10)", ylabel="standard deviation (no unit)")
    for ax in axes:
        ax.set_xlabel("after layer")
        ax.grid(axis="y")
    axes[0].legend(title="deviation of W")
show(
    fig,
    alt="Two panels against layer 0 to 10, logarithmic. With 0.5 over root n the values fall a "
    "thousandfold and so do the gradients; with 1 both stay within a factor of ten; with 5 values "
    "are saturated near 1 and gradients grow toward the input.",
)
table(
    [[f"{s:g} / √n", v[-1], g[0], f"{sat:.0%}"] for s, (v, g, sat) in ways.items()],
    columns=["deviation of W", "values after layer 10", "gradients at the input", "units at ±1"],
    digits=2,
)
assert 1e-4 < ways[0.5][0][-1] < 5e-3
assert 0.1 < ways[1.0][0][-1] < 1
assert ways[5.0][2] > 0.5
assert ways[0.5][1][0] < 1e-2

# %% [markdown]
# By about $0.5^{10} = 1/1024$, and by a little more, since tanh shrinks too.
#
# ### Mistakes that wait
#
# Three that no training on matrices shows.

# %%
square = np.random.default_rng(4).standard_normal((3, 3))
xs = np.random.default_rng(5).standard_normal((3, 3))
print("x @ W for x @ W.T, all square: no error, largest difference",
      f"{np.abs(xs @ square - xs @ square.T).max():.2f}")  # fmt: skip

caller = xs.copy()
wrong("writes into x")(caller, square)
print("writes into x: the caller's x has changed by", f"{np.abs(caller - xs).max():.2f}")
assert not np.allclose(caller, xs)

_, vjp = wrong("written for a matrix")(np.ones((2, 5, 3)), np.ones((4, 3)), np.zeros(4))
try:
    vjp(np.ones((2, 5, 4)))
except ValueError as error:
    print("written for a matrix, x of [B, T, in]: ValueError:", str(error)[:16], "...")
report = gradcheck(wrong("W for its transpose"), xs, square, np.zeros(3))
print("the gradient check of W for its transpose:", "right" if report else "WRONG")
assert not report

# %% [markdown]
# Forward by $W$ *and* backward to match passes every gradient check: it is a right layer, of
# another convention, with $W$ stored as $[\mathrm{in}, \mathrm{out}]$, as GPT-2's files have it. It
# trains as well as yours. But weights of the one convention are nonsense in the other, and where
# they are square nothing complains.


# %%
def other_convention(x, weight):
    return x @ weight, lambda dy: (dy @ weight.T, x.T @ dy)


assert gradcheck(other_convention, xs, square)

# %% [markdown]
# ## 10. Your turn
#
# Write `linear(x, weight, bias=None)`, forward and backward, in NumPy:
#
#     scratchlm start 4
#     scratchlm check 4 --watch
#     scratchlm hint 4
#
# Begin with `x` of shape `[N, in]`. Then let any axes stand in front, and let the bias be None.
# When it passes, your layer trains the GPT, where it is called four times in every block:
#
#     import scratchlm
#     with scratchlm.use(linear=linear):
#         ...

# %%
from scratchlm.lessons import find_lesson

source(find_lesson(4).load("exercise").linear, docstring=True)
print(len(mistakes.mistakes), "known mistakes")
assert len(mistakes.mistakes) >= 20

# %% [markdown]
# ## 11. Cost
#
# Each of the $N \cdot \mathrm{out}$ outputs takes $\mathrm{in}$ multiplications and as many
# additions:
#
# | line | operations |
# |---|---|
# | $y = x W^T + b$ | $2 N \cdot \mathrm{in} \cdot \mathrm{out}$ |
# | $dx = dy\, W$ | $2 N \cdot \mathrm{in} \cdot \mathrm{out}$ |
# | $dW = dy^T x$ | $2 N \cdot \mathrm{in} \cdot \mathrm{out}$ |
# | $db = \sum_n dy_n$ | $N \cdot \mathrm{out}$ |
#
# Backward costs twice forward, so a training step three times as much as a forward pass: 6
# operations for each weight and each row. That is the "$6 N D$" of papers on training cost
# (Kaplan et al. 2020).
#
# What backward keeps can be read off the closure: $x$ and $W$ (and the bias, only to see whether
# there is one). Not $y$, which no formula of section 6 contains. $W$ is there anyway, and $x$ is
# the output of the layer before, so nothing new is stored.

# %%
wide_x = np.zeros((8, 128, 768), dtype=np.float32)
wide_W, wide_b = np.zeros((3072, 768), dtype=np.float32), np.zeros(3072, dtype=np.float32)
wide_y, vjp = solved.linear(wide_x, wide_W, wide_b)
held = {
    name: cell.cell_contents
    for name, cell in zip(vjp.__code__.co_freevars, vjp.__closure__, strict=True)
    if isinstance(cell.cell_contents, np.ndarray)
}
print("kept:", {name: f"{array.nbytes / 2**20:.2f} MiB" for name, array in held.items()})
print("of that new memory:", [
    name for name, array in held.items()
    if not any(np.shares_memory(array, given) for given in (wide_x, wide_W, wide_b))
])  # fmt: skip
assert all(
    any(np.shares_memory(array, given) for given in (wide_x, wide_W, wide_b))
    for array in held.values()
)
assert not any(np.shares_memory(array, wide_y) for array in held.values())

d = 768  # GPT-2, each of the 12 blocks: four linear layers
per_block = sum(o * i for o, i in [(3 * d, d), (d, d), (4 * d, d), (d, 4 * d)])
tokens = 1024
print(f"weights in a block: {per_block:,} = 12 · 768²; in 12 blocks {12 * per_block:,}")
print(f"forward, {tokens} tokens: {2 * tokens * 12 * per_block / 1e9:.0f} billion operations; "
      f"a training step: {6 * tokens * 12 * per_block / 1e9:.0f}")  # fmt: skip
assert per_block == 12 * d**2 == 7_077_888
share = 12 * per_block / (12 * per_block + 50_257 * d + 1024 * d)
print(f"share of GPT-2's weights: {share:.0%}; the rest are embeddings")
assert 0.6 < share < 0.7

# %% [markdown]
# ## 12. Use it
#
# ### Vowel or consonant?
#
# Somebody has blotted out one letter of an English word: `fu?ction`. Is it a vowel (a, e, i, o,
# u)? The network sees two letters to the left and two to the right, each as 27 numbers of which
# one is 1 (26 letters, and one for "outside the word"): 108 inputs. The words, of four letters
# or more, are those of Python's help texts. Words that begin with the same four letters, such as
# *function* and *functional*, go to the same side of the split, so that few of the held-out words
# have a near relative in training.
#
# Logistic regression, the printed layer, adds up what each of the four neighbors says *by itself*.
# A hidden layer can let them speak together. All train for 15 epochs with the same learning rate.
# Seed 4; thresholds: with 32 hidden units at least one more letter in a hundred is right, and the
# loss is lower by at least 0.025 nats. (Recorded: 88.9% and 91.2%, 0.292 and 0.239 nats. Five other
# splits gave 87.2% to 88.8% and 89.2% to 90.6%, a gain of 1.6 points and 0.033 nats at least.) The
# help texts of another Python than 3.11 differ a little.

# %%
from pydoc_data.topics import topics

LETTERS = "abcdefghijklmnopqrstuvwxyz"
words = sorted(set(re.findall(r"[a-z]{4,}", " ".join(topics.values()).lower())))
stems = sorted({word[:4] for word in words})
hidden_stems = set(np.random.default_rng(4).permutation(stems)[: len(stems) // 5].tolist())


def blots(chosen):
    """Every letter of every word blotted out once: neighbors [M, 4] as ids, and the answers [M]."""
    neighbors, answers = [], []
    for word in chosen:
        padded = f"  {word}  "
        for at, letter in enumerate(word):
            window = padded[at] + padded[at + 1] + padded[at + 3] + padded[at + 4]
            neighbors.append([LETTERS.find(c) + 1 for c in window])
            answers.append(letter in "aeiou")
    return np.array(neighbors), np.array(answers, dtype=np.float32)[:, None]


one_of_27 = np.eye(27, dtype=np.float32)
train_ids, train_t = blots([word for word in words if word[:4] not in hidden_stems])
test_ids, test_t = blots([word for word in words if word[:4] in hidden_stems])
train_x = one_of_27[train_ids].reshape(-1, 108)  # [M, 4, 27] -> [M, 108]
test_x = one_of_27[test_ids].reshape(-1, 108)
print(f"{len(words):,} words; {len(train_x):,} letters to learn from, {len(test_x):,} held out")


def learn(sizes, rate, epochs, rows=128, seed=4):
    """Batches of ``rows`` in a new order each epoch; the rate fades to 0."""
    layers = [[p.astype(np.float32) for p in layer] for layer in start(sizes, seed)]
    order = np.random.default_rng(seed)
    for epoch in range(epochs):
        shuffled = order.permutation(len(train_x))
        for k in range(0, len(shuffled) - rows + 1, rows):
            at = shuffled[k : k + rows]
            now = rate * (1 - epoch / epochs)
            layers, _ = descend(layers, train_x[at], train_t[at], 1, np.float32(now))
    return layers


def measure(layers, x, t):
    z = forward(layers, x, [solved.linear] * len(layers))[0]
    loss = ops.binary_cross_entropy_with_logits(z, t)[0]
    return float(loss), float(((z > 0) == t).mean())


models = {
    "one layer, as printed": learn([108, 1], 2.0, 15),
    "8 hidden units": learn([108, 8, 1], 2.0, 15),
    "32 hidden units": learn([108, 32, 1], 2.0, 15),
}
base = float(train_t.mean())
always = -(test_t.mean() * math.log(base) + (1 - test_t.mean()) * math.log(1 - base))
results = [["always “consonant”", "", float(always), f"{1 - test_t.mean():.1%}"]]
scored = {}
for name, layers in models.items():
    scored[name] = measure(layers, test_x, test_t)
    weights = sum(p.size for layer in layers for p in layer)
    results.append([name, f"{weights:,}", scored[name][0], f"{scored[name][1]:.1%}"])
table(results, columns=["held-out letters", "weights", "loss (nats)", "right"])
(loss_one, right_one), (loss_many, right_many) = (
    scored["one layer, as printed"], scored["32 hidden units"],
)  # fmt: skip
assert right_many > right_one + 0.01
assert loss_many < loss_one - 0.025

# %% [markdown]
# The printed layer is no fool: vowels and consonants alternate, and that much can be added up.
# What it cannot say is "*u*, unless a *q* stands before it". After a *u* it expects a consonant,
# after *qu* it should expect a vowel. What do the two say of `qu?`, and of other pairs? The last
# columns tell what the training words say, and how many places there are.

# %%


def ask(layers, ids):
    return float(probabilities(layers, one_of_27[ids].reshape(-1, 108)).mean())


asked = []
for left in ("qu", "tu", "pu", "au", "ea", "io", "st"):
    pair = [LETTERS.index(c) + 1 for c in left]
    own = (train_ids[:, :2] == pair).all(axis=1)
    asked.append(
        [
            f"{left}?",
            ask(models["one layer, as printed"], train_ids[own]),
            ask(models["32 hidden units"], train_ids[own]),
            float(train_t[own].mean()),
            int(own.sum()),
        ]
    )
table(
    asked,
    columns=["blot after", "one layer", "32 hidden", "share of vowels", "times"],
    title="probability of a vowel",
    digits=2,
)
assert asked[0][3] > 0.9
assert asked[0][2] > asked[0][1] + 0.1

# %% [markdown]
# ### Your layer in the GPT
#
# Last, the op in the model it was written for. The same GPT, the same window of text, with the
# library's layer and with the solution: the loss and all gradients must agree.

# %%
from scratchlm.data import corpus
from scratchlm.models.gpt import GPT, GPTConfig

text = corpus("topics")
window = text.train[: 4 * 33].reshape(4, 33)


def loss_and_gradients():
    config = GPTConfig(
        vocab_size=len(text.vocabulary), block_size=32, n_layer=2, n_head=2, n_embd=32
    )
    gpt = GPT(config, rng=np.random.default_rng(4))
    _, loss = gpt(window[:, :-1], window[:, 1:])
    loss.backward()
    return loss.item(), {name: p.grad.numpy() for name, p in gpt.named_parameters()}


calls = []


def counted(x, weight, bias=None):
    calls.append(weight.shape)
    return solved.linear(x, weight, bias)


loss_library, theirs = loss_and_gradients()
with scratchlm.use(linear=counted):
    loss_own, ours = loss_and_gradients()
apart = max(float(np.abs(ours[name] - theirs[name]).max()) for name in theirs)
print(f"library {loss_library:.6f}, solution {loss_own:.6f}; gradients differ by {apart:.0e}")
print(f"your layer was called {len(calls)} times:", calls)
assert math.isclose(loss_library, loss_own, rel_tol=1e-5)
assert apart < 1e-5
assert len(calls) >= 8

# %% [markdown]
# ## 13. Recap
#
# 1. In forward a bias is broadcast over $N$ rows. Which operation belongs to it in backward, and
#    how can you see it without any calculus, from the shapes? What goes wrong with the mean
#    instead?
# 2. A colleague's network solves XOR in one layer, with a sigmoid. Which shape do you ask for?
# 3. Why may the first weights not be equal, and why may the first *biases*?
#
# | English | 中文 |
# |---|---|
# | multilayer perceptron (MLP) | 多层感知机 |
# | linear (fully connected) layer | 线性层（全连接层） |
# | weight matrix | 权重矩阵 |
# | bias | 偏置 |
# | hidden unit | 隐藏单元 |
# | broadcasting | 广播 |
# | decision boundary | 决策边界 |
# | linearly separable | 线性可分 |
# | initialization | 初始化 |
# | saturation | 饱和 |
# | universal approximation | 万能近似 |
#
# - D5 §4.1.
# - M. Minsky, S. Papert, *Perceptrons*, 1969: what one layer cannot.
# - D. E. Rumelhart, G. E. Hinton, R. J. Williams, *Learning Representations by Back-propagating
#   Errors*, 1986.
# - G. Cybenko, *Approximation by Superpositions of a Sigmoidal Function*, 1989.
# - Y. LeCun, L. Bottou, G. Orr, K.-R. Müller, *Efficient BackProp*, 1998, §4.6.
# - X. Glorot, Y. Bengio, *Understanding the Difficulty of Training Deep Feedforward Neural
#   Networks*, 2010.
# - T. P. Lillicrap et al., *Random Synaptic Feedback Weights Support Error Backpropagation for Deep
#   Learning*, 2016.
# - J. Kaplan et al., *Scaling Laws for Neural Language Models*, 2020, §2.1.
# - I. Goodfellow, Y. Bengio, A. Courville, *Deep Learning*, 2016, §6.1 and §6.4.
#
# Next: lesson 05 gives the loss of this lesson its reason; lesson 06 makes the descent faster;
# lesson 23 puts two linear layers and a bend between them into every block of the Transformer.
