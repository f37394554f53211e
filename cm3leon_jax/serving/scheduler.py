"""Requests wait in a bounded line; one thread answers as many at once as fit a batch, and tells each how far it is."""

from __future__ import annotations

import collections
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from cm3leon_jax.pages.pieces import data_url
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling.answers import Drawn
from cm3leon_jax.sampling.generate import Unfinished
from cm3leon_jax.sampling.library import RetrievedDocument
from cm3leon_jax.sampling.pipeline import Generator
from cm3leon_jax.sampling.requests import Request

_GATHERING = 0.02  # seconds in which requests that come together find each other
_SHARE_OF_SHOWING = 0.2  # of the time, at most, goes into pictures of what is unfinished

_PATIENCE = 10.0  # seconds for what is being drawn, at the end

Event = dict[str, Any]
"""What a visitor is told, JSON-able, `event` says which: "waiting" (`before`: requests), "documents" (those retrieved),
"progress" (`share` of 1, `samples` by number), and at the end "done" (`samples`, the best first) or "error"
(`message`). Pictures are data URLs."""


class Busy(Exception):
    """As many requests wait as may."""


class Ticket:
    """A request that waits, or is being answered. `tell` is called from the scheduler's thread."""

    def __init__(self, request: Request, tell: Callable[[Event], None]):
        self.request, self.tell = request, tell
        self.cancelled = False

    def cancel(self) -> None:
        """Nobody waits for the answer any more."""
        self.cancelled = True


class Scheduler:
    """Answers requests with a generator, which nobody else uses meanwhile."""

    def __init__(self, generator: Generator, *, batch_size: int = 64, most_waiting: int = 64):
        """`batch_size` samples are drawn at once; of `most_waiting` requests that wait, another is refused."""
        self._generator, self._batch_size, self._most_waiting = generator, batch_size, most_waiting
        self._waiting: collections.deque[Ticket] = collections.deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="scheduler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Gives up what waits and what is being drawn, and waits for the thread, but not for what it may compile."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout=_PATIENCE)

    def submit(self, request: Request, tell: Callable[[Event], None]) -> Ticket:
        """Raises `Busy` where too many wait."""
        ticket = Ticket(request, tell)
        with self._changed:
            self._forget_cancelled()
            if len(self._waiting) >= self._most_waiting:
                raise Busy
            tell({"event": "waiting", "before": len(self._waiting)})
            self._waiting.append(ticket)
            self._changed.notify()
        return ticket

    def _work(self) -> None:
        while tickets := self._next():
            try:
                self._answer(tickets)
            except Exception:  # of one batch: the others are still to be answered
                traceback.print_exc(file=sys.stderr)
                for ticket in tickets:
                    ticket.tell(
                        {"event": "error", "message": "something went wrong here; the log of the server says what"}
                    )

    def _next(self) -> list[Ticket]:
        """Those that are answered together next; none at the end."""
        taken: list[Ticket] = []
        while not taken and not self._stopping:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
            time.sleep(_GATHERING)
            with self._changed:
                self._forget_cancelled()
                room = self._batch_size
                while self._waiting and (not taken or self._waiting[0].request.samples <= room):
                    taken.append(self._waiting.popleft())
                    room -= taken[-1].request.samples
        return [] if self._stopping else taken

    def _forget_cancelled(self) -> None:
        self._waiting = collections.deque(ticket for ticket in self._waiting if not ticket.cancelled)

    def _answer(self, tickets: Sequence[Ticket]) -> None:
        ready, prompts = [], []
        for ticket, asked in zip(tickets, self._generator.ask_all([ticket.request for ticket in tickets]), strict=True):
            if isinstance(asked, UserError):
                ticket.tell({"event": "error", "message": str(asked)})
                continue
            prompt, documents = asked
            ready.append(ticket)
            prompts.append(prompt)
            if documents:
                ticket.tell({"event": "documents", "documents": [_document(document) for document in documents]})
        results = self._generator.run(
            prompts,
            [ticket.request.sampling for ticket in ready],
            [ticket.request.samples for ticket in ready],
            watch=_Showing(self, ready).watch,
        )
        wanted = [(ticket, each) for ticket, each in zip(ready, results, strict=True) if each and not ticket.cancelled]
        for (ticket, _), drawn in zip(wanted, self._generator.drawn([each for _, each in wanted]), strict=True):
            ticket.tell({"event": "done", "samples": [_sample(one) for one in drawn]})

    @property
    def stopping(self) -> bool:
        return self._stopping

    @property
    def generator(self) -> Generator:
        return self._generator


class _Showing:
    """Tells the visitors of a batch what is drawn so far, as often as its cost allows."""

    def __init__(self, scheduler: Scheduler, tickets: Sequence[Ticket]):
        self._scheduler, self._tickets = scheduler, tickets
        self._not_before = 0.0

    def watch(self, unfinished: Unfinished) -> set[int]:
        """-> the places of those who have gone."""
        gone = {place for place, ticket in enumerate(self._tickets) if ticket.cancelled or self._scheduler.stopping}
        started = time.monotonic()
        if started >= self._not_before:
            self._tell(unfinished, gone)
            self._not_before = time.monotonic() + (time.monotonic() - started) / _SHARE_OF_SHOWING
        return gone

    def _tell(self, unfinished: Unfinished, gone: set[int]) -> None:
        generator = self._scheduler.generator
        shown = [one for one in unfinished.generations if one.prompt not in gone]
        with_picture = [one for one in shown if len(one.image)]
        pictures = iter(generator.pictures(with_picture) if with_picture else ())
        samples: dict[int, list[Event]] = {}
        for one in shown:
            image = data_url(next(pictures)) if len(one.image) else None
            samples.setdefault(one.prompt, []).append(
                {"number": one.sample, "image": image, "text": generator.text(one)}
            )
        for place, own in samples.items():
            share = unfinished.step / unfinished.steps
            self._tickets[place].tell({"event": "progress", "share": share, "samples": own})


def _document(document: RetrievedDocument) -> dict[str, Any]:
    return {"caption": document.caption, "image": data_url(document.image)}


def _sample(one: Drawn) -> dict[str, Any]:
    return {
        "images": [data_url(image) for image in one.images],
        "texts": one.texts,
        "answer": one.answer,
        "logprob": round(one.logprob, 3),
        "clip_score": None if one.clip_score is None else round(one.clip_score, 4),
    }
