"""Document frequencies: counted, written whole, read back, and a bad file named."""

from itertools import pairwise

import numpy as np
import pytest
from corpora import corpora, synthetic
from hypothesis import HealthCheck, given, settings

from captioner.errors import InputError
from captioner.metrics.cider import Cider
from captioner.metrics.frequencies import DocumentFrequencies
from captioner.metrics.ngrams import Numbering, References


@given(corpora())
def test_a_frequency_is_the_number_of_images_whose_references_hold_the_ngram(corpus):
    references = corpus[1]
    frequencies = DocumentFrequencies.of(References(references, order=2))
    words = list(frequencies.numbering.words)
    assert frequencies.images == len(references)
    for word, count in zip(words, frequencies.counts[0].tolist(), strict=True):
        assert count == sum(any(word in text for text in texts) for texts in references)
    for key, count in zip(frequencies.numbering.keys[1].tolist(), frequencies.counts[1].tolist(), strict=True):
        pair = (words[key >> 32], words[key & 0xFFFFFFFF])
        assert count == sum(any(pair in pairwise(text) for text in texts) for texts in references)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(corpora())
def test_saved_and_loaded_they_weigh_the_same(tmp_path, corpus):
    candidates, references = synthetic(5, seed=2)
    frequencies = DocumentFrequencies.of(References(corpus[1]))
    frequencies.save(tmp_path / "deep" / "frequencies")
    loaded = DocumentFrequencies.load(tmp_path / "deep" / "frequencies")
    assert loaded.images == frequencies.images
    assert all(map(np.array_equal, loaded.counts, frequencies.counts))
    expected = Cider(references, frequencies=frequencies).scores(candidates)
    assert np.array_equal(Cider(references, frequencies=loaded).scores(candidates), expected)


def test_frequencies_of_ids_stay_where_their_words_are(tmp_path):
    with pytest.raises(ValueError, match="not over ids"):
        DocumentFrequencies.of(References([[[1, 2]]])).save(tmp_path / "ids.npz")
    assert not list(tmp_path.iterdir())


def damaged(arrays, name):
    """One array of the file spoilt."""
    spoilt = {
        "words": arrays["words"][:-5],
        "images": np.array(1),
        "keys_3": arrays["keys_3"][::-1],
        "counts_2": arrays["counts_2"].astype(float),
        "counts_4": arrays["counts_4"][1:],
    }
    return {**arrays, name: spoilt[name]}


@pytest.mark.parametrize("name", ["words", "images", "keys_3", "counts_2", "counts_4", "a list", "text", "cut", "a folder", "nothing"])
def test_a_bad_file_is_one_clear_line(tmp_path, name):
    path = tmp_path / "frequencies.npz"
    DocumentFrequencies.of(References([[["a", "dog", "runs", "off", "now"]], [["a", "dog", "sat", "on", "mats"]]])).save(path)
    whole = path.read_bytes()
    if name == "nothing":
        path.unlink()
    elif name == "a folder":
        path.unlink()
        path.mkdir()
    elif name in ("cut", "text"):
        path.write_bytes(whole[:-40] if name == "cut" else b"not arrays")
    elif name == "a list":
        with path.open("wb") as file:
            np.save(file, np.arange(3))
    else:
        with np.load(path) as arrays:
            np.savez(path, **damaged(dict(arrays), name))
    with pytest.raises(InputError, match=r"frequencies\.npz: .*document frequencies"):
        DocumentFrequencies.load(path)


def test_a_file_with_any_byte_flipped_is_read_or_refused_in_one_line(tmp_path):
    path = tmp_path / "frequencies.npz"
    DocumentFrequencies.of(References([[["a", "dog", "runs", "off", "now"]], [["a", "dog", "sat", "on", "mats"]]])).save(path)
    whole, refused = path.read_bytes(), []
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        try:
            DocumentFrequencies.load(path)
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > len(whole) // 14
    assert all(line.startswith(f"{path}: ") for line in refused)


def test_numbers_are_translated_by_what_they_stand_for():
    mine, _ = Numbering.of([["a", "b", "c"], ["b", "c", "a"]], 3)
    other, _ = Numbering.of([["x", "b", "c", "a"]], 3)
    words, pairs, triples = mine.translated(other)
    assert words.tolist() == [3, 1, 2]  # a, b, c
    assert pairs.tolist() == [3, 1, 2]  # ab, which the other has not, bc, ca
    assert triples.tolist() == [2, 1]  # abc, which it has not, bca
    with pytest.raises(ValueError, match="images must be one or more"):
        DocumentFrequencies(0, mine, [])
    with pytest.raises(ValueError, match="do not go with"):
        DocumentFrequencies(2, mine, [np.array([1])])
