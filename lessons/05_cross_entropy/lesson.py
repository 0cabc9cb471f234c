# %% [markdown]
# # 05 · Softmax and cross-entropy · 交叉熵

# %% [markdown]
# ## 1. Card
#
# A model that must choose gives a score to every choice. This lesson turns scores into
# probabilities, measures how wrong they are with one number, and derives the gradient of that
# number twice. Every language model in this course is trained with it.

# %%
import math

import numpy as np

from scratchlm import Tensor, ops, optim, plot
from scratchlm import functional as F
from scratchlm.data import corpus
from scratchlm.gradcheck import gradcheck
from scratchlm.lessons import card, exercises, figure, show, slider, solution, source, table

card(5)
solved = solution(5)

# %% [markdown]
# ## 2. Hook
#
# Task: given one character of Python's own help texts, predict the next. The model is a table of
# scores, one row for each character. We train it twice on the same 414,000 pairs, from the same
# start. The only difference: the second model applies softmax to its scores *before* a loss that
# applies softmax itself. The training program of D2 §5.2 is written that way. (The help texts of
# another Python than 3.11 differ a little, and so will some digits.)

# %%
text = corpus("topics")  # Python's help texts, as character ids
V = len(text.vocabulary)
pairs = np.zeros((V, V))
np.add.at(pairs, (text.train[:-1], text.train[1:]), 1)  # how often j follows i
P = pairs / pairs.sum()  # [V, V], sums to 1


def true_loss(scores):
    """Cross-entropy of the model in nats per character: what it is really worth."""
    log_p, _ = ops.log_softmax(scores)
    return float(-(P * log_p).sum())


def accuracy(scores):
    """How often the best score is that of the right character."""
    return float(P[np.arange(V), scores.argmax(axis=-1)].sum())


def descend(softmaxes, steps, rate):
    """Gradient descent on all pairs at once. Returns the scores, and a history."""
    scores, history = np.zeros((V, V)), []
    for _ in range(steps):
        S = Tensor(scores, requires_grad=True)
        x = F.softmax(S) if softmaxes == 2 else S
        loss = -(F.log_softmax(x) * Tensor(P)).sum()
        loss.backward()
        gradient = S.grad.numpy()
        history.append((loss.item(), true_loss(scores), float(np.linalg.norm(gradient))))
        scores = scores - rate * gradient
    return scores, np.array(history)


once, history_once = descend(1, 400, 30.0)
twice, history_twice = descend(2, 400, 30.0)
table(
    [
        ["loss it reports, first", history_once[0, 0], history_twice[0, 0]],
        ["loss it reports, last", history_once[-1, 0], history_twice[-1, 0]],
        ["its true loss, first", true_loss(np.zeros((V, V))), true_loss(np.zeros((V, V)))],
        ["its true loss, last", true_loss(once), true_loss(twice)],
        ["right guesses", f"{accuracy(once):.1%}", f"{accuracy(twice):.1%}"],
        ["first gradient (norm)", history_once[0, 2], history_twice[0, 2]],
    ],
    columns=["after 400 steps", "one softmax", "two softmaxes"],
)
assert true_loss(once) < 2.6
assert true_loss(twice) > math.log(V)  # worse than a model that knows nothing
assert history_twice[-1, 0] < history_twice[0, 0]  # while its own loss has fallen
assert abs(accuracy(once) - accuracy(twice)) < 0.002

# %% [markdown]
# Both guess right equally often. The loss of the second falls at every step, slowly. And its
# probabilities end up *worse than those of a model that knows nothing*, which pays
# $\ln 103 = 4.635$. Nothing crashes, nothing warns. By the end of section 9 you can say why, to
# the digit.

# %% [markdown]
# ## 3. Formula
#
# **As printed** (D2 §4.1.2), with $p$ the true distribution and $q$ the predicted one:
#
# $$
# H(p, q) = -\sum_{i=1}^{n} p_i \log q_i
# $$
#
# **As published** (Shannon 1948, §6, for one distribution; Goodfellow et al. 2016, eq. 3.51, for
# two): the same. Two things beside it need care.
#
# - D2 calls $n$ the number of *samples*. It is the number of *outcomes*, here the classes $C$:
#   the $p_i$ of one sample sum to 1. The samples are averaged in a second step, with a $1/N$ that
#   the formula does not show. Read as printed, the loss grows with the batch (section 9).
# - It does not say which logarithm. Natural: the unit is the *nat*, and no factor $1/\ln 2$
#   haunts the gradient. Base 2 gives *bits*: $1\ \text{nat} = 1.4427$ bits.
#
# **Softmax** is used in D1 §4.1.1, D3 §4.1 and D4 §4.1.1, inside attention, and written out in
# none. As published (Bridle 1990):
#
# $$
# \mathrm{softmax}(x)_i = \frac{e^{x_i}}{\sum_{j} e^{x_j}}
# $$
#
# **Together.** In classification $p$ is *one-hot*: 1 for the right class $t$, 0 elsewhere. One
# term of the sum survives, and the logarithm meets the exponential (Goodfellow et al. 2016, eq.
# 6.30):
#
# $$
# l = -x_t + \log \sum_{k=1}^{C} e^{x_k}, \qquad L = \frac{1}{N} \sum_{n=1}^{N} l_n
# $$
#
# | symbol | variable | shape |
# |---|---|---|
# | $x$ | `logits`, the scores | $[N, C]$, or $[B, T, C]$ with $N = B T$ |
# | $t$ | `target`, the right classes | $[N]$, integers from 0 to $C - 1$ |
# | $q = \mathrm{softmax}(x)$ | `q` | $[N, C]$, each row sums to one |
# | $p$ | `one_hot` | $[N, C]$, one 1 in each row |
# | $l_n$ | | $[N]$, the loss of row $n$ |
# | $L$ | `loss` | one number |
#
# The program of D2 §5.2 computes something else: its last layer has a softmax (§5.2.2), its loss
# says `from_logits=True` (§5.2.3) and applies another:
#
# $$
# L_{\text{printed}} = -\log \mathrm{softmax}(\mathrm{softmax}(x))_t
# $$

# %% [markdown]
# ## 4. By hand
#
# Two rows, three classes. A pocket calculator with an $e^x$ key follows every number. The right
# classes are 0 and 1.

# %%
x = np.array([[2.0, 1.0, 0.0], [1.0, 1.0, 3.0]])  # [N, C] = [2, 3]
t = np.array([0, 1])
N, C = x.shape

z = x - x.max(axis=1, keepdims=True)  # the largest of each row becomes 0
e = np.exp(z)
total = e.sum(axis=1, keepdims=True)
q = e / total
steps = []
for n in range(N):
    for name, values in [("x", x), ("z = x - max", z), ("e = exp(z)", e), ("q = e / sum", q)]:
        row = [*values[n], values[n].sum()]
        steps.append([f"row {n}", name, *(f"{v:.4f}" for v in row)])
table(steps, columns=["", "", "class 0", "class 1", "class 2", "sum"], title="Softmax")

# %%
losses = [-math.log(q[0, 0]), -math.log(q[1, 1])]
print(f"row 0: -ln {q[0, 0]:.4f} = {losses[0]:.4f}    (class 0 is right, and was favored)")
print(f"row 1: -ln {q[1, 1]:.4f} = {losses[1]:.4f}    (class 1 is right, class 2 was favored)")
print(f"loss:  ({losses[0]:.4f} + {losses[1]:.4f}) / 2 = {sum(losses) / 2:.4f}")

one_hot = np.eye(C)[t]
dx = (q - one_hot) / N
rows = [[f"row {n}", *(f"{v:+.4f}" for v in dx[n]), f"{abs(dx[n].sum()):.4f}"] for n in range(N)]
columns = ["(q - onehot) / 2", "class 0", "class 1", "class 2", "sum"]
table(rows, columns, title="Gradient")
assert np.allclose(q.round(4), [[0.6652, 0.2447, 0.0900], [0.1065, 0.1065, 0.7870]])
assert round(sum(losses) / 2, 4) == 1.3236
assert np.allclose(dx.round(4), [[-0.1674, 0.1224, 0.0450], [0.0533, -0.4467, 0.3935]], atol=1e-9)

# %% [markdown]
# Read the gradient as a plan. The right logit is pushed up (its entry is negative, and descent
# subtracts). The others are pushed down, each in proportion to the probability it wrongly holds.
# Each row sums to zero: what one class gains, the others lose.
#
# ### Entropy
#
# Cross-entropy of $p$ with itself is the *entropy* $H(p) = -\sum p_i \log p_i$. Take four answers
# with probabilities 1/2, 1/4, 1/8, 1/8. Asked cleverly, yes-or-no questions find the answer after
# 1, 2, 3 or 3 of them: on average $1/2 \cdot 1 + 1/4 \cdot 2 + 1/8 \cdot 3 + 1/8 \cdot 3 = 1.75$.
# That is $H(p)$ in bits, and 1.213 nats. No model can have a smaller loss on such data: it is the
# floor.
#
# ### Kullback–Leibler divergence
#
# A model that believes all four equally likely asks 2 questions every time. That is the
# cross-entropy, $H(p, q) = 2$ bits. The quarter bit above the floor is the price of the wrong
# belief: $\mathrm{KL}(p \| q) = H(p, q) - H(p) = 0.25$ bits $= 0.1733$ nats. It is never
# negative. As $H(p)$ does not depend on the model, minimizing the cross-entropy *is* minimizing
# the divergence.
#
# ### Perplexity
#
# $e^{H(p,q)}$ (in nats; $2^{H}$ in bits) turns the loss into a number of choices. A fair choice
# among four has perplexity 4; the data above have $2^{1.75} = 3.364$. A model of 103 characters
# that knows nothing has perplexity 103. Watch the unit: $e^{1.75}$ would be 5.75, more than there
# are answers.

# %%
p4, q4 = np.array([1 / 2, 1 / 4, 1 / 8, 1 / 8]), np.full(4, 1 / 4)


def cross(p, q):
    """H(p, q) in nats; 0 · log 0 counts as 0."""
    here = p > 0
    with np.errstate(divide="ignore"):
        return float(-(p[here] * np.log(q[here])).sum())


bit = math.log(2)
assert round(1 / bit, 4) == 1.4427
table(
    [
        ["entropy H(p)", cross(p4, p4) / bit, cross(p4, p4)],
        ["cross-entropy H(p, q)", cross(p4, q4) / bit, cross(p4, q4)],
        [
            "KL(p‖q) = H(p, q) − H(p)",
            (cross(p4, q4) - cross(p4, p4)) / bit,
            cross(p4, q4) - cross(p4, p4),
        ],
        ["cross-entropy H(q, p)", cross(q4, p4) / bit, cross(q4, p4)],
    ],
    columns=["", "bits", "nats"],
)
of_data, of_model = math.exp(cross(p4, p4)), math.exp(cross(p4, q4))
print(f"perplexity of the data {of_data:.3f}, of the model {of_model:.3f}")
assert math.isclose(cross(p4, p4), 1.75 * bit)
assert math.isclose(cross(p4, q4) - cross(p4, p4), 0.25 * bit)
assert math.isclose(math.exp(cross(p4, q4)), 4)
assert math.isclose(cross(q4, p4), 2.25 * bit)  # not symmetric: the order matters
assert cross(np.array([0.9, 0.1]), np.array([1.0, 0.0])) == math.inf  # swapped, with a one-hot

# %% [markdown]
# The last row of the table: $H(q, p) \neq H(p, q)$. With one-hot targets the swapped order is not
# just different. It is infinite, unless the model is certain and right.

# %% [markdown]
# ## 5. In code
#
# Loops first, one line for each symbol of the formula:


# %%
def cross_entropy_loops(logits, target):
    """L = mean over n of  -x[t] + ln sum_k exp(x[k])."""
    loss = 0.0
    for n in range(len(target)):
        biggest = max(logits[n])
        total = 0.0
        for k in range(len(logits[n])):
            total += math.exp(logits[n][k] - biggest)
        log_q = logits[n][target[n]] - biggest - math.log(total)
        loss += -log_q / len(target)
    return loss


print(cross_entropy_loops(x.tolist(), t.tolist()))

# %% [markdown]
# Why subtract the maximum? In exact arithmetic it changes nothing: any number $m$ taken off a
# whole row cancels,
#
# $$
# \frac{e^{x_i - m}}{\sum_j e^{x_j - m}} = \frac{e^{-m} e^{x_i}}{e^{-m} \sum_j e^{x_j}}
# = \frac{e^{x_i}}{\sum_j e^{x_j}}
# $$
#
# In floating point it changes everything: $e^{710}$ is infinite in float64, $e^{89}$ in float32.
# With $m$ the maximum no exponent is above 0, and the sum is at least $e^0 = 1$: no overflow, no
# division by zero, no logarithm of zero.

# %%
with np.errstate(over="ignore"):
    print(np.exp(710.0), np.exp(np.float32(89)))
    assert np.isinf(np.exp(710.0))
    assert np.isinf(np.exp(np.float32(89)))

# %% [markdown]
# The same in NumPy, all rows at once:


# %%
def forward_only(logits, target):
    z = logits - logits.max(axis=-1, keepdims=True)  # [N, C]
    log_q = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))  # [N, C]
    return -log_q[np.arange(len(target)), target].mean()  # [N, C] -> [N] -> []


# %% [markdown]
# And the library's softmax, as it runs in the GPT:

# %%
source(ops.softmax)

# %%
library, _ = ops.cross_entropy(x, t)
print(cross_entropy_loops(x, t), forward_only(x, t), float(library))
assert math.isclose(cross_entropy_loops(x, t), forward_only(x, t), rel_tol=1e-14)
assert math.isclose(forward_only(x, t), float(library), rel_tol=1e-14)
assert np.allclose(ops.softmax(x)[0], q, rtol=1e-14)

# %% [markdown]
# `log_q[np.arange(N), t]` takes one entry in each row: entry `t[n]` of row `n`. The tempting
# `log_q[:, t]` takes all $N$ targets in *each* row, which is a matrix of $N \times N$. Its mean
# is a number too, and the wrong one.

# %%
print("right:", z[np.arange(N), t].shape, "  tempting:", z[:, t].shape)
assert z[:, t].shape == (N, N)

# %% [markdown]
# ## 6. Backward, derived
#
# Two roads lead to the gradient. The first goes through the softmax and its Jacobian. The second
# never forms a probability. They must meet.
#
# ### Road one, step 1: the Jacobian of softmax
#
# Call $s = \sum_k e^{x_k}$, so $y_i = e^{x_i} / s$. Its two parts depend on $x_j$ as
#
# $$
# \frac{\partial e^{x_i}}{\partial x_j} = [i = j]\, e^{x_i}, \qquad
# \frac{\partial s}{\partial x_j} = e^{x_j}
# $$
#
# where $[i = j]$ is 1 if they are equal, else 0. The quotient rule:
#
# $$
# \frac{\partial y_i}{\partial x_j}
# = \frac{[i = j]\, e^{x_i}\, s - e^{x_i}\, e^{x_j}}{s^2}
# = [i = j]\, y_i - y_i\, y_j
# $$
#
# As a matrix, $J = \mathrm{diag}(y) - y y^T$. For row 0 of the example:

# %%
e, total = np.exp(x[0]), np.exp(x[0]).sum()  # e^x_i and s, of row 0
y = e / total  # [C]
de = np.diag(e)  # de[i, j] = [i = j] e^x_i
ds = e  # ds[j] = e^x_j
quotient = (de * total - np.outer(e, ds)) / total**2  # the quotient rule, [C, C]
J = np.diag(y) - np.outer(y, y)  # [i = j] y_i - y_i y_j
assert np.allclose(quotient, J, rtol=1e-12)
table([[f"y{i}", *J[i]] for i in range(C)], columns=["", "∂/∂x0", "∂/∂x1", "∂/∂x2"], title="J")

h = 1e-6  # the same, measured: column j by central differences
measured = np.stack(
    [(ops.softmax(x[0] + h * d)[0] - ops.softmax(x[0] - h * d)[0]) / (2 * h) for d in np.eye(C)],
    axis=1,
)
assert np.allclose(J, measured, atol=1e-9)
assert np.allclose(J.sum(axis=0), 0)  # the probabilities always sum to 1
assert np.allclose(J.sum(axis=1), 0)  # a shift of all logits changes nothing

# %% [markdown]
# The diagonal $y_i (1 - y_i)$ is what a single sigmoid would give. Off the diagonal all is
# negative: a class gains at the cost of the others.
#
# ### Road one, step 2: the vjp of softmax
#
# Given $\bar{y}_i = \partial L / \partial y_i$ (`dy`), the chain rule adds up all paths from
# $x_j$ to $L$:
#
# $$
# \bar{x}_j = \sum_i \bar{y}_i \frac{\partial y_i}{\partial x_j}
# = \sum_i \bar{y}_i \left( [i = j]\, y_i - y_i y_j \right)
# $$
#
# The bracket picks $i = j$ out of the first sum; $y_j$ does not depend on $i$ and leaves the
# second:
#
# $$
# \bar{x}_j = \bar{y}_j y_j - y_j \sum_i \bar{y}_i y_i
# = y_j \left( \bar{y}_j - \sum_i \bar{y}_i y_i \right)
# $$
#
# In matrix form $\bar{x} = J^T \bar{y}$, and the formula is that product without the matrix: one
# dot product for each row instead of $C \times C$ numbers. The code is the last line, letter by
# letter:

# %%
source(solved.softmax, "vjp")

dy = np.array([0.3, -1.0, 0.7])  # any cotangent
by_paths = [sum(dy[i] * J[i, j] for i in range(C)) for j in range(C)]  # sum over i, for each j
by_parts = dy * y - y * (dy * y).sum()  # the bracket taken apart
by_formula = y * (dy - (dy * y).sum())  # y_j taken out
table([["sum over the paths", *by_paths], ["two parts", *by_parts], ["formula", *by_formula]])
assert np.allclose(by_paths, J.T @ dy, rtol=1e-12)  # in matrix form: J transposed times dy
assert np.allclose(by_paths, by_formula, rtol=1e-12)
assert np.allclose(by_parts, by_formula, rtol=1e-12)

# %% [markdown]
# ### Road one, step 3: the logarithm
#
# The loss of one row is $l = -\log y_t$. It looks at one probability only:
#
# $$
# \bar{y}_i = \frac{\partial l}{\partial y_i} = -\frac{[i = t]}{y_t}
# $$
#
# Put it into step 2. The sum has one term, $\sum_i \bar{y}_i y_i = -y_t / y_t = -1$:
#
# $$
# \bar{x}_j = y_j \left( -\frac{[j = t]}{y_t} + 1 \right) = y_j - [j = t]
# $$
#
# because $y_j [j = t] / y_t$ is 1 for $j = t$ and 0 elsewhere. The fraction is gone, and with it
# the danger: $1 / y_t$ alone overflows when $y_t$ is tiny.

# %%
dy = -one_hot[0] / y[0]  # (-1/y_t, 0, 0), as t = 0
assert math.isclose((dy * y).sum(), -1)  # the one term of the sum
road_one = y * (dy + 1)
print(road_one)
assert np.allclose(road_one, y - one_hot[0], rtol=1e-14)

# %% [markdown]
# ### Road two: from log-sum-exp
#
# Take the logarithm before differentiating:
#
# $$
# l = -\log \frac{e^{x_t}}{\sum_k e^{x_k}} = -x_t + \log \sum_k e^{x_k}
# $$
#
# Two terms. The first has the derivative $-[j = t]$. The second, by the chain rule for $\log s$:
#
# $$
# \frac{\partial}{\partial x_j} \log \sum_k e^{x_k} = \frac{1}{s} \cdot e^{x_j} = y_j
# $$
#
# *The derivative of log-sum-exp is softmax.* That is the whole secret of this lesson:
#
# $$
# \frac{\partial l}{\partial x_j} = y_j - [j = t]
# $$

# %%
first = -one_hot[0]  # the derivative of -x_t
second = 1 / total * e  # that of log s: 1/s times e^x_j
assert np.allclose(second, ops.logsumexp(x[0])[1](np.ones(())), rtol=1e-12)  # the library's
road_two = first + second
print(road_two)
assert np.allclose(road_one, road_two, rtol=1e-14)

# %% [markdown]
# And the maximum that we subtract, does it need a derivative of its own? Write
# $m + \log \sum_k e^{x_k - m}$ and differentiate by $m$:
# $1 - \sum_k e^{x_k - m} / \sum_k e^{x_k - m} = 0$. Whatever $m$ does, nothing changes. It may be
# treated as a constant.
#
# ### All rows, and what comes from above
#
# The loss is the mean of $N$ rows, so each row enters with the factor $1/N$. If something is done
# with the loss afterwards, its derivative `dy` arrives from above as one more factor:
#
# $$
# \bar{x}_{nj} = \frac{\bar{L}}{N} \left( y_{nj} - [j = t_n] \right), \qquad
# \bar{x} = \frac{\bar{L}}{N} \left( \mathrm{softmax}(x) - p \right)
# $$

# %%
source(solved.cross_entropy, "vjp")

_, vjp = solved.cross_entropy(x, t)
assert np.allclose(vjp(np.float64(1.0))[0], dx, rtol=1e-12)  # the table of section 4
assert np.allclose(vjp(np.float64(0.5))[0], dx / 2, rtol=1e-12)
assert np.allclose(
    vjp(np.float64(1.0))[0], ops.cross_entropy(x, t)[1](np.float64(1.0))[0], rtol=1e-12
)

# %% [markdown]
# Log-softmax alone follows the same way. From $\log y_i = x_i - \log s$ the Jacobian is
# $[i = j] - y_j$, and $\bar{x}_j = \bar{y}_j - y_j \sum_i \bar{y}_i$. In the library:

# %%
source(ops.log_softmax, "vjp")

# %% [markdown]
# ## 7. Gradient check, live
#
# Random logits, random cotangents, float64. `target` has no gradient, so it has no row.

# %%
rng = np.random.default_rng(5)
logits, target = 2 * rng.standard_normal((4, 6)), rng.integers(0, 6, 4)
checks = []
for name, report in [
    ("softmax", gradcheck(solved.softmax, logits)),
    ("cross_entropy", gradcheck(solved.cross_entropy, logits, target)),
    ("library's softmax", gradcheck(ops.softmax, logits)),
    ("library's cross_entropy", gradcheck(ops.cross_entropy, logits, target)),
]:
    entry = report.inputs[0]
    checks.append(
        [name, entry.name, entry.checked, f"{report.error:.1e}", "right" if report else "WRONG"]
    )
    assert report
    assert report.error < 1e-6
table(checks, columns=["op", "input", "elements", "largest relative error", "verdict"])

# %% [markdown]
# Why *random* cotangents? A softmax always sums to 1, so the sum of its outputs has the gradient
# 0. A check that sets every cotangent to 1 accepts a backward pass that does nothing at all:


# %%
def lazy_softmax(x):
    """A softmax whose vjp returns zeros."""
    return ops.softmax(x)[0], lambda dy: np.zeros_like(dy)


print("cotangent 1, right vjp: ", np.abs(ops.softmax(x)[1](np.ones_like(x))).max())
print("cotangent 1, zero vjp:  ", np.abs(lazy_softmax(x)[1](np.ones_like(x))).max())
print("random cotangents find it:", not gradcheck(lazy_softmax, x))
assert np.allclose(ops.softmax(x)[1](np.ones_like(x)), 0, atol=1e-15)
assert not gradcheck(lazy_softmax, x)

# %% [markdown]
# The V of the error against the step $h$. Too long a step cuts the Taylor series, too short a one
# cancels digits. **Question before you look:** the error of central differences falls as $h^2$.
# By which factor does it fall from $h = 10^{-1}$ to $h = 10^{-3}$?

# %%
with plot.style():
    ax = plot.gradcheck_curve(solved.cross_entropy, logits, target)
    ax.set_title("cross-entropy: finite differences against the derived gradient")
show(
    ax,
    alt="Two V-shaped curves of relative error against step h, both axes logarithmic. "
    "Central differences are best near h = 5e-5, forward differences near 1e-7 and "
    "far less exact.",
)

# %% [markdown]
# By $10^4$, two decades for each decade of $h$.

# %% [markdown]
# ## 8. See it
#
# ### The loss against the gap
#
# Two classes; the *gap* is the right logit minus the wrong one. Then $q_t = \sigma(\text{gap})$
# and $L = \ln(1 + e^{-\text{gap}})$. Beside it: the squared error of the probability,
# $(1 - q_t)^2$, and the loss with two softmaxes. **Look for** the left branch, where the model is
# sure and wrong. **Question:** what does the cross-entropy cost at a gap of $-8$, and what is its
# slope there? And the slopes of the other two?

# %%
gap = np.linspace(-8, 8, 161)
two = np.stack([gap, np.zeros_like(gap)], axis=1)  # [161, 2], class 0 is right
q_right = ops.softmax(two)[0][:, 0]
curves = {
    "cross-entropy": -np.log(q_right),
    "two softmaxes": -ops.log_softmax(ops.softmax(two)[0])[0][:, 0],
    "squared error": (1 - q_right) ** 2,
}
with plot.style():
    fig, ax = figure(width=6.4, height=3.8)
    for (name, values), dashes, color in zip(
        curves.items(),
        ["-", "--", ":"],
        ["#0072B2", "#D55E00", "#009E73"],
        strict=True,
    ):
        ax.plot(gap, values, dashes, color=color, label=name)
    ax.set_xlabel("gap: right logit − wrong logit")
    ax.set_ylabel("loss (nats; squared error: no unit)")
    ax.set_title("Sure and wrong: only the cross-entropy keeps a slope")
    ax.grid(axis="y")
    ax.legend()
show(
    fig,
    alt="Loss against logit gap. Cross-entropy is a straight line of slope minus one at "
    "the left and flat at the right; the loss with two softmaxes and the squared "
    "error are flat on both sides.",
)

slopes = {name: float((v[1] - v[0]) / (gap[1] - gap[0])) for name, v in curves.items()}
print("slope at gap -8:", {name: round(slope, 5) for name, slope in slopes.items()})
assert abs(curves["cross-entropy"][0] - 8.0003) < 1e-4
assert -1 < slopes["cross-entropy"] < -0.999
assert abs(slopes["two softmaxes"]) < 1e-3
assert abs(slopes["squared error"]) < 1e-3

# %% [markdown]
# It costs 8.0003 nats, with slope $-1$: a confident mistake is corrected at full speed. The other
# two have all but stopped learning there.
#
# ### The gradient that is left
#
# The same question for $C = 103$ classes, and for 10,000. To the right of 0 the right class leads
# by that many logits. To the left of 0 a *wrong* class leads. **Look for** the distance between
# the curves at 0, where training starts, and then to the left, where the mistakes are.
# **Question:** at 0 all probabilities are $1/C$. How much of the gradient is left?


# %%
def norms(C, leads):
    """Gradient norms with one softmax and with two, by the lead of the right class."""
    rows = np.zeros((len(leads), C))
    rows[:, 0] = np.maximum(leads, 0)  # class 0 is right
    rows[:, 1] = np.maximum(-leads, 0)
    right = np.zeros(len(leads), dtype=int)
    single = np.stack([ops.cross_entropy(r[None], right[:1])[1](1.0)[0][0] for r in rows])
    double = []
    for r in rows:
        p, through_softmax = ops.softmax(r[None])
        double.append(through_softmax(ops.cross_entropy(p, right[:1])[1](1.0)[0])[0])
    return np.linalg.norm(single, axis=1), np.linalg.norm(np.stack(double), axis=1)


leads = np.linspace(-16, 16, 65)
with plot.style():
    fig, axes = figure(1, 2, width=7.2, height=3.6, sharey=True)
    for ax, classes in zip(axes, [103, 10_000], strict=True):
        single, double = norms(classes, leads)
        ax.semilogy(leads, single, color="#0072B2", label="one softmax")
        ax.semilogy(leads, double, "--", color="#D55E00", label="two softmaxes")
        ax.set_title(f"{classes:,} classes")
        ax.set_xlabel("lead of the right class (logits)")
        ax.grid(axis="both")
    axes[0].set_ylabel("norm of the gradient of one row")
    axes[0].legend(loc="lower left")
show(
    fig,
    alt="Gradient norm, logarithmic, against the lead of the right class, for 103 and 10,000 "
    "classes. With one softmax it is about one until the right class leads clearly. With two it "
    "is smaller by the number of classes at 0, and falls to a millionth at the left.",
)

measured = []
for classes in (103, 10_000):
    for lead in (-16.0, 0.0, 4.0):
        single, double = (float(v[0]) for v in norms(classes, np.array([lead])))
        measured.append([f"{classes:,}", lead, single, double, single / double])
        if lead == 0:
            assert math.isclose(single / double, classes, rel_tol=1e-6)
table(measured, columns=["classes", "lead", "one softmax", "two", "times smaller"], digits=3)
wrong_and_sure = norms(103, np.array([-16.0]))
assert wrong_and_sure[0][0] > 1.4
assert wrong_and_sure[1][0] < 1e-6

# %% [markdown]
# At the start exactly $1/C$ of it is left. At uniform probabilities the Jacobian of softmax has
# $1/C - 1/C^2$ on its diagonal and $-1/C^2$ everywhere else; on a row that sums to 0, as softmax
# minus onehot does, that is the factor $1/C$. With the 10,000 words of D2 §5.2.2 the first
# gradient is 10,000 times too small.
#
# ### Entropy, two classes and three
#
# **Look for** where the entropy is largest, and how steep it is at the edges. **Question:** what
# is the entropy in the middle of the triangle, and in the middle of one of its sides?

# %%
share = np.linspace(0, 1, 201)
two_class = np.array([cross(np.array([s, 1 - s]), np.array([s, 1 - s])) for s in share])
n_side = 60
triples = (
    np.array([(i, j, n_side - i - j) for i in range(n_side + 1) for j in range(n_side + 1 - i)])
    / n_side
)
three_class = np.array([cross(p, p) for p in triples])
across, up = triples[:, 1] + triples[:, 2] / 2, triples[:, 2] * math.sqrt(3) / 2
with plot.style():
    fig, (left, right) = figure(1, 2, width=7.2, height=3.4)
    left.plot(share, two_class, color="#0072B2")
    left.axhline(math.log(2), color="#8a8a8a", linewidth=0.8, linestyle="--")
    left.annotate("ln 2 = 0.693", (0.02, math.log(2) + 0.012), fontsize=8.5)
    left.set(xlabel="probability of class 0", ylabel="entropy (nats)", ylim=(0, 0.78))
    left.set_title("two classes")
    drawn = right.tricontourf(
        across, up, three_class, levels=np.linspace(0, 1.1, 12), cmap="cividis"
    )
    for label, a, b, side in [
        ("class 0 ", 0, 0, "right"),
        (" class 1", 1, 0, "left"),
        ("class 2", 0.5, 0.92, "center"),
    ]:
        right.text(a, b, label, ha=side, va="center", fontsize=8.5)
    right.set_ylim(-0.05, 1)
    right.set_aspect("equal")
    right.set_axis_off()
    right.set_title("three classes: a corner is certainty")
    bar = fig.colorbar(drawn, ax=right, shrink=0.85)
    bar.set_label("entropy (nats)")
show(
    fig,
    alt="Left: entropy of two classes, an arch from 0 over ln 2 at one half back to 0. "
    "Right: a triangle of three-class distributions, dark at its corners and "
    "brightest in the middle, at ln 3.",
)
print(f"middle: ln 3 = {three_class.max():.4f};  middle of a side: ln 2 = {two_class.max():.4f}")
assert math.isclose(three_class.max(), math.log(3))
assert math.isclose(two_class.max(), math.log(2))

# %% [markdown]
# ### Softmax with a temperature
#
# Divide all logits by one number $\tau$, the *temperature*, before the softmax. In a notebook and in
# the book, move it. **Look for** the order of the bars, and for the number of classes in use,
# $e^H$. **Question:** what do the bars look like at $\tau \to 0$, and what at $\tau \to \infty$?

# %%
eight = np.array([2.0, 1.6, 1.0, 0.4, 0.0, -0.5, -1.2, -2.0])
temperatures = [0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 20.0]


def at_temperature(tau):
    p = ops.softmax(eight / tau)[0]
    with plot.style():
        fig, ax = figure(width=5.6, height=3.2)
        ax.bar(range(8), p, color="#0072B2")
        ax.axhline(1 / 8, color="#8a8a8a", linewidth=0.8, linestyle="--")
        ax.set(ylim=(0, 1.05), xlabel="class, from the largest logit", ylabel="probability")
        ax.set_title(f"temperature {tau:g}: {math.exp(cross(p, p)):.2f} of 8 classes in use")
    return fig


slider(
    temperatures, at_temperature, label="temperature", start=4,
    alt=lambda tau: f"Eight bars that fall from left to right, the softmax at temperature {tau:g}; "
    f"the first is {ops.softmax(eight / tau)[0][0]:.2f} high.",
)  # fmt: skip
softened = np.stack([ops.softmax(eight / tau)[0] for tau in temperatures])
assert (np.diff(softened, axis=1) < 0).all()  # the order never changes
assert softened[0, 0] > 0.999
assert np.abs(softened[-1] - 1 / 8).max() < 0.015
assert (np.diff([cross(p, p) for p in softened]) > 0).all()  # warmer is less decided

# %% [markdown]
# Toward 0 the largest logit takes all, toward infinity all are equal, and at every temperature between
# the order stays. The loss is computed at $\tau = 1$. Lesson 29 writes at others.

# %% [markdown]
# ## 9. Break it
#
# ### The printed program: two softmaxes
#
# D2 §5.2.2 ends its model with `activation='softmax'`; D2 §5.2.3 takes a loss with
# `from_logits=True`. (Some versions of Keras remember the logits behind a softmax and use those,
# and warn. A program should not live on that.) Here is what the formula does.
#
# **The loss lives within one nat.** Probabilities lie between 0 and 1, so as logits they are
# almost equal. The best output, certain and right, costs $\ln(1 + (C - 1)/e)$; the worst, certain
# and wrong, $\ln(e + C - 1)$. Their difference is 1, for every $C$.

# %%
bounds = []
for classes in (2, 103, 10_000):
    best, worst = math.log(1 + (classes - 1) / math.e), math.log(math.e + classes - 1)
    bounds.append([f"{classes:,}", best, math.log(classes), worst, worst - best])
    assert math.isclose(worst - best, 1)
table(
    bounds,
    columns=["classes", "certain and right", "uniform", "certain and wrong", "range"],
    digits=6,
)

# %% [markdown]
# With 10,000 words a perfect model reports 8.2105, one that knows nothing 9.2103. If your loss
# starts at $\ln C$ and settles less than one nat lower, whatever you do, count the softmaxes.
#
# **Its optimum is the wrong one.** Could a larger learning rate repair the factor $1/C$? No. Let
# three classes occur with probabilities 0.6, 0.3, 0.1, and minimize both losses to the end.

# %%
truth = np.array([0.6, 0.3, 0.1])


def minimize(softmaxes, rate=1.0, steps=20_000):
    """Descend on the exact expected loss; returns the probabilities that the model ends with."""
    v = np.zeros(3)
    for _ in range(steps):
        p, through = ops.softmax(v)
        g = through(ops.softmax(p)[0] - truth) if softmaxes == 2 else p - truth
        v = v - rate * g
    return ops.softmax(v)[0]


one, both = minimize(1), minimize(2)
table(
    [["truth", *truth], ["one softmax", *one], ["two softmaxes", *both]],
    columns=["", "class 0", "class 1", "class 2"],
    digits=3,
)
assert np.allclose(one, truth, atol=1e-6)
assert both[0] > 0.9
assert both[2] < 1e-3

# %% [markdown]
# One softmax finds the truth. Two find something else: the leader nearly takes all. The reason is
# in the gradient by $p$, which is $\mathrm{softmax}(p) - \text{truth}$. It would vanish where
# $\mathrm{softmax}(p)$ is the truth, but a softmax of numbers between 0 and 1 cannot be 6 times
# larger in one place than in another: $e^1 / e^0 = 2.718$ is its limit. So $p$ is pushed to the
# edge. With 103 classes two outputs of $\mathrm{softmax}(p)$ differ by 0.0164 at most. Whatever
# leads by more than that takes everything.
#
# **On real data** both happen, one after the other. These are the two runs of the hook. **Look
# for** where the dashed curve turns. **Question:** what will the solid curve of the right panel,
# the loss that the program prints, tell someone who has only that?

# %%
print(f"largest difference that two softmaxes can express: {(math.e - 1) / (math.e + V - 1):.4f}")
with plot.style():
    fig, axes = figure(1, 2, width=7.2, height=3.5, sharey=True)
    for ax, history, name in zip(
        axes, [history_once, history_twice], ["one softmax", "two softmaxes"], strict=True
    ):
        ax.plot(history[:, 0], color="#0072B2", label="loss it reports")
        ax.plot(history[:, 1], "--", color="#D55E00", label="its true loss")
        ax.axhline(math.log(V), color="#8a8a8a", linewidth=0.8)
        ax.set_title(name)
        ax.set_xlabel("step")
        ax.grid(axis="y")
    axes[0].annotate(f"knows nothing: ln {V}", (400, math.log(V) + 0.05), fontsize=8.5, ha="right")
    axes[0].set_ylabel("loss (nats per character)")
    axes[0].legend(loc="center right")
show(
    fig,
    alt="Two panels of loss against step. With one softmax both curves are the same and "
    "fall from 4.6 to 2.6. With two, the reported loss falls by less than 0.2 while "
    "the true loss dips a little and then climbs above its start.",
)
turn = int(history_twice[:, 1].argmin())
print(
    f"two softmaxes: reported {history_twice[0, 0]:.3f} -> {history_twice[-1, 0]:.3f}; "
    f"true {history_twice[0, 1]:.3f} -> {history_twice[turn, 1]:.3f} at step {turn} "
    f"-> {history_twice[-1, 1]:.3f}"
)
assert np.allclose(history_once[:, 0], history_once[:, 1])
assert (np.diff(history_twice[:, 0]) < 0).all()
assert 0 < turn < 200
faster, history_faster = descend(2, 400, 30.0 * V)  # the lost factor 1/C put back
print(
    f"with the learning rate times {V}: true loss {true_loss(faster):.2f}, "
    f"reported {history_faster[-1, 0]:.3f}, right guesses {accuracy(faster):.1%}"
)
assert true_loss(faster) > 2 * math.log(V)

# %% [markdown]
# It tells them that training is slow but fine. Raising the learning rate makes the reported loss
# better and the model worse.
#
# D2 §5.2.3 trains with Adam, which divides each gradient by its own size (lesson 06): the lost
# factor $1/C$ comes back by itself. What does Adam make of both losses, in 400 steps?

# %%
with_adam = []
for softmaxes in (1, 2):
    S = Tensor(np.zeros((V, V)), requires_grad=True)
    adam = optim.Adam([S], lr=0.05)
    for _ in range(400):
        adam.zero_grad()
        loss = -(F.log_softmax(F.softmax(S) if softmaxes == 2 else S) * Tensor(P)).sum()
        loss.backward()
        adam.step()
    scores = S.numpy()
    with_adam.append([softmaxes, loss.item(), true_loss(scores), f"{accuracy(scores):.1%}"])
table(with_adam, columns=["softmaxes, with Adam", "reports", "true loss", "right guesses"])
assert with_adam[0][2] < 2.5
assert with_adam[1][2] > math.log(V)

# %% [markdown]
# The gradient is back, and leads to the wrong place faster.

#
# ### The same program: which targets, in which order
#
# The line of D2 §5.2.3 is `loss_function(batch, predictions)`. Keras takes the truth first, then
# the prediction, so the *order* is right there. In PyTorch it is prediction first, as in
# `criterion(output, target)` of D1 §3.5.2; carried from one to the other, it is swapped. A loss
# that takes class numbers can refuse:

# %%
try:
    ops.cross_entropy(t.astype(float), q)
except (TypeError, ValueError) as error:
    print(f"{type(error).__name__}: {error}")

# %% [markdown]
# One that takes two distributions can't. Swapped, it computes $H(q, p) = -\sum_i q_i \log p_i$.
# With one-hot $p$ that is infinite; programs clip $p$ at $10^{-7}$ and get $16.1\,(1 - q_t)$
# instead. How does that correct a model that is sure and wrong?

# %%
swapped = []
for lead in (-16.0, -8.0, 0.0):
    v = np.array([0.0, -lead, 0.0])  # class 0 is right, class 1 leads
    prob, through = ops.softmax(v)
    clipped = np.clip(np.array([1.0, 0.0, 0.0]), 1e-7, 1.0)
    backwards = -np.log(clipped)  # the derivative of H(q, p) by q
    g_right, g_swapped = prob - np.eye(3)[0], through(backwards)
    swapped.append(
        [
            lead,
            cross(np.eye(3)[0], prob),
            -float((prob * np.log(clipped)).sum()),
            abs(g_right[0]),
            abs(g_swapped[0]),
        ]
    )
table(
    swapped, columns=["lead", "H(p, q)", "H(q, p), clipped", "push on the right logit", "swapped"]
)
assert swapped[0][3] > 0.999
assert swapped[0][4] < 1e-5

# %% [markdown]
# The swapped loss hardly pushes where the push matters most, and stops growing at 16.1.
#
# The graver fault of that line is `batch` itself: the *inputs* are given as the targets, not the
# characters that follow them. A model that sees a character can always copy it. The loss goes to
# 0, the triumph is complete, and the prediction of the next character is worthless:

# %%
copy = np.zeros((V, V))
frequency = P.sum(axis=1, keepdims=True)  # [V, 1]
for _ in range(400):
    p_copy = ops.softmax(copy)[0]
    copy -= 30.0 * frequency * (p_copy - np.eye(V))
copy_loss = float(-(frequency[:, 0] * np.diag(ops.log_softmax(copy)[0])).sum())
print(f"loss on its own input {copy_loss:.3f}, on the next character {true_loss(copy):.2f}")
assert copy_loss < 0.2
assert true_loss(copy) > math.log(V)

# %% [markdown]
# ### Mistakes, by their symptom
#
# Each of these is wrong in one line. All are trained for 60 steps on the same batches of 512
# pairs, with the same learning rate. Compare what they *report* with what they are *worth*.


# %%
def train(op, steps, batch, rate, seed=5, fade=False):
    """Softmax regression with any cross-entropy op. Returns scores, reported and true losses."""
    rng = np.random.default_rng(seed)
    scores = np.zeros((V, V), dtype=np.float32)
    reported, worth = [], []
    for step in range(steps):
        at = rng.integers(0, len(text.train) - 1, batch)
        now, following = text.train[at], text.train[at + 1]
        loss, vjp = op(scores[now], following)  # [batch, V], [batch]
        dlogits, _ = vjp(np.float32(1.0))  # [batch, V]
        reported.append(float(loss))
        if step % 5 == 0:
            worth.append(true_loss(scores.astype(np.float64)))
        gradient = np.zeros_like(scores)
        np.add.at(gradient, now, dlogits.astype(np.float32))  # rows used twice add up
        scores -= rate * (1 - step / steps if fade else 1) * gradient
    worth.append(true_loss(scores.astype(np.float64)))
    return scores, reported, worth


mistakes = exercises(5)["cross_entropy"]
names = [
    "softmax twice",
    "onehot minus softmax",
    "no 1/N in backward",
    "sum instead of mean",
    "divided by N·C",
    "over the rows",
    "onehot left out",
    "neighboring class",
    "bits",
    "every target in every row",
]
runs = {"right": train(solved.cross_entropy, 60, 512, 30.0)}
for name in names:
    runs[name] = train(mistakes.mistake(name).function, 60, 512, 30.0)
table(
    [[name, r[0], r[-1], w[-1]] for name, (_, r, w) in runs.items()],
    columns=["", "reports at step 0", "reports at step 59", "true loss in the end"],
)

# %% [markdown]
# - **The first number tells most.** A model that knows nothing must report $\ln 103 = 4.635$. It
#   reports 6.238 $= \ln 512$ if the softmax runs over the *rows*: the examples compete. It
#   reports 6.69 $= \log_2 103$ in *bits*; 2373 $= 512 \ln 103$ if the sum is not divided, which
#   is the formula of D2 §4.1.2 read with $n$ samples; 0.045 $= \ln(103)/103$ if it is divided by
#   $N C$.
# - **Sign.** `onehot − softmax` climbs. The loss rises from the first step.
# - **No 1/N in backward.** The first loss is right, then it explodes: each step is 512 times too
#   long.
# - **onehot left out.** The loss stays at 4.6347 to the last digit. All logits of a row move
#   together, and softmax does not notice.
# - **every target in every row.** All $N$ answers are told to every row, so all rows learn the
#   same: which characters occur at all, and not after what. The loss climbs.
# - **neighboring class.** The reported losses are those of the right op, digit for digit. It has
#   learned another language: only the true loss shows it. Compute accuracy beside the loss.

# %%
at = {name: (r[0], r[-1], w[-1]) for name, (_, r, w) in runs.items()}
assert at["right"][2] < 2.9
assert math.isclose(at["over the rows"][0], math.log(512), rel_tol=1e-5)
assert math.isclose(at["bits"][0], math.log2(V), rel_tol=1e-5)
assert math.isclose(at["sum instead of mean"][0], 512 * math.log(V), rel_tol=1e-5)
assert math.isclose(at["divided by N·C"][0], math.log(V) / V, rel_tol=1e-5)
assert at["onehot minus softmax"][1] > at["onehot minus softmax"][0]
assert at["no 1/N in backward"][2] > 100
assert math.isclose(at["onehot left out"][1], math.log(V), rel_tol=1e-5)
assert math.isclose(at["neighboring class"][1], at["right"][1], rel_tol=1e-4)
assert at["neighboring class"][2] > math.log(V)

# %% [markdown]
# Five of them as curves of the *true* loss. **Look for** the two that lie on each other.
# **Question:** which of the five would you not find from the reported loss alone?

# %%
with plot.style():
    fig, ax = figure(width=6.8, height=3.8)
    marks = [
        ("right", "-", "#0072B2"),
        ("softmax twice", "--", "#D55E00"),
        ("divided by N·C", ":", "#000000"),
        ("neighboring class", "-.", "#009E73"),
        ("onehot minus softmax", (0, (1, 3)), "#CC79A7"),
    ]
    for name, dashes, color in marks:
        worth = runs[name][2]
        ax.plot(np.arange(len(worth)) * 5, worth, linestyle=dashes, color=color, label=name)
    ax.axhline(math.log(V), color="#8a8a8a", linewidth=0.8)
    ax.set(xlabel="step", ylabel="true loss (nats per character)", ylim=(2.4, 8))
    ax.set_title("What one wrong line is worth")
    ax.grid(axis="y")
    ax.legend(ncols=2)
show(
    fig,
    alt="True loss over 60 steps. The right op falls from 4.6 to 2.8; softmax twice and "
    "division by NC barely fall; the neighboring class rises slowly; the wrong sign "
    "shoots up.",
)

# %% [markdown]
# *The dash-dotted one.* The others give themselves away at step 0 or by standing still.
#
# ### Mistakes that wait
#
# Some pass every small test and strike later: at the first large logit, at the first use of the
# loss inside something else.

# %%
big = np.array([[1000.0, 0.0], [0.0, 200.0]], dtype=np.float32)
answers = np.array([0, 0])
waiting = []
with np.errstate(all="ignore"):
    waiting.extend(
        [name, float(mistakes.mistake(name).function(big, answers)[0])]
        for name in ["no maximum", "one maximum for all", "log of softmax"]
    )
waiting.append(["right", float(solved.cross_entropy(big, answers)[0])])
table(waiting, columns=["logits (1000, 0) and (0, 200), class 0 right in both", "loss"])
assert waiting[-1][1] == 100.0  # (0 + 200) / 2
assert not np.isfinite([value for _, value in waiting[:2]]).any()
assert waiting[2][1] == math.inf

small = mistakes.mistake("log of softmax").function
for difference in (80, 100, 110):
    row = np.array([[0.0, difference]], dtype=np.float32)
    with np.errstate(divide="ignore"):
        print(
            f"gap {difference}: log of softmax {small(row, np.array([0]))[0]:.6g}, "
            f"log-softmax {solved.cross_entropy(row, np.array([0]))[0]:.6g}"
        )

for ends, dtype in [(104, np.float32), (746, np.float64)]:
    row = np.array([[0.0, ends]], dtype=dtype)
    assert ops.softmax(row)[0][0, 0] == 0
    assert ops.softmax(row / dtype(1.05))[0][0, 0] > 0

# %% [markdown]
# float32 ends near $e^{-103}$. At a gap of 100 few digits of the softmax are left, and the loss
# is already wrong in the fourth. At 110 the softmax is 0 and $\ln 0 = -\infty$: one such row
# makes the mean of a whole batch infinite. float64 only puts it off, to a gap of 745.
#
# **dy ignored.** While the loss is the last step, `dy` is 1, and a backward pass that forgets it
# looks right. Now split a batch into four parts and minimize a quarter of each loss, as one does
# when memory is short:

# %%
ignored = mistakes.mistake("dy ignored").function
_, right_vjp = solved.cross_entropy(x, t)
_, wrong_vjp = ignored(x, t)
print("dy = 1:   ", right_vjp(1.0)[0][0], wrong_vjp(1.0)[0][0])
print("dy = 0.25:", right_vjp(0.25)[0][0], wrong_vjp(0.25)[0][0])
assert np.allclose(right_vjp(1.0)[0], wrong_vjp(1.0)[0])
assert np.allclose(4 * right_vjp(0.25)[0], wrong_vjp(0.25)[0])

# %% [markdown]
# **The diagonal Jacobian**, in softmax, is what independent sigmoids would have. On a one-hot
# cotangent it is even right in one place. The gradient check names it:

# %%
diagonal = exercises(5)["softmax"].mistake("diagonal Jacobian").function
print(gradcheck(diagonal, x))
assert not gradcheck(diagonal, x)

# %% [markdown]
# ## 10. Your turn
#
# Write `softmax` and `cross_entropy`, forward and backward, in NumPy:
#
#     scratchlm start 5
#     scratchlm check 5 --watch
#     scratchlm hint 5
#
# `softmax` works along any axis. `cross_entropy` takes logits of any number of axes with the
# classes last, `[N, C]` as well as `[B, T, C]`. The check feeds both with logits of size 10,000,
# and with float32.
#
# When it passes, your op trains the GPT:
#
#     import scratchlm
#     with scratchlm.use(cross_entropy=cross_entropy):
#         ...
#
# The check knows more than thirty ways to go wrong by name:

# %%
for each in exercises(5).values():
    print(f"{each.name}: {len(each.mistakes)} known mistakes")
assert sum(len(each.mistakes) for each in exercises(5).values()) >= 30

# %% [markdown]
# ## 11. Cost
#
# For $N$ rows of $C$ classes the forward pass makes about five operations for each of the $N C$
# logits: compare, subtract, exponential, add, subtract. Backward makes one more exponential and
# one multiplication, then touches one entry in each row. That is little: the logits themselves
# cost $2 d$ operations each, with $d$ the width of the model.
#
# Memory is another matter. The logits are the largest array of a small language model, and their
# gradient is as large again. What backward keeps can be read off the closure:

# %%
B, T, classes, width = 2, 64, 5_000, 768
wide = np.random.default_rng(0).standard_normal((B, T, classes)).astype(np.float32)
ids = np.zeros((B, T), dtype=np.int64)
_, vjp = solved.cross_entropy(wide, ids)
kept = {
    name: cell.cell_contents.nbytes
    for name, cell in zip(vjp.__code__.co_freevars, vjp.__closure__, strict=True)
    if isinstance(cell.cell_contents, np.ndarray)
}
print("kept for backward, bytes:", kept)
assert kept["log_p"] == wide.nbytes == B * T * classes * 4
assert sum(kept.values()) < 1.01 * wide.nbytes

sizes = []
for name, n, c in [
    ("512 rows of characters", 512, V),
    ("GPT-2, 8 × 1024 tokens", 8 * 1024, 50_257),
]:
    loss_work, logit_work = 7 * n * c, 3 * 2 * n * c * width  # forward and backward
    sizes.append(
        [name, f"{n * c:.2e}", f"{loss_work:.1e}", f"{logit_work:.1e}", f"{4e-6 * n * c:,.1f}"]
    )
table(sizes, columns=["", "N · C", "loss (op.)", "logits (op.)", "MB for one [N, C]"])
assert 4 * 8 * 1024 * 50_257 == 1_646_821_376

# %% [markdown]
# 1.6 GB for each such array, and there are three: logits, what backward keeps, the gradient. The
# formula shows a way out: backward needs one number for each row, the log-sum-exp, if it still
# has the logits and computes the exponentials again. Fused kernels do that.

# %% [markdown]
# ## 12. Use it
#
# *Softmax regression*: predict the next character from the current one, in batches of 2048 pairs,
# with the solution of the exercise. This time there is a referee. The model has a free row of
# scores for every character, so it can represent any table of probabilities. The best table is
# known without any training: count the pairs. Its loss is the entropy of the next character given
# the current one,
#
# $$
# H_2 = -\sum_{i,j} P_{ij} \log \frac{P_{ij}}{\sum_k P_{ik}}
# $$
#
# No training can go below. How near does it come? Seed 5; threshold: within 0.05 nats.

# %%
following = P / np.maximum(P.sum(axis=1, keepdims=True), 1e-300)  # [V, V], rows sum to 1
referee = float(-(P[P > 0] * np.log(following[P > 0])).sum())
unigram = cross(P.sum(axis=0), P.sum(axis=0))

learned, reported, worth = train(solved.cross_entropy, 1200, 2048, 100.0, fade=True)
table(
    [
        [f"knows nothing: ln {V}", math.log(V), float(V)],
        ["knows how frequent each character is", unigram, math.exp(unigram)],
        ["softmax regression, learned", worth[-1], math.exp(worth[-1])],
        ["pairs counted: the referee", referee, math.exp(referee)],
    ],
    columns=["on the training text", "nats per character", "perplexity"],
)
print(f"above the referee: {worth[-1] - referee:.4f} nats (threshold 0.05, seed 5)")
assert referee < worth[-1] < referee + 0.05

# %% [markdown]
# Is it the same table, then? Most of it. What follows a frequent character is learned to a
# hundredth of a nat. The rows of rare ones are still on their way: their gradient carries the
# factor of their frequency, one more reason for the optimizers of the next lesson.

# %%
row_share = P.sum(axis=1)
order = np.argsort(-row_share)
p_learned = ops.softmax(learned.astype(np.float64))[0]
rows = []
for name, chosen in [
    ("20 most frequent", order[:20]),
    ("next 40", order[20:60]),
    ("the rest", order[60:]),
]:
    excess = sum(
        row_share[i] * (cross(following[i], p_learned[i]) - cross(following[i], following[i]))
        for i in chosen
    )
    part = row_share[chosen].sum()
    rows.append([name, f"{part:.1%}", excess / part, excess])
table(
    rows,
    columns=["characters", "of the text", "KL per character", "contribution to the gap"],
    digits=2,
)
assert math.isclose(sum(row[3] for row in rows), worth[-1] - referee, rel_tol=1e-6)
assert rows[0][2] < rows[1][2] < rows[2][2]

# %% [markdown]
# **Look for** pairs that you know from English, and compare the two maps at the bottom, where the
# rare letters are. **Question:** in which two rows is almost everything in one cell?

# %%
letters = [int(i) for i in text.vocabulary.encode(" etaoinshrldcumfpgwybvkxqjz")]
labels = ["␣", *"etaoinshrldcumfpgwybvkxqjz"]
from matplotlib.colors import PowerNorm  # small probabilities stay visible

with plot.style():
    fig, axes = figure(1, 2, width=8.4, height=4.4, sharey=True)
    for ax, (title, values) in zip(
        axes, {"learned": p_learned, "counted": following}.items(), strict=True
    ):
        image = ax.imshow(
            values[np.ix_(letters, letters)], cmap="cividis", norm=PowerNorm(0.5, 0, 1)
        )
        ax.set_xticks(range(27), labels, fontsize=6.5)
        ax.set_yticks(range(27), labels, fontsize=6.5)
        ax.set_title(title)
        ax.set_xlabel("next character")
    axes[0].set_ylabel("current character")
    fig.colorbar(image, ax=axes, shrink=0.8, label="probability")
show(
    fig,
    alt="Two heat maps, 27 by 27, of the probability of the next letter given the current "
    "one, learned and counted. They look alike. u follows q and e follows j nearly "
    "always; the bottom rows of the learned map have a faint floor.",
)
q_id, u_id = text.vocabulary.encode("qu")
print(f"u after q, learned: {p_learned[q_id, u_id]:.3f}")
print(f"u after q, counted: {following[q_id, u_id]:.3f}")

# %% [markdown]
# *q* before *u*, and *j* before *e*: this text says "object" often. The faint floor in the lowest
# rows of the learned map is probability that training has not yet taken away from pairs that
# never occur.
#
# On text that neither has seen the counted table has a weakness, and the loss finds it:

# %%
held = text.validation
seen = following[held[:-1], held[1:]]
with np.errstate(divide="ignore"):
    counted_loss = float(-np.log(seen).mean())
smoothed = (pairs + 0.1) / (pairs + 0.1).sum(axis=1, keepdims=True)
smoothed_loss = float(-np.log(smoothed[held[:-1], held[1:]]).mean())
learned_loss = float(solved.cross_entropy(learned[held[:-1]], held[1:])[0])
print(f"{(seen == 0).sum()} pairs of {len(seen):,} were never counted")
table(
    [
        ["counted", counted_loss],
        ["counted, 0.1 added to each", smoothed_loss],
        ["learned", learned_loss],
    ],
    columns=["on the held-out text", "nats per character"],
)
assert counted_loss == math.inf
assert learned_loss < smoothed_loss + 0.1

# %% [markdown]
# One impossible event that happens costs infinitely much. A softmax never says never. (Lesson 12
# gives counted tables a cure.)
#
# Last, the op in the model it was written for. The GPT with random weights must report about
# $\ln V$ at step 0, and the same loss with your op as with the library's:

# %%
import scratchlm
from scratchlm.models.gpt import GPT, GPTConfig

gpt = GPT(
    GPTConfig(vocab_size=V, block_size=32, n_layer=1, n_head=2, n_embd=32),
    rng=np.random.default_rng(5),
)
window = text.train[: 8 * 33].reshape(8, 33)
_, theirs = gpt(window[:, :-1], window[:, 1:])
with scratchlm.use(cross_entropy=solved.cross_entropy):
    _, ours = gpt(window[:, :-1], window[:, 1:])
print(f"GPT at step 0, the library's op: {theirs.item():.4f}")
print(f"GPT at step 0, the solution:     {ours.item():.4f}    (ln V = {math.log(V):.4f})")
assert math.isclose(theirs.item(), ours.item(), rel_tol=1e-5)
assert abs(ours.item() - math.log(V)) < 0.2

# %% [markdown]
# ## 13. Recap
#
# 1. A model with 50,257 classes reports a loss of 10.82 at step 0. Is that a good sign? What
#    would you suspect at 15.62? ($\ln 50257 = 10.825$; $\log_2 50257 = 15.617$.)
# 2. Why does each row of the gradient sum to zero, and which property of softmax is that?
# 3. A colleague's loss starts at 9.21 for 10,000 classes and never gets below 8.3. Accuracy is
#    fine. What do you look for first?
#
# | English | 中文 |
# |---|---|
# | softmax | 归一化指数函数 |
# | cross-entropy | 交叉熵 |
# | entropy | 熵 |
# | Kullback–Leibler divergence | KL 散度（相对熵） |
# | perplexity | 困惑度 |
# | logits | 未归一化的得分 |
# | one-hot | 独热 |
# | log-sum-exp | 对数求和指数 |
# | learning rate | 学习率 |
#
# - D2 §4.1.2 and §5.2; D1 §4.1.1, D3 §4.1, D4 §4.1.1.
# - C. E. Shannon, *A Mathematical Theory of Communication*, 1948, §6.
# - J. S. Bridle, *Probabilistic Interpretation of Feedforward Classification Network Outputs*,
#   1990.
# - I. Goodfellow, Y. Bengio, A. Courville, *Deep Learning*, 2016, §3.13 and §6.2.2.3.
#
# Next: lesson 06 walks down this gradient faster; lesson 12 counts characters properly; lesson 19
# puts the softmax of this lesson inside attention.

# %%
print(f"ln 50257 = {math.log(50_257):.3f}, log2 50257 = {math.log2(50_257):.3f}")
assert round(math.log(50_257), 3) == 10.825
assert round(math.log2(50_257), 3) == 15.617
