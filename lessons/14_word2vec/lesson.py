# %% [markdown]
# # 14 · Word vectors · 词向量
#
# Which words stand near this one? A model that is asked nothing else, and has nothing but two tables
# to answer with, ends up knowing that Paris is to France as Rome is to Italy. It takes one loss, a
# dozen lines, and a question that is put in the right way.

# %% [markdown]
# ## 1. Card
#
# You need the logarithm of a sigmoid from lesson 05, counting from lesson 12, and the table of lesson
# 13. At the end you have written the loss of word2vec, trained it on Python's own help texts, and
# measured it, and what Google trained, by the tests that people measure word vectors with.

# %%
import math
from itertools import pairwise
from pathlib import Path

import numpy as np

from scratchlm import gradcheck, ops, plot, use
from scratchlm.data import load, locate
from scratchlm.gradcheck import error_by_step
from scratchlm.lessons import card, exercises, figure, show, solution, source, table
from scratchlm.metrics import spearman
from scratchlm.models import (
    Word2Vec,
    evaluate_analogies,
    evaluate_similarity,
    load_vectors,
    read_pairs,
    read_questions,
)
from scratchlm.models.word2vec import hash_ngram, word_ngrams
from scratchlm.plot.look import COLORS, PALE, style
from scratchlm.text import split_words

card(14)
solved = solution(14)
known = exercises(14)["skipgram_loss"]

# %% [markdown]
# ## 2. Hook
#
# A small world, written by a few rules. Fourteen people, each with things of their own. A king and a
# queen share a throne, a waiter and a waitress a menu; a king and a waiter share *he* and *his*.
# In each sentence there is one person, and the words are shuffled. So no king ever meets a queen.

# %%
THINGS = {
    ("king", "queen"): "throne crown palace sceptre",
    ("prince", "princess"): "pony castle ball carriage",
    ("man", "woman"): "street work market bread",
    ("boy", "girl"): "school toys playground ribbon",
    ("father", "mother"): "children supper home garden",
    ("actor", "actress"): "stage curtain applause mask",
    ("waiter", "waitress"): "table menu soup glass",
}
PRONOUNS = ("he his him beard", "she her hers dress")


def write(sentences, seed):
    """Words of many sentences; dots between them keep one from the windows of the next."""
    rng, words = np.random.default_rng(seed), []
    for _ in range(sentences):
        pair = list(THINGS)[rng.integers(len(THINGS))]
        side = rng.integers(2)
        sentence = [pair[side], "the", "and"]
        sentence += [*rng.choice(THINGS[pair].split(), 2, replace=False)]
        sentence += [*rng.choice(PRONOUNS[side].split(), 2, replace=False)]
        words += [*rng.permutation(sentence).tolist(), ".", ".", "."]
    return words


world = write(2000, seed=0)
print(" ".join(world[:20]), "...")
model = Word2Vec(world, 16, window=3, min_frequency=1, subsample=0.03, seed=0)
model.fit(world, epochs=4, lr=0.1, batch_size=64, progress=False)
vectors = model.vectors()
for a, b, c in [
    ("man", "woman", "king"),
    ("king", "queen", "waiter"),
    ("mother", "father", "girl"),
]:
    found = vectors.analogy(a, b, c, 3)
    print(
        f"{a} is to {b} as {c} is to", ", ".join(f"{word} ({score:.2f})" for word, score in found)
    )
right, asked = 0, 0
for first in THINGS:
    for second in THINGS:
        if first != second:
            for one, other in ((0, 1), (1, 0)):
                answer = vectors.analogy(first[one], first[other], second[one])[0][0]
                right, asked = right + (answer == second[other]), asked + 1
print(f"all such questions: {right} of {asked} are answered right")
assert right >= 80

# %% [markdown]
# Nobody told it that king and queen belong together, nor what *she* means. Words that have the same
# neighbours got alike vectors, and that was enough for the arithmetic, king − man + woman. Why?

# %% [markdown]
# ## 3. Formula
#
# **As printed.** D2 §2.2 lists two ways to make word vectors. By statistics: "Word2Vec, FastText".
# By neural networks: "Word2Vec", in a variant. No formula follows. One method on both sides of a
# line looks like a slip. At the end of section 6 you will see that it is not one.
#
# **As published.** Each word $w$ has two vectors: $v_w$ where it stands in the middle (center), and
# $u_w$ where it stands around (context). *Skip-gram* predicts each word around from the one in the
# middle (Mikolov et al. 2013, eq. 2):
#
# $$
# p(o \mid c) = \frac{\exp(u_o \cdot v_c)}{\sum_{w=1}^{V} \exp(u_w \cdot v_c)}
# $$
#
# The sum runs over the vocabulary, for every pair of words of the text. **Negative sampling** asks an
# easier question: is this word a neighbour, or did I draw it from a hat? One true neighbour, $K$
# words from the hat, $K + 1$ times yes or no (eq. 4, where it is maximized; here is a loss):
#
# $$
# L = -\ln \sigma(v_c \cdot u_o) - \sum_{k=1}^{K} \ln \sigma(-v_c \cdot u_k)
# $$
#
# What is in the hat, and how often a word of the text is used at all (§2.2 and eq. 5). $n_w$ is the
# count of $w$, $f_w$ its share of the text, $t$ a threshold such as $10^{-5}$:
#
# $$
# p(w) = \frac{n_w^{3/4}}{\sum_x n_x^{3/4}}, \quad p_{\mathrm{keep}}(w) = \min\left(1, \sqrt{t / f_w}\right)
# $$
#
# **FastText** (Bojanowski et al. 2017) makes $v$ a sum. $G(w)$ holds the word itself and the n-grams of
# its letters, with marks for its ends: of *where*, in threes, `<wh whe her ere re>`.
#
# $$
# v_w = \sum_{g \in G(w)} z_g
# $$
#
# And the arithmetic: $a$ is to $b$ as $c$ is to the word nearest to $b - a + c$ that is none of them:
#
# $$
# \arg\max_{d \notin \{a, b, c\}} \cos(d, \, b - a + c)
# $$
#
# | symbol | variable | shape |
# |---|---|---|
# | $v_c$ | `center` | `[B, d]` |
# | $u_o$ | `context` | `[B, d]` |
# | $u_k$ | `negatives` | `[B, K, d]` |
# | $v_c \cdot u_o$, $v_c \cdot u_k$ | `near`, `noise` | `[B]`, `[B, K]` |
# | all $v$, all $u$ | `model.input`, `model.output` | `[V, d]` |

# %% [markdown]
# ## 4. By hand
#
# One pair, two numbers for each word, two noise words.

# %%
v, u = np.array([1.0, 2.0]), np.array([0.5, 1.0])
U = np.array([[1.0, -1.0], [0.0, 0.5]])  # [K = 2, d = 2]
s, t = v @ u, U @ v


def sigma(x):
    return 1 / (1 + np.exp(-x))


print(
    f"v·u  = 1·0.5 + 2·1     = {s:4.1f}   σ( v·u)  = {sigma(s):.4f}   -ln = {-np.log(sigma(s)):.4f}"
)
print(
    f"v·u1 = 1·1 + 2·(-1)    = {t[0]:4.1f}   σ(-v·u1) = {sigma(-t[0]):.4f}   -ln = {-np.log(sigma(-t[0])):.4f}"
)
print(
    f"v·u2 = 1·0 + 2·0.5     = {t[1]:4.1f}   σ(-v·u2) = {sigma(-t[1]):.4f}   -ln = {-np.log(sigma(-t[1])):.4f}"
)
by_hand = -np.log(sigma(s)) - np.log(sigma(-t)).sum()
print(f"L = {by_hand:.4f}")
loss, vjp = solved.skipgram_loss(v[None], u[None], U[None])
assert abs(loss - by_hand) < 1e-12
dv, du, dU = (each[0] for each in vjp(1.0))
print(f"dv = -σ(-2.5) u + σ(-1) u1 + σ(1) u2 = "
      f"{-sigma(-s):.4f} u + {sigma(t[0]):.4f} u1 + {sigma(t[1]):.4f} u2 = {dv.round(4)}")  # fmt: skip
print(f"du = -σ(-2.5) v = {du.round(4)}")
assert np.allclose(dv, -sigma(-s) * u + sigma(t) @ U)
assert np.allclose(du, -sigma(-s) * v)

# %% [markdown]
# The true pair is answered well already ($\sigma = 0.92$), so it pulls weakly, with 0.08. The second
# noise word lies in the direction of $v$, which is wrong, so it pushes with 0.73.

# %% [markdown]
# ## 5. In code


# %%
def loss_loops(center, context, negatives):
    B, K, d = negatives.shape
    total = 0.0
    for b in range(B):
        total += math.log1p(math.exp(-sum(center[b, j] * context[b, j] for j in range(d))))
        for k in range(K):
            total += math.log1p(math.exp(sum(center[b, j] * negatives[b, k, j] for j in range(d))))
    return total / B


source(solved.skipgram_loss)
rng = np.random.default_rng(14)
batch = rng.standard_normal((6, 5)), rng.standard_normal((6, 5)), rng.standard_normal((6, 3, 5))
values = [f(*batch) for f in (loss_loops, lambda *x: solved.skipgram_loss(*x)[0],
                              lambda *x: ops.skipgram_loss(*x)[0])]  # fmt: skip
print("loops, yours, the library's:", *[f"{value:.12f}" for value in values])
assert max(values) - min(values) < 1e-12

# %% [markdown]
# The library's op is the same, for any number of axes. Around it there is little: pairs, noise, and
# one step. Here are the pairs. How far a word looks is drawn anew for each word, from 1 to `window`:
# so the nearest neighbour is always used, and the farthest one seldom.

# %%
source(Word2Vec.pairs)
source(Word2Vec.noise)

# %% [markdown]
# ## 6. Backward, derived
#
# ### Step 1: the slope of $-\ln \sigma$
#
# From lesson 05: $-\ln \sigma(s) = \ln(1 + e^{-s})$, the softplus of $-s$. Its derivative:
#
# $$
# \frac{d}{ds} \ln(1 + e^{-s}) = \frac{-e^{-s}}{1 + e^{-s}} = -\sigma(-s)
# $$

# %%
s = np.linspace(-4, 4, 9)
h = 1e-6
numeric = (np.logaddexp(0, -(s + h)) - np.logaddexp(0, -(s - h))) / (2 * h)
assert np.abs(numeric + sigma(-s)).max() < 1e-9
print("s     ", s)
print("-σ(-s)", (-sigma(-s)).round(3))

# %% [markdown]
# ### Step 2: yes and no
#
# The noise has $-s_k$ where the context has $s$, so its sign turns twice:
#
# $$
# \bar{s} = -\sigma(-s) = \sigma(s) - 1, \quad \bar{s}_k = \sigma(s_k)
# $$
#
# Both are what was said minus what is true: 1 for the neighbour, 0 for the noise. With $1/B$ for the
# mean over pairs:

# %%
center, context, negatives = batch
B = len(center)
near = (center * context).sum(axis=1)  # [B]
noise = np.einsum("bd,bkd->bk", center, negatives)  # [B, K]
dnear = -solved.sigmoid(-near) / B  # [B]
dnoise = solved.sigmoid(noise) / B  # [B, K]
assert np.allclose(dnear, (sigma(near) - 1) / B)

# %% [markdown]
# ### Step 3: products
#
# Of a product $s = v \cdot u$, each factor gets the other one. $v$ is in $K + 1$ of them, and adds up:
#
# $$
# \bar{v} = \bar{s} u + \sum_k \bar{s}_k u_k, \quad \bar{u} = \bar{s} v, \quad \bar{u}_k = \bar{s}_k v
# $$

# %%
dcenter = dnear[:, None] * context + np.einsum("bk,bkd->bd", dnoise, negatives)  # [B, d]
dcontext = dnear[:, None] * center  # [B, d]
dnegatives = dnoise[:, :, None] * center[:, None, :]  # [B, K, d]
for ours, theirs in zip(
    (dcenter, dcontext, dnegatives), ops.skipgram_loss(*batch)[1](np.array(1.0)), strict=True
):
    assert np.abs(ours - theirs).max() < 1e-15
print("the three gradients are the library's")

# %% [markdown]
# ### Step 4: a sum of n-grams
#
# $v_w = \sum_g z_g$ passes its gradient to every term as it is, and a row that is in several words
# gets it from each of them. That is the scatter-add of lesson 13, once more:
#
# $$
# \bar{z}_g = \sum_{w : g \in G(w)} \bar{v}_w
# $$
#
# There are too many n-grams for a row each, so their hash says which row. Two may share one.

# %%
print("where:", ["where", *word_ngrams("where", 3, 4)])
print("rows: ", [hash_ngram(gram) % 1000 for gram in word_ngrams("where", 3, 4)], "of 1000")
print("in common with 'there':", sorted({*word_ngrams("where")} & {*word_ngrams("there")}))

# %% [markdown]
# ### Step 5: rows that nobody asked for
#
# The gradient of a table has a row for each word, and nearly all are zero. A step of plain descent
# leaves those rows as they are, so why make them? Take the rows of the batch out of the table, number
# them anew, differentiate with respect to *them*, and put them back. With $R$ for the different
# rows of the batch:
#
# $$
# W_R \leftarrow W_R - \eta \, \frac{\partial L}{\partial W_R}, \quad \text{all other rows stay}
# $$
#
# This is the library's whole training step. The tables never meet the tape:

# %%
source(Word2Vec.step)

# %% [markdown]
# ### Step 6: where it all ends
#
# Say the vectors are long enough for any products $S_{co} = v_c \cdot u_o$. How often does $S_{co}$ occur
# in the sum of all losses? As a neighbour $n_{co}$ times, the count of the pair. As noise, if the hat
# holds the words as often as the text has them, $K n_c n_o / N$ times, where $n_c$ and $n_o$ are the
# counts of the two sides and $N$ is the number of pairs. Set the derivative to zero:
#
# $$
# -n_{co} \, \sigma(-S_{co}) + K \frac{n_c n_o}{N} \, \sigma(S_{co}) = 0 \quad \Rightarrow \quad e^{S_{co}} = \frac{\sigma(S_{co})}{\sigma(-S_{co})} = \frac{n_{co} N}{K n_c n_o}
# $$
#
# $$
# v_c \cdot u_o = \ln \frac{n_{co} N}{n_c n_o} - \ln K
# $$
#
# The fraction is how much more often two words meet than they would by chance; its logarithm is their
# *pointwise mutual information*, a number that linguists counted long before (Church & Hanks 1990).
# So word2vec is statistics, *and* a network: it factors a table of counts that it never writes down
# (Levy & Goldberg 2014). D2 was right on both sides.

# %%
C = rng.integers(1, 30, (5, 5)).astype(float)  # n_co, made up
chance = np.outer(C.sum(axis=1), C.sum(axis=0)) / C.sum()
K = 3


def expected_loss(S):
    return (C * np.logaddexp(0, -S) + K * chance * np.logaddexp(0, S)).sum()


best = np.log(C / chance) - np.log(K)
slope = -C * sigma(-best) + K * chance * sigma(best)
others = [expected_loss(best + 0.1 * rng.standard_normal(C.shape)) for _ in range(1000)]
print(f"slope at ln(n_co N / n_c n_o) - ln K: at most {np.abs(slope).max():.0e}")
print(f"loss there {expected_loss(best):.4f}, the best of 1000 others {min(others):.4f}")
assert np.abs(slope).max() < 1e-12
assert expected_loss(best) < min(others)

# %% [markdown]
# Does the small world agree? Count its pairs, and put the products of the trained vectors beside.
# (16 numbers are fewer than 52 words, the hat has the power ¾, and four epochs are not for ever.)

# %%
ids = np.array([model.ids[word] for word in world])
count = np.zeros((len(model.words), len(model.words)))
for _ in range(3):  # the reach is drawn
    np.add.at(count, model.pairs(ids), 1)
pmi = np.log(np.maximum(count, 1e-9) * count.sum() / np.outer(count.sum(1), count.sum(0)))
products = model.input @ model.output.T
seen = count > 60
rho = np.corrcoef(products[seen], pmi[seen])[0, 1]
print(f"{seen.sum()} pairs of words that meet: correlation of v·u and mutual information {rho:.2f}")
assert rho > 0.8

# %% [markdown]
# ## 7. Gradient check, live

# %%
report = gradcheck(solved.skipgram_loss, *batch)
print(report)
assert report
wrong = gradcheck(known.mistake("center without the noise").function, *batch)
print(wrong)
assert not wrong

# %% [markdown]
# The error against the step. Before you run it: where is the bottom of the V?

# %%
methods, halves = ("central", "forward"), np.logspace(-1, -12, 23)  # of powers of ten
steps, curves = error_by_step(solved.skipgram_loss, *batch, steps=halves, method=methods)
by_method = {f"{name} differences": each for name, each in zip(methods, curves, strict=True)}
ax = plot.gradcheck_curve(steps, by_method, title="skip-gram loss: error against step")
show(ax, alt="V-shaped curves of error against step, both axes logarithmic: central differences are "
             "best near a step of 1e-5, forward differences near 1e-8.")  # fmt: skip
errors = curves[0]
print(f"best step {steps[errors.argmin()]:.0e}, error {errors.min():.0e}")
assert errors.min() < 1e-8

# %% [markdown]
# ## 8. See it
#
# ### A map
#
# Vectors of 16 numbers, taken at length 1 and seen from one side. To the right: how far each lies
# along the mean of the seven differences, she − he. Upward: of what remains, the direction in which
# the fourteen differ most. A line joins each pair. Look at the directions of the lines. Before you
# run it: what must they have in common, if king − man + woman is to be queen?

# %%
people = [word for pair in THINGS for word in pair]
units = np.array([vectors[word] / np.linalg.norm(vectors[word]) for word in people])
differences = units[1::2] - units[::2]  # she - he, [7, 16]
gender = differences.mean(axis=0) / np.linalg.norm(differences.mean(axis=0))
along = units @ gender  # [14]
rest = units - np.outer(along, gender)
rest = rest - rest.mean(axis=0)
across = rest @ np.linalg.svd(rest)[2][0]  # along the first principal axis


def apart(heights, gap=0.055):
    """Heights of labels, moved up where one would cover another."""
    order = np.argsort(heights)
    for below, above in pairwise(order):
        heights[above] = max(heights[above], heights[below] + gap)
    return heights


with style():
    fig, ax = figure(width=6.8, height=4.8)
    for side, color, at, align in ((0, COLORS[0], -0.6, "right"), (1, COLORS[1], 0.6, "left")):
        x, y, names = along[side::2], across[side::2], people[side::2]
        ax.plot(x, y, "o", color=color, markersize=4)
        for name, one, other, label in zip(names, x, y, apart(y.copy()), strict=True):
            ax.plot([one, 0.98 * at], [other, label], color=color, linewidth=0.5, alpha=0.5)
            ax.text(at, label, name, color=color, ha=align, va="center")
    for one in range(0, 14, 2):
        ax.plot(along[one : one + 2], across[one : one + 2], color=PALE, linewidth=1.2, zorder=0)
    ax.set(title="Seven pairs", xlabel="along the mean difference, she − he", xlim=(-0.85, 0.85),
           ylabel="across: largest variance of the rest")  # fmt: skip
show(fig, alt="Seven lines, one for each pair of people, nearly level and of nearly one length: he on "
              "the left, she on the right.")  # fmt: skip
unit_differences = differences / np.linalg.norm(differences, axis=1, keepdims=True)
cosines = unit_differences @ unit_differences.T
between = cosines[np.triu_indices(7, 1)]
print(f"cosine between two of the seven differences: {between.mean():.2f} in the mean, "
      f"{between.min():.2f} at least")  # fmt: skip
assert between.min() > 0.5

# %% [markdown]
# ### The hat
#
# What the power ¾ and the subsampling do to Python's help texts: from left to right all words, the
# frequent ones first. Look at where the lines cross. Before you run it: does ¾ draw rare words more often than
# their share, or less?

# %%
topics = [word for word in split_words(load("topics").lower()) if word[0].isalpha()]
python = Word2Vec(topics, 24, window=4, subsample=3e-4, seed=0)
share = python.counts / python.counts.sum()
hat = python.counts**0.75 / (python.counts**0.75).sum()
used = share * python.keep / (share * python.keep).sum()
with style():
    fig, ax = figure(width=6.4, height=3.8)
    rank = np.arange(1, len(share) + 1)
    for color, (name, values) in zip(
        COLORS, {"share of the text": share, "drawn as noise (¾)": hat,
                 "share after subsampling, t = 3e-4": used}.items(), strict=False
    ):  # fmt: skip
        ax.plot(rank, values, color=color, label=name)
    ax.set(xscale="log", yscale="log", xlabel="rank of the word", ylabel="share",
           title="Words of Python's help texts")  # fmt: skip
    ax.legend()
show(fig, alt="Three falling lines on logarithmic axes: the share of the text is steepest, the noise "
              "flatter, and after subsampling it is flatter still.")  # fmt: skip
table([[python.words[i], share[i], hat[i], python.keep[i]] for i in (0, 10, 100, 1000)],
      columns=["word", "share", "as noise", "kept"], digits=3)  # fmt: skip
assert hat[0] < share[0]
assert hat[-1] > share[-1]
assert python.keep[0] < 0.1

# %% [markdown]
# ## 9. Break it
#
# ### No noise
#
# Leave out the hat, and every question has the answer yes. There is an easy way to say yes always.
# Train the small world three times: right, with $K = 0$, and with the sign of the noise turned. The
# number is the mean cosine between two of the fourteen people:


# %%
def spread(model):
    """The mean cosine between two people."""
    rows = np.array([model.vector(word) for word in people])
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows @ rows.T)[np.triu_indices(14, 1)].mean()


some = world[:5000]


def trained(**options):
    model = Word2Vec(some, 16, window=3, min_frequency=1, subsample=0.03, seed=0, **options)
    return model.fit(some, epochs=4, lr=0.1, batch_size=64, progress=False)


good, yes_only = trained(), trained(negatives=0)
with use(skipgram_loss=known.mistake("noise with the sign of the context").function):
    turned = trained()
table(
    [["right", good.losses[-1], spread(good)], ["no noise, K = 0", yes_only.losses[-1], spread(yes_only)],
     ["noise with the wrong sign", turned.losses[-1], spread(turned)]],
    columns=["", "loss at the end", "mean cosine"], digits=3,
)  # fmt: skip
assert yes_only.losses[-1] < good.losses[-1]
assert turned.losses[-1] < good.losses[-1]
assert spread(yes_only) > 0.99
assert spread(turned) > 0.9
assert spread(good) < 0.8

# %% [markdown]
# The broken ones have the lower loss, and all words in one place. A loss says how well the question
# was answered, not whether it was worth asking.
#
# ### Common mistakes
#
# | mistake | symptom |
# |---|---|
# | noise with the sign of the context | all vectors in one direction, a splendid loss |
# | $\ln$ of a sigmoid | −∞ for a product of −89 in float32, of −710 in float64 |
# | noise averaged over $K$ | as $K = 1$; rare words stay where they began |
# | one table for $v$ and $u$ | a word would have to be its own neighbour |
# | the question's own words as answers | king − man + woman = king |
# | WordSim with missing words as 0 | a correlation of holes |
#
# The second, in numbers:

# %%
far = np.array([[40.0]]), np.array([[-20.0]]), np.zeros((1, 0, 1))
print("v·u = -800:  ln of a sigmoid gives", known.mistake("log of a sigmoid").function(*far)[0],
      " softplus gives", solved.skipgram_loss(*far)[0])  # fmt: skip
assert known.mistake("log of a sigmoid").function(*far)[0] == np.inf
assert solved.skipgram_loss(*far)[0] == 800
with np.errstate(over="ignore"):
    smallest = {
        kind.__name__: next(s for s in range(0, -1000, -1) if 1 / (1 + np.exp(kind(-s))) == 0)
        for kind in (np.float32, np.float64)
    }
print("σ(s) becomes 0 at:", smallest)
assert smallest == {"float32": -89, "float64": -710}

# %% [markdown]
# ## 10. Your turn
#
#     scratchlm start 14       # writes word2vec.py for you
#     scratchlm check 14       # as often as you like; --watch checks at each save
#     scratchlm hint 14
#
# One function: `skipgram_loss(center, context, negatives)`, which returns `(loss, vjp)`. Yours then
# trains real vectors:
#
#     with scratchlm.use(skipgram_loss=skipgram_loss):
#         model.fit(words)

# %%
with use(skipgram_loss=solved.skipgram_loss):
    yours = trained()
print(
    f"trained with the solution: loss {yours.losses[-1]:.6f}, the library's {good.losses[-1]:.6f}"
)
assert abs(yours.losses[-1] - good.losses[-1]) < 1e-2

# %% [markdown]
# ## 11. Cost
#
# | for one pair | products | rows of a table |
# |---|---|---|
# | softmax over the vocabulary | $V$ | all $V$ |
# | negative sampling | $K + 1$ | $K + 2$ |
#
# | for a batch of $B$ pairs | numbers |
# |---|---|
# | kept for backward | $B d (K + 2)$ |
# | a gradient of both tables | $2 V d$ |
# | the gradient of the rows taken out | at most $B d (K + 2)$ |
#
# Google's run had 100 billion words, 3 million of them different, and $d = 300$. Say $K = 5$:

# %%
V, d, K, B = 3_000_000, 300, 5, 256
table(
    [["products for one pair", f"{V:,}", f"{K + 1}"],
     ["gradient of a batch", f"{2 * V * d * 4 / 1e9:.1f} GB", f"{B * d * (K + 2) * 4 / 1e6:.1f} MB"]],
    columns=["", "whole tables", "negative sampling, rows taken out"],
)  # fmt: skip
assert 2 * V * d * 4 > 7e9

# %% [markdown]
# ## 12. Use it
#
# ### Python's help texts
#
# 64,000 words, 1,300 of them often enough, four times through the text, seed 0. It is very little. Look
# at what it learned of *true*, and of *integer*.

# %%
python.fit(topics, epochs=4, lr=0.08, batch_size=128, progress=False)
learned = python.vectors()
print(python, " losses", [round(loss, 2) for loss in python.losses])
for word in ("true", "integer", "class", "function", "exception"):
    print(f"{word:10}", ", ".join(near for near, _ in learned.nearest(word, 6)))
assert python.losses[-1] < 2.6 < 2.8 < python.losses[0]
assert "false" in [near for near, _ in learned.nearest("true", 10)]

# %% [markdown]
# ### Words it has never seen
#
# The same text with n-grams of 3 to 5 letters. *subclassing* does not occur in it often enough to have
# a row, but its pieces do. Before you run it: what will the neighbours be like now?

# %%
fast = Word2Vec(topics, 24, window=3, subsample=1e-4, ngrams=(3, 5), buckets=20_000, seed=0)
fast.fit(topics, epochs=2, lr=0.1, batch_size=128, progress=False)
unseen = [word for word in ("subclassing", "stringy", "unhashableness") if word not in fast.ids]
pieces = fast.vectors(unseen)
for word in ("exception", "string", *unseen):
    print(f"{word:15}", ", ".join(near for near, _ in pieces.nearest(word, 6)))
assert "stringy" in unseen
assert {"string", "strings"} & {near for near, _ in pieces.nearest("stringy", 6)}

# %% [markdown]
# They look alike, because their letters do. FastText knows that *strings* is near *string* before it
# has read either; whether *true* is near *false*, letters do not say. Each model is good at one.
#
# ### Measured
#
# Two tests that everybody uses. **WordSim-353**: people gave 353 pairs of words a similarity; do the
# cosines put them in the same order (Spearman's $\rho$: lists of ranks, correlated)? **Analogies**:
# 19,544 questions *a is to b as c is to ...*, answered with the very word, or not.

# %%
print("ρ of [1, 2, 3, 4] and [1, 3, 2, 4]:", spearman([1, 2, 3, 4], [1, 3, 2, 4]))
try:
    folder = locate("word-vectors")
except FileNotFoundError:
    folder = None
    print("Google's vectors and the tests are not here; `scratchlm fetch word-vectors` brings them")
if folder is not None:
    google = load_vectors(next(Path(folder).glob("*.bin")))
    pairs = read_pairs(folder / "benchmark" / "wordsim353.tsv")
    found = evaluate_similarity(google, pairs)
    print(f"{google}: ρ = {found.rho:.3f} on {found.used} of {found.total} pairs")
    questions = read_questions(folder / "benchmark" / "questions-words.txt")
    family = evaluate_analogies(google, {"family": questions["family"]})
    print(f"analogies on the family: {family.correct} of {family.used}, {family.accuracy:.1%}")
    for question in (("man", "woman", "king"), ("man", "king", "woman"), ("walk", "walked", "go")):
        print("  {} is to {} as {} is to".format(*question), google.analogy(*question)[0][0])
    allowed = google["woman"] - google["man"] + google["king"]
    print(
        "  and nearest to king - man + woman, its own words allowed:",
        google.nearest(allowed, 1)[0][0],
    )
    assert google.nearest(allowed, 1)[0][0] == "king"
    assert google.analogy("man", "woman", "king")[0][0] == "queen"
    assert abs(found.rho - 0.688) < 0.001
    assert abs(family.accuracy - 0.888) < 0.005

# %% [markdown]
# And a model of our own, on what there is: all of Shakespeare, 916,000 words, 8,708 of them five times
# or more, in small letters. It takes minutes, so it is not trained on this page:
#
#     words = [w for w in split_words(load("shakespeare").lower()) if w[0].isalpha()]
#     model = Word2Vec(words, 100, seed=0).fit(words, epochs=10)
#
# Words are looked up as they are spelled (for Shakespeare, in small letters). A pair or a question
# with a word that has no vector is left out, which is what the counts say. Once measured:
#
# | vectors | words read | WordSim-353, ρ | of 353 pairs | analogies | of 19,544 |
# |---|---|---|---|---|---|
# | Shakespeare, d = 100 | 916 thousand | 0.373 | 111 | 5.2 % | 2,373 |
# | the same text and settings, gensim 4.4, two seeds | 916 thousand | 0.381, 0.370 | 111 | 4.7 %, 5.3 % | 2,373 |
# | Google News, d = 300 (26,423 words of it) | 100 billion | 0.688 | 318 | 72.9 % | 8,740 |
# | Google's, on the pairs that Shakespeare has too | | 0.703 | 107 | 81.7 % | 2,288 |
#
# Far behind. The program that most people use gets no further on this text, so it is the text. A
# hundred thousand times less of it: most words occur a few dozen times, and a vector of 100 numbers
# from a few dozen sentences is mostly chance. Another English: *computer* and *keyboard* are not in
# it, and 242 of 353 pairs are not. And a play is its own world: nearest to *king* are *henry*,
# *rightful* and *crown*, nearest to *france* are *england*, *gallia* and *bourbon*. That is right, for
# Shakespeare. On the family it answers 24 % of 210 questions where Google's vectors answer 92 %; on
# capitals none.

# %% [markdown]
# ## 13. Recap
#
# Three questions. Answer before you read on.
#
# 1. King and queen never stood in one sentence. Why are their vectors alike?
# 2. You set $K = 0$, and the loss falls to almost nothing. What has been learned?
# 3. With $K$ twice as large, what changes in the products $v \cdot u$ at the optimum?
#
# *1.* Both met the throne and the crown. A vector is what a word's neighbours are. *2.* To say yes.
# *3.* All sink by $\ln 2$; which is larger than which does not change.
#
# | English | 中文 | |
# |---|---|---|
# | word vector | 词向量 | a row of numbers for each word |
# | skip-gram | 跳字模型 | predicting the words around from the one in the middle |
# | context window | 上下文窗口 | how far "around" reaches |
# | negative sampling | 负采样 | telling a neighbour from words drawn as noise |
# | subsampling | 二次采样 | leaving out frequent words at random |
# | subword | 子词 | an n-gram of letters as a part of a word |
# | pointwise mutual information | 点互信息 | the logarithm of how much more often two words meet than by chance |
# | cosine similarity | 余弦相似度 | the product of two vectors of length 1 |
# | analogy | 类比 | a is to b as c is to d |
#
# References: Mikolov, Chen, Corrado & Dean 2013, *Efficient Estimation of Word Representations in
# Vector Space*. Mikolov, Sutskever, Chen, Corrado & Dean 2013, *Distributed Representations of Words
# and Phrases and their Compositionality* (NIPS). Mikolov, Yih & Zweig 2013, *Linguistic Regularities
# in Continuous Space Word Representations*. Levy & Goldberg 2014, *Neural Word Embedding as Implicit
# Matrix Factorization* (NIPS), and *Linguistic Regularities in Sparse and Explicit Word
# Representations* (CoNLL). Rong 2014, *word2vec Parameter Learning Explained*. Bojanowski, Grave,
# Joulin & Mikolov 2017, *Enriching Word Vectors with Subword Information*. Church & Hanks 1990.
# Finkelstein et al. 2002 (WordSim-353).
#
# Next: lesson 15 reads words in their order, which a bag of neighbours has thrown away.
