"""`cm3leon recipes`."""

from __future__ import annotations


def recipes(output: str = "docs/recipes.md", work: str = "runs/recipes", models: str = "", hardware: str = "") -> None:
    """Plans every model size on every slice that has a hardware file, and writes the page about it to --output.

    Each size for as many steps as the paper trained it. Takes one to three minutes a plan, some hours in all. Finished
    plans are kept below --work: killed, it continues; delete the folder to plan anew. With nothing left to plan it
    needs no libtpu. --models 7b,350m and --hardware v5e_256,v5p_128 plan those alone; the page shows what is below
    --work, and names the hardware files that are not."""
    import itertools
    import pathlib
    import subprocess
    import sys

    from cm3leon_jax.cli import GIN_CONFIGS
    from cm3leon_jax.planning.recipes import page
    from cm3leon_jax.runtime.errors import UserError
    from cm3leon_jax.runtime.files import read_json, written_aside

    def chosen(names: str, known: list[str], kind: str) -> list[str]:
        wanted = [name for name in names.split(",") if name] or known
        for name in wanted:
            if name not in known:
                raise UserError(f"no {kind} file {name!r} for slices; known are {', '.join(known)}")
        return wanted

    folder = pathlib.Path(work)
    folder.mkdir(parents=True, exist_ok=True)
    sizes = [path.stem for path in sorted(GIN_CONFIGS.glob("models/*.gin")) if path.stem != "demo"]
    slices = [path.stem for path in sorted(GIN_CONFIGS.glob("hardware/v*_*.gin"))]
    pairs = list(itertools.product(chosen(models, sizes, "model"), chosen(hardware, slices, "hardware")))
    for number, (model, name) in enumerate(pairs, start=1):
        file = folder / f"{model}.{name}.json"
        if file.exists():
            continue
        print(f"{number} of {len(pairs)}: {model} on {name} …", flush=True)
        files = [f"--gin_file={part}" for part in (f"models/{model}", f"hardware/{name}", "runs/pretrain")]
        command = [sys.executable, "-m", "cm3leon_jax.cli", "plan", *files, "--json", str(file)]
        result = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if not file.exists():  # it is written where the step does not fit, too
            raise RuntimeError(f"{' '.join(command)} ended with status {result.returncode}:\n{result.stderr}")
    plans = {
        (model, name): read_json(folder / f"{model}.{name}.json", what="plan", make_with="cm3leon recipes")
        for model, name in itertools.product(sizes, slices)
        if (folder / f"{model}.{name}.json").exists()
    }
    with written_aside(output) as path:
        path.write_text(page(plans, slices))
    print(f"{len(plans)} plans in {output}")
