"""Several processes as one run: how this one joins the others, and how all of them end together.

The environment says who they are, so that a launcher starts the same command everywhere:

    CM3LEON_COORDINATOR         HOST:PORT of process 0, or `auto` (Cloud TPU, GKE, Slurm: JAX finds the others);
                                unset: one process alone
    CM3LEON_PROCESS_COUNT       with HOST:PORT: how many processes there are …
    CM3LEON_PROCESS_INDEX       … and which one this is
    CM3LEON_JOIN_SECONDS        how long to wait for the others at the start (300)
    CM3LEON_HEARTBEAT_SECONDS   a process that is silent for so long is taken for dead, and ends all (100)
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from cm3leon_jax.runtime import abort
from cm3leon_jax.runtime.errors import EXIT_START_AGAIN, StartAgain, UserError
from cm3leon_jax.runtime.peers import Peers

_TOLD, _GATHERED, _DONE = "cm3leon/told/", "cm3leon/gathered/", "cm3leon/done"
_WAIT_MS = 3600 * 1000  # for what another process works out; its death is noticed much earlier
# What the collectives and the coordination service say when another process is not there any more.
_OTHERS_ARE_GONE = ("Gloo", "closed by peer", "Connection reset", "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")
_OWN_FAULT = ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT")


@dataclasses.dataclass
class _Joined:
    index: int
    count: int
    client: Any
    peers: Peers
    rounds: int = 0  # of `tell` and `gather`, which all processes call in the same order


_joined: _Joined | None = None
_ending = threading.Lock()


def index() -> int:
    """Which process this is. Unlike `jax.process_index()` it does not start JAX's devices."""
    return _joined.index if _joined else 0


def count() -> int:
    return _joined.count if _joined else 1


def is_first() -> bool:
    """Whether this is process 0, the one that prints and writes files."""
    return index() == 0


def join(environment: dict[str, str] | None = None) -> None:
    """Joins the processes that the environment names, if it names any. To be called before JAX is first used.

    Raises `StartAgain` where the others did not come in time, and `UserError` for an environment that makes no sense.
    """
    global _joined
    environment = dict(os.environ) if environment is None else environment
    coordinator = environment.get("CM3LEON_COORDINATOR", "")
    if not coordinator or _joined:
        return
    arguments = _named(coordinator, environment)
    join_seconds = _number(environment, "CM3LEON_JOIN_SECONDS", 300)
    heartbeat = _number(environment, "CM3LEON_HEARTBEAT_SECONDS", 100)

    import jax
    from jax._src import distributed  # the only way to the key-value store, which Orbax takes too

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    abort.exit_instead(lambda: EXIT_START_AGAIN)  # JAX aborts the process where joining fails late
    try:
        jax.distributed.initialize(
            **arguments, initialization_timeout=join_seconds, heartbeat_timeout_seconds=heartbeat
        )
    except ValueError as error:
        raise UserError(f"CM3LEON_COORDINATOR is {coordinator}, but {error}; give HOST:PORT of process 0") from error
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise StartAgain(f"the other processes were not there within {join_seconds} s ({reason})") from error
    state, address = distributed.global_state, str(distributed.global_state.coordinator_address)
    # Noticed here before JAX does, which can only abort.
    peers = Peers(
        state.client, state.process_id, state.num_processes, 0.75 * heartbeat, on_end=_exit_as, on_silence=_exit_alone
    )
    _joined = _Joined(state.process_id, state.num_processes, state.client, peers)
    abort.exit_instead(lambda: EXIT_START_AGAIN if peers.anyone_silent() or not _reachable(address) else None)
    peers.start()


def _named(coordinator: str, environment: dict[str, str]) -> dict[str, Any]:
    """The arguments of `jax.distributed.initialize`."""
    if coordinator == "auto":
        return {}
    if ":" not in coordinator:
        raise UserError(f"CM3LEON_COORDINATOR is {coordinator!r}; it must be `auto` or HOST:PORT of process 0")
    processes = _number(environment, "CM3LEON_PROCESS_COUNT", None)
    this = _number(environment, "CM3LEON_PROCESS_INDEX", None)
    if not 0 <= this < processes:
        raise UserError(f"CM3LEON_PROCESS_INDEX is {this}; of {processes} processes it must be 0 to {processes - 1}")
    return {
        "coordinator_address": coordinator,
        "num_processes": processes,
        "process_id": this,
        "cluster_detection_method": "deactivate",
    }


def _number(environment: dict[str, str], name: str, default: int | None) -> int:
    text = environment.get(name, "" if default is None else str(default))
    if not text.isdigit():
        raise UserError(f"{name} is {text!r}; with CM3LEON_COORDINATOR set it must be a whole number")
    return int(text)


def _reachable(address: str) -> bool:
    import socket

    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        return False
    return True


def tell(make: Callable[[], Any]) -> Any:
    """`make()` of process 0 (JSON-able), on all processes. All call it at the same place of the program."""
    if _joined is None:
        return make()
    _joined.rounds += 1
    key = f"{_TOLD}{_joined.rounds}"
    if _joined.index == 0:
        value = json.dumps(make())
        _joined.client.key_value_set(key, value)
    else:
        value = _joined.client.blocking_key_value_get(key, _WAIT_MS)
    return json.loads(value)


def gather(value: Any) -> list[Any]:
    """A JSON-able value of each process -> those of all processes, in order, on all of them."""
    if _joined is None:
        return [value]
    _joined.rounds += 1
    key = f"{_GATHERED}{_joined.rounds}/"
    _joined.client.key_value_set(f"{key}{_joined.index}", json.dumps(value))
    found = (_joined.client.blocking_key_value_get(f"{key}{other}", _WAIT_MS) for other in range(_joined.count))
    return [json.loads(text) for text in found]


def name() -> str:
    """What this process is called in messages."""
    return f"process {index()} on {platform.node()}"


def leave(status: int) -> None:
    """The end of a run that all processes reach: waits for the others, so that none is taken for dead, and ends this
    process. Alone, it does nothing."""
    if _joined is None:
        return
    import jax

    _joined.client.wait_at_barrier(_DONE, _WAIT_MS)
    _joined.peers.stop()
    abort.exit_instead(lambda: status)  # nothing is left to do that an abort could spoil
    jax.distributed.shutdown()
    # At once: threads that still hold connections to the others may abort, and while Python takes itself apart nobody
    # could answer that.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def end_all(status: int, line: str = "") -> NoReturn:
    """Ends this process and all others with an exit status, at once, from any thread. The line is what process 0
    prints, whichever process it comes from. Alone, it just ends this process."""
    if not _ending.acquire(blocking=False):
        threading.Event().wait()  # another thread is ending the process already
    if _joined is not None:
        abort.exit_instead(lambda: status)
        _joined.peers.publish(status, line)
    _print_and_exit(status, line)


def _exit_as(status: int, line: str) -> None:
    """Another process has ended so."""
    if _ending.acquire(blocking=False):
        _print_and_exit(status, line)


def _exit_alone(line: str) -> None:
    """Another process is gone, as all that are left find out for themselves: each says it, process 0 may be the one."""
    if _ending.acquire(blocking=False):
        _print_and_exit(EXIT_START_AGAIN, line, everywhere=True)


def _print_and_exit(status: int, line: str, *, everywhere: bool = False) -> NoReturn:
    if line and (everywhere or is_first()):
        print(f"cm3leon: {line}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    if _joined is not None:
        # Until all know how, none leaves: its end would be taken for the reason, and process 0 is the one to ask.
        abort.exit_instead(lambda: status)
        _joined.peers.wait_until_known()
    os._exit(status)


def fail(error: BaseException) -> NoReturn:
    """Ends all processes because of an error that no one expected: with status 42 where it came of another process's
    end, else with a stack trace and status 1."""
    gone = _others_are_gone(error)
    if not gone:
        traceback.print_exception(error)
    end_all(EXIT_START_AGAIN if gone else 1, f"{name()}: {' '.join(str(error).split())[:300]}")


def _others_are_gone(error: BaseException) -> bool:
    import jax

    if _joined is None:
        return False
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    # JAX raises what Gloo says as a ValueError where it says it before the computation is on its way.
    by_jax = (each for each in chain if isinstance(each, jax.errors.JaxRuntimeError) or "Gloo" in str(each))
    reported = next(by_jax, None)
    if reported is None:
        return _joined.peers.anyone_silent()
    text = str(reported)
    if text.startswith(_OWN_FAULT):
        return False
    return any(words in text for words in _OTHERS_ARE_GONE) or _joined.peers.wait_for_silence()
