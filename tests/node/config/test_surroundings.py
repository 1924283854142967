"""What surrounds a node: no home, folders that cannot be written, files as editors save them."""

from __future__ import annotations

import errno
import os
import pwd
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from node.cli import run_cli
from node.config.datadir import DataDir
from node.config.files import write_atomically
from node.config.keystore import generate_key, load_key
from node.config.networkfile import NetworkFile
from node.config.schema import load_config
from node.errors import InputError, NodeError, ResourceError, translate
from node.prompts import load_prompts

NOBODY = 65534
NETWORK = 'name = "prime"\r\nbootstrap = []\r\n'


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_uid: int) -> NoReturn:
        raise KeyError

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@contextmanager
def read_only_folder() -> Iterator[Path]:
    """A folder that this process may not write to, which root is nowhere."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "node").mkdir()
        folder.chmod(0o555)
        (folder / "node").chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)
            (folder / "node").chmod(0o755)


@pytest.mark.usefixtures("homeless")
def test_without_a_home_whole_paths_are_enough(tmp_path: Path) -> None:
    paths = {"data_dir": tmp_path / "data", "model_store": tmp_path / "models"}
    config = load_config(paths, environment={})
    assert (config.data_dir, config.model_store) == tuple(paths.values())


@pytest.mark.usefixtures("homeless")
def test_without_a_home_the_default_is_asked_for_in_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("PRIME_NODE_")]:
        monkeypatch.delenv(name)
    for command in (["key", "show"], ["status"], ["run"], ["model", "list"]):
        assert run_cli(command) == 3
        shown = capsys.readouterr().err
        assert "this user has no home folder (set HOME, or give the whole path)" in shown
        assert len(shown.splitlines()) == 1


def test_a_folder_that_cannot_be_written_is_a_lack_and_no_bug() -> None:
    with read_only_folder() as folder:
        for data in (DataDir(folder / "node"), DataDir(folder / "new")):
            with (
                pytest.raises(ResourceError, match="Permission denied") as refused,
                data.lock(),
            ):
                pytest.fail("locked")
            assert str(data.path) in str(refused.value)
        with pytest.raises(ResourceError, match="cannot write"):
            write_atomically(folder / "network.toml", b"")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EMFILE, errno.EIO, errno.EDQUOT])
def test_what_the_system_lacks_is_never_a_bug(code: int) -> None:
    shown = translate(ExceptionGroup("", [OSError(code, os.strerror(code), "/data/node.key")]))
    assert isinstance(shown, NodeError)
    assert shown.exit_code == 5
    assert shown.message == f"/data/node.key: {os.strerror(code)}"
    assert shown.hint
    assert translate(OSError(errno.ENOENT, "No such file or directory", "x")) is None


def test_files_as_windows_editors_save_them(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(NETWORK.encode("utf-8-sig"))
    assert NetworkFile.load(file) == NetworkFile(name="prime")
    file.write_bytes(b'\xef\xbb\xbf{"prompt": "Hi"}\r\n{"prompt": "Ho"}\r\n')
    assert len(load_prompts(file)) == 2
    key = generate_key()
    file.write_bytes(b"\xef\xbb\xbf" + key.secret.hex().encode() + b"\r\n")
    file.chmod(0o600)
    assert load_key(file) == key


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (NETWORK.encode("utf-16"), "UTF-16 text (save it as UTF-8)"),
        (b'name = "prime"\r\n# M\xfcller\r\n', "line 2 is not UTF-8 text (save it as UTF-8)"),
    ],
)
def test_other_encodings_are_named(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "network.toml"
    file.write_bytes(content)
    with pytest.raises(InputError) as refused:
        NetworkFile.load(file)
    assert str(refused.value) == f"{file}: {said}"
