"""What a model is, is what its files hold: not their names, their dates, or who looks at them."""

from __future__ import annotations

import locale
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.models.errors import InvalidModel, ModelNotFound
from pipeline.models.preparing import hashing
from pipeline.models.preparing.hashing import NOTES, SourceHashes, stamp
from pipeline.models.store import list_models, open_model, prepare
from pipeline.models.tokenizer import ChatTokenizer
from tests.pipeline.model_zoo import edit_weights, save_model
from tests.pipeline.tiny_models import CHAT_TEMPLATE


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that nobody changes."""
    return save_model(tmp_path_factory.mktemp("identity") / "ckpt")


def copied(saved: Path, folder: Path) -> Path:
    return Path(shutil.copytree(saved, folder))


def without_dates(folder: Path) -> None:
    for path in folder.iterdir():
        os.utime(path, (0, 0))


def test_two_checkpoints_of_one_name_and_date_are_two_models(saved: Path, tmp_path: Path) -> None:
    a, b = copied(saved, tmp_path / "a" / "ckpt"), copied(saved, tmp_path / "b" / "ckpt")
    edit_weights(b, lambda w: w["model.norm.weight"].neg_())
    without_dates(a)
    without_dates(b)
    store = tmp_path / "store"
    one, other = prepare(str(a), store), prepare(str(b), store)
    assert one.model_id != other.model_id
    assert (prepare(str(a), store), prepare(str(b), store)) == (one, other)
    with pytest.raises(ModelNotFound, match="could be any of"):
        open_model(store, "ckpt")
    assert open_model(store, str(a)) == one
    assert open_model(store, str(b)) == other


def test_a_checkpoint_that_changes_in_place_is_another(saved: Path, tmp_path: Path) -> None:
    folder, store = copied(saved, tmp_path / "ckpt"), tmp_path / "store"
    before = prepare(str(folder), store)
    edit_weights(folder, lambda w: w["model.norm.weight"].neg_())
    without_dates(folder)
    assert prepare(str(folder), store).model_id != before.model_id


def test_one_content_is_one_identity_wherever_it_lies(saved: Path, tmp_path: Path) -> None:
    other, store = copied(saved, tmp_path / "other"), tmp_path / "store"
    one = prepare(str(saved), store)
    same = prepare(str(other), store)
    assert one.model_id == same.model_id == prepare(str(saved), tmp_path / "second").model_id
    assert [model.name for model in list_models(store)] == ["ckpt", "other"]
    assert open_model(store, one.manifest.model_id).model_id == one.model_id
    assert open_model(store, str(saved)).model_id == one.model_id


def test_a_folder_that_was_not_prepared_is_told_what_to_do(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=f"run: prime-node model get {saved}"):
        open_model(tmp_path / "store", str(saved))


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "source" / "weights"
    path.parent.mkdir()
    path.write_bytes(b"x" * 5000)
    return path


def digest(file: Path, store: Path, now: Clock) -> tuple[str, int]:
    hashes = SourceHashes(store, now)
    found = hashes.digest(file.parent, [file], lambda done, total: None)
    return found, hashes.read


def test_a_file_is_read_again_once_it_may_have_changed(file: Path, tmp_path: Path) -> None:
    now = Clock()
    changed = max(stamp(file)[1:3]) / 1e9
    now.time = changed + hashing.SETTLED / 2
    first = digest(file, tmp_path, now)
    assert first == digest(file, tmp_path, now)  # too fresh to be believed: read both times
    assert first[1] == 5000
    now.time = changed + hashing.SETTLED + 1
    assert digest(file, tmp_path, now) == first
    assert digest(file, tmp_path, now) == (first[0], 0)
    now.time += hashing.MAX_AGE + 1
    assert digest(file, tmp_path, now) == first
    file.write_bytes(b"y" * 5000)
    os.utime(file, ns=(0, 0))
    other = digest(file, tmp_path, now)
    assert other[0] != first[0]


@pytest.mark.parametrize("notes", [b"", b"[]", b'{"a": 1}', b'{"a": [1, 2]}', b"[" * 10_000])
def test_notes_that_are_none_are_not_believed(file: Path, tmp_path: Path, notes: bytes) -> None:
    now = Clock()
    now.time = max(stamp(file)[1:3]) / 1e9 + 60
    expected = digest(file, tmp_path, now)[0]
    (tmp_path / NOTES).write_bytes(notes.replace(b'"a"', f'"{file}"'.encode()))
    assert digest(file, tmp_path, now) == (expected, 5000)


def test_a_file_that_changes_while_it_is_read_is_refused(file: Path, tmp_path: Path) -> None:
    def change(done: int, total: int) -> None:
        file.write_bytes(b"z" * 4000)

    with pytest.raises(InvalidModel, match="changed while it was read"):
        SourceHashes(tmp_path).digest(file.parent, [file], change)


@pytest.fixture
def ascii_locale() -> Iterator[None]:
    """A locale in which `open` without an encoding reads and writes ASCII."""
    before = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, "C")
    assert locale.getencoding() != "UTF-8"
    yield
    locale.setlocale(locale.LC_CTYPE, before)


def test_no_locale_changes_what_is_read_or_written(
    saved: Path, tmp_path: Path, ascii_locale: None
) -> None:
    folder = copied(saved, tmp_path / "ckpt")
    said = "<|im_start|>system\nAntworte höflich – auf Deutsch.<|im_end|>\n"
    (folder / "chat_template.jinja").write_text(said + CHAT_TEMPLATE, encoding="utf-8")
    model = prepare(str(folder), tmp_path / "store")
    rendered = ChatTokenizer(model).render([{"role": "user", "content": "ß"}])
    assert rendered == f"{said}<|im_start|>user\nß<|im_end|>\n<|im_start|>assistant\n"
    ids = ChatTokenizer(model).encode_chat([{"role": "user", "content": "ß"}])
    assert ChatTokenizer(model).decode(ids) == rendered.replace("<|im_start|>", "").replace(
        "<|im_end|>", ""
    )
