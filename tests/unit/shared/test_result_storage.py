"""A directory of results: whose files they are, what they are called, and what happens where it refuses."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.errors import BadEnvelope, ConfigError
from shared.result_storage import DirectoryStorage, StoredRecord
from shared.results import ResultStore

RECORD = StoredRecord("../k", b"data", None)


@pytest.fixture
def storage(tmp_path: Path) -> DirectoryStorage:
    return DirectoryStorage(tmp_path / "a" / "results")


def the_file(storage: DirectoryStorage) -> Path:
    (file,) = storage.folder.iterdir()
    return file


def test_nothing_is_made_before_something_is_written(storage: DirectoryStorage) -> None:
    storage.delete("k")
    assert (storage.read("k", 10), storage.folder.exists()) == (None, False)


def test_files_are_for_their_owner_alone_and_called_by_digests(storage: DirectoryStorage) -> None:
    storage.write([RECORD])
    file, folder = the_file(storage), storage.folder
    modes = [oct(path.stat().st_mode & 0o777) for path in (file, folder)]
    assert (modes, len(file.name), int(file.name, 16) > 0) == (["0o600", "0o700"], 64, True)


def test_writing_leaves_nothing_but_the_record(storage: DirectoryStorage) -> None:
    for _ in range(3):
        storage.write([RECORD, StoredRecord("other", b"x", 60)])
    assert len(list(storage.folder.iterdir())) == 2


def test_a_write_that_fails_leaves_what_was_there(storage: DirectoryStorage) -> None:
    storage.write([RECORD])
    with pytest.raises(TypeError):
        storage.write([StoredRecord("../k", b"new", None), StoredRecord("odd", "no bytes", None)])  # type: ignore[arg-type]
    assert (storage.read("../k", 10), len(list(storage.folder.iterdir()))) == (b"data", 1)


def test_a_file_of_a_process_that_was_killed_while_it_wrote_is_never_read(storage: DirectoryStorage) -> None:
    storage.write([RECORD])
    half = the_file(storage).rename(storage.folder / f"{the_file(storage).name}.x.new")
    assert (storage.read("../k", 10), half.exists()) == (None, True)


@pytest.mark.parametrize("data", [b"", b"1234567"])
def test_a_file_that_was_cut_is_a_bad_record(storage: DirectoryStorage, data: bytes) -> None:
    storage.write([RECORD])
    the_file(storage).write_bytes(data)
    with pytest.raises(BadEnvelope, match="cannot be read"):
        storage.read("../k", 10)


def test_links_are_not_followed(storage: DirectoryStorage, tmp_path: Path) -> None:
    storage.write([RECORD])
    secret = tmp_path / "secret"
    secret.write_bytes(b"12345678secret")
    file = the_file(storage)
    file.unlink()
    file.symlink_to(secret)
    with pytest.raises(BadEnvelope):
        storage.read("../k", 100)
    storage.write([RECORD])
    assert (storage.read("../k", 100), secret.read_bytes()) == (b"data", b"12345678secret")


def test_no_more_is_read_than_was_asked_for(storage: DirectoryStorage) -> None:
    storage.write([StoredRecord("k", b"x" * 1000, None)])
    assert storage.read("k", 10) == b"x" * 10


def test_a_folder_that_is_none_is_an_error_of_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"no results can be kept in .*/file"):
        DirectoryStorage(tmp_path / "file").write([RECORD])


def test_storages_of_one_folder_are_equal(tmp_path: Path) -> None:
    assert DirectoryStorage(tmp_path) == DirectoryStorage(tmp_path) != DirectoryStorage(tmp_path / "a")


def test_a_store_takes_the_path_of_a_directory(tmp_path: Path) -> None:
    results = ResultStore(str(tmp_path / "results"))
    results.write(results.create_record(5, "k"))
    assert ResultStore(tmp_path / "results").read("k").result == 5


def test_another_process_reads_what_this_one_wrote(tmp_path: Path) -> None:
    results = ResultStore(tmp_path)
    results.write(results.create_record({"a": (1, 2)}, "k"))
    script = f"from shared.results import ResultStore; print(ResultStore({str(tmp_path)!r}).read('k').result)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "{'a': (1, 2)}\n"


def test_whoever_reads_while_others_write_gets_a_whole_record(storage: DirectoryStorage) -> None:
    results = ResultStore(storage)
    values = [[n] * 2000 for n in range(8)]
    results.write(results.create_record(values[0], "k"))

    def write(value: list[int]) -> bool:
        for _ in range(20):
            results.write(results.create_record(value, "k"))
        return True

    def read(_number: int) -> bool:
        return all(results.read("k").result in values for _ in range(40))

    with ThreadPoolExecutor(8) as threads:
        answers = [*threads.map(write, values[:4]), *threads.map(read, range(4))]
    assert (all(answers), len(list(storage.folder.iterdir()))) == (True, 1)
