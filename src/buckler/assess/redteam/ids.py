"""How security teams call an attack: MITRE ATLAS, NIST AI 100-2, OWASP ML, CWE.

ATLAS is renumbered from time to time, so an id stands with the version it was read in.
"""

from dataclasses import dataclass

from buckler.attacks.under import Under
from buckler.errors import UsageError
from buckler.protocols import Attack

SOURCES = {
    "atlas": "MITRE ATLAS 5.6.0",
    "nist": "NIST AI 100-2e2025",
    "owasp": "OWASP Machine Learning Security Top Ten 2023",
    "cwe": "CWE",
}


@dataclass(frozen=True)
class Family:
    """One class of attacks in each framework's words."""

    name: str
    atlas: tuple[str, ...]
    nist: str
    owasp: str = "ML01:2023 Input Manipulation Attack"
    cwe: str = "CWE-1039"

    def to_dict(self) -> dict[str, object]:
        return {
            "family": self.name,
            "atlas": list(self.atlas),
            "nist": self.nist,
            "owasp": self.owasp,
            "cwe": self.cwe,
            "sources": dict(SOURCES),
        }


_EVADE = "AML.T0015 Evade AI Model"
WHITE_BOX = Family(
    "white-box optimisation",
    ("AML.T0043.000 White-Box Optimization", "AML.T0044 Full AI Model Access", _EVADE),
    "NISTAML.022 Evasion",
)
QUERIES = Family(
    "black-box optimisation",
    (
        "AML.T0043.001 Black-Box Optimization",
        "AML.T0040 AI Model Inference API Access",
        _EVADE,
    ),
    "NISTAML.025 Black-box Evasion",
)
TRANSFER = Family(
    "black-box transfer",
    ("AML.T0043.002 Black-Box Transfer", "AML.T0005 Create Proxy AI Model", _EVADE),
    "NISTAML.025 Black-box Evasion",
)
PHYSICAL = Family(
    "manual and physical modification",
    ("AML.T0043.003 Manual Modification", "AML.T0041 Physical Environment Access", _EVADE),
    "NISTAML.022 Evasion",
)

_CLASSES = {
    WHITE_BOX: "APGD CAPGD CW DDN DeepFool FAB FGSM FMN OrthogonalPGD PGD SigmaZero Strong",
    QUERIES: "Enumerate Estimating HopSkipJump MOEVA OnePixel PriceSearch SimBA Square TextSearch",
    TRANSFER: "Transfer",
    PHYSICAL: "ColourShift Corruptions PatchAttack StickerAttack WorstOfK",
}
FAMILIES = {name: family for family, names in _CLASSES.items() for name in names.split()}
"""By the attack's class, whatever name it goes by in a suite."""


def family(attack: Attack) -> Family:
    """Raises: UsageError for an attack that stands in no table: a finding without ids is none."""
    own = attack.attack if isinstance(attack, Under) else attack
    name = type(own).__name__
    if name not in FAMILIES:
        raise UsageError(
            f"the attack {name} has no ATLAS, NIST and OWASP ids: add it to "
            "buckler.assess.redteam.ids"
        )
    return FAMILIES[name]
