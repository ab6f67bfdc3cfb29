"""The table of a run's figures: what is kept of it when the run goes on."""

import pytest

from fovigraph.train.metrics import CSVFile

COLUMNS = ["epoch", "loss", "test_loss"]


def table(path, step=0, epoch=0):
    return CSVFile(path, COLUMNS, step, epoch)


@pytest.fixture
def path(tmp_path):
    """A table of four steps and two epochs."""
    path = tmp_path / "metrics.csv"
    file = table(path)
    for step in (1, 2, 3, 4):
        file.write(step, {"epoch": (step - 1) // 2, "loss": 1 / step})
        if step % 2 == 0:
            file.write(step, {"epoch": step // 2, "loss": 1 / step, "test_loss": 2 / step})
    return path


def test_rows_are_what_was_measured(path):
    assert path.read_text().splitlines() == [
        "step,epoch,loss,test_loss",
        "1,0,1.0,",
        "2,0,0.5,",
        "2,1,0.5,1.0",
        f"3,1,{1 / 3},",
        "4,1,0.25,",
        "4,2,0.25,0.5",
    ]


@pytest.mark.parametrize(
    ("step", "epoch", "rows"),
    [(0, 0, 0), (1, 0, 1), (2, 0, 2), (2, 1, 3), (3, 1, 4), (4, 1, 5), (4, 2, 6), (9, 9, 6)],
)
def test_a_run_that_goes_on_keeps_the_rows_it_has_behind_it(path, step, epoch, rows):
    before = path.read_bytes().splitlines(keepends=True)
    table(path, step, epoch)
    assert path.read_bytes() == b"".join(before[: 1 + rows])
    assert [file.name for file in path.parent.iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize("rest", [b"5", b"5,2", b"5,2,0.1", b"1,0", b"x,y,z,\r\n", b"\0\xff\0,"])
def test_rows_that_are_not_whole_are_left_out(path, rest):
    before = path.read_bytes()
    path.write_bytes(before + rest)
    table(path, 9, 9)
    assert path.read_bytes() == before


def test_a_table_that_is_gone_begins_anew(path):
    path.unlink()
    table(path, 4, 2).write(5, {"epoch": 2, "loss": 0.2})
    assert path.read_text().splitlines() == ["step,epoch,loss,test_loss", "5,2,0.2,"]
