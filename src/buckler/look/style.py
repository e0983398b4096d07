"""The one stylesheet."""

from importlib.resources import files


def stylesheet() -> str:
    return files("buckler.look").joinpath("style.css").read_text()
