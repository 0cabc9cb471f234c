"""Module: what it finds, what it saves, and what it refuses."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from scratchlm import Tensor, nn, no_grad
from scratchlm.nn import Buffer, Module, Parameter


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


class Leaf(Module):
    def __init__(self, rows: int = 2, cols: int = 3, seed: int = 0) -> None:
        self.weight = Parameter(numbers(rows, cols, seed=seed))
        self.bias = None
        self.steps = Buffer(np.arange(3))

    def forward(self, x):
        return x @ self.weight


class Tied(Module):
    """Two leaves of one weight, and a third with its own."""

    def __init__(self) -> None:
        self.first = Leaf(seed=1)
        self.second = Leaf(seed=2)
        self.second.weight = self.first.weight
        self.scale = Parameter(numbers(4))
        self.third = Leaf(3, 2, seed=3)

    def forward(self, x):
        return self.third(self.first(x)) @ self.second.weight


def test_names_come_parents_first_and_tied_weights_once():
    model = Tied()
    assert [name for name, _ in model.named_parameters()] == [
        "scale",
        "first.weight",
        "third.weight",
    ]
    assert [name for name, _ in model.named_modules()] == ["", "first", "second", "third"]
    assert [name for name, _ in model.named_buffers()] == [
        "first.steps",
        "second.steps",
        "third.steps",
    ]
    assert list(model.parameters()) == [model.scale, model.first.weight, model.third.weight]
    assert model.num_parameters() == 4 + 6 + 6


def test_a_module_met_twice_is_walked_once():
    leaf = Leaf()
    model = nn.Sequential(leaf, leaf)
    assert len(list(model.modules())) == 2
    assert len(list(model.parameters())) == 1


def test_num_parameters_tells_frozen_from_trainable():
    model = Tied()
    model.third.requires_grad_(False)
    assert model.num_parameters(trainable=True) == 10
    assert model.num_parameters() == 16


def test_there_is_no_super_init_to_forget():
    class Forgetful(Module):
        def __init__(self):
            self.inner = Leaf()

    model = Forgetful()
    assert [name for name, _ in model.named_parameters()] == ["inner.weight"]
    assert model.eval().inner.training is False


def test_a_parameter_is_a_tensor_that_wants_its_gradient():
    parameter = Parameter(np.ones(3))
    assert isinstance(parameter, Tensor)
    assert parameter.requires_grad
    (parameter * 3.0).sum().backward()
    assert np.array_equal(parameter.grad.data, [3.0, 3.0, 3.0])
    assert not hasattr(parameter, "__dict__")
    with pytest.raises(TypeError, match="only floating tensors"):
        Parameter(np.arange(3))


# -- what would silently be left out ---------------------------------------------------------------


def test_lists_of_modules_are_refused():
    model = Tied()
    for value in ([Leaf()], (Leaf(),), {"a": Leaf()}, [Parameter(np.ones(2))]):
        with pytest.raises(TypeError, match=r"parameters\(\) does not find: use nn.ModuleList"):
            model.layers = value
    model.sizes = [1, 2]  # other lists are fine


def test_a_tensor_that_wants_a_gradient_but_is_no_parameter_is_refused():
    model = Tied()
    with pytest.raises(TypeError, match=r"Tied.weight .* make it an nn.Parameter"):
        model.weight = Tensor(np.ones(2), requires_grad=True)
    model.constant = Tensor(np.ones(2))
    model.cached = model.scale * 2.0  # a result is no forgotten parameter


def test_a_parameter_is_not_overwritten_by_an_array():
    model = Tied()
    for value in (np.ones(4), Tensor(np.ones(4)), 3.0):
        with pytest.raises(TypeError, match=r"Tied.scale is a parameter, .* wrap it in nn.Param"):
            model.scale = value
    model.scale = None
    assert "scale" not in dict(model.named_parameters())


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Blank has no forward"):
        type("Blank", (Module,), {})()(1)


# -- state -----------------------------------------------------------------------------------------


def test_state_round_trip_is_exact_and_in_place():
    model, other = Tied(), Tied()
    with no_grad():
        for parameter in model.parameters():
            parameter.add_(numbers(*parameter.shape, seed=9))
    held = list(other.parameters())
    assert other.load_state_dict(model.state_dict()) == ([], [])
    assert all(a is b for a, b in zip(held, other.parameters(), strict=True))
    for name, value in model.state_dict().items():
        assert np.array_equal(value, other.state_dict()[name])
    assert other.first.weight is other.second.weight


def test_a_state_is_a_snapshot():
    model = Tied()
    state = model.state_dict()
    before = {name: value.copy() for name, value in state.items()}
    with no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    assert all(np.array_equal(state[name], before[name]) for name in before)
    assert list(state) == [
        "scale",
        "first.weight",
        "first.steps",
        "second.steps",
        "third.weight",
        "third.steps",
    ]


def test_loading_keeps_dtype_and_takes_tensors():
    model = Tied().astype(np.float32)
    state = {name: Tensor(value) for name, value in Tied().state_dict().items()}
    model.load_state_dict(state)
    assert model.scale.dtype == np.float32
    assert np.array_equal(model.scale.data, state["scale"].data.astype(np.float32))


def test_every_reason_is_named_at_once_and_nothing_is_loaded():
    model = Tied()
    before = model.state_dict()
    state = {name: value + 1 for name, value in before.items()}
    state["third.weight"] = state["third.weight"].T
    state["first.wieght"] = state.pop("first.weight")
    state["scale"] = np.zeros(5)
    state["third.steps"] = np.array(["a", "b", "c"])
    with pytest.raises(ValueError) as caught:
        model.load_state_dict(state)
    message = str(caught.value)
    for part in (
        "Tied and the state do not fit, nothing was loaded",
        "third.weight: the module has shape (3, 2), the state (2, 3) (transposed)",
        "scale: the module has shape (4,), the state (5,)",
        "third.steps: not real numbers but <U1",
        "first.weight is missing; did you mean first.wieght?",
        "first.wieght is unknown; did you mean first.weight?",
    ):
        assert part in message
    for name, value in model.state_dict().items():
        assert np.array_equal(value, before[name])


def test_not_strict_loads_what_fits_but_never_a_wrong_shape():
    model = Tied()
    result = model.load_state_dict({"scale": np.full(4, 5.0), "scales": np.zeros(1)}, strict=False)
    assert np.array_equal(model.scale.data, np.full(4, 5.0))
    assert result.unexpected_keys == ["scales"]
    assert "first.weight" in result.missing_keys
    assert "second.weight" not in result.missing_keys
    with pytest.raises(ValueError, match=r"the module has shape \(4,\), the state \(1, 4\)"):
        model.load_state_dict({"scale": np.zeros((1, 4))}, strict=False)


def test_a_tied_weight_may_come_under_any_name_but_with_one_value():
    model = Tied()
    state = model.state_dict()
    new = state.pop("first.weight") + 1
    model.load_state_dict({**state, "second.weight": new})
    assert np.array_equal(model.first.weight.data, new)
    model.load_state_dict({**state, "first.weight": new, "second.weight": new.copy()})
    with pytest.raises(ValueError, match=r"second.weight is tied to first.weight, but the state"):
        model.load_state_dict({**state, "first.weight": new, "second.weight": new + 1})


def test_loading_between_forward_and_backward_is_noticed():
    model = Tied()
    y = model(Tensor(numbers(5, 2))).sum()
    model.load_state_dict(model.state_dict())
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_a_deep_copy_is_independent_and_stays_tied():
    model = Tied()
    twin = copy.deepcopy(model)
    assert twin.first.weight is twin.second.weight
    assert twin.first.weight is not model.first.weight
    with no_grad():
        twin.first.weight.fill_(0.0)
    assert np.any(model.first.weight.data != 0)


def test_random_generators_resume_where_they_were():
    model = nn.Sequential(nn.Dropout(0.5, rng=1), nn.Dropout(0.5, rng=2))
    x = Tensor(np.ones(50))
    state = model.rng_state()
    assert sorted(state) == ["0.rng", "1.rng"]
    first = model(x).data
    assert not np.array_equal(first, model(x).data)
    model.load_rng_state(state)
    assert np.array_equal(first, model(x).data)
    with pytest.raises(ValueError, match=r"the generators \['0.rng', '1.rng'\], the state \['0\.r"):
        model.load_rng_state({"0.rng": state["0.rng"]})


# -- modes, gradients, dtypes ----------------------------------------------------------------------


def test_the_gradient_of_a_tied_weight_is_the_sum_of_its_uses():
    model, x = Tied(), Tensor(numbers(5, 2))
    apart = Tied()
    apart.second.weight = Parameter(model.first.weight.data.copy())
    cotangent = numbers(5, 3, seed=8)
    model(x).backward(cotangent)
    apart(x).backward(cotangent)
    both = apart.first.weight.grad.data + apart.second.weight.grad.data
    assert np.array_equal(model.first.weight.grad.data, both)
    assert np.any(apart.second.weight.grad.data != 0)


def test_train_and_eval_reach_every_module():
    model = nn.Sequential(Tied(), nn.ModuleList([Leaf()]))
    assert all(module.training for module in model.modules())
    assert model.eval() is model
    assert not any(module.training for module in model.modules())
    assert model.train() is model
    assert all(module.training for module in model.modules())


def test_zero_grad():
    model = Tied()
    model(Tensor(numbers(5, 2))).sum().backward()
    model.zero_grad(set_to_none=False)
    assert np.array_equal(model.first.weight.grad.data, np.zeros((2, 3)))
    assert model.scale.grad is None
    model.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_astype_converts_values_and_gradients_but_no_integers():
    model = Tied()
    model(Tensor(numbers(5, 2))).sum().backward()
    weight = model.first.weight
    assert model.astype("float32") is model
    assert model.first.weight is weight
    assert weight.dtype == weight.grad.dtype == np.float32
    assert model.first.steps.dtype == np.arange(3).dtype
    assert model.second.weight is weight
    with pytest.raises(TypeError, match="must be floating, not int64"):
        model.astype(np.int64)


def test_to_cpu_keeps_the_parameters_and_an_unknown_device_is_refused():
    model = Tied()
    weight = model.first.weight
    model.to("cpu")
    assert model.first.weight is weight
    assert weight.requires_grad
    with pytest.raises(ValueError, match="unknown device"):
        model.to("abacus")


def test_repr_is_nested():
    model = nn.Sequential(
        nn.Linear(3, 4), nn.ModuleList([nn.LayerNorm(4), nn.LayerNorm(4), nn.Linear(4, 1)])
    )
    assert repr(model) == (
        "Sequential(\n"
        "  (0): Linear(in_features=3, out_features=4, bias=True)\n"
        "  (1): ModuleList(\n"
        "    (0-1): 2 x LayerNorm((4,), eps=1e-05)\n"
        "    (2): Linear(in_features=4, out_features=1, bias=True)\n"
        "  )\n"
        ")"
    )
    assert repr(Module()) == "Module()"


def test_module_list_and_sequential():
    layers = nn.ModuleList([Leaf(2, 3)])
    layers.append(Leaf(3, 2)).extend([Leaf(2, 5)])
    assert len(layers) == 3
    assert layers[-1].weight.shape == (2, 5)
    assert [leaf.weight.shape[0] for leaf in layers[1:]] == [3, 2]
    x = numbers(4, 2)
    want = x @ layers[0].weight.data @ layers[1].weight.data @ layers[2].weight.data
    assert np.array_equal(nn.Sequential(*layers)(Tensor(x)).data, want)
    with pytest.raises(TypeError, match="ModuleList holds modules, not function"):
        layers.append(lambda x: x)
    with pytest.raises(NotImplementedError, match="loop over it"):
        layers(x)


def test_functional_call_sends_gradients_to_the_tensors_it_was_given():
    model, x = Tied(), Tensor(numbers(5, 2))
    new = Tensor(numbers(2, 3, seed=4), requires_grad=True)
    y = nn.functional_call(model, {"second.weight": new}, x)
    want = x.data @ new.data @ model.third.weight.data @ new.data
    assert np.array_equal(y.data, want)
    y.sum().backward()
    assert new.grad is not None
    assert model.first.weight.grad is None
    assert isinstance(model.first.weight, Parameter)
    assert model.second.weight is model.first.weight
    with pytest.raises(ValueError, match=r"no first.wight; did you mean first.weight\?"):
        nn.functional_call(model, {"first.wight": new}, x)
    with pytest.raises(ValueError, match=r"scale has shape \(4,\), not \(2, 3\)"):
        nn.functional_call(model, {"scale": new}, x)
