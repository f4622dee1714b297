"""Distillation against torch's own divergence in float64, and at its limits."""

import pytest
import torch
import torch.nn.functional as F
from train.answers import gradient, small

from quoth.text.batches import IGNORED, Batch
from quoth.train.distillation import distillation, distilled
from quoth.train.objectives import counted, inputs, next_token


@pytest.fixture
def model():
    return small()


@pytest.fixture
def teacher():
    return small(seed=1)


def batch(weighted=True):
    rng = torch.Generator().manual_seed(5)
    x_BT, y_BT = torch.randint(10, (2, 3, 7), generator=rng)
    y_BT[0, 2] = IGNORED
    weight_BT = torch.rand(3, 7, generator=rng, dtype=torch.float64)
    weight_BT[1, 3:] = 0
    segment_BT = torch.tensor([[0, 0, 0, 1, 1, 1, 2]]).expand(3, 7)
    return Batch(x_BT, y_BT, weight_BT if weighted else None, segment_BT=segment_BT if weighted else None)


def logits(model, one):
    return model(*inputs(one))


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(("temperature", "alpha"), [(1.0, 0.0), (2.5, 0.0), (2.0, 0.3)])
def test_it_is_torchs_divergence(model, teacher, weighted, temperature, alpha):
    one = batch(weighted)
    where = counted(one)
    weight = one.weight_BT[where] if weighted else torch.ones(int(where.sum()), dtype=torch.float64)
    student_NV, teacher_NV = logits(model, one)[where], logits(teacher, one)[where].detach()

    def kl(at):
        found = F.kl_div((student_NV / at).log_softmax(-1), (teacher_NV / at).softmax(-1), reduction="none")
        return (found.sum(-1) * weight).sum()

    cross = (F.cross_entropy(student_NV, one.y_BT[where], reduction="none") * weight).sum()
    wanted = (1 - alpha) * temperature**2 * kl(temperature) + alpha * cross
    loss, told = distillation(teacher, temperature, alpha)(model, one)
    torch.testing.assert_close(loss, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(told["kl"], kl(1.0).detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(told["cross_entropy"], cross.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient(loss, model), gradient(wanted, model), rtol=0, atol=1e-12)


def test_in_parts_it_is_the_same(model, teacher):
    one = batch()
    whole = distillation(teacher, 2.0, 0.3)(model, one)[0]
    wanted = gradient(whole, model)
    parts = distillation(teacher, 2.0, 0.3, logits=3 * teacher.config.vocabulary)(model, one)[0]
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient(parts, model), wanted, rtol=0, atol=1e-12)


def kept_logits(model, objective, one):
    """How many places' logits, or numbers made of them, are kept for the backward pass."""
    kept = []

    def pack(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        objective(model, one)
    wide = [t for t in kept if t.dim() == 2 and t.shape[1] == model.config.vocabulary]
    return sum(
        len(t) for t in wide if not ((t == 0) | (t == 1)).all()
    )  # The embedding keeps its ids as zeros and ones.


def test_the_logits_of_a_large_vocabulary_are_not_kept(model, teacher):
    one = batch(weighted=False)
    assert kept_logits(model, distillation(teacher), one) >= one.x_BT.numel() - 1
    assert kept_logits(model, distillation(teacher, logits=4 * teacher.config.vocabulary), one) == 0


def test_a_student_that_is_its_teacher_has_nothing_to_learn(model):
    loss, told = distillation(small())(model, batch())
    assert loss.item() == pytest.approx(0, abs=1e-12) and told["kl"].item() == pytest.approx(0, abs=1e-12)
    assert gradient(loss, model).abs().max() < 1e-12


def test_with_alpha_one_the_teacher_says_nothing(model, teacher):
    one = batch()
    loss, wanted = distillation(teacher, 3.0, 1.0)(model, one)[0], next_token(model, one)
    torch.testing.assert_close(loss, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient(loss, model), gradient(wanted, model), rtol=0, atol=1e-12)


def test_when_hot_it_compares_centred_logits():
    """T² KL tends to half the mean square of the difference of the centred logits (Hinton et al. 2015, section 2.1)."""
    rng = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 4, 9, generator=rng, dtype=torch.float64)
    centred = (student - student.mean(-1, keepdim=True)) - (teacher - teacher.mean(-1, keepdim=True))
    hot = distilled(student, teacher, torch.zeros(4, dtype=torch.long), 1e4, 0.0)[0]
    torch.testing.assert_close(hot, 0.5 * (centred**2).mean(-1), rtol=1e-3, atol=0)


def test_the_teacher_is_frozen_and_the_student_keeps_its_head(model, teacher):
    teacher.train()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    head = model.head
    loss, _ = distillation(teacher)(model, batch())
    loss.backward()
    assert not teacher.training and all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
    assert model.head is head and all(p.grad is not None for p in model.parameters())


def test_where_nothing_counts_there_is_no_loss(model, teacher):
    one = batch()
    one.weight_BT.zero_()
    assert distillation(teacher)(model, one)[0].item() == 0
