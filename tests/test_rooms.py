"""The house: which room imports which, and where torch may be."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "freezeframe"
ROOMS = (
    "data", "imaging", "stores", "backbones", "ensemble", "training", "evaluation", "study", "bundle", "report", "pacs",
    "verbs", "cli",
)  # fmt: skip
FOR_ALL = {"errors", "files", "machine", "progress", "seeds", "recipe", "cluster"}
TORCH_FREE_ROOMS = ("data", "imaging", "ensemble", "evaluation", "study", "report", "pacs")
# Rooms of which one part is torch-free.
TORCH_FREE_PARTS = ("freezeframe.bundle.runtime",)
TORCH_ALLOWED = {
    "freezeframe.imaging.augment",
    "freezeframe.imaging.augment_operations",
    *(
        f"freezeframe.study.{name}"
        for name in ("worker", "sharing", "probe", "baseline", "coordinator", "ray_worker")
    ),
}
HEAVY = ("torch", "torchvision", "timm", "lightning", "captum", "onnx")


def module_name(path: Path) -> str:
    parts = ("freezeframe", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# __main__ is a door from outside (`python -m freezeframe`), which no module imports.
MODULES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py")) if path.name != "__main__.py"}


@cache
def imports(module: str) -> frozenset[str]:
    """Return every module that is imported anywhere in a file, also inside functions, also for types only."""
    return frozenset(_imports(module))


def _imports(module: str) -> Iterator[str]:
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            # `from package import module` imports the module; `from module import name` does not.
            submodules = [f"{base}.{alias.name}" for alias in node.names if f"{base}.{alias.name}" in MODULES]
            yield from submodules
            if len(submodules) < len(node.names):
                yield base


def own_imports(module: str) -> set[str]:
    return {name for name in imports(module) if name.split(".")[0] == "freezeframe"}


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def test_every_module_is_in_a_known_room():
    assert {room(module) for module in MODULES} <= {"", *ROOMS, *FOR_ALL}


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_only_from_rooms_before_it(name):
    allowed = {*ROOMS[: ROOMS.index(name) + 1], *FOR_ALL}
    # The version stands in the package itself.
    allowed.add("")
    wrong = {
        f"{module} imports {imported}"
        for module in MODULES
        if room(module) == name
        for imported in own_imports(module)
        if room(imported) not in allowed
    }
    assert not wrong


@pytest.mark.parametrize("name", sorted(FOR_ALL))
def test_what_all_rooms_use_imports_no_room(name):
    assert {room(imported) for imported in own_imports(f"freezeframe.{name}")} <= FOR_ALL


def test_nothing_imports_the_command_line():
    wrong = {
        f"{module} imports {imported}"
        for module in MODULES
        if room(module) != "cli"
        for imported in own_imports(module)
        if room(imported) == "cli"
    }
    assert not wrong


def torch_free_modules() -> list[str]:
    inside = [
        module
        for module in MODULES
        if room(module) in (*TORCH_FREE_ROOMS, *FOR_ALL) or module.startswith(TORCH_FREE_PARTS)
    ]
    return sorted(set(inside) - TORCH_ALLOWED)


@pytest.mark.parametrize("module", torch_free_modules())
def test_the_torch_free_zone_names_no_torch_even_inside_functions(module):
    named = {name.split(".")[0] for name in imports(module)}
    assert not named & set(HEAVY)
    reached = own_imports(module)
    assert not reached & TORCH_ALLOWED
    elsewhere = {name for name in reached if not name.startswith(TORCH_FREE_PARTS)}
    assert {room(name) for name in elsewhere} <= {"", "stores", *TORCH_FREE_ROOMS, *FOR_ALL}


def test_importing_the_torch_free_zone_the_verbs_and_the_command_line_loads_no_torch():
    modules = [*torch_free_modules(), *(name for name in MODULES if room(name) in ("", "verbs", "cli"))]
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        f"    loaded = sorted(set({HEAVY!r}) & set(sys.modules))\n"
        "    if loaded:\n"
        "        sys.exit(f'{name} loads {loaded}')\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
