"""In how many images' references each n-gram stands: counted, saved and loaded."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from captioner.atomic_files import atomic_file
from captioner.errors import ArgumentError, InputError
from captioner.metrics.ngrams import Numbering, Postings, References


class DocumentFrequencies:
    """Document frequencies: `counts[n - 1]` of the n-grams of order n that `numbering` knows, among `images` images.

    Raises: ValueError, no images, or a frequency outside 1 .. images.
    """

    def __init__(self, images: int, numbering: Numbering, counts: list[Int[np.ndarray, " _"]]) -> None:
        if images < 1:
            raise ArgumentError("images", f"must be one or more, not {images}")
        if [len(of_order) for of_order in counts] != numbering.sizes:
            raise ValueError(f"{[len(of_order) for of_order in counts]} counts do not go with {numbering.sizes} n-grams")
        if any(len(of_order) and not 1 <= of_order.min() <= of_order.max() <= images for of_order in counts):
            raise ArgumentError("counts", f"of images must lie in 1 .. {images}")
        self.images = images
        self.numbering = numbering
        self.counts = counts

    @classmethod
    def of(cls, references: References) -> "DocumentFrequencies":
        """Those of a corpus: the references of all its images."""
        return cls(len(references), references.numbering, [document_counts(postings) for postings in references.postings])

    def weights(self) -> list[Float[np.ndarray, " _"]]:
        """idf = log(images) - log(max(1, frequency)) of each n-gram, order by order, and last that of all others, log(images)."""
        most = float(np.log(self.images))
        return [np.append(most - np.log(of_order), most) for of_order in self.counts]

    def save(self, path: Path | str) -> None:
        """Write a file of arrays (.npz), whole or not at all. Raises: ValueError, the tokens are ids, which mean nothing elsewhere."""
        words = list(self.numbering.words)
        if not all(isinstance(word, str) and "\n" not in word for word in words):
            raise ValueError("frequencies are saved of words that hold no line break: count them over words, not over ids")
        arrays = {f"counts_{n}": of_order for n, of_order in enumerate(self.counts, 1)}
        arrays |= {f"keys_{n}": known for n, known in enumerate(self.numbering.keys, 1) if n > 1}
        text = np.frombuffer("\n".join(map(str, words)).encode("utf-8", "surrogatepass"), np.uint8)
        with atomic_file(Path(path)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, words=text, images=np.array(self.images), **arrays)

    @classmethod
    def load(cls, path: Path | str) -> "DocumentFrequencies":
        """Raises: InputError, the file is missing, unreadable or not what `save` writes."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls._from_arrays(dict(arrays))
        except FileNotFoundError:
            raise InputError(f"{path}: document frequencies not found; check the path") from None
        except Exception as error:  # a damaged archive fails in every way there is
            why = str(error) or type(error).__name__
            raise InputError(f"{path}: not a file of document frequencies ({why}); write one with DocumentFrequencies.save") from None

    @classmethod
    def _from_arrays(cls, arrays: dict[str, np.ndarray]) -> "DocumentFrequencies":
        words = bytes(arrays["words"]).decode("utf-8", "surrogatepass").split("\n")
        order = sum(name.startswith("counts_") for name in arrays)
        keys = [np.empty(0, np.int64), *(arrays[f"keys_{n}"] for n in range(2, order + 1))]
        counts = [arrays[f"counts_{n}"] for n in range(1, order + 1)]
        if not counts or any(leaf.ndim != 1 or leaf.dtype != np.int64 for leaf in (*keys, *counts)):
            raise ArgumentError("counts", "and keys must be rows of whole numbers")
        if any((np.diff(known) <= 0).any() for known in keys):
            raise ArgumentError("keys", "are not sorted")
        numbering = Numbering({word: number for number, word in enumerate(words if len(counts[0]) else [])}, keys)
        return cls(int(arrays["images"]), numbering, counts)


def document_counts(postings: Postings) -> Int[np.ndarray, " ngrams"]:
    """How many images' references hold each n-gram."""
    return np.bincount(postings.pairs % max(postings.size, 1), minlength=postings.size).astype(np.int64)
