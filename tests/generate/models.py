"""Small models of every family, shaken so that each part matters."""

from __future__ import annotations

import torch

from quoth.model.config import family
from quoth.model.gpt import GPT

ALPHABET = "abcdefgh\n"
FAMILIES = ("lecture", "gpt2", "modern")


def model(name: str, **given: object) -> GPT:
    torch.manual_seed(0)
    shape = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "context": 16, "initialization": "normal"} | given
    made = GPT(family(name, **({"vocabulary": len(ALPHABET)} | shape)))
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return made.eval()
