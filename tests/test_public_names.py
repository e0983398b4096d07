"""The public names: each resolves, always to the same thing, and loads no more than it needs."""

import doctest
import importlib
import subprocess
import sys

import pytest

import buckler


def fresh(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", buckler.__all__)
def test_each_public_name_resolves(name: str) -> None:
    home = importlib.import_module(f"buckler.{buckler._HOME[name]}")
    assert hasattr(home, name)
    assert name in dir(buckler)


def test_a_public_name_means_the_same_at_every_look() -> None:
    """No public name is a package's, or the import of that package would replace it."""
    code = """
import buckler
first = {name: getattr(buckler, name, None) for name in buckler.__all__}
import buckler.assess, buckler.certify, buckler.harden
again = {name: getattr(buckler, name, None) for name in buckler.__all__}
print([name for name in first if not callable(first[name]) or first[name] is not again[name]])
"""
    assert fresh(code) == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'buckler' has no attribute 'nothing'"):
        _ = buckler.nothing


def test_import_buckler_loads_no_torch_and_no_attacks() -> None:
    code = """
import sys, buckler
print(sorted(m for m in sys.modules if m == 'torch' or m.startswith('buckler.')))
"""
    assert fresh(code) == "[]"


def test_a_gateway_holds_no_attack_code() -> None:
    code = """
import sys, buckler.guard, buckler.serve
banned = ('buckler.attacks', 'buckler.harden', 'buckler.assess')
print([m for m in sys.modules if m.startswith(banned)])
"""
    assert fresh(code) == "[]"


def test_pure_maths_loads_no_torch() -> None:
    code = """
import sys, buckler.stats, buckler.verdict, buckler.errors
print([m for m in ('torch', 'sqlalchemy', 'fastapi', 'uvicorn') if m in sys.modules])
"""
    assert fresh(code) == "[]"


@pytest.mark.parametrize("name", ["stats", "defenses.names", "testing"])
def test_examples_in_docstrings(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"buckler.{name}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_exit_codes() -> None:
    from buckler import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.__name__: kind.exit_code for kind in kinds if kind is not errors.BucklerError}
    assert codes == {
        "UsageError": 2,
        "BudgetError": 2,
        "DataError": 3,
        "BundleError": 3,
        "PolicyError": 1,
        "ConflictError": 1,
        "StoreDownError": 3,
    }
    assert issubclass(errors.UsageError, ValueError)
    assert issubclass(errors.DataError, ValueError)
