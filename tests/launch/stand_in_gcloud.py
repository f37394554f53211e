"""A stand-in for `gcloud`, put first on the PATH: a Google Cloud of local processes in the folder $STAND_IN_CLOUD.

A slice's workers are real processes that run the real start-up script, each beside a metadata server of its own. Only
commands and flags that Cloud SDK 528 has are understood; anything else ends with status 2, as gcloud does. Every call
of the launcher is written to calls.txt. What a test may put into the folder: `outcomes.txt`, a line for each slice that
is created (ACTIVE, FAILED, WAITING_FOR_RESOURCES, or ERROR: the request is refused), and `worker.json`, environment for
the workers.
"""

import argparse
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

CLOUD = pathlib.Path(os.environ["STAND_IN_CLOUD"])
HERE = pathlib.Path(__file__).parent
ACCELERATORS = {"v4": "v4", "v5litepod": "v5e", "v5p": "v5p", "v6e": "v6e"}
RUNTIMES = {"tpu-ubuntu2204-base", "v2-alpha-tpuv5-lite", "v2-alpha-tpuv5", "v2-alpha-tpuv6e"}


def main(argv: list[str]) -> int:
    if argv[0] == "serve":
        return serve(argv[1])
    with open(CLOUD / ("workers_calls.txt" if "CM3LEON_HOME" in os.environ else "calls.txt"), "a") as file:
        file.write(shlex.join(argv) + "\n")
    if argv[:1] == ["storage"]:
        return storage(argv[1:])
    if argv[:2] == ["compute", "tpus"]:
        return tpus(argv[2:])
    if argv[:2] in (["config", "set"], ["services", "enable"]):
        return 0
    sys.exit(f"ERROR: (gcloud) Invalid choice: {argv[0]!r}")


# --- storage: gs://BUCKET/NAME is the file buckets/BUCKET/NAME


def storage(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="gcloud storage", allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    names = ("cp", "cat", "ls", "rm", "rsync")
    copy, cat, listing, remove, rsync = (verbs.add_parser(name, allow_abbrev=False) for name in names)
    for verb in (copy, cat, listing, remove, rsync):
        verb.add_argument("--quiet", action="store_true")
    rsync.add_argument("--recursive", action="store_true", required=True)
    for verb in (copy, rsync):
        verb.add_argument("source")
        verb.add_argument("target")
    copy.add_argument("--no-clobber", action="store_true")
    cat.add_argument("--range")
    for verb in (cat, listing, remove):
        verb.add_argument("url")
    if argv[:2] == ["buckets", "create"]:
        in_bucket(argv[2]).mkdir(parents=True, exist_ok=True)
        return 0
    arguments = parser.parse_args(argv)
    if arguments.verb == "cp":
        return storage_copy(arguments)
    if arguments.verb == "rsync":
        return storage_rsync(arguments)
    if arguments.verb == "ls":
        assert arguments.url.endswith("/**"), "only recursive listings are understood"
        folder = in_bucket(arguments.url.removesuffix("/**"))
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if not files:
            return refuse("ERROR: (gcloud.storage.ls) One or more URLs matched no objects.")
        print("\n".join(f"gs://{path.relative_to(CLOUD / 'buckets')}" for path in files))
        return 0
    path = in_bucket(arguments.url)
    if not path.is_file():
        return refuse(f"ERROR: (gcloud.storage.{arguments.verb}) The following URLs matched no objects or files")
    if arguments.verb == "rm":
        path.unlink()
        return 0
    start = int((arguments.range or "0-").split("-")[0])
    content = path.read_bytes()
    if start >= len(content) > 0:
        return refuse("ERROR: (gcloud.storage.cat) HTTPError 416: The requested range cannot be satisfied.")
    sys.stdout.buffer.write(content[start:])
    return 0


def storage_copy(arguments: argparse.Namespace) -> int:
    source, target = in_bucket(arguments.source), in_bucket(arguments.target)
    if not source.is_file():
        return refuse("ERROR: (gcloud.storage.cp) The following URLs matched no objects or files")
    if arguments.target.startswith("gs://") and not bucket_of(arguments.target).is_dir():
        return refuse("ERROR: (gcloud.storage.cp) gs bucket not found")
    if arguments.no_clobber and target.exists():
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    aside.write_bytes(source.read_bytes())
    aside.replace(target)
    return 0


def storage_rsync(arguments: argparse.Namespace) -> int:
    import shutil

    source, target = in_bucket(arguments.source), in_bucket(arguments.target)
    if not source.is_dir():
        return refuse("ERROR: (gcloud.storage.rsync) Did not find existing container")
    shutil.copytree(source, target, dirs_exist_ok=True)
    return 0


def bucket_of(url: str) -> pathlib.Path:
    return CLOUD / "buckets" / url.removeprefix("gs://").split("/")[0]


def in_bucket(url: str) -> pathlib.Path:
    return CLOUD / "buckets" / url.removeprefix("gs://") if url.startswith("gs://") else pathlib.Path(url)


def refuse(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


# --- queued resources and their TPU VMs


def tpus(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="gcloud compute tpus", allow_abbrev=False)
    groups = parser.add_subparsers(dest="group", required=True)
    queued = groups.add_parser("queued-resources", allow_abbrev=False).add_subparsers(dest="verb", required=True)
    machines = groups.add_parser("tpu-vm", allow_abbrev=False).add_subparsers(dest="verb", required=True)
    verbs = {(group, verb): subparsers.add_parser(verb, allow_abbrev=False)
             for group, subparsers, names in (("q", queued, ("create", "describe", "delete")),
                                              ("m", machines, ("describe", "delete")))
             for verb in names}  # fmt: skip
    for verb in verbs.values():
        verb.add_argument("name")
        verb.add_argument("--zone", required=True)
        verb.add_argument("--project")
        verb.add_argument("--quiet", action="store_true")
        verb.add_argument("--format")
    verbs["q", "delete"].add_argument("--force", action="store_true")
    create = verbs["q", "create"]
    for flag in ("accelerator-type", "runtime-version", "metadata", "metadata-from-file"):
        create.add_argument(f"--{flag}", required=True)
    for flag in ("node-id", "node-count", "node-prefix", "network", "subnetwork", "service-account"):
        create.add_argument(f"--{flag}")
    capacity = create.add_mutually_exclusive_group()
    capacity.add_argument("--spot", action="store_true")
    capacity.add_argument("--reserved", action="store_true")
    arguments = parser.parse_args(argv)
    if arguments.group == "tpu-vm":
        return {"describe": describe_machine, "delete": delete_machine}[arguments.verb](arguments)
    return {"create": create_queued, "describe": describe_queued, "delete": delete_queued}[arguments.verb](arguments)


def record(name: str) -> pathlib.Path:
    return CLOUD / "queued" / f"{name}.json"


def create_queued(arguments: argparse.Namespace) -> int:
    path = record(arguments.name)
    if path.exists():
        return refuse("ERROR: (gcloud.compute.tpus.queued-resources.create) ALREADY_EXISTS")
    if bool(arguments.node_id) == bool(arguments.node_count) or arguments.runtime_version not in RUNTIMES:
        sys.exit(2)
    outcome = next_outcome()
    if outcome == "ERROR":
        return refuse("ERROR: (gcloud.compute.tpus.queued-resources.create) RESOURCE_EXHAUSTED: quota")
    count = int(arguments.node_count or 1)
    nodes = [f"{arguments.node_prefix}-{index}" for index in range(count)] if count > 1 else [arguments.node_id]
    prefix, size = arguments.accelerator_type.split("-")
    key, startup_script = arguments.metadata_from_file.split("=", 1)
    assert key == "startup-script"
    path.parent.mkdir(exist_ok=True)
    script = path.with_suffix(f".{time.monotonic_ns()}.sh")
    script.write_text(pathlib.Path(startup_script).read_text())
    facts = {
        "state": outcome,
        "nodes": nodes,
        "hosts": hosts_of(f"{ACCELERATORS[prefix]}-{size}"),
        "metadata": dict([arguments.metadata.split("=", 1)]),
        "script": str(script),
        "processes": [],
    }
    path.write_text(json.dumps(facts))
    if outcome == "ACTIVE":
        with open(CLOUD / "serve.log", "a") as log:
            subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, "serve", arguments.name],
                start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log, close_fds=True,
            )  # fmt: skip
        while not json.loads(path.read_text())["processes"]:
            time.sleep(0.05)
    return 0


def next_outcome() -> str:
    file = CLOUD / "outcomes.txt"
    first, *rest = file.read_text().split() if file.exists() else ["ACTIVE"]
    if rest:
        file.write_text("\n".join(rest))
    return first


def hosts_of(slice_type: str) -> int:
    for line in (HERE.parent.parent / "launch/types.tsv").read_text().splitlines():
        if line.split("\t")[0] == slice_type:
            return int(line.split("\t")[2])
    sys.exit(f"ERROR: no accelerator type {slice_type}")


def describe_queued(arguments: argparse.Namespace) -> int:
    if not record(arguments.name).exists():
        return refuse("ERROR: (gcloud.compute.tpus.queued-resources.describe) NOT_FOUND: Resource was not found")
    assert arguments.format == "value(state.state)"
    print(json.loads(record(arguments.name).read_text())["state"])
    return 0


def delete_queued(arguments: argparse.Namespace) -> int:
    if not record(arguments.name).exists():
        return refuse("ERROR: (gcloud.compute.tpus.queued-resources.delete) NOT_FOUND: Resource was not found")
    assert arguments.quiet and arguments.force, "else gcloud asks, or refuses while there are machines"
    kill(arguments.name)
    record(arguments.name).unlink()
    return 0


def owner(node: str) -> str | None:
    for path in sorted((CLOUD / "queued").glob("*.json")):
        facts = json.loads(path.read_text())
        if node in facts["nodes"] and facts["state"] == "ACTIVE":
            return path.stem
    return None


def describe_machine(arguments: argparse.Namespace) -> int:
    if owner(arguments.name) is None:
        return refuse("ERROR: (gcloud.compute.tpus.tpu-vm.describe) NOT_FOUND: Resource was not found")
    assert arguments.format == "value(state)"
    print("READY")
    return 0


def delete_machine(arguments: argparse.Namespace) -> int:
    """What a preemption looks like too: the machines are gone at once, and the queued resource is suspended."""
    name = owner(arguments.name)
    if name is None:
        return refuse("ERROR: (gcloud.compute.tpus.tpu-vm.delete) NOT_FOUND: Resource was not found")
    assert arguments.quiet, "else gcloud asks"
    kill(name)
    facts = json.loads(record(name).read_text())
    record(name).write_text(json.dumps(facts | {"state": "SUSPENDED", "processes": []}))
    return 0


def kill(name: str) -> None:
    for process in json.loads(record(name).read_text())["processes"]:
        try:
            os.killpg(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


# --- the machines


def serve(name: str) -> int:
    """Runs the workers of a queued resource, and their metadata servers, until it is killed."""
    facts = json.loads(record(name).read_text())
    slices, hosts = len(facts["nodes"]), facts["hosts"]
    coordinator = f"127.0.0.1:{free_port()}"
    workers = []
    for number in range(slices * hosts):
        attributes = facts["metadata"] | {"agent-worker-number": str(number % hosts)}
        if slices > 1:
            attributes["tpu-env"] = f"ACCELERATOR_TYPE: 'x'\nMEGASCALE_SLICE_ID: '{number // hosts}'\nZONE: 'z'\n"
        workers.append(
            start_worker(name, number, slices * hosts, facts["script"], metadata_server(attributes), coordinator)
        )
    facts["processes"] = [worker.pid for worker in workers] + [os.getpid()]
    aside = record(name).with_suffix(".aside")
    aside.write_text(json.dumps(facts))
    aside.replace(record(name))
    for worker in workers:
        worker.wait()
    return 0


def start_worker(name: str, number: int, count: int, script: str, metadata: str, coordinator: str) -> subprocess.Popen:
    home = CLOUD / "machines" / f"{name}-{number}-{time.monotonic_ns()}"
    home.mkdir(parents=True)
    environment = {key: os.environ[key] for key in ("PATH", "STAND_IN_CLOUD")} | {
        "HOME": str(home),
        "CM3LEON_HOME": str(home / "opt"),
        "CM3LEON_FOREGROUND": "1",
        "GCE_METADATA_IP": metadata,
        # What JAX finds out by itself on TPU VMs:
        "CM3LEON_COORDINATOR": coordinator,
        "CM3LEON_PROCESS_COUNT": str(count),
        "CM3LEON_PROCESS_INDEX": str(number),
    }
    if (CLOUD / "worker.json").exists():
        environment |= json.loads((CLOUD / "worker.json").read_text())
    with open(home / "console.log", "w") as log:
        return subprocess.Popen(
            ["bash", script], env=environment, cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip


def metadata_server(attributes: dict[str, str]) -> str:
    import http.server
    import threading

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            prefix, _, key = self.path.rpartition("/")
            known = prefix == "/computeMetadata/v1/instance/attributes" and key in attributes
            asked_right = self.headers.get("Metadata-Flavor") == "Google"
            self.send_response(200 if known and asked_right else 404)
            self.end_headers()
            if known and asked_right:
                self.wfile.write(attributes[key].encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"127.0.0.1:{server.server_port}"


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
