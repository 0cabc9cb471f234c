import numpy as np
import pytest

from scratchlm import data


def test_topics_are_there_and_split_without_a_leak():
    text = data.load("topics")
    assert len(text) > 300_000
    training, validation = data.split(text)
    assert text.endswith(validation)
    assert 0.08 < len(validation) / len(text) < 0.12
    known = {p.strip() for p in validation.split("\n\n") if len(p.strip()) >= 40}
    assert not any(p.strip() in known for p in training.split("\n\n"))


def test_a_shared_paragraph_leaves_the_training_part():
    shared = "This very paragraph is found in both of the parts."
    text = "\n\n".join(
        ["first " * 30, shared, "short", *["more words " * 10] * 5, "other " * 20, "short", shared]
    )
    training, validation = data.split(text, 0.3)
    assert shared in validation
    assert shared not in training
    assert "short" in training  # too short to be learned by heart
    assert "first" in training
    keep, _ = data.split(text, 0.3, shared=10_000)
    assert shared in keep  # the fault that the default prevents


def test_the_cut_is_between_paragraphs_where_there_are_any():
    text = "\n\n".join(f"paragraph {i} ends here" for i in range(100))
    training, validation = data.split(text)
    assert validation.startswith("paragraph ")
    assert training + validation == text
    training, validation = data.split("x" * 1000)
    assert (len(training), len(validation)) == (900, 100)


@pytest.mark.parametrize("validation", [0, 1, -0.1, 2])
def test_a_share_out_of_range(validation):
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        data.split("abc" * 100, validation)


@pytest.mark.parametrize("text", ["", "a", "ab", "    \n\n"])
def test_a_text_too_short_to_split(text):
    with pytest.raises(ValueError, match="a longer text is needed"):
        data.split(text)


def test_a_file(tmp_path):
    file = tmp_path / "文 本.txt"
    file.write_bytes("\ufeff第一行\r\nsecond\rthird\n".encode())
    assert data.load(file) == "第一行\nsecond\nthird\n"


def test_a_folder_in_the_order_of_its_paths(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("b/2.md", "a.txt", "b/1.TXT", "c.png"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    assert data.load(tmp_path) == "a.txt\n\nb/1.TXT\n\nb/2.md"


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="'nowhere', and no text of that name"):
        data.load("nowhere")
    with pytest.raises(ValueError, match="no file that ends in"):
        data.load(tmp_path)
    (tmp_path / "empty.txt").write_text(" \n", encoding="utf-8")
    with pytest.raises(ValueError, match="is empty"):
        data.load(tmp_path / "empty.txt")
    (tmp_path / "gb.txt").write_bytes("line\n注意".encode("gb18030"))
    with pytest.raises(ValueError, match=r"gb\.txt is not UTF-8 \(byte 0xd2 in line 2\)"):
        data.load(tmp_path / "gb.txt")


def test_corpus(tmp_path):
    file = tmp_path / "t.txt"
    file.write_text("\n\n".join(f"line {i}" for i in range(50)), encoding="utf-8")
    corpus = data.corpus(file)
    both = corpus.vocabulary.decode(np.concatenate([corpus.train, corpus.validation]))
    assert both == file.read_text(encoding="utf-8")
    assert corpus.source == str(file.resolve())
    assert corpus.fingerprint() == data.corpus(file).fingerprint()
    file.write_text("\n\n".join(f"line {i}" for i in range(1, 51)), encoding="utf-8")
    assert corpus.fingerprint() != data.corpus(file).fingerprint()


def test_batches_are_shifted_by_one_and_seeded():
    ids = np.arange(100) ** 2
    x, y = data.sample_batch(ids, 8, 5, np.random.default_rng(0))
    assert x.shape == y.shape == (8, 5)
    starts = np.sqrt(x[:, 0]).astype(int)
    np.testing.assert_array_equal(x, (starts[:, None] + np.arange(5)) ** 2)
    np.testing.assert_array_equal(y, (starts[:, None] + np.arange(1, 6)) ** 2)
    again = data.sample_batch(ids, 8, 5, np.random.default_rng(0))
    np.testing.assert_array_equal(again[0], x)


def test_batches_reach_both_ends():
    rng = np.random.default_rng(0)
    x, y = data.sample_batch(np.arange(7), 500, 4, rng)
    assert x.min() == 0
    assert y.max() == 6
    x, y = data.sample_batch(np.arange(5), 2, 4, rng)  # one window only
    np.testing.assert_array_equal(y, [[1, 2, 3, 4]] * 2)


@pytest.mark.parametrize(("count", "length"), [(2, 5), (5, 5), (6, 5), (7, 5), (26, 5), (64, 3)])
def test_blocks_make_each_id_but_the_first_a_target_once(count, length):
    batches = list(data.blocks(np.arange(count), 3, length))
    targets = np.concatenate([y.ravel() for _, y in batches])
    np.testing.assert_array_equal(targets, np.arange(1, count))
    for x, y in batches:
        np.testing.assert_array_equal(x + 1, y)
        assert x.shape[0] <= 3
        assert 1 <= x.shape[1] <= length


def test_fewer_blocks_are_spread_evenly():
    batches = list(data.blocks(np.arange(1000), 3, 10, batches=2))
    assert [x.shape for x, _ in batches] == [(3, 10)] * 2
    starts = np.concatenate([x[:, 0] for x, _ in batches])
    np.testing.assert_array_equal(starts, [0, 190, 390, 580, 780, 980])
    enough = list(data.blocks(np.arange(1000), 3, 10, batches=34))
    assert sum(y.size for _, y in enough) == 999


def test_batches_that_cannot_be():
    with pytest.raises(ValueError, match=r"length 5 needs 6 ids .* the text has 5"):
        data.sample_batch(np.arange(5), 1, 5, np.random.default_rng(0))
    with pytest.raises(ValueError, match=">= 1"):
        data.sample_batch(np.arange(5), 0, 2, np.random.default_rng(0))
    with pytest.raises(ValueError, match="the text has 1"):
        list(data.blocks(np.arange(1), 2, 2))


def test_pieces_of_words_are_learned_from_the_training_part_alone(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("low lower\n\n" * 100 + "newest widest\n\n" * 20, encoding="utf-8")
    found = data.corpus(path, validation=0.25, bpe=300)
    assert "Ġlower" in found.vocabulary
    assert "est" not in found.vocabulary
    assert "newest widest" in found.vocabulary.decode(found.validation)
    assert found.vocabulary.decode(found.train) == "low lower\n\n" * (len(found.train) // 4)
    with pytest.raises(ValueError, match="not both"):
        data.corpus(path, vocabulary=found.vocabulary, bpe=300)
