"""Whose fault an error was: this process's, or that of another that is gone."""

import types

import jax
import pytest

from cm3leon_jax.runtime import hosts

RESET = "UNKNOWN: Gloo AllGather failed: Read error [127.0.0.1]:3255: Connection reset by peer"


@pytest.mark.parametrize(
    ("error", "silent", "gone"),
    [
        (jax.errors.JaxRuntimeError(RESET), False, True),
        (ValueError(RESET), False, True),
        (jax.errors.JaxRuntimeError("INTERNAL: something"), False, False),
        (jax.errors.JaxRuntimeError("INTERNAL: something"), True, True),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: while Gloo waited"), True, False),
        (ValueError("shapes differ"), False, False),
        (OSError("Connection reset by the disk's server"), False, False),
    ],
)
def test_an_error_of_a_collective_is_told_from_an_own_one(monkeypatch, error, silent, gone):
    peers = types.SimpleNamespace(anyone_silent=lambda: silent, wait_for_silence=lambda: silent)
    monkeypatch.setattr(hosts, "_joined", types.SimpleNamespace(peers=peers))
    assert hosts._others_are_gone(error) == gone
    wrapped = RuntimeError("the save failed")
    wrapped.__cause__ = error
    assert hosts._others_are_gone(wrapped) == gone
