"""BLEU, ROUGE and entities on examples small enough for a pencil; tests/parity has the rest."""

import math

import pytest

from scratchlm.metrics import bleu, entities, entity_f1, entity_scores, rouge, sentence_bleu


def test_clipping():
    """Papineni et al. 2002, §2.1: seven times "the" has a precision of 2/7, not 7/7."""
    references = ["the cat is on the mat", "there is a cat on the mat"]
    found = sentence_bleu("the the the the the the the", references)
    assert found.precisions[0] == pytest.approx(200 / 7)
    assert (found.hits[0], found.totals[0]) == (2, 7)


def test_bleu_by_hand():
    found = bleu(["the cat sat down"], ["the cat sat on the mat"], smooth="none", max_order=3)
    assert found.hits == (3, 2, 1)
    assert found.totals == (4, 3, 2)
    assert found.brevity_penalty == pytest.approx(math.exp(1 - 6 / 4))
    score = 100 * math.exp(-0.5) * (3 / 4 * 2 / 3 * 1 / 2) ** (1 / 3)
    assert float(found) == found.score == pytest.approx(score, rel=1e-12)
    assert bleu(["the cat sat down"], ["the cat sat on the mat"], smooth="none").score == 0


def test_reference_length_is_the_nearest_and_of_two_the_shorter():
    found = bleu(["a b c d"], [["a b c d e e", "a b c", "a b c d e"]], tokenize="none")
    assert found.reference_length == 3


def test_smoothing_by_hand():
    text, reference = "a b c", "a x c"
    precision = lambda **how: sentence_bleu(text, reference, max_order=2, **how).precisions[1]
    assert precision(smooth="none") == 0
    assert precision(smooth="exp") == pytest.approx(100 / 2 / 2)
    assert precision(smooth="floor") == pytest.approx(100 * 0.1 / 2)
    assert precision(smooth="floor", smooth_value=0.4) == pytest.approx(100 * 0.4 / 2)
    assert precision(smooth="add-k") == pytest.approx(100 * 1 / 3)


@pytest.mark.parametrize(
    ("tokenizer", "text", "tokens"),
    [
        ("13a", "It's 3,000.5 (4-5): e.g., this.", "It's 3,000.5 ( 4 - 5 ) : e . g . , this ."),
        ("13a", "&quot;a &amp; b&quot; well-\nknown", '" a & b " wellknown'),
        ("zh", "我有3,000元, OK?", "我 有 3,000 元 , OK ?"),
        ("intl", "«a» 3.5€, ¿qué?", "« a » 3.5 € , ¿ qué ?"),
        ("char", "我 am", "我 a m"),
        ("none", "It's (so).", "It's (so)."),
    ],
)  # fmt: skip
def test_tokenizers(tokenizer, text, tokens):
    count = len(tokens.split())
    assert bleu([text], [text], tokenize=tokenizer).hypothesis_length == count
    again = bleu([text], [tokens], tokenize=lambda t: t.split() if t == tokens else [])
    assert again.reference_length == count
    from scratchlm.metrics.translation import TOKENIZERS

    assert " ".join(TOKENIZERS[tokenizer](text)) == tokens


def test_bleu_errors():
    with pytest.raises(ValueError, match="2 hypotheses and 1"):
        bleu(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="nothing to score"):
        bleu([], [])
    with pytest.raises(ValueError, match="hypothesis 1 has no reference"):
        bleu(["a", "b"], ["a", []])
    with pytest.raises(TypeError, match="lists of texts"):
        bleu("a", ["a"])
    with pytest.raises(TypeError, match="holds list"):
        bleu([["a"]], ["a"])
    with pytest.raises(ValueError, match="tokenize='14a'"):
        bleu(["a"], ["a"], tokenize="14a")
    with pytest.raises(ValueError, match="smooth='add'"):
        bleu(["a"], ["a"], smooth="add")
    with pytest.raises(ValueError, match="takes no smooth_value"):
        bleu(["a"], ["a"], smooth_value=1.0)
    with pytest.raises(ValueError, match="must be positive"):
        bleu(["a"], ["a"], smooth="floor", smooth_value=0.0)
    with pytest.raises(ValueError, match="max_order=0"):
        bleu(["a"], ["a"], max_order=0)


def test_rouge_by_hand():
    """Lin 2004, §3.1: ROUGE-L hears the order, ROUGE-2 does not always."""
    reference = "police killed the gunman"
    one = rouge("police kill the gunman", reference)
    two = rouge("the gunman kill police", reference)
    assert one["rouge2"].f1 == two["rouge2"].f1 == 1 / 3
    assert one["rougeL"].f1 == 3 / 4
    assert two["rougeL"].f1 == 2 / 4
    assert rouge("a a a", "a b", kinds=["rouge1"])["rouge1"] == (1 / 3, 1 / 2, 2 / 5, 2)


def test_rouge_of_several_lines():
    """Lin 2004, §3.2: w1 … w5 against w1 w2 w6 w7 w8 and w1 w3 w8 w9 w5: the union has 4 of 5."""
    found = rouge("w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", "w1 w2 w3 w4 w5", kinds=["rougeLsum"])
    assert found["rougeLsum"].recall == 4 / 5
    assert found["rougeLsum"].precision == 4 / 10


def test_rouge_takes_the_best_reference():
    found = rouge("the cat sat", ["a dog ran", "the cat ran"], kinds=["rouge1"])
    assert found["rouge1"].f1 == 2 / 3


def test_chinese_has_no_token_by_default():
    assert rouge("今天天气好", "今天天气好")["rouge1"].f1 == 0
    assert rouge("今天天气好", "今天天气好", tokenize=list)["rougeL"].f1 == 1


def test_rouge_errors():
    with pytest.raises(ValueError, match="kind 'rougeX'"):
        rouge("a", "a", kinds=["rougeX"])
    with pytest.raises(ValueError, match="no reference"):
        rouge("a", [])
    with pytest.raises(TypeError, match="not list"):
        rouge(["a"], "a")
    with pytest.raises(ValueError, match="stem inside tokenize"):
        rouge("a", "a", tokenize=str.split, stem=str.lower)


TAGS = ["B-PER", "I-PER", "O", "I-LOC", "I-PER", "B-PER", "B-PER"]


def test_entities_by_hand():
    assert entities(TAGS) == [
        ("PER", 0, 2), ("LOC", 3, 4), ("PER", 4, 5), ("PER", 5, 6), ("PER", 6, 7),
    ]  # fmt: skip
    assert entities(TAGS, strict=True) == [("PER", 0, 2), ("PER", 5, 6), ("PER", 6, 7)]
    assert entities(["B-X", "I-X", "E-X", "S-X", "I-X"]) == [("X", 0, 3), ("X", 3, 4), ("X", 4, 5)]
    assert entities([]) == []


def test_entity_f1_by_hand():
    true = [["B-PER", "I-PER", "O", "B-LOC"], ["B-ORG", "O"]]
    pred = [["B-PER", "I-PER", "O", "B-PER"], ["B-ORG", "I-ORG"]]
    assert entity_scores(true, pred) == (1 / 3, 1 / 3, 1 / 3, 3)
    each = entity_scores(true, pred, average=None)
    assert each["PER"] == (1 / 2, 1, 2 / 3, 1)
    assert each["ORG"] == each["LOC"] == (0, 0, 0, 1)
    assert entity_f1(true, pred, average="macro") == pytest.approx(2 / 9)


def test_the_same_entity_in_another_sentence_is_another():
    assert entity_f1([["B-X"], ["O"]], [["O"], ["B-X"]]) == 0


def test_entity_errors():
    with pytest.raises(ValueError, match="'X-PER' at token 1"):
        entities(["O", "X-PER"])
    with pytest.raises(ValueError, match="IOB2"):
        entities(["S-PER"], strict=True)
    with pytest.raises(TypeError, match="the string"):
        entities("B-PER")
    with pytest.raises(ValueError, match="sentence 1 has 1 true tags and 2"):
        entity_f1([["O"], ["O"]], [["O"], ["O", "O"]])
    with pytest.raises(ValueError, match="1 true and 0"):
        entity_f1([["O"]], [])
    with pytest.raises(ValueError, match="no sentence"):
        entity_f1([], [])
    with pytest.raises(ValueError, match="average='mean'"):
        entity_f1([["O"]], [["O"]], average="mean")
    with pytest.raises(ValueError, match="average=None"):
        entity_f1([["O"]], [["O"]], average=None)
