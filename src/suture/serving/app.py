"""The web application: what is asked is checked before it is let in, and what is let in is answered."""

import asyncio
import base64
import binascii
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from suture.errors import DataError, SutureError, UnsupportedFormat
from suture.inputs import Input, opened_image
from suture.multitask import AUTO, MultiTaskModel
from suture.serving.batcher import Batcher, Busy
from suture.serving.limits import Limits

try:
    import uvicorn
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse, PlainTextResponse, Response
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
    from starlette.exceptions import HTTPException
except ImportError as missing:
    raise UnsupportedFormat(f"serving needs {missing.name}, which is not installed: pip install 'suture[serve]'") from missing


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

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return Response(status_code=307, headers={"location": "/docs"})

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Say whether the model answers: one input goes through it."""
        await batcher.predict([model.backbone.sample], [model.tasks[0]])
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

    @app.post("/predict", response_model=Answers, response_model_exclude_none=True, openapi_extra=_body())
    async def predict(request: Request) -> Answers:
        """Say what inputs are."""
        started = time.perf_counter()
        question = _read(await _body_of(request, limits))
        inputs = _let_in(question, model, limits)
        try:
            found = await batcher.predict(inputs, [question.task] * len(inputs))
        except Busy as error:
            raise Refused(503, "too much waits; ask again in a moment") from error
        except SutureError as error:
            raise Refused(422, str(error)) from error
        for each in found:
            figures.inputs.labels(each.task).inc()
        figures.seconds.observe(time.perf_counter() - started)
        return Answers(predictions=[Answer.model_validate(each.told(routed=question.task == AUTO)) for each in found])

    return app


def _body() -> dict[str, Any]:
    """Describe the body, which is read by hand: its size is looked at while it comes."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": Question.model_json_schema()}}}}


async def _body_of(request: Request, limits: Limits) -> bytes:
    """Return a request's body; raises :class:`Refused` for one that is too large, or takes too long to come."""
    told = request.headers.get("content-length", "0")
    if not told.isdecimal() or int(told) > limits.bytes:
        raise Refused(413, f"the body holds {told} bytes; at most {limits.bytes} are taken")
    body = bytearray()
    try:
        async with asyncio.timeout(limits.patience):
            async for part in request.stream():
                body += part
                if len(body) > limits.bytes:
                    raise Refused(413, f"the body holds more than {limits.bytes} bytes")
    except TimeoutError as error:
        raise Refused(408, f"the body did not come within {limits.patience:g} seconds") from error
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
        raise Refused(422, f"unknown task {question.task!r}; expected auto or one of {', '.join(model.tasks)}")
    if model.backbone.kind == "image":
        return [_image(place, each) for place, each in enumerate(question.inputs)]
    if (longest := max(map(len, question.inputs))) > limits.characters:
        raise Refused(413, f"a text of {longest} characters; at most {limits.characters} are taken")
    return list(question.inputs)


def _image(place: int, encoded: str) -> Image.Image:
    try:
        return opened_image(Image.open(BytesIO(base64.b64decode(encoded, validate=True))))
    except (binascii.Error, OSError, ValueError, DataError, Image.DecompressionBombError) as error:
        raise Refused(422, f"inputs.{place}: not the base64 of an image that can be read: {error}") from error


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
        except Exception as error:
            figures.requests.labels("500").inc()
            raise error from None
        figures.requests.labels(str(answer.status_code)).inc()
        return answer


def serve(model: MultiTaskModel, limits: Limits, host: str, port: int) -> None:
    """Serve a model until the process is told to stop; what has been let in by then is answered."""
    uvicorn.run(
        make_app(model, limits),
        host=host,
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=30,
        h11_max_incomplete_event_size=16384,
    )
