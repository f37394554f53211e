"""A committed copy of this checkout, and a stand-in Google Cloud to launch it on."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
SHIPPED = (
    "cm3leon_jax",
    "gin_configs",
    "launch",
    "docs",
    "setup.py",
    "pyproject.toml",
    "requirements.lock",
    "README.md",
)
GIT = ("git", "-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false")


@pytest.fixture(scope="session")
def committed(tmp_path_factory):
    """A repository whose one commit is the code as it stands."""
    for program in ("git", "curl"):  # the launcher ships a commit; its workers ask the metadata server with curl
        if not shutil.which(program):
            pytest.skip(f"needs {program}, which the launchers call")
    repository = tmp_path_factory.mktemp("committed")
    for name in SHIPPED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        ignore = {"ignore": shutil.ignore_patterns("__pycache__")} if (ROOT / name).is_dir() else {}
        copy(ROOT / name, repository / name, **ignore)
    (repository / ".gitignore").write_text("/runs/\n__pycache__/\n")
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "The code as it stands"]):
        subprocess.run([*GIT, "-C", repository, *command], check=True)
    return repository


class Cloud:
    """A checkout of one's own, and a stand-in cloud with the bucket gs://bucket."""

    def __init__(self, folder: pathlib.Path, committed: pathlib.Path):
        self.folder, self.checkout, self.bucket = folder / "cloud", folder / "checkout", folder / "cloud/buckets/bucket"
        subprocess.run([*GIT, "clone", "--quiet", "--shared", committed, self.checkout], check=True)
        self.bucket.mkdir(parents=True)
        self.shared = folder / "shared"  # a file system that launcher and workers share
        self.shared.mkdir()
        self._programs = folder / "programs"
        stand_in = pathlib.Path(__file__).with_name("stand_in_gcloud.py")
        self.program("gcloud", f'exec "{sys.executable}" -I -S "{stand_in}" "$@"')
        self.environment = os.environ | {
            "PATH": f"{self._programs}:{os.environ['PATH']}",
            "STAND_IN_CLOUD": str(self.folder),
            "CM3LEON_POLL_SECONDS": "1",
        }
        self._processes: list[subprocess.Popen] = []

    def program(self, name: str, text: str) -> None:
        """A program of one's own, found before the machine's."""
        self._program(self._programs / name, text)

    @staticmethod
    def _program(path: pathlib.Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{text}\n")
        path.chmod(0o755)

    def job(self, script: str, **environment: str) -> None:
        """Workers run this bash script where they would run `python -m cm3leon_jax train …`. $WORKER is the worker's
        number, $RUNS a folder of its own that outlives the machine, $COUNT how often it was started."""
        environment_folder = self.folder / "environment"
        runs = self.folder / "runs"
        self._program(
            environment_folder / "bin/python",
            f'WORKER="$CM3LEON_PROCESS_INDEX"; RUNS="{runs}/$WORKER"; mkdir -p "$RUNS"\n'
            'echo "$*" >>"$RUNS/starts"; COUNT="$(wc -l <"$RUNS/starts")"\n' + script,
        )
        self.workers(CM3LEON_ENVIRONMENT=str(environment_folder), CM3LEON_RETRY_SECONDS="0", **environment)

    def workers(self, **environment: str) -> None:
        (self.folder / "worker.json").write_text(json.dumps(environment))

    def outcomes(self, *outcomes: str) -> None:
        (self.folder / "outcomes.txt").write_text("\n".join(outcomes))

    def starts(self, worker: int = 0) -> list[str]:
        """The arguments of each start of this worker's job."""
        path = self.folder / "runs" / str(worker) / "starts"
        return path.read_text().splitlines() if path.exists() else []

    def calls(self, *words: str) -> list[str]:
        path = self.folder / "calls.txt"
        calls = path.read_text().splitlines() if path.exists() else []
        return [call for call in calls if all(word in call for word in words)]

    def changes(self) -> list[str]:
        """The calls that do more than look whether the launch is known."""
        return [call for call in self.calls() if not ("storage cp" in call and "/launch.env " in call)]

    def run(self, *arguments: str, timeout: float = 300, program: str = "tpu_run.sh") -> subprocess.CompletedProcess:
        process = self.start(*arguments, program=program)
        output, errors = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

    def start(self, *arguments: str, program: str = "tpu_run.sh") -> subprocess.Popen:
        return self._start(["bash", f"launch/{program}", *arguments])

    def shell(self, script: str, timeout: float = 300) -> subprocess.CompletedProcess:
        """A piece of bash, in the checkout, as a person would type it."""
        process = self._start(["bash", "-c", f"set -euo pipefail\n{script}"])
        output, errors = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(script, process.returncode, output, errors)

    def _start(self, command: list[str]) -> subprocess.Popen:
        process = subprocess.Popen(
            command,
            cwd=self.checkout,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # its group holds what it leaves in the background, too
        )
        self._processes.append(process)
        return process

    def wait_until(self, condition, seconds: float = 300):
        deadline = time.monotonic() + seconds
        while not (result := condition()):
            assert time.monotonic() < deadline, self.consoles()
            time.sleep(0.1)
        return result

    def consoles(self) -> str:
        logs = sorted((self.folder / "machines").glob("*/console.log")) if (self.folder / "machines").exists() else []
        return "\n".join(f"== {log.parent.name}\n{log.read_text()[-3000:]}" for log in logs)

    def end(self) -> None:
        for process in self._processes:
            kill_group(process.pid)
            process.communicate()
        for path in (self.folder / "queued").glob("*.json"):
            for process_id in json.loads(path.read_text())["processes"]:
                kill_group(process_id)


def kill_group(process_id: int) -> None:
    try:
        os.killpg(process_id, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.fixture
def cloud(tmp_path, committed):
    cloud = Cloud(tmp_path, committed)
    yield cloud
    cloud.end()
