"""module:function, the name of a function that builds a model."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from buckler.errors import UsageError


def build_factory(name: str, folder: Path | None = None) -> Callable[[], object]:
    """The function `module:function` names; `folder` is searched first.

    Raises: UsageError if the name is malformed or leads nowhere, or its module cannot be imported.
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise UsageError(f"a factory is named 'module:function'. Got {name!r}")
    if folder is not None and str(folder.resolve()) not in sys.path:
        sys.path.insert(0, str(folder.resolve()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the factory {name!r} needs the module {error.name!r}, which is not to be found: "
            "check the name, and that the file lies beside buckler.toml"
        ) from None
    except (Exception, SystemExit) as error:  # the module is the user's: it may raise anything
        raise UsageError(
            f"the factory {name!r} must be in a module that can be imported. "
            f"Got {_first_line(error)}: mend {module_name!r}, or name it from the top"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UsageError(f"the module {module_name!r} has no function {function_name!r}")
    return function  # type: ignore[no-any-return]


def build_module(name: str, seed: int = 0, folder: Path | None = None) -> nn.Module:
    """What the factory builds with torch's seed set; the caller's random state is restored.

    Raises: UsageError if the factory is not to be had, fails, or builds something else.
    """
    build = build_factory(name, folder)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            module = build()
        except (Exception, SystemExit) as error:  # the function is the user's too
            raise UsageError(
                f"the factory {name!r} must build a net when called without arguments. "
                f"Got {_first_line(error)}: mend the function"
            ) from error
    if not isinstance(module, nn.Module):
        raise UsageError(f"the factory {name!r} must return an nn.Module. Got {type(module)}")
    return module


def _first_line(error: BaseException) -> str:
    """The exception's type and the first line of its text."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
