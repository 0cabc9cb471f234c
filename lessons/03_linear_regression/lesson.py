# %% [markdown]
# # 03 · Linear regression · 线性回归
#
# The smallest model that learns: a straight line. It has everything that a GPT has, predictions, a
# loss, a gradient and a step, and one thing that no GPT has: the right answer is known, from an
# equation. So every claim about descent can be tested here against the truth.

# %% [markdown]
# ## 1. Card
#
# You need the chain rule from lesson 01, and know how to multiply a matrix with a vector. At the
# end you have written a loss with its gradients, and the step that every optimizer begins with.

# %%
import math

import numpy as np

from scratchlm import Tensor, ops, plot
from scratchlm import functional as F
from scratchlm.gradcheck import gradcheck
from scratchlm.lessons import card, exercises, figure, find_lesson, show, solution, source, table

card(3)
solved = solution(3)

# %% [markdown]
# ## 2. Hook
#
# D2 §4.4 fits a line $y = \theta_0 + \theta_1 x$ with a program of ten lines: learning rate 0.1,
# 100 iterations. It gives no data, so here are twenty points near the line $y = 1 + 2x$. We start
# from $\theta = (0, 0)$ and run the program's arithmetic as it is printed.

# %%
n = 20
x = np.linspace(0, 2, n)
y = 1 + 2 * x + 0.3 * np.random.default_rng(3).standard_normal(n)


def loss_of(theta):
    """The mean squared error of the line theta."""
    return float(np.mean((y - theta[0] - theta[1] * x) ** 2))


theta = np.zeros(2)
printed_path = [theta]
for _ in range(100):
    error = y - (theta[0] + theta[1] * x)  # as printed: truth minus prediction
    gradients = np.array([error.sum(), (error * x).sum()])  # as printed: added up
    theta = theta - 0.1 * gradients  # as printed
    printed_path.append(theta)
printed_path = np.array(printed_path)
printed_losses = np.array([loss_of(theta) for theta in printed_path])

table(
    [[t, *printed_path[t], printed_losses[t]] for t in (0, 1, 2, 3, 10, 100)],
    columns=["iteration", "θ₀", "θ₁", "loss"],
)
assert (np.diff(printed_losses) > 0).all()  # it never falls, not once
assert printed_losses[-1] > 1e140

# %% [markdown]
# The loss rises at every one of the 100 iterations, and ends as a number of 148 digits. The
# document says that it gets smaller step by step. In this lesson you find out what is wrong (there
# are three faults), what each of them does alone, and why the loss grows by the factor 29 in each
# iteration and not by some other.

# %% [markdown]
# ## 3. Formula
#
# **The loss**, as printed in D2 §4.1.1 and as published (Goodfellow et al. 2016, eq. 5.4, where
# the two terms stand the other way round, which the square does not notice):
#
# $$
# L = \frac{1}{n} \sum_{i=1}^{n} (y_i - \hat{y}_i)^2
# $$
#
# It is right. One thing to settle: D2 says that $n$ is the number of samples. That fits if each
# sample has one number. If a prediction is a row of numbers, the mean runs over **all** of them, in
# PyTorch as in scratchlm.
#
# **The model**, with a 1 in front of each $x$ so that the intercept is a parameter like any other:
#
# $$
# \hat{y}_i = \theta_0 + \theta_1 x_i = \sum_{j} X_{ij} \theta_j, \qquad \hat{y} = X\theta
# $$
#
# **The step.** D2 §4.2.1 prints it rightly, and Cauchy published it in 1847:
#
# $$
# \theta \leftarrow \theta - \alpha \nabla_\theta L
# $$
#
# **The gradient.** The program of D2 §4.4 puts into this step
#
# $$
# g_{\text{printed}} = \sum_{i} (y_i - \hat{y}_i)\, x_i = X^T (y - X\theta)
# $$
#
# and, for $\theta_0$, the same without the $x_i$. The gradient of the loss above is (derived in
# section 6; Goodfellow et al. 2016, §5.1.4)
#
# $$
# \nabla_\theta L = \frac{2}{n} \sum_{i} (\hat{y}_i - y_i)\, x_i = \frac{2}{n} X^T (X\theta - y)
# $$
#
# | symbol | variable | shape | what it is |
# |---|---|---|---|
# | $X$ | `X` | `[n, d]` | the inputs, one example in each row; here $d = 2$ |
# | $y$ | `y` | `[n]` | the true values |
# | $\theta$ | `theta` | `[d]` | the parameters: intercept and slope |
# | $\hat{y}$ | `pred` | `[n]` | the predictions |
# | $r = \hat{y} - y$ | `r` | `[n]` | the residuals: prediction minus truth |
# | $\alpha$ | `lr` | a number | the learning rate |
# | $H$ | `H` | `[d, d]` | the Hessian, the second derivatives of $L$ |
#
# What differs, line by line:
#
# 1. **The sign.** The printed program has $y - \hat{y}$ and subtracts it. It walks uphill.
# 2. **The sum** is not divided by $n$, although the loss is a mean.
# 3. **The factor 2** of the square is missing.
#
# The factor $x$ is there, and both parameters are updated only after both sums are complete. These
# two are right. Two words around the program are not. It announces *stochastic* descent, but uses
# all examples in each step; stochastic descent draws one, or a few (Robbins & Monro 1951). And it
# announces a ReLU that the program does not contain, luckily: section 9 tries it.

# %% [markdown]
# ## 4. By hand
#
# ### The loss of a matrix
#
# Two rows, three columns. Every number can be checked in the head.

# %%
p = np.array([[2.0, 1.0, 0.0], [1.0, 3.0, 2.0]])  # predictions, [2, 3]
t = np.array([[1.0, 1.0, 2.0], [0.0, 1.0, 2.0]])  # targets

r = p - t
by_hand = (r * r).sum() / 6
dp = 2 * r / 6
for name, values in [("prediction p", p), ("target t", t), ("r = p - t", r), ("r²", r * r)]:
    print(f"{name:14}", values.tolist())
print(f"loss: (1 + 0 + 4 + 1 + 4 + 0) / 6 = 10 / 6 = {by_hand:.4f}")
print("gradient for p, 2 r / 6:", dp.round(4).tolist())
assert round(by_hand, 4) == 1.6667
assert np.allclose(dp, [[1 / 3, 0, -2 / 3], [1 / 3, 2 / 3, 0]])

# %% [markdown]
# The gradient is a picture of the error. Where the prediction is 2 too low, $-2/3$; where it is
# right, nothing. Divided by the 2 rows instead of the 6 elements, it would be 3 times larger.
#
# ### One step, for three points
#
# The points (0, 1), (1, 3), (2, 4); the start is $\theta = (0, 0)$ and $\alpha = 0.1$. Here
# $X^T$ is a matrix of 2 × 3.

# %%
X3 = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])  # [3, 2]
y3 = np.array([1.0, 3.0, 4.0])


def loss3(theta):
    return float(np.mean((X3 @ theta - y3) ** 2))


start = np.zeros(2)
r3 = X3 @ start - y3
g3 = 2 / 3 * X3.T @ r3
right3 = start - 0.1 * g3
printed3 = start - 0.1 * (X3.T @ (y3 - X3 @ start))
print("residuals X θ - y:  ", r3.tolist())
print(f"loss:                (1 + 9 + 16) / 3 = {loss3(start):.4f}")
print(f"Xᵀ r, first row:     1·(-1) + 1·(-3) + 1·(-4) = {X3[:, 0] @ r3:g}")
print(f"Xᵀ r, second row:    0·(-1) + 1·(-3) + 2·(-4) = {X3[:, 1] @ r3:g}")
print(f"gradient, 2/3 of it: ({g3[0]:.4f}, {g3[1]:.4f})")
print(f"θ - 0.1 · gradient:  ({right3[0]:.4f}, {right3[1]:.4f}), loss {loss3(right3):.4f}")
print(f"as printed instead:  ({printed3[0]:.4f}, {printed3[1]:.4f}), loss {loss3(printed3):.4f}")
assert np.allclose(g3, [-16 / 3, -22 / 3])
assert round(loss3(start), 4) == 8.6667
assert round(loss3(right3), 4) == 2.4074
assert np.allclose(printed3, [-0.8, -1.1])
assert round(loss3(printed3), 4) == 25.4167

# %% [markdown]
# One right step takes the loss from 8.67 to 2.41, one printed step to 25.42.
#
# ### The answer, without any steps
#
# At the lowest point the gradient is 0, so $X^T X \theta = X^T y$ (section 6 derives it). Two
# equations with two unknowns:

# %%
A3, b3 = X3.T @ X3, X3.T @ y3
print("XᵀX =", A3.tolist(), "  Xᵀy =", b3.tolist())
det = 3 * 5 - 3 * 3
theta0, theta1 = (8 * 5 - 3 * 11) / det, (3 * 11 - 3 * 8) / det  # Cramer's rule
print(f"θ₀ = (8·5 - 3·11) / 6 = {theta0:.4f},  θ₁ = (3·11 - 3·8) / 6 = {theta1:.4f}")
best3 = np.array([theta0, theta1])
print("residuals of this line:", (X3 @ best3 - y3).round(4).tolist())
print(f"its loss: {loss3(best3):.4f}")
assert np.allclose(A3 @ best3, b3)
assert np.allclose(X3.T @ (X3 @ best3 - y3), 0)
assert math.isclose(loss3(best3), 1 / 18)

# %% [markdown]
# The residuals 1/6, −1/3, 1/6 are not zero: no line meets all three points. But they sum to 0, and
# weighted with $x$ they sum to 0 too. That is what $X^T r = 0$ says.

# %% [markdown]
# ## 5. In code
#
# With loops, as the formula reads:


# %%
def mse_loops(pred, target):
    total, count = 0.0, 0
    for row_p, row_t in zip(pred, target, strict=True):
        for a, b in zip(row_p, row_t, strict=True):
            total += (a - b) ** 2
            count += 1
    return total / count


def step_loops(theta, X, y, lr):
    n, d = X.shape
    gradients = [0.0] * d
    for i in range(n):
        r = sum(X[i, j] * theta[j] for j in range(d)) - y[i]  # prediction minus truth
        for j in range(d):
            gradients[j] += 2 * r * X[i, j] / n
    return np.array([theta[j] - lr * gradients[j] for j in range(d)])


# %% [markdown]
# With NumPy, one line each:


# %%
def mse_numpy(pred, target):
    return np.mean((pred - target) ** 2)


def step_numpy(theta, X, y, lr):
    return theta - lr * 2 / len(y) * X.T @ (X @ theta - y)


# %% [markdown]
# And the library's op. Its `reduction` may leave the mean out; its check of the shapes has a
# reason, which section 9 shows.

# %%
source(ops.mse)

library = float(ops.mse(p, t)[0])
print(mse_loops(p, t), mse_numpy(p, t), library)
assert math.isclose(mse_loops(p, t), library, rel_tol=1e-15)
assert math.isclose(mse_numpy(p, t), library, rel_tol=1e-15)
for step in (step_loops, step_numpy):
    assert np.allclose(step(start, X3, y3, 0.1), right3, rtol=1e-14)
assert np.allclose(solved.descent_step(start, X3, y3, lr=0.1), right3, rtol=1e-14)

# %% [markdown]
# ## 6. Backward, derived
#
# Five steps: the square, the mean, the parameters, the lowest point, and how fast descent gets
# there. Beside each line of algebra stands its line of code.
#
# ### Step 1: one square
#
# Move a residual $r$ by a small $\delta$:
#
# $$
# (r + \delta)^2 = r^2 + 2 r \delta + \delta^2
# $$
#
# The change is $2r\delta + \delta^2$; divided by $\delta$ it is $2r + \delta$, and as $\delta$
# goes to 0, what remains is
#
# $$
# \frac{d\, r^2}{d r} = 2r
# $$

# %%
for delta in (0.1, 0.01, 0.001):
    quotient = ((3 + delta) ** 2 - 3**2) / delta
    print(f"r = 3, δ = {delta:5}: ((r + δ)² - r²) / δ = {quotient:.4f}")
    assert math.isclose(quotient, 2 * 3 + delta, rel_tol=1e-9)

# %% [markdown]
# ### Step 2: prediction and target
#
# Write $p$ for the prediction and $t$ for the target, $r_k = p_k - t_k$. Moving $p_j$ moves one
# residual, its own, by the same amount. Moving $t_j$ moves it the other way:
#
# $$
# \frac{\partial r_k}{\partial p_j} = [k = j], \qquad \frac{\partial r_k}{\partial t_j} = -[k = j]
# $$
#
# ($[k = j]$ is 1 if they are equal, else 0.) The chain rule for $L = \frac{1}{n} \sum_k r_k^2$:
#
# $$
# \frac{\partial L}{\partial p_j} = \frac{1}{n} \sum_k 2 r_k [k = j] = \frac{2}{n} (p_j - t_j),
# \qquad
# \frac{\partial L}{\partial t_j} = -\frac{2}{n} (p_j - t_j)
# $$
#
# If something is done with $L$ afterwards, its derivative $\bar{L}$ (`dy`) comes from above as one
# more factor. In matrix form:
#
# $$
# \bar{p} = \frac{2 \bar{L}}{n} (p - t), \qquad \bar{t} = -\bar{p}
# $$

# %%
source(solved.mse, "vjp")

by_index = np.array([[2 / 6 * (p[i, j] - t[i, j]) for j in range(3)] for i in range(2)])
dpred, dtarget = solved.mse(p, t)[1](1.0)
assert np.allclose(dpred, by_index)
assert np.allclose(dtarget, -by_index)
assert np.allclose(dpred, dp)  # section 4

# %% [markdown]
# ### Where the printed sign comes from
#
# D2 writes the residual the other way round, $e_k = t_k - p_k$. The loss is the same,
# $e_k^2 = r_k^2$. But now the *inner* derivative is negative:
#
# $$
# \frac{\partial L}{\partial p_j} = \frac{1}{n} \cdot 2 e_j \cdot
# \frac{\partial (t_j - p_j)}{\partial p_j} = \frac{1}{n} \cdot 2 e_j \cdot (-1)
# $$
#
# The program keeps $e_j$ and drops the other factors, $-1$ among them. A lost factor of 2 changes
# the speed. A lost factor of $-1$ changes the direction.

# %%
e = t - p
outer, inner = 2 * e / 6, -1
assert np.allclose(outer * inner, dp)
print("2 e / n:           ", outer.round(4).tolist())
print("times the inner -1:", (outer * inner + 0.0).round(4).tolist())

# %% [markdown]
# ### Step 3: the parameters
#
# From $p_i = \sum_j X_{ij} \theta_j$: parameter $j$ touches *every* prediction $i$, with the factor
#
# $$
# \frac{\partial p_i}{\partial \theta_j} = X_{ij}
# $$
#
# The chain rule adds up all paths from $\theta_j$ to $L$, one for each example:
#
# $$
# \bar{\theta}_j = \sum_i \bar{p}_i X_{ij}
# $$
#
# The sum runs over the first index of $X$, and a matrix product sums over the last, so $X$ is
# transposed. With $\bar{p}$ from step 2:
#
# $$
# \bar{\theta} = X^T \bar{p} = \frac{2}{n} X^T (X\theta - y)
# $$

# %%
X = np.stack([np.ones(n), x], axis=1)  # [20, 2]
theta = np.array([0.5, -1.0])  # any place
dpred = 2 / n * (X @ theta - y)  # step 2, [n]
by_sum = np.zeros(2)
for i in range(n):
    for j in range(2):
        by_sum[j] += dpred[i] * X[i, j]  # as the sum says it
gradient = X.T @ dpred  # [2, n] [n] -> [2]
assert np.allclose(by_sum, gradient, rtol=1e-12)

h = 1e-5
measured = [(loss_of(theta + h * d) - loss_of(theta - h * d)) / (2 * h) for d in np.eye(2)]
table(
    [["derived", *gradient], ["measured", *measured]],
    columns=["", "∂L/∂θ₀", "∂L/∂θ₁"],
    digits=8,
)
assert np.abs(gradient - measured).max() < 1e-8

source(solved.descent_step)

# %% [markdown]
# ### Step 4: the lowest point
#
# At a minimum the gradient is 0:
#
# $$
# \frac{2}{n} X^T (X\theta - y) = 0 \quad \Longleftrightarrow \quad X^T X \theta = X^T y
# $$
#
# (multiply out, take $X^T y$ to the other side, drop the $2/n$). These are the **normal
# equations**, $d$ equations for $d$ unknowns. Is it a minimum, and the only one? Differentiate the
# gradient once more. In the inner sum only the term $X_{ik} \theta_k$ holds $\theta_k$:
#
# $$
# H_{jk} = \frac{\partial}{\partial \theta_k}
# \frac{2}{n} \sum_i X_{ij} \left( \sum_m X_{im} \theta_m - y_i \right)
# = \frac{2}{n} \sum_i X_{ij} X_{ik}, \qquad H = \frac{2}{n} X^T X
# $$
#
# $H$ does not depend on $\theta$: the surface is equally curved everywhere. In a direction $v$ its
# curvature is
#
# $$
# v^T H v = \frac{2}{n} (Xv)^T (Xv) = \frac{2}{n} \sum_i (Xv)_i^2 \geq 0
# $$
#
# a sum of squares. It bends upwards in every direction, unless $Xv = 0$, which needs columns that
# depend on each other (two copies of the same feature, say). Otherwise there is one minimum, and
# no other place where descent can stop.

# %%
H = 2 / n * X.T @ X  # [2, n] [n, 2] -> [2, 2]
for j in range(2):
    for k in range(2):
        assert math.isclose(H[j, k], 2 / n * sum(X[i, j] * X[i, k] for i in range(n)))
best = np.linalg.solve(X.T @ X, X.T @ y)  # the normal equations
by_lstsq = np.linalg.lstsq(X, y, rcond=None)[0]  # NumPy's way, which does not form X.T @ X
print("closed form:", best, "  loss:", f"{loss_of(best):.6f}")
print("lstsq:      ", by_lstsq)
assert np.allclose(best, by_lstsq, rtol=1e-12)

v = np.array([0.6, -0.8])  # a direction, of length 1
assert math.isclose(v @ H @ v, 2 / n * ((X @ v) ** 2).sum())
bend = (loss_of(theta + v) - 2 * loss_of(theta) + loss_of(theta - v)) / 1.0**2
print(f"curvature along v: derived {v @ H @ v:.6f}, measured {bend:.6f}")
assert math.isclose(v @ H @ v, bend, rel_tol=1e-10)
lows, directions = np.linalg.eigh(H)
low, high = lows
print(f"least and largest curvature (eigenvalues of H): {low:.4f} and {high:.4f}")

# %% [markdown]
# A line through noisy points finds (0.91, 2.05), not exactly (1, 2): it fits the noise too. The
# closed form is the best for *these* points, and it is the referee of this lesson.
#
# ### Step 5: how descent gets there
#
# Let $\theta^*$ be the answer and $\epsilon_s = \theta_s - \theta^*$ the distance left after step
# $s$. As $X^T y = X^T X \theta^*$, the gradient is
#
# $$
# \frac{2}{n} (X^T X \theta - X^T y) = \frac{2}{n} X^T X (\theta - \theta^*) = H \epsilon
# $$
#
# Put it into the step, and subtract $\theta^*$ on both sides:
#
# $$
# \epsilon_{s+1} = \epsilon_s - \alpha H \epsilon_s = (I - \alpha H)\, \epsilon_s
# $$
#
# Each step multiplies the error with the same matrix. Take the eigenvectors of $H$ as axes, with
# $H v_i = \lambda_i v_i$, and write the error as $\epsilon = \sum_i c_i v_i$:
#
# $$
# (I - \alpha H) \sum_i c_i v_i = \sum_i c_i (v_i - \alpha \lambda_i v_i)
# = \sum_i (1 - \alpha \lambda_i)\, c_i\, v_i
# $$
#
# So each part has a factor of its own:
#
# $$
# c_i \leftarrow (1 - \alpha \lambda_i)\, c_i
# $$
#
# The parts do not mix. Part $i$ shrinks if $|1 - \alpha \lambda_i| < 1$, that is, if
# $-1 < 1 - \alpha \lambda_i < 1$. The right side asks for $\alpha > 0$, the left for
# $\alpha < 2 / \lambda_i$. The largest curvature is the strictest:
#
# $$
# 0 < \alpha < \frac{2}{\lambda_{\max}}
# $$
#
# That is the **stability limit** (LeCun et al. 1998, §5). And the printed program? It does
# $\theta \leftarrow \theta + \alpha X^T X (\theta - \theta^*)$, so
#
# $$
# c_i \leftarrow (1 + \alpha \mu_i)\, c_i, \qquad \mu_i \text{ the eigenvalues of } X^T X
# $$
#
# Every factor is above 1, for **every** positive $\alpha$. No learning rate can help.

# %%
epsilon = theta - best  # the error at some place
assert np.allclose(H @ epsilon, gradient)  # the gradient there, from step 3
after = solved.descent_step(theta, X, y, lr=0.1) - best
assert np.allclose(after, (np.eye(2) - 0.1 * H) @ epsilon)
c = directions.T @ epsilon  # the parts of the error along the eigenvectors
assert np.allclose(directions.T @ after, (1 - 0.1 * lows) * c)

mu = np.linalg.eigvalsh(X.T @ X)
factors = 1 + 0.1 * mu
print(f"eigenvalues of XᵀX: {mu[0]:.3f} and {mu[1]:.3f}")
print(f"error grows by {factors[1]:.3f} a step, the loss by {factors[1] ** 2:.3f}")
coming = printed_losses[100] / printed_losses[99]
print(f"measured, from iteration 99 to 100: {coming:.3f}")
assert math.isclose(coming, factors[1] ** 2, rel_tol=1e-9)

parts = directions.T @ (np.zeros(2) - best)  # the error at the start, along the two axes
predicted = best + directions @ (factors**100 * parts)
print("θ after 100 iterations, from the formula:", predicted)
print("θ after 100 iterations, from the program:", printed_path[100])
assert np.allclose(predicted, printed_path[100], rtol=1e-10)

# %% [markdown]
# The formula gives the place where the printed program ends, two numbers of 74 digits, without
# running it.

# %% [markdown]
# ## 7. Gradient check, live
#
# Random inputs and a random cotangent, in float64: the solution, the library, and the loss as a
# function of $\theta$, composed of tensors.

# %%
rng = np.random.default_rng(3)
pred, target = rng.standard_normal((3, 5)), rng.standard_normal((3, 5))
checks = []
for name, report in [
    ("mse, solution", gradcheck(solved.mse, pred, target)),
    ("mse, library", gradcheck(ops.mse, pred, target)),
    ("L(θ)", gradcheck(lambda theta: F.mse(Tensor(X) @ theta, Tensor(y)), theta)),
]:
    checks.extend([name, e.name, e.checked, f"{e.error:.1e}"] for e in report.inputs)
    assert report
    assert report.error < 1e-7
table(checks, columns=["function", "input", "elements", "largest relative error"])

# %% [markdown]
# Lesson 01 drew a V: the error of central differences falls as $h^2$ while $h$ shrinks, then grows
# as $1/h$. **Question before you look:** for this loss one arm of the V of the central differences
# is missing. Which one, and why?

# %%
with plot.style():
    ax = plot.gradcheck_curve(solved.mse, pred, target)
    ax.set_title("mean squared error: finite differences against the derived gradient")
show(
    ax,
    alt="Relative error against step h, both axes logarithmic. Forward differences make a V, "
    "lowest near 1e-7. Central differences have only the left arm: the longer the step, "
    "the smaller the error, down to 1e-14 at h = 0.1.",
)
long_step = (loss_of(theta + [1, 0]) - loss_of(theta - [1, 0])) / 2  # h = 1
print(f"central difference with h = 1: {long_step:.12f}, derived {gradient[0]:.12f}")
assert math.isclose(long_step, gradient[0], rel_tol=1e-12)

# %% [markdown]
# The right one. $(r + h)^2 - (r - h)^2 = 4rh$ exactly: the $h^2$ cancels, and there is no $h^3$.
# Central differences of a parabola are exact, with $h = 1$ as well. Only rounding is left, and it
# shrinks as $h$ grows. Forward differences keep $h^2 / h = h$, and their arm.

# %% [markdown]
# ## 8. See it
#
# ### The surface, and two paths on it
#
# The contours join places of equal loss; the star is the closed form, the ring the start. **Look
# for** the bend in the path of descent, where the valley begins. **Question:** both paths begin at
# the same ring, and the slope there is the same. How do their first steps differ?


# %%
def descend(step, lr, steps, start=(0.0, 0.0)):
    """The path of a step function over the twenty points."""
    path = [np.array(start)]
    for _ in range(steps):
        path.append(step(path[-1], X, y, lr=lr))
    return np.array(path)


def losses_of(path):
    return np.array([loss_of(theta) for theta in path])


right_path = descend(solved.descent_step, 0.1, 100)


def surface(a, b):
    return ((a[..., None] + b[..., None] * x - y) ** 2).mean(axis=-1)


with plot.style():
    ax = plot.optimizer_paths(
        surface,
        {"descent": right_path, "as printed": printed_path[:2]},
        minimum=tuple(best),
        xlim=(-8, 4),
        ylim=(-9, 4.5),
        title="Twenty points, learning rate 0.1",
    )
    ax.set_xlabel("intercept θ₀")
    ax.set_ylabel("slope θ₁")
    ax.annotate(
        f"next: ({printed_path[2][0]:.0f}, {printed_path[2][1]:.0f})",
        printed_path[1],
        textcoords="offset points",
        xytext=(10, -4),
        fontsize=9,
    )
show(
    ax,
    alt="Contours of the loss over intercept and slope, long ellipses around a star. Descent "
    "leaves the ring towards the valley and creeps along it to the star. The printed program "
    "makes one long step the opposite way, out of the valley.",
)
first_right, first_printed = right_path[1] - right_path[0], printed_path[1] - printed_path[0]
long, short = np.linalg.norm(first_printed), np.linalg.norm(first_right)
cosine, ratio = first_right @ first_printed / (long * short), long / short
print(f"angle between the two first steps: cosine {cosine:.6f}; length {ratio:.2f} times")
assert math.isclose(cosine, -1)
assert math.isclose(ratio, n / 2)

# %% [markdown]
# In direction by 180°, in length by $n/2 = 10$: a missing $2/n$ and a minus.
#
# ### The loss on its way up
#
# **Look for** the shape of the printed curve on a logarithmic axis. **Question:** a straight line
# there means what?

# %%
right_losses = losses_of(right_path)
with plot.style():
    fig, (left, right) = figure(1, 2, width=8.4, height=3.6)
    left.semilogy(printed_losses, color="#D55E00", label="as printed")
    fixed = np.arange(0, 101, 10)
    left.semilogy(
        fixed,
        [loss_of(best + directions @ (factors**s * parts)) for s in fixed],
        "o",
        color="#000000",
        markersize=4,
        label="formula of section 6",
    )
    left.set(xlabel="iteration", ylabel="mean squared error (unit of y, squared)")
    left.set_title("up: D2 §4.4 as printed")
    left.legend()
    right.semilogy(right_losses - loss_of(best), color="#0072B2")
    right.set(xlabel="iteration", ylabel="loss above the closed form")
    right.set_title("down: the derived gradient")
    for each in (left, right):
        each.grid(axis="y")
show(
    fig,
    alt="Left: the loss of the printed program, a straight line on a logarithmic axis from 10 "
    "to 1e147, with the predicted points on it. Right: how far the loss of descent lies above "
    "the closed form; it falls steeply, bends near iteration 6, and falls on in a flatter line.",
)
print(f"after 100 iterations: {right_losses[-1]:.6f}, closed form {loss_of(best):.6f}")
assert (np.diff(right_losses) < 0).all()
assert right_losses[-1] - loss_of(best) < 0.005
late = (right_losses[100] - loss_of(best)) / (right_losses[99] - loss_of(best))
print(f"factor from iteration 99 to 100: {late:.4f}, from section 6: {(1 - 0.1 * low) ** 2:.4f}")
assert math.isclose(late, (1 - 0.1 * low) ** 2, rel_tol=1e-6)

# %% [markdown]
# The same factor at every step. The right curve is two straight lines in one: a steep one, until
# the part of large curvature is gone, and a flat one for the part of small curvature. Its slope is
# in section 6 too: $(1 - 0.1 \cdot 0.335)^2 = 0.934$ for each step.
#
# ### The fit
#
# **Look for** how little the line moves after the tenth step. **Question:** the gray bars are the
# residuals of the best line. What do they sum to?

# %%
with plot.style():
    fig, ax = figure(width=6.4, height=4.0)
    ax.vlines(x, y, X @ best, color="#9a9a9a", linewidth=1)
    ax.plot(x, y, "o", color="#000000", markersize=4.5, label="data")
    ends = np.array([0.0, 2.0])
    for step, color, dashes in [
        (0, "#CC79A7", ":"),
        (1, "#E69F00", "-."),
        (10, "#009E73", "--"),
        (100, "#0072B2", "-"),
    ]:
        a, b = right_path[step]
        ax.plot(ends, a + b * ends, dashes, color=color, label=f"step {step}")
    ax.set(xlabel="x", ylabel="y", title="The line, while it learns")
    ax.legend()
show(
    fig,
    alt="Twenty points near a rising line with their residuals as gray bars. Four lines: step 0 "
    "is flat at zero, step 1 lies clearly below the points, step 10 nearly among them, step 100 "
    "through them.",
)
residuals = X @ best - y
print(f"sum of the residuals: {residuals.sum():.1e}, weighted with x: {residuals @ x:.1e}")
assert np.abs(X.T @ residuals).max() < 1e-12

# %% [markdown]
# To nothing, and not by chance: it is the first of the normal equations.
#
# ### The edge
#
# Here $2 / \lambda_{\max}$ is a number, and we walk on both sides of it. **Look for** the slope
# of the three curves in the left panel. **Question:** at exactly the limit the factor is
# $1 - 2 = -1$. What does the path do then?

# %%
limit = 2 / high
edge = {ratio: descend(solved.descent_step, ratio * limit, 400) for ratio in (0.99, 1.0, 1.01)}
with plot.style():
    fig, (left, right) = figure(1, 2, width=8.4, height=3.6)
    for (ratio, path), color, dashes in zip(
        edge.items(), ["#0072B2", "#000000", "#D55E00"], ["-", "--", "-."], strict=True
    ):
        above = losses_of(path) - loss_of(best)
        left.semilogy(above, dashes, color=color, linewidth=1.3, label=f"{ratio:.2f} × limit")
    left.set(xlabel="step", ylabel="loss above the closed form", title="Around the limit")
    left.legend()
    rates = np.linspace(0, 1.2 * limit, 200)
    right.plot(rates, np.abs(1 - rates * high), color="#D55E00", label="large curvature")
    right.plot(rates, np.abs(1 - rates * low), "--", color="#0072B2", label="small curvature")
    right.axhline(1, color="#8a8a8a", linewidth=0.8)
    right.axvline(limit, color="#000000", linewidth=0.9, linestyle=":")
    right.annotate("limit ", (limit, 0.25), ha="right", fontsize=9)
    right.set(xlabel="learning rate α", ylabel="factor |1 − αλ| for each step")
    right.set_title("What a step leaves of the error")
    right.legend()
    for each in (left, right):
        each.grid(axis="y")
show(
    fig,
    alt="Left: loss above the optimum for three learning rates; at 0.99 of the limit it falls, "
    "at the limit it stays level, at 1.01 it rises. Right: the factor per step against the "
    "learning rate; a V for the large curvature that reaches 1 at the limit, a flat line for the "
    "small one.",
)
rows = []
for ratio, path in edge.items():
    part = (path - best) @ directions[:, 1]  # along the large curvature
    measured = part[-1] / part[-2]
    rows.append([f"{ratio:.2f}", ratio * limit, 1 - ratio * 2, measured, loss_of(path[-1])])
    assert math.isclose(measured, 1 - ratio * 2, rel_tol=1e-6)
table(
    rows,
    columns=["times the limit", "lr", "factor 1 - αλ", "measured", "loss after 400 steps"],
    digits=6,
)
assert rows[0][4] - loss_of(best) < 1e-5
assert rows[2][4] > 1e5

# %% [markdown]
# It jumps from one side of the valley to the other, for ever, and once the small part is gone it
# gets no lower. One per cent less and it arrives; one per cent more and it is lost.
#
# The best rate is where the two curves of the right panel cross. There the small curvature still
# has a positive factor, and the large one has passed 0 already:
#
# $$
# 1 - \alpha \lambda_{\min} = \alpha \lambda_{\max} - 1
# \quad \Longleftrightarrow \quad \alpha = \frac{2}{\lambda_{\min} + \lambda_{\max}}
# $$
#
# Put this rate into the left side, and divide above and below by $\lambda_{\min}$:
#
# $$
# 1 - \frac{2 \lambda_{\min}}{\lambda_{\min} + \lambda_{\max}}
# = \frac{\lambda_{\max} - \lambda_{\min}}{\lambda_{\max} + \lambda_{\min}}
# = \frac{\kappa - 1}{\kappa + 1}, \qquad \kappa = \frac{\lambda_{\max}}{\lambda_{\min}}
# $$
#
# $\kappa$ is the **condition number**: how much longer than wide the valley is, squared. From 0,
# the error is at most $|\theta^*|$ times this factor to the power of $s$ after $s$ steps. So how
# many steps are needed for $10^{-12}$? Solve for $s$, and let descent try.

# %%
kappa = high / low
best_rate, factor = 2 / (low + high), (kappa - 1) / (kappa + 1)
steps_needed = math.ceil(math.log(1e-12 / np.linalg.norm(best)) / math.log(factor))
arrived = descend(solved.descent_step, best_rate, steps_needed)
far = np.linalg.norm(arrived - best, axis=1)
print(f"κ = {kappa:.2f}, best rate {best_rate:.4f}, factor {factor:.4f} for each step")
print(f"predicted: error below 1e-12 after {steps_needed} steps; measured {far[-1]:.1e}")
assert far[-1] < 1.1e-12  # the prediction, and rounding
assert far[steps_needed // 2] > 1e-7  # and not much earlier

# %% [markdown]
# Descent agrees with the closed form to twelve digits, after the predicted number of steps. The
# referee is content.

# %% [markdown]
# ## 9. Break it
#
# ### Three faults, eight programs
#
# Sign, sum, and factor 2 can each be right or wrong. Here are all eight programs, for 100
# iterations at the learning rate 0.1.


# %%
def program(sign, mean, two):
    """The step of D2 §4.4, with each of its three faults mended or not."""

    def step(theta, X, y, *, lr):
        error = y - X @ theta
        g = X.T @ error
        g = -g if sign else g
        g = g / len(y) if mean else g
        return theta - lr * (2 * g if two else g)

    return step


def ends_at(path):
    with np.errstate(over="ignore", invalid="ignore"):
        return loss_of(path[-1])


rows, ends = [], {}
for sign, mean, two in [
    (0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1),
]:  # fmt: skip
    path = descend(program(sign, mean, two), 0.1, 100)
    slopes = (2 if two else 1) * (1 / n if mean else 1) * mu  # the curvatures this program sees
    worst = max((1 - 0.1 * slopes if sign else 1 + 0.1 * slopes), key=abs)
    ends[sign, mean, two] = ends_at(path)
    marks = ["mended" if done else "·" for done in (sign, mean, two)]
    rows.append([*marks, worst, ends[sign, mean, two]])
table(
    rows,
    columns=["sign", "mean for sum", "factor 2", "worst factor a step", "loss after 100"],
)
print(f"the closed form has the loss {loss_of(best):.4f}")
assert all(ends[0, mean, two] > 1e7 for mean in (0, 1) for two in (0, 1))
assert ends[1, 0, 0] > 1e100
assert ends[1, 1, 0] < 0.2
assert ends[1, 1, 1] < ends[1, 1, 0]

# %% [markdown]
# One fault after the other:
#
# - **As printed** (first row): up, by the factor 5.4 in each step.
# - **Sign mended** (fifth row): it explodes again, this time with alternating sign: the factor is
#   $-3.4$. The direction is right, the step is far too long. A loss that jumps to and fro and grows
#   means *learning rate too large*; one that just grows means *wrong direction*.
# - **Sign and mean mended** (seventh row): it descends. The step is half of the true gradient.
# - **All mended** (last row): twice as fast.
#
# So the 2 alone is harmless: without it, the program minimizes $\frac{1}{2} L$, as some books do
# on purpose. It is the same as another learning rate, to the last bit of every path:

# %%
without_two = descend(program(1, 1, 0), 0.2, 100)
with_two = descend(program(1, 1, 1), 0.1, 100)
print("largest difference:", np.abs(without_two - with_two).max())
assert np.array_equal(without_two, with_two)

# %% [markdown]
# What the gradient check calls wrong may still train. And the other way round, the sum is the more
# dangerous for working *sometimes*. On the three points of section 4, "sign mended" converges. Add
# data of the same kind, and it explodes:

# %%
rows = []
for m in (3, 5, 10, 20, 100):
    xs = np.linspace(0, 2, m)
    Xm = np.stack([np.ones(m), xs], axis=1)
    strongest = np.linalg.eigvalsh(Xm.T @ Xm)[-1]
    of_mean = 2 / np.linalg.eigvalsh(2 / m * Xm.T @ Xm)[-1]
    walker = np.zeros(2)
    for _ in range(100):
        walker = program(1, 0, 0)(walker, Xm, 1 + 2 * xs, lr=0.1)  # points on a line
    left_over = float(np.mean((Xm @ walker - 1 - 2 * xs) ** 2))
    rows.append([m, 2 / strongest, left_over, of_mean])
    assert (left_over < 1e-3) == (2 / strongest > 0.1)
table(rows, columns=["points", "limit, sum", "loss after 100 at 0.1", "limit, mean"])
assert rows[0][2] < 1e-3
assert rows[3][2] > 1e50
assert rows[-1][3] > 0.4

# %% [markdown]
# With the sum, the limit shrinks as $1/n$. With the mean it hardly moves. One reason why losses
# are means: a learning rate found on little data still fits more.
#
# ### Can a learning rate save the printed program?
#
# Every positive one climbs. But look at its step: what it lacks is the factor $-2/n$. Give it
# $\alpha = -0.1 \cdot 2/20$, and it is right again. In float32 the climb ends sooner, and
# otherwise: with NaN.

# %%
repaired = descend(program(0, 0, 0), -0.1 * 2 / n, 100)
assert np.allclose(repaired, right_path, rtol=1e-12)
tiny = descend(program(0, 0, 0), 1e-4, 100)
print(f"learning rate 0.0001: loss {loss_of(tiny[0]):.3f} -> {loss_of(tiny[-1]):.3f}")
assert loss_of(tiny[-1]) > loss_of(tiny[0])

single, X32, y32 = np.zeros(2, np.float32), X.astype(np.float32), y.astype(np.float32)
first_bad = {}
with np.errstate(all="ignore"):
    for step in range(1, 101):
        single = program(0, 0, 0)(single, X32, y32, lr=np.float32(0.1))
        value = np.mean((X32 @ single - y32) ** 2)
        if np.isinf(value):
            first_bad.setdefault("inf", step)
        if np.isnan(value):
            first_bad.setdefault("nan", step)
print(f"float32: the loss is inf from step {first_bad['inf']}, NaN from step {first_bad['nan']}")
assert first_bad["inf"] < first_bad["nan"] <= 100

# %% [markdown]
# First the square overflows, then θ itself, then $\infty - \infty$ is NaN. When a training run
# shows NaN, look dozens of steps earlier, at what had begun to grow.
#
# ### The ReLU that was announced
#
# D2 §4.4 speaks of a ReLU for this line. With $\hat{y} = \max(0, \theta_0 + \theta_1 x)$ and the
# start $\theta = 0$, nothing moves at all: the slope of ReLU at 0 is taken as 0, so no gradient
# comes back. From a start below 0 it is the same. And where the data are negative, such a line
# cannot go.

# %%
rows = []
for begin in [(0.0, 0.0), (-0.5, -0.5), (0.5, 0.5)]:
    theta = np.array(begin)
    for _ in range(100):
        leaf = Tensor(theta, requires_grad=True)
        F.mse(F.relu(Tensor(X) @ leaf), Tensor(y)).backward()
        theta = theta - 0.1 * leaf.grad.numpy()
    rows.append([str(begin), *theta, float(np.mean((np.maximum(X @ theta, 0) - y) ** 2))])
table(rows, columns=["start", "θ₀ after 100 steps", "θ₁", "loss"])
assert rows[0][1:3] == [0.0, 0.0]
assert rows[1][1:3] == [-0.5, -0.5]
assert rows[2][3] < 0.2

# %% [markdown]
# A flat loss from the first step on: *dead*. Regression ends in a bare linear layer.
#
# ### A column against a row
#
# A frequent mistake with this loss raises no error. A model returns predictions of shape
# `[n, 1]`; the targets have shape `[n]`. NumPy broadcasts the difference to `[n, n]`: every
# prediction is compared with every target. **Question:** which line has the least loss then?

# %%
import textwrap

careless = exercises(3)["mse"].mistake("shapes not compared").function
column = (X @ best)[:, None]  # [n, 1]
print("shape of the difference:", (column - y).shape)
assert (column - y).shape == (n, n)

theta = np.zeros(2)
for _ in range(400):
    r = (X @ theta)[:, None] - y  # [n, n], all pairs
    theta = theta - 0.3 * 2 / r.size * (X.T @ r.sum(axis=1))
print(f"learned: θ = ({theta[0]:.4f}, {theta[1]:.4f});  mean of y = {y.mean():.4f}")
reports = np.mean(((X @ theta)[:, None] - y) ** 2)
print(f"loss it reports {reports:.3f}, variance of y {y.var():.3f}")
print(f"loss it reports for the best line: {float(careless(column, y)[0]):.3f}")
assert np.allclose(theta, [y.mean(), 0], atol=1e-6)
assert float(careless(column, y)[0]) > 20 * loss_of(best)
try:
    ops.mse(column, y)
except ValueError as problem:
    print(textwrap.fill(f"the library: {problem}", 88))

# %% [markdown]
# The flat one, at the mean. The loss falls and settles at the variance of $y$, training looks
# healthy, and the slope is 0. If a regression learns the mean and nothing else, print the shapes.
#
# ### Mistakes, by their symptom
#
# Each step is wrong in one line, and walks 100 steps at the learning rate 0.1 from (0, 0).

# %%
wrong = exercises(3)["descent_step"]
names = [
    "residual times theta",
    "X left out",
    "only the last example",
    "divided by the parameters",
    "absolute error",
    "one parameter at a time",
    "one example at a time",
    "returns the gradient",
]
rows, walked = [], {}
for name in ["right", *names]:
    step = solved.descent_step if name == "right" else wrong.mistake(name).function
    walked[name] = path = descend(step, 0.1, 100)
    found = losses_of(path)
    rows.append([name, *path[-1], found[1], found[10], found[-1]])
rows.append(["closed form", *best, "", "", loss_of(best)])
table(rows, columns=["", "θ₀", "θ₁", "loss: step 1", "10", "100"], digits=3)

# %% [markdown]
# - **residual times theta.** From 0 it never starts: $0 \cdot r = 0$. From elsewhere it can only
#   stretch the vector θ, never turn it.
# - **X left out.** Intercept and slope get the same gradient, so they stay equal for ever, and all
#   stops when the *mean* residual is 0. (*Product of the means* does the same here, as the mean of
#   $x$ is 1. The mean of $r x$ is not the mean of $r$ times that of $x$.)
# - **only the last example.** `=` where `+=` belongs. θ can only move along the last row of $X$,
#   which is (1, 2), until the line goes through the last point. On these data that happens to be a
#   good direction. Luck is no test: with the points in reverse, the slope stays 0.
# - **divided by the parameters.** 10 times too long a step: past the limit, to and fro. (*lr left
#   out* does the same here, as $2/n$ is 0.1.)
# - **absolute error.** It settles near the answer and then shivers: the step does not get shorter
#   as the error does.
# - **one parameter at a time.** It arrives, about as soon. The method has a name (coordinate
#   descent), and is still a bug if you meant a gradient: the two numbers belong to two different
#   places, and the result depends on the order of the parameters. No curve will show it; a
#   comparison of one step, by hand, does.
# - **one example at a time.** It stops near the answer, not at it: the last examples of each round
#   have always pulled last. With the examples drawn at random that is stochastic descent, and the
#   reason why its rate must fade.
# - **returns the gradient.** Each step makes $H\theta - \frac{2}{n} X^T y$ of $\theta$: up, by the
#   factor $\lambda_{\max} = 4.40$ each time.

# %%
assert np.array_equal(walked["residual times theta"][-1], [0, 0])
for name in ("X left out", "product of the means"):
    assert math.isclose(*descend(wrong.mistake(name).function, 0.1, 100)[-1], rel_tol=1e-9)
last = walked["only the last example"][-1]
assert math.isclose(last[1], 2 * last[0])
assert abs(last[0] + last[1] * x[-1] - y[-1]) < 0.05
other = np.zeros(2)
for _ in range(5000):
    other = wrong.mistake("only the last example").function(other, X[::-1], y[::-1], lr=0.1)
print(f"only the last example, points in reverse: θ = {other}, loss {loss_of(other):.2f}")
assert other[1] == 0
assert loss_of(other) > 10 * loss_of(best)
assert losses_of(walked["divided by the parameters"])[-1] > 1e50
shiver = np.linalg.norm(np.diff(walked["absolute error"][-5:], axis=0), axis=1)
still = np.linalg.norm(np.diff(walked["right"][-5:], axis=0), axis=1)
print("last steps, absolute error:", shiver.round(4), "  right:", still.round(4))
assert shiver.max() > 3 * still.max()
in_turn, at_once = losses_of(walked["one parameter at a time"]), losses_of(walked["right"])
assert math.isclose(in_turn[-1], at_once[-1], rel_tol=1e-3)
forever = descend(wrong.mistake("one example at a time").function, 0.1, 5000)[-1]
print(f"one example at a time, after 5000 steps, is off by {np.abs(forever - best).max():.4f}")
assert np.abs(forever - best).max() > 1e-3
too_far = descend(wrong.mistake("lr left out").function, 0.1, 100)
assert np.allclose(too_far, walked["divided by the parameters"])
returned = walked["returns the gradient"]
growth = np.linalg.norm(returned[-1]) / np.linalg.norm(returned[-2])
assert math.isclose(growth, high, rel_tol=1e-9)
assert round(high, 2) == 4.40

# %% [markdown]
# And the loss itself? These mistakes of `mse` give a gradient check something to say. The first
# line of each report:

# %%
rows = []
for name in ["sign", "no 2", "no 1/n in backward", "rows in backward only", "dy ignored"]:
    report = gradcheck(exercises(3)["mse"].mistake(name).function, pred, target)
    rows.append([name, report.inputs[0].finding])
    assert not report
table(rows, columns=["mistake", "what the gradient check says"])

# %% [markdown]
# ## 10. Your turn
#
# Write `mse(pred, target)`, which returns `(loss, vjp)`, and `descent_step(theta, X, y, *, lr)`,
# which returns the new `theta`:
#
# ```
# scratchlm start 3            your copy of the stubs
# scratchlm check 3 --watch    checks it each time you save
# scratchlm hint 3             three hints, each says more
# scratchlm solution 3         opens when you have passed
# ```
#
# `mse` takes arrays of any shape, and refuses two that differ. `descent_step` may call your `mse`:
# its gradient is then the chain of two lines. The check compares with the library, and knows many
# ways to go wrong by name (here without those that leave out the shapes besides):

# %%
for each in exercises(3).values():
    known = [m.name for m in each.mistakes if not m.name.endswith(", shapes not compared")]
    print(f"{each.name}: {len(known)} known mistakes")
    assert len(known) == 17
source(find_lesson(3).load("exercise").descent_step, docstring=True)

# %% [markdown]
# ## 11. Cost
#
# The loss makes three operations for each element forward (subtract, square, add) and two
# backward. It keeps one array, the residual:

# %%
size = 100_000
many = np.random.default_rng(0).standard_normal((2, size)).astype(np.float32)
_, vjp = solved.mse(many[0], many[1])
kept = [
    (name, cell.cell_contents.nbytes)
    for name, cell in zip(vjp.__code__.co_freevars, vjp.__closure__, strict=True)
    if isinstance(cell.cell_contents, np.ndarray)
]
print("kept for backward:", kept, f"bytes, for {size:,} float32 predictions")
assert kept == [("r", 4 * size)]

# %% [markdown]
# Why descend at all, if the answer has a closed form? Count, for $n$ examples and $d$ parameters:
#
# | | operations | memory beside $X$ |
# |---|---|---|
# | a step of descent | $4nd$: $X\theta$ and $X^T r$ | $n + d$ |
# | normal equations | $2nd^2$ to form $X^T X$, $d^3 / 3$ to solve | $d^2$ |

# %%
rows = []
for name, examples, d in [
    ("this lesson", 20, 2),
    ("a wide table", 100_000, 1_000),
    ("a million features", 1_000_000, 1_000_000),
    ("as many as GPT-2 has", 1_000_000, 124_000_000),
]:
    steps = (2 * examples * d**2 + d**3 / 3) / (4 * examples * d)
    rows.append([name, f"{d:,}", f"{4 * d**2:.1e}", f"{steps:,.0f}"])
table(rows, columns=["", "parameters d", "bytes of XᵀX", "steps for that work"])
assert rows[0][3] == "1"
assert 4 * 124_000_000**2 > 6e16

# %% [markdown]
# For two parameters the closed form costs as much as one step. With as many as GPT-2 has, $X^T X$
# alone would take 62 petabytes in float32. And that would be the smaller trouble: with a
# nonlinearity in the model the gradient is no longer linear in $\theta$, and there is no closed
# form to solve. Descent does not mind.

# %% [markdown]
# ## 12. Use it
#
# ### How does a vocabulary grow?
#
# Read on in a text, and new words come, but ever fewer. Heaps (1978) found a power law: a text of
# $N$ words has about $V = K N^{\beta}$ *different* words. In logarithms it is a line,
#
# $$
# \log V = \log K + \beta \log N
# $$
#
# with intercept $\log K$ and slope $\beta$. The data are the help topics that come with Python,
# each a text of its own. Three quarters of them are for learning, the rest for testing; seed 3.
# Threshold: at least 90% of the variance in the *test* topics explained, and descent within
# $10^{-9}$ of the closed form.

# %%
import re
from pydoc_data.topics import topics

lists = [re.findall("[a-z]+", text.lower()) for text in topics.values()]
N_words = np.array([len(each) for each in lists])
V_words = np.array([len(set(each)) for each in lists])
order = np.random.default_rng(3).permutation(len(lists))
cut = len(lists) * 3 // 4
learn, test = order[:cut], order[cut:]
print(f"{len(lists)} topics of {N_words.min()} to {N_words.max():,} words; {cut} to learn from")

log_V = np.log10(V_words)
raw = np.stack([np.ones(len(lists)), np.log10(N_words)], axis=1)  # [topics, 2]
middle, spread = raw[learn, 1].mean(), raw[learn, 1].std()
scaled = np.stack([np.ones(len(lists)), (raw[:, 1] - middle) / spread], axis=1)

# %% [markdown]
# The input is used twice, as it is, and *standardized*: minus its mean, divided by its standard
# deviation, both from the learning topics only. Then $X^T X / n$ is the identity, so both
# curvatures are 2 and $\kappa = 1$. **Question:** how many steps will descent need on such a
# surface, at the best rate?


# %%
def fit(inputs, tolerance, most=20_000):
    """Descent at the best rate until no parameter is further than tolerance from the referee."""
    A, b = inputs[learn], log_V[learn]
    referee = np.linalg.lstsq(A, b, rcond=None)[0]
    curvatures = np.linalg.eigvalsh(2 / len(b) * A.T @ A)
    lr = 2 / (curvatures[0] + curvatures[-1])
    theta, way = np.zeros(2), []
    while len(way) < most:
        way.append(np.abs(theta - referee).max())
        if way[-1] < tolerance:
            break
        theta = solved.descent_step(theta, A, b, lr=lr)
    return theta, referee, np.array(way), curvatures[-1] / curvatures[0], lr


results = {name: fit(A, 1e-9) for name, A in [("raw", raw), ("standardized", scaled)]}
table(
    [
        [name, kappa, lr, len(way) - 1, f"{way[-1]:.0e}"]
        for name, (_, _, way, kappa, lr) in results.items()
    ],
    columns=["inputs", "condition κ", "best rate", "steps", "distance from the referee"],
)
assert all(way[-1] < 1e-9 for _, _, way, *_ in results.values())
assert len(results["standardized"][2]) - 1 <= 2
assert len(results["raw"][2]) > 1000

# %% [markdown]
# One step. With equal curvature in all directions the gradient points straight at the minimum, and
# with $\alpha = 1/\lambda$ the step ends there. Nothing in the data has changed but the origin and
# the unit of $x$. That is why inputs are standardized, and why networks have layers that do it on
# the way (lesson 24).
#
# **Look for** topics far from the line, in the left panel. **Question:** does the line, learned
# from topics of up to 9,000 words, hold for *all* topics put together?

# %%
theta = results["raw"][0]
from_scaled = results["standardized"][0]
beta = from_scaled[1] / spread  # back to the units of the raw inputs
assert np.allclose(theta, [from_scaled[0] - beta * middle, beta], atol=1e-7)


def explained(which):
    r = raw[which] @ theta - log_V[which]
    return 1 - (r**2).mean() / log_V[which].var()


everything = [word for each in lists for word in each]
found, expected = len(set(everything)), 10 ** (theta[0] + theta[1] * math.log10(len(everything)))
with plot.style():
    fig, (left, right) = figure(1, 2, width=8.6, height=4.0)
    left.loglog(
        N_words[learn], V_words[learn], "o", color="#0072B2", markersize=4, label="learned"
    )  # fmt: skip
    left.loglog(
        N_words[test], V_words[test], "s", color="#000000", markersize=4.5,
        markerfacecolor="white", label="test",
    )  # fmt: skip
    at = np.array([20, 1e5])
    line = 10 ** theta[0] * at ** theta[1]
    left.loglog(at, line, color="#D55E00", label=f"β = {theta[1]:.2f}")
    left.loglog(len(everything), found, "*", color="#000000", markersize=12,
                markerfacecolor="#f7d038", label="all topics together")  # fmt: skip
    left.set(xlabel="words in the topic", ylabel="different words", title="Heaps' law")
    left.legend(loc="upper left")
    for (name, (*_, way, _, _)), color, dashes in zip(
        results.items(), ["#0072B2", "#D55E00"], ["-", "o--"], strict=True
    ):
        right.semilogy(way, dashes, color=color, markersize=5, label=name)
    right.set(xlabel="step", ylabel="largest distance from the closed form")
    right.set(title="The same data, scaled", ylim=(1e-16, 100), xlim=(-0.3, 3000))
    right.set_xscale("symlog", linthresh=1)
    right.set_xticks([0, 1, 10, 100, 1000], ["0", "1", "10", "100", "1000"])
    right.grid(axis="y")
    right.legend()
show(
    fig,
    alt="Left: number of different words against number of words of each topic, both "
    "logarithmic, close to a line of slope 0.7; the star for all topics together lies below the "
    "line. Right: distance from the closed form; raw inputs need more than a thousand steps, "
    "standardized ones a single step.",
)
print(f"V = {10 ** theta[0]:.2f} · N^{theta[1]:.3f}")
print(f"variance explained: learned {explained(learn):.1%}, test {explained(test):.1%}")
print(f"all topics: {len(everything):,} words; the line says {expected:,.0f} different, "
      f"there are {found:,}")  # fmt: skip
off = raw @ theta - log_V
titles = list(topics)
for name, where in [("fewest", off.argmax()), ("most", off.argmin())]:
    print(f"{name} different words for its length: {titles[where]!r}, "
          f"{N_words[where]} words, {V_words[where]} different")  # fmt: skip
assert explained(test) > 0.9  # the recorded threshold
assert 0.6 < theta[1] < 0.8
assert expected > 1.5 * found

# %% [markdown]
# No. The line explains almost 99% of the variance in topics it has never seen, and promises over
# half too many words as soon as it leaves their range. All topics share the same words about
# Python, so together they have fewer. A small loss on the test set says: the line holds for *more
# of the same*. It says nothing of what lies beyond.
#
# Still, the exponent is good news for the lessons on text: within a topic, ten times as many words
# are only $10^{0.7} \approx 5$ times as many *different* ones.
#
# ### The op in the engine
#
# Last, your `mse` takes the place of the library's, in a program of tensors:

# %%
import scratchlm

found_by = {}
for name, choice in [("library", {}), ("solution", {"mse": solved.mse})]:
    leaf = Tensor(np.zeros(2), requires_grad=True)
    with scratchlm.use(**choice):
        for _ in range(50):
            leaf.grad = None
            F.mse(Tensor(scaled[learn]) @ leaf, Tensor(log_V[learn])).backward()
            leaf = Tensor(leaf.numpy() - 0.1 * leaf.grad.numpy(), requires_grad=True)
    found_by[name] = leaf.numpy()
    print(f"{name:9}", found_by[name])
assert np.allclose(found_by["library"], found_by["solution"], rtol=1e-13)
assert np.allclose(found_by["solution"], results["standardized"][1], atol=1e-4)

# %% [markdown]
# ## 13. Recap
#
# 1. A training loss reads 4, 9, 20, 45. Another reads 4, 900, $2 \cdot 10^5$, with predictions too
#    high and too low in turn. Which of them has a wrong sign, and what has the other?
# 2. You double your data by using each example twice. What happens to the loss, to the gradient,
#    and to the stability limit, with the mean? With the sum?
# 3. Your regression reports a loss equal to the variance of $y$, whatever you do. Which line has it
#    learned, and what do you print first?
#
# Answers: (1) The first climbs steadily: the sign. The second overshoots: its rate is above the
# limit. (2) Mean: nothing at all changes. Sum: loss and gradient double, the limit halves. (3)
# The flat line at the mean of $y$. Print the shapes that go into the loss: `[n, 1]` against `[n]`
# ends there. (So do data in which $x$ says nothing about $y$; look at them too.)
#
# | English | 中文 |
# |---|---|
# | linear regression | 线性回归 |
# | mean squared error | 均方误差 |
# | residual | 残差 |
# | gradient descent | 梯度下降 |
# | stochastic gradient descent | 随机梯度下降 |
# | learning rate | 学习率 |
# | normal equations | 正规方程 |
# | closed form | 闭式解 |
# | Hessian | 海森矩阵 |
# | eigenvalue | 特征值 |
# | condition number | 条件数 |
# | standardization | 标准化 |
#
# References:
#
# - D2 §4.1.1, §4.2.1 and §4.4.
# - A.-M. Legendre, *Nouvelles méthodes pour la détermination des orbites des comètes*, 1805,
#   appendix: least squares, first in print.
# - C. F. Gauss, *Theoria motus corporum coelestium*, 1809, book 2, section 3: the same,
#   from the law of errors.
# - A. Cauchy, *Méthode générale pour la résolution des systèmes d'équations simultanées*, 1847:
#   gradient descent.
# - H. Robbins, S. Monro, *A Stochastic Approximation Method*, 1951.
# - H. S. Heaps, *Information Retrieval: Computational and Theoretical Aspects*, 1978, §7.5.
# - Y. LeCun, L. Bottou, G. Orr, K.-R. Müller, *Efficient BackProp*, 1998, §5.
# - I. Goodfellow, Y. Bengio, A. Courville, *Deep Learning*, 2016, §5.1.4.
#
# Next: lesson 04 puts two such layers on top of each other, with a bend between them; lesson 05
# has the loss for choices, where lesson 03 had one for numbers; lesson 06 makes the walk through
# a long valley shorter.
