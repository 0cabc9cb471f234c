# %% [markdown]
# # 30 · Decoding · 解码与采样
#
# A language model does not write. It reads, and says of every token how likely it is to come next.
# Somebody has to choose, append, and ask again. How the choice is made decides whether the same
# model stutters, babbles, or writes; and how the asking is done decides whether the thousandth
# token costs as much as the first, or a thousand times that.

# %% [markdown]
# ## 1. Card
#
# You need softmax and entropy from lesson 05, the n-grams of lesson 12, attention and the causal
# mask of lessons 19 and 20, and the GPT of lesson 29, where you drew a first token. At the end you
# have written nucleus sampling, a step of beam search, and attention with a cache.

# %%
from scratchlm.lessons import card, exercises, figure, show, slider, solution, source, table

card(30)

# %% [markdown]
# ## 2. Hook
#
# One model, an interpolated trigram of words counted on Python's help texts (lesson 12). One
# beginning. Two ways to choose the next word: always the likeliest one, or a word drawn by its
# probability. Which writes better?

# %%
import math
import re
import time

import numpy as np

from scratchlm import gradcheck, no_grad, ops, plot, sampling, use
from scratchlm.data.corpus import load
from scratchlm.generate import generate, next_token_probabilities
from scratchlm.models import GPT, GPTConfig, NGram

words = re.findall(r"[A-Za-z]+|[.,;:()]", load("topics"))
vocabulary = sorted(set(words))
number = {word: i for i, word in enumerate(vocabulary)}
ids = np.array([number[word] for word in words])
V, kept_back = len(vocabulary), 8000
train, unread = ids[:-kept_back], ids[-kept_back:]
model = NGram(train, 3, V, discount="modified")


def says(text):
    """The distribution of the next word, [V], from the last two."""
    return model.next_token_probabilities(text[-2:])


def write(choose, text, count):
    """The loop that all of this lesson is about."""
    text = list(text)
    for _ in range(count):
        text.append(int(choose(says(text))))
    return text


def spoken(text):
    return " ".join(vocabulary[i] for i in text)


beginning = [number["the"], number["value"]]
likeliest = write(np.argmax, beginning, 60)
chance = np.random.default_rng(0)
drawn = write(lambda p: sampling.draw(p, np.array(chance.random())), beginning, 60)
for name, text in [("likeliest", likeliest), ("drawn", drawn)]:
    print(f"{name}: {spoken(text)}\n")


def distinct(text, n=4):
    """The share of the n-grams of a text that are different ones."""
    grams = [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
    return len(set(grams)) / len(grams)


print(f"different fours of words: likeliest {distinct(likeliest):.0%}, drawn {distinct(drawn):.0%}, "
      f"a page of real text {distinct(unread[:62].tolist()):.0%}")  # fmt: skip
assert distinct(likeliest) < 0.7 < distinct(drawn)

# %% [markdown]
# The likeliest word each time: the text runs into a circle and never leaves it. A word at a time by
# chance: no circle, and soon no sense either, since thousands of unlikely words together are drawn
# often. Neither is the fault of the model. It is the same model, asked in the same way.

# %% [markdown]
# ## 3. Formula
#
# D1 §3.2.2, step 6, says what decoding is: the next word is predicted, one by one, until the text is
# complete. There is no formula for it. As published (Graves 2013, §2),
#
# $$
# x_{T+1} \sim p(\cdot \mid x_1, \ldots, x_T)
# $$
#
# and the new token is appended and read like all others. D2 §5.2.4 has a program that takes the
# largest number, `np.argmax(predictions)`. The model it is asked of returns a distribution for
# *every* position, `[1, T, V]` (it is built with `return_sequences=True`), and without an axis,
# argmax runs over all of them at once:
#
# $$
# x_{T+1} = \arg\max_{t,v} p_{t,v} \qquad \text{where it should be} \qquad x_{T+1} = \arg\max_{v} p_{T,v}
# $$
#
# Section 9 runs it. The right side is **greedy** decoding. Between it and drawing from all of $p$
# lie the rules in use. With $z$ for the logits, $p_v = e^{z_v / \tau} / \sum_u e^{z_u / \tau}$ at the
# **temperature** $\tau$ (lesson 29), and then:
#
# | rule | tokens that stay | published |
# |---|---|---|
# | greedy | the likeliest | |
# | top-k | the $k$ likeliest | Fan, Lewis & Dauphin 2018, §5.1 |
# | top-p, the nucleus | the fewest likeliest with $p$ or more together | Holtzman et al. 2020, eq. 2, 3 |
# | min-p | those with $p_v \ge m \cdot \max p$ | Nguyen et al. 2024, §3 |
#
# What stays is divided by its sum. For the nucleus, in symbols:
#
# $$
# \sum_{v \in V^{(p)}} p_v \ge p, \quad |V^{(p)}| \text{ as small as can be}, \qquad P(v) = \frac{p_v}{\sum_{u \in V^{(p)}} p_u}
# $$
#
# Against circles, a **repetition penalty** $\theta > 1$ changes the logits of tokens that were there
# already (Keskar et al. 2019, §4.1). They print $z_v / \theta$, which makes a *negative* logit
# larger; all implementations multiply those instead:
#
# $$
# z_v \leftarrow \begin{cases} z_v / \theta & v \text{ was there}, z_v > 0 \\ z_v \, \theta & v \text{ was there}, z_v \le 0 \\ z_v & \text{else} \end{cases}
# $$
#
# ### Beams
#
# The likeliest *text* is another question than the likeliest next token. Texts are too many to be
# tried; **beam search** (Graves 2012, §2.5) keeps the $B$ best beginnings and continues each of
# them with every token. Its score is a sum of logarithms, which falls with every token, so short
# texts win. Wu et al. 2016, eq. 14, divide by a length penalty:
#
# $$
# s(Y) = \frac{\log P(Y)}{\mathrm{lp}(Y)}, \quad \mathrm{lp}(Y) = \frac{(5 + |Y|)^{\alpha}}{(5 + 1)^{\alpha}}
# $$
#
# ### The cache
#
# To predict the next token, must the model read everything again? Keys and values of the old tokens
# cannot change, since no position sees what comes later. So they are kept (Shazeer 2019, §2.4):
#
# $$
# y_t = \mathrm{softmax}\left(\frac{q_t K_t^T}{\sqrt{d}}\right) V_t, \quad
# K_t = \begin{pmatrix} K_{t-1} \\ k_t \end{pmatrix}, \quad V_t = \begin{pmatrix} V_{t-1} \\ v_t \end{pmatrix}
# $$
#
# | symbol | variable | shape | what it is |
# |---|---|---|---|
# | $z, p_v$ | `logits`, `probs` | `[V]` | scores and probabilities of the next token |
# | $\tau$ | `tau` | a number | temperature |
# | $p$ | `p` | a number | the share that the nucleus must have |
# | $\log P(Y)$ | `scores` | `[K]` | of each of K beginnings |
# | $B$ | `beams` | a number | beginnings that are kept |
# | $\alpha$ | `alpha` | a number | 0: no length penalty |
# | $q_t, k_t$ | `q`, `k` | `[H, d]` | query and key of the new token, for each head |
# | $K_{t-1}, V_{t-1}$ | `past_k`, `past_v` | `[H, M, d]`, `[H, M, e]` | the cache |

# %% [markdown]
# ## 4. By hand
#
# Three letters, texts of two letters: a 2×3 table after the first step. The model says *a* with 0.5,
# *b* with 0.4. After *a* it is unsure, after *b* nearly certain.

# %%
letters = "abc"
first = np.array([0.5, 0.4, 0.1])
second = np.array([[0.4, 0.35, 0.25], [0.9, 0.06, 0.04]])  # after a, after b
rows = [[letters[i], first[i], *second[i], *(first[i] * second[i])] for i in range(2)]
table(rows, columns=["first", "p", "then a", "then b", "then c", "P(·a)", "P(·b)", "P(·c)"])
greedy = letters[first.argmax()] + letters[second[first.argmax()].argmax()]
both = first[:2, None] * second
best = divmod(int(both.argmax()), 3)
print(f"greedy writes {greedy!r}, P = {both[0, 0]:.2f}; the likeliest text is "
      f"{letters[best[0]] + letters[best[1]]!r}, P = {both.max():.2f}")  # fmt: skip
assert greedy == "aa"
assert best == (1, 0)
assert np.allclose([both[0, 0], both.max()], [0.20, 0.36])

# %% [markdown]
# The best first step leads into the worse text. With two beams both beginnings are still there at
# the second step, and *ba* is found. With one beam it is lost at once: greedy *is* beam search with
# one beam.
#
# Now the nucleus of the row $(0.1, 0.5, 0.05, 0.35)$ for $p = 0.8$. Sorted: 0.5, 0.35, 0.1, 0.05.
# Before each token stand 0, 0.5, 0.85 and 0.95. As long as that is below 0.8, the token comes in:
# two of them, with 0.85 together.

# %%
row = np.array([0.1, 0.5, 0.05, 0.35])
falling = np.sort(row)[::-1]
before = np.cumsum(falling) - falling
table([[x, b, "in" if b < 0.8 else "out", x / 0.85 if b < 0.8 else 0.0]
       for x, b in zip(falling, before, strict=True)],
      columns=["p", "before it", "for p = 0.8", "divided by 0.85"])  # fmt: skip
nucleus = solution(30).top_p(np.log(row), 0.8)
print("in the order of the vocabulary:", nucleus.round(4))
assert np.allclose(nucleus, [0, 0.5 / 0.85, 0, 0.35 / 0.85])

# %% [markdown]
# The token with which $p$ is reached belongs to it. Otherwise a model that is 90% sure would be left
# with nothing to say.

# %% [markdown]
# ## 5. In code
#
# ### The nucleus
#
# With loops: take the likeliest that is left, until there is enough.


# %%
def top_p_loops(logits, p):
    weight = [math.exp(z - max(logits)) for z in logits]
    total, mass = sum(weight), 0.0
    kept = [0.0] * len(weight)
    left = list(range(len(weight)))
    while left and mass < p:
        i = max(left, key=lambda i: weight[i])
        left.remove(i)
        kept[i] = weight[i] / total
        mass += kept[i]
    return np.array(kept) / mass


source(solution(30).top_p)
source(sampling.top_p)
rng = np.random.default_rng(30)
for _ in range(200):
    z, p = 2 * rng.standard_normal(12), rng.uniform(0.05, 0.99)
    library = sampling.probabilities(sampling.top_p(z, p))
    assert np.allclose(top_p_loops(z, p), library, rtol=0, atol=1e-15)
    assert np.allclose(solution(30).top_p(z, p), library, rtol=0, atol=1e-15)
print("loops, NumPy and the library: equal on 200 random rows")

# %% [markdown]
# The library's rules take logits and give logits, with $-\infty$ for what is cut off, so that they
# can be chained: temperature, then top-k, then top-p, then min-p. Only the last act makes
# probabilities.
#
# ### A step of beam search
#
# With loops, all continuations in one list, and the solution:


# %%
def beam_loops(scores, log_p, beams):
    found = [(s + x, i, v) for i, s in enumerate(scores) for v, x in enumerate(log_p[i])]
    found.sort(reverse=True)
    return [(i, v) for _, i, v in found[:beams]]


source(solution(30).beam_step)
scores, log_p = np.log(rng.uniform(size=3)), np.log(rng.dirichlet(np.ones(7), 3))
parents, tokens, _ = solution(30).beam_step(scores, log_p, 4)
assert beam_loops(scores, log_p, 4) == list(zip(parents, tokens, strict=True))

# %% [markdown]
# The search around it, for a model that is asked by `ask(texts)` and answers $\ln p$, `[K, V]`.
# What ends is put aside and judged with its length.


# %%
def length_penalty(length, alpha):
    return ((5 + length) / (5 + 1)) ** alpha


def beam_search(ask, beams, most, *, end=None):
    """The texts that ended, of at most so many tokens: ln P and tokens of each."""
    texts, scores, ended = [[]], np.zeros(1), []
    for length in range(1, most + 1):
        log_p = ask(texts)  # [K, V]
        parents, tokens, scores = solution(30).beam_step(scores, log_p, min(beams, log_p.size))
        texts = [[*texts[i], int(v)] for i, v in zip(parents, tokens, strict=True)]
        done = [length == most or text[-1] == end for text in texts]
        ended += [(s, text) for s, text, d in zip(scores, texts, done, strict=True) if d]
        texts = [text for text, d in zip(texts, done, strict=True) if not d]
        scores = scores[~np.array(done)]
        if not texts:
            break
    return ended


def best(ended, alpha=0.0):
    return max(ended, key=lambda each: each[0] / length_penalty(len(each[1]), alpha))


def ask_letters(texts):
    return np.log(np.stack([first if not t else [*second, second[0]][t[0]] for t in texts]))


for beams in (1, 2):
    score, text = best(beam_search(ask_letters, beams, 2))
    print(f"beams = {beams}: {''.join(letters[i] for i in text)}, P = {math.exp(score):.2f}")

# %% [markdown]
# And a GPT with random weights, the library's search beside this one:

# %%
config = GPTConfig(50, 640, n_layer=2, n_head=4, n_embd=64)
gpt = GPT(config, rng=0, dtype=np.float64, std=0.3)
prompt = np.arange(5)


def ask_gpt(texts):
    with no_grad():
        logits = np.stack([gpt(np.array([*prompt, *t])).data[-1] for t in texts])
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


for beams in (1, 3, 5):
    score, mine = best(beam_search(ask_gpt, beams, 6))
    theirs = (
        generate(gpt, prompt, 6, beams=beams)
        if beams > 1
        else generate(gpt, prompt, 6, greedy=True)
    )
    print(f"beams = {beams}: {mine}, ln P = {score:.3f}")
    assert mine == theirs[5:].tolist()

# %% [markdown]
# ### The cache
#
# One token, all heads, and what stays for the next one:

# %%
source(solution(30).attend_with_cache)

# %% [markdown]
# Read a sequence token by token through it, and at once through `ops.attention` with a causal mask.
# The results must be the same, row for row:

# %%
H, T, d = 3, 9, 4
q, k, v = (rng.standard_normal((H, T, d)) for _ in range(3))
keys, values = np.zeros((H, 0, d)), np.zeros((H, 0, d))
rows = []
for t in range(T):
    y, keys, values = solution(30).attend_with_cache(q[:, t], k[:, t], v[:, t], keys, values)
    rows.append(y)
at_once, _ = ops.attention(q, k, v, causal=True)
print(f"one by one or at once: they differ by {np.abs(np.stack(rows, 1) - at_once).max():.0e}")
assert np.abs(np.stack(rows, 1) - at_once).max() < 1e-14
assert np.array_equal(keys, k)

# %% [markdown]
# The library keeps keys and values in buffers that have room, since to concatenate would copy all
# of them for every token. They double when they are full, so that $n$ tokens are copied less than
# $2n$ times in all:

# %%
from scratchlm.nn import KVCache

source(KVCache.extend)

# %% [markdown]
# ## 6. Backward, derived
#
# Choosing has no gradient: argmax is constant almost everywhere, and a draw jumps. But three things
# around it have one.
#
# ### Step 1: temperature
#
# $p_v = e^{z_v / \tau} / \sum_u e^{z_u / \tau}$ is softmax of $s = z / \tau$. With $\bar{p}$ for the
# cotangent of $p$, lesson 05 gives $\bar{s}_v = p_v (\bar{p}_v - \sum_u \bar{p}_u p_u)$. Then $s_v$
# depends on its own logit by $1 / \tau$, and on the temperature by $-z_v / \tau^2$, which is shared
# by all, so it adds up:
#
# $$
# \bar{z}_v = \frac{\bar{s}_v}{\tau}, \qquad \bar{\tau} = -\frac{1}{\tau^2} \sum_v \bar{s}_v z_v
# $$


# %%
def tempered(z, tau):
    """p = softmax(z / tau) along the last axis.  z [..., V], tau [1]."""
    p, back = ops.softmax(z / tau)

    def vjp(dp):
        ds = back(dp)
        dz = ds / tau
        dtau = np.array([-(ds * z).sum()]) / tau**2
        return dz, dtau

    return p, vjp


# %% [markdown]
# ### Step 2: what temperature does to entropy
#
# Write $\beta = 1 / \tau$, $Z = \sum_v e^{\beta z_v}$, and $\langle z \rangle = \sum_v p_v z_v$. Then
# $\ln p_v = \beta z_v - \ln Z$, so
#
# $$
# H = -\sum_v p_v \ln p_v = \ln Z - \beta \langle z \rangle
# $$
#
# $\ln Z$ has the derivative $\langle z \rangle$, and that one has the variance of $z$. So
#
# $$
# \frac{dH}{d\beta} = \langle z \rangle - \langle z \rangle - \beta \, \mathrm{Var}_p(z), \qquad
# \frac{\partial H}{\partial \tau} = \frac{\mathrm{Var}_p(z)}{\tau^3}
# $$
#
# with $d\beta / d\tau = -1 / \tau^2$. A variance is never negative: a higher temperature never makes
# the choice more certain. In physics it is the heat capacity of a system with energies $-z$, divided
# by $\tau$.

# %%
z = np.log(says(beginning))


def entropy(p):
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


rows = []
for tau in (0.3, 0.7, 1.0, 1.5):
    p = sampling.probabilities(z / tau)
    variance = (p * z**2).sum() - (p * z).sum() ** 2
    up, down = (entropy(sampling.probabilities(z / (tau + s))) for s in (1e-5, -1e-5))
    rows.append([tau, entropy(p), variance / tau**3, (up - down) / 2e-5])
    assert math.isclose(rows[-1][2], rows[-1][3], rel_tol=1e-6)
table(rows, columns=["τ", "H, nats", "Var / τ³", "by difference"])

# %% [markdown]
# ### Step 3: through a draw, all the same
#
# Let $r(v)$ say how good it is to have drawn $v$. The *mean* of it is smooth in $z$, though no single
# draw is. Since $\partial p_v = p_v \, \partial \ln p_v$,
#
# $$
# \frac{\partial}{\partial z_u} \sum_v p_v r(v) = \sum_v p_v \, r(v) \frac{\partial \ln p_v}{\partial z_u}
# = \langle r(v) (\delta_{uv} - p_u) \rangle
# $$
#
# The right side is a mean, so draws will do: push up what was drawn, by how good it was. This is
# Williams' REINFORCE (1992), and how models are trained on what they have written themselves. For
# three tokens, exactly and by 20,000 draws:

# %%
p3, r3 = np.array([0.2, 0.5, 0.3]), np.array([1.0, 0.0, -2.0])
exact = p3 * (r3 - (p3 * r3).sum())  # softmax's vjp, applied to r
draws = sampling.draw(np.tile(p3, (20_000, 1)), np.random.default_rng(0).random(20_000))
by_draws = (r3[draws, None] * (np.eye(3)[draws] - p3)).mean(axis=0)
table([["exactly", *exact], ["by draws", *by_draws]], columns=["dE[r]/dz", "a", "b", "c"])
assert np.abs(exact - by_draws).max() < 0.03  # 1 / sqrt(20,000) is 0.007, times a spread of 1

# %% [markdown]
# ### Step 4: not through the cache
#
# In training, $k_s$ receives a gradient from every query at or after it:
# $\bar{k}_s = \sum_{t \ge s} \bar{S}_{ts} q_t / \sqrt{d}$. Nothing of it can be told before the last
# token was read, and buffers that are overwritten have forgotten what backward needs. So a cache
# belongs into `no_grad()`, and the library insists:

# %%
try:
    gpt(prompt, cache=KVCache())
except RuntimeError as error:
    print(error)

# %% [markdown]
# ## 7. Gradient check, live
#
# The tempered softmax, by its logits and by its temperature.

# %%
report = gradcheck(tempered, rng.standard_normal((3, 5)), np.array([0.7]))
print(report)
assert report

# %% [markdown]
# Look for the lowest point of each V. Before you run it: the temperature is one number that moves
# all five probabilities at once. Does its best step differ from that of the logits?

# %%
from scratchlm.gradcheck import error_by_step

some = rng.standard_normal(5), np.array([0.7])
curves = {f"by {name}": error_by_step(tempered, *some, wrt=[which])
          for which, name in enumerate(("the logits", "temperature"))}  # fmt: skip
ax = plot.gradcheck_curve(next(iter(curves.values())).steps,
                          {name: each.errors for name, each in curves.items()},
                          title="softmax(z / τ): error against step")  # fmt: skip
show(ax, alt="Two V-shaped curves of error against step, both axes logarithmic, one beside the other. "
     "Both are lowest, below 1e-9, at steps near 1e-5.")  # fmt: skip
for name, each in curves.items():
    print(f"{name}: lowest error {each.errors.min():.0e} at a step of "
          f"{each.steps[each.errors.argmin()]:.0e}")  # fmt: skip
    assert each.errors.min() < 1e-8

# %% [markdown]
# Hardly. The place of the lowest point hangs on the third derivative, which is larger for the
# temperature: its V lies a little to the left.

# %% [markdown]
# ## 8. See it
#
# ### One distribution under each rule
#
# The sixteen likeliest words after *the value*, and what each rule makes of them. Gray is what the
# model said, blue what is drawn from. Before you run it: which of these rules would change its
# *number of words* if the model were more certain?

# %%
from scratchlm.plot import style
from scratchlm.plot.look import COLORS

RULES = {
    "as it is": {},
    "temperature 0.5": {"temperature": 0.5},
    "temperature 1.5": {"temperature": 1.5},
    "top-k, k = 5": {"top_k": 5},
    "top-p, p = 0.8": {"top_p": 0.8},
    "min-p, m = 0.1": {"min_p": 0.1},
}
order = np.argsort(-z)
top = order[:16]
said = says(beginning)


def bars(ax, p, title):
    place = np.arange(16)
    ax.barh(place, said[top], color="#c9c9c9", height=0.8)
    ax.barh(place, p[top], color=COLORS[0], height=0.44)
    count = int((p > 1e-12).sum())
    ax.set_title(title, loc="left", fontsize=10)
    ax.set_title(f"{count:,} words, H = {entropy(p):.1f}", loc="right", fontsize=8, color="0.35")
    ax.set(ylim=(15.6, -0.6), xlim=(0, 0.62))
    ax.set_yticks(place, [vocabulary[i] for i in top], fontsize=8)
    ax.grid(axis="x", color="#e4e4e4", linewidth=0.7)


with style():
    fig, axes = figure(2, 3, width=9.6, height=7.2, sharex=True, sharey=True)
    for ax, (name, options) in zip(np.ravel(axes), RULES.items(), strict=True):
        bars(ax, next_token_probabilities(z, **options), name)
    for ax in axes[1]:
        ax.set_xlabel("probability")
show(fig, alt="Six panels of the same sixteen words. As it is: 'of' leads and a long tail follows. "
     "Temperature 0.5 puts most of the mass on 'of', 1.5 flattens all. Top-k and min-p keep a few "
     "words, top-p some dozens; those kept grow by the same factor.")  # fmt: skip
size = {name: int((next_token_probabilities(z, **o) > 1e-12).sum()) for name, o in RULES.items()}
print(size)
assert size["top-k, k = 5"] == 5
assert 5 < size["top-p, p = 0.8"] < V / 10
assert size["temperature 0.5"] == size["as it is"] == V  # temperature cuts nothing off

# %% [markdown]
# Temperature keeps every word and changes all ratios; the others keep all ratios and cut. Top-k
# always keeps $k$. Top-p and min-p keep fewer when the model is certain.
#
# ### Temperature, to be moved
#
# Watch the tail, the words beyond the sixteenth. (The slider can be moved in the book and in a
# notebook.) Before you run it: at which temperature does the tail get half of all draws?

# %%
TAUS = [0.1, 0.3, 0.5, 0.7, 0.85, 1.0, 1.15, 1.3, 1.6, 2.0]


def tail(tau):
    return 1 - sampling.probabilities(z / tau)[top].sum()


def at_temperature(tau):
    with style():
        fig, ax = figure(width=5.4, height=4.2)
        bars(ax, sampling.probabilities(z / tau), f"temperature {tau:g}")
        ax.set(xlim=(0, 1), xlabel=f"probability; all other words together: {tail(tau):.2f}")
    return fig


slider(TAUS, at_temperature, label="temperature", start=5, alt=lambda tau: (
    f"Sixteen bars at temperature {tau:g}; the first is "
    f"{sampling.probabilities(z / tau)[top[0]]:.2f} long, all other words have {tail(tau):.2f}."
))  # fmt: skip
print({tau: round(float(tail(tau)), 2) for tau in TAUS})
assert tail(0.3) < 0.05
assert tail(2.0) > 0.5
assert (np.diff([tail(tau) for tau in TAUS]) > 0).all()

# %% [markdown]
# ### The nucleus, to be moved
#
# The same words by rank, and how much they have together. The cut is where the curve crosses $p$.
# How many words does it take from 0.9 to 0.95, and how many from 0.5 to 0.55?

# %%
mass = np.cumsum(said[order])


def nucleus_size(p):
    return int((solution(30).top_p(z, p) > 0).sum())


def at_share(p):
    n = nucleus_size(p)
    with style():
        fig, ax = figure(width=5.8, height=3.6)
        ax.plot(np.arange(1, V + 1), mass, color=COLORS[0])
        ax.fill_between(np.arange(1, n + 1), mass[:n], color=COLORS[0], alpha=0.25)
        ax.axhline(p, color="0.4", linestyle="--", linewidth=1)
        ax.axvline(n, color=COLORS[1], linewidth=1.2)
        ax.annotate(f"{n:,} of {V:,} words", (n, 0.05), (6, 0), textcoords="offset points",
                    ha="left" if n < 300 else "right", color=COLORS[1])  # fmt: skip
        if n >= 300:
            ax.texts[-1].set_position((-6, 0))
        ax.set(xscale="log", ylim=(0, 1.02), xlabel="words, the likeliest first (logarithmic)",
               ylabel="probability together", title=f"p = {p:g}")  # fmt: skip
    return fig


SHARES = [0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99]
slider(SHARES, at_share, label="p", start=5, alt=lambda p: (
    f"A curve that rises with the number of words, from the likeliest on; at p = {p:g} it is cut "
    f"after {nucleus_size(p):,} words."
))  # fmt: skip
print({p: nucleus_size(p) for p in (0.5, 0.55, 0.9, 0.95)})
assert nucleus_size(0.95) - nucleus_size(0.9) > 10 * (nucleus_size(0.55) - nucleus_size(0.5) + 1)

# %% [markdown]
# ### Why no single k is right
#
# The nucleus for $p = 0.9$ at 400 places of text that the model has not read. Before you run it:
# how far apart are the smallest and the largest?

# %%
sizes = np.sort([(solution(30).top_p(np.log(says(unread[t - 2 : t])), 0.9) > 0).sum()
                 for t in range(2, 402)])  # fmt: skip
with style():
    fig, ax = figure(width=6.2, height=3.2)
    ax.hist(sizes, bins=np.geomspace(1, V, 28), color=COLORS[0])
    for part in (0.1, 0.5, 0.9):
        ax.axvline(np.quantile(sizes, part), color=COLORS[1], linewidth=1.2)
        ax.annotate(f"{part:.0%}", (np.quantile(sizes, part), 1), (3, -10), color=COLORS[1], fontsize=8,
                    xycoords=("data", "axes fraction"), textcoords="offset points")  # fmt: skip
    ax.set(xscale="log", xlabel="words in the nucleus, p = 0.9 (logarithmic)", ylabel="places")
show(fig, alt="A histogram of nucleus sizes on a logarithmic axis: broad, from one word to more than "
     "a thousand; lines mark the quantiles.")  # fmt: skip
low, middle, high = np.quantile(sizes, [0.1, 0.5, 0.9])
print(f"smallest {sizes[0]}, a tenth up to {low:.0f}, half up to {middle:.0f}, nine tenths up to "
      f"{high:.0f}, largest {sizes[-1]}")  # fmt: skip
assert sizes[0] < 10
assert high > 5 * low

# %% [markdown]
# Where two words are possible, $k = 40$ lets 38 wrong ones in; where a thousand are, it forbids 960
# right ones. That is Holtzman's argument, in one picture. (A trigram is unsure nearly everywhere. A
# large model is sure more often: its histogram has a second peak at 1.)
#
# ### The tree of a search
#
# Three beams, four words, from *the value*. Each column is a step; the numbers are $P$ of the whole
# text so far. Pale: beginnings that were kept for a while and then beaten. Before you run it: will
# the three texts that are left at the end come from three different first words?

# %%
levels, texts, scores = [], [[]], np.zeros(1)
for _ in range(4):
    log_p = np.log(np.stack([says([*beginning, *t]) for t in texts]))
    parents, tokens, scores = solution(30).beam_step(scores, log_p, 3)
    texts = [[*texts[i], int(v)] for i, v in zip(parents, tokens, strict=True)]
    levels.append((parents, tokens, scores))

alive, kept = set(range(3)), []
for parents, _, _ in reversed(levels):
    kept.insert(0, alive)
    alive = {int(parents[i]) for i in alive}
with style():
    fig, ax = figure(width=8.6, height=3.4)
    ax.text(0, 1, spoken(beginning), ha="center", va="center", fontsize=10)
    for level, (parents, tokens, scores) in enumerate(levels, 1):
        for i in range(3):
            color = COLORS[0] if i in kept[level - 1] else "#b5b5b5"
            start = 1 if level == 1 else parents[i]
            ax.plot([level - 0.72, level - 0.3], [start, i], color=color, linewidth=1.4)
            ax.text(
                level, i, vocabulary[tokens[i]], ha="center", va="center", color=color, fontsize=10
            )
            ax.text(level, i + 0.27, f"{math.exp(scores[i]):.4f}", ha="center", va="center",
                    color=color, fontsize=7.5)  # fmt: skip
    ax.set(xlim=(-0.4, 4.4), ylim=(2.6, -0.5))
    ax.axis("off")
show(fig, alt="A tree from 'the value' to the right: three words in each of four columns, joined to "
     "their parents by lines; the best is on top. Branches that end early are gray.")  # fmt: skip
print("what is left:", [spoken(t) for t in texts])
first_words = {t[0] for t in texts}
print(f"different first words among them: {len(first_words)}")
assert len(first_words) < 3

# %% [markdown]
# They do not. Beams are near copies of each other, which is why many of them help so little.
#
# ### The cost, with and without a cache
#
# Count the multiplications of every `linear` and every `attention` while a GPT reads $T$ tokens and
# writes one more; and time them. Before you run it: what will the slopes be, on logarithmic axes?

# %%
counted = {"linear": 0, "attention": 0}


def count_linear(x, weight, bias=None):
    counted["linear"] += x.size * weight.shape[0]
    return ops.linear(x, weight, bias)


def count_attention(q, k, v, **options):
    counted["attention"] += q.size * k.shape[-2] + q.size // q.shape[-1] * k.shape[-2] * v.shape[-1]
    return ops.attention(q, k, v, **options)


def cost_of_one(T, cached):
    """Multiplications, and milliseconds, for one token after T."""
    text = np.arange(T) % 50
    cache = KVCache() if cached else None
    options = {"cache": cache, "last_only": True} if cached else {}
    with no_grad():
        if cached:
            gpt(text[:-1], cache=cache)  # read before
            text = text[-1:]
        counted.update(linear=0, attention=0)
        with use(linear=count_linear, attention=count_attention):
            gpt(text, **options)
        times = []
        for _ in range(5):
            if cached:
                cache.length = T - 1  # the same token again
            start = time.perf_counter()
            gpt(text, **options)
            times.append(time.perf_counter() - start)
    return dict(counted), 1e3 * np.median(times)


LENGTHS = [8, 16, 32, 64, 128, 256, 512]
with_cache, without = ([cost_of_one(T, cached) for T in LENGTHS] for cached in (True, False))
C, layers = config.n_embd, config.n_layer
for T, (new, _), (again, _) in zip(LENGTHS, with_cache, without, strict=True):
    assert new == {"linear": 12 * layers * C * C + 50 * C, "attention": layers * 2 * T * C}
    assert again == {
        "linear": T * (12 * layers * C * C + 50 * C),
        "attention": layers * 2 * T * T * C,
    }
total = {name: [sum(c.values()) for c, _ in runs]
         for name, runs in [("with a cache", with_cache), ("without", without)]}  # fmt: skip
with style():
    fig, (left, right) = figure(1, 2, width=9.0, height=3.6)
    for i, (name, runs) in enumerate([("without", without), ("with a cache", with_cache)]):
        left.plot(LENGTHS, total[name], "o-", color=COLORS[1 - i], label=name)
        right.plot(LENGTHS, [ms for _, ms in runs], "o-", color=COLORS[1 - i], label=name)
    for ax, what in [
        (left, "multiplications for one token"),
        (right, "milliseconds for one token"),
    ]:
        ax.set(xscale="log", yscale="log", xlabel="tokens so far", title=what)
        ax.set_xticks(LENGTHS, LENGTHS)
        ax.minorticks_off()
        ax.legend()
show(fig, alt="Two panels on logarithmic axes over the tokens so far. Left, multiplications: without "
     "a cache a line of slope one that bends upward, with one nearly flat. Right, milliseconds: the "
     "same two shapes, above a floor that both share.")  # fmt: skip
table([[T, total["without"][i], total["with a cache"][i], without[i][1], with_cache[i][1]]
       for i, T in enumerate(LENGTHS)],
      columns=["tokens so far", "without", "with", "ms without", "ms with"], digits=4)  # fmt: skip
ratio = total["without"][-1] / total["with a cache"][-1]
print(f"at {LENGTHS[-1]} tokens: {ratio:.0f} times as many without a cache")
assert ratio == LENGTHS[-1]

# %% [markdown]
# Exactly $T$ times fewer, at every length, in the layers and in attention alike: only the last row
# of everything is computed. So a text of $n$ tokens costs $n$ rows instead of
# $1 + 2 + \ldots + n = n(n+1)/2$. What still grows is attention, $2TC$ for each layer, beside the
# $12C^2$ that do not: they are equal at $T = 6C$. The times have a floor, the same for both: Python
# itself, op by op.

# %% [markdown]
# ## 9. Break it
#
# ### The printed one
#
# `np.argmax(predictions)` for `[1, T, V]`, as in D2 §5.2.4. The result is a place among $T V$
# numbers, not a token:

# %%
with no_grad():
    predictions = np.exp(ask_gpt([[]]))[None]  # what a model of one position would say, [1, 1, V]
    whole = gpt(prompt).data  # [T, V]
predictions = sampling.probabilities(whole)[None]  # [1, T, V]
place = int(np.argmax(predictions))
print(
    f"argmax over all of {predictions.shape}: {place}. The vocabulary has {config.vocab_size} tokens."
)
print(f"it is position {place // 50}, token {place % 50}; "
      f"asked was the last position: {predictions[0, -1].argmax()}")  # fmt: skip
assert place >= config.vocab_size
print(
    "and with one position only it is right:",
    predictions[:, -1:].argmax() == predictions[0, -1].argmax(),
)

# %% [markdown]
# In the document's program the next line, `tokenizer.index_word[predicted_word]`, would raise a
# KeyError, unless the surest position happens to be the first: then it returns what follows the
# *first* word, for ever. (Its `pad_sequences` would also be handed the text itself where it wants
# numbers, and words are joined by blanks, in Chinese too. Lesson 45 has the whole list.) The fix is
# `predictions[0, -1].argmax()`.
#
# ### The nucleus, cut in other ways
#
# Four of the mistakes that the check knows, on $(0.1, 0.5, 0.05, 0.35)$, $p = 0.8$. Right is
# $(0, 0.588, 0, 0.412)$.

# %%
known = exercises(30)
for name in ("the token that reaches p left out", "in the order of the vocabulary",
             "each by itself against p", "softmax once more"):  # fmt: skip
    with np.errstate(invalid="ignore"):
        found = known["top_p"].mistake(name).function(np.log(row), 0.8)
    print(f"{name:36} {found.round(3)}")
    assert not np.allclose(found, nucleus)

# %% [markdown]
# The third one leaves nothing, and 0/0. The last one is sneaky: softmax of probabilities gives the
# words that were cut off $e^0 = 1$ each. With thousands of them, nearly all draws are garbage:

# %%
sneaky = known["top_p"].mistake("softmax once more").function(z, 0.8)
cut_off = solution(30).top_p(z, 0.8) == 0
print(f"share of draws outside of the nucleus: {sneaky[cut_off].sum():.0%}")
assert sneaky[cut_off].sum() > 0.8

# %% [markdown]
# ### Beams that cannot meet
#
# *The best of each beginning*: every beam goes on by itself. It looks like a search and is several
# greedy ones, from the $B$ best first words. How much of the score is lost? ($\ln P$ of eight words,
# from 40 places.)

# %%
SEEN = {}


def ask_words(context):
    """ln p of the next word after context and each text, [K, V]; a pair of words is asked once."""

    def ask(texts):
        rows = []
        for text in texts:
            pair = tuple([*context, *text][-2:])
            if pair not in SEEN:
                SEEN[pair] = np.log(model.next_token_probabilities(np.array(pair)))
            rows.append(SEEN[pair])
        return np.stack(rows)

    return ask


def searched(step, context, beams, count=8):
    texts, scores = [[]], np.zeros(1)
    for _ in range(count):
        log_p = ask_words(context)(texts)
        if len(texts) == 1:  # the first step has one beginning
            parents, tokens, scores = solution(30).beam_step(scores, log_p, beams)
        else:
            parents, tokens, scores = step(scores, log_p, beams)
        texts = [[*texts[i], int(v)] for i, v in zip(parents, tokens, strict=True)]
    return scores[0]


places = [unread[t - 2 : t].tolist() for t in range(100, 4100, 100)]
lonely = known["beam_step"].mistake("the best of each beginning").function
forgetful = known["beam_step"].mistake("the beginning's score forgotten").function


def true_score(step, context, beams, count=8):
    """ln P of what a wrong step believes to be best, by the model."""
    texts, scores = [[]], np.zeros(1)
    for n in range(count):
        log_p = ask_words(context)(texts)
        parents, tokens, scores = (step if n else solution(30).beam_step)(scores, log_p, beams)
        texts = [[*texts[i], int(v)] for i, v in zip(parents, tokens, strict=True)]
    steps = [ask_words(context)([texts[0][:i]])[0, v] for i, v in enumerate(texts[0])]
    return float(sum(steps))


rows = []
for name, step in [("greedy", None), ("best of each", lonely), ("own score forgotten", forgetful),
                   ("beam search", solution(30).beam_step)]:  # fmt: skip
    beams = 1 if step is None else 5
    found = [true_score(step or solution(30).beam_step, c, beams) for c in places]
    rows.append([name, beams, np.mean(found)])
table(rows, columns=["", "beams", "mean ln P of 8 words"])
result = {name: mean for name, _, mean in rows}
assert result["own score forgotten"] < result["beam search"]
assert result["greedy"] < result["best of each"] < result["beam search"]

# %% [markdown]
# ### A new token that stands at position 0
#
# With a cache the model is given one token. If positions are counted from its beginning, every new
# token stands at place 0. No error, the text just gets worse. Here the right way and that one, token
# for token:


# %%
class Forgetful(KVCache):
    """Counts positions from 0 whenever it is asked."""

    def positions(self, T, like):
        return np.arange(T)


def greedy_with(cache, count=20):
    text, new = list(prompt), prompt
    with no_grad():
        for _ in range(count):
            logits = gpt(np.asarray(new), cache=cache, last_only=True).data[-1]
            text.append(int(logits.argmax()))
            new = text[-1:]
    return text[len(prompt) :]


right = generate(gpt, prompt, 20, greedy=True, cache=False)[len(prompt) :].tolist()
assert greedy_with(KVCache()) == right
forgot = greedy_with(Forgetful())
print("right:", right)
print("wrong:", forgot)
print("tokens alike:", sum(a == b for a, b in zip(right, forgot, strict=True)), "of 20; the first "
      "one is right, since the prompt itself was read at once")  # fmt: skip
assert forgot[0] == right[0]
assert forgot != right

# %% [markdown]
# *A causal mask for one query* is its neighbor: in a triangle of one row, row 0 sees column 0 only.
# So each new token attends to the very first one, and to nothing else:

# %%
masked = known["attend_with_cache"].mistake("a causal mask for one query").function
y_masked = masked(q[:, -1], k[:, -1], v[:, -1], k[:, :-1], v[:, :-1])[0]
print(f"the result is the first value: {np.allclose(y_masked, v[:, 0])}")
assert np.allclose(y_masked, v[:, 0])

# %% [markdown]
# ### The penalty as printed
#
# Two words were there before, with the logits 2 and $-2$. Keskar's formula divides both by
# $\theta = 1.5$: the second one becomes *likelier*.

# %%
logits = np.array([2.0, -2.0, 0.0, 0.0])
was_there = np.array([0, 1])
printed = logits.copy()
printed[was_there] /= 1.5
rows = [["before", *sampling.probabilities(logits)[:2]],
        ["divided", *sampling.probabilities(printed)[:2]],
        ["the library's", *sampling.probabilities(
            sampling.repetition_penalty(logits, was_there, 1.5))[:2]]]  # fmt: skip
table(rows, columns=["", "p of z = 2", "p of z = -2"])
assert rows[1][2] > rows[0][2] > rows[2][2]

# %% [markdown]
# Neither is invariant: add 10 to all logits, and the probabilities are the same while the penalty
# does something else. It is a rule of thumb, and works.

# %%
for shift in (0.0, 10.0):
    p = sampling.probabilities(sampling.repetition_penalty(logits + shift, was_there, 1.5))
    print(f"logits + {shift:g}: {p.round(3)}")

# %% [markdown]
# ### Short texts win
#
# A search that may end, at a full stop, and no length penalty. From 20 places, at most 20 words:
# how long are the texts that win? (The penalty judges texts that have ended, so one search with 16 beams
# serves all three of its rows.)

# %%
END = number["."]
rows = []
for beams, alphas in [(1, [0.0]), (4, [0.0]), (16, [0.0, 0.6, 1.0])]:
    ended = [beam_search(ask_words(c), beams, 20, end=END) for c in places[::2]]
    for alpha in alphas:
        found = [best(each, alpha) for each in ended]
        rows.append(
            [beams, alpha, np.mean([len(t) for _, t in found]), np.mean([s for s, _ in found])]
        )
table(rows, columns=["beams", "α", "mean length", "mean ln P"])
assert rows[2][2] < rows[0][2]  # more beams find shorter texts
assert rows[3][2] > rows[2][2]  # and the penalty gives the length back
assert rows[2][3] > rows[1][3] > rows[0][3]

# %% [markdown]
# The better the search, the shorter the text: the likeliest text of all is hardly a text. Translation
# systems had found by hand that five beams are better than fifty. With $\alpha$ the lengths
# come back, at the price of a smaller $P$.

# %% [markdown]
# ## 10. Your turn
#
# Write `top_p(logits, p)`, `beam_step(scores, log_p, beams)` and `attend_with_cache(q, k, v, past_k,
# past_v)`:
#
#     scratchlm start 30            # copies the stub into your folder
#     scratchlm check 30 --watch    # checks it each time you save
#     scratchlm hint 30             # three levels
#
# The check knows 14, 15 and 16 ways to go wrong, and names the one it sees.

# %%
assert [len(known[name].mistakes) for name in ("top_p", "beam_step", "attend_with_cache")] == [
    14,
    15,
    16,
]
print("what the check says to a nucleus in the order of the vocabulary:\n")
fault = (
    known["top_p"].check(known["top_p"].mistake("in the order of the vocabulary").function).fault
)
print(fault.what, fault.where, fault.looks_like, fault.hint, sep="\n")

# %% [markdown]
# ## 11. Cost
#
# For one token, with width $C$, $L$ layers, $T$ tokens so far, and a vocabulary of $V$:
#
# | | multiplications | numbers that are read |
# |---|---|---|
# | layers | $12 L C^2$ | $12 L C^2$ weights |
# | head | $V C$ | $V C$ weights |
# | attention | $2 L T C$ | $2 L T C$ keys and values |
# | top-k, top-p | about $V \log_2 V$ comparisons | $V$ |
# | $B$ beams | $B$ times all that | the weights once |
#
# Look at the first two lines: as many multiplications as numbers read. A processor multiplies ten to
# a hundred times as fast as it reads from memory, so to write one token is to read all weights once,
# and the time is theirs. It is why `scratchlm bench decode` compares with the products alone; why
# several texts at a time cost hardly more than one; and why weights of four bits (lesson 39) write
# faster. The cache itself takes $2 L C$ numbers for each token:

# %%
sizes = {"this GPT": (C, layers, 512), "GPT-2": (768, 12, 1024), "GPT-3": (12288, 96, 2048)}
rows = []
for name, (width, depth, T) in sizes.items():
    weights = 12 * depth * width**2
    cache = 2 * depth * width * T
    rows.append([name, weights / 1e6, cache / 1e6, cache / weights, 6 * width])
table(rows, columns=["", "weights, millions", "cache when full, millions", "cache / weights",
                     "as much work as the layers at T ="])  # fmt: skip
cache = KVCache()
with no_grad():
    gpt(np.arange(100) % 50, cache=cache)
held = sum(x.size for pair in cache._held.values() for x in pair)
print(f"the library's cache after 100 tokens: room for {held // (2 * layers * C)} tokens")
assert held >= 2 * layers * C * 100

# %% [markdown]
# Heads that share keys and values (lesson 21) make the cache smaller by the number that share:
# Llama-like models do it for this alone.

# %% [markdown]
# ## 12. Use it
#
# ### How repetitive is each rule?
#
# The trigram again, 12 texts of 100 words by each rule. Two numbers: the share of different fours of
# words, and how surprised the model itself is, in nats for each word. Holtzman's observation: people
# do not write what is likeliest. Look where the real text stands.

# %%
WAYS = {
    "greedy": {"temperature": 0.0},
    "temperature 0.5": {"temperature": 0.5},
    "top-k 40": {"top_k": 40},
    "top-p 0.8": {"top_p": 0.8},
    "top-p 0.95": {"top_p": 0.95},
    "all of it": {},
}


def texts_by(options, seed=0):
    """12 texts, and the mean surprise."""
    luck, surprise, texts = np.random.default_rng(seed), [], []
    for start in range(0, 4800, 400):
        text = unread[start : start + 2].tolist()
        for _ in range(100):
            p = says(text)
            rule = next_token_probabilities(np.log(p), **options)
            text.append(int(sampling.draw(rule, np.array(luck.random()))))
            surprise.append(-math.log(p[text[-1]]))
        texts.append(text[2:])
    return texts, float(np.mean(surprise))


points = {}
for name, options in WAYS.items():
    texts, surprise = texts_by(options)
    points[name] = (surprise, np.mean([distinct(t) for t in texts]))
real = [unread[s : s + 102] for s in range(0, 4800, 400)]
points["real text"] = (
    float(np.mean([-math.log(says(t[i - 2 : i])[t[i]]) for t in real for i in range(2, 102)])),
    np.mean([distinct(t[2:].tolist()) for t in real]),
)
table([[name, *values] for name, values in points.items()],
      columns=["rule", "surprise, nats for each word", "different fours"])  # fmt: skip
with style():
    fig, ax = figure(width=6.4, height=3.8)
    for i, (name, (x, y)) in enumerate(points.items()):
        real_one = name == "real text"
        ax.plot(x, y, "*" if real_one else "o", color=COLORS[real_one], markersize=7 + 5 * real_one)
        ax.annotate(name, (x, y), (0, -14 - 12 * (i % 2)), textcoords="offset points", fontsize=8.5,
                    ha="center")  # fmt: skip
    ax.set(xlabel="surprise of the model, nats for each word", ylabel="share of different fours",
           ylim=(-0.08, 1.06))  # fmt: skip
    ax.margins(x=0.12)
show(fig, alt="Seven points, surprise to the right and different fours upward. Greedy is at the lower "
     "left, far from all others; the drawn texts rise to the right; the real text, a star, lies at "
     "the right.")  # fmt: skip
assert points["greedy"][1] < 0.5 < points["real text"][1]
assert points["greedy"][0] < points["top-p 0.8"][0] < points["all of it"][0]
assert points["real text"][0] > points["top-p 0.8"][0]

# %% [markdown]
# Greedy text is the least surprising and the most repetitive. Nobody speaks like that: what would
# surprise no listener need not be said. (The real text surprises this model so much because a
# trigram is a poor model of it, too.)
#
# ### Your functions write
#
# The solution's nucleus in the library's loop: the same draws, the same text.

# %%
chance = np.random.default_rng(3)
by_yours, text = [], list(prompt)
for _ in range(30):
    with no_grad():
        scores_now = gpt(np.array(text)).data[-1]
    p = solution(30).top_p(scores_now / 0.8, 0.9)
    text.append(int(sampling.draw(p, np.array(chance.random()))))
assert text == generate(gpt, prompt, 30, temperature=0.8, top_p=0.9, seed=3).tolist()
print("30 tokens by your nucleus and by the library's, with one seed: the same")

# %% [markdown]
# And `attend_with_cache` inside the real model: an op around it, for the case of one query.


# %%
def cached_attention(q, k, v, **options):
    """The op `attention`; where one query comes, yours does it."""
    if q.shape[-2] != 1:
        return ops.attention(q, k, v, **options)
    batch = [
        solution(30).attend_with_cache(qb[:, 0], kb[:, -1], vb[:, -1], kb[:, :-1], vb[:, :-1])[0]
        for qb, kb, vb in zip(q, k, v, strict=True)
    ]
    return np.stack(batch)[:, :, None], lambda dy: (None, None, None)


with use(attention=cached_attention):
    by_yours = generate(gpt, prompt, 40, greedy=True)
assert np.array_equal(by_yours, generate(gpt, prompt, 40, greedy=True, cache=False))
print("40 greedy tokens with your attention and a cache, and without any cache: the same")

# %% [markdown]
# ### A real model
#
# SmolLM2, 135 million parameters, trained by others on two trillion tokens. `scratchlm fetch smollm2`
# gets it, 93 MB, and `pip install "scratchlm[gguf]"` what reads it. The same prompt under each rule:

# %%
from scratchlm import load_with_tokenizer

PROMPT = "The reason why the sky is blue is"
try:
    real_model, tokenizer = load_with_tokenizer("smollm2")
except (FileNotFoundError, RuntimeError) as error:  # not fetched, or no package to read it
    print(error)
else:
    start = np.array(tokenizer.encode(PROMPT))
    ways = {
        "greedy": {"greedy": True},
        "greedy, repetition penalty 1.3": {"greedy": True, "repetition_penalty": 1.3},
        "all of it": {"seed": 1},
        "top-p 0.9": {"top_p": 0.9, "seed": 1},
        "beams = 4": {"beams": 4},
    }
    for name, options in ways.items():
        out = generate(real_model, start, 20, **options)
        print(f"{name}: {tokenizer.decode(out[len(start) :])!r}\n")
    begin = time.perf_counter()
    quick = generate(real_model, start, 4, greedy=True)
    middle = time.perf_counter()
    slow = generate(real_model, start, 4, greedy=True, cache=False)
    end = time.perf_counter()
    print(f"4 tokens with a cache {middle - begin:.1f} s, without {end - middle:.1f} s")
    assert np.array_equal(quick, slow)

# %% [markdown]
# ## 13. Recap
#
# Three questions. Answer before you read on.
#
# 1. $p = 0.9$, and the likeliest token has 0.95. How many tokens are in the nucleus?
# 2. Is beam search with $B = V^{n-1}$ beams exact for texts of $n$ tokens?
# 3. A model has read 1000 tokens with a cache. You change token 500. What of the cache is still
#    right?
#
# *1.* One: before it stands 0, which is below $p$; before the second stands 0.95. *2.* Yes: after
# $n - 1$ steps all $V^{n-1}$ beginnings are still there. *3.* Keys and values 1 to 499 in every
# layer. From 500 on, in the first layer only token 500 itself is wrong (positions stay); in all
# later layers everything after it too, since those tokens have looked at it.
#
# | English | 中文 | |
# |---|---|---|
# | decoding | 解码 | from distributions to a text |
# | greedy decoding | 贪心解码 | |
# | sampling | 采样 | |
# | temperature | 温度 | |
# | top-k sampling | top-k 采样 | |
# | nucleus (top-p) sampling | 核采样 | |
# | repetition penalty | 重复惩罚 | |
# | beam search | 束搜索 | |
# | length penalty | 长度惩罚 | |
# | key-value cache | 键值缓存 | |
#
# References: Ackley, Hinton & Sejnowski 1985 (temperature). Williams 1992, *Simple Statistical
# Gradient-Following Algorithms for Connectionist Reinforcement Learning*. Graves 2012, *Sequence
# Transduction with Recurrent Neural Networks*, §2.5. Graves 2013, *Generating Sequences With
# Recurrent Neural Networks*. Wu et al. 2016, *Google's Neural Machine Translation System*, eq. 14.
# Fan, Lewis & Dauphin 2018, *Hierarchical Neural Story Generation*, §5.1. Keskar et al. 2019, *CTRL*,
# §4.1. Shazeer 2019, *Fast Transformer Decoding: One Write-Head is All You Need*, §2.4. Holtzman et
# al. 2020, *The Curious Case of Neural Text Degeneration*. Nguyen et al. 2024, *Turning Up the Heat:
# Min-p Sampling for Creative and Coherent LLM Outputs*.
#
# The documents: D1 §3.2.2 step 6; D2 §5.2.4.
#
# Next: lesson 31 lets a model look to both sides, and asks what it has learned from that. Lesson 34
# translates with the beams of this page.
