# %% [markdown]
# # 27 · The decoder · 解码器
#
# An encoder reads. A decoder writes, one token after the other, and before each token it looks
# into what the encoder has read. That look is attention in which the question comes from one
# sequence and the answer from another. You will watch it find, with nobody telling it, which word
# of a translation belongs to which word of the original.

# %% [markdown]
# ## 1. Card
#
# You need cross-entropy, attention with its mask, heads, the block and the encoder: lessons 05, 19,
# 20, 21, 25 and 26. At the end you have written cross-attention with its gradients, and you know
# three ways to train a decoder to a loss of nothing that cannot write a single line.

# %%
from scratchlm.lessons import card, exercises, figure, show, solution, source, table

card(27)

# %% [markdown]
# ## 2. Hook
#
# Chinese dates go from the year to the day, English dates from the day to the year. A model with
# one layer of encoder and one of decoder sees pairs of them for a second or two. It is told no rule:
# not that 三 is 3, not that the order is turned round. There are 730,485 dates in the years 1000 to
# 2999, and it sees 9,600. Then it translates dates that are drawn anew, and we note for each token
# where its decoder looked most.

# %%
import calendar
import math

import numpy as np

import scratchlm
from scratchlm import functional as F
from scratchlm import nn, ops, optim
from scratchlm.models.seq2seq import EncoderDecoder, EncoderDecoderConfig

DIGITS = "〇一二三四五六七八九"
MONTHS = [calendar.month_name[i] for i in range(1, 13)]
CHINESE = ["·", *DIGITS, "十", "年", "月", "日"]  # · fills up short texts: id 0
ENGLISH = ["·", "<", ">", *"0123456789", *MONTHS]  # < starts a text, > ends it
START, END = 1, 2


def numeral(n):
    """Chinese numerals below 100: 7 is 七, 17 is 十七, 27 is 二十七."""
    tens, ones = divmod(n, 10)
    return (DIGITS[tens] if tens > 1 else "") + "十" * (tens > 0) + (DIGITS[ones] if ones else "")


def date(rng):
    """A date in both languages, and for each English token the places it comes from."""
    year, month = int(rng.integers(1000, 3000)), int(rng.integers(1, 13))
    day = int(rng.integers(1, calendar.monthrange(year, month)[1] + 1))
    m, d = numeral(month), numeral(day)
    chinese = "".join(DIGITS[int(c)] for c in str(year)) + f"年{m}月{d}日"
    english = [*str(day), MONTHS[month - 1], *str(year)]
    first = 5 + len(m) + 1  # where the day begins
    tens = [{first}] if day > 9 else []
    places = [*tens, {first + len(d) - 1}, set(range(5, 5 + len(m))), {0}, {1}, {2}, {3}]
    return chinese, english, places


def fill(texts, words, start=(), end=(), width=0):
    """Ids [texts, width], short ones filled up with 0."""
    ids = [[*start, *(words.index(w) for w in text), *end] for text in texts]
    width = max(width, *(len(row) for row in ids))
    return np.array([row + [0] * (width - len(row)) for row in ids])


def dates(n, rng, width=0):
    """n dates: the source's ids, the target's with start and end, and the true alignments."""
    chinese, english, places = zip(*(date(rng) for _ in range(n)), strict=True)
    target = fill(english, ENGLISH, [START], [END], width)
    return fill(chinese, CHINESE, width=width and width - 1), target, places


def translator(words=CHINESE, written=ENGLISH, kind=EncoderDecoder):
    sizes = {"block_size": 40, "n_layer": 1, "n_head": 1, "n_embd": 32, "dropout": 0.0}
    options = {"norm_first": True, "positions": "learned", "pad_id": 0}
    return kind(EncoderDecoderConfig(len(words), len(written), **sizes, **options), rng=0)


def train(model, draw, steps, after=None, falling=False):
    """The losses; draw(rng) gives a batch, after(step) is called at times; falling: the rate, to 0."""
    optimizer, rng = optim.AdamW(model.parameters(), lr=5e-3), np.random.default_rng(1)
    losses = []
    for step in range(steps):
        if after is not None:
            after(step)
        if falling:
            optimizer.param_groups[0]["lr"] = 5e-3 * (1 - step / steps)
        loss = model.loss(*draw(rng))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    return losses


def look(model, ids, target):
    """Logits for the right tokens so far, and the weights of cross-attention [B, T, S]."""
    attend = model.transformer.decoder.layers[0].cross_attn.attend
    attend.recorded = []
    with scratchlm.no_grad():
        logits = model(ids, target[:, :-1]).data
    weights, attend.recorded = attend.recorded[0][:, 0], None
    return logits, weights


def hits(weights, places):
    """For each token of each text: is the largest weight at a place where it comes from?"""
    return [[int(row.argmax()) in place for row, place in zip(rows, text, strict=False)]
            for rows, text in zip(weights, places[: len(weights)], strict=True)]  # fmt: skip


held_ids, held_target, held_places = dates(300, np.random.default_rng(27))
SHORT = 200
history, early = [], {}


def watch(step):
    if step == SHORT:  # for section 9
        early.update({name: w.copy() for name, w in model.state_dict().items()})
    if step % 20 == 0:
        found = hits(look(model, held_ids[:100], held_target[:100])[1], held_places)
        history.append((step, np.mean([hit for text in found for hit in text])))


model = translator()
losses = train(model, lambda rng: dates(32, rng)[:2], 300, after=watch)

one = held_ids[:1]
written = model.greedy(one, start_id=START, max_new_tokens=10, end_id=END)
weights = look(model, one, np.concatenate([[[START]], written], axis=1))[1][0]
chinese = "".join(CHINESE[i] for i in one[0] if i)
print(chinese, " → ", " ".join(ENGLISH[i] for i in written[0]))
table(
    [
        [ENGLISH[i], chinese[row.argmax()], int(row.argmax()), row.max()]
        for i, row in zip(written[0], weights, strict=True)
    ],
    columns=["written", "looked at", "place", "weight"],
    digits=2,
)
assert (written[0] == held_target[0, 1 : 1 + written.shape[1]]).all()

# %% [markdown]
# The digits of the year are found at the front of the Chinese date and written at the end of the
# English one. No alignment was in the data: only pairs of texts, and the next token to guess.

# %% [markdown]
# ## 3. Formula
#
# No document prints a formula for the decoder. D3 §4.1 tells it in words, and §4.2 as a list of
# steps: vectors for words, multi-head self-attention, then a cross-attention layer that compares
# the decoder's words with the encoder's result, residual connections, and all of it several times.
#
# As published (Vaswani et al. 2017, §3.2.3): the queries come from the decoder, **keys and values
# both from the encoder's output**, the memory $M$:
#
# $$
# Q = X W_Q^T, \quad K = M W_K^T, \quad V = M W_V^T, \quad Y = \mathrm{softmax}\left(
# \frac{QK^T}{\sqrt{d_k}} \right) V W_O^T
# $$
#
# A layer of the decoder (§3.1) has three sublayers, each with its residual and its norm:
#
# $$
# \begin{aligned}
# H &= \mathrm{LN}(X + \mathrm{Self}(X)) \\
# G &= \mathrm{LN}(H + \mathrm{Cross}(H, M)) \\
# Y &= \mathrm{LN}(G + \mathrm{FFN}(G))
# \end{aligned}
# $$
#
# And the loss. The right translation is $y_1 \ldots y_T$; before it stands a start token $y_0$:
#
# $$
# L = -\frac{1}{T} \sum_{t=1}^{T} \log p(y_t \mid y_0, \ldots, y_{t-1}, x)
# $$
#
# To guess $y_t$ the model is given the *right* tokens before it, not its own. This is **teacher
# forcing** (Williams & Zipser 1989). With a causal mask in $\mathrm{Self}$, all $T$ guesses are
# made in one pass. The decoder reads $y_0 \ldots y_{T-1}$ and is asked for $y_1 \ldots y_T$: the
# target is **shifted** by one.
#
# | symbol | variable | shape | what it is |
# |---|---|---|---|
# | $X$ | `x` | `[..., T, C]` | the decoder's stream |
# | $M$ | `memory` | `[..., S, D]` | the encoder's result; most models have $D = C$ |
# | $W_Q$ | `wq` | `[E, C]` | what a position of the decoder asks |
# | $W_K$, $W_V$ | `wk`, `wv` | `[E, D]` | what a position of the memory is found by, and gives |
# | $W_O$ | `wo` | `[C, E]` | back to the width of the stream |
# | $A$ | `A` | `[..., T, S]` | the softmax: rows sum to 1, and the map need not be square |
# | $y_t$ | `target` | `[..., T + 1]` | ids, from the start token to the end token |
#
# What differs, and what the words leave open:
#
# 1. **Which side asks?** D3 says that similarities are computed between the two. A similarity has
#    no direction, attention has: section 9 turns it round. Nor does D3 say where the values come
#    from.
# 2. **One self-attention, not two.** D3 §4.1 says that a decoder is like an encoder, with an
#    *additional* self-attention and a cross-attention. The published layer has one self-attention,
#    as the encoder's has. What is different about it is its causal mask, which D3 does not name.
# 3. **Steps that are not in the list.** D3 §4.2 has neither positions nor the feed-forward network,
#    neither norm nor the last linear layer. It does give the embedding credit for nonlinearity: a
#    row of a table is a linear function of a one-hot vector.
# 4. **No cross-attention at all.** D1 §3.2.2 builds its decoder of self-attention and feed-forward
#    alone, though D1 §3.1 wants it to use what the encoder found. Section 9 runs that one.
# 5. **How is it trained?** D1 §3.2.2, step 6 says that tokens are predicted one by one. So it is
#    in use. Teacher forcing and the shift are in none of the five documents.

# %% [markdown]
# ## 4. By hand
#
# Two positions of the decoder, three of the memory, and $E = 1$: queries, keys and values are
# single numbers, and $\sqrt{E} = 1$.

# %%
X = np.array([[1.0, 0], [0, 2]])  # [T, C] = [2, 2]
M = np.array([[2.0, 1], [1, 1], [1, 2]])  # [S, D] = [3, 2]
wq, wk, wv = np.array([[1.0, 1]]), np.array([[1.0, -1]]), np.array([[2.0, -1]])  # [1, 2] each
wo = np.array([[1.0], [-1]])  # [C, E] = [2, 1]

q, k, v = X @ wq.T, M @ wk.T, M @ wv.T
print("q =", q[:, 0], "  from X:      x1 + x2")
print("k =", k[:, 0], "  from memory: m1 - m2")
print("v =", v[:, 0], "  from memory: 2 m1 - m2")
scores = q @ k.T
for name, real in (("three words", 3), ("the third is padding", 2)):
    print(name)
    e = np.exp(scores[:, :real])
    A = e / e.sum(axis=1, keepdims=True)
    o = A @ v[:real]
    for t in range(2):
        parts = " + ".join(f"{a:.4f}·{u:g}" for a, u in zip(A[t], v[:real, 0], strict=True))
        print(f"  scores {scores[t, :real]}, exp {e[t].round(4)}, sum {e[t].sum():.4f}")
        print(
            f"  o_{t + 1} = {parts} = {o[t, 0]:.4f},  y_{t + 1} = ({o[t, 0]:.4f}, {-o[t, 0]:.4f})"
        )

assert np.allclose(o[:, 0], [0.7311 * 3 + 0.2689, 0.8808 * 3 + 0.1192], atol=2e-4)
cross_attention = solution(27).cross_attention
padded, _ = cross_attention(X, M, wq, wk, wv, wo, padding=np.array([False, False, True]))
assert np.allclose(padded, np.concatenate([o, -o], axis=1))

# %% [markdown]
# The second query is twice the first, so its weights are sharper. A word of padding gets nothing,
# and the others share what it had: the result is that of a memory with two rows.

# %% [markdown]
# ## 5. In code
#
# First with loops: each position of the decoder goes along the memory.

# %%
C, D, E, T, S = 6, 4, 5, 3, 7
rng = np.random.default_rng(5)
x, memory = rng.standard_normal((T, C)), rng.standard_normal((S, D))
W = [rng.standard_normal(shape) for shape in ((E, C), (E, D), (E, D), (C, E))]
padding = np.array([False] * 5 + [True] * 2)


def cross_attention_loops(x, memory, wq, wk, wv, wo, padding):
    y = []
    for row in x:
        query = wq @ row
        words = [m for m, filler in zip(memory, padding, strict=True) if not filler]
        scores = [query @ (wk @ m) / math.sqrt(len(query)) for m in words]
        exps = [math.exp(s - max(scores)) for s in scores]
        found = sum(e / sum(exps) * (wv @ m) for e, m in zip(exps, words, strict=True))
        y.append(wo @ found)
    return np.stack(y)


# %% [markdown]
# Then with NumPy: the solution of the exercise. And the library's: its `MultiHeadAttention` is
# given the memory as `key`, and takes the values from there, too. The layer around it has a line
# for each of its three sublayers.

# %%
source(solution(27).cross_attention)
source(nn.TransformerDecoderLayer.forward)


def library(W, D=C):
    """The library's module with these weights; its one width is C, its biases are 0."""
    layer = nn.MultiHeadAttention(C, 1, bias=False, dtype=np.float64)
    names = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "out_proj.weight")
    layer.load_state_dict(dict(zip(names, W, strict=True)))
    return layer


loops = cross_attention_loops(x, memory, *W, padding)
numpy, _ = cross_attention(x, memory, *W, padding=padding)
print(f"loops and NumPy differ by {np.abs(loops - numpy).max():.0e}")
assert np.allclose(loops, numpy, rtol=0, atol=1e-13)

square = [rng.standard_normal((C, C)) for _ in range(4)]
wide = rng.standard_normal((S, C))
theirs = library(square)(x, wide, key_padding_mask=padding).data
numpy, _ = cross_attention(x, wide, *square, padding=padding)
print(f"NumPy and the library differ by {np.abs(numpy - theirs).max():.0e}")
assert np.allclose(numpy, theirs, rtol=0, atol=1e-13)

# %% [markdown]
# And the shift, which is two slices of one array in `loss`. It is worth a look at the ids
# themselves: in each column, below what the decoder reads stands what it is asked.

# %%
source(EncoderDecoder.loss)
whole = [ENGLISH[i] for i in held_target[0] if i]
table(
    [["reads", *whole[:-1]], ["is asked for", *whole[1:]]],
    columns=["position", *map(str, range(len(whole) - 1))],
)
assert whole[0] == "<"
assert whole[-1] == ">"

# %% [markdown]
# ## 6. Backward, derived
#
# The numbers are those of section 4, with all three words. After each step, central differences of
# that step alone have to agree.

# %%
dy = np.array([[1.0, 0], [0, 1]])  # [2, 2]


def slopes(f, x, h=1e-6):
    """The central difference of the number f(x) for each element of x."""
    out = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[index] = h
        out[index] = (f(x + step) - f(x - step)) / (2 * h)
    return out


def agree(name, mine, measured):
    assert np.abs(mine - measured).max() < 1e-8  # rounding over the step: 1e-16 / 1e-6, with room
    print(f"{name} =", np.array2string(mine.round(4) + 0.0, prefix=f"{name} = "))


def softmax(scores):
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


A = softmax(scores)  # [2, 3]
o = A @ v  # [2, 1]

# %% [markdown]
# ### Step 1: the last projection
#
# $y_{tc} = \sum_e o_{te} W_{O,ce}$. The number $o_{te}$ touches every feature $c$ of its own row:
#
# $$
# do_{te} = \sum_c dy_{tc} W_{O,ce}, \quad dW_{O,ce} = \sum_t dy_{tc} o_{te}
# $$
#
# $$
# do = dy \, W_O, \quad dW_O = dy^T o
# $$

# %%
do = dy @ wo  # [T, C] [C, E] -> [T, E]
dwo = dy.T @ o  # [C, T] [T, E] -> [C, E]
agree("do", do, slopes(lambda o: (dy * (o @ wo.T)).sum(), o))
agree("dwo", dwo, slopes(lambda wo: (dy * (o @ wo.T)).sum(), wo))

# %% [markdown]
# ### Step 2: values and weights
#
# $o_{te} = \sum_s A_{ts} v_{se}$. A value is read by **every** position of the decoder, each with
# its weight; a weight touches every feature:
#
# $$
# dv_{se} = \sum_t A_{ts} \, do_{te}, \quad dA_{ts} = \sum_e do_{te} v_{se}
# $$
#
# $$
# dv = A^T do, \quad dA = do \, v^T
# $$
#
# The shapes turn here: $do$ has $T$ rows, $dv$ has $S$. What the decoder has learned about its
# mistakes is now sorted by words of the source.

# %%
dv = A.T @ do  # [S, T] [T, E] -> [S, E]
dA = do @ v.T  # [T, E] [E, S] -> [T, S]
agree("dv", dv, slopes(lambda v: (do * (A @ v)).sum(), v))
agree("dA", dA, slopes(lambda A: (do * (A @ v)).sum(), A))

# %% [markdown]
# ### Step 3: the softmax
#
# As in lesson 19, along the keys of one query:
#
# $$
# dZ_{ts} = A_{ts} \left( dA_{ts} - \sum_j dA_{tj} A_{tj} \right)
# $$
#
# Where $s$ is padding, $A_{ts} = 0$ and so $dZ_{ts} = 0$, and by step 2 nothing reaches $v_s$. No
# line of code is needed for the gradient of padding: it is 0.

# %%
dZ = A * (dA - (dA * A).sum(axis=1, keepdims=True))
agree("dZ", dZ, slopes(lambda z: (dA * softmax(z)).sum(), scores))
assert np.allclose(dZ.sum(axis=1), 0)

# %% [markdown]
# ### Step 4: the scores
#
# $Z_{ts} = r \sum_e q_{te} k_{se}$ with $r = 1/\sqrt{E}$:
#
# $$
# dq_{te} = r \sum_s dZ_{ts} k_{se}, \quad dk_{se} = r \sum_t dZ_{ts} q_{te}
# $$
#
# $$
# dq = r \, dZ \, k, \quad dk = r \, dZ^T q
# $$

# %%
dq = dZ @ k  # [T, S] [S, E] -> [T, E], and r = 1
dk = dZ.T @ q  # [S, T] [T, E] -> [S, E]
agree("dq", dq, slopes(lambda q: (dZ * (q @ k.T)).sum(), q))
agree("dk", dk, slopes(lambda k: (dZ * (q @ k.T)).sum(), k))

# %% [markdown]
# ### Step 5: two sequences
#
# This is the step that is new. In self-attention one input was used three times, and three
# gradients were added. Now $X$ is used once and $M$ twice:
#
# $$
# q_{te} = \sum_c X_{tc} W_{Q,ec}, \quad k_{se} = \sum_d M_{sd} W_{K,ed}, \quad v_{se} = \sum_d
# M_{sd} W_{V,ed}
# $$
#
# $$
# dX_{tc} = \sum_e dq_{te} W_{Q,ec}, \quad dM_{sd} = \sum_e dk_{se} W_{K,ed} + \sum_e dv_{se}
# W_{V,ed}
# $$
#
# $$
# dX = dq \, W_Q, \quad dM = dk \, W_K + dv \, W_V
# $$
#
# and for the weights $dW_Q = dq^T X$, $dW_K = dk^T M$, $dW_V = dv^T M$. Set $M = X$ and add the two:
# self-attention again.


# %%
def forward(X, M, wq=wq, wk=wk, wv=wv):
    return softmax((X @ wq.T) @ (M @ wk.T).T) @ (M @ wv.T) @ wo.T


dX = dq @ wq  # [T, E] [E, C] -> [T, C]
dM = dk @ wk + dv @ wv  # [S, E] [E, D] -> [S, D], twice
agree("dX", dX, slopes(lambda X: (dy * forward(X, M)).sum(), X))
agree("dM", dM, slopes(lambda M: (dy * forward(X, M)).sum(), M))
for name, mine, at in (("wq", dq.T @ X, wq), ("wk", dk.T @ M, wk), ("wv", dv.T @ M, wv)):
    measured = slopes(lambda w, n=name: (dy * forward(X, M, **{n: w})).sum(), at)
    agree(f"d{name}", mine, measured)

mine = cross_attention(X, M, wq, wk, wv, wo)[1](dy)
for ours, derived in zip(mine, (dX, dM, dq.T @ X, dk.T @ M, dv.T @ M, dwo), strict=True):
    assert np.allclose(ours, derived, rtol=0, atol=1e-14)

# %% [markdown]
# ### Step 6: one memory, many layers
#
# Every layer of the decoder reads the same $M$. That is fan-out once more, so the encoder gets the
# sum over layers:
#
# $$
# dM = \sum_l \left( dK_l W_{K,l} + dV_l W_{V,l} \right)
# $$
#
# And it gets nothing else. The loss stands behind the decoder, so **all that an encoder learns
# comes through cross-attention**. Let us give each of three layers a copy of the memory of its own,
# and add up.

# %%
from scratchlm import Tensor

deep = nn.TransformerDecoder(8, 2, 3, dropout=0.0, norm_first=True, rng=0, dtype=np.float64)
stream, push = rng.standard_normal((2, T, 8)), rng.standard_normal((2, T, 8))
shared = Tensor(rng.standard_normal((2, S, 8)), requires_grad=True)
deep(stream, shared).backward(push)

copies = [Tensor(shared.data.copy(), requires_grad=True) for _ in deep.layers]
h = Tensor(stream)
for layer, own in zip(deep.layers, copies, strict=True):
    h = layer(h, own)
deep.norm(h).backward(push)
parts = [own.grad.data for own in copies]
print("norms of the three layers' shares:", [float(np.linalg.norm(p).round(3)) for p in parts])
print(f"their sum differs from the gradient of the memory by "
      f"{np.abs(sum(parts) - shared.grad.data).max():.0e}")  # fmt: skip
assert np.allclose(sum(parts), shared.grad.data, rtol=0, atol=1e-13)

# %% [markdown]
# ## 7. Gradient check, live
#
# Six inputs, two texts of different length, random cotangents, float64.

# %%
from scratchlm import gradcheck, plot

two_x, two_m = rng.standard_normal((2, T, C)), rng.standard_normal((2, S, D))
lengths = np.arange(S) >= np.array([[4], [6]])  # [2, S], True behind the end


def op(*arrays):
    return cross_attention(*arrays, padding=lengths)


names = ["x", "memory", "wq", "wk", "wv", "wo"]
report = gradcheck(op, two_x, two_m, *W, names=names)
print(report)
assert report
at_padding = cross_attention(two_x, two_m, *W, padding=lengths)[1](two_x)[1][lengths]
print("largest gradient of the memory at padding:", np.abs(at_padding).max())
assert (at_padding == 0).all()

# %% [markdown]
# Before you run the next cell: values enter in a straight line, queries through an exponential.
# Which of the two curves lacks the right arm of its V?

# %%
from scratchlm.gradcheck import error_by_step

steps, by_queries = error_by_step(op, two_x, two_m, *W, wrt=[2])
_, by_values = error_by_step(op, two_x, two_m, *W, wrt=[4])
ax = plot.gradcheck_curve(
    steps, {"W_Q (queries)": by_queries, "W_V (values)": by_values}, title="Error against step"
)
show(ax, alt="Error against step, both axes logarithmic. For the weights of the queries a V with its "
             "lowest point near 1e-5; for those of the values a line that only falls.")  # fmt: skip
print(f"best step for W_Q: {steps[by_queries.argmin()]:.0e}, error {by_queries.min():.0e}")
assert 1e-7 < steps[by_queries.argmin()] < 1e-3
assert by_queries.min() < 1e-8
assert by_values[steps.argmax()] < 1e-12 < by_queries[steps.argmax()]

# %% [markdown]
# ## 8. See it
#
# ### The map, and what it should be
#
# We know for each English token which Chinese character it comes from: white frames in the figure.
# Rows are what is written, columns what is read. Left: the model before training. Right: after 300
# steps.
#
# Before you run it: where must the frames lie if the order of the parts is turned round, and that
# of the digits in the year is not?

# %%
from matplotlib.patches import Rectangle

from scratchlm.plot import style

fresh = translator()
example = max(range(300), key=lambda i: (held_ids[i] > 0).sum() + (held_target[i] > 0).sum())
length = int((held_ids[example] > 0).sum())
rows = [ENGLISH[i] for i in held_target[example, 1:] if i]
columns = [CHINESE[i] for i in held_ids[example, :length]]
with style():
    fig, axes = figure(1, 2, width=9.6, height=3.9)
    for ax, m, name in zip(axes, (fresh, model), ("fresh", "after 300 steps"), strict=True):
        w = look(m, held_ids, held_target)[1][example, : len(rows), :length]
        plot.attention(w, rows, keys=columns, title=name, values=False, colorbar=False, ax=ax)
        ax.set(xlabel="read", ylabel="written")
        for t, place in enumerate(held_places[example]):
            left = min(place) - 0.5
            frame = Rectangle((left, t - 0.5), len(place), 1, fill=False, color="white", lw=1.6)
            ax.add_patch(frame)
show(fig, alt="Two maps of 8 English tokens against 12 Chinese characters, with white frames at the true "
              "places. Fresh: every row is spread over all characters. Trained: one bright cell in "
              "each row, inside its frame, in three blocks from the lower left to the upper right.")  # fmt: skip

# %% [markdown]
# Now measure it, on 300 dates drawn anew. A row *hits* if its largest weight lies inside the frame.
# (Where each token has one link and one right place, one minus the hits is the alignment error rate of
# Och & Ney 2003.)

# %%
aligned = {}
for name, m in (("fresh", fresh), ("trained", model)):
    w = look(m, held_ids, held_target)[1]
    found = hits(w, held_places)
    share = [row[list(p)].sum() for rows, text in zip(w, held_places, strict=True)
             for row, p in zip(rows, text, strict=False)]  # fmt: skip
    kinds = {"day": [], "month": [], "year": []}
    for text in found:
        kinds["day"] += text[:-5]
        kinds["month"] += text[-5:-4]
        kinds["year"] += text[-4:]
    everything = [hit for kind in kinds.values() for hit in kind]
    aligned[name] = np.mean(everything), np.mean(share), *map(np.mean, kinds.values())
table(
    [[name, *numbers] for name, numbers in aligned.items()],
    columns=["model", "hits", "weight in the frame", "hits: day", "month", "year"],
    digits=3,
)
assert aligned["trained"][0] > 0.9
assert aligned["trained"][1] > 0.8
assert aligned["fresh"][0] < 0.3

# %% [markdown]
# Nobody asked for this. The loss asks for the right token; to copy a digit that it cannot know,
# the model has to look at it.
#
# ### When does it learn to look?
#
# The loss at each step, and the share of hits, measured every ten steps. Before you run it: does
# the loss fall first, or does the alignment come first, or do they go together?

# %%
at, hit = np.array(history).T
with style():
    fig, ax = figure(width=6.8, height=3.6)
    smooth = np.convolve(losses, np.ones(5) / 5, "valid")
    ax.plot(range(2, 298), smooth, color="#0072B2", label="loss")
    ax.set(xlabel="step", ylabel="loss (nats per token, mean of 5)", ylim=(0, 3.4))
    ax.grid(True)
    right = ax.twinx()
    right.plot(at, hit, "--", color="#D55E00", label="hits")
    right.set(ylabel="share of tokens that look at their source", ylim=(0, 1.05))
    ax.legend(handles=[ax.lines[0], right.lines[0]], loc="center right")
show(fig, alt="The loss falls quickly to about 2.2, more slowly to 1.8, and then to nearly 0 after 150 steps. "
              "The hits rise from 0.15 as it leaves 1.8 and reach nine tenths when the loss is near 0.4.")  # fmt: skip
half = at[np.argmax(hit > 0.5)]
below = 2 + int(np.argmax(smooth < 1.5))
print(f"more than half of the tokens look at the right place from step {half:.0f}")
print(f"the loss is below 1.5 from step {below}")
assert abs(half - below) < 60

# %% [markdown]
# They go together. Down to about 1.75 the model needs no source at all (section 9 computes that
# number); everything below it has to be read.
#
# ### Is the map the reason?
#
# A map shows where a layer looks, not what the answer depends on. (Jain & Wallace 2019 have cases
# where the two part.) So intervene: exchange the third digit of the Chinese year for another one,
# and leave the rest alone. Which of the English tokens change?

# %%
changed_ids = held_ids.copy()
changed_ids[:, 2] = 1 + (changed_ids[:, 2] - 1 + 4) % 10  # ids 1 to 10 are the ten digits
before = look(model, held_ids, held_target)[0].argmax(-1)
after = look(model, changed_ids, held_target)[0].argmax(-1)
third = (held_target[:, 1:] > 0).sum(axis=1) - 3  # the end, then the fourth digit, then the third
moved = before != after
own = moved[np.arange(300), third].mean()
others = (moved & (held_target[:, 1:] > 0)).sum() - moved[np.arange(300), third].sum()
others = others / ((held_target[:, 1:] > 0).sum() - 300)
print(f"tokens for the third digit that change: {own:.1%};  all other tokens: {others:.1%}")
assert own > 0.95
assert others < 0.05

# %% [markdown]
# Here the map tells the truth. With more layers it may not: each position of the encoder's result
# has read the others, and the right digit may be found at its neighbor (Koehn & Knowles 2017, §3.5,
# have a translator whose whole map is off by one word).

# %% [markdown]
# ## 9. Break it
#
# ### As described: a decoder without cross-attention
#
# D1 §3.2.2 gives the decoder's block self-attention and a feed-forward network. What can it reach?
# It can learn how dates look. It cannot know which one is meant. The best guess then costs, for
# each date, the entropy of the draw: 2000 years, 12 months, the days of the month. Divided by the
# tokens of a date, with the end token, this is a floor that no training gets through:
#
# $$
# \frac{\ln 2000 + \ln 12 + \mathrm{mean}(\ln \text{days})}{\mathrm{mean}(\text{tokens})}
# $$

# %%
lengths_of_months = [calendar.monthrange(year, month)[1]
                     for year in range(1000, 3000) for month in range(1, 13)]  # fmt: skip
tokens = np.mean([(9 + 2 * (n - 9)) / n for n in lengths_of_months]) + 1 + 4 + 1
floor = (math.log(2000) + math.log(12) + np.mean(np.log(lengths_of_months))) / tokens
print(f"{tokens:.2f} tokens for a date, floor {floor:.3f} nats per token")
assert sum(lengths_of_months) == 730_485


class NoSource(nn.Module):
    """Stands in for cross-attention, and adds nothing."""

    def forward(self, query, key, value=None, **masks):
        return query * 0.0


class FromX(nn.MultiHeadAttention):
    """Queries from the memory; keys and values from the decoder."""

    def forward(self, query, key, value=None, **masks):
        return super().forward(key, query)


class KeysFromX(nn.MultiHeadAttention):
    """Only the values come from the memory."""

    def forward(self, query, key, value=None, **masks):
        return super().forward(query, query, key)


class Unshifted(EncoderDecoder):
    """Asks for what the decoder reads: both are target[:, 1:]."""

    def loss(self, source, target):
        logits = self(source, target[:, 1:])
        return F.cross_entropy(logits, target[:, 1:], ignore_index=0)


def not_causal():
    m = translator()
    m.transformer.decoder.layers[0].self_attn.attend.causal = False
    return m


def with_cross(module):
    m = translator()
    m.transformer.decoder.layers[0].cross_attn = module
    return m


def right_if_forced(m, ids, target):
    """The share of right tokens, each with the right tokens before it."""
    with scratchlm.no_grad():
        found = m(ids, target[:, :-1]).data.argmax(-1) == target[:, 1:]
    return found[target[:, 1:] > 0].mean()


def judge(m, ids, target):
    """Where it is right with the right tokens before it, and alone; what counts; what it wrote."""
    asked, real = target[:, 1:], target[:, 1:] > 0
    with scratchlm.no_grad():
        forced = m(ids, target[:, :-1]).data.argmax(-1) == asked
    alone = m.greedy(ids, start_id=START, max_new_tokens=asked.shape[1], end_id=END)
    short = asked.shape[1] - alone.shape[1]
    alone = np.pad(alone, ((0, 0), (0, short)), constant_values=END)
    return forced, alone == asked, real, alone


def verdict(m, ids, target):
    forced, free, real, alone = judge(m, ids, target)
    first = " ".join(ENGLISH[i] for i in alone[0][: real[0].sum()])
    return forced[real].mean(), (free | ~real).all(axis=1).mean(), first


broken = {
    "none": translator(),  # the model of the hook, as it was after 200 steps
    "no cross-attention": with_cross(NoSource()),
    "targets not shifted": translator(kind=Unshifted),
    "no causal mask": not_causal(),
}
rows, told = [], {}
broken["none"].load_state_dict(early)
for name, m in broken.items():
    curve = losses[:SHORT]
    if name != "none":
        curve = train(m, lambda rng: dates(32, rng)[:2], SHORT)
    told[name] = float(np.mean(curve[-20:])), *verdict(m, held_ids, held_target)
    rows.append([name, *told[name]])
table(
    rows,
    columns=["mistake", "loss", "tokens, forced", "dates, alone", "first date"],
    digits=3,
)
assert told["none"][0] < 0.3
assert told["none"][2] > 0.6
assert abs(told["no cross-attention"][0] - floor) < 0.1
assert told["no cross-attention"][2] < 0.02
assert told["targets not shifted"][0] < 0.01
assert told["no causal mask"][0] < 0.05
assert max(told[name][2] for name in ("targets not shifted", "no causal mask")) < 0.02

# %% [markdown]
# Read the losses first, as you would in your own training.
#
# - **No cross-attention** lies on its floor. It writes a date that looks like a date; it has
#   nothing to do with the source.
# - **Not shifted** has the best loss of all, and the fastest. It copies: the token that it is asked
#   for is the one that it reads. Alone it is given the start token and says the start token.
# - **No causal mask** is as cheap: the answer stands one place to the right of the question, in
#   plain sight. Its forced accuracy is perfect, too. Only writing tells, for there is nothing on
#   the right yet.
#
# So a loss much *lower* than you hoped for is a symptom. Two tests find it before any training: the
# leak test of lesson 20, and one greedy translation.

# %%
rows, leaks = [], {}
blind = held_target.copy()
blind[:, 4:] = START
for name in ("none", "no causal mask"):
    with scratchlm.no_grad():
        seen, unseen = (broken[name](held_ids, t[:, :-1]).data[:, :4] for t in (held_target, blind))
    leaks[name] = float(np.abs(seen - unseen).max())
    print(f"{name:16} logits at positions 0 to 3 change by {leaks[name]:.2g} if the rest is erased")
assert leaks["none"] < 1e-5  # float32: sums over rows that are masked may be ordered otherwise
assert leaks["no causal mask"] > 0.1

# %% [markdown]
# ### From the wrong side
#
# Exchange queries and keys, and the result has $S$ rows instead of $T$. The residual refuses:

# %%
try:
    with_cross(FromX(32, 1, rng=0))(held_ids, held_target[:, :-1])
except ValueError as error:
    print("ValueError:", str(error)[:74], "…")
else:
    raise AssertionError("T and S differ, and nobody has noticed")

# %% [markdown]
# But pad both sides to one length, as many data loaders do, and there is no error any more. The same
# goes for keys from the decoder's own side. Before you run it: will the loss be higher or lower than
# that of the right decoder, in the first row of the table above?

# %%
WIDTH = 13
same_ids, same_target, _ = dates(300, np.random.default_rng(27), WIDTH)
assert same_ids.shape[1] == same_target.shape[1] - 1
rows, sides = [], {}
for name, module in (("queries and keys swapped", FromX), ("keys from the decoder", KeysFromX)):
    m = with_cross(module(32, 1, rng=0))
    curve = train(m, lambda rng: dates(32, rng, WIDTH)[:2], SHORT)
    with scratchlm.no_grad():
        blind = same_target.copy()
        blind[:, 4:] = START
        seen, unseen = (m(same_ids, t[:, :-1]).data[:, :4] for t in (same_target, blind))
    leak = float(np.abs(seen - unseen).max())
    try:
        m.greedy(same_ids, start_id=START, max_new_tokens=WIDTH)
        alone = "writes"
    except ValueError:
        alone = "ValueError"
    sides[name] = (
        float(np.mean(curve[-20:])),
        right_if_forced(m, same_ids, same_target),
        leak,
        alone,
    )
    rows.append([name, *sides[name]])
table(
    rows,
    columns=["mistake", "loss", "tokens, forced", "changed by the future", "alone"],
    digits=3,
)
assert max(side[0] for side in sides.values()) < 0.3
assert min(side[1] for side in sides.values()) > 0.95
assert min(side[2] for side in sides.values()) > 0.1
assert {side[3] for side in sides.values()} == {"ValueError"}

# %% [markdown]
# Lower, or as low, and that is the bad sign. Neither module is causal: over a memory there is no
# need to be. But now the decoder's own tokens stand where the memory should, as values in the first
# and as keys in the second, and those of the future are among them. The mask of self-attention does
# not cover this road. And when the decoder writes alone, it has $t$ rows and the memory $S$: what
# the padding had hidden in training is an error in use.
#
# ### Padding of the memory ignored
#
# The trained model again, but the decoder is not told which rows of the memory are padding. Then we
# add more and more padding to the same 300 dates. With the mask, before you run it: how much may
# the logits change?


# %%
class Forgetful(EncoderDecoder):
    """The encoder knows its padding, the decoder does not."""

    def encode(self, source):
        return super().encode(source)[0], None


rows, kept = [], {}
forgetful = translator(kind=Forgetful)
forgetful.load_state_dict(model.state_dict())
start_logits = look(model, held_ids, held_target)[0]
for more in (0, 4, 12, 24):
    longer = np.pad(held_ids, ((0, 0), (0, more)))
    drift = float(np.abs(look(model, longer, held_target)[0] - start_logits).max())
    kept[more] = drift, *(verdict(m, longer, held_target)[1] for m in (model, forgetful))
    rows.append([more, *kept[more]])
table(
    rows,
    columns=["padding added", "logits change", "dates right, masked", "dates right, ignored"],
    digits=3,
)
assert max(k[0] for k in kept.values()) < 1e-4
assert kept[0][2] < kept[0][1] - 0.2
assert len({k[1] for k in kept.values()}) == 1

# %% [markdown]
# Masked, the translation of a text does not depend on the length of its neighbors in the batch.
# Ignored, it does, and no error is raised.
#
# ### Exposure bias
#
# In training the decoder reads right tokens, in use its own. What does a mistake cost? To see it,
# months are now spelled letter by letter, so that what is written depends on what was written, and
# we stop early, when mistakes are still frequent.
#
# Before you run it: which is larger, the share of texts that are right *as a whole* with teacher
# forcing, or without?

# %%
LETTERS = ["·", "<", ">", " ", *"0123456789", *sorted(set("".join(MONTHS)))]


def spelled(n, rng):
    chinese, english, _ = zip(*(date(rng) for _ in range(n)), strict=True)
    texts = [f"{''.join(e[:-5])} {e[-5]} {''.join(e[-4:])}" for e in english]
    return fill(chinese, CHINESE), fill(texts, LETTERS, [START], [END])


speller = translator(written=LETTERS)
train(speller, lambda rng: spelled(32, rng), 120)
ids, target = spelled(300, np.random.default_rng(28))
forced, free, real, alone = judge(speller, ids, target)


def as_text(row):
    return "".join(LETTERS[i] for i in row).split(">")[0]


rows = [[as_text(target[i, 1:]), as_text(alone[i])]
        for i in range(300) if not (free | ~real)[i].all()][:4]  # fmt: skip
table(rows, columns=["right", "written alone"])

whole_forced, whole_free = ((right | ~real).all(axis=1) for right in (forced, free))
behind = real & (np.cumsum(~forced & real, axis=1) - (~forced & real) > 0)
bias = {
    "tokens": (forced[real].mean(), free[real].mean()),
    "tokens behind the first mistake": (forced[behind].mean(), free[behind].mean()),
    "whole texts": (whole_forced.mean(), whole_free.mean()),
}
table(
    [[name, *both] for name, both in bias.items()], columns=["right", "forced", "alone"], digits=3
)
assert (whole_forced == whole_free).all()
assert (free[real & ~behind] == forced[real & ~behind]).all()
assert bias["tokens"][0] - bias["tokens"][1] > 0.05
assert bias["tokens behind the first mistake"][0] - bias["tokens behind the first mistake"][1] > 0.3

# %% [markdown]
# The last row is no accident, it is a theorem for greedy writing: up to the first mistake both have
# read the same tokens, so they say the same. A text is right alone exactly if it is right when
# forced. What differs comes **behind** the first mistake. There the forced decoder is handed the
# right text again and goes on as if nothing had happened; alone, it has to go on from a text that
# no training example ever looked like. Ranzato et al. 2016 call this *exposure bias*.

# %%
with style():
    fig, ax = figure(width=6.8, height=3.4)
    positions = [t for t in range(real.shape[1]) if real[:, t].sum() >= 30]
    for name, right, mark, color in (
        ("teacher forcing", forced, "o-", "#0072B2"), ("written alone", free, "s--", "#D55E00"),
    ):  # fmt: skip
        ax.plot(positions, [right[real[:, t], t].mean() for t in positions], mark, color=color,
                label=name)  # fmt: skip
    ax.set(xlabel="position in the text", ylabel="share of right characters", ylim=(0, 1.03),
           title="The same model, two ways to feed it")  # fmt: skip
    ax.grid(True)
    ax.legend(loc="lower left")
show(ax, alt="Share of right characters against the position. Both curves begin together near 1. With "
             "teacher forcing it stays above 0.7, with dips at the first letter of the month and in the year; written alone it lies farther and farther below.")  # fmt: skip

# %% [markdown]
# So the two accuracies answer two questions. Report the one for your use: the forced one flatters a
# model that writes. A wrong length shifts all that follows, which is why translations are judged by
# what is in them rather than position by position (BLEU, lesson 08). Feeding the model its own
# tokens now and then in training (scheduled sampling, Bengio et al. 2015) is one remedy;
# fewer mistakes are another, and the better one.
#
# ### Mistakes in a cross-attention of your own
#
# The translator with the exercise inside, 150 steps, with one mistake after the other.

# %%
from scratchlm.registry import Op
from scratchlm.tensor import apply


class Own(nn.Module):
    """Cross-attention whose forward and backward are an op (out, vjp) of yours."""

    def __init__(self, function, width=32, seed=0):
        rng = np.random.default_rng(seed)
        self.op = Op(function, "cross_attention", broadcasts=False)
        for name in ("wq", "wk", "wv", "wo"):
            value = rng.standard_normal((width, width), dtype=np.float32) / math.sqrt(width)
            setattr(self, name, nn.Parameter(value))

    def forward(self, query, key, *, key_padding_mask=None, mask=None):
        self.seen = query.data, key.data, key_padding_mask  # to draw its map later
        weights = (self.wq, self.wk, self.wv, self.wo)
        return apply(self.op, query, key, *weights, padding=key_padding_mask)


exercise = exercises(27)["cross_attention"]
trial = {"none": cross_attention}
for name in (
    "memory by its keys only", "memory by its values only", "softmax as if elementwise",
    "the future of the source hidden",
):  # fmt: skip
    trial[name] = exercise.mistake(name).function
rows, trained = [], {}
for name, function in trial.items():
    m = with_cross(Own(function))
    curve = train(m, lambda rng: dates(32, rng)[:2], 150)
    error = gradcheck(function, x, memory, *W).error
    trained[name] = float(np.mean(curve[-20:])), verdict(m, held_ids, held_target)[1], error
    rows.append([name, *trained[name]])
table(rows, columns=["mistake", "loss", "dates, alone", "gradient check, error"], digits=3)
assert trained["none"][1] > 0.3
assert (
    trained["the future of the source hidden"][2] < 1e-6 < trained["softmax as if elementwise"][2]
)
assert trained["the future of the source hidden"][1] < 0.5 * trained["none"][1]
assert trained["softmax as if elementwise"][0] > floor
assert trained["memory by its values only"][1] > 0.5 * trained["none"][1]

# %% [markdown]
# Without its softmax term the gradient is so wrong that the model ends above the floor of section 9:
# it would do better without a source. But half a gradient for the memory is forgiven, that by the
# values most of all. The encoder learns more slowly, and no curve says why; only the gradient check
# tells. A causal mask over the memory passes the gradient check, for it has the right gradient of
# another function. It is what is written that tells: the day is written first and read last, and
# position 0 sees one character of the source.

# %% [markdown]
# ## 10. Your turn
#
# Write `cross_attention`, forward and backward, with padding. It returns `(y, vjp)`, and `vjp(dy)`
# returns six gradients, in the order of the arguments.
#
#     scratchlm start 27            # copies the stub into your folder
#     scratchlm check 27 --watch    # checks it each time you save
#     scratchlm hint 27             # three levels
#
# A path that works: forward without padding; backward, in the five steps of section 6; then
# padding, which needs two lines in forward and none in backward; then the text of padding alone.

# %%
print("what the check says if the memory's gradient has one of its two parts:\n")
fault = exercise.check(exercise.mistake("memory by its values only").function).fault
print(fault.what, fault.where, fault.looks_like, fault.hint, sep="\n")

# %% [markdown]
# ## 11. Cost
#
# A decoder layer has one attention more than an encoder layer: $16 C^2$ weights in matrices instead
# of $12 C^2$. A multiplication and an addition for each weight and each position it is used at:
# $W_Q$ and $W_O$ for $T$ positions, $W_K$ and $W_V$ for $S$, and $4TSE$ for scores and mixtures.

# %%
base = {"dropout": 0.0, "rng": 0}
encoder_layer, decoder_layer = (
    kind(512, 8, **base).num_parameters()
    for kind in (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
)
print(f"width 512: encoder layer {encoder_layer:,} parameters = 12 · 512² + 13 · 512")
print(f"           decoder layer {decoder_layer:,} parameters = 16 · 512² + 19 · 512")
assert encoder_layer == 12 * 512**2 + 13 * 512
assert decoder_layer == 16 * 512**2 + 19 * 512
width, s, t = 512, 40, 40
projections, mixing = 2 * width**2 * (2 * t + 2 * s), 4 * t * s * width
print(
    f"40 words to 40 words: projections {projections:,} operations, scores and mixtures {mixing:,}"
)
assert projections > 20 * mixing

# %% [markdown]
# In use, the memory does not change while the decoder writes. So $K$ and $V$ of cross-attention can
# be computed once for a text and kept, in each layer. The library's `greedy` is the plain one: it
# reads the source once, but decodes all tokens again for each new one. Count the rows that go
# through the projections for $K$ and $V$:


# %%
class Counting(nn.MultiHeadAttention):
    """Counts the rows that go through its projections."""

    queries = keys = 0

    def forward(self, query, key, value=None, **masks):
        self.queries += query.shape[-2]
        self.keys += key.shape[-2]
        return super().forward(query, key, value, **masks)


words, n = 12, 40
counting = Counting(32, 1, rng=0)
with_cross(counting).greedy(held_ids[example, :words], start_id=START, max_new_tokens=n)
print(f"rows of the memory projected for {n} tokens: {counting.keys}, and {words} would do")
print(f"rows of the decoder: {counting.queries}, and {n} would do (lesson 30)")
assert counting.keys == words * n
assert counting.queries == n * (n + 1) // 2

# %% [markdown]
# For backward the op keeps q, k, v, o and the weights: $(2T + 2S) E + TS$ numbers for each text,
# besides its inputs. Let us weigh it.

# %%
import tracemalloc

sixteen = np.random.default_rng(0).standard_normal((16, 40, 64), dtype=np.float32)
eye = [np.eye(64, dtype=np.float32) for _ in range(4)]
tracemalloc.start()
result = cross_attention(sixteen, sixteen, *eye)
held = tracemalloc.get_traced_memory()[0] - result[0].nbytes
tracemalloc.stop()
numbers = 16 * ((2 * 40 + 2 * 40) * 64 + 40 * 40)
print(f"kept: {held / 1024:.0f} KiB, counted: {4 * numbers / 1024:.0f} KiB")
assert 0.95 < held / (4 * numbers) < 1.1

# %% [markdown]
# ## 12. Use it
#
# Real data from the standard library. Unicode gives each of the 11,172 Korean syllables a name in
# Latin letters, 한 is HAN; and it can take a syllable apart into its letters, ㅎ ㅏ ㄴ. Learn the
# second from the first: the names of 10,172 syllables, one at a time, with the exercise's op in the
# decoder and a learning rate that falls to 0. The other 1,000 are held out. The alignment is known here, too: consonants before the
# vowel belong to the first letter, the vowel's letters to the second, the rest to the third.

# %%
import re
import unicodedata
from itertools import pairwise

syllables = [chr(0xAC00 + i) for i in range(11172)]
names = [unicodedata.name(s).split()[-1] for s in syllables]
jamo = [unicodedata.normalize("NFD", s) for s in syllables]
LATIN = ["·", *sorted(set("".join(names)))]
KOREAN = ["·", "<", ">", *sorted(set("".join(jamo)))]
all_names, all_jamo = fill(names, LATIN), fill(jamo, KOREAN, [START], [END])
order = np.random.default_rng(27).permutation(len(syllables))
test, training = order[:1000], order[1000:]


def korean(rng):
    batch = rng.choice(training, 64)
    return all_names[batch], all_jamo[batch]


reader = translator(LATIN, KOREAN)
reader.transformer.decoder.layers[0].cross_attn = Own(cross_attention)
curve = train(reader, korean, 450, falling=True)
_, free, real, alone = judge(reader, all_names[test], all_jamo[test])
right = (free | ~real).all(axis=1).mean()
print(f"{len(LATIN) - 1} Latin letters, {len(KOREAN) - 3} Korean ones")
print(f"held-out syllables written without a mistake: {right:.1%}")
for i in test[:4]:
    ids = reader.greedy(all_names[i], start_id=START, max_new_tokens=4, end_id=END)
    text = "".join(KOREAN[j] for j in ids if j > END)
    print(f"  {names[i]:6} → {' '.join(text)} → {unicodedata.normalize('NFC', text)}")
assert right > 0.97  # recorded with seed 0: 1.000

# %% [markdown]
# And where does it look? The op returns no map, but its inputs give it: the weights are those of
# lesson 20's attention on the projected sides.

# %%
cross = reader.transformer.decoder.layers[0].cross_attn
with scratchlm.no_grad():
    reader(all_names[test], all_jamo[test][:, :-1])
stream, memory_seen, filler = cross.seen
_, w = ops.attention(
    (stream @ cross.wq.data.T)[:, None],
    (memory_seen @ cross.wk.data.T)[:, None],
    (memory_seen @ cross.wv.data.T)[:, None],
    mask=~filler[:, None, None, :],
    return_weights=True,
)[0]
w = w[:, 0]  # [1000, T, S]
inside = []
for i, maps in zip(test, w, strict=True):
    vowel = re.search("[AEIOUWY]+", names[i])
    ends = [0, vowel.start(), vowel.end(), len(names[i])]
    for t, (left, right_end) in enumerate(pairwise(ends)):
        if left < right_end:  # a syllable may begin with a silent letter, or end with its vowel
            inside.append(left <= maps[t].argmax() < right_end)
print(
    f"rows whose largest weight lies on their own letters: {np.mean(inside):.1%} of {len(inside)}"
)

shown = [next(i for i in range(1000) if names[test[i]].startswith(first) and len(jamo[test[i]]) == 3
              and len(names[test[i]]) >= 5) for first in "GS"]  # fmt: skip
with style():
    fig, axes = figure(1, 2, width=8.4, height=3.0)
    for ax, i in zip(axes, shown, strict=True):
        name = names[test[i]]
        written = [unicodedata.name(c).split()[-1].lower() for c in jamo[test[i]]]
        plot.attention(w[i, :4, : len(name)], [*written, ">"], keys=list(name), values=False,
                       colorbar=False, title=name, ax=ax)  # fmt: skip
        ax.set(xlabel="read", ylabel="written")
show(fig, alt="Two maps: the letters of a Korean syllable, named at the left, against its Latin name. Each "
              "row is bright at the letters that spell it, from the upper left to the lower right.")  # fmt: skip
assert np.mean(inside) > 0.95

# %% [markdown]
# ## 13. Recap
#
# Three questions. Answer before you read on.
#
# 1. A batch has texts of 12 and 30 words. The decoder gets no padding mask for its own side, only
#    for the memory. Why is that enough, and what must the loss do?
# 2. Your decoder reaches a loss of 0.001 after 100 steps. What do you look at first?
# 3. Ten layers of decoder, and the encoder learns too slowly. Through how many places does it get
#    its gradient?
#
# *1.* Padding stands at the end of the target, and the causal mask hides it from all that is real;
# the loss must leave out the positions that are asked for padding. *2.* The shift, and the causal
# mask: translate one text greedily, and erase the future to see whether the past changes. *3.*
# Ten: the keys and values of each layer's cross-attention, added up. There is no other way.
#
# | English | 中文 |
# |---|---|
# | decoder | 解码器 |
# | encoder–decoder | 编码器–解码器 |
# | cross-attention | 交叉注意力 |
# | memory | 记忆（编码器的输出） |
# | teacher forcing | 教师强制 |
# | shifted target | 右移目标序列 |
# | alignment | 对齐 |
# | exposure bias | 曝光偏差 |
# | greedy decoding | 贪心解码 |
#
# References: Vaswani et al. 2017, *Attention Is All You Need*, §3.1 and §3.2.3. Bahdanau et al.
# 2015, *Neural Machine Translation by Jointly Learning to Align and Translate*. Sutskever et al.
# 2014, *Sequence to Sequence Learning with Neural Networks*. Williams & Zipser 1989, *A Learning
# Algorithm for Continually Running Fully Recurrent Neural Networks*. Bengio et al. 2015,
# *Scheduled Sampling for Sequence Prediction*. Ranzato et al. 2016, *Sequence Level Training with
# Recurrent Neural Networks*. Och & Ney 2003, *A Systematic Comparison of Various Statistical
# Alignment Models*. Koehn & Knowles 2017, *Six Challenges for Neural Machine Translation*. Jain &
# Wallace 2019, *Attention is not Explanation*.
#
# Next: lesson 28 computes attention without ever holding its map.
