"""Files that are written as a whole: whatever happens, the earlier one or the new one is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from operator import methodcaller
from pathlib import Path

import pytest

from skmars.utils._files import PART, check_readable, check_writable, write_whole

posix = pytest.mark.skipif(os.name != "posix", reason="signals, permissions and pipes of POSIX")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def program(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a program that has `write_whole` and the arguments as `argv`."""
    head = "import os, sys, time; from pathlib import Path; argv = sys.argv[1:]\n"
    head += "from skmars.utils._files import write_whole\n"
    command = [sys.executable, "-c", head + code, *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_file_is_written(tmp_path: Path) -> None:
    for content in (b"one", b"another"):
        write_whole(tmp_path / "f", methodcaller("write", content))
        assert (tmp_path / "f").read_bytes() == content
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_whatever_is_raised_the_earlier_file_stays(tmp_path: Path, error) -> None:
    (tmp_path / "f").write_text("earlier")

    def write(file) -> None:
        file.write(b"half")
        file.flush()
        raise error("on purpose")

    with pytest.raises(error, match="on purpose"):
        write_whole(tmp_path / "f", write)
    assert (tmp_path / "f").read_text() == "earlier"
    assert os.listdir(tmp_path) == ["f"]


@posix
def test_a_full_disk_says_so(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("earlier")
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_whole(Path(argv[0]), lambda file: file.write(bytes(10_000)))
"""
    _, err = program(code, tmp_path / "f").communicate(timeout=60)
    assert f"{tmp_path / 'f'} can't be written: File too large." in err
    assert (tmp_path / "f").read_text() == "earlier"
    assert os.listdir(tmp_path) == ["f"]


@posix
def test_a_killed_process_leaves_nothing_for_long(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("earlier")
    code = """
def write(file):
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), 9)
write_whole(Path(argv[0]), write)
"""
    process = program(code, tmp_path / "f")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / "f").read_text() == "earlier"
    assert len(os.listdir(tmp_path)) == 2
    write_whole(tmp_path / "other", lambda file: file.write(b"new"))
    assert sorted(os.listdir(tmp_path)) == ["f", "other"]


@posix
def test_who_is_still_writing_is_left_alone(tmp_path: Path) -> None:
    code = """
def write(file):
    file.write(b"slow")
    file.flush()
    print("writing", flush=True)
    sys.stdin.readline()
write_whole(Path(argv[0]), write)
"""
    head = "import os, sys; from pathlib import Path; argv = sys.argv[1:]\n"
    head += "from skmars.utils._files import write_whole\n"
    with subprocess.Popen(
        [sys.executable, "-c", head + code, tmp_path / "f"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as slow:
        assert slow.stdin is not None
        assert slow.stdout is not None
        assert slow.stdout.readline() == "writing\n"
        write_whole(tmp_path / "f", lambda file: file.write(b"quick"))
        assert (tmp_path / "f").read_text() == "quick"
        assert len(os.listdir(tmp_path)) == 2
        slow.stdin.write("go on\n")
        slow.stdin.flush()
        assert slow.wait(timeout=60) == 0
    assert (tmp_path / "f").read_text() == "slow"
    assert os.listdir(tmp_path) == ["f"]


@posix
def test_many_writers_and_readers_see_whole_files(tmp_path: Path) -> None:
    code = """
for _ in range(100):
    write_whole(Path(argv[0]), lambda file: [file.write(argv[1].encode() * 1000) for _ in range(9)])
"""
    writers = [program(code, tmp_path / "f", letter) for letter in "abc"]
    deadline = time.monotonic() + 120
    while any(writer.poll() is None for writer in writers) and time.monotonic() < deadline:
        if (tmp_path / "f").exists():
            content = (tmp_path / "f").read_text()
            assert len(content) == 9000
            assert len(set(content)) == 1
    assert [writer.communicate()[1] for writer in writers] == [""] * 3
    assert os.listdir(tmp_path) == ["f"]


@posix
def test_permissions_are_those_of_any_file(tmp_path: Path) -> None:
    for mask in (0o022, 0o077, 0o002):
        previous = os.umask(mask)
        try:
            (tmp_path / "any").write_text("")
            write_whole(tmp_path / "f", lambda file: file.write(b""))
        finally:
            os.umask(previous)
        assert mode(tmp_path / "f") == mode(tmp_path / "any")
        for name in ("any", "f"):
            (tmp_path / name).unlink()
    (tmp_path / "f").write_text("")
    (tmp_path / "f").chmod(0o640)
    write_whole(tmp_path / "f", lambda file: file.write(b"new"))
    assert mode(tmp_path / "f") == 0o640


@posix
def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/f")
    for content in (b"dangling", b"not dangling"):
        write_whole(tmp_path / "link", methodcaller("write", content))
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "folder/f").read_bytes() == content
    assert os.listdir(tmp_path / "folder") == ["f"]


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    write_whole(path, lambda file: file.write(b"long"))
    assert path.read_bytes() == b"long"


@posix
def test_what_can_not_be_written_is_told_before(tmp_path: Path, monkeypatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path, message in {
        tmp_path: "folder",
        tmp_path / "pipe": "pipe",
        Path("/dev/null"): "device",
        tmp_path / "no/f": "no folder",
        tmp_path / "pipe/f": "no folder",
        tmp_path / "loop": "symbolic links",
        tmp_path / ("x" * 256): "too long",
    }.items():
        for call in (check_writable, lambda path: write_whole(path, lambda file: None)):
            with pytest.raises(OSError, match=message) as caught:
                call(path)
            assert str(path) in str(caught.value)
    (tmp_path / "f").write_text("read-only")
    forbidden = tmp_path / "f"
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != forbidden)
    with pytest.raises(PermissionError, match="f is read-only"):
        check_writable(tmp_path / "f")
    forbidden = tmp_path
    with pytest.raises(PermissionError, match="folder .* is read-only"):
        check_writable(tmp_path / "f")


@posix
def test_what_can_not_be_read_is_told(tmp_path: Path, monkeypatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    for path, message in {
        tmp_path: "folder",
        tmp_path / "pipe": "pipe",
        Path("/dev/zero"): "device",
        tmp_path / "none": "does not exist",
        tmp_path / "dangling": "does not exist",
    }.items():
        with pytest.raises(OSError, match=message) as caught:
            check_readable(path)
        assert str(path) in str(caught.value)
    (tmp_path / "f").write_text("")
    check_readable(tmp_path / "f")
    monkeypatch.setattr(os, "access", lambda path, _: False)
    with pytest.raises(PermissionError, match="may not be read"):
        check_readable(tmp_path / "f")


def test_files_of_others_are_no_remains(tmp_path: Path) -> None:
    names = [".skmars-", ".part", "skmars-1.part", ".skmars-1.part.csv"]
    for name in names:
        (tmp_path / name).write_text("")
    (tmp_path / PART.format("0")).write_text("remains")
    write_whole(tmp_path / "f", lambda file: file.write(b""))
    assert sorted(os.listdir(tmp_path)) == sorted([*names, "f"])
