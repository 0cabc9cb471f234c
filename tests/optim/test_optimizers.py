import math

import numpy as np
import pytest

from scratchlm import Tensor, optim

SHAPES = [(3, 4), (4,), (), (2, 3, 5), (0, 3)]


def parameters(seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [Tensor(rng.normal(size=shape).astype(dtype), requires_grad=True) for shape in SHAPES]


def gradients(steps, seed=1):
    rng = np.random.default_rng(seed)
    return [[rng.normal(size=shape) for shape in SHAPES] for _ in range(steps)]


def run(optimizer, params, grads):
    for row in grads:
        for p, g in zip(params, row, strict=True):
            p.grad = Tensor(np.asarray(g, dtype=p.dtype))
        optimizer.step()


CASES = {
    "sgd": ("SGD", {"lr": 0.1}),
    "sgd decay": ("SGD", {"lr": 0.1, "weight_decay": 0.3}),
    "momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}),
    "momentum decay": ("SGD", {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.2}),
    "nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "adam": ("Adam", {"lr": 0.01}),
    "adam decay": ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3}),
    "adamw": ("AdamW", {"lr": 0.01}),
    "adamw decay": ("AdamW", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.3}),
}


@pytest.mark.parity
@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_fifty_steps_equal_pytorch(case, groups):
    torch = pytest.importorskip("torch")
    name, options = CASES[case]
    ours = parameters()
    theirs = [torch.tensor(p.data, requires_grad=True) for p in ours]

    def grouped(params):
        if not groups:
            return params
        return [
            {"params": params[:2], "weight_decay": 0.0},
            {"params": params[2:], "lr": 0.03},
        ]

    mine = getattr(optim, name)(grouped(ours), **options)
    other = getattr(torch.optim, name)(grouped(theirs), **options)
    for row in gradients(50):
        for p, q, g in zip(ours, theirs, row, strict=True):
            p.grad, q.grad = Tensor(np.asarray(g)), torch.tensor(g)
        mine.step()
        other.step()
    for p, q in zip(ours, theirs, strict=True):
        # 50 float64 steps of size ~0.1, each rounded at 1e-16
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=0, atol=1e-12)


@pytest.mark.parity
def test_a_pytorch_state_is_taken_over():
    torch = pytest.importorskip("torch")
    ours = parameters()
    theirs = [torch.tensor(p.data, requires_grad=True) for p in ours]
    other = torch.optim.AdamW(theirs, lr=0.02, weight_decay=0.1)
    first, rest = gradients(5), gradients(5, seed=2)
    for row in first:
        for q, g in zip(theirs, row, strict=True):
            q.grad = torch.tensor(g)
        other.step()
    for p, q in zip(ours, theirs, strict=True):
        p.data[...] = q.detach().numpy()
    mine = optim.AdamW(ours)
    mine.load_state_dict(other.state_dict())
    run(mine, ours, rest)
    for row in rest:
        for q, g in zip(theirs, row, strict=True):
            q.grad = torch.tensor(g)
        other.step()
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=0, atol=1e-12)


def test_adam_step_by_hand():
    # p = 1, g = 0.5: m̂ = g and v̂ = g², so the first step is η g / (|g| + ε) = η, whatever g is
    p, g, m, v = (np.array([x]) for x in (1.0, 0.5, 0.0, 0.0))
    optim.adam_step(p, g, m, v, 1, lr=0.1, eps=0.0)
    np.testing.assert_allclose([p[0], m[0], v[0]], [0.9, 0.05, 0.00025], rtol=1e-14)
    # g = -0.5 next: m = 0.045 - 0.05, v = 0.00024975 + 0.00025
    optim.adam_step(p, -g, m, v, 2, lr=0.1, eps=0.0)
    step = 0.1 * (-0.005 / 0.19) / math.sqrt(0.00049975 / (1 - 0.999**2))
    np.testing.assert_allclose(p[0], 0.9 - step, rtol=1e-14)


def test_adamw_decay_does_not_pass_through_the_averages():
    p, g, m, v = np.array([2.0]), np.zeros(1), np.zeros(1), np.zeros(1)
    optim.adamw_step(p, g, m, v, 1, lr=0.1, weight_decay=0.5)
    assert p[0] == 2.0 * 0.95
    assert m[0] == v[0] == 0


def test_sgd_step_by_hand():
    p, v = np.array([1.0]), np.array([0.0])
    optim.sgd_step(p, np.array([2.0]), v, lr=0.1, momentum=0.5)
    assert p[0] == 1 - 0.1 * 2
    optim.sgd_step(p, np.array([2.0]), v, lr=0.1, momentum=0.5)
    np.testing.assert_allclose(p, 0.8 - 0.1 * 3, rtol=1e-15)
    optim.sgd_step(p, np.array([0.0]), v, lr=0.1, momentum=0.5, nesterov=True)  # v = 1.5
    np.testing.assert_allclose(p, 0.5 - 0.1 * 0.75, rtol=1e-15)


def test_momentum_is_sgd_with_momentum():
    a, b = parameters(), parameters()
    run(optim.Momentum(a, lr=0.1), a, gradients(5))
    run(optim.SGD(b, lr=0.1, momentum=0.9), b, gradients(5))
    assert all(np.array_equal(p.data, q.data) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_a_step_works_in_place_keeps_dtype_and_leaves_gradients(case):
    name, options = CASES[case]
    params = parameters(dtype=np.float32)
    arrays = [p.data for p in params]
    optimizer = getattr(optim, name)(params, **{**options, "lr": np.float64(0.1)})
    for p in params:
        p.grad = Tensor(np.ones(p.shape, np.float32))
    before = [p._version[0] for p in params]
    optimizer.step()
    for p, array, version in zip(params, arrays, before, strict=True):
        assert p.data is array
        assert p.dtype == np.float32
        assert p._version[0] == version + 1
        np.testing.assert_array_equal(p.grad.data, 1)
        for value in optimizer.state.get(p, {}).values():
            assert isinstance(value, int) or value.dtype == np.float32


def test_a_step_between_forward_and_backward_is_noticed():
    w = Tensor(np.ones(3), requires_grad=True)
    loss = w * w
    w.grad = Tensor(np.ones(3))
    optim.SGD([w], lr=0.1).step()
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward(np.ones(3))


def test_parameters_without_gradient_stay():
    a, b = Tensor(np.ones(2), requires_grad=True), Tensor(np.ones(2), requires_grad=True)
    optimizer = optim.AdamW([a, b], lr=0.1)
    a.grad = Tensor(np.ones(2))
    optimizer.step()
    np.testing.assert_array_equal(b.data, 1)
    assert b not in optimizer.state


@pytest.mark.parametrize("case", CASES)
def test_resumed_from_state_dict_bit_for_bit(case):
    name, options = CASES[case]
    grads = gradients(8)
    straight = parameters()
    run(getattr(optim, name)(straight, **options), straight, grads)
    params = parameters()
    first = getattr(optim, name)(params, **options)
    run(first, params, grads[:3])
    saved = first.state_dict()
    copies = [Tensor(p.data.copy(), requires_grad=True) for p in params]
    second = getattr(optim, name)(copies, lr=0.777)
    second.load_state_dict(saved)
    run(first, params, grads[3:])  # must not disturb what was loaded
    run(second, copies, grads[3:])
    for p, q in zip(straight, copies, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_load_state_dict_changes_nothing_when_it_fails():
    params = parameters()
    optimizer = optim.AdamW(params, lr=0.1)
    run(optimizer, params, gradients(1))
    saved = optimizer.state_dict()
    saved["state"][1] = {**saved["state"][1], "exp_avg": np.zeros(5)}
    saved["param_groups"][0]["lr"] = 0.5
    kept = optimizer.state[params[0]]["exp_avg"]
    with pytest.raises(ValueError, match=r"'exp_avg' has shape \(5,\), its parameter \(4,\)"):
        optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert optimizer.state[params[0]]["exp_avg"] is kept
    with pytest.raises(ValueError, match=r"groups of \[5\] parameters, this optimizer of \[2\]"):
        optim.AdamW(params[:2]).load_state_dict(optimizer.state_dict())


def test_a_state_of_another_kind_is_refused():
    params = parameters()
    adam, sgd = optim.Adam(params), optim.SGD(params, lr=0.1, momentum=0.9)
    run(sgd, params, gradients(1))
    with pytest.raises(ValueError, match="Adam: the saved state holds momentum_buffer, this"):
        adam.load_state_dict(sgd.state_dict())
    run(adam, params, gradients(1))
    with pytest.raises(ValueError, match="saved by another kind"):
        sgd.load_state_dict(adam.state_dict())
    saved = adam.state_dict()
    saved["param_groups"][0]["amsgrad"] = True
    with pytest.raises(ValueError, match="made with amsgrad"):
        adam.load_state_dict(saved)


def test_zero_grad():
    p = Tensor(np.ones(2), requires_grad=True)
    optimizer = optim.SGD([p], lr=0.1)
    p.grad = Tensor(np.ones(2))
    optimizer.zero_grad(set_to_none=False)
    np.testing.assert_array_equal(p.grad.data, 0)
    optimizer.zero_grad()
    assert p.grad is None


P = Tensor(np.ones(2), requires_grad=True)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: optim.SGD([], lr=0.1), ValueError, "no parameters"),
        (lambda: optim.SGD([P], lr=-1.0), ValueError, "SGD: lr=-1.0 is out of range"),
        (lambda: optim.SGD([P], lr=math.nan), ValueError, "lr=nan"),
        (lambda: optim.SGD([P], lr="fast"), TypeError, "lr must be a number, got 'fast'"),
        (lambda: optim.SGD([P], lr=0.1, nesterov=True), ValueError, "nesterov looks ahead"),
        (lambda: optim.Adam([P], betas=(0.9, 1.0)), ValueError, r"betas=\(0.9, 1.0\)"),
        (lambda: optim.Adam([P], betas=0.9), TypeError, "betas must be two numbers, got 0.9"),
        (lambda: optim.Adam([P], eps=-1e-8), ValueError, "eps=-1e-08"),
        (lambda: optim.AdamW([P], weight_decay=-0.1), ValueError, "weight_decay=-0.1"),
        (lambda: optim.AdamW([P, P]), ValueError, "occurs twice"),
        (lambda: optim.AdamW([P.data]), TypeError, "parameter 0 is a ndarray, not a Tensor"),
        (lambda: optim.AdamW([Tensor(np.ones(2))]), ValueError, "requires_grad=True"),
        (lambda: optim.AdamW([P * 2]), ValueError, "must be a leaf"),
        (lambda: optim.AdamW([{"params": [P], "leraning_rate": 1}]), TypeError, "'leraning_rate'"),
        (lambda: optim.AdamW([{"lr": 1}]), ValueError, "under 'params'"),
    ],
)
def test_bad_input(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_gradient_of_the_wrong_shape():
    p = Tensor(np.ones((2, 3)), requires_grad=True)
    p.grad = Tensor(np.ones(3))  # would broadcast
    with pytest.raises(ValueError, match=r"shape \(2, 3\) has a gradient of shape \(3,\)"):
        optim.SGD([p], lr=0.1).step()


def test_decay_groups_leave_biases_and_gains_out():
    class Model:
        def named_parameters(self):
            yield "a.weight", Tensor(np.ones((2, 2)), requires_grad=True)
            yield "a.bias", Tensor(np.ones(2), requires_grad=True)
            yield "norm.weight", Tensor(np.ones(2), requires_grad=True)
            yield "frozen", Tensor(np.ones((2, 2)))

    groups = optim.decay_groups(Model(), 0.1)
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(1, 0.1), (2, 0.0)]
    groups = optim.decay_groups(Model(), 0.1, without=lambda name, p: name.startswith("a"))
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(1, 0.1), (2, 0.0)]
    optim.AdamW(groups, lr=1e-3)
