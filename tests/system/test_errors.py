import pytest

from quoth.system.errors import suggestion


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("modren", ["lecture", "modern"], " (did you mean 'modern'?)"),
        ("xyz", ["b", "a"], " (there is a, b)"),
        ("layer", iter(["width", "layers"]), " (did you mean 'layers'?)"),
    ],
)
def test_a_suggestion_is_what_is_close_or_what_there_is(word, known, hint):
    assert suggestion(word, known) == hint
