"""The torchmetrics door: batches, processes and repeated images change no score."""

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchmetrics import MetricCollection

from captioner.metrics.metric import CorpusScores
from captioner.metrics.scores import score

REFERENCES = {
    3: ["a red dog", "the dog runs"],
    5: ["two blue cats sit"],
    8: ["ein Hündchen \u2028 im Gras", "one bird"],
    13: ["a man rides"],
}
SAID = {3: "a red dog runs", 5: "two cats", 8: "ein Hündchen \u2028 fliegt", 13: "a man\nrides"}
TWO_TO_THE_40 = 2**40


def filled(references=REFERENCES, batches=((3, 5), (8,), (13, 3))):
    scores = CorpusScores(references)
    for ids in batches:
        scores.update(list(ids), [SAID[image] for image in ids])
    return scores


def test_a_corpus_score_is_no_mean_of_batches_and_counts_a_repeated_image_once():
    scores = filled()
    assert scores.compute() == score(SAID, REFERENCES)
    assert list(scores.captions.items()) == sorted(SAID.items())


def test_references_may_come_with_the_batches():
    scores = CorpusScores(metrics=["cider", "rouge"])
    for ids in ([13, 8], [5, 3], [8]):
        scores.update(ids, [SAID[image] for image in ids], [REFERENCES[image] for image in ids])
    assert scores.compute() == pytest.approx(score(SAID, REFERENCES, ["cider", "rouge"]))


def test_a_part_of_the_images_is_scored_as_a_corpus_of_its_own_and_the_next_pass_starts_anew():
    scores = filled()
    scores.compute()
    scores.reset()
    scores.update(scores.ids(torch.tensor([1, 0])), [SAID[5], SAID[3]])
    assert scores.compute() == score({3: SAID[3], 5: SAID[5]}, REFERENCES)


def test_ids_of_any_size_and_kind_come_back_as_they_are():
    references = {15513034351195312651: ["a dog"], "12": ["a cat"], "n01": ["two cats"], 1.0: ["a man rides"], -3: ["a dog"]}
    scores = CorpusScores(references)
    scores.update(scores.ids(torch.tensor([4, 2, 0, 1, 3])), ["a dog", "two cats", "a dog", "a cat", "a man"])
    scores.compute()
    said = {**dict.fromkeys([-3, 15513034351195312651], "a dog"), "n01": "two cats", "12": "a cat", 1.0: "a man"}
    assert scores.captions == said
    assert {repr(image) for image in scores.captions} == set(map(repr, references))


def test_what_was_said_last_of_an_image_counts():
    scores = filled({TWO_TO_THE_40: ["a dog runs fast"], 7: ["two cats"]}, ())
    scores.update([TWO_TO_THE_40, 7], ["x", "two cats"])
    scores.update([TWO_TO_THE_40], ["a dog runs fast"])
    assert scores.compute()["BLEU-4"] == pytest.approx(1)


def test_forward_gives_the_batch_and_keeps_the_corpus():
    scores = CorpusScores(REFERENCES)
    assert scores([3, 5], [SAID[3], SAID[5]]) == score({3: SAID[3], 5: SAID[5]}, REFERENCES)
    scores([8, 13], [SAID[8], SAID[13]])
    assert scores.compute() == score(SAID, REFERENCES)


def test_copies_collections_and_devices_are_torchmetrics_own():
    scores = filled()
    for twin in (copy.deepcopy(scores), pickle.loads(pickle.dumps(scores)), scores.clone().half()):
        assert twin.compute() == score(SAID, REFERENCES)
    assert scores.state_dict() == {}
    collection = MetricCollection({"a": CorpusScores(REFERENCES, ["bleu"]), "b": CorpusScores(REFERENCES, ["cider"])})
    collection.update(list(SAID), list(SAID.values()))
    assert {"a_BLEU-4", "b_CIDEr"} <= collection.compute().keys()


def test_references_come_one_way():
    with pytest.raises(ValueError, match="either"):
        CorpusScores(REFERENCES).update([3], ["a"], [["b"]])
    with pytest.raises(ValueError, match="either"):
        CorpusScores().update([3], ["a"])
    with pytest.raises(ValueError, match=r"shorter|argument"):
        CorpusScores(REFERENCES).update([3, 5], ["a"])
    with pytest.raises(ValueError, match="'spider'"):
        CorpusScores(metrics=["spider"])


PROCESS = """
import json, sys, torch
from captioner.metrics.metric import CorpusScores
rank, shares, store = int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
references, said = ({int(i): text for i, text in part.items()} for part in json.loads(sys.argv[4]))
scores = CorpusScores(references)
found = []
for share in shares:
    scores.reset()
    for image in share[rank]:
        scores.update([image], [said[image]])
    found.append([scores.compute(), len(scores.captions), scores.compute() is scores.compute()])
    scores.update([3], ["of this process alone"])
print(json.dumps(found))
"""


def test_two_processes_with_uneven_shares_score_what_one_would(tmp_path):
    shares = [[[3, 5, 8, 13], [13]], [[3, 5, 8], []], [[], [13, 8]]]
    arguments = [json.dumps(shares), str(tmp_path / "store"), json.dumps([REFERENCES, SAID])]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(rank), *arguments], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    try:
        printed = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    expected = [score({image: SAID[image] for image in {*one, *other}}, REFERENCES) for one, other in shares]
    for lines in printed:
        found = json.loads(lines)
        assert [row for row, _, _ in found] == [pytest.approx(row) for row in expected]
        assert [images for _, images, _ in found] == [4, 3, 2]
