"""GPT-3's sizes, counted from configs; what pretraining and finetuning are."""

from __future__ import annotations

from collections.abc import Iterator

from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Table
from quoth.model.config import GPTConfig, family

# Brown et al. 2020 (arXiv:2005.14165), table 2.1: name, layers, width, heads, head size, and the parameters it states.
# It gives XL 24 heads of 128 and 13B a width of 5,140, which do not fit their other columns: here 16 heads, and 5,120.
GPT3 = (
    ("Small", 12, 768, 12, 64, "125M"),
    ("Medium", 24, 1024, 16, 64, "350M"),
    ("Large", 24, 1536, 16, 96, "760M"),
    ("XL", 24, 2048, 16, 128, "1.3B"),
    ("2.7B", 32, 2560, 32, 80, "2.7B"),
    ("6.7B", 32, 4096, 32, 128, "6.7B"),
    ("13B", 40, 5120, 40, 128, "13.0B"),
    ("175B", 96, 12288, 96, 128, "175.0B"),
)


def config(layers: int, width: int, heads: int, head_size: int) -> GPTConfig:
    """GPT-3's shape: GPT-2's family with 50,257 tokens and a context of 2,048."""
    given = {"layers": layers, "width": width, "heads": heads, "head_size": head_size, "context": 2048}
    return family("gpt2", vocabulary=50257, **given)


def count(c: GPTConfig) -> int:
    """How many numbers are trained, part by part; tested equal to those of `GPT(c)`."""
    inner = c.heads * c.head_size
    attention = 4 * c.width * inner + 3 * inner + c.width
    mlp = 2 * c.width * c.hidden + c.hidden + c.width
    return (c.vocabulary + c.context) * c.width + c.layers * (attention + mlp + 4 * c.width) + 2 * c.width


def explain(lesson: Lesson) -> Iterator[Part]:
    """The table of the paper, with parameters that are counted here."""
    rows = [(name, L, C, H, K, stated, f"{count(config(L, C, H, K)) / 1e9:.3f}B") for name, L, C, H, K, stated in GPT3]
    yield Table("GPT-3", ["", "layers", "width", "heads", "head size", "the paper says", "counted"], rows)
    yield Say(
        "All are this model with other numbers, except that every other layer of GPT-3 looks only nearby. The largest "
        "has 100,000 times the parameters of the one that a laptop trains in three minutes, and saw 300 billion "
        "tokens; Tiny Shakespeare has about 300,000 of such."
    )
    yield Say(
        "Pretraining on a large part of the internet makes a model that goes on from any document, a question as well "
        "as its answer, or more questions. To make an assistant of it takes finetuning: first on some thousands of "
        "written answers, then by preferences, by way of a reward model learned from people's rankings, or directly. "
        "The loop is the same for each; what differs are the batches and the objective."
    )
