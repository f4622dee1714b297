"""Losses and gradients against TRL's own trainers, on one model: TRL has it from an export to Hugging Face."""

import copy
import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from train.answers import answered, small, with_more

from quoth.interop.export import export_hf
from quoth.interop.weights import to_hugging_face
from quoth.model.architectures import architecture_of
from quoth.text.tokenizer import Characters
from quoth.train.objectives import next_token, token_loss
from quoth.train.policy import grpo
from quoth.train.preferences import answer_log_probs, bradley_terry, dpo, kto
from quoth.tune import score
from quoth.tune.comparison import Comparison, Decision
from quoth.tune.comparison_rows import About, Record
from quoth.tune.score import scorer_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # They are about what transformers calls itself.
]

LETTERS = "abcdefghijklmnopqrstuvwxyz .?"
USER, ASSISTANT, END = range(len(LETTERS), len(LETTERS) + 3)
SPECIAL = {"<|user|>": USER, "<|assistant|>": ASSISTANT, "<|end|>": END}
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}{% else %}<|assistant|>{% generation %}"
    "{{ m.content }}<|end|>{% endgeneration %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# A question, a good answer and a bad one.
DATA = [("speak of love", "my love is deep.", "no."), ("ask", "who calls so loud?", "a horse a horse")]


def prompt(text):
    return [USER, *map(LETTERS.index, text), ASSISTANT]


def answer(text):
    return [*map(LETTERS.index, text), END]


def asked(question):
    return [{"role": "user", "content": question}]


def said(text):
    return [{"role": "assistant", "content": text}]


PAIRS = [row for q, good, bad in DATA for row in ((prompt(q), answer(good)), (prompt(q), answer(bad)))]


def single(batch):
    return replace(batch, weight_BT=batch.weight_BT.float())


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same policy and reference in quoth and in transformers, a tokenizer, and TRL, which goes nowhere."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
            patch.setenv(name, "1")
        import datasets
        import transformers
        import trl
        from tokenizers import Tokenizer, models, pre_tokenizers

        datasets.disable_progress_bars()
        transformers.logging.set_verbosity_error()
        words = Tokenizer(models.WordLevel({**{c: i for i, c in enumerate(LETTERS)}, **SPECIAL}, unk_token="a"))
        words.pre_tokenizer = pre_tokenizers.Split("", "isolated")
        words.add_special_tokens(list(SPECIAL))
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=words, eos_token="<|end|>", pad_token="<|user|>", chat_template=TEMPLATE
        )
        folder, made = tmp_path_factory.mktemp("trl"), {}
        letters = Characters(
            [chr(0x4E00 + i) for i in range(END + 1)]
        )  # It is written beside the weights; nobody reads it.
        for seed, name in enumerate(("policy", "reference")):
            model = small(vocabulary=END + 1, context=64, width=32, seed=seed).float().eval()
            export_hf(folder / name, model, letters, "f32", name, {})
            made[name] = model
        yield SimpleNamespace(**made, folder=folder, tokenizer=tokenizer, trl=trl, hf=transformers, datasets=datasets)


def trained_by(both, kind, rows, model=None, policy="policy", reference="reference", **settings):
    """A trainer of TRL's, and its first batch."""
    trainer, config = getattr(both.trl, f"{kind}Trainer"), getattr(both.trl, f"{kind}Config")
    named = {"reward_funcs": settings.pop("reward_funcs")} if kind == "GRPO" else {}
    if kind in ("DPO", "KTO"):
        named["ref_model"] = both.hf.AutoModelForCausalLM.from_pretrained(both.folder / reference)
    given = {"report_to": [], "use_cpu": True, "bf16": False, "fp16": False, "gradient_checkpointing": False}
    given |= {"disable_tqdm": True} | ({} if kind == "GRPO" else {"max_length": 64})
    made = trainer(
        model=model or both.hf.AutoModelForCausalLM.from_pretrained(both.folder / policy),
        args=config(output_dir=str(both.folder / kind), per_device_train_batch_size=len(rows), **given, **settings),
        processing_class=both.tokenizer,
        train_dataset=both.datasets.Dataset.from_list(rows),
        **named,
    )
    return made, {} if kind == "GRPO" else dict(next(iter(made.get_train_dataloader())))


def same(model, ours, theirs_model, theirs):
    """Both losses are equal, and so is every gradient, measured by the largest of its tensor."""
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6, abs=1e-6)
    model.zero_grad()
    theirs_model.zero_grad()
    ours.backward()
    theirs.backward()
    scores = model.head.weight.shape[0] == 1
    grads = {name: p.grad for name, p in model.named_parameters() if not (scores and name == "head.weight")}
    if scores:
        grads["head.weight"] = torch.zeros_like(model.embed.weight)
    found = to_hugging_face(grads, model.config, architecture_of(model.config))
    if scores:
        found["score.weight"] = model.head.weight.grad
    compared = 0
    for name, p in theirs_model.named_parameters():
        assert p.grad is not None
        torch.testing.assert_close(found[name], p.grad, rtol=0, atol=1e-5 * p.grad.abs().max().item())
        compared += 1
    assert compared == len(grads)


def test_supervised_finetuning_counts_the_same_tokens(both):
    rows = [{"messages": asked(q) + said(good)} for q, good, _ in DATA]
    trainer, batch = trained_by(both, "SFT", rows, assistant_only_loss=True)
    ids = batch["input_ids"]
    order = sorted(range(2), key=lambda n: ids[0, 1].item() != prompt(DATA[n][0])[1])
    ours = single(answered([(prompt(DATA[n][0]), answer(DATA[n][1])) for n in order]))
    assert torch.equal(batch["labels"][:, 1:] != -100, ours.weight_BT > 0)
    model = copy.deepcopy(both.policy)
    loss = next_token(model, ours) / ours.count
    same(model, loss, trainer.model, trainer.compute_loss(trainer.model, batch))


@pytest.mark.parametrize("kind", ["sigmoid", "ipo"])
def test_direct_preference_optimization(both, kind):
    rows = [{"prompt": asked(q), "chosen": said(good), "rejected": said(bad)} for q, good, bad in DATA]
    trainer, batch = trained_by(both, "DPO", rows, beta=0.3, loss_type=[kind])
    ours = single(answered(PAIRS))
    assert batch["completion_mask"].sum() == ours.weight_BT.sum()
    with torch.no_grad():
        ours = with_more(ours, units=2, reference_B=answer_log_probs(both.reference, ours))
    model = copy.deepcopy(both.policy)
    loss = dpo(0.3, kind)(model, ours)[0] / ours.count
    same(model, loss, trainer.model, trainer.compute_loss(trainer.model, batch))


@pytest.mark.parametrize(("policy", "reference"), [("policy", "reference"), ("reference", "policy")])
def test_kahneman_tversky_optimization(both, policy, reference):
    """One way round the estimated KL is positive, the other way round it is negative, so that 0 is taken."""
    texts = [(q, text, good) for q, a, b in DATA for text, good in ((a, True), (b, False))]
    rows = [{"prompt": asked(q), "completion": said(text), "label": good} for q, text, good in texts]
    settings = {"beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": 0.7}
    trainer, batch = trained_by(both, "KTO", rows, policy=policy, reference=reference, **settings)
    matched = [(prompt(q), answer(text)) for q, text, _ in texts]
    others = [(p, matched[n - 1][1]) for n, (p, _) in enumerate(matched)]
    ours = single(answered([*others, *matched]))
    more = {
        "desirable_B": torch.tensor([False] * 4 + [good for _, _, good in texts]),
        "mismatched_B": torch.tensor([True] * 4 + [False] * 4),
    }
    with torch.no_grad():
        ours = with_more(ours, units=4, reference_B=answer_log_probs(getattr(both, reference), ours), **more)
    model = copy.deepcopy(getattr(both, policy))
    loss, told = kto(0.3, 1.5, 0.7)(model, ours)
    same(model, loss / ours.count, trainer.model, trainer.compute_loss(trainer.model, batch))
    assert (told["kl"].item() > 0) == (policy == "reference")


def test_reward_models(both, monkeypatch):
    """TRL reads the last state alone.

    The padding is a token of prompts, too, so a score that is read by looking for padding would be the wrong one.
    """
    monkeypatch.setattr(score, "MEAN_WEIGHT", 0.0)
    theirs = both.hf.AutoModelForSequenceClassification.from_pretrained(both.folder / "policy", num_labels=1)
    theirs.config.pad_token_id = both.tokenizer.pad_token_id
    scorer = scorer_of(both.policy)
    scorer.head.weight.data.copy_(theirs.score.weight.data)
    rows = [{"chosen": asked(q) + said(good), "rejected": asked(q) + said(bad)} for q, good, bad in DATA]
    trainer, batch = trained_by(both, "Reward", rows, theirs)
    loss = bradley_terry(scorer, single(answered(PAIRS)))[0] / 2
    same(scorer, loss, trainer.model, trainer.compute_loss(trainer.model.eval(), batch))


@pytest.mark.parametrize("times_ratio", [True, False])
@pytest.mark.parametrize("mean", ["bnpo", "grpo"])
def test_group_relative_policy_optimization(both, times_ratio, mean):
    question, texts = prompt(DATA[0][0]), [answer(DATA[0][1]), answer(DATA[0][2])]
    rows = [{"prompt": asked(q)} for q, _, _ in DATA]
    settings = {"num_generations": 2, "beta": 0.1, "loss_type": mean, "max_completion_length": 20}
    settings |= {
        "use_bias_correction_kl": times_ratio,
        "reward_funcs": lambda completions, **_: [0.0] * len(completions),
    }
    trainer, _ = trained_by(both, "GRPO", rows, **settings)
    ours, advantage = single(answered([(question, text) for text in texts])), torch.tensor([0.7, -0.9])
    with torch.no_grad():
        old = -token_loss(both.policy, ours) + 0.3 * torch.randn(ours.y_BT.shape)
        reference = -token_loss(both.reference, ours)
    ours = with_more(ours, old_BT=old, reference_BT=reference, advantage_BT=advantage[:, None].expand_as(old))
    if mean == "grpo":
        ours = replace(ours, weight_BT=ours.weight_BT / ours.weight_BT.sum(1, keepdim=True))
    first, longest = len(question), max(map(len, texts))
    padded = torch.tensor([text + [0] * (longest - len(text)) for text in texts])
    counts = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
    given = {
        "prompt_ids": torch.tensor([question] * 2),
        "prompt_mask": torch.ones(2, first, dtype=torch.long),
        "completion_ids": padded,
        "completion_mask": counts,
        "advantages": advantage,
        "old_per_token_logps": old[:, first - 1 :],
        "ref_per_token_logps": reference[:, first - 1 :],
        "num_items_in_batch": counts.sum(),
    }
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    model = copy.deepcopy(both.policy)
    loss = grpo(0.2, beta=0.1, times_ratio=times_ratio)(model, ours)[0] / ours.count
    same(model, loss, trainer.model, trainer._compute_loss(trainer.model, given))


@pytest.mark.parametrize("plain", [False, True])
def test_trl_reads_the_pairs_that_a_person_made(tmp_path, plain):
    from datasets import load_dataset
    from trl.data_utils import is_conversational, maybe_extract_prompt, unpair_preference_dataset

    about = About("tuned", "", 1, plain)
    record = Record(tmp_path / "pairs.jsonl", about)
    for number, (question, good, bad) in enumerate(DATA * 2):
        shown = Comparison(number, number, tuple(asked(question)), (good, bad), (True, True), "left")
        record.add(Decision(shown, ("left", "tie", "left", "skip")[number], 1.0))
    record.close()
    read = load_dataset("json", data_files=str(record.path), split="train", cache_dir=str(tmp_path / "cache"))
    (question, good, bad), form = DATA[0], (lambda text, make: text if plain else make(text))
    assert (read[0]["prompt"], read[0]["chosen"]) == (form(question, asked), form(good, said))
    assert [row["rejected"] for row in read] == [form(bad, said)] * 2
    assert is_conversational(read[0]) != plain
    assert maybe_extract_prompt(read[0]) == read[0]
    assert len(unpair_preference_dataset(read.select_columns(["prompt", "chosen", "rejected"]))) == 4
