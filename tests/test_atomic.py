"""A file is there whole or not at all, and nothing is overwritten unasked."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from unetcu.errors import DataError
from unetcu.files.atomic import atomic_path, remove_stale
from unetcu.files.paths import shown

POSIX = os.name == "posix"


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_file_appears_at_the_end_only(tmp_path):
    target = tmp_path / "a.bin"
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"one")
        assert not target.exists()
    assert target.read_bytes() == b"one"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def fail():
        with atomic_path(target, overwrite=True) as temporary:
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_overwrites_only_when_asked(tmp_path):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises(DataError, match="exists already"), atomic_path(target):
        pytest.fail("the block must not run")
    with atomic_path(target, overwrite=True) as temporary:
        temporary.write_bytes(b"new")
    assert target.read_bytes() == b"new"


def test_file_made_by_another_meanwhile_is_kept(tmp_path):
    target = tmp_path / "a.bin"

    def race():
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"mine")
            target.write_bytes(b"theirs")

    with pytest.raises(DataError, match="exists already"):
        race()
    assert target.read_bytes() == b"theirs"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("missing/a.bin", "folder does not exist"),
        ("folder", "is a folder"),
        ("nul\0l", "null"),
        ("x" * 300, "cannot be written"),
    ],
)
def test_impossible_targets_are_refused_in_one_line(tmp_path, name, match):
    (tmp_path / "folder").mkdir()
    with (
        pytest.raises(DataError, match=match) as caught,
        atomic_path(tmp_path / name, overwrite=True),
    ):
        pytest.fail("the block must not run")
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["folder"]


def test_longest_names_work(tmp_path):
    target = tmp_path / ("n" * 255)
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"x")
    assert target.read_bytes() == b"x"


def test_full_disk_is_a_data_error_and_a_missing_input_is_not(tmp_path):
    def full():
        with atomic_path(tmp_path / "a.bin"):
            raise OSError(28, "No space left on device")

    def other():
        with atomic_path(tmp_path / "a.bin"):
            (tmp_path / "input.txt").read_bytes()

    with pytest.raises(DataError, match=r"a\.bin cannot be written: No space left on device"):
        full()
    with pytest.raises(FileNotFoundError):
        other()
    assert names(tmp_path) == []


if POSIX:

    def test_link_stays_and_device_is_refused(tmp_path):
        (tmp_path / "real.bin").write_bytes(b"old")
        (tmp_path / "link.bin").symlink_to("real.bin")
        with atomic_path(tmp_path / "link.bin", overwrite=True) as temporary:
            temporary.write_bytes(b"new")
        assert (tmp_path / "link.bin").is_symlink()
        assert (tmp_path / "real.bin").read_bytes() == b"new"
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(DataError, match="regular"), atomic_path(tmp_path / "pipe"):
            pytest.fail("the block must not run")

    def test_permissions_follow_the_umask(tmp_path):
        old = os.umask(0o027)
        try:
            with atomic_path(tmp_path / "a.bin") as temporary:
                temporary.write_bytes(b"x")
        finally:
            os.umask(old)
        assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == 0o640

    def test_file_then_folder_are_flushed_around_the_rename(tmp_path, monkeypatch):
        calls = []
        real = {"fsync": os.fsync, "replace": os.replace}

        def fsync(handle):
            calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
            real["fsync"](handle)

        def replace(a, b):
            calls.append("replace")
            real["replace"](a, b)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "replace", replace)
        with atomic_path(tmp_path / "a.bin") as temporary:
            temporary.write_bytes(b"x")
        assert calls == ["file", "replace", "folder"]


def test_killed_writer_leaves_the_old_file_and_a_stale_one_that_can_be_removed(tmp_path):
    target, other = tmp_path / "a.bin", tmp_path / "b.bin"
    for path in (target, other):
        path.write_bytes(b"old")
        subprocess.run(
            [
                sys.executable,
                "-c",
                "import os, sys; from unetcu.files.atomic import atomic_path\n"
                "with atomic_path(sys.argv[1], overwrite=True) as t:\n"
                "    t.write_bytes(b'half'); os._exit(9)",
                str(path),
            ],
            check=False,
            cwd=Path(__file__).parents[1],
        )
    assert target.read_bytes() == b"old"
    assert len(names(tmp_path)) == 4
    assert remove_stale(target) == 1
    assert remove_stale(target) == 0
    assert len(names(tmp_path)) == 3
    assert remove_stale(other) == 1
    assert names(tmp_path) == ["a.bin", "b.bin"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain 1.tif", "plain 1.tif"),
        ("zelle-ß-細胞.tif", "zelle-ß-細胞.tif"),
        ("a\nb\r\t.tif", "a\\nb\\r\\t.tif"),
        (b"caf\xe9.tif", "caf\\xe9.tif"),
        ("\x1b[31m\u202egnp.tif", "\\x1b[31m\\u202egnp.tif"),
        ("-o*?[1].tif", "-o*?[1].tif"),
    ],
)
def test_names_are_shown_on_one_line(name, text):
    if isinstance(name, bytes) and not POSIX:
        name = name.decode("utf-8", "surrogateescape")
    assert shown(name) == text
