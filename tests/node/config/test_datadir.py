"""The data folder: one process at a time, private files, and the status file."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from node.config.datadir import DataDir, NodeStatusFile
from node.config.files import write_atomically
from node.config.schema import load_config
from node.errors import InputError, ResourceError
from tests.paths import ROOT

HOLDER = """
import sys
from pathlib import Path
from node.config.datadir import DataDir
with DataDir(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    return DataDir(tmp_path / "node")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folder_is_private_and_made_once(data: DataDir) -> None:
    data.create()
    data.create()
    assert mode(data.path) == 0o700
    assert data.engine.is_dir()
    assert data.blobs.is_dir()


def test_a_second_process_is_told_who_has_the_folder(data: DataDir) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(data.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    taken = rf"in use by another prime-node \(pid {holder.pid}\)"
    with pytest.raises(ResourceError, match=taken), data.lock():
        pytest.fail("two processes in one folder")
    holder.kill()
    holder.communicate()
    with data.lock():
        assert (data.path / "node.lock").read_text() == f"{os.getpid()}\n"


def test_leaving_removes_the_status(data: DataDir) -> None:
    status = NodeStatusFile(5, "http://127.0.0.1:1", "16Uiu2", ("/ip4/127.0.0.1/tcp/1",))
    with data.lock():
        data.write_status(status)
        assert data.read_status() == status
        assert mode(data.status) == 0o600
    with pytest.raises(InputError, match="is the node running"):
        data.read_status()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": "x"}', '"' * 10, "{" * 60_000, "null"])
def test_a_damaged_status_is_one_clear_error(data: DataDir, text: str) -> None:
    data.create()
    data.status.write_text(text)
    with pytest.raises(InputError, match="damaged"):
        data.read_status()


def test_the_token_is_made_once_and_private(data: DataDir) -> None:
    data.create()
    with pytest.raises(InputError, match="no such file"):
        data.read_api_token()
    token = data.api_token()
    assert len(token) == 64
    assert data.api_token() == token == data.read_api_token()
    assert mode(data.path / "api-token") == 0o600
    (data.path / "api-token").write_text("short")
    with pytest.raises(InputError, match="delete the file"):
        data.api_token()


def test_an_atomic_write_replaces_or_leaves_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    write_atomically(path, b"new", 0o600)
    assert path.read_bytes() == b"new"
    assert mode(path) == 0o600
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(InputError, match="cannot write"):
        write_atomically(folder, b"x")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]


def test_a_folder_that_cannot_be_made_names_the_flag(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose --data-dir"):
        DataDir(tmp_path / "file" / "node").create()


def test_the_network_is_remembered_where_nothing_is_set_yet(data: DataDir, tmp_path: Path) -> None:
    data.create()
    data.remember_network(None)
    assert not data.config.exists()
    data.remember_network(tmp_path / "network.toml")
    config = load_config({"data_dir": data.path}, environment={})
    assert config.network_file == tmp_path / "network.toml"
    data.remember_network(tmp_path / "other.toml")
    assert load_config({"data_dir": data.path}, environment={}) == config
