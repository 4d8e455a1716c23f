"""Print exact pins of all that freezeframe needs, as installed in the environment that runs this.

Usage: ``make constraints``. Walks the requirements of freezeframe and its extras, so that what happens to be
installed besides is not pinned, and neither is what exists for one platform only (CUDA libraries, Triton).
"""

from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("train", "node", "openvino", "cluster", "dev")
ONE_PLATFORM_ONLY = ("nvidia-", "cuda-", "triton")

HEADER = """\
# Exact versions that the tests passed with, for `pip install -c constraints.txt` and `make env`.
# Made by `make constraints` from the environment in .venv: no addresses, no local paths, nothing editable.
# Left out: libraries that exist for one platform only (CUDA, Triton); torch asks for its own by exact version.
"""


def pins() -> dict[str, str]:
    """Return name -> version of freezeframe's requirements, followed to their ends."""
    found: dict[str, str] = {}
    open_requirements = [Requirement(f"freezeframe[{','.join(EXTRAS)}]")]
    seen: set[tuple[str, str]] = set()
    while open_requirements:
        requirement = open_requirements.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen or name.startswith(ONE_PLATFORM_ONLY):
                continue
            seen.add((name, extra))
            try:
                package = distribution(name)
            except PackageNotFoundError as error:
                raise SystemExit(f"{name} is not installed: run `make env` first.") from error
            found[name] = package.version.partition("+")[0]
            for line in package.requires or ():
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    open_requirements.append(needed)
    del found["freezeframe"]
    return found


if __name__ == "__main__":
    print(HEADER + "\n".join(f"{name}=={version}" for name, version in sorted(pins().items())))
