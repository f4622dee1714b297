import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quoth.system.errors import InputError
from quoth.system.world import World
from quoth.text.batches import IGNORED, Batch, Later, Windows, shuffled

TOKENS = np.arange(1000, dtype=np.uint16)


def windows(tokens=TOKENS, **given):
    return Windows(tokens, **{**dict(batch=4, context=16, seed=3), **given})


@given(size=st.integers(1, 5000), keys=st.lists(st.integers(0, 2**63), min_size=4, max_size=4))
def test_shuffled_is_a_permutation(size, keys):
    order = shuffled(np.arange(size), size, np.array(keys, dtype=np.uint64))
    assert np.array_equal(np.sort(order), np.arange(size))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 15, 16, 17, 255, 256, 257, 65536, 65537])
def test_shuffled_is_a_permutation_at_the_borders(size):
    order = shuffled(np.arange(size), size, np.arange(4, dtype=np.uint64))
    assert np.array_equal(np.sort(order), np.arange(size))
    assert np.array_equal(shuffled(np.arange(size)[::3], size, np.arange(4, dtype=np.uint64)), order[::3])


def test_shuffled_shuffles():
    rng, size = np.random.default_rng(0), 3000
    firsts = []
    for _ in range(200):
        order = shuffled(np.arange(size), size, rng.integers(2**63, size=4, dtype=np.uint64))
        assert abs(np.corrcoef(order, np.arange(size))[0, 1]) < 0.1
        assert np.mean(np.abs(np.diff(order)) == 1) < 0.01
        firsts.append(order[0])
    assert len(set(firsts)) > 180
    assert abs(np.mean(firsts) - size / 2) < 250


def test_shuffled_can_be_read_anywhere_of_a_huge_range():
    some = shuffled(np.arange(1000), 10**12, np.arange(4, dtype=np.uint64))
    assert len(set(some.tolist())) == 1000
    assert some.min() >= 0
    assert 10**11 < some.max() < 10**12


def test_what_follows_is_shifted_by_one():
    for batch in windows(accumulate=3)[7]:
        assert batch.x_BT.shape == batch.y_BT.shape == (4, 16)
        assert batch.x_BT.dtype == torch.int64
        assert torch.equal(batch.y_BT, batch.x_BT + 1)
        assert torch.equal(batch.x_BT, batch.x_BT[:, :1] + torch.arange(16))


def xs(source, step):
    return torch.cat([batch.x_BT for batch in source[step]])


def test_any_step_can_be_had_again():
    one, other = windows(), windows()
    for step in (5, 0, 123, 5):
        assert torch.equal(xs(one, step), xs(other, step))
    for changed in (windows(seed=4), windows(seed=3 + 2**32), windows(seed=-3)):
        assert not torch.equal(xs(changed, 5), xs(one, 5))


@pytest.mark.filterwarnings("error")
def test_any_integer_is_a_seed():
    orders = [xs(windows(seed=seed), 100) for seed in (-1, -2, -(2**62), 0, 2**62, 2**63, 2**63 + 1, 2**64 - 3)]
    for i, order in enumerate(orders):
        assert not any(torch.equal(order, other) for other in orders[:i])


@pytest.mark.parametrize(("length", "context"), [(1000, 16), (1000, 1), (17, 16), (33, 16), (40, 16), (48, 16), (2, 1)])
def test_an_epoch_sees_each_of_its_windows_once(length, context):
    source = windows(TOKENS[:length], context=context)
    offsets = set()
    for epoch in range(5):
        starts = source.starts(np.arange(epoch * source.per_epoch, (epoch + 1) * source.per_epoch))
        starts.sort()
        assert np.array_equal(starts, starts[0] + context * np.arange(source.per_epoch))
        assert starts[0] >= 0
        assert starts[-1] + context < length
        offsets.add(int(starts[0]))
    assert source.per_epoch >= max(1, length // context - 1)
    assert len(offsets) > 1 or length == context * source.per_epoch + 1


def test_epochs_differ_in_order():
    source = windows()
    first, second = (source.starts(np.arange(e * source.per_epoch, (e + 1) * source.per_epoch)) for e in range(2))
    assert not np.array_equal(first - first.min(), second - second.min())


@pytest.mark.parametrize("batch", [4, 7])
def test_a_step_takes_what_an_epoch_has_left_and_then_of_the_next(batch):
    """No window is left out, and none comes twice, where epochs do not end with a step."""
    source = windows(TOKENS[:200], batch=batch, accumulate=2)
    steps = 3 * source.per_epoch
    assert source.per_epoch % (2 * batch)
    seen = torch.cat([batch.x_BT[:, 0] for step in range(steps) for batch in source[step]]).numpy()
    for epoch in np.split(seen, 6 * batch):
        epoch.sort()
        assert np.array_equal(epoch, epoch[0] + 16 * np.arange(source.per_epoch))


def test_in_time_every_token_is_a_target():
    seen = np.zeros(45, dtype=bool)
    source = windows(TOKENS[:45])
    for step in range(200):
        for batch in source[step]:
            seen[batch.y_BT.numpy()] = True
    assert seen[1:].all()


@pytest.mark.parametrize("step", [0, 3, 40])
@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_what_a_step_sees_does_not_depend_on_how_many_share_it(step, size):
    alone = xs(windows(batch=8), step)
    for shape in ({"batch": 8}, {"batch": 2, "accumulate": 4}, {"batch": 4, "accumulate": 2}):
        ranks = [windows(**shape, world=World(rank, size)) for rank in range(size)]
        assert torch.equal(alone, torch.cat([xs(source, step) for source in ranks]))
        assert {source.tokens_per_step for source in ranks} == {128}


def test_the_same_microbatches_draw_the_same_dropout_wherever_they_are():
    alone = windows(batch=2, accumulate=4)
    seeds = [batch.seed for batch in alone[5]]
    assert len({*seeds, *(batch.seed for batch in alone[6])}) == 8
    shared = [windows(batch=2, accumulate=4, world=World(rank, 2))[5] for rank in range(2)]
    assert [batch.seed for part in shared for batch in part] == seeds
    assert seeds != [batch.seed for batch in windows(batch=2, accumulate=4, seed=4)[5]]


def test_a_step_that_cannot_be_shared_is_refused():
    with pytest.raises(InputError, match=r"has 4 windows .* 3 processes cannot share evenly; take --batch 3, or"):
        windows(world=World(0, 3))
    with pytest.raises(InputError, match=r"A step has 2 windows .* 8 processes"):
        windows(batch=2, world=World(0, 8))


def test_past_some_batches_the_next_ones_come():
    source = windows()
    assert torch.equal(xs(Later(source, 3), 4), xs(source, 7))


def test_too_short_a_text_is_refused():
    assert windows(TOKENS[:17])[0][0].x_BT.tolist() == [list(range(16))] * 4
    with pytest.raises(InputError, match=r"A window needs 17 tokens .*, but there are 16; give more text or a smaller"):
        windows(TOKENS[:16])


def test_a_batch_counts_its_targets():
    x = torch.zeros(2, 3, dtype=torch.long)
    assert Batch(x, x).count == 6
    weighted = Batch(x, x, torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.0, 2.0]]))
    assert weighted.count == 3.5
    assert weighted.to("cpu").weight_BT.sum() == 3.5
    y = torch.tensor([[1, IGNORED, 2], [IGNORED, IGNORED, 0]])
    assert Batch(x, y).count == 3
    assert Batch(x, y, weighted.weight_BT).count == 3
    assert Batch(x, x).to("cpu").weight_BT is None
