"""The command line: one verb a file, one sentence an error, exit codes that mean something."""

from buckler.cli.assess import assess
from buckler.cli.build import build
from buckler.cli.certify import certify
from buckler.cli.check import check
from buckler.cli.demo import demo
from buckler.cli.entry import command, enter
from buckler.cli.harden import harden
from buckler.cli.init import init
from buckler.cli.key import key
from buckler.cli.predict import predict
from buckler.cli.redteam import redteam
from buckler.cli.report import report
from buckler.cli.retrain import retrain
from buckler.cli.review import review
from buckler.cli.rollout import rollout
from buckler.cli.run import run
from buckler.cli.serve import serve
from buckler.cli.store import store

app = command(
    "buckler", "Make a classifier hard to fool, show by how much, and keep it so in production."
)
for verb in (
    init,
    run,
    assess,
    harden,
    build,
    certify,
    check,
    predict,
    serve,
    redteam,
    retrain,
    demo,
):
    app.command()(verb)
app.add_typer(key, name="key")
app.add_typer(report, name="report")
app.add_typer(review, name="review")
app.add_typer(rollout, name="rollout")
app.add_typer(store, name="store")


def main() -> None:
    enter(
        app,
        "interrupted; finished steps and the last checkpoint are kept: "
        "the same command goes on from there",
    )


if __name__ == "__main__":
    main()
