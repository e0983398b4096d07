"""buckler demo: the whole story on handwritten digits that ship with scikit-learn."""

import json
import time
import urllib.request
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from buckler import files
from buckler.assess.pictures import load_examples
from buckler.cli import show
from buckler.cli.config import Config, DataSection, HardenSection, ModelSection
from buckler.cli.project import Project
from buckler.cli.run import run_chain
from buckler.cli.steps_model import seeds_summary
from buckler.verdict import IN_PRINT

SEEDS = 3


def demo(
    output: Annotated[Path, typer.Option(help="Where everything is written.")] = Path("out/demo"),
) -> None:
    """From a fooled classifier to a guarded one that serves, on handwritten digits."""
    started = time.perf_counter()
    project = Project(demo_config(output.resolve()), output.resolve())
    run_chain(project, "buckler demo")
    show.step(f"the ordinary classifier over {SEEDS} seeds")
    seeds = seeds_summary(project, SEEDS)
    each = ", ".join(f"{value:.1%}" for value in seeds["accuracies"])
    show.line(f"clean accuracy {seeds['mean']:.2%} on average ({each}; n = {seeds['n']} each)")
    show.step("serve it: a clean and an adversarial digit")
    picture = _one_pixel_picture(project)
    _ask_gateway(project)
    if picture is not None:
        show.line(f"one pixel that turned a digit into another: {picture}")
    show.line(f"open {output / 'report.html'}; keep it serving: buckler serve {output / 'bundle'}")
    show.line(f"{time.perf_counter() - started:.0f} seconds")


def demo_config(output: Path) -> Config:
    return Config(
        model=ModelSection(factory="buckler.models.nets:digits_cnn", train=True),
        data=DataSection(source="digits"),
        harden=HardenSection(epochs=50),
        output=output,
    )


def _one_pixel_picture(project: Project) -> Path | None:
    """Before and after, side by side, 8-fold."""
    import io

    import numpy as np
    from PIL import Image

    examples = load_examples(project.out / "assessment" / "one_pixel.npz")
    if examples is None:
        return None
    pair = np.concatenate([examples["x"][0, 0], examples["x_adv"][0, 0]], axis=1)
    picture = Image.fromarray((pair * 255).round().astype(np.uint8))
    stream = io.BytesIO()
    picture.resize((picture.width * 16, picture.height * 16), Image.Resampling.NEAREST).save(
        stream, "PNG"
    )
    path = project.out / "one_pixel.png"
    files.write_bytes(path, stream.getvalue())
    return path


def _ask_gateway(project: Project) -> None:
    """Start the gateway on a free port, show it two files, stop it."""
    from buckler.serve import Background, Settings

    examples = load_examples(project.out / "assessment" / "examples.npz")
    spec = project.data.spec
    clean = project.data["test"].x[0] if examples is None else torch.from_numpy(examples["x"][0])
    shown = [("clean", clean)]
    if examples is not None:
        shown.append(("adversarial", torch.from_numpy(examples["x_adv"][0])))
    with Background(project.bundle, Settings(port=0)) as url:
        show.line(f"gateway at {url}")
        for name, image in shown:
            verdict = _post(f"{url}/v1/classify", spec.encode(image))["verdicts"][0]
            show.line(
                f"{name}: {verdict['prediction']} at {verdict['confidence']:.1%}, "
                f"anomaly {verdict['anomaly_score']:.2f}: {IN_PRINT[verdict['status']]}"
            )
    show.line("gateway stopped")


def _post(url: str, body: bytes) -> dict[str, Any]:
    request = urllib.request.Request(url, body, {"Content-Type": "image/png"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        value: dict[str, Any] = json.load(answer)
        return value
