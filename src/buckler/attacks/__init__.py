"""Attacks: one file each, one visible loop each."""

from buckler.attacks.apgd import APGD
from buckler.attacks.eot import EOT
from buckler.attacks.fgsm import FGSM
from buckler.attacks.onepixel import OnePixel
from buckler.attacks.pgd import PGD
from buckler.attacks.square import Square

__all__ = ["APGD", "EOT", "FGSM", "PGD", "OnePixel", "Square"]
