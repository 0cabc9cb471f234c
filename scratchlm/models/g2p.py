"""From letters to phonemes: a small recurrent encoder–decoder, with the weights of g2p-en.

One GRU reads a word, letter by letter. Its last state is the first state of a second GRU, which
writes phonemes, one at a time, until it writes ``</s>``. No letter is matched with a phoneme
anywhere: all of the word passes through that one vector.
"""

from __future__ import annotations

import io
import os
import string
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from .. import functional as F
from ..modes import no_grad
from ..nn import GRU, Embedding, GRUCell, Linear, Module, skip_init

LETTERS = ("<pad>", "<unk>", "</s>", *string.ascii_lowercase)

# ARPAbet, as in the CMU dictionary; a vowel's digit is its stress: 1 first, 2 second, 0 none. (The
# dictionary has a few vowels UW without a digit.)
VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = (
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH"),
    *("T", "TH", "V", "W", "Y", "Z", "ZH"),
)
SOUNDS = sorted([*(v + stress for v in VOWELS for stress in "012"), *CONSONANTS, "UW"])
PHONEMES = ("<pad>", "<unk>", "<s>", "</s>", *SOUNDS)
UNKNOWN, END_OF_WORD = LETTERS.index("<unk>"), LETTERS.index("</s>")
START, END = PHONEMES.index("<s>"), PHONEMES.index("</s>")

# the arrays of the file, and the weights they are
NAMES = {
    "enc_emb": "letters.weight",
    "enc_w_ih": "encoder.weight_ih_l0",
    "enc_w_hh": "encoder.weight_hh_l0",
    "enc_b_ih": "encoder.bias_ih_l0",
    "enc_b_hh": "encoder.bias_hh_l0",
    "dec_emb": "phonemes.weight",
    "dec_w_ih": "decoder.weight_ih",
    "dec_w_hh": "decoder.weight_hh",
    "dec_b_ih": "decoder.bias_ih",
    "dec_b_hh": "decoder.bias_hh",
    "fc_w": "out.weight",
    "fc_b": "out.bias",
}


class G2P(Module):
    """Phonemes of a word, one GRU reading and one writing.

    Args:
        embedding_size, hidden_size: 256 each in the published weights.
        rng: a generator or a seed, for initial weights.
        dtype: of the weights.

    The reset gate acts after the product, as in PyTorch, which the published weights come from.

    Source: Sutskever, Vinyals & Le 2014 (the encoder–decoder); Cho et al. 2014 (the GRU).
    """

    def __init__(
        self,
        embedding_size: int = 256,
        hidden_size: int = 256,
        *,
        rng: np.random.Generator | int | None = None,
        dtype: Any = np.float32,
    ) -> None:
        kind = {"rng": np.random.default_rng(rng), "dtype": dtype}
        self.letters = Embedding(len(LETTERS), embedding_size, **kind)
        self.encoder = GRU(embedding_size, hidden_size, **kind)
        self.phonemes = Embedding(len(PHONEMES), embedding_size, **kind)
        self.decoder = GRUCell(embedding_size, hidden_size, **kind)
        self.out = Linear(hidden_size, len(PHONEMES), **kind)

    @classmethod
    def from_npz(cls, path: str | os.PathLike[str]) -> G2P:
        """The model in a file of twelve arrays, such as ``checkpoint20.npz`` of g2p-en.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a file that is no such checkpoint: damaged, or other arrays, shapes, dtypes.
        """
        arrays = _read(path)
        E, H = ((*arrays[name].shape, 0)[1] for name in ("enc_emb", "enc_w_hh"))
        one = {"w_ih": (3 * H, E), "w_hh": (3 * H, H), "b_ih": (3 * H,), "b_hh": (3 * H,)}
        expected = {f"{side}_{name}": one[name] for side in ("enc", "dec") for name in one} | {
            "enc_emb": (len(LETTERS), E),
            "dec_emb": (len(PHONEMES), E),
            "fc_w": (len(PHONEMES), H),
            "fc_b": (len(PHONEMES),),
        }
        dtype = arrays["enc_emb"].dtype
        if dtype not in (np.dtype("float32"), np.dtype("float64")):
            raise ValueError(f"G2P: {path} has {dtype} in enc_emb; it must be float32 or float64")
        for name, array in arrays.items():
            if array.shape != expected[name] or array.dtype != dtype or not array.size:
                raise ValueError(
                    f"G2P: {path}: {name} is {array.dtype} {array.shape}; beside this enc_emb and "
                    f"enc_w_hh it must be {dtype} {expected[name]}, with sizes above 0"
                )
        model = skip_init(cls, E, H, rng=0, dtype=dtype)
        model.load_state_dict({NAMES[name]: array for name, array in arrays.items()})
        return model

    def encode(self, word: str) -> Any:
        """The state after reading the word and an end sign, [1, hidden_size]."""
        ids = [LETTERS.index(c) if c in LETTERS[3:] else UNKNOWN for c in word] + [END_OF_WORD]
        _, state = self.encoder(self.letters(np.array(ids)[:, None]))  # [S, 1, E] -> [1, 1, H]
        return state[0]

    def forward(self, word: str, phonemes: list[str]) -> Any:
        """Logits [N + 1, 74]: after each of N given phonemes, and before the first, what next?"""
        state = self.encode(word)
        rows = []
        for last in [START, *(PHONEMES.index(p) for p in phonemes)]:
            state = self.decoder(self.phonemes(np.array([last])), state)
            rows.append(self.out(state)[0])
        return F.stack(*rows)

    def pronounce(self, word: str, *, max_phonemes: int = 20) -> list[str]:
        """The phonemes of a word: at each step the likeliest one, until ``</s>``.

        Capital letters are read as small ones, anything but a to z as one sign, unknown.

        Raises:
            TypeError: a word that is no string.
            ValueError: none, or several words.
        """
        if not isinstance(word, str):
            raise TypeError(f"G2P: a word is a str, not {type(word).__name__}")
        if len(word.split()) != 1 or word != word.strip():
            raise ValueError(f"G2P: {word!r} is not one word; split the text at its spaces")
        found: list[str] = []
        with no_grad():
            state, last = self.encode(word.lower()), START
            while len(found) < max_phonemes:
                state = self.decoder(self.phonemes(np.array([last])), state)
                last = int(self.out(state).data.argmax())
                if last == END:
                    break
                found.append(PHONEMES[last])
        return found


def _read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of NAMES. Nothing is unpickled; sizes are looked at before anything is read."""
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as file:
            members = {name: file.getinfo(f"{name}.npy") for name in NAMES}  # KeyError says which
            if sum(each.file_size for each in members.values()) <= 2 * path.stat().st_size:
                return {
                    name: np.load(io.BytesIO(file.read(each)), allow_pickle=False)
                    for name, each in members.items()
                }
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file fails in many ways, from zlib's to the header's
        raise ValueError(f"G2P: {path} is no checkpoint of g2p-en: {error}") from error
    raise ValueError(f"G2P: {path} is no checkpoint of g2p-en: it would unpack to twice its size")
