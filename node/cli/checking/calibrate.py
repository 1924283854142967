"""`prime-node calibrate` and `prime-node profile`: measure honest noise and show the result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli.options import DataDirOption, JsonOption, StoreOption, data_dir, model_store
from node.console.output import print_json, say, show_table

if TYPE_CHECKING:
    from node.calibration.measuring import CalibrationPlan
    from pipeline.models.prepared import PreparedModel
    from proofs.thresholds.profiles import MeasuringSide, Profile


app = typer.Typer(no_args_is_help=True, help="Calibrated thresholds: show, list.")


def command(
    model: Annotated[
        str, typer.Option("--model", help="A prepared model, or what `model get` takes.")
    ] = "smollm2",
    stages: Annotated[
        int, typer.Option("--stages", min=1, max=256, help="Stages that the model is cut into.")
    ] = 3,
    sequences: Annotated[
        int, typer.Option("--sequences", min=2, max=5000, help="Honest sequences to measure.")
    ] = 200,
    tokens: Annotated[
        int, typer.Option("--tokens", min=1, max=8192, help="Output tokens of each.")
    ] = 256,
    fpr: Annotated[
        float, typer.Option("--fpr", help="False-positive rate of a sequence to set limits for.")
    ] = 1e-2,
    dtype: Annotated[
        str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")
    ] = "auto",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda:0, …")] = "cpu",
    threads: Annotated[
        int, typer.Option("--threads", min=0, max=1024, help="CPU threads (0: torch's own).")
    ] = 0,
    batch: Annotated[
        int, typer.Option("--batch", min=1, max=512, help="Sequences that decode at once.")
    ] = 32,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Profile to write (default: in the data folder)."),
    ] = None,
    data_dir_: DataDirOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how far honest work is from a validator's own, and set thresholds by it.

    Generates sequences with the stages of a real pipeline (one process, many sequences at once),
    replays each as a validator does, and writes a *profile*: limits for chunks, sequences and
    sampling that honest work keeps, and how much honest work backs them.

    Run it on the device that validators will use, and for each model and dtype. Limits for a
    false-positive rate R need about 6/R honest sequences: with fewer the profile says which rate
    they support. An interrupted run continues where it stopped.

    Example:

        prime-node calibrate --model smollm2 --stages 3 --sequences 1000 --fpr 0.01

    You should see progress in sequences and, at the end, the limits and the profile's id.
    """
    from node.calibration.measuring import CalibrationPlan, even_boundaries, measure_honest
    from node.config.files import write_atomically
    from node.config.profiles import profiles_folder
    from node.config.typed import expand
    from node.console.progress import shown_progress
    from node.errors import InputError
    from proofs.thresholds.calibration import make_profile

    if not 0.0 < fpr < 1.0:
        raise InputError(f"--fpr {fpr}", "give a rate between 0 and 1, like 0.01")
    prepared = _prepared(model, model_store(store), dtype)
    manifest = prepared.manifest
    plan = CalibrationPlan(
        model=prepared,
        boundaries=even_boundaries(manifest.layers, stages),
        sequences=sequences,
        tokens=tokens,
        batch=min(batch, sequences),
        device=device,
    )
    name = f"{prepared.name}-{manifest.dtype}.toml"
    path = expand(output or profiles_folder(data_dir(data_dir_).path) / name)
    _use_device(device, threads)
    with shown_progress() as report:
        honest = measure_honest(plan, path.with_suffix(".jsonl"), report)
    prover, verifier = _sides(plan)
    profile = make_profile(
        honest,
        fpr,
        model_id=prepared.model_id,
        model_name=prepared.name,
        prover=prover,
        verifier=verifier,
        prompts=sequences,
        depths=[end / manifest.layers for end in plan.boundaries],
    )
    write_atomically(path, profile.to_toml().encode())
    _show(profile, as_json, path)


@app.command("show")
def show(
    which: Annotated[
        str, typer.Argument(help="A profile's file, its id (12 digits or more), or its name.")
    ],
    data_dir_: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a profile: its limits, what they were measured on, and the rate that is supported.

    Example:

        prime-node profile show smollm2-fp32

    You should see a table of limits and, below it, the profile's id.
    """
    from node.config.profiles import load_profile

    _show(load_profile(which, data_dir(data_dir_).path), as_json)


@app.command("list")
def list_(data_dir_: DataDirOption = None, as_json: JsonOption = False) -> None:
    """List the profiles that ship and those in the data folder.

    Example:

        prime-node profile list

    You should see a line for each: name, id, model, dtype, and the supported rate.
    """
    from node.config.profiles import profiles_folder, read_profile, shipped_profiles

    own = sorted(profiles_folder(data_dir(data_dir_).path).glob("*.toml"))
    found = {**shipped_profiles(), **{str(path): path for path in own}}
    profiles = {name: read_profile(path) for name, path in found.items()}
    if as_json:
        print_json([_described(profile, name) for name, profile in profiles.items()])
        return
    rows = [
        (
            name,
            profile.profile_id.hex()[:12],
            profile.model_name,
            profile.verifier.dtype,
            f"{profile.supported_fpr:.2g}",
        )
        for name, profile in profiles.items()
    ]
    columns = ("profile", "id", "model", "dtype", "supported FPR")
    show_table("profiles", columns, rows)


def _prepared(model: str, store: Path, dtype: str) -> PreparedModel:
    from node.console.preparing import prepare_with_progress
    from pipeline.models.errors import ModelNotFound
    from pipeline.models.store import open_model

    if dtype == "auto":
        try:
            return open_model(store, model)
        except ModelNotFound:
            pass
    return prepare_with_progress(model, store, dtype)


def _use_device(device: str, threads: int) -> None:
    """Raises EngineError for a device that this machine does not have."""
    import torch

    from pipeline.engine.loading import parse_device

    parse_device(device)
    if threads:
        torch.set_num_threads(threads)


def _sides(plan: CalibrationPlan) -> tuple[MeasuringSide, MeasuringSide]:
    import torch

    from pipeline.engine.loading import device_name, parse_device
    from proofs.thresholds.profiles import MeasuringSide

    device = device_name(parse_device(plan.device))[:256]
    dtype = plan.model.manifest.dtype
    made = f"torch {torch.__version__}"
    cuts = "/".join(map(str, plan.boundaries))
    prover = f"{made}, stages end at layers {cuts}, decoding {plan.batch} sequences at once"
    verifier = f"{made}, one prefill of the whole model"
    return (
        MeasuringSide(dtype=dtype, device=device, settings=prover[:256]),
        MeasuringSide(dtype=dtype, device=device, settings=verifier),
    )


def _described(profile: Profile, name: str = "") -> dict[str, object]:
    described: dict[str, object] = {
        "profile_id": profile.profile_id.hex(),
        "model": profile.model_name,
        "model_id": profile.model_id.hex(),
        "prover": profile.prover.model_dump(),
        "verifier": profile.verifier.model_dump(),
        "stages": profile.stages,
        "fpr": profile.fpr,
        "supported_fpr": profile.supported_fpr,
        "is_supported": profile.is_supported,
        "prompts": profile.prompts,
        "sequences": profile.sequences,
        "chunks": profile.chunks,
        "tokens": profile.tokens,
        "limits": profile.limits.model_dump(),
    }
    return {"name": name, **described} if name else described


def _show(profile: Profile, as_json: bool, path: Path | None = None) -> None:
    if as_json:
        print_json({**_described(profile), **({} if path is None else {"path": str(path)})})
        return
    limits = profile.limits.model_dump()
    by_depth = limits.pop("sequence_mant_at")
    rows = [(name, f"{value:.4g}") for name, value in limits.items()]
    rows += [(f"sequence_mant up to depth {at:.3g}", f"{limit:.4g}") for at, limit in by_depth]
    title = f"{profile.model_name}, {profile.prover.dtype} → {profile.verifier.dtype}"
    show_table(title, ("limit", "value"), rows)
    say(
        f"measured   {profile.sequences} honest sequences, {profile.chunks} chunks, "
        f"{profile.tokens} tokens in {profile.stages} stages"
    )
    support = f"supported  a false-positive rate of {profile.supported_fpr:.2g} per sequence"
    if not profile.is_supported:
        support += f"; {profile.fpr:g} was asked for and needs more sequences"
    say(support)
    say(f"profile    {profile.profile_id.hex()}")
    if path is not None:
        say(f"file       {path}")
