"""A release: wheel and sdist built twice from what is committed, and compared; what they stand on listed and audited.

``python packaging/release.py [--without-audit]``, by ``make release``, from a clean checkout. What it makes is in
``dist/release/``: the two archives, ``SHA256SUMS``, ``sbom.cdx.json`` (CycloneDX) and ``licences.md``. Whoever builds
the same commit with the same tools gets the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
DIST = ROOT / "dist" / "release"

VENDORED = {"preact 10.29.8": "MIT", "htm 3.1.1": "Apache-2.0"}
"""What the wheel itself contains of others; their texts lie beside them."""

PERMISSIVE = re.compile(
    r"\b(Apache|BSD|ISC|MIT|MPL|PSF|Python Software Foundation|Zlib|0BSD|Unlicense)\b", re.IGNORECASE
)
"""Licences under which the router may be passed on with what it stands on."""


def main() -> int:
    """Make the release. Returns the exit status: 1 when anything is wrong with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--without-audit", action="store_true", help="where the data of known flaws can't be reached")
    options = parser.parse_args()
    if changed := _run("git", "status", "--porcelain", "--untracked-files=no"):
        print(f"Not committed, so not in the release:\n{changed}")
        return 1
    epoch = int(_run("git", "log", "-1", "--format=%ct"))
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        first, second = (build(Path(folder, name), epoch) for name in ("first", "second"))
        if digests(first) != digests(second):
            print(f"Two builds of one commit differ: {digests(first)} {digests(second)}")
            return 1
        archives = [Path(shutil.copy(path, DIST)) for path in sorted(first.iterdir())]
    _run(str(BIN / "twine"), "check", "--strict", *map(str, archives))
    (DIST / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in digests(DIST).items()))
    _write_sbom()
    problems = _write_licences()
    if not options.without_audit:
        problems += _audit()
    for path in sorted(DIST.iterdir()):
        print(path.relative_to(ROOT))
    for problem in problems:
        print(f"PROBLEM: {problem}")
    return 1 if problems else 0


def build(folder: Path, epoch: int) -> Path:
    """Build both archives in ``folder`` from what is committed; return where they lie. ``epoch``: their files' time."""
    source, output = folder / "source", folder / "output"
    source.mkdir(parents=True)
    subprocess.run(["git", "archive", "--output", str(folder / "tree.tar"), "HEAD"], check=True, cwd=ROOT)
    with tarfile.open(folder / "tree.tar") as tree:
        tree.extractall(source, filter="data")
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(output), str(source)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    for sdist in output.glob("*.tar.gz"):
        sdist.write_bytes(normalized(sdist.read_bytes(), epoch))
    return output


def normalized(archive: bytes, epoch: int) -> bytes:
    """Return a .tar.gz with the same files, in order, of nobody, from ``epoch``: nothing of where it was made."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as old,
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=epoch, filename="") as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    return packed.getvalue()


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each archive in ``folder``."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.suffix in {".whl", ".gz"}
    }


def _write_sbom() -> None:
    """List what is installed with the router, by its lock file, reproducibly; and what its wheel contains of others."""
    path = DIST / "sbom.cdx.json"
    _run(
        str(BIN / "cyclonedx-py"), "requirements", "requirements.lock", "--pyproject", "pyproject.toml",
        "--output-reproducible", "--output-format", "JSON", "--output-file", str(path),
    )  # fmt: skip
    bill = json.loads(path.read_text())
    for named, licence in VENDORED.items():
        name, _, version = named.partition(" ")
        bill["components"].append(
            {
                "type": "library", "bom-ref": f"vendored-{name}", "name": name, "version": version,
                "purl": f"pkg:npm/{name}@{version}", "licenses": [{"license": {"id": licence}}],
            }
        )  # fmt: skip
    path.write_text(json.dumps(bill, indent=2) + "\n")


def _write_licences() -> list[str]:
    """Write a table of the licences of all that; return what can't be passed on so."""
    rows, problems = [(*named.split(" "), licence) for named, licence in VENDORED.items()], []
    with tempfile.TemporaryDirectory() as folder:
        command = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes")
        subprocess.run(
            [sys.executable, *command, "--target", folder, "-r", str(ROOT / "requirements.lock")], check=True
        )
        for path in sorted(Path(folder).glob("*.dist-info/METADATA")):
            metadata = Parser().parsestr(path.read_text("utf-8"))
            rows.append((str(metadata["Name"]), str(metadata["Version"]), licence_of(metadata)))
    for name, version, licence in rows:
        if not PERMISSIVE.search(licence):
            problems.append(f"{name} {version}: may it be passed on? Its licence is {licence or 'not told'}")
    lines = ["| package | version | licence |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    (DIST / "licences.md").write_text("\n".join(lines) + "\n")
    return problems


def licence_of(metadata: Message) -> str:
    """Return what a package says of its licence: an expression, else its classifiers, else its text's first line."""
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [str(one) for one in metadata.get_all("Classifier", [])]
    told = [one.rpartition(" :: ")[2] for one in classifiers if one.startswith("License")]
    return ", ".join(told) or str(metadata.get("License") or "").strip().partition("\n")[0][:60]


def _audit() -> list[str]:
    """Ask for known flaws of what the router stands on; what can't be asked for is a problem as well."""
    command = [str(BIN / "pip-audit"), "--strict", "--require-hashes", "--disable-pip", "-r", "requirements.lock"]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0:
        return []
    words = (done.stderr or done.stdout).strip().splitlines() or ["pip-audit failed"]
    return [f"not audited, or with known flaws: {words[-1]} (--without-audit leaves this out)"]


def _run(*command: str) -> str:
    """Run a command in the checkout; return what it prints. Raises CalledProcessError."""
    done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
