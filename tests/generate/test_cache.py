"""The cache: a window read in pieces gives what it gives as a whole."""

from __future__ import annotations

import pytest
import torch
from generate.models import ALPHABET, FAMILIES, model

from quoth.generate.cache import Cache


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("split", range(1, 12))
def test_cached_equals_uncached_at_every_split(name: str, split: int) -> None:
    gpt = model(name).double()
    ids = torch.randint(len(ALPHABET), (2, 12), generator=torch.Generator().manual_seed(1))
    cache, parts = Cache(2, gpt.config, torch.float64, torch.device("cpu")), []
    with torch.inference_mode():
        for part in (slice(0, split), slice(split, 12)):
            place_BT = torch.arange(12)[part].expand(2, -1)
            cache.at(slice(0, 2), place_BT, reach=part.stop)
            parts.append(gpt(ids[:, part], cache.layers, place_BT))
        torch.testing.assert_close(torch.cat(parts, dim=1), gpt(ids), atol=1e-12, rtol=1e-12)


def test_rows_stand_where_they_stand() -> None:
    """Two slots at different places are read together as each is alone."""
    gpt = model("modern").double()
    ids = torch.randint(len(ALPHABET), (2, 12), generator=torch.Generator().manual_seed(1))
    cache = Cache(2, gpt.config, torch.float64, torch.device("cpu"))
    with torch.inference_mode():
        for slot, length in ((0, 9), (1, 4)):
            place_BT = torch.arange(length)[None]
            cache.at(slice(slot, slot + 1), place_BT)
            gpt(ids[slot : slot + 1, :length], cache.layers, place_BT)
        place_BT = torch.tensor([[9], [4]])
        cache.at(slice(0, 2), place_BT, reach=10)
        got = gpt(torch.stack((ids[0, 9:10], ids[1, 4:5])), cache.layers, place_BT)
        for slot, length in ((0, 10), (1, 5)):
            expected = gpt(ids[slot : slot + 1, :length])[0, -1]
            torch.testing.assert_close(got[slot, 0], expected, atol=1e-12, rtol=1e-12)
