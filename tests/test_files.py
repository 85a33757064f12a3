"""Where results may go, and writing all or nothing."""

import contextlib
import errno
import json
import os
import pickle
import resource
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from elpa_env import files
from elpa_env.errors import InputError, printable
from elpa_env.files import (
    atomic_folder,
    atomic_path,
    check_target,
    is_temporary,
    open_file,
    read_bytes,
    read_json,
    write_bytes,
    write_text,
)

NO_UTF8 = os.fsdecode(b"m\xff\n.pt")
NOBODY = 65534


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working folder `sub/work` with something precious around it."""
    folder = tmp_path / "sub" / "lab"
    folder.mkdir(parents=True)
    (tmp_path / "sub" / "precious").write_text("x")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "me"))
    (tmp_path / "home" / "me").mkdir(parents=True)
    return folder


@pytest.fixture
def shared():
    """A working folder of a user who may not write everywhere, whoever runs the tests."""
    me, here = os.geteuid(), os.getcwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o1777)
        os.chdir(folder)
        try:
            if me == 0:
                (folder / "of-root").write_text("x")
                os.seteuid(NOBODY)
            yield folder
        finally:
            os.seteuid(me)
            os.chdir(here)


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@contextlib.contextmanager
def full_disk(limit=1000):
    """No file can grow beyond `limit` bytes: what writing to a full disk looks like from inside."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def refuse(match, path, **how):
    with pytest.raises(InputError, match=match) as caught:
        check_target(path, **{"overwrite": True, "kind": "file", **how})
    assert "\n" not in str(caught.value)
    str(caught.value).encode()


class TestCheckTarget:
    @pytest.mark.parametrize(
        "path",
        [".", "../lab", "..", "../../sub", "../..", "/", "", "~", "~/..", "link", "../lab/../../sub/lab"],
    )
    @pytest.mark.parametrize("overwrite", [True, False])
    def test_folders_that_hold_more_than_results_are_refused(self, work, path, overwrite):
        os.symlink("../../sub", "link")
        before = everything(work.parent)
        refuse("folder of its own", os.path.expanduser(path), kind="folder", overwrite=overwrite)
        with pytest.raises(InputError, match="folder of its own"), atomic_folder(os.path.expanduser(path)):
            pytest.fail("it must not come so far")
        assert everything(work.parent) == before

    @pytest.mark.parametrize("path", ["m.pt", "a/b/m.pt", "x" * 248, "a b/ü.csv", NO_UTF8, "../beside/m.pt"])
    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_what_is_free_is_given_resolved_and_left_untouched(self, work, path, kind):
        target = check_target(path, overwrite=False, kind=kind)
        assert target == (work / path).resolve()
        assert everything(work) == []
        if kind == "file":
            write_text(target, "x")
        else:
            with atomic_folder(target) as folder:
                (folder / "x").touch()
        refuse(
            "exists already: name another with --report, or",
            path,
            kind=kind,
            overwrite=False,
            option="--report",
        )
        assert check_target(path, overwrite=True, kind=kind) == target

    def test_a_folder_and_a_file_are_not_taken_for_each_other(self, work):
        (work / "m.pt").mkdir()
        (work / "r").write_text("x")
        refuse("m.pt is a folder: name a file with --out", "m.pt")
        refuse("r is a file: name a folder with --out", "r", kind="folder")
        refuse("cannot write r/m.pt: Not a directory", "r/m.pt")
        refuse("cannot write r/m.pt: Not a directory", "r/m.pt", kind="folder")

    def test_devices_pipes_and_sockets_are_refused(self, work):
        os.mkfifo("pipe")
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("socket")
            os.symlink("/dev/null", "link")
            for path in ("/dev/null", "/dev/full", "pipe", "socket", "link"):
                for kind in ("file", "folder"):
                    refuse("is a device, pipe or socket", path, kind=kind)
                with pytest.raises(InputError, match="is a device, pipe or socket"):
                    write_text(path, "x")
        assert not os.path.isfile("/dev/null")

    def test_standard_output_that_is_a_pipe_is_refused(self):
        program = (
            "from elpa_env.files import check_target\n"
            "check_target('/dev/stdout', overwrite=True, kind='file')"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert "/dev/stdout is a device, pipe or socket" in done.stderr

    def test_links_that_lead_nowhere_are_refused(self, work):
        os.symlink("nowhere", "dangling")
        os.symlink("loop", "loop")
        for path in ("dangling", "loop", "dangling/m.pt"):
            for kind in ("file", "folder"):
                refuse("is a link that leads nowhere", path, kind=kind)
            with pytest.raises(InputError, match="leads nowhere"):
                write_text(path, "x")

    def test_a_link_stays_and_what_it_leads_to_is_replaced(self, work):
        (work / "real").mkdir()
        (work / "real" / "old").touch()
        (work / "file.txt").write_text("old")
        os.symlink("real", "folder-link")
        os.symlink("file.txt", "file-link")
        refuse("exists already", "folder-link", kind="folder", overwrite=False)
        refuse("exists already", "file-link", overwrite=False)
        assert check_target("folder-link", overwrite=True, kind="folder") == work / "real"
        assert check_target("file-link", overwrite=True, kind="file") == work / "file.txt"
        assert check_target("folder-link/new", overwrite=True, kind="file") == work / "real" / "new"
        write_text("file-link", "new")
        with atomic_folder("folder-link") as folder:
            (folder / "new").touch()
        assert (work / "file.txt").read_text() == "new"
        assert everything(work / "real") == ["new"]
        assert os.path.islink("folder-link")
        assert os.path.islink("file-link")

    @pytest.mark.parametrize(
        ("path", "match"),
        [
            ("x" * 256, "name too long"),
            ("a/" + "x" * 256, "name too long"),
            ("x" * 256 + "/a", "name too long"),
            ("/".join(["x" * 200] * 30), "name too long"),
            ("a\0b", "cannot hold the character NUL"),
            ("a\ud800b", "cannot hold such a name"),
            ("/proc/none/m.pt", "cannot write /proc/none/m.pt"),
            ("/sys/m.pt", "cannot write /sys/m.pt"),
        ],
    )
    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_names_and_places_that_cannot_be(self, work, path, match, kind):
        refuse(match, path, kind=kind)
        assert everything(work) == []

    def test_a_full_disk_shows_before_the_work(self, work):
        with full_disk():
            refuse("cannot write m.pt: File too large", "m.pt")
            refuse("cannot write r: File too large", "r", kind="folder")
        assert everything(work) == []

    def test_folders_that_cannot_be_written_to(self, shared):
        (shared / "closed").mkdir(mode=0o500)
        refuse("cannot write closed/m.pt: Permission denied", "closed/m.pt")
        refuse("cannot write closed: Permission denied", "closed", kind="folder")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can own something else")
    def test_what_somebody_else_owns_in_a_shared_folder_is_refused(self, shared):
        refuse("cannot write of-root: .*somebody else's", "of-root")
        assert check_target("mine", overwrite=True, kind="file") == shared / "mine"

    def test_an_empty_folder_and_leftovers_of_killed_writes_are_free(self, work):
        program = (
            "import os, signal\nfrom elpa_env.files import atomic_path\n"
            "with atomic_path('r/m.csv') as path:\n    path.write_text('half')\n"
            "    os.kill(os.getpid(), signal.SIGKILL)"
        )
        (work / "r").mkdir()
        check_target("r", overwrite=False, kind="folder")
        subprocess.run([sys.executable, "-c", program], check=False)
        (left,) = (work / "r").iterdir()
        assert is_temporary(left)
        assert is_temporary(left.relative_to(work) / "inside")
        check_target("r", overwrite=False, kind="folder")
        (work / "r" / "m.csv").touch()
        assert not is_temporary(work / "r" / "m.csv")
        refuse("exists already", "r", kind="folder", overwrite=False)


class TestAtomicPath:
    @pytest.mark.parametrize("name", ["m.csv", "x" * 255, "a." + "x" * 253, "y" * 244 + ".csv", NO_UTF8])
    def test_any_name_that_a_file_can_have(self, work, name):
        for text in ("one", "two"):
            write_text(name, text)
            assert (work / name).read_text() == text
        assert os.listdir() == [name]

    def test_the_temporary_file_keeps_the_suffix_and_the_usual_permissions(self, work):
        with atomic_path("a/b.html") as path:
            assert path.suffix == ".html"
            assert path.parent == work / "a"
            assert is_temporary(path)
            path.write_text("x")
        (work / "plain").touch()
        assert (work / "a" / "b.html").stat().st_mode == (work / "plain").stat().st_mode

    def test_a_full_disk_leaves_everything_as_it_was(self, work):
        write_text("m.csv", "old")
        with full_disk():
            for write in (lambda: write_text("m.csv", "x" * 2000), lambda: write_bytes("m.csv", bytes(2000))):
                with pytest.raises(InputError, match=r"^cannot write m.csv: File too large$"):
                    write()
        assert os.listdir() == ["m.csv"]
        assert (work / "m.csv").read_text() == "old"

    def test_errors_of_others_pass(self, work):
        write_text("m.csv", "old")
        for error in (
            FileNotFoundError(errno.ENOENT, "none", "elsewhere"),
            BrokenPipeError(errno.EPIPE, "closed"),
            KeyboardInterrupt(),
            ZeroDivisionError(),
        ):
            with pytest.raises(type(error)), atomic_path("m.csv"):
                raise error
        assert os.listdir() == ["m.csv"]
        assert (work / "m.csv").read_text() == "old"

    def test_a_failing_rename(self, work, monkeypatch):
        write_text("m.csv", "old")
        monkeypatch.setattr(os, "replace", failing(times=1))
        with pytest.raises(InputError, match="cannot write m.csv: no more"):
            write_text("m.csv", "new")
        assert os.listdir() == ["m.csv"]
        assert (work / "m.csv").read_text() == "old"

    def test_text_that_utf8_cannot_hold_is_escaped(self, work):
        write_text("m.txt", "ü \udcff")
        assert (work / "m.txt").read_bytes() == "ü \\udcff".encode()


def failing(times, after=0):
    """An `os.replace` that works `after` times, then fails `times` times, then works again."""
    calls = iter([True] * after + [False] * times)
    replace = os.replace

    def call(source, target):
        if next(calls, True):
            return replace(source, target)
        raise OSError(errno.EIO, "no more", str(source), None, str(target))

    return call


class TestAtomicFolder:
    @pytest.fixture(params=["beside", "inside"])
    def results(self, work, request, monkeypatch):
        """A folder of earlier results, and one that cannot be moved itself."""
        (work / "r" / "deep").mkdir(parents=True)
        (work / "r" / "deep" / "old").write_text("old")
        (work / "r" / "too").write_text("old")
        if request.param == "inside":
            monkeypatch.setattr(files, "_pinned", lambda target: target == work / "r")
        return work / "r"

    def fill(self, target="r"):
        with atomic_folder(target) as folder:
            (folder / "deep").mkdir()
            (folder / "deep" / "new").write_text("new")
            (folder / "one").touch()

    def test_replaced_as_a_whole(self, results):
        self.fill()
        assert everything(results.parent) == ["r", "r/deep", "r/deep/new", "r/one"]

    def test_new(self, work):
        self.fill("a/" + "x" * 250)
        assert everything(work / "a" / ("x" * 250)) == ["deep", "deep/new", "one"]
        assert len(os.listdir("a")) == 1

    @pytest.mark.parametrize("after", range(4))
    def test_a_failing_rename_restores_what_was_there(self, results, monkeypatch, after):
        before = everything(results.parent)
        monkeypatch.setattr(os, "replace", failing(times=1, after=after))
        moves = 4 if files._pinned(results) else 2
        if after >= moves:
            return self.fill()
        with pytest.raises(InputError, match="cannot write r: no more"):
            self.fill()
        assert everything(results.parent) == before
        assert (results / "deep" / "old").read_text() == "old"

    def test_where_nothing_can_be_put_back_the_message_says_where_it_is(self, work, monkeypatch):
        (work / "r").mkdir()
        (work / "r" / "old").write_text("old")
        monkeypatch.setattr(os, "replace", failing(times=2, after=1))
        with pytest.raises(InputError, match="cannot put .*r back") as caught:
            self.fill()
        (kept,) = work.iterdir()
        assert str(kept) in str(caught.value)
        assert (kept / "old").read_text() == "old"

    def test_failing_in_the_block_leaves_everything_as_it_was(self, results):
        before = everything(results.parent)
        with full_disk(), pytest.raises(InputError, match="cannot write r: File too large"):
            with atomic_folder("r") as folder:
                (folder / "big").write_bytes(bytes(2000))
        with pytest.raises(ZeroDivisionError), atomic_folder("r") as folder:
            (folder / "x").write_text(str(1 / 0))
        assert everything(results.parent) == before

    def test_a_folder_in_a_closed_one_is_filled(self, shared):
        (shared / "closed" / "r").mkdir(parents=True)
        (shared / "closed" / "r" / "old").touch()
        (shared / "closed").chmod(0o500)
        check_target("closed/r", overwrite=True, kind="folder")
        self.fill("closed/r")
        assert everything(shared / "closed" / "r") == ["deep", "deep/new", "one"]
        (shared / "closed").chmod(0o700)


class TestReading:
    def test_what_has_no_end_is_not_opened(self, work):
        os.mkfifo("pipe")
        for path in ("pipe", "/dev/zero", "/dev/stdin", "/dev/null"):
            with pytest.raises(
                InputError, match="it is a device, pipe or socket|is a folder|Permission|No such"
            ):
                open_file(path).close()
        for path, match in (
            ("none", "No such file"),
            (".", "a folder"),
            ("a\0b", "no file"),
            ("x\ud800", "no file"),
        ):
            with pytest.raises(InputError, match=match):
                open_file(path)

    def test_size_is_limited(self, work):
        write_bytes("m", bytes(100))
        assert read_bytes("m", max_bytes=100) == bytes(100)
        with pytest.raises(InputError, match="larger than 99 bytes"):
            read_bytes("m", max_bytes=99)

    @pytest.mark.parametrize(
        ("data", "match"),
        [
            (b"", "is not JSON"),
            (b"{", "is not JSON"),
            (b'"\xff"', "is not JSON"),
            (b"[" * 1_000_000, "nested too deeply"),
            (b'{"a":' * 1_000_000, "nested too deeply"),
            (b"9" * 100_000, "is not JSON"),
            (b"[" + b" " * 2000, "larger than 1,000"),
        ],
    )
    def test_json_that_cannot_be_read(self, work, data, match):
        write_bytes("m.json", data)
        with pytest.raises(InputError, match=match) as caught:
            read_json("m.json", **({"max_bytes": 1000} if "larger" in match else {}))
        assert "\n" not in str(caught.value)

    def test_json(self, work):
        record = {"a": [1, 2.5, None, "ü"]}
        write_text("m.json", json.dumps(record))
        assert read_json("m.json") == record


def test_messages_are_one_line_whatever_is_in_a_name():
    assert printable("a\nb\udcff\x1b[31mü") == "a\\nb\\udcff\\x1b[31mü"
    error = InputError("cannot read a\nb\udcff")
    assert str(error) == "cannot read a\\nb\\udcff"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
