"""Metadata and packaging of crossbar-cluster.

Two things are done here that setuptools does not do by itself:

- the folders of `crossbar/`, the patches, are installed as `crossbar_cluster.patches`;
- `crossbar-cluster.pth`, which arms the patches in every Python process, is put at the top of site-packages, by a
  wheel and by an editable install alike.
"""

import os
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

HERE = Path(__file__).resolve().parent
PTH = "crossbar-cluster.pth"
PATCHES = "crossbar_cluster.patches"


def version() -> str:
    namespace: dict[str, str] = {}
    exec((HERE / "crossbar_cluster" / "__init__.py").read_text(encoding="utf-8"), namespace)
    return namespace["__version__"]


def patch_folders() -> dict[str, str]:
    """Package name -> folder, for every folder of the patch tree that holds Python files."""
    found = {}
    for folder, _, files in os.walk(HERE / "crossbar"):
        inner = Path(folder).relative_to(HERE / "crossbar").parts
        if any(file.endswith(".py") for file in files):
            found[".".join((PATCHES, *inner))] = Path(folder).relative_to(HERE).as_posix()
    found.pop(PATCHES, None)  # it stands in crossbar_cluster/patches, see find_package_modules
    return found


class BuildWithPth(build_py):
    """Adds the .pth file to what is built, so that a wheel carries it at its root."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        modules = super().find_package_modules(package, package_dir)
        if package == PATCHES:  # it has two folders: its own, with __init__.py, and the top of the patch tree
            modules += [
                (package, file.stem, f"crossbar/{file.name}") for file in sorted((HERE / "crossbar").glob("*.py"))
            ]
        return modules

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            self.mkpath(self.build_lib)
            shutil.copyfile(HERE / PTH, os.path.join(self.build_lib, PTH))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        own = [] if self.editable_mode else [os.path.join(self.build_lib, PTH)]
        return [*super().get_outputs(include_bytecode), *own]


class WithPth:
    """A strategy of an editable install that writes the .pth file into the wheel as well."""

    def __init__(self, strategy) -> None:
        self.strategy = strategy

    def __call__(self, wheel, files, mapping) -> None:
        self.strategy(wheel, files, mapping)
        wheel.write(str(HERE / PTH), PTH)

    def __enter__(self) -> "WithPth":
        self.strategy.__enter__()
        return self

    def __exit__(self, *exc_info):
        return self.strategy.__exit__(*exc_info)


class EditableWithPth(editable_wheel):
    """`_select_strategy` is private to setuptools: pyproject.toml keeps setuptools to versions that were tried."""

    def run(self) -> None:
        # crossbar_cluster.patches finds the patch tree of a checkout by itself, new folders included.
        mapped = patch_folders()
        self.distribution.packages = [name for name in self.distribution.packages or [] if name not in mapped]
        self.distribution.package_dir = {}
        super().run()

    def _select_strategy(self, *args, **kwargs):
        return WithPth(super()._select_strategy(*args, **kwargs))


TEST = [
    "pytest>=8",
    "pytest-asyncio>=0.24",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.5",
    "hypothesis>=6.100",
    "setuptools>=77,<85",
    "kubernetes-validate>=1.36,<2",  # of each minor version, it knows that of Kubernetes
]

setup(
    name="crossbar-cluster",
    version=version(),
    description="Patches for Crossbar.io that let its clusters heal themselves",
    long_description=(HERE / "README.md").read_text(encoding="utf-8") if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="EUPL-1.2",
    python_requires=">=3.11,<3.14",
    classifiers=[
        "Framework :: Twisted",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: System :: Distributed Computing",
        "Typing :: Typed",
    ],
    packages=[*find_packages(include=["crossbar_cluster", "crossbar_cluster.*"]), *patch_folders()],
    package_dir=patch_folders(),
    package_data={"crossbar_cluster": ["py.typed"], "crossbar_cluster.overlay": ["fingerprints.json"]},
    install_requires=[
        "crossbar==26.10.1",  # the patches are written against this release; see crossbar-cluster check
        "wrapt>=2,<3",
        "rich>=13,<16",
        "click>=8.1,<9",
        "psutil>=5.9,<8",
        "prometheus_client>=0.20,<1",
        "PyYAML>=6,<7",  # apply: it tells where in a file everything stands; the release needs it, too
    ],
    extras_require={"test": TEST, "dev": [*TEST, "ruff>=0.8", "mypy>=1.13", "types-PyYAML>=6"]},
    entry_points={"console_scripts": ["crossbar-cluster = crossbar_cluster.cli:main"]},
    cmdclass={"build_py": BuildWithPth, "editable_wheel": EditableWithPth},
    zip_safe=False,
)
