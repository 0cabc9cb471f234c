"""Vectors of words: neighbours, analogies, files, and the published tests on a small scale."""

import random
import struct
import tracemalloc
import warnings

import numpy as np
import pytest

from scratchlm.models import (
    WordVectors,
    evaluate_analogies,
    evaluate_similarity,
    load_vectors,
    read_pairs,
    read_questions,
)
from scratchlm.models.word_vectors import write_arrays

WORDS = ["king", "queen", "man", "woman", "apple", "Zürich", "苹果"]


@pytest.fixture
def vectors():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(7, 5)).astype(np.float32)
    return WordVectors(WORDS, table)


# -- what they say ---------------------------------------------------------------------------------


def test_lookup(vectors):
    assert len(vectors) == 7
    assert "queen" in vectors
    assert "Queen" not in vectors
    np.testing.assert_array_equal(vectors["man"], vectors.vectors[2])
    with pytest.raises(KeyError, match="no vector for 'queens'; near it are queen"):
        vectors["queens"]


def test_similarity_is_the_cosine(vectors):
    a, b = vectors["king"].astype(float), vectors["apple"].astype(float)
    cosine = a @ b / np.sqrt((a @ a) * (b @ b))
    assert vectors.similarity("king", "apple") == pytest.approx(cosine, abs=1e-6)  # float32
    assert vectors.similarity("king", "king") == pytest.approx(1, abs=1e-6)


def test_nearest(vectors):
    cosines = {word: vectors.similarity("man", word) for word in WORDS if word != "man"}
    ranked = sorted(cosines, key=lambda word: -cosines[word])
    assert [word for word, _ in vectors.nearest("man")] == ranked  # n above what there is
    found = vectors.nearest("man", 2, exclude=[ranked[0]])
    assert [word for word, _ in found] == ranked[1:3]
    assert found[0][1] == pytest.approx(cosines[ranked[1]], abs=1e-6)
    assert vectors.nearest(3 * vectors["man"], 1)[0] == ("man", pytest.approx(1, abs=1e-6))
    assert vectors.nearest("man", exclude=WORDS) == []
    with pytest.raises(ValueError, match=r"shape \(4,\)"):
        vectors.nearest(np.ones(4))
    with pytest.raises(ValueError, match="n=0"):
        vectors.nearest("man", 0)


def test_analogies_leave_out_their_own_words():
    """Without that, *king* would be nearest: what separates man and woman moves it by little."""
    table = np.array([[5, 1, 0], [5, 0.2, 3], [1, 1, 0], [1, 0.9, 0.3], [0, 0, 1.0]])
    vectors = WordVectors(WORDS[:5], table)
    units = table / np.linalg.norm(table, axis=1, keepdims=True)
    target = units[3] - units[2] + units[0]
    scores = units @ target / np.linalg.norm(target)
    assert scores.argmax() == 0
    found = vectors.analogy("man", "woman", "king")
    assert found == [("queen", pytest.approx(scores[1], rel=1e-12))]
    # the vectors count at length 1, whatever their own
    longer = WordVectors(WORDS[:5], table * np.array([[9], [1], [0.1], [7], [3.0]]))
    assert longer.analogy("man", "woman", "king") == [
        ("queen", pytest.approx(scores[1], rel=1e-12))
    ]


def test_a_zero_vector_is_near_nothing():
    vectors = WordVectors(["a", "b", "c"], np.array([[0.0, 0], [1, 0], [-1, 0]]))
    assert vectors.similarity("a", "b") == 0
    assert vectors.nearest("a", 1)[0][1] == 0
    assert [word for word, _ in vectors.nearest("b")] == ["a", "c"]


@pytest.mark.parametrize(
    ("words", "table", "error", "said"),
    [
        (["a"], np.zeros((2, 3)), ValueError, r"1 words and vectors of shape \(2, 3\)"),
        ([], np.zeros((0, 3)), ValueError, "not empty"),
        (["a", "b", "a"], np.ones((3, 1)), ValueError, "'a' stands among the words twice"),
        (["a", "b"], np.array([[1, 2], [np.nan, 0]]), ValueError, "vector of 'b' is not finite"),
        (["a"], np.full((1, 2), np.inf), ValueError, "not finite"),
        (["a"], np.ones((1, 2), int), TypeError, "int64"),
    ],
)
def test_what_can_not_be_vectors(words, table, error, said):
    with pytest.raises(error, match=said):
        WordVectors(words, table)


# -- our own file ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_saved_and_read(tmp_path, dtype):
    pytest.importorskip("safetensors")
    rng = np.random.default_rng(1)
    # not in C order: a file of the memory as it lies would be scrambled
    vectors = WordVectors([*WORDS, "a b", '"', ""], rng.normal(size=(4, 10)).astype(dtype).T)
    path = vectors.save(tmp_path / "v.safetensors")
    again = WordVectors.load(path)
    assert again.words == vectors.words
    assert again.vectors.dtype == dtype
    np.testing.assert_array_equal(again.vectors, vectors.vectors)
    assert [p.name for p in tmp_path.iterdir()] == ["v.safetensors"]
    with pytest.raises(FileNotFoundError, match="no file"):
        WordVectors.load(tmp_path / "other")


@pytest.mark.parametrize(
    ("arrays", "about", "said"),
    [
        (
            {"vectors": np.ones((2, 2))},
            {"kind": "another", "words": ["a", "b"]},
            "holds no scratch",
        ),
        ({"vectors": np.ones((2, 2))}, ["a"], "holds no scratch"),
        ({"vectors": np.ones((2, 2))}, {"words": "ab"}, "no list of strings"),
        ({"vectors": np.ones((2, 2))}, {"words": ["a", 2]}, "no list of strings"),
        ({"vectors": np.ones((2, 2))}, {"words": ["a", "a"]}, "twice"),
        ({"vectors": np.ones((2, 2), int)}, {"words": ["a", "b"]}, "int64"),
        ({"vector": np.ones((2, 2))}, {"words": ["a", "b"]}, "vectors"),
        ({"vectors": np.ones((3, 2))}, {"words": ["a", "b"]}, "2 words"),
    ],
)
def test_files_of_something_else(tmp_path, arrays, about, said):
    pytest.importorskip("safetensors")
    if isinstance(about, dict):
        about = {"kind": "scratchlm word vectors", **about}
    path = write_arrays(tmp_path / "v.safetensors", arrays, about)
    with pytest.raises(ValueError, match=said):
        WordVectors.load(path)


def test_damaged_files_of_our_own(tmp_path, vectors):
    pytest.importorskip("safetensors")
    path = vectors.save(tmp_path / "v.safetensors")
    damage(path, path.read_bytes(), WordVectors.load, times=200)


# -- published formats -----------------------------------------------------------------------------


def binary(vectors, end=b"\n"):
    """As word2vec.c writes it: each vector ends with a new line. Google's program left that out."""
    rows = zip(vectors.words, vectors.vectors, strict=True)
    head = b"%d %d\n" % vectors.vectors.shape
    return head + b"".join(
        word.encode() + b" " + struct.pack(f"<{len(row)}f", *row) + end for word, row in rows
    )


def text(vectors, head=True):
    rows = [
        " ".join([word, *map(str, row.tolist())])
        for word, row in zip(vectors.words, vectors.vectors, strict=True)
    ]
    first = ["{} {}".format(*vectors.vectors.shape)] if head else []
    return "\n".join([*first, *rows, ""]).encode()


FILES = {
    "word2vec.bin": binary,
    "google.bin": lambda v: binary(v, b""),
    "word2vec.txt": text,
    "glove.txt": lambda v: text(v, head=False),
    "trailing.vec": lambda v: text(v).replace(b"\n", b" \r\n"),  # as fastText's: a blank at the end
}


@pytest.fixture(params=FILES)
def published(request, tmp_path, vectors):
    path = tmp_path / request.param
    path.write_bytes(FILES[request.param](vectors))
    return path


def test_formats(published, vectors):
    read = load_vectors(published)
    assert read.words == WORDS
    assert read.vectors.dtype == np.float32
    np.testing.assert_array_equal(read.vectors, vectors.vectors)
    few = load_vectors(published, limit=3)
    assert few.words == WORDS[:3]
    np.testing.assert_array_equal(few.vectors, vectors.vectors[:3])
    assert load_vectors(published, limit=99).words == WORDS


def test_numbers_that_look_like_new_lines_and_blanks(tmp_path):
    """0x0A and 0x20 are bytes of numbers, too."""
    table = np.frombuffer(b"\n\n\n\n    \n \n ", "<f4").reshape(3, 1)
    vectors = WordVectors(["a", "b", "c"], table)
    for name in ("word2vec.bin", "google.bin"):
        path = tmp_path / name
        path.write_bytes(FILES[name](vectors))
        np.testing.assert_array_equal(load_vectors(path).vectors, table)


def test_words_with_blanks(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("the 1 2\n. . 3 4\n5 5 6\n")
    read = load_vectors(path)
    assert read.words == ["the", ". .", "5"]
    assert read.vectors.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_a_word_that_stands_there_again(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("3 1\na 1\nb 2\na 3\n")
    with pytest.warns(UserWarning, match="1 words stand there again"):
        read = load_vectors(path)
    assert read.words == ["a", "b"]
    assert read.vectors.tolist() == [[1], [2]]


def test_no_utf8(tmp_path):
    path = tmp_path / "v.bin"
    path.write_bytes(b"1 1\nx\xff \0\0\0\0")
    assert load_vectors(path).words == ["x\ufffd"]


def attempt(load, path):
    """What is said of a file that is refused, or what was read of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # words that now stand there twice
            return "", load(path)
    except ValueError as error:
        return str(error), None


def test_cut_off_anywhere(published):
    """All is missed but what can't be: digits of a text's very last number, and words of GloVe's
    format, which does not say how many there should be.
    """
    good = published.read_bytes()
    whole = load_vectors(published)
    for size in range(len(good) - 3):
        published.write_bytes(good[:size])
        said, read = attempt(load_vectors, published)
        if read is None:
            assert said.startswith(f"load_vectors: {published}")
            continue
        assert published.suffix != ".bin"
        assert len(read) == 7 or published.name == "glove.txt"
        if read.vectors.shape[1] == 5:
            expected = whole.vectors[: len(read)].ravel()
            np.testing.assert_array_equal(read.vectors.ravel()[:-1], expected[:-1])


def damage(path, good, load, times, seed=0):
    """Damaged at random: a ValueError or vectors, never another error, and no more memory than
    some 30 times the file: words are Python's strings, of 50 bytes each."""
    rng = random.Random(seed)
    refused = 0
    for _ in range(times):
        raw = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(min(len(raw), rng.choice((30, len(raw)))))
            raw[place] = rng.choice((*b"\n \t09-.e", 0, 127, 255, rng.randrange(256)))
        path.write_bytes(raw)
        tracemalloc.start()
        try:
            said, read = attempt(load, path)
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 30 * len(good) + 200_000
        if read is None:
            assert str(path) in said
            refused += 1
    assert refused > times / 20


def test_damaged(published):
    damage(published, published.read_bytes(), load_vectors, times=200)


@pytest.mark.parametrize("name", ["v.bin", "v.txt"])
@pytest.mark.parametrize(
    "head", ["1000000000 300", "1 999999999999", "0 3", "3 0", "99999999999999999999 1", "9" * 5000]
)
def test_sizes_that_can_not_be(tmp_path, name, head):
    """Nothing is allocated for what a first line says."""
    path = tmp_path / name
    path.write_bytes(head.encode() + b"\nword 1 2 3\n")
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="load_vectors"):
            load_vectors(path)
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "empty"),
        ("\n\n", "no vectors"),
        ("word\n", "line 1 is no word and its numbers"),
        ("a 1 2\nb 1\n", "line 2 is no word and 2 numbers"),
        ("a 1 2\nb 1 x\n", "line 2 is no word and 2 numbers"),
        ("2 2\nword 1 2\n1 2\n", "line 3 is no word and 2 numbers"),
        ("1 2\na 1 2\nb 3 4\n", "speaks of 1 vectors, and has 2"),
        ("a 1 nan\n", "vector of 'a' is not finite"),
        ("a 1 1e99\n", "vector of 'a' is not finite"),
    ],
)
def test_text_that_is_no_vectors(tmp_path, content, said):
    path = tmp_path / "v.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=said):
        load_vectors(path)


def test_more_than_the_binary_file_says(tmp_path, vectors):
    path = tmp_path / "v.bin"
    path.write_bytes(binary(vectors) + b"more")
    with pytest.raises(ValueError, match="goes on after the 7 vectors"):
        load_vectors(path)
    assert load_vectors(path, limit=2).words == WORDS[:2]


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_vectors(tmp_path / "none.bin")
    with pytest.raises(ValueError, match="is a folder"):
        load_vectors(tmp_path)
    (tmp_path / "v").write_text("a 1\n")
    with pytest.raises(ValueError, match="format='glove'"):
        load_vectors(tmp_path / "v", format="glove")
    with pytest.raises(ValueError, match="limit=0"):
        load_vectors(tmp_path / "v", limit=0)
    with pytest.raises(ValueError, match="not word2vec's binary format"):
        load_vectors(tmp_path / "v", format="binary")


# -- the published tests ---------------------------------------------------------------------------


def test_pairs_and_questions(tmp_path):
    path = tmp_path / "pairs"
    path.write_text("# a, b\nking\tqueen\t8.5\n\nbig cat\t\ttiger\t\t7\n", encoding="utf-8")
    assert read_pairs(path) == [("king", "queen", 8.5), ("big cat", "tiger", 7)]
    path.write_text("a\tb\t1\na\tb\n")
    with pytest.raises(ValueError, match="line 2: is no two words and a number"):
        read_pairs(path)
    path.write_text(": one\nman woman king queen\n: two\na b c d\ne f g h\n")
    assert read_questions(path) == {
        "one": [("man", "woman", "king", "queen")],
        "two": [("a", "b", "c", "d"), ("e", "f", "g", "h")],
    }
    path.write_text("a b c\n")
    with pytest.raises(ValueError, match="line 1: has 3 words"):
        read_questions(path)


def test_similarity_counts_what_it_leaves_out(vectors):
    pairs = [("king", "queen", 1.0), ("man", "woman", 2.0), ("king", "apple", 3.0)]
    order = np.argsort([vectors.similarity(a, b) for a, b, _ in pairs])
    risen = [(*pairs[i][:2], float(place)) for place, i in enumerate(order)]
    more = [("king", "unheard", 9.0), ("King", "queen", 9.0)]
    found = evaluate_similarity(vectors, [*more, *risen])
    assert (found.rho, found.used, found.total) == (1, 3, 5)
    with pytest.raises(ValueError, match="of 2 pairs 0 have vectors"):
        evaluate_similarity(vectors, more)


@pytest.mark.parametrize("rows", [1, 3, 512])
def test_analogies_are_those_asked_one_by_one(rows):
    rng = np.random.default_rng(2)
    words = [f"w{i}" for i in range(40)]
    vectors = WordVectors(words, rng.normal(size=(40, 4)))
    asked = [tuple(rng.choice(words, 3, replace=False)) for _ in range(30)]
    answers = [vectors.analogy(*each)[0][0] for each in asked]
    right = [(*each, answer) for each, answer in zip(asked, answers, strict=True)]
    wrong = [(*each[:3], "w0") for each in right if each[3] != "w0"]
    questions = {"right": right, "wrong": wrong, "unknown": [("w1", "w2", "w3", "W4")]}
    found = evaluate_analogies(vectors, questions, rows=rows)
    assert found.sections == {"right": (30, 30), "wrong": (0, len(wrong))}
    assert (found.correct, found.used, found.total) == (30, 30 + len(wrong), 31 + len(wrong))
    assert found.accuracy == 30 / (30 + len(wrong))
    with pytest.raises(ValueError, match="none of 1 questions"):
        evaluate_analogies(vectors, {"unknown": questions["unknown"]})
