"""Settings for kinds of data, found by trying: unetcu/recipes/NAME.toml, for `train --recipe`."""

from pathlib import Path

from ..errors import UsageError


def recipes() -> dict[str, Path]:
    """Those that come with the package: name -> TOML file."""
    folder = Path(__file__).parent.parent / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def recipe(name: str) -> Path:
    """The file of a recipe. Raises UsageError, with the names there are, for another."""
    if name not in recipes():
        raise UsageError(f"--recipe {name} is not known: there are {', '.join(recipes())}")
    return recipes()[name]


def about(file: Path) -> str:
    """What the recipe in a file is for: its first line, without the full stop."""
    return file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ").rstrip(".")
