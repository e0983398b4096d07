"""The gateway: a bundle behind HTTP that answers ACCEPTED or SUSPICIOUS. Holds no attack code."""

from buckler.errors import UsageError

try:
    from buckler.serve.app import create_app
    from buckler.serve.run import Background, serve
    from buckler.serve.settings import Settings
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] == "buckler":
        raise
    raise UsageError(
        f"the gateway needs {error.name}, which is not installed: "
        'pip install -c constraints.txt -e ".[serve]"'
    ) from None

__all__ = ["Background", "Settings", "create_app", "serve"]
