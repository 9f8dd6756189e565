"""Counts what a reader of the source meets: modules, cycles, parameters, comments, examples, files on five walks.

    python -m tests.helpers.counts [CHECKOUT ...]

prints a table with a column for each checkout (this one by default), so that two commits can be compared: check the older one
out beside this (``git worktree add ../before COMMIT``) and build its modules there. What counts on a walk ``walks`` says, which
also lists the functions; a checkout whose walk fails shows a dash.
"""

from __future__ import annotations

import argparse
import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.walks import WALKS, followed, passed

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"srfast": "srfast", "kernels": "srfast.kernels", "training": "srfast.training"}

# Files that name what was added, those of its own among them: what the next one will have to touch. Compact is the default of
# many commands and tests as well; IMDN and the normalisation of pixels came last.
SUFFIXES = {".py", ".h", ".cpp", ".cu", ".cuh", ".pyi"}
NAMED = {
    "an architecture (Compact)": "SRVGGNetCompact",
    "an architecture (IMDN)": "IMDN",
    "an operation (spatial gate)": "SpatialGate",
    "an operation (norm of a pixel)": "PixelNorm",
}


def modules(root: Path) -> dict[str, Path]:
    """Name -> file of every module of srfast, kernels and training."""
    found = {}
    for folder, package in PACKAGES.items():
        for path in sorted((root / folder).rglob("*.py")):
            if folder == "srfast" and path.resolve().relative_to(root.resolve()).parts[0] != "srfast":
                continue  # a link to one of the other two
            parts = path.relative_to(root / folder).with_suffix("").parts
            found[".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
    return found


def imports(root: Path) -> dict[str, set[str]]:
    """Module -> modules of srfast that it imports, anywhere in it."""
    files = modules(root)
    edges: dict[str, set[str]] = {name: set() for name in files}
    # Compiled modules, which import nothing, have stubs.
    known = {*files, *(f"srfast.{stub.stem}" for stub in (root / "srfast").glob("*.pyi"))}
    for name, path in files.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                targets = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module or ""]
            else:
                continue
            found = {target for target in targets if target in known and target != name}
            # "from package import module" imports the module; the package counts only where a name of its own is meant.
            deeper = {target.rpartition(".")[0] for target in found}
            edges[name] |= (found - deeper) & files.keys()
    return edges


def cycles(edges: dict[str, set[str]]) -> int:
    """Number of groups of modules that import each other in a circle."""
    reached = {name: _reachable(name, edges) for name in edges}
    in_circle = {name for name in edges if name in reached[name]}
    return len(
        {
            frozenset(other for other in in_circle if name in reached[other] and other in reached[name])
            for name in in_circle
        }
    )


def _reachable(start: str, edges: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    queue = list(edges[start])
    while queue:
        name = queue.pop()
        if name not in seen:
            seen.add(name)
            queue += edges[name]
    return seen


def functions(root: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """Every function and class, with the name of its module."""
    for name, path in modules(root).items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield name, node


def longest_parameters(root: Path) -> str:
    """The longest list of parameters that may be given by position, and whose it is."""
    count, name = max(
        (len(node.args.posonlyargs) + len(node.args.args), f"{module.removeprefix('srfast.')}.{node.name}")
        for module, node in functions(root)
        if not isinstance(node, ast.ClassDef)
    )
    return f"{count} ({name})"


def longest_call(root: Path) -> int:
    """The most arguments that a call gives by position."""
    trees = (ast.parse(path.read_text()) for path in modules(root).values())
    return max(len(node.args) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call))


def examples(root: Path) -> str:
    """Docstrings with an example, of all docstrings of public names."""
    texts = [ast.get_docstring(node) for _, node in functions(root) if not node.name.startswith("_")]
    written = [text for text in texts if text]
    return f"{sum('>>>' in text for text in written)} of {len(written)}"


def comment_share(folder: Path, pattern: str) -> str:
    """Lines with a comment as a share of the lines that hold code or a comment; docstrings count as neither."""
    comments = lines = 0
    for path in sorted(folder.rglob(pattern)):
        if path.resolve().is_relative_to(folder.resolve()):
            mine, code = (_python_lines if path.suffix == ".py" else _c_lines)(path.read_text())
            comments, lines = comments + len(mine), lines + len(mine | code)
    return f"{comments / max(lines, 1):.1%}"


def _python_lines(text: str) -> tuple[set[int], set[int]]:
    comments: set[int] = set()
    code: set[int] = set()
    skipped = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER)
    documented = _docstring_lines(ast.parse(text))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            marker = token.string.startswith(("# noqa", "# type:", "#!"))
            (code if marker else comments).add(token.start[0])
        elif token.type not in skipped:
            code.update(range(token.start[0], token.end[0] + 1))
    return comments, code - documented


def _docstring_lines(tree: ast.Module) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(
            node
        ):
            first = node.body[0]
            lines.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return lines


def _c_lines(text: str) -> tuple[set[int], set[int]]:
    comments = {n for n, line in enumerate(text.splitlines()) if "//" in line}
    return comments, {n for n, line in enumerate(text.splitlines()) if line.strip()}


def naming(root: Path, word: str) -> str:
    """Number of source files, and of files of tests and benchmarks, that name something; a dash where none does."""

    def count(*folders: str) -> int:
        files = {path.resolve() for folder in folders for path in (root / folder).rglob("*") if path.suffix in SUFFIXES}
        return sum(word in path.read_text() for path in files)

    source, tests = count("srfast", "kernels", "training", "csrc"), count("tests", "benchmarks")
    return f"{source} + {tests}" if source else "-"


def counted(root: Path) -> dict[str, str]:
    """Every count of a checkout, by what it counts."""
    top = [p for p in (root / "srfast").iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()]
    rows = {
        "files of the package's top level": str(sum(p.suffix == ".py" for p in top)),
        "folders of the package's top level": str(sum(p.is_dir() for p in top)),
        "files of the kernels' top level": str(len(list((root / "kernels").glob("*.py")))),
        "import cycles": str(cycles(imports(root))),
        "longest list of parameters": longest_parameters(root),
        "most arguments by position in a call": str(longest_call(root)),
        "docstrings with an example": examples(root),
    }
    rows |= {f"comments in {name}/": comment_share(root / name, "*.py") for name in PACKAGES}
    rows["comments in csrc/"] = comment_share(root / "csrc", "*.[hc]*")
    rows |= {f"functions in files on the walk of {walk}": passed(followed(root, walk)) for walk in WALKS}
    return rows | {f"source + test files that name {what}": naming(root, word) for what, word in NAMED.items()}


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[ROOT])
    roots = [path.resolve() for path in parser.parse_args().checkouts]
    columns = [counted(root) for root in roots]
    print("| | " + " | ".join(root.name for root in roots) + " |")
    print("|---" * (len(roots) + 1) + "|")
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(column[name] for column in columns) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
