"""Well-known models: their shapes, and what their papers say that training them took."""

from __future__ import annotations

from dataclasses import dataclass

from quoth.model.config import GPTConfig, family


@dataclass(frozen=True)
class Published:
    """A model's shape, the tokens and FLOPs of its training, each 0 where no paper tells, and the source of these."""

    config: GPTConfig
    tokens: float
    flops: float
    source: str


def _gpt2(layers: int, width: int, heads: int) -> GPTConfig:
    return family("gpt2", vocabulary=50257, layers=layers, width=width, heads=heads)


def _llama(layers: int, width: int, heads: int, kv_heads: int, hidden: int, vocabulary: int, context: int) -> GPTConfig:
    return family(
        "modern",
        vocabulary=vocabulary,
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        hidden=hidden,
        context=context,
        qk_norm=False,
        norm_eps=1e-5,
    )


GPT2 = "Radford et al. 2019; parameters of the released weights"
LLAMA3 = "Grattafiori et al. 2024 (arXiv:2407.21783)"

PUBLISHED = {
    "gpt2": Published(_gpt2(12, 768, 12), 0, 0, GPT2),
    "gpt2-medium": Published(_gpt2(24, 1024, 16), 0, 0, GPT2),
    "gpt2-large": Published(_gpt2(36, 1280, 20), 0, 0, GPT2),
    "gpt2-xl": Published(_gpt2(48, 1600, 25), 0, 0, GPT2),
    "gpt3": Published(
        _gpt2(96, 12288, 96).replace(context=2048), 300e9, 3.14e23, "Brown et al. 2020 (arXiv:2005.14165), appendix D"
    ),
    "llama2-7b": Published(
        _llama(32, 4096, 32, 32, 11008, 32000, 4096), 2e12, 0, "Touvron et al. 2023 (arXiv:2307.09288)"
    ),
    "llama3-8b": Published(_llama(32, 4096, 32, 8, 14336, 128256, 8192), 15e12, 0, LLAMA3),
    "llama3-405b": Published(_llama(126, 16384, 128, 8, 53248, 128256, 8192), 15.6e12, 3.8e25, LLAMA3),
}
