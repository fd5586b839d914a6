"""`captioner train`: the shipped conf, shrunk, takes its steps; runs repeat, go on and begin from models; mistakes are one line."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from kinds import kinds
from omegaconf import OmegaConf
from PIL import Image
from runs import NARROW, SMALL, differing, draw_coco, rows, small_run, train

from captioner.cli.main import main
from captioner.model import Captioner


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_coco(tmp_path_factory.mktemp("coco"))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """These models are too small to share: threads that wait for each other cost most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


EXPERIMENTS = {
    "scenes": ["data.root=drawn", "data.train=9", "data.val=5", "data.test=3", "data.workers=1", *SMALL[:-1]],
    "coco": ["data.root={coco}", "encoder=resnet18", "encoder.weights=null", "transform.size=64", "callbacks.fine_tune.epoch=0", *NARROW],
    "flickr8k": [
        "data.train.annotations={coco}/annotations/captions_train2017.json",
        "data.train.images={coco}/train2017",
        "data.val.annotations={coco}/annotations/captions_val2017.json",
        "data.val.images={coco}/val2017",
        "encoder.trunk.weights=null",
        "transform.size=64",
        *NARROW,
    ],
}
EXPERIMENTS |= dict.fromkeys(("flickr8k_hard", "flickr8k_scst"), EXPERIMENTS["flickr8k"])


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_shrunk_takes_a_step_and_leaves_a_model(experiment: str, coco: Path, here: Path) -> None:
    words = [word.format(coco=coco) for word in EXPERIMENTS[experiment]]
    assert train(f"experiment={experiment}", "debug=fast", "trainer.limit_train_batches=1", *words) == 0
    (run,) = (here / "outputs" / experiment).iterdir()
    assert (here / "outputs" / "latest").resolve() == run.resolve()
    assert len(rows(run)) == 1
    model = Captioner.load(run / "model")
    assert model.caption(Image.new("RGB", (31, 45), "red")).alphas.shape[0] <= 20
    said = json.loads((run / "results" / "captions_val.json").read_text())
    scores = json.loads((run / "results" / "scores_val.json").read_text())
    assert {frozenset(entry) for entry in said} == {frozenset({"image_id", "caption"})}
    assert scores["images"] == len(said) == len({entry["image_id"] for entry in said}) == 5
    assert {"BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr"} <= scores.keys()
    assert scores["search"] == str(model.search) == ("beam 3, alpha 0.7" if experiment.startswith("flickr8k") else "beam 3")


def test_predict_and_evaluate_repeat_the_captions_and_scores_of_the_run_by_the_search_that_its_recipe_chose(coco: Path, here: Path) -> None:
    run = small_run(coco, "run", "search.constraints.min_length=4", "search.beams=2", "search.alpha=0.7", "trainer.max_epochs=1")
    said = json.loads((run / "results" / "captions_val.json").read_text())
    assert min(len(one["caption"].split()) for one in said) >= 4
    photos, annotations = str(coco / "val2017"), str(coco / "annotations" / "captions_val2017.json")
    assert main(["predict", photos, "--model", "run", "--annotations", annotations, "--out", "out", "--save", "none"]) == 0
    assert {tuple(one.items()) for one in json.loads(Path("out/results.json").read_text())} == {tuple(one.items()) for one in said}
    assert main(["evaluate", "--model", "run", annotations, "--images", photos, "--json", "scores.json"]) == 0
    scores, own = json.loads(Path("scores.json").read_text()), json.loads((run / "results" / "scores_val.json").read_text())
    assert scores["search"] == own["search"] == "beam 2, alpha 0.7, min_length 4"
    assert [scores[name] for name in ("BLEU-1", "ROUGE-L", "CIDEr")] == pytest.approx([own[n] for n in ("BLEU-1", "ROUGE-L", "CIDEr")])


def test_a_checkpoint_holds_nothing_but_tensors_and_plain_values_and_is_a_model(coco: Path, here: Path) -> None:
    run = small_run(coco, "run", "trainer.max_epochs=1")
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert json.loads(checkpoint["configuration"])["decoder"]["hidden_size"] == 12
    image = Image.new("RGB", (40, 30), "blue")
    said = [Captioner.load(run / path).caption(image).text for path in ("model", "checkpoints/best.ckpt", "checkpoints/last.ckpt")]
    assert len(set(said)) == 1


STILL = ["optimizer.lr=1e-12", "optimizer.encoder_lr=1e-12"]
"""Every epoch says the same: the first is the best."""


def epochs(run: Path) -> dict[str, int]:
    return {name: torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["epoch"] for name in ("best", "last")}


def test_the_last_checkpoint_is_of_the_last_epoch_even_where_another_was_better(coco: Path, here: Path) -> None:
    run = small_run(coco, "run", *STILL, "callbacks.early_stopping=null")
    assert epochs(run) == {"best": 0, "last": 1}
    assert json.loads((run / "results/scores_val.json").read_text())["epoch"] == 1


@pytest.mark.parametrize(
    ("attention", "first", "best"), [("hard", 0, 0), ("hard", 3, 1), ("hard", 4, 1), ("hard", 6, 2), ("hard", 9, 0), ("soft", 3, 0)]
)
def test_a_model_from_before_regions_were_sampled_is_not_the_best_of_a_run_that_samples(
    attention: str, first: int, best: int, coco: Path, here: Path
) -> None:
    chosen = [
        f"attention={attention}",
        f"objective={attention}",
        f"objective.expectation_batches={first}",
        "callbacks.early_stopping.patience=4",
    ]
    run = small_run(coco, "run", *STILL, "trainer.max_epochs=3", *chosen)  # three batches an epoch
    assert epochs(run) == {"best": best, "last": 2}
    assert json.loads((run / "results/scores_val.json").read_text())["epoch"] == best + 1


MEASURED = ["map_change", "map_entropy", "map_peak"]
REWARDED = ["reward", "baseline", "advantage_variance", "reinforce"]


@pytest.mark.parametrize("kind", [None, *kinds("objective/baseline")])
def test_every_step_s_row_has_the_health_of_maps_and_hard_attention_s_rewards(kind: str | None, coco: Path, here: Path) -> None:
    hard = [] if kind is None else ["attention=hard", "objective=hard", f"objective/baseline={kind}"]
    hard += ["objective.expectation_probability=0.2", "objective.expectation_batches=0"]
    found = rows(small_run(coco, "run", "trainer.max_epochs=1", *hard))
    names = [f"train/{name}" for name in MEASURED + REWARDED * (kind is not None)]
    assert all(math.isfinite(float(row[name])) for row in found for name in names)
    if kind is None:
        assert not {f"train/{name}" for name in REWARDED} & found[0].keys()


@pytest.mark.parametrize("more", [[], ["callbacks.ema.decay=0.9"], ["attention=hard", "objective=hard", "transform.augment=true"]])
def test_a_run_resumed_from_an_epochs_end_is_the_run_that_never_stopped_bit_for_bit(more: list[str], coco: Path, here: Path) -> None:
    straight = small_run(coco, "straight", "callbacks.checkpoints.keep_epochs=true", "trainer.max_epochs=3", *more)
    assert torch.load(straight / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 2
    assert train(f"resume={straight}/checkpoints/epoch_001.ckpt", "run_folder=resumed") == 0
    assert differing(straight / "checkpoints" / "last.ckpt", Path("resumed/checkpoints/last.ckpt")) == []
    timeless = [{key: value for key, value in row.items() if "second" not in key} for row in rows(Path("resumed"))]
    assert timeless == [{key: value for key, value in row.items() if "second" not in key} for row in rows(straight)]
    assert (straight / "results/captions_val.json").read_text() == Path("resumed/results/captions_val.json").read_text()


def test_one_epoch_then_resumed_to_two_is_two_epochs_where_the_schedule_has_two(coco: Path, here: Path) -> None:
    straight = small_run(coco, "straight", "trainer.max_epochs=2")
    small_run(coco, "half", "trainer.max_epochs=1", "scheduler.epochs=2")
    assert train("resume=half/checkpoints/last.ckpt", "trainer.max_epochs=2", "run_folder=whole") == 0
    assert differing(straight / "checkpoints" / "last.ckpt", Path("whole/checkpoints/last.ckpt")) == []


def test_a_run_without_validation_ends_after_its_last_epoch_and_leaves_its_model(coco: Path, here: Path) -> None:
    run = small_run(coco, "run", "trainer.limit_val_batches=0", "trainer.max_epochs=2")
    assert Captioner.load(run).caption(Image.new("RGB", (20, 20))).text is not None
    assert not (run / "results").exists()
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["epoch"] == 1


def test_a_finished_run_resumed_for_no_epoch_keeps_its_best_model(coco: Path, here: Path) -> None:
    run = small_run(coco, "run")
    assert train(f"resume={run}/checkpoints/last.ckpt", "run_folder=again") == 0
    assert (run / "model/model.safetensors").read_bytes() == Path("again/model/model.safetensors").read_bytes()


def test_a_rerun_repeats_the_run_and_takes_values_but_no_groups(coco: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = small_run(coco, "outputs/coco/first", "trainer.max_epochs=1")
    assert OmegaConf.load(run / "config.yaml").threads == torch.get_num_threads()  # their number changes rounding
    assert train(f"rerun={run}", "run_folder=second") == 0
    assert differing(run / "checkpoints" / "last.ckpt", Path("second/checkpoints/last.ckpt")) == []
    assert train(f"rerun={run}", "decoder.hidden_size=14") == 0  # the attention's size follows
    (third,) = [folder for folder in Path("outputs/coco").iterdir() if folder.name != "first"]
    assert Captioner.load(third / "model").config["decoder"]["attention"]["score"]["hidden_size"] == 14
    capsys.readouterr()
    assert train(f"rerun={run}", "attention=hard") == 2
    assert "no groups" in capsys.readouterr().err


def test_init_keeps_every_word_at_its_id_and_adds_the_frequent_new_ones(coco: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = small_run(coco, "run", "trainer.max_epochs=1")
    before = Captioner.load(run / "model")
    record = json.loads((coco / "annotations/captions_train2017.json").read_text())
    for annotation in record["annotations"]:
        annotation["caption"] = annotation["caption"].replace("dog", "heron")
    Path("new.json").write_text(json.dumps(record))
    files = [f"data.{split}.{key}" for split in ("train", "val") for key in ("annotations", "images")]
    paths = ["new.json", f"{coco}/train2017", f"{coco}/annotations/captions_val2017.json", f"{coco}/val2017"]
    words = ["data=captions", *map("=".join, zip(files, paths, strict=True)), "data.minimum_count=1", "trainer.accelerator=cpu"]
    assert train(*words, f"init={run}", "optimizer.lr=1e-9", "debug=fast", "run_folder=grown") == 0
    after = Captioner.load("grown/model")
    assert after.vocabulary.words == (*before.vocabulary.words, "heron")
    assert after.config["decoder"]["hidden_size"] == 12
    count = len(before.vocabulary)
    torch.testing.assert_close(after.decoder.embedding.weight[:count], before.decoder.embedding.weight, atol=1e-5, rtol=0)
    err = capsys.readouterr().err
    assert "1 added (heron)" in err
    assert "1 not in the new captions (dog)" in err


MISTAKES = {
    "~trainer.limit_val_batches": "a configuration keeps its keys",
    "~scheduler": "a configuration keeps its keys",
    "optimzer.lr=3": "did you mean optimizer.lr",
    "decoder.droput=0.1": "did you mean decoder.dropout",
    "encoder=resnet51": "did you mean resnet50",
    "experiment=cocoo": "did you mean coco",
    "attention/score=foo": "additive",
    "nonsense": "expected key=value",
    "optimizer.lr=abc": "optimizer.lr is a number",
    "optimizer.lr=1e-3,1e-4": "sweep",
    "optimizer.lr=-1": "optimizer.lr: ",
    "decoder.dropout=1.5": "decoder.dropout: ",
    "search.beams=0": "search.beams: ",
    "scheduler.warmup=7": "scheduler.warmup: ",
    "objective.terms.likelihood.label_smoothing=2": "objective.terms.likelihood.label_smoothing: ",
    "callbacks.ema.decay=2": "callbacks.ema.decay: ",
    "trainer.max_epochs=0": "trainer.max_epochs: ",
    "data.batch_size=2.5": "data.batch_size is a whole number",
    "search.beams=2.5": "search.beams=2.5: search.beams is a whole number (now 3)",
    "decoder.hidden_size=3.5": "decoder.hidden_size is a whole number",
    "data.limit=0": "data.limit: ",
    "trainer.log_every_n_steps=0": "trainer.log_every_n_steps: a whole number and at least 1, not 0",
    "callbacks.checkpoints.monitor=val/CIDER": "callbacks.checkpoints.monitor: val/CIDER is not among val/CIDEr, ",
    "data.root=${DATA}/coco": "data.root: ${DATA} leads nowhere: the configuration has no such key; an environment",
    "encoder.channels=5": "encoder.channels is a list, written [a,b]",
    "outputs=": "outputs: is empty",
    "data.max_words=1.5": "data.max_words is a whole number",
    "data.num_workers=-1": "data.num_workers: a whole number and at least 0",
    "data.minimum_count=null": "data.minimum_count: ",
    "validation.images=0": "validation.images: ",
    "seed=-1": "seed: ",
    "seed=4294967296": "seed: ",
    "decoder.features=3": "decoder: its sizes do not fit",
    "dat=scenes": "did you mean data?",
    "trainer.accelerator=abacus": "trainer.accelerator: abacus is not among auto, gpu, cpu",
    "data=coco": "data.root",
    "experiment=coco data.root=nowhere": "nowhere",
    "resume=none.ckpt": "none.ckpt",
    "rerun=none": "none: no such run",
    "init=none": "none",
    "--cfg all": "--cfg job",
    "--multirun": "no such option",
    "resume=a rerun=b": "one of them",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_one_clear_line_and_exit_2(words: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(*words.split()) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("captioner: error: ")
    assert MISTAKES[words] in lines[-1]
    assert not any("Traceback" in line for line in lines)
    assert not (here / "outputs").exists(), "a mistake leaves nothing behind"


UNVALIDATED = ["optimizer.lr=1e35", "optimizer.weight_decay=1e5", "trainer.limit_val_batches=0"]


@pytest.mark.parametrize("more", [["optimizer.lr=1e30"], UNVALIDATED])
def test_weights_that_overflow_at_an_epoch_s_last_step_are_one_clear_line(
    more: list[str], coco: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data=coco", f"data.root={coco}", *SMALL, "data.minimum_count=1", "data.batch_size=7", "trainer.max_epochs=1"]
    assert train(*words, "scheduler=constant", "callbacks.early_stopping=null", "run_folder=run", *more) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("captioner: error: the ")
    assert "overflowed" in line
    assert "optimizer.lr" in line
    assert not Path("run/model").exists()


def test_an_image_that_a_worker_process_cannot_read_is_one_clear_line(coco: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(coco, here / "damaged")
    photo = here / "damaged" / "train2017" / "3.png"
    photo.write_bytes(photo.read_bytes()[:200])
    words = ["data=coco", "data.root=damaged", *SMALL, "data.minimum_count=1", "data.num_workers=1", "data.hold_in_memory=false"]
    assert train(*words, "trainer.max_epochs=1") == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("captioner: error: damaged/train2017/3.png: the image is damaged")
    assert "worker" not in line


def test_sizes_that_do_not_fit_the_initial_model_are_refused_before_training(
    coco: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = small_run(coco, "run", "trainer.max_epochs=1")
    assert train(f"init={run}", "data=coco", f"data.root={coco}", "decoder.hidden_size=14") == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("captioner: error: decoder: its sizes do not fit")
    assert "init=" in line


def test_a_checkpoint_that_names_a_foreign_target_is_refused(coco: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = small_run(coco, "run", "trainer.max_epochs=1")
    path = run / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    configuration = json.loads(checkpoint["configuration"])
    configuration["logger"]["csv"]["_target_"] = "os.system"
    torch.save({**checkpoint, "configuration": json.dumps(configuration)}, "bad.ckpt")
    assert train("resume=bad.ckpt") == 2
    assert "os.system" in capsys.readouterr().err


def test_a_data_set_in_a_folder_of_odd_letters_is_trained_on(coco: Path, here: Path) -> None:
    home = here / "Jörg's photos #1 (k=v), ~"
    shutil.copytree(coco, home)
    assert train("data=coco", f"data.root={home}", *SMALL, "data.minimum_count=1", "trainer.max_epochs=1", "outputs=Ausgänge (neu)") == 0
    assert Captioner.load("Ausgänge (neu)/latest")
    (run,) = (here / "Ausgänge (neu)" / "coco").iterdir()
    assert train(f"resume={run}/checkpoints/last.ckpt", "trainer.max_epochs=2") == 0


def test_help_shows_groups_and_examples_and_cfg_job_the_configuration(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--help") == 0
    shown = capsys.readouterr().out
    for word in ("attention", "experiment", "flickr8k", "optimizer", "captioner train experiment=coco data.root=/data/coco"):
        assert word in shown
    assert train("--cfg", "job", "optimizer.lr=0.25") == 0
    assert "lr: 0.25" in capsys.readouterr().out
    assert list(here.iterdir()) == []


def test_regions_are_cached_only_for_a_frozen_encoder(coco: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("data=coco", f"data.root={coco}", *SMALL, "data.cache_features=true") == 2
    assert "data.cache_features" in capsys.readouterr().err


def test_an_interrupted_run_keeps_its_best_model(coco: Path, here: Path) -> None:
    words = ["data=coco", f"data.root={coco}", *SMALL, "data.minimum_count=1", "trainer.max_epochs=100000", "run_folder=run"]
    door = "import sys; from captioner.cli.main import main; sys.exit(main(sys.argv[1:]))"
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    patience = ["callbacks.early_stopping.patience=100000"]
    process = subprocess.Popen([sys.executable, "-c", door, "train", *words, *patience], env=environment, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not Path("run/checkpoints/last.ckpt").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
    assert Captioner.load("run").caption(Image.new("RGB", (20, 20))).text is not None
    assert json.loads(Path("run/results/scores_val.json").read_text())["search"] == "beam 3"


def test_real_coco_as_it_is_distributed_takes_a_step_validates_and_predicts(real_data: Path, here: Path) -> None:
    root = real_data / "coco_tiny"
    assert train("data=coco", f"data.root={root}", "debug=fast", "data.limit=6", *SMALL) == 0
    (run,) = (here / "outputs" / "coco").iterdir()
    assert json.loads((run / "results" / "scores_val.json").read_text())["images"] == 6
    annotations = root / "annotations" / "captions_val2017.json"
    said = ["--annotations", str(annotations), "--out", "said", "--save", "none"]
    assert main(["predict", str(root / "val2017"), *said]) == 0
    results = json.loads(Path("said/results.json").read_text())
    assert sorted(entry["image_id"] for entry in results) == sorted(image["id"] for image in json.loads(annotations.read_text())["images"])
