# %% [markdown]
# # 09 · Convolution · 卷积
#
# A linear layer looks at a picture as at a list of numbers: move the picture by two pixels, and it
# sees another list. A convolution looks through a small window and moves the window over the whole
# picture. What it has learned in one corner it knows in every other. And the same layer, with steps
# as large as its window, turns a picture into the kind of sequence that a language model reads.

# %% [markdown]
# ## 1. Card
#
# You need the linear layer and its gradients (lesson 04) and the cross-entropy (lesson 05); the
# networks are trained with Adam (lesson 06). At the end you have written a convolution with stride
# and padding, and its three gradients.

# %%
import math
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.ft2font import FT2Font

import scratchlm
from scratchlm import Tensor, nn, ops, optim, plot
from scratchlm import functional as F
from scratchlm.gradcheck import error_by_step, gradcheck
from scratchlm.lessons import card, exercises, figure, show, solution, source, table

card(9)

# %% [markdown]
# ## 2. Hook
#
# First we need pictures. No download: matplotlib brings fonts along, and a font is a set of drawn
# digits. The function below draws a digit in one of them, 11 to 13 pixels high. `draw` puts digits
# into pictures of 20 by 20, at a place of its choice, with noise on top.

# %%
FONTS = Path(mpl.get_data_path(), "fonts", "ttf")
STYLES = ["", "-Bold", "-Oblique", "-BoldOblique"]
SEEN = [f"DejaVuSans{style}" for style in STYLES]
SEEN += [f"DejaVuSansMono{style}" for style in STYLES]
SEEN += [f"DejaVuSerif{style.replace('Oblique', 'Italic')}" for style in STYLES]
SEEN += ["STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"]
UNSEEN = ["cmr10", "cmb10", "cmss10", "cmti10", "cmtt10"]
SIDE = 20


def glyph(face, digit, height):
    """A digit as the face draws it, [height, width], 0 is paper and 1 is ink."""
    font = FT2Font(str(FONTS / f"{face}.ttf"))
    font.set_size(1.37 * height, 72)  # a digit is about 0.73 of the size of its font
    font.set_text(str(digit), 0.0)
    font.draw_glyphs_to_bitmap(antialiased=True)
    ink = np.array(font.get_image(), np.float32) / 255
    return ink[np.ix_(ink.any(axis=1), ink.any(axis=0))]


HEIGHTS = (11, 12, 13)
GLYPHS = {
    (face, digit, height): glyph(face, digit, height)
    for face in SEEN + UNSEEN
    for digit in range(10)
    for height in HEIGHTS
}


def draw(faces, n, rng, *, wander=3, move=(0, 0), noise=0.15):
    """Pictures [n, 1, 20, 20] and their digits [n]: centered, moved, and up to `wander` off."""
    x = noise * rng.standard_normal((n, 1, SIDE, SIDE), dtype=np.float32)
    digits, face, size = (rng.integers(0, k, n) for k in (10, len(faces), len(HEIGHTS)))
    off = np.array(move) + rng.integers(-wander, wander + 1, (n, 2))
    drawn = zip(x[:, 0], digits.tolist(), face.tolist(), size.tolist(), off.tolist(), strict=True)
    for picture, d, f, s, (down, right) in drawn:
        ink = GLYPHS[faces[f], d, HEIGHTS[s]]
        height, width = ink.shape
        top = max(0, min((SIDE - height) // 2 + down, SIDE - height))
        left = max(0, min((SIDE - width) // 2 + right, SIDE - width))
        picture[top : top + height, left : left + width] += ink
    return x, digits


# %% [markdown]
# Now a linear layer with a softmax learns ten digits of one face. They always stand in the middle.
# Then we move them by two or three pixels to the right. How much does it still know? (Guessing is
# right in one case of ten.)


# %%
def accuracy(model, x, digits):
    with scratchlm.no_grad():
        return float((model(Tensor(x)).data.argmax(axis=1) == digits).mean())


def train(model, steps, *, faces=SEEN, lr=5e-3, wander=3, seed=0):
    """The losses; 32 new pictures for each step."""
    rng, losses = np.random.default_rng(seed), []
    optimizer = optim.Adam(model.parameters(), lr=lr)
    for _ in range(steps):
        x, digits = draw(faces, 32, rng, wander=wander)
        loss = F.cross_entropy(model(Tensor(x)), digits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    return np.array(losses)


class Linear(nn.Module):
    """Every pixel has a weight of its own for every digit."""

    def __init__(self):
        self.layer = nn.Linear(SIDE * SIDE, 10, rng=0)

    def forward(self, x):
        return self.layer(x.reshape(len(x), -1))


one_face, one_linear = ["DejaVuSans"], Linear()
train(one_linear, 150, faces=one_face, wander=0)
moved = {
    k: accuracy(one_linear, *draw(one_face, 500, np.random.default_rng(1), wander=0, move=(0, k)))
    for k in (0, 1, 2, 3)
}
table([["linear layer", *moved.values()]], columns=["moved by", *map(str, moved)], digits=3)
assert moved[0] > 0.99
assert moved[3] < 0.35

# %% [markdown]
# It has not learned what a 7 looks like. It has learned which pixels are black when a 7 stands in
# the middle. Now one small filter of 3 by 3, moved over the picture. Its result, a *feature map*, is
# a picture again. Move the digit, and the map moves with it, to the last bit:

# %%
paper = np.zeros((1, 1, SIDE, SIDE))
paper[0, 0, 4:17, 5 : 5 + GLYPHS["DejaVuSans", 7, 13].shape[1]] = GLYPHS["DejaVuSans", 7, 13]
corner = np.array([[[[0.0, -1.0, -1.0], [1.0, 1.0, -1.0], [0.0, 1.0, 0.0]]]])  # [1, 1, 3, 3]
here, _ = ops.conv2d(paper, corner, padding=1)
there, _ = ops.conv2d(np.roll(paper, 3, axis=3), corner, padding=1)
assert (there == np.roll(here, 3, axis=3)).all()
print("the map of the moved 7 is the moved map of the 7; the filter has", corner.size, "numbers")

# %% [markdown]
# ## 3. Formula
#
# D1 §2.2.2 names the convolutional neural network among three kinds of deep network, as the one for
# pictures, and D1 §8.2 expects language models to take in pictures and sound beside text. Neither
# prints a formula. As published (LeCun et al. 1989, §3; with channels and stride Goodfellow et al.
# 2016, eq. 9.8):
#
# $$
# y_{opq} = b_o + \sum_{c} \sum_{i} \sum_{j} \bar{x}_{c, \, sp+i, \, sq+j} \, W_{ocij}
# $$
#
# In words: lay the filter $o$ on the picture with its corner at row $sp$ and column $sq$, multiply
# what lies on each other, add up.
#
# | symbol | variable | shape | what it is |
# |---|---|---|---|
# | $x$ | `x` | `[B, C, H, W]` | pictures of $C$ channels (gray: 1, color: 3); $B$ of them |
# | $\bar{x}$ | `padded` | `[B, C, H+2p, W+2p]` | with `padding` rows and columns of zeros around |
# | $W$ | `weight` | `[O, C, kh, kw]` | a filter (kernel) for each output channel |
# | $b$ | `bias` | `[O]` | one number for each filter, the same at all places |
# | $y$ | `y` | `[B, O, H', W']` | a feature map for each filter |
# | $s$ | `stride` | a number | from one place of the filter to the next |
#
# The number of places (Dumoulin & Visin 2016, relationship 6). The first place is free, each
# further one takes $s$ pixels of what is left over:
#
# $$
# H^{\prime} = \left\lfloor \frac{H + 2p - k_h}{s} \right\rfloor + 1
# $$
#
# **The name is wrong, and everybody uses it.** In mathematics a convolution turns the filter
# round, $\sum_{ij} x_{p-i, \, q-j} W_{ij}$ (Goodfellow et al. 2016, eq. 9.5). The sum above, with plus
# signs, is a cross-correlation (eq. 9.6). All deep learning libraries compute the second and call it
# the first. Section 9 measures what happens when the two are mixed up. In section 6 the minus signs
# come back by themselves.

# %% [markdown]
# ## 4. By hand
#
# A picture of 2 by 3, one channel, a filter of 2 by 2, bias 1, no padding, stride 1. The filter
# fits in $3 - 2 + 1 = 2$ places.

# %%
x = np.array([[1.0, 2.0, 0.0], [3.0, 1.0, 2.0]])
w = np.array([[1.0, 0.0], [-1.0, 2.0]])
b = 1.0
y = np.zeros(2)
for q in range(2):
    patch = x[:, q : q + 2]
    y[q] = (patch * w).sum() + b
    terms = " + ".join(f"{p:g}·{v:g}" for p, v in zip(patch.ravel(), w.ravel(), strict=True))
    print(f"place {q}: patch {patch.tolist()}:  {terms} + {b:g} = {y[q]:g}")
assert y.tolist() == [1.0, 6.0]

# %% [markdown]
# And backward, with the cotangent $dy = (1, -2)$: the loss grows by 1 for each unit of $y_0$ and
# falls by 2 for each unit of $y_1$. Each place sends back to its patch $dy$ times the filter. The
# middle column of $x$ lies in both patches and gets the sum.

# %%
dy = np.array([1.0, -2.0])
db = dy.sum()
dw, dx = np.zeros((2, 2)), np.zeros((2, 3))
for q in range(2):
    dw += dy[q] * x[:, q : q + 2]
    dx[:, q : q + 2] += dy[q] * w
    print(f"place {q}: to w {(dy[q] * x[:, q : q + 2] + 0.0).tolist()}, to its patch "
          f"{(dy[q] * w + 0.0).tolist()}")  # fmt: skip
print(f"db = {db:g},  dw = {dw.tolist()},  dx = {(dx + 0.0).tolist()}")
assert dw.tolist() == [[-3, 2], [1, -3]]
assert dx.tolist() == [[1, -2, 0], [-1, 4, -4]]

out, vjp = ops.conv2d(x[None, None], w[None, None], np.array([b]))
for found, mine in zip((out, *vjp(dy[None, None, None])), (y, dx, dw, db), strict=True):
    assert (found.squeeze() == mine).all()

# %% [markdown]
# ## 5. In code
#
# With loops, exactly as the formula says: for each picture, filter and place, a sum over channels and
# pixels.


# %%
def conv2d_loops(x, weight, bias, stride=1, padding=0):
    B, C, H, W = x.shape
    O, _, kh, kw = weight.shape
    padded = np.zeros((B, C, H + 2 * padding, W + 2 * padding))
    padded[:, :, padding : padding + H, padding : padding + W] = x
    rows = (H + 2 * padding - kh) // stride + 1
    columns = (W + 2 * padding - kw) // stride + 1
    y = np.zeros((B, O, rows, columns))
    for n, o, p, q in np.ndindex(*y.shape):
        y[n, o, p, q] = bias[o]
        for c, i, j in np.ndindex(C, kh, kw):
            y[n, o, p, q] += padded[n, c, stride * p + i, stride * q + j] * weight[o, c, i, j]
    return y


# %% [markdown]
# With NumPy, turn it inside out. Instead of asking *which pixels does place $(p, q)$ see*, ask
# *where does pixel $(i, j)$ of the filter fall, for all places at once*. That is a slice with steps:
# it begins at row $i$ and column $j$ and goes on by the stride. Stack the slices of all $k_h k_w$
# pixels, and each place has its patch. Lay the patches out as rows of a matrix $X$, the filters as
# rows of a matrix $F$: it is the linear layer of lesson 04.
#
# $$
# Y = X F^T + b
# $$

# %%
source(solution(9).conv2d)

# %% [markdown]
# The library's op does the same with the axes the other way round (patches as columns), for NumPy
# and for a GPU. It also knows a dilation, which pulls the pixels of the filter apart, and groups of
# channels that do not see each other.

# %%
source(ops.conv2d)

# %%
rng = np.random.default_rng(9)
X, WEIGHT, BIAS = rng.standard_normal((2, 3, 7, 6)), rng.standard_normal((4, 3, 3, 2)), np.ones(4)
for stride, padding in [(1, 0), (1, 1), (2, 0), (2, 1), (3, 2)]:
    options = {"stride": stride, "padding": padding}
    library, _ = ops.conv2d(X, WEIGHT, BIAS, **options)
    for version in (conv2d_loops(X, WEIGHT, BIAS, **options),
                    solution(9).conv2d(X, WEIGHT, BIAS, **options)[0]):  # fmt: skip
        assert np.abs(version - library).max() < 1e-13  # sums of 18 products of size 1
    print(f"stride {stride}, padding {padding}: {X.shape} -> {library.shape}, all three equal")

# %% [markdown]
# ### It is a linear layer, with most weights tied
#
# A convolution is linear in $x$, so some matrix $T$ does it: $y = T x$ with the picture as one long
# vector. Column $m$ of $T$ is the answer to a picture in which only pixel $m$ is 1. For a picture of
# 6 by 6 and a filter of 3 by 3:


# %%
def as_matrix(kernel, side):
    """T [places, pixels], for one channel."""
    pixels = np.eye(side * side).reshape(-1, 1, side, side)
    return ops.conv2d(pixels, kernel)[0].reshape(side * side, -1).T


kernel = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
T = as_matrix(kernel, 6)
flat = rng.standard_normal(36)
assert np.allclose(T @ flat, ops.conv2d(flat.reshape(1, 1, 6, 6), kernel)[0].ravel())
print(f"T is {T.shape[0]} × {T.shape[1]}: {T.size} weights, of which {np.count_nonzero(T)} are not "
      f"0, and these have {len(np.unique(T[T != 0]))} different values")  # fmt: skip
assert np.count_nonzero(T) == 16 * 9

# %% [markdown]
# Two assumptions make a convolution out of a linear layer. *Locality*: a place sees only what is
# near, all other weights are 0. *Sharing*: all places have the same weights. The picture of $T$ shows
# both. Look for the diagonals, and for the gaps between them. Before you look: nine diagonals, why
# in three groups?

# %%
ax = plot.heatmap(T, title="A convolution as the matrix of a linear layer", values=False)
ax.set(xlabel="pixel of x (36, row by row)", ylabel="place (16)")
show(
    ax,
    alt="A matrix of 16 rows and 36 columns, dark but for nine short diagonals in three groups of "
    "three. Each diagonal has one color. Every four rows the pattern jumps by two columns.",
)

# %% [markdown]
# One group for each row of the filter: three pixels side by side in the picture are neighbors in
# the long vector, the next row of the filter comes six numbers later. The jump every four rows is
# where the filter begins a new line.

# %% [markdown]
# ## 6. Backward, derived
#
# Write $dy_{opq}$ for $\partial L / \partial y_{opq}$, with $L$ the number at the end of the program,
# and $dx$, $dW$, $db$ alike. The index of the picture in the batch is left out until it matters. After
# each step central differences have to agree, on two pictures with two channels, three filters and
# stride 2.

# %%
rng = np.random.default_rng(6)
x, w, b = (
    rng.standard_normal((2, 2, 6, 5)),
    rng.standard_normal((3, 2, 3, 2)),
    rng.standard_normal(3),
)
s = 2
y, library_vjp = ops.conv2d(x, w, b, stride=s)
dy = rng.standard_normal(y.shape)  # [2, 3, 2, 2]
B, O, rows, columns = y.shape
kh, kw = 3, 2


def loss(x, w, b):
    return (dy * ops.conv2d(x, w, b, stride=s)[0]).sum()


def slopes(f, x, h=1e-3):
    """The central difference of the number f(x) for each element of x."""
    out = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[index] = h
        out[index] = (f(x + step) - f(x - step)) / (2 * h)
    return out


def agree(name, mine, measured):
    assert mine.shape == measured.shape
    assert np.abs(mine - measured).max() < 1e-9  # rounding over the step: 1e-16 · 100 / 1e-3
    print(f"{name}: agrees with central differences to {np.abs(mine - measured).max():.0e}")


# %% [markdown]
# ### Step 1: the bias
#
# $b_o$ stands in $y_{opq}$ of every place $(p, q)$ of every picture $n$, with the factor 1. The chain
# rule adds up all paths:
#
# $$
# db_o = \sum_n \sum_{p,q} dy_{nopq}
# $$

# %%
db = dy.sum(axis=(0, 2, 3))  # [B, O, H', W'] -> [O]
agree("db", db, slopes(lambda b: loss(x, w, b), b))

# %% [markdown]
# ### Step 2: the weights
#
# $W_{ocij}$ is used at every place too. At $(p, q)$ it is multiplied by the pixel that lies under it:
#
# $$
# \frac{\partial y_{opq}}{\partial W_{ocij}} = x_{c, \, sp+i, \, sq+j}
# $$
#
# $$
# dW_{ocij} = \sum_n \sum_{p,q} dy_{nopq} \, x_{nc, \, sp+i, \, sq+j}
# $$
#
# Compare it with the formula of forward. $x$ is there, in the same way. Where forward summed over
# $i, j$ with $W$, this sums over $p, q$ with $dy$. So it is a convolution of $x$ with $dy$ as the
# filter; $p$ has the factor $s$, so the filter's pixels are $s$ apart (that is what dilation means),
# and the batch takes the part of the channels.

# %%
dw = np.zeros_like(w)
for o, c, i, j in np.ndindex(*w.shape):
    for n, p, q in np.ndindex(B, rows, columns):
        dw[o, c, i, j] += dy[n, o, p, q] * x[n, c, s * p + i, s * q + j]
agree("dW", dw, slopes(lambda w: loss(x, w, b), w))

swap = lambda a: a.swapaxes(0, 1)  # pictures for channels
again, _ = ops.conv2d(swap(x), swap(dy), dilation=s)  # [C, O, more or less kh, kw]
assert np.allclose(swap(again)[:, :, :kh, :kw], dw)
print("dW is x convolved with dy")

# %% [markdown]
# ### Step 3: the picture
#
# Which results does the pixel $x_{cuv}$ touch? Those of all places $(p, q)$ that see it: there is a
# pixel $(i, j)$ of the filter with $sp + i = u$ and $sq + j = v$. The factor is that weight:
#
# $$
# dx_{cuv} = \sum_o \sum_{p,q,i,j : \, sp+i=u, \, sq+j=v} dy_{opq} \, W_{ocij}
# $$
#
# In code one does not look for such places. Go through all places and all pixels of the filter, and
# *add* each product to the pixel it belongs to. This is forward's loop with the arrow turned: where
# forward reads, backward adds.

# %%
dx = np.zeros_like(x)
for n, o, p, q in np.ndindex(*dy.shape):
    for c, i, j in np.ndindex(2, kh, kw):
        dx[n, c, s * p + i, s * q + j] += dy[n, o, p, q] * w[o, c, i, j]
agree("dx", dx, slopes(lambda x: loss(x, w, b), x))

# %% [markdown]
# With stride 1 the condition can be solved: $p = u - i$ and $q = v - j$.
#
# $$
# dx_{cuv} = \sum_o \sum_{i,j} dy_{o, \, u-i, \, v-j} \, W_{ocij}
# $$
#
# There are the minus signs of section 3. **The gradient of a cross-correlation is a true
# convolution**, of $dy$ with the filters. To write it with plus signs put $i = k_h - 1 - i'$ and
# $j = k_w - 1 - j'$, that is, read the filter from its end:
#
# $$
# dx_{cuv} = \sum_o \sum_{i',j'} dy_{o, \, u-(k_h-1)+i', \, v-(k_w-1)+j'} \, W_{oc, \, k_h-1-i', \, k_w-1-j'}
# $$
#
# So: pad $dy$ with $k_h - 1$ and $k_w - 1$ zeros on each side, turn each filter by half a circle,
# exchange the parts of $O$ and $C$, and run forward.

# %%
y1, vjp1 = ops.conv2d(x, w, b)
dy1 = rng.standard_normal(y1.shape)
half_turn = w[:, :, ::-1, ::-1].swapaxes(0, 1)  # [C, O, kh, kw]
dx1, _ = ops.conv2d(dy1, half_turn, padding=(kh - 1, kw - 1))
assert np.allclose(dx1, vjp1(dy1)[0])
print("stride 1: dx is dy convolved with the filters, turned")

# %% [markdown]
# A stride leaves places out. Put them back as places that send nothing, $s - 1$ zeros between one
# $dy$ and the next, and the same sentence holds.

# %%
spread = np.zeros((B, O, y1.shape[2], y1.shape[3]))
spread[:, :, ::s, ::s] = dy
assert np.allclose(ops.conv2d(spread, half_turn, padding=(kh - 1, kw - 1))[0], dx)
print("stride 2: the same, with zeros between the numbers of dy")

# %% [markdown]
# ### The matrix form
#
# With patches as rows, lesson 04 has derived it all: $Y = X F^T + b$ gives
#
# $$
# db = \sum_n dY_n, \quad dF = dY^T X, \quad dX = dY F
# $$
#
# One step is left. $X$ holds copies: a pixel of the picture stands in it once for every patch that
# sees it. Copying is fan-out (lesson 01), so the gradients of all copies are added. For each pixel
# $(i, j)$ of the filter forward has *read* a slice, and backward *adds to the same slice*. Inside one
# slice no pixel comes twice; between slices the `+=` takes care.

# %%
source(solution(9).conv2d, "vjp")

# %%
ours = solution(9).conv2d(x, w, b, stride=s)[1](dy)
for name, mine, theirs, derived in zip(
    ("dx", "dW", "db"), ours, library_vjp(dy), (dx, dw, db), strict=True
):
    assert np.abs(mine - derived).max() < 1e-13
    assert np.abs(theirs - derived).max() < 1e-13
    print(f"{name}: the loops, the matrices and the library are equal")

# %% [markdown]
# And with the big matrix $T$ of section 5: $y = Tx$, so $dx = T^T dy$. Where forward went from 36
# pixels to 16 places, backward goes from 16 to 36. Networks that draw pictures use exactly this map
# in *forward*. It is called the transposed convolution.

# %%
_, kernel_vjp = ops.conv2d(flat.reshape(1, 1, 6, 6), kernel)
back = rng.standard_normal(16)
assert np.allclose(T.T @ back, kernel_vjp(back.reshape(1, 1, 4, 4))[0].ravel())
print("dx = Tᵀ dy: from", T.shape[0], "numbers to", T.shape[1])

# %% [markdown]
# ## 7. Gradient check, live
#
# Random cotangents, every element of all three inputs. First plain, then with stride and padding.

# %%
from functools import partial

report = gradcheck(ops.conv2d, X, WEIGHT, BIAS)
print(report)
assert report
strided = partial(ops.conv2d, stride=2, padding=1)
assert gradcheck(strided, X, WEIGHT, BIAS)
assert gradcheck(partial(solution(9).conv2d, stride=2, padding=1), X, WEIGHT, BIAS)

# %% [markdown]
# Now the error against the step size $h$. Lesson 01 had a V: at the left rounding, at the right the
# third derivative of the function. Before you run it: what is the third derivative of a convolution
# with respect to one pixel?

# %%
small = X[:1, :, :5, :4], WEIGHT[:2], BIAS[:2]
steps, plain = error_by_step(ops.conv2d, *small)


def bent(x, w, b):
    """tanh behind the convolution."""
    y, vjp = ops.conv2d(x, w, b)
    t, tanh_vjp = ops.tanh(y)
    return t, lambda dt: vjp(tanh_vjp(dt))


_, curved = error_by_step(bent, 0.3 * small[0], 0.3 * small[1], small[2])
ax = plot.gradcheck_curve(
    steps,
    {"convolution": plain, "tanh(convolution)": curved},
    title="convolution: error against step",
)
show(
    ax,
    alt="Error against step, both axes logarithmic. The curve of the convolution only falls toward "
    "larger steps; the one with tanh behind it is a V with its lowest point near 1e-5.",
)
assert plain[steps.argmax()] < 1e-11 < curved[steps.argmax()]

# %% [markdown]
# It is 0, and so is the second. A convolution is linear in the picture, and linear in the filter,
# so the central difference has no error but rounding, and the larger the step the better. The right
# arm of the V comes with the tanh.

# %% [markdown]
# ## 8. See it
#
# ### Filters made by hand
#
# A filter answers most where the picture looks like the filter. These four have names. Blue is
# below zero, red above, white is nothing.
#
# Before you run it: the second filter has a row of ones above a row of minus ones. At which edge of
# the horizontal bar of the 7 is its answer red, at the upper or at the lower one?

# %%
HAND = {
    "left edge": [[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]],
    "lower edge": [[1, 1, 1], [0, 0, 0], [-1, -1, -1]],
    "rising line": [[-1, -1, 2], [-1, 2, -1], [2, -1, -1]],
    "mean": [[1, 1, 1], [1, 1, 1], [1, 1, 1]],
}
hand = np.array(list(HAND.values()), float)[:, None] / 3  # [4, 1, 3, 3]
maps, _ = ops.conv2d(paper, hand, padding=1)  # [1, 4, 20, 20]

with plot.style():
    fig, axes = figure(2, 5, width=9.0, height=3.9)
    for ax in axes.ravel():
        ax.set(xticks=[], yticks=[])
    axes[0, 0].imshow(paper[0, 0], cmap="gray_r")
    axes[0, 0].set_title("the picture")
    axes[1, 0].axis("off")
    for k, name in enumerate(HAND):
        axes[1, k + 1].imshow(hand[k, 0], cmap="RdBu_r", vmin=-1, vmax=1)
        axes[0, k + 1].imshow(maps[0, k], cmap="RdBu_r", vmin=-2, vmax=2)
        axes[0, k + 1].set_title(f"map: {name}")
        axes[1, k + 1].set_xlabel("its filter")
show(
    fig,
    alt="A 7 and its four feature maps, each above its filter. The left-edge map is red along the "
    "left of the stem and blue along its right; the lower-edge map is blue above the bar and red "
    "below it; the rising line is red along the stem; the mean is a blurred 7.",
)
bar_top, bar_bottom = maps[0, 1, 3, 9], maps[0, 1, 6, 7]
print(f"lower-edge filter above the bar: {bar_top:.2f}, below it: {bar_bottom:.2f}")
assert bar_top < 0 < bar_bottom

# %% [markdown]
# At the lower one: ink above, paper below is what the filter looks like. Above the bar it sees the
# opposite and answers with the opposite sign. That is why a ReLU follows: it keeps *here it is* and
# drops *here is the opposite*.
#
# ### Moved pictures, again
#
# Three networks learn digits that always stand in the middle. One is a linear layer with a hidden
# layer (52,618 numbers). Two are convolutions (1,546 numbers each): two layers, then each map is
# replaced by its largest number, so that nothing is left of *where*. They differ in one thing: one
# has stride 1 in both layers, the other stride 2. Then the digits are moved.
#
# Before you run it: the first convolution should not care where a digit stands. Does the second?


# %%
class Anywhere(nn.Module):
    """Two convolutions with ReLU, the maximum of each map, a linear layer."""

    def __init__(self, stride):
        rng = np.random.default_rng(0)
        # behind a layer of stride 2, neighbors are two pixels apart; without it, dilation does that
        self.first = nn.Conv2d(1, 8, 5, stride, 2, rng=rng)
        gap = 1 if stride == 2 else 2
        self.second = nn.Conv2d(8, 16, 3, stride, gap, dilation=gap, rng=rng)
        self.head = nn.Linear(16, 10, rng=rng)

    def forward(self, x):
        maps = F.relu(self.second(F.relu(self.first(x))))  # [B, 16, H', W']
        return self.head(maps.amax(axis=(2, 3)))


class Hidden(nn.Module):
    """A linear layer, ReLU, a linear layer."""

    def __init__(self, hidden):
        rng = np.random.default_rng(0)
        self.first = nn.Linear(SIDE * SIDE, hidden, rng=rng)
        self.second = nn.Linear(hidden, 10, rng=rng)

    def forward(self, x):
        return self.second(F.relu(self.first(x.reshape(len(x), -1))))


def size(model):
    return sum(p.data.size for p in model.parameters())


centered = {"linear layers": Hidden(128), "stride 2": Anywhere(2), "stride 1": Anywhere(1)}
for name, model in centered.items():
    train(model, 200, wander=0, lr=5e-3 if name == "linear layers" else 1e-2)
assert [size(model) for model in centered.values()] == [52_618, 1_546, 1_546]
offsets = range(5)
by_offset = {name: [] for name in centered}
for k in offsets:
    rng = np.random.default_rng(k)
    pictures = [draw(SEEN, 100, rng, wander=0, move=m) for m in [(k, 0), (-k, 0), (0, k), (0, -k)]]
    for name, model in centered.items():
        by_offset[name].append(np.mean([accuracy(model, *each) for each in pictures]))

with plot.style():
    fig, ax = figure(width=6.4, height=3.6)
    for (name, line), mark in zip(by_offset.items(), ("s:", "o-", "^--"), strict=True):
        ax.plot(offsets, line, mark, label=f"{name} ({size(centered[name]):,} numbers)")
    ax.axhline(0.1, color="#8a8a8a", linewidth=0.8, zorder=0)
    ax.annotate("guessing", (3.35, 0.115), color="#555555", fontsize=8.5)
    ax.set(
        xlabel="moved by (pixels)", ylabel="share recognized", xticks=list(offsets), ylim=(0, 1.05)
    )
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 0.12))
show(
    fig,
    alt="Share of digits recognized against how far they were moved. Linear layers fall from 1 to "
    "below guessing. The convolution of stride 1 stays above 0.9. The one of stride 2 falls to 0.3 at "
    "two pixels and is back above 0.9 at four.",
)
table(
    [[name, *line] for name, line in by_offset.items()],
    columns=["moved by", *map(str, offsets)],
    digits=3,
)
assert by_offset["linear layers"][3] < 0.2
assert min(by_offset["stride 1"]) > 0.8
assert by_offset["stride 2"][4] > by_offset["stride 2"][2] + 0.3

# %% [markdown]
# The line of stride 1 is nearly flat, as the hook promised (at the end digits reach the edge). The
# line of stride 2 falls, and *rises again* at four pixels. Two strides of 2 look at every fourth
# place only, so the network knows a digit that was moved by four, and a digit moved by two falls
# between the places it has learned. Sharing holds for shifts by whole strides, not for others (Zhang
# 2019 measured this in large networks). The cure is simple: train with digits that wander, as we do
# from here on.

# %% [markdown]
# ## 9. Break it
#
# ### The word taken at its word
#
# No document prints a formula, so nothing is misprinted but the name. Suppose somebody reads
# *convolution* in a textbook and turns the filter. First they train with it, then they load filters
# that were trained with the library. Before you run it: which of the two goes wrong?


# %%
class Net(nn.Module):
    """Two convolutions of stride 2 with ReLU, and a linear layer that knows where."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.first = nn.Conv2d(1, 8, 5, 2, 2, rng=rng)  # [B, 1, 20, 20] -> [B, 8, 10, 10]
        self.second = nn.Conv2d(8, 16, 5, 2, 2, rng=rng)  # -> [B, 16, 5, 5]
        self.head = nn.Linear(16 * 5 * 5, 10, rng=rng)

    def forward(self, x):
        maps = F.relu(self.second(F.relu(self.first(x))))
        return self.head(maps.reshape(len(x), -1))


wrong = exercises(9)["conv2d"].mistake
family = {"faces": SEEN[:4], "wander": 2}  # DejaVu Sans: easier, and soon learned
check_pictures = draw(n=500, rng=np.random.default_rng(123), **family)


def trained(conv2d="reference", steps=100):
    """A network trained with this convolution, its last losses, and what it recognizes."""
    model = Net()
    with scratchlm.use(conv2d=conv2d):
        losses = train(model, steps, **family)
        return model, losses[-20:].mean(), accuracy(model, *check_pictures)


right, right_loss, right_share = trained()
_, _, own_share = trained(wrong("filter turned").function)
with scratchlm.use(conv2d=wrong("filter turned").function):
    loaded_share = accuracy(right, *check_pictures)
table(
    [["the library's", right_share], ["turned, trained so", own_share],
     ["turned, with the library's filters", loaded_share]],
    columns=["convolution", "recognized"], digits=3,
)  # fmt: skip
assert abs(own_share - right_share) < 0.1
assert loaded_share < 0.5

# %% [markdown]
# Training does not mind: it learns the filters turned. Loading does. The two agree only on filters
# that look the same when turned, and a test with such a filter (a mean, say) sees nothing.
#
# ### Ten convolutions
#
# The same network, the same pictures, 100 steps. Before you run it: which of these learn as well as
# the right one?

# %%
NAMES = (
    "patch in another order",
    "channels by reshape",
    "cotangent by reshape",
    "border repeated",
    "overlaps overwritten",
    "filter turned in backward",
    "cut at the corner",
    "bias gradient averaged",
    "weight gradient averaged",
)
outcome = {"right": (right_loss, right_share, "passes")}
rng = np.random.default_rng(4)
probe = [rng.standard_normal(shape) for shape in ((2, 2, 6, 7), (3, 2, 3, 2), (3,))]
for name in NAMES:
    function = wrong(name).function
    report = gradcheck(partial(function, stride=2, padding=1), *probe)
    bad = [each for each in report.inputs if not each.ok]
    verdict = "passes" if not bad else f"{', '.join(each.name for each in bad)} wrong"
    if bad and bad[0].diagnosis:
        verdict += f": {bad[0].diagnosis.name}"
    outcome[name] = (*trained(function)[1:], verdict)
table(
    [[name, *each] for name, each in outcome.items()],
    columns=["version", "loss, last 20 steps", "recognized", "gradient check"],
    digits=3,
)

# %%
worse = {name: last - right_loss for name, (last, _, _) in outcome.items()}
assert worse["cotangent by reshape"] > 0.4
assert min(worse["filter turned in backward"], worse["cut at the corner"]) > 0.1
assert worse["patch in another order"] < 0.2
assert outcome["cotangent by reshape"][1] < right_share - 0.15
for name in ("patch in another order", "channels by reshape"):
    assert outcome[name][2] == "passes"  # these are wrong forward, and right about it backward
for name in NAMES[2:]:
    assert outcome[name][2] != "passes"
assert max(last for last, _, _ in outcome.values()) < math.log(10) - 0.3  # ln 10 is guessing

# %% [markdown]
# - **Patch in another order** learns and passes the check. Forward and backward agree; its
#   filters merely stand in another order than everybody else's. Like the turned filter it shows when
#   weights are loaded.
# - **Channels by reshape** passes the check too, and learns, at a larger loss. It scatters the maps of
#   one picture over places and channels; the layers above learn what they can from the scattered mess. No
#   gradient check sees it, a loop over the formula does.
# - **Cotangent by reshape** has the very same line in backward only. Now the gradients are those of
#   other places. The loss falls all the same: it still learns about half of the digits, from the
#   layers above.
# - **Overlaps overwritten**, **filter turned in backward**, **cut at the corner**: only $dx$ is wrong,
#   so only the layer *below* learns the wrong thing. A network with one convolution would not notice.
# - **Border repeated**: nearly harmless here, since there is little but paper at the edges. It is
#   another function all the same, and backward does not belong to it.
# - **Averaged gradients** of bias and weight: Adam divides by their size and does not care. With plain
#   SGD the layer would learn thousands of times too slowly: there are 3,200 places in 32 maps.
#
# The loss falls in every line of this table. That is the lesson of the lesson: a network repairs what
# you broke, as far as it can, and tells you nothing.
#
# ### Two that speak at once
#
# A place too few, and a bias along the width. And one that speaks in the third layer only:

# %%
for name, shape in [("one place too few", (1, 1, 5, 5)), ("bias along the width", (1, 1, 7, 5))]:
    try:
        result = wrong(name).function(np.ones(shape), np.ones((4, 1, 3, 3)), np.ones(4))[0].shape
    except ValueError as error:
        result = f"ValueError: {error}"
    print(f"{name:22} {result}")
    expected, _ = ops.conv2d(np.ones(shape), np.ones((4, 1, 3, 3)), np.ones(4))
    assert result != expected.shape
doubled = wrong("float64 zeros").function(*(each.astype(np.float32) for each in probe), padding=1)[
    0
]
print(f"{'float64 zeros':22} {doubled.dtype} from float32: twice the bytes in all that follows")
assert doubled.dtype == np.float64

# %% [markdown]
# ## 10. Your turn
#
# Write `conv2d(x, weight, bias, *, stride=1, padding=0)`, which returns `(y, vjp)`:
#
# ```
# scratchlm start 9            your copy of the stub
# scratchlm check 9 --watch    checks it each time you save
# scratchlm hint 9             three hints, each says more
# scratchlm solution 9         opens when you have passed
# ```
#
# Loops are allowed, and a good beginning: with loops over places, forward and backward are ten lines
# each. The check uses small pictures on purpose. Then make it fast with slices. The check knows 16
# ways to go wrong, and says which it sees. For example:

# %%
fault = exercises(9)["conv2d"].check(wrong("overlaps overwritten").function).fault
print(fault.what, fault.where, fault.looks_like, fault.hint, sep="\n")

# %% [markdown]
# ## 11. Cost
#
# Each number of $y$ is a sum of $C k_h k_w$ products. So forward takes $2 B O H' W' C k_h k_w$
# operations, and backward twice that (one product for $dX$, one for $dF$). The number of weights,
# $O C k_h k_w + O$, has no $H$ and $W$ in it. A linear layer between the same two shapes:

# %%
rows = []
for name, C, O, k, s, side in [("first", 1, 8, 5, 2, 20), ("second", 8, 16, 5, 2, 10)]:
    out = (side + 2 * 2 - k) // s + 1
    weights, linear_weights = O * C * k * k + O, (C * side * side + 1) * O * out * out
    rows.append([name, f"{C} × {side} × {side}", f"{O} × {out} × {out}", weights, linear_weights,
                 2 * O * out * out * C * k * k, 2 * C * side * side * O * out * out])  # fmt: skip
table(
    rows,
    columns=["layer of Net", "from", "to", "weights", "of a linear layer", "operations", "its"],
)
assert [row[3] for row in rows] == [208, 3216]
assert size(Net()) == 208 + 3216 + 4010


# %% [markdown]
# The price is memory. Each pixel is copied once for each patch that sees it, so $X$ is about
# $k_h k_w / s^2$ times as large as $x$, and backward needs it for $dF$. Here is what the vjp really
# holds on to, for 64 pictures of 16 channels.


# %%
def kept(function, seen=None):
    """The bytes of all arrays that a function keeps alive, through the functions inside it too."""
    seen = {} if seen is None else seen
    for cell in function.__closure__ or ():
        value = cell.cell_contents
        if isinstance(value, np.ndarray):
            owner = value if value.base is None else value.base
            seen[id(owner)] = owner.nbytes
        elif hasattr(value, "__closure__"):
            kept(value, seen)
    return sum(seen.values())


rows = []
big = np.ones((64, 16, 20, 20), np.float32)
for k, s in [(1, 1), (3, 1), (5, 1), (5, 2)]:
    _, vjp = ops.conv2d(big, np.ones((16, 16, k, k), np.float32), stride=s, padding=k // 2)
    rows.append([f"{k} × {k}, stride {s}", big.nbytes / 2**20, kept(vjp) / 2**20,
                 kept(vjp) / big.nbytes, k * k / s**2])  # fmt: skip
table(
    rows,
    columns=["filter", "x, MiB", "kept, MiB", "kept / x", "k² / s²"],
    digits=3,
)
for row in rows:
    assert abs(row[3] - row[4] - 1) < 0.05  # X, and x itself, which is there anyway

# %% [markdown]
# Fast libraries therefore never write $X$ down: they gather the patches tile by tile while they
# multiply. The formula is the same.

# %% [markdown]
# ## 12. Use it
#
# ### Digits in faces never seen
#
# Sixteen faces to learn from, of two families of fonts (DejaVu and STIX: with and without serifs,
# typewriter, bold, slanted). Five faces to be tested on, from another family (Computer Modern), of
# which no network has seen a pixel. Digits wander by three pixels in each direction, and there is
# noise. Look at the second row: how many would you read at once?

# %%
with plot.style():
    fig, axes = figure(2, 12, width=9.2, height=1.9)
    for row, faces in zip(axes, (SEEN, UNSEEN), strict=True):
        x, digits = draw(faces, 12, np.random.default_rng(21))
        for ax, picture, digit in zip(row, x[:, 0], digits, strict=True):
            ax.imshow(picture, cmap="gray_r", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            ax.set_title(str(digit), loc="center", fontsize=8.5)
    axes[0, 0].set_ylabel("seen")
    axes[1, 0].set_ylabel("unseen")
show(fig, alt="Two rows of twelve small noisy digits, the first from faces used in training, the "
              "second from fonts never seen, most with thin strokes and serifs.")  # fmt: skip

# %% [markdown]
# Three networks: the two convolutions of section 9; two linear layers with as many numbers in all;
# two linear layers with seven times as many. 500 steps each, 16,000 pictures.

# %%
tests = {
    "seen faces": draw(SEEN, 1000, np.random.default_rng(100)),
    "unseen faces": draw(UNSEEN, 1000, np.random.default_rng(101)),
}
contest = {"convolutions": Net(), "linear, as large": Hidden(18), "linear, 7 times": Hidden(128)}
rows = []
for name, model in contest.items():
    losses = train(model, 500)
    results = [accuracy(model, *each) for each in tests.values()]
    rows.append([name, size(model), losses[-50:].mean(), *results])
table(rows, columns=["network", "numbers", "loss, last 50", *tests], digits=3)
unseen = {row[0]: row[4] for row in rows}
assert unseen["convolutions"] > 0.65  # recorded with seed 0: 0.75; 0.49 and 0.73
assert unseen["convolutions"] > unseen["linear, as large"] + 0.15
assert unseen["linear, 7 times"] < unseen["convolutions"] + 0.1

# %% [markdown]
# With as many numbers, linear layers learn the seen faces badly and the unseen ones worse: they need
# a detector of their own for each stroke *and* each place. With seven times as many they have room
# for that, and come close. What a convolution saves is numbers, and with them examples. None of the
# three is done with the unseen faces: sixteen faces are few to learn from.
#
# Which digits go wrong? Look for bright cells off the diagonal. Before you run it: which pair would
# you confuse yourself?

# %%
model = contest["convolutions"]
x, digits = tests["unseen faces"]
with scratchlm.no_grad():
    said = model(Tensor(x)).data.argmax(axis=1)
confusion = np.zeros((10, 10))
np.add.at(confusion, (digits, said), 1)
confusion /= confusion.sum(axis=1, keepdims=True)
names = [str(k) for k in range(10)]
_, ax = figure(width=5.2, height=5.0)
plot.heatmap(
    confusion,
    ax=ax,
    rows=names,
    columns=names,
    values=True,
    title="Unseen faces: what was said for what",
)
ax.set(xlabel="said", ylabel="digit")
show(
    ax,
    alt="A ten by ten matrix of shares, bright along the diagonal, with a few cells beside it that "
    "show which digits are taken for each other.",
)
per_digit = np.diag(confusion)
off = confusion - np.diag(per_digit)
worst = np.unravel_index(off.argmax(), off.shape)
print(f"best: {per_digit.argmax()} ({per_digit.max():.0%}), worst: {per_digit.argmin()} "
      f"({per_digit.min():.0%}); most often a {worst[0]} is taken for a {worst[1]}")  # fmt: skip

# %% [markdown]
# ### What it has learned to look for
#
# The eight filters of the first layer, and their maps of one picture after the ReLU. Filters of one
# color are detectors of ink, those with a red and a blue side detectors of edges and of strokes in one
# direction. Nobody put them there. Before you run it: which maps will show the stem of the 4, and
# which its bar?

# %%
x, digits = draw(["DejaVuSans"], 200, np.random.default_rng(3), wander=0, noise=0.0)
picture = x[digits == 4][:1]
filters = model.first.weight.data[:, 0]  # [8, 5, 5]
with scratchlm.no_grad():
    shown = F.relu(F.conv2d(Tensor(picture), model.first.weight, model.first.bias, padding=2)).data[
        0
    ]
with plot.style():
    fig, axes = figure(2, 9, width=9.4, height=2.5)
    for ax in axes.ravel():
        ax.set(xticks=[], yticks=[])
    limit = np.abs(filters).max()
    for k in range(8):
        axes[0, k + 1].imshow(filters[k], cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes[0, k + 1].set_title(f"filter {k}", loc="center", fontsize=8.5)
        axes[1, k + 1].imshow(shown[k], cmap="cividis", vmin=0, vmax=shown.max())
    axes[0, 0].axis("off")
    axes[1, 0].imshow(picture[0, 0], cmap="gray_r")
    axes[1, 0].set_xlabel("the picture")
show(
    fig,
    alt="Eight filters of five by five in red and blue, some of one color, some with a red and a "
    "blue side, and below each its feature map of a 4: in some maps the stem is brightest, in "
    "others the bar, in others an edge.",
)

# %% [markdown]
# ### Your convolution in the network
#
# The solution of this lesson takes the library's place, in training. Same seed, same losses.

# %%
mine, theirs = Net(), Net()
with scratchlm.use(conv2d=solution(9).conv2d):
    own_losses = train(mine, 25)
library_losses = train(theirs, 25)
print(f"largest difference of 25 losses: {np.abs(own_losses - library_losses).max():.1e}")
assert np.allclose(own_losses, library_losses, atol=1e-3)  # float32, summed in another order

# %% [markdown]
# ### From pictures to tokens
#
# Now the door that D1 §8.2 speaks of. A language model reads a sequence of vectors. It gets them from
# words by a table, one row for each word (lesson 13). How does it get them from a picture? Cut the
# picture into square patches, and send each through the same linear layer (Dosovitskiy et al. 2021,
# eq. 1):
#
# $$
# z_n = E \, \mathrm{patch}_n + b
# $$
#
# One linear map, the same for every patch: that is a convolution. The filter is as large as a patch,
# and the stride as large as the filter, so that patches do not overlap. Rows of $E$ are filters.

# %%
rng = np.random.default_rng(16)
pictures = rng.standard_normal((2, 3, 20, 20))  # in color
side, width = 5, 64
E, e = rng.standard_normal((width, 3 * side * side)) / 9, rng.standard_normal(width)

maps, conv_vjp = ops.conv2d(pictures, E.reshape(width, 3, side, side), e, stride=side)
tokens = maps.reshape(2, width, 16).swapaxes(1, 2)  # [2, 64, 4, 4] -> [2, 16, 64]

cut = pictures.reshape(2, 3, 4, side, 4, side)  # [B, C, row of patches, u, column of patches, v]
patches = cut.transpose(0, 2, 4, 1, 3, 5).reshape(2, 16, 3 * side * side)
linear_tokens, linear_vjp = ops.linear(patches, E, e)
assert np.allclose(tokens, linear_tokens, atol=1e-12)

dz = rng.standard_normal(tokens.shape)
_, dW, de = conv_vjp(dz.swapaxes(1, 2).reshape(maps.shape))
_, dE, de_linear = linear_vjp(dz)
assert np.allclose(dW.reshape(E.shape), dE)
assert np.allclose(de, de_linear)
print("a picture of 20 × 20 in patches of 5 × 5:", tokens.shape[1], "tokens of", tokens.shape[2])
print("strided convolution and linear layer on patches: equal, and so are their gradients")

vit = nn.Conv2d(3, 768, 16, 16, rng=0)  # the first layer of ViT-B/16
print(f"ViT-B/16: {(224 // 16) ** 2} tokens of 768 from 224 × 224 pixels, {size(vit):,} weights")
assert (224 // 16) ** 2 == 196
assert size(vit) == 590_592

# %% [markdown]
# From here on a patch is a word. Sixteen of them in front of a question, and the model reads one
# sequence of both; which vectors came from pixels it need not know.

# %%
question = rng.standard_normal((2, 6, width))  # six words, as rows of an embedding table
sequence, _ = ops.concatenate(linear_tokens, question, axis=1)
print("picture and question:", sequence.shape)
assert sequence.shape == (2, 16 + 6, width)

# %% [markdown]
# What does a bag of patches know? Each of the two networks below makes 16 tokens of a digit and sends
# each through a hidden layer. The first takes their mean. The second lays them side by side, so it
# knows which patch is which. Before you run it: shuffle the patches of a picture. Whose answer
# changes?


# %%
class Patches(nn.Module):
    """A digit as 16 tokens: their mean, or all of them in order."""

    def __init__(self, ordered):
        rng = np.random.default_rng(0)
        self.ordered = ordered
        self.embed = nn.Conv2d(1, 48, 5, 5, rng=rng)
        self.hidden = nn.Linear(48, 24, rng=rng)
        self.head = nn.Linear(16 * 24 if ordered else 24, 10, rng=rng)

    def forward(self, x):
        z = F.relu(self.embed(x)).reshape(len(x), 48, 16).transpose(1, 2)  # [B, 16, 48]
        z = F.relu(self.hidden(z))  # [B, 16, 24]
        return self.head(z.reshape(len(x), -1) if self.ordered else z.mean(axis=1))


x, digits = tests["seen faces"]
blocks = x.reshape(-1, 1, 4, 5, 4, 5).transpose(0, 2, 4, 1, 3, 5).reshape(-1, 16, 25)
blocks = blocks[:, np.random.default_rng(0).permutation(16)]
shuffled = blocks.reshape(-1, 4, 4, 1, 5, 5).transpose(0, 3, 1, 4, 2, 5).reshape(x.shape)
rows = []
for ordered in (False, True):
    reader = Patches(ordered)
    train(reader, 300)
    rows.append(["in order" if ordered else "mean", size(reader), accuracy(reader, x, digits),
                 accuracy(reader, shuffled, digits)])  # fmt: skip
    with scratchlm.no_grad():
        change = np.abs(reader(Tensor(x)).data - reader(Tensor(shuffled)).data).max()
    assert (change > 1) == ordered
table(rows, columns=["16 tokens", "numbers", "recognized", "patches shuffled"], digits=3)
assert rows[0][2] == rows[0][3] > 0.2
assert rows[1][2] > rows[0][2] + 0.15
assert rows[1][3] < 0.3

# %% [markdown]
# Only the second one's. A mean does not know the order of what it is the mean of, so a digit is to
# the first network a bag of strokes. The same will be true of words: attention (lesson 19) compares
# all tokens with all others, and still does not know where they stand. Positions have to be added
# (lesson 22), to patches as to words.

# %% [markdown]
# ## 13. Recap
#
# Three questions. Answer before you read on.
#
# 1. A filter of 3 by 3 with stride 1 and padding 1: what is the shape of $y$? And with stride 2, for
#    a picture of 20 by 20?
# 2. Why does forward have plus signs, $x_{p+i}$, and $dx$ minus signs, $dy_{u-i}$?
# 3. You replace a linear layer from 400 pixels to 400 numbers by a convolution with one filter of 5
#    by 5 and padding 2. How many weights are left, and what can the linear layer do that the
#    convolution cannot?
#
# *1.* That of $x$; $\lfloor (20 + 2 - 3) / 2 \rfloor + 1 = 10$ by 10. *2.* Forward asks which pixel
# a place sees, $u = p + i$. Backward asks which place sees a pixel, $p = u - i$. *3.* 25 of 160,000,
# and a bias. It can treat a stroke on the left otherwise than the same stroke on the right.

# %%
assert ops.conv2d(np.ones((1, 1, 20, 20)), np.ones((1, 1, 3, 3)), padding=1)[0].shape[2:] == (
    20,
    20,
)
halved = ops.conv2d(np.ones((1, 1, 20, 20)), np.ones((1, 1, 3, 3)), padding=1, stride=2)[0]
assert halved.shape[2:] == (10, 10)

# %% [markdown]
# | English | 中文 | here |
# |---|---|---|
# | convolution | 卷积 | the same small linear map at every place |
# | cross-correlation | 互相关 | what deep learning calls convolution |
# | convolutional neural network | 卷积神经网络 | layers of it, with an activation between |
# | filter, kernel | 滤波器、卷积核 | the weights of that map |
# | feature map | 特征图 | its results, a picture again |
# | channel | 通道 | one of several numbers at each pixel |
# | stride | 步幅 | from one place to the next |
# | padding | 填充 | zeros around the picture |
# | dilation | 空洞 | gaps between the pixels of a filter |
# | receptive field | 感受野 | the pixels that one result depends on |
# | weight sharing | 权值共享 | the same weights everywhere |
# | translation equivariance | 平移等变性 | move the picture, and the map moves |
# | transposed convolution | 转置卷积 | the map of backward, used forward |
# | patch embedding | 图像块嵌入 | pictures as tokens |
# | multimodal | 多模态 | several kinds of data in one model |
#
# References:
#
# - LeCun et al. 1989, *Backpropagation Applied to Handwritten Zip Code Recognition*, §3; LeCun et al.
#   1998, *Gradient-Based Learning Applied to Document Recognition*, §II.
# - Goodfellow, Bengio and Courville 2016, *Deep Learning*, §9.1 and §9.5: eq. 9.5, 9.6, 9.8, 9.11, 9.13.
# - Dumoulin and Visin 2016, *A guide to convolution arithmetic for deep learning*: shapes, and the
#   transposed convolution.
# - Chellapilla, Puri and Simard 2006, *High Performance Convolutional Neural Networks for Document
#   Processing*: patches as a matrix.
# - Zhang 2019, *Making Convolutional Networks Shift-Invariant Again*: what strides do.
# - Dosovitskiy et al. 2021, *An Image is Worth 16x16 Words*, eq. 1: patches as tokens.
#
# The documents: D1 §2.2.2 (the name), D1 §8.2 (several kinds of data in one model).
#
# Next: text. It has no pixels and no fixed places, and the first question is what its pieces are
# (lessons 10 and 11).
