"""Attacks: one file each, one visible loop each."""

from buckler.attacks.apgd import APGD
from buckler.attacks.bpda import BPDA
from buckler.attacks.capgd import CAPGD
from buckler.attacks.carlini_wagner import CW
from buckler.attacks.colour import ColourShift
from buckler.attacks.corruptions import Corruptions
from buckler.attacks.ddn import DDN
from buckler.attacks.deepfool import DeepFool
from buckler.attacks.enumerate import Enumerate
from buckler.attacks.eot import EOT, Randomised, confirm, draws_each_row
from buckler.attacks.estimate import Estimated, Estimating
from buckler.attacks.fab import FAB
from buckler.attacks.fgsm import FGSM
from buckler.attacks.fmn import FMN
from buckler.attacks.hopskipjump import HopSkipJump
from buckler.attacks.moeva import MOEVA
from buckler.attacks.onepixel import OnePixel
from buckler.attacks.orthogonal import OrthogonalPGD
from buckler.attacks.patch import PatchAttack
from buckler.attacks.pgd import PGD
from buckler.attacks.search import PriceSearch
from buckler.attacks.sigma_zero import SigmaZero
from buckler.attacks.simba import SimBA
from buckler.attacks.spatial import WorstOfK
from buckler.attacks.square import Square
from buckler.attacks.sticker import StickerAttack, sticker_success
from buckler.attacks.strong import Strong
from buckler.attacks.surrogate import Study, train_surrogate
from buckler.attacks.text import TextSearch
from buckler.attacks.transfer import Transfer
from buckler.attacks.under import Under

__all__ = [
    "APGD",
    "BPDA",
    "CAPGD",
    "CW",
    "DDN",
    "EOT",
    "FAB",
    "FGSM",
    "FMN",
    "MOEVA",
    "PGD",
    "ColourShift",
    "Corruptions",
    "DeepFool",
    "Enumerate",
    "Estimated",
    "Estimating",
    "HopSkipJump",
    "OnePixel",
    "OrthogonalPGD",
    "PatchAttack",
    "PriceSearch",
    "Randomised",
    "SigmaZero",
    "SimBA",
    "Square",
    "StickerAttack",
    "Strong",
    "Study",
    "TextSearch",
    "Transfer",
    "Under",
    "WorstOfK",
    "confirm",
    "draws_each_row",
    "sticker_success",
    "train_surrogate",
]
