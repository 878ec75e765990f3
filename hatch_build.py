"""
Hook of the wheel's build: adds the pages of `docs/` that the console shows, and with
`CAPIO_COMPILE=1`, mypyc compiles the modules of the hot path.

`[tool.capio.compiled]` in pyproject.toml lists them by package. The wheel then has a shared library
beside each of them, which Python prefers to the module's source, and the tag of one Python and one
platform. Without the variable nothing is compiled, and the wheel is `py3-none-any`.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_GROUP = "capio"
"""All code is in one library, `capio__mypyc`; the modules' libraries only refer to it."""


class CompiledModules(BuildHookInterface[Any]):
    """Adds the pages and the shared libraries to a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, if this build shall be compiled; an editable one never is and has no pages."""
        if version == "editable":
            return
        build_data["force_include"] |= pages(Path(self.root))
        if os.environ.get("CAPIO_COMPILE") != "1":
            return
        libraries = build(Path(self.root), Path(self.root, "build", "mypyc"))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"] |= {str(built): path for path, built in libraries.items()}


def pages(root: Path) -> dict[str, str]:
    """Return the paths inside the wheel of the repository's pages, without images and scripts."""
    return {
        str(path): f"gateway/console/docs/repository/{path.name}"
        for path in sorted((root / "docs").glob("*.md"))
    }


def sources(root: Path) -> list[str]:
    """Return the paths of the listed modules' sources, relative to the repository."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    packages: dict[str, list[str]] = project["tool"]["capio"]["compiled"]
    return [
        f"{package.replace('.', '/')}/{module}.py"
        for package, modules in packages.items()
        for module in modules
    ]


def build(root: Path, into: Path) -> dict[str, Path]:
    """
    Compile the listed modules.

    Args:
        root: The repository, which must be the working directory.
        into: A directory for the C code and what is built from it; emptied first.

    Returns:
        The built libraries by their paths inside the wheel.
    """
    # Only the compiled build has them.
    from mypyc.build import mypycify  # noqa: PLC0415
    from setuptools import Extension  # noqa: PLC0415

    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        raise SystemExit("CAPIO_COMPILE=1 needs Python's C headers: install python3-dev")
    shutil.rmtree(into, ignore_errors=True)
    extensions: list[Extension] = mypycify(
        ["--config-file", str(root / "pyproject.toml"), *sources(root)],
        opt_level="2",
        debug_level="0",
        multi_file=True,
        target_dir=str(into),
        group_name=_GROUP,
    )
    return _compile(extensions, into)


def _compile(extensions: list[Any], into: Path) -> dict[str, Path]:
    # setuptools compiles the files of one library one after the other: minutes on one core.
    from setuptools._distutils.ccompiler import new_compiler  # noqa: PLC0415
    from setuptools._distutils.sysconfig import customize_compiler  # noqa: PLC0415

    compiler = new_compiler()
    customize_compiler(compiler)
    include = sysconfig.get_path("include")
    suffix = sysconfig.get_config_var("EXT_SUFFIX")

    def to_object(extension: Any, source: str) -> str:
        compiled: list[str] = compiler.compile(
            [source],
            output_dir=str(into / "objects"),
            include_dirs=[*extension.include_dirs, include],
            extra_postargs=extension.extra_compile_args,
        )
        return compiled[0]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = [
            [pool.submit(to_object, extension, source) for source in extension.sources]
            for extension in extensions
        ]
    libraries: dict[str, Path] = {}
    for extension, parts in zip(extensions, objects, strict=True):
        path = extension.name.replace(".", "/") + suffix
        libraries[path] = into / "libraries" / path
        compiler.link_shared_object([part.result() for part in parts], str(libraries[path]))
    return libraries
