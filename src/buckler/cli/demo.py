"""buckler demo: the whole story on handwritten digits that ship with scikit-learn."""

import io
import json
import time
import urllib.request
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image

from buckler import files
from buckler.assess.pictures import load_examples
from buckler.cli import show
from buckler.cli.config import AssessSection, Config, DataSection, ModelSection
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
    tell(Project.of(demo_config(output.resolve()), output.resolve()))
    show.line(f"open {output / 'report.html'}; keep it serving: buckler serve {output / 'bundle'}")
    show.line(f"{time.perf_counter() - started:.0f} seconds")


def tell(project: Project) -> None:
    """The chain, then the classifier over several seeds, the picture and the gateway."""
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


def demo_config(output: Path) -> Config:
    return Config(
        model=ModelSection(factory="buckler.models.nets:digits_cnn", train=True),
        data=DataSection(source="digits"),
        assess=AssessSection(steps=40, queries=250),  # four minutes on two cores
        output=output,
    )


def _one_pixel_picture(project: Project) -> Path | None:
    """Before and after, side by side, 16-fold."""
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
    """Start the gateway on a free port, show it a clean digit and those that fool the undefended
    classifier at the policy's eps, stop it."""
    from buckler.serve import Background, Settings  # only here: an extra brings it

    examples = load_examples(project.out / "assessment" / "examples.npz")
    if examples is None:
        show.line("no adversarial digit was found to send")
        return
    spec = project.data.spec
    with Background(project.bundle, Settings.read(port=0, expose="scores"), log=False) as url:
        show.line(f"gateway at {url}; the first digit is a {spec.class_names[examples['y'][0]]}")
        clean = _post(url, spec.encode(torch.from_numpy(examples["x"][0])))
        attacked = [_post(url, spec.encode(torch.from_numpy(x))) for x in examples["x_adv"]]
    show.line(f"clean:       {_in_words(clean)}")
    show.line(f"adversarial: {_in_words(attacked[0])}")
    flagged = sum(answer["status"] == "SUSPICIOUS" for answer in attacked)
    right = sum(
        answer["status"] == "ACCEPTED" and answer["prediction"] == spec.class_names[y]
        for answer, y in zip(attacked, examples["y"], strict=True)
    )
    show.line(
        f"of {len(attacked)} digits that fool the undefended classifier, the gateway reads {right} "
        f"right, sends {flagged} to review and is fooled by {len(attacked) - right - flagged}"
    )


def _in_words(answer: dict[str, Any]) -> str:
    return (
        f"{answer['prediction']} at {answer['confidence']:.1%}, anomaly "
        f"{answer['anomaly_score']:.2f}: {IN_PRINT[answer['status']]}"
    )


def _post(url: str, body: bytes) -> dict[str, Any]:
    """The gateway's verdict on one PNG file."""
    request = urllib.request.Request(f"{url}/v1/classify", body, {"Content-Type": "image/png"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        verdict: dict[str, Any] = json.load(answer)["verdicts"][0]
        return verdict
