"""The command line as a whole: its surface, its exit codes, and what goes where."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import fxtransport.cli.split
from fxtransport.cli.main import COMMANDS, cli
from fxtransport.errors import VerificationError
from tests.cli.running import Command

SURFACE = Path(__file__).with_name("surface.txt")
FXTRANSPORT = [sys.executable, "-c", "from fxtransport.cli.main import main; main()"]


def commands(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    """Every command with its name; those of a group inside follow after it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", found) for inner, found in commands(command))


def surface() -> str:
    """List every command with its options, their values and defaults."""
    lines = []
    for name, command in commands(cli):
        lines.append(name)
        for parameter in command.params:
            spelt = "/".join(parameter.opts) if isinstance(parameter, click.Option) else "argument"
            kind = parameter.type.name
            if isinstance(parameter.type, click.Choice):
                kind = "|".join(parameter.type.choices)
            flag = getattr(parameter, "is_flag", False)
            words = [spelt, "flag" if flag else kind]
            words += ["repeatable"] if parameter.multiple or parameter.nargs == -1 else []
            default = None if flag else parameter.to_info_dict()["default"]
            words += [f"default {default}"] if default else []
            lines.append("  " + "  ".join(words))
    return "\n".join(lines) + "\n"


def test_the_surface_is_pinned(update_golden: bool) -> None:
    """Whoever changes an option changes this file, and the changelog."""
    if update_golden:
        SURFACE.write_text(surface())
    assert surface() == SURFACE.read_text()


def test_help_is_quick_and_lists_the_commands() -> None:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([*FXTRANSPORT, "--help"], capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5
    assert done.stderr == ""
    for name, summary in COMMANDS.items():
        assert f"{name}  " in done.stdout
        assert summary in " ".join(done.stdout.split())


def test_help_loads_no_torch() -> None:
    code = (
        "import sys\nfrom fxtransport.cli.main import cli\n"
        "cli(['--help'], standalone_mode=False)\n"
        "print({'torch', 'timm', 'torchvision', 'rich'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"


@pytest.mark.parametrize("name", [name for name, _ in commands(cli)])
def test_every_command_explains_itself(run: Command, name: str) -> None:
    result = run(*name.split(), "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: fxtransport {name}")
    assert "\\" not in result.stdout


def test_version(run: Command) -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("fxtransport, version ")


BAD = {
    "unknown command": (["nosuch"], "No such command 'nosuch'"),
    "no model": (["split"], "Missing argument 'MODEL...'"),
    "misspelt": (["split", "swim_tiny"], "did you mean timm:swin_tiny_patch4_window7_224"),
    "ambiguous": (["inspect", "swin"], "could mean several models: "),
    "no such file": (["split", "no/such.py:Net"], "no/such.py: there is no such file"),
    "no factory": (["split", "{nets}"], "name a function in it, {nets}:FACTORY"),
    "not in file": (["split", "{nets}:Nut"], "{nets} has no function called Nut"),
    "no size": (["split", "{nets}:Sizeless"], "give --input-size, such as 3,224,224"),
    "K = 0": (["split", "{nets}:Net", "--modules", "0"], "0 is not in the range x>=1"),
    "K < 0": (["split", "{nets}:Net", "-k", "-2"], "-2 is not in the range x>=1"),
    "K too large": (["split", "{nets}:Net", "-k", "9"], "at most 6 parts"),
    "old weight": (["split", "{nets}:Net", "--weight", "flops"], "--balance"),
    "bad balance": (["split", "{nets}:Net", "--balance", "x"], "'x' is not one of"),
    "both balances": (["split", "x", "--equal-weight", "--equal-depth"], "contradict one another"),
    "two balances": (["split", "x", "--equal-weight", "--balance", "flops"], "contradict one anot"),
    "batch of none": (["split", "{nets}:Net", "--batch-size", "0"], "0 is not in the range x>=1"),
    "no such cut": (["split", "{nets}:Net", "--cut", "block"], "did you mean blocks"),
    "cuts and K": (["split", "{nets}:Net", "--cut", "blocks.0", "-k", "3"], "2 parts, not 3"),
    "bad size": (["split", "{nets}:Net", "--input-size", "3,a"], "write N, HxW or C,H,W"),
    "size zero": (["split", "{nets}:Net", "--input-size", "3,0,8"], "write N, HxW or C,H,W"),
    "no pass": (["inspect", "{nets}:Net", "--pipeline", "no"], "there is no pass 'no'; the passes"),
    "no option": (["inspect", "x", "--pipeline", "taps{a=1}"], "taps has no option 'a'"),
    "no value": (["inspect", "x", "--pipeline", "partition{modules=x}"], "cannot be 'x'"),
    "no brace": (["inspect", "x", "--pipeline", "taps{"], "expected a comma before"),
    "no pipeline": (["inspect", "x", "--pipeline", ""], "the pipeline is empty"),
    "no after": (["inspect", "{nets}:Net", "--after", "lower"], "'lower' is not in this pipeline"),
    "two views": (["inspect", "x", "--dot", "--code"], "exclude one another; give one"),
    "saves one": (["split", "x", "y", "--output", "d"], "--output saves one program"),
    "unwritable": (["split", "x", "--output", "{nets}/d"], "cannot write into {nets}/d: Not a dir"),
    "a file": (["split", "x", "--output", "{nets}"], "cannot write into {nets}: Not a directory"),
}


@pytest.mark.parametrize(("arguments", "words"), BAD.values(), ids=BAD.keys())
def test_bad_usage_is_one_clear_line(
    run: Command, nets: Path, arguments: list[str], words: str
) -> None:
    result = run(*(a.replace("{nets}", str(nets)) for a in arguments))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert words.replace("{nets}", str(nets)) in result.stderr
    assert "Traceback" not in result.stderr
    error = [line for line in result.stderr.splitlines() if "rror: " in line]
    assert len(error) == 1


@pytest.mark.parametrize("command", ["split", "inspect"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{nets}:Raises"], "the model (Raises) raised KeyError at {nets}:{raise}: 'width'"),
        (["{nets}:Decides"], "(Decides) has data-dependent control flow at {nets}:{if}"),
        (["{nets}:Net", "--input-size", "5,8,8"], "stem (Conv2d) raised RuntimeError"),
        (["{nets}:Net", "--input-size", "8,"], "stem (Conv2d) raised RuntimeError"),
    ],
)
def test_a_model_that_cannot_be_traced(
    run: Command, nets: Path, command: str, arguments: list[str], words: str
) -> None:
    result = run(command, *(a.format(nets=nets) for a in arguments))
    lines = [line.split() for line in ["", *nets.read_text().splitlines()]]
    numbers = {
        word: lines.index(next(x for x in lines if x[:1] == [word])) for word in ("raise", "if")
    }
    assert result.exit_code == 3
    assert result.stdout == ""
    assert words.format(nets=nets, **numbers) in result.stderr
    assert "Traceback" not in result.stderr


def test_a_failed_verification(run: Command, nets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise VerificationError("output 0 differs by 1")

    monkeypatch.setattr("fxtransport.passes.verify.Verify.run", fail)
    result = run("split", f"{nets}:Net")
    assert result.exit_code == 1
    assert result.stderr == "error: output 0 differs by 1\n"


def test_a_failure_of_the_compiler_itself_is_a_line(
    run: Command, nets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise AssertionError("this\ncannot be")

    monkeypatch.setattr("fxtransport.passes.taps.TapResidues.run", fail)
    result = run("split", f"{nets}:Net", "--json")
    assert result.exit_code == 3
    reason = "the compiler failed: AssertionError: this cannot be"
    assert result.stderr == f"error: {reason}\n"
    assert json.loads(result.stdout) == {
        "model": f"{nets}:Net",
        "error": "AssertionError",
        "reason": reason,
    }


def test_debug_shows_the_traceback_and_the_same_line(run: Command, nets: Path) -> None:
    plain = run("split", f"{nets}:Raises")
    debug = run("split", f"{nets}:Raises", "--debug")
    assert debug.exit_code == plain.exit_code
    assert debug.stderr.endswith(plain.stderr)
    assert debug.stderr.startswith("Traceback")
    assert 'raise KeyError("width")' in debug.stderr


@pytest.mark.parametrize("command", ["split", "inspect"])
def test_one_model_that_fails_keeps_none_from_its_turn(
    run: Command, nets: Path, command: str
) -> None:
    names = ["nosuch", f"{nets}:Net", f"{nets}:Decides", f"{nets}:Plain"]
    result = run(command, *names, "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["model"] for line in lines] == names
    assert [line.get("error") for line in lines] == ["ModelNameError", None, "TraceError", None]
    assert lines[0].keys() == {"model", "error", "reason"}
    assert "no model is called 'nosuch'" in lines[0]["reason"]
    assert "data-dependent control flow" in lines[2]["reason"]
    assert result.exit_code == 3, "the highest of 2 and 3"
    text = run(command, *names)
    assert text.exit_code == 3
    assert f"error: {nets}:Decides: the model (Decides) has data-dep" in text.stderr
    assert text.stdout.count(f"{nets}:") == 2


@pytest.mark.parametrize("command", ["split", "inspect"])
def test_what_a_model_prints_is_no_result(run: Command, nets: Path, command: str) -> None:
    result = run(command, f"{nets}:Chatty", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["model"] == f"{nets}:Chatty"
    assert result.stderr.startswith("built\n")


def test_a_short_name_is_explained_on_stderr(run: Command) -> None:
    result = run("inspect", "vit_tiny", "--json", "--after", "record")
    assert json.loads(result.stdout)["model"] == "timm:vit_tiny_patch16_224"
    assert result.stderr == "vit_tiny is timm:vit_tiny_patch16_224 (alias)\n"


def on_a_terminal(*arguments: str, **variables: str) -> str:
    """What a command shows on a terminal of 120 columns."""
    master, slave = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= {"COLUMNS": "120", "TERM": "xterm-256color", **variables}
    with subprocess.Popen(
        [*FXTRANSPORT, *arguments], stdout=slave, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        os.close(slave)
        shown = b""
        while chunk := _read(master):
            shown += chunk
    os.close(master)
    assert process.returncode == 0
    return shown.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other end is closed
        return b""


@pytest.mark.slow
def test_colors_and_bars_only_on_a_terminal(run: Command, nets: Path) -> None:
    arguments = ["split", f"{nets}:Net", "--modules", "2"]
    shown = on_a_terminal(*arguments)
    assert "\x1b[" in shown
    assert "██████████████" in shown
    plain = on_a_terminal(*arguments, NO_COLOR="1")
    assert "\x1b[3" not in plain
    assert "██████████████" in plain
    piped = run(*arguments).stdout
    assert "\x1b" not in piped
    assert "█" not in piped


@pytest.mark.slow
def test_ctrl_c_ends_with_130(nets: Path) -> None:
    file = nets.with_name("endless.py")
    file.write_text("import time\ndef make():\n    print('here', flush=True)\n    time.sleep(60)\n")
    with subprocess.Popen(
        [*FXTRANSPORT, "split", f"{file}:make"], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "here\n"
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert rest == "interrupted\n"


@pytest.mark.slow
def test_the_console_script_is_installed(nets: Path) -> None:
    script = shutil.which("fxtransport", path=Path(sys.executable).parent)
    assert script is not None
    done = subprocess.run(
        [script, "split", f"{nets}:Net"], capture_output=True, text=True, check=True
    )
    assert "in 4 parts, equally deep" in done.stdout


@pytest.mark.slow
def test_a_terminal_without_our_signs(nets: Path) -> None:
    done = subprocess.run(
        [*FXTRANSPORT, "split", f"{nets}:Net"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert "input 3?8?8; FLOPs" in done.stdout


def test_commands_are_where_main_looks_for_them() -> None:
    assert isinstance(fxtransport.cli.split.split, click.Command)
