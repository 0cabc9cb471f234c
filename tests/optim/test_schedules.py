import itertools
import math

import numpy as np
import pytest

from scratchlm import Tensor, optim


def test_constant_warms_up():
    factors = [optim.constant(s, warmup=4) for s in range(6)]
    assert factors == [0.25, 0.5, 0.75, 1, 1, 1]
    assert optim.constant(0) == 1


def test_step_decay():
    factors = [optim.step_decay(s, every=2, gamma=0.5) for s in range(6)]
    assert factors == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_cosine_rises_falls_and_stays():
    f = lambda s: optim.cosine(s, total=110, warmup=10, final=0.1)
    assert f(0) == 0.1
    assert f(9) == f(10) == 1
    assert f(60) == pytest.approx(0.55, abs=1e-15)
    assert f(110) == pytest.approx(0.1, abs=1e-15)
    assert f(1e6) == f(110)
    falling = [f(s) for s in range(10, 111)]
    assert all(a > b for a, b in itertools.pairwise(falling))


def test_inverse_sqrt_is_equation_3():
    for step in (1, 10, 4000, 100_000):
        formula = 512**-0.5 * min(step**-0.5, step * 4000**-1.5)
        assert optim.inverse_sqrt(step - 1, warmup=4000, d_model=512) == pytest.approx(
            formula, rel=1e-14
        )
    assert optim.inverse_sqrt(3999, warmup=4000) == pytest.approx(1, rel=1e-14)


@pytest.mark.parametrize(
    "call",
    [
        lambda: optim.cosine(0, total=10, warmup=10),
        lambda: optim.cosine(0, total=10, final=2),
        lambda: optim.constant(-1),
        lambda: optim.constant(0, warmup=-1),
        lambda: optim.inverse_sqrt(0, warmup=0),
        lambda: optim.step_decay(0, every=0),
    ],
)
def test_bad_options(call):
    with pytest.raises(ValueError, match="need"):
        call()


def test_scheduler_scales_each_group_and_resumes():
    def make():
        p, q = (Tensor(np.ones(1), requires_grad=True) for _ in range(2))
        sgd = optim.SGD([{"params": p}, {"params": q, "lr": 0.5}], lr=0.1)
        return sgd, optim.LRScheduler(sgd, optim.cosine, total=10, warmup=2)

    sgd, scheduler = make()
    assert [g["lr"] for g in sgd.param_groups] == [0.05, 0.25]
    for _ in range(6):
        scheduler.step()
    halfway = [g["lr"] for g in sgd.param_groups]
    np.testing.assert_allclose(halfway, [0.05, 0.25], rtol=1e-15)

    again, resumed = make()
    again.load_state_dict(sgd.state_dict())
    resumed.load_state_dict(scheduler.state_dict())
    scheduler.step()
    resumed.step()
    assert [g["lr"] for g in again.param_groups] == [g["lr"] for g in sgd.param_groups]
    with pytest.raises(TypeError, match="total"):
        optim.LRScheduler(sgd, optim.cosine)


def tensors(*gradients):
    params = [Tensor(np.zeros(np.shape(g)), requires_grad=True) for g in gradients]
    for p, g in zip(params, gradients, strict=True):
        p.grad = Tensor(np.array(g))
    return params


def test_clip_scales_all_by_one_factor():
    params = tensors([[3.0, 0.0]], 4.0)
    params.append(Tensor(np.zeros(2), requires_grad=True))  # no gradient
    assert optim.clip_grad_norm(params, 1.0) == 5.0
    np.testing.assert_allclose(params[0].grad.data, [[0.6, 0]], rtol=1e-15)
    np.testing.assert_allclose(params[1].grad.data, 0.8, rtol=1e-15)
    assert optim.clip_grad_norm(iter(params), 2.0) == pytest.approx(1.0)  # short enough: untouched
    np.testing.assert_allclose(params[1].grad.data, 0.8, rtol=1e-15)


def test_clip_takes_non_contiguous_and_empty_gradients():
    g = np.arange(12.0).reshape(3, 4).T
    params = tensors(np.zeros((0, 3)), [1.0])
    params[1].grad = Tensor(g)
    norm = optim.clip_grad_norm(params, 1.0)
    assert norm == pytest.approx(math.sqrt(sum(x * x for x in range(12))))
    np.testing.assert_allclose(np.linalg.norm(g), 1.0)
    assert optim.clip_grad_norm([], 1.0) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_clip_refuses_what_is_not_finite(bad):
    params = tensors([3.0, 4.0], [bad, 1.0])
    params[1].name = "head"
    with pytest.raises(FloatingPointError, match="'head' is not finite"):
        optim.clip_grad_norm(params, 1.0)
    np.testing.assert_array_equal(params[0].grad.data, [3, 4])


def test_clip_refuses_a_norm_of_zero():
    with pytest.raises(ValueError, match="max_norm must be positive"):
        optim.clip_grad_norm(tensors([1.0]), 0.0)


@pytest.mark.parity
def test_clip_equals_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    grads = [rng.normal(size=s) for s in [(3, 4), (5,), ()]]
    params = tensors(*grads)
    theirs = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in grads]
    for q, g in zip(theirs, grads, strict=True):
        q.grad = torch.tensor(g)
    norm = optim.clip_grad_norm(params, 0.5)
    other = torch.nn.utils.clip_grad_norm_(theirs, 0.5)
    assert norm == pytest.approx(float(other), rel=1e-14)
    for p, q in zip(params, theirs, strict=True):
        # PyTorch divides by norm + 1e-6
        np.testing.assert_allclose(p.grad.data, q.grad.numpy(), rtol=2e-6 / norm)
