"""Downloads against a server on this machine: resumed, checked, and never half there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from skmars.datasets import _download, get_data_home

BODY = bytes(range(256)) * 400
MD5 = "md5:" + hashlib.md5(BODY).hexdigest()
SHA256 = "sha256:" + hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "data.bin"


@pytest.mark.parametrize("checksum", [None, MD5, SHA256, MD5.upper().replace("MD5", "md5")])
def test_download(path, checksum, serve):
    with serve({"data.bin": BODY}) as server:
        _download.fetch(server.url + "data.bin", path, checksum=checksum)
        _download.fetch(server.url + "data.bin", path, checksum=checksum)
        assert server.requests == [("/data.bin", None)]  # the second call had it already
    assert path.read_bytes() == BODY
    assert [p.name for p in path.parent.iterdir()] == ["data.bin"]


def test_a_broken_connection_is_continued_within_a_call(path, serve):
    with serve({"data.bin": BODY}, n_failures=2, break_after=30_000) as server:
        _download.fetch(server.url + "data.bin", path, checksum=MD5)
        asked = [wanted for _, wanted in server.requests]
    assert asked == [None, "bytes=30000-", "bytes=60000-"]
    assert path.read_bytes() == BODY


def test_an_interrupted_download_is_continued_by_the_next_call(path, serve):
    with serve({"data.bin": BODY}, n_failures=3, break_after=10_000) as server:
        with pytest.raises(OSError, match="10000 of .* put it at .*data.bin and call again"):
            _download.fetch(server.url + "data.bin", path, checksum=MD5)
        assert not path.exists()
        assert path.with_name("data.bin.part").stat().st_size == 30_000
        _download.fetch(server.url + "data.bin", path, checksum=MD5)
        assert server.requests[-1] == ("/data.bin", "bytes=30000-")
    assert path.read_bytes() == BODY


def test_a_server_without_ranges_sends_everything_again(path, serve):
    options = {"n_failures": 1, "break_after": 10_000, "knows_range": False}
    with serve({"data.bin": BODY}, **options) as server:
        _download.fetch(server.url + "data.bin", path, checksum=MD5)
    assert path.read_bytes() == BODY


@pytest.mark.parametrize("remnant", [BODY, BODY + b"more"])
def test_a_remnant_as_long_as_the_file_or_longer(path, remnant, serve):
    path.parent.mkdir()
    path.with_name("data.bin.part").write_bytes(remnant)
    with serve({"data.bin": BODY}) as server:
        _download.fetch(server.url + "data.bin", path, checksum=MD5)
    assert path.read_bytes() == BODY


def test_wrong_checksum(path, serve):
    with serve({"data.bin": BODY[:-1] + b"x"}) as server:
        with pytest.raises(OSError, match="data.bin has md5 .*, expected .*damaged"):
            _download.fetch(server.url + "data.bin", path, checksum=MD5)
        assert list(path.parent.iterdir()) == []  # nothing that a later call would continue
        server.files["data.bin"] = BODY
        _download.fetch(server.url + "data.bin", path, checksum=MD5)
    assert path.read_bytes() == BODY


def test_a_file_put_there_by_hand_is_checked_and_kept(path):
    path.parent.mkdir()
    path.write_bytes(b"something else")
    with pytest.raises(OSError, match="expected .* Delete it"):
        _download.fetch("http://127.0.0.1:9/data.bin", path, checksum=MD5)
    assert path.read_bytes() == b"something else"
    _download.fetch("http://127.0.0.1:9/data.bin", path)


def test_offline_says_which_file_to_put_where(path):
    with pytest.raises(OSError, match="could not be downloaded .* put it at ") as caught:
        _download.fetch("http://127.0.0.1:9/data.bin", path)
    assert str(path) in str(caught.value)
    with pytest.raises(OSError, match="download_if_missing=False.* put it at "):
        _download.fetch("http://127.0.0.1:9/data.bin", path, download_if_missing=False)


def test_a_file_that_the_server_lacks_is_asked_for_once(path, serve):
    with serve({}) as server:
        with pytest.raises(OSError, match="404"):
            _download.fetch(server.url + "data.bin", path)
        assert len(server.requests) == 1


@pytest.mark.parametrize("checksum", ["d41d8cd9", "sha1:abc", "md5:"])
def test_form_of_the_checksum(path, checksum):
    with pytest.raises(ValueError, match="checksum must be 'md5:...' or 'sha256:...'"):
        _download.fetch("http://127.0.0.1:9/data.bin", path, checksum=checksum)


def test_data_home(tmp_path, monkeypatch):
    monkeypatch.setenv("SKMARS_DATA", str(tmp_path / "a" / "b"))
    assert get_data_home() == tmp_path / "a" / "b"
    assert get_data_home().is_dir()
    assert get_data_home(tmp_path / "c") == tmp_path / "c"
    monkeypatch.delenv("SKMARS_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert get_data_home() == Path(tmp_path) / "skmars_data"
