"""How large the image is, beside one in which the release was installed the way anybody would, on the same base.

The release's own image is not there to be measured where no image registry is. So a plain one is built here: a single
stage, with the compilers that some of the packages need, and ``pip install crossbar==26.10.1``. Needs Docker, and the
image of docker/Dockerfile.

    python bench/image_size.py [--image crossbar-cluster] [--base python:3.11-slim-bookworm] [--json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import zlib
from typing import Any

from rich.console import Console
from rich.table import Table

PLAIN = "crossbar-plain"
DOCKERFILE = """\
FROM {base}
RUN apt-get update && apt-get install -y --no-install-recommends gcc g++ libc6-dev python3-dev python3-venv
RUN python3 -m venv /opt/crossbar && /opt/crossbar/bin/pip install --no-cache-dir {cert} crossbar==26.10.1
"""


def docker(*argv: str, stdin: str | None = None) -> str:
    """Run docker. :returns: what it has printed. :raises CalledProcessError: it failed; stderr says why."""
    return subprocess.run(["docker", *argv], input=stdin, stdout=subprocess.PIPE, text=True, check=True).stdout


def measure(image: str) -> dict[str, Any]:
    """Sizes in bytes: as it is unpacked, and as it is transferred (each layer compressed; here: all at once)."""
    size = int(docker("image", "inspect", "-f", "{{.Size}}", image))
    compressor, compressed = zlib.compressobj(6), 0
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving:
        assert saving.stdout is not None
        while chunk := saving.stdout.read(1 << 20):
            compressed += len(compressor.compress(chunk))
    if saving.returncode:
        raise subprocess.CalledProcessError(saving.returncode, saving.args)
    return {"image": image, "bytes": size, "compressed": compressed + len(compressor.flush())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default="crossbar-cluster", help="that was built of docker/Dockerfile")
    parser.add_argument("--base", default="python:3.11-slim-bookworm", help="the base image that it was built on")
    parser.add_argument("--pip-cert", help="certificates that pip is to trust: a file in the base image")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    cert = f"--cert {options.pip_cert}" if options.pip_cert else ""
    docker("build", "--network", "host", "-t", PLAIN, "-", stdin=DOCKERFILE.format(base=options.base, cert=cert))
    base, plain, ours = (measure(image) for image in (options.base, PLAIN, options.image))
    ratio = {key: round(plain[key] / ours[key], 2) for key in ("bytes", "compressed")}
    if options.json:
        print(json.dumps({"base": base, "plain": plain, "ours": ours, "plain / ours": ratio}, indent=2))
        return
    table = Table("", "unpacked, MB", "compressed, MB")
    for name, row in (("base image", base), ("plain, release", plain), ("crossbar-cluster", ours)):
        table.add_row(name, *(f"{row[key] / 1e6:.0f}" for key in ("bytes", "compressed")))
    table.add_row("plain / ours", *(str(value) for value in ratio.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
