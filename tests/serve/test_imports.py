"""A gateway holds no attack code, and says how to install what it lacks."""

import subprocess
import sys


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    return done.stdout + done.stderr


def test_a_gateway_holds_no_attack_code() -> None:
    found = python(
        "import sys; from buckler.serve import Background, Settings, create_app, serve; "
        "print('buckler.guard' in sys.modules, [name for name in sys.modules if "
        "name.split('.')[:2][-1] in ('attacks', 'harden', 'assess') and name[:7] == 'buckler'])"
    )
    assert found.strip() == "True []"


def test_a_missing_extra_is_one_sentence() -> None:
    found = python(
        "import sys; sys.modules['structlog'] = None\n"
        "from buckler.errors import UsageError\n"
        "try: import buckler.serve\n"
        "except UsageError as error: print(error)"
    )
    assert found.strip() == (
        "the gateway needs structlog, which is not installed: "
        'pip install -c constraints.txt -e ".[serve]"'
    )
