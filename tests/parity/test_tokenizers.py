"""Ids equal those of `tokenizers` and transformers on any text; so does what training learns."""

import contextlib
import json
import random
import unicodedata
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scratchlm.data import load, locate
from scratchlm.text import BPE, WordPiece, load_tokenizer
from scratchlm.text.pretokens import PATTERNS

pytestmark = pytest.mark.parity
tokenizers = pytest.importorskip("tokenizers")

TEXTS = {
    "english": "I'll say it's 3,000.50 dollars -- they're \"here\", don't you'd think?\n\nYes.  ",
    "chinese": "注意力就是你所需要的一切。2017年，Transformer（变换器）诞生了！　全角　１２３",
    "emoji": "👩‍👩‍👧‍👦 🏽 👍🏿 🇨🇳 ❤️ ☺ \U0001fae8",
    "code": "def f(x: int) -> str:\n\treturn f'{x!r:>10}'  # 0xFF\r\n\n\n    if x != 3: pass\n",
    "scripts": "Ünïcödé ΑΣ ΟΔΟΣ İstanbul ſtraße ﬁn 한국어 עברית हिन्दी ไทย e\u0301 ǅ Ⅷ ½ ٣",
    "spaces": " \t\n\x0b\x0c\r\x1c\x85\xa0\u2003\u2028\u200b\ufeff a  b ",
    "special": "a<|endoftext|>b <|endoftext|><|endoftext|> [MASK] [mask] [CLS][SEP] [UNK]",
    "broken": b"caf\xe9 \xff\xfe \xe4\xbd \xf0\x9f\x98 ok \xed\xa0\x80".decode("utf-8", "replace"),
    "long": "a" * 3000 + "你" * 1000 + " " * 500,
    "empty": "",
}
anything = (
    st.text(st.characters(exclude_categories=["Cs"]))  # UTF-8 has no halves of surrogate pairs
    | st.text("ab 's\n\r\t 12你好é.,'SſsLlDdΣ\u0301\u3000\x1c\x85")
    | st.lists(st.sampled_from(["<|endoftext|>", "[MASK]", "low", " ", "1", "你"])).map("".join)
    # parts of code and of emoji: tones, joiners, flags, variation selectors
    | st.lists(st.sampled_from([*" \n\t(){}[]=:#'", "  ", "def", "f'{x!r}'", "0xFF", "->", "_a1"]))
    .map("".join)
    | st.lists(st.sampled_from([*"👩👧👍🏿🏽🇨🇳❤☺\u200d\ufe0f", " "])).map("".join)
    | st.binary().map(lambda raw: raw.decode("utf-8", "replace"))
)  # fmt: skip


def fetched(name):
    with contextlib.suppress(FileNotFoundError):
        return locate(name)
    return pytest.skip(f"needs `scratchlm fetch {name}`")


@pytest.fixture(scope="module")
def gpt2():
    folder = fetched("gpt2-vocabulary")
    theirs = tokenizers.Tokenizer(
        tokenizers.models.BPE.from_file(str(folder / "encoder.json"), str(folder / "vocab.bpe"))
    )
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.decoder = tokenizers.decoders.ByteLevel()
    theirs.add_special_tokens(["<|endoftext|>"])
    return BPE.gpt2(), theirs


@pytest.fixture(scope="module")
def bert():
    path = fetched("minilm") / "tokenizer.json"
    theirs = tokenizers.Tokenizer.from_file(str(path))
    theirs.no_truncation()
    theirs.no_padding()
    return WordPiece.load(path), theirs


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small BPE for each pattern; needs no fetched file."""
    text = "".join(TEXTS.values()) * 2
    pairs = {}
    for pattern in PATTERNS:
        ours = BPE.train(text, 500, special_tokens=["<|endoftext|>"], pattern=pattern)
        path = tmp_path_factory.mktemp("trained") / f"{pattern}.json"
        ours.save(path)
        pairs[pattern] = ours, tokenizers.Tokenizer.from_file(str(path))
    return pairs


def theirs_ids(theirs, text):
    return theirs.encode(text, add_special_tokens=False).ids


def check(ours, theirs, text):
    ids = ours.encode(text).tolist()
    assert ids == theirs_ids(theirs, text)
    assert ours.decode(ids, special_tokens=False) == theirs.decode(ids)
    if isinstance(ours, BPE):
        assert ours.decode(ids) == text


@pytest.mark.parametrize("name", TEXTS)
def test_gpt2(gpt2, name):
    check(*gpt2, TEXTS[name])


@pytest.mark.parametrize("name", TEXTS)
def test_bert(bert, name):
    check(*bert, TEXTS[name])


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", TEXTS)
def test_each_pattern(trained, pattern, name):
    check(*trained[pattern], TEXTS[name])


def test_the_greeting(gpt2):
    expected = [15496, 995, 11, 220, 19526, 254, 25001, 121]
    assert gpt2[0].encode("Hello world, 你好").tolist() == expected


@given(text=anything)
def test_any_text(trained, text):
    for ours, theirs in trained.values():
        check(ours, theirs, text)


@pytest.mark.slow
@settings(max_examples=10_000, suppress_health_check=list(HealthCheck))
@given(text=anything)
def test_ten_thousand_texts(gpt2, bert, text):
    check(*gpt2, text)
    check(*bert, text)


@pytest.mark.slow
def test_every_code_point(gpt2, bert):
    """Inside a word, and doubled after a space."""
    codes = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    for start in range(0, len(codes), 4096):
        block = [chr(c) for c in codes[start : start + 4096]]
        text = "".join(f"a{c}b {c}{c}" for c in block)
        assert gpt2[0].encode(text).tolist() == theirs_ids(gpt2[1], text)
        if bert[0].encode(text).tolist() != theirs_ids(bert[1], text):
            # only capitals and decompositions of later versions of Unicode than Python's may differ
            block = [c for c in block if unicodedata.category(c) != "Cn"]
            text = "".join(f"a{c}b {c}{c}" for c in block)
            assert bert[0].encode(text).tolist() == theirs_ids(bert[1], text)


@pytest.mark.parametrize("name", ["topics", "shakespeare", "hsk-zh", "hsk-en"])
def test_whole_corpora(gpt2, bert, name):
    try:
        text = load(name)[:200_000]
    except FileNotFoundError:
        pytest.skip(f"needs the text {name}")
    check(*gpt2, text)
    check(*bert, text)


def test_random_ids_decode_alike(gpt2, bert):
    rng = np.random.default_rng(0)
    for ours, theirs in (gpt2, bert):
        for _ in range(200):
            ids = rng.integers(len(ours), size=20).tolist()
            assert ours.decode(ids, special_tokens=False) == theirs.decode(ids)


# ------------------------------------------------------------------ training


def their_training(texts, size, **options):
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        **options,
    )
    theirs.train_from_iterator(texts, trainer)
    return json.loads(theirs.to_str())["model"], theirs


@pytest.mark.parametrize("size", [256, 300, 1000, 5000])
def test_training_on_topics(size):
    text = load("topics")[:150_000]
    ours = BPE.train(text, size)
    model, theirs = their_training([text], size, min_frequency=2)
    assert ours.vocabulary == model["vocab"]
    assert [list(pair) for pair in ours.merges] == model["merges"]
    assert ours.encode(text[::-1]).tolist() == theirs_ids(theirs, text[::-1])


@pytest.mark.parametrize("seed", range(30))
def test_training_on_texts_full_of_ties(seed):
    draw = random.Random(seed)
    letters = "ab" if seed % 3 else "abcdé你 "
    texts = ["".join(draw.choices(letters, k=draw.randrange(1, 60))) for _ in range(20)]
    texts += ["<s>" + texts[0]]
    ours = BPE.train(texts, 330, min_frequency=1, special_tokens=["<s>", "<|pad|>"])
    model, theirs = their_training(texts, 330, min_frequency=0, special_tokens=["<s>", "<|pad|>"])
    assert len(set(map(tuple, model["merges"]))) == len(model["merges"])
    assert [list(pair) for pair in ours.merges] == model["merges"]
    assert ours.vocabulary == model["vocab"]
    for text in texts:
        assert ours.encode(text).tolist() == theirs_ids(theirs, text)


# ------------------------------------------------------------------ files of others


@pytest.mark.parametrize("added", [{}, {"lstrip": True}, {"rstrip": True}, {"normalized": True}])
def test_added_tokens(tmp_path, added):
    _, theirs = their_training([TEXTS["english"]], 300)
    theirs.add_special_tokens(["<a>", "<a><b>"])
    theirs.add_tokens([tokenizers.AddedToken("<m>", **{"normalized": False} | added)])
    theirs.decoder = tokenizers.decoders.ByteLevel()
    theirs.save(str(tmp_path / "t.json"))
    ours = load_tokenizer(tmp_path / "t.json")
    for text in (
        "x <m> y",
        "<m><m>\n<m>",
        " <a> <a><b><m>",
        "<a<m>b> ",
        "<a <m> >",
        "\u3000<m>\x1c",
    ):
        ids = ours.encode(text).tolist()
        assert ids == theirs_ids(theirs, text)
        assert ours.decode(ids, special_tokens=False) == theirs.decode(ids)


@pytest.mark.parametrize("form", ["NFC", "NFKC"])
def test_normal_forms(tmp_path, form):
    _, theirs = their_training([TEXTS["scripts"]], 300)
    theirs.normalizer = getattr(tokenizers.normalizers, form)()
    theirs.decoder = tokenizers.decoders.ByteLevel()
    theirs.add_tokens(["ﬁn"])
    theirs.save(str(tmp_path / "t.json"))
    ours = load_tokenizer(tmp_path / "t.json")
    for text in ("e\u0301 ﬁn fin x", TEXTS["scripts"], TEXTS["chinese"]):
        assert ours.encode(text).tolist() == theirs_ids(theirs, text)


@pytest.mark.parametrize("options", [
    {"lowercase": False}, {"strip_accents": True, "lowercase": False}, {"strip_accents": False},
    {"handle_chinese_chars": False}, {"clean_text": False},
])  # fmt: skip
def test_berts_options(tmp_path, bert, options):
    content = json.loads((fetched("minilm") / "tokenizer.json").read_text(encoding="utf-8"))
    content["normalizer"] |= options
    content["padding"] = content["truncation"] = None
    path = tmp_path / "t.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    ours, theirs = load_tokenizer(path), tokenizers.Tokenizer.from_file(str(path))
    for text in TEXTS.values():
        check(ours, theirs, text)
    ours.save(path)
    assert theirs_ids(tokenizers.Tokenizer.from_file(str(path)), TEXTS["scripts"]) == theirs_ids(
        theirs, TEXTS["scripts"]
    )


def test_smollm2(tmp_path):
    """The vocabulary beside SmolLM2's weights, saved as tokenizer.json and read by `tokenizers`."""
    pytest.importorskip("gguf")
    ours = load_tokenizer(next(fetched("smollm2").glob("*.gguf")))
    assert (len(ours), ours.pattern, ours.added.ids["<|im_start|>"]) == (49152, "digit", 1)
    ours.save(tmp_path / "t.json")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "t.json"))
    assert ours.encode("The capital of France is 12").tolist() == [
        504, 3575, 282, 4649, 314, 216, 33, 34,
    ]  # fmt: skip
    for text in (*TEXTS.values(), "<|im_start|>user\nHi<|im_end|>\n"):
        known = "".join(c for c in text if c not in "\x04\x06\x13\x14\x16\x1d")
        check(ours, theirs, known)
    with pytest.raises(ValueError, match="no token for the byte 0x04"):
        ours.encode("end\x04")


def test_unknown_bytes(tmp_path):
    _, theirs = their_training([TEXTS["english"]], 300, special_tokens=["<unk>"])
    content = json.loads(theirs.to_str())
    for token in [t for t in content["model"]["vocab"] if set(t) & set("zÃ")]:
        del content["model"]["vocab"][token]
    content["model"]["merges"] = []
    content["model"]["unk_token"] = "<unk>"
    (tmp_path / "t.json").write_text(json.dumps(content), encoding="utf-8")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "t.json"))
    ours = load_tokenizer(tmp_path / "t.json")
    for text in ("zaz é zz", "<unk>z"):
        assert ours.encode(text).tolist() == theirs_ids(theirs, text)


def test_transformers_gpt2(gpt2, tmp_path):
    transformers = pytest.importorskip("transformers")
    gpt2[0].save(tmp_path / "tokenizer.json")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for text in TEXTS.values():
        assert gpt2[0].encode(text).tolist() == theirs(text)["input_ids"]


def test_transformers_bert(bert):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(str(fetched("minilm")))
    for length in (2, 3, 5, 12, 512):
        for text in TEXTS.values():
            ids, _ = bert[0].inputs(text, max_length=length)
            assert ids.tolist() == theirs(text, max_length=length, truncation=True)["input_ids"]
    names = [name for name in TEXTS if name != "empty"]  # which transformers takes for no text
    for first, second in pairwise(names):
        for length in (3, 4, 7, 20, 512):
            ids, types = bert[0].inputs(TEXTS[first], TEXTS[second], max_length=length)
            expected = theirs(TEXTS[first], TEXTS[second], max_length=length, truncation=True)
            assert ids.tolist() == expected["input_ids"]
            assert types.tolist() == expected["token_type_ids"]
