"""What `nanogpt` does in other processes: prepare nanoGPT's data, and take the exact loss of its checkpoint."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any


def prepare(folder: Path) -> None:
    """Write the files that nanoGPT's own prepare.py makes, from quoth's copy of the same text and the same split."""
    import numpy as np

    from quoth.text.corpus import corpus

    data = corpus("shakespeare")
    data.train.astype(np.uint16).tofile(folder / "train.bin")
    data.validation.astype(np.uint16).tofile(folder / "val.bin")
    alphabet = [piece.decode() for piece in data.tokenizer.pieces]
    meta = {
        "vocab_size": len(alphabet),
        "itos": dict(enumerate(alphabet)),
        "stoi": {character: i for i, character in enumerate(alphabet)},
    }
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))


def loss(copy: Path) -> dict[str, Any]:
    """The loss of every token of the validation split but the first, in consecutive windows of the model's context."""
    import numpy as np
    import torch

    sys.path.insert(0, str(copy))
    from model import GPT, GPTConfig  # type: ignore[import-not-found]

    checkpoint = torch.load(copy / "out-shakespeare-char/ckpt.pt", map_location="cpu", weights_only=True)
    model = GPT(GPTConfig(**checkpoint["model_args"])).eval()
    model.load_state_dict(checkpoint["model"])
    tokens = torch.from_numpy(np.fromfile(copy / "data/shakespeare_char/val.bin", np.uint16).astype(np.int64))
    T = checkpoint["model_args"]["block_size"]
    total, count = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(tokens) - 1, T):
            window = tokens[start : start + T + 1]
            mean = model(window[None, :-1], window[None, 1:])[1].item()
            total, count = total + mean * (len(window) - 1), count + len(window) - 1
    return {"loss": total / count, "tokens": count, "iteration": checkpoint["iter_num"]}


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(Path(sys.argv[2]))
    else:
        # nanoGPT's model prints while it is made, so stdout is kept for the answer.
        answer, sys.stdout = sys.stdout, sys.stderr
        print(json.dumps(loss(Path(sys.argv[2]))), file=answer)
