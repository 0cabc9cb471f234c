# %% [markdown]
# # 20 · Masking · 掩码
#
# Attention lets every position look at every other one. Two looks must be forbidden: at the letter
# that is to be guessed, and at the blanks that fill up a short text. One number does it,
# $-\infty$, at the right place. At every other place it fails, and most failures are silent.

# %% [markdown]
# ## 1. Card
#
# You need attention with its gradients from lesson 19, and the softmax from lesson 05. At the end
# your attention takes any mask, a GPT trains with it, and you can tell a leaking model from a good
# one without training it.

# %%
from scratchlm.lessons import card, exercises, figure, show, solution, source, table

card(20)

# %% [markdown]
# ## 2. Hook
#
# Here is the best language model of this book. It has no trained weight, and it guesses *every*
# next letter of a text that it has never seen. Its query at position $n$ asks for position
# $n + 1$, and the value there is the letter.

# %%
import math

import numpy as np

from scratchlm import ops
from scratchlm.data import corpus

data = corpus("topics")  # Python's own help texts, letter by letter
text = data.validation[:200]
letters = np.eye(len(data.vocabulary))[text]  # [200, letters], the values
places = np.eye(200)  # the keys: position m is the m-th direction
ask_for_next = 30 * np.eye(200, k=1)  # the queries: the direction of n + 1


def share_guessed(**options):
    y, _ = ops.attention(ask_for_next, places, letters, scale=1.0, **options)
    return (y.argmax(axis=1)[:-1] == text[1:]).mean()


print(f"next letters guessed, nothing hidden:  {share_guessed():.0%}")
print(f"next letters guessed, future hidden:   {share_guessed(causal=True):.0%}")
assert share_guessed() == 1
assert share_guessed(causal=True) < 0.5

# %% [markdown]
# Of course it reads the answer off the page. When it has to *write*, there is no next letter on
# the page, and it knows nothing. A model that is trained without a mask becomes this model, its
# loss falls to almost nothing, and every curve looks splendid. Section 9 trains one.

# %% [markdown]
# ## 3. Formula
#
# **As printed.** None of the five documents has a mask, neither the word nor a formula. D1 §3.1 and
# D3 §4.1 describe an encoder and a decoder. In D1 §3.2.2 the decoder's first four steps are those
# of the encoder, with the same self-attention; a fifth gives the output, and a sixth predicts one
# word after another. D3 §4.1 calls the decoder similar to the encoder and adds self-attention and
# cross-attention. The formula that both print, $\mathrm{softmax}(QK^T / \sqrt{d_k})V$, lets every
# position see all others.
#
# Blanks occur twice: D2 §5.2.4 pads its input to a fixed length, and D3 §5.2 pads sentences of five
# words to 512 tokens. What keeps some 500 blanks out of the attention is not said: the tokenizer
# returns a mask, and the program passes it on unnamed.
#
# **As published.** Vaswani et al. 2017, §3.1: the prediction for a position may depend only on
# outputs before it. And §3.2.3 tells how: inside the attention, the inputs of the softmax that
# belong to illegal connections are set to $-\infty$. With $B$ for what is added to the scores:
#
# $$
# Y = \mathrm{softmax}\left(\frac{QK^T}{\sqrt{d_k}} + B\right) V, \quad
# B_{nm} = \begin{cases} 0 & \text{query } n \text{ may see key } m \\
# -\infty & \text{otherwise} \end{cases}
# $$
#
# Since $e^{-\infty} = 0$, the sum in the softmax runs over the visible keys alone. Write
# $\mathcal{U}_n$ for the set of keys that query $n$ may see:
#
# $$
# A_{nm} = \frac{e^{S_{nm}}}{\sum_{j \in \mathcal{U}_n} e^{S_{nj}}}
# \text{ for } m \in \mathcal{U}_n, \quad A_{nm} = 0 \text{ otherwise}
# $$
#
# | symbol | variable | shape | what it is |
# |---|---|---|---|
# | $S$ | `S` | `[N, M]` | scores $QK^T / \sqrt{d}$ |
# | $B$ | `B` | `[N, M]` | 0 or $-\infty$, added to the scores |
# | $m \in \mathcal{U}_n$ | `mask` | broadcasts to `[N, M]` | True: query $n$ may see key $m$ |
# | $A$ | `A` | `[N, M]` | weights: a row sums to 1, or is 0 where nothing is visible |
#
# Two masks are used everywhere.
#
# | mask | key $m$ is visible to query $n$ if | shape | hides |
# |---|---|---|---|
# | causal | $m \le n + (M - N)$ | `[N, M]` | the future |
# | padding | $m$ is less than the length of the text | `[B, 1, 1, M]` | blanks |
#
# The shift $M - N$ puts the *last* query beside the last key. For $N = M$ it is 0 and the mask is a
# triangle. A model that writes keeps the keys of the past and computes one new query: $N = 1$, and
# that query may see everything (lesson 30).
#
# What does $\mathcal{U}_n$ empty mean? The formula says $0/0$. The library's convention: $A_n = 0$
# and $y_n = 0$.

# %% [markdown]
# ## 4. By hand
#
# The two queries and three keys of lesson 19, with $d = 4$:
#
# $$
# S = \begin{pmatrix} 2 & 0 & 1 \\ 0 & 1 & 1 \end{pmatrix}, \quad
# V = \begin{pmatrix} 1 & 0 \\ 0 & 1 \\ 1 & 1 \end{pmatrix}
# $$
#
# Four masks. *Causal*: two new queries beside three keys, so query 1 stands at key 2 and must not
# see key 3. *Padding*: key 2 is a blank. Do the first two on paper: $e = 2.7183$ and $e^2 = 7.3891$
# are all you need.

# %%
q = np.array([[2.0, 0, 2, 0], [0, 2, 0, 0]])  # [2, 4]
k = np.array([[1.0, 0, 1, 0], [0, 1, 0, 1], [1, 1, 0, 0]])  # [3, 4]
v = np.array([[1.0, 0], [0, 1], [1, 1]])  # [3, 2]
S = q @ k.T / 2  # [2, 3]

causal = np.array([[True, True, False], [True, True, True]])
padding = np.array([True, False, True])  # for both queries
masks = {"none": np.full((2, 3), True), "causal": causal, "padding": np.tile(padding, (2, 1))}
masks["both"] = causal & padding
maps = {}
for name, mask in masks.items():
    A, words = np.zeros((2, 3)), []
    for n in range(2):
        visible = [m for m in range(3) if mask[n, m]]
        total = sum(math.exp(S[n, m]) for m in visible)
        for m in visible:
            A[n, m] = math.exp(S[n, m]) / total
        words.append(" + ".join(f"e^{S[n, m]:.0f}" for m in visible) + f" = {total:.4f}")
    maps[name] = A
    y = A @ v
    for n in range(2):
        print(
            f"{name if n == 0 else '':8} query {n + 1}: sum {words[n]:22} "
            f"A = ({', '.join(f'{a:.4f}' for a in A[n])})  y = ({y[n, 0]:.4f}, {y[n, 1]:.4f})"
        )
assert np.allclose(maps["causal"], [[0.8808, 0.1192, 0], [0.1554, 0.4223, 0.4223]], atol=5e-5)
assert np.allclose(maps["padding"], [[0.7311, 0, 0.2689], [0.2689, 0, 0.7311]], atol=5e-5)
assert maps["both"].tolist()[0] == [1, 0, 0]

# %% [markdown]
# Compare the first rows of *none* and *causal*. The two visible weights have grown from 0.6652 and
# 0.0900 to 0.8808 and 0.1192, both by the same factor: what key 3 had is shared out in proportion.

# %%
kept = maps["none"][0, :2].sum()
print(f"0.8808 / 0.6652 = {maps['causal'][0, 0] / maps['none'][0, 0]:.4f}")
print(f"0.1192 / 0.0900 = {maps['causal'][0, 1] / maps['none'][0, 1]:.4f}")
print(f"1 / (0.6652 + 0.0900) = {1 / kept:.4f}")
assert np.allclose(maps["causal"][0, :2], maps["none"][0, :2] / kept)

# %% [markdown]
# ## 5. In code
#
# With loops a mask is nothing special: the loop goes over the visible keys.


# %%
def attention_loops(q, k, v, mask):
    y = np.zeros((len(q), v.shape[1]))
    for n in range(len(q)):
        visible = [m for m in range(len(k)) if mask[n, m]]
        if not visible:
            continue  # y stays 0
        scores = [q[n] @ k[m] / math.sqrt(q.shape[1]) for m in visible]
        exps = [math.exp(s - max(scores)) for s in scores]
        for m, share in zip(visible, exps, strict=True):
            y[n] += share / sum(exps) * v[m]
    return y


# %% [markdown]
# NumPy has no loop to leave out. The hidden scores stay where they are, and $-\infty$ makes their
# exponential 0. Two lines are there only for rows with nothing to see.


# %%
def attention_numpy(q, k, v, mask):
    S = np.where(mask, q @ k.T / math.sqrt(q.shape[1]), -np.inf)  # [N, M]
    top = S.max(axis=1, keepdims=True)  # of the visible scores
    E = np.exp(S - np.where(top == -np.inf, 0, top))  # nothing visible: exp(-inf - 0) = 0
    total = E.sum(axis=1, keepdims=True)
    return E / np.where(total == 0, 1, total) @ v  # nothing visible: 0 / 1 = 0


rng = np.random.default_rng(20)
Q, K, V = rng.standard_normal((5, 8)), rng.standard_normal((7, 8)), rng.standard_normal((7, 3))
some = rng.random((5, 7)) < 0.6
some[3] = False  # query 3 sees nothing
library, _ = ops.attention(Q, K, V, mask=some)
for version in (attention_loops, attention_numpy):
    distance = np.abs(version(Q, K, V, some) - library).max()
    print(f"{version.__name__:16} differs from the library by {distance:.1e}")
    assert distance < 1e-14
assert (library[3] == 0).all()

# %% [markdown]
# The library takes a mask in three ways: boolean, additive, and `causal`, which goes together with
# the others. Two of its helpers: the triangle, and the softmax that minds empty rows.

# %%
from importlib import import_module

beside = import_module("scratchlm.ops.attention")  # the file in which the op stands
source(beside._causal)
source(beside._softmax_of_own)

# %%
B = np.where(some, 0.0, -np.inf)  # the additive form
triangle = np.tri(5, 7, 7 - 5, dtype=bool)  # row n is True up to column n + 2
print(triangle.astype(int))
for name, options in {
    "boolean": {"mask": some},
    "additive": {"mask": B},
    "boolean, hidden in two parts": {"mask": some & triangle},
    "mask and causal": {"mask": some, "causal": True},
}.items():
    print(f"{name:29} y[0] =", ops.attention(Q, K, V, **options)[0][0].round(4))
assert np.array_equal(library, ops.attention(Q, K, V, mask=B)[0])
assert np.array_equal(
    ops.attention(Q, K, V, mask=some, causal=True)[0],
    ops.attention(Q, K, V, mask=some & triangle)[0],
)

# %% [markdown]
# ### Before the softmax, or after it and divided again?
#
# Strike out the hidden weights *after* the softmax, and divide each row by what is left. Is that
# the same? With $Z_n = \sum_j e^{S_{nj}}$ over all keys, for a visible $m$:
#
# $$
# \frac{A_{nm}}{\sum_{j \in \mathcal{U}_n} A_{nj}}
# = \frac{e^{S_{nm}} / Z_n}{\sum_{j \in \mathcal{U}_n} e^{S_{nj}} / Z_n}
# = \frac{e^{S_{nm}}}{\sum_{j \in \mathcal{U}_n} e^{S_{nj}}}
# $$
#
# $Z_n$ cancels: on paper it is the same. In floating point $Z_n$ has to be a number first. If one
# hidden score is far above the visible ones, their weights have become 0 before the division. How
# far? In float32 the smallest positive number is about $10^{-45} = e^{-103}$.

# %%
rows = []
for dtype in (np.float32, np.float64):
    for gap in (10, 80, 100, 120, 800):
        S_row = np.array([0.0, 1.0, gap], dtype)  # two visible keys, and a hidden one far above
        P = np.exp(S_row - S_row.max())
        after = P * np.array([1, 1, 0], dtype) / P.sum()
        with np.errstate(invalid="ignore"):
            after = after / after.sum()
        before = np.exp(S_row[:2] - 1) / np.exp(S_row[:2] - 1).sum()
        rows.append([dtype.__name__, gap, before[1], after[1]])
table(
    rows,
    columns=["dtype", "hidden score", "weight of key 2, -inf before", "divided again after"],
    digits=6,
)
assert abs(rows[0][2] - rows[0][3]) < 1e-6
assert abs(rows[2][2] - rows[2][3]) > 1e-4  # 100: a few bits are left
assert np.isnan(rows[3][3])
assert np.isnan(rows[9][3])

# %% [markdown]
# Before the softmax, the hidden score is not even looked at: the maximum is taken over what is
# visible. So the rule is: hide first.

# %% [markdown]
# ## 6. Backward, derived
#
# Lesson 19 has derived the four steps of backward. Only one of them meets the mask, the softmax. We
# take it again with hidden keys, then see what it does to the other three. The numbers are those of
# section 4 with the causal mask; the cotangent says that $L$ is the first feature of $y_1$ plus the
# second of $y_2$.

# %%
dy = np.array([[1.0, 0], [0, 1]])  # [2, 2]
A = maps["causal"]


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
# ### Step 1: the Jacobian of a softmax with hidden keys
#
# One row, $n$ left out. With $Z = \sum_{j \in \mathcal{U}} e^{S_j}$,
#
# $$
# A_m = \begin{cases} e^{S_m} / Z & m \in \mathcal{U} \\ 0 & \text{otherwise} \end{cases}
# $$
#
# How does $A_m$ move with $S_l$? There are four cases.
#
# - $m$ and $l$ visible: the quotient rule, as in lesson 19. $A_m (\delta_{ml} - A_l)$.
# - $m$ visible, $l$ hidden: $S_l$ stands neither in $e^{S_m}$ nor in $Z$. The derivative is 0.
# - $m$ hidden, $l$ visible: $A_m$ is the constant 0. The derivative is 0.
# - $m$ and $l$ hidden: the same, 0.
#
# Now put the weights into the formula of the *first* case, for all $m$ and $l$:
#
# $$
# J_{ml} = A_m (\delta_{ml} - A_l)
# $$
#
# If $m$ is hidden, the factor $A_m$ is 0. If $m$ is visible and $l$ hidden, then $m \ne l$, so
# $\delta_{ml} = 0$, and $A_l = 0$. It gives 0 in all three cases where it should. One formula, and
# the mask does not occur in it: the weights carry it. With the visible keys first it is a block
# matrix:
#
# $$
# J = \begin{pmatrix} J_{\mathcal{U}} & 0 \\ 0 & 0 \end{pmatrix}
# $$

# %%
a = A[0]  # query 1 sees keys 1 and 2
J = np.diag(a) - np.outer(a, a)  # [M, M]


def masked_softmax(S, mask):
    E = np.exp(np.where(mask, S, -np.inf))  # small scores here: no maximum needed
    return E / E.sum(axis=-1, keepdims=True)


measured = np.stack(
    [slopes(lambda s, m=m: masked_softmax(s, causal[0])[m], S[0]) for m in range(3)]
)
agree("J", J, measured)
assert (J[2] == 0).all()
assert (J[:, 2] == 0).all()

# %% [markdown]
# ### Step 2: the scores
#
# The chain rule sums over all weights of the row, and $J$ is as before, so the result is too:
#
# $$
# dS_{nm} = A_{nm} (dA_{nm} - r_n), \quad r_n = \sum_j dA_{nj} A_{nj}
# $$
#
# For a hidden key the factor $A_{nm}$ is 0, so $dS_{nm} = 0$. And $r_n$ is a sum over the visible
# keys, since all other terms are 0. What about $dA_{nm} = dY_n \cdot V_m$ at a hidden place? It is
# usually *not* 0: raising that weight would be worth something. It is multiplied by 0.

# %%
dA = dy @ v.T  # [N, e] [e, M] -> [N, M]
r = (dA * A).sum(axis=1, keepdims=True)  # [N, 1]
dS = A * (dA - r)  # [N, M]
agree("dS", dS, slopes(lambda S: (dA * masked_softmax(S, causal)).sum(), S))
print("dA at the hidden place:", dA[0, 2], "  dS there:", dS[0, 2] + 0.0)
assert dA[0, 2] == 1
assert dS[0, 2] == 0

# %% [markdown]
# In the additive form the softmax gets $T = S + B$ with a constant $B$, so $dS = dT$. There is
# nothing to add in backward: no `where`, no second mask. (What you must not do is to *calculate*
# with $T$ in backward. It holds $-\infty$, and $0 \cdot (-\infty)$ is NaN.)
#
# ### Step 3: queries, keys, values
#
# The sums of lesson 19, now with the range in which the terms are not 0:
#
# $$
# \begin{aligned}
# dV_{me} &= \sum_{n : \, m \in \mathcal{U}_n} A_{nm} dY_{ne} \\
# dQ_{ni} &= s \sum_{m \in \mathcal{U}_n} dS_{nm} K_{mi} \\
# dK_{mi} &= s \sum_{n : \, m \in \mathcal{U}_n} dS_{nm} Q_{ni}
# \end{aligned}
# $$
#
# A key hears only from queries that may see it. Under the causal mask those are the queries at its
# place and later. Values flow from the past to the future, gradients from the future to the past.
# In matrix form nothing changes, since the zeros stand in $A$ and $dS$ already:
#
# $$
# dV = A^T dY, \quad dQ = s \, dS \, K, \quad dK = s \, dS^T Q
# $$

# %%
s = 1 / math.sqrt(4)
dv = np.zeros_like(v)
for m in range(3):
    for n in range(2):
        if causal[n, m]:  # as the sum says it
            dv[m] += A[n, m] * dy[n]
assert np.allclose(dv, A.T @ dy)  # [M, N] [N, e] -> [M, e]
dq, dk = s * dS @ k, s * dS.T @ q
agree("dV", dv, slopes(lambda v: (dy * attention_numpy(q, k, v, causal)).sum(), v))
agree("dQ", dq, slopes(lambda q: (dy * attention_numpy(q, k, v, causal)).sum(), q))
agree("dK", dk, slopes(lambda k: (dy * attention_numpy(q, k, v, causal)).sum(), k))
for mine, theirs in zip((dq, dk, dv), ops.attention(q, k, v, causal=True)[1](dy), strict=True):
    assert np.abs(mine - theirs).max() < 1e-14

first_only = np.array([[1.0, 1], [0, 0]])  # L depends on y_1 alone
_, dk_first, dv_first = ops.attention(q, k, v, causal=True)[1](first_only)
print("L of query 1 alone:  dK of key 3 =", dk_first[2] + 0.0, "  dV of key 3 =", dv_first[2] + 0.0)
assert (dk_first[2] == 0).all()
assert (dv_first[2] == 0).all()

# %% [markdown]
# ### Step 4: nothing to see
#
# If $\mathcal{U}_n$ is empty, $y_n = 0$ whatever $q$, $k$ and $v$ are. A constant has derivative 0,
# and the formula agrees: $A_n = 0$, so $dS_n = 0$.
#
# The usual code has no such convention. Its row is $0 / 0$, which is NaN. People say: that row is
# padding, the loss leaves it out, so it does no harm. Its cotangent is 0 then. Look at what
# backward makes of it:


# %%
def unguarded(q, k, v, mask):
    """Attention as it is usually written, with its gradients."""
    T = np.where(mask, q @ k.T / math.sqrt(q.shape[1]), -np.inf)
    with np.errstate(invalid="ignore"):
        E = np.exp(T - T.max(axis=1, keepdims=True))
        A = E / E.sum(axis=1, keepdims=True)

    def vjp(dy):
        dA = dy @ v.T
        dS = A * (dA - (dA * A).sum(axis=1, keepdims=True))
        return dS @ k / math.sqrt(q.shape[1]), dS.T @ q / math.sqrt(q.shape[1]), A.T @ dy

    return A @ v, vjp


blank_row = np.array([[True, True, False], [False, False, False]])
y_bad, vjp_bad = unguarded(q, k, v, blank_row)
left_out = np.array([[1.0, 1], [0, 0]])  # the loss does not use row 2
gradients = vjp_bad(left_out)
print("y =", y_bad.round(4).tolist())
for name, g in zip(("dQ", "dK", "dV"), gradients, strict=True):
    print(f"{name}: {np.isnan(g).sum()} of {g.size} elements are NaN")
assert np.isnan(gradients[1]).all()
assert np.isnan(gradients[2]).all()
y_good, vjp_good = ops.attention(q, k, v, mask=blank_row)
assert np.isfinite(vjp_good(left_out)[1]).all()
assert np.array_equal(y_good[1], [0, 0])

# %% [markdown]
# Zero times NaN is NaN. One blank row, left out of the loss, and all keys and values of the text
# have lost their gradients; after one step of the optimizer the model is NaN everywhere.
#
# ### The whole vjp
#
# It is the one of lesson 19, letter for letter.

# %%
import inspect

source(solution(20).attention)


def code_of_vjp(number):
    lines = inspect.getsource(solution(number).attention).split("def vjp(dy):")[1].splitlines()
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


assert code_of_vjp(20) == code_of_vjp(19)
print("the vjp of lesson 20 is the vjp of lesson 19, but for comments")

# %% [markdown]
# ## 7. Gradient check, live
#
# Two texts of three heads, four new queries beside six keys, a padding mask and `causal` together.
# In the second text the blanks stand at the *front*, so its first query sees nothing at all. Random
# cotangents, float64, central differences for every element.

# %%
from functools import partial

from scratchlm import gradcheck, plot

heads = [rng.standard_normal((2, 3, n, 4)) for n in (4, 6, 6)]  # q, k, v
real = np.array([[1, 1, 1, 1, 1, 0], [0, 0, 0, 1, 1, 1]], dtype=bool)[:, None, None, :]
masked = partial(ops.attention, mask=real, causal=True)
report = gradcheck(masked, *heads)
print(report)
assert report
assert (masked(*heads)[0][1, :, 0] == 0).all()
assert gradcheck(partial(solution(20).attention, mask=real, causal=True), *heads)

# %% [markdown]
# Now the step size, of the queries. Look for the lowest point of each curve. Before you run it: $-\infty$ is among
# the scores. Does it spoil the difference quotient, which needs $f(x + h) - f(x - h)$?

# %%
from scratchlm.gradcheck import error_by_step

methods, halves = ("central", "forward"), np.logspace(-1, -12, 23)  # of powers of ten
steps, curves = error_by_step(masked, *heads, steps=halves, method=methods, wrt=[0])
errors = dict(zip(methods, curves, strict=True))
assert errors["central"].min() < 1e-9 < errors["forward"].min()
ax = plot.gradcheck_curve(steps, errors, title="masked attention: error against step")
show(
    ax,
    alt="Two V-shaped curves of error against step, both axes logarithmic. Central differences "
    "have their lowest point near a step of 1e-5, forward differences, far higher, near 1e-8.",
)

# %% [markdown]
# It does not. $-\infty$ is only inside, and $\exp(-\infty)$ is an exact 0, before the step and
# after it. The curve is the one of lesson 19.

# %% [markdown]
# ## 8. See it
#
# ### Masks, and maps under them
#
# Six positions, one and the same matrix of scores, six masks. Upper row: yellow cells are visible,
# white ones hidden. Lower row: the weights; white is exactly 0. Look along one row of the maps from
# left to right.
#
# Before you run it: is the map under the causal mask the map on its left, with the upper triangle
# cut off? And in which panel is there a row without any color?

# %%
from scratchlm.plot import style


def framed(ax):
    """An image in which white cells stay visible as cells."""
    ax.tick_params(length=0)
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set(visible=True, color="#8a8a8a", linewidth=0.8)


six = np.random.default_rng(3).standard_normal((6, 6)) * 1.2
lower = np.tri(6, dtype=bool)
not_blank = np.array([False, True, True, True, True, True])  # a blank at the front
panels = {
    "none": np.full((6, 6), True),
    "causal": lower,
    "padding at the end": np.tile([True] * 4 + [False] * 2, (6, 1)),
    "causal, and a\nblank at the front": lower & not_blank,
    "window of 3": lower & ~np.tri(6, k=-3, dtype=bool),
    "2 new queries,\n4 keys in the cache": np.tri(2, 6, 4, dtype=bool),
}
weights = {}
for name, allowed in panels.items():
    scores = six[-len(allowed) :]
    (_, weights[name]), _ = ops.attention(  # keys that are unit vectors: q k^T is the scores
        scores, np.eye(6), np.eye(6), mask=allowed, scale=1.0, return_weights=True
    )

with style():
    fig, axes = figure(2, 6, width=11.0, height=4.3)
    for column, (name, allowed) in enumerate(panels.items()):
        top_ax, low_ax = axes[:, column]
        for ax, values, scale in ((top_ax, allowed, 1), (low_ax, weights[name], 1)):
            shown = np.ma.masked_equal(values.astype(float), 0)
            image = ax.imshow(shown, cmap="cividis", vmin=0, vmax=scale)
            framed(ax)
            ax.set_xticks(range(6), range(1, 7), fontsize=8)
            rows_here = range(len(allowed))
            ax.set_yticks(rows_here, [7 - len(allowed) + n for n in rows_here], fontsize=8)
        top_ax.set_title(name, fontsize=9.5, loc="center")
        low_ax.set_xlabel("key")
    axes[0, 0].set_ylabel("mask\nquery")
    axes[1, 0].set_ylabel("weights\nquery")
    fig.colorbar(image, ax=axes[1, :].tolist(), shrink=0.85, label="weight")
    for ax in axes.ravel():
        ax.set_anchor("N")
show(
    fig,
    alt="Two rows of six panels. Upper row: masks, visible cells in yellow: all; a lower triangle; "
    "four columns of six; the triangle without its first column; a band three wide below the "
    "diagonal; and two rows beside six keys. Lower row: the weights in the same places, white "
    "elsewhere. The first row of the causal map is one bright cell; with a blank at the front the "
    "first row is all white.",
)

rows = []
for name, A in weights.items():
    rows.append([name.replace("\n", " "), *A.sum(axis=1)[[0, -1]], (A > 0).sum(), A[-1].max()])
table(
    rows,
    columns=["mask", "first row sums to", "last row", "weights above 0", "largest in the last row"],
    digits=3,
)
cut = weights["none"] * lower
assert not np.allclose(weights["causal"], cut)
assert np.allclose(weights["causal"], cut / cut.sum(axis=1, keepdims=True))
assert weights["causal"][0].tolist() == [1, 0, 0, 0, 0, 0]
assert (weights["causal, and a\nblank at the front"][0] == 0).all()
assert np.allclose(weights["2 new queries,\n4 keys in the cache"], weights["causal"][-2:])

# %% [markdown]
# It is not cut off: every row is shared out again, and gets brighter by the factor that section 4
# has computed. The first position under the causal mask has no choice, its only weight is 1. Where
# that one key is a blank, there is nothing: the white row in the fourth panel. And the two rows
# beside a cache are the last two rows of the causal map.
#
# ### The leak test, as a matrix of derivatives
#
# A mask has one duty: *changing the future must not change the past.* In derivatives: with
# $Y = \mathrm{attention}(X W_q, X W_k, X W_v)$,
#
# $$
# \frac{\partial Y_n}{\partial X_m} = 0 \quad \text{for every } m > n
# $$
#
# For six positions with three features the whole Jacobian is a matrix of $18 \times 18$ numbers, in
# blocks of $3 \times 3$. Block $(n, m)$ says how position $m$ moves output $n$. Under a causal mask
# it must be block lower triangular. It is computed with one vjp for each row, and a zero here is a
# computed 0, not a small number.
#
# Four versions. Before you run it: *mask after softmax* sets the weights of the future to exactly
# 0, so no *value* of the future is used. Is its upper triangle white?

# %%
from scratchlm import Tensor
from scratchlm import functional as F

wrong = exercises(20)["attention"].mistake
rng = np.random.default_rng(8)
X = rng.standard_normal((6, 3))
Wq, Wk, Wv = rng.standard_normal((3, 3, 3)) / math.sqrt(3)


def jacobian(attention, X):
    """All derivatives of self-attention: [6 outputs, 3 features, 6 inputs, 3 features]."""
    y, vjp = attention(X @ Wq, X @ Wk, X @ Wv, causal=True)
    full = np.zeros((*y.shape, *X.shape))
    for index in np.ndindex(*y.shape):
        one = np.zeros_like(y)
        one[index] = 1
        dq, dk, dv = vjp(one)
        full[index] = dq @ Wq.T + dk @ Wk.T + dv @ Wv.T  # X is used three times
    return full


versions = {"causal": ops.attention} | {
    name: wrong(name).function
    for name in ("causal ignored", "mask after softmax", "one key of the future")
}
with style():
    fig, axes = figure(1, 4, width=11.0, height=3.3, sharey=True)
    for ax, (name, attention) in zip(axes, versions.items(), strict=True):
        sizes = np.abs(jacobian(attention, X).reshape(18, 18))
        shown = np.ma.masked_equal(sizes, 0)
        image = ax.imshow(shown, cmap="cividis", norm="log", clim=(1e-3, 3))
        framed(ax)
        for edge in np.arange(2.5, 17, 3):
            ax.axhline(edge, color="#cfcfcf", linewidth=0.6)
            ax.axvline(edge, color="#cfcfcf", linewidth=0.6)
        ax.set_xticks(np.arange(1, 18, 3), range(1, 7))
        ax.set_yticks(np.arange(1, 18, 3), range(1, 7))
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("input position m")
    axes[0].set_ylabel("output position n")
    fig.colorbar(image, ax=axes.tolist(), shrink=0.9, label="|∂Y / ∂X|")
show(
    fig,
    alt="Four Jacobians of 18 by 18 in blocks of 3 by 3. Causal: blocks on and below the diagonal "
    "are filled, all above are white, exact zeros. Causal ignored and mask after softmax: filled "
    "everywhere. One key of the future: one more diagonal of blocks is filled.",
)

# %% [markdown]
# It is full. The weights of the future are 0, but its *scores* stand in the denominator of every
# weight, so the past moves with them. Here is the test in both forms, for eight versions: move the
# last position by 1 and see how far the five outputs before it move (forward, one call), and the
# largest derivative above the block diagonal (backward).

# %%
moved = X.copy()
moved[-1] += 1.0
above = np.triu(np.ones((6, 6), bool), 1)


def leaks(attention):
    before, after = (attention(x @ Wq, x @ Wk, x @ Wv, causal=True)[0] for x in (X, moved))
    blocks = np.abs(jacobian(attention, X)).max(axis=(1, 3))  # [n, m]
    return np.abs(after - before)[:-1].max(), blocks[above].max()


tested = {"the library": ops.attention, "the solution": solution(20).attention}
for name in (
    "causal ignored",
    "upper triangle",
    "one key of the future",
    "scores times zero",
    "mask after softmax",
    "diagonal hidden",
    "shared out again after the softmax",
    "-10000 added",
    "backward without the mask",
):
    tested[name] = wrong(name).function
found = {name: leaks(attention) for name, attention in tested.items()}
table(
    [[name, *each] for name, each in found.items()],
    columns=["version", "the past moves by", "largest derivative above the diagonal"],
    digits=3,
)
for name in ("the library", "the solution", "diagonal hidden", "-10000 added"):
    assert found[name] == (0, 0)
for name in list(found)[2:7]:
    assert min(found[name]) > 0.1
assert found["shared out again after the softmax"][0] < 1e-14
assert found["shared out again after the softmax"][1] == 0
assert found["backward without the mask"][0] == 0 < found["backward without the mask"][1]

# %% [markdown]
# Three things to see. *Backward without the mask* passes the forward test and fails the other: its
# forward is right. *Diagonal hidden* passes both: it hides too much, and a leak test cannot see
# that. And *-10000 added* passes, because these scores are small. Section 9 takes larger ones.
#
# *Shared out again after the softmax* is right on paper: its derivative is 0. Its forward still
# moves by a few units in the last place, since the maximum that it takes off each row is that of
# the future too. So compare with `==`, not with a tolerance: under a right mask the past stays the
# same, bit for bit.

# %% [markdown]
# ## 9. Break it
#
# ### As printed: a decoder without a mask
#
# D1 §3.2.2 gives the decoder the self-attention of the encoder, whose formula (§4.1.1) hides
# nothing. Let us train it: the GPT of lesson 19, two layers, 24 letters at a time, on Python's own
# help texts. `causal ignored` is the formula as printed. Four more mistakes run beside it. The
# library has the right mask; all else is equal: data, seed, steps.

# %%
import scratchlm
from scratchlm.generate import generate
from scratchlm.models.gpt import GPT, GPTConfig
from scratchlm.train import TrainConfig, Trainer

LENGTH = 24


def train_gpt(attention="reference", steps=200, seed=0):
    """A small GPT on Python's help texts, and its trainer."""
    size = GPTConfig(len(data.vocabulary), block_size=LENGTH, n_layer=2, n_head=2, n_embd=32)
    model = GPT(size, rng=seed, std=0.15)
    config = TrainConfig(
        steps=steps,
        batch_size=16,
        length=LENGTH,
        lr=1e-2,
        warmup=0.1,
        betas=(0.8, 0.95),
        log_every=10,
        eval_every=0,
        seed=seed,
    )
    with scratchlm.use(attention=attention):
        return model, Trainer(model, data, config).fit(progress=False)


def curve(trainer):
    return np.array([(r["step"], r["loss"]) for r in trainer.history if "loss" in r])


def validation(trainer):
    return next(r["validation_loss"] for r in trainer.history[::-1] if "validation_loss" in r)


broken = {
    "right": "reference",
    "as printed": wrong("causal ignored").function,
    "one key of the future": wrong("one key of the future").function,
    "scores times zero": wrong("scores times zero").function,
    "mask after softmax": wrong("mask after softmax").function,
    "diagonal hidden": wrong("diagonal hidden").function,
}
models, trainers = {}, {}
for name, attention in broken.items():
    models[name], trainers[name] = train_gpt(attention)

# %% [markdown]
# How low can an honest loss be? Shannon (1951) let people guess the next letter of English and
# estimated its entropy at 0.6 to 1.3 bits, which is 0.4 to 0.9 nats. A small model after 200 steps
# stays far above that. Look at which curves go where no curve can go.
#
# Before you run it: two of the five mistakes end near the right curve. Which?

# %%
with style():
    fig, ax = figure(width=7.6, height=4.0)
    ax.axhspan(0.6 * math.log(2), 1.3 * math.log(2), color="#8a8a8a", alpha=0.25, linewidth=0)
    ax.annotate("Shannon's estimate for English", (130, 0.6), fontsize=8.5, color="#555555")
    looks = {
        "right": ("-", 3.0),
        "as printed": ("--", 1.8),
        "one key of the future": (":", 2.2),
        "scores times zero": ("-.", 1.8),
        "mask after softmax": ("-", 1.2),
        "diagonal hidden": ("--", 1.2),
    }
    for name, (dash, width) in looks.items():
        steps_done, losses = curve(trainers[name]).T
        ax.plot(steps_done, losses, dash, linewidth=width, label=name)
    ax.set(xlabel="step", ylabel="training loss (nats a letter)", ylim=(0, 4.8), xlim=(0, 200))
    ax.set_title("Training with a mask that leaks")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
show(
    fig,
    alt="Six training curves over 200 steps. As printed and one key of the future fall below 0.2 "
    "nats within 120 steps, under the gray band of Shannon's estimate; scores times zero falls to "
    "about 1.4; mask after softmax runs a little below the right one, which ends near 2.4; "
    "diagonal hidden runs on top of it.",
)

# %% [markdown]
# The validation loss does not help: the letters held out leak as well. So measure *honestly*. A
# model that writes has no future on its page. Cut the text off after $n$ letters, and take the loss
# of the last position only. The figure below shows both losses; look for the places where they
# differ.
#
# Before you run it: at which single position must the two losses of every model be equal?


# %%
def losses_by_position(model, attention, windows):
    """The mean loss at each position: reading all at once, and with the text cut off there."""
    inputs, targets = windows[:, :-1], windows[:, 1:]
    at_once, honest = [], []
    with scratchlm.use(attention=attention), scratchlm.no_grad():
        whole = model(inputs).data
        for n in range(LENGTH):
            rows = np.arange(len(windows))
            cut_off = model(inputs[:, : n + 1]).data
            for logits, where in ((whole[:, n], at_once), (cut_off[:, n], honest)):
                logits = logits.astype(np.float64)
                top = logits.max(axis=1)
                log_sum = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
                where.append((log_sum - logits[rows, targets[:, n]]).mean())
    return np.array(at_once), np.array(honest)


starts = np.random.default_rng(0).integers(0, len(data.validation) - LENGTH - 1, 200)
windows = np.stack([data.validation[i : i + LENGTH + 1] for i in starts])
by_position = {n: losses_by_position(models[n], broken[n], windows) for n in models}

prompt = data.vocabulary.encode("The ")
written = {}
for name, model in models.items():
    with scratchlm.use(attention=broken[name]):
        ids = generate(model, prompt, 60, temperature=0.7, seed=1)
    written[name] = " ".join(data.vocabulary.decode(ids).split())
table(
    [
        [n, validation(trainers[n]), by_position[n][0].mean(), by_position[n][1].mean(), written[n]]
        for n in models
    ],
    columns=["version", "validation loss", "at once", "honest", "what it writes after 'The '"],
    digits=3,
)

# %%
with style():
    fig, axes = figure(1, 2, width=8.8, height=3.6, sharey=True)
    for ax, name in zip(axes, ("right", "as printed"), strict=True):
        at_once, honest = by_position[name]
        places = np.arange(1, LENGTH + 1)
        ax.plot(places, honest, "o-", color="#D55E00", markersize=4, label="text cut off here")
        ax.plot(places, at_once, "s--", color="#0072B2", markersize=3.5, label="all read at once")
        ax.axhline(math.log(len(data.vocabulary)), color="#8a8a8a", linewidth=0.8)
        ax.set(title=name, xlabel="position in the text", xticks=[1, 6, 12, 18, 24])
    size = len(data.vocabulary)
    axes[0].annotate(f"blind guessing, ln {size}", (1, math.log(size) + 0.15), fontsize=8.5)
    axes[0].set_ylabel("loss (nats)")
    axes[0].set_ylim(-0.2, None)
    axes[1].legend(loc="center left", bbox_to_anchor=(0.02, 0.3))
show(
    fig,
    alt="Loss against position. Right mask: both curves coincide, near 2.2 nats. As printed: read "
    "at once the loss is near 0 up to position 23 and 2.9 at 24; with the text cut off it is "
    "between 4 and 8, above blind guessing, at nearly all positions up to 23, and falls to 2.9 at "
    "the last one.",
)

final = {name: validation(trainer) for name, trainer in trainers.items()}
honest = {name: each[1].mean() for name, each in by_position.items()}
at_once, cut_off = by_position["as printed"]
print(f"as printed, read at once: {at_once[:-1].mean():.3f} nats at positions 1 to 23")
print(f"                          {at_once[-1]:.2f} nats at position 24, which sees no future")
print(
    f"                          ({at_once[-1]:.2f} + 23 · {at_once[:-1].mean():.3f}) / 24 =",
    end=" ",
)
print(f"{at_once.mean():.3f}")
assert at_once[:-1].mean() < 0.05
assert at_once[-1] > 2
assert final["as printed"] < 0.4 < final["right"]  # below Shannon's lower estimate
assert honest["as printed"] > math.log(len(data.vocabulary))
assert np.allclose(*by_position["right"], atol=1e-5)
assert np.allclose(*by_position["diagonal hidden"], atol=1e-5)
assert final["mask after softmax"] < final["right"] - 0.05
assert honest["mask after softmax"] > honest["right"] + 0.2
assert honest["scores times zero"] > honest["right"] + 1

# %% [markdown]
# - **As printed**, the loss is 0.1 nats on text that it has never seen, and honestly it is *worse
#   than blind guessing*. What is left of its loss sits at one position of 24, the last, where no
#   future is to be had. That position alone has trained honestly, and only for texts of 24 letters.
# - **One key of the future** is as bad. The whole answer is that one key.
# - **Scores times zero** mixes the future in with weight $e^0$. It takes longer to read it out.
# - **Mask after softmax** is the dangerous one. Its loss is a little *better* than the right one.
#   No alarm rings; you would publish it. Cut off, it is clearly worse than the right one.
# - **Diagonal hidden** does no harm that could be seen here: the letter at $n$ still reaches the
#   output through the residual connection (lesson 25). It leaks nothing either. Only the first
#   position gets nothing at all.
#
# The rule: if a loss is too good, cut the text off and look again.
#
# ### The leak test of a whole GPT
#
# One attention may be right and the model leak, through a shifted target or a normalization over
# positions. So test the model. The table of positions gives each place $m$ a vector of its own,
# which enters the model at $m$ and nowhere else. The gradient of one output $n$ with respect to row
# $m$ of that table tells whether $n$ can see $m$. One backward pass gives one row of the picture.
#
# Before you run it: each attention layer shows one key of the future. The GPT has two layers. How
# wide is the band above the diagonal?


# %%
def visibility(model, attention, ids):
    """[n, m]: the norm of the gradient of output n with respect to position m."""
    rng = np.random.default_rng(0)
    table_of_positions = model.transformer.wpe.weight
    seen = []
    with scratchlm.use(attention=attention):
        for n in range(len(ids)):
            model.zero_grad()
            logits = model(ids)[n]
            (logits * Tensor(rng.standard_normal(logits.shape).astype(np.float32))).sum().backward()
            seen.append(np.linalg.norm(table_of_positions.grad.data[: len(ids)], axis=1))
    return np.array(seen)


shown_models = ("right", "one key of the future", "mask after softmax", "diagonal hidden")
seen = {n: visibility(models[n], broken[n], data.validation[:LENGTH]) for n in shown_models}
with style():
    fig, axes = figure(1, 4, width=11.0, height=3.3, sharey=True)
    for ax, (name, sizes) in zip(axes, seen.items(), strict=True):
        framed(ax)
        image = ax.imshow(
            np.ma.masked_equal(sizes, 0), cmap="cividis", norm="log", clim=(1e-2, 1e2)
        )
        ax.plot([-0.5, 23.5], [-0.5, 23.5], color="white", linewidth=1.4)
        ax.plot([-0.5, 23.5], [-0.5, 23.5], color="black", linewidth=0.5)
        ax.set_xticks([0, 5, 11, 17, 23], [1, 6, 12, 18, 24])
        ax.set_yticks([0, 5, 11, 17, 23], [1, 6, 12, 18, 24])
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("position m")
    axes[0].set_ylabel("output n")
    fig.colorbar(image, ax=axes.tolist(), shrink=0.9, label="norm of the gradient")
show(
    fig,
    alt="Four pictures of 24 by 24. Right and diagonal hidden: a filled lower triangle, white "
    "above. One key of the future: the triangle with two more diagonals, the first of them the "
    "brightest. Mask after softmax: filled everywhere.",
)

for name, sizes in seen.items():
    furthest = max((m - n for n, m in np.argwhere(sizes > 0)), default=0)
    print(f"{name:22} sees {furthest} positions of the future")
    assert furthest == {"one key of the future": 2, "mask after softmax": 23}.get(name, 0)
assert (np.diag(seen["diagonal hidden"]) > 0).all()

# %% [markdown]
# Two: what layer 1 has brought to $n + 1$ from $n + 2$, layer 2 brings to $n$. A leak of one key
# grows with the depth. In twelve layers it is twelve.
#
# ### A large number instead of infinity
#
# BERT's released code adds $-10000$ to hidden scores (Devlin et al. 2019), GPT-2's puts $-10^{10}$
# in their place (Radford et al. 2019). With finite numbers no row is ever NaN. What is the price?
# First a row with a visible key at score 0 and a hidden one at score $g$. What does the hidden key
# get?

# %%
rows = []
for dtype, constant in [(np.float32, -1e4), (np.float32, -1e9), (np.float16, -1e4)]:
    shares = []
    for g in (0, 5000, 9990, 10000, 20000):
        T = np.array([0, g], dtype) + np.array([0, constant], dtype)
        E = np.exp(T - T.max())
        shares.append(float(E[1] / E.sum()))
    rows.append([dtype.__name__, f"{constant:g}", *shares])
rows.append(["any", "-inf", 0.0, 0.0, 0.0, 0.0, 0.0])
table(
    rows,
    columns=["dtype", "added", "g = 0", "5,000", "9,990", "10,000", "20,000"],
    title="Weight of the hidden key",
    digits=3,
)
assert rows[0][2:4] == [0, 0]
assert rows[0][5] == 0.5
assert rows[0][6] == 1
assert rows[1][2:] == [0, 0, 0, 0, 0]

# %% [markdown]
# It leaks as soon as a hidden score comes near 10,000, and takes all from there on. Scores of that
# size are rare. Empty rows are not: under a causal mask, every text with blanks at the front begins
# with them. There the same number is added to *every* score, and equal amounts change no softmax:

# %%
S_blank = np.array([2.0, 0.0, 1.0])  # all three keys are hidden
rows = []
for dtype, constant in [
    (np.float32, -1e4),
    (np.float32, -1e9),
    (np.float16, -1e4),
    (np.float16, -6e4),
]:
    T = S_blank.astype(dtype) + dtype(constant)
    E = np.exp(T - T.max())
    rows.append([dtype.__name__, f"{constant:g} added", *(E / E.sum()).astype(float)])
T = np.where([False] * 3, S_blank, -1e9)
rows.append(["any", "-1e9 instead", *(np.exp(T - T.max()) / 3)])
(_, ours), _ = ops.attention(
    S_blank[None], np.eye(3), np.eye(3), mask=np.zeros(3, bool), scale=1.0, return_weights=True
)
rows.append(["any", "-inf, the library", *ours[0]])
table(rows, columns=["dtype", "hidden by", "key 1", "key 2", "key 3"], digits=3)
no_mask = np.exp(S_blank) / np.exp(S_blank).sum()
assert np.allclose(rows[0][2:], no_mask, atol=1e-3)
assert np.allclose(rows[1][2:], 1 / 3)
assert ours[0].tolist() == [0, 0, 0]

# %% [markdown]
# With $-10^4$ in float32 the row attends *as if there were no mask*. With $-10^9$ its scores are
# rounded to multiples of 64, so all become equal: even weights over keys that are all forbidden.
# Finite numbers, no warning, and always wrong. The zero of the library says what is the case:
# nothing was seen.
#
# ### Blanks
#
# The beginnings of three lines of the help texts, 12, 30 and 60 letters, in one batch. Each letter
# has a random vector, the blank is a letter too. A blank must not count: each text should come out
# as it does alone.

# %%
lines = [each for each in data.vocabulary.decode(data.validation).split("\n") if each.strip()]
texts = [next(each for each in lines if len(each) >= size)[:size] for size in (12, 30, 60)]
vectors = np.random.default_rng(5).standard_normal((len(data.vocabulary) + 1, 16))
blank = len(data.vocabulary)
ids = np.full((3, 60), blank)
for row, each in enumerate(texts):
    ids[row, : len(each)] = data.vocabulary.encode(each)
x = vectors[ids]  # [3, 60, 16]
real = ids != blank  # [3, 60]

rows = []
for name, mask in [("no mask", None), ("padding mask", real[:, None, :])]:
    (together, A), _ = ops.attention(x, x, x, mask=mask, return_weights=True, scale=0.1)
    for row, each in enumerate(texts):
        size = len(each)
        alone, _ = ops.attention(*[x[row, :size]] * 3, scale=0.1)
        apart = np.abs(together[row, :size] - alone).max()
        rows.append([name, size, A[row, :size, size:].sum(axis=1).mean(), apart])
table(
    rows,
    columns=["", "letters of 60", "weight on blanks", "differs from the text alone by"],
    digits=3,
)
assert rows[0][2] > 0.5
assert rows[0][3] > 0.1
assert all(row[2] == 0 and row[3] < 1e-14 for row in rows[3:])
print(f"D3 §5.2: 8 of 512 tokens are real; with equal scores the blanks get {504 / 512:.1%}")

poisoned = x.copy()
poisoned[~real] = np.nan
mixed, _ = ops.attention(x, x, poisoned, mask=real[:, None, :])
spoiled = np.isnan(mixed[0]).sum()
print(f"blanks with the value NaN, masked: {spoiled} of {mixed[0].size} outputs are NaN")
assert np.isnan(mixed[0]).all()

# %% [markdown]
# The last line is a limit of every mask: the weight of a blank is 0, and $0 \cdot \mathrm{NaN}$ is
# NaN. What stands in the blanks may be any number, but it has to be one.
#
# ### Few queries, many keys
#
# Six keys lie in the cache and one or two new queries come. `np.tri(N, M)` puts the triangle into
# the first corner (as PyTorch's `is_causal` does), and the newest query is taken for the first
# position.

# %%
rng = np.random.default_rng(4)
Q6, K6, V6 = rng.standard_normal((3, 6, 4))
full, _ = ops.attention(Q6, K6, V6, causal=True)
identity = np.eye(6)  # as values they show the weights
for name, attention in [
    ("last beside last", ops.attention),
    ("first beside first", wrong("aligned at the first").function),
]:
    for new in (1, 2):
        weights_of_new = attention(Q6[-new:], K6, identity, causal=True)[0]
        y_new = attention(Q6[-new:], K6, V6, causal=True)[0]
        print(
            f"{name:19} {new} new: keys seen {(weights_of_new > 0).sum(axis=1).tolist()}, "
            f"differs from the full text by {np.abs(y_new - full[-new:]).max():.2g}"
        )
        assert np.allclose(y_new, full[-new:]) == (attention is ops.attention)

# %% [markdown]
# In training $N = M$ and the two agree, so no test with square matrices finds it. The model trains
# well and writes nonsense, but only with the cache.
#
# ### Three that speak at once
#
# - **Infinity times zero.** `(1 - mask) * -np.inf` is NaN where the mask is 1. All outputs are NaN.
# - **Mask inverted.** PyTorch has both conventions: in `scaled_dot_product_attention` True may be
#   seen, in `MultiheadAttention` True is hidden. With a padding mask the text sees its blanks only.
# - **Mask along the queries.** For $N = M$ it runs, and hides what blanks *look at*, not the
#   blanks.

# %%
example = [x[:1, :20, :4]] * 3
only_real = real[0, :20]  # 12 letters, 8 blanks
columns = ["version", "NaN", "weight on blanks, of a letter", "of a blank"]
rows = []
for name in ("right", "infinity times zero", "mask inverted", "mask along the queries"):
    attention = ops.attention if name == "right" else wrong(name).function
    with np.errstate(invalid="ignore"):
        shares = attention(*example[:2], np.eye(20)[None], mask=only_real)[0][0]
    on_blanks = shares[:, ~only_real].sum(axis=1)
    rows.append([name, np.isnan(shares).sum(), on_blanks[:12].mean(), on_blanks[12:].mean()])
table(rows, columns=columns, digits=3)
assert rows[0][2:] == [0, 0]
assert rows[1][1] == 400
assert np.isclose(rows[2][2], 1)
assert rows[3][2] > 0.1
assert rows[3][3] == 0

# %% [markdown]
# And what does the gradient check say of all these? It passes nearly all: their backward belongs to
# their forward. It is the leak test that knows what a mask is for.

# %%
rows = []
small = [rng.standard_normal((4, 3)) for _ in range(3)]
for name in (
    "causal ignored",
    "one key of the future",
    "scores times zero",
    "mask after softmax",
    "-10000 added",
    "aligned at the first",
    "backward without the mask",
    "mask after softmax, forgotten in backward",
):
    checked = gradcheck(partial(wrong(name).function, causal=True), *small)
    rows.append([name, "passes" if checked.ok else "fails"])
table(rows, columns=["version", "gradient check"])
assert [row[1] for row in rows] == ["passes"] * 6 + ["fails"] * 2

# %% [markdown]
# ## 10. Your turn
#
# Write `attention(q, k, v, *, mask=None, causal=False)`, which returns `(y, vjp)`:
#
# ```
# scratchlm start 20            your copy of the stub
# scratchlm check 20 --watch    checks it each time you save
# scratchlm hint 20             three hints, each says more
# scratchlm solution 20         opens when you have passed
# ```
#
# Begin with your attention of lesson 19. Then `mask`, then `causal` for $N \ne M$, and at last the
# rows with nothing to see. The check knows 24 ways to go wrong, and says which it sees.
#
# When it passes, the GPT will train with it: `scratchlm.use(attention=attention)`.

# %%
from scratchlm.lessons import find_lesson

source(find_lesson(20).load("exercise").attention, docstring=True)
assert len(exercises(20)["attention"].mistakes) == 24

# %% [markdown]
# ## 11. Cost
#
# Hiding costs little. Not *using* what is hidden is what could be saved.
#
# | form of the mask | bytes | for 1,024 tokens |
# |---|---|---|
# | `causal=True`, made when needed | $NM$ for a moment | 1 MiB |
# | boolean, given | $NM$ | 1 MiB |
# | additive, float32 | $4NM$ | 4 MiB |
# | padding, `[B, 1, 1, M]` | $M$ for each text | 1 KiB |
# | for comparison: weights of 12 heads, float32 | $48NM$ | 48 MiB |
#
# A mask is the same for all heads, and padding for all queries: let it broadcast, do not copy it.
# Does backward keep it? Count the arrays that the vjp holds on to.


# %%
def arrays_kept(function, found=None):
    """The arrays that a function keeps alive, through the functions inside it too."""
    found = {} if found is None else found
    for cell in function.__closure__ or ():
        value = cell.cell_contents
        if isinstance(value, np.ndarray):
            found[id(value)] = value
        elif hasattr(value, "__closure__"):
            arrays_kept(value, found)
    return list(found.values())


three = [rng.standard_normal((12, 256, 64)).astype(np.float32) for _ in range(3)]
rows = []
for name, options in {
    "no mask": {},
    "causal": {"causal": True},
    "boolean mask": {"mask": np.tri(256, dtype=bool)},
}.items():
    kept_arrays = arrays_kept(ops.attention(*three, **options)[1])
    zeros = [np.mean(a == 0) for a in kept_arrays if a.shape[-2:] == (256, 256)]
    rows.append([name, sum(a.nbytes for a in kept_arrays) / 2**20, zeros[0]])
table(rows, columns=["", "kept for backward, MiB", "share of zeros in the weights"], digits=4)
assert rows[0][1] == rows[1][1] == rows[2][1]
assert np.isclose(rows[1][2], 1 - 257 / 512)  # (N + 1) / 2N of the weights are visible

# %% [markdown]
# Backward keeps no mask. But nearly half of all weights are zeros that were computed, stored and
# multiplied. FlashAttention goes through the keys in tiles and leaves out the tiles that lie wholly
# in the future: half the work (lesson 28).
#
# Blanks are the other waste. How many there are depends on which texts share a batch. Here are the
# lines of the help texts in batches of 16, in random order and sorted by length.

# %%
lengths = np.array([len(each) for each in lines])
shuffled = np.random.default_rng(0).permutation(lengths)


def share_of_blanks(lengths):
    batches = lengths[: len(lengths) // 16 * 16].reshape(-1, 16)
    return 1 - batches.sum() / (16 * batches.max(axis=1)).sum()


in_random, in_sorted = share_of_blanks(shuffled), share_of_blanks(np.sort(lengths))
print(f"{len(lengths)} lines of {lengths.min()} to {lengths.max()} letters, in batches of 16:")
print(f"blanks, random order: {in_random:.1%}   sorted by length: {in_sorted:.1%}")
assert in_random > 0.3
assert in_sorted < 0.05

# %% [markdown]
# ## 12. Use it
#
# ### Your attention in the GPT
#
# The solution of this lesson takes the place of the library's op. Same data, same seed: the two
# must have the same losses, step by step.

# %%
_, own = train_gpt(solution(20).attention)
pairs = [
    (int(step), a, b)
    for (step, a), (_, b) in zip(curve(trainers["right"]), curve(own), strict=True)
]
table(
    pairs[::6] + [("held out", final["right"], validation(own))],
    columns=["step", "library", "solution"],
    digits=6,
)
assert np.allclose([a for _, a, _ in pairs], [b for *_, b in pairs], atol=5e-3)
assert validation(own) < 2.3  # recorded with seed 0: 2.14

# %% [markdown]
# ### How far back does it pay to look?
#
# A mask is also a tool for asking. Give each position a window: the last $w$ letters, itself
# included. It takes one line, since the solution accepts `mask` and `causal` together. What a layer
# has gathered, the next one passes on: with two layers a window of $w$ reaches $2(w - 1)$ letters
# back.
#
# Before you run it: the model with the window 1 knows one letter only. Guess how much of the way
# to the full window is made by the second letter.


# %%
def looking_back(window):
    def attention(q, k, v, *, causal=False):
        near = ~np.tri(q.shape[-2], k.shape[-2], -window, dtype=bool)
        return solution(20).attention(q, k, v, mask=near, causal=causal)

    return attention


rows = []
for window in (1, 2, 4):
    attention = looking_back(window)
    model, trainer = train_gpt(attention)
    reach = np.argwhere(visibility(model, attention, data.validation[:LENGTH]) > 0)
    back = max(n - m for n, m in reach)
    assert back == 2 * (window - 1)
    assert min(n - m for n, m in reach) == 0
    rows.append([window, int(back), validation(trainer), math.exp(validation(trainer))])
rows.append([LENGTH, LENGTH - 1, final["right"], math.exp(final["right"])])
table(rows, columns=["window", "letters back", "validation loss", "perplexity"], digits=3)
by_window = {row[0]: row[2] for row in rows}
assert by_window[1] > by_window[2] + 0.25  # recorded with seed 0: 2.38 and 1.97
assert by_window[2] < by_window[LENGTH]

# %% [markdown]
# All of it, and more: after 200 steps the GPT whose layers see two letters is ahead of the one that
# may look at 24. It had less to sort out. (This says something of 200 steps, not of windows: a
# model that has the time can use what stands further back.) The column *letters back* was measured
# with the leak test, now used as a ruler. Through both layers the mask is exactly as wide as it
# should be.

# %% [markdown]
# ## 13. Recap
#
# Three questions, to answer without looking:
#
# 1. Why does backward need no mask? What would have to be true of a hidden weight for it to need
#    one? (Section 6, steps 1 and 2.)
# 2. A mask sets the weights of the future to 0 after the softmax. Which derivatives above the
#    diagonal are not 0, and through what does the future come in? (Section 8.)
# 3. Training with batches of full length works. With texts padded at the front the loss becomes NaN
#    in the first step, although the loss leaves all blanks out. Where does the NaN arise, and how
#    does it get into the weights? (Section 6, step 4.)
#
# | English | 中文 | here |
# |---|---|---|
# | mask | 掩码 | says which query may see which key |
# | causal mask | 因果掩码 | no key later than the query |
# | padding | 填充 | blanks that make texts equally long |
# | padding mask | 填充掩码 | no query sees a blank |
# | leak | 信息泄漏 | the past depends on the future |
# | leak test | 泄漏测试 | change the future, and the past must not move |
# | triangular matrix | 三角矩阵 | the causal mask; the Jacobian, in blocks |
# | fully masked row | 全掩码行 | nothing to see: 0 by convention |
# | sliding window | 滑动窗口 | only the last $w$ keys |
# | cache | 缓存 | keys and values of the past, kept for the next query |
# | decoder | 解码器 | guesses each token from those before it |
#
# References:
#
# - Vaswani et al. 2017, *Attention Is All You Need*: §3.1, the decoder sees earlier outputs only;
#   §3.2.3, illegal connections are set to $-\infty$ before the softmax.
# - Radford et al. 2018, *Improving Language Understanding by Generative Pre-Training*: a decoder
#   alone, with this mask.
# - Devlin et al. 2019, *BERT*: no causal mask, padding only; the released code adds $-10000$.
# - Dao et al. 2022, *FlashAttention*: appendix B, backward with a mask.
# - Beltagy, Peters and Cohan 2020, *Longformer*: sliding windows.
# - Shannon 1951, *Prediction and Entropy of Printed English*.
#
# The documents: D1 §3.1 and §3.2.2, D3 §4.1 (a decoder, no mask); D2 §5.2.4 and D3 §5.2 (padding).
#
# Next: several heads side by side (21), all of them under one mask. The cache comes back in lesson
# 30, and the tiles that skip the future in lesson 28.
