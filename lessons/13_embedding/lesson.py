# %% [markdown]
# # 13 · Embeddings · 词嵌入
#
# A token is a number, and the number means nothing: 17 is not between 16 and 18. So the first thing
# a model does is to throw it away, and take row 17 of a table instead. That is all. The interesting
# part is how the table learns, and the line of code with which most of it does not.

# %% [markdown]
# ## 1. Card
#
# You need the chain rule from lesson 01, a layer from lesson 04, and the loss of lesson 05. At the
# end you have written the first op of every language model, and you know what `+=` forgets.

# %%
import math

import numpy as np

from scratchlm import functional as F
from scratchlm import gradcheck, ops, optim, plot, use
from scratchlm.data import corpus
from scratchlm.gradcheck import error_by_step
from scratchlm.lessons import card, exercises, figure, show, solution, source, table
from scratchlm.nn import Embedding, Linear
from scratchlm.plot.look import COLORS, PALE, style

card(13)
solved = solution(13)
known = exercises(13)["embedding"]

# %% [markdown]
# ## 2. Hook
#
# Two ways to write one line of a backward pass. `ids` are 5,000 letters of Python's help texts, and
# each place sends a gradient of 1 to the row of its letter. How much arrives in the row of *e*?

# %%
text = corpus("topics")
V = len(text.vocabulary)
ids = text.train[:5000]
e = text.vocabulary.encode("e")[0]

grad = np.zeros((V, 1))
grad[ids] += np.ones((5000, 1))
right = np.zeros((V, 1))
np.add.at(right, ids, np.ones((5000, 1)))

table(
    [["grad[ids] += dy", grad[e, 0], grad.sum()], ["np.add.at(grad, ids, dy)", right[e, 0], right.sum()]],
    columns=["the line", "arrives at e", "arrives in all"],
)  # fmt: skip
assert grad[e] == 1
assert right[e] == (ids == e).sum() > 300
assert right.sum() == 5000
assert grad.sum() == len(np.unique(ids))

# %% [markdown]
# The first line raises no error, has the right shape, and loses 99 of 100 gradients. A model trained
# with it still learns: the loss goes down, only less far. This lesson is about that line.

# %%
assert grad.sum() / right.sum() < 0.02

# %% [markdown]
# ## 3. Formula
#
# **As printed.** D1 §3.2.1 has an embedding layer (嵌入层) as the second step of the encoder, and
# §3.2.2 of the decoder; D4 §5.2 and D5 §5.2 call PyTorch's. None prints a formula. D2 §3.1 prints a
# program: a list of lists, a row for each word, and every number in it is random. There the program
# ends. Nothing in it ever changes a row, so what it makes is a name for each word, longer than the
# number was. (It draws again each time a word comes by, too: the last draw stays.)
#
# **As published.** Number the places of a text by $n$, and let $i_n$ be the token there:
#
# $$
# y_n = W_{i_n}
# $$
#
# $W$ has a row for each of $V$ tokens, and the rows are **parameters**, learned with everything else
# (Bengio et al. 2003, §2). The same as a product, which is how Hinton's network of 1986 was drawn:
#
# $$
# y = O W, \quad O_{nv} = [v = i_n]
# $$
#
# Each row of $O$ is *one-hot*: a single 1. And backward, with $\bar{y}$ for the gradient that arrives:
#
# $$
# \bar{W}_v = \sum_{n : i_n = v} \bar{y}_n
# $$
#
# The first model that learned its table, for the next word after three, puts the rows of the three
# side by side:
#
# $$
# p(w_t \mid x) = \mathrm{softmax}(V \tanh(U x + b) + c), \quad x = (W_{w_{t-3}}, W_{w_{t-2}}, W_{w_{t-1}})
# $$
#
# | symbol | variable | shape |
# |---|---|---|
# | $i$ | `ids` | `[N]`, or any shape; integers in `[0, V)` |
# | $W$ | `weight` | `[V, d]` |
# | $y$ | `y` | `[N, d]` |
# | $O$ | `one_hot` | `[N, V]` |
# | $\bar{y}, \bar{W}$ | `dy`, `dweight` | as $y$ and $W$ |

# %% [markdown]
# ## 4. By hand
#
# A table of three words and two numbers, and a text of three places: word 2, word 0, word 2.

# %%
W = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])  # [V = 3, d = 2]
i = np.array([2, 0, 2])  # [N = 3]
one_hot = np.array([[0, 0, 1], [1, 0, 0], [0, 0, 1]])  # [N, V]
y = one_hot @ W
for n in range(3):
    terms = " + ".join(f"{one_hot[n, v]}·{W[v].astype(int).tolist()}" for v in range(3))
    print(f"y[{n}] = {terms} = {y[n].tolist()} = W[{i[n]}]")
assert (y == W[i]).all()

# %% [markdown]
# Backward. Say the gradients 10, 20 and 30 arrive in the first column, and 1, 2 and 3 in the second.

# %%
dy = np.array([[10.0, 1.0], [20.0, 2.0], [30.0, 3.0]])
for v in range(3):
    places = np.flatnonzero(i == v).tolist()
    print(f"dW[{v}]: word {v} stands at {places}, the sum is {dy[places].sum(axis=0).tolist()}")
by_hand = np.array([[20.0, 2.0], [0.0, 0.0], [40.0, 4.0]])
assert (one_hot.T @ dy == by_hand).all()
lost = np.zeros((3, 2))
lost[i] += dy
print("with += instead:", lost.tolist())
assert lost.tolist() == [[20, 2], [0, 0], [30, 3]]

# %% [markdown]
# Row 2 should have 10 + 30. With `+=` it has 30: the second visit overwrote the first.

# %% [markdown]
# ## 5. In code
#
# A loop, the product, NumPy, the library. Note that ids may have any shape; the rows come last.


# %%
def lookup_loop(ids, weight):
    y = np.empty((len(ids), weight.shape[1]))
    for n in range(len(ids)):
        for j in range(weight.shape[1]):
            y[n, j] = weight[ids[n], j]
    return y


def lookup_product(ids, weight):
    return np.eye(len(weight))[ids] @ weight  # [N, V] @ [V, d]


rng = np.random.default_rng(13)
weight = rng.standard_normal((V, 4))
some = text.train[:60]
expected = ops.embedding(some, weight)[0]
for name, y in {
    "loop": lookup_loop(some, weight), "product": lookup_product(some, weight),
    "NumPy": weight[some], "yours will be": solved.embedding(some, weight)[0],
}.items():  # fmt: skip
    assert (y == expected).all(), name
batch = some.reshape(5, 12)
print("ids", batch.shape, "-> y", ops.embedding(batch, weight)[0].shape, "- all equal, to the bit")

# %%
source(ops.embedding)

# %% [markdown]
# Two things there are not in the formula. `check_ids` refuses what NumPy would take: -1 is the last
# row for it. And `scatter_add` stands where the solution has `np.add.at`; why, you see in step 6.

# %% [markdown]
# ## 6. Backward, derived
#
# ### Step 1: it is a product
#
# Written out, each number of $y$ is a sum in which one term is not zero:
#
# $$
# y_{nj} = \sum_v O_{nv} W_{vj}
# $$

# %%
N, d = len(some), 4
one_hot = (some[:, None] == np.arange(V)).astype(float)  # [N, V]
y = np.einsum("nv,vj->nj", one_hot, weight)
assert (y == weight[some]).all()
assert (one_hot.sum(axis=1) == 1).all()
print(f"O: {N} x {V}, and {int(one_hot.sum())} of its {N * V:,} numbers are not 0")

# %% [markdown]
# ### Step 2: how the loss depends on one number of the table
#
# $W_{vj}$ is in column $j$ of every row $n$ where $O_{nv}$ is 1. The chain rule adds over all of them:
#
# $$
# \bar{W}_{vj} = \sum_n \sum_k \bar{y}_{nk} \frac{\partial y_{nk}}{\partial W_{vj}} = \sum_n O_{nv} \bar{y}_{nj}
# $$

# %%
dy = rng.standard_normal((N, d))
dW = one_hot.T @ dy  # [V, N] @ [N, d]
v = int(np.bincount(some).argmax())  # the most frequent one
places = np.flatnonzero(some == v)
print(f"{text.vocabulary.decode([v])!r} stands at {len(places)} places: {places.tolist()}")
assert np.allclose(dW[v], sum(dy[n] for n in places), atol=1e-15)

# %% [markdown]
# ### Step 3: the zeros need not be added
#
# $O_{nv}$ is 1 just where $i_n = v$. What is left is one addition for each place:
#
# $$
# \bar{W}_v = \sum_{n : i_n = v} \bar{y}_n
# $$
#
# Read from the places: each $n$ adds its row to row $i_n$. That is called a **scatter-add**, and the
# lookup is a **gather**. Each is the other's transpose.

# %%
dW_scattered = np.zeros((V, d))
for n in range(N):
    dW_scattered[some[n]] += dy[n]  # one n at a time: here += is right
assert np.abs(dW_scattered - dW).max() < 1e-14

# the transpose: <gather(W), dy> = <W, scatter(dy)>, for any W and dy
print(f"<W[ids], dy> = {(weight[some] * dy).sum():.12f}")
print(f"<W, scatter> = {(weight * dW_scattered).sum():.12f}")
assert math.isclose((weight[some] * dy).sum(), (weight * dW_scattered).sum(), rel_tol=1e-12)

# %% [markdown]
# ### Step 4: the same loop without a loop
#
# Inside a Python loop `+=` is right. On whole arrays it is three steps: read all rows, add, write all
# rows. A row that is read twice is read twice *as it was*, and the second writing wins:
#
# $$
# t_n = \bar{W}_{i_n} + \bar{y}_n \;\text{ for all } n, \quad \text{then} \quad \bar{W}_{i_n} \leftarrow t_n
# $$

# %%
lossy = np.zeros((V, d))
t = lossy[some] + dy  # read, and add
lossy[some] = t  # write: of several n with one id, the last one stays
again = np.zeros((V, d))
again[some] += dy
assert (lossy == again).all()
last = {int(token): n for n, token in enumerate(some)}  # the last place of each token
assert all((lossy[token] == dy[n]).all() for token, n in last.items())
in_turn = np.zeros((V, d))
np.add.at(in_turn, some, dy)  # in turn, unbuffered
assert (in_turn == dW_scattered).all()
print(f"+= keeps {len(last)} of {N} gradients, np.add.at all of them")

# %% [markdown]
# ### Step 5: and the ids?
#
# The product has two factors. The other one has a gradient as well, $\bar{O} = \bar{y} W^T$:
#
# $$
# \bar{O}_{nv} = \sum_j \bar{y}_{nj} W_{vj}
# $$
#
# It says by how much the loss would rise if a little of word $v$ were mixed in at place $n$. But an
# id is an integer. There is no small change, so the op returns None. (The number is of use all the
# same: the word with the smallest one is a first guess at which word would have been better there.
# Attacks on language models find their words so: Ebrahimi et al. 2018.)

# %%
dO = dy @ weight.T  # [N, V]
n = 7
better = int(dO[n].argmin())
mixed = one_hot.copy()
mixed[n] += 1e-6 * np.eye(V)[better]
rise = ((mixed @ weight - weight[some]) * dy).sum() / 1e-6
print(f"place {n}: a little of {text.vocabulary.decode([better])!r} changes the loss by {rise:.4f} "
      f"per unit; dO says {dO[n, better]:.4f}")  # fmt: skip
assert abs(rise - dO[n, better]) < 1e-6
assert solved.embedding(some, weight)[1](dy)[0] is None

# %% [markdown]
# ### Step 6: many rows at a time
#
# `np.add.at` goes number by number. The library sorts the places by their id, so that those of one id
# stand together, adds up each group, and writes each row once. With different rows, `+=` is right:
#
# $$
# \bar{W}_v = \sum_{m = s_v}^{s_{v+1} - 1} \bar{y}_{\pi(m)}, \quad i_{\pi(m)} \text{ rising in } m
# $$

# %%
order = np.argsort(some, kind="stable")  # π
rows, starts = np.unique(some[order], return_index=True)  # the different ids, and where each begins
grouped = np.zeros((V, d))
grouped[rows] += np.add.reduceat(dy[order], starts, axis=0)
assert np.abs(grouped - dW).max() < 1e-14
source(solved.embedding, "vjp")
for vjp in (solved.embedding(some, weight)[1], ops.embedding(some, weight)[1]):
    assert np.abs(vjp(dy)[1] - dW).max() < 1e-14

# %% [markdown]
# ## 7. Gradient check, live
#
# The check skips the integers, and draws random cotangents.

# %%
W = rng.standard_normal((5, 3))
some_ids = np.array([[0, 3, 3], [1, 3, 0]])
report = gradcheck(solved.embedding, some_ids, W)
print(report)
assert report

# %% [markdown]
# And the line of the hook. The diagnosis knows it by name:

# %%
wrong = gradcheck(known.mistake("added once").function, some_ids, W)
print(wrong)
assert not wrong
assert "DUPLICATES LOST" in str(wrong)

# %% [markdown]
# Now the error against the step $h$. With other ops it is a V: on the right the curvature, which a
# difference quotient does not see, on the left rounding. Before you run it: a lookup is *linear* in
# $W$, and does no arithmetic at all. What is left of the V?

# %%
steps, errors = error_by_step(solved.embedding, some_ids, W)
table([[f"{h:.0e}", e] for h, e in zip(steps[::3], errors[::3], strict=True)],
      columns=["step", "error"])  # fmt: skip
assert (errors == 0).all()

# %% [markdown]
# Nothing. A straight line has no curvature, and copying does not round. The check of this op is exact
# at any step. Put one bent function behind it, and the V is back:


# %%
def bent(W):
    """tanh(W[ids]), and its vjp."""
    y, back = solved.embedding(some_ids, W)
    t = np.tanh(y)
    return t, lambda dt: back(dt * (1 - t**2))[1]


ax = plot.gradcheck_curve(bent, W, title="tanh of an embedding: error against step")
show(ax, alt="V-shaped curves of error against step, both axes logarithmic: central differences are "
             "best near a step of 1e-5, forward differences near 1e-8.")  # fmt: skip
steps, errors = error_by_step(bent, W)
print(f"best step {steps[errors.argmin()]:.0e}, error {errors.min():.0e}")
assert 0 < errors.min() < 1e-8

# %% [markdown]
# ## 8. See it
#
# ### Rows that move
#
# Bengio's model on letters: three letters, a table with **two** numbers for each, 64 hidden units,
# the next letter. Two numbers, so that the table is a map. At the start all rows lie at random near
# the middle, as D2 leaves them. Each step moves the rows of the letters that were read. Look at where
# the vowels end up, and at the capitals among them. Nobody told the model what a vowel is, nor that
# *A* and *a* have to do with each other. Before you run it: which letters must come together, if only
# the next letter counts?

# %%


class ThreeLetters:
    """The next letter after three: Bengio et al. 2003, eq. 1."""

    def __init__(self, d, hidden=64, seed=0, scale=0.1):
        self.rows = Embedding(V, d, rng=seed)
        self.rows.weight.data *= scale  # a small cloud to begin with
        self.hidden = Linear(3 * d, hidden, rng=seed + 1)
        self.out = Linear(hidden, V, rng=seed + 2)
        self.parameters = [
            *self.rows.parameters(), *self.hidden.parameters(), *self.out.parameters()
        ]  # fmt: skip

    def logits(self, before):  # [B, 3]
        x = self.rows(before).reshape(len(before), -1)  # [B, 3, d] -> [B, 3d]
        return self.out(self.hidden(x).tanh())  # [B, V]


def windows(ids):
    """Three letters, and the next one: [T - 3, 3], [T - 3]."""
    return np.stack([ids[:-3], ids[1:-2], ids[2:-1]], axis=1), ids[3:]


def train(model, steps, *, frozen=False, watch=None, lr=0.01, batch=256):
    before, after = windows(text.train)
    rng = np.random.default_rng(0)
    learned = model.parameters[1:] if frozen else model.parameters
    optimizer = optim.Adam(learned, lr=lr)
    for step in range(steps):
        if watch is not None and step % 20 == 0:
            watch.append(model.rows.weight.data.copy())
        pick = rng.integers(0, len(after), batch)
        loss = F.cross_entropy(model.logits(before[pick]), after[pick])
        for p in model.parameters:
            p.grad = None
        loss.backward()
        optimizer.step()
    return model


def held_out(model, limit=8000):
    before, after = windows(text.validation[:limit])
    return F.cross_entropy(model.logits(before), after).item()


map_model, path = ThreeLetters(2, seed=1), []
train(map_model, 1500, watch=path)
path = np.array([*path, map_model.rows.weight.data])  # [frames, V, 2]
print("frames:", path.shape, f" loss on kept-back text: {held_out(map_model):.3f}, "
      f"a blind guess costs {math.log(V):.3f}")  # fmt: skip
assert held_out(map_model) < 2.6

# %%
groups = {"vowels": "aeiouAEIOU", "consonants": "bcdfghjklmnpqrstvwxyz", "digits": "0123456789"}
looked_up = {name: text.vocabulary.encode(letters) for name, letters in groups.items()}
with style():
    fig, ax = figure(width=7.0, height=5.6)
    for color, (name, letters) in zip(COLORS, groups.items(), strict=False):
        for c, v in zip(letters, looked_up[name], strict=True):
            ax.plot(*path[:, v].T, color=color, alpha=0.25, linewidth=0.9)
            ax.text(*path[-1, v], c, color=color, fontsize=11, ha="center", va="center",
                    weight="bold")  # fmt: skip
        ax.plot([], [], color=color, label=name)
        ax.plot(*path[0, looked_up[name]].T, "o", color=PALE, markersize=2)
    ax.set(title="1,500 steps of a table with two columns", xlabel="first number", ylabel="second")
    ax.margins(0.06)
    ax.legend(loc="best")
show(fig, alt=(
    "A plane with the path of each letter and digit from a small cloud in the middle to its place "
    "after training: all vowels, small and capital, on one side, the digits close together on "
    "another, the consonants in between and on a third."
))  # fmt: skip

end = path[-1]
middle = {name: end[v].mean(axis=0) for name, v in looked_up.items()}


def nearer_to_the_vowels(v):
    distance = {name: np.linalg.norm(end[v] - middle[name], axis=1) for name in middle}
    return int((distance["vowels"] < distance["consonants"]).sum())


found = {name: nearer_to_the_vowels(v) for name, v in looked_up.items()}
table([[name, len(v), found[name]] for name, v in looked_up.items()],
      columns=["", "how many", "nearer to the middle of the vowels"])  # fmt: skip
assert found["vowels"] >= 8
assert found["consonants"] <= 3
assert found["digits"] == 0

# %% [markdown]
# Letters that are followed by the same letters come together, since what helps one then helps the
# other. That is all the model knows of "vowel", and it is enough.
#
# ### Rows that do not
#
# The first 20 steps of the same run. How often was each row read, and how far is it from where it
# began? Each dot is a character. Before you run it: what is the distance for one that was not read?

# %%
visits = np.zeros(V, int)
draw = np.random.default_rng(0)
before, after = windows(text.train)
for _ in range(20):
    np.add.at(visits, before[draw.integers(0, len(after), 256)], 1)
moved = np.linalg.norm(path[1] - path[0], axis=1)
with style():
    fig, ax = figure(width=6.4, height=3.6)
    ax.plot(visits + 0.5, moved, "o", color=COLORS[0], markersize=4, alpha=0.7)
    ax.set(xscale="log", xlabel="times read, and ½ (logarithmic)", ylabel="distance from the start",
           title="Only what is read can move")  # fmt: skip
show(fig, alt="Distance moved against how often each character was read, in 20 steps: characters that "
              "were not read lie at exactly 0, all others do not, and the largest distances belong to "
              "frequent ones.")  # fmt: skip
unread = visits == 0
print(f"not read: {unread.sum()} characters, the farthest moved by {moved[unread].max()}")
print(f"read:     {(~unread).sum()} characters, the nearest moved by {moved[~unread].min():.4f}")
assert 5 < unread.sum() < 60
assert (moved[unread] == 0).all()
assert (moved[~unread] > 0).all()

# %% [markdown]
# ## 9. Break it
#
# ### D2's table
#
# Random rows that nothing changes. The layers above them learn, and the table does not. And between
# the two, the table that learns with `+=`. Three trainings, alike in all else: 400 steps, 8 numbers
# for each letter, of size 1 from the start, so that the random ones can be told apart.

# %%
learned = train(ThreeLetters(8, scale=1), 400)
fixed = train(ThreeLetters(8, scale=1), 400, frozen=True)
with use(embedding=known.mistake("added once").function):
    lossy_model = train(ThreeLetters(8, scale=1), 400)
losses = {name: held_out(each) for name, each in {
    "learned": learned, "learned with +=": lossy_model, "random, as D2 §3.1": fixed}.items()}  # fmt: skip
table([[name, loss, math.exp(loss)] for name, loss in losses.items()],
      columns=["table", "loss, kept back", "perplexity"])  # fmt: skip
assert losses["learned"] < losses["learned with +="] - 0.01
assert losses["learned"] < losses["random, as D2 §3.1"] - 0.05

# %% [markdown]
# The wrong line is not far behind: Adam divides by the size of the gradient (lesson 06), so that one
# of fifty gradients is scaled up to a whole step, in a noisier direction. It costs a little of the
# loss, for ever, and no curve will show it to you. A gradient check shows it at once.
#
# ### Common mistakes
#
# | mistake | symptom |
# |---|---|
# | `grad[ids] += dy` | each id keeps one of its gradients |
# | dividing by how often an id occurs | frequent tokens learn as slowly as rare ones |
# | ids that are negative | NumPy reads the table from its end, without a word |
# | padding with id 0 | row 0 learns to be "nothing", and token 0 is nothing from then on |
# | a vocabulary sorted anew | every row belongs to another word |
# | weight decay on the table | rows that are hardly read shrink to 0 |
#
# Three of them, in numbers:

# %%
x, W = np.array([0, 0, 0, 1]), np.ones((3, 1))
g = np.ones((4, 1))
print("right:        ", solved.embedding(x, W)[1](g)[1].T)
for name in ("added once", "averaged", "every row"):
    print(f"{name + ':':14}", known.mistake(name).function(x, W)[1](g)[1].T)

# %% [markdown]
# The one with the negative id is a classic of padding: -1 marks "nothing here", and the table hands
# out its last row, which takes the gradients, too.

# %%
padded = np.array([1, 2, -1, -1])
silent, vjp = known.mistake("negative ids wrap").function(padded, rng.standard_normal((4, 2)))
print(
    "row of the last token, by -1:",
    silent[-1].round(3),
    " its gradient:",
    vjp(np.ones((4, 2)))[1][3],
)
assert (vjp(np.ones((4, 2)))[1][3] == 2).all()
try:
    ops.embedding(padded, rng.standard_normal((4, 2)))
except IndexError as error:
    print("the library:", error)
else:
    raise AssertionError

# %% [markdown]
# And weight decay (lesson 07). Rows are pulled to 0 at each step, and pushed only when they are read.
# With AdamW, at the learning rate and decay of many a paper, a row that is never read shrinks by a
# factor in itself:

# %%
lr, decay, steps = 1e-3, 0.1, 10_000
print(f"after {steps:,} steps without a visit: {(1 - lr * decay) ** steps:.3f} of what it was")
assert 0.3 < (1 - lr * decay) ** steps < 0.4

# %% [markdown]
# ## 10. Your turn
#
#     scratchlm start 13       # writes embedding.py for you
#     scratchlm check 13       # as often as you like; --watch checks at each save
#     scratchlm hint 13
#
# One function: `embedding(ids, weight)`, which returns `(y, vjp)`. Ids of any shape, ids that occur
# again, and ids that must be refused. Yours then trains the real GPT:
#
#     with scratchlm.use(embedding=embedding):
#         train(...)

# %% [markdown]
# ## 11. Cost
#
# | | operations | memory |
# |---|---|---|
# | one-hot product | $2 N V d$ | $N V$ numbers for $O$ |
# | lookup | $N d$ copies, no arithmetic | |
# | scatter-add | $N d$ additions | $V d$ numbers for $\bar{W}$, nearly all zero |
# | kept for backward | | the ids |
#
# For GPT-2's sizes, a batch of one text:

# %%
N, vocabulary, width = 1024, 50_257, 768
product = 2 * N * vocabulary * width
table(
    [
        ["one-hot product", f"{product / 1e9:.0f} billion", f"{4 * N * vocabulary / 1e6:.0f} MB"],
        ["lookup", "0", f"{8 * N / 1e3:.0f} kB"],
        ["scatter-add", f"{N * width / 1e6:.1f} million", f"{4 * vocabulary * width / 1e6:.0f} MB"],
    ],
    columns=["GPT-2, 1,024 tokens, float32", "operations", "memory"],
)
print(f"rows with a gradient: at most {N:,} of {vocabulary:,}, {N / vocabulary:.1%}")
assert product > 79e9
assert N / vocabulary < 0.021

# %% [markdown]
# The lookup is free, and the gradient is not: 154 MB, of which 2 % are not zero. GPT-2 uses its table
# for the output as well, where every row has a gradient, so there it is no loss. A model that looks
# only a few rows up and has a million of them can not afford it. Lesson 14 has such a model, and
# takes the rows out first.

# %% [markdown]
# ## 12. Use it
#
# ### What a table knows
#
# Three letters of context, 16 numbers for each letter, 1,500 steps, seed 0. Lesson 12's 4-gram model
# looks at three letters as well, and has a count for each of the ones that it saw:

# %%
model = train(ThreeLetters(16, hidden=128), 1500)
loss = held_out(model)
from scratchlm.models import NGram

four = NGram(text.train, 4, V, discount="modified")
counted = four.loss(text.validation[:8000])
weights = sum(p.size for p in model.parameters)
table(
    [["three letters, learned table", loss, math.exp(loss), weights],
     ["4-gram, Kneser–Ney (lesson 12)", counted, math.exp(counted), sum(four.sizes)]],
    columns=["model", "loss, kept back", "perplexity", "numbers it holds"],
)  # fmt: skip
assert loss < 2.2
assert counted < loss

# %% [markdown]
# Counting wins at three letters: there is enough text for all triples of letters. The table pays
# where there is not, with words, and with longer contexts. What it has and counting has not: it knows
# who is like whom.

# %%
rows, often = model.rows.weight.data, np.bincount(text.train, minlength=V)
for c in "aT5.":
    v = int(text.vocabulary.encode(c)[0])
    distance = np.linalg.norm(rows - rows[v], axis=1)
    near = [int(n) for n in np.argsort(distance) if n != v and often[n] > 300][:6]
    print(f"nearest to {c!r}:", "  ".join(repr(text.vocabulary.decode([n])) for n in near))
    if c == "5":
        digits = sum(text.vocabulary.decode([n]).isdigit() for n in near)
assert digits >= 2

# %% [markdown]
# ### Yours in the GPT
#
# Ten steps of a GPT with the library's op, and with the solution's. The losses agree:

# %%
from scratchlm.models import GPT, GPTConfig


def ten_steps():
    gpt = GPT(GPTConfig(V, 16, n_layer=1, n_head=2, n_embd=16), rng=0)
    optimizer = optim.AdamW(gpt.parameters(), lr=1e-2)
    losses = []
    for step in range(10):
        x = text.train[16 * step : 16 * step + 17][None]
        _, loss = gpt(x[:, :-1], x[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


theirs = ten_steps()
with use(embedding=solved.embedding):
    ours = ten_steps()
print("largest difference of a loss:", max(abs(a - b) for a, b in zip(ours, theirs, strict=True)))
assert np.allclose(ours, theirs, atol=1e-4)

# %% [markdown]
# ## 13. Recap
#
# Three questions. Answer before you read on.
#
# 1. Why may `+=` stand in the loop of step 3, and not on whole arrays?
# 2. A batch has 1,024 tokens, 300 of them different. How many rows of the table have a gradient, and
#    how many move in one step of Adam?
# 3. A gradient check finds no error at all, however large the step. What does that say of the
#    function?
#
# *1.* In the loop, each addition reads what the one before wrote. On arrays all rows are read first.
# *2.* 300 have a gradient. But Adam remembers: every row that ever had one goes on moving along its
# average. (Rows that never had one stay.) *3.* It is linear in that input, and does not round.
#
# | English | 中文 | |
# |---|---|---|
# | embedding | 词嵌入 | a row of learned numbers for each token |
# | one-hot vector | 独热向量 | zeros, and a single 1 at the place of the token |
# | lookup table | 查找表 | the matrix of all rows |
# | gather | 聚集 | taking rows by number |
# | scatter-add | 散布累加 | adding rows into a table by number |
# | padding | 填充 | what fills a short row of a batch |
# | parameter | 参数 | a number that training changes |
#
# References: Hinton 1986, *Learning distributed representations of concepts*. Bengio, Ducharme,
# Vincent & Jauvin 2003, *A Neural Probabilistic Language Model*, §2. Goodfellow, Bengio & Courville
# 2016, *Deep Learning*, §6.5.6 and §12.4. Ebrahimi et al. 2018, *HotFlip*.
#
# Next: lesson 14 throws away everything above the table, and trains words by their neighbours alone.
