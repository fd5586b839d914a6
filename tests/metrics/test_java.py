"""METEOR and SPICE: the real METEOR where Java is, stand-ins for whatever a child process may do, and no run that ends with it."""

import logging
import os
import stat
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from captioner.metrics import java
from captioner.metrics.java import Unavailable, meteor, meteor_from_sums, spice
from captioner.metrics.scores import score

CANDIDATES = [["a", "dog", "runs"], ["two", "cats", "sit"], []]
REFERENCES = [[["the", "dog", "is", "running"], ["a", "dog"]], [["two", "cats", "sit"]], [["a", "bird"]]]


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Put a program of our own where `java` and pycocoevalcap are looked for; its body is Python."""

    def install(body):
        program = tmp_path / "bin" / "java"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{body}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(program.parent))
        for name in ("meteor", "spice/lib"):
            (tmp_path / "package" / name).mkdir(parents=True, exist_ok=True)
        found = SimpleNamespace(submodule_search_locations=[str(tmp_path / "package")])
        monkeypatch.setattr(java, "find_spec", lambda name: found)
        return tmp_path / "package"

    return install


def test_meteor_of_a_sum_is_no_mean():
    rows = np.array([[7.0, 6, 3, 3, 2, 2, 2, 2, *[0] * 12, 2, 4, 4], [5.0, 6, 2, 3, 1, 1, 2, 2, 1, 1, *[0] * 10, 3, 4, 4]])
    assert meteor_from_sums(rows)[:, 0].tolist() == pytest.approx([0.30693632901032963, 0.2487867471659747])  # as the program prints them
    assert abs(meteor_from_sums(rows.sum(0))[0] - meteor_from_sums(rows).mean()) > 1e-4
    assert meteor_from_sums(np.zeros(23)).tolist() == [0]


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("print('no such option', file=sys.stderr); sys.exit(3)", "ended with code 3: no such option"),
        ("os.kill(os.getpid(), 9)", "ended with code -9"),
        ("sys.stdin.close(); print(' '.join(['1'] * 23))", "1 lines for 3 images"),
        ("print(sys.stdin.read()[:5])", "answered 'SCORE"),
        ("print(' '.join(['1'] * 22)); print(' '.join(['1'] * 23)); print(1)", "numbers"),
    ],
)
def test_a_program_that_dies_or_answers_nonsense_leaves_its_metric_out(stand_in, body, line):
    stand_in(body)
    with pytest.raises(Unavailable, match=line):
        meteor(CANDIDATES, REFERENCES)


def test_a_program_that_hangs_is_stopped_with_all_that_it_started(stand_in, tmp_path):
    stand_in(f"child = os.fork()\nopen({str(tmp_path)!r} + f'/{{os.getpid()}}.pid', 'w').close()\ntime.sleep(60)")
    start = time.monotonic()
    with pytest.raises(Unavailable, match=r"no answer in 4\.5 s"):
        meteor(CANDIDATES, REFERENCES, patience=3.0)
    assert time.monotonic() - start < 20
    started = [int(path.stem) for path in tmp_path.glob("*.pid")]
    assert len(started) == 2
    deadline = time.monotonic() + 5
    while any(alive(process) for process in started) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(process) for process in started)


def alive(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_program_that_prints_much_before_it_reads_does_not_lock_up(stand_in):
    stand_in("sys.stderr.write('x' * 1000000); lines = sys.stdin.read().splitlines()\nfor line in lines: print(' '.join(['0'] * 23))")
    many = 3000
    assert meteor(CANDIDATES[:1] * many, REFERENCES[:1] * many).corpus() == {"METEOR": 0.0}


def test_marks_of_the_protocol_and_other_alphabets_do_not_disturb_it(stand_in, tmp_path):
    stand_in(f"text = sys.stdin.buffer.read(); open({str(tmp_path / 'given')!r}, 'wb').write(text)\nprint(' '.join(['0'] * 23))")
    meteor([["a", "|||", "b\nc"]], [[["ein", "Hündchen"], []]])
    assert (tmp_path / "given").read_text("utf-8") == "SCORE ||| ein Hündchen |||  ||| a b c\n"


def test_without_java_or_without_the_package_a_line_says_what_to_install(stand_in, monkeypatch):
    stand_in("")
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(Unavailable, match="there is no `java`"):
        meteor(CANDIDATES, REFERENCES)
    monkeypatch.setattr(java, "find_spec", lambda name: None)
    for metric in (meteor, spice):
        with pytest.raises(Unavailable, match=r"captioner\[java\]"):
            metric(CANDIDATES, REFERENCES)


SPICE = """
given = json.load(open(sys.argv[sys.argv.index('-jar') + 2]))
score = lambda entry: {'image_id': entry['image_id'], 'scores': {'All': {'f': 'NaN' if not entry['test'] else len(entry['test']) / 100}}}
json.dump([score(entry) for entry in reversed(given)], open(sys.argv[sys.argv.index('-out') + 1], 'w'))
"""


def test_spice_hands_over_what_its_program_takes_and_reads_what_it_writes(stand_in):
    (stand_in(SPICE) / "spice" / "lib" / "stanford-corenlp-3.6.0.jar").touch()
    part = spice(CANDIDATES, REFERENCES)
    assert part.scores(part.rows)[:, 0].tolist() == [0.10, 0.12, 0]
    assert part.corpus() == pytest.approx({"SPICE": 0.22 / 3})


def test_a_spice_that_writes_no_scores_is_left_out(stand_in):
    (stand_in("") / "spice" / "lib" / "stanford-corenlp-3.6.0.jar").touch()
    with pytest.raises(Unavailable, match="did not write a score"):
        spice(CANDIDATES, REFERENCES)


def test_a_parser_that_cannot_be_fetched_leaves_spice_out(stand_in):
    folder = stand_in(SPICE) / "spice"
    (folder / "get_stanford_models.py").write_text("raise OSError('no route to host')")
    with pytest.raises(Unavailable, match=r"parser, which is fetched at first use, could not be had: .* no route to host"):
        spice(CANDIDATES, REFERENCES)
    (folder / "get_stanford_models.py").write_text("open('lib/stanford-corenlp-3.6.0.jar', 'w')")
    assert spice(CANDIDATES, REFERENCES).names == ("SPICE",)


def test_a_run_goes_on_without_metrics_that_cannot_be_had(stand_in, monkeypatch, caplog):
    stand_in("sys.exit(1)")
    monkeypatch.setattr("nltk.data.path", [])
    captions, references = {1: "a dog runs", 2: "two cats"}, {1: ["the dog runs"], 2: ["two cats sit"]}
    with caplog.at_level(logging.WARNING, "captioner"):
        row = score(captions, references, ["bleu", "meteor", "spice"])
    assert row == score(captions, references, ["bleu"])
    said = "\n".join(record.message for record in caplog.records)
    assert "METEOR is left out: its program ended with code 1" in said
    assert "SPICE is left out" in said
    assert "METEOR-nltk" not in said, "nobody asked for it"
    caplog.clear()
    score(captions, references, ["meteor-nltk"])
    assert "METEOR-nltk is left out: " in caplog.text
    assert "python -m nltk.downloader wordnet" in caplog.text


def test_without_the_extra_its_name_is_given_and_java_where_that_is_missing_too(monkeypatch):
    monkeypatch.setattr("captioner.metrics.java.find_spec", lambda name: None)
    for program in (None, "/usr/bin/java"):
        monkeypatch.setattr("shutil.which", lambda name, program=program: program)
        for metric in (meteor, spice):
            with pytest.raises(Unavailable, match=r'pip install "captioner\[java\]"') as reason:
                metric(CANDIDATES, REFERENCES)
            assert ("default-jre" in str(reason.value)) == (program is None)
