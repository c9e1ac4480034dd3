"""A detector beside its model, as a library: fitted, saved, loaded, asked and tested."""

from fxtransport.detecting.adaptive import AdaptiveSettings
from fxtransport.detecting.attack_text import parse_attack, parse_attacks
from fxtransport.detecting.evaluating import (
    Evaluation,
    EvaluationSettings,
    evaluate_detectors,
    images_to_test,
    known_attacks,
)
from fxtransport.detecting.exporting import export_extractor
from fxtransport.detecting.fitting import FitSettings, fit_detectors
from fxtransport.detecting.folder import load_detector, save_detector
from fxtransport.detecting.image_detector import ImageDetector, Verdicts
from fxtransport.detecting.judging import Judged, judge_files
from fxtransport.detecting.other_data import OtherData, load_others
from fxtransport.detecting.repeating import (
    SeedsEvaluation,
    evaluate_over_seeds,
    images_to_split,
)
from fxtransport.detecting.source import DataSource
from fxtransport.detecting.subject import Subject, open_subject

__all__ = [
    "AdaptiveSettings",
    "DataSource",
    "Evaluation",
    "EvaluationSettings",
    "FitSettings",
    "ImageDetector",
    "Judged",
    "OtherData",
    "SeedsEvaluation",
    "Subject",
    "Verdicts",
    "evaluate_detectors",
    "evaluate_over_seeds",
    "export_extractor",
    "fit_detectors",
    "images_to_split",
    "images_to_test",
    "judge_files",
    "known_attacks",
    "load_detector",
    "load_others",
    "open_subject",
    "parse_attack",
    "parse_attacks",
    "save_detector",
]
