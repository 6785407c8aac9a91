"""Adds the scripts that iii/console/static/vendor brings along to a CycloneDX bill of materials.

python .ci/vendored.py FROM.json TO.json
"""

import json
import sys
from pathlib import Path

VERSIONS = Path(__file__).parent.parent / "iii/console/static/vendor/VERSIONS"


def vendored(text: str) -> list[dict[str, object]]:
    """A component for each package that VERSIONS names: `FILE  NAME@VERSION PATH  LICENCE  LICENCE-FILE`."""
    rows = [line.split() for line in text.splitlines()]
    found = {row[1]: row[3] for row in rows if len(row) == 5 and "@" in row[1]}
    return [
        {
            "type": "library",
            "bom-ref": f"pkg:npm/{package}",
            "name": package.partition("@")[0],
            "version": package.partition("@")[2],
            "purl": f"pkg:npm/{package}",
            "licenses": [{"license": {"id": licence}}],
        }
        for package, licence in sorted(found.items())
    ]


def main(source: str, target: str) -> None:
    bom = json.loads(Path(source).read_text())
    bom["components"] += vendored(VERSIONS.read_text())
    Path(target).write_text(json.dumps(bom, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
