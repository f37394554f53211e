"""Every recipe of docs/launch.md, top to bottom in one shell session, against the stand-in Google Cloud."""

import inspect
import pathlib
import re

from cm3leon_jax.commands.train import train

DOCUMENT = pathlib.Path(__file__).parent.parent.parent / "docs/launch.md"
RECIPES = re.findall(r"^```bash recipe\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)


def test_every_recipe_works_as_it_stands(cloud):
    for part in ("prepared/data", "text_tokenizer/model", "image_tokenizer/model"):  # what launch/demo.sh leaves
        (cloud.checkout / "runs/demo" / part).mkdir(parents=True)
        (cloud.checkout / "runs/demo" / part / "file").write_text(part)
    # The first run finishes; the others go on until they are told not to.
    cloud.job(
        '[[ "$*" == *my-cm3leon/first* ]] && { [ -f "${!#}/file" ] && exit 0; exit 2; }\n'
        'trap "exit 42" TERM; sleep 600 & wait'
    )
    # first; seven and two, which wait for capacity; long; again, created twice.
    cloud.outcomes("ACTIVE", "WAITING_FOR_RESOURCES", "WAITING_FOR_RESOURCES", "ACTIVE", "ACTIVE", "ACTIVE")
    cloud.program(
        "kubectl", f'echo "$*" >>"{cloud.folder}/kubectl.txt"; [ "$1" != apply ] || cat >"{cloud.folder}/pods.yaml"'
    )
    outputs = {}
    environment = "\n".join(line for recipe in RECIPES for line in recipe.splitlines() if line.startswith("export "))
    for number, recipe in enumerate(RECIPES):
        for run, command in (("long", "stop"), ("again", "simulate-preemption")):  # a person waits for the job to run
            line = f"launch/tpu_run.sh {run} {command}"
            started = cloud.folder / f"buckets/my-cm3leon/{run}/attempts/0001/worker-003.started"
            recipe = recipe.replace(line, f"until [ -f {started} ]; do sleep 0.2; done\n{line}")
        result = cloud.shell(f"{environment}\n{recipe}")
        assert result.returncode == 0, f"{recipe}\n{result.stdout}{result.stderr}{cloud.consoles()}"
        outputs[number] = RECIPES[number], result.stdout + result.stderr
    text = {recipe.split("launch/")[1].split()[1]: output for recipe, output in outputs.values() if "launch/" in recipe}
    assert "first is finished" in outputs[1][1]
    assert "gcloud compute tpus queued-resources create seven" in outputs[2][1]
    assert "WAITING_FOR_RESOURCES" in text["seven"]
    assert "job       running" in text["long"] and "[worker 3]" in text["long"]
    assert "deleted the TPU VMs of again" in text["again"]
    assert "on GKE" in text["pods"]
    assert "kind: JobSet" in (cloud.folder / "pods.yaml").read_text()
    assert not list((cloud.folder / "queued").glob("*.json")), "a recipe leaves a slice behind"


def test_the_document_names_only_what_there_is():
    text = DOCUMENT.read_text()
    for name in set(re.findall(r"launch/[a-z_]+\.[A-Za-z]+", text)):
        assert (DOCUMENT.parent.parent / name).is_file(), name
    options = (DOCUMENT.parent.parent / "launch/tpu/arguments.sh").read_text()
    of_train = {f"--{name}" for name in inspect.signature(train).parameters}
    for option in re.findall(r"`(--[a-z_-]+)`", text):
        assert f"{option.replace('_', '-')})" in options or option in {"--", *of_train}, option
