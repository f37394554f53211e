"""launch/tpu_run.sh against a stand-in Google Cloud whose workers run the real start-up script as real processes."""

import hashlib
import json
import pathlib
import shlex
import subprocess

import pytest

from cm3leon_jax.planning.chips import CHIPS

TABLES = pathlib.Path(__file__).parent.parent.parent / "launch"

CONFIG = "models/demo hardware/local runs/pretrain"
WHAT = ("--type", "v4-8", "--zone", "us-central2-b", "--config", CONFIG)
LAUNCH = (*WHAT, "--bucket", "gs://bucket")


def on_shared(cloud, *options):
    """The same on a shared folder: its files cost no calls of `gcloud storage`."""
    return (*WHAT, "--bucket", str(cloud.shared), *options)


def test_a_finished_job_ends_the_run_and_frees_the_slice(cloud):
    cloud.job('echo "the job says hello"')
    result = cloud.run("first", *LAUNCH, "--", "--note", "gs://bucket/two words")
    assert result.returncode == 0, result.stderr + cloud.consoles()
    assert "the job says hello" in result.stdout and "first is finished" in result.stderr
    files = [f"--gin_file {name}" for name in CONFIG.split()]
    assert cloud.starts() == [
        f"-m cm3leon_jax train {' '.join(files)} --directory gs://bucket/first/train --note gs://bucket/two words"
    ]
    (archive,) = (cloud.bucket / "code").iterdir()
    assert archive.name == f"{hashlib.sha256(archive.read_bytes()).hexdigest()}.tar.gz"
    assert cloud.calls("queued-resources delete first")
    again = cloud.run("first")
    assert again.returncode == 0 and "is finished" in again.stderr and len(cloud.starts()) == 1


def test_exactly_the_commit_is_shipped(cloud):
    cloud.job('cat gin_configs/models/demo.gin >"$RUNS/model"; cat new.txt >"$RUNS/new"; true')
    model = cloud.checkout / "gin_configs/models/demo.gin"
    committed = model.read_text()
    model.write_text("changed = 1\n")
    (cloud.checkout / "new.txt").write_text("new")
    refused = cloud.run("first", *LAUNCH)
    assert refused.returncode == 2 and "2 files differ from the commit" in refused.stderr
    assert not cloud.changes()
    result = cloud.run("first", *on_shared(cloud), "--allow_dirty")
    assert result.returncode == 0 and "2 changed files are not shipped" in result.stderr
    assert (cloud.folder / "runs/0/model").read_text() == committed
    assert (cloud.folder / "runs/0/new").read_text() == ""


def test_the_same_commit_is_uploaded_once(cloud):
    cloud.job("exit 0")
    for name in ("first", "second"):
        assert cloud.run(name, *on_shared(cloud)).returncode == 0
    assert len(list((cloud.shared / "code").iterdir())) == 1


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ("--type v5p-256", "--accelerator-type=v5p-256 --runtime-version=v2-alpha-tpuv5 --node-id=flags"),
        ("--type v5e-256 --spot", "--accelerator-type=v5litepod-256 --runtime-version=v2-alpha-tpuv5-lite --spot"),
        ("--type=v6e-64 --reserved", "--accelerator-type=v6e-64 --runtime-version=v2-alpha-tpuv6e --reserved"),
        ("--type v4-32 --slices 2", "--runtime-version=tpu-ubuntu2204-base --node-count=2 --node-prefix=flags"),
        ("--project p --create_flags '--network=n --subnetwork=s'", "--project=p --network=n --subnetwork=s"),
    ],
)
def test_the_slice_that_is_asked_for(cloud, options, flags):
    cloud.outcomes("ERROR")  # the words are what is looked at
    result = cloud.run("flags", *LAUNCH, *shlex.split(options))
    assert result.returncode == 1 and "quota" in result.stderr
    (create,) = cloud.calls("queued-resources create")
    assert set(flags.split()) <= set(create.split())
    assert "--metadata=cm3leon-launch=gs://bucket/flags" in create


def test_status_42_starts_again_at_once_and_does_not_count(cloud):
    cloud.job('[ "$COUNT" -gt 3 ] || exit 42')
    result = cloud.run("again", *on_shared(cloud), "--max_failures", "0")
    assert result.returncode == 0 and len(cloud.starts()) == 4, cloud.consoles()


def test_failures_are_retried_so_many_times(cloud):
    cloud.job("echo broken; exit 1")
    result = cloud.run("fails", *on_shared(cloud), "--max_failures", "2")
    assert result.returncode == 1 and len(cloud.starts()) == 3, cloud.consoles()
    assert result.stdout.count("broken\n") == 3  # the log of every attempt is shown
    assert "3 failures, 2 allowed" in result.stderr


def test_bad_input_stops_the_run_for_good(cloud):
    cloud.job('echo "cm3leon: no prepared data at X"; exit 2')
    result = cloud.run("wrong", *on_shared(cloud))
    assert result.returncode == 2 and len(cloud.starts()) == 1
    assert "cm3leon: no prepared data at X" in result.stdout and "wrong is failed: status 2" in result.stderr


def test_one_worker_that_ends_ends_the_attempt_for_all(cloud):
    cloud.job(
        '[ "$COUNT" -gt 1 ] || { [ "$WORKER" != 3 ] || exit 42; exec sleep 600; }', CM3LEON_PEER_GRACE_SECONDS="1"
    )
    result = cloud.run("peers", *on_shared(cloud), "--type", "v4-32")
    assert result.returncode == 0, cloud.consoles()
    assert [len(cloud.starts(worker)) for worker in range(4)] == [2, 2, 2, 2]


def test_two_slices_are_one_job(cloud):
    cloud.job("exit 0")
    assert cloud.run("two", *on_shared(cloud), "--slices", "2").returncode == 0
    names = {path.name for path in (cloud.shared / "two/attempts/0001").iterdir()}
    assert names == {f"worker-00{worker}.{what}" for worker in (0, 1) for what in ("started", "exit-0")}


def test_a_preempted_slice_comes_back_without_limit(cloud):
    cloud.job('[ "$COUNT" -gt 3 ] || exec sleep 600')
    watch = cloud.start("spot", *on_shared(cloud), "--spot", "--max_failures", "0")
    for count in (1, 2, 3):
        cloud.wait_until(lambda count=count: len(cloud.starts()) == count)
        assert cloud.run("spot", "simulate-preemption").returncode == 0
    _, errors = watch.communicate(timeout=3000)
    assert watch.returncode == 0 and len(cloud.starts()) == 4, errors
    assert errors.count("the slice was preempted; creating it again") == 3
    assert all("--spot" in call for call in cloud.calls("create spot"))


def test_a_slice_that_fails_counts_as_a_failure(cloud):
    cloud.job("exit 0")
    cloud.outcomes("FAILED", "FAILED", "ACTIVE")
    result = cloud.run("unlucky", *on_shared(cloud), "--max_failures", "2")
    assert result.returncode == 0 and len(cloud.starts()) == 1, result.stderr
    cloud.outcomes("FAILED")
    result = cloud.run("hopeless", *on_shared(cloud), "--max_failures", "1")
    assert result.returncode == 1 and "2 failures, 1 allowed" in result.stderr
    assert len(cloud.calls("create hopeless")) == 2


def test_stop_saves_and_keeps_the_slice_and_the_next_launch_goes_on_with_new_code(cloud):
    cloud.job("trap 'echo saved; exit 42' TERM; [ -f new.txt ] || { sleep 600 & wait; }")
    watch = cloud.start("pause", *LAUNCH)
    cloud.wait_until(cloud.starts)
    assert "job       running, attempt 1" in cloud.run("pause", "status").stdout
    second = cloud.run("pause", *LAUNCH, "--", "--seed", "1")
    assert second.returncode == 2 and "already watched" in second.stderr
    assert cloud.run("pause", "stop").returncode == 0
    _, errors = watch.communicate(timeout=3000)
    assert watch.returncode == 42 and "pause is stopped" in errors
    cloud.wait_until(lambda: "saved" in cloud.run("pause", "logs").stdout)
    status = cloud.run("pause", "status").stdout
    assert "in us-central2-b: ACTIVE" in status and "job       stopped" in status

    (cloud.checkout / "new.txt").write_text("new")
    subprocess.run(["git", "-C", cloud.checkout, "add", "."], check=True)
    commit = ["git", "-c", "user.name=T", "-c", "user.email=t@example.com", "commit", "--quiet", "-m", "new"]
    subprocess.run(commit, cwd=cloud.checkout, check=True)
    result = cloud.run("pause")
    assert result.returncode == 0, result.stderr + cloud.consoles()
    assert len(cloud.calls("create pause")) == 1 and len(cloud.starts()) == 2


def test_a_running_launch_is_watched_again_and_deleted(cloud):
    cloud.job('[ "$WORKER" != 0 ] || echo "line $COUNT"; exec sleep 600')
    assert cloud.run("long", *LAUNCH, "--type", "v4-32", "--detach").returncode == 0
    cloud.wait_until(lambda: len(cloud.starts(3)) == 1)
    logs = cloud.start("long", "logs", "2")
    cloud.wait_until(lambda: "line 1" in (cloud.checkout / "runs/launch/long.log").read_text())
    refused = cloud.run("long", "logs", "4")
    assert refused.returncode == 2 and "workers 0 to 3" in refused.stderr
    assert cloud.run("long", "delete").returncode == 0
    cloud.wait_until(lambda: "long is stopped" in (cloud.checkout / "runs/launch/long.log").read_text())
    output, _ = logs.communicate(timeout=300)
    assert "[worker 2]" in output and "line" not in output
    assert cloud.calls("queued-resources delete long") and not (cloud.folder / "queued/long.json").exists()


def test_another_checkout_needs_only_the_bucket(cloud):
    cloud.job("exit 2")
    assert cloud.run("far", *LAUNCH).returncode == 2
    subprocess.run(["rm", "-r", cloud.checkout / "runs"], check=True)
    unknown = cloud.run("far", "status")
    assert unknown.returncode == 2 and "give its --bucket" in unknown.stderr
    status = cloud.run("far", "status", "--bucket", "gs://bucket")
    assert status.returncode == 0 and "failed, attempt 1" in status.stdout


def test_a_damaged_archive_is_not_run(cloud):
    cloud.job("exit 0")
    cloud.outcomes("ERROR")
    cloud.run("first", *LAUNCH)
    (archive,) = (cloud.bucket / "code").iterdir()
    archive.write_bytes(archive.read_bytes()[:-100])
    cloud.outcomes("ACTIVE")
    cloud.start("first", *LAUNCH)
    cloud.wait_until(lambda: "is damaged" in cloud.consoles())
    assert not cloud.starts()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status"], "the run's name comes first"),
        (["Upper", *LAUNCH], "bad name 'Upper'"),
        (["run", *LAUNCH, "--type", "v5p-100"], "unknown --type 'v5p-100'; known are: v4-8 v4-16"),
        (["run", *LAUNCH, "--type", "h100-8"], "unknown --type 'h100-8'"),
        (["run", *LAUNCH[:2], *LAUNCH[4:]], "--zone is missing"),
        (["run", *LAUNCH[:-2]], "--bucket is missing"),
        (["run", *LAUNCH[:-1], "bucket"], "bad --bucket 'bucket'"),
        (["run", *LAUNCH, "--config", "models/8b"], "--config names models/8b.gin, which is not in the commit"),
        (["run", *LAUNCH, "--slices", "0"], "bad --slices '0'"),
        (["run", *LAUNCH, "--max_failures", "x"], "bad --max_failures 'x'"),
        (["run", *LAUNCH, "--spot", "--reserved"], "exclude each other"),
        (["run", *LAUNCH, "--prepared", "x"], "unknown option --prepared"),
        (["run", *LAUNCH, "--type"], "--type needs a value"),
        (["run", "restart"], "cannot use 'restart'"),
        (["run", "stop"], "was not launched from this checkout"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(cloud, arguments, message):
    result = cloud.run(*arguments)
    assert result.returncode == 2 and message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and not cloud.changes()


def test_a_dry_run_prints_every_command_and_runs_none(cloud):
    cloud.job("exit 0")
    dry = cloud.run("dry", *LAUNCH, "--dry-run")
    assert dry.returncode == 0 and not cloud.calls() and not (cloud.checkout / "runs").exists()
    assert not list(cloud.bucket.iterdir())
    real = cloud.run("dry", *LAUNCH)
    assert real.returncode == 0
    printed = [line.removeprefix("gcloud ") for line in dry.stdout.splitlines() if line.startswith("gcloud ")]
    unquoted = {shlex.join(shlex.split(line)) for line in printed}
    reads = "storage cat --range="  # of the log, from where it was last read
    unexpected = {call for call in cloud.calls() if call not in unquoted and not call.startswith(reads)}
    assert not {call for call in unexpected if "storage cp --quiet gs://bucket/dry/launch.env" not in call}
    verbs = {line.split()[3] for line in printed if line.startswith("compute tpus queued-resources ")}
    assert verbs == {"create", "describe", "delete"}


def test_the_tables_agree():
    tables = {}
    for name in ("generations", "types"):
        header, *rows = [
            line.split("\t") for line in (TABLES / f"{name}.tsv").read_text().splitlines() if line[0] != "#"
        ]
        assert all(len(row) == len(header) for row in rows)
        tables[name] = [dict(zip(header, row, strict=True)) for row in rows]
    generations = {row["generation"]: row for row in tables["generations"]}
    for row in tables["types"]:
        generation, number = row["type"].split("-")
        chips = 1
        for side in row["topology"].split("x"):
            chips *= int(side)
        assert chips * int(generations[generation]["cores_in_type"]) == int(number), row
        hosts = int(row["hosts"])
        assert hosts == 1 or chips == hosts * int(generations[generation]["chips_per_host"]), row


def test_the_tables_are_the_planners():
    """Types that both know have the same chips. (The planner leaves out slices of one host.)"""
    rows = [line.split("\t") for line in (TABLES / "types.tsv").read_text().splitlines() if line[0] != "#"][1:]
    shapes = {name: topology for name, topology, _ in rows}
    for generation, chip in CHIPS.items():
        for count, shape in chip.shapes.items():
            name = f"{generation}-{count * chip.cores_per_chip}"
            assert shapes[name] == "x".join(map(str, shape)), name


def test_a_configuration_for_another_slice_is_refused(cloud):
    config = ("--config", "models/7b hardware/v5p_256 runs/pretrain")
    refused = cloud.run("other", *LAUNCH, *config, "--type", "v5e-256")
    assert refused.returncode == 2 and "hardware/v5p_256.gin is for v5p-256, not for v5e-256" in refused.stderr
    refused = cloud.run("other", *LAUNCH, *config, "--type", "v5p-256", "--slices", "2")
    assert refused.returncode == 2 and "not for 2xv5p-256" in refused.stderr
    assert cloud.run("other", *LAUNCH, *config, "--type", "v5p-256", "--dry-run").returncode == 0


def test_data_in_a_bucket_is_copied_to_the_worker(cloud):
    cloud.job('echo "prepared: $(cat "${!#}/manifest.json")"')
    (cloud.bucket / "data").mkdir()
    (cloud.bucket / "data/manifest.json").write_text("this manifest")
    result = cloud.run("data", *LAUNCH, "--", "--prepared", "gs://bucket/data")
    assert result.returncode == 0 and "prepared: this manifest" in result.stdout, cloud.consoles()
    cloud.job('printf "%s\\n" "${!#}"; cat "$CM3LEON_HOME/inputs/bucket/data/manifest.json"')
    folders = "--gin.FinetuningConfig.folders=('/shared/edits', 'gs://bucket/data')"
    result = cloud.run("folders", *LAUNCH, "--", folders)
    assert result.returncode == 0 and "this manifest" in result.stdout, cloud.consoles()
    assert "folders=('/shared/edits', '/" in result.stdout and "inputs/bucket/data')" in result.stdout
    joined = cloud.run("joined", *LAUNCH, "--", "--prepared=gs://bucket/data")
    assert joined.returncode == 0 and "inputs/bucket/data\n" in joined.stdout, cloud.consoles()
    missing = cloud.run("missing", *LAUNCH, "--", "--prepared", "gs://bucket/date")
    assert missing.returncode == 2 and "--prepared names gs://bucket/date, where there is nothing" in missing.stdout


def test_settings_survive_quoting(cloud):
    cloud.job('printf "%s\\n" "$@" >"$RUNS/arguments"')
    value = """--gin.NAME='it''s $HOME "x"'"""
    assert cloud.run("quoted", *on_shared(cloud), "--", value).returncode == 0
    assert (cloud.folder / "runs/0/arguments").read_text().splitlines()[-1] == value
    assert json.loads((cloud.folder / "worker.json").read_text())
