import torch

from quoth.system.world import World


def test_one_process_sums_alone():
    value = torch.tensor([1.0, 2.0])
    total = World().sum(value)
    assert torch.equal(total, value)
    # A copy, so that what is summed in place is never the caller's.
    assert total.data_ptr() != value.data_ptr()
    assert World().sum(0.1).item() == 0.1
