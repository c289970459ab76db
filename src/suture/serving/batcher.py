"""Requests of several clients, put together into batches, which one thread takes through the model."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from suture.errors import DataError, UnknownName
from suture.inputs import Input
from suture.multitask import MultiTaskModel, Prediction
from suture.serving.limits import Limits


class Busy(Exception):
    """More waits than is let in."""


@dataclass(eq=False)
class Job:
    """One request: its inputs, the task of each, the bytes that it holds, and where the answer goes."""

    inputs: Sequence[Input]
    tasks: Sequence[str]
    size: int
    answer: "asyncio.Future[list[Prediction]]" = field(repr=False)


class Batcher:
    """A queue of jobs, and a task that takes them through the model: the first that waits, and whatever comes within a moment.

    A job is never cut, and a batch is not made larger than its limit by joining jobs. When a batch fails it is halved, until what fails
    stands alone: one bad input spoils no other's answer. A job whose client has gone is dropped before it costs anything.
    """

    def __init__(self, model: MultiTaskModel, limits: Limits) -> None:
        self.model, self.limits = model, limits
        self.batches, self.failing = 0, False
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()
        self._waiting = self._held = 0
        self._next: Job | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="suture")
        self._runner: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many inputs wait or are looked at."""
        return self._waiting

    @property
    def running(self) -> bool:
        """Whether jobs are taken; ``failing`` says whether the last one failed, and not for what a client had sent."""
        return self._runner is not None and not self._runner.done()

    def start(self) -> None:
        """Begin to take jobs; to be called where the event loop runs."""
        self._runner = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Finish what has been let in, then end."""
        await self._jobs.join()
        if self._runner is not None:
            self._runner.cancel()
        self._thread.shutdown(wait=True)

    async def predict(self, inputs: Sequence[Input], tasks: Sequence[str], size: int = 0) -> list[Prediction]:
        """Return what the model makes of inputs, which hold some bytes; raises :class:`Busy`, and what the model raises.

        To cancel it drops the job, unless it is being looked at.
        """
        if self._waiting + len(inputs) > self.limits.queue or self._held + size > self.limits.held:
            raise Busy
        job = Job(inputs, tasks, size, asyncio.get_running_loop().create_future())
        self._waiting += len(inputs)
        self._held += size
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
                    self._held -= job.size
                    self._jobs.task_done()

    async def _gathered(self) -> list[Job]:
        """Return the first job, and those that come in time and fit into a batch with it; one that does not fit is the next's first."""
        first, self._next = self._next or await self._jobs.get(), None
        jobs, loop = [first], asyncio.get_running_loop()
        until = loop.time() + self.limits.wait
        while (room := self.limits.batch - sum(len(job.inputs) for job in jobs)) > 0:
            try:
                job = (
                    await asyncio.wait_for(self._jobs.get(), max(until - loop.time(), 0)) if self._jobs.empty() else self._jobs.get_nowait()
                )
            except TimeoutError:
                break
            if len(job.inputs) > room:
                self._next = job
                break
            jobs.append(job)
        return jobs

    async def _answer(self, jobs: Sequence[Job]) -> None:
        """Answer jobs together or, if that fails, in halves."""
        if not jobs:
            return
        self.batches += 1
        try:
            found = await self._predicted(jobs)
        except Exception as error:  # whatever it is, it is for the client to hear of, and the server goes on
            if len(jobs) > 1:
                await self._answer(jobs[: len(jobs) // 2])
                await self._answer(jobs[len(jobs) // 2 :])
                return
            self.failing = not isinstance(error, DataError | UnknownName)
            if not jobs[0].answer.done():
                jobs[0].answer.set_exception(error)
            return
        self.failing, start = False, 0
        for job in jobs:
            if not job.answer.done():
                job.answer.set_result(found[start : start + len(job.inputs)])
            start += len(job.inputs)

    async def _predicted(self, jobs: Sequence[Job]) -> list[Prediction]:
        inputs = [each for job in jobs for each in job.inputs]
        tasks = [task for job in jobs for task in job.tasks]
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.model.predict, inputs, tasks)
