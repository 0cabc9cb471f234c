# %% [markdown]
# # 07 · Regularization · 正则化
#
# A network that is large enough learns its training text by heart, and is then no good for any
# other. This lesson is about everything that is done against that, and about the two things that
# keep a training run alive: the learning rate's rise and fall, and a limit for the gradient. Each is
# one line. Each is measured on a text that the network has never seen.

# %% [markdown]
# ## 1. Card
#
# You need the cross-entropy of lesson 05, linear layers from lesson 04 and Adam from lesson 06. At
# the end you have written dropout with its gradient, and the schedule that most language models are
# trained with.

# %%
from scratchlm.lessons import card, exercises, figure, show, solution, source, table

card(7)

# %% [markdown]
# ## 2. Hook
#
# A network reads eight characters and predicts the ninth: an embedding, one hidden layer of 256
# units with ReLU, and a linear layer to the characters. It has 61,040 weights and gets 8000 characters
# of Python's help texts to learn from. 500 steps of Adam; every 50 steps we ask for its
# loss on those 8000 characters, and on 6000 others.
#
# Before you run it: an alphabet of 103 characters. What does a model lose that knows nothing? What
# does one lose that has learned for 500 steps?

# %%
import itertools
import math

import numpy as np

import scratchlm
from scratchlm import Tensor, no_grad, ops, optim
from scratchlm import functional as F
from scratchlm.data import corpus

text = corpus("topics")
V, CONTEXT, WIDTH = len(text.vocabulary), 8, 16
letters = text.train[:8000]  # all that may be learned from


def windows(ids):
    """Each run of eight characters, and the one after it: [n, 8] and [n]."""
    runs = np.lib.stride_tricks.sliding_window_view(ids, CONTEXT + 1)
    return runs[:, :CONTEXT], runs[:, CONTEXT]


seen, unseen = windows(letters), windows(text.validation[:6000])


class Network:
    """Embedding, hidden layers with ReLU and dropout, and a linear layer to the characters."""

    def __init__(self, layers, hidden, rng):
        def weight(rows, columns, gain):
            values = rng.standard_normal((rows, columns)) * math.sqrt(gain / columns)
            return Tensor(values.astype(np.float32), requires_grad=True)

        sizes = [CONTEXT * WIDTH] + [hidden] * layers
        self.table = weight(V, WIDTH, 1)
        self.weights = [weight(b, a, 2) for a, b in itertools.pairwise(sizes)]
        self.biases = [Tensor(np.zeros(hidden, np.float32), requires_grad=True)
                       for _ in range(layers)]  # fmt: skip
        self.head = weight(V, hidden, 1)

    def parameters(self):
        return [self.table, *self.weights, *self.biases, self.head]

    def logits(self, x, p=0.0, rng=None, training=False):
        h = F.embedding(x, self.table).reshape((len(x), CONTEXT * WIDTH))
        for W, b in zip(self.weights, self.biases, strict=True):
            h = F.relu(F.linear(h, W, b))
            h = F.dropout(h, p=p, rng=rng, training=training)
        return F.linear(h, self.head)


def loss_on(network, data, **options):
    """The loss on about 1000 windows of ``data``, evenly spread, in nats for a character."""
    x, y = (part[:: len(part) // 1000] for part in data)
    with no_grad():
        return F.cross_entropy(network.logits(x, **options), y).item()


def train(*, p=0.0, decay=0.0, smoothing=0.0, noise=0.0, schedule=None, clip=None, steps=500,
          lr=5e-3, layers=1, hidden=256, optimizer=None, seed=0, every=50, spoil=None):  # fmt: skip
    """A trained network, and what was seen on the way: steps, losses on seen and unseen text."""
    rng = np.random.default_rng(seed)
    network = Network(layers, hidden, rng)
    parameters = network.parameters()
    make = optimizer or (lambda each, lr: optim.AdamW(each, lr=lr, weight_decay=decay))
    optimizer = make(parameters, lr)
    log = {"step": [], "seen": [], "unseen": [], "loss": [], "norm": []}
    for step in range(steps + 1):
        if step % every == 0:
            log["step"].append(step)
            log["seen"].append(loss_on(network, seen))
            log["unseen"].append(loss_on(network, unseen))
        for group in optimizer.param_groups:
            group["lr"] = lr * (schedule(step) if schedule else 1.0)
        rows = rng.integers(0, len(seen[0]), 128)
        x, y = seen[0][rows], seen[1][rows]
        if noise:  # some characters become others, drawn as often as they occur
            x = np.where(rng.random(x.shape) < noise, rng.choice(letters, x.shape), x)
        if spoil:
            x, y = spoil(x, y, rng)
        loss = F.cross_entropy(network.logits(x, p, rng, training=True), y,
                               label_smoothing=smoothing)  # fmt: skip
        optimizer.zero_grad()
        loss.backward()
        try:
            norm = optim.clip_grad_norm(parameters, clip or 1e30)
        except FloatingPointError:  # the run has exploded
            break
        log["loss"].append(loss.item())
        log["norm"].append(norm)
        optimizer.step()
    return network, log


plain_network, plain = train()
dropped_network, dropped = train(p=0.5)

share = np.bincount(letters, minlength=V) + 0.1  # a little for those that never occur
share = share / share.sum()
counting = float(-np.log(share[unseen[1]]).mean())

at = [0, 2, 6, 10]
table(
    [[f"{name}, {which} text", *(log[which][i] for i in at)]
     for name, log in (("plain", plain), ("dropout", dropped)) for which in ("seen", "unseen")],
    columns=["loss", *(f"step {plain['step'][i]}" for i in at)], digits=3,
)  # fmt: skip
print(f"knowing nothing: ln {V} = {math.log(V):.2f}.  Knowing only how often each letter occurs: "
      f"{counting:.2f}")  # fmt: skip
assert sum(each.size for each in plain_network.parameters()) == 61040
assert plain["seen"][-1] < 0.8
assert plain["unseen"][-1] > counting + 0.15
assert min(plain["unseen"]) < counting - 0.2
assert dropped["unseen"][-1] < plain["unseen"][-1] - 0.4

# %% [markdown]
# On the text that it knows, the network went on improving to the last step. On other text it was best
# after 100 steps, and by the end it is *worse than counting letters*. The second network differs in one
# line: in each step half of its hidden units, another half each time, are set to 0. It knows its text
# less well, and any other text much better.
#
# The distance between the two losses is the **gap** (泛化差距). Nothing that is computed in training
# shows it. You have to keep some text back.

# %% [markdown]
# ## 3. Formula
#
# The documents name what this lesson is about, and print no formula for any of it.
#
# - D1 §9.7 and D2 §9.3 recommend **regularization** (正则化) against overfitting, without saying which.
# - D1 §9.7, D2 §2.10, D2 §9.3 and D5 §9.4 recommend **augmentation** (数据增强), without an example.
# - D4 §3.2.4 lists two **schedules**: a constant rate and a decaying rate.
# - D5 §5.2 passes a number called `dropout` to its network, gives it no value, and leaves dropout
#   switched on when the trained network predicts. Section 9 measures what that costs.
#
# As published:
#
# **Dropout** (Srivastava et al. 2014, §4; scaled in training as in their §10):
#
# $$
# y_i = \frac{m_i}{1 - p} x_i, \quad m_i = \begin{cases} 0 & \text{with probability } p \\ 1 & \text{otherwise} \end{cases}
# $$
#
# **L2 penalty** and **weight decay** (Loshchilov & Hutter 2019, §2):
#
# $$
# L_{\text{penalty}} = L + \frac{\lambda}{2} \sum_i \theta_i^2, \quad
# \theta_{t+1} = (1 - \alpha \lambda) \theta_t - \alpha \, u_t
# $$
#
# where $u_t$ is the step of the optimizer, computed from the gradient of $L$ alone.
#
# **Label smoothing** (Szegedy et al. 2016, §7), for $C$ classes and the target $k$:
#
# $$
# q_i = (1 - \varepsilon) \delta_{ik} + \frac{\varepsilon}{C}, \quad L = -\sum_i q_i \log p_i
# $$
#
# **Clipping by the global norm** (Pascanu et al. 2013, Algorithm 1), over all parameters together:
#
# $$
# g \leftarrow g \, \min\left( 1, \frac{c}{\| g \|} \right), \quad \| g \| = \sqrt{\sum_{\text{all}} g_i^2}
# $$
#
# **Augmentation by noise** (Xie et al. 2017, §3): each character of the context is replaced, with
# probability $\gamma$, by one drawn from the frequencies $f$ of the characters. The target stays.
#
# $$
# \tilde{x}_i = \begin{cases} z_i, \; z_i \sim f & \text{with probability } \gamma \\ x_i & \text{otherwise} \end{cases}
# $$
#
# **Schedules**, as factors of the learning rate at step $t$, for $T$ steps with a warm-up of $w$. Step
# decay; half a cosine (Loshchilov & Hutter 2017, eq. 5); the inverse square root (Vaswani et al. 2017,
# eq. 3), which is the rate itself:
#
# $$
# \eta_t = \gamma^{\lfloor t / k \rfloor}, \quad
# \eta_t = \eta_T + (1 - \eta_T) \frac{1 + \cos\left( \pi \frac{t - w}{T - w} \right)}{2}
# $$
#
# $$
# \alpha_t = d_{\mathrm{model}}^{-1/2} \min\left( t^{-1/2}, \; t \, w^{-3/2} \right)
# $$
#
# | symbol | variable | shape | what it is |
# |---|---|---|---|
# | $x, y$ | `x`, `y` | any | what dropout gets and gives |
# | $p$ | `p` | a number | the share that is dropped, below 1 |
# | $m$ | `keep` | as `x` | the mask: 0 dropped, 1 kept |
# | $\theta, g$ | `theta`, `g` | any | parameters and gradient |
# | $\alpha, \lambda$ | `lr`, `decay` | numbers | learning rate, strength of the decay |
# | $\varepsilon$ | `smoothing` | a number | the share of the target that is spread over all classes |
# | $C$, or $V$ | `V` | a number | classes; here characters |
# | $q$ | `q` | `[C]` | the smoothed target |
# | $c$ | `clip` | a number | the largest norm that a gradient may have |
# | $\gamma$ | `noise` | a number | the share of characters that is replaced |
# | $w, T$ | `warmup`, `total` | numbers | steps of the rise, steps of the run |
#
# Three of these change what is learned (decay, smoothing, noise), one changes the network (dropout),
# and two change only the walk (clipping, schedules). Do not expect the last two to close the gap.

# %% [markdown]
# ## 4. By hand
#
# Dropout on six numbers with $p = 1/4$, so that what is kept grows by $1 / (1 - 1/4) = 4/3$. The
# numbers $u$ come from a die; what has $u < p$ is dropped. The cotangent below asks for the gradient.

# %%
x = np.array([[3.0, 6, 9], [12, -3, 0]])
u = np.array([[0.81, 0.10, 0.25], [0.24, 0.93, 0.50]])
dy = np.array([[3.0, 6, -3], [9, 1.5, 6]])
p = 1 / 4
y, dx = np.zeros((2, 3)), np.zeros((2, 3))
rows = []
for i, j in np.ndindex(2, 3):
    factor = 4 / 3 if u[i, j] >= p else 0
    y[i, j], dx[i, j] = x[i, j] * factor, dy[i, j] * factor
    rows.append([f"[{i}, {j}]", x[i, j], u[i, j], "kept" if factor else "dropped",
                 "4/3" if factor else "0", y[i, j], dy[i, j], dx[i, j]])  # fmt: skip
table(rows, columns=["", "x", "u", "", "factor", "y", "dy", "dx"])
assert np.allclose(y, [[4, 0, 12], [0, -4, 0]])
assert np.allclose(dx, [[4, 0, -4], [0, 2, 8]])

# %% [markdown]
# Look at the last element. Its $y$ is 0, but not because it was dropped: $x$ was 0. It was kept, and
# its gradient is 8. Whoever reads the mask off from $y$ loses it.
#
# The sums: $x$ has 27, $y$ has 12. Another mask would give another sum. Over all masks the mean is
# 27; section 6 proves it.
#
# The other formulas, on numbers as small.

# %%
q = [0.7 * (i == 1) + 0.3 / 3 for i in range(3)]
print("label smoothing, 3 classes, target 1, ε = 0.3:   q = 0.7 · (0, 1, 0) + 0.1 =",
      [round(each, 2) for each in q])  # fmt: skip
assert np.allclose(q, [0.1, 0.8, 0.1])

g1, g2 = np.array([3.0, 4.0]), np.array([12.0])
norm = math.sqrt(3**2 + 4**2 + 12**2)
print(f"clipping (3, 4) and (12) to c = 6.5:   norm √(9 + 16 + 144) = {norm:g}, factor 6.5/13 = "
      f"{6.5 / norm:g}, gradients {(g1 * 6.5 / norm).tolist()} and {(g2 * 6.5 / norm).tolist()}")  # fmt: skip
assert norm == 13

print("decay, α = 0.1, λ = 0.5, no gradient:   θ = 2 -> 0.95 · 2 = 1.9 -> 0.95 · 1.9 =", 1.9 * 0.95)

print("\nhalf a cosine, T = 10, w = 2, final 0.1:")
for step in (0, 1, 2, 4, 6, 8, 10):
    rise, progress = min(1, (step + 1) / 2), max(0, (step - 2) / 8)
    fall = 0.1 + 0.9 * (1 + math.cos(math.pi * progress)) / 2
    print(f"  step {step:2}:  rise {rise:.1f},  progress {progress:.2f},  "
          f"cos(π · progress) {math.cos(math.pi * progress):+.4f},  factor {rise * fall:.4f}")  # fmt: skip
    assert math.isclose(rise * fall, optim.cosine(step, total=10, warmup=2, final=0.1))

# %% [markdown]
# ## 5. In code
#
# ### Dropout
#
# A loop, then NumPy, then the library's op. To make them agree they need the same die, so here is
# one that shows the numbers it is told to.


# %%
class Die:
    """A generator whose random numbers are given."""

    def __init__(self, numbers):
        self.numbers = numbers

    def random(self, shape, dtype=float):
        return self.numbers.reshape(shape).astype(dtype)


def dropout_loops(x, p, u):
    y = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        if u[index] >= p:
            y[index] = x[index] / (1 - p)
    return y


def dropout_numpy(x, p, u):
    return x * (u >= p) / (1 - p)


for version in (dropout_loops, dropout_numpy):
    assert np.allclose(version(x, p, u), y)
assert np.allclose(ops.dropout(x, p=p, rng=Die(u))[0], y)
assert np.allclose(ops.dropout(x, p=p, rng=Die(u))[1](dy), dx)
print("loops, NumPy and the library agree with the table above")
source(ops.dropout)

# %% [markdown]
# ### The other lines

# %%
source(optim.cosine)
source(optim.inverse_sqrt)
source(optim.clip_grad_norm)


def smoothed_loops(logits, target, smoothing):
    """The mean over rows of -Σ q_i log p_i."""
    total, C = 0.0, logits.shape[1]
    for row, k in zip(logits, target, strict=True):
        log_sum = max(row) + math.log(sum(math.exp(z - max(row)) for z in row))
        for i in range(C):
            q = (1 - smoothing) * (i == k) + smoothing / C
            total -= q * (row[i] - log_sum)
    return total / len(logits)


def smoothed_numpy(logits, target, smoothing):
    z = logits - logits.max(axis=-1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    q = (1 - smoothing) * np.eye(logits.shape[1])[target] + smoothing / logits.shape[1]
    return -(q * log_p).sum(axis=-1).mean()


rng = np.random.default_rng(7)
Z, target = rng.standard_normal((4, 6)), rng.integers(0, 6, 4)
library, _ = ops.cross_entropy(Z, target, label_smoothing=0.1)
for version in (smoothed_loops, smoothed_numpy):
    assert abs(version(Z, target, 0.1) - library) < 1e-14
print(f"label smoothing by loops, NumPy and the library: {library:.6f}, equal")

gradients = [Tensor(np.zeros_like(g), requires_grad=True) for g in (g1, g2)]
for tensor, g in zip(gradients, (g1, g2), strict=True):
    tensor.grad = Tensor(g.copy())
assert optim.clip_grad_norm(gradients, 6.5) == 13
assert np.allclose(gradients[1].grad.data, [6.0])

# %% [markdown]
# The noise is one line of `train` above. On a line of the text, with a fifth of it replaced:

# %%
phrase = letters[1200:1270]
other = np.where(rng.random(70) < 0.2, rng.choice(letters, 70), phrase)
print(repr(text.vocabulary.decode(phrase)))
print(repr(text.vocabulary.decode(other)))
changed = float((phrase != other).mean())
print(f"different now: {changed:.0%} (a character may be replaced by itself)")
assert 0 < changed < 0.35

# %% [markdown]
# ## 6. Backward, derived
#
# ### Step 1: through a mask
#
# Write $c_i = m_i / (1 - p)$ for what element $i$ is multiplied by. Forward is
#
# $$
# y_i = c_i x_i
# $$
#
# The mask is drawn, and then it is a constant: no derivative goes into it. $y_i$ contains $x_i$ and
# no other $x$, so
#
# $$
# \frac{\partial y_i}{\partial x_j} = c_i \delta_{ij}, \quad
# dx_j = \sum_i dy_i \, c_i \delta_{ij} = c_j \, dy_j
# $$
#
# As a matrix the Jacobian is $\mathrm{diag}(c)$, and $dx = \mathrm{diag}(c) \, dy$. The same factors
# go forward and backward.


# %%
def slopes(f, x, h=1e-5):
    """The central difference of the number f(x) for each element of x."""
    out = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[index] = h
        out[index] = (f(x + step) - f(x - step)) / (2 * h)
    return out


c = (u >= p) / (1 - p)
assert np.allclose(dx, c * dy)
assert np.abs(c * dy - slopes(lambda x: (dy * dropout_numpy(x, p, u)).sum(), x)).max() < 1e-9
print("dx = c dy:", (c * dy).round(4).tolist())

# %% [markdown]
# ### Step 2: what stays the same, and what becomes noise
#
# The expectation of $m_i$ is $0 \cdot p + 1 \cdot (1 - p) = 1 - p$. So
#
# $$
# \mathrm{E}[y_i] = \frac{x_i}{1 - p} \mathrm{E}[m_i] = x_i
# $$
#
# That is why one divides. For the variance, $m_i^2 = m_i$, since 0 and 1 are their own squares:
#
# $$
# \begin{aligned}
# \mathrm{Var}[y_i] &= \mathrm{E}[y_i^2] - x_i^2 \\
# &= \frac{x_i^2}{(1 - p)^2} (1 - p) - x_i^2 \\
# &= \frac{p}{1 - p} x_i^2
# \end{aligned}
# $$
#
# Dropout is noise in proportion to the signal. With $p = 1/2$ the standard deviation of each
# element is as large as the element.
#
# No random number is needed to check this. Three elements have eight masks; list them all, each
# with its probability.

# %%
vector = np.array([1.0, -2, 3])
masks = np.array(list(itertools.product([0, 1], repeat=3)), float)  # [8, 3]
for p_drop in (0.1, 0.5, 0.8):
    chance = np.prod(np.where(masks == 1, 1 - p_drop, p_drop), axis=1)  # [8]
    results = masks * vector / (1 - p_drop)
    mean = chance @ results
    variance = chance @ (results - mean) ** 2
    assert math.isclose(chance.sum(), 1)
    assert np.allclose(mean, vector)
    assert np.allclose(variance, p_drop / (1 - p_drop) * vector**2)
    print(f"p = {p_drop}: mean {mean.round(12).tolist()}, variance {variance.round(3).tolist()}")

# %% [markdown]
# ### Step 3: dropout is a penalty
#
# Why does noise help? In a linear model it can be computed. Row $n$ has inputs $x_{nj}$ and the
# target $t_n$; dropout multiplies each input by its own $c_{nj}$. The expected squared error is the
# square of the mean plus the variance:
#
# $$
# \mathrm{E}\left[ \left( t_n - \sum_j c_{nj} x_{nj} w_j \right)^2 \right]
# = \left( t_n - \sum_j x_{nj} w_j \right)^2 + \mathrm{Var}\left[ \sum_j c_{nj} x_{nj} w_j \right]
# $$
#
# The draws are independent, so variances add, and each is known from formula (7.11):
#
# $$
# \mathrm{Var}\left[ \sum_j c_{nj} x_{nj} w_j \right] = \frac{p}{1 - p} \sum_j x_{nj}^2 w_j^2
# $$
#
# Summed over the rows:
#
# $$
# \mathrm{E}[L] = \| t - X w \|^2 + \frac{p}{1 - p} \sum_j w_j^2 \sum_n x_{nj}^2
# $$
#
# On average, dropout *is* an L2 penalty, and one that knows the scale of each input (Srivastava et al.
# 2014, §9.1). Check it by listing the masks again:

# %%
X, t, w = rng.standard_normal((5, 3)), rng.standard_normal(5), rng.standard_normal(3)
p_drop = 0.4
chance = np.prod(np.where(masks == 1, 1 - p_drop, p_drop), axis=1)
expected = sum(
    chance @ (t[n] - (masks * X[n] / (1 - p_drop)) @ w) ** 2 for n in range(5)
)  # every row has its own mask, and the rows add up
penalty = p_drop / (1 - p_drop) * (w**2 * (X**2).sum(axis=0)).sum()
print(f"all masks: {expected:.10f};  error + penalty: {((t - X @ w) ** 2).sum():.4f} + {penalty:.4f} "
      f"= {((t - X @ w) ** 2).sum() + penalty:.10f}")  # fmt: skip
assert math.isclose(expected, ((t - X @ w) ** 2).sum() + penalty)

# %% [markdown]
# ### Step 4: a penalty, and a decay
#
# The derivative of $\frac{\lambda}{2} \sum_j \theta_j^2$ by $\theta_i$ is $\lambda \theta_i$. Put it into
# the step of plain descent:
#
# $$
# \theta_i - \alpha (g_i + \lambda \theta_i) = (1 - \alpha \lambda) \theta_i - \alpha g_i
# $$
#
# The penalty and the decay are the same, for SGD. Not for Adam. Its first step is
# $\alpha$ times the *sign* of what it is given (lesson 06), and the sign of
# $g_i + \lambda \theta_i$ is nearly always that of $g_i$. The penalty vanishes in the division; the
# decay stands outside it. So it is decay that AdamW has. Two weights of 1 whose gradients are pure
# noise, one of size 10, one of size 0.1, after 500 steps:

# %%
theta_sgd, theta_decay = np.array([2.0, -1.0]), np.array([2.0, -1.0])
for g in rng.standard_normal((20, 2)):
    theta_sgd = theta_sgd - 0.1 * (g + 0.3 * theta_sgd)
    theta_decay = (1 - 0.1 * 0.3) * theta_decay - 0.1 * g
assert np.allclose(theta_sgd, theta_decay, rtol=1e-12)
print("SGD: penalty and decay go the same way, to rounding")

noise_rng = np.random.default_rng(4)
sizes = np.array([10.0, 0.1]) * np.ones((400, 1))  # 400 pairs, to see the mean
penalized, decayed = np.ones((400, 2)), np.ones((400, 2))
states = [[np.zeros((400, 2)) for _ in range(2)] for _ in range(2)]
for step in range(1, 501):
    g = sizes * noise_rng.standard_normal((400, 2))
    optim.adam_step(penalized, g + 0.3 * penalized, *states[0], step, lr=0.003)
    optim.adamw_step(decayed, g, *states[1], step, lr=0.003, weight_decay=0.3)
left = {"L2 in Adam": penalized.mean(axis=0), "decay in AdamW": decayed.mean(axis=0)}
table([[name, *values] for name, values in left.items()],
      columns=["mean of 400 weights, from 1", "gradients of size 10", "of size 0.1"])  # fmt: skip
promised = (1 - 0.003 * 0.3) ** 500
print(f"what decay alone does: (1 - αλ)^500 = {promised:.4f}")
assert np.abs(left["decay in AdamW"] - promised).max() < 0.03
assert left["L2 in Adam"][0] > 0.9
assert left["L2 in Adam"][1] < 0.3

# %% [markdown]
# AdamW shrinks both alike, as it was told. L2 in Adam hardly touches the weight with the large
# gradients, and ruins the other.
#
# ### Step 5: a target that can be reached
#
# The loss of logits $z$ against any target $q$ that sums to 1, of which formula (5.3) is the case of a
# one-hot $q$:
#
# $$
# L = -\sum_i q_i \log p_i = \log \sum_j e^{z_j} - \sum_i q_i z_i
# $$
#
# The derivative of the first part is $p_i$ (lesson 05), that of the second $q_i$:
#
# $$
# dz_i = p_i - q_i
# $$
#
# It is 0 where $p = q$. With a one-hot $q$ that needs an infinite logit. With a smoothed one it
# needs a distance between the target's logit and the others of just
#
# $$
# \ln \frac{1 - \varepsilon + \varepsilon / C}{\varepsilon / C}
# = \ln\left( 1 + \frac{C (1 - \varepsilon)}{\varepsilon} \right)
# $$
#
# Past it the gradient turns round and pulls back. The price: at the best point the loss is not 0 but
# the entropy of $q$, so a smoothed loss is not to be compared with one that is not.

# %%
smooth = lambda z: ops.cross_entropy(z, np.array([0]), label_smoothing=0.1)
z = np.zeros((1, 3))
_, back = smooth(z)
assert np.allclose(
    back(np.array(1.0))[0], [[1 / 3 - 0.9 - 0.1 / 3, 1 / 3 - 0.1 / 3, 1 / 3 - 0.1 / 3]]
)

best = math.log(1 + V * 0.9 / 0.1)
z = np.zeros((1, V))
for distance in (best - 1, best, best + 1):
    z[0, 0] = distance
    value, back = smooth(z)
    slope = back(np.array(1.0))[0][0, 0]
    print(f"logit {distance:.2f} above the others: loss {value:.4f}, gradient {slope + 0.0:+.1e}")
    assert (abs(slope) < 1e-12) if distance == best else ((slope > 0) == (distance > best))
q = np.full(V, 0.1 / V)
q[0] += 0.9
z[0, 0] = best
floor = -(q * np.log(q)).sum()
print(f"the entropy of q is {floor:.4f}: no smoothed loss gets below it")
assert math.isclose(smooth(z)[0], floor)

# %% [markdown]
# ### Step 6: one factor for all
#
# Clipping multiplies all gradients by the same factor $s = \min(1, c / \| g \|)$. So
# $\| s g \| = \min(\| g \|, c)$, and the angle between $g$ and $s g$ is 0: the step is shorter, and
# goes where it would have gone. Clipping each element to $[-c, c]$ by itself, or each matrix by its own
# norm, changes the direction. How much? The gradients of a network with four hidden layers of 128, at
# its start:

# %%
network = Network(4, 128, np.random.default_rng(0))
F.cross_entropy(network.logits(seen[0][:128]), seen[1][:128]).backward()
parts = [each.grad.data.astype(float) for each in network.parameters()]
whole = np.concatenate([each.ravel() for each in parts])


def angle(pieces):
    """Degrees between the gradient and what became of it."""
    other = np.concatenate([each.ravel() for each in pieces])
    cosine = whole @ other / (np.linalg.norm(whole) * np.linalg.norm(other))
    return math.degrees(math.acos(min(1.0, cosine)))


size = float(np.linalg.norm(whole))
kinds = {
    "by the global norm": [g * min(1, 0.5 / size) for g in parts],
    "each matrix by itself": [g * min(1, 0.1 / np.linalg.norm(g)) for g in parts],
    "each element by itself": [np.clip(g, -1e-3, 1e-3) for g in parts],
}
turned = {name: angle(pieces) for name, pieces in kinds.items()}
table([[name, degrees] for name, degrees in turned.items()],
      columns=["clipped", "turned by (degrees)"], digits=3)  # fmt: skip
assert turned["by the global norm"] < 1e-3
assert turned["each matrix by itself"] > 5
assert turned["each element by itself"] > 5

# %% [markdown]
# ### Step 7: why the rate must fall
#
# D4 §3.2.4 names constant and decaying rates. What is the difference? Take the bowl
# $\frac{a}{2} \theta^2$, and a gradient with noise, $a \theta + \xi$, as any small batch gives. Let
# $\xi$ have mean 0 and variance $\sigma^2$. A step is
#
# $$
# \theta_{t+1} = (1 - \alpha a) \theta_t - \alpha \xi_t
# $$
#
# The mean goes to 0. But variances of independent things add, so $v_t = \mathrm{Var}[\theta_t]$ has
#
# $$
# v_{t+1} = (1 - \alpha a)^2 v_t + \alpha^2 \sigma^2
# $$
#
# With a constant rate it stops where $v_{t+1} = v_t$. Solve $v (1 - (1 - \alpha a)^2) = \alpha^2 \sigma^2$,
# and note that $1 - (1 - \alpha a)^2 = \alpha a (2 - \alpha a)$:
#
# $$
# v_\infty = \frac{\alpha \sigma^2}{a (2 - \alpha a)}
# $$
#
# It never gets nearer, however long it walks. Half the rate, about half the variance. Now let the rate
# fall as $\alpha_t = 1 / (a t)$. Multiply the step by $t$:
#
# $$
# t \, \theta_{t+1} = (t - 1) \theta_t - \frac{\xi_t}{a}
# \quad \Rightarrow \quad \theta_{t+1} = -\frac{1}{a t} \sum_{s=1}^{t} \xi_s
# $$
#
# That is a mean of all noise so far, with the variance $\sigma^2 / (a^2 t)$, which goes to 0. In general
# it takes $\sum \alpha_t = \infty$ (to get anywhere from anywhere) and $\sum \alpha_t^2 < \infty$ (for
# the noise to die out; Robbins & Monro 1951). A run of known length needs no such limit. It goes fast
# first and slow at last: that is the cosine.

# %%
a, sigma, T = 1.0, 1.0, 2000
rates = {
    "constant 0.2": lambda t: 0.2,
    "constant 0.02": lambda t: 0.02,
    "1 / t": lambda t: 1 / t,
    "0.2, half a cosine": lambda t: 0.2 * optim.cosine(t - 1, total=T),
}
walkers = {}
for name, rate in rates.items():
    walk_rng, theta, spread = np.random.default_rng(1), np.full(2000, 3.0), []
    for step in range(1, T + 1):
        theta = theta - rate(step) * (a * theta + sigma * walk_rng.standard_normal(2000))
        spread.append(float((theta**2).mean()))
    walkers[name] = spread
promises = {
    "constant 0.2": 0.2 / (2 - 0.2),
    "constant 0.02": 0.02 / (2 - 0.02),
    "1 / t": 1 / T,
}
table([[name, walkers[name][9], walkers[name][99], walkers[name][-1], promises.get(name, "")]
       for name in rates],
      columns=["mean of θ², 2000 walkers from 3", "step 10", "step 100", "step 2000", "derived"],
      digits=3)  # fmt: skip
for name, promise in promises.items():
    # the mean of 2000 squares of normal numbers has a relative standard deviation of 0.032
    assert abs(walkers[name][-1] / promise - 1) < 0.15
assert walkers["0.2, half a cosine"][-1] < 0.5 * walkers["constant 0.02"][-1]

# %% [markdown]
# ### Step 8: the two branches of the inverse square root
#
# $t^{-1/2}$ falls, $t \, w^{-3/2}$ rises. They are equal where $t^{3/2} = w^{3/2}$, at $t = w$: there
# is the peak, and its height is $d_{\mathrm{model}}^{-1/2} w^{-1/2} = 1 / \sqrt{d_{\mathrm{model}} w}$. For
# the model of 2017, $d_{\mathrm{model}} = 512$ and $w = 4000$:

# %%
peak = optim.inverse_sqrt(3999, warmup=4000, d_model=512)
print(f"the largest rate of the first Transformer: 1 / √(512 · 4000) = {peak:.3e}")
assert math.isclose(peak, 1 / math.sqrt(512 * 4000))
assert all(optim.inverse_sqrt(s, warmup=4000, d_model=512) < peak for s in (0, 3998, 4000, 90000))
halved = [optim.cosine(s, total=1000) for s in range(1001)]
assert math.isclose(sum(halved) / 1001, 0.5)  # the cosine's mean is half its height
assert halved[1] > 1 - 1e-5  # and it starts flat
assert halved[999] < 1e-5  # and ends flat

# %% [markdown]
# The solution, backward beside forward:

# %%
source(solution(7).dropout)
source(solution(7).warmup_cosine)

# %% [markdown]
# ## 7. Gradient check, live
#
# Central differences call the function twice for each element. If it draws a new mask each time, the
# difference is between two networks. So the generator is made anew in each call.

# %%
from scratchlm import gradcheck, plot


def with_mask(x):
    return solution(7).dropout(x, p=0.4, rng=np.random.default_rng(3))


big = rng.standard_normal((4, 5))
report = gradcheck(with_mask, big)
print(report)
assert report

one_generator = np.random.default_rng(3)


def with_any_mask(x):
    return solution(7).dropout(x, p=0.4, rng=one_generator)


try:
    gradcheck(with_any_mask, big)
    refused = ""
except RuntimeError as error:
    refused = str(error)
    print(f"RuntimeError: {error}")
assert "another result when called again" in refused

# %% [markdown]
# The gradient was right both times. Who checks what draws has to hold the draw still.
#
# Now the V of error against step, for dropout and for the smoothed loss. Before you run it: one of the
# two is linear in $x$ while its mask is held. What does its V look like?

# %%
from scratchlm.gradcheck import error_by_step

lengths = np.logspace(-1, -12, 23)
curves = {
    "dropout": error_by_step(with_mask, big, steps=lengths),
    "smoothed cross-entropy": error_by_step(
        lambda z: (lambda out, back: (out, lambda d: back(d)[0]))(
            *ops.cross_entropy(z, target, label_smoothing=0.1)), Z, steps=lengths),
}  # fmt: skip
steps = curves["dropout"].steps
errors = {name: curve.errors for name, curve in curves.items()}
ax = plot.gradcheck_curve(steps, errors, title="error against step: a V, and half a V")
show(ax, alt=(
    "Error against step, both axes logarithmic. The smoothed cross-entropy falls and rises again, a "
    "V with its lowest point near 1e-5. Dropout only falls as the step grows: it has no right arm."
))  # fmt: skip
largest = int(np.argmax(steps))
assert errors["dropout"][largest] < 1e-12
assert errors["smoothed cross-entropy"][largest] > 1e3 * errors["smoothed cross-entropy"].min()

# %% [markdown]
# The right arm of the V is curvature, and a linear function has none: larger steps only get better.
# (The points at the very bottom are luck: there the difference came out exact.)

# %% [markdown]
# ## 8. See it
#
# **The gap, growing.** Both networks of the hook. Look for the step at which the curve on unseen text
# turns. Before you run it: on which text does dropout make the loss larger?

# %%
from scratchlm.plot import style

BLUE, RED, GREEN, BLACK = "#0072B2", "#D55E00", "#009E73", "#000000"
with style():
    fig, (left, right) = figure(1, 2, width=8.4, height=3.5, sharey=True)
    for ax, log, name in ((left, plain, "plain"), (right, dropped, "dropout, p = 0.5")):
        ax.plot(log["step"], log["unseen"], "o-", color=RED, label="unseen text")
        ax.plot(log["step"], log["seen"], "s--", color=BLUE, label="seen text")
        ax.fill_between(log["step"], log["seen"], log["unseen"], color="#999999", alpha=0.2)
        ax.axhline(counting, color=BLACK, linewidth=1, linestyle=":", label="counting letters")
        ax.set(title=name, xlabel="step")
        ax.grid(True)
    left.set_ylabel("loss (nats per character)")
    left.legend()
show(fig, alt="Two panels of loss against step. Plain: the loss on seen text falls to 0.6, the loss on "
              "unseen text falls to 3.1 at step 100 and rises to 3.8, above the line of counting letters. "
              "With dropout: 1.1 and 3.2, the gap two thirds as wide.")  # fmt: skip
turn = plain["step"][int(np.argmin(plain["unseen"]))]
print(f"plain: best on unseen text at step {turn}, {min(plain['unseen']):.2f}; "
      f"at the end {plain['unseen'][-1]:.2f}")  # fmt: skip
assert 50 <= turn <= 250

# %% [markdown]
# **The schedules.** Look for where each has its peak, and how it ends. Before you run it: which one does
# not know when the run will be over?

# %%
ax = plot.schedule(
    {
        "constant": lambda s: optim.constant(s, warmup=100),
        "step decay, γ = 0.3 every 300": lambda s: optim.step_decay(s, every=300, gamma=0.3, warmup=100),
        "half a cosine, final 0.1": lambda s: optim.cosine(s, total=1000, warmup=100, final=0.1),
        "inverse square root": lambda s: optim.inverse_sqrt(s, warmup=100),
    },
    1000, title="four schedules, each with a warm-up of 100 steps",
)  # fmt: skip
ax.legend(loc="upper right", bbox_to_anchor=(1.0, 0.94))
show(ax, alt="Four curves that rise in a line to 1 over 100 steps. The constant stays at 1; the step decay "
             "falls to 0.3 at 300, 0.09 at 600 and 0.027 at 900; the cosine falls in an S to 0.1 at 1000; "
             "the inverse square root falls steeply at first and is at 0.32 in the end.")  # fmt: skip

# %% [markdown]
# **Noise and rate.** The 2000 walkers of step 7 of the derivation. Look for the curves that become
# level. Before you run it: which is the best at step 20, and which at step 2000?

# %%
looks = {"constant 0.2": ("-", RED), "constant 0.02": ("--", BLUE), "1 / t": (":", BLACK),
         "0.2, half a cosine": ("-.", GREEN)}  # fmt: skip
with style():
    fig, ax = figure(width=6.4, height=3.8)
    for name, spread in walkers.items():
        ax.plot(range(1, T + 1), spread, looks[name][0], color=looks[name][1], label=name)
    ax.set(xscale="log", yscale="log", xlabel="step", ylabel="mean of θ² over the walkers",
           title="A noisy bowl: a constant rate stops getting nearer")  # fmt: skip
    ax.grid(True)
    ax.legend()
show(fig, alt="Mean squared distance against step, both logarithmic. The constant rate 0.2 is level at "
              "0.11 from step 15 on, 0.02 is level at 0.01 from step 200 on, 1/t falls in a straight "
              "line, and the cosine follows 0.2 and drops at the very end to 0.003.")  # fmt: skip

# %% [markdown]
# **Keeping a run alive.** Four hidden layers, SGD with momentum and a rate of 1.5, which is far too
# much. The same run with a warm-up of 40 steps, with clipping to 0.5, with both, and with a tenth of the
# rate. Look for the line that leaves the picture. Before you run it: the first gradient has a norm of
# about 1. How large does it get?


# %%
def momentum(parameters, lr):
    return optim.SGD(parameters, lr=lr, momentum=0.9)


def rising(step):
    return optim.constant(step, warmup=40)


wild = {"layers": 4, "hidden": 128, "steps": 200, "every": 1000, "optimizer": momentum}
runs = {}
with np.errstate(all="ignore"):
    for name, options in {
        "neither": {"lr": 1.5}, "warm-up": {"lr": 1.5, "schedule": rising},
        "clipped": {"lr": 1.5, "clip": 0.5}, "both": {"lr": 1.5, "schedule": rising, "clip": 0.5},
        "rate 0.15": {"lr": 0.15},
    }.items():  # fmt: skip
        runs[name] = train(**wild, **options)[1]
table(
    [[name, len(log["loss"]), max(log["loss"]), max(log["norm"]),
      float(np.mean(log["loss"][-20:]))] for name, log in runs.items()],
    columns=["", "steps done", "largest loss", "largest norm", "mean of the last 20"], digits=3,
)  # fmt: skip

with style():
    fig, ax = figure(width=6.8, height=3.8)
    lines = [*looks.values(), ((0, (1, 1)), "#CC79A7")]
    for (name, log), (line, color) in zip(runs.items(), lines, strict=True):
        wide = min(10, len(log["loss"]))
        smoothed_curve = np.convolve(log["loss"], np.ones(wide) / wide, "valid")
        steps_done = range(wide, wide + len(smoothed_curve))
        if name == "neither":  # too short to be smoothed
            smoothed_curve, steps_done = log["loss"], range(1, 1 + len(log["loss"]))
        ax.plot(
            steps_done, np.minimum(smoothed_curve, 1e3), linestyle=line, color=color, label=name
        )
    ax.set(ylim=(1.5, 6), xlabel="step", ylabel="loss (nats per character), mean of 10",
           title="SGD with momentum, rate 1.5, four hidden layers")  # fmt: skip
    ax.grid(True)
    ax.legend()
show(fig, alt="Loss against step. Without warm-up or clipping the loss leaves the top of the picture after a "
              "few steps. With a warm-up alone it stays near 3.2 for 140 steps at least, and may climb out of "
              "the picture after them. With clipping, and with both, it stays near 3.1. A tenth of the rate falls "
              "steadily to about 1.7, below them all.")  # fmt: skip
assert max(runs["neither"]["loss"]) > 1e6
for name in ("clipped", "both"):
    assert len(runs[name]["loss"]) == 201
    assert np.mean(runs[name]["loss"][-20:]) < 3.6
assert np.mean(runs["rate 0.15"]["loss"][-20:]) < 2.2
assert max(runs["warm-up"]["loss"][:100]) < 6
assert np.mean(runs["warm-up"]["loss"][-20:]) > 2.5
assert 0.5 < runs["neither"]["norm"][0] < 3

# %% [markdown]
# A step that is too long lands where the gradient is larger; the next step is longer still, and after
# ten of them there are no numbers left. A warm-up keeps off the dangerous region while the weights are
# unsettled. Here it buys a hundred steps for certain, and no more is certain: at the full rate the last
# bit of a sum decides whether the run explodes all the same (it does on some machines) or stays at 3.1.
# Clipping bounds each single step, and the run survives. But look at the last row: what makes a wrong
# rate survivable does not make it right.

# %% [markdown]
# ## 9. Break it
#
# ### As printed: dropout that stays on (D5 §5.2)
#
# The program of D5 §5.2 gives its network a number `dropout`, trains it, and predicts. It switches off
# the recording of gradients for that, and nothing else. In PyTorch a network keeps dropping until
# `model.eval()` is called. So the printed program predicts with half of its units missing, another half
# each time. On our network of the hook:

# %%
with_eval = loss_on(dropped_network, unseen)
left_on = [loss_on(dropped_network, unseen, p=0.5, rng=np.random.default_rng(seed), training=True)
           for seed in range(5)]  # fmt: skip
print(f"dropout switched off: {with_eval:.3f} nats, the same every time")
print("left on, as printed: ", ", ".join(f"{each:.3f}" for each in left_on))
context = unseen[0][100:101]
with no_grad():
    answers = [
        int(dropped_network.logits(context, 0.5, np.random.default_rng(s), True).data.argmax())
        for s in range(100)
    ]
kinds = {text.vocabulary.decode([k]): answers.count(k) for k in sorted(set(answers))}
print(f"asked 100 times what follows {text.vocabulary.decode(context[0])!r}: {kinds}")
assert min(left_on) > with_eval + 0.05
assert len(kinds) > 1

# %% [markdown]
# The loss rises, and the same question gets different answers: nothing is broken, and nothing can be
# repeated. (Kept on purpose, and averaged over many masks, it is a way to ask the network how sure it
# is. That is another use, and one has to mean it.)
#
# ### As printed: a rate, "constant or decaying" (D4 §3.2.4)
#
# Section 6 has measured the difference: at the same early speed, the constant rate's error stayed at
# 0.11 and the falling rate's went on down.

# %%
ratio = walkers["constant 0.2"][-1] / walkers["0.2, half a cosine"][-1]
print(f"after 2000 steps the constant rate is {ratio:.0f} times as far from the minimum (squared)")
assert ratio > 20

# %% [markdown]
# ### Mistakes with dropout, and what they look like
#
# The check knows fifteen wrong versions. Four of them train the network of the hook, 500 steps each.
# Which ones would you notice?

# %%
known = exercises(7)["dropout"]
assert len(known.mistakes) == 15
spoilt = {
    "right": solution(7).dropout,
    **{name: known.mistake(name).function for name in (
        "not scaled", "mask drawn again", "still on after training", "one mask for all rows",
    )},
}  # fmt: skip
outcome = {}
for name, function in spoilt.items():
    with scratchlm.use(dropout=function):
        if name == "still on after training":  # which needs its generator to predict, too
            log = dropped
            losses = [loss_on(dropped_network, data, p=0.5, rng=np.random.default_rng(0))
                      for data in (seen, unseen)]  # fmt: skip
        else:
            log = dropped if name == "right" else train(p=0.5)[1]
            losses = [log["seen"][-1], log["unseen"][-1]]
    outcome[name] = [float(np.mean(log["loss"][-100:])), *losses]
table([[name, *numbers] for name, numbers in outcome.items()],
      columns=["dropout", "training loss", "seen text", "unseen text"], digits=3)  # fmt: skip
assert outcome["not scaled"][2] > outcome["right"][2] + 0.2
assert outcome["still on after training"][2] > outcome["right"][2] + 0.05
assert outcome["mask drawn again"][0] > outcome["right"][0] + 0.1

# %% [markdown]
# - **Not scaled**: the training loss is nearly as good as the right one's. In use the sums are twice what the
#   network is used to, so it is far too sure of itself, on unseen text above all.
# - **Mask drawn again**: gradients go to units that had no part in the prediction. It learns, and the
#   training loss itself is worse.
# - **Still on**: the printed program once more. In training it is right; only use shows it.
# - **One mask for all rows**: hardly to be told from the right one here. It is noisier, since all 128
#   rows lose the same units. Only a test sees it.
#
# ### p and 1 - p
#
# The most common mistake of all keeps what should be dropped. With $p = 1/2$ it is no mistake. So
# never test dropout with one half:

# %%
exchanged = known.mistake("kept and dropped exchanged").function
ones = np.ones(10000)
for p_drop in (0.5, 0.1):
    zeros = [float((f(ones, p=p_drop, rng=np.random.default_rng(0))[0] == 0).mean())
             for f in (solution(7).dropout, exchanged)]  # fmt: skip
    print(f"p = {p_drop}: dropped {zeros[0]:.1%} by the solution, {zeros[1]:.1%} when exchanged")
assert zeros[1] > 0.85

# %% [markdown]
# ### A smoothed loss, compared with one that is not
#
# Smooth the targets, report the same loss on unseen text, and the model seems to become worse. It has
# become better. The floor of section 6 is in the number.

# %%
smooth_network, smoothed = train(smoothing=0.1)
with no_grad():
    x_other, y_other = unseen[0][::2], unseen[1][::2]
    scores = smooth_network.logits(x_other)
    reported = F.cross_entropy(scores, y_other, label_smoothing=0.1).item()
    honest = F.cross_entropy(scores, y_other).item()
print(f"plain network {plain['unseen'][-1]:.2f}; smoothed network: {honest:.2f} without smoothing "
      f"in the measure, {reported:.2f} with it")  # fmt: skip
assert honest < plain["unseen"][-1] - 0.5
assert reported > honest + 0.1

# %% [markdown]
# ### Augmentation that changes the answer
#
# Augmentation changes the question so that the answer stays right. A picture of a cat is still a cat in
# the mirror. What of a text? Let each context be mirrored with probability one half. For comparison: the
# noise in the contexts, and noise in the *targets*. Before you run it: which is worse, a mirror or wrong
# answers?


# %%
def mirrored(x, y, rng):
    return np.where(rng.random((len(x), 1)) < 0.5, x[:, ::-1], x), y


def noisy_answers(x, y, rng):
    return x, np.where(rng.random(y.shape) < 0.2, rng.choice(letters, y.shape), y)


_, noised = train(noise=0.2)
_, mirror = train(spoil=mirrored)
_, wrong_answers = train(spoil=noisy_answers)
changes = {"nothing": plain, "contexts, by noise": noised, "contexts, mirrored": mirror,
           "targets, by noise": wrong_answers}  # fmt: skip
table([[name, float(np.mean(log["loss"][-100:])), log["seen"][-1], min(log["unseen"]), log["unseen"][-1]]
       for name, log in changes.items()],
      columns=["changed", "training loss", "seen text", "unseen, best", "unseen, end"], digits=3)  # fmt: skip
assert min(mirror["unseen"]) > min(plain["unseen"]) + 0.05
assert min(noised["unseen"]) < min(plain["unseen"])
assert wrong_answers["unseen"][-1] < plain["unseen"][-1] - 0.4

# %% [markdown]
# The mirror is worse than nothing, at its best: it spends half of the network on a language that nobody
# writes. The wrong answers are the surprise. Every fifth target is false, the training loss looks terrible,
# and the network is *better* on unseen text. No accident: replace the target $k$ with probability $\gamma$
# by one drawn from the frequencies $f$, and the expected loss is that of the target
#
# $$
# q_i = (1 - \gamma) \delta_{ik} + \gamma f_i
# $$
#
# since the cross-entropy is linear in $q$. It is label smoothing, with frequencies for the uniform part,
# drawn by a die. The exact form has the same mean and less noise:

# %%
spread = np.bincount(letters, minlength=V) / len(letters)  # f
row, k = rng.standard_normal(V), 5
log_p = row - np.log(np.exp(row).sum())
by_target = -log_p  # the loss that each target would have
one_by_one = 0.8 * by_target[k] + 0.2 * (spread * by_target).sum()
q = 0.8 * (np.arange(V) == k) + 0.2 * spread
print(
    f"expected loss over the draw {one_by_one:.10f}, loss of the mixed target {-(q * log_p).sum():.10f}"
)
assert math.isclose(one_by_one, -(q * log_p).sum())

# %% [markdown]
# ### A gap of zero
#
# Decay has to be chosen. Too much of it, and the gap is gone, and so is the model: it does as badly on
# the text it has seen. The gap is a symptom. What counts is the loss on unseen text.

# %%
decays = {0.0: plain, **{decay: train(decay=decay)[1] for decay in (1.0, 30.0)}}
table([[decay, log["seen"][-1], log["unseen"][-1], log["unseen"][-1] - log["seen"][-1]]
       for decay, log in decays.items()],
      columns=["λ", "seen text", "unseen text", "gap"], digits=3)  # fmt: skip
gaps = [log["unseen"][-1] - log["seen"][-1] for log in decays.values()]
assert gaps == sorted(gaps, reverse=True)
assert decays[30.0]["unseen"][-1] > decays[1.0]["unseen"][-1] + 0.3

# %% [markdown]
# ### The schedule on the wrong clock
#
# Two that raise no error. A schedule asked for the *epoch* instead of the step never leaves its warm-up.
# And a rise that begins at 0 wastes the first update, which shows only in a run of few steps.

# %%
epoch = len(seen[0]) // 128
clock = {
    "by the step": lambda s: optim.cosine(s, total=300, warmup=30),
    "by the epoch": lambda s: optim.cosine(s // epoch, total=300, warmup=30),
}
by_clock = {name: train(schedule=each, steps=150)[1] for name, each in clock.items()}
for name, log in by_clock.items():
    print(f"{name:13} the largest factor is {max(clock[name](s) for s in range(150)):.2f}, "
          f"the loss on seen text {log['seen'][-1]:.2f}")  # fmt: skip
assert by_clock["by the epoch"]["seen"][-1] > by_clock["by the step"]["seen"][-1] + 0.3

from_zero = exercises(7)["warmup_cosine"].mistake("rises from 0").function
first = [train(schedule=lambda s, f=f: f(s, total=300, warmup=30), steps=1, every=1)[1]["seen"]
         for f in (solution(7).warmup_cosine, from_zero)]  # fmt: skip
print(f"the first update changes the loss by {first[0][1] - first[0][0]:.4f}, "
      f"with a rise from 0 by {first[1][1] - first[1][0]:.4f}")  # fmt: skip
assert first[1][1] == first[1][0] != first[0][1]

# %% [markdown]
# ## 10. Your turn
#
# Write `dropout(x, *, p=0.5, rng=None, training=True)`, which returns `(y, vjp)`, and
# `warmup_cosine(step, *, total, warmup=0, final=0.0)`, which returns a number. The stub says how to draw,
# so that the check can draw the same.
#
#     scratchlm start 7            # copies the stub into your folder
#     scratchlm check 7 --watch    # checks it each time you save
#     scratchlm hint 7             # three levels
#
# Do dropout first: the case that changes nothing, the mask, the product, and last the gradient. For the
# schedule draw the curve on paper for $T = 10$ and $w = 2$ and mark the corners. When it passes, your
# dropout can train a GPT:
#
#     with scratchlm.use(dropout=dropout): ...

# %%
print("what the check says to a mask that is drawn twice:\n")
fault = known.check(known.mistake("mask drawn again").function).fault
print(fault.what, fault.where, fault.looks_like, fault.hint, sep="\n")

# %% [markdown]
# ## 11. Cost
#
# | | for one step | kept for backward |
# |---|---|---|
# | dropout | a random number, a comparison and a product for each element | the mask, as large as $x$ |
# | weight decay | one product for each parameter | nothing |
# | label smoothing | a sum over the logits | nothing more |
# | clipping | two passes over all gradients | nothing |
# | noise in the context | a random number for each input id | nothing |
# | a schedule | one cosine | nothing |
#
# And when the model is used, every one of them costs nothing: dropout is off, and the others live in
# training only. Memory and time, measured:

# %%
import time
import tracemalloc


def held(function, *arrays):
    """Megabytes held after ``function``, which returns what backward needs."""
    tracemalloc.start()
    kept = function(*arrays)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del kept
    return size / 2**20


def milliseconds(call, times=5):
    spent = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        spent.append(time.perf_counter() - begin)
    return 1e3 * min(spent)


batch = np.random.default_rng(0).standard_normal((1024, 1024)).astype(np.float32)
mebibytes = batch.nbytes / 2**20
dice = np.random.default_rng(0)
drop = lambda: ops.dropout(batch, p=0.1, rng=dice)
after, back = drop()
kept = held(lambda: ops.dropout(batch, p=0.1, rng=dice)) - mebibytes  # y itself is not kept
idle = held(lambda: ops.dropout(batch, p=0.1, training=False))
print(f"x has {mebibytes:.0f} MiB. Dropout keeps {kept:.1f} MiB in training, {idle:.1f} MiB else")
table([["drawing the numbers alone", milliseconds(lambda: dice.random(batch.shape, np.float32))],
       ["dropout, forward", milliseconds(drop)],
       ["dropout, backward", milliseconds(lambda: back(batch))],
       ["for comparison: x + x", milliseconds(lambda: batch + batch)]],
      columns=["a million elements, float32", "ms here"], digits=3)  # fmt: skip
assert abs(kept - mebibytes) < 0.2
assert idle < 0.1

# %% [markdown]
# The draw is what dropout costs. A mask needs one bit for each element and is kept in 32; a kernel can
# keep nothing at all, and draw the same numbers again in backward from the same counter (lesson 28).

# %% [markdown]
# ## 12. Use it
#
# ### Each against the gap
#
# The network and the 8000 characters of the hook, 500 steps, one thing at a time. "Best" is the lowest
# loss on unseen text on the way: what one would get who stops there (**early stopping**, 早停). The
# cosines, and the dropout of the last row, are the lesson's solutions. Before you run it: which of them
# will *not* help?

# %%
own = solution(7)
schedule = lambda step: own.warmup_cosine(step, total=500, warmup=25)
with scratchlm.use(dropout=own.dropout):
    together = train(p=0.5, decay=1.0, schedule=schedule)[1]
results = {
    "nothing": plain,
    "dropout, p = 0.5": dropped,
    "decay, λ = 1": decays[1.0],
    "label smoothing, ε = 0.1": smoothed,
    "noise, γ = 0.2": noised,
    "warm-up and cosine": train(schedule=schedule)[1],
    "clipping, c = 0.25": train(clip=0.25)[1],
    "32 hidden units": train(hidden=32)[1],
    "dropout, decay, cosine": together,
}
ends = {
    name: (log["seen"][-1], min(log["unseen"]), log["unseen"][-1]) for name, log in results.items()
}
table(
    [[name, seen_loss, best_loss, end, end - seen_loss, math.exp(end)]
     for name, (seen_loss, best_loss, end) in ends.items()],
    columns=["with", "seen text", "unseen, best", "unseen, end", "gap", "perplexity"], digits=3,
)  # fmt: skip

names = list(ends)[::-1]
with style():
    fig, ax = figure(width=7.2, height=4.2)
    for row, name in enumerate(names):
        low, best_loss, high = ends[name]
        ax.plot(
            [low, high], [row, row], color="#999999", linewidth=5, solid_capstyle="round", alpha=0.5
        )
        for value, mark, color in ((low, "s", BLUE), (best_loss, "|", BLACK), (high, "o", RED)):
            ax.plot(value, row, mark, color=color, markersize=9 if mark == "|" else 7)
    ax.axvline(counting, color=BLACK, linewidth=1, linestyle=":")
    ax.set(yticks=range(len(names)), yticklabels=names, xlabel="loss (nats per character)",
           title="the gap: seen text (square) to unseen text (circle); bar: best on the way")  # fmt: skip
    ax.grid(True, axis="x")
show(fig, alt="One bar for each method, from the loss on seen text to that on unseen text. Nothing: 0.6 to "
              "3.8. Clipping alone is nearly as wide. Dropout, smoothing, noise, the cosine and the small "
              "network end near 3.1 to 3.2. Decay, alone or with dropout and the cosine, ends lowest, "
              "near 2.8, with the shortest bars.")  # fmt: skip

# recorded with seed 0: nothing 3.82, dropout 3.17, decay 2.78, smoothing 3.09, noise 3.15, together 2.78
for name, limit in [("dropout, p = 0.5", 3.4), ("decay, λ = 1", 3.0), ("noise, γ = 0.2", 3.4),
                    ("label smoothing, ε = 0.1", 3.4), ("dropout, decay, cosine", 3.0)]:  # fmt: skip
    assert ends[name][2] < limit < ends["nothing"][2]
assert ends["clipping, c = 0.25"][2] > counting

# %% [markdown]
# Five things to take from the table.
#
# 1. **Decay is the strongest here**, and costs one product for each weight.
# 2. **Clipping does not help**, and was not made for it. This run never needed it.
# 3. **The cosine helps by going slow**: its best is no better than the plain network's, but it does less
#    damage afterward. So does stopping early, which is free, and by itself not enough.
# 4. **A smaller network** overfits less, too. It ends about where the large one with dropout ends, and the
#    large one with decay is far ahead of both.
# 5. **They hardly add up.** Each takes away what the other would have taken.
#
# ### Whom does smoothing make modest?
#
# A model is *calibrated* if it is right in 70 % of the cases in which it says 70 %. Look at the plain
# network's most certain predictions on unseen text.


# %%
def certainty(network):
    """How sure the network is of its first choice, and whether that was right."""
    with no_grad():
        p = F.softmax(network.logits(unseen[0])).data
    return p.max(axis=-1), p.argmax(axis=-1) == unseen[1]


for name, network in (
    ("plain", plain_network),
    ("smoothed", smooth_network),
    ("dropout", dropped_network),
):
    sure, right = certainty(network)
    top = sure > 0.9
    print(f"{name:9} says over 90 % in {top.mean():5.1%} of the places, and is right in {right[top].mean():.1%} "
          f"of those; right in {right.mean():.1%} of all")  # fmt: skip
sure, right = certainty(plain_network)
smooth_sure, smooth_right = certainty(smooth_network)
dropped_sure, dropped_right = certainty(dropped_network)
assert right[sure > 0.9].mean() < 0.75
assert (smooth_sure > 0.9).mean() < 0.6 * (sure > 0.9).mean()
assert smooth_right.mean() > right.mean() - 0.02
assert right[sure > 0.9].mean() + 0.05 < dropped_right[dropped_sure > 0.9].mean() < 0.85
assert smooth_right[smooth_sure > 0.9].mean() < 0.85


# %% [markdown]
# The plain network is that sure in every sixth place, and wrong in a third of them. Smoothing makes it
# modest: it says so three times less often. It does not make it calibrated: where it still says so, it
# is wrong more than twice as often as it admits. Dropout does no better. A regularized network is less
# sure of itself; none of these keeps its word.
#
# ### More text
#
# The best regularizer is not in the list. The plain network, with 16 times the text, and as many steps:

# %%
few = seen
seen = windows(text.train[: 16 * 8000])
more = train()[1]
seen = few
print(f"8000 characters: {plain['unseen'][-1]:.2f}, the best of the table {min(e[2] for e in ends.values()):.2f}; "
      f"128,000 characters: {more['unseen'][-1]:.2f}, gap {more['unseen'][-1] - more['seen'][-1]:.2f}")  # fmt: skip
assert more["unseen"][-1] < min(end for *_, end in ends.values())

# %% [markdown]
# That is what D1 §9.7 means by more varied data. Where there is more text, take it. Where there is not,
# you have this lesson.

# %% [markdown]
# ## 13. Recap
#
# Three questions. Answer before you read on.
#
# 1. Why is what dropout keeps divided by $1 - p$, and why in training and not in use?
# 2. Weight decay and an L2 penalty are the same for SGD. Why not for Adam?
# 3. A run explodes. Will dropout help? Clipping? A smaller rate?
#
# *1.* So that every sum has the same expectation with and without dropout. In training, because then
# the model in use is just the model. *2.* Adam divides the gradient by its usual size, and the
# penalty's part with it; the decay stands outside the division. *3.* Dropout: no. Clipping: it bounds
# the steps. A smaller rate, or a warm-up: that is the cause.
#
# | English | 中文 |
# |---|---|
# | regularization | 正则化 |
# | overfitting | 过拟合 |
# | generalization gap | 泛化差距 |
# | dropout | 随机失活 |
# | weight decay | 权重衰减 |
# | label smoothing | 标签平滑 |
# | gradient clipping | 梯度裁剪 |
# | learning-rate schedule | 学习率调度 |
# | warm-up | 预热 |
# | data augmentation | 数据增强 |
# | early stopping | 早停 |
#
# References: Srivastava et al. 2014, *Dropout: A Simple Way to Prevent Neural Networks from
# Overfitting*, §4, §9.1 and §10. Loshchilov & Hutter 2019, *Decoupled Weight Decay Regularization*, §2;
# 2017, *SGDR*, eq. 5. Szegedy et al. 2016, *Rethinking the Inception Architecture*, §7. Pascanu, Mikolov &
# Bengio 2013, *On the Difficulty of Training Recurrent Neural Networks*, Algorithm 1. Xie et al. 2017,
# *Data Noising as Smoothing in Neural Network Language Models*, §3. Vaswani et al. 2017, *Attention Is
# All You Need*, §5.3. Robbins & Monro 1951, *A Stochastic Approximation Method*.
#
# Next: lesson 08 asks how a model is judged, once it has stopped learning.
