"""The web application: a page, predictions, health and metrics."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import torch
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from torch import Tensor

from fovigraph import __version__, _pages
from fovigraph._checks import instance
from fovigraph.models import FoviNet, optimize
from fovigraph.models.fovinet import check_fovinet
from fovigraph.sensing.fixation import as_fixations
from fovigraph.serve.answering import Answerer
from fovigraph.serve.limits import Admission, Limits, Refusal, receive

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Bounds of the histogram of batches."""


class Metrics:
    """What Prometheus reads of a server."""

    def __init__(self, admission: Admission):
        self.registry = registry = CollectorRegistry()
        self.answers = Counter(
            "fovigraph_answers",
            "Requests that were answered, by status",
            ["status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "fovigraph_seconds", "Seconds that predictions took", registry=registry
        )
        self.batch = Histogram(
            "fovigraph_batch",
            "Images that were computed together",
            buckets=BATCHES,
            registry=registry,
        )
        waiting = Gauge("fovigraph_requests", "Requests that are being answered", registry=registry)
        waiting.set_function(lambda: admission.requests)


def create_app(net: FoviNet, limits: Limits | None = None, *, name: str = "network") -> FastAPI:
    """Make a web application that classifies images with a network.

    - ``POST /predict``, the body an image file: the likeliest classes, as JSON, and what each
      fixation says. ``?fixations=[[row, column], …]``, fractions of the image's height and width,
      says where to look, ``?top=3`` how many classes to name.
    - ``GET /``: a page to try it with a camera or a photograph.
    - ``GET /model``: classes, and how it looks.
    - ``GET /health`` and ``GET /metrics``, for those who run it.

    Args:
        net: The network; an optimised copy answers.
        limits: What is accepted; ``None``: :class:`Limits` as it is.
        name: What the page calls the network.

    Returns:
        An application of FastAPI, for any ASGI server.

    Raises:
        ValueError, TypeError: If ``net`` is no FoviNet or has no classes, or ``limits`` are none.

    Example:
        >>> import fovigraph as fg
        >>> from fovigraph.serve import create_app
        >>> app = create_app(fg.FoviNet.from_pretrained("fovi_cifar10"), name="fovi_cifar10")
    """
    check_fovinet("net", net)
    limits = instance("limits", Limits() if limits is None else limits, Limits)
    if not net.class_names:
        raise ValueError("net must have classes to predict, got num_classes=0")
    admission = Admission(limits)
    metrics = Metrics(admission)
    answerer = Answerer(optimize(net), limits, metrics.batch.observe)  # type: ignore[arg-type]

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        answerer.close()

    app = FastAPI(
        title="fovigraph", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    page = _page(net, name)

    @app.get("/", response_class=HTMLResponse)
    async def show_page() -> str:
        return page

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics")
    async def read_metrics() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/model")
    async def model() -> dict[str, Any]:
        return _about(net, name)

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        began = time.perf_counter()
        with admission.admit(_length(request)):
            top = _top(request.query_params.get("top", "5"))
            fixations = _fixations(request.query_params.get("fixations"), limits)
            file = await receive(request.stream(), limits)
            answer = await answerer.answer(file, fixations, top)
        metrics.seconds.observe(time.perf_counter() - began)
        metrics.answers.labels("200").inc()
        return answer

    @app.exception_handler(Refusal)
    async def refuse(request: Request, refusal: Refusal) -> JSONResponse:
        metrics.answers.labels(str(refusal.status)).inc()
        headers = {"Retry-After": "1"} if refusal.status == 429 else {}
        if refusal.status in (408, 413, 429):  # what is still to come is not read
            headers["Connection"] = "close"
        return JSONResponse({"error": refusal.message}, refusal.status, headers)

    return app


def _about(net: FoviNet, name: str) -> dict[str, Any]:
    """Say what a client needs to know of a network."""
    return {
        "name": name,
        "classes": net.class_names,
        "fixations": net.fixation_policy.count,
        "nodes": len(net.retina.array),
        "version": __version__,
    }


def _page(net: FoviNet, name: str) -> str:
    places = [[round(x, 5), round(y, 5)] for x, y in net.retina.array.cartesian.tolist()]
    size = net.retina.fixation_size
    return _pages.page(
        _asset("page.html"),
        f"fovigraph: {name}",
        _asset("page.css"),
        allows="script-src 'unsafe-inline'; connect-src 'self'; ",
        nodes=f"{len(places):,}",
        model=_pages.as_json({"nodes": places, "view": None if size is None else list(size)}),
        script=_asset("page.js"),
    )


def _asset(name: str) -> str:
    return _pages.asset("fovigraph.serve", "page", name)


def _length(request: Request) -> int | None:
    given = request.headers.get("content-length")
    if given is None:
        return None
    if not given.isdecimal():
        raise Refusal(400, f"Content-Length must be a whole number, got {given!r}")
    return int(given)


def _top(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= 10_000):
        raise Refusal(422, f"top must be a whole number from 1 to 10000, got {text[:40]!r}")
    return int(text)


def _fixations(text: str | None, limits: Limits) -> Tensor | None:
    if text is None:
        return None
    try:
        given = torch.tensor(json.loads(text), dtype=torch.float32)
        if given.ndim != 2:
            raise ValueError(f"fixations must have shape [F, 2], got {list(given.shape)}")
        places = as_fixations(given)
    except (ValueError, TypeError, RuntimeError, RecursionError, OverflowError) as error:
        wanted = "fixations must be a list of [row, column], such as [[0.5, 0.5]]"
        raise Refusal(422, f"{wanted}: {' '.join(str(error).split())[:200]}") from None
    if len(places) > limits.fixations:
        message = f"there must be at most {limits.fixations} fixations, got {len(places)}"
        raise Refusal(422, message)
    return places
