"""Requests that come together are drawn together, up to a batch."""

import threading

from tiny_generator import tiny_generator

from cm3leon_jax.sampling.parts import ImageHole
from cm3leon_jax.sampling.requests import Request
from cm3leon_jax.sampling.rules import SamplingConfig
from cm3leon_jax.serving.scheduler import Scheduler


def test_what_waits_is_drawn_together(monkeypatch):
    generator = tiny_generator()
    drawn, run, ended = [], generator.run, threading.Semaphore(0)

    def counted(prompts, *arguments, **options):
        drawn.append(len(prompts))
        return run(prompts, *arguments, **options)

    monkeypatch.setattr(generator, "run", counted)
    scheduler = Scheduler(generator, batch_size=4)
    events = []

    def tell(event):
        events.append(event)
        if event["event"] == "done":
            ended.release()

    request = Request(("cat", ImageHole()), SamplingConfig(), samples=1)
    large = Request(("cat", ImageHole()), SamplingConfig(), samples=6)
    tickets = [scheduler.submit(each, tell) for each in (request, request, request, large, request, request)]
    assert [event["before"] for event in events] == [0, 1, 2, 3, 4, 5]
    tickets[1].cancel()
    scheduler.start()
    for _ in range(5):
        assert ended.acquire(timeout=120)
    scheduler.stop()
    assert drawn == [2, 1, 2]  # one has gone; that of six does not fit beside the others
