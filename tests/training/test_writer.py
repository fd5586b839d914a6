"""The link to the newest run."""

from pathlib import Path

from captioner.training.writer import link_latest


def test_latest_leads_to_the_newest_run_and_replaces_no_real_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        link_latest(tmp_path / "latest", tmp_path / "runs" / name)
        assert (tmp_path / "latest").resolve() == (tmp_path / "runs" / name).resolve()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "runs"]
    (tmp_path / "runs" / "latest").mkdir()
    link_latest(tmp_path / "runs" / "latest", tmp_path / "runs" / "one")
    assert not (tmp_path / "runs" / "latest").is_symlink()
