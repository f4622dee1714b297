import pytest
import torch
import torch.nn.functional as F
from model.adapters import KINDS

from quoth.model.config import family
from quoth.model.layers import (
    GELU,
    Dropout,
    Embedding,
    LayerNorm,
    ReLU,
    RMSNorm,
    RotaryPositions,
    SwiGLU,
    project,
    rotate,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def randomized(module):
    for p in module.parameters():
        torch.nn.init.normal_(p)
    return module


@pytest.mark.parametrize("eps", [1e-6, 0.1])
def test_norms_are_those_of_torch(eps):
    x = torch.randn(2, 3, 24, dtype=torch.float64) * 3 + 1
    rms, layer, plain = (
        randomized(norm.double()) for norm in (RMSNorm(24, eps), LayerNorm(24, eps), LayerNorm(24, eps, bias=False))
    )
    torch.testing.assert_close(rms(x), F.rms_norm(x, (24,), rms.weight, eps), rtol=0, atol=1e-12)
    torch.testing.assert_close(layer(x), F.layer_norm(x, (24,), layer.weight, layer.bias, eps), rtol=0, atol=1e-12)
    torch.testing.assert_close(plain(x), F.layer_norm(x, (24,), plain.weight, None, eps), rtol=0, atol=1e-12)


def test_rmsnorm_keeps_the_type_and_sums_wide():
    x = torch.full((1, 4096), 300.0, dtype=torch.float16)  # The squares overflow in float16.
    y = RMSNorm(4096, 1e-6)(x)
    assert y.dtype == torch.float16
    torch.testing.assert_close(y, torch.ones_like(y), rtol=1e-3, atol=0)


@pytest.mark.parametrize("bias", [True, False])
def test_mlps_are_their_formulas(bias):
    c = family("modern", vocabulary=5, width=8, heads=1, hidden=12, bias=bias)
    x = torch.randn(2, 3, 8, dtype=torch.float64)
    relu, gelu, swiglu = (randomized(mlp(c).double()) for mlp in (ReLU, GELU, SwiGLU))
    torch.testing.assert_close(relu(x), relu.down(relu.up(x).clamp(min=0)))
    u = gelu.up(x)
    torch.testing.assert_close(
        gelu(x), gelu.down(u / 2 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (u + 0.044715 * u**3))))
    )
    g = swiglu.gate(x)
    torch.testing.assert_close(swiglu(x), swiglu.down(g / (1 + torch.exp(-g)) * swiglu.up(x)))
    assert (relu.up.bias is not None) == bias


def angles(start, end, head_size=16, theta=10_000.0):
    c = family("modern", vocabulary=5, width=64, context=64, head_size=head_size, rope_theta=theta)
    return RotaryPositions(c).angles(slice(start, end))


def test_rotation_keeps_lengths_and_starts_at_nothing():
    x = torch.randn(2, 3, 64, 16)
    turned = rotate(x, angles(0, 64))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[..., 0, :], x[..., 0, :])
    assert not torch.allclose(turned[..., 1, :], x[..., 1, :])


def test_angles_are_the_places_times_the_frequencies():
    cos, sin = angles(20, 50, head_size=8, theta=500.0)
    assert cos.shape == sin.shape == (30, 4)
    for row, place in enumerate(range(20, 50)):
        for k in range(4):
            angle = torch.tensor(place * 500.0 ** (-2 * k / 8), dtype=torch.float64)
            torch.testing.assert_close(cos[row, k].double(), angle.cos(), rtol=0, atol=1e-5)
            torch.testing.assert_close(sin[row, k].double(), angle.sin(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("first", "second"), [(0, 5), (20, 25), (58, 63)])
def test_products_depend_on_the_distance_alone(first, second):
    q, k = torch.randn(2, 1, 1, 1, 16, dtype=torch.float64)

    def product(i, j):
        return (rotate(q, angles(i, i + 1)) * rotate(k, angles(j, j + 1))).sum()

    torch.testing.assert_close(product(first, second), product(7, 12), rtol=0, atol=1e-5)
    assert (product(first, second) - product(7, 13)).abs() > 1e-3


@pytest.mark.parametrize("cast", ["bfloat16", "half", "double"])
def test_angles_stay_exact_whatever_a_model_is_cast_to(cast):
    positions = RotaryPositions(family("modern", vocabulary=5, width=64, context=64))
    wanted = [table.clone() for table in positions.angles(slice(0, 64))]
    for got in (getattr(positions, cast)().angles(slice(0, 64)), positions.float().angles(slice(0, 64))):
        assert all(map(torch.equal, got, wanted))


def test_angles_are_right_in_a_model_that_was_made_without_memory():
    c = family("modern", vocabulary=5, width=64, context=64)
    with torch.device("meta"):
        positions = RotaryPositions(c)
    assert positions.cos_TK.is_meta
    assert all(map(torch.equal, positions.to_empty(device="cpu").angles(slice(0, 64)), angles(0, 64, head_size=64)))


def dropout(shape, rate=0.25):
    return Dropout(family("lecture", vocabulary=5, dropout=rate, dropout_shape=shape))


@pytest.mark.parametrize("shape", ["element", "channel"])
def test_dropout_keeps_the_expectation_and_is_off_in_eval(shape):
    drop, x = dropout(shape), torch.ones(200, 8, 100)
    y = drop(x)
    assert y.unique().tolist() == pytest.approx([0, 4 / 3])
    assert y.mean().item() == pytest.approx(1, abs=0.02)
    assert drop.eval()(x) is x
    assert dropout(shape, rate=0.0)(x) is x


def test_the_channel_mask_is_shared_along_time_and_drawn_for_each_sequence():
    y = dropout("channel")(torch.ones(4, 8, 100))
    assert torch.equal(y, y[:, :1].expand_as(y))
    assert not torch.equal(y[0], y[1])
    y = dropout("element")(torch.ones(4, 8, 100))
    assert not torch.equal(y, y[:, :1].expand_as(y))


@pytest.mark.parametrize("bias", [True, False])
def test_one_product_of_stacked_weights_equals_several(bias):
    linears = [torch.nn.Linear(6, size, bias=bias).double() for size in (4, 3, 3)]
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    for stacked, linear in zip(project(x, *linears), linears, strict=True):
        torch.testing.assert_close(stacked, linear(x), atol=1e-14, rtol=0)
    for alone, linear in zip(project(x, *(linear.eval() for linear in linears)), linears, strict=True):
        assert torch.equal(alone, linear(x))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [0, 2])
def test_a_layer_that_is_more_than_its_weights_is_called(kind, place):
    linears = [torch.nn.Linear(6, size, bias=False).double() for size in (4, 3, 3)]
    linears[place] = KINDS[kind](linears[place])
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    for got, linear in zip(project(x, *linears), linears, strict=True):
        torch.testing.assert_close(got, linear(x), atol=1e-14, rtol=0)


@pytest.mark.parametrize("place", [0, 1])
def test_a_bias_that_only_one_of_several_has_is_added(place):
    linears = [torch.nn.Linear(6, 4, bias=n == place).double() for n in range(2)]
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    for got, linear in zip(project(x, *linears), linears, strict=True):
        torch.testing.assert_close(got, linear(x), atol=1e-14, rtol=0)


@pytest.mark.parametrize("vocabulary", [20, 400])
def test_a_multiplied_table_equals_a_looked_up_one_and_so_does_its_gradient(vocabulary):
    table = Embedding(vocabulary, 8).double()
    ids = torch.randint(vocabulary, (4, 9))
    upstream = torch.randn(4, 9, 8, dtype=torch.float64)
    (multiplied,) = torch.autograd.grad((table(ids) * upstream).sum(), table.weight)
    assert torch.equal(table(ids), table.weight[ids])
    looked_up = torch.zeros(vocabulary, 8, dtype=torch.float64).index_add(0, ids.flatten(), upstream.flatten(0, 1))
    torch.testing.assert_close(multiplied, looked_up, atol=1e-14, rtol=0)
