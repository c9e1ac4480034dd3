"""Attacks on classifiers, of foolbox and pyautoattack, and how they are counted."""

from fxtransport.detection.attacks.attack import Attack
from fxtransport.detection.attacks.attacked_set import AttackedSet
from fxtransport.detection.attacks.names import ATTACKS, make_attack
from fxtransport.detection.attacks.outcome import Outcome
from fxtransport.detection.attacks.pixel_model import PixelModel
from fxtransport.detection.attacks.run import attack_images

__all__ = [
    "ATTACKS",
    "Attack",
    "AttackedSet",
    "Outcome",
    "PixelModel",
    "attack_images",
    "make_attack",
]
