import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.text import stem, stem_all


@pytest.mark.parametrize(("words", "expected"), [
    # the examples of Porter 1980, rule by rule, carried through all steps
    ("caresses ponies ties caress cats", "caress poni ti caress cat"),
    ("feed agreed plastered bled motoring sing", "feed agre plaster bled motor sing"),
    ("conflated troubled sized hopping tanned falling", "conflat troubl size hop tan fall"),
    ("hissing fizzed failing filing happy sky", "hiss fizz fail file happi sky"),
    ("relational conditional rational valenci digitizer", "relat condit ration valenc digit"),
    ("vietnamization operator feudalism decisiveness", "vietnam oper feudal decis"),
    ("hopefulness callousness formaliti sensitiviti", "hope callous formal sensit"),
    ("triplicate formative electrical goodness", "triplic form electr good"),
    ("revival allowance inference airliner adjustable", "reviv allow infer airlin adjust"),
    ("replacement adjustment dependent adoption homologou", "replac adjust depend adopt homolog"),
    ("probate rate cease controll roll", "probat rate ceas control roll"),
    ("connections connected connecting connective", "connect connect connect connect"),
    ("university universe universal", "univers univers univers"),
])  # fmt: skip
def test_porter(words, expected):
    assert stem_all(words.split()) == expected.split()


def test_what_is_no_english_word_stays():
    assert [stem(w) for w in ("naïve", "你好", "don't", "3", "", "B2s")] == [
        "naïve", "你好", "don't", "3", "", "B2s",
    ]  # fmt: skip
    assert stem("Connected") == "connect"
    with pytest.raises(TypeError, match="needs a list of words"):
        stem_all("cats")


@given(st.text("abcdefghijklmnopqrstuvwxyz", max_size=12))
def test_a_stem_is_no_longer_than_the_word(word):
    assert len(stem(word)) <= len(word)
