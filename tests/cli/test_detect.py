"""``fxtransport detect``: its commands, found without torch."""

import subprocess
import sys

from fxtransport.cli.detect import COMMANDS
from tests.cli.running import Command


def test_the_help_lists_the_commands(run: Command) -> None:
    result = run("detect", "--help")
    assert result.exit_code == 0
    for name, summary in COMMANDS.items():
        assert f"{name}  " in result.stdout
        assert summary in " ".join(result.stdout.split())


def test_help_loads_no_torch() -> None:
    lines = ["import sys", "from fxtransport.cli.main import cli"]
    for name in ("", *COMMANDS):
        words = [word for word in ("detect", name, "--help") if word]
        lines.append(f"try: cli({words})\nexcept SystemExit: pass")
    lines.append("print({'torch', 'timm', 'rich'} & set(sys.modules), file=sys.stderr)")
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "set()"
    assert done.stdout.count("Usage: ") == 1 + len(COMMANDS)


def test_an_unknown_command(run: Command) -> None:
    result = run("detect", "nosuch")
    assert result.exit_code == 2
    assert "No such command 'nosuch'" in result.stderr
