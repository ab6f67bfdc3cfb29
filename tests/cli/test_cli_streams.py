"""Ctrl-C at any moment, and outputs that take nothing: one line, and a status that says so."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import fovigraph
from fovigraph import _interrupt
from fovigraph.cli import main
from fovigraph.cli.errors import users_mistake

ROOT = Path(fovigraph.__file__).parents[1]

SLOW = """
import time
print("importing", flush=True)
time.sleep(60)
"""

SWALLOWS = """
import time
print("importing", flush=True)
try:
    time.sleep(60)
except BaseException:  # as C extensions may
    time.sleep(60)
"""

SCRIPT = "import sys; from fovigraph.cli import main; sys.exit(main())"


@pytest.fixture
def command(monkeypatch):
    """Runs the program's own command line in this process."""
    # Whoever runs the tests in the background may have it ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def command(*words):
        monkeypatch.setattr("sys.argv", ["fovigraph", *words])
        return main()

    yield command
    signal.signal(signal.SIGINT, before)


def interrupted(words, folder, torch=SWALLOWS):
    """Status and errors of a process that gets Ctrl-C while it imports a torch of this kind."""
    (folder / "torch").mkdir()
    (folder / "torch" / "__init__.py").write_text(torch)
    with subprocess.Popen(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Where it is ignored, that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    return process.returncode, said


class TestInterrupt:
    def test_while_a_module_is_imported(self, tmp_path):
        said = interrupted(["-m", "fovigraph", "info", "fovi_tiny"], tmp_path)
        assert said == (130, "fovigraph: interrupted\n")

    def test_while_the_installed_script_imports(self, tmp_path):
        (tmp_path / "fovigraph").write_text(SCRIPT)
        said = interrupted([str(tmp_path / "fovigraph"), "info", "fovi_tiny"], tmp_path)
        assert said == (130, "fovigraph: interrupted\n")

    def test_a_library_leaves_ctrl_c_alone(self, tmp_path):
        (tmp_path / "mine.py").write_text("import fovigraph; fovigraph.FoviNet")
        status, said = interrupted([str(tmp_path / "mine.py")], tmp_path, SLOW)
        assert status != 130
        assert said.endswith("KeyboardInterrupt\n")

    @pytest.mark.parametrize(
        ("argv", "words", "is_it"),
        [
            (["-m", "info"], ["python", "-m", "fovigraph", "info"], True),
            (["-m"], ["python", "-X", "dev", "-mfovigraph"], True),
            (["/usr/bin/fovigraph"], ["python", "/usr/bin/fovigraph"], True),
            (["fovigraph.exe"], ["fovigraph.exe"], True),
            (["-m", "fovigraph"], ["python", "-m", "mypy", "fovigraph"], False),
            (["-c"], ["python", "-c", "import fovigraph"], False),
            (["train.py", "fovigraph"], ["python", "train.py", "fovigraph"], False),
            ([""], ["python"], False),
            ([], [], False),
        ],
    )
    def test_what_is_the_command_line(self, monkeypatch, argv, words, is_it):
        monkeypatch.setattr("sys.argv", argv)
        monkeypatch.setattr("sys.orig_argv", words)
        assert _interrupt._is_command_line() is is_it
        monkeypatch.setattr("multiprocessing.process.parent_process", lambda: 3)
        assert not _interrupt._is_command_line()  # a worker of one

    def test_while_a_command_runs(self, command, monkeypatch, capsys):
        def wait(*_, **__):
            signal.raise_signal(signal.SIGINT)
            signal.pause()

        monkeypatch.setattr("fovigraph.cli.info.build", wait)
        assert command("info", "fovi_tiny") == 130
        assert capsys.readouterr().err == "fovigraph: interrupted\n"
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # nothing else may come of it

    def test_that_becomes_another_exception(self, command, monkeypatch, capsys):
        def clean_up(*_, **__):
            try:
                signal.raise_signal(signal.SIGINT)
                signal.pause()
            finally:
                raise AttributeError("of what was not made yet")

        for error in (AttributeError, ValueError):  # a bug's, and one that is a user's mistake
            monkeypatch.setattr("fovigraph.cli.info.build", users_mistake(error)(clean_up))
            assert command("info", "fovi_tiny") == 130
            assert capsys.readouterr().err == "fovigraph: interrupted\n"
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def test_is_ignored_where_the_process_was_told_to(self, command, monkeypatch, capsys):
        monkeypatch.setattr(
            "fovigraph.cli.info.build", lambda *_, **__: signal.raise_signal(signal.SIGINT)
        )
        monkeypatch.setattr("fovigraph.cli.info.describe", lambda net: {})
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert command("info", "fovi_tiny", "--json") == 0
        assert capsys.readouterr().err == ""

    def test_handlers_stay_as_they_are_where_main_is_called(self, capsys):
        before = signal.getsignal(signal.SIGINT)
        assert main(["--version"]) == 0
        assert signal.getsignal(signal.SIGINT) is before


class TestOutput:
    @pytest.mark.parametrize("words", [["info", "fovi_tiny"], ["--help"], ["plot", "--help"]])
    @pytest.mark.parametrize(
        ("kind", "status", "reason"),
        [
            ("full", 2, "No space left on device"),
            ("pipe", 141, "Broken pipe"),
            ("closed", 2, "Bad file descriptor"),
        ],
    )
    def test_that_takes_nothing(self, monkeypatch, capsys, words, kind, status, reason):
        with stream(kind) as stdout:
            monkeypatch.setattr("sys.stdout", stdout)
            assert main(words) == status
            if stdout is not None:
                stdout.flush()  # as Python does at its exit
        said = capsys.readouterr().err
        assert said == f"fovigraph: cannot write to standard output: {reason}\n"

    @pytest.mark.parametrize("kind", ["full", "pipe", "closed"])
    def test_of_errors(self, monkeypatch, kind):
        with stream(kind) as stderr:
            monkeypatch.setattr("sys.stderr", stderr)
            assert main(["info", "nothing"]) == 2
            if stderr is not None:
                stderr.flush()

    def test_of_signs_that_the_encoding_lacks(self, command, monkeypatch, tmp_path):
        with open(tmp_path / "out", "w", encoding="ascii") as stdout:
            monkeypatch.setattr("sys.stdout", stdout)
            assert command("info", "fovi_tiny") == 0
        assert (tmp_path / "out").read_text().startswith("Field of view 16\\xb0")


class _Nothing:
    def __enter__(self):
        return None

    def __exit__(self, *error):
        return None


def stream(kind):
    """A stream that takes nothing, as a context."""
    if kind == "closed":
        return _Nothing()
    if kind == "full":
        if not Path("/dev/full").exists():
            pytest.skip("there is no /dev/full here")
        return open("/dev/full", "w")
    read, write = os.pipe()
    os.close(read)
    return os.fdopen(write, "w")


BACKEND = """
import os, sys, types
package = types.ModuleType("fovigraph")
package.__path__ = [sys.argv[1]]
sys.modules["fovigraph"] = package
from fovigraph._matplotlib import import_matplotlib
import_matplotlib()
import matplotlib
print(os.environ["MPLBACKEND"], matplotlib.rcParams._get("backend"))
"""


INLINE = "module://matplotlib_inline.backend_inline"
"""Of notebooks; their package is not among those that the tests need."""


@pytest.mark.parametrize(("named", "kept"), [(INLINE, False), ("svg", True)])
def test_backends_of_matplotlib_that_are_not_there_do_not_matter(named, kept):
    pytest.importorskip("matplotlib")
    if named == INLINE and importlib.util.find_spec("matplotlib_inline"):
        pytest.skip("it is there")
    done = subprocess.run(
        [sys.executable, "-c", BACKEND, str(ROOT / "fovigraph")],
        env={**os.environ, "MPLBACKEND": named},
        capture_output=True,
        text=True,
        check=True,
    )
    environment, backend = done.stdout.split(maxsplit=1)
    assert environment == named
    assert (backend.strip() == named) is kept
