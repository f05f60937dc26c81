"""The commands. Each parses its arguments, calls one function of `ebbtide.api` and prints what comes back."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ebbtide import __version__
from ebbtide.cli.arguments import (
    AsJson,
    BundleFolder,
    Cache,
    Configuration,
    MinimumSequence,
    NoCode,
    Overrides,
    Quiet,
    RecipeFile,
    Trusted,
)
from ebbtide.cli.personalise import personalise
from ebbtide.cli.serve import serve
from ebbtide.cli.surface import speaking

app = typer.Typer(
    name="ebb",
    help="One trained PyTorch classifier in; signed mobile bundles whose cost follows the phone out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # The rich help imports a Markdown renderer: plain help answers in half the time.
    rich_markup_mode=None,
    add_completion=False,
)
keys_app = typer.Typer(
    help="Keys that sign bundles and that readers trust.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(keys_app, name="keys")


class BenchEngine(StrEnum):
    """What `bench` measures with."""

    python = "python"
    runner = "runner"


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Set nothing up; each command is complete in itself."""
    if version:
        print(f"ebb {__version__}")
        raise typer.Exit


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The recipe to write.")] = Path("recipe.yaml"),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a commented recipe with every default visible."""
    with speaking(as_json=as_json, quiet=quiet) as surface:
        from ebbtide import api

        written = api.init(path)
        surface.result({"recipe": str(written)}, lambda: print(f"Wrote {written}. Edit it, then: ebb build {written}"))


@app.command()
def check(
    recipe: RecipeFile,
    overrides: Overrides = [],  # noqa: B006 - typer copies defaults
    no_code: NoCode = False,
    cache: Cache = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Validate recipe, data and model without building; prints the model's accuracy."""
    with speaking(as_json=as_json, quiet=quiet) as surface:
        from ebbtide import api
        from ebbtide.cli import tables

        found = api.check(recipe, overrides=overrides, allow_code=not no_code, cache=cache, progress=surface.progress)
        surface.result(found.as_dict(), lambda: tables.checked(found))


@app.command()
def inspect(
    recipe: RecipeFile,
    overrides: Overrides = [],  # noqa: B006 - typer copies defaults
    no_code: NoCode = False,
    groups: Annotated[
        bool, typer.Option("--groups", help="Show which channels belong together instead, and what cannot shrink.")
    ] = False,
    svg: Annotated[Path | None, typer.Option("--svg", help="Also draw it into this SVG file.")] = None,
    cache: Cache = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show the model's graph: cut points, stages, costs; or its coupling groups."""
    with speaking(as_json=as_json, quiet=quiet) as surface:
        from ebbtide import api
        from ebbtide.cli import tables

        found = api.inspect(
            recipe,
            overrides=overrides,
            allow_code=not no_code,
            cache=cache,
            groups=groups,
            svg=svg,
            progress=surface.progress,
        )
        surface.result(found.as_dict(), lambda: tables.inspected(found))


@app.command()
def build(
    recipe: RecipeFile,
    overrides: Overrides = [],  # noqa: B006 - typer copies defaults
    no_code: NoCode = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where bundles and report go. [default: build/NAME]")
    ] = None,
    measurements: Annotated[
        Path | None, typer.Option("--measurements", help="Use this measurement record instead of measuring here.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option("--install", help="Also install the first device's bundle into this store.")
    ] = None,
    try_samples: Annotated[
        int, typer.Option("--try", min=0, help="Also predict so many real samples with the finished bundle.")
    ] = 0,
    cache: Cache = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Build a signed, verified bundle for each device of the recipe, and the report. Continues after a kill."""
    with speaking(as_json=as_json, quiet=quiet) as surface:
        from ebbtide import api
        from ebbtide.cli import tables

        built = api.build(
            recipe,
            overrides=overrides,
            allow_code=not no_code,
            cache=cache,
            output=output,
            measurements=measurements,
            progress=surface.progress,
        )
        first = next(iter(built.bundles.values()))
        key = [built.folder / "public.pem"]
        if store is not None:
            first = Path(api.install(first, store=store, trusted=key)["folder"])
            surface.progress.say(f"Installed in {first}")
        tried = api.run(first, built.samples, trusted=key)[:try_samples] if try_samples else []
        said = {**built.as_dict(), "tried": [one.as_dict() for one in tried]}
        surface.result(said, lambda: tables.built(built, tried))


app.command()(personalise)


@app.command()
def run(
    bundle: BundleFolder,
    source: Annotated[Path, typer.Argument(help="An image, a folder of images, or an .npz with `images`.")],
    configuration: Configuration = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many labels to print.")] = 3,
    adaptive: Annotated[
        bool, typer.Option("--adaptive", help="Let heat and battery choose the tier: this machine's, or recorded ones.")
    ] = False,
    signals: Annotated[
        Path | None,
        typer.Option(
            "--signals",
            help="Adapt to a recording (JSON lines), one reading a prediction, in its own time; the inputs are taken "
            "round and round until it ends. Implies --adaptive.",
        ),
    ] = None,
    decisions: Annotated[
        Path | None,
        typer.Option("--decisions", help="Append a JSON line for every decision to this file. Implies --adaptive."),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option("--server", help="Address of an `ebb serve` of this bundle, for the steps it leaves to a server."),
    ] = None,
    stream: Annotated[
        Path | None,
        typer.Option("--stream", help="The inputs are one camera's frames, in order; settings of the stream (JSON)."),
    ] = None,
    trusted: Trusted = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Predict with the real runtime, as a phone would."""
    with speaking(as_json=as_json, quiet=quiet) as surface:
        from ebbtide import api
        from ebbtide.cli import tables

        adaptive = adaptive or signals is not None or decisions is not None
        predict = partial(api.run_adaptive, signals=signals, decisions=decisions) if adaptive else api.run
        results = predict(
            bundle,
            source,
            configuration=configuration,
            top=top,
            trusted=trusted,
            server=server,
            stream=stream,
            progress=surface.progress,
        )
        surface.result(
            {"predictions": [r.as_dict() for r in results]}, lambda: tables.predicted(results, adaptive=adaptive)
        )


app.command()(serve)


@app.command()
def bench(
    bundle: BundleFolder,
    source: Annotated[
        Path | None, typer.Argument(help="Real inputs as for `run`. [default: samples.npz beside the bundles]")
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Passes over the inputs.")] = 20,
    engine: Annotated[
        BenchEngine, typer.Option("--engine", help="Python's session, or the C++ runner (`make runner`).")
    ] = BenchEngine.python,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the runner's raw times into this results file.")
    ] = None,
    trusted: Trusted = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Time every tier on this machine: p50, p90, spread, machine facts."""
    with speaking(as_json=as_json, quiet=quiet) as surface:
        from ebbtide import api
        from ebbtide.cli import tables

        if engine is BenchEngine.runner:
            measured = api.bench_runner(
                bundle, source, repeats=repeats, trusted=trusted, output=output, progress=surface.progress
            )
            surface.result(measured.summary(), lambda: tables.measured(measured))
            return
        found = api.bench(bundle, source, repeats=repeats, trusted=trusted, progress=surface.progress)
        surface.result(found.model_dump(mode="json"), lambda: tables.benched(found))


@app.command()
def verify(
    bundle: BundleFolder,
    trusted: Trusted = None,
    minimum_sequence: MinimumSequence = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check signature, sequence, names, sizes and hashes of a bundle; nothing in it is run."""
    with speaking(as_json=as_json, quiet=quiet) as surface:
        from ebbtide import api

        facts = api.verify(bundle, trusted=trusted, minimum_sequence=minimum_sequence)
        surface.result(
            facts, lambda: print(f"{bundle}: {facts['name']} {facts['sequence']}, {facts['files']} files, verified")
        )


@app.command()
def install(
    bundle: BundleFolder,
    store: Annotated[Path, typer.Option("--store", help="The local store; made when needed.")] = Path("store"),
    trusted: Trusted = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Verify a bundle and install it into a local store, keeping the last good one."""
    with speaking(as_json=as_json, quiet=quiet) as surface:
        from ebbtide import api

        facts = api.install(bundle, store=store, trusted=trusted)
        surface.result(facts, lambda: print(f"Installed {facts['name']} {facts['sequence']} in {facts['folder']}"))


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(help="The bundle that is there.", show_default=False)],
    new: Annotated[Path, typer.Argument(help="The bundle that would replace it.", show_default=False)],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show what changed between two bundles, and how many bytes travel."""
    with speaking(as_json=as_json, quiet=quiet) as surface:
        from ebbtide import api
        from ebbtide.cli import tables

        found = api.diff(old, new)
        surface.result(found.as_dict(), lambda: tables.compared(found))


@app.command()
def choose(
    facts: Annotated[str, typer.Argument(help="A device's facts (JSON), or `host` for this machine.")],
    bundles: Annotated[list[Path], typer.Argument(help="Folders of the bundles to choose from.", show_default=False)],
    trusted: Trusted = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Choose a bundle and the tier to begin with for a device, as an application on it would."""
    with speaking(as_json=as_json, quiet=quiet) as surface:
        from ebbtide import api
        from ebbtide.cli import tables

        found = api.choose(facts, bundles, trusted=trusted)
        surface.result(found.as_dict(), lambda: tables.chosen(found))


@app.command()
def simulate(
    bundle: BundleFolder,
    phone: Annotated[str, typer.Option("--phone", help="The phone to simulate.")] = "pixel-8",
    ambient: Annotated[
        str, typer.Option("--ambient", metavar="LOW..HIGH", help="Air in degrees Celsius, spread over the runs.")
    ] = "20..32",
    hours: Annotated[float, typer.Option("--hours", help="How long each run lasts, at most 48.")] = 2.0,
    policies: Annotated[
        list[str],
        typer.Option(
            "--policy",
            help="largest, smallest, games, unreal, unity or ours; may be repeated. [default: all]",
        ),
    ] = [],  # noqa: B006 - typer copies defaults
    runs: Annotated[int, typer.Option("--runs", help="How many runs, each with a seed of its own.")] = 12,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the first run.")] = 0,
    power: Annotated[
        Path | None, typer.Option("--power", help="Assumptions about power and use (YAML). [default: those shipped]")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where the page goes. [default: build/simulations/NAME-DEVICE-PHONE]"),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare policies for a bundle on a simulated phone; nothing is measured. Writes a page with plots."""
    with speaking(as_json=as_json, quiet=quiet) as surface:
        from ebbtide import api
        from ebbtide.cli import tables

        found = api.simulate(
            bundle,
            phone=phone,
            ambient=ambient,
            hours=hours,
            policies=policies,
            runs=runs,
            seed=seed,
            power=power,
            output=output,
            progress=surface.progress,
        )
        surface.result(found.as_dict(), lambda: tables.simulated(found))


@keys_app.command("new")
def keys_new(
    path: Annotated[Path, typer.Argument(help="Where to write the private key (PEM).", show_default=False)],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make a signing key (ECDSA P-256); an existing file is never overwritten."""
    with speaking(as_json=as_json, quiet=quiet) as surface:
        from ebbtide import api

        facts = api.new_key(path)
        surface.result(facts, lambda: print(f"Wrote {path} (key id {facts['key_id']}). Keep it secret."))


@keys_app.command("public")
def keys_public(
    path: Annotated[Path, typer.Argument(help="The private key (PEM).", show_default=False)],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Print the public key that readers trust."""
    with speaking(as_json=as_json, quiet=quiet) as surface:
        from ebbtide import api

        facts = api.public_key(path)
        surface.result(facts, lambda: print(facts["public_key"], end=""))
