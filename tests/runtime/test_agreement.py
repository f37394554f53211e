"""Hosts that are not the same are named, with one thing that differs."""

from cm3leon_jax.runtime.agreement import check_same, facts, first_difference, flat

NAMES = ["process 0 on a", "process 1 on b", "process 2 on c"]


def test_those_who_differ_from_most_are_named():
    same = facts() | flat({"model": {"layers": 2}})
    assert first_difference([same, dict(same), dict(same)], NAMES) == ""
    line = first_difference([same | {"model.layers": 3}, same, same], NAMES)
    assert "process 0 on a differs from the others in model.layers: 3 there, 2 elsewhere;" in line
    line = first_difference([same, same, same | {"jax": "0.0"}], NAMES)
    assert "process 2 on c differs from the others in jax" in line and "and so do" not in line
    line = first_difference([same, same | {"new": 1}, same | {"new": 2}], NAMES)
    assert "differs from the others in new" in line and "1 more" in line


def test_facts_name_the_code_and_the_versions(monkeypatch):
    found = facts()
    assert {"jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "python"} <= set(found)
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda path: b"changed")
    assert facts()["the code of cm3leon_jax"] != found["the code of cm3leon_jax"]


def test_one_process_agrees_with_itself():
    check_same({"anything": object()})
