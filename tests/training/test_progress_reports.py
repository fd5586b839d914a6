"""Logged lines in place of a progress bar."""

from lightning.pytorch.callbacks import TQDMProgressBar

from captioner.training.progress_reports import ProgressDisplay


class TrainerStub:
    """The attributes of a trainer that a progress bar reads."""

    current_epoch, max_epochs, num_training_batches, num_val_batches = 1, 3, 400, [90]
    sanity_checking = False

    def __init__(self) -> None:
        self.progress_bar_metrics = {"train/loss": 2.3456, "train/words_per_second": 15600.4}
        self.loggers: list[object] = []


def test_in_a_file_an_epoch_and_its_validation_have_a_line_every_half_minute_and_the_first_one_soon(caplog, monkeypatch):
    now = [0.0]
    display, trainer = ProgressDisplay(clock=lambda: now[0]), TrainerStub()
    monkeypatch.setattr(TQDMProgressBar, "get_metrics", lambda self, trainer, module: trainer.progress_bar_metrics)
    monkeypatch.setattr(TQDMProgressBar, "on_train_epoch_start", lambda *_: None)
    for name in ("on_train_batch_end", "on_validation_batch_end"):
        monkeypatch.setattr(TQDMProgressBar, name, lambda *_, **named: None)
    with caplog.at_level("INFO", "captioner"):
        display.on_train_epoch_start(trainer)
        for number in range(trainer.num_training_batches):
            now[0] += 0.25
            display.on_train_batch_end(trainer, None, None, None, number)
        training = [record.getMessage() for record in caplog.records]
        display.on_validation_epoch_start(trainer, None)
        for number in range(90):
            now[0] += 0.5
            display.on_validation_batch_end(trainer, None, None, None, number)
    assert training[1] == "epoch 2 of 3: 128 of 400 batches (32 %), 4.0 a second, 1:08 left, loss 2.346, 15,600 words/s"
    assert len(training) == 5
    assert training[-1] == "epoch 2 of 3: 400 batches in 1:40"
    assert [record.getMessage() for record in caplog.records[5:]] == [
        "validation after epoch 2: 60 of 90 batches (66 %), 2.0 a second, 0:15 left",
        "validation after epoch 2: 90 batches in 0:45",
    ]
