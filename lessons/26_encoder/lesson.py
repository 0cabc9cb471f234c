# %% [markdown]
# # 26 · The encoder · 编码器
#
# An encoder reads. It gets a whole text at once, and returns one vector for each word, which knows
# what stands around it. It is a stack of the blocks of lesson 25, and nothing else. So this page is
# about what comes in at the bottom (words, places, and padding), about what goes out at the top,
# and about what the layers in between come to do. You will watch them learn it.

# %% [markdown]
# ## 1. Card
#
# You need masks, heads, positions and the block: lessons 20, 21, 22 and 25. At the end you have
# written a stack of layers that never reads padding, and the mean that goes on top of it; both are
# at work on real words.

# %%
from scratchlm.lessons import card, exercises, figure, show, slider, solution, source, table

card(26)

# %% [markdown]
# ## 2. Hook
#
# Twelve random digits go in, and they should come out in reverse. Nobody says so: the model sees
# 200 batches of 32 pairs, a question and its answer, and has to find out. It is an encoder of two
# layers with one head each, 18,000 numbers in all.

# %%
import math

import numpy as np

from scratchlm import functional as Fn
from scratchlm import nn, no_grad, ops, optim
from scratchlm.interpret import attention_maps, record_attention


class Reader(nn.Module):
    """√C E[ids] + positions, a stack of layers, and a linear layer on every position."""

    def __init__(self, words, layers=2, heads=1, width=32, positions=True, seed=0):
        rng = np.random.default_rng(seed)
        self.tokens = nn.Embedding(words, width, std=1 / math.sqrt(width), rng=rng)
        self.positions = nn.SinusoidalPositions(64, width) if positions else None
        self.encoder = nn.TransformerEncoder(
            width, heads, layers, dim_feedforward=2 * width, dropout=0.0, rng=rng
        )
        self.head = nn.Linear(width, words, rng=rng)
        self.root = math.sqrt(width)

    def bottom(self, ids):
        x = self.tokens(ids) * self.root
        return x if self.positions is None else self.positions(x)

    def forward(self, ids, padding=None):
        return self.head(self.encoder(self.bottom(ids), src_key_padding_mask=padding))


LENGTH, DIGITS, STEPS = 12, 10, 200
exam = np.random.default_rng(99).integers(0, DIGITS, (500, LENGTH))  # never trained on


def right(model):
    """The share of digits of the exam that come out where they should."""
    with no_grad():
        return float((model(exam).data.argmax(-1) == exam[:, ::-1]).mean())


def reversal(model, steps=STEPS, look=None, lr=3e-3):
    """Train on random digits; `look(model)` every tenth step. Returns losses and looks."""
    optimizer, rng = optim.AdamW(model.parameters(), lr=lr), np.random.default_rng(1)
    losses, looks = [], {}
    for step in range(steps + 1):
        if look is not None and step % 10 == 0:
            looks[step] = look(model)
        ids = rng.integers(0, DIGITS, (32, LENGTH))
        loss = Fn.cross_entropy(model(ids), ids[:, ::-1].copy())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    return losses, looks


def maps_and_score(model):
    """The mean map of each layer over 100 texts, and the share of right digits."""
    return [m.mean(axis=(0, 1)) for m in attention_maps(model, exam[:100])], right(model)


model = Reader(DIGITS)
print(f"{model.num_parameters()} parameters")
fresh = right(model)
losses, looks = reversal(model, look=maps_and_score)
pi = np.array([[int(c) for c in "314159265358"]])
with no_grad():
    said = "".join(map(str, model(pi).data.argmax(-1)[0]))
print(f"right digits before: {fresh:.1%}, after {STEPS} steps: {right(model):.1%}")
print(f"314159265358 -> {said}")
assert said == "314159265358"[::-1]
assert right(model) > 0.99

# %% [markdown]
# It has seen some 6,000 of $10^{12}$ sequences, and it is right on new ones. So it has learned the
# rule. In section 8 you see where the rule is kept.

# %% [markdown]
# ## 3. Formula
#
# D3 describes the encoder in words. Its §4.1 names self-attention layers and fully connected
# layers. Its §4.2 lists five steps: a vector for each word; an embedding layer, which is said to
# add nonlinearity; multi-head attention; residual connections and an activation function; repeat.
# No formula is printed. Written as one, the list is
#
# $$
# H_0 = E_x, \quad H_l = \mathrm{ReLU}(H_{l-1} + A_l(H_{l-1})), \quad l = 1 \ldots L
# $$
#
# (which activation, and that it stands behind the sum, is our reading). The published encoder
# (Vaswani et al. 2017, §3.1, §3.4, §3.5) is
#
# $$
# H_0 = \sqrt{C} \, E_x + P, \quad H_l = \mathrm{layer}_l(H_{l-1}), \quad l = 1 \ldots L
# $$
#
# $$
# \mathrm{layer}(X) = \mathrm{LN}(U + F(U)), \quad U = \mathrm{LN}(X + A(X))
# $$
#
# Where one vector is wanted for the whole text, its $n$ words are averaged (Reimers & Gurevych
# 2019, §3):
#
# $$
# y_c = \frac{1}{n} \sum_{i \, \text{real}} H_{L,ic}
# $$
#
# | symbol | variable | shape | what it is |
# |---|---|---|---|
# | $x$ | `ids` | `[..., N]` | the numbers of the words |
# | $E$ | `tokens` | `[V, C]` | a row for each word of the vocabulary |
# | $E_x$ | `tokens(ids)` | `[..., N, C]` | a row for each position |
# | $P$ | `positions` | `[N, C]` | where a word stands (lesson 22) |
# | $A$, $F$ | in `layer` | `[..., N, C]` to the same | attention, feed-forward network |
# | $H_l$ | `h` | `[..., N, C]` | what is known after $l$ layers |
# | | `padding` | `[..., N]` | True where a row only fills up the batch |
# | $n$ | `n` | `[..., 1]` | how many words there are |
# | $y$ | `y` | `[..., C]` | the text as one vector |
#
# What differs:
#
# 1. **There are no positions** in the list. Section 9 computes how much the best encoder
#    without them can get right.
# 2. **An embedding adds no nonlinearity.** It picks rows of a table, and that is a product with a
#    matrix of ones and zeros: $E_x = O E$. The nonlinearity comes later.
# 3. The list of §4.2 has no feed-forward network (§4.1 has one), and no norm.
# 4. $\sqrt{C}$ brings the table to the size of the positions. Its entries start with a variance of
#    $1/C$, because in many models the same table is used as the output layer.
# 5. Nobody prints the padding. Sentences have different lengths and a batch has one, so something
#    must fill up the rest. Everything that can go wrong with an encoder goes wrong there.

# %%
tiny_table = np.arange(12.0).reshape(4, 3)
tiny_ids = np.array([2, 0, 2])
one_hot = np.eye(4)[tiny_ids]  # O: [3, 4]
print(one_hot @ tiny_table)
assert (one_hot @ tiny_table == tiny_table[tiny_ids]).all()

# %% [markdown]
# ## 4. By hand
#
# Two words with three features. The layer is one you can do on paper: all scores are equal, so
# attention is the mean of all visible rows, and there is no feed-forward network. Then the same
# text in a batch with a longer one: a row of padding has been added. A padding token has a row in
# the table as any other word, here $(2, 1, 4)$.

# %%
X = np.array([[1.0, 0, 2], [3, 2, 0]])  # [2, 3]
PAD = np.array([[2.0, 1, 4]])


def LN(x):
    return ops.layer_norm(x, np.ones(3), np.zeros(3))[0]


def say(name, value):
    rows = ["(" + " ".join(f"{v + 0.0:7.4f}" for v in row) + ")" for row in np.atleast_2d(value)]
    print(f"  {name:10} " + "  ".join(rows))
    return value


def by_hand(x, seen, averaged):
    """Attention sees `seen` rows, and the mean at the end takes `averaged`."""
    a = say("attention", x[:seen].mean(axis=0))
    s = say("x + a", x + a)
    h = say("LN", LN(s))
    return say("mean", h[:averaged].mean(axis=0))


padded = np.concatenate([X, PAD])  # [3, 3]
print("the text alone")
alone = by_hand(X, 2, 2)
print("padded, and nothing is done about it")
leaky = by_hand(padded, 3, 3)
print("padded, a mask in attention, the mean over all rows")
half = by_hand(padded, 2, 3)
print("padded, a mask in attention, the mean over the words")
whole = by_hand(padded, 2, 2)

assert np.allclose(alone, [0.9659, -0.7071, -0.2588], atol=1e-4)
assert np.allclose(whole, alone, rtol=0, atol=0)
assert np.abs(leaky - alone).max() > 0.4 < np.abs(half - alone).max()

# %% [markdown]
# Look at the four means. A text must not get another vector because its neighbor in the batch is
# longer. It takes both: the mask in every layer, and the mean over the words only. The padded row
# itself is computed along, in vain, and nobody reads it.

# %% [markdown]
# ## 5. In code
#
# The mean, three times: with loops, with arrays (this is the solution), and with the library's
# tensors.

# %%
masked_mean = solution(26).masked_mean
encoder = solution(26).encoder

rng = np.random.default_rng(5)
x = rng.standard_normal((2, 4, 3))  # two texts, four positions, three features
padding = np.array([[False, False, True, True], [False, False, False, True]])


def mean_loops(x, padding):
    y = np.zeros((len(x), x.shape[-1]))
    for b in range(len(x)):
        n = 0
        for i in range(x.shape[1]):
            if not padding[b, i]:
                y[b] += x[b, i]
                n += 1
        y[b] /= n
    return y


def mean_tensors(x, padding):
    real = ~padding[..., None]
    return (x * real).sum(axis=-2) / real.sum(axis=-2)


source(solution(26).masked_mean)

# %%
from scratchlm import Tensor

y, vjp = masked_mean(x, padding=padding)
for name, other in {
    "loops": mean_loops(x, padding),
    "tensors": mean_tensors(Tensor(x), padding).data,
}.items():
    print(f"{name:8} differ from the solution by {np.abs(other - y).max():.0e}")
    assert np.abs(other - y).max() < 1e-15

# %% [markdown]
# The stack. Below, the library's, and how its attention turns the padding into a mask. Then the
# solution; `layer` is given in the exercise.

# %%
from scratchlm.nn.attention import with_padding

source(nn.TransformerEncoder.forward)
source(with_padding)
source(solution(26).encoder)

# %%
C, D, HEADS, L = 4, 6, 2, 3
SHAPES = [(C, C)] * 4 + [(D, C), (D,), (C, D), (C,)] + [(C,)] * 4
W = [0.5 * rng.standard_normal(shape) for _ in range(L) for shape in SHAPES]
x = rng.standard_normal((2, 4, C))

library = nn.TransformerEncoder(C, HEADS, L, dim_feedforward=D, dropout=0.0, dtype=np.float64)
PLACES = [f"self_attn.{p}_proj.weight" for p in ("q", "k", "v", "out")]
PLACES += [f"feed_forward.fc{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")]
PLACES += [f"norm{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")]
state = {name: np.zeros_like(value) for name, value in library.state_dict().items()}
names = [f"layers.{number}.{place}" for number in range(L) for place in PLACES]
library.load_state_dict({**state, **dict(zip(names, W, strict=True))})

y, vjp = encoder(x, *W, heads=HEADS, padding=padding)
distance = np.abs(y - library(x, src_key_padding_mask=padding).data).max()
print(f"three layers, two heads, padding: differs from the library by {distance:.0e}")
assert distance < 1e-13

# %% [markdown]
# ## 6. Backward, derived
#
# From the top to the bottom: the mean, the stack, the padding inside of it, the table of words. At
# each step central differences have to agree.


# %%
def slopes(f, x, h=1e-6):
    """The central difference of the number f(x) for each element of x."""
    out = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[index] = h
        out[index] = (f(x + step) - f(x - step)) / (2 * h)
    return out


def agree(name, mine, measured):
    worst = np.abs(mine - measured).max()
    assert worst < 1e-7  # rounding over the step, 1e-16 / 1e-6, with room for the sums
    print(f"{name}: largest difference from the slopes {worst:.0e}")


# %% [markdown]
# ### Step 1: the mean over the words
#
# Write $m_i = 1$ for a word and $m_i = 0$ for padding. Then $n = \sum_i m_i$, and
#
# $$
# y_c = \frac{1}{n} \sum_i m_i x_{ic}, \quad \frac{\partial y_c}{\partial x_{ie}} = \frac{m_i}{n}
# \delta_{ce}
# $$
#
# The chain rule sums over $c$, and $\delta$ leaves one summand:
#
# $$
# dx_{ie} = \sum_c dy_c \frac{m_i}{n} \delta_{ce} = \frac{m_i}{n} dy_e
# $$
#
# In matrix form $n \, y = m^T x$ and $n \, dx = m \, dy$, a column times a row. Every word gets the
# same, and padding gets 0.

# %%
dy = rng.standard_normal((2, C))
real = ~padding[..., None]  # m: [2, 4, 1]
n = real.sum(axis=-2)  # [2, 1]

dx = np.where(real, (dy / n)[:, None, :], 0)  # dx_ie = m_i dy_e / n

agree("dx", dx, slopes(lambda x: (dy * masked_mean(x, padding=padding)[0]).sum(), x))
assert (dx == masked_mean(x, padding=padding)[1](dy)).all()

# %% [markdown]
# ### Step 2: the stack
#
# $H_l$ is read by layer $l + 1$ and by nobody else. So its gradient comes from there alone, and no
# sum is needed. With $G_l$ for the gradient of $H_l$, layer $l$ gives two things:
#
# $$
# G_{l-1} = G_l \frac{\partial H_l}{\partial H_{l-1}}, \quad dW_l = G_l \frac{\partial
# H_l}{\partial W_l}, \quad l = L, L-1, \ldots, 1
# $$
#
# $G_L$ is what comes in, and $dx = G_0$. Layer $L$ is the last of forward and the first of backward.
# Each factor was fixed when layer $l$ ran, at the $H_{l-1}$ of that moment, and that is why each
# `vjp` must be kept: $L$ of them, not the last one.

# %%
push = rng.standard_normal(x.shape)
layer = solution(26).layer
mask = ~padding[..., None, None, :]  # [2, 4] -> [2, 1, 1, 4]

h, kept = x, []
for l in range(L):
    h, vjp_l = layer(h, *W[12 * l : 12 * l + 12], heads=HEADS, mask=mask)
    kept.append(vjp_l)

G, dW = push, {}
for l in (2, 1, 0):  # G_l -> G_(l-1)
    G, *dW[l] = kept[l](G)


def pushed(x, *W):
    return (push * encoder(x, *W, heads=HEADS, padding=padding)[0]).sum()


agree("dx ", G, slopes(lambda x: pushed(x, *W), x))
agree("dWq of layer 1", dW[0][0], slopes(lambda w: pushed(x, w, *W[1:]), W[0]))
mine = encoder(x, *W, heads=HEADS, padding=padding)[1](push)
assert all(
    (a == b).all() for a, b in zip(mine, (G, *dW[0], *dW[1], *dW[2]), strict=True)
)  # the same calls: not even the last bit differs

# %% [markdown]
# ### Step 3: what padding gets
#
# Lesson 20 has the gradients of masked attention. Let $m$ be a key at padding, so $A_{nm} = 0$ for
# every query $n$. Then, line by line:
#
# $$
# \begin{aligned}
# dv_m &= \sum_n A_{nm} \, dy_n = 0 \\
# dS_{nm} &= A_{nm} \left( dA_{nm} - \sum_j A_{nj} dA_{nj} \right) = 0 \\
# dk_m &= \frac{1}{\sqrt{d}} \sum_n dS_{nm} \, q_n = 0
# \end{aligned}
# $$

# %%
q, k, v = (rng.standard_normal((1, 4, 2)) for _ in range(3))  # one head, four positions
seen = np.array([True, True, False, False])  # keys 2 and 3 are padding
(_, A), vjp = ops.attention(q, k, v, mask=seen, return_weights=True)
dy1 = rng.standard_normal((1, 4, 2))
dv = A.swapaxes(-1, -2) @ dy1  # dv_m = Σ_n A_nm dy_n
dA = dy1 @ v.swapaxes(-1, -2)
dS = A * (dA - (dA * A).sum(axis=-1, keepdims=True))
dk = dS.swapaxes(-1, -2) @ q / math.sqrt(2)  # dk_m = Σ_n dS_nm q_n / √d
print("dv:", dv[0].round(3).tolist())
print("dk:", dk[0].round(3).tolist())
theirs = vjp(dy1, None)
assert np.allclose(dk, theirs[1], atol=1e-14)
assert np.allclose(dv, theirs[2], atol=1e-14)
assert (dv[0, 2:] == 0).all()
assert (dk[0, 2:] == 0).all()

# %% [markdown]
# So no word sends a gradient to padding. What a padded row does get comes from itself: its query,
# its residual, its feed-forward network. All of these hand on $G_{l,m}$, the row's own gradient, and
# $0$ stays $0$. At the top the mean has set it to 0 (step 1). Hence
#
# $$
# G_{L,m} = 0 \Rightarrow G_{L-1,m} = 0 \Rightarrow \ldots \Rightarrow G_{0,m} = 0
# $$
#
# This is exact. No rounding comes into it, since every product has a factor that is exactly 0.

# %%
H, vjp_stack = encoder(x, *W, heads=HEADS, padding=padding)
_, vjp_mean = masked_mean(H, padding=padding)
dx = vjp_stack(vjp_mean(dy))[0]
print("gradient of the rows at padding:", np.abs(dx[padding]).max())
print("gradient of the words, largest: ", np.abs(dx[~padding]).max().round(4))
assert (dx[padding] == 0).all()
assert (np.abs(dx[~padding]).max(axis=-1) > 0).all()

changed = x.copy()
changed[padding] = 1e6  # forward says the same
again = encoder(changed, *W, heads=HEADS, padding=padding)[0]
assert (again[~padding] == H[~padding]).all()

# %% [markdown]
# ### Step 4: words and places
#
# $$
# H_{0,bic} = \sqrt{C} \, E_{x_{bi} c} + P_{ic}
# $$
#
# for text $b$. The row of word $v$ is used wherever $x_{bi} = v$. The row of place $i$ is used once
# in each text. Uses add up:
#
# $$
# dE_{vc} = \sqrt{C} \sum_{b,i : \, x_{bi} = v} G_{0,bic}, \quad dP_{ic} = \sum_b G_{0,bic}
# $$
#
# With the ones and zeros $O$ of section 3: $dE = \sqrt{C} \, O^T G_0$. Both sums are what a student
# forgets: the first if `dE[ids] += G` is used, which adds once for each *different* word.

# %%
ids = np.array([[1, 4, 1, 0], [1, 2, 3, 0]])  # the word 1 occurs three times; 0 is padding
E, P = rng.standard_normal((5, C)), rng.standard_normal((4, C))
G0 = rng.standard_normal((2, 4, C))

dE = np.zeros_like(E)
np.add.at(dE, ids, math.sqrt(C) * G0)  # adds as often as a word occurs
dP = G0.sum(axis=0)

agree("dE", dE, slopes(lambda E: (G0 * (math.sqrt(C) * E[ids] + P)).sum(), E))
agree("dP", dP, slopes(lambda P: (G0 * (math.sqrt(C) * E[ids] + P)).sum(), P))
O = np.eye(5)[ids.ravel()]  # [8, 5]
assert np.allclose(dE, math.sqrt(C) * O.T @ G0.reshape(8, C), rtol=1e-14, atol=1e-14)
lost = np.zeros_like(E)
lost[ids] += math.sqrt(C) * G0
assert np.abs(lost - dE)[1].max() > 0.1

# %% [markdown]
# ### Step 5: what a stack without positions cannot tell
#
# Put the rows of $X$ into another order: $X^{\prime}_n = X_{\pi(n)}$. Queries, keys and values are
# made row by row, so they move along. The scores:
#
# $$
# S^{\prime}_{nm} = \frac{1}{\sqrt{d}} \, q_{\pi(n)} \cdot k_{\pi(m)} = S_{\pi(n) \pi(m)}
# $$
#
# Softmax divides each row by its sum, and a sum has no order: $A^{\prime}_{nm} = A_{\pi(n)
# \pi(m)}$. Then
#
# $$
# y^{\prime}_n = \sum_m A_{\pi(n) \pi(m)} v_{\pi(m)} = \sum_j A_{\pi(n) j} v_j = y_{\pi(n)}
# $$
#
# where $j = \pi(m)$ runs over the same positions as $m$. Norm, residual and feed-forward network
# work row by row. So a layer hands the new order on, and so does a stack: in matrix form,
#
# $$
# \mathrm{encoder}(\Pi X) = \Pi \, \mathrm{encoder}(X)
# $$
#
# The mean over the words drops even that: a shuffled sentence has the same $y$.

# %%
order = np.array([2, 0, 3, 1])
_, A = ops.attention(q, k, v, return_weights=True)[0]
y2, A2 = ops.attention(q[:, order], k[:, order], v[:, order], return_weights=True)[0]
assert np.allclose(A2, A[:, order][:, :, order], atol=1e-15)  # A'_nm = A_π(n)π(m)
assert np.allclose(y2, (A @ v)[:, order], atol=1e-15)  # y'_n = y_π(n)

straight = encoder(x, *W, heads=HEADS)[0]
shuffled = encoder(x[:, order], *W, heads=HEADS)[0]
distance = np.abs(shuffled - straight[:, order]).max()
print(f"shuffle first, or shuffle last: {distance:.0e}")
assert distance < 1e-13

# %% [markdown]
# ## 7. Gradient check, live
#
# Both exercises in one function: a stack, and the mean on top of it, which is what a classifier
# reads. The table is that of one layer, with its 13 inputs; three layers with 37 are checked, too.

# %%
from scratchlm import gradcheck, plot
from scratchlm.gradcheck import error_by_step


def stack_and_mean(x, *W):
    h, vjp_h = encoder(x, *W, heads=HEADS, padding=padding)
    y, vjp_y = masked_mean(h, padding=padding)
    return y, lambda dy: vjp_h(vjp_y(dy))


report = gradcheck(stack_and_mean, x, *W[:12])
print(report)
assert report
assert gradcheck(stack_and_mean, x, *W)

# %% [markdown]
# The error against the step, for one layer and for three. Each layer bends what the one before it
# has bent. Before you run it: which arm of the V does that lift, the left one (rounding) or the
# right one (third derivatives)?

# %%
curves = {}
for name, function, arrays in (
    ("one layer, mean", stack_and_mean, (x, *W[:12])),
    ("three layers, mean", stack_and_mean, (x, *W)),
):
    steps, curves[name] = error_by_step(function, *arrays, wrt=[0], steps=np.logspace(-1, -12, 23))
ax = plot.gradcheck_curve(steps, curves, title="Error against step")
show(ax, alt="Error against step, both axes logarithmic. Both curves are V-shaped. On the left that of "
             "three layers lies higher some forty times; on the right they nearly meet.")  # fmt: skip
best = {name: steps[errors.argmin()] for name, errors in curves.items()}
table(
    [[name, f"{best[name]:.0e}", f"{errors.min():.0e}"] for name, errors in curves.items()],
    columns=["function", "best step", "error there"],
)
coarse = np.abs(np.log(steps / 1e-3)).argmin()
assert curves["three layers, mean"][coarse] > curves["one layer, mean"][coarse]
fine = steps < 1e-6
lifted = np.median(curves["three layers, mean"][fine] / curves["one layer, mean"][fine])
gradients = [np.abs(stack_and_mean(x, *arrays)[1](dy)[0]).max() for arrays in (W[:12], W)]
print(f"the left arm is lifted {lifted:.0f} times; the largest gradient of x is "
      f"{gradients[0]:.3f} for one layer, {gradients[1]:.3f} for three")  # fmt: skip
assert max(errors.min() for errors in curves.values()) < 1e-7
assert lifted > 10
assert gradients[0] > 10 * gradients[1]

# %% [markdown]
# The left one. The gradient that comes down through three layers is much smaller here, and rounding
# is not: the same rounding is a larger share of it. The right arm is hardly lifted, since there the
# error shrinks together with the gradient.

# %% [markdown]
# ## 8. See it
#
# ### The rule appears
#
# While the model of section 2 was trained, its maps were kept every ten steps: means over 100
# texts. To write digit $n$ it needs the digit at $11 - n$. Before you look: what must the map of a
# layer look like that fetches it? And must both layers have it?

# %%
from scratchlm.plot import style

FRAMES = [0, 50, 80, 110, 140, 200]
with style():
    fig, axes = figure(2, 6, width=9.6, height=3.7, sharex=True, sharey=True)
    for column, step in enumerate(FRAMES):
        for number in (0, 1):
            ax = axes[number][column]
            ax.imshow(looks[step][0][number], cmap="cividis", vmin=0, vmax=1)
            ax.set(xticks=[0, 11], yticks=[0, 11])
        axes[0][column].set_title(f"step {step}")
        axes[1][column].set_xlabel("key")
    for number in (0, 1):
        axes[number][0].set_ylabel(f"layer {number + 1}\nquery")
    bar = fig.colorbar(axes[0][0].images[0], ax=axes, shrink=0.8)
    bar.set_label("attention weight")
show(fig, alt="Twelve attention maps, two layers at six steps. At step 0 all are even. The upper row "
              "becomes a broad pale band from corner to corner and stays so. The lower row has two "
              "pale corners at step 50, a band at step 80, and a sharp bright anti-diagonal from step "
              "110 on.")  # fmt: skip

# %% [markdown]
# The second layer learns the anti-diagonal: query 0 looks at key 11, query 1 at key 10. It begins
# at the corners (step 50: "the other end"), becomes a band, and then a line. The first layer stops
# at the band. Is it needed? Let us take the attention of one layer away from the trained model, by
# setting its last matrix to 0.

# %%
without = {}
for number, block in enumerate(model.encoder.layers, start=1):
    weight = block.self_attn.out_proj.weight
    kept_weight, weight.data = weight.data, np.zeros_like(weight.data)
    without[number] = right(model)
    weight.data = kept_weight
    print(f"without the attention of layer {number}: {without[number]:.1%} of the digits are right")
assert without[1] > 0.9 > 0.3 > without[2]

# %% [markdown]
# One sharp layer is nearly enough. A map tells where a layer looks; only taking it away tells
# whether anything depends on it.
#
# Here is the map of layer 2, alone and larger. Move the slider: over how many keys does a query
# spread its weight at step 80, at 100, at 140? And is the line straight from the beginning?


# %%
@style()
def at_step(step):
    return plot.attention(looks[step][0][1], title=f"layer 2 after {step} steps")


def in_words(step):
    maps, score = looks[step]
    return (
        f"Attention map of layer 2 after {step} steps: {on_the_anti_diagonal(maps[1]):.2f} of the "
        f"weight lies on the anti-diagonal, and {score:.0%} of the digits are right."
    )


def on_the_anti_diagonal(m):
    return float(np.trace(m[:, ::-1]) / len(m))


TURNS = [0, 20, *range(40, 130, 10), 140, 200]
slider(TURNS, at_step, label="training step", alt=in_words, start=7)

# %% [markdown]
# Two curves tell when. Left: how much weight lies on the
# anti-diagonal. Right: how many digits are right, beside two other models, which are explained in
# section 9. Before you run it: does the rule grow evenly, or does it come at once?


# %%
class Printed(Reader):
    """The list of D3 §4.2: no positions, no norm, no feed-forward; a ReLU behind the sum."""

    def __init__(self, words, layers=2, heads=1, width=32, positions=False, seed=0):
        super().__init__(words, layers, heads, width, positions, seed)
        rng = np.random.default_rng(seed)
        self.encoder = nn.ModuleList(
            nn.MultiHeadAttention(width, heads, rng=rng) for _ in range(layers)
        )

    def forward(self, ids, padding=None):
        h = self.bottom(ids)
        for attention in self.encoder:
            h = Fn.relu(h + attention(h))
        return self.head(h)


others = {
    "no positions": Reader(DIGITS, positions=False),
    "as printed": Printed(DIGITS),
    "as printed, with positions": Printed(DIGITS, positions=True),
}
ends, histories = {"positions": np.mean(losses[-20:])}, {"positions": looks}
for name, other in others.items():
    found, histories[name] = reversal(other, look=maps_and_score)
    ends[name] = np.mean(found[-20:])


LOOKS = {
    "positions": ("o-", "#0072B2"),
    "no positions": ("^:", "#009E73"),
    "as printed": ("s--", "#D55E00"),
}
with style():
    fig, (left, right_side) = figure(1, 2, width=8.8, height=3.6)
    for number, look in ((0, "s--"), (1, "o-")):
        weight = [on_the_anti_diagonal(maps[number]) for maps, _ in looks.values()]
        left.plot(list(looks), weight, look, label=f"layer {number + 1}", markersize=3)
    left.axhline(1 / LENGTH, color="#8a8a8a", linewidth=1)
    left.text(200, 1 / LENGTH - 0.015, "even", va="top", ha="right", color="#5a5a5a")
    left.set(xlabel="step", ylabel="mean weight on the anti-diagonal", ylim=(0, 1.02),
             title="The rule, in the map")  # fmt: skip
    for name, (look, color) in LOOKS.items():
        scores = [score for _, score in histories[name].values()]
        right_side.plot(list(looks), scores, look, color=color, label=name, markersize=3)
    right_side.set(xlabel="step", ylabel="right digits (share)", ylim=(0, 1.02),
                   title="What comes of it")  # fmt: skip
    for ax in (left, right_side):
        ax.grid(True)
        ax.legend()
show(fig, alt="Left: the weight of layer 2 on the anti-diagonal is at the even value of 0.08 for some "
              "forty steps, then rises to 0.9 within ninety; layer 1 ends below 0.2. Right: with "
              "positions the share of right digits rises to 1 in the same steps; without positions and "
              "as printed it stays at about 0.27.")  # fmt: skip

final = [on_the_anti_diagonal(m) for m in looks[STEPS][0]]
print(f"on the anti-diagonal at the end: layer 1 {final[0]:.2f}, layer 2 {final[1]:.2f}")
assert final[1] > 0.8 > 0.4 > final[0]
assert on_the_anti_diagonal(looks[0][0][1]) < 0.15

# %% [markdown]
# ### Words, and an anti-diagonal that moves
#
# Now words of Python's help texts, 3 to 12 letters long, in batches with padding (gray). The last letter
# of a word is not at a fixed place any more: query $n$ must look at $\text{length} - 1 - n$, and
# nobody tells the length. Before you run it: what can layer 1 do for layer 2?

# %%
import re

from scratchlm import data

letters = "abcdefghijklmnopqrstuvwxyz"
vocabulary = sorted(set(re.findall(r"\b[a-z]{3,12}\b", data.load("topics"))))
vocabulary = [word for word in vocabulary if word != word[::-1]]  # "level" is its own reversal
np.random.default_rng(0).shuffle(vocabulary)
held_out, known = vocabulary[:600], vocabulary[600:]
print(f"{len(known)} words to learn from, {len(held_out)} held out, such as", *held_out[:4])


def batch(words, columns=0):
    """ids [B, N], 0 where there is padding; N is the longest word, or more."""
    longest = max(columns, *map(len, words))
    ids = np.zeros((len(words), longest), int)
    for row, word in zip(ids, words, strict=True):
        row[: len(word)] = [1 + letters.index(c) for c in word]
    return ids, ids == 0


speller = Reader(27, heads=2)
optimizer, draw = optim.AdamW(speller.parameters(), lr=3e-3), np.random.default_rng(1)
for _ in range(450):
    words = [known[i] for i in draw.integers(0, len(known), 32)]
    (ids, blank), (answer, _) = batch(words), batch([word[::-1] for word in words])
    loss = Fn.cross_entropy(speller(ids, blank), answer, ignore_index=0)  # padding is not asked
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

ids, blank = batch(held_out)
answer, _ = batch([word[::-1] for word in held_out])
with no_grad():
    correct = speller(ids, blank).data.argmax(-1) == answer
letters_right = float(correct[~blank].mean())
print(f"letters right in words never seen: {letters_right:.1%}")
assert letters_right > 0.9

# %%
shown = [next(w for w in held_out if len(w) == size) for size in (5, 8, 11)]
with style():
    fig, axes = figure(1, 3, width=9.6, height=3.6)
    pictures = []
    for ax, word in zip(axes, shown, strict=True):
        with no_grad(), record_attention(speller) as recorded:
            speller(*batch([word], 12))
        pictures.append(list(recorded.values())[1][0][0].mean(axis=0))  # layer 2, both heads
        marks = list(word) + ["·"] * (12 - len(word))
        plot.attention(pictures[-1], marks, title=f"{word}, layer 2", ax=ax, colorbar=False)
show(fig, alt="Three maps of twelve by twelve, for words of 5, 8 and 11 letters. The bright "
              "anti-diagonal runs from the first letter as a query to the last letter as a key. "
              "The columns at padding are gray: their weight is exactly 0.")  # fmt: skip
for word, picture in zip(shown, pictures, strict=True):
    size = len(word)
    share = on_the_anti_diagonal(picture[:size, :size])
    print(
        f"{word:12} weight on its anti-diagonal {share:.2f}, on padding {picture[:, size:].sum()}"
    )
    assert share > 0.4
    assert (picture[:, size:] == 0).all()

# %% [markdown]
# The anti-diagonal moves with the length. So layer 2 knows the length, and somebody must have told
# it. Let us ask the vectors: can the length be read off a letter's vector by a linear layer (least
# squares), before layer 1 and after it? The measure is $R^2$ on held-out words, 1 for perfect and 0
# for no better than the mean.


# %%
def readable_length(vectors, words):
    """R² of the length, read by least squares off the vector of each first letter."""
    rows = np.concatenate([vectors[:, 0], np.ones((len(words), 1))], axis=1)
    sizes = np.array([len(word) for word in words], float)
    half = len(words) // 2
    weights = np.linalg.lstsq(rows[:half], sizes[:half], rcond=None)[0]
    error = ((rows[half:] @ weights - sizes[half:]) ** 2).sum()
    return 1 - error / ((sizes[half:] - sizes[:half].mean()) ** 2).sum()


with no_grad():
    before = speller.bottom(ids)
    after = speller.encoder.layers[0](before, src_key_padding_mask=blank)
r2 = [readable_length(vectors.data, held_out) for vectors in (before, after)]
print(
    f"R² of the length in the first letter's vector: before layer 1 {r2[0]:.2f}, after {r2[1]:.2f}"
)
assert r2[0] < 0.3
assert r2[1] > 0.7

# %% [markdown]
# Before layer 1 a letter knows itself and its place. After it, it knows the length. (Attention takes
# a mean over the words, padding left out. A mean over places $0 \ldots n - 1$ is a different vector
# for each $n$.) This is what a stack is for: one layer finds out, and the next one uses it.

# %% [markdown]
# ## 9. Break it
#
# ### As printed: no positions
#
# Step 5 of section 6 says what a stack without positions knows when it writes place $n$: the digit
# that stands there, and which other digits there are, in no order. The digit it should write is one
# of the other eleven, each as likely as the next. So the best it can do is to name the most frequent
# of these, and the best loss is the entropy of their frequencies. Both can be computed, with no
# model at all. Before you look: how near will the two models come?

# %%
others_of = exam[:, 1:]  # eleven digits: any eleven are like any other eleven
counts = np.stack([(others_of == digit).sum(axis=1) for digit in range(DIGITS)], axis=1)
share = counts / (LENGTH - 1)
ceiling = float(share.max(axis=1).mean())
floor = float(-(share * np.log(np.where(share > 0, share, 1))).sum(axis=1).mean())
rows = [
    [name, float(ends[name]), histories[name][STEPS][1]]
    for name in ("as printed", "no positions", "as printed, with positions", "positions")
]
table(
    [*rows[:2], ["the best without positions", floor, ceiling], *rows[2:]],
    columns=["model", "loss, mean of the last 20", "right digits"],
    digits=3,
)
for name in ("as printed", "no positions"):
    assert abs(histories[name][STEPS][1] - ceiling) < 0.04
    assert floor - 0.03 < ends[name] < floor + 0.25
assert histories["as printed, with positions"][STEPS][1] > ceiling + 0.3

# %% [markdown]
# Both come to the ceiling, and no training will lift them over it. The printed list needs nothing but
# positions to get over it; norm and feed-forward network make it faster and better. Here is the same
# said by one text. Two digits change places, far from place 0. Does the answer at place 0 change,
# and the vector there?

# %%
blind = others["no positions"]
text = np.array([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]])
swapped = text.copy()
swapped[0, [7, 11]] = text[0, [11, 7]]  # the last digit is what place 0 should answer
with no_grad():
    for name, one in (("no positions", blind), ("positions", model)):
        first, second = (one.encoder(one.bottom(t)).data[0, 0] for t in (text, swapped))
        moved = np.abs(first - second).max()
        print(f"{name:14} the vector at place 0 moves by {moved:.0e}")
        assert (moved < 1e-5) == (name == "no positions")

# %% [markdown]
# ### Padding leaks
#
# For the mistakes we take a task in which the whole text gets one answer: is this word written
# forward, or in reverse? Half of each batch are words as they are, half are reversed. The model is
# made of the exercise: a stack, and a mean on top. The letters are the same, so it must read their
# order.

# %%
from scratchlm.registry import Op
from scratchlm.tensor import apply


class Direction(Reader):
    """The two exercises, and a linear layer with two answers: 0 forward, 1 reversed."""

    def __init__(self, pool=masked_mean, stack=encoder, layers=2, positions=True, seed=0):
        super().__init__(27, 0, positions=positions, seed=seed)
        width, rng = 32, np.random.default_rng(seed + 1)
        self.stack, self.pool = (Op(f, f.__name__, broadcasts=False) for f in (stack, pool))
        self.head = nn.Linear(width, 2, rng=rng)
        shapes = [(width, width)] * 4 + [(2 * width, width), (2 * width,), (width, 2 * width)]
        shapes += [(width,)] * 5
        for number in range(12 * layers):
            shape = shapes[number % 12]
            value = np.full(shape, float(number % 12 in (8, 10)), np.float32)  # the gains are 1
            if len(shape) == 2:
                value = rng.standard_normal(shape, dtype=np.float32) / math.sqrt(3 * shape[1])
            setattr(self, f"w{number}", nn.Parameter(value))
        self.names = [f"w{number}" for number in range(12 * layers)]

    def forward(self, ids, blank):
        weights = [getattr(self, name) for name in self.names]
        h = apply(self.stack, self.bottom(ids), *weights, heads=2, padding=blank)
        return self.head(apply(self.pool, h, padding=blank))


def learn_direction(model, steps, words=16):
    optimizer, draw, losses = optim.AdamW(model.parameters(), lr=3e-3), np.random.default_rng(1), []
    for _ in range(steps):
        forward = [known[i] for i in draw.integers(0, len(known), words)]
        ids, blank = batch(forward + [word[::-1] for word in forward])
        loss = Fn.cross_entropy(model(ids, blank), np.repeat([0, 1], words))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    return float(np.mean(losses[-30:]))


def answers(model, asked=held_out, columns=0):
    """For held-out words, as they are and reversed: the probability of "reversed", [2, words].

    In batches of `columns` letters; 0: beside words of the same length, so without padding.
    """
    found = np.zeros((2, len(asked)))
    sizes = np.array([len(word) for word in asked])
    with no_grad():
        for size in sorted(set(sizes)) if columns == 0 else [sizes]:
            chosen = np.flatnonzero(sizes == size)
            words = [asked[i] for i in chosen]
            for side, group in enumerate((words, [word[::-1] for word in words])):
                logits = model(*batch(group, columns))
                found[side, chosen] = Fn.softmax(logits).data[:, 1]
    return found


def accuracy(found):
    return float(((found > 0.5) == [[False], [True]]).mean())


pool_mistake = exercises(26)["masked_mean"].mistake
stack_mistake = exercises(26)["encoder"].mistake
trials = {"none": {}}
for name in ("mean over all", "gradient not divided"):
    trials[name] = {"pool": pool_mistake(name).function}
for name in (
    "padding not masked", "queries masked", "mask inverted",
    "last layer's vjp for all", "backward in the order of forward", "gradients last layer first",
):  # fmt: skip
    trials[name] = {"stack": stack_mistake(name).function}

rows, told = [], {}
for name, parts in trials.items():
    trained = Direction(**parts)
    loss = learn_direction(trained, 110)
    alone, far = answers(trained, held_out[:300]), answers(trained, held_out[:300], 60)
    flipped = float(((alone > 0.5) != (far > 0.5)).mean())
    pool, stack = parts.get("pool", masked_mean), parts.get("stack", encoder)
    error = max(
        gradcheck(lambda x, f=pool: f(x, padding=padding), x).error,
        gradcheck(
            lambda *a, f=stack: f(*a, heads=2, padding=padding), x, *W[:24], wrt=[0, 1]
        ).error,
    )
    told[name] = loss, accuracy(alone), accuracy(far), flipped, error
    rows.append([name, *told[name]])
table(
    rows,
    columns=["mistake", "loss", "right: alone", "padded to 60", "other answer", "gradient check"],
    digits=2,
)
leaks = ("mean over all", "padding not masked", "queries masked", "mask inverted")
for name in trials:
    assert (told[name][3] > 0.04) == (name in leaks)
    assert (told[name][4] > 0.1) == (name not in ("none", *leaks))
for name in ("mean over all", "padding not masked", "queries masked", "gradient not divided",
             "last layer's vjp for all", "backward in the order of forward"):  # fmt: skip
    assert abs(told[name][1] - told["none"][1]) < 0.1
assert told["gradients last layer first"][0] > told["none"][0] + 0.1

# %% [markdown]
# Look at the losses and at "right: alone" first. You would not suspect anything of most of them. The
# model learns around a mistake: it has met padding in training, and knows it as one more letter.
#
# The column "other answer" tells of the leaks. Each word was asked twice, once among words of its
# own length and once in a batch of 60 columns, as if one text in it had been longer. Four models
# change their mind on about one word in ten, or more. **The answer to a word must not depend on its
# neighbors in the batch.** That is the test to remember: the same text alone and padded, and the
# difference must be 0 up to rounding. A gradient check cannot find a leak, since the gradient of
# the wrong function is right.
#
# The column on the right tells of the others. Backward in the order of forward trains as well as the
# right one: with two layers and residuals, a gradient with the wrong sender still points about the
# right way. Gradients that have come to the wrong layer cost more, and still it learns something.
#
# ### Setting padding to zero
#
# Is a mask needed at all, if the rows at padding are set to 0? A key of zeros has the score 0, not
# $-\infty$, and $e^0 = 1$:

# %%
scores = np.array([1.0, -1.0, 0.0, 0.0, 0.0])  # two words, three keys of zeros
weights = ops.softmax(scores)[0]
masked = ops.softmax(scores[:2])[0]
print("zeros:", weights.round(3), "  on padding:", weights[2:].sum().round(3))
print("mask: ", masked.round(3))
assert 0.4 < weights[2:].sum() < 0.6

# %% [markdown]
# Half of the attention is gone to nothing, and the more padding, the more.
#
# ### Garbage at padding
#
# And is a product with 0 enough in the mean? Not if there is a NaN or an infinity at padding, left
# there by an earlier step. The check has such a case.

# %%
dirty = np.array([[1.0, 2, 3], [3, 2, 1], [np.nan, np.inf, 0]])
blank_row = np.array([False, False, True])
with np.errstate(invalid="ignore"):
    product = (dirty * ~blank_row[:, None]).sum(axis=0) / 2
chosen = masked_mean(dirty, padding=blank_row)[0]
print("times 0: ", product)
print("np.where:", chosen)
assert np.isnan(product[:2]).all()
assert (chosen == 2).all()

# %% [markdown]
# ## 10. Your turn
#
# Write `masked_mean`, then `encoder`. The layer is given, forward and backward; you make the mask,
# stack the layers, and come back down.
#
#     scratchlm start 26            # copies the stub into your folder
#     scratchlm check 26 --watch    # checks it each time you save
#     scratchlm hint 26             # three levels
#
# A path that works: `masked_mean` for one text, `[N, C]`, then with a batch in front. `encoder` with
# one layer and no padding; then two layers; then the mask.

# %%
print("what the check says to a mask that lies along the queries:\n")
fault = exercises(26)["encoder"].check(stack_mistake("queries masked").function).fault
print(fault.what, fault.where, fault.looks_like, fault.hint, sep="\n")

# %% [markdown]
# ## 11. Cost
#
# A layer has $12 C^2$ weights in its matrices and $13 C$ in biases and norms (lesson 25). A stack has
# $L$ times that, and nothing of its own. Backward keeps what each layer keeps, so memory grows with
# $L$, too.

# %%
rows = []
for name, layers, width, heads in (
    ("two layers of width 32", 2, 32, 1),
    ("Vaswani et al. 2017, base", 6, 512, 8),
):
    rows.append([name, layers, width, layers * (12 * width**2 + 13 * width)])
    counted = nn.TransformerEncoder(width, heads, layers).num_parameters()
    assert counted == rows[-1][-1]
table(rows, columns=["encoder", "L", "C", "weights"])

# %% [markdown]
# What an encoder pays for in vain is padding. Here are batches of 32 held-out words, once as they
# come and once sorted by length first. Rows: the share of the rows that are padding. Scores: the
# share of the $N^2$ scores of each word that have padding as query or key.

# %%
rows, waste = [], {}
for name, words in (("as they come", held_out), ("sorted by length", sorted(held_out, key=len))):
    blanks = [batch(words[i : i + 32])[1] for i in range(0, len(words), 32)]
    empty = sum(blank.sum() for blank in blanks) / sum(blank.size for blank in blanks)
    useful = sum(((~blank).sum(axis=1) ** 2).sum() for blank in blanks)
    all_scores = sum(len(blank) * blank.shape[1] ** 2 for blank in blanks)
    waste[name] = float(empty), float(1 - useful / all_scores)
    rows.append([name, *waste[name]])
table(rows, columns=["batches", "rows of padding", "scores with padding"], digits=2)
assert waste["as they come"][0] > 0.3 > 0.1 > waste["sorted by length"][0]
assert waste["as they come"][1] > waste["as they come"][0]

# %% [markdown]
# So batches are made of texts of similar length. With the mask the result is the same either way.
#
# All positions go through a layer at once: a recurrent network of lesson 15 takes $N$ steps, one
# after the other, and the last letter is $N$ steps away from the first. Here it is one.

# %% [markdown]
# ## 12. Use it
#
# Forward or reversed, on words that were not trained on, with the lesson's solution (put yours
# there). 250 steps of 64 words. Beside it the same without positions. What must its score be, to
# the last digit? Think of step 5 in section 6.

# %%
final, blind = Direction(seed=2), Direction(positions=False, seed=2)
learn_direction(final, 250, words=32)
learn_direction(blind, 30, words=32)
found, none = answers(final), answers(blind)
print(f"right on {found.size} held-out words: {accuracy(found):.1%}")
print(
    f"without positions, reversal moves the answer by at most {np.abs(none[0] - none[1]).max():.0e}"
)
assert accuracy(found) > 0.78  # recorded with seed 2: 0.84
assert np.abs(none[0] - none[1]).max() < 1e-5

# %%
sure = np.argsort(found[0])  # of the words as they are
table(
    [
        ["surely forward", " ".join(held_out[i] for i in sure[:8])],
        ["forward, but taken for reversed", " ".join(held_out[i] for i in sure[-8:])],
        ["surely reversed", " ".join(held_out[i][::-1] for i in np.argsort(-found[1])[:8])],
    ],
    columns=["", "words"],
)
for word in ("gradient", "tneidarg", "encoding", "gnidocne"):
    with no_grad():
        p = float(Fn.softmax(final(*batch([word]))).data[0, 1])
    print(f"{word:10} reversed with probability {p:.2f}")

# %% [markdown]
# A word and its reversal have the same letters. Without positions they have the same vector, so
# whoever is right on the one is wrong on the other: exactly one half, however long it trains. With
# positions the model has learned how words begin and end.

# %% [markdown]
# ## 13. Recap
#
# Three questions. Answer before you read on.
#
# 1. A sentence is put into a batch with a longer one, and its vector changes. Which two places do
#    you look at first?
# 2. Which layer of the speller knew the length of a word, and how could it?
# 3. An encoder without positions reads "dog bites man" and "man bites dog". What differs in its
#    results, and what is left of that after the mean?
#
# *1.* The mask of the keys in every layer, and the mean at the end. *2.* From layer 1 on: its
# attention takes means over the places $0 \ldots n - 1$, and such a mean tells $n$. *3.* The vectors
# are the same three, in another order; after the mean nothing differs.
#
# | English | 中文 |
# |---|---|
# | encoder | 编码器 |
# | padding | 填充 |
# | padding mask | 填充掩码 |
# | mean pooling | 平均池化 |
# | permutation equivariance | 置换等变性 |
# | contextual representation | 上下文表示 |
# | sequence reversal | 序列反转 |
# | batch | 批次 |
#
# References: Vaswani et al. 2017, *Attention Is All You Need*, §3. Lee et al. 2019, *Set
# Transformer*, §3.1. Reimers & Gurevych 2019, *Sentence-BERT*, §3. Devlin et al. 2019, *BERT*:
# an encoder, pre-trained.
#
# Next: lesson 27 adds the other half, a decoder that writes while it looks at what the encoder has
# read.
