"""The split into training and held-out: by the prompt, and the same whatever else there is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quoth.tune.conversation import Conversation, split


def talk(prompt: str, answer: str = "yes") -> Conversation:
    return Conversation(({"role": "user", "content": prompt}, {"role": "assistant", "content": answer}), "")


ITEMS = st.lists(st.builds(talk, st.sampled_from("abcdefgh"), st.sampled_from("xyz")), max_size=30)


@given(items=ITEMS, share=st.sampled_from([0.1, 0.5, 0.9]), seed=st.integers(0, 5))
def test_a_prompt_stands_on_one_side(items: list[Conversation], share: float, seed: int) -> None:
    training, held = split(items, held_out=share, seed=seed)
    assert not {i.prompt[0]["content"] for i in training} & {i.prompt[0]["content"] for i in held}
    assert sorted(map(id, [*training, *held])) == sorted(map(id, items))
    if len({i.prompt[0]["content"] for i in items}) > 1:
        assert training and held
    assert split(items, held_out=share, seed=seed) == (training, held)


def test_the_share_is_about_what_was_asked_for_and_the_seed_chooses() -> None:
    items = [talk(str(i)) for i in range(2000)]
    for share in (0.05, 0.2):
        _, held = split(items, held_out=share)
        assert abs(len(held) / 2000 - share) < 0.02
    assert split(items)[1] != split(items, seed=1)[1]
    assert split(items, held_out=0)[1] == []


def test_items_stay_on_their_side_when_others_come() -> None:
    few, many = [talk(str(i)) for i in range(500)], [talk(str(i)) for i in range(1500)]
    assert {i.prompt[0]["content"] for i in split(few)[1]} == {
        i.prompt[0]["content"] for i in split(many)[1] if int(i.prompt[0]["content"]) < 500
    }


def test_the_prompt_is_what_comes_before_the_first_answer() -> None:
    messages = [{"role": role, "content": role} for role in ("system", "user", "assistant", "user", "assistant")]
    assert list(Conversation(tuple(messages), "").prompt) == messages[:2]
