"""metrics.csv: rows and columns are added, and rows that were cut short are dropped."""

from pathlib import Path

from captioner.training.metrics_file import MetricsFile, copy_rows, read_rows


def test_a_metrics_file_grows_rows_and_columns_and_keeps_what_was_there(tmp_path: Path) -> None:
    first = MetricsFile(str(tmp_path))
    first.log_metrics({"loss": 3.0, "epoch": 0}, step=1)
    first.log_metrics({"loss": 2.0, "epoch": 0}, step=2)
    first.log_metrics({"score": 0.5, "epoch": 0}, step=2)
    first.finalize("success")
    again = MetricsFile(str(tmp_path))
    again.log_metrics({"loss": 1.0, "epoch": 1}, step=3)
    again.finalize("success")
    rows = read_rows(tmp_path / "metrics.csv")
    assert [(row["step"], row["loss"], row["score"]) for row in rows] == [("1", "3.0", ""), ("2", "2.0", "0.5"), ("3", "1.0", "")]
    copy_rows(tmp_path / "metrics.csv", tmp_path / "new" / "metrics.csv", steps=3)
    assert read_rows(tmp_path / "new" / "metrics.csv") == rows[:2]


def test_a_step_s_row_is_in_the_file_when_the_step_is_over_and_later_numbers_join_it(tmp_path: Path) -> None:
    file = MetricsFile(str(tmp_path))
    for step in (1, 2):
        file.log_metrics({"loss": 3.0 / step, "epoch": 0}, step=step)
        file.save()
        assert [row["loss"] for row in read_rows(file.path)] == ["3.0", "1.5"][:step]
    for name, value in (("score", 0.5), ("loss", 1.0)):  # a new column, and a number that was there
        file.log_metrics({name: value}, step=2)
        file.save()
    file.log_metrics({"loss": 0.5, "epoch": 1}, step=3)
    file.save()
    rows = [(row["step"], row["epoch"], row["loss"], row["score"]) for row in read_rows(file.path)]
    assert rows == [("1", "0", "3.0", ""), ("2", "0", "1.0", "0.5"), ("3", "1", "0.5", "")]


def test_a_row_cut_short_by_a_kill_is_dropped_by_the_reader_and_by_the_next_writer(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,loss\n0,1,2.5\n0,2,1.")
    assert [row["step"] for row in read_rows(path)] == ["1"]
    again = MetricsFile(str(tmp_path))
    again.log_metrics({"loss": 1.25, "epoch": 0}, step=2)
    again.save()
    assert [(row["step"], row["loss"]) for row in read_rows(path)] == [("1", "2.5"), ("2", "1.25")]
    copy_rows(path, path, steps=0)
    assert read_rows(path) == []
