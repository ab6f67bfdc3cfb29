"""``fovigraph look`` with videos."""

import pytest
import torch

from fovigraph.cli import main

pytest.importorskip("matplotlib")
from fovigraph.viz import VideoWriter, read_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The path of a GIF of four frames, 0.25 s each."""
    path = tmp_path_factory.mktemp("clip") / "clip.gif"
    with VideoWriter(path) as video:
        for value in range(4):
            video.write(torch.full((3, 40, 60), 0.2 * value), seconds=0.25)
    return path


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "path.csv"
    file.write_text("seconds,row,column\n0,0.5,0.5\n0.5,0.2,0.8\n")
    return file


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """What a command line that is right prints, or one that is wrong."""
    monkeypatch.chdir(tmp_path)

    def run(*words, status=0):
        assert main(["look", *map(str, words), "--model", "fovi_tiny"]) == status
        printed = capsys.readouterr()
        (line,) = (printed.err if status else printed.out).splitlines()
        return line

    return run


def lasting(file):
    return [round(each.seconds, 2) for each in read_video(file)]


def test_a_scan_path_of_an_image(run, photograph, path):
    said = run(photograph, "--video", "a.gif", "--seconds", "0.3", "--fixations", "3")
    assert said == f"a.gif  the gaze on {photograph}, and what the eye sees: 3 frames, 0.9 s"
    assert lasting("a.gif") == [0.3, 0.3, 0.3]
    run(photograph, "--video", "b.gif", "--path", path)
    assert lasting("b.gif") == [0.5, 0.5]


def test_a_video_along_a_path(run, clip, path):
    run(clip, "--video", "a.gif", "--path", path)
    frames = list(read_video("a.gif"))
    assert lasting("a.gif") == [0.25] * 4
    assert frames[0].image.shape[1] == 360
    pytest.importorskip("av")
    run(clip, "--video", "a.mp4")
    said = run("a.mp4", "--path", path)
    assert said.startswith("look/look.mp4  the gaze on a.mp4")
    assert sum(each.seconds for each in read_video("look/look.mp4")) == pytest.approx(1.0)


def test_what_is_wrong_is_said_and_nothing_written(run, photograph, clip, path, tmp_path):
    before = set(tmp_path.iterdir())

    def says(*words):
        return run(*words, status=2)

    assert "does nothing without a video, --video FILE" in says(photograph, "--path", path)
    assert "does nothing without a video" in says(photograph, "--seconds", "1")
    assert "one image or video, got 2" in says(photograph, clip, "--video", "a.gif")
    assert "argument --video: must end in .mp4, .gif" in says(photograph, "--video", "a.avi")
    assert "must be another file than" in says(clip, "--video", clip)
    assert "no such video file" in says("nowhere.mp4", "--video", "a.gif")
    assert "seconds from 0.01 to 3600" in says(photograph, "--video", "a.gif", "--seconds", "0")
    for text, message in (
        ("1,0.5,0.5", "path must begin at 0 s or before"),
        ("0,0.5,0.5\n1.5,0.5,0.5", "path must lie within the video, which ends at 1 s"),
    ):
        path.write_text(f"seconds,row,column\n{text}\n")
        assert message in says(clip, "--video", "a.gif", "--path", path)
    assert set(tmp_path.iterdir()) == before
