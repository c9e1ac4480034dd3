"""A folder as people have it: patches of photographs in many formats, with what does not belong."""

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from tests.cli.running import in_process

SIZE, ENDINGS = 32, ("jpg", "png", "webp", "bmp", "tiff")
NET = """
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

    def forward(self, x):
        return x + self.norm(self.conv(x)).relu()

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.blocks = nn.Sequential(*(Block() for _ in range(4)))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patches of scikit-learn's two photographs, in ``train`` and ``val``."""
    root = tmp_path_factory.mktemp("photographs")
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, photograph in zip(("temple", "flower"), load_sample_images().images, strict=True):
        rows, columns = (side // SIZE for side in photograph.shape[:2])
        for number in range(0, rows * columns, 2):
            row, column = (SIZE * place for place in divmod(number, columns))
            patch = photograph[row : row + SIZE, column : column + SIZE]
            ending = ENDINGS[number // 2 % len(ENDINGS)]
            split = "val" if number % 10 == 4 else "train"
            path = root / split / name / f"{number:03}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(patch)
            if ending == "png" and number % 4 == 2:
                # gray, of 16 bits
                levels = np.asarray(image.convert("L")).astype("uint16") * 257
                Image.fromarray(levels).save(path)
            elif ending == "jpg":
                image.save(path, exif=exif)
            else:
                image.save(path)
    first = sorted((root / "train/temple").glob("*.jpg"))[0]
    first.write_bytes(first.read_bytes()[:400])
    hidden = root / "train" / ".ipynb_checkpoints"
    hidden.mkdir()
    Image.new("RGB", (SIZE, SIZE)).save(hidden / "0.png")
    (root / "train/flower/notes.txt").write_text("from a garden")
    (root / "net.py").write_text(NET)
    return root


def arguments(root: Path, run: Path) -> list[str]:
    data = ["--data", str(root), "--image-size", f"3,{SIZE},{SIZE}", "--batch-size", "16"]
    options = ["--method", "trgl", "--modules", "2", "--lr", "0.05", "--device", "cpu"]
    augment = ["--augment", "scale=0.5,1", "--augment", "hflip=0.5", "--on-bad-image", "skip"]
    return ["train", f"{root / 'net.py'}:Net", *data, *options, *augment, "--output", str(run)]


def test_a_damaged_image_is_an_error_before_the_first_step(pictures: Path, tmp_path: Path) -> None:
    given = [word if word != "skip" else "stop" for word in arguments(pictures, tmp_path / "run")]
    result = in_process(*given)
    assert result.exit_code == 2
    assert "cannot be read as an image" in result.stderr
    assert result.stderr.strip().endswith("or leave it out with --on-bad-image skip")
    assert not (tmp_path / "run").exists()


def test_it_is_trained_on_killed_and_resumed(pictures: Path, tmp_path: Path) -> None:
    run, straight = tmp_path / "run", tmp_path / "straight"
    result = in_process(*arguments(pictures, straight), "--epochs", "3")
    assert result.exit_code == 0, result.stderr
    assert "  train: 1 hidden name left out: .ipynb_checkpoints" in result.stderr
    assert "  train: 1 file of a kind that is not read left out: flower/notes.txt" in result.stderr
    assert "  1 image that cannot be read left out: " in result.stderr
    assert "test: none, because the folder has val and no test" in result.stderr
    splits = tomllib.loads((straight / "config.toml").read_text())["splits"]
    for split in ("train", "val"):
        files = [path for path in pictures.glob(f"{split}/[!.]*/*") if path.suffix != ".txt"]
        told = splits["train" if split == "train" else "validation"]
        assert told["samples"] == len(files) - (split == "train")
        assert told["classes"] == 2
        assert told["origin"] == f"from the folder {split}"
    results = json.loads((straight / "results.json").read_text())
    assert results["test"] is None
    # a temple under a bright sky, and a dark garden
    assert results["best"]["exit"]["accuracy"] > 0.7

    code = "from fxtransport.cli.main import main; main()"
    command = [sys.executable, "-c", code, *arguments(pictures, run), "--epochs", "2"]
    # sums come out the same bit for bit only in as many threads
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("epoch 1/2  part 1"):
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    # to the end, and then longer than it was to be
    for options in ([], ["--epochs", "3"]):
        resumed = in_process("train", "--resume", str(run), "--trust-files", *options)
        assert resumed.exit_code == 0, resumed.stderr
    assert json.loads((run / "results.json").read_text()) == results
    tested = in_process("evaluate", str(run), "--split", "test", "--trust-files")
    assert tested.exit_code == 2
    assert "name its folder with --data-arg test_split=NAME" in tested.stderr
    # an image that is added is noticed
    added = pictures / "train/temple/added.png"
    Image.new("RGB", (SIZE, SIZE)).save(added)
    refused = in_process("train", "--resume", str(run), "--trust-files")
    added.unlink()
    assert refused.exit_code == 2
    assert "the run began with other data: train.samples was" in refused.stderr
