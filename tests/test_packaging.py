"""What the package promises to those who install it."""

import importlib.metadata
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from typer.testing import CliRunner

import freezeframe
from freezeframe.cli.main import app

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
PINS = {
    canonicalize_name(line.partition("==")[0]): Version(line.partition("==")[2])
    for line in (REPOSITORY / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
}


def requirements() -> list[Requirement]:
    lines = [
        *PROJECT["dependencies"],
        *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
    ]
    return [Requirement(line) for line in lines]


def tracked_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True, text=True
    ).stdout
    return [path for name in listing.split("\0") if name and (path := REPOSITORY / name).is_file()]


def tracked_texts() -> dict[str, str]:
    texts = {}
    for path in tracked_files():
        content = path.read_bytes()
        if b"\0" not in content:
            texts[str(path.relative_to(REPOSITORY))] = content.decode("utf-8")
    return texts


def test_the_version_is_the_same_everywhere():
    assert freezeframe.__version__ == PROJECT["version"] == importlib.metadata.version("freezeframe")
    answer = CliRunner().invoke(app, ["--version"])
    assert answer.output.strip() == f"freezeframe {freezeframe.__version__}"


def test_the_extras_are_those_of_the_documentation():
    extras = set(PROJECT["optional-dependencies"])
    assert extras == {"train", "node", "openvino", "cluster", "dev"}
    assert PROJECT["requires-python"] == ">=3.11"
    assert PROJECT["license"] == "Apache-2.0"


def test_every_requirement_is_pinned_within_its_range():
    for requirement in requirements():
        assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)]), requirement


def test_what_is_pinned_is_what_the_tests_run_on():
    installed = {name: importlib.metadata.version(name) for name in PINS}
    assert {name: Version(version.partition("+")[0]) for name, version in installed.items()} == PINS


def test_the_pins_leave_out_what_exists_for_one_platform_only():
    assert not [name for name in PINS if name.startswith(("nvidia-", "cuda-", "triton"))]
    # torch 2.13.0 exists as a CPU file that no torchvision fits.
    assert PINS["torch"] != Version("2.13.0")


def test_constraints_hold_no_addresses_paths_or_editable_lines():
    lines = [
        line for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    ]
    assert all(re.fullmatch(r"[a-z0-9._-]+==[0-9][0-9a-z.]*", line) for line in lines)


def test_no_tracked_file_names_a_package_index_or_a_place_on_one_machine():
    # Written in parts, so that this file does not find itself; 'somebody' is an example in a test.
    indexes = ["--(extra-)?index" + "-url", "find" + "-links", "file:" + "///"]
    machines = [
        "/home" + "/(?!somebody/)",
        "/Users" + "/",
        "/root" + "/",
        "/work" + "/main",
        "/work" + "/shared",
    ]
    forbidden = re.compile("|".join([*indexes, *machines]))
    found = {
        f"{name}: {match[0]}" for name, text in tracked_texts().items() if (match := forbidden.search(text))
    }
    assert not found


def test_no_image_or_data_is_tracked():
    suffixes = {
        ".png",
        ".jpg",
        ".jpeg",
        ".tif",
        ".tiff",
        ".webp",
        ".dcm",
        ".pth",
        ".safetensors",
        ".parquet",
        ".onnx",
    }
    # The pictures of the docs are of synthetic images, drawn by the script beside them.
    pictures = REPOSITORY / "docs" / "pictures"
    held = [path for path in tracked_files() if path.suffix.lower() in suffixes]
    assert not [path.name for path in held if path.parent != pictures]
    assert not [path.name for path in held if path.stat().st_size > 40_000]
    assert not [path.name for path in tracked_files() if path.stat().st_size > 1_000_000]


def test_what_is_started_from_a_shell_is_executable():
    assert os.access(REPOSITORY / ".ci" / "run", os.X_OK)


def verbs(command: object, words: tuple[str, ...] = ()) -> dict[str, object]:
    """Every command line that does something: ``{"data inspect": command}``."""
    if hasattr(command, "commands"):
        found = {}
        for name, inner in command.commands.items():
            found |= verbs(inner, (*words, name))
        return found
    return {" ".join(words): command}


VERBS = verbs(typer.main.get_command(app))


def test_the_verbs_of_the_main_job_are_there():
    job = {
        "data inspect",
        "data phantom",
        "data preview",
        "study plan",
        "study run",
        "study report",
        "study best",
        "study ensemble",
        "study learning-curve",
        "train",
        "ensemble",
        "evaluate",
        "report",
        "backbones",
        "cut",
        "doctor",
        "demo",
    }
    assert job <= set(VERBS)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help_with_an_example_and_explains_its_options(verb):
    answer = CliRunner().invoke(app, [*verb.split(), "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert answer.exit_code == 0
    usage, _, text = answer.output.partition("Usage:")[2].partition("\n")
    assert verb in usage
    assert f"freezeframe {verb}" in text
    for parameter in VERBS[verb].params:
        assert parameter.help, f"{parameter.name} has no help"


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "README.es.md",
        "CONTRIBUTING.md",
        "docs/studies.md",
        "docs/search.md",
        "docs/cluster.md",
        "docs/learning-curve.md",
        "docs/preprocessing.md",
        "docs/published-studies.md",
        "docs/node.md",
        "docs/beside-your-pacs.md",
        "docs/junto-a-tu-pacs.md",
    ],
)
def test_the_commands_that_a_page_names_exist(page):
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    named = re.findall(r"(?m)^\s*(?:\$ )?freezeframe ((?:(?:data|study|node) )?[a-z][a-z-]*)", text)
    groups = {verb.rpartition(" ")[0] for verb in VERBS}
    assert set(named) <= groups | set(VERBS)
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = set(re.findall(r"(?m)^([a-z]+):", makefile))
    assert set(re.findall(r"(?m)^\s*(?:\$ )?make ([a-z]+)", text)) <= targets


@pytest.mark.parametrize("page", ["README.md", "README.es.md"])
def test_the_readme_names_the_commands_of_the_main_job(page):
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    for words in (
        "make demo",
        "freezeframe train",
        "freezeframe ensemble",
        "freezeframe evaluate",
        "freezeframe report",
        "freezeframe study run",
    ):
        assert words in text
