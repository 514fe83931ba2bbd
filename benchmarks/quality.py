"""How well labelled photos are found through the HTTP API of a running site (`make up`), before and after a rebuild.

    python -m benchmarks.quality --url http://127.0.0.1:8000 --data ../shared/data

Expects the collections that docs/operating.md, Measuring, imports: *celebrities* and *leaders* (pipeline face) and
*clothes* (image). Prints each figure beside what is asked, and exits 1 where one falls short. ``--expect-generation``
says whether an index must have answered every search (some) or the database alone (none).

1. faces: the val photos; the first result has the same label (a missed face counts as wrong)
2. clothes: the queries; mean P@1 and P@10 by label
3. every stored image by its own file: this very image first (known by the sha256 of its file), at distance <= 1e-4;
   re-saved at JPEG 85 and 90 % of its size: first
4. a photo of two people: two faces are found, each finds its own person first
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import requests
from PIL import Image, ImageOps
from tqdm import tqdm

SELF_DISTANCE = 1e-4
FACES_RIGHT, P_AT_1, P_AT_10, RESAVED_FIRST = 24, 0.74, 0.58, 0.99


class Site:
    """A running site, as an anonymous client sees it."""

    def __init__(self, url: str) -> None:
        self._url = f"{url.rstrip('/')}/api/v1"
        self._session = requests.Session()
        self.generations: set[str | None] = set()

    def search(self, content: bytes, name: str, **options: object) -> dict[str, Any]:
        body = self._json("POST", f"{self._url}/search/", files={"image": (name, content)}, data=options)
        self.generations.add(body["generation"])
        return body

    def ids(self, collection: str) -> dict[str, str]:
        """The id of every image of a collection, by the sha256 (hexadecimal) of its file."""
        found = {}
        page = self._json("GET", f"{self._url}/images/", params={"collection": collection, "page_size": 100})
        while True:
            found.update({image["sha256"]: image["id"] for image in page["results"]})
            if page["next"] is None:
                return found
            page = self._json("GET", page["next"])

    def _json(self, method: str, url: str, **request: Any) -> dict[str, Any]:
        answer = self._session.request(method, url, timeout=120, **request)
        while answer.status_code == 429:  # the throttle says when to come again
            time.sleep(float(answer.headers["Retry-After"]))
            answer = self._session.request(method, url, timeout=120, **request)
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        return body


class Report:
    """Prints figures as they come and remembers whether all held."""

    def __init__(self) -> None:
        self.good = True

    def line(self, what: str, figure: float, asked: float, detail: str = "") -> None:
        self._say(figure >= asked, f"{what}: {figure:.4g} (asked {asked:.4g}) {detail}")

    def exactly(self, what: str, figure: int, asked: int) -> None:
        self._say(figure == asked, f"{what}: {figure} (asked exactly {asked})")

    def generations(self, found: set[str | None], expected: str) -> None:
        """``expected``: "some" (each answer names one) or "none" (no answer does)."""
        holds = found == {None} if expected == "none" else None not in found
        self._say(holds, f"answered by generations: {sorted(map(str, found))} (asked {expected})")

    def _say(self, holds: bool, text: str) -> None:
        self.good &= holds
        print(f"{'ok   ' if holds else 'SHORT'} {text}")


def images_in(folder: Path) -> Iterator[Path]:
    return iter(sorted(path for path in folder.rglob("*") if path.is_file()))


def labels_found(site: Site, path: Path, **options: object) -> list[str]:
    answer = site.search(path.read_bytes(), path.name, beyond_near=1, **options)
    return [result["image"]["label"] for result in answer["results"]]


def measure_faces(site: Site, folder: Path, report: Report) -> None:
    right, missed = 0, []
    paths = list(images_in(folder / "faces/celebrities5/val"))
    for path in tqdm(paths, desc="faces", leave=False):
        found = labels_found(site, path, pipeline="face", collection="celebrities", k=1)
        if found and found[0] == path.parent.name:
            right += 1
        else:
            missed.append(f"{path.parent.name}/{path.name}")
    report.line(f"faces right of {len(paths)}", right, FACES_RIGHT, f"wrong: {missed}")


def measure_clothes(site: Site, folder: Path, report: Report) -> None:
    firsts, tens = [], []
    for path in tqdm(list(images_in(folder / "clothing/queries")), desc="clothes", leave=False):
        found = labels_found(site, path, pipeline="image", collection="clothes", k=10)
        alike = [label == path.parent.name for label in found]
        firsts.append(bool(alike and alike[0]))
        tens.append(sum(alike) / 10)
    report.line(f"clothes P@1 over {len(firsts)}", float(np.mean(firsts)), P_AT_1)
    report.line(f"clothes P@10 over {len(tens)}", float(np.mean(tens)), P_AT_10)


def measure_self(site: Site, folder: Path, pipeline: str, collection: str, report: Report) -> None:
    """Each stored image by its own file, and re-saved. Images in which no region is found are counted apart."""
    ids = site.ids(collection)
    own, resaved, without = [], [], 0
    for path in tqdm(list(images_in(folder)), desc=f"{collection} by themselves", leave=False):
        content = path.read_bytes()
        itself = ids.get(hashlib.sha256(content).hexdigest(), "not in the collection")
        answer = site.search(content, path.name, pipeline=pipeline, collection=collection, k=1, beyond_near=1)
        if not answer["query"]["regions"]:
            without += 1
            continue
        own.append(
            [(hit["image"]["id"], hit["distance"] <= SELF_DISTANCE) for hit in answer["results"]] == [(itself, True)]
        )
        altered = site.search(
            _resaved(content), "resaved.jpg", pipeline=pipeline, collection=collection, k=1, beyond_near=1
        )
        resaved.append([hit["image"]["id"] for hit in altered["results"]] == [itself])
    note = f"{without} without a region" if without else ""
    report.line(f"{collection}: {len(own)} images first by their own file", float(np.mean(own)), 1.0, note)
    report.line(f"{collection}: re-saved, share first", float(np.mean(resaved)), RESAVED_FIRST)


def _resaved(content: bytes) -> bytes:
    """JPEG at quality 85 and 90 % of each side, oriented."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    image = image.resize((round(image.width * 0.9), round(image.height * 0.9)), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()


def measure_two_people(site: Site, folder: Path, report: Report) -> None:
    path = folder / "faces/leaders/groups/obama_and_biden.jpg"
    answer = site.search(path.read_bytes(), path.name, pipeline="face", k=1, beyond_near=1)
    regions = answer["query"]["regions"]
    report.exactly("two people: faces found", len(regions), 2)
    people = set()
    for face in range(len(regions)):
        nearest = site.search(path.read_bytes(), path.name, pipeline="face", face=face, k=1, beyond_near=1)["results"]
        if not nearest:
            continue
        label, distance = nearest[0]["image"]["label"], nearest[0]["distance"]
        print(f"     face {face} at x={regions[face]['box']['x']:.0f}: {label}, distance {distance:.3f}")
        people.add(label)
    report.exactly("two people: own person first", len(people & {"obama", "biden"}), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--expect-generation", choices=["none", "some"])
    arguments = parser.parse_args()
    site, report = Site(arguments.url), Report()
    measure_faces(site, arguments.data, report)
    measure_clothes(site, arguments.data, report)
    measure_self(site, arguments.data / "faces/celebrities5/train", "face", "celebrities", report)
    measure_self(site, arguments.data / "clothing/catalogue", "image", "clothes", report)
    measure_two_people(site, arguments.data, report)
    if arguments.expect_generation:
        report.generations(site.generations, arguments.expect_generation)
    else:
        print("answered by generations:", sorted(map(str, site.generations)))
    sys.exit(0 if report.good else 1)


if __name__ == "__main__":
    main()
