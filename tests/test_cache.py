"""The folder for compiled kernels: private, whole files, a line for every trouble."""

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from unetcu import cache
from unetcu.errors import DeviceError


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("UNETCU_CACHE", str(tmp_path / "deep" / "cache"))
    return tmp_path / "deep" / "cache"


def test_made_once_and_for_this_user_only(place):
    calls = []

    def make():
        calls.append(1)
        return b"machine code"

    for _ in range(3):
        path = cache.load_or_make("k", ".so", make)
    assert path == place / "k.so"
    assert path.read_bytes() == b"machine code"
    assert calls == [1]
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert os.listdir(place) == ["k.so"]


def test_threads_that_make_the_same_file_do_not_disturb_each_other(place):
    content, together = bytes(range(256)) * 4000, threading.Barrier(4)

    def load(_):
        def make():
            together.wait()  # all have seen that there is no file
            return content

        return cache.load_or_make("k", ".so", make).read_bytes()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(load, range(4))) == {content}
    assert os.listdir(place) == ["k.so"]
    assert stat.S_IMODE((place / "k.so").stat().st_mode) == 0o600


def test_a_failure_leaves_nothing(place):
    def make():
        raise DeviceError("no compiler")

    with pytest.raises(DeviceError, match="no compiler"):
        cache.load_or_make("k", ".so", make)
    assert os.listdir(place) == []


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702])
def test_a_folder_that_others_can_write_to_is_not_used(place, mode):
    place.mkdir(parents=True)
    place.chmod(mode)
    with pytest.raises(DeviceError, match="others can write to"):
        cache.load_or_make("k", ".so", lambda: b"")


def test_a_file_in_the_way(place):
    place.parent.mkdir()
    place.write_text("")
    with pytest.raises(DeviceError, match="set UNETCU_CACHE to a folder of yours"):
        cache.folder()


def test_where_it_is_by_default(tmp_path, monkeypatch):
    monkeypatch.delenv("UNETCU_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder() == tmp_path / "xdg" / "unetcu"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # not allowed: as if it were not set
    assert cache.folder() == tmp_path / ".cache" / "unetcu"
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache.folder() == tmp_path / "Library" / "Caches" / "unetcu"
