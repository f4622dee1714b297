import numpy as np
import pytest
import torch

from quoth.system.errors import InputError
from quoth.train.advantages import (
    answer_weights,
    explained_variance,
    gae,
    grpo_advantages,
    rloo_advantages,
    standardized,
    token_rewards,
)

NAN = float("nan")
# A row with a gap, one padded on the left, one on the right, and one without an answer.
MASK = torch.tensor([[0, 1, 1, 0, 1, 1], [0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0]]).bool()


def numbers(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def slow_gae(reward, value, mask, gamma, lam):
    """The definition: a sum over all later tokens, for each token."""
    found = torch.zeros_like(reward)
    for b in range(len(reward)):
        places = mask[b].nonzero()[:, 0].tolist()
        for n, t in enumerate(places):
            for k, u in enumerate(places[n:]):
                after = value[b, places[n + k + 1]] if n + k + 1 < len(places) else 0.0
                found[b, t] += (gamma * lam) ** k * (reward[b, u] + gamma * after - value[b, u])
    return found


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.97, 0.9), (1.0, 1.0), (0.9, 0.0)])
def test_gae_is_its_definition(gamma, lam):
    reward, value = numbers(4, 6), numbers(4, 6)
    expected = slow_gae(reward, value, MASK, gamma, lam)
    torch.testing.assert_close(gae(reward, value, MASK, gamma, lam), expected, rtol=0, atol=1e-12)
    junk = torch.where(MASK, 0, NAN)
    assert torch.equal(gae(reward + junk, value + junk, MASK, gamma, lam), gae(reward, value, MASK, gamma, lam))


def test_with_lambda_1_an_advantage_is_the_reward_to_go_less_the_value():
    reward, value, mask = numbers(1, 4), numbers(1, 4), torch.ones(1, 4).bool()
    to_go = reward.flip(1).cumsum(1).flip(1)
    torch.testing.assert_close(gae(reward, value, mask, 1.0, 1.0), to_go - value, rtol=0, atol=1e-12)


def test_group_advantages_are_their_definitions():
    reward = numbers(12)
    groups = reward.numpy().reshape(3, 4)
    centred = groups - groups.mean(1, keepdims=True)
    plain, divided = grpo_advantages(reward, 4, divide=False), grpo_advantages(reward, 4)
    np.testing.assert_allclose(plain.advantage_B.reshape(3, 4), centred, atol=1e-12)
    expected = centred / (groups.std(1, ddof=1, keepdims=True) + 1e-4)
    np.testing.assert_allclose(divided.advantage_B.reshape(3, 4), expected, atol=1e-12)
    others = np.stack([groups[:, n] - np.delete(groups, n, 1).mean(1) for n in range(4)], 1)
    np.testing.assert_allclose(rloo_advantages(reward, 4).advantage_B.reshape(3, 4), others, atol=1e-12)
    assert plain.known_B.all()
    assert (plain.lost, plain.equal) == (0, 0.0)


@pytest.mark.parametrize("advantages", [grpo_advantages, rloo_advantages])
@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e30, -7.0])
def test_equal_rewards_teach_nothing(advantages, value):
    """0.1 + 0.1 + 0.1 less three times a mean is not 0, and 0/0 is NaN."""
    found = advantages(torch.tensor([value, value, value, 1.0, 2.0, 4.0]), 3)
    assert found.advantage_B[:3].tolist() == [0, 0, 0]
    assert found.advantage_B[3:].all()
    assert found.equal == 0.5


@pytest.mark.parametrize("advantages", [grpo_advantages, rloo_advantages])
@pytest.mark.parametrize("lost", [NAN, float("inf"), -float("inf")])
def test_a_lost_reward_is_left_out_of_its_group(advantages, lost):
    whole, without = torch.tensor([1.0, 4.0, lost, 2.0, 5.0, 6.0, 7.0, 9.0]), torch.tensor([1.0, 4.0, 2.0])
    found = advantages(whole, 4)
    assert found.advantage_B.isfinite().all()
    kept = found.advantage_B[[0, 1, 3]]
    torch.testing.assert_close(kept, advantages(without, 3).advantage_B, rtol=1e-6, atol=1e-6)
    assert found.advantage_B[2] == 0
    assert torch.equal(found.advantage_B[4:], advantages(whole[4:], 4).advantage_B)
    assert found.known_B.tolist() == [True, True, False, True, True, True, True, True]
    assert found.lost == 1


@pytest.mark.parametrize("advantages", [grpo_advantages, rloo_advantages])
def test_an_answer_with_nothing_to_compare_has_no_advantage(advantages):
    found = advantages(torch.tensor([5.0, NAN, NAN, NAN]), 2)
    assert found.advantage_B.tolist() == [0, 0, 0, 0]
    assert found.lost == 3
    assert found.equal == 1


@pytest.mark.parametrize("group", [1, 0, 3])
def test_groups_that_are_none_are_refused(group):
    with pytest.raises(InputError, match=rf"4 answers in groups of {group} are no such groups\.$"):
        grpo_advantages(torch.zeros(4), group)


def test_the_score_comes_with_the_last_token_and_the_kl_with_each():
    policy, reference, score = numbers(4, 6), numbers(4, 6), numbers(4)
    found = token_rewards(score, policy, torch.where(MASK, reference, NAN), MASK, 0.3)
    expected = torch.where(MASK, -0.3 * (policy - reference), 0)
    for row, last in enumerate((5, 5, 3)):
        expected[row, last] += score[row]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_standardized_advantages_have_mean_0_and_deviation_1():
    found = standardized(torch.where(MASK, 7 + 3 * numbers(4, 6), NAN), MASK)
    assert found[MASK].mean().item() == pytest.approx(0, abs=1e-12)
    assert found[MASK].std(correction=0).item() == pytest.approx(1, abs=1e-12)
    assert not found[~MASK].any()
    assert not standardized(torch.full((4, 6), 0.1), MASK).any()
    assert not standardized(torch.ones(4, 6), torch.zeros(4, 6).bool()).any()


def test_explained_variance_is_its_definition():
    value, returned = numbers(4, 6), numbers(4, 6)
    v, r = value[MASK].numpy(), returned[MASK].numpy()
    assert explained_variance(value, returned, MASK) == pytest.approx(1 - (r - v).var() / r.var(), abs=1e-12)
    assert explained_variance(returned + 5, returned, MASK) == pytest.approx(1)
    assert explained_variance(value, torch.ones(4, 6), MASK) == 0
    assert explained_variance(value, returned, torch.zeros(4, 6).bool()) == 0


def test_weights_make_the_mean_that_is_asked_for():
    loss = numbers(4, 6)
    tokens, answers = answer_weights(MASK), answer_weights(MASK, "answers")
    assert (loss * tokens).sum() / tokens.sum() == pytest.approx(loss[MASK].mean())
    each = torch.stack([loss[n][MASK[n]].mean() for n in range(3)])
    assert ((loss * answers).sum() / answers.sum()).item() == pytest.approx(each.mean().item())
    assert torch.equal(answer_weights(MASK, "longest", 8), tokens / 8)
