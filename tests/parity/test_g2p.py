"""The pronunciations of 50 words are those that g2p-en itself gives.

They were taken down from ``G2p().predict(word)`` of g2p-en 2.1.0, which asks no dictionary. Where
that package is installed, it is asked again.
"""

import sys
import types

import numpy as np
import pytest

from scratchlm.data import locate
from scratchlm.models import G2P
from scratchlm.models.g2p import END_OF_WORD, LETTERS, PHONEMES

pytestmark = pytest.mark.parity

SPOKEN = """
activationist AE2 K T IH0 V EY1 SH AH0 N IH0 S T
attention AH0 T EH1 N SH AH0 N
backpropagation B AE2 K P R AH0 G P EY1 SH AH0 N
banana B AH0 N AA1 N AH0
beautiful B Y UW1 T AH0 F AH0 L
bookkeeper B UH1 K K IY2 P ER0
breakfast B R EY1 K F AH0 S T
bureau B Y UH1 R OW0
cat K AE1 T
chocolate CH AA1 K L AH0 T
colonel K AA1 L AH0 N AH0 L
convolution K AA2 N V AH0 L UW1 SH AH0 N
cough K AO1 F
daughter D AO1 T ER0
derivative D ER0 IH1 V AH0 T IH0 V
elephant EH1 L AH0 F AH0 N T
enough IH0 N AW1
entropy EH1 N T R AH0 P IY0
gradient G R EY1 D IY0 AH0 N T
handkerchief HH AE1 NG K ER0 CH AY2 F
hello HH EH1 L OW0
island AY1 L AH0 N D
jazz JH AE1 Z
knight N AY1 T
language L AE1 NG G Y UW0 IH0 JH
laughter L AO1 T ER0
matrix M EY1 T R IH0 K S
memory M EH1 M ER0 IY0
mnemonic N IH0 M AA1 N IH0 K
neighbor N EY1 B ER0
perplexity P ER0 P L EH1 K S AH0 T IY0
phoenix F IY1 N IH0 K S
photograph F OW1 T AH0 G R AE2 F
pneumonia N UW0 M OW1 N IY0 AH0
psychology S AY0 K AA1 L AH0 JH IY0
quantum K W AA1 N T AH0 M
queue K Y UW1
recurrent R IH0 K ER1 AH0 N T
rhythm R IH1 DH AH0 M
schedule S K EH1 JH UH0 L
scratchlm S K R AE1 CH AH0 L M
sigmoid S IH1 G M OY2 D
softmax S AO1 F T M AE2 K S
though TH AO1
thought TH AO1 T
tomorrow T AH0 M AO1 R OW0
transformer T R AE0 N S F AO1 R M ER0
vocabulary V OW0 K AE1 B Y AH0 L EH2 R IY0
wednesday W EH1 D N Z EY2
zebra Z EH1 B R AH0
"""
WORDS = {word: phonemes for word, *phonemes in map(str.split, SPOKEN.strip().splitlines())}


@pytest.fixture(scope="module")
def checkpoint():
    try:
        return locate("g2p-en") / "checkpoint20.npz"
    except FileNotFoundError as error:
        pytest.skip(str(error))


def test_the_published_weights_are_all_there(checkpoint):
    assert G2P.from_npz(checkpoint).num_parameters() == 834_890


def test_fifty_words(checkpoint):
    model = G2P.from_npz(checkpoint)
    assert len(WORDS) == 50
    assert {word: model.pronounce(word) for word in WORDS} == WORDS


def test_planted_faults_are_found(checkpoint):
    """Gates in another order, the reset gate elsewhere, no end of a word: other phonemes."""

    def wrong(change):
        model = G2P.from_npz(checkpoint)
        change(model)
        return sum(model.pronounce(word) != WORDS[word] for word in WORDS)

    def swap_gates(model):
        for name, parameter in model.named_parameters():
            if name.startswith(("encoder", "decoder")):
                r, z, n = np.split(parameter.data, 3)
                parameter.data[...] = np.concatenate([z, r, n])

    def reset_before(model):
        model.encoder.options["reset_after"] = model.decoder.options["reset_after"] = False

    def no_end_sign(model):
        model.letters.weight.data[END_OF_WORD] = 0

    assert wrong(lambda model: None) == 0
    assert wrong(swap_gates) > 40  # 50
    assert wrong(reset_before) > 40  # 44
    assert wrong(no_end_sign) > 20  # 31


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # files it leaves open
def test_the_package_itself(checkpoint, monkeypatch):
    """Its own NumPy code; what it imports besides (a tagger, dictionaries) is not used here."""
    nothing = types.SimpleNamespace
    for name, what in {
        "nltk": {"pos_tag": None, "data": nothing(find=str)},
        "nltk.corpus": {"cmudict": nothing(dict=dict)},
        "nltk.tokenize": {"TweetTokenizer": lambda: nothing(tokenize=str.split)},
        "inflect": {"engine": lambda: None},
    }.items():
        module = types.ModuleType(name)
        vars(module).update(what)
        monkeypatch.setitem(sys.modules, name, module)
    g2p = pytest.importorskip("g2p_en").G2p()
    assert list(PHONEMES) == g2p.phonemes
    assert list(LETTERS) == g2p.graphemes
    model = G2P.from_npz(checkpoint)
    for word in [*WORDS, "x1y", "don't", "z" * 40]:
        assert model.pronounce(word) == g2p.predict(word)
