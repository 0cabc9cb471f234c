# %% [markdown]
# # 12 · n-gram models · n元语法
#
# The oldest language model asks one question: the last time these letters stood here, what came
# next? It learns by counting, in a fraction of a second, and it is harder to beat than one would
# think. What takes thought is all that was never seen.

# %% [markdown]
# ## 1. Card
#
# You need cross-entropy from lesson 05 and perplexity from lesson 08. At the end you have written
# Kneser–Ney smoothing, you know why relative frequencies are what gradient descent would find, and
# you have the number that every later model of this course has to go below.

# %%
import math
import re
from collections import Counter
from itertools import pairwise

import numpy as np

from scratchlm import gradcheck, metrics, ops, plot
from scratchlm.data import corpus, load, split
from scratchlm.lessons import card, exercises, figure, show, solution, source, table
from scratchlm.models import NGram
from scratchlm.plot import style

card(12)
solved = solution(12)
known = exercises(12)

# %% [markdown]
# ## 2. Hook
#
# Python's help texts, letter by letter; a tenth is kept back. The model looks at the last four
# letters, finds every place of the training text where they stand, and takes the shares of what
# came next. On the text it was counted on, it wavers between two letters. How well does it do on the
# part that was kept back?

# %%
text = corpus("topics")
V = len(text.vocabulary)
shares = NGram(text.train, 5, V, smoothing="mle")
smooth = NGram(text.train, 5, V)
lost = np.isinf(shares.token_losses(text.validation)).mean()
table(
    [
        [name, model.perplexity(text.train), model.perplexity(text.validation)]
        for name, model in [("relative frequencies", shares), ("Kneser–Ney", smooth)]
    ],
    columns=["5-gram model", "perplexity, its own text", "perplexity, kept back"],
    digits=3,
)
print(f"letters that relative frequencies call impossible: {lost:.1%}")
assert shares.perplexity(text.train) < 3
assert shares.perplexity(text.validation) == math.inf
assert 0.04 < lost < 0.2
assert smooth.perplexity(text.validation) < 4.5

# %% [markdown]
# Infinitely bad: a single letter that "cannot come" has a loss of $-\ln 0$, and here it is one in
# eleven. The second row reads the same counts, gives a little of what was seen to what was not, and
# is good on both. How much is a little, and who gets it?

# %% [markdown]
# ## 3. Formula
#
# **As printed.** D4 §1 names n-gram models as what language models of the 1990s were, and gives no
# formula. (They are older: Markov counted letter pairs in 1913, and Shannon 1948 writes sentences
# with them.)
#
# **As published.** A text is predicted token by token, and only the last $n - 1$ tokens count:
#
# $$
# p(w_1, \ldots, w_T) \approx \prod_{t=1}^{T} p(w_t \mid w_{t-n+1}, \ldots, w_{t-1})
# $$
#
# Write $h$ for the context, and $c(h w)$ for how often $w$ follows it. The **relative frequency**:
#
# $$
# p(w \mid h) = \frac{c(h w)}{\sum_v c(h v)}
# $$
#
# **Add-k** pretends to have seen everything $k$ times more (Lidstone 1920; $k = 1$ is Laplace's):
#
# $$
# p(w \mid h) = \frac{c(h w) + k}{\sum_v c(h v) + k V}
# $$
#
# **Kneser–Ney** takes a discount $D$ from each count that is not 0. All that was taken in a context
# goes to a model with a shorter context, $h'$, which is $h$ without its first token. With $c(h)$
# for $\sum_v c(h v)$, and $N(h)$ for how many different tokens follow $h$:
#
# $$
# p(w \mid h) = \frac{\max(c(h w) - D, 0)}{c(h)} + \frac{D \, N(h)}{c(h)} \, p(w \mid h^{\prime})
# $$
#
# The recursion goes down to the empty context, and below that stands $1 / V$. So far this is
# *absolute discounting*. What Kneser and Ney added is what a shortened context counts: not
# occurrences, but **different tokens in front**:
#
# $$
# c(h w) = \left| \{ v : v h w \; \text{occurs} \} \right| \quad \text{for shortened} \; h
# $$
#
# The discount is estimated from how many n-grams occur just once ($n_1$) and twice ($n_2$):
#
# $$
# D = \frac{n_1}{n_1 + 2 n_2}
# $$
#
# Chen & Goodman 1998 (§3) compared everything that was in use, and found that interpolation is
# better than backing off, and that counts of 1, of 2, and of 3 or more deserve discounts of their
# own:
#
# $$
# D_1 = 1 - 2 D \frac{n_2}{n_1}, \quad D_2 = 2 - 3 D \frac{n_3}{n_2}, \quad D_{3+} = 3 - 4 D \frac{n_4}{n_3}
# $$
#
# | symbol | variable | shape |
# |---|---|---|
# | $w_1, \ldots, w_T$ | `ids` | `[T]` |
# | $h$ | `context` | `[m]`, at most $n - 1$ |
# | $V$ | `vocab_size` | a number |
# | $c(h w)$ for all $w$ | `count` | `[V]` |
# | $c(h)$ | `total` | a number |
# | $D$ | `discount` | a number |
# | $p(w \mid h)$ for all $w$ | `p` | `[V]` |

# %% [markdown]
# ## 4. By hand
#
# The text is *a b a b a c b b*. Its pairs: *ab, ba, ab, ba, ac, cb, bb*. Two contexts, three tokens:

# %%
letters = "abc"
tiny = np.array([letters.index(each) for each in "ababacbb"])  # [8]
C = np.zeros((3, 3), int)
for first, second in pairwise(tiny):
    C[first, second] += 1
table([[f"after {letters[i]}", *C[i]] for i in range(2)], columns=["counts", *letters])
print("relative frequencies")
for i in range(2):
    terms = [f"{c}/{C[i].sum()} = {c / C[i].sum():.4f}" for c in C[i]]
    print(f"  after {letters[i]}:  " + "   ".join(terms))
assert C[:2].tolist() == [[0, 2, 1], [2, 1, 0]]

# %% [markdown]
# Two zeros: *aa* and *bc* are called impossible, after three pairs each. Now Kneser–Ney, with
# $D = 0.5$. First the empty context. It counts different tokens in front: *a* was seen after *b*
# only, *b* after *a*, *b* and *c*, and *c* after *a* only.

# %%
D = 0.5
kinds = (C > 0).sum(axis=0)  # [3], different tokens in front
print("different tokens in front:", dict(zip(letters, kinds.tolist(), strict=True)))
below = np.maximum(kinds - D, 0) / kinds.sum() + D * 3 / kinds.sum() * (1 / 3)  # [3]
for w in range(3):
    print(f"  p({letters[w]}) = ({kinds[w]} - 0.5)/5 + 0.5 · 3/5 · 1/3 = {below[w]:.4f}")
by_hand = np.zeros((2, 3))
for i in range(2):
    total, follow = C[i].sum(), (C[i] > 0).sum()
    print(f"after {letters[i]}: the rest is 0.5 · {follow}/{total} = {D * follow / total:.4f}")
    for w in range(3):
        taken = max(C[i, w] - D, 0)
        by_hand[i, w] = taken / total + D * follow / total * below[w]
        print(f"  p({letters[w]}) = {taken}/{total} + {D * follow / total:.4f} · {below[w]:.1f}"
              f" = {by_hand[i, w]:.4f}")  # fmt: skip
assert np.allclose(below, [0.2, 0.6, 0.2])
assert np.allclose(by_hand * 30, [[2, 21, 7], [17, 11, 2]])
for i in range(2):
    assert np.allclose(solved.kneser_ney(tiny, tiny[i : i + 1], 3, discount=D), by_hand[i])

# %% [markdown]
# Both rows sum to 1, and nothing is impossible. Look at *a* and *c* in the empty context: *a*
# occurs three times in the text and *c* once, but both follow one kind of token only, so a *new*
# context should expect them alike. That is the idea.

# %% [markdown]
# ## 5. In code
#
# With dictionaries and loops, relative frequencies of any order:


# %%
def mle_loops(ids, context, vocab_size):
    counts = Counter()
    m = len(context)
    for t in range(m, len(ids)):
        if all(ids[t - m + i] == context[i] for i in range(m)):
            counts[int(ids[t])] += 1
    if not counts:
        return mle_loops(ids, context[1:], vocab_size)
    total = sum(counts.values())
    return np.array([counts[w] / total for w in range(vocab_size)])


some = text.train[:3000]
for context in (some[100:103], some[100:101], some[:0], np.array([0, 0, 0])):
    ours = mle_loops(some, context, V)
    assert np.abs(solved.mle(some, context, V) - ours).max() < 1e-15
print("loops and NumPy: equal, for three letters of context, one, none, and three never seen")

# %% [markdown]
# Kneser–Ney in NumPy is the solution of this lesson. The only line that knows who invented it is the
# one with `np.unique`: it looks at rows that have one token more in front, keeps the different
# ones, and drops that token.

# %%
source(solved.followers)
source(solved.kneser_ney)

# %% [markdown]
# This asks one question and reads the whole text for it. The library counts everything once, and
# keeps sorted arrays. An n-gram is known by its place among the n-grams of its length. With the
# place of its first $n - 1$ tokens, and $V$, its key is one integer:
#
# $$
# \mathrm{key}(h w) = \mathrm{place}(h) \cdot V + w
# $$
#
# So the key never grows beyond $T V$, however long the n-gram is, and all that follows one context
# stands together. The loss of a whole text is $n$ lookups by binary search, and this recursion, for
# all positions at once:

# %%
source(NGram.token_losses)
source(NGram.next_token_probabilities)
model = NGram(some, 4, V, discount=0.75)
for t in (3, 50, 777, 2000):
    context = text.validation[t - 3 : t]
    expected = solved.kneser_ney(some, context, V, discount=0.75)
    assert np.abs(model.next_token_probabilities(context) - expected).max() < 1e-14
    of_the_text = model.token_losses(text.validation[t - 3 : t + 1])
    assert abs(of_the_text[0] + math.log(expected[text.validation[t]])) < 1e-12
print("the library and the solution: equal")

# %% [markdown]
# ## 6. Backward, derived
#
# Counting has no backward pass. But the counts are the answer to a question that has one: which
# probabilities make the text most probable? Seven steps: the likelihood, its maximum (three times),
# what add-k is, and where the two odd formulas of Kneser–Ney come from.
#
# ### Step 1: the likelihood, in counts
#
# $p(w_t \mid h)$ appears in the product once for each time that $w_t$ follows $h$. Take the
# logarithm, and collect what is equal:
#
# $$
# \ln p(w_1, \ldots, w_T) = \sum_t \ln p(w_t \mid h_t) = \sum_h \sum_w c(h w) \ln p(w \mid h)
# $$
#
# Each context has a sum of its own, so look at one. Number the tokens by $i$, and write $c_i$ for its
# counts, $p_i$ for its probabilities, and $C = \sum_i c_i$.

# %%
c = C[1] + 1.0  # [3]: 3, 2, 1; the row of b, with 1 added so that nothing is 0
total = c.sum()  # 6


def log_likelihood(p):
    return (c * np.log(p)).sum()


print("counts", c, " log-likelihood of 1/3, 1/3, 1/3:", log_likelihood(np.full(3, 1 / 3)).round(4))

# %% [markdown]
# ### Step 2: Lagrange
#
# The $p_i$ are not free: they sum to 1. Lagrange's function has one more variable for that:
#
# $$
# \Lambda(p, \lambda) = \sum_i c_i \ln p_i + \lambda \left( 1 - \sum_i p_i \right)
# $$
#
# Its derivatives are 0 at the maximum:
#
# $$
# \frac{\partial \Lambda}{\partial p_i} = \frac{c_i}{p_i} - \lambda = 0 \quad \Rightarrow \quad p_i = \frac{c_i}{\lambda}
# $$
#
# $$
# \sum_i p_i = \frac{C}{\lambda} = 1 \quad \Rightarrow \quad \lambda = C, \quad p_i = \frac{c_i}{C}
# $$
#
# The relative frequencies. And $\lambda$ says what one more unit of probability would be worth:
# the same for each token, or else one would move some from here to there.

# %%
p = c / total  # p_i = c_i / C
slope = c / p  # dΛ/dp_i + λ = c_i / p_i
print("p =", p.round(4), "  c / p =", slope, "= λ = C")
assert np.allclose(slope, total)

# %% [markdown]
# ### Step 3: it is the maximum
#
# Zero slope could be a minimum. Take any other $q$, and compare, using $\ln x \le x - 1$:
#
# $$
# \sum_i c_i \ln q_i - \sum_i c_i \ln p_i = C \sum_i p_i \ln \frac{q_i}{p_i} \le C \sum_i p_i \left( \frac{q_i}{p_i} - 1 \right) = C (1 - 1) = 0
# $$
#
# The sum in the middle is minus the Kullback–Leibler divergence. So the loss of $q$ is the entropy
# of the counts, plus what $q$ is off.

# %%
rng = np.random.default_rng(12)
others = rng.dirichlet(np.ones(3), 2000)  # [2000, 3], random distributions
gaps = np.array([log_likelihood(q) for q in others]) - log_likelihood(p)
divergence = (p * np.log(p / others)).sum(axis=1)
print(f"2000 random q: the best one is worse by {-gaps.max():.5f}")
assert gaps.max() < 0
assert np.abs(gaps + total * divergence).max() < 1e-10

# %% [markdown]
# ### Step 4: the same by gradient
#
# A neural network has logits, $p_i = \mathrm{softmax}(z)_i$, and they are free. Lesson 05 has the
# gradient of one token's loss: softmax minus one-hot. Add it over all tokens of the context. The
# softmax is the same each time, and the one-hots add to the counts:
#
# $$
# \frac{\partial L}{\partial z_i} = \sum_{t=1}^{C} \left( p_i - [w_t = i] \right) = C p_i - c_i
# $$
#
# It is 0 exactly where $p_i = c_i / C$. No Lagrange is needed, since the softmax sums to 1 by
# itself. For a table of logits, one row for each context, and the mean over all $N$ pairs:
#
# $$
# \frac{\partial L}{\partial Z_{hw}} = \frac{c(h) \, p(w \mid h) - c(h w)}{N}
# $$


# %%
def table_loss(Z, before, after):
    """The mean loss of a bigram model whose logits are Z [V, V]; before, after [N]."""
    log_p, _ = ops.log_softmax(Z)  # [V, V]
    loss = -log_p[before, after].mean()

    def vjp(dloss):
        count = np.zeros_like(Z)  # [V, V], c(h w)
        np.add.at(count, (before, after), 1)
        return dloss * (count.sum(axis=1, keepdims=True) * np.exp(log_p) - count) / len(before)

    return loss, vjp


before, after = tiny[:-1], tiny[1:]
_, vjp = table_loss(np.zeros((3, 3)), before, after)
print("gradient at logits of 0, times 7:")
print((7 * vjp(1.0)).round(4))
z = np.log(np.maximum(C, 1e-300))  # logits = ln of the counts
_, vjp = table_loss(z, before, after)
print("and at the logarithms of the counts: at most", np.abs(vjp(1.0)).max())
assert np.abs(vjp(1.0)).max() < 1e-15

# %% [markdown]
# So a "neural" bigram model and counting are one model, and counting finds its optimum in one step.
# Let gradient descent try, on 20,000 letters, beside the counts:

# %%
letters_in, letters_out = text.train[:20_000], text.train[1:20_001]
counted = NGram(text.train[:20_001], 2, V, smoothing="mle").loss(text.train[:20_001])
Z, path = np.zeros((V, V)), []
for _ in range(400):
    loss, vjp = table_loss(Z, letters_in, letters_out)
    path.append(loss)
    Z -= 60.0 * vjp(1.0)
print("steps      ", [0, 10, 50, 100, 399])
print("loss       ", [round(float(path[i]), 4) for i in (0, 10, 50, 100, 399)])
print(f"by counting {counted:.4f}")
assert abs(path[0] - math.log(V)) < 1e-12
assert counted < path[-1] < counted + 0.1

# %% [markdown]
# It creeps up to the counts and never arrives: to say 0, a logit has to go to minus infinity. What
# has been seen once can be learned; that something *cannot* happen would take for ever. Here the
# slowness is a blessing.
#
# ### Step 5: add-k is a regularizer
#
# Add to the loss of a context the wish that no token be impossible, $-k \sum_i \ln p_i$. That is
# the loss of a text in which each token stands $k$ times more, so step 4 holds with $c_i + k$:
#
# $$
# \frac{\partial L_k}{\partial z_i} = (C + k V) \, p_i - (c_i + k) = 0 \quad \Rightarrow \quad p_i = \frac{c_i + k}{C + k V}
# $$
#
# It is weight decay for probabilities (lesson 07): a pull toward uniform, of strength $k$, and now
# the optimum has finite logits.

# %%
k = 0.5


def penalized(z):
    """-Σ (c + k) ln softmax(z) for the row of a: 0, 2, 1."""
    log_p, log_vjp = ops.log_softmax(z)
    weight = C[0] + k
    return -(weight * log_p).sum(), lambda d: log_vjp(-d * weight)


best = np.log(C[0] + k)
_, vjp = penalized(best)
print("gradient at ln(c + k):", vjp(1.0).round(16))
added = NGram(tiny, 2, 3, smoothing="add-k", k=k).next_token_probabilities([0])
print(
    "softmax of it:        ", ops.softmax(best)[0].round(4), " the library's add-k:", added.round(4)
)
assert np.abs(vjp(1.0)).max() < 1e-14
assert np.allclose(ops.softmax(best)[0], added)

# %% [markdown]
# ### Step 6: what a shortened context must count
#
# Ask the smoothed bigram model how often $w$ comes, whatever stands before it. That should be how
# often $w$ came. Let $q$ be the unknown model without context, $N_{1+}(\cdot \, w)$ the number of
# different tokens before $w$, and $N_{1+}(\cdot \, \cdot)$ the number of different pairs:
#
# $$
# \sum_h c(h) \, p(w \mid h) = c(w)
# $$
#
# Put the formula in. $c(h)$ cancels, and $D$ is taken once from each different $h$ before $w$:
#
# $$
# \sum_h \left[ c(h w) - D \, [c(h w) > 0] + D \, N(h) \, q(w) \right] = c(w) - D \, N_{1+}(\cdot \, w) + D \, N_{1+}(\cdot \, \cdot) \, q(w)
# $$
#
# That is $c(w)$ if, and only if, the last two terms cancel:
#
# $$
# q(w) = \frac{N_{1+}(\cdot \, w)}{N_{1+}(\cdot \, \cdot)}
# $$
#
# $D$ has gone, and there they are: different tokens in front. They come out of one sum, and no story
# is needed. (With $q$ itself discounted, for the sake of tokens that never came, the sum is off by
# that little.)

# %%
pairs = np.zeros((V, V))  # [V, V], c(h w) of the training text
np.add.at(pairs, (text.train[:-1], text.train[1:]), 1)
there = pairs.sum(axis=1, keepdims=True)  # [V, 1], c(h)
came = pairs.sum(axis=0)  # [V], c(w), but for the first letter


def marginal(q, D=0.75):
    """Σ_h c(h) p(w | h) of an interpolated bigram model above q."""
    follow = (pairs > 0).sum(axis=1, keepdims=True)
    return (np.maximum(pairs - D, 0) + D * follow * q).sum(axis=0)


by_kinds = (pairs > 0).sum(axis=0) / (pairs > 0).sum()
by_occurrence = came / came.sum()
rows = []
for name, q in [("different letters in front", by_kinds), ("occurrences", by_occurrence)]:
    off = marginal(q) - came
    rows.append([name, np.abs(off).max(), np.abs(off).sum()])
table(rows, columns=["below stands", "worst letter is off by", "all together"], digits=3)
assert rows[0][1] < 1e-8
assert rows[1][1] > 50

# %% [markdown]
# ### Step 7: how much to take
#
# Leave one token of the text out, and ask the rest for it. If its pair occurred $r$ times, the rest
# has $r - 1$ of it. For $r \ge 2$ its probability is in proportion to $r - 1 - D$; for $r = 1$ the
# rest has never seen it, and what it gets is in proportion to $D$. There are $r \, n_r$ such tokens:
#
# $$
# F(D) = n_1 \ln D + \sum_{r \ge 2} r \, n_r \ln(r - 1 - D)
# $$
#
# Set the derivative to 0, and keep only the term $r = 2$ of the sum:
#
# $$
# \frac{n_1}{D} - \frac{2 n_2}{1 - D} = 0 \quad \Rightarrow \quad n_1 (1 - D) = 2 n_2 D \quad \Rightarrow \quad D = \frac{n_1}{n_1 + 2 n_2}
# $$
#
# The three discounts come from the same thought, for each count by itself. The dropped terms would
# pull $D$ further down, so this is an upper bound of the maximum (Ney, Essen & Kneser 1994). Is the
# true maximum of $F$ better, then? Ask the kept-back part:

# %%
trigrams = Counter(zip(text.train[:-2], text.train[1:-1], text.train[2:], strict=True))
of_count = Counter(trigrams.values())  # n_r
n1, n2 = of_count[1], of_count[2]
D_found = n1 / (n1 + 2 * n2)
grid = np.linspace(0.01, 0.99, 99)
F = n1 * np.log(grid) + sum(r * n * np.log(r - 1 - grid) for r, n in of_count.items() if r > 1)
D_best = float(grid[F.argmax()])
print(f"n1 = {n1}, n2 = {n2}: D = {D_found:.4f};  the maximum of the whole F is at {D_best:.2f}")
assert abs(NGram(text.train, 3, V).discounts[-1][0] - D_found) < 1e-12
assert D_best < D_found

by_discount = {
    D: NGram(text.train, 3, V, discount=D).perplexity(text.validation)
    for D in (round(D_best, 2), round(D_found, 2), 0.6, 0.75, 0.9, 1.0)
}
table([list(by_discount.values())], columns=[f"D = {D}" for D in by_discount], digits=5,
      title="trigram model, perplexity on what was kept back")  # fmt: skip
assert 0.6 <= min(by_discount, key=by_discount.get) <= 0.9

# %% [markdown]
# The bound is better than the maximum, and a larger $D$ is better still. The derivation is right,
# but its question was not ours: one token taken out of the middle of a paragraph that repeats itself
# is easier than a new chapter. A new chapter has more that is new, so more should be kept for it.
# Many programs simply take 0.75.

# %% [markdown]
# ## 7. Gradient check, live
#
# The table of logits, on random pairs. Its gradient is made of counts, and the check knows nothing
# of them.

# %%
Z, X = rng.standard_normal((4, 5)), rng.integers(0, 4, 30)
Y = rng.integers(0, 5, 30)
report = gradcheck(lambda Z: table_loss(Z, X, Y), Z, names=["Z"])
print(report)
assert report

# %% [markdown]
# Then at the optimum itself: the logarithms of counts, none of them 0. Before you run it: what will
# the gradient be, and what will the differences say?

# %%
many = rng.integers(0, 4, 400), rng.integers(0, 5, 400)
counts = np.zeros((4, 5))
np.add.at(counts, many, 1)
at_best = gradcheck(lambda Z: table_loss(Z, *many), np.log(counts), names=["Z"])
print(at_best)
assert at_best
assert counts.min() > 0
assert np.abs(table_loss(np.log(counts), *many)[1](1.0)).max() < 1e-16

# %% [markdown]
# Both say 0. And the error against the step, away from the optimum:

# %%
from scratchlm.gradcheck import error_by_step

methods = ("central", "forward")
steps, curves = error_by_step(lambda Z: table_loss(Z, X, Y), Z, method=methods)
by_method = {f"{name} differences": each for name, each in zip(methods, curves, strict=True)}
ax = plot.gradcheck_curve(steps, by_method, title="table of logits: error against step")
show(ax, alt="V-shaped curves of error against step, both axes logarithmic: central differences are "
             "best near a step of 1e-5, forward differences near 1e-8.")  # fmt: skip
errors = curves[0]
print(f"best step {steps[errors.argmin()]:.0e}, error {errors.min():.0e}")
assert errors.min() < 1e-8

# %% [markdown]
# ## 8. See it
#
# ### How long a context is worth having?
#
# Perplexity against $n$. Dashed: on the first 60,000 letters of what was counted. Solid: on what was kept back. Look
# for the lowest point of each solid line, and for the space between dashed and solid. Before you
# run it: add-k gets worse from some $n$ on. Will Kneser–Ney, too?

# %%
lengths = range(1, 9)
kinds_of_model = {
    "relative frequencies": {"smoothing": "mle"},
    "add-k, k = 0.01": {"smoothing": "add-k", "k": 0.01},
    "Kneser–Ney": {},
    "Kneser–Ney, three discounts": {"discount": "modified"},
}
looks = {
    "relative frequencies": ("#8a8a8a", "s"),
    "add-k, k = 0.01": ("#D55E00", "v"),
    "Kneser–Ney": ("#0072B2", "o"),
    "Kneser–Ney, three discounts": ("#009E73", "^"),
}
own, kept_back = {}, {}
for name, options in kinds_of_model.items():
    models = [NGram(text.train, n, V, **options) for n in lengths]  # [8]; the last ones serve again
    if name in ("relative frequencies", "Kneser–Ney"):
        own[name] = [m.perplexity(text.train[:60_000]) for m in models]
    kept_back[name] = [m.perplexity(text.validation) for m in models]

with style():
    fig, ax = figure(width=7.2, height=4.2)
    for name, (color, marker) in looks.items():
        if name in own:
            ax.plot(lengths, own[name], "--", color=color, marker=marker, markersize=4,
                    label=f"{name}, own text")  # fmt: skip
        if name != "relative frequencies":
            ax.plot(
                lengths, kept_back[name], color=color, marker=marker, label=f"{name}, kept back"
            )
    ax.set(yscale="log", xlabel="n (letters: n − 1 of context and the next one)",
           ylabel="perplexity per letter (logarithmic)", title="Longer contexts")  # fmt: skip
    ax.set_yticks([1, 2, 3, 5, 10, 20], ["1", "2", "3", "5", "10", "20"])
    ax.minorticks_off()
    ax.legend()
show(fig, alt=(
    "Perplexity against n from 1 to 8, logarithmic. On its own text relative frequencies fall from "
    "26 to below 2. Kept back, add-k falls to about 4.5 at n = 4 and rises again; both Kneser–Ney "
    "lines fall to about 3.2 and flatten, the one with three discounts a little below."
))  # fmt: skip
table(
    [[n, *[kept_back[name][n - 1] for name in looks]] for n in lengths],
    columns=["n", *looks],
    title="perplexity on what was kept back",
    digits=4,
)
lowest = {name: int(np.argmin(values)) + 1 for name, values in kept_back.items()}
print("lowest at n =", {name: n for name, n in lowest.items() if name != "relative frequencies"})
assert lowest["add-k, k = 0.01"] in (3, 4, 5)
assert lowest["Kneser–Ney, three discounts"] >= 6
assert np.isinf(kept_back["relative frequencies"]).sum() >= 7
assert all(
    a < b for a, b in zip(kept_back["Kneser–Ney, three discounts"][2:],
                          kept_back["Kneser–Ney"][2:], strict=True)
)  # fmt: skip

# %% [markdown]
# Kneser–Ney does not: a longer context speaks where it was seen often, and is silent where not. The
# price of too large an $n$ is memory, not perplexity. And the dashed lines show why nobody judges a
# model on its own text: there, more context always looks better.
#
# ### What is more text worth?
#
# The same kept-back part, models of six lengths, counted on the first letters of the training text.
# Left add-k, right Kneser–Ney. Look for crossings. Before you run it: after 1000 letters, is a
# 6-gram model worse than one that knows no context at all?

# %%
sizes = [1000, 4000, 16_000, 64_000, len(text.train)]
curves = {}
for name in ("add-k, k = 0.01", "Kneser–Ney, three discounts"):
    for n in range(1, 7):
        curves[name, n] = [
            NGram(text.train[:size], n, V, **kinds_of_model[name]).perplexity(text.validation)
            for size in sizes[:-1]
        ] + [kept_back[name][n - 1]]
shades = ["#440154", "#3b528b", "#21918c", "#5ec962", "#e69f00", "#D55E00"]
with style():
    fig, axes = figure(1, 2, width=9.2, height=4.0, sharey=True)
    for ax, name in zip(axes, ("add-k, k = 0.01", "Kneser–Ney, three discounts"), strict=True):
        for n in range(1, 7):
            ax.plot(sizes, curves[name, n], marker="o^sDvP"[n - 1], markersize=4.5,
                    color=shades[n - 1], label=f"n = {n}")  # fmt: skip
        ax.set(xscale="log", yscale="log", title=name, xlabel="letters counted (logarithmic)")
        ax.set_yticks([3, 5, 10, 20, 40, 80], ["3", "5", "10", "20", "40", "80"])
        ax.minorticks_off()
    axes[0].set_ylabel("perplexity per letter (logarithmic)")
    axes[1].legend(ncols=2)
show(fig, alt=(
    "Two panels of perplexity against letters counted. With add-k the lines cross: with 1000 "
    "letters the 6-gram is far worse than the bigram, with all letters n = 4 is best. With "
    "Kneser–Ney they do not: longer is never worse, and the gap opens with more text."
))  # fmt: skip
table(
    [[f"{size:,}", *[curves[name, n][i] for name in ("add-k, k = 0.01",
      "Kneser–Ney, three discounts") for n in (1, 3, 6)]] for i, size in enumerate(sizes)],
    columns=["letters", "add-k 1", "3", "6", "Kneser–Ney 1", "3", "6"],
    digits=3,
)  # fmt: skip
assert curves["add-k, k = 0.01", 6][0] > 1.5 * curves["add-k, k = 0.01", 1][0]
assert curves["Kneser–Ney, three discounts", 6][0] < curves["Kneser–Ney, three discounts", 1][0]
unigram, sixgram = (curves["Kneser–Ney, three discounts", n] for n in (1, 6))
assert unigram[0] / unigram[-1] < 2 < sixgram[0] / sixgram[-1]

# %% [markdown]
# With add-k, yes, by far; with Kneser–Ney, no. And data is worth most to those who can use it: from
# a thousand letters to all of them, the unigram gains a quarter and the 6-gram a factor of six. (The
# lines are not smooth: a chapter about something else teaches little about what was kept back.)
#
# ### Occurrences and company
#
# Now words. Each point is a word of the help texts: how often it occurs, and after how many
# different words. Look for the points far below the crowd. Before you run it: which words of a
# manual would occur all the time, but after one or two words only?

# %%
training, held_out = split(load("topics"))
cut = lambda each: re.findall(r"\w+|[^\w\s]", each.lower())
words = cut(training)
often = Counter(words)
company = Counter(second for _, second in set(pairwise(words)))
chosen = [w for w in often if w.isalpha() and often[w] >= 20]
with style():
    fig, ax = figure(width=6.8, height=4.4)
    ax.plot([often[w] for w in chosen], [company[w] for w in chosen], "o", markersize=3.5,
            color="#0072B2", alpha=0.5)  # fmt: skip
    for w in ("the", "be", "self", "same", "using", "if", "pep", "value"):
        ax.plot(often[w], company[w], "o", markersize=5, color="#D55E00")
        ax.annotate(w, (often[w], company[w]), (5, -3), textcoords="offset points", fontsize=9)
    line = np.array([20, 4500])
    ax.plot(line, line, color="#8a8a8a", linewidth=1, linestyle="--")
    ax.annotate("a new word before it each time", (150, 215), fontsize=8.5, rotation=21)
    ax.set(xscale="log", yscale="log", xlabel="occurrences (logarithmic)",
           ylabel="different words before it (logarithmic)", title="Often, or in many places?")  # fmt: skip
show(fig, alt=(
    "Scatter of words: different words in front against occurrences, both logarithmic, all below "
    "the diagonal. 'pep' and 'same' lie far below the crowd, 'using' near the diagonal, 'the' at "
    "the upper right."
))  # fmt: skip
table([[w, often[w], company[w], company[w] / often[w]] for w in ("same", "self", "using")],
      columns=["word", "occurrences", "different words before", "share"], digits=2)  # fmt: skip
assert company["same"] / often["same"] < 0.1
assert company["using"] / often["using"] > 0.3
assert often["same"] > often["using"]

# %% [markdown]
# *same* occurs more often than *using*, and nearly always in *the same*. After a context that was
# never seen, occurrences would bet on *same*. Different words in front bet on *using*. The textbook
# example is *Francisco*, frequent in newspapers, and only after *San*.

# %% [markdown]
# ## 9. Break it
#
# ### The document's one sentence
#
# D4 prints nothing that could be run. So here are the mistakes that are made with it.
#
# ### Sixteen ways to miscount
#
# A trigram model, counted on 600 letters; the next 60 are guessed. Each row is a mistake of the
# check. Two columns tell: what the probabilities sum to, and the perplexity, if one believes them.
# Before you look: which mistakes get a *better* perplexity than the right model?

# %%
small, ask = text.train[:600], text.train[600:662]
names = [("(right)", solved.kneser_ney)]
names += [(m.name, m.function) for m in known["kneser_ney"].mistakes]
rows = []
with np.errstate(all="ignore"):
    for name, function in names:
        given = np.array([function(small, ask[t - 2 : t], V) for t in range(2, 62)])  # [60, V]
        surprise = -np.log(np.maximum(given[np.arange(60), ask[2:]], 0))
        sums = given.sum(axis=1)
        rows.append([name, sums.min(), sums.max(), np.exp(surprise.mean())])
table(rows, columns=["", "least sum", "largest sum", "perplexity"], digits=4)
right = rows[0]
cheats = [name for name, _, top, ppl in rows[1:] if ppl < right[3] and top > 1 + 1e-9]
print("better than right, with sums above 1:", ", ".join(cheats))
by_name = {name: (low, high, ppl) for name, low, high, ppl in rows}
assert abs(right[1] - 1) < 1e-12
assert abs(right[2] - 1) < 1e-12
assert "nothing taken" in cheats
assert by_name["discount not given back"][1] < 1
assert by_name["occurrences below the top"][0] > 1 - 1e-9
assert by_name["occurrences below the top"][2] > right[3]
assert np.isnan(by_name["unseen context: 0/0"][2])

new = next(w for w in range(V) if w not in small)  # a letter that the 600 do not have
zero = [name for name, function in names if not function(small, ask[:2], V)[new] > 0]
print(f"call {text.vocabulary.decode(np.array([new]))!r} impossible:", ", ".join(zero))
assert "(right)" not in zero
assert {"nothing below the empty context", "zero below the empty context"} <= set(zero)

# %% [markdown]
# A perplexity is only worth something if the probabilities sum to 1. Who gives away more than there
# is looks wonderful. So test the sum before you are proud. Other mistakes keep the sum and are a
# little worse ("occurrences below the top"), or better by chance on 60 letters, or not to be told
# from the right one here (the last two rows). And some wait for the first letter that is new, and
# then lose everything.
#
# ### Add one, and drown
#
# Adding 1 to each count seems modest. Words, not letters now: 2,500 of them, so that each context
# gets 2,500 sightings that never were. Look for the best $k$ of each line. Before you run it: where
# is it, near 1, near 0.1 or near 0.001?

# %%
vocabulary = ["<unk>", *(w for w, times in often.most_common() if times > 1)]
number = {w: i for i, w in enumerate(vocabulary)}
train_words = np.array([number.get(w, 0) for w in words])
test_words = np.array([number.get(w, 0) for w in cut(held_out)])
W = len(vocabulary)
ks = np.logspace(-4, 1, 11)
with style():
    fig, ax = figure(width=6.6, height=3.8)
    bests = {}
    for n, color, marker in ((1, "#8a8a8a", "s"), (2, "#0072B2", "o"), (3, "#D55E00", "v")):
        values = [
            NGram(train_words, n, W, smoothing="add-k", k=k).perplexity(test_words) for k in ks
        ]
        bests[n] = ks[int(np.argmin(values))], min(values), values[8]
        ax.plot(ks, values, color=color, marker=marker, label=f"n = {n}")
    floor = NGram(train_words, 3, W).perplexity(test_words)
    ax.axhline(floor, color="#009E73", linestyle="--", label="n = 3, Kneser–Ney")
    ax.set(xscale="log", yscale="log", xlabel="k (logarithmic)",
           ylabel="perplexity per word (logarithmic)", title="What add-k does to words")  # fmt: skip
    ax.set_yticks([20, 30, 50, 100, 200, 300], ["20", "30", "50", "100", "200", "300"])
    ax.minorticks_off()
    ax.legend()
show(fig, alt=(
    "Perplexity per word against k. The unigram's line is flat near 100. The bigram's and the "
    "trigram's have their lowest points between 0.001 and 0.01 and rise steeply; at k = 1 the trigram is above "
    "the unigram. Kneser–Ney's trigram is a dashed line below all."
))  # fmt: skip
table([[n, *values] for n, values in bests.items()],
      columns=["n", "best k", "perplexity there", "at k = 1"], digits=3)  # fmt: skip
print(f"Kneser–Ney, n = 3: {floor:.1f}")
assert abs(ks[8] - 1) < 1e-12
assert bests[3][0] < 0.1
assert bests[3][2] > bests[1][2]
assert floor < 0.7 * bests[3][1]

# %% [markdown]
# Between 0.003 and 0.01. With $k = 1$ the trigram is worse than no context at all. And even at its best, add-k
# gives each unseen word the same, where Kneser–Ney asks the bigram.
#
# ### The unknown word that is easy to guess
#
# Words outside the vocabulary become one token, `<unk>`. Make the vocabulary smaller, and watch
# the perplexity of a trigram model. Does the model get better?

# %%
rows = []
for least in (2, 5, 20, 100, 1000):
    keep = {w: i + 1 for i, w in enumerate(w for w, times in often.items() if times >= least)}
    a = np.array([keep.get(w, 0) for w in words])
    b = np.array([keep.get(w, 0) for w in cut(held_out)])
    rows.append([least, len(keep) + 1, (b == 0).mean(), NGram(a, 3, len(keep) + 1).perplexity(b)])
table(rows, columns=["words that occur", "vocabulary", "share of <unk>", "perplexity"], digits=3)
assert all(a[3] > b[3] for a, b in pairwise(rows))
assert rows[-1][3] < rows[0][3] / 2

# %% [markdown]
# It gets better at saying `<unk>`. Perplexities of different vocabularies are not comparable: that is
# why the table of section 12, and all of this course, count letters or bytes (lesson 08).
#
# ### A kept-back part that was not kept back
#
# Manuals repeat themselves. The library's `split` takes paragraphs of the kept-back part out of the
# training text; here is the same cut without that. Which model gains most from having seen the test?

# %%
whole = load("topics")
leaky = text.vocabulary.encode(whole[: len(whole) - len(held_out)])
rows = []
for n in (1, 3, 6, 8):
    clean, leak = (NGram(a, n, V).perplexity(text.validation) for a in (text.train, leaky))
    rows.append([n, clean, leak, clean / leak])
table(rows, columns=["n", "split", "cut only", "ratio"], digits=4)
assert abs(rows[0][3] - 1) < 0.02
assert rows[-1][3] > rows[1][3] > 0.99
assert rows[-1][3] > 1.01

# %% [markdown]
# The longest, of course: it knows paragraphs by heart. A leak flatters the strongest model most, and
# a network with a hundred million weights has an even better memory.

# %% [markdown]
# ## 10. Your turn
#
# Two functions, and neither has a gradient to return.
#
#     scratchlm start 12            # copies the stub into your folder
#     scratchlm check 12 --watch    # checks it each time you save
#     scratchlm hint 12             # three levels, for each function
#
# `mle(ids, context, vocab_size)` first: it is `kneser_ney` without the interesting line. Then
# `kneser_ney(ids, context, vocab_size, *, discount=0.75)`. Work *a b a b a c b b* out on paper, or
# look at section 4, and print what you have at each length.

# %%
print("what the check says to a model that counts occurrences everywhere:\n")
fault = (
    known["kneser_ney"]
    .check(known["kneser_ney"].mistake("occurrences below the top").function)
    .fault
)
print(fault.what, fault.where, fault.looks_like, fault.hint, sep="\n")

# %% [markdown]
# ## 11. Cost
#
# | | operations | memory |
# |---|---|---|
# | counting | $n$ sorts of $T$ keys: $n T \log T$ | three numbers for each different n-gram |
# | loss of $T$ tokens | $n T$ binary searches | $n T$ places |
# | one next token | $n$ searches, and $n$ additions of what follows | $V$ numbers |
# | a full table | | $V^n$ numbers |
#
# The last row is why one sorts. Count what is there, against what there could be:

# %%
big = NGram(text.train, 8, V)
rows = []
for m, seen in enumerate(big.sizes, 1):
    rows.append([m, seen, float(V) ** m, seen / len(text.train), 24 * seen / 1e6])
table(rows, columns=["n", "different n-grams", "possible", "for each letter of text", "MB"],
      digits=3)  # fmt: skip
assert big.sizes[1] < V**2 / 3
assert big.sizes[7] > 0.3 * len(text.train)

# %% [markdown]
# The model grows with the text, and at $n = 8$ it holds an n-gram for every third letter it read. A
# network of lesson 29 has the same size after a thousand letters as after a trillion. There is
# nothing to keep for a backward pass: the optimum is known.

# %% [markdown]
# ## 12. Use it
#
# ### The floor
#
# Letters of the help texts, the split that all language models of this course use. Three discounts,
# no choice left to make. Whatever is trained later is put beside this table; the seed of a network
# can be blamed, but here there is none. (Other versions of Python have slightly other help texts.)

# %%
rows = []
for n in range(1, 7):
    loss = models[n - 1].loss(text.validation)  # those of section 8 with three discounts
    rows.append([n, loss, metrics.bits(loss), metrics.perplexity(loss)])
table(rows, columns=["n", "nats per letter", "bits per letter", "perplexity"], digits=4,
      title="Kneser–Ney, three discounts, on what was kept back")  # fmt: skip
nats = [row[1] for row in rows]
assert all(a > b for a, b in pairwise(nats))
assert 3.0 < nats[0] < 3.5
assert 2.1 < nats[1] < 2.5
assert 1.5 < nats[2] < 1.9
assert nats[5] < 1.35

# %% [markdown]
# ### Writing
#
# A model that predicts can write: draw the next letter, append, repeat. Each line knows one letter
# more. Read from top to bottom, and say at which $n$ the first English word appears, and where the
# first thing that looks like Python.

# %%
for n in (1, 2, 3, 4, 6, 8):
    ids = models[n - 1].sample(85, rng=3, context=text.vocabulary.encode("The "))
    print(f"n = {n}: The {text.vocabulary.decode(ids)!r}")

# %% [markdown]
# ### Words
#
# The same text as words, 2,500 of them. Which row is best, and by how much does the method matter
# beside $n$?

# %%
rows = []
for n in range(1, 6):
    rows.append([n] + [NGram(train_words, n, W, **options).perplexity(test_words) for options in (
        {"smoothing": "add-k", "k": 1}, {"smoothing": "add-k", "k": 0.003},
        {}, {"discount": "modified"})])  # fmt: skip
table(rows, columns=["n", "add-one", "add-0.003", "Kneser–Ney", "three discounts"], digits=3,
      title="perplexity per word")  # fmt: skip
last = rows[-1]
assert last[1] > 5 * last[4]
assert last[4] < last[3] < last[2] < last[1]
assert last[4] < 30

# %% [markdown]
# From the worst to the best smoothing is a factor of sixteen, at the same counts. That is the whole
# lesson in one row: counting is easy, and what one does about the unseen decides.

# %% [markdown]
# ## 13. Recap
#
# Three questions. Answer before you read on.
#
# 1. A model with logits is trained on a text until its gradient is 0 and has one row of logits for
#    each context of two tokens. What are its probabilities?
# 2. In Kneser–Ney, why do shortened contexts not count occurrences?
# 3. Your smoothing has a lower perplexity than everyone else's. What do you look at first?
#
# *1.* The relative frequencies of the trigrams (and the zeros are only reached in the limit). *2.*
# They are asked only when the longer context did not know. Counting different tokens in front is the
# one choice with which each token comes as often as it came. *3.* Whether the probabilities sum to 1;
# then whether the test text was in the training text; then how the tokens were cut.
#
# | English | 中文 | |
# |---|---|---|
# | n-gram | n元语法 | n tokens that stand together |
# | relative frequency | 相对频率 | counts divided by their sum |
# | maximum likelihood | 最大似然 | the probabilities under which the text is most probable |
# | smoothing | 平滑 | giving probability to what was not seen |
# | discount | 折扣 | what is taken from a count |
# | interpolation | 插值 | mixing with the model of the shorter context |
# | backing off | 回退 | using the shorter context where the longer one is unseen |
# | Lagrange multiplier | 拉格朗日乘子 | the price of a constraint |
#
# References: Markov 1913, on *Eugene Onegin*. Shannon 1948, *A Mathematical Theory of
# Communication*, §3. Lidstone 1920. Ney, Essen & Kneser 1994, *On structuring probabilistic
# dependences in stochastic language modelling*. Kneser & Ney 1995, *Improved backing-off for m-gram
# language modeling*. Chen & Goodman 1998, *An Empirical Study of Smoothing Techniques for Language
# Modeling*, §2 and §3. Jurafsky & Martin, *Speech and Language Processing*, 3rd edition, chapter 3.
#
# Next: lesson 13 gives each token a row of numbers, so that a model can know that two words are
# alike. Counting never will.
