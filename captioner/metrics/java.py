"""METEOR and SPICE by their reference programs in Java, as pycocoevalcap brings them. Whatever becomes of those, this process goes on."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import Float

from captioner.metrics.ngrams import Tokens
from captioner.metrics.statistics import ImageStatistics, mean_statistics
from captioner.progress import log_while_waiting

logger = logging.getLogger(__name__)

UTF8 = "-Dfile.encoding=UTF-8"


class Unavailable(Exception):  # noqa: N818, not an error: the metric is left out
    """Why a metric cannot be had here, and what would mend it."""


def meteor(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]], patience: float = 300.0) -> ImageStatistics:
    """METEOR 1.5 of one candidate an image, with the settings of coco-caption.

    `patience`: seconds the program may take to start; 0.5 s more for each image.
    Raises: Unavailable, no Java, no program, or one that dies, hangs or answers nonsense.
    """
    lines = [
        " ||| ".join(["SCORE", *map(joined_words, texts), joined_words(said)]) for said, texts in zip(candidates, references, strict=True)
    ]
    home = jar_folder("meteor")
    command = [java_command(), "-Xmx2G", UTF8, "-jar", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm"]
    answer = run(command, home, "\n".join([*lines, ""]), patience + 0.5 * len(lines))
    try:
        rows = np.array([[float(number) for number in line.split()] for line in answer.splitlines()])
    except ValueError:
        raise Unavailable(f"its Java program answered {answer[:60]!r}, where 23 numbers an image were expected") from None
    if rows.shape != (len(lines), 23):
        raise Unavailable(f"its Java program answered {len(rows)} lines for {len(lines)} images, where one of 23 numbers each was expected")
    matched = rows[:, 4:20].reshape(-1, 8, 2).sum(1)
    copied = (matched == rows[:, :2]).all(1) & (rows[:, 20] == 1)
    rows[copied, 20] = 0  # the chunk of a candidate that matches a reference whole is not counted
    return ImageStatistics(("METEOR",), rows, meteor_from_sums)


def meteor_from_sums(sums: Float[np.ndarray, "*lead 23"]) -> Float[np.ndarray, "*lead 1"]:
    """METEOR of sums of the program's statistics, as the program adds them up.

        P, R  = sum_i w_i (delta content matches_i + (1 - delta) function-word matches_i) / (the same of all words, unweighted)
        score = (1 - gamma (chunks / matched words)^beta) P R / (alpha P + (1 - alpha) R)

    for the matchers i: exact, stem, synonym, paraphrase. Source: Denkowski and Lavie 2014, sec. 3, with the settings for English.
    """
    alpha, beta, gamma, delta = 0.85, 0.2, 0.6, 0.75
    length, functions = sums[..., 0:2], sums[..., 2:4]
    matches = sums[..., 4:20].reshape(*sums.shape[:-1], 4, 2, 2)  # matcher, (content, function), (candidate, reference)
    matched = np.einsum("...mks,m,k->...s", matches, np.array([1.0, 0.6, 0.8, 0.6]), np.array([delta, 1 - delta]))
    precision, recall = np.moveaxis(ratio(matched, delta * (length - functions) + (1 - delta) * functions), -1, 0)
    penalty = gamma * ratio(sums[..., 20], sums[..., 21:23].mean(-1)) ** beta
    return ((1 - penalty) * ratio(precision * recall, alpha * precision + (1 - alpha) * recall))[..., None]


def ratio(part: Any, whole: Any) -> Any:
    """Zero where there is no whole."""
    return np.divide(part, whole, out=np.zeros(np.shape(part)), where=whole > 0)


def spice(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]], patience: float = 1800.0) -> ImageStatistics:
    """SPICE 1.0 of one candidate an image, with the settings of coco-caption but for its cache. An F that is no number counts 0.

    Its parser (some 400 MB) is fetched at first use. `patience`: seconds the program may take, and 1 s more for each image.
    This wiring has met a stand-in for the program only. Raises: Unavailable, as for `meteor`, or the parser cannot be fetched.
    Source: Anderson et al. 2016.
    """
    home, program = jar_folder("spice"), java_command()
    if not (home / "lib" / "stanford-corenlp-3.6.0.jar").is_file():
        logger.info("SPICE: fetching its parser, once")
        try:
            run([sys.executable, "get_stanford_models.py"], home, "", patience)
        except Unavailable as reason:
            raise Unavailable(f"its parser, which is fetched at first use, could not be had: {reason}") from None
    record = [
        {"image_id": image, "test": joined_words(said), "refs": [joined_words(text) for text in texts]}
        for image, (said, texts) in enumerate(zip(candidates, references, strict=True))
    ]
    with TemporaryDirectory() as temporary:
        given, found = Path(temporary) / "given.json", Path(temporary) / "found.json"
        given.write_text(json.dumps(record))
        command = [program, "-Xmx8G", UTF8, "-jar", "spice-1.0.jar", str(given), "-out", str(found), "-subset", "-silent"]
        run(command, home, "", patience + len(record))
        try:
            scores = {entry["image_id"]: float(entry["scores"]["All"]["f"]) for entry in json.loads(found.read_bytes())}
            return mean_statistics("SPICE", np.nan_to_num(np.array([scores[image] for image in range(len(record))])))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"its Java program did not write a score for each image ({type(error).__name__}: {error})") from None


def joined_words(tokens: Tokens) -> str:
    """One line that holds no mark of the programs' own."""
    return " ".join(" ".join(map(str, tokens)).replace("|||", "").split())


def java_command() -> str:
    found = shutil.which("java")
    if found is None:
        raise Unavailable("it is a Java program and there is no `java`; install one (on Debian: apt install default-jre-headless)")
    return found


def jar_folder(name: str) -> Path:
    """Where pycocoevalcap keeps the program."""
    package = find_spec("pycocoevalcap")
    if package is None or not package.submodule_search_locations:
        also = "" if shutil.which("java") else "; and Java (on Debian: apt install default-jre-headless)"
        raise Unavailable(f'it needs an extra that is not installed: pip install "captioner[java]"{also}')
    return Path(next(iter(package.submodule_search_locations))) / name


def run(command: Sequence[str], home: Path, given: str, patience: float) -> str:
    """What a program prints when it is given this; it and all that it started are gone afterwards.

    Raises: Unavailable, it cannot be started, ends with another code than 0, or takes more seconds than `patience`.
    """
    pipe = subprocess.PIPE
    try:
        child = subprocess.Popen(command, cwd=home, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
    except OSError as error:
        raise Unavailable(f"its program cannot be started ({error})") from None
    try:
        with log_while_waiting(f"scoring with {home.name}"):
            printed, complaints = child.communicate(given.encode("utf-8", "replace"), timeout=patience)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"its program gave no answer in {patience:g} s and was stopped") from None
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    if child.returncode != 0:
        last = complaints.decode("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise Unavailable(f"its program ended with code {child.returncode}: {last[0][:200]}")
    return printed.decode("utf-8", "replace")
