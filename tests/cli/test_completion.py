"""What a shell completes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fovigraph.cli import main

pytest.importorskip("argcomplete")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_code_for_every_shell(shell, capsys):
    assert main(["completion", shell]) == 0
    assert "fovigraph" in capsys.readouterr().out


def test_another_shell(capsys):
    assert main(["completion", "bsh"]) == 2
    assert "did you mean 'bash'?" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="shells pass file descriptors")
@pytest.mark.parametrize(
    ("line", "among"),
    [
        ("fovigraph pre", {"predict"}),
        ("fovigraph look --fix", {"--fixations"}),
        ("fovigraph info fovi_", {"fovi_alexnet", "fovi_cifar10", "fovi_tiny"}),
        ("fovigraph plot samp", {"sampling", "samples"}),
    ],
)
def test_words_as_the_shell_asks_for_them(line, among, tmp_path):
    program = "import sys; sys.argv[0] = 'fovigraph'; from fovigraph.cli import main; main()"
    wanted = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "said"),
        "_ARGCOMPLETE_IFS": "\n",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    subprocess.run([sys.executable, "-c", program], env={**os.environ, **wanted}, check=True)
    assert among <= {word.strip() for word in (tmp_path / "said").read_text().split("\n")}
