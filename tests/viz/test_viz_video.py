"""Videos, read and written frame by frame, and gaze paths."""

import json
import math
import sys
import tracemalloc

import numpy as np
import pytest
import torch

import fovigraph as fg
from fovigraph.viz import (
    EyeFrames,
    GazePath,
    Raster,
    VideoWriter,
    plot_samples,
    read_gaze_path,
    read_video,
    scan_path_frames,
)


def frame(value, height=32, width=48):
    """A plain picture with a bright left half."""
    image = torch.full((3, height, width), value, dtype=torch.uint8)
    image[:, :, : width // 2] += 40
    return image


@pytest.fixture(params=[".mp4", ".gif"])
def clip(request, tmp_path):
    """The path of a video of three frames, 0.2 s each."""
    if request.param == ".mp4":
        pytest.importorskip("av")
    with VideoWriter(tmp_path / f"clip{request.param}", fps=10) as video:
        for value in (0, 80, 160):
            video.write(frame(value), seconds=0.2)
    return tmp_path / f"clip{request.param}"


def test_there_and_back(clip):
    frames = list(read_video(clip))
    assert sum(each.seconds for each in frames) == pytest.approx(0.6)
    for value, start in ((0, 0.0), (80, 0.2), (160, 0.4)):
        shown = [each for each in frames if each.start <= start + 1e-6][-1].image
        assert shown.shape == (3, 32, 48)
        assert shown.dtype == torch.uint8
        assert (shown.float() - frame(value).float()).abs().mean() < 4
    assert [each.name for each in clip.parent.iterdir()] == [clip.name]


def test_float_images_and_odd_sizes(tmp_path):
    pytest.importorskip("av")
    with VideoWriter(tmp_path / "a.mp4") as video:
        video.write(torch.full((3, 33, 49), 0.5))
    (only,) = read_video(tmp_path / "a.mp4")
    assert only.image.shape == (3, 32, 48)
    assert only.seconds == pytest.approx(1 / 30)


def test_rounded_times_of_a_gif_add_up(tmp_path):
    with VideoWriter(tmp_path / "a.gif") as video:
        for _ in range(30):
            video.write(frame(0), seconds=1 / 30)
    assert sum(each.seconds for each in read_video(tmp_path / "a.gif")) == pytest.approx(1)


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_memory_does_not_grow_with_the_frames(tmp_path, suffix):
    if suffix == ".mp4":
        pytest.importorskip("av")
    tracemalloc.start()
    with VideoWriter(tmp_path / f"a{suffix}") as video:
        for value in range(40):
            video.write(frame(value, 120, 160), seconds=1 / 30)
    for _ in read_video(tmp_path / f"a{suffix}"):
        pass
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 12 * 3 * 120 * 160


def test_what_fails_leaves_no_file(tmp_path):
    (tmp_path / "a.gif").write_bytes(b"what was there")

    def fail():
        with VideoWriter(tmp_path / "a.gif") as video:
            video.write(frame(0))
            video.write(frame(0, 30))

    with pytest.raises(ValueError, match="first frame's size, 32 × 48 pixels, got 30 × 48"):
        fail()
    with pytest.raises(ValueError, match="at least one frame, got none"):
        VideoWriter(tmp_path / "a.gif").close()
    assert (tmp_path / "a.gif").read_bytes() == b"what was there"
    assert len(list(tmp_path.iterdir())) == 1


def test_bad_frames_and_files(tmp_path):
    with pytest.raises(ValueError, match=r"path must end in \.mp4 or \.gif, got 'a\.avi'"):
        VideoWriter("a.avi")
    with VideoWriter(tmp_path / "a.gif") as video:
        video.write(frame(0))
        with pytest.raises(ValueError, match=r"image must have shape \[3, H, W\], got \[32, 48\]"):
            video.write(frame(0)[0])
        with pytest.raises(TypeError, match=r"image must be uint8 or floating point, got torch\.i"):
            video.write(frame(0).long())
        with pytest.raises(ValueError, match="seconds must be finite and above 0"):
            video.write(frame(0), seconds=0)


def test_what_is_no_video(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such video file"):
        read_video(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="Is a directory"):
        read_video(tmp_path)
    (tmp_path / "a.gif").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"path must be a video that can be decoded, got .*gif"):
        read_video(tmp_path / "a.gif")
    pytest.importorskip("av")
    (tmp_path / "a.mp4").write_bytes(b"text" * 100)
    with pytest.raises(ValueError, match=r"path must be a video that can be decoded, got .*mp4"):
        read_video(tmp_path / "a.mp4")


def test_a_file_without_video_has_no_frames(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match=r"path must be a video with frames, got .*has none"):
        read_video(tmp_path / "a.mp4")


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "av", None)
    for use in (VideoWriter, read_video):
        with pytest.raises(ImportError, match=r"pip install 'fovigraph\[video\]'"):
            use(tmp_path / "a.mp4")
    with VideoWriter(tmp_path / "a.gif") as video:
        video.write(frame(0))
    assert len(list(read_video(tmp_path / "a.gif"))) == 1


def test_the_gaze_rests_until_the_next_fixation():
    path = GazePath([0, 0.5, 2], [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    assert path.at(0) == path.at(0.49) == [0.1, 0.2]
    assert path.at(0.5) == [0.3, 0.4]
    assert path.at(9) == [0.5, 0.6]
    path.check_within(2.1)
    with pytest.raises(ValueError, match="video, which ends at 2 s, got a fixation at 2 s"):
        path.check_within(2)
    with pytest.raises(ValueError, match=r"path must begin at 0 s or before.* got 1 s"):
        GazePath([1], [[0, 0]]).at(0)


@pytest.mark.parametrize(
    ("times", "fixations", "message"),
    [
        ([0, 0], [[0, 0], [0, 0]], r"times must increase, got \[0.0, 0.0\]"),
        ([0, math.nan], [[0, 0], [0, 0]], "times must be finite"),
        ([0, 1], [[0, 0]], r"fixations must have shape \[2, 2\], one for every time"),
        ([0], [[0, 5]], "fixations must be fractions"),
        ([], [], "times must be a list of seconds"),
    ],
)
def test_bad_paths(times, fixations, message):
    with pytest.raises(ValueError, match=message):
        GazePath(times, fixations)


def test_a_path_from_a_file(tmp_path):
    (tmp_path / "a.csv").write_text("seconds, row, column\n0, 0.5, 0.25\n1.5,0,1\n")
    entries = [{"seconds": 0, "row": 0.5, "column": 0.25}, {"seconds": 1.5, "row": 0, "column": 1}]
    (tmp_path / "a.json").write_text(json.dumps(entries))
    for name in ("a.csv", "a.json"):
        path = read_gaze_path(tmp_path / name)
        assert path.times.tolist() == [0, 1.5]
        assert path.fixations.tolist() == [[0.5, 0.25], [0, 1]]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "time,row,column\n0,0,0", "must have the columns seconds, row, column"),
        ("a.csv", "", "must have the columns"),
        ("a.csv", "seconds,row,column\n", "path must have at least one fixation"),
        ("a.csv", "seconds,row,column\n0,0.5,x", "fixation 1 of .* must have numbers"),
        ("a.csv", "seconds,row,column\n0,0.5", "fixation 1 of .* must have numbers"),
        ("a.csv", "seconds,row,column\n0,0,0\n0,1,1", "times must increase"),
        ("a.csv", "seconds,row,column\n0,0,inf", "fixation 1 of .* must be finite"),
        ("a.json", "{", "path must be a JSON file"),
        ("a.json", "{}", "must hold a list of fixations"),
        ("a.json", "[[0, 1, 1]]", "fixation 1 of .* must have numbers"),
        ("a.txt", "", "the suffix of path must be one of '.csv', '.json'"),
    ],
)
def test_bad_files_of_paths(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_gaze_path(tmp_path / name)


@pytest.mark.parametrize("space", ["visual", "cortical", "v1like"])
def test_a_raster_is_what_cells_are(array, space):
    colors = torch.rand(len(array), 3)
    picture = Raster(array, 60, space)(colors)
    ax = plot_samples(array, colors, space=space, eccentricities=False).axes[0]
    inside = picture[3] > 0
    assert 0.3 < inside.float().mean() < 1
    drawn = {tuple(each) for each in picture[:3, inside].T.tolist()}
    cells = (ax.collections[0].get_facecolors()[:, :3] * 255).round().astype(int)
    assert drawn <= {tuple(each) for each in cells.tolist()}
    assert (picture[:3, ~inside] == 0).all()


def test_masked_nodes_are_in_no_raster():
    eye = fg.SensorArray(8, layout="warped_cartesian")
    colors = torch.where(eye.mask[:, None], 1.0, 0.5).expand(-1, 3)
    picture = Raster(eye, 40)(colors)
    assert set(picture[0, picture[3] > 0].tolist()) == {255}


def test_frames_of_a_scan_path(array, image):
    frames = EyeFrames(fg.Retina(array), height=40, space=None)
    shown = list(scan_path_frames(frames, image, [[0.5, 0.5], [0.2, 0.8]], 40.0))
    assert [each.shape for each in shown] == [(3, 40, 60 + 8 + 40)] * 2
    assert not torch.equal(shown[0][..., :60], shown[1][..., :60])  # where the gaze is
    assert not torch.equal(shown[0][..., 68:], shown[1][..., 68:])  # what it sees
    wide = EyeFrames(fg.Retina(array), height=40)(image, (0.5, 0.5), (40, 40))
    assert wide.shape[2] > shown[0].shape[2]
    flat = EyeFrames(fg.Retina(fg.SensorArray(8, layout="uniform_square")), height=40)
    assert flat(image, (0.5, 0.5), (40, 40)).shape[2] == shown[0].shape[2]


def test_bad_frames(array, image):
    frames = EyeFrames(fg.Retina(array), height=40)
    with pytest.raises(ValueError, match="fixations must be those of one image"):
        scan_path_frames(frames, image, torch.zeros(1, 2, 2), 40)
    with pytest.raises(ValueError, match="sizes must broadcast"):
        scan_path_frames(frames, image, [[0.5, 0.5]], torch.ones(3, 2))
    with pytest.raises(ValueError, match="image must be a single one"):
        frames(torch.rand(2, 3, 8, 8), (0.5, 0.5), (8, 8))
    with pytest.raises(ValueError, match="space must be one of 'cortical', 'schwartz'"):
        EyeFrames(fg.Retina(array), space="visual")
