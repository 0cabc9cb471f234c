# %% [markdown]
# # 08 · Metrics · 评估指标
#
# A loss tells a model where to go. A metric tells you whether to be glad. Three of them return all
# through this course: F1 for decisions, perplexity for language models, BLEU for translations. Each
# is two lines of arithmetic, and each has a wrong version that looks right.

# %% [markdown]
# ## 1. Card
#
# You need cross-entropy from lesson 05. At the end you have written F1, perplexity and BLEU so that
# they agree with scikit-learn and sacrebleu, and you know which gradient hides behind two of them.

# %%
import math
from collections import Counter

import numpy as np

from scratchlm import gradcheck, metrics, ops, plot
from scratchlm.data import corpus, load
from scratchlm.lessons import card, exercises, figure, show, solution, source, table
from scratchlm.models import bigram_loss
from scratchlm.plot import style

card(8)
solved = solution(8)
known = exercises(8)

# %% [markdown]
# ## 2. Hook
#
# A thousand messages, ten of them spam. Three filters: one never says spam, one always does, and one
# works: it finds eight of the ten, and raises twelve false alarms. Which one would you install?

# %%
spam = np.array([1] * 10 + [0] * 990)  # [1000]
filters = {
    "never": np.zeros(1000, int),
    "always": np.ones(1000, int),
    "works": np.array([1] * 8 + [0] * 2 + [1] * 12 + [0] * 978),
}


def as_printed(y_true, y_pred, weight=0.5):
    """The F1 of D2 §2.9: a weighted mean of accuracy and recall."""
    return weight * metrics.accuracy(y_true, y_pred) + (1 - weight) * metrics.recall(y_true, y_pred)


hook = {
    name: [metrics.accuracy(spam, said), as_printed(spam, said), metrics.f1(spam, said)]
    for name, said in filters.items()
}
table(
    [[name, *numbers] for name, numbers in hook.items()],
    columns=["filter", "accuracy", "F1 as printed in D2 §2.9", "F1"],
    digits=3,
)
assert hook["never"][0] > hook["works"][0]  # accuracy prefers the filter that does nothing
assert hook["always"][1] > 0.5 > hook["never"][1] > 0.49
assert hook["never"][2] == 0
assert hook["always"][2] < 0.02
assert abs(hook["works"][2] - 8 / 15) < 1e-12

# %% [markdown]
# By accuracy the best filter is the one that does nothing. The formula printed in D2 gives half of
# all points to each of the two that cannot tell spam from anything. F1 gives them 0 and 0.02. What
# does it do differently?

# %% [markdown]
# ## 3. Formula
#
# **As printed.** D2 §2.9, and again §9.5, define three shares in words. The first, 准确率, is the
# share of predictions that agree with the truth: the accuracy. The second, 召回率, is the share of
# what is true that was predicted. Then F1 as the weighted mean of these two, with weights that are
# not given:
#
# $$
# F_1 = w \cdot \mathrm{accuracy} + (1 - w) R
# $$
#
# D2 §9.5 adds perplexity, without a formula, and says that smaller is better. That is right. D3
# §4.3 names accuracy, recall and F1 for its first case and BLEU for its second, without formulas.
#
# **As published.** Choose one class and count:
#
# | symbol | variable | shape | what it is |
# |---|---|---|---|
# | tp | `hits` | `[K]` | called so, and truly so; one count for each of $K$ classes |
# | tp + fp | `called` | `[K]` | called so |
# | tp + fn | `there` | `[K]` | truly so |
# | $P$ | `p` | `[K]` | precision, 精确率: of what was called so, how much is so |
# | $R$ | `r` | `[K]` | recall, 召回率: of what is so, how much was called so |
# | $N$ | `n` | a number | tokens that a language model had to guess |
# | $V$ | `V` | a number | size of its vocabulary; logits are `[N, V]` |
# | $p_n$ | `precisions` | `[4]` | share of the translations' n-grams that stand in a reference |
# | $c$, $r$ | `c`, `r` | numbers | tokens of the translations, and of the references |
#
# $$
# P = \frac{\mathrm{tp}}{\mathrm{tp} + \mathrm{fp}}, \quad R = \frac{\mathrm{tp}}{\mathrm{tp} + \mathrm{fn}}, \quad F_1 = \frac{2 P R}{P + R}
# $$
#
# This is van Rijsbergen 1979 (chapter 7, where $E = 1 - F$). $F_1$ is the harmonic mean of precision
# and recall. What differs from the print: accuracy has taken the place of precision, and so the
# rightly rejected messages come in, all 978 of them. In Chinese it is one character, 准 for 精. The
# other part of the sentence, the "weighted mean", is nearer to the truth than it looks: section 6
# finds weights with which it is exactly right.
#
# Perplexity (Jelinek et al. 1977) is the cross-entropy of lesson 05, put into exp:
#
# $$
# \mathrm{PPL} = \exp \left( -\frac{1}{N} \sum_{t=1}^{N} \ln p(x_t \mid x_1, \ldots, x_{t-1}) \right)
# $$
#
# BLEU (Papineni et al. 2002, §2.3) is a geometric mean of four precisions, times a penalty for being
# short:
#
# $$
# \mathrm{BLEU} = \min \left( 1, e^{1 - r/c} \right) \exp \left( \frac{1}{4} \sum_{n=1}^{4} \ln p_n \right)
# $$
#
# With more than two classes there is an F1 for each, and three ways to make one number of them.
# **Macro**: the mean. **Weighted**: the mean, each class weighted by how often it occurs. **Micro**:
# add up the counts of all classes, then take one F1.

# %% [markdown]
# ## 4. By hand
#
# Six messages in two rows of three, 1 for spam.

# %%
truth = np.array([[1, 0, 0], [0, 0, 0]])  # [2, 3]
said = np.array([[1, 1, 1], [0, 0, 0]])  # [2, 3]

hits = int((truth * said).sum())
called, there = int(said.sum()), int(truth.sum())
right = int((truth == said).sum())
p, r = hits / called, hits / there
print("truth ", truth.tolist())
print("said  ", said.tolist())
print("both  ", (truth * said).tolist(), f"-> {hits} hits, {called} called so, {there} truly so")
print(f"P = {hits} / {called} = {p:.4f}")
print(f"R = {hits} / {there} = {r:.4f}")
print(f"F1 = 2 · {p:.4f} · {r:.4f} / ({p:.4f} + {r:.4f}) = {2 * p * r / (p + r):.4f}")
print(f"in counts: 2 · {hits} / ({called} + {there}) = {2 * hits / (called + there):.4f}")
print(f"accuracy = {right} / 6 = {right / 6:.4f}")
print(f"as printed, w = 1/2: ({right / 6:.4f} + {r:.4f}) / 2 = {(right / 6 + r) / 2:.4f}")
assert abs(metrics.f1(truth.ravel(), said.ravel()) - 1 / 2) < 1e-15
assert abs(as_printed(truth.ravel(), said.ravel()) - 5 / 6) < 1e-15

# %% [markdown]
# A language model makes two guesses among three tokens. Its logits are the logarithms of 1, 2, 1 and
# of 1, 1, 2, and the right tokens are the second and the first.

# %%
logits = np.log([[1.0, 2, 1], [1, 1, 2]])  # [2, 3]
targets = np.array([1, 0])  # [2]
probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)  # [2, 3]
print("softmax", probabilities.tolist())
surprise = -np.log(probabilities[[0, 1], targets])  # [2]
print(f"-ln 1/2 = {surprise[0]:.4f},  -ln 1/4 = {surprise[1]:.4f},  mean {surprise.mean():.4f}")
print(f"perplexity = exp({surprise.mean():.4f}) = {np.exp(surprise.mean()):.4f} = √(2 · 4)")
assert abs(solved.perplexity(logits, targets) - math.sqrt(8)) < 1e-14

# %% [markdown]
# So a perplexity of 2.83: as unsure as between 2.83 equally likely tokens. It is the geometric mean
# of $1/p$, here of 2 and 4.
#
# Now a translation. D1 §3.5.2 has the pair 我是一个大型语言模型 and "I am a large language model".
# Suppose a model says "big" for "large".

# %%
candidate = ["I", "am", "a", "big", "language", "model"]
reference = ["I", "am", "a", "large", "language", "model"]
for n in (1, 2, 3, 4):
    mine = [tuple(candidate[i : i + n]) for i in range(len(candidate) - n + 1)]
    theirs = [tuple(reference[i : i + n]) for i in range(len(reference) - n + 1)]
    good = [" ".join(gram) for gram in mine if gram in theirs]
    print(f"{n}-grams: {len(good)} of {len(mine)}  {good}")
print(
    f"up to n = 3: (5/6 · 3/5 · 1/4)^(1/3) = (1/8)^(1/3) = {(5 / 6 * 3 / 5 * 1 / 4) ** (1 / 3):.4f}"
)
print("up to n = 4: one factor is 0, and so is the product")
assert abs(solved.bleu([candidate], [[reference]], max_order=3) - 50) < 1e-12
assert solved.bleu([candidate], [[reference]]) == 0

# %% [markdown]
# One word of six is wrong, and BLEU is 0. It was made for a corpus of thousands of sentences, where
# no order is without a match. For single sentences one *smooths*: the missing match is counted as a
# half (then a quarter, …), as in the table of section 9.

# %% [markdown]
# ## 5. In code
#
# F1 of one class with a loop, then from a confusion matrix: `C[i, j]` counts what is truly $i$ and
# was taken for $j$. Row sums are what is there, column sums what was called so, the diagonal holds
# the hits.


# %%
def f1_loop(y_true, y_pred, k):
    hits = called = there = 0
    for t, p in zip(y_true, y_pred, strict=True):
        there += t == k
        called += p == k
        hits += t == k and p == k
    return 2 * hits / (called + there) if called + there else 0.0


def f1_matrix(y_true, y_pred, classes):
    C = np.zeros((classes, classes))
    np.add.at(C, (y_true, y_pred), 1)  # duplicates add, as in lesson 01
    hits, there, called = np.diag(C), C.sum(axis=1), C.sum(axis=0)
    return 2 * hits / np.maximum(there + called, 1)  # [classes]


rng = np.random.default_rng(8)
y_true = rng.integers(0, 4, 200)
y_pred = np.where(rng.random(200) < 0.6, y_true, rng.integers(0, 4, 200))
library = metrics.f1(y_true, y_pred, average=None)
loops = [f1_loop(y_true, y_pred, k) for k in range(4)]
matrix = f1_matrix(y_true, y_pred, 4)
print("F1 of the four classes:", library.round(4).tolist())
assert np.abs(loops - library).max() < 1e-15
assert np.abs(matrix - library).max() < 1e-15
for average in ("macro", "micro", "weighted"):
    print(f"{average:9} {metrics.f1(y_true, y_pred, average=average):.4f}")
assert abs(solved.f1(y_true, y_pred, average="macro") - matrix.mean()) < 1e-15

# %% [markdown]
# One of these is an old friend. Where each sample has one class and gets one, each miss is counted
# twice: called so wrongly for one class, missed for another. Added up over all classes, called =
# there = n, and so micro precision, micro recall and micro F1 are all the accuracy.

# %%
micro = metrics.precision_recall_f1(y_true, y_pred, average="micro")
print("accuracy", metrics.accuracy(y_true, y_pred), " micro", micro[:3])
assert set(micro[:3]) == {metrics.accuracy(y_true, y_pred)}

# %% [markdown]
# The library's formula, in counts:

# %%
from scratchlm.metrics.classification import scores

source(scores)

# %% [markdown]
# Perplexity with a loop, and with the library's cross-entropy. Padding, marked by -100, does not
# count.


# %%
def perplexity_loop(logits, targets):
    total, count = 0.0, 0
    for row, target in zip(logits, targets, strict=True):
        if target != -100:
            total += math.log(sum(math.exp(v - max(row)) for v in row)) + max(row) - row[target]
            count += 1
    return math.exp(total / count)


many = rng.standard_normal((50, 7))
ids = rng.integers(0, 7, 50)
ids[::5] = -100
three = [
    perplexity_loop(many, ids),
    solved.perplexity(many, ids),
    metrics.perplexity(float(ops.cross_entropy(many, ids)[0])),
]
print("perplexity:", three)
assert np.ptp(three) < 1e-13
uniform = solved.perplexity(np.zeros((50, 7)), ids)
print(f"a model that knows nothing about 7 tokens: {uniform:.6f}")
assert abs(uniform - 7) < 1e-12

# %% [markdown]
# BLEU has three ideas in three lines of the solution. Look for them: `most` is the **clipping**, the
# sums over the whole corpus stand *outside* the loop over sentences, and `penalty` is the answer to
# a translator who says only what is sure.

# %%
source(solved.bleu)
sentence = ["the the the the the the the"]
both = [["the cat is on the mat", "there is a cat on the mat"]]
clip = metrics.bleu(sentence, both, max_order=1)
print(
    f"seven times 'the': {clip.hits[0]} hits of {clip.totals[0]}, as in Papineni et al. 2002, §2.1"
)
assert (clip.hits, clip.totals) == ((2,), (7,))
mine = solved.bleu([sentence[0].split()], [[each.split() for each in both[0]]], max_order=1)
assert abs(mine - clip.score) < 1e-12

# %% [markdown]
# The library's `metrics.bleu` takes whole texts, and so it has to say what a token is. The same
# translation, with four tokenizers:

# %%
chinese, wanted = "我是一个大的语言模型。", "我是一个大型语言模型。"
english, meant = "It's a big, well-known model (2.5B).", "It's a large, well-known model (2.5B)."
rows = []
for name in ("none", "13a", "zh", "char"):
    a = metrics.bleu([english], [meant], tokenize=name)
    b = metrics.bleu([chinese], [wanted], tokenize=name)
    rows.append([name, a.totals[0], a.score, b.totals[0], b.score])
table(rows, columns=["tokenizer", "English tokens", "BLEU", "Chinese tokens", "BLEU"], digits=3)
by_tokens = {row[0]: row for row in rows}
assert by_tokens["none"][2] < by_tokens["13a"][2] < by_tokens["char"][2]
assert by_tokens["none"][4] == 0
assert by_tokens["zh"][4] > 50

# %% [markdown]
# A BLEU without its tokenizer is half a number (Post 2018). For Chinese, `none` sees a sentence as
# one word, right or wrong as a whole.
#
# Three relatives, in one line each. **ROUGE** (Lin 2004) asks the same for summaries, from the side
# of recall too; its L looks for the longest common subsequence. **Entity F1** counts whole names in
# tagged sentences: a hit needs the type, the first and the last token. And **per-character**
# perplexity makes models with different tokens comparable.

# %%
summary = metrics.rouge("the gunman kill police", "police killed the gunman")
table(
    [[kind, *each[:3]] for kind, each in summary.items()],
    columns=["", "precision", "recall", "F1"],
    title="'the gunman kill police' for 'police killed the gunman'",
    digits=3,
)
assert (summary["rouge2"].f1, summary["rougeL"].f1) == (1 / 3, 1 / 2)
print("Chinese, default tokens:   ", metrics.rouge(chinese, wanted)["rougeL"].f1)
print("Chinese, characters:       ", metrics.rouge(chinese, wanted, tokenize=list)["rougeL"].f1)
assert metrics.rouge(chinese, wanted)["rougeL"].f1 == 0

tags = ["B-PER", "I-PER", "O", "O", "B-LOC"]
guess = ["B-PER", "O", "O", "O", "B-LOC"]
token_accuracy, entity = metrics.accuracy(tags, guess), metrics.entity_f1([tags], [guess])
print(f"tags right: {token_accuracy:.2f}, entities right: {entity:.2f}", metrics.entities(guess))
assert (token_accuracy, entity) == (0.8, 0.5)

# %% [markdown]
# The zero for Chinese is no mistake of this library: ROUGE's usual tokenizer keeps a to z and 0 to 9
# and drops all else. Whoever reports ROUGE for Chinese has to say how the text was cut.

# %% [markdown]
# ## 6. Backward, derived
#
# Metrics are for judging, so who needs a derivative? You do, to see why nobody trains on F1 or BLEU,
# what it would take, and why training on cross-entropy is training on perplexity.
#
# ### Step 1: F1 in counts
#
# Put $P = \mathrm{tp} / c$ and $R = \mathrm{tp} / a$ in, with $c$ for what was called so and $a$ for
# what is actually so:
#
# $$
# F = \frac{2 P R}{P + R} = \frac{2 \, \mathrm{tp}^2 / (c a)}{\mathrm{tp} (a + c) / (c a)} = \frac{2 \, \mathrm{tp}}{c + a}
# $$
#
# Precision and recall are gone. What is rightly rejected appears nowhere. And now read the numerator
# as $\mathrm{tp} + \mathrm{tp}$, once as $c P$ and once as $a R$:
#
# $$
# F = \frac{c P + a R}{c + a}
# $$
#
# This *is* a weighted mean of precision and recall, with the counts as weights. So D2's sentence has
# one wrong word in it, and leaves out what makes it useful: the weights are not free. A filter that
# calls everything spam has a huge $c$, and its tiny precision gets nearly all the weight.

# %%
c, a = called, there
assert abs((c * p + a * r) / (c + a) - 2 * p * r / (p + r)) < 1e-15
print(f"section 4: ({c} · {p:.4f} + {a} · {r:.4f}) / ({c} + {a}) = {(c * p + a * r) / (c + a):.4f}")
everything = metrics.precision_recall_f1(spam, filters["always"])
weight = 1000 / (1000 + 10)
print(f"'always': weight of the precision {weight:.4f}, F1 {everything.f1:.4f}")
assert abs(weight * everything.precision + (1 - weight) * everything.recall - everything.f1) < 1e-15

# %% [markdown]
# ### Step 2: why it cannot be trained on
#
# A model gives $p_i$, the probability that sample $i$ is spam. If it says spam where $p_i \ge 1/2$,
# then tp and $c$ are counts of samples beyond a threshold. Move $p_i$ a little, and no count changes: the
# derivative is 0. Move it over the threshold, and F1 jumps. BLEU is the same: it counts n-grams of
# the likeliest words.

# %%
t = np.array([1.0, 0, 0, 0, 0, 0])  # [6], the truth of section 4
q = np.array([0.9, 0.8, 0.6, 0.3, 0.1, 0.3])  # [6], probabilities that lead to those decisions


def hard_f1(q):
    return metrics.f1(t.astype(int), (q >= 0.5).astype(int))


def slopes(f, x, h=1e-6):
    """The central difference of the number f(x) for each element of x."""
    out = np.zeros_like(x)
    for i in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[i] = h
        out[i] = (f(x + step) - f(x - step)) / (2 * h)
    return out


print("slopes of F1:", slopes(hard_f1, q))
assert not slopes(hard_f1, q).any()
assert abs(hard_f1(q) - 1 / 2) < 1e-15

# %% [markdown]
# ### Step 3: soft counts
#
# Let each sample count by its probability: $\mathrm{tp} = \sum_i p_i t_i$ and $c = \sum_i p_i$, with
# $t_i$ = 1 or 0 for the truth, and $S = c + a$:
#
# $$
# F = \frac{2 \sum_i p_i t_i}{S}, \quad S = \sum_i p_i + \sum_i t_i
# $$
#
# $p_i$ stands in the numerator with the factor $2 t_i$ and in the denominator with the factor 1:
#
# $$
# \frac{\partial \, \mathrm{tp}}{\partial p_i} = t_i, \quad \frac{\partial S}{\partial p_i} = 1
# $$
#
# The quotient rule:
#
# $$
# \frac{\partial F}{\partial p_i} = \frac{2 t_i S - 2 \, \mathrm{tp} \cdot 1}{S^2}
# $$
#
# Divide by $S$ above and below. What is left of the second term, $2 \, \mathrm{tp} / S$, is $F$:
#
# $$
# \frac{\partial F}{\partial p_i} = \frac{2 t_i - F}{S}
# $$


# %%
def soft_f1(p, t):
    """F1 with probabilities p [n] as counts; the truth t [n] has no gradient."""
    S = (p + t).sum()
    F = 2 * (p * t).sum() / S

    def vjp(dF):
        return dF * (2 * t - F) / S, None  # F = 2 tp / S

    return F, vjp


F, vjp = soft_f1(q, t)
dq = vjp(1.0)[0]
print(f"soft F1 = 2 · {(q * t).sum():.1f} / {(q + t).sum():.1f} = {F:.4f}")
print("dF/dp =", dq.round(4).tolist())
assert np.abs(dq - slopes(lambda q: soft_f1(q, t)[0], q)).max() < 1e-9
assert abs(F - 0.45) < 1e-12
assert set(dq.round(12)) == {round((2 - 0.45) / 4, 12), round(-0.45 / 4, 12)}

# %% [markdown]
# There are only two different slopes: $(2 - F) / S$ for spam, $-F / S$ for the rest. Whether a sample
# is already right does not matter; cross-entropy, in contrast, pulls hardest where it is most wrong.
# And the line says how to *decide*. Say a message is spam with probability $\eta$. Calling it spam
# gains $\eta (2 - F) - (1 - \eta) F = 2 \eta - F$ in the mean, over $S$. That is worth it if
#
# $$
# \eta > \frac{F}{2}
# $$
#
# The best threshold is half of the best F1 (Lipton, Elkan & Naryanaswamy 2014), never above one
# half. Section 8 looks for it.
#
# ### Step 4: perplexity
#
# With $L$ for the mean cross-entropy, $\mathrm{PPL} = e^L$, and exp is its own derivative. With the
# gradient of $L$ from lesson 05:
#
# $$
# \frac{\partial \, \mathrm{PPL}}{\partial z_{tj}} = e^L \frac{\partial L}{\partial z_{tj}} = \mathrm{PPL} \cdot \frac{\mathrm{softmax}(z_t)_j - [j = x_t]}{N}
# $$
#
# One factor, the same for all logits. The direction is that of cross-entropy, so whoever trains on
# the loss trains on perplexity. Only the step differs: at the start of training, with a perplexity
# of 50,000, it would be 50,000 times as long.


# %%
def perplexity_op(logits, targets):
    """logits [N, V], targets [N] -> one number."""
    loss, loss_vjp = ops.cross_entropy(logits, targets)
    ppl = np.exp(loss)

    def vjp(dppl):
        return loss_vjp(dppl * ppl)  # ppl = exp(loss)

    return ppl, vjp


ppl, vjp = perplexity_op(logits, targets)
dlogits = vjp(np.array(1.0))[0]
onehot = np.eye(3)[targets]
print("dPPL/dlogits:", dlogits.round(4).tolist())
assert np.abs(dlogits - math.sqrt(8) * (probabilities - onehot) / 2).max() < 1e-15
assert np.abs(dlogits - slopes(lambda z: perplexity_op(z, targets)[0], logits)).max() < 1e-8

# %% [markdown]
# ## 7. Gradient check, live
#
# Soft F1 and perplexity, on random inputs.

# %%
P, T = rng.uniform(0.05, 0.95, 8), (rng.random(8) < 0.4).astype(float)
Z, X = rng.standard_normal((5, 6)), rng.integers(0, 6, 5)
report = gradcheck(lambda p: (soft_f1(p, T)[0], lambda dF: soft_f1(p, T)[1](dF)[0]), P, names=["p"])
print(report)
assert report
second = gradcheck(perplexity_op, Z, X)
print(second)
assert second

# %% [markdown]
# Now the F1 of decisions, with a vjp that returns zeros. Before you run it: does it pass?

# %%
zeros = gradcheck(lambda q: (np.asarray(hard_f1(q)), lambda dF: np.zeros_like(q)), q, names=["q"])
print(zeros)
assert zeros

# %% [markdown]
# It does, and rightly: the derivative *is* 0, and the report says how little that proves. A gradient
# check tells whether a gradient is right, not whether it is of any use.
#
# And the V of error against step. Perplexity is an exponential, so its third derivative is as large
# as itself, and nothing special happens. Before you run it: where do central differences have their
# lowest point, nearer to $10^{-3}$ or to $10^{-8}$?

# %%
ax = plot.gradcheck_curve(perplexity_op, Z, X, title="perplexity: error against step")
show(ax, alt="V-shaped curves of error against step, both axes logarithmic: central differences are "
             "best near a step of 1e-5, forward differences near 1e-8.")  # fmt: skip
from scratchlm.gradcheck import error_by_step

steps, errors = error_by_step(perplexity_op, Z, X, wrt=[0])
print(f"best step {steps[errors.argmin()]:.0e}, error {errors.min():.0e}")
assert 1e-7 < steps[errors.argmin()] < 1e-3
assert errors.min() < 1e-8

# %% [markdown]
# ## 8. See it
#
# ### Two means of precision and recall
#
# Every point of the square is a classifier; color and lines show its mean. Look at the upper left and
# the lower right corner, where one of the two shares is perfect and the other is nothing. Before you
# run it: which classifiers on the left edge get more than 0.4 from the arithmetic mean, and which
# from F1?

# %%
axis = np.linspace(0.005, 1, 200)
precision, recall = np.meshgrid(axis, axis)
surfaces = {
    "arithmetic mean (P + R) / 2": (precision + recall) / 2,
    "F1 = 2 P R / (P + R)": 2 * precision * recall / (precision + recall),
}
levels = np.arange(0, 1.01, 0.1)
with style():
    fig, axes = figure(1, 2, width=8.4, height=3.9, sharey=True)
    for ax, (name, z) in zip(axes, surfaces.items(), strict=True):
        filled = ax.contourf(precision, recall, z, levels, cmap="cividis")
        lines = ax.contour(precision, recall, z, levels[1:-1:2], colors="white", linewidths=0.8)
        ax.clabel(lines, fontsize=8, fmt="%.1f")
        for who, marker in (("always", "X"), ("works", "o")):
            at = metrics.precision_recall_f1(spam, filters[who])
            ax.plot(at.precision, at.recall, marker, color="#D55E00", markeredgecolor="white",
                    markersize=9, label=f"filter '{who}'", clip_on=False)  # fmt: skip
        ax.set(title=name, xlabel="precision P", aspect="equal")
    axes[0].set_ylabel("recall R")
    axes[1].legend(loc="lower right", labelcolor="white", framealpha=0)
    fig.colorbar(filled, ax=axes, label="mean", shrink=0.9)
show(fig, alt="Two squares over precision and recall. The lines of the arithmetic mean are straight "
              "and cross the corners; those of F1 bend around the upper right corner and never touch "
              "the axes. The filter 'always' sits at the upper left: 0.5 on the left, 0 on the "
              "right.")  # fmt: skip
edge = {name: float(z[:, 0].max()) for name, z in surfaces.items()}
print("highest on the left edge:", {name: round(value, 3) for name, value in edge.items()})
assert edge["arithmetic mean (P + R) / 2"] > 0.5 > 0.01 > edge["F1 = 2 P R / (P + R)"]
assert (surfaces["F1 = 2 P R / (P + R)"] <= 2 * np.minimum(precision, recall)).all()

# %% [markdown]
# By the arithmetic mean, all with a recall above 0.8; by F1, none. The straight lines let you buy
# recall with precision at a fixed price, down to nothing. The bent ones do not: F1 is at most twice
# the smaller of the two, whatever the larger is.
#
# ### The best threshold
#
# 20,000 messages, 7 of 100 of them spam, and a model whose probabilities are honest: of the
# messages with $p = 0.3$, three in ten are spam. Where should the line be drawn? Most programs draw
# it at 0.5. Before you run it, use step 3: if the best F1 is about 0.57, where is its threshold?

# %%
rng = np.random.default_rng(80)
honest = rng.beta(0.12, 1.6, 20_000)  # the probabilities that the model gives
is_spam = (rng.random(20_000) < honest).astype(int)
thresholds = np.linspace(0.01, 0.7, 139)
order = np.argsort(-honest)
found = np.concatenate([[0], np.cumsum(is_spam[order])])  # hits among the k most suspicious
k = np.array([(honest >= at).sum() for at in thresholds])
curve_p, curve_r = found[k] / np.maximum(k, 1), found[k] / is_spam.sum()
curve_f = 2 * found[k] / (k + is_spam.sum())
best = int(curve_f.argmax())
at_half = metrics.f1(is_spam, (honest >= 0.5).astype(int))

with style():
    fig, ax = figure(width=6.4, height=3.7)
    ax.plot(thresholds, curve_p, "--", color="#0072B2", label="precision")
    ax.plot(thresholds, curve_r, ":", color="#009E73", linewidth=2.2, label="recall")
    ax.plot(thresholds, curve_f, "-", color="#D55E00", label="F1")
    ax.plot(thresholds[best], curve_f[best], "o", color="#D55E00", markersize=8)
    ax.axvline(curve_f[best] / 2, color="#262626", linewidth=1, label="half of the best F1")
    ax.axvline(0.5, color="#8a8a8a", linewidth=1, linestyle="-.", label="0.5")
    ax.set(xlabel="threshold on the probability", ylabel="share", ylim=(0, 1))
    ax.set_title("Where to draw the line")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
show(fig, alt="Precision rises and recall falls with the threshold. F1 has a flat maximum near 0.28, "
              "beside the line for half of the best F1, and is clearly lower at 0.5.")  # fmt: skip
print(f"share of spam {is_spam.mean():.3f}")
print(
    f"best F1 {curve_f[best]:.3f} at {thresholds[best]:.3f}; half of it is {curve_f[best] / 2:.3f}"
)
print(f"F1 at 0.5: {at_half:.3f};  accuracy at 0.5 and at the best: "
      f"{metrics.accuracy(is_spam, (honest >= 0.5).astype(int)):.3f}, "
      f"{metrics.accuracy(is_spam, (honest >= thresholds[best]).astype(int)):.3f}")  # fmt: skip
assert abs(thresholds[best] - curve_f[best] / 2) < 0.04
assert at_half < 0.9 * curve_f[best]
assert abs(is_spam.mean() - 0.07) < 0.005

# %% [markdown]
# Half of the best F1, as the derivative said (the maximum is flat, and 20,000 messages are a finite
# sample). At 0.5 the F1 is lower by 0.1, though accuracy is higher there. Different metrics want different decisions from the same model.
#
# ### What BLEU hears
#
# Three hundred sentences of Python's help texts, damaged in two ways: words replaced by words drawn
# from the same texts, or words exchanged with their right neighbor. Left: the precisions by order, a
# fifth of the words damaged. Right: BLEU against the damage. Before you run it: exchanging words
# leaves every word where it is needed, only not in order. Which $p_n$ stay at 100?

# %%
import re

paragraphs = [" ".join(each.split()) for each in load("topics").split("\n\n")]
sentences = [
    s.split() for text in paragraphs for s in re.findall(r"[A-Z][^.!?*`|]{60,160}\.", text)
]
sentences = sentences[:: max(1, len(sentences) // 300)][:300]
vocabulary = [word for s in sentences for word in s]


def replaced(words, share, rng):
    return [vocabulary[rng.integers(len(vocabulary))] if rng.random() < share else w for w in words]


def exchanged(words, share, rng):
    words = list(words)
    for i in range(len(words) - 1):
        if rng.random() < share / 2:  # each exchange moves two
            words[i], words[i + 1] = words[i + 1], words[i]
    return words


def score(damage, share):
    rng = np.random.default_rng(81)
    texts = [" ".join(damage(s, share, rng)) for s in sentences]
    return metrics.bleu(texts, [" ".join(s) for s in sentences], tokenize="none")


shares = np.linspace(0, 0.6, 7)
runs = {
    name: [score(damage, s) for s in shares]
    for name, damage in (("replaced", replaced), ("exchanged", exchanged))
}
fifth = {name: run[2].precisions for name, run in runs.items()}
looks = {"replaced": ("o-", "#0072B2", ""), "exchanged": ("s--", "#D55E00", "//")}
with style():
    fig, (left, right) = figure(1, 2, width=8.4, height=3.5)
    for i, (name, (line, color, hatch)) in enumerate(looks.items()):
        left.bar(np.arange(1, 5) + 0.4 * i - 0.2, fifth[name], 0.38, color=color, hatch=hatch,
                 edgecolor="white", label=f"words {name}")  # fmt: skip
        right.plot(
            shares, [run.score for run in runs[name]], line, color=color, label=f"words {name}"
        )
    left.set(xlabel="n", ylabel="precision of n-grams (%)", xticks=[1, 2, 3, 4], ylim=(0, 118),
             title="A fifth of the words damaged")  # fmt: skip
    right.set(xlabel="share of words damaged", ylabel="BLEU", ylim=(0, 104), title="BLEU")
    left.legend(loc="upper right")
    right.legend()
show(fig, alt="Left: bars of precision for n from 1 to 4, falling; exchanged words keep p1 at 100. "
              "Right: BLEU falls from 100 steeply in both cases, to about 10 when 60 per cent of the "
              "words are replaced.")  # fmt: skip
table(
    [
        [name, *values, run[2].score]
        for (name, values), run in zip(fifth.items(), runs.values(), strict=True)
    ],
    columns=["a fifth", "p1", "p2", "p3", "p4", "BLEU"],
    digits=3,
)
assert abs(fifth["exchanged"][0] - 100) < 1e-9
assert all(np.diff(values).max() < 0 for values in fifth.values())
assert runs["replaced"][2].score < 62
assert all(np.diff([run.score for run in line]).max() < 0 for line in runs.values())

# %% [markdown]
# A fifth of the words replaced costs two fifths of the BLEU: one wrong word spoils up to four 4-grams.
# Order is heard by $p_2$ to $p_4$ alone. Nothing here hears *meaning*: "not" left out costs one word, as
# "very" does.

# %% [markdown]
# ## 9. Break it
#
# ### F1 as printed
#
# The weights are not given, so try all of them. 2000 random filters of different quality judge the
# thousand messages. For each pair of filters: does the printed number order them as F1 does? And for
# how many filters is one of the two constants ("never", "always") rated as high?

# %%
rng = np.random.default_rng(9)
quality = rng.random((2000, 2)) ** [1.0, 3.0]  # chance to find spam; chance of a false alarm
tp = rng.binomial(10, quality[:, 0])
fp = rng.binomial(990, quality[:, 1])
accuracy, rec = (tp + 990 - fp) / 1000, tp / 10
true_f1 = 2 * tp / (tp + fp + 10)
pairs = rng.integers(0, 2000, (20_000, 2))
pairs = pairs[true_f1[pairs[:, 0]] > true_f1[pairs[:, 1]]]  # the first is better
rows = []
for w in (0.0, 0.25, 0.5, 0.75, 1.0):
    printed = w * accuracy + (1 - w) * rec
    wrong_order = (printed[pairs[:, 0]] < printed[pairs[:, 1]]).mean()
    constant = max(w * 0.99, w * 0.01 + (1 - w))
    rows.append([w, wrong_order, (printed <= constant).mean()])
table(
    rows,
    columns=["w", "pairs in the wrong order", "filters no better than a constant answer"],
    digits=3,
)
print(f"by F1, no better than a constant: {(true_f1 <= 0.0198).mean():.3f}")
assert min(row[1] for row in rows) > 0.1
assert min(row[2] for row in rows) >= (true_f1 <= 20 / 1010).mean() > 0.2

# %% [markdown]
# No weight mends it. At one half the constants are beaten about as often as by F1, and still one pair
# in seven is in the wrong order; at every other weight more filters fall behind a constant. The
# reason is the rarity. Watch the constants as spam becomes rarer:

# %%
rows = []
for share in (0.5, 0.1, 0.01, 0.001):
    never = np.array([(1 - share), 0.0])  # accuracy, recall
    always = np.array([share, 1.0])
    rows.append([share, never.mean(), always.mean(), 2 * share / (1 + share)])
table(
    rows,
    columns=["share of spam", "'never', as printed", "'always', as printed", "'always', F1"],
    digits=3,
)
assert abs(rows[-1][1] - 0.4995) < 1e-12
assert abs(rows[-1][2] - 0.5005) < 1e-12
assert rows[-1][3] < 0.002

# %% [markdown]
# As printed, both constants tend to 0.5. And for two classes that are equally frequent, "always" gets
# 0.75. If 准确率 is read as precision, the plain mean of the two has the same fault: "always" gets
# $(0.01 + 1) / 2$. Only the weights of section 6, or the harmonic mean, which is the same, mend it.
#
# ### Sixteen other numbers called F1
#
# The mistakes that the check knows, on 200 samples of four classes, of which class 3 is rare and is
# never called, and class 1 is the one for "binary". Which of them would you notice?

# %%
rng = np.random.default_rng(91)
truth4 = rng.choice(4, 200, p=[0.55, 0.3, 0.12, 0.03])
guess4 = np.where(rng.random(200) < 0.6, truth4, rng.choice(3, 200, p=[0.2, 0.7, 0.1]))
guess4[guess4 == 3] = 0
right_f1 = {k: metrics.f1(truth4, guess4, average=k) for k in ("macro", "micro")}
binary = solved.f1((truth4 == 1) * 1, (guess4 == 1) * 1)
rows = [["(right)", binary, right_f1["macro"], right_f1["micro"]]]
for mistake in known["f1"].mistakes:
    numbers = [mistake.function((truth4 == 1) * 1, (guess4 == 1) * 1)]
    numbers += [mistake.function(truth4, guess4, average=k) for k in ("macro", "micro")]
    rows.append([mistake.name, *numbers])
table(rows, columns=["", "binary", "macro", "micro"], digits=3)
assert len(rows) == 17
near = [row for row in rows[1:] if 1e-9 < max(abs(np.subtract(row[1:], rows[0][1:]))) < 0.05]
print(
    f"{len(near)} of {len(rows) - 1} differ, by less than 0.05:", ", ".join(row[0] for row in near)
)
assert len(near) >= 3
assert {0, 1, 2, 3} == set(truth4)
assert "weighted for macro" in {row[0] for row in rows if row[2] > right_f1["macro"] + 0.1}

# %% [markdown]
# Nothing here crashes, and nearly everything looks like an F1. (*Only classes of y_true* and *every
# number up to the largest* do not show: here all four classes are there.) Two lessons. First, *weighted for
# macro* and *class without a hit left out* raise the number by forgiving what happens to the rare
# class, which is the one macro was chosen for. Second, exchanging precision and recall is not on the
# list: F1 is symmetric, and no check of F1 can see it.
#
# ### Perplexity
#
# A model that is good at 99 tokens ($p = 1/2$) and sure of the wrong thing once ($p = 10^{-6}$), and
# two texts, one of 90 tokens and one of 10 with padding behind it.

# %%
chances = np.full((2, 90), 0.5)
chances[1, 3] = 1e-6
two_logits = np.log(np.stack([chances, 1 - chances], axis=-1))  # [2, 90, 2], target 0
two_targets = np.zeros((2, 90), int)
two_targets[1, 10:] = -100
rows = [["(right)", solved.perplexity(two_logits, two_targets)]]
for mistake in known["perplexity"].mistakes:
    with np.errstate(all="ignore"):
        try:
            rows.append([mistake.name, mistake.function(two_logits, two_targets)])
        except OverflowError as error:
            rows.append([mistake.name, str(error)])
table(rows, columns=["", "perplexity"], digits=4)
by_name = dict(map(tuple, rows))
expected = math.exp((99 * math.log(2) + 6 * math.log(10)) / 100)
assert abs(by_name["(right)"] - expected) < 1e-12
assert by_name["mean of perplexities"] > 10_000
assert by_name["one over the mean probability"] < 2.03
assert by_name["divided by all positions"] < by_name["(right)"] - 0.6
assert by_name["mean of the texts' means"] > by_name["(right)"] + 1
assert by_name["2 to the power of nats"] < by_name["(right)"]

# %% [markdown]
# (These logits are logarithms of probabilities already, so *no softmax* and *no maximum* do no harm
# yet; the check has others.) The arithmetic mean of $1/p$ is ruled by the one bad token, the mean of $p$ does not notice it at
# all. Division by all positions is the dangerous one: the number gets *better* with more padding.
#
# There is a mistake without a wrong line of code, too: comparing perplexities over different tokens.
# Take the simplest model, the frequencies of its tokens, once over characters and once over pairs of
# characters, on the same held-out text.

# %%
text = corpus("topics")
train, held = text.vocabulary.decode(text.train), text.vocabulary.decode(text.validation)
held = held[: len(held) // 2 * 2]


def unigram(size):
    """Loss in nats per token of `size` characters, and how many tokens the held-out text has."""
    cut = lambda s: [s[i : i + size] for i in range(0, len(s) - size + 1, size)]
    counts, pieces = Counter(cut(train)), cut(held)
    total = sum(counts.values()) + len(text.vocabulary) ** size
    return -np.mean([math.log((counts[piece] + 1) / total) for piece in pieces]), len(pieces)


rows = []
for size in (1, 2):
    loss, tokens = unigram(size)
    per_character = metrics.loss_per_character(loss, tokens=tokens, text=held)
    per_byte = metrics.loss_per_byte(loss, tokens=tokens, text=held)
    rows.append(
        [size, metrics.perplexity(loss), metrics.perplexity(per_character), metrics.bits(per_byte)]
    )
table(
    rows,
    columns=["characters per token", "perplexity per token", "per character", "bits per byte"],
    digits=4,
)
assert rows[1][1] > 5 * rows[0][1]
assert rows[1][2] < 0.85 * rows[0][2]

# %% [markdown]
# Per token the second model looks many times worse. Per character it is clearly better: a pair is
# harder to guess, but there are half as many. Divide the loss of the whole text by something that
# both models share.
#
# ### BLEU
#
# Three sentences, two references each. The first repeats a word, the second stops too early. Each
# row is a mistake of the check. Three of them do not show here at all. Which ones could that be?

# %%
hypotheses = ["the cat sat on the the mat", "it rained", "a dog ran after the red ball"]
references = [
    ["the cat sat on the mat today", "the cat lay on the mat"],
    ["it rained all day long", "all day long it rained and rained"],
    ["a dog ran after the red ball there", "the dog ran after the ball"],
]
tokens = [h.split() for h in hypotheses], [[g.split() for g in group] for group in references]
rows = [["(right)", solved.bleu(*tokens)]]
rows += [[m.name, m.function(*tokens)] for m in known["bleu"].mistakes]
table(rows, columns=["", "BLEU"], digits=4)
by_name = dict(map(tuple, rows))
unseen = [name for name, value in rows[1:] if abs(value - rows[0][1]) < 1e-9]
print("not seen here:", ", ".join(unseen))
assert len(unseen) == 3
with_smoothing = {
    kind: metrics.bleu(
        ["I am a big language model"], ["I am a large language model"], smooth=kind
    ).score
    for kind in ("none", "floor", "exp", "add-k")
}
table(
    [[kind, value] for kind, value in with_smoothing.items()],
    columns=["smoothing", "'I am a big language model'"],
    digits=4,
)
assert by_name["no clipping"] > by_name["(right)"]
assert by_name["clipped by the sum of references"] > by_name["(right)"]
assert by_name["arithmetic mean"] > by_name["(right)"]
assert by_name["product without root"] < by_name["(right)"]
assert abs(by_name["mean of sentence scores"] - by_name["(right)"]) > 5
assert by_name["longer of two equally near"] < by_name["(right)"] < by_name["no brevity penalty"]
assert with_smoothing["none"] == 0
assert len({round(value, 1) for value in with_smoothing.values()}) == 4

mat = "the cat sat on the mat"
alone = metrics.bleu(["the"], [mat], max_order=1)
wrong = {m.name: m.function for m in known["bleu"].mistakes}
silent = wrong["no brevity penalty"]([["the"]], [[mat.split()]], max_order=1)
chatter = wrong["no clipping"]([["the"] * 6], [[mat.split()]], max_order=1)
print(f"'the', no brevity penalty: {silent:.0f}; right: {alone.score:.2f}")
print(f"'the the the the the the', no clipping: {chatter:.0f}")
assert silent == chatter == 100
assert alone.score < 1

# %% [markdown]
# Without the penalty, say one sure word and stop. Without clipping, say it again. The four smoothings
# give four different scores to one sentence, which is one more thing to report beside the number.
#
# ### Entities: right tags, wrong names
#
# A tagger that says O to everything, on a text where nine words in ten are O.

# %%
rng = np.random.default_rng(92)
gold = [["O"] * 20 for _ in range(50)]
for sentence in gold:
    start = int(rng.integers(0, 18))
    sentence[start : start + 2] = ["B-PER", "I-PER"]
silent = [["O"] * 20 for _ in gold]
late = [[tag if tag != "B-PER" else "O" for tag in sentence] for sentence in gold]
rows = []
for name, tagged in (("all O", silent), ("the first word missed", late)):
    flat = [np.concatenate(each) for each in (gold, tagged)]
    rows.append([name, metrics.accuracy(*flat), metrics.entity_f1(gold, tagged)])
table(rows, columns=["tagger", "accuracy of tags", "entity F1"], digits=3)
assert (rows[0][1], rows[0][2]) == (0.9, 0)
assert (rows[1][1], rows[1][2]) == (0.95, 0)

# %% [markdown]
# ## 10. Your turn
#
# Three functions, none of which has a gradient to return.
#
#     scratchlm start 8            # copies the stub into your folder
#     scratchlm check 8 --watch    # checks it each time you save
#     scratchlm hint 8             # three levels, for each function
#
# `f1(y_true, y_pred, *, average="binary")`, then `perplexity(logits, targets, *,
# ignore_index=-100)`, then `bleu(hypotheses, references, *, max_order=4)` on lists of tokens. BLEU
# is the longest; write `p_n` for one sentence and one reference first, and let the check lead you.

# %%
print("what the check says to a mean of sentence scores:\n")
fault = known["bleu"].check(known["bleu"].mistake("mean of sentence scores").function).fault
print(fault.what, fault.where, fault.looks_like, fault.hint, sep="\n")

# %% [markdown]
# ## 11. Cost
#
# Metrics are cheap, with two exceptions. Count what each one touches:
#
# | metric | operations | memory |
# |---|---|---|
# | accuracy, F1 | $n$ comparisons | the confusion matrix, $K^2$ counts |
# | perplexity | $N V$ exponentials | the logits: $N V$ numbers |
# | BLEU | $4$ n-grams for each token | the counters of one sentence |
# | ROUGE-L | $m n$ cells of a table | $m n$, or two rows of it |
#
# Perplexity's logits are the first exception: 1000 tokens over 50,000 words are 200 MB in float32.
# But only a sum is needed, so it can be taken batch by batch; `metrics.mean_loss` does. The same
# holds for every metric that is made of *counts*: hits, totals and lengths of two halves add up to
# those of the whole. A mean of scores does not have this property.

# %%
half = len(hypotheses) // 2
parts = [metrics.bleu(hypotheses[s], references[s]) for s in (slice(half), slice(half, None))]
whole = metrics.bleu(hypotheses, references)
added = (
    np.sum([part.hits for part in parts], axis=0),
    np.sum([part.totals for part in parts], axis=0),
)
print("hits  ", [part.hits for part in parts], "->", whole.hits)
print("totals", [part.totals for part in parts], "->", whole.totals)
assert tuple(added[0]) == whole.hits
assert tuple(added[1]) == whole.totals

sums = np.array([[metrics.perplexity(x) for x in (1.0, 3.0)]])
print(f"mean of two perplexities {sums.mean():.2f}, perplexity of the mean loss {math.exp(2):.2f}")
assert sums.mean() > math.exp(2) + 3

# %% [markdown]
# The second exception is ROUGE-L, whose table grows with the product of the lengths: twice as long
# is four times as much.

# %%
from scratchlm.metrics.summary import lcs_table

cells = []
for n in (100, 200, 400):
    made = lcs_table(list(rng.integers(0, 50, n)), list(rng.integers(0, 50, n)))
    cells.append(sum(map(len, made)))
print("cells of the table for texts of 100, 200 and 400 words:", cells)
assert 3.9 < cells[1] / cells[0] < 4.1

# %% [markdown]
# ## 12. Use it
#
# ### Which chapter is this paragraph from?
#
# Five chapters of Python's help texts, of different lengths. The classifier is naive Bayes: multiply,
# for each chapter, the frequencies of the paragraph's words in it. Every second paragraph is for
# training, the others are for the test. (The help texts of another Python than 3.11 differ a little,
# and so do the numbers.)

# %%
from pydoc_data.topics import topics

chapters = ["specialnames", "compound", "types", "string-methods", "formatstrings"]
chapters = [name for name in chapters if name in topics]
cut = lambda text: [p for p in text.split("\n\n") if len(p) > 60]
samples = [(i, p) for i, name in enumerate(chapters) for p in cut(topics[name])]
words = lambda p: re.findall(r"[a-z_]+", p.lower())
training, testing = samples[0::2], samples[1::2]

counts = [Counter() for _ in chapters]
for i, paragraph in training:
    counts[i].update(words(paragraph))
vocabulary = len(set().union(*counts))
prior = np.log(np.bincount([i for i, _ in training]) / len(training))


def log_scores(paragraph):
    """ln p(chapter) + Σ ln p(word | chapter), add-one smoothed. [chapters]"""
    return np.array([
        prior[i] + sum(math.log((c[w] + 1) / (c.total() + vocabulary)) for w in words(paragraph))
        for i, c in enumerate(counts)
    ])  # fmt: skip


chapter_true = np.array([i for i, _ in testing])
given = np.stack([log_scores(p) for _, p in testing])  # [n, chapters]
chapter_pred = given.argmax(axis=1)
constant = np.full_like(chapter_true, np.bincount(chapter_true).argmax())

# %% [markdown]
# In the picture a row is a chapter, and its colors are shares of the row, so that the diagonal is the
# recall. Look for the row that loses most, and for the column that takes most. Before you run it:
# will the smallest chapter have the worst recall, or the worst precision?

# %%
C = metrics.confusion_matrix(chapter_true, chapter_pred, labels=range(len(chapters)))
ax = plot.confusion_matrix(C, chapters, title="Chapters of Python's help, by naive Bayes")
show(ax, alt="A 5 by 5 confusion matrix with counts in the cells, bright along the diagonal; the "
             "other cells hold few paragraphs each.")  # fmt: skip
each = metrics.precision_recall_f1(
    chapter_true, chapter_pred, average=None, labels=range(len(chapters))
)
table(
    [[name, int(n), p, r, f] for name, p, r, f, n in zip(chapters, *each, strict=True)],
    columns=["chapter", "paragraphs", "precision", "recall", "F1"],
    digits=3,
)
rows = []
for name, answer in (("always the largest", constant), ("naive Bayes", chapter_pred)):
    numbers = [solved.f1(chapter_true, answer, average=k) for k in ("micro", "macro")]
    weighted = metrics.f1(chapter_true, answer, average="weighted")
    rows.append([name, metrics.accuracy(chapter_true, answer), *numbers, weighted])
table(rows, columns=["", "accuracy", "micro F1", "macro F1", "weighted F1"], digits=3)
lowest = [chapters[int(np.argmin(values))] for values in each[:3]]
print("lowest precision, recall, F1:", ", ".join(lowest))
assert rows[0][1] == rows[0][2]  # micro F1 is the accuracy
assert rows[0][3] < 0.5 * rows[0][1]  # macro F1 is not fooled by the largest class
assert rows[1][3] > 0.5
assert rows[1][3] > 3 * rows[0][3]
assert C.sum() == len(testing)

# %% [markdown]
# Neither: the smallest chapter has words of its own, and both its numbers are good. The one that
# loses most, *types*, speaks of the same things as *specialnames*, and loses its paragraphs to it.
# "Always the largest" has about a third of all paragraphs right, and a macro F1 near a tenth: four of
# five chapters get 0. Report macro F1 where every class matters, accuracy where every sample does.
#
# ### Train on F1, or choose the threshold?
#
# Section 6 offers two ways to a good F1: train on soft F1 itself, or train on cross-entropy and call
# a sample positive from half of the best F1 on. Logistic regression, 4000 points in a plane, a
# twentieth of them positive, and 20,000 others for the test. Which way wins?


# %%
def cloud(n, rng):
    """Points [n, 3] (the third coordinate is 1, for the bias) and their classes [n]."""
    t = (rng.random(n) < 0.05).astype(float)
    x = rng.standard_normal((n, 2)) + 1.3 * t[:, None]
    return np.concatenate([x, np.ones((n, 1))], axis=1), t


rng = np.random.default_rng(12)
(X, T), (X_test, T_test) = cloud(4000, rng), cloud(20_000, rng)


def trained(soft):
    w = np.zeros(3)
    for _ in range(1000):
        p, sigmoid_vjp = ops.sigmoid(X @ w)
        if soft:
            dz = -sigmoid_vjp(soft_f1(p, T)[1](1.0)[0])  # F1 is to grow
        else:
            dz = (p - T) / len(T)  # lessons 02 and 05: sigmoid and cross-entropy together
        w -= 2.0 * (X.T @ dz)
    return w


def best_f1(w):
    """The best F1 on the training points over all thresholds."""
    p = ops.sigmoid(X @ w)[0]
    return max(metrics.f1(T == 1, p >= at, positive=True) for at in np.linspace(0.02, 0.6, 59))


by_loss, by_f1 = trained(False), trained(True)
half_best = best_f1(by_loss) / 2
rows = []
for name, w, at in (
    ("cross-entropy, from 0.5 on", by_loss, 0.5),
    (f"cross-entropy, from {half_best:.2f} on", by_loss, half_best),
    ("soft F1, from 0.5 on", by_f1, 0.5),
):
    p = ops.sigmoid(X_test @ w)[0]
    surprise = -np.log(np.where(T_test == 1, p, 1 - p)).mean()
    rows.append([name, metrics.f1(T_test == 1, p >= at, positive=True), surprise])
table(rows, columns=["trained on, and decided", "F1", "cross-entropy (nats)"], digits=3)
assert rows[1][1] > rows[0][1] + 0.08
assert abs(rows[1][1] - rows[2][1]) < 0.02
assert 1.6 < rows[2][2] / rows[1][2] < 2.4

# %% [markdown]
# Both ways lead to the same F1, far above that of the usual 0.5. But the model trained on soft F1 has
# pushed its probabilities outward: its cross-entropy is about twice as large, and they no longer say
# how sure one may be. So train on cross-entropy, and choose the threshold for the metric afterward.
#
# ### Perplexity, on held-out text
#
# The bigram model of the library guesses the next character by the last one. Its perplexity is the
# number that the GPT of lesson 29 has to beat.

# %%
loss = bigram_loss(text.train, text.validation, len(text.vocabulary))
log_p = np.zeros((len(text.vocabulary),) * 2) + 0.1
np.add.at(log_p, (text.train[:-1], text.train[1:]), 1)
log_p = np.log(log_p / log_p.sum(axis=1, keepdims=True))  # [V, V]
mine = solved.perplexity(log_p[text.validation[:-1]], text.validation[1:])
print(f"{len(text.vocabulary)} characters; knowing nothing: perplexity {len(text.vocabulary)}")
print(
    f"bigram: {loss:.4f} nats, {metrics.bits(loss):.4f} bits, perplexity {metrics.perplexity(loss):.4f}"
)
print(f"the lesson's solution says {mine:.4f}")
assert abs(mine - metrics.perplexity(loss)) < 1e-9
assert 8 < mine < 13

# %% [markdown]
# ## 13. Recap
#
# Three questions. Answer before you read on.
#
# 1. A classifier has precision 0.02 and recall 1. What is the most that its F1 can be, without a
#    calculator?
# 2. Model A has a perplexity of 20 per word, model B of 4 per character. Which is better?
# 3. Why is BLEU not the mean of the BLEUs of the sentences?
#
# *1.* At most twice the smaller: 0.04. *2.* It can't be said from this. With five characters and a
# space per word, B has $4^6 = 4096$ per word, and A is far better. *3.* Its counts are added up over
# the corpus first. A sentence without a matching 4-gram would be worth 0 by itself.
#
# | English | 中文 |
# |---|---|
# | accuracy | 准确率 |
# | precision | 精确率、查准率 |
# | recall | 召回率、查全率 |
# | harmonic mean | 调和平均 |
# | confusion matrix | 混淆矩阵 |
# | perplexity | 困惑度 |
# | brevity penalty | 长度惩罚 |
# | threshold | 阈值 |
# | named entity | 命名实体 |
#
# References: van Rijsbergen 1979, *Information Retrieval*, chapter 7. Manning, Raghavan & Schütze
# 2008, *Introduction to Information Retrieval*, §8.3. Lipton, Elkan & Naryanaswamy 2014, *Optimal
# Thresholding of Classifiers to Maximize F1 Measure*, Theorem 1. Jelinek et al. 1977, *Perplexity: a
# measure of the difficulty of speech recognition tasks*. Papineni et al. 2002, *BLEU*, §2. Chen &
# Cherry 2014, on smoothing. Post 2018, *A Call for Clarity in Reporting BLEU Scores*. Lin 2004,
# *ROUGE*, §2 and §3. Tjong Kim Sang & De Meulder 2003, on entities.
#
# Next: lesson 09 slides a small window over a picture, and finds that the way back is the same
# thing again.
