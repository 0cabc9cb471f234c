# %% [markdown]
# # 19 · Attention · 注意力
#
# Every word looks at every other word and takes from each what it needs. How much it takes is
# decided by a dot product and a softmax. Both have derivatives, so the looking itself can be
# learned. Three of the five documents print the formula, a fourth programs it, and a GPT runs it
# in every layer.

# %% [markdown]
# ## 1. Card
#
# You need the chain rule and fan-out from lesson 01, and the softmax from lesson 05. At the end you
# have written attention with its gradients, and a GPT trains with it.

# %%
from scratchlm.lessons import card, exercises, figure, show, slider, solution, source, table

card(19)

# %% [markdown]
# ## 2. Hook
#
# A Python dictionary answers exactly or not at all. Misspell the word, and it raises an error.
# Here is a dictionary that forgives. Each word is described by its pairs of letters; the score of
# a key is the number of pairs that it shares with the query.

# %%
import math

import numpy as np

from scratchlm import ops

glossary = {"attention": "注意力", "gradient": "梯度", "activation": "激活", "embedding": "嵌入"}
pairs = sorted({w[i : i + 2] for w in glossary for i in range(len(w) - 1)})


def describe(word):
    """How often each known pair of letters occurs in the word."""
    return np.array([[sum(word[i : i + 2] == p for i in range(len(word))) for p in pairs]], float)


keys = np.concatenate([describe(word) for word in glossary])  # [4, pairs]
values = np.eye(len(glossary))  # one direction for each meaning

try:
    glossary["atension"]
except KeyError as error:
    print("the dictionary:  KeyError", error)

answer, _ = ops.attention(describe("atension"), keys, values, scale=1.0)
for (word, meaning), share in zip(glossary.items(), answer[0], strict=True):
    print(f"{share:6.1%}  {word:11} {meaning}")
assert answer.argmax() == 0
assert answer[0, 0] > 0.5

# %% [markdown]
# The misspelt word finds its meaning, and the runner-up (*activation* ends alike) gets the rest.
# There is more: each share moves a little when the query moves a little. The lookup has a
# derivative, so queries, keys and values can all be learned from data. That is attention.

# %% [markdown]
# ## 3. Formula
#
# As published (Vaswani et al. 2017, eq. 1), and printed alike in D1 §4.1.1 and §4.2.1, D3 §4.1 and
# D4 §4.1.1:
#
# $$
# \mathrm{Attention}(Q, K, V) = \mathrm{softmax}\left(\frac{QK^T}{\sqrt{d_k}}\right) V
# $$
#
# The softmax works on each row by itself. With an index for each axis, the same in three lines:
#
# $$
# \begin{aligned}
# S_{nm} &= \frac{1}{\sqrt{d}} \sum_{i} Q_{ni} K_{mi} \\
# A_{nm} &= \frac{e^{S_{nm}}}{\sum_{j} e^{S_{nj}}} \\
# Y_{ne} &= \sum_{m} A_{nm} V_{me}
# \end{aligned}
# $$
#
# | symbol | variable | shape | what it is |
# |---|---|---|---|
# | $Q$ | `q` | `[N, d]` | queries: what each position looks for |
# | $K$ | `k` | `[M, d]` | keys: what each position is found by |
# | $V$ | `v` | `[M, e]` | values: what each position gives |
# | $S$ | `S` | `[N, M]` | scores: how well query $n$ fits key $m$ |
# | $A$ | `A` | `[N, M]` | weights: each row sums to 1 |
# | $Y$ | `y` | `[N, e]` | for each query, a mean of the values |
# | $d_k$ or $d$ | `d` | a number | the length of one query and of one key |
#
# Three things in the documents need a second look.
#
# 1. **A softmax of one number.** D4 §4.2.1 first has $\text{score}_{ij} = Q_i K_j^T / \sqrt{d}$,
#    which is right. Then it prints $\text{weight}_{ij} = \text{softmax}(\text{score}_{ij})$, and
#    D4 §4.3.1 repeats it for each of four scores. A softmax of one number is $e^s / e^s = 1$. The
#    published form names the sum: $\alpha_{ij} = \exp(e_{ij}) / \sum_m \exp(e_{im})$ (Bahdanau et
#    al. 2015, eq. 6). D4's last line, $O = \text{softmax}(\text{score})V$, is right again if the
#    softmax goes along rows.
# 2. **Which axis?** None of the documents names the axis along which the softmax goes. It is the
#    axis of the keys: a query shares itself out among them.
# 3. **Q = K = V = X.** D4 §4.2.1 takes the same matrix three times, and D1 §4.1.3 calls
#    $\text{Attention}(X, X, X)$. Vaswani et al. (§3.2.2) first multiply $X$ by three learned
#    matrices. Section 9 measures what is lost without them.

# %% [markdown]
# ## 4. By hand
#
# ### The example of D4 §4.3
#
# The document gives the sequence $X = [\text{hello}, \text{world}]$, the dimension $d = 2$, and
# the four scores to compute. It prints no numbers. These two vectors are ours:
#
# $$
# \text{hello} = (2, 1), \quad \text{world} = (1, -1)
# $$

# %%
hello, world = np.array([2.0, 1.0]), np.array([1.0, -1.0])
X = np.stack([hello, world])  # [2, 2], and Q = K = V = X

scores = np.zeros((2, 2))
for i, a in enumerate(["hello", "world"]):
    for j, b in enumerate(["hello", "world"]):
        dot = X[i] @ X[j]
        scores[i, j] = dot / math.sqrt(2)
        steps = " + ".join(f"{x:g}·{y:g}" for x, y in zip(X[i], X[j], strict=True))
        print(
            f"score_{i + 1}{j + 1} = {a} {b}ᵀ / √2 = ({steps}) / √2 = {dot:g} / 1.4142 "
            f"= {scores[i, j]:.4f}"
        )

# %% [markdown]
# Now the weights, with the sum over the row that the document leaves out.

# %%
weights = np.zeros((2, 2))
for i in range(2):
    total = math.exp(scores[i, 0]) + math.exp(scores[i, 1])
    for j in range(2):
        weights[i, j] = math.exp(scores[i, j]) / total
        print(
            f"weight_{i + 1}{j + 1} = e^{scores[i, j]:.4f} / (e^{scores[i, 0]:.4f} + "
            f"e^{scores[i, 1]:.4f}) = {math.exp(scores[i, j]):.4f} / {total:.4f} "
            f"= {weights[i, j]:.4f}"
        )

O = np.zeros((2, 2))  # the document's letter for the output
for i in range(2):
    O[i] = weights[i, 0] * hello + weights[i, 1] * world
    print(
        f"O_{i + 1} = {weights[i, 0]:.4f}·(2, 1) + {weights[i, 1]:.4f}·(1, -1) "
        f"= ({O[i, 0]:.4f}, {O[i, 1]:.4f})"
    )

assert np.allclose(weights, [[0.9442, 0.0558], [0.3302, 0.6698]], atol=5e-5)
assert np.allclose(O, [[1.9442, 0.8884], [1.3302, -0.3395]], atol=5e-5)
assert scores[0, 1] == scores[1, 0]
assert weights[0, 1] != weights[1, 0]

# %% [markdown]
# The two scores off the diagonal are equal, the two weights are not: *hello* gives *world* 6%,
# *world* gives *hello* 33%. The score compares two words. The weight compares a score with its
# rivals.
#
# ### Two queries, three keys
#
# Queries and keys need not be equally many. Here $d = 4$, so that $\sqrt{d} = 2$, and a pocket
# calculator with $e^x$ is enough. Do it on paper before you look.

# %%
q = np.array([[2.0, 0, 2, 0], [0, 2, 0, 0]])  # [2, 4]
k = np.array([[1.0, 0, 1, 0], [0, 1, 0, 1], [1, 1, 0, 0]])  # [3, 4]
v = np.array([[1.0, 0], [0, 1], [1, 1]])  # [3, 2]

S = q @ k.T / 2
E = np.exp(S)
A = E / E.sum(axis=1, keepdims=True)
y = A @ v
rows = [
    [f"query {n + 1}", name, *matrix[n]]
    for n in range(2)
    for name, matrix in [("q kᵀ", q @ k.T), ("S = q kᵀ / 2", S), ("exp(S)", E), ("A", A)]
]
table(rows, columns=["", "", "key 1", "key 2", "key 3"])
for n in range(2):
    print(
        f"row {n + 1}: exp(S) sums to {E[n].sum():.4f}, A sums to {A[n].sum():.4f}, "
        f"y = ({y[n, 0]:.4f}, {y[n, 1]:.4f})"
    )
assert np.allclose(A, [[0.6652, 0.0900, 0.2447], [0.1554, 0.4223, 0.4223]], atol=5e-5)
assert np.allclose(y, [[0.9100, 0.3348], [0.5777, 0.8446]], atol=5e-5)

# %% [markdown]
# ## 5. In code
#
# First with loops. Nothing is hidden: a query, a key, a score.


# %%
def attention_loops(q, k, v):
    N, M, d, e = len(q), len(k), q.shape[1], v.shape[1]
    y = np.zeros((N, e))
    for n in range(N):
        scores = [sum(q[n, i] * k[m, i] for i in range(d)) / math.sqrt(d) for m in range(M)]
        top = max(scores)  # so that no exponential overflows (lesson 05)
        exps = [math.exp(s - top) for s in scores]
        for m in range(M):
            y[n] += exps[m] / sum(exps) * v[m]
    return y


# %% [markdown]
# Then with NumPy: three lines, as the formula has three steps.


# %%
def attention_numpy(q, k, v):
    S = q @ k.T / math.sqrt(q.shape[1])  # [N, d] [d, M] -> [N, M]
    E = np.exp(S - S.max(axis=1, keepdims=True))  # [N, M]
    return E / E.sum(axis=1, keepdims=True) @ v  # [N, M] [M, e] -> [N, e]


rng = np.random.default_rng(19)
Q, K, V = rng.standard_normal((5, 8)), rng.standard_normal((7, 8)), rng.standard_normal((7, 3))
library, _ = ops.attention(Q, K, V)
for version in (attention_loops, attention_numpy):
    distance = np.abs(version(Q, K, V) - library).max()
    print(f"{version.__name__:16} differs from the library by {distance:.1e}")
    assert distance < 1e-14
example, _ = ops.attention(X, X, X)
assert np.allclose(example, O)
print("hello, world:   ", example.round(4).tolist())

# %% [markdown]
# And the library's op. It does the same for every head of every text at once. What goes beyond the
# three lines belongs to later lessons: `mask` and `causal` (20), `grouped` (21), dropout (7).

# %%
source(ops.attention)

# %% [markdown]
# ### What the formula does not know
#
# There is no position in it. Shuffle keys and values together: each query finds the same things.
# Shuffle the queries: the answers are shuffled with them. So self-attention sees a sentence as a
# bag of words, until positions are added (lesson 22) or the future is hidden, which is an order
# too.

# %%
order = rng.permutation(7)
assert np.allclose(ops.attention(Q, K[order], V[order])[0], library)  # keys: invariant
turned = rng.permutation(5)
assert np.allclose(ops.attention(Q[turned], K, V)[0], library[turned])  # queries: equivariant

W = rng.standard_normal((7, 8))  # seven words
seen = {}
for causal in (False, True):
    straight = ops.attention(W, W, W, causal=causal)[0]
    shuffled = ops.attention(W[order], W[order], W[order], causal=causal)[0]
    seen[causal] = np.abs(shuffled - straight[order]).max()
print(f"self-attention, words shuffled first or last:  the results differ by {seen[False]:.0e}")
print(f"the same, with the future hidden:              the results differ by {seen[True]:.2f}")
assert seen[False] < 1e-14
assert seen[True] > 0.1

# %% [markdown]
# Two more facts to keep in mind. Each $y_n$ is a mean of values, so it never leaves the range of
# what it is given. And an equal amount on all scores of a row changes nothing.

# %%
assert (library <= V.max(axis=0)).all()
assert (library >= V.min(axis=0)).all()
along = np.ones((7, 1)) @ rng.standard_normal((1, 8))  # the same vector added to every key
assert np.allclose(ops.attention(Q, K + along, V)[0], library)
print("adding one vector to all keys changes no weight")

# %% [markdown]
# ## 6. Backward, derived
#
# Write $dY_{ne}$ for $\partial L / \partial Y_{ne}$, where $L$ is the number at the end of the
# program, and $dA$, $dS$, $dQ$, $dK$, $dV$ alike. We go from the last line of forward to the
# first. After each step central differences of that step alone have to agree.
#
# The numbers are those of the two queries and three keys above. The cotangent `dy` says: $L$ is the
# first feature of $y_1$ plus the second of $y_2$.

# %%
dy = np.array([[1.0, 0], [0, 1]])  # [2, 2]


def slopes(f, x, h=1e-5):
    """The central difference of the number f(x) for each element of x."""
    out = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[index] = h
        out[index] = (f(x + step) - f(x - step)) / (2 * h)
    return out


def agree(name, mine, measured):
    assert np.abs(mine - measured).max() < 1e-9  # what the step h = 1e-5 leaves, with some room
    print(f"{name} =", np.array2string(mine.round(4) + 0.0, prefix=f"{name} = "))


# %% [markdown]
# ### Step 1: the values
#
# The last line of forward is $Y_{ne} = \sum_m A_{nm} V_{me}$. Which outputs does $V_{me}$ touch?
# Feature $e$ of *every* query $n$, each with the factor $A_{nm}$:
#
# $$
# \frac{\partial Y_{ne}}{\partial V_{me}} = A_{nm}
# $$
#
# The chain rule adds what comes back along all these paths:
#
# $$
# dV_{me} = \sum_n dY_{ne} A_{nm}
# $$
#
# The sum runs over $n$, the first index of $A$. A matrix product sums over the last index of its
# left factor. So $A$ is transposed:
#
# $$
# dV = A^T dY
# $$

# %%
dv = np.zeros_like(v)
for n, m, e in np.ndindex(2, 3, 2):
    dv[m, e] += dy[n, e] * A[n, m]  # as the sum says it
assert np.allclose(dv, A.T @ dy)  # [M, N] [N, e] -> [M, e]
agree("dV", A.T @ dy, slopes(lambda v: (dy * (A @ v)).sum(), v))

# %% [markdown]
# ### Step 2: the weights
#
# In the same line, $A_{nm}$ touches all features $e$ of output $n$, each with the factor $V_{me}$:
#
# $$
# dA_{nm} = \sum_e dY_{ne} V_{me}
# $$
#
# The sum runs over the last index of both, so the right factor is transposed:
#
# $$
# dA = dY V^T
# $$
#
# In words: a weight is worth raising if its value points where the output wants to go.

# %%
dA = np.zeros_like(A)
for n, m, e in np.ndindex(2, 3, 2):
    dA[n, m] += dy[n, e] * v[m, e]
assert np.allclose(dA, dy @ v.T)  # [N, e] [e, M] -> [N, M]
agree("dA", dy @ v.T, slopes(lambda A: (dy * (A @ v)).sum(), A))

# %% [markdown]
# ### Step 3: through the softmax
#
# Rows do not touch each other, so look at one, and leave $n$ out. With $Z = \sum_j e^{S_j}$,
#
# $$
# A_m = \frac{e^{S_m}}{Z}
# $$
#
# How does $A_m$ move with $S_l$? If $l = m$, numerator and $Z$ both move. By the quotient rule:
#
# $$
# \frac{\partial A_m}{\partial S_m} = \frac{e^{S_m} Z - e^{S_m} e^{S_m}}{Z^2} = A_m - A_m A_m
# $$
#
# If $l$ is another key, only $Z$ moves:
#
# $$
# \frac{\partial A_m}{\partial S_l} = \frac{0 - e^{S_m} e^{S_l}}{Z^2} = -A_m A_l
# $$
#
# Both in one line, where $\delta_{ml}$ is 1 if $m = l$, else 0:
#
# $$
# J_{ml} = \frac{\partial A_m}{\partial S_l} = A_m (\delta_{ml} - A_l)
# $$
#
# The diagonal is positive: raise a score, and its weight grows. All else is negative: the other
# weights pay for it. The matrix for the first query:

# %%
a = A[0]
J = np.diag(a) - np.outer(a, a)  # [M, M]


def row_softmax(s):
    return np.exp(s) / np.exp(s).sum()


measured = np.stack([slopes(lambda s, m=m: row_softmax(s)[m], S[0]) for m in range(3)])
agree("J", J, measured)
assert np.allclose(J.sum(axis=0), 0)
print("each column sums to 0, since the weights always sum to 1")

# %% [markdown]
# Now the chain rule. $S_l$ touches *all* weights of its row, so sum over them:
#
# $$
# dS_l = \sum_m dA_m J_{ml} = \sum_m dA_m A_m \delta_{ml} - \sum_m dA_m A_m A_l
# $$
#
# In the first sum only $m = l$ is left. In the second, $A_l$ does not depend on $m$ and comes out:
#
# $$
# dS_l = A_l \left( dA_l - \sum_m dA_m A_m \right)
# $$
#
# With the index of the row back, and $r_n$ for the sum:
#
# $$
# dS_{nm} = A_{nm} (dA_{nm} - r_n), \quad r_n = \sum_j dA_{nj} A_{nj}
# $$
#
# The bracket compares: key $m$ gets more only if it is worth more than the mean of what the query
# has now. No $M \times M$ matrix is ever made.

# %%
dA = dy @ v.T
r = (dA * A).sum(axis=1, keepdims=True)  # [N, 1]
dS = A * (dA - r)  # [N, M]
softmax_rows = lambda S: np.exp(S) / np.exp(S).sum(axis=1, keepdims=True)
agree("dS", dS, slopes(lambda S: (dA * softmax_rows(S)).sum(), S))
assert np.allclose(dS[0], J.T @ dA[0])
assert np.allclose(dS.sum(axis=1), 0)  # an equal amount on all scores of a row changes nothing

# %% [markdown]
# The number $r_n$ can be had more cheaply. Put $dA = dY V^T$ into it and exchange the sums:
#
# $$
# \begin{aligned}
# r_n &= \sum_m A_{nm} \sum_e dY_{ne} V_{me} \\
# &= \sum_e dY_{ne} \sum_m A_{nm} V_{me} = \sum_e dY_{ne} Y_{ne}
# \end{aligned}
# $$
#
# This is the line `row = xp.vecdot(dy, y)` of the library. FlashAttention lives on it (lesson 28).

# %%
assert np.allclose(r[:, 0], (dy * y).sum(axis=1))
print("r =", r[:, 0].round(4), "= the rows of dy · y:", (dy * y).sum(axis=1).round(4))

# %% [markdown]
# ### Step 4: queries and keys
#
# The first line of forward is $S_{nm} = s \sum_i Q_{ni} K_{mi}$ with $s = 1 / \sqrt{d}$. The query
# element $Q_{ni}$ touches the scores of row $n$, each with the factor $s K_{mi}$. The key element
# $K_{mi}$ touches the scores of column $m$, each with the factor $s Q_{ni}$:
#
# $$
# dQ_{ni} = s \sum_m dS_{nm} K_{mi}, \quad dK_{mi} = s \sum_n dS_{nm} Q_{ni}
# $$
#
# One sum runs over the last index of $dS$, the other over the first:
#
# $$
# dQ = s \, dS \, K, \quad dK = s \, dS^T Q
# $$
#
# Mind the $s$. It is a factor of forward, so it is a factor of both gradients.

# %%
s = 1 / math.sqrt(4)
dq = s * dS @ k  # [N, M] [M, d] -> [N, d]
dk = s * dS.T @ q  # [M, N] [N, d] -> [M, d]
agree("dQ", dq, slopes(lambda q: (dS * (s * q @ k.T)).sum(), q))
agree("dK", dk, slopes(lambda k: (dS * (s * q @ k.T)).sum(), k))

# %% [markdown]
# ### All four steps
#
# Together they are the vjp. Here is that of the solution beside the library's, and the two agree
# with central differences of the whole.

# %%
source(solution(19).attention, "vjp")
source(ops.attention, "vjp")

# %%
whole = {
    "q": slopes(lambda q: (dy * attention_numpy(q, k, v)).sum(), q),
    "k": slopes(lambda k: (dy * attention_numpy(q, k, v)).sum(), k),
    "v": slopes(lambda v: (dy * attention_numpy(q, k, v)).sum(), v),
}
mine = dict(zip("qkv", (dq, dk, A.T @ dy), strict=True))
theirs = dict(zip("qkv", ops.attention(q, k, v)[1](dy), strict=True))
for name in "qkv":
    assert np.abs(mine[name] - whole[name]).max() < 1e-9
    assert np.abs(mine[name] - theirs[name]).max() < 1e-14
print("the four steps, the library, and central differences of the whole: equal")

# %% [markdown]
# ### Two questions that always come
#
# *What if q, k and v are the same tensor?* It is used three times, so three gradients are added:
# fan-out, lesson 01. The op does not care; the engine adds.
#
# *Does hiding the future need a line in backward?* No. A hidden score is $-\infty$, its weight is
# 0, and $dS = A (dA - r)$ is 0 there by itself.

# %%
from scratchlm import Tensor
from scratchlm import functional as F

x = Tensor(X, requires_grad=True)
(F.attention(x, x, x) * Tensor(dy)).sum().backward()
parts = ops.attention(X, X, X)[1](dy)
assert np.allclose(x.grad.data, sum(parts))
print("dX = dQ + dK + dV =", x.grad.data.round(4).tolist())

late = np.zeros((2, 2))
late[0] = 1.0  # only the first position matters
_, causal_vjp = ops.attention(X, X, X, causal=True)
_, k_gradient, v_gradient = causal_vjp(late)
assert (k_gradient[1] == 0).all()
assert (v_gradient[1] == 0).all()
print("with the future hidden, the loss of position 1 sends nothing to position 2")

# %% [markdown]
# ## 7. Gradient check, live
#
# Random cotangents, float64, central differences for every element of all three inputs. First the
# library's op, then the same with the future hidden, for two texts of two heads.

# %%
from functools import partial

from scratchlm import gradcheck, plot

report = gradcheck(ops.attention, Q, K, V)
print(report)
assert report

heads = [rng.standard_normal((2, 2, 4, 3)) for _ in range(3)]
report = gradcheck(partial(ops.attention, causal=True), *heads)
print(report)
assert report
assert gradcheck(partial(solution(19).attention, causal=True), *heads)

# %% [markdown]
# Now the step size. Look for the lowest point of each curve. Before you run it: the error of
# central differences has a part $h^2$ and a part $u / h$, with $u = 1.1 \cdot 10^{-16}$. Where are
# they equal?

# %%
from scratchlm.gradcheck import error_by_step

methods = ("central", "forward")
steps, curves = error_by_step(ops.attention, Q, K, V, method=methods)
errors = dict(zip(methods, curves, strict=True))
best = steps[errors["central"].argmin()]
assert 1e-6 < best < 1e-3
assert errors["central"].min() < 1e-9 < errors["forward"].min()
ax = plot.gradcheck_curve(steps, errors, title="attention: error against step")
show(
    ax,
    alt="Two V-shaped curves of error against step, both axes logarithmic. Central differences "
    "reach an error of 6e-11 at a step of 2e-5, forward differences 3e-8 at 1e-7.",
)

# %% [markdown]
# At $h = u^{1/3}$, about $5 \cdot 10^{-6}$; the factors that the estimate leaves out move the
# lowest point a little to the right. Forward differences have a part $h$ in place of $h^2$, so
# they are best near $\sqrt{u}$, and hundreds of times worse.

# %% [markdown]
# ## 8. See it
#
# ### Weights moving as a query turns
#
# Three keys of length 1 in the plane, at 0°, 90° and 200°. One query goes round, once with length
# 2 and once with length 12. Look where two curves cross, and how steep they are there.
#
# Before you run it: at which angle do the keys at 0° and 90° get equal weights? Does that angle
# move when the query grows?

# %%
from scratchlm.plot import style

degrees = np.array([0, 90, 200])
around = np.arange(361)


def on_circle(angle):
    return np.stack([np.cos(np.radians(angle)), np.sin(np.radians(angle))], axis=-1)


def weights_of(length):
    _, shares = ops.attention(
        length * on_circle(around), on_circle(degrees), np.eye(3), return_weights=True
    )[0]
    return shares  # [361, 3]


with style():
    fig, axes = figure(1, 2, width=8.4, height=3.4, sharey=True)
    for ax, length in zip(axes, (2, 12), strict=True):
        shares = weights_of(length)
        for m, dash in enumerate(["-", "--", ":"]):
            ax.plot(around, shares[:, m], dash, label=f"key at {degrees[m]}°", linewidth=2)
        ax.set_title(f"query of length {length}")
        ax.set_xlabel("angle of the query (degrees)")
        ax.set_xticks([0, 90, 180, 270, 360])
        ax.axvline(45, color="#8a8a8a", linewidth=0.8)
    axes[0].set_ylabel("weight")
    axes[0].set_ylim(0, 1.25)
    axes[0].legend(loc="upper center", ncols=3, columnspacing=1.0)
show(
    fig,
    alt="Two panels, weight of three keys against the angle of the query. With length 2 the "
    "curves are smooth hills; with length 12 they are plateaus with steep edges. The "
    "crossing of the keys at 0 and 90 degrees lies at 45 degrees in both.",
)

for length in (2, 12):
    assert np.isclose(weights_of(length)[45, 0], weights_of(length)[45, 1])
top = [weights_of(length)[0].max() for length in (0.01, 2, 12, 200)]
table([["largest weight at 0°", *top]], columns=["length of the query", "0.01", "2", "12", "200"])
assert abs(top[0] - 1 / 3) < 0.01
assert top[3] > 1 - 1e-9

# %% [markdown]
# At 45°, for any length: two keys tie where the query is perpendicular to their difference, since
# then $q \cdot (k_1 - k_2) = 0$. The *direction* of a query says what is looked for. Its *length*
# says how sure the query is: a short one takes the mean of everything, a long one picks a single
# key. On the plateaus nothing moves, so there is nothing to learn from. Which length is right?
#
# ### Why the root of d
#
# Let the components of a query and a key be independent, with mean 0 and variance 1 (the
# assumption of Vaswani et al., §3.2.1, footnote 4). The mean of one product is
# $E[q_i k_i] = E[q_i] E[k_i] = 0$, and its variance $E[q_i^2] E[k_i^2] = 1$. Variances of
# independent numbers add:
#
# $$
# \mathrm{Var}(q \cdot k) = \sum_{i=1}^{d} \mathrm{Var}(q_i k_i) = d
# $$
#
# So the dot product is of the size $\sqrt{d}$, and $q \cdot k / \sqrt{d}$ has variance 1 for every
# $d$. Now let 200 random queries each choose among 64 random keys, and ask how much gradient gets
# through to a query. Left: variance. Right: the median of $\| dL/dq \|$ for a random cotangent,
# the shaded band from the first to the third quartile.
#
# Before you run it: a query without the scale gets a factor $\sqrt{d}$ *more* in backward, since
# the factor $1 / \sqrt{d}$ of step 4 is missing. Does the orange curve rise, then?

# %%
sizes = [1, 4, 16, 64, 256, 1024]
rng = np.random.default_rng(7)
variances, norms, effective = [], {"scaled": [], "bare": []}, {"scaled": [], "bare": []}
for d in sizes:
    qs, ks = rng.standard_normal((200, 1, d)), rng.standard_normal((200, 64, d))
    vs, dys = rng.standard_normal((200, 64, 16)), rng.standard_normal((200, 1, 16))
    variances.append((qs @ ks.swapaxes(1, 2)).var())
    for name, scale in [("scaled", 1 / math.sqrt(d)), ("bare", 1.0)]:
        (_, p), vjp = ops.attention(qs, ks, vs, scale=scale, return_weights=True)
        norms[name].append(np.linalg.norm(vjp(dys)[0], axis=-1).ravel())
        logs = np.log(np.where(p > 0, p, 1))
        effective[name].append(np.exp(-(p * logs).sum(axis=-1)).mean())
norms = {name: np.array(each) for name, each in norms.items()}  # [6 sizes, 200 queries]

with style():
    fig, (left, right) = figure(1, 2, width=8.4, height=3.6)
    left.plot(sizes, variances, "o-", color="#D55E00", label="q · k")
    left.plot(sizes, np.array(variances) / sizes, "s--", color="#0072B2", label="q · k / √d")
    left.plot(sizes, sizes, color="#8a8a8a", linewidth=0.8, zorder=0)
    left.set(xscale="log", yscale="log", xlabel="d", ylabel="variance", title="The scores")
    left.annotate("the line d", (100, 60), color="#8a8a8a", fontsize=8.5)
    left.legend(loc="upper left")
    for name, mark, label in [("bare", "o-", "without scale"), ("scaled", "s--", "with 1/√d")]:
        color = "#D55E00" if name == "bare" else "#0072B2"
        low, middle, high = np.quantile(norms[name], [0.25, 0.5, 0.75], axis=1)
        right.plot(sizes, middle, mark, color=color, label=label)
        right.fill_between(sizes, low, high, color=color, alpha=0.15, linewidth=0)
    right.set(xscale="log", yscale="log", xlabel="d", ylabel="norm of dL/dq", title="What learns")
    right.set_ylim(1e-5, 100)
    right.legend(loc="lower left")
show(
    fig,
    alt="Left: the variance of the dot product follows the line d; with the scale it stays at 1. "
    "Right: with the scale the median gradient norm of a query stays near 0.6; without it "
    "the median rises to 3 at d = 16 and 64, then falls to 0.01 at d = 1024.",
)

table(
    [
        [
            d,
            variances[i],
            effective["scaled"][i],
            effective["bare"][i],
            np.median(norms["scaled"][i]),
            np.median(norms["bare"][i]),
            norms["bare"][i].mean(),
        ]
        for i, d in enumerate(sizes)
    ],
    columns=[
        "d",
        "Var(q·k)",
        "keys in use, scaled",
        "keys in use, bare",
        "median |dq|, scaled",
        "median |dq|, bare",
        "mean |dq|, bare",
    ],
    digits=3,
)
assert np.allclose(variances, sizes, rtol=0.25)  # 200 queries for each d
assert np.median(norms["scaled"], axis=1)[1:].min() > 0.5
assert np.median(norms["bare"][-1]) < 0.05
assert norms["bare"][-1].mean() > 100 * np.median(norms["bare"][-1])

# %% [markdown]
# It rises, and then it falls. At $d = 1024$ the typical query sits on a plateau and gets almost
# nothing, though the *mean* is still large: a few queries stand on an edge between two keys and
# get everything. With the scale, the 64 keys stay in use (about 40 of them, counted as
# $\exp(\text{entropy})$), and every query learns at every size.
#
# One query and its 64 keys, the weights from the largest to the smallest. In a notebook and in the
# book, move $d$. Before you move it: which of the two curves stays where it is?

# %%
one_rng = np.random.default_rng(7)
one_q, one_ks = one_rng.standard_normal(1024), one_rng.standard_normal((64, 1024))


def one_choice(d):
    """The weights of one query of d components, sorted, with the scale and without."""
    scores = one_ks[:, :d] @ one_q[:d]
    return [np.sort(ops.softmax(scores * scale)[0])[::-1] for scale in (1 / math.sqrt(d), 1.0)]


def at_size(d):
    with style():
        fig, ax = figure(width=6.0, height=3.4)
        for shares, mark, color, name in zip(one_choice(d), ("s--", "o-"), ("#0072B2", "#D55E00"),
                                             ("with 1/√d", "without scale"), strict=True):  # fmt: skip
            ax.plot(range(1, 65), shares, mark, color=color, label=name, markersize=3.5)
        ax.set(ylim=(-0.03, 1.05), xlabel="keys, from the largest weight", ylabel="weight")
        ax.set_title(f"d = {d}")
        ax.legend()
    return fig


slider(
    sizes, at_size, label="d", start=3,
    alt=lambda d: f"Weights of 64 keys in falling order, d = {d}. The largest is "
    f"{one_choice(d)[0][0]:.2f} with the scale and {one_choice(d)[1][0]:.2f} without.",
)  # fmt: skip
assert max(one_choice(d)[0][0] for d in sizes) < 0.3
assert one_choice(1024)[1][0] > 0.9

# %% [markdown]
# ### Entropy against scale
#
# Now the size stays at $d = 64$, and the scale goes from far too small to far too large. The
# entropy of the weights, $H = -\sum_m A_m \log A_m$, says how undecided a query is; $e^H$ is the
# number of keys in use. The norm of the softmax's Jacobian says how much a change of the scores
# moves the weights.
#
# Before you run it: at the far left all weights are equal. At the far right one weight is 1. At
# which end is the Jacobian 0?

# %%
factors = np.logspace(-2, 2, 41)  # times 1 / √64
qs, ks = rng.standard_normal((200, 1, 64)), rng.standard_normal((200, 64, 64))
in_use, movable = [], []
for factor in factors:
    (_, p), _ = ops.attention(qs, ks, ks, scale=factor / 8, return_weights=True)
    p = p[:, 0]  # [200, 64]
    in_use.append(np.exp(-(p * np.log(np.maximum(p, 1e-300))).sum(axis=1)).mean())
    # the sum over m, l of (p_m (δ_ml - p_l))², multiplied out
    square, cube = (p**2).sum(axis=1), (p**3).sum(axis=1)
    movable.append(np.median(np.sqrt(np.maximum(square - 2 * cube + square**2, 0))))

with style():
    fig, (left, right) = figure(1, 2, width=8.4, height=3.4)
    for ax, curve in [(left, in_use), (right, movable)]:
        ax.plot(factors / 8, curve, color="#0072B2", linewidth=2)
        for at, name in [(1 / 64, "1/d"), (1 / 8, "1/√d"), (1.0, "none")]:
            ax.axvline(at, color="#8a8a8a", linewidth=0.8, linestyle=":")
            ax.text(
                at,
                1.0,
                name,
                transform=ax.get_xaxis_transform(),
                ha="center",
                va="bottom",
                fontsize=8.5,
            )
        ax.set(xscale="log", xlabel="scale of the scores")
    left.set_ylabel("keys in use, exp(entropy)")
    left.set_ylim(0, 66)
    right.set_ylabel("norm of the softmax's Jacobian")
    right.set_ylim(0, None)
show(
    fig,
    alt="Left: the number of keys in use falls from 64 to 1 as the scale grows, with about 40 "
    "at the scale 1/√d and 2 without scale. Right: the Jacobian's norm starts at 0.12, "
    "peaks near four times 1/√d and falls to 0.",
)

flat, root, bare = (np.abs(factors / 8 - at).argmin() for at in (1 / 64, 1 / 8, 1.0))
for name, at in [("1/d", flat), ("1/√d", root), ("no scale", bare)]:
    print(f"{name:9} {in_use[at]:5.1f} of 64 keys in use")
assert in_use[flat] > 60
assert 30 < in_use[root] < 50
assert in_use[bare] < 3
assert movable[-1] < 1e-6 < 0.1 < movable[0]

# %% [markdown]
# At the right. Weights that are all equal can still move; a weight of 1 cannot. That is
# saturation, as with the sigmoid (lesson 02): the scores may change, the weights do not, and no
# gradient comes back. The scale $1 / \sqrt{d}$ starts training on the safe side of the peak.
# Queries and keys are learned, so a model that wants to be sharper grows longer ones.

# %% [markdown]
# ## 9. Break it
#
# ### As printed: the softmax of one number
#
# D4 §4.2.1 and §4.3.1 print $\text{weight}_{ij} = \text{softmax}(\text{score}_{ij})$. Taken at its
# word, for *hello* and *world*:


# %%
def softmax(x):
    e = np.exp(x - np.max(x))
    return e / e.sum()


for i, j in np.ndindex(2, 2):
    print(f"weight_{i + 1}{j + 1} = softmax({scores[i, j]:.4f}) = {softmax(scores[i, j])}")
ones = np.array([[softmax(scores[i, j]) for j in range(2)] for i in range(2)])
print("O =", (ones @ X).tolist(), "  both rows are hello + world =", (hello + world).tolist())
assert (ones == 1).all()
assert (ones @ X == hello + world).all()


# %% [markdown]
# Every weight is 1, whatever the scores. The rows no longer sum to 1, each output is the sum of
# all values and grows with the length of the text, and all outputs are equal: nobody looks at
# anybody. As an op, its gradients for q and k are zero. It runs, without an error.


# %%
def attention_as_printed(q, k, v, *, causal=False):
    weights = np.ones((*q.shape[:-1], k.shape[-2]), v.dtype)  # softmax of each score alone

    def vjp(dy):
        return np.zeros_like(q), np.zeros_like(k), weights.swapaxes(-1, -2) @ dy

    return weights @ v, vjp


assert gradcheck(attention_as_printed, Q, K, V)
print("the gradient check of the misprint:", gradcheck(attention_as_printed, Q, K, V).ok)

# %% [markdown]
# The gradient check passes: zero *is* its derivative. A gradient check tells whether backward
# belongs to forward, never whether forward is what you wanted.
#
# ### A task that needs looking
#
# Recall: eight words, each with a name behind it, in an order that is new each time. Then eight of
# these words are asked for, and the names must be said. There are 16 words and 16 names; a query,
# a key and a value vector are learned for each. Guessing costs $\ln 16 = 2.77$ nats. The model
# calls `F.attention`, and `use` puts the wrong version in its place, so all else is equal: data,
# seed, Adam.

# %%
import scratchlm
from scratchlm import optim

wrong = exercises(19)["attention"].mistake


def recall(attention="reference", steps=300, size=64, seed=0):
    """The losses while learning to recall."""
    rng = np.random.default_rng(seed)
    tables = [Tensor(rng.normal(size=(16, n)), requires_grad=True) for n in (size, size, 16)]
    optimizer = optim.Adam(tables, lr=0.02)
    losses = []
    with scratchlm.use(attention=attention):
        for _ in range(steps):
            words = rng.permuted(np.tile(np.arange(16), (32, 1)), axis=1)[:, :8]  # [32, 8]
            names = rng.integers(0, 16, (32, 8))
            asked = rng.integers(0, 8, (32, 8))  # which of the eight
            q = F.embedding(np.take_along_axis(words, asked, 1), tables[0])  # [32, 8, 64]
            k, v = F.embedding(words, tables[1]), F.embedding(names, tables[2])
            loss = F.cross_entropy(F.attention(q, k, v), np.take_along_axis(names, asked, 1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss))
    return np.array(losses)


# %% [markdown]
# Ten versions. Before you run it, bet: which of them learn as well as the right one?

# %%
runs = {"right": recall(), "as printed": recall(attention_as_printed)}
for name in (
    "no scale",
    "softmax over the queries",
    "diagonal Jacobian",
    "row sum left out",
    "sum over the queries",
    "no scale in backward",
    "dS not transposed in dk",
    "dq and dk exchanged",
):
    runs[name] = recall(wrong(name).function)

rows = [["right", runs["right"][-20:].mean(), "passes"]]
rows += [["as printed", runs["as printed"][-20:].mean(), "passes"]]
rng = np.random.default_rng(3)
square = [rng.standard_normal((4, 4)) for _ in range(3)]
for name in list(runs)[2:]:
    report = gradcheck(wrong(name).function, *square)
    first = next((each for each in report.inputs if not each.ok), None)
    found = "passes"
    if first is not None:
        known = first.diagnosis
        found = f"{first.name} is wrong" + (f": {known.name}" if known else "")
    rows.append([name, runs[name][-20:].mean(), found])
table(rows, columns=["version", "loss, last 20 steps", "gradient check (first finding)"], digits=3)

# %% [markdown]
# Now the curves of six of them. Look for two that end on each other although one has a wrong
# gradient, and for the height at which the misprint comes to rest.

# %%
with style():
    fig, ax = figure(width=7.2, height=4.0)
    looks = {
        "right": ("-", 3.2),
        "as printed": ("--", 1.8),
        "no scale": (":", 1.8),
        "softmax over the queries": ("-.", 1.8),
        "dq and dk exchanged": ("-", 1.2),
        "diagonal Jacobian": ("--", 1.4),
    }
    for name, (dash, width) in looks.items():
        mean = np.convolve(runs[name], np.ones(10) / 10, mode="valid")
        ax.plot(np.arange(10, 301), mean, dash, linewidth=width, label=name)
    for level, text in [(math.log(16), "ln 16: guessing"), (math.log(8), "ln 8")]:
        ax.hlines(level, 0, 300, color="#8a8a8a", linewidth=0.8, zorder=0)
        ax.annotate(text, (304, level), fontsize=8, color="#555555", va="center")
    ax.set(xlabel="step", ylabel="loss (nats, mean of 10 steps)", title="Learning to recall")
    ax.set(xlim=(0, 385), ylim=(0, 4), xticks=range(0, 301, 50))
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
show(
    fig,
    alt="Six loss curves over 300 steps. The right version and the one with the diagonal "
    "Jacobian fall together to 0.06, softmax over the queries ends at 0.44, as printed "
    "stays at ln 8, no scale and exchanged gradients stay near ln 16.",
)

final = {name: losses[-20:].mean() for name, losses in runs.items()}
assert final["right"] < 0.1
assert abs(final["as printed"] - math.log(8)) < 0.1
assert final["no scale"] > 2.6
assert final["dq and dk exchanged"] > 2.4
assert final["sum over the queries"] > 2.4
assert abs(final["diagonal Jacobian"] - final["right"]) < 0.02
assert abs(final["no scale in backward"] - final["right"]) < 0.001

# %% [markdown]
# - **As printed** it rests at $\ln 8$: it knows which eight names are in the text and cannot look
#   up whose they are.
# - **No scale**: with $d = 64$ the softmax is saturated before the first step. It never leaves the
#   start.
# - **Softmax over the queries** learns something. Each key is shared out among those who ask for
#   it, so a word asked for twice is answered by halves.
# - **Exchanged gradients** of equal shapes raise no error. Nothing is learned.
# - **No scale in backward** gives the *same* curve. The gradient is $\sqrt{64} = 8$ times too
#   large, and Adam divides by its size. With plain SGD it would be a learning rate eight times too
#   large.
# - **The diagonal of the Jacobian**, a row sum left out, a dS not transposed: wrong gradients, and
#   the task is learned as well. A small task forgives. The loss curve is no test of a gradient.
#
# The gradient check sees every wrong backward at once, and no wrong forward. Where it knows the
# mistake, it says so:

# %%
print(gradcheck(wrong("no scale in backward").function, Q, K, V))

# %% [markdown]
# ### A GPT forgives less
#
# Three versions in a GPT of two layers that reads Python's own help texts, letter by letter. It
# looks at the past only: `causal=True`.

# %%
from scratchlm.data import corpus
from scratchlm.models.gpt import GPT, GPTConfig
from scratchlm.train import TrainConfig, Trainer

data = corpus("topics")


def train_gpt(attention="reference", steps=300, seed=0):
    """A small GPT on Python's help texts, and its trainer."""
    size = GPTConfig(len(data.vocabulary), block_size=24, n_layer=2, n_head=2, n_embd=32)
    model = GPT(size, rng=seed, std=0.15)
    config = TrainConfig(
        steps=steps, batch_size=16, length=24, lr=1e-2, log_every=20, eval_every=0, seed=seed
    )
    with scratchlm.use(attention=attention):
        return model, Trainer(model, data, config).fit(progress=False)


def validation(trainer):
    return next(r["validation_loss"] for r in trainer.history[::-1] if "validation_loss" in r)


model, trainer = train_gpt()
held_out = {"right": validation(trainer)}
held_out["diagonal Jacobian"] = validation(train_gpt(wrong("diagonal Jacobian").function)[1])
cheat = train_gpt(wrong("causal ignored").function, steps=150)[1]
held_out["causal ignored, after 150 steps"] = validation(cheat)
table(
    [[name, loss, math.exp(loss)] for name, loss in held_out.items()],
    columns=["version", "validation loss", "perplexity"],
    digits=3,
)

assert held_out["right"] < 2.5
assert held_out["diagonal Jacobian"] > held_out["right"] + 0.2
assert validation(cheat) < 0.5

# %% [markdown]
# The wrong gradient now costs a lot. (In section 12 we shall see that it costs
# everything that attention was worth.) And one version is far *better* than
# the right one: perplexity near 1. Nobody guesses the next letter of a text so well. With `causal`
# ignored the model reads it off the next position. A loss that is too good is a symptom too.
#
# ### The leak test
#
# It needs no training. Change the last position, and see whether an earlier output moves.

# %%
rng = np.random.default_rng(1)
now = [rng.standard_normal((1, 4, 6)) for _ in range(3)]  # q, k, v: one head, four positions
later = [x.copy() for x in now]
for x in later:
    x[:, 3] += 1.0
rows = []
for name in ("right", "causal ignored", "future set to zero", "mask after softmax"):
    function = ops.attention if name == "right" else wrong(name).function
    before, after = (function(*each, causal=True)[0] for each in (now, later))
    sums = function(*now[:2], np.ones((1, 4, 1)), causal=True)[0]  # values of 1: the row sums
    rows.append([name, np.abs(after - before)[0, :3].max(), *sums[0, :, 0]])
table(
    rows,
    columns=["version", "the past moves by", "row 1 sums to", "row 2", "row 3", "row 4"],
    digits=3,
)
assert rows[0][1] == 0
assert all(row[1] > 0.01 for row in rows[1:])
assert np.allclose(rows[0][2:], 1)
assert min(rows[3][2:]) < 0.9

# %% [markdown]
# *Future set to zero* leaks, since $e^0 = 1$ is a share. *Mask after softmax* leaks too, though the
# future's weights are 0: its scores are still in the denominator, and the rows sum to less than 1.
#
# ### Four that speak at once
#
# - **.T on heads.** It reverses all axes, and is right for plain matrices only.
# - **Softmax over the queries.** The answer to my query changes when somebody else asks another.
# - **No maximum.** `exp` overflows, and inf / inf is NaN.
# - **np.sqrt for the scale.** It gives a float64 scalar, and float32 becomes float64: twice the
#   bytes.

# %%
try:
    wrong("all axes turned").function(*heads)
except ValueError as error:
    print(".T on heads:              ", str(error)[:68], "...")

function = wrong("softmax over the queries").function
alone, in_company = function(Q[:1], K, V)[0][0], function(Q[:2], K, V)[0][0]
print("softmax over the queries: ", alone.round(2), "alone,", in_company.round(2), "in company")
assert not np.allclose(alone, in_company)
assert np.allclose(ops.attention(Q[:1], K, V)[0][0], ops.attention(Q[:2], K, V)[0][0])

with np.errstate(all="ignore"):
    overflown = wrong("no maximum").function(40 * X, 40 * X, X)[0]
unharmed = ops.attention(40 * X, 40 * X, X)[0]
print("no maximum:               ", overflown.tolist(), "right:", unharmed.tolist())
assert np.isnan(overflown).any()

halves = [x.astype(np.float32) for x in (Q, K, V)]
promoted = wrong("float64 scale").function(*halves)[0].dtype
print("np.sqrt for the scale:    ", promoted, "from float32")
assert promoted == np.float64
assert ops.attention(*halves)[0].dtype == np.float32

# %% [markdown]
# ### Q = K = V = X
#
# Without projections (D4 §4.2.1) each word is compared with itself too, and nothing resembles a
# word like the word itself: $x \cdot x / \sqrt{d}$ is about $\sqrt{d}$, all other scores about
# $\pm 1$. And $S$ is symmetric: if *it* looks for *cat*, then *cat* looks for *it* as much.

# %%
rng = np.random.default_rng(2)
words = rng.standard_normal((32, 64))
Wq, Wk = (rng.standard_normal((64, 64)) / 8 for _ in range(2))
(_, same), _ = ops.attention(words, words, words, return_weights=True)
(_, projected), _ = ops.attention(words @ Wq, words @ Wk, words, return_weights=True)
table(
    [
        ["Q = K = X", np.diag(same).mean()],
        ["Q = X W, K = X W'", np.diag(projected).mean()],
        ["all alike", 1 / 32],
    ],
    columns=["32 random words, d = 64", "mean weight on oneself"],
    digits=3,
)
assert abs(np.diag(same).mean() - 0.97) < 0.005
assert np.diag(projected).mean() < 0.1

# %% [markdown]
# With $X$ alone, attention over random words is nearly the identity: 97% of each answer is the
# question. The three learned matrices of the published layer are what lets a word look for
# something *else*.

# %% [markdown]
# ## 10. Your turn
#
# Write `attention(q, k, v, *, causal=False)`, which returns `(y, vjp)`:
#
# ```
# scratchlm start 19            your copy of the stub
# scratchlm check 19 --watch    checks it each time you save
# scratchlm hint 19             three hints, each says more
# scratchlm solution 19         opens when you have passed
# ```
#
# Begin with plain matrices, then replace each `.T` and each `axis=1` so that batch and heads may
# stand in front. Then `causal`. The check knows 21 ways to go wrong, and says which it sees.
#
# When it passes, the GPT will train with it: `scratchlm.use(attention=attention)`.

# %%
from scratchlm.lessons import find_lesson

source(find_lesson(19).load("exercise").attention, docstring=True)

# %% [markdown]
# ## 11. Cost
#
# A product of `[N, d]` and `[d, M]` takes $N M d$ multiplications and as many additions.
#
# | step | operations | keeps for backward |
# |---|---|---|
# | $S = s Q K^T$ | $2NMd$ | $Q$, $K$ |
# | $A = \mathrm{softmax}(S)$ | about $5NM$ | $A$: `[N, M]` |
# | $Y = A V$ | $2NMe$ | $V$, $Y$ |
# | $dV$, $dA$ | $4NMe$ | |
# | $dS$ | about $3NM$ | |
# | $dQ$, $dK$ | $4NMd$ | |
#
# Backward costs twice forward. And everything has the factor $NM$: a text twice as long costs four
# times as much, in time and in memory. Here are the arrays that the vjp really holds on to.


# %%
def kept(function, seen=None):
    """The bytes of all arrays that a function keeps alive, through the functions inside it too."""
    seen = {} if seen is None else seen
    for cell in function.__closure__ or ():
        value = cell.cell_contents
        if isinstance(value, np.ndarray):
            seen[id(value)] = value.nbytes
        elif hasattr(value, "__closure__"):
            kept(value, seen)
    return sum(seen.values())


rows = []
for length in (128, 256, 512, 1024):
    three = [rng.standard_normal((12, length, 64)).astype(np.float32) for _ in range(3)]
    _, vjp = ops.attention(*three, causal=True)
    square = 12 * length**2 * 4
    rows.append([length, 4 * length**2 * 64 * 12 / 1e6, kept(vjp) / 2**20, square / kept(vjp)])
table(
    rows,
    columns=["length", "forward, million operations", "kept, MiB", "of that the weights"],
    title="12 heads of 64, float32",
    digits=3,
)
assert rows[3][2] > 3 * rows[2][2]
assert rows[3][3] > 0.6

weights_mib = 12 * 1024**2 * 4 / 2**20
print(
    f"GPT-2 (12 layers, 12 heads, 1,024 tokens) keeps {weights_mib:.0f} MiB of weights "
    f"for each layer, {12 * weights_mib:.0f} MiB in all, for one text"
)
linear, pairs_cost = 24 * 768**2, 4 * 1024 * 768  # operations for each token and layer, forward
print(
    f"its linear layers still cost {linear / pairs_cost:.1f} times as much; "
    f"both are equal at {24 * 768**2 // (4 * 768)} tokens"
)
assert 12 * weights_mib == 576

# %% [markdown]
# So what hurts first is memory. FlashAttention (lesson 28) never stores $A$: it goes through the
# keys in tiles, keeps one number for each row, and computes the weights again in backward, with
# the $r_n = dY_n \cdot Y_n$ of section 6.

# %% [markdown]
# ## 12. Use it
#
# ### Your attention in the GPT
#
# The solution of this lesson takes the place of the library's op, and the GPT of section 9 is
# trained with it. Same data, same seed. The two must have the same losses, step by step.

# %%
own_model, own_trainer = train_gpt(solution(19).attention)


def training(trainer):
    return [(r["step"], r["loss"]) for r in trainer.history if "loss" in r]


pairs_of_losses = [
    (step, a, b) for (step, a), (_, b) in zip(training(trainer), training(own_trainer), strict=True)
]
table(
    pairs_of_losses[::5] + [("held out", held_out["right"], validation(own_trainer))],
    columns=["step", "library", "solution"],
    digits=6,
)
assert np.allclose([a for _, a, _ in pairs_of_losses], [b for *_, b in pairs_of_losses], atol=5e-3)


# %% [markdown]
# Float32 rounds differently in the two, and training carries that along; in the first steps no
# digit shown differs.
#
# ### What attention is worth
#
# An attention that looks at itself only gives back its own value: $y = v$. The GPT then knows one
# letter of the past, the one it stands on. What does looking further back buy?


# %%
def only_itself(q, k, v, *, causal=False):
    return v.copy(), lambda dy: (np.zeros_like(q), np.zeros_like(k), dy)


alone = validation(train_gpt(only_itself)[1])
print(f"looking at itself only: {alone:.2f} nats a letter, perplexity {math.exp(alone):.1f}")
print(
    f"with attention:         {held_out['right']:.2f} nats a letter, "
    f"perplexity {math.exp(held_out['right']):.1f}"
)
assert held_out["right"] < alone - 0.2  # recorded with seed 0: 2.36 and 2.06
assert held_out["diagonal Jacobian"] > alone - 0.1

# %% [markdown]
# And the version with the diagonal of the Jacobian? In section 9 it came to rest at the same
# height as this one. Its loss had fallen smoothly, its forward was right, and all that its
# attention had learned was worth nothing.
#
# ### Where it looks
#
# The maps of the trained GPT on a piece of text that it has not seen. Each row is a letter that
# looks, each column a letter that is looked at; the future is gray. Look for a bright line.
#
# Before you run it: to guess the next letter from two letters, which one has to be looked at
# besides the current one? Where in the picture would that be?

# %%
from scratchlm.interpret import attention_maps

lines = data.vocabulary.decode(data.validation).split("\n")
text = next(t for t in lines if t[:1].isalpha() and len(t) > 60)[:24]
maps = attention_maps(model, data.vocabulary.encode(text))  # two layers of [2, 24, 24]
show(
    plot.attention_grid(maps, list(text)),
    alt="Attention weights of four heads over 24 letters, as lower triangles. In layer 0, head 1, "
    "many of the brightest cells lie one place left of the diagonal; in head 0 the light is spread "
    "over the last few letters. The heads of layer 1 look at many letters at once.",
)

many = np.stack([data.validation[i : i + 24] for i in range(0, 24 * 64, 24)])  # 64 pieces of text
rows = []
for layer, each in enumerate(attention_maps(model, many)):  # [64, 2, 24, 24]
    for head in range(2):
        mean = each[:, head].mean(axis=0)[8:]  # rows that have a past
        at = np.arange(8, 24)
        back = [mean[at - 8, at - offset].mean() for offset in range(4)]
        rows.append([f"layer {layer}, head {head}", *back])
table(
    [*rows, ["all alike", *[np.mean(1 / (np.arange(8, 24) + 1))] * 4]],
    columns=["mean weight on", "itself", "1 back", "2 back", "3 back"],
    digits=2,
)
strongest = max(row[2] for row in rows)
assert strongest > 0.2  # recorded with seed 0: 0.29; all alike would be 0.07

# %% [markdown]
# The letter before the current one: the line just left of the diagonal. Head 1 of layer 0 gives it
# four times what an even share would be. Nobody told it to. The positions say where a letter
# stands, the queries have learned to ask for the place before, and every bit of that came back
# through the `dS` of section 6. In layer 1 the light stands in columns: some letters are looked at
# by many of those that follow.

# %% [markdown]
# ## 13. Recap
#
# Three questions, to answer without looking:
#
# 1. All scores of one query grow by 5. What happens to its weights, and what does that say about a
#    row of $dS$? (Section 6, step 3.)
# 2. Queries and keys have components of standard deviation 0.1 instead of 1, and $d = 64$. How
#    many of 64 keys are in use at the scale $1 / \sqrt{d}$, roughly? Does anything learn? (Section
#    8.)
# 3. A friend's attention passes the gradient check, and the GPT reaches perplexity 1.1 on held-out
#    text. What do you test first, and how, without any training? (Section 9.)
#
# | English | 中文 | here |
# |---|---|---|
# | attention | 注意力 | a mean of values, with weights from scores |
# | self-attention | 自注意力 | queries, keys and values come from the same text |
# | query | 查询 | what a position looks for |
# | key | 键 | what a position is found by |
# | value | 值 | what a position gives |
# | score | 分数 | $q \cdot k / \sqrt{d}$ |
# | attention weight | 注意力权重 | softmax of the scores of one query |
# | scaled dot product | 缩放点积 | the dot product over $\sqrt{d}$ |
# | saturation | 饱和 | one weight is 1, and no gradient comes back |
# | entropy | 熵 | how undecided the weights are |
# | permutation equivariance | 置换等变性 | shuffled words, shuffled answers |
# | causal mask | 因果掩码 | no looking at what comes later |
#
# References:
#
# - Vaswani et al. 2017, *Attention Is All You Need*: eq. 1; the scale in §3.2.1 and its footnote 4;
#   projections in §3.2.2.
# - Bahdanau, Cho and Bengio 2015, *Neural Machine Translation by Jointly Learning to Align and
#   Translate*: eq. 5 and 6, attention before the Transformer.
# - Luong, Pham and Manning 2015, *Effective Approaches to Attention-based Neural Machine
#   Translation*: the dot product as a score.
# - Dao et al. 2022, *FlashAttention*: appendix B, the row sum $dY_n \cdot Y_n$.
#
# The documents: D1 §4.1.1 and §4.2.1, D3 §4.1, D4 §4.1.1, §4.2.1 and §4.3.
#
# Next: masks in general (20), then several heads side by side (21), whose printed pseudo-code in
# D2 §3.5 leaves out the scale you have just learned to miss. Positions come in lesson 22.
