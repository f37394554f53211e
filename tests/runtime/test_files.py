"""Files are whole or absent, in folders and in object stores; what cannot be written is known at once."""

import dataclasses

import numpy as np
import pytest
from etils.epath import gpath

from cm3leon_jax.runtime import files
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.runtime.metrics import MetricsWriter, read_metrics
from cm3leon_jax.runtime.model_folder import load_model, model_fingerprint, save_model


@dataclasses.dataclass(frozen=True)
class _Config:
    size: int = 3


@pytest.mark.parametrize("remote", [False, True])
def test_a_folder_is_replaced_as_a_whole_and_kept_when_making_it_fails(tmp_path, bucket, remote):
    path, real = ("gs://bucket/run/model", bucket / "run/model") if remote else (tmp_path / "model", tmp_path / "model")
    with files.new_directory(path) as aside:
        (aside / "old").write_text("1")
    with pytest.raises(ZeroDivisionError), files.new_directory(path) as aside:
        (aside / "new").write_text("2")
        raise ZeroDivisionError
    assert [file.name for file in real.iterdir()] == ["old"]
    with files.new_directory(path) as aside:
        (aside / "new").write_text("2")
    assert [file.name for file in real.iterdir()] == ["new"]
    assert [file.name for file in real.parent.iterdir() if "tmp" in file.name] == []
    files.remove(path)
    assert not real.exists()
    files.remove(path)


def test_what_a_run_writes_beside_checkpoints_goes_into_a_bucket(bucket):
    files.write_json("gs://bucket/run/stage.json", {"finished": True})
    assert files.read_json("gs://bucket/run/stage.json", what="record", make_with="x") == {"finished": True}
    with pytest.raises(UserError, match="no record"):
        files.read_json("gs://bucket/run/none.json", what="record", make_with="x")

    for start in (0, 2):  # the second start goes on behind step 2
        writer = MetricsWriter("gs://bucket/run/training", resume_step=start)
        for step in (start + 1, start + 2, start + 3):
            writer.write(step, {"loss": step})
        writer.close()
    assert [row["step"] for row in read_metrics("gs://bucket/run/training")] == [1, 2, 3, 4, 5]
    assert len(list((bucket / "run/training/tensorboard").iterdir())) == 2

    params = {"a": {"b": np.arange(3.0)}}
    save_model("gs://bucket/run/model", kind="test", config=_Config(), params=params)
    config, loaded = load_model("gs://bucket/run/model", kind="test", config_type=_Config, make_with="x")
    assert config == _Config() and loaded["a"]["b"].tolist() == [0, 1, 2]
    assert model_fingerprint("gs://bucket/run/model") == model_fingerprint(bucket / "run/model")


def test_a_growing_file_is_copied_into_a_bucket_now_and_then(bucket, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    file, real = files.AppendedFile("gs://bucket/lines", b"0"), bucket / "lines"
    for moment, data, expected in ((1, b"1", None), (61, b"2", b"012"), (62, b"3", b"012")):
        clock[0] = moment
        file.write(data)
        file.flush()
        assert (real.read_bytes() if real.exists() else None) == expected
    file.flush(now=True)
    assert real.read_bytes() == b"0123"
    file.write(b"4")
    file.close()
    assert real.read_bytes() == b"01234"


def test_a_folder_that_cannot_be_written_to_is_a_user_error(tmp_path, bucket, monkeypatch):
    files.check_writable(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written to"):
        files.check_writable(tmp_path / "file" / "run")
    files.check_writable("gs://bucket/run")
    monkeypatch.setattr(gpath.backend_lib.fsspec_backend, "_get_filesystem", lambda name: 1 / 0)
    with pytest.raises(UserError, match="gs://bucket/run cannot be written to"):
        files.check_writable("gs://bucket/run")
