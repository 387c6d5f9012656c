"""Jobs: requests whose callers do not wait; bounded in number and size, and forgotten after a while."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from goca.server.answers import Answer
from goca.server.refusals import RETRY_AFTER, Refusal, refusal_of
from goca.server.service import Caller, Service

Run = Callable[[Caller], Awaitable[Answer]]
KEPT_BYTES = 256 * 2**20  # of all results
UNKNOWN = "there is no such job, or its result is not kept any more; send the request again"


@dataclass(eq=False)
class Job:
    """A request that is worked on without its caller."""

    run: Run
    caller: Caller = field(default_factory=Caller)
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    answer: Answer | None = None
    error: Refusal | None = None
    finished: float | None = None
    task: asyncio.Task[None] | None = None

    async def work(self) -> None:
        """Run to the end and keep the answer, or why there is none."""
        try:
            self.answer = await self.run(self.caller)
        except Exception as error:
            self.error = refusal_of(error)
        finally:
            self.finished = time.monotonic()

    @property
    def state(self) -> str:
        """waiting, running, done or failed."""
        if self.finished is not None:
            return "failed" if self.answer is None else "done"
        work = self.caller.work
        return "running" if work is not None and work.future.running() else "waiting"


class Jobs:
    """The jobs of one service."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._jobs: dict[str, Job] = {}

    def start(self, run: Run) -> Job:
        """Begin a job.

        Raises:
            Refusal: 429, as many are kept as may, and none of them is finished.
        """
        self._forget()
        if len(self._jobs) >= self.service.settings.jobs:
            finished = [job for job in self._jobs.values() if job.finished is not None]
            if not finished:
                raise Refusal(429, "too many jobs wait; try again later", RETRY_AFTER)
            del self._jobs[finished[0].id]
        job = Job(run)
        self._jobs[job.id] = job
        job.task = asyncio.get_running_loop().create_task(job.work())
        return job

    def get(self, name: str) -> Job:
        """The job with that id.

        Raises:
            Refusal: 404.
        """
        self._forget()
        if name not in self._jobs:
            raise Refusal(404, UNKNOWN)
        return self._jobs[name]

    def stop(self, job: Job) -> None:
        """Give up a job and forget it."""
        if job.task is not None:
            job.task.cancel()
        self._jobs.pop(job.id, None)

    def close(self) -> None:
        """Give up all jobs."""
        for job in list(self._jobs.values()):
            self.stop(job)

    def describe(self, job: Job) -> dict[str, Any]:
        """State, progress, and where the result is."""
        work = job.caller.work
        before = None if work is None or job.finished is not None else self.service.worker.position(work)
        done, steps = (0, 0) if work is None else work.progress
        progress = 1.0 if job.answer is not None else done / steps if steps else 0.0
        return {
            "id": job.id,
            "state": job.state,
            "before": before,
            "progress": round(progress, 3),
            "url": f"/v1/jobs/{job.id}",
            "result": f"/v1/jobs/{job.id}/result" if job.answer is not None else None,
            **({"error": job.error.reason} if job.error is not None else {}),
        }

    def _forget(self) -> None:
        """Let go of results that are too old, or, from the oldest on, of more than may be kept."""
        oldest = time.monotonic() - self.service.settings.job_seconds
        for job in list(self._jobs.values()):
            if job.finished is not None and job.finished < oldest:
                del self._jobs[job.id]
        kept = [job for job in self._jobs.values() if job.answer is not None]
        size = sum(len(job.answer.content) for job in kept if job.answer is not None)
        for job in kept[:-1]:
            if size > KEPT_BYTES and job.answer is not None:
                size -= len(job.answer.content)
                del self._jobs[job.id]
