"""The server: answers, what it refuses, and in what time."""

import asyncio
import io
import json
import socket
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient

import fovigraph as fg
from fovigraph.cli import main
from fovigraph.serve import Limits, create_app
from fovigraph.serve.limits import Admission, Refusal, receive


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return fg.FoviNet(fg.load_config("fovi_tiny")).eval()


@pytest.fixture(scope="module")
def client(net):
    limits = Limits(file_bytes=200_000, pixels=100_000, fixations=3)
    with TestClient(create_app(net, limits, name="<tiny>")) as client:
        yield client


def file_of(height=48, width=64, kind="PNG"):
    pixels = np.random.default_rng(height).integers(0, 255, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return pixels, file.getvalue()


def test_an_answer_is_the_networks(net, client):
    pixels, file = file_of()
    answer = client.post("/predict?top=3", content=file)
    assert answer.status_code == 200
    told = answer.json()
    [expected] = net.predict(pixels, top=3)
    assert [each["class"] for each in told["top"]] == [name for name, _ in expected.top]
    assert told["probability"] == pytest.approx(expected.probability, rel=1e-4)
    assert (told["class"], len(told["top"])) == (expected.name, 3)
    where = [[each["row"], each["column"]] for each in told["fixations"]]
    np.testing.assert_allclose(where, expected.fixations, atol=1e-6)


def test_one_may_say_where_to_look(net, client):
    pixels, file = file_of(kind="BMP")
    places = [[0.25, 0.5], [0.75, 0.125]]
    told = client.post("/predict", params={"fixations": json.dumps(places)}, content=file).json()
    [expected] = net.predict(pixels, fixations=places)
    assert told["probability"] == pytest.approx(expected.probability, rel=1e-4)
    assert [[each["row"], each["column"]] for each in told["fixations"]] == places


def test_many_at_once_get_their_own_answers(net, client):
    files = [file_of(40 + i, 50) for i in range(24)]
    told = [None] * len(files)

    def ask(i):
        places = [[0.5, 0.5]] * (1 + i % 3)
        where = {"fixations": json.dumps(places)}
        told[i] = client.post("/predict", params=where, content=files[i][1]).json()

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(files))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, (pixels, _) in enumerate(files):
        [expected] = net.predict(pixels, fixations=[[0.5, 0.5]] * (1 + i % 3))
        assert told[i]["probability"] == pytest.approx(expected.probability, rel=1e-4)


@pytest.mark.parametrize(
    ("query", "content", "status", "message"),
    [
        ("", b"", 400, "must be an image file"),
        ("", b"no image", 400, "must be an image file"),
        ("", file_of()[1][:1000], 400, "cannot read the image"),
        ("", file_of(400, 300, "JPEG")[1], 413, "at most 100,000 pixels"),
        ("", bytes(200_001), 413, "at most 200,000 bytes"),
        ("?top=0", file_of()[1], 422, "top must be a whole number from 1"),
        ("?top=many", file_of()[1], 422, "top must be a whole number from 1"),
        ("?fixations=0.5", file_of()[1], 422, "fixations must"),
        ("?fixations=[[0.5,]]", file_of()[1], 422, "fixations must"),
        ("?fixations=[[9,9]]", file_of()[1], 422, "-1 to 2 is allowed"),
        ("?fixations=[[NaN,0]]", file_of()[1], 422, "must be finite"),
        ("?fixations=[]", file_of()[1], 422, "fixations must"),
        ("?fixations=" + str([[0.5, 0.5]] * 4), file_of()[1], 422, "at most 3 fixations, got 4"),
    ],
)
def test_what_cannot_be_answered_is_refused(client, query, content, status, message):
    answer = client.post(f"/predict{query}", content=content)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert message in answer.json()["error"]


def test_health_metrics_and_the_model_can_be_read(net, client):
    client.post("/predict", content=file_of()[1])
    client.post("/predict", content=b"no image")
    assert client.get("/health").json() == {"status": "ok"}
    told = client.get("/metrics").text
    for line in ('fovigraph_answers_total{status="200"}', 'fovigraph_answers_total{status="400"}'):
        assert line in told
    assert "fovigraph_batch_count" in told and "fovigraph_requests 0.0" in told
    about = client.get("/model").json()
    assert (about["name"], about["classes"]) == ("<tiny>", net.class_names)


def test_the_page_is_whole_and_asks_nobody_else(net, client):
    page = client.get("/").text
    assert "<title>fovigraph: &lt;tiny&gt;</title>" in page and "{{" not in page
    assert "http:" not in page and "https:" not in page
    [model] = page.split('id="model">')[1:]
    assert len(json.loads(model.split("</script>")[0])["nodes"]) == len(net.retina.array)


def test_too_many_at_once_are_told_to_come_back():
    admission = Admission(Limits(requests=2, file_bytes=10, waiting_bytes=15))
    with admission.admit(6):
        with pytest.raises(Refusal) as refused, admission.admit(None):  # may have all ten
            pass
        assert refused.value.status == 429
        with admission.admit(5), pytest.raises(Refusal) as refused, admission.admit(1):
            pass
        assert refused.value.status == 429
    assert (admission.requests, admission.bytes) == (0, 0)


def test_a_request_that_is_slow_or_endless_is_given_up():
    async def slow():
        while True:
            await asyncio.sleep(0.01)
            yield b"."

    async def endless():
        while True:
            yield bytes(1000)

    for stream, status in ((slow(), 408), (endless(), 413)):
        with pytest.raises(Refusal) as refused:
            asyncio.run(receive(stream, Limits(seconds=0.1, file_bytes=10_000)))
        assert refused.value.status == status


def test_a_connection_without_a_request_is_closed():
    uvicorn = pytest.importorskip("uvicorn")
    from fovigraph.serve.run import _patience

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    config = uvicorn.Config(app, http=_patience(0.2), log_level="error", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            with socket.create_connection(listening.getsockname(), timeout=20) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"204" in connection.recv(1000)
                connection.sendall(b"GET / HTT")
                began = time.perf_counter()
                assert connection.recv(1000) == b""
                assert time.perf_counter() - began < 15
        finally:
            server.should_exit = True
            thread.join()


@pytest.mark.parametrize("change", [{"pixels": 0}, {"seconds": -1.0}, {"batch": 2.5}])
def test_limits_must_be_above_zero(change):
    with pytest.raises((ValueError, TypeError), match=next(iter(change))):
        Limits(**change)


def test_a_network_without_classes_is_refused():
    net = fg.FoviNet(fg.load_config("fovi_tiny", overrides=["head.num_classes=0"]))
    with pytest.raises(ValueError, match="net must have classes"):
        create_app(net)


def test_a_port_in_use_is_said_before_the_network_is_built(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "fovi_tiny", "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert f"cannot listen at 127.0.0.1, port {port}" in said and "--port" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "70000"], "from 0 to 65535"),
        (["--max-megabytes", "0"], "from 0.001"),
        (["--host", "no.such.host.invalid"], "cannot listen at no.such.host.invalid"),
    ],
)
def test_wrong_options_are_refused(words, message, capsys):
    assert main(["serve", "fovi_tiny", *words]) == 2
    assert message in capsys.readouterr().err
