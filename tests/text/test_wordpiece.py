import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.text import WordPiece, load_tokenizer

PIECES = """
[PAD] [UNK] [CLS] [SEP] [MASK] un ##aff ##able ##a ##b the caf ##e cafe naive 你 好 ! , . 한 ᄒ
don ' t # ## 12 σ ##ς ##σ x
"""


@pytest.fixture(scope="module")
def pieces():
    return WordPiece({piece: i for i, piece in enumerate(PIECES.split())})


def read(pieces, text, **options):
    return [pieces.token(i) for i in pieces.encode(text, **options)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("unaffable", ["un", "##aff", "##able"]),  # the example of the paper's code
        ("unaffa", ["un", "##aff", "##a"]),
        ("unaffz", ["[UNK]"]),  # one part that is not known makes the whole word unknown
        ("The CAFÉ!", ["the", "cafe", "!"]),
        ("cafe\u0301", ["cafe"]),
        ("你好,un", ["你", "好", ",", "un"]),
        ("un你un", ["un", "你", "un"]),
        ("u\u200bn\x00", ["un"]),  # a format character and a NUL are taken out
        ("un\u3000un\tun\nun", ["un"] * 4),
        ("don't", ["don", "'", "t"]),
        ("ΣΣ", ["σ", "##σ"]),  # not ς, which str.lower makes of the last one
        ("x" * 101, ["[UNK]"]),
        ("[MASK] un[SEP]", ["[MASK]", "un", "[SEP]"]),
        ("", []),
        (" \n\x00", []),
    ],
)
def test_pieces(pieces, text, expected):
    assert read(pieces, text) == expected


def test_ordinary_text_may_look_like_a_special_token(pieces):
    assert "[MASK]" not in read(pieces, "[MASK]", special_tokens=False)


def test_capitals_and_accents_can_stay():
    vocabulary = {"[UNK]": 0, "Café": 1, "café": 2, "cafe": 3, "Cafe": 4}
    texts = ["Café", "cafe"]
    for lowercase, accents, expected in [
        (True, None, [3, 3]), (False, None, [1, 3]), (True, False, [2, 3]), (False, True, [4, 3]),
    ]:  # fmt: skip
        tokenizer = WordPiece(vocabulary, lowercase=lowercase, strip_accents=accents)
        assert [tokenizer.encode(text).tolist() for text in texts] == [[e] for e in expected]


@given(st.text(max_size=40))
def test_any_text_and_its_decoding(pieces, text):
    ids = pieces.encode(text)
    assert ids.dtype == np.int64
    if "[UNK]" not in [pieces.token(i) for i in ids]:
        np.testing.assert_array_equal(pieces.encode(pieces.decode(ids)), ids)


def test_inputs(pieces):
    cls, sep, un, the = (pieces.vocabulary[t] for t in ("[CLS]", "[SEP]", "un", "the"))
    ids, types = pieces.inputs("un the")
    assert ids.tolist() == [cls, un, the, sep]
    assert types.tolist() == [0] * 4
    ids, types = pieces.inputs("un the un", "the", max_length=6)
    assert ids.tolist() == [cls, un, the, sep, the, sep]
    assert types.tolist() == [0, 0, 0, 0, 1, 1]
    assert pieces.inputs("un", max_length=2)[0].tolist() == [cls, sep]
    with pytest.raises(ValueError, match="max_length=2 has no room"):
        pieces.inputs("un", "un", max_length=2)
    with pytest.raises(ValueError, match=r"has no '\[CLS\]'"):
        WordPiece({"[UNK]": 0}).inputs("x")


def test_decode(pieces):
    text = "The unaffable, naive café!"
    assert pieces.decode(pieces.encode(text)) == "the unaffable, naive cafe!"
    ids, _ = pieces.inputs("un")
    assert pieces.decode(ids) == "[CLS] un [SEP]"
    assert pieces.decode(ids, special_tokens=False) == "un"
    assert pieces.decode([]) == ""


def test_saved_and_loaded(tmp_path, pieces):
    pieces.save(tmp_path / "t.json")
    again = load_tokenizer(tmp_path / "t.json")
    assert isinstance(again, WordPiece)
    assert again.as_dict() == pieces.as_dict()
    (tmp_path / "vocab.txt").write_text("\n".join(pieces.vocabulary) + "\n", encoding="utf-8")
    assert WordPiece.from_vocab(tmp_path / "vocab.txt").as_dict() == pieces.as_dict()


def test_errors(tmp_path, pieces):
    with pytest.raises(TypeError, match="got bytes"):
        pieces.encode(b"x")
    with pytest.raises(IndexError, match="outside"):
        pieces.decode([len(pieces)])
    with pytest.raises(IndexError, match="no piece has the id 99"):
        pieces.token(99)
    with pytest.raises(ValueError, match=r"lacks '\[UNK\]'"):
        WordPiece({"a": 0})
    with pytest.raises(ValueError, match="longest_word=0"):
        WordPiece({"[UNK]": 0}, longest_word=0)
    (tmp_path / "vocab.txt").write_text("a\nb\na\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 3: 'a' was there before"):
        WordPiece.from_vocab(tmp_path / "vocab.txt")


def test_a_vocabulary_of_characters():
    pieces = WordPiece.of_characters(["好书, a book", "好, BOB"], at_least=2)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert [pieces.token(i) for i in range(len(pieces))][:5] == special
    # 好 and the comma twice, b of "book" and "bob", o inside words three times; 书 and a only once
    assert set(pieces.vocabulary) - set(special) == {"好", ",", "b", "##o"}
    assert pieces.token(5) == "##o"  # the most frequent comes first
    assert read(pieces, "好书 boo") == ["好", "[UNK]", "b", "##o", "##o"]
    kept = WordPiece.of_characters(["Bob"], lowercase=False)
    assert read(kept, "Bob") == ["B", "##o", "##b"]
    assert read(kept, "bob") == ["[UNK]"]


def test_a_vocabulary_of_whole_words():
    words = WordPiece.of_words(["A book, a book", "a pen"], most=2)
    assert sorted(words.vocabulary, key=words.vocabulary.get)[5:] == ["a", "book"]
    assert read(words, "A Book, a pen") == ["a", "book", "[UNK]", "a", "[UNK]"]
    assert {",", "pen"} < set(WordPiece.of_words(["A book, a pen"]).vocabulary)
