"""buckler-gateway: the verbs of whoever runs a gateway. They need no attack code, nor load any."""

from buckler.cli.entry import command, enter
from buckler.cli.key import key
from buckler.cli.review import review
from buckler.cli.rollout import rollout
from buckler.cli.serve import serve
from buckler.cli.store import store

app = command("buckler-gateway", "Serve a bundle, and look after its keys, store and review queue.")
app.command()(serve)
app.add_typer(key, name="key")
app.add_typer(review, name="review")
app.add_typer(rollout, name="rollout")
app.add_typer(store, name="store")


def main() -> None:
    enter(app, "interrupted")


if __name__ == "__main__":
    main()
