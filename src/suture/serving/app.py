"""The web application: what is asked is checked before it is let in, and what is let in is answered."""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from suture.errors import DataError, OutputError, UnknownName, UnsupportedFormat
from suture.inputs import Input
from suture.multitask import AUTO, MultiTaskModel, Prediction
from suture.serving.batcher import Batcher, Busy
from suture.serving.limits import Limits
from suture.serving.pictures import sent_picture

try:
    import uvicorn
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse, PlainTextResponse, Response
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect

    from suture.serving.protocol import impatient
except ImportError as missing:
    raise UnsupportedFormat(f"serving needs {missing.name}, which is not installed: pip install 'suture[serve]'") from missing


GONE = 499
"""The status, which nobody sees but the figures, of a request whose client has gone."""
DRAINED = 8
"""How many times the largest body is read, and dropped, so that a client can hear why it is refused."""
POLL = 0.25
"""Seconds between looks whether a client is still there."""

log = logging.getLogger("suture.serving")


class Question(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    inputs: list[str] = Field(min_length=1)
    """Texts; or images, each the base64 of an image file."""
    task: str = AUTO
    """A task's name, or ``auto``: the model finds it."""


class Answer(BaseModel):
    """What the model makes of one input."""

    task: str
    label: str
    probability: float
    probabilities: dict[str, float]
    confidence: float | None = None
    """How sure the model is of the task, where it was asked to find it."""
    none_of_these: bool | None = None


class Answers(BaseModel):
    """What the model makes of a request's inputs, in their order."""

    predictions: list[Answer]


class Refused(Exception):
    """A request that is not let in, with its status and one line that says why."""

    def __init__(self, status: int, told: str) -> None:
        super().__init__(told)
        self.status, self.told = status, " ".join(told.split())


class Figures:
    """What the server counts, for Prometheus."""

    def __init__(self, batcher: Batcher) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("suture_requests", "Requests, by their status.", ["status"], registry=self.registry)
        self.inputs = Counter("suture_inputs", "Inputs answered, by their task.", ["task"], registry=self.registry)
        self.seconds = Histogram("suture_request_seconds", "Time from a request's first byte to its answer.", registry=self.registry)
        Gauge("suture_waiting_inputs", "Inputs let in and not answered.", registry=self.registry).set_function(lambda: batcher.waiting)
        Gauge("suture_batches", "Batches taken through the model.", registry=self.registry).set_function(lambda: batcher.batches)


def make_app(model: MultiTaskModel, limits: Limits | None = None) -> FastAPI:
    """Return the application of a model.

    ``POST /predict`` answers ``{"inputs": [...], "task": "auto"}``; ``GET /tasks`` names tasks and classes; ``/health`` says that the
    model answers; ``/metrics`` are Prometheus' figures; ``/docs`` describes them all. A request that is not let in gets a 4xx and one
    line; one that comes when too much waits gets 503.
    """
    limits = limits or Limits()
    batcher = Batcher(model, limits)
    figures = Figures(batcher)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        await batcher.stop()

    app = FastAPI(title="Suture", summary=f"One model for {len(model.tasks)} tasks.", lifespan=lifespan)
    _add_errors(app, figures)
    _add_pages(app, model, batcher, figures)

    @app.post("/predict", response_model=Answers, response_model_exclude_none=True, openapi_extra=_body())
    async def predict(request: Request) -> Answers:
        """Say what inputs are."""
        started = time.perf_counter()
        body = await _body_of(request, limits)
        question = _read(body)
        inputs = _let_in(question, model, limits)
        try:
            found = await _while_there(request, batcher.predict(inputs, [question.task] * len(inputs), len(body)))
        except Busy as error:
            raise Refused(503, "too much waits; ask again in a moment") from error
        except (DataError, UnknownName) as error:
            raise Refused(422, str(error)) from error
        for each in found:
            figures.inputs.labels(each.task).inc()
        figures.seconds.observe(time.perf_counter() - started)
        return Answers(predictions=[Answer.model_validate(each.told(routed=question.task == AUTO)) for each in found])

    return app


def _add_pages(app: FastAPI, model: MultiTaskModel, batcher: Batcher, figures: Figures) -> None:
    """Add what is only read."""

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return Response(status_code=307, headers={"location": "/docs"})

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Say whether the model answers: an idle one is asked, one at work shows it by its last batch."""
        if batcher.running and batcher.waiting == 0:
            with suppress(Exception):  # the batcher remembers that it failed
                await batcher.predict([model.backbone.sample], [model.tasks[0]])
        if batcher.failing or not batcher.running:
            raise Refused(503, "the model does not answer")
        return {"status": "ok"}

    @app.get("/tasks")
    async def tasks() -> dict[str, Any]:
        """Name what may be asked."""
        return {
            "kind": model.backbone.kind,
            "finds_tasks": model.router is not None,
            "tasks": {task: list(model.classes(task)) for task in model.tasks},
        }

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Return Prometheus' figures."""
        return PlainTextResponse(generate_latest(figures.registry), media_type="text/plain; version=0.0.4")


def _body() -> dict[str, Any]:
    """Describe the body, which is read by hand: its size is looked at while it comes."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": Question.model_json_schema()}}}}


async def _while_there(request: Request, work: Coroutine[Any, Any, list[Prediction]]) -> list[Prediction]:
    """Return the answer; work for a client that has gone is cancelled."""
    task = asyncio.create_task(work)
    while not (await asyncio.wait({task}, timeout=POLL))[0]:
        if await request.is_disconnected():
            task.cancel()
            raise Refused(GONE, "the client has gone")
    return task.result()


async def _body_of(request: Request, limits: Limits) -> bytes:
    """Return a request's body; raises :class:`Refused` for one that is too large, or takes too long to come.

    What is too large is read on for a while, and dropped: a client that is still sending would not hear the answer.
    """
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(limits.patience):
            async for part in request.stream():
                size += len(part)
                if size <= limits.bytes:
                    body += part
                elif size > DRAINED * limits.bytes:
                    break
    except TimeoutError as error:
        raise Refused(408, f"the body did not come within {limits.patience:g} seconds") from error
    except ClientDisconnect as error:
        raise Refused(GONE, "the client has gone") from error
    if size > limits.bytes:
        raise Refused(413, f"the body holds more than {limits.bytes} bytes")
    return bytes(body)


def _read(body: bytes) -> Question:
    try:
        return Question.model_validate_json(body)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise Refused(422, f"{where + ': ' if where else ''}{fault['msg']}") from error


def _let_in(question: Question, model: MultiTaskModel, limits: Limits) -> list[Input]:
    """Return the inputs of a question; raises :class:`Refused` for what cannot be answered."""
    if len(question.inputs) > limits.inputs:
        raise Refused(413, f"{len(question.inputs)} inputs; at most {limits.inputs} are taken at once")
    if question.task == AUTO and model.router is None:
        raise Refused(422, f"this model does not find tasks: name one of {', '.join(model.tasks)}")
    if question.task != AUTO and question.task not in model.tasks:
        raise Refused(422, f"unknown task {question.task[:60]!r}; expected auto or one of {', '.join(model.tasks)}")
    if model.backbone.kind == "image":
        try:
            return [sent_picture(each, f"inputs.{place}", limits) for place, each in enumerate(question.inputs)]
        except DataError as error:
            raise Refused(422, str(error)) from error
    if (longest := max(map(len, question.inputs))) > limits.characters:
        raise Refused(413, f"a text of {longest} characters; at most {limits.characters} are taken")
    return list(question.inputs)


def _add_errors(app: FastAPI, figures: Figures) -> None:
    """Make of every failure a line of JSON, and count every answer."""

    @app.exception_handler(Refused)
    async def refused(_request: Request, error: Refused) -> JSONResponse:
        headers = {"retry-after": "1"} if error.status == 503 else {}
        # What is left of the body is not read, so the connection is of no more use.
        headers |= {"connection": "close"} if error.status in (408, 413) else {}
        return JSONResponse({"error": error.told}, error.status, headers)

    @app.exception_handler(HTTPException)
    async def unknown(_request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)

    @app.middleware("http")
    async def counted(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        try:
            answer = await go_on(request)
        except Exception:
            log.exception("a request was not answered")
            answer = JSONResponse({"error": "the server failed at this request; its log says why"}, 500)
        figures.requests.labels(str(answer.status_code)).inc()
        return answer


def serve(model: MultiTaskModel, limits: Limits, host: str, port: int, told: Callable[[str], None] = print) -> None:
    """Serve a model until the process is told to stop; what has been let in by then is answered. ``told`` hears the address.

    Raises what the model raises when it does not answer a first input, and :class:`OutputError` for a place that cannot be listened on.
    """
    model.predict([model.backbone.sample], model.tasks[0])
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise OutputError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    told(f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}")
    config = uvicorn.Config(
        make_app(model, limits),
        http=impatient(limits.patience),
        ws="none",
        log_level="warning",
        limit_concurrency=limits.connections,
        h11_max_incomplete_event_size=16384,
    )
    uvicorn.Server(config).run([listening])
