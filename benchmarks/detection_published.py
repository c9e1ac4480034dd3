"""The published figures of detectors, beside which ours stand: THESIS, ResNet110 on CIFAR-10.

TR is the transport forest, MH Mahalanobis, NS natural scene statistics. All images count as
attacked.
"""

PUBLISHED_COLUMNS = ("fgm", "bim", "apgd", "autoattack", "deepfool", "cw", "hsj", "boundary")
PUBLISHED_TEXT = """
seen   accuracy VAN TR  97.14  97.54   94.1  88.88  99.98  98.04  99.94  96.56
seen   accuracy RCE TR  95.96  96.16  95.32      -  99.92  89.36      -      -
seen   accuracy LAP TR   98.7  99.28   97.5  94.08  99.84  97.96  99.92  97.02
seen   accuracy VAN MH  87.78  86.78  82.08  80.46   91.5  85.58   85.5   80.2
seen   accuracy RCE MH   93.0   92.3  87.88      -  94.98  83.38      -      -
seen   accuracy LAP MH  95.64  95.38   90.7  89.96   96.7  93.36  94.56  89.62
seen   accuracy VAN NS  94.56  95.04  94.28  88.78  99.78  93.86  99.68   92.1
unseen accuracy VAN TR      -   96.0   89.3   85.1   91.0   93.2   93.0   90.9
unseen accuracy RCE TR      -   93.6   91.8   50.0   63.4   60.5   63.9   52.5
unseen accuracy LAP TR      -   98.8   92.8   84.2   75.5   75.2   76.8   75.0
unseen accuracy VAN MH      -   77.2   77.3   72.1   80.1   79.9   79.7   79.3
unseen accuracy RCE MH      -   82.6   81.5   50.0   81.2   76.0   81.6   68.5
unseen accuracy LAP MH      -   84.9   87.9   81.9   81.6   81.5   81.5   81.4
unseen accuracy VAN NS      -   93.9   92.1   51.8   51.4  50.84   52.1   59.9
seen   auroc    VAN TR      -      -      -  94.91  99.94  98.77  99.95      -
seen   auroc    LAP TR      -      -      -  99.95  99.92  99.96  99.94      -
seen   auroc    VAN MH      -      -      -  81.94   89.6  88.33  86.01      -
seen   auroc    LAP MH      -      -      -  94.17  94.17  94.31  93.45      -
unseen auroc    VAN TR      -      -      -   82.7  90.09  88.84   87.3      -
unseen auroc    VAN MH      -      -      -  56.46  62.25  61.59  55.89      -
seen   fpr      VAN TR    3.3    2.7    6.3    1.9    0.1    2.6    0.1      -
seen   fpr      LAP TR    1.5    0.8      2    1.5    0.2    2.8    0.1      -
seen   fpr      VAN MH   13.9   13.6   18.7   13.3   10.2   12.4   11.9      -
seen   fpr      LAP MH    3.5    3.1    4.7    6.4    4.6    7.4    5.8      -
seen   fpr      VAN NS    5.4    4.8    4.9    2.9    0.4    2.3    0.3      -
"""
"""Tables 32, 35, 42, 43 and 40 of THESIS, H."""


def _published() -> dict[tuple[str, str], dict[str, dict[str, float]]]:
    """By protocol and figure, then by network and detector, then by attack."""
    found: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for line in PUBLISHED_TEXT.strip().splitlines():
        protocol, figure, how, name, *texts = line.split()
        figures = {
            attack: float(text)
            for attack, text in zip(PUBLISHED_COLUMNS, texts, strict=True)
            if text != "-"
        }
        found.setdefault((protocol, figure), {})[f"{how} {name}"] = figures
    return found


PUBLISHED = _published()
PUBLISHED_EVASIONS = {
    "VAN TR": {"decisions": 16.5},
    "VAN MH": {"decisions": 25.7},
    "LAP TR": {"decisions": 6.8, "features": 14.0},
    "LAP MH": {"decisions": 12.9},
}
"""THESIS 5.4.5, of 1700 images."""
OTHER_COLUMNS = ("near, seen", "far after near", "cw, seen", "far after cw")
"""The two experiments of THESIS 5.4.4: fitted on a near set or on CW, tested on that and on a far
set. The published near set is CIFAR-100, and the far one SVHN."""
PUBLISHED_OTHER = {
    "auroc": {
        "VAN TR": (99.64, 98.74, 99.32, 96.29),
        "RCE TR": (99.61, 99.01, 96.53, 86.34),
        "LAP TR": (99.73, 99.43, 99.31, 96.12),
        "VAN MH": (92.74, 97.00, 88.38, 88.04),
        "RCE MH": (97.97, 96.26, 88.28, 79.53),
        "LAP MH": (98.06, 96.31, 95.22, 86.54),
    },
    "fpr95": {
        "VAN TR": (1.16, 2.68, 2.71, 6.68),
        "RCE TR": (1.16, 1.94, 19.2, 24.98),
        "LAP TR": (1.02, 1.54, 2.70, 5.68),
        "VAN MH": (36.42, 15.66, 49.46, 36.78),
        "RCE MH": (7.34, 20.30, 41.94, 52.72),
        "LAP MH": (6.98, 17.56, 23.06, 58.40),
    },
}
"""Tables 44 and 45 of THESIS, H."""
SHORT = {
    "transport": "TR",
    "mahalanobis": "MH",
    "mahalanobis-logistic": "MH",
    "mahalanobis-noise": "MH",
    "nss": "NS",
}


def short(label: str) -> str:
    """The published name of a network and a detector: ``VAN TR`` of ``VAN transport``."""
    how, _, name = label.partition(" ")
    return f"{how} {SHORT.get(name, name)}"
