from dataclasses import replace

import numpy as np
import pytest
import torch
from train.answers import answered, gradient, small, with_more

from quoth.train.divergence import entropy, k3, kl_per_place
from quoth.train.objectives import token_loss
from quoth.train.policy import ActorCritic, clipped_policy, grpo, ppo, rloo
from quoth.tune.score import scorer_of

ROWS = [([1, 2, 3], [4, 5, 9]), ([1, 2], [6, 9]), ([7], [8, 8, 8, 9]), ([7], [9])]
NAN = float("nan")


@pytest.fixture
def model():
    return small()


@pytest.fixture
def pair(model):
    critic = scorer_of(model)
    torch.nn.init.normal_(critic.head.weight, std=0.3)
    return ActorCritic(model, critic)


def spread(values, mask, outside=0.0):
    """Numbers for the targets that count, in their order, and `outside` elsewhere."""
    found = torch.full(mask.shape, outside, dtype=torch.float64)
    found[mask] = values
    return found


def rollouts(model, outside=0.0, **layout):
    """Answers whose old log-probabilities lie far enough from the present for many tokens to be clipped."""
    batch = answered(ROWS, **layout)
    mask, random = batch.weight_BT > 0, torch.Generator().manual_seed(3)

    def drawn(scale):
        return scale * torch.randn(int(mask.sum()), generator=random, dtype=torch.float64)

    with torch.no_grad():
        now = -token_loss(model, batch)[mask]
    given = {"old_BT": now + drawn(0.3), "reference_BT": now + drawn(0.5), "advantage_BT": drawn(1.0)}
    given |= {"value_BT": drawn(0.3), "return_BT": drawn(1.0)}
    return with_more(batch, **{name: spread(values, mask, outside) for name, values in given.items()})


def taken(model, batch):
    """What the objectives are made of, at the targets that count, as NumPy's float64."""
    mask = batch.weight_BT > 0
    with torch.no_grad():
        new = -token_loss(model, batch)[mask]
    return new.numpy(), {name: t[mask].numpy() for name, t in batch.more.items()}


def slow_clipped(new, more, low=0.2, high=0.2):
    """PPO's loss, a token at a time; and whether the clip stops each token's gradient."""
    loss, stopped = [], []
    for n, o, a in zip(new, more["old_BT"], more["advantage_BT"], strict=True):
        ratio = np.exp(n - o)
        if a > 0:
            loss.append(-a * min(ratio, 1 + high))
            stopped.append(ratio > 1 + high)
        else:
            loss.append(-a * max(ratio, 1 - low))
            stopped.append(ratio < 1 - low)
    return np.array(loss), np.array(stopped)


@pytest.mark.parametrize("value_clip", [0.2, None])
def test_ppo_is_its_definition(pair, value_clip):
    batch = rollouts(pair.policy)
    new, more = taken(pair.policy, batch)
    policy, stopped = slow_clipped(new, more)
    assert 0 < stopped.sum() < len(stopped)
    with torch.no_grad():
        value = pair.critic(batch.x_BT)[..., 0][batch.weight_BT > 0].numpy()
    error = (value - more["return_BT"]) ** 2
    if value_clip:
        near = np.clip(value, more["value_BT"] - value_clip, more["value_BT"] + value_clip)
        error = np.maximum(error, (near - more["return_BT"]) ** 2)
    loss, told = ppo(value=0.7, value_clip=value_clip)(pair, batch)
    assert loss.item() == pytest.approx((policy + 0.7 * error / 2).sum(), abs=1e-12)
    assert told["value_loss"].item() == pytest.approx(error.sum() / 2, abs=1e-12)
    assert told["clip_share"].item() == pytest.approx(stopped.sum())
    assert told["ratio"].item() == pytest.approx(np.exp(new - more["old_BT"]).sum())


@pytest.mark.parametrize("times_ratio", [True, False])
def test_grpo_is_its_definition(model, times_ratio):
    batch = rollouts(model)
    new, more = taken(model, batch)
    policy, stopped = slow_clipped(new, more, 0.2, 0.3)
    d = more["reference_BT"] - new
    kl = np.exp(d) - d - 1
    with torch.no_grad():
        log = model(batch.x_BT).log_softmax(-1)[batch.weight_BT > 0].numpy()
    h = -(np.exp(log) * log).sum(-1)
    expected = policy + 0.4 * kl * (np.exp(new - more["old_BT"]) if times_ratio else 1) - 0.01 * h
    loss, told = grpo(0.2, clip_high=0.3, beta=0.4, times_ratio=times_ratio, entropy=0.01)(model, batch)
    assert loss.item() == pytest.approx(expected.sum(), abs=1e-12)
    assert told["kl"].item() == pytest.approx(kl.sum(), abs=1e-12)
    assert told["entropy"].item() == pytest.approx(h.sum(), abs=1e-12)
    assert told["clip_share"].item() == pytest.approx(stopped.sum())


def test_the_entropys_bonus_makes_it_greater(model):
    batch = rollouts(model)
    batch = with_more(batch, advantage_BT=torch.zeros_like(batch.weight_BT))
    assert not gradient(grpo()(model, batch)[0], model).any()
    bonus = gradient(grpo(entropy=1.0)(model, batch)[0], model)
    h = (entropy(model(batch.x_BT)) * batch.weight_BT).sum()
    torch.testing.assert_close(bonus, -gradient(h, model), rtol=0, atol=1e-12)


def test_at_ratio_1_ppo_is_reinforce(model):
    batch = rollouts(model)
    with torch.no_grad():
        batch = with_more(batch, old_BT=-token_loss(model, batch))
    reinforce = (token_loss(model, batch) * batch.more["advantage_BT"] * batch.weight_BT).sum()
    ours = rloo()(model, batch)[0]
    torch.testing.assert_close(gradient(ours, model), gradient(reinforce, model), rtol=0, atol=1e-12)


def test_a_clipped_token_has_no_gradient():
    new = torch.tensor([0.5, 0.5, -0.5, -0.5], requires_grad=True)
    loss, _ = clipped_policy(new, torch.zeros(4), torch.tensor([1.0, -1.0, 1.0, -1.0]))
    loss.sum().backward()
    assert (new.grad != 0).tolist() == [False, True, True, False]


def objectives(pair):
    return {
        "ppo": (ppo(entropy=0.1), pair),
        "grpo": (grpo(beta=0.3, entropy=0.1), pair.policy),
        "plain": (grpo(beta=0.3, times_ratio=False), pair.policy),
        "rloo": (rloo(), pair.policy),
    }


@pytest.mark.parametrize("name", ["ppo", "grpo", "plain", "rloo"])
@pytest.mark.parametrize("layout", [{"junk": 5}, {"width": 13}, {"left": True}, {"left": True, "width": 12}])
@pytest.mark.parametrize("outside", [0.0, NAN, 1e9, -1e9])
def test_what_stands_outside_of_answers_has_no_influence(pair, name, layout, outside):
    objective, model = objectives(pair)[name]
    loss, told = objective(model, rollouts(pair.policy))
    other, also_told = objective(model, rollouts(pair.policy, outside, **layout))
    torch.testing.assert_close(loss, other, rtol=0, atol=1e-11)
    torch.testing.assert_close(gradient(loss, model), gradient(other, model), rtol=0, atol=1e-11)
    torch.testing.assert_close(told, also_told, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", ["ppo", "grpo", "plain", "rloo"])
@pytest.mark.parametrize("units", [None, 4.0])
def test_a_microbatch_without_an_answer_is_worth_nothing(pair, name, units):
    objective, model = objectives(pair)[name]
    batch = rollouts(pair.policy, outside=NAN)
    empty = replace(batch, weight_BT=torch.zeros_like(batch.weight_BT), units=units)
    loss, told = objective(model, empty)
    assert loss.item() == 0
    assert not gradient(loss, model).any()
    assert not any(value.item() for value in told.values())


@pytest.mark.parametrize("name", ["ppo", "grpo", "plain", "rloo"])
def test_microbatches_sum_to_their_batch(pair, name):
    objective, model = objectives(pair)[name]
    batch = rollouts(pair.policy)

    def rows(where):
        cut = {n: t[where] for n, t in vars(batch).items() if isinstance(t, torch.Tensor)}
        return replace(batch, **cut, more={n: t[where] for n, t in batch.more.items()})

    whole, told = objective(model, batch)
    parts = [objective(model, rows(where)) for where in (slice(0, 1), slice(1, 4))]
    torch.testing.assert_close(sum(loss for loss, _ in parts), whole, rtol=0, atol=1e-12)
    grown = sum(gradient(loss, model) for loss, _ in parts)
    torch.testing.assert_close(grown, gradient(whole, model), rtol=0, atol=1e-12)
    for key, value in told.items():
        torch.testing.assert_close(sum(part[key] for _, part in parts), value, rtol=0, atol=1e-12)


def test_metrics_are_means_over_tokens_whatever_the_weights_and_units_are(model):
    batch = rollouts(model)
    usual = grpo()(model, batch)[1]["ratio"] / batch.count
    scaled = replace(batch, weight_BT=batch.weight_BT / 7, units=4.0)
    torch.testing.assert_close(grpo()(model, scaled)[1]["ratio"] / scaled.count, usual)


def test_kl_and_entropy_are_their_definitions():
    policy, reference = torch.randn(2, 3, 5).double(), torch.randn(2, 3, 5).double()
    p, q = policy.softmax(-1).numpy(), reference.softmax(-1).numpy()
    np.testing.assert_allclose(kl_per_place(policy, reference), (p * np.log(p / q)).sum(-1), atol=1e-12)
    np.testing.assert_allclose(entropy(policy), -(p * np.log(p)).sum(-1), atol=1e-12)
    assert kl_per_place(policy.bfloat16(), reference.bfloat16()).dtype == torch.float32


def test_k3_of_nearly_equal_policies_is_not_rounded_to_nothing():
    """exp(d) − 1 loses all digits of a small d, half of which k3 is made of."""
    d = 1e-3
    found = k3(torch.tensor(0.0), torch.tensor(d)).item()
    assert found == pytest.approx(d**2 / 2 + d**3 / 6, rel=1e-3)
