"""Requests of several clients, put together into batches, which one thread takes through the model."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from suture.errors import DataError, SutureError
from suture.inputs import Input
from suture.multitask import MultiTaskModel, Prediction
from suture.serving.limits import Limits


class Busy(Exception):
    """More waits than is let in."""


@dataclass(eq=False)
class Job:
    """One request: its inputs, the task of each, and where the answer goes."""

    inputs: Sequence[Input]
    tasks: Sequence[str]
    answer: "asyncio.Future[list[Prediction]]" = field(repr=False)


class Batcher:
    """A queue of jobs, and a task that takes them through the model: the first that waits, and whatever comes within a moment.

    What a batch raises is each job's own: when a batch fails its jobs are taken one by one, so that one bad input spoils no other's
    answer. A job whose client has gone is dropped before it costs anything.
    """

    def __init__(self, model: MultiTaskModel, limits: Limits) -> None:
        self.model, self.limits = model, limits
        self.batches = 0
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="suture")
        self._runner: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many inputs wait or are looked at."""
        return self._waiting

    def start(self) -> None:
        """Begin to take jobs; to be called where the event loop runs."""
        self._runner = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Finish what has been let in, then end."""
        await self._jobs.join()
        if self._runner is not None:
            self._runner.cancel()
        self._thread.shutdown(wait=True)

    async def predict(self, inputs: Sequence[Input], tasks: Sequence[str]) -> list[Prediction]:
        """Return what the model makes of inputs; raises :class:`Busy`, and what the model raises."""
        if self._waiting + len(inputs) > self.limits.queue:
            raise Busy
        job = Job(inputs, tasks, asyncio.get_running_loop().create_future())
        self._waiting += len(inputs)
        self._jobs.put_nowait(job)
        return await job.answer

    async def _run(self) -> None:
        while True:
            jobs = await self._gathered()
            try:
                await self._answer([job for job in jobs if not job.answer.cancelled()])
            finally:
                for job in jobs:
                    self._waiting -= len(job.inputs)
                    self._jobs.task_done()

    async def _gathered(self) -> list[Job]:
        """Return the first job, and those that come in time, up to a batch."""
        jobs = [await self._jobs.get()]
        loop = asyncio.get_running_loop()
        until = loop.time() + self.limits.wait
        while sum(len(job.inputs) for job in jobs) < self.limits.batch:
            try:
                jobs.append(self._jobs.get_nowait())
            except asyncio.QueueEmpty:
                if (left := until - loop.time()) <= 0:
                    break
                try:
                    jobs.append(await asyncio.wait_for(self._jobs.get(), left))
                except TimeoutError:
                    break
        return jobs

    async def _answer(self, jobs: Sequence[Job]) -> None:
        if not jobs:
            return
        self.batches += 1
        try:
            found = await self._predicted(jobs)
        except SutureError as error:
            if len(jobs) == 1:
                _fail(jobs[0], error)
            else:
                for job in jobs:
                    await self._answer([job])
            return
        except Exception as error:
            for job in jobs:
                _fail(job, error)
            return
        start = 0
        for job in jobs:
            if not job.answer.done():
                job.answer.set_result(found[start : start + len(job.inputs)])
            start += len(job.inputs)

    async def _predicted(self, jobs: Sequence[Job]) -> list[Prediction]:
        inputs = [each for job in jobs for each in job.inputs]
        tasks = [task for job in jobs for task in job.tasks]
        found = await asyncio.get_running_loop().run_in_executor(self._thread, self.model.predict, inputs, tasks)
        if len(found) != len(inputs):
            raise DataError(f"{len(inputs)} inputs, but {len(found)} answers")
        return found


def _fail(job: Job, error: Exception) -> None:
    if not job.answer.done():
        job.answer.set_exception(error)
