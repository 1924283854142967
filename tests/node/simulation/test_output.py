"""A simulation clears what is its own and touches nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.cli import run_cli
from node.errors import InputError, ResourceError
from node.simulation.output import MARK, WRITTEN, own_output


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def fill(folder: Path) -> None:
    for name in WRITTEN:
        path = folder / name
        if "." in name:
            path.write_bytes(b"mine")
        else:
            path.mkdir()
            (path / "mine.txt").write_bytes(b"mine")


def test_a_folder_of_somebodys_own_is_refused_untouched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    before = contents(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run_cli(["simulate", "--output", "."]) == 3
    shown = capsys.readouterr().err
    assert "not empty, and not a simulation's (choose a new folder, or remove this one" in shown
    assert len(shown.splitlines()) == 1
    assert contents(tmp_path) == before


def test_what_an_earlier_simulation_left_goes_and_links_are_not_followed(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "runs" / "a", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_bytes(b"kept")
    with own_output(folder):
        fill(folder)
        (folder / "notes.txt").write_bytes(b"a reader's notes")
    (folder / "cases" / "mine.txt").unlink()
    (folder / "cases").rmdir()
    (folder / "cases").symlink_to(elsewhere, target_is_directory=True)
    with own_output(folder):
        assert set(contents(folder)) == {MARK, "notes.txt"}
    assert contents(elsewhere) == {"kept": b"kept"}


def test_two_simulations_do_not_share_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    with own_output(folder):
        (folder / "network.toml").write_bytes(b"first")
        with pytest.raises(ResourceError, match="in use by another"), own_output(folder):
            pytest.fail("shared")
        assert (folder / "network.toml").read_bytes() == b"first"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    refused = pytest.raises(InputError, match="cannot be the output folder")
    with refused, own_output(tmp_path / "file"):
        pytest.fail("a file was taken")
