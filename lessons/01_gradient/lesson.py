# %% [markdown]
# # 01 · The gradient · 梯度
#
# A model with a hundred million numbers in it learns by asking one question of each of them: if I
# turn you up a little, does the loss go up or down, and how fast? The answers together are the
# gradient. This lesson computes it in two ways. One needs no calculus and is slow. The other needs
# the chain rule and thirty lines of Python, and it is what every deep learning library is built on.

# %% [markdown]
# ## 1. Card
#
# You need the derivatives of one variable ($x^2$ has the slope $2x$), and Python with a little
# NumPy. At the end you have written a tape that differentiates any program made of your ops.

# %%
from scratchlm.lessons import card, exercises, figure, show, solution, source, table

card(1)

# %% [markdown]
# ## 2. Hook
#
# Heron of Alexandria found square roots with a loop: guess $y$, and replace it by the mean of $y$
# and $x / y$. There is no square root in this program, and no derivative. It runs six times round,
# and then we ask for the slope of what it did.

# %%
import math

import numpy as np

from scratchlm import Tensor

x = Tensor(np.array(2.0), requires_grad=True)
y = x
for _ in range(6):
    y = (y + x / y) / 2
y.backward()

print(f"the loop says            √2 = {y.item():.16f}")
print(f"backward() says  slope of √ = {x.grad.item():.16f}")
print(f"a book says        1 / 2√2  = {1 / (2 * math.sqrt(2)):.16f}")
assert abs(y.item() - math.sqrt(2)) < 1e-15
assert abs(x.grad.item() - 1 / (2 * math.sqrt(2))) < 1e-15

# %% [markdown]
# Sixteen digits, and nobody told it that $\sqrt{x}$ has the slope $1 / 2\sqrt{x}$. It knows how to
# differentiate a sum and a quotient, and it has kept a record of which were done. That is enough
# for any program, and a language model is a program.

# %% [markdown]
# ## 3. Formula
#
# **As printed:** nothing. D1 §2.4 (step 5) says that parameters are adjusted by backpropagation and
# gradient descent; D4 §3.1, D4 §5.3 and D3 §5.3 name backpropagation too. D2 §2.7 lists a loss
# function, an optimizer and an iteration. D2 §4.2.1 writes $\nabla_\theta J(\theta)$ for the
# gradient. None of the five documents says what a gradient is or how to compute one. It is the
# largest gap in them, and everything else stands on it.
#
# **What it is.** A function of one variable has one slope. A function of $n$ variables has $n$:
# move $x_i$ alone, hold the others still, and take the slope. That is the partial derivative
# $\partial f / \partial x_i$. The list of all of them is the gradient:
#
# $$
# \nabla f = \left( \frac{\partial f}{\partial x_1}, \ldots, \frac{\partial f}{\partial x_n} \right)
# $$
#
# **Measured** (Nocedal & Wright 2006, §8.1). Take the definition of a slope, with a step $h$ that
# is small instead of vanishing, once to each side. Here $e_i$ is 1 in place $i$ and 0 elsewhere:
#
# $$
# \frac{\partial f}{\partial x_i} \approx \frac{f(x + h e_i) - f(x - h e_i)}{2h}
# $$
#
# It runs the whole function twice for each of the $n$ inputs.
#
# **Computed: reverse mode** (Linnainmaa 1976; for neural networks Rumelhart, Hinton & Williams
# 1986). Let $L$ be the number at the end of the program, and write $\bar{x}$ for
# $\partial L / \partial x$. Every value $y$ that was computed directly from $x$ is a *consumer* of
# $x$:
#
# $$
# \bar{x} = \sum_{y \in \mathrm{consumers}(x)} \bar{y} \frac{\partial y}{\partial x}
# $$
#
# Begin with $\bar{L} = 1$ and go backward. One walk gives the slopes of all $n$ inputs.
#
# | symbol | variable | shape | what it is |
# |---|---|---|---|
# | $x$, $y$ | `x`, `y` | any | a value in the program |
# | $\bar{y}$ | `dy` | that of $y$ | the cotangent of $y$: $\partial L / \partial y$ |
# | $\bar{x}$ | `dx`, `x.grad` | that of $x$ | the cotangent of $x$, its gradient |
# | $\partial y / \partial x$ | inside `vjp` | not stored | the local slope of one op |
# | $h$ | `h` | a number | the step of a difference |
#
# In code, each op of this library returns two things, its result and a function `vjp` that turns
# $\bar{y}$ into $\bar{x}$. The name stands for *vector-Jacobian product*; section 6 says why.

# %% [markdown]
# ## 4. By hand
#
# ### Five lines forward, five lines back
#
# Take $f(a, b) = (ab + b) a$ at $a = 2$, $b = 3$. Give every intermediate result a name:
#
# $$
# \begin{aligned}
# c &= a b \\
# d &= c + b \\
# f &= d a
# \end{aligned}
# $$
#
# Both inputs are used twice: $a$ in $c$ and in $f$, $b$ in $c$ and in $d$. Do it on paper first.

# %%
a, b = 2.0, 3.0
c = a * b
d = c + b
f = d * a
print("forward")
print(f"  c = a · b = {a:g} · {b:g} = {c:g}")
print(f"  d = c + b = {c:g} + {b:g} = {d:g}")
print(f"  f = d · a = {d:g} · {a:g} = {f:g}")

f_bar = 1.0  # ∂f/∂f
print("backward, from the last line to the first")
print(f"  f̄                                  = {f_bar:g}")
d_bar = f_bar * a  # f = d · a, so ∂f/∂d = a
a_bar = f_bar * d  # and ∂f/∂a = d, the first contribution to ā
print(f"  f = d · a:   d̄  = f̄ · a = {f_bar:g} · {a:g}     = {d_bar:g}")
print(f"               ā  = f̄ · d = {f_bar:g} · {d:g}     = {a_bar:g}")
c_bar = d_bar * 1  # d = c + b, so ∂d/∂c = 1
b_bar = d_bar * 1  # and ∂d/∂b = 1, the first contribution to b̄
print(f"  d = c + b:   c̄  = d̄ · 1 = {d_bar:g} · 1     = {c_bar:g}")
print(f"               b̄  = d̄ · 1 = {d_bar:g} · 1     = {b_bar:g}")
print(f"  c = a · b:   ā += c̄ · b = {a_bar:g} + {c_bar:g} · {b:g} = {a_bar + c_bar * b:g}")
print(f"               b̄ += c̄ · a = {b_bar:g} + {c_bar:g} · {a:g} = {b_bar + c_bar * a:g}")
a_bar += c_bar * b  # c = a · b, so ∂c/∂a = b: added, because a was used twice
b_bar += c_bar * a

# %% [markdown]
# Calculus agrees: multiplied out, $f = a^2 b + ab$, so $\partial f / \partial a = 2ab + b = 15$ and
# $\partial f / \partial b = a^2 + a = 6$.
#
# And a pocket calculator agrees. Step $h = 0.1$ to both sides:

# %%
assert (a_bar, b_bar) == (2 * a * b + b, a * a + a) == (15, 6)


def program(a, b):
    return (a * b + b) * a


for name, up, down in [
    ("∂f/∂a", program(2.1, 3.0), program(1.9, 3.0)),
    ("∂f/∂b", program(2.0, 3.1), program(2.0, 2.9)),
]:
    print(f"{name} ≈ ({up:.2f} - {down:.2f}) / 0.2 = {(up - down) / 0.2:.4f}    "
          f"one-sided: ({up:.2f} - 18) / 0.1 = {(up - 18) / 0.1:.4f}")  # fmt: skip
assert abs((program(2.1, 3) - program(1.9, 3)) / 0.2 - 15) < 1e-12
assert abs((program(2.1, 3) - 18) / 0.1 - 15.3) < 1e-12

# %% [markdown]
# The central difference is exact here, even with a step as large as 0.1; the one-sided difference
# is off by 0.3 for $a$. Section 7 says where the 0.3 comes from (it is $h \cdot b$), and when it is
# 0.
#
# ### Two outputs, three inputs
#
# Now $y_1 = x_1 x_2$ and $y_2 = x_2 x_3$, at $x = (2, 3, 4)$. Two outputs and three inputs have
# $2 \times 3$ slopes. They form a table, the *Jacobian* $J_{ij} = \partial y_i / \partial x_j$:
#
# $$
# J = \begin{pmatrix} x_2 & x_1 & 0 \\ 0 & x_3 & x_2 \end{pmatrix}
# = \begin{pmatrix} 3 & 2 & 0 \\ 0 & 4 & 3 \end{pmatrix}
# $$
#
# Suppose the rest of the program says that $y_2$ matters ten times as much as $y_1$:
# $\bar{y} = (1, 10)$.

# %%
x1, x2, x3 = 2.0, 3.0, 4.0
J = np.array([[x2, x1, 0], [0, x3, x2]])  # [2, 3]
y_bar = np.array([1.0, 10.0])  # [2]
x_bar = np.zeros(3)
for j in range(3):
    for i in range(2):
        x_bar[j] += y_bar[i] * J[i, j]
    terms = " + ".join(f"{y_bar[i]:g}·{J[i, j]:g}" for i in range(2))
    print(f"x̄_{j + 1} = {terms} = {x_bar[j]:g}")
assert x_bar.tolist() == [3, 42, 30]

# %% [markdown]
# The middle input feeds both outputs and hears from both: $2 + 40 = 42$.

# %% [markdown]
# ## 5. In code
#
# ### A product: loop, NumPy, library
#
# The op `mul` multiplies arrays element by element. First with a loop, for a $2 \times 3$ example
# and a cotangent that is not all ones.


# %%
def mul_loops(a, b, dy):
    y, da, db = np.zeros_like(a), np.zeros_like(a), np.zeros_like(a)
    for index in np.ndindex(*a.shape):
        y[index] = a[index] * b[index]
        da[index] = dy[index] * b[index]  # along a, the slope is b
        db[index] = dy[index] * a[index]  # along b, the slope is a
    return y, da, db


A = np.array([[1.0, 2, 3], [4, 5, 6]])
B = np.array([[2.0, 0, -1], [1, 3, 0]])
dY = np.array([[1.0, 1, 10], [0, -1, 2]])
for name, array in zip(("y", "da", "db"), mul_loops(A, B, dY), strict=True):
    print(f"{name:2} =", array.tolist())

# %% [markdown]
# NumPy multiplies whole arrays, so the loop goes. What is left is the contract of every op here:
# return `(out, vjp)`. The inner function remembers `a` and `b`; that memory is all that backward
# needs. The solution of this lesson, and the library's op:

# %%
from scratchlm import ops

source(solution(1).mul)
source(ops.mul)

for mul in (solution(1).mul, ops.mul):
    y, vjp = mul(A, B)
    for mine, loops in zip((y, *vjp(dY)), mul_loops(A, B, dY), strict=True):
        assert (mine == loops).all()
print("loops, solution and library: equal to the last bit")

# %% [markdown]
# The library's version adds an error message for shapes that do not fit. Nothing else.
#
# ### The tape
#
# To go backward, somebody has to remember what was done. A `Node` is a value with its inputs and
# its `vjp`; `apply` runs an op and makes one. Such a record is called a *tape*: written forward,
# read backward.

# %%
tape = solution(1)
source(tape.Node)
source(tape.apply)

# %% [markdown]
# The third part is `backward(node, cotangent)`. It is your exercise, so the page uses it and does
# not show it; with it the tape is about thirty lines. Here it is at work on the function of section
# 4. Each `vjp` prints what it passes on.


# %%
def telling(op, formula, *names):
    """The op, with a vjp that says what it sends to whom."""

    def told(*arrays):
        out, vjp = op(*arrays)

        def speak(dy):
            shares = vjp(dy)
            sent = ", ".join(
                f"{share:g} to {name}" for share, name in zip(shares, names, strict=True)
            )
            print(f"  {formula} has gathered {dy:g}, and sends {sent}")
            return shares

        return out, speak

    return told


# %%
node_a, node_b = tape.Node(2.0), tape.Node(3.0)
node_c = tape.apply(telling(ops.mul, "c = a · b", "a", "b"), node_a, node_b)
node_d = tape.apply(telling(ops.add, "d = c + b", "c", "b"), node_c, node_b)
node_f = tape.apply(telling(ops.mul, "f = d · a", "d", "a"), node_d, node_a)
tape.backward(node_f, 1.0)
print(f"  a has gathered {node_a.grad:g}, b has gathered {node_b.grad:g}")

tensor_a, tensor_b = (Tensor(np.array(v), requires_grad=True) for v in (2.0, 3.0))
program(tensor_a, tensor_b).backward()  # the same function, called with tensors

table(
    [["by hand", f, a_bar, b_bar],
     ["the tape", node_f.value, node_a.grad, node_b.grad],
     ["the library's Tensor", program(2.0, 3.0), tensor_a.grad.item(), tensor_b.grad.item()]],
    columns=["", "f", "∂f/∂a", "∂f/∂b"],
)  # fmt: skip
assert (node_a.grad, node_b.grad) == (tensor_a.grad.item(), tensor_b.grad.item()) == (15, 6)

# %% [markdown]
# The library's `Tensor` is such a node with operators (`a * b` calls `apply`), shapes, and error
# messages. Its `backward` works as yours will.

# %% [markdown]
# ## 6. Backward, derived
#
# We derive the sum over consumers from nothing but the slope of one variable. Each line of algebra
# stands beside a line of code.
#
# ### Step 1: one path
#
# Let $y$ depend on $x$ and $L$ on $y$. Move $x$ by a small $\Delta x$. Then $y$ moves by
# $\Delta y$, and $L$ by $\Delta L$. As long as $\Delta y$ is not 0:
#
# $$
# \frac{\Delta L}{\Delta x} = \frac{\Delta L}{\Delta y} \cdot \frac{\Delta y}{\Delta x}
# $$
#
# Let $\Delta x$ shrink. Each quotient becomes a slope (and where $\Delta y$ is 0 all the way, both
# sides are 0):
#
# $$
# \frac{\partial L}{\partial x} = \frac{\partial L}{\partial y} \cdot \frac{\partial y}{\partial x},
# \quad \text{that is} \quad \bar{x} = \bar{y} \frac{\partial y}{\partial x}
# $$
#
# Slopes in a row multiply. An example: $y = x^2$, $L = \sin y$.


# %%
def slope(f, x, h=1e-5):
    """The central difference of a function of one number."""
    return (f(x + h) - f(x - h)) / (2 * h)


x = 1.2
y = x * x  # ∂y/∂x = 2x
L = math.sin(y)  # ∂L/∂y = cos y
y_bar = math.cos(y)
x_bar = y_bar * (2 * x)
measured = slope(lambda x: math.sin(x * x), x)
print(f"x̄ = ȳ · 2x = {y_bar:.6f} · {2 * x:g} = {x_bar:.6f},  measured {measured:.6f}")
assert abs(x_bar - measured) < 1e-8

# %% [markdown]
# ### Step 2: two paths
#
# Now $x$ is used twice, in $u$ and in $v$, and $L$ depends on both. Move $x$, and both move. Walk
# from the old point to the new one in two legs, first $v$, then $u$. What is added in the middle is
# taken away again:
#
# $$
# \begin{aligned}
# \Delta L &= L(u + \Delta u, v + \Delta v) - L(u, v) \\
#  &= L(u + \Delta u, v + \Delta v) - L(u, v + \Delta v) + L(u, v + \Delta v) - L(u, v)
# \end{aligned}
# $$
#
# In the first difference only $u$ moves, in the second only $v$. For small steps each is a slope
# times a step:
#
# $$
# \Delta L \approx \frac{\partial L}{\partial u} \Delta u + \frac{\partial L}{\partial v} \Delta v
# $$
#
# Divide by $\Delta x$, and let it shrink:
#
# $$
# \bar{x} = \bar{u} \frac{\partial u}{\partial x} + \bar{v} \frac{\partial v}{\partial x}
# $$
#
# Slopes along paths side by side **add**. With more uses, split off one leg for each, and the sum
# has as many terms as $x$ has consumers: that is the formula of section 3. In code it is the
# difference between `+=` and `=`. It holds too if both uses are in one op: $x \cdot x$ is
# $u \cdot v$ with $u = v = x$, so $\bar{x} = \bar{y} x + \bar{y} x$.

# %%
x = 0.7
u, v = x * x, math.exp(x)  # x has two consumers
L = u * v
u_bar, v_bar = v, u  # L = u · v
x_bar = 0.0
x_bar += u_bar * (2 * x)  # u = x²
x_bar += v_bar * math.exp(x)  # v = e^x
measured = slope(lambda x: x * x * math.exp(x), x)
print(
    f"x̄ = {u_bar * 2 * x:.6f} + {v_bar * math.exp(x):.6f} = {x_bar:.6f},  measured {measured:.6f}"
)
assert abs(x_bar - measured) < 1e-8

# %% [markdown]
# ### Step 3: arrays
#
# An op has many inputs $x_j$ and many outputs $y_i$. Each $y_i$ is a consumer of each $x_j$, so the
# formula reads, index by index:
#
# $$
# \bar{x}_j = \sum_i \bar{y}_i \frac{\partial y_i}{\partial x_j} = \sum_i \bar{y}_i J_{ij}
# $$
#
# The sum runs over the *first* index of $J$. A matrix times a vector sums over the last, so $J$ is
# transposed:
#
# $$
# \bar{x} = J^T \bar{y}
# $$
#
# A vector times the Jacobian: hence *vector-Jacobian product*, `vjp`. Here is
# $y = (x_1 x_2, x_2 x_3)$ of section 4 again, its Jacobian measured column by column.


# %%
def pairs(x):
    return np.array([x[0] * x[1], x[1] * x[2]])


x = np.array([2.0, 3.0, 4.0])
h = 1e-5
measured = np.stack([(pairs(x + h * e) - pairs(x - h * e)) / (2 * h) for e in np.eye(3)], axis=1)
print("J, measured =", measured.round(6).tolist())
print("Jᵀ ȳ        =", (measured.T @ [1, 10]).round(6).tolist())
assert np.abs(measured - J).max() < 1e-9
assert np.abs(measured.T @ [1, 10] - [3, 42, 30]).max() < 1e-9

# %% [markdown]
# ### Step 4: the vjp of a product, and of a sum
#
# For $y_i = a_i b_i$, output $i$ uses input $i$ alone. With $\delta_{ij}$ for 1 if $i = j$, else 0:
#
# $$
# \frac{\partial y_i}{\partial a_j} = \delta_{ij} b_i
# $$
#
# Put it into the formula. Of the sum only $i = j$ is left:
#
# $$
# \bar{a}_j = \sum_i \bar{y}_i \delta_{ij} b_i = \bar{y}_j b_j
# $$
#
# And $\bar{b}_j = \bar{y}_j a_j$ in the same way. The Jacobian of an array of a million elements
# has a million times a million entries, nearly all 0; the vjp multiplies a million times and never
# forms it. For $y_i = a_i + b_i$ the slopes are 1, so $\bar{a} = \bar{b} = \bar{y}$.

# %%
y, vjp = ops.mul(A, B)
da, db = vjp(dY)
jacobian = np.diag(B.ravel())  # [6, 6], for six elements
assert (da.ravel() == jacobian.T @ dY.ravel()).all()
_, vjp = ops.add(A, B)
assert all((g == dY).all() for g in vjp(dY))
print(f"da = dy · b = Jᵀ dy: {B.size} multiplications, or a matrix of {jacobian.size} entries")

# %% [markdown]
# ### Step 5: which end first?
#
# A program of three ops has the Jacobian $J_3 J_2 J_1$: first op rightmost. Its gradient is
#
# $$
# \bar{x} = (J_3 J_2 J_1)^T \bar{y} = J_1^T (J_2^T (J_3^T \bar{y}))
# $$
#
# The brackets say where to begin. From the output, each product is a matrix times a *vector*. From
# the input, $J_2 J_1$ is a matrix times a *matrix*, for which one pays once for each input. Count
# the multiplications for 100 inputs, 100 values in between, and one output:

# %%
n = 100
J1, J2, J3 = (
    np.random.default_rng(i).standard_normal(s) for i, s in enumerate([(n, n), (n, n), (1, n)])
)
from_the_output = n + n * n + n * n  # J3ᵀ ȳ, then J2ᵀ, then J1ᵀ
from_the_input = n * n * n + n * n + n  # J2 J1, then J3, then ȳ
one = J1.T @ (J2.T @ (J3.T @ np.ones(1)))
other = (J3 @ (J2 @ J1)).T @ np.ones(1)
assert np.allclose(one, other, rtol=1e-9)
print(f"from the output: {from_the_output:,} multiplications; from the input: {from_the_input:,}")
assert (from_the_output, from_the_input) == (20_100, 1_010_100)

# %% [markdown]
# The same numbers, fifty times cheaper. A loss is one number and a model has millions of inputs, so
# we begin at the output: *reverse mode*, backpropagation. (With one input and many outputs it is
# the other way round, and one uses forward mode.)
#
# ### Step 6: why the order matters
#
# The sum over consumers is ready when *all* consumers have sent their part. A node that passes on
# its cotangent earlier passes on too little. So every node must come after all of its consumers: an
# order that keeps this is called *topological*.
#
# Does one always exist? A value is made before it is used. So the order of creation puts every
# consumer after its inputs, and the same list backward is topological. Without such a list, count:
# each node expects one contribution for each place where it is an input. When the count is down to
# 0, its turn has come. (As long as nodes are left, one of them is ready: the one created last has
# no consumer left.)
#
# The smallest graph on which the order shows is a *diamond* with one side longer than the other:
# $p = x^2$, $q = p^2$, $z = p + q$. Here $p$ has two consumers. Walked in the order of distance
# from $z$, $p$ runs before $q$ has spoken.


# %%
def diamond(tape, x):
    x = tape.Node(x)
    p = tape.apply(ops.mul, x, x)
    q = tape.apply(ops.mul, p, p)
    return x, tape.apply(ops.add, p, q)


wrong = {name: exercises(1)["backward"].mistake(name).function
         for name in ("overwritten", "first visit only", "running total", "each path alone",
                      "breadth first", "kept in the nodes")}  # fmt: skip

x, z = diamond(tape, 2.0)
tape.backward(z, 1.0)
early, z = diamond(tape, 2.0)
wrong["breadth first"](z, 1.0)
print("z = x² + x⁴ at x = 2, slope 2x + 4x³ =", 2 * 2 + 4 * 2**3)
print("  topological order:        x̄ =", x.grad)
print("  by distance from z:       x̄ =", early.grad, "  (what q sent to p came too late)")
assert x.grad == 36
assert early.grad == 4

# %% [markdown]
# Of 36 only 4 arrive, without an error. On a chain or a tree every walk from the result is
# topological, which is why such a bug survives the first tests one writes.

# %% [markdown]
# ## 7. Gradient check, live
#
# Derivations go wrong, and a wrong gradient raises no error. So we compare: the vjp beside central
# differences, for random inputs and a *random* cotangent. With `dy = 1` everywhere, an op that
# forgets to multiply by `dy` would pass.

# %%
from scratchlm import gradcheck

rng = np.random.default_rng(1)
inputs = rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
report = gradcheck(ops.mul, *inputs)
print(report)
assert report

swapped = gradcheck(exercises(1)["mul"].mistake("swapped").function, *inputs)
print(swapped)
assert not swapped
assert swapped.inputs[0].diagnosis.name == "inputs swapped"

# %% [markdown]
# The second report is of a `mul` that returns `dy * a, dy * b`. The check sees that, and says so.
#
# ### How long a step?
#
# Two errors fight each other. Expand both sides of the difference around $x$ (Taylor):
#
# $$
# \begin{aligned}
# f(x + h) &= f + h f' + \frac{h^2}{2} f'' + \frac{h^3}{6} f''' + \ldots \\
# f(x - h) &= f - h f' + \frac{h^2}{2} f'' - \frac{h^3}{6} f''' + \ldots
# \end{aligned}
# $$
#
# Subtract. The even terms cancel:
#
# $$
# \frac{f(x + h) - f(x - h)}{2h} = f' + \frac{h^2}{6} f''' + \ldots
# $$
#
# That is the **truncation error**, $h^2 |f'''| / 6$: a shorter step is better. (It explains section
# 4. In $a$ the function is quadratic, so $f''' = 0$, and the central difference is exact.)
#
# Now the **rounding error**. A float64 has 53 binary digits, so each $f$ is known up to about
# $u |f|$ with $u = 2^{-53} = 1.1 \cdot 10^{-16}$. Two such errors, divided by $2h$, are up to
# $u |f| / h$: a longer step is better. Together:
#
# $$
# E(h) = \frac{h^2}{6} |f'''| + \frac{u |f|}{h}
# $$
#
# At the lowest point the slope of $E$ is 0:
#
# $$
# \frac{h}{3} |f'''| - \frac{u |f|}{h^2} = 0, \quad \text{so} \quad
# h^3 = 3u \left| \frac{f}{f'''} \right|
# $$
#
# For $f = e^x$ all derivatives are equal to $f$, and $h = (3u)^{1/3}$. Put $u = h^3 / 3$ into $E$:
# the error left is $h^2/6 + h^2/3 = h^2/2$ of $f$.
#
# The **forward difference** $(f(x + h) - f(x)) / h$ keeps the term with $f''$, and divides two
# rounding errors by $h$ alone: $E(h) = \frac{h}{2} |f''| + 2u |f| / h$, least at $h = 2\sqrt{u}$,
# where it is $2\sqrt{u}$ of $f$. That is the 0.3 of section 4: there $f'' = 2b$, and
# $\frac{h}{2} \cdot 2b = hb$.
#
# Before you run it: how many digits does each get right, at best? Look for the lowest point of each
# V, for the slopes of its arms (2 or 1 to the right, both the same to the left), and for the dashed
# lines, which are the two formulas $E(h)$.

# %%
from scratchlm.plot import style

u = 2.0**-53
xs = np.arange(512, 1536) / 1024  # 1,024 points from 0.5 to 1.5, with few binary digits
steps = 2.0 ** -np.arange(1, 50)  # powers of two: x + h is exact, so h is really h
true = np.exp(xs)
central = [
    np.mean(np.abs((np.exp(xs + h) - np.exp(xs - h)) / (2 * h) - true) / true) for h in steps
]
forward = [np.mean(np.abs((np.exp(xs + h) - np.exp(xs)) / h - true) / true) for h in steps]
best_central, best_forward = (3 * u) ** (1 / 3), 2 * math.sqrt(u)

with style():
    fig, ax = figure(width=7.2, height=4.2)
    for name, errors, formula, color, mark in [
        ("central", central, steps**2 / 6 + u / steps, "#0072B2", "o"),
        ("forward", forward, steps / 2 + 2 * u / steps, "#D55E00", "s"),
    ]:
        ax.plot(steps, errors, mark, color=color, markersize=4, label=f"{name}, measured")
        ax.plot(steps, formula, "--", color=color, linewidth=1, label=f"{name}, formula E(h)")
    for h, name in [(best_central, "$(3u)^{1/3}$"), (best_forward, "2√u")]:
        ax.axvline(h, color="#8a8a8a", linewidth=0.8, linestyle=":")
        ax.text(
            h, 1.0, name, transform=ax.get_xaxis_transform(), ha="center", va="bottom", fontsize=8.5
        )
    ax.set(xscale="log", yscale="log", xlabel="step h", ylabel="relative error of the slope")
    ax.set_ylim(1e-13, 1)
    ax.legend(loc="upper center", frameon=True, framealpha=1, edgecolor="white")
show(
    fig,
    alt=(
        "Error of the slope of e to the x against the step, both axes logarithmic: two V "
        "shapes. Forward differences are best near 2e-8 with an error near 1e-8, central "
        "differences near 7e-6 with an error near 1e-11. The measured points follow the dashed "
        "formulas."
    ),
)

at_central, at_forward = steps[np.argmin(central)], steps[np.argmin(forward)]
table(
    [["forward", best_forward, at_forward, best_forward, min(forward)],
     ["central", best_central, at_central, best_central**2 / 2, min(central)]],
    columns=["difference", "best h, derived", "best h, measured", "bound there", "error, measured"],
    digits=2,
)  # fmt: skip
assert 1 / 4 < at_central / best_central < 4  # the steps measured are a factor 2 apart
assert 1 / 4 < at_forward / best_forward < 4
assert best_central**2 / 20 < min(central) < best_central**2 / 2
assert best_forward / 10 < min(forward) < best_forward

# %% [markdown]
# Eight digits for forward, eleven for central. The formulas are upper bounds for the rounding, so
# the left arms lie a little below them. No step gives sixteen. The vjp has no step and no such
# limit:

# %%
x = Tensor(xs, requires_grad=True)
(x * x.exp()).sum().backward()  # x · e^x has the slope (1 + x) · e^x
exact = np.abs(x.grad.numpy() / ((1 + xs) * np.exp(xs)) - 1).max()
print(f"largest relative error of the vjp of x · e^x: {exact:.1e}, that is {exact / u:.0f} u")
assert exact < 8 * u  # a handful of roundings

# %% [markdown]
# So differences are for *checking*, in float64, with $h$ near $6 \cdot 10^{-6}$. In float32
# ($u = 6 \cdot 10^{-8}$) the best step leaves an error of $1.6 \cdot 10^{-5}$, and many a wrong
# gradient would slip through. The library's `gradcheck` refuses float32 for that reason.

# %%
print(
    f"float32: h = {(3 * 2.0**-24) ** (1 / 3):.4f}, error left {(3 * 2.0**-24) ** (2 / 3) / 2:.1e}"
)
assert 1e-5 < (3 * 2.0**-24) ** (2 / 3) / 2 < 2e-5

# %% [markdown]
# ## 8. See it
#
# The function of section 4 as a graph. Values flow to the right, along the arrows. Cotangents flow
# to the left: below each arrow stands what comes back along it, the gradient of its head times its
# local slope. Look at the two boxes with two outgoing arrows, and at how their gradients come
# about.
#
# Before you run it: there are two paths from $f$ back to $a$. Multiply the slopes along each. What
# are the two products?

# %%
boxes = {
    "a": (0.0, 2.0, "a", 2.0, a_bar), "b": (0.0, 0.0, "b", 3.0, b_bar),
    "c": (1.6, 1.2, "c = a · b", 6.0, c_bar), "d": (3.2, 0.5, "d = c + b", 9.0, d_bar),
    "f": (4.8, 1.4, "f = d · a", 18.0, f_bar),
}  # fmt: skip
# from, to, local slope, and where its label stands
edges = [
    ("a", "c", "b", 3.0, 0.6, 1.24), ("b", "c", "a", 2.0, 0.98, 0.42),
    ("c", "d", "1", 1.0, 2.5, 1.12), ("b", "d", "1", 1.0, 1.75, 0.0),
    ("d", "f", "a", 2.0, 4.15, 0.66), ("a", "f", "d", 9.0, 3.0, 2.0),
]  # fmt: skip

with style():
    from matplotlib.patches import FancyBboxPatch

    fig, ax = figure(width=8.2, height=3.9)
    for start, end, name, local, tx, ty in edges:
        (x0, y0), (x1, y1) = boxes[start][:2], boxes[end][:2]
        part = 1 - min(0.48 / abs(x1 - x0), 0.36 / abs(y1 - y0))  # where the edge meets the box
        tip = (x0 + part * (x1 - x0), y0 + part * (y1 - y0))
        arrow = {"arrowstyle": "-|>", "color": "#8a8a8a", "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", tip, (x0, y0), zorder=1, arrowprops=arrow)
        forward_note = f"slope {name} = {local:g}" if name != "1" else "slope 1"
        back_note = f"← {boxes[end][4]:g} · {local:g} = {boxes[end][4] * local:g}"
        ax.text(tx, ty, forward_note, ha="center", va="bottom", fontsize=9, color="#0072B2")
        ax.text(tx, ty - 0.02, back_note, ha="center", va="top", fontsize=9, color="#B34700")
    for name, (x0, y0, formula, value, bar) in boxes.items():
        face = "#d6e6f5" if name in "ab" else "#fbe3c6" if name == "f" else "white"
        ax.add_patch(FancyBboxPatch((x0 - 0.42, y0 - 0.3), 0.84, 0.6, boxstyle="round,pad=0.04",
                                    facecolor=face, edgecolor="#5f6b76", zorder=2))  # fmt: skip
        for lift, text, color in [(0.19, formula, "#262626"), (0.0, f"value {value:g}", "#262626"),
                                  (-0.19, f"gradient {bar:g}", "#B34700")]:  # fmt: skip
            ax.text(
                x0, y0 + lift, text, ha="center", va="center", fontsize=9.5, color=color, zorder=3
            )
    ax.set_xlim(-0.6, 5.4)
    ax.set_ylim(-0.45, 2.5)
    ax.axis("off")
show(
    fig,
    alt=(
        "A graph of five boxes. Inputs a = 2 with gradient 15 and b = 3 with gradient 6; c = ab "
        "= 6 with gradient 2, d = c + b = 9 with gradient 2, f = da = 18 with gradient 1. Edges "
        "carry the slopes: a to c 3, b to c 2, c to d 1, b to d 1, d to f 2, a to f 9, and what "
        "goes back along each: 6, 4, 2, 2, 2, 9."
    ),
)

assert a_bar == 9 + 2 * 1 * 3  # a → f, and a → c → d → f
assert b_bar == 2 * 1 + 2 * 1 * 2  # b → d → f, and b → c → d → f

# %% [markdown]
# From $f$ to $a$ directly: 9. By way of $d$ and $c$: $2 \cdot 1 \cdot 3 = 6$. Together 15. Reverse
# mode gives the same sum, but never lists the paths: it adds at each node and goes on with one
# number. That is the point, as there can be very many paths (section 9).
#
# The library draws such a picture of any tensor. Inside `debug()` it keeps values and gradients,
# and `plot.graph(result, "graph.svg")` writes the file. Here is the text that it hands to Graphviz,
# a line for each node:

# %%
import scratchlm
from scratchlm import plot

with scratchlm.debug():
    names = [
        Tensor(np.array(value), requires_grad=True, name=name)
        for name, value in [("a", 2.0), ("b", 3.0)]
    ]
    result = program(*names)
    result.backward()
    dot = plot.to_dot(result)
for line in dot.splitlines():
    if "label" in line and "->" not in line:
        print(line.split('label="')[1].split('"')[0].replace("\N{NO-BREAK SPACE}", " "))
assert "grad 15" in dot.replace("\N{NO-BREAK SPACE}", " ")

# %% [markdown]
# ## 9. Break it
#
# ### As printed: a slope with the wrong sign
#
# D1, D3 and D4 print no formula for backpropagation, so there is nothing to run. But one document
# differentiates by hand: in D2 §4.4 a line $\theta_0 + \theta_1 x$ is fitted to points, with
# $\text{error} = y - \text{prediction}$, and the gradients are sums of $\text{error}$ and of
# $\text{error} \cdot x$. The loss that belongs to it is half the sum of squares. Let the check look
# at it:


# %%
def line_as_printed(theta):
    X, Y = np.array([1.0, 2, 3]), np.array([2.0, 4, 7])
    error = Y - (theta[0] + theta[1] * X)

    def vjp(dy):
        return dy * np.array([error.sum(), (error * X).sum()])  # the gradients of D2 §4.4

    return (error * error).sum() / 2, vjp


report = gradcheck(line_as_printed, np.array([0.1, 0.2]))
print(report)
assert report.inputs[0].diagnosis.name == "sign flipped"

# %% [markdown]
# One run, and the checker names it: $\partial \, \text{error} / \partial \theta_0 = -1$ was
# forgotten. Lesson 03 shows what it does to the training.
#
# ### Overwriting: `=` for `+=`
#
# The most common mistake of all: a node that hears twice keeps only what it heard last.

# %%
right = tape.backward


def grad(backward, build, *values, times=1):
    """The gradients that this backward leaves in the leaves of build(leaves)."""
    leaves = [tape.Node(value) for value in values]
    result = build(*leaves)
    for _ in range(times):
        backward(result, 1.0)
    return [leaf.grad for leaf in leaves]


def product(p, q):
    return tape.apply(ops.mul, p, q)


def total(p, q):
    return tape.apply(ops.add, p, q)


for name, build in [("x · x", lambda x: product(x, x)),
                    ("x + x", lambda x: total(x, x)),
                    ("x · x + x", lambda x: total(product(x, x), x))]:  # fmt: skip
    mine, lost = grad(right, build, 5.0)[0], grad(wrong["overwritten"], build, 5.0)[0]
    print(f"{name:10} at x = 5:  slope {mine:4g},  with = for +=  {lost:4g}")
    assert lost < mine
assert grad(right, lambda x: product(x, x), 5.0) == [10]
assert grad(wrong["overwritten"], lambda x: product(x, x), 5.0) == [5]


# %% [markdown]
# The symptom: everything that is used once is right, everything used twice is too small. On a tape
# of numbers a weight is used once for each example, and all but one example is forgotten.
#
# ### Depth first, passing on the running total
#
# Here a node runs its vjp each time something arrives, with all that has arrived so far. What came
# first is passed on twice. A chain of $k$ doublings, $x \to x + x \to \ldots$, has the slope $2^k$:


# %%
def doublings(k):
    def build(x):
        for _ in range(k):
            x = total(x, x)
        return x

    return build


from itertools import pairwise

rows = []
for k in (1, 2, 3, 4, 5):
    mine, over = (grad(each, doublings(k), 1.0)[0] for each in (right, wrong["running total"]))
    rows.append([k, mine, over, over / mine])
table(rows, columns=["doublings", "slope", "with the running total", "factor"])
assert [row[1] for row in rows] == [2, 4, 8, 16, 32]
assert rows[0][3] == 1
assert all(later[3] > 1.4 * earlier[3] for earlier, later in pairwise(rows))

# %% [markdown]
# With one level it is right. Then the error grows, faster at each level. In a deep network it is
# beyond all bounds.
#
# ### Each path by itself
#
# One can mend that by passing on only what has just arrived. The result is right, and the walk
# never ends: it visits every path, and $k$ doublings have $2^k$. We count the calls of `vjp`.


# %%
def counted(backward, k):
    """How many times any vjp runs in a chain of k doublings."""
    calls = 0

    def add(a, b):
        def vjp(dy):
            nonlocal calls
            calls += 1
            return dy, dy

        return a + b, vjp

    x = tape.Node(1.0)
    leaf = x
    for _ in range(k):
        x = tape.apply(add, x, x)
    backward(x, 1.0)
    assert leaf.grad == 2**k
    return calls


rows = [[k, counted(right, k), counted(wrong["each path alone"], k)] for k in (1, 2, 5, 10, 15)]
table(rows, columns=["doublings", "calls, topological", "calls, path by path"])
assert [row[1] for row in rows] == [1, 2, 5, 10, 15]
assert [row[2] for row in rows] == [2**k - 1 for k in (1, 2, 5, 10, 15)]
assert counted(right, 40) == 40

# %% [markdown]
# At 40 doublings the right walk makes 40 calls, the other $10^{12}$. It looks like a program that
# hangs.
#
# ### A call inside a call
#
# The order is easily found by a function that calls itself for each input. It is right, too, until
# the program is long: Python stops at about 1,000 calls inside one another. A recurrent network
# (lesson 15) that reads a page of text makes a chain longer than that.


# %%
def chain(x):
    for _ in range(20_000):
        x = total(x, one)
    return x


one = tape.Node(1.0)
by_recursion = exercises(1)["backward"].mistake("recursion").function
print("right:    ", grad(right, chain, 1.0))
try:
    grad(by_recursion, chain, 1.0)
except RecursionError as error:
    print("recursion: RecursionError,", str(error)[:32])
else:
    raise AssertionError("a chain of 20,000 calls should be too deep")
assert grad(right, chain, 1.0) == [1.0]

# %% [markdown]
# ### Cotangents left over
#
# Some tapes keep the cotangent in `.grad` of *every* node. One backward is right. A second one
# begins with what the first has left in the middle of the graph.

# %%
build = lambda a, b: product(total(product(a, b), b), a)
for times in (1, 2, 3):
    mine = grad(right, build, 2.0, 3.0, times=times)
    left = grad(wrong["kept in the nodes"], build, 2.0, 3.0, times=times)
    print(f"{times} backward: right {mine}, with leftovers {left}")
    assert mine == [15 * times, 6 * times]
assert grad(wrong["kept in the nodes"], build, 2.0, 3.0, times=2)[0] > 30

# %% [markdown]
# The gradient of $a$ should be 15, then 30, then 45: `.grad` adds up on leaves, which is meant (a
# batch may come in parts), and is why a training loop sets it to None before each step.
#
# ### What a training curve shows, and what it hides
#
# Six tapes and ops fit a line $w x + c$ to eight points, by gradient descent. Each has one mistake,
# or none. Before you run it: which of the five wrong ones does the curve betray?

# %%
rng = np.random.default_rng(0)
px = np.linspace(-1, 3, 8)
py = 2 * px - 1 + 0.1 * rng.standard_normal(8)


def mean_square(w, c, xs, ys, mul=ops.mul):
    """The mean of (w·x + c - y)² over the points, as nodes."""
    sum_ = tape.Node(0.0)
    for x, y in zip(xs, ys, strict=True):
        line = tape.apply(ops.add, tape.apply(mul, w, tape.Node(x)), c)
        error = tape.apply(ops.sub, line, tape.Node(y))
        sum_ = tape.apply(ops.add, sum_, tape.apply(mul, error, error))
    return tape.apply(mul, sum_, tape.Node(1 / len(xs)))


def descend(xs, ys, *, steps, rate, start=(0.0, 0.0), backward=right, mul=ops.mul):
    """Points (w, c) and losses of gradient descent."""
    path, losses = [start], []
    for _ in range(steps):
        w, c = (tape.Node(value) for value in path[-1])
        loss = mean_square(w, c, xs, ys, mul)
        backward(loss, 1.0)
        losses.append(loss.value)
        path.append((w.value - rate * w.grad, c.value - rate * c.grad))
    return np.array(path), np.array(losses)


of_mul = {
    name: exercises(1)["mul"].mistake(name).function for name in ("swapped", "cotangent ignored")
}
runs = {"right": {}, "overwritten": {"backward": wrong["overwritten"]},
        "first visit only": {"backward": wrong["first visit only"]},
        "running total": {"backward": wrong["running total"]},
        "mul: swapped": {"mul": of_mul["swapped"]},
        "mul: cotangent ignored": {"mul": of_mul["cotangent ignored"]}}  # fmt: skip
with np.errstate(all="ignore"):  # some of them overflow
    curves = {name: descend(px, py, steps=60, rate=0.1, **each)[1] for name, each in runs.items()}

with style():
    fig, ax = figure(width=7.6, height=3.8)
    looks = ["-", "--", "-.", ":", "--", "-."]
    for (name, losses), dash in zip(curves.items(), looks, strict=True):
        ax.plot(losses, dash, label=name, linewidth=3 if name == "right" else 1.7)
    ax.set(
        yscale="log",
        xlabel="step",
        ylabel="mean squared error",
        title="Fitting a line to eight points",
    )
    ax.set_ylim(1e-3, 1e4)
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
show(
    fig,
    alt=(
        "Loss against step for six versions, logarithmic. The right one and the running total "
        "fall to 0.002 within 40 steps, the running total sooner. Overwritten and first visit "
        "only stay above 1. Swapped and cotangent ignored leave the top of the picture."
    ),
)
table([[name, losses[0], losses[20], losses[-1]] for name, losses in curves.items()],
      columns=["version", "loss, step 0", "step 20", "step 59"], digits=3)  # fmt: skip
assert curves["right"][-1] < 0.005
assert curves["running total"][20] < curves["right"][20]
assert curves["running total"][-1] < 0.005
assert curves["overwritten"][-1] > 1
assert curves["first visit only"][-1] > 1
assert not curves["mul: swapped"][-1] < 1e3
assert curves["mul: cotangent ignored"][-1] > 1e3

for name in ("overwritten", "first visit only"):
    path, _ = descend(px, py, steps=1000, rate=0.1, backward=wrong[name])
    misses = path[-1, 0] * px + path[-1, 1] - py
    print(f"{name}, after 1,000 steps, misses the points by", misses.round(2).tolist())
    assert np.sum(np.abs(misses) < 1e-6) == 1
    assert np.sum(np.abs(misses) > 0.1) >= 6

gradients = {}
for name, backward in [("right", right), ("running total", wrong["running total"])]:
    leaves = [tape.Node(0.0), tape.Node(0.0)]
    backward(mean_square(*leaves, px, py), 1.0)
    gradients[name] = np.array([leaf.grad for leaf in leaves])
factors = gradients["running total"] / gradients["right"]
print(
    "running total, at the start: the slopes along w and c are too large by",
    factors.round(4).tolist(),
)
assert np.allclose(factors, [2.5, 2.0])

# %% [markdown]
# - **Overwritten** and **first visit only** learn, and stop too early. They hear one point of
#   eight: the line goes through that one exactly, and misses the rest. The symptom is a loss that
#   falls and then rests too high. It looks like a model that is too small.
# - **Running total** looks *better* than the right one. Here the slope along $w$ comes out 2.5
#   times too large and that along $c$ twice, which acts like larger learning rates. The curve
#   cannot tell; the gradient check can.
# - **Swapped** and **cotangent ignored** explode.
#
# A loss curve is no test of a gradient. Differences are.

# %% [markdown]
# ## 10. Your turn
#
# Two functions: `mul(a, b)`, which returns `(out, vjp)`, and `backward(node, cotangent)`.
#
# ```
# scratchlm start 1            your copy of the stub
# scratchlm check 1 --watch    checks it each time you save
# scratchlm hint 1             three hints for each, each says more
# scratchlm solution 1         opens when you have passed
# ```
#
# The check runs `backward` on small programs such as `p = x * x; q = p * p; z = p + q`, on random
# ones, on 40 doublings, and on a chain 20,000 long. It knows nine ways to get `mul` wrong and
# eighteen for `backward`, and says which one it sees. Begin with the graph of section 4: you know
# all its numbers.

# %%
from scratchlm.lessons import find_lesson

stub = find_lesson(1).load("exercise")
source(stub.mul, docstring=True)
source(stub.backward, docstring=True)

# %% [markdown]
# ## 11. Cost
#
# Count the arithmetic of one multiplication in a program: 1 operation forward. Its vjp has 2
# multiplications, and each of the two results is added to a total: at most 2 additions. Together 5,
# so **a program with all its slopes costs at most five times the program**, for any number of
# inputs (Baur & Strassen 1983). Differences cost two runs *for each input*. Here both are counted
# for $f = x_1 x_2 \cdots x_n$, all $n$ slopes:


# %%
def operations(n):
    """Multiplications and additions for f alone, f with the tape, and central differences."""
    count = {"*": 0, "+": 0}

    class Number(float):
        """A float that counts."""

        def __mul__(self, other):
            count["*"] += 1
            return Number(float(self) * float(other))

        def __add__(self, other):
            count["+"] += 1
            return Number(float(self) + float(other))

    def f(values):
        y = values[0]
        for x in values[1:]:
            y = y * x
        return y

    values = [Number(1 + 1 / (i + 1) ** 2) for i in range(n)]
    found = []

    def reset():
        found.append(sum(count.values()))
        count.update({"*": 0, "+": 0})

    f(values)
    reset()
    leaves = [tape.Node(x) for x in values]
    y = leaves[0]
    for x in leaves[1:]:
        y = tape.apply(solution(1).mul, y, x)
    tape.backward(y, Number(1.0))
    reset()
    measured = []
    for i in range(n):
        up, down = ([*values[:i], Number(values[i] + h), *values[i + 1 :]] for h in (1e-5, -1e-5))
        measured.append((f(up) - f(down)) / 2e-5)
    reset()
    assert np.allclose(measured, [x.grad for x in leaves], rtol=1e-8)
    return found


rows = []
for n in (10, 100, 500):
    alone, taped, differences = operations(n)
    rows.append([n, alone, taped, differences, taped / alone, differences / alone])
table(
    rows,
    columns=[
        "inputs",
        "f alone",
        "tape: f and gradient",
        "differences",
        "tape / f",
        "differences / f",
    ],
)
assert all(row[4] == 3 for row in rows)  # here no value is used twice: nothing to add
assert all(row[5] >= 2 * row[0] for row in rows)

# %% [markdown]
# The factor is 3 for the tape, whatever $n$ is, and $2n$ for differences. GPT-2 (small) has 124
# million parameters. If one run takes a tenth of a second:

# %%
days = 2 * 124e6 * 0.1 / 86_400
print(f"central differences: {days:.0f} days for one gradient;  backward: about 0.3 seconds")
assert 280 < days < 290

# %% [markdown]
# The price is **memory**. Differences keep nothing. The tape keeps every value that a vjp will
# need, from forward until backward has passed by: for `mul` both inputs, for `add` nothing.
#
# | op | operations forward | in the vjp | kept for backward |
# |---|---|---|---|
# | `add` | 1 | 0 | nothing |
# | `mul` | 1 | 2 | `a` and `b` |
# | fan-out to $k$ consumers | 0 | $k - 1$ additions | the total |
#
# This is why training needs far more memory than running a model: all the intermediate values of
# the whole program wait for their turn. Later lessons count them op by op.

# %% [markdown]
# ## 12. Use it
#
# ### Zipf's law, found by descent
#
# How often does the second most frequent word of a text occur, compared with the first? And the
# hundredth? Zipf (1935) saw that frequency falls as a power of the rank: a straight line if both
# are drawn as logarithms. The text is Python's own help, which comes with every Python. The model
# is the line $\log n = w \log r + c$; its two parameters are found with the tape of this lesson,
# and nothing else.

# %%
import re
from collections import Counter

from scratchlm.data import load

words = re.findall("[a-z]+", load("topics").lower())
counts = Counter(words).most_common()
ranks = np.unique(
    np.geomspace(1, 1000, 60).round().astype(int)
)  # evenly spread on the logarithmic axis
log_rank = np.log10(ranks)
log_count = np.log10([counts[r - 1][1] for r in ranks])
print(
    f"{len(words):,} words, {len(counts):,} different; {len(ranks)} ranks from 1 to 1000 are used"
)
table([[r, counts[r - 1][0], counts[r - 1][1]] for r in (1, 2, 3, 10, 100, 1000)],
      columns=["rank", "word", "occurs"])  # fmt: skip

seed, rate, STEPS = 0, 0.15, 250
start = tuple(np.random.default_rng(seed).uniform(-1, 1, 2))
path, losses = descend(log_rank, log_count, steps=STEPS, rate=rate, start=start)
w, c = path[-1]
table([[step, losses[step], *path[step]] for step in (0, 1, 2, 5, 20, 100, STEPS - 1)],
      columns=["step", "loss", "slope w", "intercept c"])  # fmt: skip

# %% [markdown]
# The referee is the closed form for a line (lesson 03 derives it). Its loss is the lowest possible.

# %%
best_w, best_c = np.polyfit(log_rank, log_count, 1)
residual = log_count - (w * log_rank + c)
explained = 1 - residual.var() / log_count.var()
print(f"descent:      w = {w:.4f}, c = {c:.4f}")
print(f"closed form:  w = {best_w:.4f}, c = {best_c:.4f}")
print(f"the line explains {explained:.1%} of the variance; a word of rank r occurs about "
      f"{10**c:,.0f} · r^{w:.2f} times")  # fmt: skip
assert abs(w - best_w) < 1e-3
assert abs(c - best_c) < 1e-3
assert -1.15 < w < -0.75  # the recorded threshold: Zipf's exponent is about -1
assert explained > 0.95
assert (np.diff(losses) < 0).all()  # at this rate, every step goes down

# %% [markdown]
# Now look at both. Left: where do the words leave the line? Right: the loss as a landscape over $w$
# and $c$, and the path. The start is the white circle, the star is the closed form. Before you run
# it: at which angle to its contour does each step set out?

# %%
grid_w, grid_c = np.meshgrid(np.linspace(-3.3, 3.3, 160), np.linspace(-1.5, 5.5, 160))
landscape = ((grid_w[..., None] * log_rank + grid_c[..., None] - log_count) ** 2).mean(axis=-1)

with style():
    fig, (left, right_ax) = figure(1, 2, width=8.8, height=4.2)
    left.plot(ranks, 10**log_count, "o", markersize=4, color="#0072B2", label="words")
    left.plot(ranks, 10 ** (w * log_rank + c), color="#D55E00", label=f"fitted, slope {w:.2f}")
    for r in (1, 10, 100):
        place = {"xytext": (7, 7), "textcoords": "offset points", "fontsize": 9}
        left.annotate(counts[r - 1][0], (r, counts[r - 1][1]), **place)
    left.set(xscale="log", yscale="log", xlabel="rank of the word", ylabel="how often it occurs",
             title="Words of Python's help")  # fmt: skip
    left.legend(loc="lower left")
    right_ax.contour(
        grid_w,
        grid_c,
        landscape,
        levels=np.geomspace(0.02, 40, 14),
        colors="#b4b4b4",
        linewidths=0.7,
    )
    right_ax.plot(*path.T, ".-", color="#0072B2", markersize=4, linewidth=1)
    right_ax.plot(*path[0], "o", color="black", markerfacecolor="white", markersize=8)
    right_ax.plot(best_w, best_c, "*", color="black", markerfacecolor="#f7d038", markersize=14)
    right_ax.set(xlabel="slope w", ylabel="intercept c", title=f"The path of {STEPS} steps")
    right_ax.set_aspect("equal")  # or angles would not be what they seem
show(
    fig,
    alt=(
        "Left: word counts against rank, both axes logarithmic, close to a falling line; the "
        "first words lie a little below it. Right: elliptic contours of the loss over slope and "
        "intercept; the path leaps to and fro across a narrow valley and then creeps along it "
        "to the star."
    ),
)

for r in (2, 50, 1000):
    said = 10 ** (w * math.log10(r) + c)
    word, found = counts[r - 1]
    print(f"rank {r:4}: {word!r} occurs {found:,} times, the line says {said:,.0f}")
assert counts[1][1] < 10 ** (w * math.log10(2) + c)
assert counts[999][1] < 10 ** (w * 3 + c)

# %% [markdown]
# Left: at both ends. The second word and the thousandth occur less often than the line says. A
# power law is a rule of thumb for the middle; and at the far end, a text of this length has run out
# of words.
#
# Right: at a right angle. Along a contour the loss does not change, so the slope in that direction
# is 0, and the gradient has no part in it. All of it points across, uphill; a step of
# $-\alpha \nabla$ goes down the steepest way. Here is the proof in two lines. A small step $\delta$
# changes the loss by $\nabla f \cdot \delta = |\nabla f| |\delta| \cos \varphi$ (step 2 of section
# 6). That is 0 at 90°, and least, for a given length, at 180°.
#
# But steepest is not shortest: the path leaps across a valley and then creeps along its floor.
# Lesson 06 is about that. The gradient at the start, and the same from differences:

# %%
nodes = [tape.Node(value) for value in start]
tape.backward(mean_square(*nodes, log_rank, log_count), 1.0)
gradient = np.array([node.grad for node in nodes])


def loss_at(w, c):
    return np.mean((w * log_rank + c - log_count) ** 2)


w0, c0 = start
measured = np.array([slope(lambda w: loss_at(w, c0), w0), slope(lambda c: loss_at(w0, c), c0)])
across = np.array([-gradient[1], gradient[0]]) / np.linalg.norm(gradient)  # along the contour
uphill = gradient / np.linalg.norm(gradient)
rows = []
for name, direction in [
    ("downhill, -∇f", -uphill),
    ("along the contour", across),
    ("uphill, ∇f", uphill),
]:
    rate_of_change = slope(lambda t, d=direction: loss_at(*(start + t * d)), 0.0)
    rows.append([name, rate_of_change, float(gradient @ direction)])
table(rows, columns=["direction, length 1", "change of the loss, measured", "∇f · direction"])
assert np.abs(gradient - measured).max() < 1e-7
assert abs(rows[1][1]) < 1e-7
assert all(abs(row[1] - row[2]) < 1e-7 for row in rows)

# %% [markdown]
# ## 13. Recap
#
# 1. A function has a million inputs and one output. How often must you run it for a gradient by
#    central differences, and how often by reverse mode? What does reverse mode pay instead?
# 2. Your check says that a gradient is right where a value is used once, and half of what it should
#    be for $x \cdot x$. Which line of the tape do you look at?
# 3. You check a gradient with $h = 10^{-12}$ and find an error of $10^{-4}$. Is the gradient wrong?
#
# Answers: (1) Two million runs; one run forward and one walk back, for about five times the
# arithmetic of one run, and the memory of all intermediate values. (2) The one that adds up: `=`
# where `+=` belongs. (3) Nobody knows: $u / h = 10^{-4}$ is the rounding error of that step. Try
# $6 \cdot 10^{-6}$.
#
# | English | 中文 |
# |---|---|
# | gradient, partial derivative | 梯度, 偏导数 |
# | chain rule | 链式法则 |
# | backpropagation, reverse mode | 反向传播, 反向模式 |
# | automatic differentiation | 自动微分 |
# | computational graph, node | 计算图, 节点 |
# | topological order | 拓扑序 |
# | Jacobian | 雅可比矩阵 |
# | central difference | 中心差分 |
# | rounding error, truncation error | 舍入误差, 截断误差 |
# | gradient descent | 梯度下降 |
#
# **References.** S. Linnainmaa, *Taylor expansion of the accumulated rounding error*, BIT 16
# (1976). D. Rumelhart, G. Hinton & R. Williams, *Learning representations by back-propagating
# errors*, Nature 323 (1986). W. Baur & V. Strassen, *The complexity of partial derivatives*,
# Theoretical Computer Science 22 (1983). A. Griewank & A. Walther, *Evaluating Derivatives*, 2nd
# ed. (2008). J. Nocedal & S. Wright, *Numerical Optimization*, 2nd ed. (2006), §8.1. A. Baydin et
# al., *Automatic differentiation in machine learning: a survey*, JMLR 18 (2018). G. Zipf, *The
# Psycho-Biology of Language* (1935).
#
# **Next:** lesson 02 derives the vjp of the activation functions; lesson 03 descends on a loss
# whose gradient is printed with the wrong sign; lesson 05 has the first op whose Jacobian is not
# diagonal.
