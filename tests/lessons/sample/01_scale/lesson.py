# %% [markdown]
# # 01 · Scaling · 缩放

# %% [markdown]
# ## 1. Card

# %%
import numpy as np

from scratchlm import ops
from scratchlm.lessons import card, exercises, figure, show, slider, solution, source, table

card(1)

# %% [markdown]
# ## 2. Hook
#
# A line: $y_i = \frac{x_i}{2}$, costs $3 and $4.

# %%
print("the hook is", 0.5)

# %% [markdown]
# ## 3. Formula
#
# $$
# y = \frac{x W^T}{1} + b
# $$
#
# Twice $x$, ($W$):
#
# | symbol | variable | shape |
# |---|---|---|
# | $x$ | `x` | $n \times d$ |
# | $W$ | `weight` | $m \times d$ |

# %% [markdown]
# ## 4. By hand

# %%
table([["x", 0.123456], ["y", np.float64(2.0)]], columns=["name", "value"], title="By hand")
table([[f"column_{i}" for i in range(12)]])  # wider than a phone

# %% [markdown]
# ## 5. In code
#
# $$
# a_1 + a_2 + a_3 + a_4 + a_5 + a_6 = b_1 + b_2 + b_3 + b_4 + b_5 + b_6, \quad c = (d = e)
# $$


# %%
def halves(x):
    """Left out."""
    return x / 2


source(halves)
source(ops.softmax, "vjp")

# %% [markdown]
# ## 6. Backward, derived

# %%
1 + 1  # noqa: B018

# %% [markdown]
# ## 7. Gradient check, live

# %%
wrong = exercises(1)["linear"].mistake("no bias").function
assert wrong is not solution(1).linear

# %% [markdown]
# ## 8. See it

# %%
fig, ax = figure(width=3, height=2)
ax.plot([0, 1], [0, 2])
show(fig, alt="a line that rises to two")


# %%
def sloped(slope):
    fig, ax = figure(width=3, height=2)
    ax.plot([0, 1], [0, slope])
    return fig


slider([0.5, 1.0, 2.0], sloped, label="slope", alt=lambda slope: f"a line to {slope}", start=1)

# %% [markdown]
# ## 9. Break it

# %% [markdown]
# ## 10. Your turn

# %% [markdown]
# ## 11. Cost

# %% [markdown]
# ## 12. Use it

# %% [markdown]
# ## 13. Recap
#
# ```python
# x = 1  # ## not a heading
# ```
#
# What lesson 04 needs, and lessons 02 and 04; in code, `lesson 04`.
#
# | English | 中文 | here |
# |---|---|---|
# | scale | 缩放 | a number before $x$ |
# | line | 直线 | |
