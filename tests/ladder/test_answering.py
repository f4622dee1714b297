"""What the chapters on tuning say is so, and their exercises are what `quoth tune` computes."""

import math

import pytest
import torch
import torch.nn.functional as F

from quoth.ladder import advantages, dpo, finetuning, policy_gradient, ppo, reward_model
from quoth.ladder.checker.exercise import Function
from quoth.ladder.enumerated import ANSWERS, PROMPTS, REFERENCE_PN, REWARD_PN, STRENGTH_PN, Policy, comparisons, rows
from quoth.ladder.exercises import exercises
from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Table
from quoth.ladder.policy_gradient import optimum
from quoth.model.attention import Segments
from quoth.text.chat import Template
from quoth.text.special import ASSISTANT, for_chat
from quoth.text.tokenizer import Characters
from quoth.train import advantages as shipped
from quoth.train.policy import clipped_policy
from quoth.train.preferences import bradley_terry
from quoth.train.preferences import dpo as dpo_objective

pytestmark = pytest.mark.usefixtures("one_thread")
NEAR = {"rtol": 1e-5, "atol": 1e-6}


def right(name: str) -> Function:
    return exercises()[name].right


def each_apart_by_one_number(found_PN: torch.Tensor, wanted_PN: torch.Tensor) -> bool:
    apart_PN = found_PN - wanted_PN
    return torch.allclose(apart_PN, apart_PN[:, :1].expand_as(apart_PN), **NEAR)


def test_comparisons_come_out_by_the_strengths() -> None:
    batch = comparisons()
    pairs = list(
        zip(batch.x_BT[::2, 0].tolist(), batch.y_BT[::2, 0].tolist(), batch.y_BT[1::2, 0].tolist(), strict=True)
    )
    for p in range(len(PROMPTS)):
        for a in range(len(ANSWERS)):
            for b in set(range(len(ANSWERS))) - {a}:
                assert pairs.count((p, a, b)) == STRENGTH_PN[p, a]
                assert STRENGTH_PN[p, a] / (STRENGTH_PN[p, a] + STRENGTH_PN[p, b]) == pytest.approx(
                    (REWARD_PN[p, a] - REWARD_PN[p, b]).sigmoid().item()
                )


def test_a_reward_model_learns_the_reward_but_for_a_number_for_each_prompt() -> None:
    assert each_apart_by_one_number(reward_model.learned(), REWARD_PN)


@pytest.mark.parametrize("beta", [3.0, 1.0, 0.3])
def test_the_exact_gradient_leads_to_the_best_policy(beta: float) -> None:
    best_PN = optimum(beta)
    torch.testing.assert_close(policy_gradient.reached(beta), best_PN, **NEAR)

    def value(log_PN: torch.Tensor) -> torch.Tensor:
        return (log_PN.exp() * (REWARD_PN - beta * (log_PN - REFERENCE_PN))).sum(-1)

    # No other is better; and its value is β log Z.
    for _ in range(20):
        assert (value((best_PN + 0.1 * torch.randn_like(best_PN)).log_softmax(-1)) < value(best_PN)).all()
    torch.testing.assert_close(value(best_PN), beta * (REFERENCE_PN + REWARD_PN / beta).logsumexp(-1))


def test_a_mistaken_reward_rises_to_the_end_and_the_true_one_falls(lesson: Lesson) -> None:
    table = next(p for p in policy_gradient.explain(lesson) if isinstance(p, Table) and "true reward" in p.columns)
    _, kl, reward, true = (list(column) for column in zip(*table.rows, strict=True))
    assert kl == sorted(kl) and reward == sorted(reward)
    top = true.index(max(true))
    assert 0 < top < len(true) - 1 and true[:top] == sorted(true[:top]) and true[top:] == sorted(true[top:])[::-1]


def test_estimates_of_the_kl_miss_what_is_said_of_them() -> None:
    missed = dict(policy_gradient.misses(optimum(1.0)))
    assert missed["k1 in the loss"] == pytest.approx(1, abs=1e-9)
    assert missed["k1 in the reward"] < 1e-12 and missed["k3 times the ratio in the loss"] < 1e-12
    assert missed["k3 in the loss"] > 0.1


def test_what_is_subtracted_from_a_reward_does_to_the_gradient_what_is_said() -> None:
    nothing, every, others, group, divided = advantages.estimates().values()
    for length, degrees, variance in (every, others):
        assert length == pytest.approx(1, abs=1e-6) and degrees < 0.01 and variance < nothing[2] / 10
    assert nothing[:2] == (pytest.approx(1, abs=1e-6), pytest.approx(0, abs=0.01))
    assert group[:2] == (pytest.approx(1 - 1 / advantages.GROUP, abs=1e-6), pytest.approx(0, abs=0.01))
    assert divided[1] > 5


def test_the_clip_keeps_a_policy_near() -> None:
    for seed in range(5):
        drawn = ppo.answers(seed)
        kl, free = (
            (log.exp() * (log - REFERENCE_PN[0])).sum() for log in (ppo.passes(drawn, c, 200) for c in (0.2, math.inf))
        )
        assert 0 < kl < 0.75 < 1.2 < free


def test_the_minimum_lets_a_token_come_back() -> None:
    ratio_N = torch.tensor([0.5, 1.0, 1.5])
    assert ppo.slope(ratio_N, 1.0).tolist() == [1, 1, 0] and ppo.slope(ratio_N, -1.0).tolist() == [0, -1, -1]


def test_dpo_finds_the_best_policy_and_its_implicit_reward_is_the_reward() -> None:
    policy_PN = dpo.learned()
    torch.testing.assert_close(policy_PN, optimum(dpo.BETA), **NEAR)
    assert each_apart_by_one_number(dpo.BETA * (policy_PN - REFERENCE_PN), REWARD_PN)


def test_where_all_agree_the_sigmoid_never_has_enough_and_ipo_does() -> None:
    margins = [dpo.agreed("sigmoid", steps) for steps in (100, 1000, 4000)]
    assert margins[0] + 1 < margins[1] < margins[2] - 1
    assert dpo.agreed("ipo", 200) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.slow
def test_finetuning_teaches_to_answer_and_plain_text_keeps_what_was_learned(lesson: Lesson) -> None:
    *_, table = (part for part in finetuning.explain(lesson) if isinstance(part, Table))
    (_, *before), (_, *after), (_, *kept) = table.rows
    assert float(before[0]) < 0.1 and all(float(row[i]) >= 0.9 for row in (after, kept) for i in (0, 1))
    assert after[2] > kept[2] + 1 and kept[2] < before[2] + 0.5


def by_hand(reward_T, value_T, gamma, lam):
    found_T, later, value = torch.zeros_like(reward_T), 0.0, 0.0
    for t in reversed(range(len(reward_T))):
        later = reward_T[t] + gamma * value - value_T[t] + gamma * lam * later
        found_T[t], value = later, value_T[t]
    return found_T


def maximum(new, old, advantage, clip):
    ratio = (new - old).exp()
    return torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip))


# As people write it elsewhere.
OTHERS = {
    "advantages-1": lambda r: (r - r.mean()) / (r.std() + 1e-4),
    "advantages-3": by_hand,
    "reward-model-1": lambda chosen, rejected: F.softplus(rejected - chosen).mean(),
    "policy-gradient-1": lambda p, q: F.kl_div(
        q.log_softmax(-1), p.log_softmax(-1), reduction="none", log_target=True
    ).sum(-1),
    "ppo-1": maximum,
    "finetuning-1": lambda ids, roles, begin: [
        1 if role == "assistant" and i != begin else 0 for i, role in zip(ids, roles, strict=True)
    ][1:],
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_way_to_write_it_is_right(name: str) -> None:
    known = exercises()[name]
    assert known.judge([OTHERS[name](*arguments) for arguments in known.cases()]) is None


def test_weights_are_the_templates() -> None:
    tokenizer = for_chat(Characters("abcdef"))
    said = [("user", "ab"), ("assistant", "cde"), ("user", "f"), ("assistant", "a")]
    messages = [{"role": role, "content": content} for role, content in said]
    ids, weights = Template(str(tokenizer.template)).ids_and_weights(messages, tokenizer)
    roles = [role for role, content in said for _ in range(len(content) + 2)]
    assert right("finetuning-1")(ids, roles, tokenizer.special[ASSISTANT]) == weights[1:]


def test_a_packed_mask_is_the_shipped_one() -> None:
    segment_BT = torch.tensor([[0, 0, 1, 1, 1, 4], [2, 2, 2, 2, 3, 3]])
    for segment_T, visible in zip(segment_BT, Segments(segment_BT).visible_B1TT[:, 0], strict=True):
        assert torch.equal(right("finetuning-2")(segment_T), visible)


def test_a_pairs_loss_and_accuracy_are_those_of_the_shipped_objective() -> None:
    class Scores(torch.nn.Module):
        def forward(self, token_BT: torch.Tensor) -> torch.Tensor:
            return score_V[token_BT][..., None]

    score_V = torch.tensor([0.3, -1.0, 2.0, 2.0, -60.0, 70.0])
    answered = [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (0, 5)]
    total, told = bradley_terry(Scores(), rows(answered))  # type: ignore[misc]
    chosen_N, rejected_N = score_V[0::2], score_V[1::2]
    torch.testing.assert_close(right("reward-model-1")(chosen_N, rejected_N), total / 3)
    torch.testing.assert_close(right("reward-model-2")(chosen_N, rejected_N), told["accuracy"] / 3)


def test_rewards_of_tokens_are_those_that_ppo_has() -> None:
    policy_T, reference_T = -torch.rand(2, 5)
    mask_BT = torch.ones(1, 5).bool()
    found = shipped.token_rewards(torch.tensor([1.5]), policy_T[None], reference_T[None], mask_BT, 0.3)[0]
    torch.testing.assert_close(right("policy-gradient-2")(1.5, policy_T, reference_T, 0.3), found)


def test_the_gradient_of_the_reward_is_autograds() -> None:
    logit_N, reward_N = torch.randn(2, 6, dtype=torch.float64)
    logit_N.requires_grad_()
    (found,) = torch.autograd.grad(logit_N.softmax(-1) @ reward_N, logit_N)
    torch.testing.assert_close(right("policy-gradient-3")(logit_N.detach(), reward_N), found)


@pytest.mark.parametrize("rewards", [[10.0, -20.0, 35.0, 0.0], [3.0, 3.0, 3.0], [0.1] * 7])
def test_advantages_of_a_group_are_the_shipped_ones(rewards: list[float]) -> None:
    reward_N = torch.tensor(rewards)
    for name, there in (("advantages-1", shipped.grpo_advantages), ("advantages-2", shipped.rloo_advantages)):
        found = there(reward_N, len(rewards)).advantage_B
        torch.testing.assert_close(right(name)(reward_N), found, rtol=1e-4, atol=1e-5)


def test_a_token_teaches_where_the_clipped_loss_has_a_gradient() -> None:
    ratio_N, advantage_N = 2 * torch.rand(200, dtype=torch.float64), torch.randn(200, dtype=torch.float64)
    new_N = ratio_N.log().requires_grad_()
    loss_N, _ = clipped_policy(new_N, torch.zeros_like(ratio_N), advantage_N, 0.2)
    (gradient_N,) = torch.autograd.grad(loss_N.sum(), new_N)
    assert torch.equal(right("ppo-2")(ratio_N, advantage_N, 0.2), gradient_N != 0)


def test_the_loss_of_dpo_is_the_shipped_objectives() -> None:
    policy = Policy(torch.randn(2, 5, dtype=torch.float64))
    answered = [(0, 0), (0, 3), (1, 2), (1, 1)]
    batch = dpo.with_reference(rows(answered))
    loss = dpo_objective(0.3)(policy, batch)
    now_B, before_B = (
        torch.stack([log_PN[place] for place in answered]) for log_PN in (policy.log_probs(), REFERENCE_PN)
    )
    found = right("dpo-2")(now_B[0::2], now_B[1::2], before_B[0::2], before_B[1::2], 0.3)
    torch.testing.assert_close(found, loss[0] / 2)  # type: ignore[index]
    torch.testing.assert_close(right("dpo-1")(REFERENCE_PN, REWARD_PN, 0.3), optimum(0.3))
