"""Documents: links lead somewhere, code blocks run, lists are complete, and what is generated is fresh."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "*/README.md", "training/reports/*.md", "srfast/weights/*.md")
    for path in REPOSITORY.glob(pattern)
    if not path.is_symlink()  # a page of the site that lies elsewhere
)
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(#[^)\s]*)?\)")
# Blocks of a recipe stand in a list; tests/checkpoint/test_recipe.py follows it.
BLOCK = re.compile(r"(<!-- not run: [^>]*-->\n)?```python\n(.*?)```", re.DOTALL)
SOURCES = [
    path
    for folder in ("srfast", "kernels", "training", "csrc", "tests", "benchmarks")
    for path in (REPOSITORY / folder).rglob("*")
    if path.suffix in (".py", ".cpp", ".h", ".cu", ".cuh") and "plots" not in path.parts
]


def anchors(page: Path) -> set[str]:
    """Names of the headings, as Markdown renderers make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target, anchor in LINK.findall(text):
        path = page if not target else (page.parent / target).resolve()
        assert path.exists(), f"{page.name} links to {target}, which is not there"
        if anchor and path.suffix == ".md":
            assert anchor[1:] in anchors(path), f"{page.name} links to {target}{anchor}"


def python_blocks() -> list[tuple[Path, int, str]]:
    blocks = []
    for page in PAGES:
        if page.name in ("README.md", "CONTRIBUTING.md") and page.parent == REPOSITORY:
            continue  # tests/test_examples.py runs the loop over a clip, tests/checkpoint/test_recipe.py the recipe
        for number, (skipped, code) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8"))):
            if not skipped:
                blocks.append((page, number, code))
    return blocks


@pytest.mark.parametrize(
    ("page", "number", "code"), python_blocks(), ids=lambda value: value.stem if isinstance(value, Path) else None
)
def test_code_runs(page: Path, number: int, code: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, f"block {number} of {page.name}:\n{done.stderr}"


def made(script: str) -> str:
    """The page that a script of ``docs`` makes."""
    code = f"import sys; sys.path.insert(0, 'docs'); import {script}; sys.stdout.write({script}.page())"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(
    ("script", "page"),
    [("make_cli", "cli"), ("make_kept", "video-kept"), ("make_models", "models"), ("make_shares", "models")],
)
def test_a_page_is_made_from_what_it_describes(script: str, page: str) -> None:
    """Run ``python docs/SCRIPT.py`` after a change of the parser, of a record, of what outputs keep, of the counts."""
    assert made(script) == (REPOSITORY / "docs" / f"{page}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["no marks\n", "<a>\n<b>\n<a>\n", "<a>\n"])
def test_a_made_section_needs_its_marks(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "docs"))
    replaced = importlib.import_module("section").replaced
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"needs one line '<[ab]>'; it has [02]"):
        replaced(page, "<a>\n", "<b>\n", "new\n")
    page.write_text("before\n<a>\nold\n<b>\nafter\n", encoding="utf-8")
    assert replaced(page, "<a>\n", "<b>\n", "new\n") == "before\n<a>\n\nnew\n\n<b>\nafter\n"


def test_the_shares_reach_what_was_asked() -> None:
    """The own readers', and those with spandrel's."""
    rows = re.findall(
        r"^\| (.+?) \| ([\d.]+)% \| [\d.]+% \| ([\d.]+)% \| [\d.]+% \|$", made("make_shares"), re.MULTILINE
    )
    found = {name: (float(whole), float(since)) for name, whole, since in rows}
    own, fallback = found["with SPAN, RealPLKSR, Real-CUGAN, RCAN, MoSR"], found["with `srfast[any]`, through spandrel"]
    assert own[0] >= 78
    assert own[1] >= 64
    assert min(fallback) >= 95


def test_every_environment_variable_is_listed() -> None:
    page = (REPOSITORY / "docs" / "environment.md").read_text(encoding="utf-8")
    files = [p for p in SOURCES if p.suffix == ".py"] + [REPOSITORY / "setup.py", REPOSITORY / "Makefile"]
    used = {name for p in files for name in re.findall(r"[\"' ](SRFAST_[A-Z_]+)[\"'=]", p.read_text(encoding="utf-8"))}
    # Macros of the compiler and names inside of generated C++ are no environment variables.
    used -= {"SRFAST_X", "SRFAST_EMULATE", "SRFAST_ARCHITECTURES"}
    assert {name for name in used if f"`{name}`" not in page} == set()


def test_every_extra_in_a_message_exists() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")  # tomllib is there from Python 3.11 on
    table = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    known = set(re.findall(r"^(\w+) = ", table, re.MULTILINE))
    for path in [*SOURCES, *PAGES]:
        for extras in re.findall(r"srfast\[([\w,]+)\]", path.read_text(encoding="utf-8")):
            for extra in extras.split(","):
                assert extra in known, f"{path.name} names srfast[{extra}]"


def test_paths_in_the_documents_exist() -> None:
    """Files and folders of the repository that a page names in code marks."""
    for page in PAGES:
        for name in re.findall(
            r"`((?:srfast|kernels|csrc|tests|benchmarks|training|docs)/[\w./]+)`", page.read_text(encoding="utf-8")
        ):
            assert "NAME" in name or (REPOSITORY / name).exists(), f"{page.name} names {name}"


TABLES = {
    "kernels/README.md": ("kernels", "kernels/triton", "kernels/cuda", "kernels/tools"),
    "csrc/README.md": ("csrc/cpu", "csrc/cuda", "csrc/emulation"),
    "benchmarks/README.md": ("benchmarks", "benchmarks/gpu"),
    "training/README.md": ("training",),
}


@pytest.mark.parametrize("readme", TABLES)
def test_every_source_file_has_a_row(readme: str) -> None:
    text = (REPOSITORY / readme).read_text(encoding="utf-8")
    suffixes = (".py", ".h", ".cuh", ".cu", ".cpp")
    for folder in TABLES[readme]:
        for path in (REPOSITORY / folder).iterdir():
            if path.suffix in suffixes and path.name not in ("__init__.py", "conftest.py"):
                assert f"| `{path.name}` | " in text, f"{readme} has no row for {folder}/{path.name}"


def test_the_readme_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
