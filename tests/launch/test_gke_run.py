"""The JobSet that launch/gke_run.sh prints: valid by the schema, and with the exit statuses' contract."""

import json
import pathlib
import re

import pytest
import yaml

SCHEMA = json.loads((pathlib.Path(__file__).parent / "jobset_schema.json").read_text())
POD = (
    "pod",
    "--type",
    "v5p-64",
    "--config",
    "models/demo hardware/local",
    "--bucket",
    "gs://bucket",
    "--image",
    "a/b:1",
)
TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}


def violations(value, schema, where="jobset"):
    """Where a value breaks a schema: as much of OpenAPI as jobset_schema.json uses. Unknown fields break it too."""
    if not isinstance(value, TYPES[schema["type"]]) or (schema["type"] == "integer" and isinstance(value, bool)):
        return [f"{where} is no {schema['type']}"]
    found = [f"{where} is not one of {schema['enum']}" for _ in [0] if value not in schema.get("enum", [value])]
    if schema["type"] == "string" and not re.fullmatch(schema.get("pattern", ".*"), value, re.DOTALL):
        found.append(f"{where} does not match {schema['pattern']}")
    if schema["type"] == "integer" and value < schema.get("minimum", value):
        found.append(f"{where} is under {schema['minimum']}")
    if schema["type"] == "array":
        found += [f"{where} has too few" for _ in [0] if len(value) < schema.get("minItems", 0)]
        found += [
            line for index, item in enumerate(value) for line in violations(item, schema["items"], f"{where}[{index}]")
        ]
    if schema["type"] == "object":
        fields, others = schema.get("properties", {}), schema.get("additionalProperties")
        found += [f"{where} lacks {name}" for name in schema.get("required", []) if name not in value]
        for name, item in value.items():
            below = fields.get(name, others)
            found += violations(item, below, f"{where}.{name}") if below else [f"{where} has no field {name}"]
    return found


@pytest.fixture
def manifest(cloud):
    def make(*options):
        result = cloud.run(*POD, *options, program="gke_run.sh")
        assert result.returncode == 0, result.stderr
        return yaml.safe_load(result.stdout)

    return make


@pytest.mark.parametrize(
    "options", [(), ("--spot",), ("--slices", "3", "--service_account", "trainer", "--max_failures", "4")]
)
def test_the_manifest_is_valid(manifest, options):
    jobset = manifest(*options)
    assert violations(jobset, SCHEMA) == []
    (group,) = jobset["spec"]["replicatedJobs"]
    job, pod = group["template"]["spec"], group["template"]["spec"]["template"]["spec"]
    assert job["parallelism"] == job["completions"] == 8
    selector = {"cloud.google.com/gke-tpu-accelerator": "tpu-v5p-slice", "cloud.google.com/gke-tpu-topology": "2x4x4"}
    assert pod["nodeSelector"] == selector | ({"cloud.google.com/gke-spot": "true"} if "--spot" in options else {})
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": 4}
    if "--slices" in options:
        assert group["replicas"] == 3 and jobset["spec"]["failurePolicy"]["maxRestarts"] == 4
        assert pod["serviceAccountName"] == "trainer"


def test_the_schema_can_refuse(manifest):
    jobset = manifest()
    assert violations(jobset | {"apiVersion": "batch/v1"}, SCHEMA)
    jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"][0]["onExitCode"] = {}
    assert any("has no field onExitCode" in line for line in violations(jobset, SCHEMA))
    del jobset["spec"]["replicatedJobs"][0]["name"]
    assert any("lacks name" in line for line in violations(jobset, SCHEMA))


def what_happens(jobset, *, status=None, condition=None):
    """What Kubernetes does when a pod ends so: its Job's rules, then the JobSet's, by their documentation."""
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["backoffLimit"] == 0 and job["template"]["spec"]["restartPolicy"] == "Never"
    reason = "BackoffLimitExceeded"
    for rule in job["podFailurePolicy"]["rules"]:
        codes = rule.get("onExitCodes", {"values": []})["values"]
        conditions = [pattern["type"] for pattern in rule.get("onPodConditions", [])]
        if status in codes or condition in conditions:
            if rule["action"] == "Ignore":
                return "the pod is replaced"
            reason = "PodFailurePolicy"
            break
    for rule in jobset["spec"]["failurePolicy"]["rules"]:
        if reason in rule["onJobFailureReasons"]:
            return rule["action"]
    return "RestartJobSet"  # counted against maxRestarts


def test_exit_statuses_mean_what_they_mean_on_tpu_vms(manifest):
    jobset = manifest()
    assert what_happens(jobset, status=42) == "the pod is replaced"
    assert what_happens(jobset, status=137, condition="DisruptionTarget") == "the pod is replaced"
    assert what_happens(jobset, status=2) == "FailJobSet"
    assert what_happens(jobset, status=1) == "RestartJobSet"
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] == 10


def test_pods_find_everything_in_the_bucket(cloud, manifest):
    jobset = manifest("--", "--seed", "7")
    container = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert environment["CM3LEON_LAUNCH"] == "gs://bucket/pod"
    names = {path.name for path in (cloud.bucket / "pod").iterdir()}
    assert names == {"launch.env", "startup.sh"} and len(list((cloud.bucket / "code").iterdir())) == 1
    assert "--seed 7" in (cloud.bucket / "pod/launch.env").read_text()
    status = cloud.run("pod", "status")
    assert "v5p-64 on GKE" in status.stdout
    refused = cloud.run("pod", "delete")
    assert refused.returncode == 2 and "kubectl delete jobset pod" in refused.stderr


@pytest.mark.parametrize(("mark", "status"), [("finished", 0), ("failed", 2)], ids=["finished", "failed"])
def test_a_pod_ends_as_the_launch_did(cloud, manifest, mark, status):
    """The container's own command, run here with the environment that the manifest gives it."""
    import subprocess

    cloud.job("exit 0" if mark == "finished" else "exit 2")
    jobset = manifest("--type", "v5e-8")
    container = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0]
    environment = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    environment |= {"CM3LEON_HOME": str(cloud.folder / "pod"), "CM3LEON_SLICE": "0", "TPU_WORKER_ID": "0"}
    environment |= json.loads((cloud.folder / "worker.json").read_text()) | {"CM3LEON_PROCESS_INDEX": "0"}
    result = subprocess.run(
        container["command"], env=cloud.environment | environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == status, result.stderr
    assert (cloud.bucket / f"pod/state/{mark}").is_file()


def test_a_dry_run_prints_a_manifest_and_runs_nothing(cloud):
    result = cloud.run(*POD, "--dry-run", program="gke_run.sh")
    assert result.returncode == 0 and not cloud.calls()
    assert violations(yaml.safe_load(result.stdout), SCHEMA) == []
    assert "# gcloud storage cp" in result.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--image", "a b"), "bad --image"),
        (("--bucket", "/shared"), "--bucket must be a gs:// URL"),
        (("--reserved",), "are the node pool's"),
        (("--zone-of", "x"), "unknown option --zone-of"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(cloud, options, message):
    result = cloud.run(*POD, *options, program="gke_run.sh")
    assert result.returncode == 2 and message in result.stderr and not result.stdout
    assert len(result.stderr.strip().splitlines()) == 1
