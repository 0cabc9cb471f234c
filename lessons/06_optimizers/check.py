"""Check 06: steps of Adam and AdamW, several in a row, and what is often done instead."""

import numpy as np
from hypothesis import strategies as st

from scratchlm import optim
from scratchlm.lessons import Case, Exercise, Mistake, shapes


def adam_step(p, m, v, g, t, **options):
    """The library's step, on copies: it works in place."""
    p, m, v = p.copy(), m.copy(), v.copy()
    optim.adam_step(p, g, m, v, t, **options)
    return p, m, v


def adamw_step(p, m, v, g, t, **options):
    p, m, v = p.copy(), m.copy(), v.copy()
    optim.adamw_step(p, g, m, v, t, **options)
    return p, m, v


def made(seed, shape, steps=4, scale=1.0, **options):
    """A walk of some steps from a random place, with random gradients."""
    rng = np.random.default_rng(seed)
    gradients = [scale * rng.standard_normal(shape) for _ in range(steps)]
    return Case(rng.standard_normal(shape), np.zeros(shape), np.zeros(shape), gradients, **options)


@st.composite
def walks(draw, weight_decay=False):
    options = {
        "lr": draw(st.sampled_from([1e-2, 0.1, 0.5])),
        "betas": draw(st.sampled_from([(0.9, 0.999), (0.9, 0.95), (0.5, 0.75), (0.0, 0.9)])),
        "eps": draw(st.sampled_from([1e-8, 1e-3])),
    }
    if weight_decay:
        options["weight_decay"] = draw(st.sampled_from([0.01, 0.1, 0.5]))
    scale = draw(st.sampled_from([1e-3, 1.0, 1e2]))
    seed, steps = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 5))
    return made(seed, draw(shapes(1, 2, 4)), steps, scale, **options)


HAND = [np.array([[1.0, -2, 4], [0.5, 0, 3]]), np.array([[1.0, 2, 0], [-0.5, 1, 3]])]
ONES, ZEROS = np.ones((2, 3)), np.zeros((2, 3))
ALSO = [
    Case(ONES, ZEROS, ZEROS, HAND, lr=0.1, betas=(0.5, 0.75)),
    Case(ONES, ZEROS, ZEROS, [ZEROS, ZEROS]),
    made(0, (2, 3)),
    made(1, (3,), steps=12, lr=0.1),
    made(2, (2, 2), scale=1e-6, lr=0.1),  # gradients as small as the root of eps, and smaller
    made(3, (2, 3), lr=0.1, betas=(0.6, 0.9), eps=0.1),
]


# ------------------------------------------------ the right steps, each of which a mistake replaces


def mean(old, new, beta):
    return beta * old + (1 - beta) * new


def corrected(average, beta, t):
    return average / (1 - beta**t)


def step(m_hat, v_hat, eps):
    return m_hat / (np.sqrt(v_hat) + eps)


def decay_beside(p, update, lr, decay):
    return p - lr * update - lr * decay * p


def wrong(
    *,
    decay=0.0,
    of_gradient=lambda g, p, decay: g,
    first=mean,
    second=mean,
    square=lambda g: g * g,
    hats=(corrected, corrected),
    clock=lambda t: t,
    move=step,
    apply=decay_beside,
    swapped=False,
    stale=False,
    keep_hats=False,
    in_place=False,
):
    """Adam, or AdamW with the default ``decay``, with one of its steps replaced."""

    def optimizer_step(p, m, v, g, t, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=decay):
        beta1, beta2 = betas[::-1] if swapped else betas
        g = of_gradient(g, p, weight_decay)
        new_m, new_v = first(m, g, beta1), second(v, square(g), beta2)
        used_m, used_v = (m, v) if stale else (new_m, new_v)
        m_hat, v_hat = hats[0](used_m, beta1, clock(t)), hats[1](used_v, beta2, clock(t))
        new = apply(p, move(m_hat, v_hat, eps), lr, weight_decay)
        if in_place:
            p[...] = new
            new = p
        return (new, m_hat, v_hat) if keep_hats else (new, new_m, new_v)

    return optimizer_step


def uncorrected(average, beta, t):
    return average


def epsilon_before_the_hat(p, m, v, g, t, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
    beta1, beta2 = betas
    m, v = mean(m, g, beta1), mean(v, g * g, beta2)
    factor = np.sqrt(1 - beta2**t) / (1 - beta1**t)
    return p - lr * factor * m / (np.sqrt(v) + eps), m, v


ADAM_MISTAKES = [
    Mistake(
        "no bias correction",
        wrong(hats=(uncorrected, uncorrected)),
        "m and v are used as they are, but both start from 0 and are too small at first",
        "after one step m is (1 - β₁) g: by what must you divide to get g back?",
    ),
    Mistake(
        "only m corrected",
        wrong(hats=(corrected, uncorrected)),
        "m has its hat and v has none, so the first steps are far too long",
        "v starts from 0 just as m does; its weights are powers of β₂",
    ),
    Mistake(
        "t counted from 0",
        wrong(clock=lambda t: t - 1),
        "the correction uses t - 1: in the first step it divides by 1 - β⁰, which is 0",
        "t comes in as 1 in the first step, when one gradient has been averaged",
    ),
    Mistake(
        "t counted one too far",
        wrong(clock=lambda t: t + 1),
        "the correction uses t + 1, as if one more gradient had been averaged than was seen",
        "t is the number of this step already; is it raised once more inside the function?",
    ),
    Mistake(
        "hats kept",
        wrong(keep_hats=True),
        "the corrected averages are returned as the new m and v, so the next step corrects again",
        "give the hats names of their own; what goes on to the next step has none",
    ),
    Mistake(
        "as printed: sums without β",
        wrong(
            first=lambda old, new, beta: old + (1 - beta) * new,
            second=lambda old, new, beta: old + (1 - beta) * new,
        ),
        "m and v add up all gradients and forget none, as D2 §4.2.3 prints it",
        "the old average is multiplied by β before the new gradient joins it",
    ),
    Mistake(
        "the new gradient in full",
        wrong(
            first=lambda old, new, beta: beta * old + new,
            second=lambda old, new, beta: beta * old + new,
        ),
        "the new gradient enters whole: it is momentum's sum, up to 1 / (1 - β) times too large",
        "the two shares of a mean sum to 1: one is β, the other?",
    ),
    Mistake(
        "shares exchanged",
        wrong(
            first=lambda old, new, beta: (1 - beta) * old + beta * new,
            second=lambda old, new, beta: (1 - beta) * old + beta * new,
        ),
        "the new gradient gets the share β and the past 1 - β: hardly anything is remembered",
        "β is near 1 because most of the old average is to stay",
    ),
    Mistake(
        "betas exchanged",
        wrong(swapped=True),
        "β₁ and β₂ have changed places: a long mean for the direction, a short one for the size",
        "betas is (β₁, β₂); β₁ goes with the gradient, β₂ with its square",
    ),
    Mistake(
        "gradient not squared",
        wrong(square=lambda g: g),
        "v averages the gradient itself, and the root of a negative number is NaN",
        "v tells how large gradients are, whichever way they point",
    ),
    Mistake(
        "absolute value for square",
        wrong(square=np.abs),
        "v averages |g|; after the root the step still depends on the gradient's unit",
        "multiply g by 100: m becomes 100 times larger, so the root of v has to as well",
    ),
    Mistake(
        "root forgotten",
        wrong(move=lambda m_hat, v_hat, eps: m_hat / (v_hat + eps)),
        "the mean is divided by v̂ itself: the smaller the gradient, the longer the step",
        "m has the unit of a gradient; which function of v has it too?",
    ),
    Mistake(
        "epsilon inside the root",
        wrong(move=lambda m_hat, v_hat, eps: m_hat / np.sqrt(v_hat + eps)),
        "eps is added under the root, where 1e-8 counts as much as a gradient of 1e-4",
        "what is √(0 + 1e-8), and what √0 + 1e-8? Look at the brackets in the formula",
    ),
    Mistake(
        "epsilon before the hat",
        epsilon_before_the_hat,
        "eps is added to √v and not to √v̂, so early on it counts for more than it should",
        "correct v first, take the root, and add eps last",
    ),
    Mistake(
        "uphill",
        wrong(apply=lambda p, update, lr, decay: p + lr * update),
        "the step is added: it climbs, and the loss grows",
        "the gradient points to where the loss grows",
    ),
    Mistake(
        "old averages used",
        wrong(stale=True),
        "the step is taken with m and v as they came in, before this gradient has joined them",
        "in step 1 that is 0 / (0 + eps): nothing moves. Update the averages first",
    ),
    Mistake(
        "p changed in place",
        wrong(in_place=True),
        "p is right, but it is the caller's array that was changed (by -= or by p[...] =)",
        "p = p - ... makes a new array; p -= ... writes into the old one",
    ),
]


def adamw(apply, **replaced):
    return wrong(decay=0.01, apply=apply, **replaced)


def decay_divided_too(p, m, v, g, t, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    m, v = mean(m, g, betas[0]), mean(v, g * g, betas[1])
    m_hat, v_hat = corrected(m, betas[0], t), corrected(v, betas[1], t)
    return p - lr * step(m_hat + weight_decay * p, v_hat, eps), m, v


ADAMW_MISTAKES = [
    Mistake(
        "decay in the gradient",
        adamw(
            lambda p, update, lr, decay: p - lr * update,
            of_gradient=lambda g, p, decay: g + decay * p,
        ),
        "the decay is added to the gradient: that is L2, and Adam divides it by √v̂ as well",
        "g goes into m and v; the decay must reach p by another way",
    ),
    Mistake(
        "decay divided too",
        decay_divided_too,
        "the decay joins m̂ and is divided by √v̂ too: weights with large gradients hardly decay",
        "the decay stands outside the fraction",
    ),
    Mistake(
        "decay without lr",
        adamw(lambda p, update, lr, decay: p - lr * update - decay * p),
        "the decay is not multiplied by lr, so p shrinks by the whole weight_decay in each step",
        "where does the bracket of lr · (... + weight_decay · p) end?",
    ),
    Mistake(
        "decay of the new p",
        adamw(lambda p, update, lr, decay: (p - lr * update) * (1 - lr * decay)),
        "the decay is taken after Adam's step, of a p that has moved already",
        "both terms of the bracket use the p from before: shrink first, then step",
    ),
    Mistake(
        "growth",
        adamw(lambda p, update, lr, decay: p - lr * update + lr * decay * p),
        "the decay has the wrong sign: the weights grow",
        "with a gradient of 0, which way must p go?",
    ),
    Mistake(
        "no decay",
        adamw(lambda p, update, lr, decay: p - lr * update),
        "no decay reaches p: this is Adam",
        "weight_decay has to occur once, beside lr",
    ),
    Mistake(
        "twice the decay",
        adamw(lambda p, update, lr, decay: p - lr * update - 2 * lr * decay * p),
        "the decay is twice what it should be, as if it were the derivative of weight_decay · p²",
        "no penalty is differentiated here: the formula says weight_decay · p",
    ),
    Mistake(
        "constant pull",
        adamw(lambda p, update, lr, decay: p - lr * update - lr * decay * np.sign(p)),
        "each weight loses the same amount, large or small: that is an L1 penalty",
        "decay takes a share of the weight, so large weights lose more",
    ),
    Mistake(
        "no bias correction",
        adamw(decay_beside, hats=(uncorrected, uncorrected)),
        "the decay is right, but m and v have lost their hats",
        "call your own adam_step: the decay is all that is new",
    ),
    Mistake(
        "p changed in place",
        adamw(decay_beside, in_place=True),
        "p is right, but it is the caller's array that was changed (by *= or by -=)",
        "p = p - ... makes a new array; p -= ... writes into the old one",
    ),
]

EXERCISES = [
    Exercise(
        name="adam_step",
        reference=adam_step,
        inputs=walks(),
        also=ALSO,
        contract="step",
        mistakes=ADAM_MISTAKES,
        hints=(
            (
                "Five lines, and the order matters: two averages, two corrections, one step. "
                "Do the 2×3 example of the page first, on paper, for one element."
            ),
            (
                "An average keeps the share β of itself and takes the share 1 - β of what is "
                "new: the gradient for m, its square for v. The weights in it sum to 1 - βᵗ, so "
                "divide by that. Step with the corrected ones, return the others."
            ),
            (
                "m = beta1 * m + (1 - beta1) * g, and v alike with g**2 and beta2. "
                "m_hat = m / (1 - beta1**t), v_hat alike. "
                "p = p - lr * m_hat / (np.sqrt(v_hat) + eps)."
            ),
        ),
    ),
    Exercise(
        name="adamw_step",
        reference=adamw_step,
        inputs=walks(weight_decay=True),
        also=[
            *ALSO,
            Case(ONES, ZEROS, ZEROS, [ZEROS] * 3, lr=0.1, weight_decay=0.5),
            made(5, (2, 3), lr=0.1, weight_decay=0.5),
        ],
        contract="step",
        mistakes=ADAMW_MISTAKES,
        hints=(
            "It is adam_step and one thing more. What happens to p when all gradients are 0?",
            (
                "Each step first takes the share lr · weight_decay off p, and then does what Adam "
                "does with the gradient alone."
            ),
            (
                "Shrink p to p - lr * weight_decay * p, and return adam_step of that with the same "
                "m, v, g and t."
            ),
        ),
    ),
]
